//! Disks that fill up: real ones, in files.

use crate::support::volume::Volume;
use crate::support::{Args, Sandbox, args, said, skip, wait_until};
use serde_json::Value;
use std::cell::Cell;
use std::fs;
use std::io::Write;
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

/// A sandbox on a disk with room for few files, and snapshots of these keys of a hundred files each.
fn on_a_disk_of_few_files(keys: &[&str]) -> Option<(Volume, Sandbox)> {
    let volume = match Volume::make("ext4", 64, &["-m", "0", "-N", "1024"]) {
        Ok(volume) => volume,
        Err(why) => {
            skip(&why);
            return None;
        }
    };
    let sandbox = Sandbox::within(&volume.path);
    for key in keys {
        let tree = sandbox.path("tree");
        fs::create_dir(&tree).unwrap();
        for n in 0..100 {
            // Too large to stand in the snapshot itself.
            fs::write(tree.join(n.to_string()), format!("{key} {n} ").repeat(1000)).unwrap();
        }
        sandbox.said(args(["save", "--key", key, "--path"]).with(&tree)).ok();
        fs::remove_dir_all(&tree).unwrap();
    }
    Some((volume, sandbox))
}

#[test]
fn where_files_run_out_before_bytes_it_evicts_all_the_same() {
    let Some((_volume, sandbox)) = on_a_disk_of_few_files(&["a", "b", "c", "d"]) else { return };
    let count = || sandbox.json(["ls"])["snapshots"].as_array().unwrap().len();
    let calm = sandbox.json(["guard", "--high", "99"]);
    let number = |object: &Value, name: &str| object["disks"][0][name].as_u64().unwrap();
    let used = number(&calm, "inodes_used_percent");
    // Bytes are far from both marks.
    assert!(used > 50 && number(&calm, "used_percent") < used - 30, "{calm}");
    let status = sandbox.json(["status"])["disk"]["used_inodes_percent"].as_f64().unwrap();
    assert!((status - used as f64).abs() <= 1.0, "{status} {used}");
    // A hundred files are a tenth of the disk's.
    let marks = ["--high".into(), (used - 1).to_string(), "--low".into(), (used - 15).to_string()];
    let planned = sandbox.json(args(["guard", "--dry-run"]).and(&marks));
    assert_eq!((planned["evicted"].as_array().unwrap().len(), &planned["room"]), (2, &true.into()), "{planned}");
    assert_eq!(count(), 4);
    // A job does the same by itself.
    let mut restore = sandbox.larder(args(["restore", "--key", "d", "--path"]).with(sandbox.path("tree")));
    restore.env("LARDER_GUARD", "1").env("LARDER_HIGH", &marks[1]).env("LARDER_LOW", &marks[3]);
    let done = said(&mut restore).ok();
    assert!(done.err.contains("of the disk's inodes were used: evicted 2 snapshots"), "{done}");
    assert_eq!(count(), 2);
    fs::remove_dir_all(sandbox.path("tree")).unwrap();
    let after = sandbox.json(args(["guard"]).and(&marks));
    assert_eq!((&after["room"], after["evicted"].as_array().unwrap().len()), (&true.into(), 0), "{after}");
    assert!(number(&after, "inodes_used_percent") <= used - 15, "{after}");
    // What nobody may evict: it says what has most files, and touches nothing.
    let hoard = sandbox.path("other-runner/many");
    fs::create_dir_all(&hoard).unwrap();
    (0..200).for_each(|n| fs::write(hoard.join(n.to_string()), "").unwrap());
    said(sandbox.larder(args(["guard"]).and(["--high", "20", "--low", "10"])).env("LARDER_LEASE", "0s")).ends(1);
    let full = sandbox.said(["guard", "--high", "20", "--low", "10"]).ends(1);
    assert!(full.out.contains("% of the inodes used: no room") && full.out.contains("200 files  "), "{full}");
    assert!(full.out.contains("other-runner/many") && hoard.join("199").exists(), "{full}");
    // A save that lacks nothing but files is refused before it makes one, and told what helps.
    let tree = sandbox.path("tree");
    fs::create_dir(&tree).unwrap();
    (0..100).for_each(|n| fs::write(tree.join(n.to_string()), format!("new {n} ").repeat(1000)).unwrap());
    let made = (200..2000).take_while(|n| fs::write(hoard.join(n.to_string()), "").is_ok()).count();
    (200..200 + made).take(20).for_each(|n| fs::remove_file(hoard.join(n.to_string())).unwrap());
    let refused = sandbox.said(args(["save", "--key", "new", "--path"]).with(&tree)).ends(1);
    assert!(refused.err.contains("files are left"), "{refused}");
    assert!(refused.err.contains("`larder guard --dry-run`"), "{refused}");
    sandbox.said(["verify"]).ok();
}

#[test]
fn without_room_every_command_says_so_before_its_first_byte() {
    let Some((_volume, sandbox)) = on_a_small_disk(&["a", "b"]) else { return };
    let tree = sandbox.path("tree");
    let words = |verb: &str, key: &str| args([verb, "--key", key, "--path"]).with(&tree);
    let blobs = || {
        let fans = fs::read_dir(sandbox.store.join("blobs")).unwrap();
        fans.map(|fan| fs::read_dir(fan.unwrap().path()).unwrap().count()).sum::<usize>()
    };
    let hoard = sandbox.path("hoard");
    let leave = |megabytes: usize| {
        let free = sandbox.json(["status"])["disk"]["free_bytes"].as_u64().unwrap() as usize >> 20;
        fill(&hoard, 9, free - megabytes);
    };
    // The numbers, and the command that helps.
    let tells = |text: &str| text.contains("larder gc --need") && text.contains("files are left");
    leave(2);
    // A job goes on without.
    let refused = sandbox.said(words("restore", "a")).ok();
    assert!(tells(&refused.err) && refused.out.starts_with("miss") && !tree.exists(), "{refused}");
    let done = sandbox.said(words("run", "a").and(["--save", "never", "--", "echo", "built"])).ok();
    assert!(done.out.contains("built") && tells(&done.err), "{done}");
    assert!(done.err.contains("the command runs with what is there") && !tree.exists(), "{done}");
    fs::remove_file(&hoard).unwrap();
    fill(&tree.join("own"), 77, 4);
    leave(2);
    let before = blobs();
    let refused = sandbox.said(words("save", "c")).ends(1);
    assert!(tells(&refused.err), "{refused}");
    assert_eq!((blobs(), sandbox.json(["ls"])["snapshots"].as_array().unwrap().len()), (before, 2));
    let done = sandbox.said(words("run", "c").and(["--", "echo", "built"])).ok();
    assert!(done.out.contains("built") && done.err.contains("not saved") && tells(&done.err), "{done}");
    assert_eq!(blobs(), before);
    // What it says helps.
    let need = refused.err.split('`').find(|part| part.starts_with("larder gc --need")).unwrap();
    sandbox.said(need.split(' ').skip(1).filter(|word| *word != "--dry-run")).ok();
    sandbox.said(words("save", "c")).ok();
    sandbox.said(["verify"]).ok();
}

#[test]
fn with_nothing_left_at_all_room_can_be_made() {
    let Some((_volume, sandbox)) = on_a_small_disk(&["a", "b", "c", "d"]) else { return };
    let count = || sandbox.json(["ls"])["snapshots"].as_array().unwrap().len();
    let filled = Cell::new(0);
    let fill_up = || {
        let free = || sandbox.json(["status"])["disk"]["free_bytes"].as_u64().unwrap();
        wait_until("the disk is full", || {
            for size in [1 << 20, 4096, 1] {
                filled.set(filled.get() + 1);
                let mut file = fs::File::create(sandbox.path(&format!("hoard-{}", filled.get()))).unwrap();
                while file.write_all(&vec![1; size]).and_then(|()| file.sync_all()).is_ok() {}
            }
            free() == 0
        });
    };
    // A file needs a name and an inode, of which there may be some; not a byte is left for a directory.
    fill_up();
    for words in [["du"], ["verify"], ["report"]] {
        sandbox.said(words).ok();
    }
    let done = sandbox.json(["gc", "--need", "3MB"]);
    assert_eq!((done["evicted"].as_array().unwrap().len(), count()), (1, 3), "{done}");
    assert!(done["bytes"].as_u64().unwrap() >= 4 << 20, "{done}");
    fill_up();
    sandbox.said(["rm", "--key", "b"]).ok();
    assert_eq!(count(), 2);
    fill_up();
    let done = sandbox.json(["guard", "--high", "95", "--low", "92"]);
    assert_eq!((&done["room"], count()), (&true.into(), 1), "{done}");
    fill_up();
    // A job makes room by itself, as far as that can be.
    let mut job =
        sandbox.larder(args(["run", "--key", "d", "--path"]).with(sandbox.path("tree")).and(["--", "echo", "built"]));
    let done = said(job.env("LARDER_GUARD", "1")).ok();
    assert!(done.out.contains("built") && done.err.contains("evicted 1 snapshot"), "{done}");
    (1..=filled.get()).for_each(|n| fs::remove_file(sandbox.path(&format!("hoard-{n}"))).unwrap());
    sandbox.said(["verify"]).ok();
    fill(&sandbox.path("tree/own"), 7, 4);
    let words = |verb: &str| args([verb, "--key", "e", "--path"]).with(sandbox.path("tree"));
    sandbox.said(words("save")).ok();
    fs::remove_dir_all(sandbox.path("tree")).unwrap();
    assert_eq!(sandbox.json(words("restore"))["outcome"], "hit");
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
