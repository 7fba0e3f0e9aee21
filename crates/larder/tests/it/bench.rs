//! `larder bench`, whole: every row is there, and nothing is left behind, whatever happens.

use crate::support::wait_until;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

/// A small tree of everything, a good while old.
fn plant(root: &Path) {
    let old = SystemTime::now() - Duration::new(100_000, 123_456_789);
    let mut directories = vec![root.to_path_buf()];
    for d in 0..6 {
        let dir = root.join(format!("d{d}/e"));
        fs::create_dir_all(&dir).unwrap();
        for f in 0_usize..25 {
            let path = dir.join(format!("f{f}"));
            fs::write(&path, vec![b'x'; f * 97]).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        directories.extend([root.join(format!("d{d}")), dir]);
    }
    fs::create_dir(root.join("empty")).unwrap();
    fs::hard_link(root.join("d0/e/f3"), root.join("d1/same")).unwrap();
    symlink("nowhere", root.join("d2/link")).unwrap();
    directories.push(root.join("empty"));
    for dir in directories {
        File::open(dir).unwrap().set_modified(old).unwrap();
    }
}

fn larder(dir: &Path, scratch: &Path, rounds: &str) -> Command {
    let mut command = Command::new(cargo_bin!("larder"));
    command.arg("bench").arg(dir).arg("--scratch").arg(scratch).args(["--rounds", rounds]).stdin(Stdio::null());
    command
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

struct Ground {
    _temp: tempfile::TempDir,
    tree: std::path::PathBuf,
    scratch: std::path::PathBuf,
}

fn ground() -> Ground {
    let temp = tempfile::tempdir().unwrap();
    let (tree, scratch) = (temp.path().join("tree"), temp.path().join("scratch"));
    plant(&tree);
    fs::create_dir(&scratch).unwrap();
    Ground { _temp: temp, tree, scratch }
}

#[test]
fn every_row_is_measured_and_nothing_stays() {
    let ground = ground();
    let output = larder(&ground.tree, &ground.scratch, "1").args(["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!((report["files"].as_u64(), report["symlinks"].as_u64()), (Some(151), Some(1)));
    assert_eq!(report["changed_files"], 1);
    let rows = report["rows"].as_array().unwrap();
    let shape: Vec<(&str, usize)> =
        rows.iter().map(|r| (r["row"].as_str().unwrap(), r["contestants"].as_array().unwrap().len())).collect();
    let expected = [
        ("restore-empty", 11),
        ("restore-identical", 2),
        ("restore-changed", 2),
        ("restore-built", 2),
        ("restore-eight", 3),
        ("save-nothing", 2),
        ("save-changed", 3),
        ("save-all", 3),
    ];
    assert_eq!(shape, expected);
    for contestant in rows.iter().flat_map(|r| r["contestants"].as_array().unwrap()) {
        let (name, status) = (contestant["name"].as_str().unwrap(), contestant["status"].as_str().unwrap());
        match status {
            "measured" => assert!(contestant["median_ms"].as_f64().unwrap() > 0.0, "{name}"),
            "not-available" => assert!(name.starts_with("larder ") && contestant["link_modes"].is_object(), "{name}"),
            "absent" => assert!(!name.starts_with("larder "), "{name}"),
            other => panic!("{name} has the status {other}"),
        }
        if ["larder copy", "larder auto"].contains(&name) {
            assert_eq!(status, "measured", "{name} works everywhere");
        }
        if name == "larder spare" && status == "measured" {
            assert!(contestant["preparation"]["median_ms"].as_f64().unwrap() > 0.0, "a spare has its price");
        }
    }
    assert!(is_empty(&ground.scratch));
}

#[test]
fn some_rows_as_markdown() {
    let ground = ground();
    let mut command = larder(&ground.tree, &ground.scratch, "1");
    let output = command.args(["--markdown", "--only", "restore-identical,save-nothing"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("| restore over an identical directory | larder auto |"), "{text}");
    assert!(text.contains("| save, nothing changed | larder auto |"), "{text}");
    assert!(!text.contains("restore to an empty place"), "{text}");
    assert!(!text.contains(ground.tree.to_str().unwrap()), "a document names no path of this machine");
}

#[test]
fn told_to_end_it_leaves_nothing_behind() {
    let ground = ground();
    let mut command = larder(&ground.tree, &ground.scratch, "1000");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // What its children print is kept in `output/`: the first of them runs, or has run.
    let outputs = || {
        let places = fs::read_dir(&ground.scratch).unwrap().map(|place| place.unwrap().path().join("output"));
        places.filter_map(|output| fs::read_dir(output).ok()).flatten().count()
    };
    wait_until("the first child starts", || outputs() > 0);
    assert!(child.try_wait().unwrap().is_none(), "a thousand rounds take longer");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", id.as_str()]).status().unwrap().success());
    assert!(!child.wait().unwrap().success());
    assert!(is_empty(&ground.scratch));
}

#[test]
fn it_refuses_to_work_inside_of_what_it_measures() {
    let ground = ground();
    let inside = ground.tree.join("empty");
    let output = larder(&ground.tree, &inside, "1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("work outside of what is measured"), "{}", said(&output));
    assert!(is_empty(&inside));
}

#[test]
fn wrong_options_are_wrong_usage() {
    let ground = ground();
    for bad in [["--rounds", "0"], ["--only", "nothing"]] {
        let mut command = Command::new(cargo_bin!("larder"));
        let output = command.arg("bench").arg(&ground.tree).args(bad).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
}
