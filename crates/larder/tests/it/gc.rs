//! Eviction as a person meets it: plans, pins, jobs that died, settings.

use crate::support::project::Project;
use crate::support::tree::plant;
use crate::support::{Args, Said, Sandbox, args, said, snapshot};
use serde_json::Value;
use std::fs;
use std::process::Stdio;

fn keyed(verb: &str, sandbox: &Sandbox, key: &str) -> Args {
    args([verb, "--path"]).with(sandbox.path("tree")).and(["--key", key])
}

/// A store with a snapshot of each key; they share everything but a file each.
fn with_snapshots(keys: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    for key in keys {
        fs::write(tree.join("own"), key.repeat(20_000)).unwrap();
        sandbox.said(keyed("save", &sandbox, key)).ok();
    }
    fs::remove_dir_all(&tree).unwrap();
    sandbox
}

fn keys(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.json(["ls"]);
    let all = listed["snapshots"].as_array().unwrap().iter();
    let mut keys: Vec<String> = all.map(|one| one["key"].as_str().unwrap().to_owned()).collect();
    keys.sort_unstable();
    keys
}

fn evicted(object: &Value) -> Vec<&str> {
    object["evicted"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect()
}

#[test]
fn a_dry_run_prints_what_then_goes_in_that_order() {
    let sandbox = with_snapshots(&["a", "b", "c"]);
    sandbox.said(["pin", "b"]).ok();
    // More than any disk has: everything that may go is asked for.
    let need = ["gc", "--need", "8000000TB"];
    let planned = said(sandbox.larder(need).args(["--dry-run", "--format", "json"])).ends(1).json();
    assert_eq!(keys(&sandbox), ["a", "b", "c"]);
    let done = said(sandbox.larder(need).args(["--format", "json"])).ends(1);
    assert!(done.err.contains("1 are pinned"), "{done}");
    let done = done.json();
    assert_eq!(evicted(&planned), evicted(&done));
    assert_eq!((evicted(&done).len(), done["missing"]["pinned"].as_u64()), (2, Some(1)));
    assert_eq!(done["evicted"][0]["reason"], "room");
    assert_eq!(keys(&sandbox), ["b"]);
    sandbox.said(["verify"]).ok();
    sandbox.said(["unpin", "b"]).ok();
    // What fits already asks for nothing.
    assert_eq!(evicted(&sandbox.json(["gc", "--need", "1B", "--budget", "off"])), [] as [&str; 0]);
}

#[test]
fn the_newest_of_a_key_stay_and_the_budget_holds() {
    let sandbox = with_snapshots(&["a", "a", "a", "a", "b"]);
    let planned = sandbox.said(["gc", "--dry-run"]).ok();
    snapshot!(sandbox, planned, @"
    exit code 0
    --- stdout
    [ID]  [TIME]     4.1 kB  a  3 newer ones of its lineage stay
    would evict 1 of 5 snapshots and free 4.1 kB
    --- stderr
    larder: counting (5)
    ");
    assert_eq!(evicted(&sandbox.json(["gc"])), ["a"]);
    assert_eq!(keys(&sandbox), ["a", "a", "a", "b"]);
    fs::write(sandbox.path("larder.toml"), "keep = 2\n").unwrap();
    assert_eq!(sandbox.json(["gc"])["evicted"][0]["reason"], "surplus");
    let done = sandbox.json(["gc", "--budget", "1KB"]);
    assert_eq!(done["evicted"].as_array().unwrap().len(), 3);
    assert_eq!(keys(&sandbox), [] as [&str; 0]);
}

#[test]
fn pins_are_listed_with_their_reason_and_rm_asks_before() {
    let sandbox = with_snapshots(&["a", "b"]);
    sandbox.said(["pin", "--reason", "release 1.2", "a"]).ok();
    snapshot!(sandbox, sandbox.said(["pin", "--list"]).ok(), @"
    exit code 0
    --- stdout
    [ID]  [TIME]  a  release 1.2
    ");
    snapshot!(sandbox, sandbox.said(["rm", "--key", "a"]).ends(1), @"
    exit code 1
    --- stderr
    larder: the snapshot [ID] is kept: it is pinned (release 1.2): `larder unpin [ID]` first, or --force
    ");
    let id = sandbox.json(["pin", "--list"])["pinned"][0]["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.json(["unpin", "a"])["changed"][0], *id);
    sandbox.said(["pin", &id]).ok();
    sandbox.said(["rm", "--force", &id]).ok();
    assert_eq!(keys(&sandbox), ["b"]);
    for verb in ["pin", "unpin"] {
        let refused = sandbox.said([verb, "nothing"]).ends(2);
        assert!(refused.err.contains("larder ls"), "{refused}");
    }
    sandbox.said(["pin"]).ends(2);
}

#[test]
fn what_a_job_works_with_stays_and_its_end_frees_it() {
    let sandbox = with_snapshots(&["a"]);
    let all = ["gc", "--need", "8000000TB", "--format", "json"];
    let mut job = sandbox.larder(keyed("run", &sandbox, "a").and(["--save", "never", "--", "cat"]));
    let mut job = job.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sessions = sandbox.store.join("sessions");
    let is_job = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path().extension().is_some_and(|e| e == "job");
    let has_job = || fs::read_dir(&sessions).is_ok_and(|mut entries| entries.any(is_job));
    crate::support::wait_until("the job restores", has_job);
    let kept = sandbox.said(all).ends(1).json();
    assert_eq!((evicted(&kept).len(), kept["missing"]["leased"].as_u64()), (0, Some(1)));
    let refused = sandbox.said(["rm", "--key", "a"]).ends(1);
    assert!(refused.err.contains("is working with it"), "{refused}");
    drop(job.stdin.take());
    assert!(job.wait().unwrap().success());
    assert!(!has_job());
    // A restore of its own may be a step of a job that goes on, which its process does not show.
    sandbox.said(keyed("restore", &sandbox, "a")).ok();
    assert_eq!(sandbox.said(all).ends(1).json()["missing"]["leased"], 1);
    fs::write(sandbox.path("larder.toml"), "lease = \"0s\"\n").unwrap();
    assert_eq!(evicted(&sandbox.said(all).ends(1).json()), ["a"]);
}

#[test]
fn builds_that_change_nothing_push_out_no_other_branch() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    let run =
        || -> Value { said(&mut project.run(&sandbox, &["--format", "json"], &["cargo", "build"])).ok().last_json() };
    run();
    project.edit("part/src/lib.rs", "7", "8");
    let topic = run()["save"]["snapshot"].clone();
    project.edit("part/src/lib.rs", "8", "7");
    let mut last = Value::Null;
    for _ in 0..6 {
        last = run()["save"]["snapshot"].clone();
    }
    let done = sandbox.json(["gc"]);
    let reasons: Vec<_> = done["evicted"].as_array().unwrap().iter().map(|one| one["reason"].clone()).collect();
    assert_eq!(reasons, ["repeated"; 6], "{done}");
    let listed = sandbox.json(["ls"]);
    let left: Vec<&Value> = listed["snapshots"].as_array().unwrap().iter().map(|one| &one["snapshot"]).collect();
    assert_eq!(left, [&last, &topic], "{listed}");
    // Whoever goes back to the branch starts from its build.
    fs::remove_dir_all(&project.target).unwrap();
    project.edit("part/src/lib.rs", "7", "8");
    let back = run();
    assert_eq!((&back["outcome"], &back["snapshot"]), (&"hit".into(), &topic), "{back}");
}

#[test]
fn a_failed_build_that_was_saved_takes_nobodys_place() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    let run = |save: &str, script: &str| -> Value {
        let words = ["--format", "json", "--save", save];
        let mut command = project.run(&sandbox, &words, &["sh", "-c", script]);
        Said::from(command.output().unwrap()).last_json()
    };
    // Cargo writes the lock file, which is a source.
    said(&mut project.cargo(&sandbox, &["generate-lockfile"])).ok();
    let whole = run("success", "cargo build -q")["save"]["snapshot"].clone();
    let part = run("always", "rm -rf target && cargo build -q -p part && exit 3")["save"]["snapshot"].clone();
    assert!(whole.is_string() && part.is_string() && whole != part);
    // The older one has more, and is the one to start from.
    fs::remove_dir_all(&project.target).unwrap();
    let again = run("never", "cargo build -q");
    assert_eq!((&again["outcome"], &again["snapshot"]), (&"hit".into(), &whole), "{again}");
    let done = said(sandbox.larder(["gc", "--format", "json"]).env("LARDER_LEASE", "0s")).ok().json();
    let gone: Vec<_> =
        done["evicted"].as_array().unwrap().iter().map(|one| (&one["snapshot"], &one["reason"])).collect();
    assert_eq!(gone, [(&part, &"repeated".into())], "{done}");
}

#[test]
fn settings_that_cannot_be_are_wrong_usage() {
    let sandbox = with_snapshots(&["a"]);
    for (text, word) in [
        ("high = 60\n", "low <= high"),
        ("budget = \"much\"\n", "50GB"),
        ("max-age = \"7 weeks\"\n", "36h"),
        ("lease = 6\n", "lease"),
    ] {
        fs::write(sandbox.path("larder.toml"), text).unwrap();
        let refused = sandbox.said(["gc"]).ends(2);
        assert!(refused.err.contains(word), "{text}: {refused}");
    }
    fs::remove_file(sandbox.path("larder.toml")).unwrap();
    sandbox.said(["gc", "--budget", "120%"]).ends(2);
    let no_store = Sandbox::new();
    assert_eq!(no_store.json(["gc"])["snapshots"], 0);
    assert!(!no_store.store.exists());
}
