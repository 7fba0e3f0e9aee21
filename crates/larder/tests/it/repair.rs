//! `larder verify --repair`, as an operator runs it on a store that something happened to.

use crate::support::project::Project;
use crate::support::tree::{assert_is, list, overwrite, plant};
use crate::support::{Sandbox, args, said, snapshot};
use std::fs;
use std::path::{Path, PathBuf};

fn blobs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let fans = fs::read_dir(sandbox.store.join("blobs")).unwrap().map(|fan| fan.unwrap().path());
    let mut blobs: Vec<PathBuf> =
        fans.flat_map(|fan| fs::read_dir(fan).unwrap().map(|blob| blob.unwrap().path())).collect();
    blobs.sort();
    blobs
}

#[test]
fn a_store_that_lost_this_and_that() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    let keyed = |verb: &str| args([verb, "--link-mode", "copy", "--key", "k", "--path"]).with(&tree);
    sandbox.said(keyed("save")).ok();
    let before = list(&tree);
    snapshot!(sandbox, sandbox.said(["verify", "--repair"]), @"
    exit code 0
    --- stdout
    intact: 1 snapshot, 1 blob, 100.0 kB read in [N] ms
    --- stderr
    larder: digesting (1)
    ");
    let store = |name: &str| sandbox.store.join(name);
    fs::remove_file(store("FORMAT")).unwrap();
    fs::write(store("stray"), "beside the rooms").unwrap();
    fs::remove_dir(store("trees")).unwrap();
    fs::write(store("snapshots/notes.txt"), "of somebody").unwrap();
    fs::create_dir(store("tmp/0123456789abcdef")).unwrap();
    // Other commands see a damaged store, and say what helps.
    let refused = sandbox.said(["verify"]).ends(1);
    assert!(refused.err.contains("`larder verify --repair` mends it"), "{refused}");
    let listed = list(&sandbox.store);
    snapshot!(sandbox, sandbox.said(["verify", "--repair", "--dry-run"]), @"
    exit code 1
    --- stdout
    [ROOT]/store/trees: the directory is missing; would be made anew, empty
    [ROOT]/store/FORMAT: no FORMAT says what this is, but everything in it is this version's; would be written anew
    [ROOT]/store/tmp/0123456789abcdef: a process that is gone left it; would be swept
    [ROOT]/store/snapshots/notes.txt: larder never makes such a file here; would be moved to quarantine
    damaged, and nothing was changed: 1 snapshot, 1 blob, 100.0 kB read in [N] ms
    --- stderr
    larder: digesting (1)
    ");
    assert_is(&listed, &sandbox.store);
    snapshot!(sandbox, sandbox.said(["verify", "--repair"]), @"
    exit code 0
    --- stdout
    [ROOT]/store/trees: the directory is missing; made anew, empty
    [ROOT]/store/FORMAT: no FORMAT says what this is, but everything in it is this version's; written anew
    [ROOT]/store/tmp/0123456789abcdef: a process that is gone left it; swept
    [ROOT]/store/snapshots/notes.txt: larder never makes such a file here; moved to [ROOT]/store/quarantine/snapshots-notes.txt.[RANDOM]
    intact: 1 snapshot, 1 blob, 100.0 kB read in [N] ms
    --- stderr
    larder: digesting (1)
    ");
    snapshot!(sandbox, sandbox.said(["verify"]), @"
    exit code 0
    --- stdout
    intact: 1 snapshot, 1 blob, 100.0 kB read in [N] ms
    --- stderr
    larder: digesting (1)
    ");
    assert!(store("stray").exists());
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(sandbox.json(keyed("restore"))["outcome"], "hit");
    assert_is(&before, &tree);
}

#[test]
fn what_is_lost_is_told_by_snapshot() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    let keyed = |verb: &str| args([verb, "--link-mode", "copy", "--key", "k", "--path"]).with(&tree);
    sandbox.said(keyed("save")).ok();
    for blob in blobs(&sandbox) {
        overwrite(&blob, b"damage");
    }
    let repaired = sandbox.json(["verify", "--repair"]);
    assert_eq!(repaired["clean"], true);
    assert_eq!(repaired["steps"][0]["remedy"], "quarantine");
    let moved = repaired["steps"][0]["moved_to"].as_str().unwrap();
    assert_eq!(fs::read(moved).unwrap()[..6], *b"damage");
    assert_eq!(repaired["lacking"][0]["key"], "k");
    assert!(!repaired["lacking"][0]["concerned"].as_array().unwrap().is_empty(), "{repaired}");
    sandbox.said(["verify"]).ok();
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(sandbox.json(keyed("restore"))["outcome"], "miss");
}

#[test]
fn units_are_named_where_there_are_any() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    said(&mut project.run(&sandbox, &["--link-mode", "copy"], &["cargo", "build"])).ok();
    for blob in blobs(&sandbox) {
        fs::remove_file(blob).unwrap();
    }
    let repaired = sandbox.json(["verify", "--repair"]);
    let lacking = repaired["lacking"].as_array().unwrap().iter().flat_map(|one| one["concerned"].as_array().unwrap());
    let units: Vec<&str> = lacking.map(|name| name.as_str().unwrap()).collect();
    assert!(units.iter().any(|unit| unit.starts_with("app-")), "{units:?}");
    // What is lost is built again, and nothing else is said of it.
    fs::remove_dir_all(&project.target).unwrap();
    said(&mut project.run(&sandbox, &[], &["cargo", "build"])).ok();
    assert_eq!(project.output(&sandbox), "plain 7 42");
    sandbox.said(["verify"]).ok();
}

#[test]
fn what_is_no_store_is_wrong_usage() {
    let sandbox = Sandbox::new();
    fs::create_dir(&sandbox.store).unwrap();
    fs::write(sandbox.store.join("thesis.txt"), "years of work").unwrap();
    let refused = sandbox.said(["verify", "--repair"]).ends(2);
    assert!(refused.err.contains("is not a larder store"), "{refused}");
    assert_eq!(fs::read_dir(&sandbox.store).unwrap().count(), 1);
    sandbox.said(["verify", "--dry-run"]).ends(2);
    assert!(!Path::new(&sandbox.path("none")).exists());
    sandbox.said(args(["verify", "--repair", "--store"]).with(sandbox.path("none"))).ok();
    assert!(!sandbox.path("none").exists());
}
