//! Disks that fill up: real ones, in files.

use crate::support::volume::Volume;
use crate::support::{Args, Sandbox, args, said, skip};
use std::fs;
use std::path::Path;
use std::process::Command;

fn fill(path: &Path, seed: u8, megabytes: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // No two blocks alike, so that nothing is shared.
    let bytes: Vec<u8> = (0..megabytes << 20).map(|n| (n >> 12) as u8 ^ (n >> 20) as u8 ^ seed).collect();
    fs::write(path, bytes).unwrap();
}

/// A sandbox on a small disk with a store, and snapshots of these keys of four megabytes each.
fn on_a_small_disk(keys: &[&str]) -> Option<(Volume, Sandbox)> {
    let volume = match Volume::make("ext4", 40, &["-m", "0"]) {
        Ok(volume) => volume,
        Err(why) => {
            skip(&why);
            return None;
        }
    };
    let sandbox = Sandbox::within(&volume.path);
    for (seed, key) in (0..).zip(keys) {
        fill(&sandbox.path("tree/own"), seed, 4);
        sandbox.said(args(["save", "--key", key, "--path"]).with(sandbox.path("tree"))).ok();
    }
    fs::remove_dir_all(sandbox.path("tree")).unwrap();
    Some((volume, sandbox))
}

#[test]
fn above_the_high_mark_it_evicts_down_to_the_low_one_and_no_further() {
    let Some((_volume, sandbox)) = on_a_small_disk(&["a", "b", "c", "d", "e"]) else { return };
    let count = || sandbox.json(["ls"])["snapshots"].as_array().unwrap().len();
    let calm = sandbox.json(["guard", "--high", "99"]);
    assert_eq!((&calm["room"], calm["evicted"].as_array().unwrap().len()), (&true.into(), 0));
    let used = calm["disks"][0]["used_percent"].as_u64().unwrap();
    assert!((50..90).contains(&used), "{calm}");
    // Two snapshots are a quarter of the disk; the mark asks for a little less.
    let marks = ["--high".into(), (used - 1).to_string(), "--low".into(), (used - 15).to_string()];
    let planned = sandbox.json(args(["guard", "--dry-run"]).and(&marks));
    assert_eq!((planned["evicted"].as_array().unwrap().len(), count()), (2, 5), "{planned}");
    let done = sandbox.json(args(["guard"]).and(&marks));
    assert_eq!(done["evicted"], planned["evicted"]);
    assert_eq!((&done["room"], count()), (&true.into(), 3), "{done}");
    sandbox.said(["verify"]).ok();
}

#[test]
fn without_room_it_says_what_fills_the_disk_and_touches_nothing() {
    let Some((_volume, sandbox)) = on_a_small_disk(&["a", "b"]) else { return };
    sandbox.said(["pin", "a"]).ok();
    let hoard = sandbox.path("other-runner/target/debug/large");
    fill(&hoard, 9, 12);
    let done = sandbox.said(["guard", "--need", "30MB"]).ends(1);
    assert!(done.out.contains("no room") && done.out.contains("other-runner/target/debug"), "{done}");
    assert!(hoard.exists());
    assert_eq!(sandbox.json(["ls"])["snapshots"].as_array().unwrap().len(), 1, "the other one is pinned");
    fs::remove_file(&hoard).unwrap();
    sandbox.said(["guard", "--need", "20MB"]).ok();
}

#[test]
fn folders_under_care_are_cleaned_by_age_and_nothing_else_is() {
    let sandbox = Sandbox::new();
    let temp = sandbox.path("work/_temp");
    fs::create_dir_all(temp.join("old/deep")).unwrap();
    fs::write(temp.join("old/deep/file"), "of a run that is over").unwrap();
    fs::write(sandbox.path("outside"), "of nobody").unwrap();
    std::os::unix::fs::symlink(sandbox.path("outside"), temp.join("old/link")).unwrap();
    fs::create_dir_all(temp.join("checkout")).unwrap();
    let config = sandbox.path("home/.config/larder/larder.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    let care = |path: &Path, age: &str| format!("[[care]]\npath = {path:?}\nmax-age = {age:?}\n");
    let guard = |more: &[&str]| {
        let mut command: Command = sandbox.larder(args(["guard", "--high", "100", "--low", "100"]).and(more));
        crate::support::said(command.args(["--workspace", temp.join("checkout").to_str().unwrap()]))
    };
    fs::write(&config, care(&temp, "1d")).unwrap();
    guard(&[]).ok();
    assert!(temp.join("old/deep/file").exists(), "it is young");
    fs::write(&config, care(&temp, "0s")).unwrap();
    assert!(guard(&["--dry-run"]).ok().out.contains("would delete"));
    assert!(temp.join("old").exists());
    guard(&[]).ok();
    assert!(!temp.join("old").exists() && temp.join("checkout").exists() && sandbox.path("outside").exists());
    // Never the store, what it lies in, or a link; and never by the word of a repository.
    fs::create_dir_all(&sandbox.store).unwrap();
    std::os::unix::fs::symlink(&temp, sandbox.path("link")).unwrap();
    for path in [&sandbox.root, &sandbox.store, &sandbox.store.join("tmp"), Path::new("/"), &sandbox.path("link")] {
        fs::create_dir_all(sandbox.store.join("tmp")).unwrap();
        fs::write(&config, care(path, "0s")).unwrap();
        let refused = guard(&[]).ends(2);
        assert!(refused.err.contains("care"), "{refused}");
    }
    fs::remove_file(&config).unwrap();
    fs::write(sandbox.path("larder.toml"), care(&temp, "0s")).unwrap();
    let refused = sandbox.said(["guard"]).ends(2);
    assert!(refused.err.contains("not into a repository"), "{refused}");
}

#[test]
fn jobs_keep_room_by_themselves() {
    let Some((_volume, sandbox)) = on_a_small_disk(&["a", "b", "c", "d", "e"]) else { return };
    let keys = || -> Vec<String> {
        let listed = sandbox.json(["ls"]);
        let all = listed["snapshots"].as_array().unwrap().iter();
        all.map(|one| one["key"].as_str().unwrap().to_owned()).collect()
    };
    let used = sandbox.json(["guard", "--high", "99"])["disks"][0]["used_percent"].as_u64().unwrap();
    let tree = sandbox.path("tree");
    let words = |verb: &str, key: &str| args([verb, "--key", key, "--path"]).with(&tree);
    let with_marks = |words: Args, high: u64, low: u64| {
        let mut command = sandbox.larder(words);
        command.env("LARDER_GUARD", "1").env("LARDER_HIGH", high.to_string()).env("LARDER_LOW", low.to_string());
        command
    };
    let (high, low) = (used - 1, used - 15);
    // Not where it is switched off, not where nothing may change, not while there is room.
    let mut off = with_marks(words("restore", "a"), high, low);
    said(off.env("LARDER_GUARD", "0")).ok();
    fs::remove_dir_all(&tree).unwrap();
    said(&mut with_marks(words("restore", "a").with("--dry-run"), high, low)).ok();
    said(&mut with_marks(words("restore", "a"), 99, 98)).ok();
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(keys().len(), 5);
    // A store where others are at work is left to the next job, soon.
    let lock = fs::File::open(sandbox.store.join("lock")).unwrap();
    lock.lock_shared().unwrap();
    let busy = said(&mut with_marks(args(["-v"]).and(words("restore", "a")), high, low)).ok();
    assert!(busy.err.contains("no room is made") && busy.out.contains("hit a"), "{busy}");
    drop(lock);
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(keys().len(), 5);
    // What the job is about to restore stays, though it is the oldest.
    let job = words("run", "a").and(["--save", "never", "--", "test", "-f"]).with(tree.join("own"));
    let done = said(&mut with_marks(job, high, low)).ok();
    assert!(done.err.contains("evicted 2 snapshots"), "{done}");
    assert_eq!(keys(), ["e", "d", "a"]);
    let told = fs::read_dir(sandbox.store.join("events")).unwrap();
    let told: String = told.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert_eq!(told.matches("\"evict\"").count(), 2, "{told}");
    // And after a save there is room for the next one.
    fill(&tree.join("own"), 77, 4);
    let done = said(&mut with_marks(words("save", "f"), low, low - 10)).ok();
    assert!(done.err.contains("evicted") && done.out.contains("saved f"), "{done}");
    // Settings that contradict each other are told, and fail no job.
    let odd = said(&mut with_marks(words("restore", "f"), 1, 2)).ok();
    assert!(odd.err.contains("warning: no room is made: high = 1 and low = 2"), "{odd}");
    sandbox.said(["verify"]).ok();
}
