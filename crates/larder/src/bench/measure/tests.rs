use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn sh(script: &str) -> Job {
    Job::of(Stage::new("sh").args(["-c", script]))
}

fn runner() -> (tempfile::TempDir, Runner) {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::new().unwrap();
    runner.run_in(dir.path().to_path_buf());
    (dir, runner)
}

#[test]
fn the_median_is_the_middle() {
    assert_eq!(Stats::of(&[]), None);
    assert_eq!(Stats::of(&[ms(7)]), Some(Stats { median: ms(7), min: ms(7), max: ms(7) }));
    assert_eq!(Stats::of(&[ms(9), ms(1), ms(2)]), Some(Stats { median: ms(2), min: ms(1), max: ms(9) }));
    assert_eq!(Stats::of(&[ms(9), ms(1), ms(2), ms(4)]).map(|s| s.median), Some(ms(3)));
}

#[test]
fn a_ratio_above_one_is_faster() {
    assert_eq!(ratio(ms(100), ms(25)), Some(4.0));
    assert_eq!(ratio(ms(25), ms(100)), Some(0.25));
    assert_eq!(ratio(ms(25), Duration::ZERO), None);
}

#[test]
fn everybody_is_first_in_turn() {
    let rounds: Vec<Vec<usize>> = (0..4).map(|round| turn(3, round).collect()).collect();
    assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    assert_eq!(turn(0, 1).count(), 0);
}

#[test]
fn a_pipeline_passes_bytes_on() {
    let (dir, runner) = runner();
    let file = dir.path().join("result");
    let stages = vec![Stage::new("printf").args(["b\\na\\n"]), Stage::new("sort")];
    let kept = runner.run(&Job { stages: stages.clone(), output: None }).unwrap();
    assert_eq!(kept.outputs, [b"a\nb\n"]);
    runner.run(&Job { stages, output: Some(file.clone()) }).unwrap();
    assert_eq!(larder_fs::read(&file).unwrap(), b"a\nb\n");
}

#[test]
fn the_stage_that_failed_is_named() {
    let (_dir, runner) = runner();
    let job =
        Job { stages: vec![Stage::new("yes"), Stage::new("sh").args(["-c", "echo no >&2; exit 3"])], output: None };
    assert_eq!(runner.run(&job).unwrap_err().to_string(), "`sh -c echo no >&2; exit 3` failed with exit status: 3: no");
    let absent = runner.run(&Job::of(Stage::new("/nonexistent/program"))).unwrap_err();
    assert_eq!(absent.to_string(), "cannot start `/nonexistent/program`");
    runner.run(&sh("exit 0")).unwrap();
}

#[test]
fn jobs_at_once_wait_for_each_other_and_jobs_in_turn_do_not() {
    let (dir, runner) = runner();
    let met = |own: &str, other: &str, tries: u32| {
        let at = dir.path().display();
        sh(&format!(
            ": > {at}/{own}; i=0; while [ $i -lt {tries} ]; do test -e {at}/{other} && exit 0; i=$((i+1)); done; exit 1"
        ))
    };
    // Who waits for somebody looks for long; who waits for nobody, long enough to meet whoever was started too.
    runner.time(&[met("a", "b", 100_000_000), met("b", "a", 100_000_000)], Order::AtOnce).unwrap();
    runner.time(&[met("c", "d", 10_000), met("d", "c", 10_000)], Order::InTurn).unwrap_err();
}

#[test]
fn children_end_when_this_process_is_told_to() {
    let (_dir, runner) = runner();
    let ender = std::thread::spawn({
        let shared = Arc::clone(&runner.shared);
        move || {
            while shared.running().is_empty() {
                std::thread::yield_now();
            }
            shared.told_to_end.store(true, Ordering::SeqCst);
            shared.end_children();
        }
    });
    assert_eq!(runner.run(&sh("exec sleep 600")).unwrap_err().to_string(), "interrupted");
    assert_eq!(runner.run(&sh("exit 0")).unwrap_err().to_string(), "interrupted");
    ender.join().unwrap();
}
