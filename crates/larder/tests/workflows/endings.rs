//! Jobs that do not end well: what they leave, and what the next run makes of it.

use crate::act::ancestors;
use crate::world::{Event, PIPE, World, expects};
use std::process::Command;

#[test]
fn a_job_that_fails_shows_it_and_saves_nothing() {
    let Some(world) = World::with_siblings() else { return };
    world.run("app", Event::Push, &["-j", "test"]).ok();
    let before = world.snapshots();
    assert!(before.values().any(|job| job == "test"), "{before:?}");

    world.commit("app", &[("tests/value.rs", expects("app", "< 100"))]);
    let run = world.run("app", Event::Push, &["-j", "test"]).fails();
    let job = run.job("test");
    assert!(run.job("setup").succeeded && !job.succeeded, "{run}");
    // Cargo's own exit code, and its own words.
    assert_eq!(job.errors, ["exit status 101"], "{run}");
    assert!(job.says("test value ... FAILED"), "{run}");
    assert_eq!(world.snapshots(), before, "{run}");

    // What does not build, too.
    world.commit("app", &[("tests/value.rs", "fn value( {}\n".into())]);
    let run = world.run("app", Event::Push, &["-j", "test"]).fails();
    assert_eq!(run.job("test").errors, ["exit status 101"], "{run}");
    assert_eq!(world.snapshots(), before, "{run}");

    // Mended, it starts from what was saved before.
    world.commit("app", &[("tests/value.rs", expects("app", "== 111"))]);
    let run = world.run("app", Event::Push, &["-j", "test"]).ok();
    assert_eq!(run.job("test").compilers(), ["value"], "{run}");
    world.verify();
}

#[test]
fn a_job_that_is_cancelled_leaves_a_good_store() {
    let Some(world) = World::with_siblings() else { return };
    let pipe = world.root.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // As runners do it: first politely, and at last not.
    for signal in ["INT", "TERM", "KILL"] {
        let words = ["-j", "test"];
        let mut run = world.start("app", Event::Push, &words, &[(PIPE, pipe.to_str().unwrap())]);
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || std::fs::read_to_string(pipe).unwrap())
        };
        run.until("its build script ran", || reader.is_finished().then_some(()));
        let script: u32 = reader.join().unwrap().parse().unwrap();
        let family = ancestors(script);
        // The outermost one: the step's own.
        let at = family.iter().rposition(|(_, name)| name == "larder").unwrap_or_else(|| panic!("{family:?}"));
        let step = family[at].0;
        kill(signal, step);
        if signal == "KILL" {
            // Nobody is left to pass it on: a runner ends every process of the job.
            family[..at].iter().for_each(|(pid, _)| kill(signal, *pid));
        }
        let run = run.end().fails();
        assert!(!run.job("test").succeeded, "{signal}: {run}");
        let snapshots = world.snapshots();
        assert!(!snapshots.values().any(|job| job == "test"), "{signal}: {snapshots:?}");
        world.verify();
        kill("KILL", script);
    }
    // Nothing is in the way of those that come after.
    world.run("app", Event::Push, &["-j", "test"]).ok();
    let again = world.run("app", Event::Push, &["-j", "test"]).ok();
    assert!(again.job("test").compilers().is_empty(), "{again}");
    let gc = world.larder("app", &["gc"]).output().unwrap();
    assert!(gc.status.success(), "{}", String::from_utf8_lossy(&gc.stderr));
    world.verify();
}

/// A process that is gone is as good.
fn kill(signal: &str, pid: u32) {
    Command::new("kill").args(["-s", signal, "--", &pid.to_string()]).output().unwrap();
}
