//! What `-v` tells of real runs: every decision, in the order in which it is made; and what GitHub's runner makes of it.

use crate::support::project::Project;
use crate::support::tree::{overwrite, plant};
use crate::support::{Said, Sandbox, args, said};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What differs between machines and compilers, and what stands for it.
const FILTERS: [(&str, &str); 14] = [
    (r"key part (rustc|host|cargo-home): .*", "key part $1: [THIS]"),
    (r"linker: .*", "linker: [THIS]"),
    (r"cargo-(\w+)-[0-9a-f]{12}\b", "cargo-$1-[KEY]"),
    (r"-[0-9a-f]{16}\b", "-[HASH]"),
    (r"\([0-9a-f]{16}\)", "([HASH])"),
    (r"\(\d+\)", "([N])"),
    (r"predicted [\d.]+ s", "predicted [N] s"),
    (r": \d+ files, \d+ bytes", ": [N] files, [N] bytes"),
    (r": \d+ files, [\d.]+ \w+", ": [N] files, [N] kB"),
    (r"\b\d+ (by copy|unchanged|removed)", "[N] $1"),
    (r"\b\d+ files (taken|known|made|left|are left)", "[N] files $1"),
    (r"in \d+ ms", "in [N] ms"),
    (r"store/blobs/[0-9a-f]{2}/\[ID\]", "store/[BLOB]"),
    (r"quarantine/blobs-[0-9a-f]{2}-\[ID\]\.\[RANDOM\]", "[SET ASIDE]"),
];

/// Phases are no decisions, and some run beside others.
const PHASES: [&str; 7] = ["examining", "checking", "taking in (", "materialising", "syncing", "digesting", "sweeping"];

fn is_told(line: &&str) -> bool {
    let said = line.strip_prefix("larder: ");
    said.is_some_and(|said| !PHASES.iter().any(|phase| said.starts_with(phase))) || line.starts_with("::")
}

/// What larder decided, on stderr.
macro_rules! told {
    ($sandbox:expr, $said:expr, @$expected:literal) => {
        let said = $said;
        let lines: Vec<&str> = said.err.lines().filter(is_told).collect();
        let _filtered = $sandbox.filtered();
        let mut settings = insta::Settings::clone_current();
        FILTERS.iter().for_each(|(pattern, shown)| settings.add_filter(pattern, *shown));
        let _more = settings.bind_to_scope();
        insta::assert_snapshot!(lines.join("\n"), @$expected);
    };
}

fn run(sandbox: &Sandbox, project: &Project, level: &str) -> Said {
    // By copies, since what else a file system can is its own matter.
    said(&mut project.run(sandbox, &[level, "--link-mode", "copy"], &["cargo", "build"])).ok()
}

#[test]
fn a_first_run_an_unchanged_one_and_one_after_an_edit() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    told!(sandbox, run(&sandbox, &project, "-v"), @"
    larder: linker: [THIS]
    larder: key part rustc: [THIS]
    larder: key part host: [THIS]
    larder: key part workspace: [ROOT]/app
    larder: key part target-dir: [ROOT]/app/target
    larder: key part build-dir: [ROOT]/app/target
    larder: key part cargo-home: [THIS]
    larder: key part linker: [THIS]
    larder: key part lock: none
    larder: key part rustflags: none
    larder: key part job: cargo-build
    larder: key cargo-build-[KEY], scope local
    larder: the snapshot is for [ROOT]/app/target
    larder: without an exact key the nearest snapshot of the place will do
    larder: snapshots with the exact key: 0; tried in order of preference: 0
    larder: a miss: no snapshot can be used, and the directories stay as they are
    larder: linker: [THIS]
    larder: key part rustc: [THIS]
    larder: key part host: [THIS]
    larder: key part workspace: [ROOT]/app
    larder: key part target-dir: [ROOT]/app/target
    larder: key part build-dir: [ROOT]/app/target
    larder: key part cargo-home: [THIS]
    larder: key part linker: [THIS]
    larder: key part lock: [ID]
    larder: key part rustflags: none
    larder: key part job: cargo-build
    larder: key cargo-build-[KEY], scope local
    larder: the snapshot is for [ROOT]/app/target
    larder: without an exact key the nearest snapshot of the place will do
    larder: [N] files taken in by copy
    larder: not by hardlink: copying was asked for
    larder: not by reflink: copying was asked for
    larder: [N] files known from the last time and not read again
    larder: published the snapshot [ID]: [N] files, [N] bytes
    larder: miss: no snapshot for cargo-build-[KEY] in [N] ms; saved cargo-build-[KEY]: [N] files, [N] kB ([N] by copy) in [N] ms
    ");
    // A fresh checkout of the same commit.
    let again = Project::new(&sandbox.path("again"));
    fs::copy(project.dir.join("Cargo.lock"), again.dir.join("Cargo.lock")).unwrap();
    fs::rename(&project.dir, sandbox.path("before")).unwrap();
    fs::rename(&again.dir, &project.dir).unwrap();
    told!(sandbox, run(&sandbox, &project, "-v"), @"
    larder: linker: [THIS]
    larder: key part rustc: [THIS]
    larder: key part host: [THIS]
    larder: key part workspace: [ROOT]/app
    larder: key part target-dir: [ROOT]/app/target
    larder: key part build-dir: [ROOT]/app/target
    larder: key part cargo-home: [THIS]
    larder: key part linker: [THIS]
    larder: key part lock: [ID]
    larder: key part rustflags: none
    larder: key part job: cargo-build
    larder: key cargo-build-[KEY], scope local
    larder: the snapshot is for [ROOT]/app/target
    larder: without an exact key the nearest snapshot of the place will do
    larder: considered [ID] (cargo-build-[KEY]) of the same job: 0 sources differ, 0 units to build again, predicted [N] s
    larder: [ID] has the exact key and leaves nothing to build: no other is judged
    larder: snapshots with the exact key: 1; tried in order of preference: 1
    larder: [ID] is taken
    larder: [N] files made by copy
    larder: not by hardlink: copying was asked for
    larder: not by reflink: copying was asked for
    larder: sources: 12 hold what they held, 0 changed, 0 are new, 0 are gone
    larder: 12 sources get the times that they had: they hold the same bytes
    larder: [N] files taken in by copy
    larder: not by hardlink: copying was asked for
    larder: not by reflink: copying was asked for
    larder: [N] files known from the last time and not read again
    larder: published the snapshot [ID]: [N] files, [N] bytes
    larder: hit cargo-build-[KEY]: [N] files, [N] kB ([N] by copy) in [N] ms; saved cargo-build-[KEY]: [N] files, [N] kB ([N] by copy, [N] unchanged) in [N] ms
    ");
    fs::remove_dir_all(&project.target).unwrap();
    project.edit("part/src/lib.rs", "7", "8");
    fs::write(project.dir.join("part/src/new.rs"), "").unwrap();
    told!(sandbox, run(&sandbox, &project, "-v"), @"
    larder: linker: [THIS]
    larder: key part rustc: [THIS]
    larder: key part host: [THIS]
    larder: key part workspace: [ROOT]/app
    larder: key part target-dir: [ROOT]/app/target
    larder: key part build-dir: [ROOT]/app/target
    larder: key part cargo-home: [THIS]
    larder: key part linker: [THIS]
    larder: key part lock: [ID]
    larder: key part rustflags: none
    larder: key part job: cargo-build
    larder: key cargo-build-[KEY], scope local
    larder: the snapshot is for [ROOT]/app/target
    larder: without an exact key the nearest snapshot of the place will do
    larder: considered [ID] (cargo-build-[KEY]) of the same job: 2 sources differ, 3 units to build again, predicted [N] s
    larder: considered [ID] (cargo-build-[KEY]) of the same job: 2 sources differ, 3 units to build again, predicted [N] s
    larder: snapshots with the exact key: 2; tried in order of preference: 2
    larder: 3 units are certain to be built again and are not materialised
    larder: [ID] is taken
    larder: [ID] is not needed: [ID] came first
    larder: [N] files made by copy
    larder: [N] files left out: the build will certainly make them anew
    larder: not by hardlink: copying was asked for
    larder: not by reflink: copying was asked for
    larder: sources: 11 hold what they held, 1 changed, 1 are new, 0 are gone
    larder: [ROOT]/app/part/src/lib.rs changed
    larder: [ROOT]/app/part/src/new.rs is new
    larder: all of [ROOT]/app/part is touched: no unit says whether it reads [ROOT]/app/part/src/new.rs
    larder: 3 sources are touched, so that cargo builds what is made from them
    larder: [N] files are left out of the snapshot: 0 units that no build wants any more, and what newer builds replaced
    larder: [N] files taken in by copy
    larder: not by hardlink: copying was asked for
    larder: not by reflink: copying was asked for
    larder: [N] files known from the last time and not read again
    larder: published the snapshot [ID]: [N] files, [N] bytes
    larder: hit cargo-build-[KEY]: [N] files, [N] kB ([N] by copy); sources: 1 changed, 1 new in [N] ms; saved cargo-build-[KEY]: [N] files, [N] kB ([N] by copy, [N] unchanged) in [N] ms
    ");
}

#[test]
fn twice_tells_of_each_file_and_a_filter_of_what_it_names() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    run(&sandbox, &project, "-q");
    fs::remove_dir_all(&project.target).unwrap();
    project.edit("part/src/lib.rs", "7", "8");
    let all = run(&sandbox, &project, "-vv").err;
    for told in [
        "larder:   certain to be built again: part lib-part (",
        "part/src/lib.rs is touched",
        "larder:   debug/deps/libmac-",
        ".so: made",
        ": taken in",
    ] {
        assert!(all.contains(told), "{told:?} is not in {all}");
    }
    let filtered = |filter: &str| {
        let mut command = project.run(&sandbox, &[], &["true"]);
        said(command.env("LARDER_LOG", filter)).ok().err
    };
    let store = filtered("larder_store=info");
    assert!(store.contains("is taken") && !store.contains("key part"), "{store}");
    let nothing = filtered("off");
    assert!(!nothing.contains("key part") && !nothing.contains("is taken"), "{nothing}");
    let wrong = filtered("larder=[nonsense");
    assert!(wrong.starts_with("larder: warning: LARDER_LOG=larder=[nonsense is no filter: "), "{wrong}");
    // Debug logging of a workflow asks for the same.
    let mut command = project.run(&sandbox, &[], &["true"]);
    assert!(said(command.env("RUNNER_DEBUG", "1")).ok().err.contains("key part job"));
}

fn in_actions(command: &mut Command) -> Said {
    said(command.env("GITHUB_ACTIONS", "true"))
}

#[test]
fn in_a_workflow_details_are_folded_and_damage_is_marked() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    let keyed =
        |verb: &str, more: &[&str]| args([verb, "--link-mode", "copy", "--key", "k", "--path"]).with(&tree).and(more);
    told!(sandbox, in_actions(&mut sandbox.larder(keyed("save", &["-v"]))), @"
    ::group::larder: the key and its parts
    larder: key part key: k
    larder: key k, scope local
    larder: the snapshot is for [ROOT]/tree
    ::endgroup::
    ::group::larder: the save, step by step
    larder: [N] files taken in by copy
    larder: not by hardlink: copying was asked for
    larder: not by reflink: copying was asked for
    larder: [N] files known from the last time and not read again
    larder: published the snapshot [ID]: [N] files, [N] bytes
    ::endgroup::
    ");
    for fan in fs::read_dir(sandbox.store.join("blobs")).unwrap() {
        for blob in fs::read_dir(fan.unwrap().path()).unwrap() {
            overwrite(&blob.unwrap().path(), b"damage");
        }
    }
    fs::remove_dir_all(&tree).unwrap();
    told!(sandbox, in_actions(&mut sandbox.larder(keyed("restore", &["-v"]))), @"
    ::group::larder: the key and its parts
    larder: key part key: k
    larder: key k, scope local
    larder: the snapshot is for [ROOT]/tree
    ::endgroup::
    ::group::larder: the restore, step by step
    larder: snapshots with the exact key: 1; tried in order of preference: 1
    ::endgroup::
    ::warning title=larder::the blob [ROOT]/store/[BLOB] is damaged: its length is 6 instead of 100000 bytes; it was moved to [ROOT]/store/[SET ASIDE]
    ::group::larder: the restore, step by step
    larder: [ID] is passed over: what it holds cannot be had
    larder: a miss: no snapshot can be used, and the directories stay as they are
    ::endgroup::
    ");
    let off = in_actions(sandbox.larder(keyed("restore", &[])).env("LARDER_DISABLE", "1")).ok();
    assert!(off.err.starts_with("::warning title=larder::switched off by "), "{off}");
    let failed = in_actions(&mut sandbox.larder(["restore", "--key", "k"])).ends(2);
    assert!(failed.err.starts_with("::error title=larder::"), "{failed}");
}

/// Lines that GitHub's runner would obey.
fn obeyed(text: &str) -> Vec<&str> {
    let ours = ["::group::larder", "::endgroup::", "::warning title=larder::", "::error title=larder::"];
    let is_command = |line: &&str| line.trim_start().starts_with("::") || line.contains("##[");
    text.split(['\n', '\r']).filter(is_command).filter(|line| !ours.iter().any(|own| line.starts_with(own))).collect()
}

#[test]
fn names_that_strangers_chose_are_not_obeyed() {
    let sandbox = Sandbox::new();
    let hostile = "x\n::add-mask::e\r\n##[add-path]bin\u{200b}::error::y";
    let tree = sandbox.path(&format!("tree{hostile}"));
    plant(&tree);
    fs::write(tree.join(format!("file{hostile}")), "::warning::z").unwrap();
    let keyed = |verb: &str, more: &[&str]| args([verb, "-vv", "--key", hostile, "--path"]).with(&tree).and(more);
    for format in ["text", "json"] {
        for words in [
            keyed("restore", &["--explain"]),
            keyed("save", &["--spare"]),
            keyed("restore", &["--exact"]),
            args(["ls"]),
            args(["verify"]),
            args(["verify", "--repair"]),
            args(["config"]),
            args(["rm", "--key", hostile]),
            args(["rm", hostile]),
            args(["restore", "--workspace"]).with(&tree),
        ] {
            let told = in_actions(&mut sandbox.larder(words.clone().and(["--format", format])));
            assert_eq!(obeyed(&told.out), [""; 0], "{told}");
            assert_eq!(obeyed(&told.err), [""; 0], "{told}");
            let groups = told.err.lines().filter(|line| line.starts_with("::group::")).count();
            let ends = told.err.lines().filter(|line| *line == "::endgroup::").count();
            assert_eq!(groups, ends, "{told}");
            if format == "json" && told.code == Some(0) {
                told.json();
            }
        }
    }
    assert!(Path::new(&tree).exists());
}
