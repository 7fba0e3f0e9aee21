//! Units that nobody wants any more, held against a real cargo: what is pruned is not missed.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[path = "support/listing.rs"]
mod listing;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use larder_cargo::{UnitId, UnitTable};
use listing::{list, table, unit};
use support::{clean, files, succeed, write};

const SCRIPT: &str = "fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }";

/// A program with a test, that uses a vendored package of which two versions are at hand.
fn sources(temp: &Path) {
    for version in ["1.0.0", "1.0.1"] {
        let dir = temp.join(format!("w/vendor/dep-{version}"));
        write(
            &dir,
            &[
                ("Cargo.toml", &format!("[package]\nname = 'dep'\nversion = '{version}'\nedition = '2021'")),
                (".cargo-checksum.json", "{\"files\":{}}"),
                ("build.rs", SCRIPT),
                ("src/lib.rs", &format!("pub fn version() -> &'static str {{ \"{version}\" }}")),
            ],
        );
    }
    write(
        temp,
        &[
            (
                "w/.cargo/config.toml",
                "[source.crates-io]\nreplace-with = 'vendored'\n[source.vendored]\ndirectory = 'vendor'",
            ),
            ("w/src/main.rs", "fn main() { println!(\"{}\", dep::version()) }"),
            ("w/tests/it.rs", "#[test] fn it() { assert_ne!(dep::version(), \"\") }"),
        ],
    );
}

/// A directory source ignores `cargo update --precise`.
fn require(root: &Path, version: &str) {
    let text =
        format!("[package]\nname = 'app'\nversion = '0.1.0'\nedition = '2021'\n[dependencies]\ndep = '={version}'");
    write(root, &[("Cargo.toml", &text)]);
}

fn cargo(root: &Path, words: &str) -> Command {
    let mut command = clean("cargo", root);
    // Newer cargos keep no incremental data where CI is set.
    command.args(words.split(' ')).arg("--offline").envs([("CARGO_TERM_COLOR", "never"), ("CARGO_INCREMENTAL", "1")]);
    command
}

fn program(root: &Path) -> String {
    succeed(&mut Command::new(root.join("target/debug/app"))).0
}

const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;

/// Runs a job; gives its table and what it read.
fn job(root: &Path, words: &[String]) -> (UnitTable, BTreeSet<UnitId>) {
    let target = root.join("target");
    for path in if target.exists() { files(&target) } else { Default::default() }.into_values() {
        File::open(path).unwrap().set_times(FileTimes::new().set_accessed(LONG_AGO)).unwrap();
    }
    for words in words {
        succeed(&mut cargo(root, words));
    }
    let all = files(&target);
    let read: BTreeSet<&Vec<u8>> = all
        .iter()
        .filter(|(_, path)| fs::metadata(path).unwrap().accessed().unwrap() != LONG_AGO)
        .map(|(path, _)| path)
        .collect();
    // After the look at the clocks: reading the table reads the hash files.
    let table = table(root, &target, &[("app", "w")]);
    let live = table.live(&|path| read.contains(&path.to_vec()));
    (table, live)
}

/// Removes what is dead, and gives the targets of the units that went.
fn prune(root: &Path, table: &UnitTable, live: &BTreeSet<UnitId>) -> Vec<String> {
    let target = root.join("target");
    let dead = table.dead(live);
    let listed = list(&target);
    let gone: Vec<_> = table.dead_files(&dead, &listing::files(&listed)).into_iter().map(<[u8]>::to_vec).collect();
    let all = files(&target);
    for path in gone {
        fs::remove_file(&all[&path]).unwrap();
    }
    let mut targets: Vec<_> =
        table.units.iter().filter(|unit| dead.contains(&unit.id)).map(|unit| unit.target.clone()).collect();
    targets.sort_unstable();
    targets
}

fn nothing_to_do(root: &Path, words: &[String]) {
    for words in words {
        let (_, err) = succeed(&mut cargo(root, words));
        assert!(!err.contains("Compiling") && !err.contains("Checking"), "{words}: {err}");
    }
}

#[test]
fn what_is_pruned_is_not_missed() {
    pruned_and_not_missed("");
}

#[test]
fn what_is_pruned_is_not_missed_in_the_new_layout() {
    let temp = tempfile::tempdir().unwrap();
    let flags = "+nightly -Zbuild-dir-new-layout ";
    if !cargo(temp.path(), &format!("{flags}-V")).output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no nightly cargo that knows -Zbuild-dir-new-layout");
        return;
    }
    pruned_and_not_missed(flags);
}

fn pruned_and_not_missed(flags: &str) {
    let temp = tempfile::tempdir().unwrap();
    let temp = temp.path().canonicalize().unwrap();
    let root = temp.join("w");
    let probe = temp.join("probe");
    fs::write(&probe, "x").unwrap();
    File::open(&probe).unwrap().set_times(FileTimes::new().set_accessed(LONG_AGO)).unwrap();
    fs::read(&probe).unwrap();
    if fs::metadata(&probe).unwrap().accessed().unwrap() == LONG_AGO {
        eprintln!("SKIPPED: {} keeps no access times", temp.display());
        return;
    }
    sources(&temp);
    let with = |words: &str| format!("{flags}{words}");
    let words = [with("build"), with("test --no-run")];
    require(&root, "1.0.0");
    let (first, live) = job(&root, &words);
    assert_eq!(live.len(), first.units.len());
    assert_eq!(prune(&root, &first, &live), [""; 0]);
    assert_eq!(program(&root), "1.0.0\n");
    // A vendored package is not a path package, but cargo looks at what its build script names.
    let run = unit(&first, "dep", "run-build-script-build-script-build", |_| true);
    assert_eq!((run.local, run.inputs.as_slice()), (false, &[root.join("vendor/dep-1.0.0/build.rs")][..]));

    // The same again, and something else: nothing is known to be unwanted.
    let (mut second, live) = job(&root, &[with("check")]);
    second.carry_over(&first, &live);
    assert!(live.len() < second.units.len());
    assert_eq!(prune(&root, &second, &live), [""; 0]);

    require(&root, "1.0.1");
    fs::write(root.join("src/main.rs"), "fn main() { println!(\"{} again\", dep::version()) }").unwrap();
    let (mut third, live) = job(&root, &words);
    third.carry_over(&second, &live);
    let old = fs::metadata(root.join("target/debug/app")).unwrap();
    // The check that this job did not repeat goes as well: it needs a build script of the old version.
    assert_eq!(
        prune(&root, &third, &live),
        [
            "bin-app",
            "bin-app",
            "build-script-build-script-build",
            "lib-dep",
            "lib-dep",
            "run-build-script-build-script-build",
            "test-bin-app",
            "test-integration-test-it"
        ]
    );
    assert_eq!(fs::metadata(root.join("target/debug/app")).unwrap().len(), old.len());
    nothing_to_do(&root, &words);
    assert_eq!(program(&root), "1.0.1 again\n");
    let (mut fourth, live) = job(&root, &words);
    fourth.carry_over(&third, &live);
    assert_eq!(prune(&root, &fourth, &live), [""; 0]);

    // Of three sessions one is enough, and rustc finds it.
    for word in ["one", "two"] {
        fs::write(root.join("src/main.rs"), format!("fn main() {{ println!(\"{{}} {word}\", dep::version()) }}"))
            .unwrap();
        succeed(&mut cargo(&root, &with("build")));
    }
    let (mut fifth, live) = job(&root, &words);
    fifth.carry_over(&fourth, &live);
    let sessions = || files(&root.join("target")).keys().filter(|path| path.ends_with(b"/dep-graph.bin")).count();
    let many = sessions();
    assert_eq!(prune(&root, &fifth, &live), [""; 0]);
    assert_eq!(sessions(), 3);
    // Newer compilers have removed them themselves.
    assert!(many > 3 || !flags.is_empty(), "there was nothing to remove");
    nothing_to_do(&root, &words);
    fs::write(root.join("src/main.rs"), "fn main() { println!(\"{} three\", dep::version()) }").unwrap();

    succeed(&mut cargo(&root, &with("build")));
    assert_eq!(program(&root), "1.0.1 three\n");
}
