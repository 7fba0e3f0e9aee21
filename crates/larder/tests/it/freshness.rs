//! What larder does to the times of sources, beyond what the scenarios show: its choices, its refusals, its words.

use crate::support::project::{Project, compiled};
use crate::support::{Sandbox, args, said};
use serde_json::Value;
use std::fs;
use std::time::{Duration, SystemTime};

fn project() -> (Sandbox, Project) {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    (sandbox, project)
}

/// A fresh checkout: every file has the present time, and there is no target directory.
fn checkout(sandbox: &Sandbox, project: &Project) {
    let away = (0..).map(|n| sandbox.path(&format!("away-{n}"))).find(|path| !path.exists()).unwrap();
    fs::rename(&project.target, away).unwrap();
    let mut open = vec![project.dir.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => fs::File::open(entry.path()).unwrap().set_modified(SystemTime::now()).unwrap(),
            }
        }
    }
}

fn build(sandbox: &Sandbox, project: &Project, options: &[&str]) -> (Value, Vec<String>, Vec<String>) {
    let mut options = options.to_vec();
    options.extend(["--format", "json"]);
    let said = said(&mut project.run(sandbox, &options, &["cargo", "build"])).ok();
    let object = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    let lines = said.err.lines().map(str::to_owned).collect();
    (object, compiled(&said), lines)
}

#[test]
fn a_branch_that_comes_back_finds_its_own_build() {
    let (sandbox, project) = project();
    build(&sandbox, &project, &[]);
    let (main, _, _) = build(&sandbox, &project, &[]);
    checkout(&sandbox, &project);
    project.edit("part/src/lib.rs", "7", "8");
    let (branch, packages, _) = build(&sandbox, &project, &[]);
    assert_eq!(packages, ["part", "app"]);
    for (from, to, snapshot) in [("8", "7", &main), ("7", "8", &branch)] {
        checkout(&sandbox, &project);
        project.edit("part/src/lib.rs", from, to);
        let (object, packages, lines) = build(&sandbox, &project, &["--explain", "--save", "never"]);
        assert_eq!((&object["snapshot"], packages), (&snapshot["save"]["snapshot"], Vec::new()));
        assert_eq!(object["outcome"], "hit");
        assert_eq!(project.output(&sandbox), format!("plain {to} 42"));
        let nearest = lines.iter().find(|line| line.contains("considered")).expect("it says what it considered");
        assert!(nearest.contains("0 units to build again"), "{nearest}");
    }
}

/// Two snapshots of the same sources differ in a variable alone: the nearest is the one that saw today's value.
#[test]
fn the_nearest_snapshot_saw_the_same_environment() {
    let (sandbox, project) = project();
    project.edit("part/src/lib.rs", "7", "option_env!(\"GIVEN\").map_or(7, str::len) as u32");
    let run = |given: &str, save: &str| {
        let mut run = project.run(&sandbox, &["--format", "json", "--save", save], &["cargo", "build"]);
        let said = said(run.env("GIVEN", given)).ok();
        let object: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
        (object, compiled(&said))
    };
    let (one, _) = run("a", "success");
    checkout(&sandbox, &project);
    let (two, packages) = run("bbb", "success");
    assert_eq!(packages, ["part", "app"]);
    for (given, saved) in [("a", &one), ("bbb", &two)] {
        checkout(&sandbox, &project);
        let (object, packages) = run(given, "never");
        assert_eq!((&object["snapshot"], packages), (&saved["save"]["snapshot"], Vec::new()), "{object}");
    }
}

#[test]
fn a_second_target_directory_of_the_checkout_is_not_deceived() {
    let (sandbox, project) = project();
    build(&sandbox, &project, &[]);
    checkout(&sandbox, &project);
    // Built from other contents, without larder, while the first build rests in the store.
    project.edit("part/src/lib.rs", "7", "8");
    said(&mut project.cargo(&sandbox, &["build", "--target-dir", "desk"])).ok();
    project.edit("part/src/lib.rs", "8", "7");
    let (object, packages, lines) = build(&sandbox, &project, &["--save", "never"]);
    assert_eq!((&object["outcome"], packages.is_empty()), (&"hit".into(), false));
    assert!(lines.iter().any(|line| line.contains("warning") && line.contains("desk")), "{lines:?}");
    said(&mut project.cargo(&sandbox, &["build", "--target-dir", "desk"])).ok();
    let program = said(&mut sandbox.command(project.dir.join("desk/debug/app"))).ok();
    assert_eq!(program.out.trim(), "plain 7 42", "an old time would have hidden the change");
}

/// Two workspaces are built from one sibling. What one of them finds in the store was built from bytes that the other's target
/// directory was not.
#[test]
fn a_shared_sibling_deceives_nobody() {
    let sandbox = Sandbox::new();
    let shared = sandbox.path("shared");
    fs::create_dir_all(shared.join("src")).unwrap();
    fs::write(shared.join("Cargo.toml"), "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2021\"\n")
        .unwrap();
    let hold = |value: u32| {
        fs::write(shared.join("src/lib.rs"), format!("pub fn value() -> u32 {{\n    {value}\n}}\n")).unwrap();
    };
    hold(7);
    let [app, node] = ["app", "node"].map(|name| {
        let project = Project::new(&sandbox.path(name));
        project.edit("Cargo.toml", "[dependencies]\n", "[dependencies]\nshared = { path = \"../shared\" }\n");
        project.edit("src/lib.rs", "part::value()", "shared::value()");
        project
    });
    for value in [7, 8] {
        hold(value);
        for project in [&app, &node] {
            build(&sandbox, project, &[]);
            assert_eq!(project.output(&sandbox), format!("plain {value} 42"));
        }
    }
    // A fresh checkout of one, and the sibling as it was.
    hold(7);
    checkout(&sandbox, &app);
    let (object, packages, _) = build(&sandbox, &app, &["--save", "never"]);
    assert_eq!(object["outcome"], "hit", "{object}");
    assert_eq!(packages, ["shared", "app"], "an old time would hide from the other what it was built from");
    said(&mut node.cargo(&sandbox, &["build"])).ok();
    assert_eq!(node.output(&sandbox), "plain 7 42");
    // The other one is gone: then nobody is deceived.
    fs::remove_dir_all(&node.target).unwrap();
    checkout(&sandbox, &app);
    hold(7);
    let (object, packages, _) = build(&sandbox, &app, &["--save", "never"]);
    assert_eq!((&object["outcome"], packages), (&"hit".into(), Vec::new()));
    assert_eq!(app.output(&sandbox), "plain 7 42");
}

#[test]
fn a_file_that_no_unit_names_counts_unless_it_is_ignored() {
    let (sandbox, project) = project();
    fs::write(project.dir.join("larder.toml"), "ignore = [\"/art/\"]\ninputs = [\"art/logo.txt\"]\n").unwrap();
    fs::create_dir(project.dir.join("art")).unwrap();
    for name in ["art/logo.txt", "art/draft.txt", "README.md", "part/table.txt"] {
        fs::write(project.dir.join(name), "one").unwrap();
    }
    build(&sandbox, &project, &[]);
    for (name, expected) in [
        ("README.md", &[][..]),
        ("art/draft.txt", &[]),
        ("part/table.txt", &["app", "part"]),
        ("art/logo.txt", &["app"]),
    ] {
        checkout(&sandbox, &project);
        fs::write(project.dir.join(name), "two").unwrap();
        let (object, mut packages, _) = build(&sandbox, &project, &["--save", "never"]);
        // Cargo starts with either, as nothing of theirs waits for the other at first.
        packages.sort();
        assert_eq!(packages, expected, "{name}: {}", object["sources"]);
        assert_eq!(object["sources"]["changed"], 1, "{name}");
        fs::write(project.dir.join(name), "one").unwrap();
    }
}

#[test]
fn what_was_downloaded_into_the_workspace_is_no_source() {
    let (sandbox, project) = project();
    let home = project.dir.join(".home");
    fs::create_dir_all(home.join("registry/src/x")).unwrap();
    fs::write(home.join("registry/src/x/lib.rs"), "").unwrap();
    let mut run = project.run(&sandbox, &["--format", "json"], &["cargo", "build"]);
    said(run.env("CARGO_HOME", &home)).ok();
    checkout(&sandbox, &project);
    fs::write(home.join("registry/src/x/lib.rs"), "changed").unwrap();
    let mut run = project.run(&sandbox, &["--format", "json"], &["cargo", "build"]);
    let said = said(run.env("CARGO_HOME", &home)).ok();
    let object: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!((object["sources"]["changed"].as_u64(), compiled(&said)), (Some(0), Vec::new()));
}

#[test]
fn a_clock_that_ran_ahead_is_not_believed() {
    let (sandbox, project) = project();
    said(&mut project.cargo(&sandbox, &["build"])).ok();
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    let library = project.files("debug/deps", "libpart-", ".rlib").remove(0);
    fs::File::open(project.target.join(library)).unwrap().set_modified(ahead).unwrap();
    said(&mut sandbox.larder(args(["save", "--workspace"]).with(&project.dir))).ok();
    checkout(&sandbox, &project);
    let restored = said(&mut sandbox.larder(args(["restore", "--workspace"]).with(&project.dir))).ok();
    assert!(restored.out.starts_with("miss"), "{restored}");
    assert!(restored.warnings().iter().any(|line| line.contains("after now")), "{restored}");
    assert!(!project.target.exists());
}

#[test]
fn why_names_the_file_and_what_followed() {
    let (sandbox, project) = project();
    let why = |words: &[&str]| {
        let said = said(&mut sandbox.larder(args(["why", "--workspace"]).with(&project.dir).and(words))).ok();
        said.out
    };
    build(&sandbox, &project, &[]);
    checkout(&sandbox, &project);
    project.edit("part/src/lib.rs", "7", "8");
    build(&sandbox, &project, &[]);
    let all = why(&[]);
    assert!(all.contains("part/src/lib.rs changed"), "{all}");
    assert!(all.contains("because what they depend on was built") && all.contains("part was built again"), "{all}");
    assert!(why(&["mac"]).contains("fresh"), "{}", why(&["mac"]));
    assert!(!why(&["part"]).contains("app lib-app"), "{}", why(&["part"]));
    assert!(all.contains("app lib-app"), "{all}");
    let unknown = said(&mut sandbox.larder(args(["why", "--workspace"]).with(&project.dir).with("nobody"))).ends(2);
    assert!(unknown.err.contains("nobody"), "{unknown}");
    // An environment variable, a feature, a flag: what cargo calls "never built".
    checkout(&sandbox, &project);
    let mut run = project.run(&sandbox, &[], &["cargo", "build"]);
    said(run.env("RUSTFLAGS", "-C debug-assertions=off")).ok();
    assert!(why(&["part"]).contains("RUSTFLAGS were none and are"), "{}", why(&["part"]));
}

#[test]
fn no_time_is_set_back_beside_an_ignored_target_that_larder_does_not_know() {
    let (sandbox, project) = project();
    fs::write(project.dir.join("part/.gitignore"), "/target\n").unwrap();
    build(&sandbox, &project, &[]);
    // What cargo built in the folder of the library, alone, from other contents.
    project.edit("part/src/lib.rs", "7", "8");
    let other = project.dir.join("part/target");
    let alone = |sandbox: &Sandbox| {
        let mut cargo = sandbox.command("cargo");
        said(cargo.current_dir(&project.dir).args(["build", "-p", "part", "--target-dir"]).arg(&other)).ok()
    };
    assert_eq!(compiled(&alone(&sandbox)), ["part"]);
    project.edit("part/src/lib.rs", "8", "7");
    fs::rename(&project.target, sandbox.path("elsewhere")).unwrap();
    let (_, _, lines) = build(&sandbox, &project, &[]);
    assert!(lines.iter().any(|line| line.contains("without larder")), "{lines:?}");
    assert_eq!(compiled(&alone(&sandbox)), ["part"], "what was built from 8 must not seem fresh");
}

#[test]
fn no_time_is_set_back_where_only_cargo_knows_the_build_directory() {
    let (sandbox, project) = project();
    let template = sandbox.path("builds").join("{workspace-path-hash}");
    let run = |save: &str| {
        let mut command = project.run(&sandbox, &["--save", save], &["cargo", "build"]);
        let ran = said(command.env("CARGO_BUILD_BUILD_DIR", &template)).ok();
        (project.output(&sandbox), ran.err.contains("workspace-path-hash"))
    };
    let mut away = 0;
    let mut again = |from: &str, to: &str, save: &str| {
        away += 1;
        fs::rename(&project.target, sandbox.path(&format!("gone-{away}"))).unwrap();
        project.edit("part/src/lib.rs", from, to);
        run(save)
    };
    fs::create_dir_all(&project.target).unwrap();
    again("7", "7", "success");
    assert_eq!(again("7", "8", "never"), ("plain 8 42".to_owned(), true));
    assert_eq!(again("8", "7", "success"), ("plain 7 42".to_owned(), true));
}

#[test]
fn no_time_is_set_back_over_units_that_no_snapshot_knows() {
    let (sandbox, project) = project();
    // A target directory of other contents, older than the snapshot that comes over it, with a unit more.
    project.edit("src/lib.rs", "{} {} {}", "{} {} {}!");
    let test = |sandbox: &Sandbox| {
        let mut cargo = sandbox.command("cargo");
        said(cargo.current_dir(&project.dir).args(["test", "--no-run"])).ok()
    };
    test(&sandbox);
    fs::rename(&project.target, sandbox.path("older")).unwrap();
    project.edit("src/lib.rs", "{} {} {}!", "{} {} {}");
    build(&sandbox, &project, &[]);
    checkout(&sandbox, &project);
    fs::rename(sandbox.path("older"), &project.target).unwrap();
    build(&sandbox, &project, &["--save", "never"]);
    assert_eq!(project.output(&sandbox), "plain 7 42");
    assert_eq!(compiled(&test(&sandbox)), ["app"], "its tests were built from other contents");
}

#[test]
fn a_target_directory_that_was_not_restored_does_not_get_the_times_of_another() {
    let (sandbox, project) = project();
    let run = |target: &str, job: &str, command: &str| {
        let mut larder = project.run(&sandbox, &["--job", job], &["sh", "-c", command]);
        let dir = sandbox.path(target);
        said(larder.env("CARGO_TARGET_DIR", &dir));
        let program = dir.join("debug/app");
        said(&mut sandbox.command(&program)).ok().out.trim().to_owned()
    };
    assert_eq!(run("x", "x", "cargo build"), "plain 7 42");
    project.edit("part/src/lib.rs", "7", "8");
    // It fails, so nothing of it is saved.
    assert_eq!(run("y", "y", "cargo build; exit 1"), "plain 8 42");
    project.edit("part/src/lib.rs", "8", "7");
    assert_eq!(run("x", "x", "cargo build"), "plain 7 42");
    assert_eq!(run("y", "y", "cargo build"), "plain 7 42");
}
