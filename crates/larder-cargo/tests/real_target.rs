//! Classes and units held against target directories that a real cargo made, in both layouts.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/witnesses.rs"]
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_cargo::{FileClass, Layout, Location, UnitId, UnitLocator};
use support::{clean, files, succeed, write};
use witnesses::Witnesses;

/// A workspace with every kind of target; `word` is in all of them.
fn sources(root: &Path, word: &str) {
    let package = |name: &str, rest: &str| format!("[package]\nname = '{name}'\nedition = '2021'\n{rest}");
    write(
        root,
        &[
            (
                "Cargo.toml",
                "[workspace]\nresolver = '2'\nmembers = ['app', 'lib', 'pm', 'c']\n[profile.ci]\ninherits = 'dev'\n[profile.dev]\nsplit-debuginfo = 'packed'",
            ),
            (
                "app/Cargo.toml",
                &package(
                    "my-app",
                    "[dependencies]\nmy-lib = { path = '../lib' }\nmy-pm = { path = '../pm' }\nc = { path = '../c' }\n[build-dependencies]\nmy-lib = { path = '../lib' }",
                ),
            ),
            ("lib/Cargo.toml", &package("my-lib", "")),
            ("c/Cargo.toml", &package("c", "[lib]\ncrate-type = ['lib', 'cdylib', 'staticlib']")),
            ("pm/Cargo.toml", &package("my-pm", "[lib]\nproc-macro = true")),
            (
                "app/build.rs",
                "fn main() { let out = std::env::var(\"OUT_DIR\").unwrap(); std::fs::write(out + \"/gen.rs\", format!(\"pub const G: &str = {:?};\", my_lib::word())).unwrap(); println!(\"cargo:rerun-if-changed=build.rs\"); }",
            ),
            (
                "app/src/main.rs",
                "include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\")); my_pm::make!(); fn main() { println!(\"{G} {} {} {}\", my_lib::word(), made(), c::word()) }",
            ),
            ("app/src/bin/other-bin.rs", &format!("fn main() {{ println!(\"{word}\") }}")),
            ("app/tests/it.rs", &format!("#[test] fn it() {{ assert_eq!(my_lib::word(), \"{word}\") }}")),
            ("app/examples/my-ex.rs", &format!("fn main() {{ println!(\"{word}\") }}")),
            ("app/benches/b.rs", "fn main() { my_lib::word(); }"),
            ("lib/src/lib.rs", &format!("pub fn word() -> &'static str {{ \"{word}\" }}")),
            ("c/src/lib.rs", &format!("pub fn word() -> &'static str {{ \"{word}\" }}")),
            (
                "pm/src/lib.rs",
                &format!(
                    "#[proc_macro] pub fn make(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{ \"fn made() -> &'static str {{ \\\"{word}\\\" }}\".parse().unwrap() }}"
                ),
            ),
        ],
    );
}

fn cargo(root: &Path, words: &str) -> Command {
    let mut command = clean("cargo", root);
    command.args(words.split(' ')).arg("--offline").env("CARGO_TERM_COLOR", "never");
    command
}

fn learn(all: &BTreeMap<Vec<u8>, PathBuf>) -> UnitLocator {
    UnitLocator::new(Layout::learn(all.keys().map(Vec::as_slice)))
}

fn host(root: &Path) -> String {
    let (text, _) = succeed(clean("rustc", root).arg("-vV"));
    larder_cargo::linker::Rustc::parse(&text).unwrap().host
}

#[test]
fn every_file_has_a_class_and_shared_ones_are_never_written_into() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("w");
    let triple = host(temp.path());
    let commands = [
        "build --all-targets",
        "check --all-targets",
        "doc --no-deps",
        "build --profile ci",
        &format!("build --bins --target {triple}"),
    ];
    let build = || commands.iter().for_each(|words| drop(succeed(&mut cargo(&root, &format!("{words} -q")))));
    sources(&root, "one");
    build();

    let all = files(&root.join("target"));
    let locator = learn(&all);
    let class = |path: &Vec<u8>| FileClass::of(path, locator.layout());
    let named = |wanted: FileClass| {
        all.keys().filter(|path| class(path) == wanted).map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(named(FileClass::Unknown), [""; 0]);
    for root in ["debug", "ci", &format!("{triple}/debug")] {
        for (wanted, names) in [
            (FileClass::Executable, vec!["my-app", "other-bin"]),
            (FileClass::Mutable, vec!["my-app.d", "my-app.dwp"]),
            (FileClass::Lock, vec![".cargo-lock"]),
        ] {
            for name in names {
                let path = format!("{root}/{name}");
                assert!(named(wanted).contains(&path), "{path} is not {wanted:?}");
            }
        }
    }
    for (wanted, path) in [
        (FileClass::Executable, "debug/libc.so"),
        (FileClass::Executable, "debug/examples/my-ex"),
        (FileClass::Immutable, "debug/libc.a"),
        (FileClass::Immutable, "debug/deps/libc.rlib"),
        (FileClass::Mutable, "doc/my_lib/index.html"),
    ] {
        assert!(named(wanted).contains(&path.to_owned()), "{path} is not {wanted:?}");
    }
    // Only documentation belongs to nobody.
    let shared: Vec<_> =
        all.keys().filter(|path| locator.locate(path) == Location::Shared && !path.starts_with(b"doc/")).collect();
    assert!(shared.is_empty(), "{shared:?}");

    let witnesses = Witnesses::new(temp.path(), all.iter().filter(|(path, _)| class(path).may_share(true)));
    assert!(witnesses.len() > 100);
    sources(&root, "another and longer one");
    build();
    assert_eq!(witnesses.rewritten(), [""; 0]);
}

fn output(program: &Path) -> String {
    succeed(&mut Command::new(program)).0
}

/// Leaves out one unit after the other and sees cargo make each again.
fn every_unit_comes_back(root: &Path, build: &dyn Fn() -> (String, String)) {
    sources(root, "one");
    build();
    let target = root.join("target");
    let all = files(&target);
    let locator = learn(&all);
    let mut units: BTreeMap<UnitId, &[u8]> = BTreeMap::new();
    let mut others: BTreeSet<&[u8]> = BTreeSet::new();
    for path in all.keys() {
        match locator.locate(path) {
            Location::Unit { id, .. } => drop(units.insert(id, path)),
            Location::Incremental { .. } | Location::Unhashed { .. } | Location::Droppable => drop(others.insert(path)),
            Location::Shared => panic!("{}", path.escape_ascii()),
        }
    }
    assert!(units.len() > 12, "{units:?}");
    let program = target.join("debug/my-app");
    let expected = "one one one one\n";
    assert_eq!(output(&program), expected);
    let check = |what: &str, damaged: Vec<&[u8]>, all_back: bool| {
        let gone = locator.leave_out(damaged, all.keys().map(Vec::as_slice)).unwrap();
        for path in &gone {
            drop(fs::remove_file(&all[*path]));
        }
        build();
        assert_eq!(output(&program), expected, "{what}");
        for path in gone.iter().filter(|_| all_back) {
            assert!(all[*path].exists(), "{what}: {} did not come back", path.escape_ascii());
        }
        let (_, again) = build();
        assert!(!again.contains("Compiling") && !again.contains("Dirty"), "{what}: {again}");
    };
    for (id, path) in &units {
        check(&id.to_string(), vec![path], true);
    }
    // Incremental sessions get new names, and cargo does not miss `.d` files of `deps/`.
    check("all that may be lost alone", others.into_iter().collect(), false);
    assert!(target.join("debug/my-app.d").exists() && target.join("debug/libc.so").exists());
}

#[test]
fn any_unit_may_be_left_out() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    every_unit_comes_back(root, &|| succeed(&mut cargo(root, "build --all-targets")));
}

#[test]
fn any_unit_may_be_left_out_in_the_new_layout() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    let words = "+nightly -Zbuild-dir-new-layout build --all-targets";
    sources(root, "zero");
    if !cargo(root, words).output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no nightly cargo that knows -Zbuild-dir-new-layout");
        return;
    }
    every_unit_comes_back(root, &|| succeed(&mut cargo(root, words)));
    let all = files(&root.join("target"));
    let locator = learn(&all);
    let unknown: Vec<_> =
        all.keys().filter(|path| FileClass::of(path, locator.layout()) == FileClass::Unknown).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let archives = all
        .keys()
        .filter(|path| path.ends_with(b"/out/libc.a") && FileClass::of(path, locator.layout()) == FileClass::Immutable);
    assert!(archives.count() > 0);
    assert!(
        all.keys()
            .filter(|path| path.ends_with(b"/out/gen.rs"))
            .all(|path| FileClass::of(path, locator.layout()) == FileClass::Mutable)
    );
}
