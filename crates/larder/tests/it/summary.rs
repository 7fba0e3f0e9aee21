//! The table on a job's page, as `larder run` adds it and as the hidden command prints it.

use crate::support::project::Project;
use crate::support::{Sandbox, said, snapshot};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

fn run(sandbox: &Sandbox, project: &Project, page: &Path, more: &[(&str, &str)]) {
    let mut command = project.run(sandbox, &["--job", "test"], &["cargo", "build"]);
    said(command.env("GITHUB_STEP_SUMMARY", page).envs(more.iter().copied())).ok();
}

#[test]
fn a_run_adds_one_row_to_the_jobs_page() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("work"));
    let page = sandbox.path("page");
    fs::write(&page, "somebody's own\n").unwrap();
    run(&sandbox, &project, &page, &[]);
    let first = fs::read_to_string(&page).unwrap();
    assert!(first.starts_with("somebody's own\n| larder test | restored | "), "{first}");
    assert!(first.contains("| miss | nothing | – | ") && first.contains(" units | "), "{first}");
    fs::remove_dir_all(&project.target).unwrap();
    run(&sandbox, &project, &page, &[]);
    let both = fs::read_to_string(&page).unwrap();
    let second = both.strip_prefix(&first).unwrap();
    assert_eq!(second.lines().count(), 4, "{second}");
    assert!(second.contains("| hit | ") && second.contains(" units | "), "{second}");
}

#[test]
fn who_wants_no_table_gets_none_and_nobody_fails_for_one() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("work"));
    let page = sandbox.path("page");
    run(&sandbox, &project, &page, &[("LARDER_SUMMARY", "0")]);
    assert!(!page.exists());
    run(&sandbox, &project, &sandbox.path("no/such/folder/page"), &[]);
    // Each of these knows one half only.
    let mut command = sandbox.larder(["restore", "--workspace"]);
    said(command.arg(&project.dir).env("GITHUB_STEP_SUMMARY", &page)).ok();
    assert!(!page.exists());
}

#[test]
fn both_halves_come_by_stdin() {
    let sandbox = Sandbox::new();
    let print = |text: &str| {
        let mut command = sandbox.larder(["summary"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        crate::support::wait_for(child)
    };
    snapshot!(sandbox, print(r#"{"job": "j", "restore": {"outcome": "miss"}, "save": null}"#), @"
    exit code 0
    --- stdout
    | larder j | restored | compiling spared | compiled | saved |
    |---|---|---|---|---|
    | miss | nothing | – | – | nothing |
    ");
    assert_eq!(print("{}").ok().out, "");
    for bad in ["", "no", "[1]", r#"{"restore": {"outcome": "odd"}}"#] {
        assert!(print(bad).ends(2).err.contains("stdin: expected"), "{bad}");
    }
}
