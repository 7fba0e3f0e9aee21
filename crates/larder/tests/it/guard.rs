//! Disks that fill up: real ones, in files.

use crate::support::volume::Volume;
use crate::support::{Sandbox, args, skip};
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
