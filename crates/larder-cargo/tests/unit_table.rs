//! Unit tables held against target directories that a real cargo made, in both layouts.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[path = "support/listing.rs"]
mod listing;
#[path = "support/mod.rs"]
mod support;

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use larder_cargo::{Unit, UnitTable};
use listing::{table, unit};
use support::{clean, succeed, write};

/// A workspace `w` and a sibling `sib` beside it.
pub(crate) fn sources(temp: &Path) {
    let package = |name: &str, rest: &str| format!("[package]\nname = '{name}'\nedition = '2021'\n{rest}");
    let script = |lines: &str| {
        format!(
            "fn main() {{ let out = std::env::var(\"OUT_DIR\").unwrap(); std::fs::write(out + \"/gen.rs\", \"pub const G: u8 = 1;\").unwrap(); {lines} }}"
        )
    };
    write(
        temp,
        &[
            ("w/Cargo.toml", "[workspace]\nresolver = '2'\nmembers = ['app', 'lib', 'quiet']"),
            (
                "w/app/Cargo.toml",
                &package(
                    "my-app",
                    "[dependencies]\nmy-lib = { path = '../lib' }\nsib = { path = '../../sib' }\nquiet = { path = '../quiet' }\n[features]\ndefault = ['f']\nf = []\ng = []",
                ),
            ),
            ("w/lib/Cargo.toml", &package("my-lib", "")),
            ("w/quiet/Cargo.toml", &package("quiet", "")),
            ("sib/Cargo.toml", &package("sib", "")),
            (
                "w/app/build.rs",
                &script(
                    "println!(\"cargo:rerun-if-changed=data\"); println!(\"cargo:rerun-if-changed=../shared/x y.txt\"); println!(\"cargo:rerun-if-env-changed=FOO\");",
                ),
            ),
            ("sib/build.rs", &script("println!(\"cargo:rerun-if-env-changed=BAR\");")),
            ("w/quiet/build.rs", "fn main() {}"),
            (
                "w/app/src/main.rs",
                "include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\")); mod part; fn main() { println!(\"{G} {} {} {} {:?} {} {}\", include_str!(\"../../shared/x y.txt\"), my_lib::word(), sib::word(), option_env!(\"FOO\"), quiet::word(), part::P) }",
            ),
            ("w/app/src/part.rs", "pub const P: u8 = 1;"),
            ("w/app/tests/it.rs", "#[test] fn it() { assert_eq!(my_lib::word(), 1) }"),
            ("w/app/data/deep/file", "data"),
            ("w/shared/x y.txt", "shared"),
            ("w/lib/src/lib.rs", "pub fn word() -> u8 { 1 }"),
            ("w/quiet/src/lib.rs", "pub fn word() -> u8 { 1 }"),
            ("sib/src/lib.rs", "pub fn word() -> u8 { 1 }"),
        ],
    );
}

const PACKAGES: [(&str, &str); 4] = [("my-app", "w/app"), ("my-lib", "w/lib"), ("sib", "sib"), ("quiet", "w/quiet")];

fn cargo(root: &Path, words: &str) -> Command {
    let mut command = clean("cargo", root);
    command.args(words.split(' ')).args(["--offline", "-q"]).env("FOO", "foo").env_remove("BAR");
    command
}

const SCRIPT: &str = "build-script-build-script-build";
const RUN: &str = "run-build-script-build-script-build";

/// Everything that must hold of the table, whatever the layout.
fn check(temp: &Path, table: &UnitTable) {
    let at = |names: &[&str]| -> Vec<PathBuf> { names.iter().map(|name| temp.join(name)).collect() };
    let built = |unit: &Unit| unit.bytes > 100_000;
    let any = |_: &Unit| true;

    let app = unit(table, "my-app", "bin-my-app", built);
    // Cargo before 1.101 notes the shared file as rustc named it, `src/../../shared`: that path is watched too.
    let (dotted, plain): (Vec<_>, Vec<_>) =
        app.inputs.iter().cloned().partition(|path| path.components().any(|part| part == Component::ParentDir));
    assert!(dotted.is_empty() || dotted == at(&["w/app/src/../../shared/x y.txt"]), "{dotted:?}");
    assert_eq!(plain, at(&["w/app/src/main.rs", "w/app/src/part.rs", "w/shared/x y.txt"]));
    assert!(!app.watches_package);
    assert_eq!(app.env, [("FOO".to_owned(), Some("foo".to_owned()))]);
    assert_eq!(app.recipe.features, "[\"default\", \"f\"]");
    assert!(app.millis > 10 && app.millis < 600_000 && app.started > 1_700_000_000_000_000_000, "{app:?}");

    let lib = unit(table, "my-lib", "lib-my_lib", |unit| app.deps.contains(&unit.fingerprint));
    assert!(lib.local && !lib.watches_package && lib.deps.is_empty() && lib.env.is_empty());
    assert_eq!(lib.inputs, at(&["w/lib/src/lib.rs"]));
    assert_eq!((lib.id.root.as_slice(), lib.id.hash.len()), (b"debug".as_slice(), 16));

    // Its dependencies are other units of the table, by fingerprint.
    let mut names: Vec<_> = app
        .deps
        .iter()
        .zip(&app.dep_names)
        .map(|(hash, name)| {
            let of: Vec<_> = table.units.iter().filter(|unit| unit.fingerprint == *hash).collect();
            assert_eq!(of.len(), 1, "{name}");
            (name.as_str(), of[0].target.as_str())
        })
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [("build_script_build", RUN), ("my_lib", "lib-my_lib"), ("quiet", "lib-quiet"), ("sib", "lib-sib")]
    );

    let run = unit(table, "my-app", RUN, any);
    assert_eq!(run.inputs, at(&["w/app/../shared/x y.txt", "w/app/data", "w/shared/x y.txt"]));
    assert_eq!(run.env, [("FOO".to_owned(), Some("foo".to_owned()))]);
    assert!(run.local && !run.watches_package && run.started > 0);
    assert_eq!(run.deps, [unit(table, "my-app", SCRIPT, any).fingerprint]);
    assert_eq!(unit(table, "my-app", SCRIPT, any).inputs, at(&["w/app/build.rs"]));

    let run = unit(table, "sib", RUN, any);
    assert_eq!(run.env, [("BAR".to_owned(), None)]);
    assert!(run.local && run.inputs.is_empty() && !run.watches_package);
    let run = unit(table, "quiet", RUN, any);
    assert!(run.local && run.inputs.is_empty() && run.watches_package);
    assert!(table.units.iter().all(|unit| unit.fingerprint != 0 && unit.local && unit.recipe.rustc != 0));

    let json = serde_json::to_vec(table).unwrap();
    assert_eq!(serde_json::from_slice::<UnitTable>(&json).unwrap(), *table);
}

#[test]
fn todays_layout() {
    let temp = tempfile::tempdir().unwrap();
    let temp = temp.path().canonicalize().unwrap();
    sources(&temp);
    let root = temp.join("w");
    for words in ["build", "test --no-run", "doc --no-deps"] {
        succeed(&mut cargo(&root, words));
    }
    let table = table(&root, &root.join("target"), &PACKAGES);
    check(&temp, &table);
    let test = unit(&table, "my-app", "test-integration-test-it", |_| true);
    assert_eq!(test.inputs, [root.join("app/tests/it.rs")]);
    assert_eq!(test.deps.len(), 4);
    let doc = unit(&table, "my-lib", "doc-lib-my_lib", |_| true);
    assert!(doc.watches_package && doc.local && doc.inputs.is_empty() && doc.millis > 0);
    // A program and its second name are one file.
    let script = unit(&table, "quiet", SCRIPT, |_| true);
    let path = format!("target/debug/build/quiet-{}/build-script-build", script.id.hash);
    let program = std::fs::metadata(root.join(path)).unwrap().len();
    assert!(script.bytes > program && script.bytes < program * 3 / 2);

    // What only a newer cargo can read stands for the whole package.
    let app = unit(&table, "my-app", "bin-my-app", |unit| unit.bytes > 100_000).id.hash.clone();
    let dep_info = root.join(format!("target/debug/.fingerprint/my-app-{app}/dep-bin-my-app"));
    let mut bytes = std::fs::read(&dep_info).unwrap();
    bytes[5] += 1;
    std::fs::write(&dep_info, bytes).unwrap();
    let table = listing::table(&root, &root.join("target"), &PACKAGES);
    let app = unit(&table, "my-app", "bin-my-app", |unit| unit.id.hash == app);
    assert!(app.watches_package && app.local && app.inputs.is_empty());
}

#[test]
fn the_new_layout() {
    let temp = tempfile::tempdir().unwrap();
    let temp = temp.path().canonicalize().unwrap();
    sources(&temp);
    let root = temp.join("w");
    if !cargo(&root, "+nightly -Zbuild-dir-new-layout build").output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no nightly cargo that knows -Zbuild-dir-new-layout");
        return;
    }
    check(&temp, &table(&root, &root.join("target"), &PACKAGES));
}

#[test]
fn a_package_is_found_where_rustc_saw_it() {
    let temp = tempfile::tempdir().unwrap();
    let temp = temp.path().canonicalize().unwrap();
    sources(&temp);
    let root = temp.join("w");
    succeed(&mut cargo(&root, "build"));
    let packages: Vec<_> = PACKAGES.into_iter().flat_map(|(name, dir)| [(name, dir), (name, "elsewhere")]).collect();
    let expected = table(&root, &root.join("target"), &PACKAGES);
    assert_eq!(table(&root, &root.join("target"), &packages), expected);
    assert_eq!(table(&root, &root.join("target"), &[]), expected);
}

/// Changes one file after the other and holds what is predicted against what cargo builds.
fn foresee(temp: &Path, commands: &[&str]) {
    let root = temp.join("w");
    let build = || {
        for words in commands {
            succeed(&mut cargo(&root, words));
        }
        table(&root, &root.join("target"), &PACKAGES)
    };
    let name = |unit: &Unit| format!("{} {} {}", unit.package, unit.target, unit.id.hash);
    let mut before = build();
    assert_eq!(build(), before);
    for file in [
        "w/shared/x y.txt",
        "w/app/data/deep/file",
        "w/lib/src/lib.rs",
        "w/quiet/README.md",
        "sib/src/lib.rs",
        "sib/build.rs",
    ] {
        let touched = temp.join(file);
        let package = PACKAGES.iter().find(|(_, dir)| touched.starts_with(temp.join(dir))).map(|(name, _)| *name);
        let text = std::fs::read_to_string(&touched).unwrap_or_default();
        std::fs::write(&touched, text + "\n").unwrap();
        let dirty = before.dirty(&|input| touched.starts_with(input), &|name| package == Some(name));
        let predicted =
            before.predict(&|input| touched.starts_with(input), &|name| package == Some(name), None, &|_, _| false);
        let expected: Vec<_> =
            before.units.iter().zip(&dirty).filter(|(_, dirty)| **dirty).map(|(unit, _)| name(unit)).collect();
        let after = build();
        let again = after.units.iter().zip(&before.units).filter(|(new, old)| {
            assert_eq!(new.id, old.id);
            new.started != old.started
        });
        assert_eq!(again.map(|(unit, _)| name(unit)).collect::<Vec<_>>(), expected, "{file}");
        assert_eq!(predicted.units, expected.len());
        assert_eq!(u128::from(predicted.millis), before.cost(&dirty).as_millis());
        before = after;
    }
}

#[test]
fn what_is_predicted_is_what_cargo_builds() {
    let temp = tempfile::tempdir().unwrap();
    let temp = temp.path().canonicalize().unwrap();
    sources(&temp);
    foresee(&temp, &["build", "test --no-run", "doc --no-deps"]);
}

#[test]
fn what_is_predicted_is_what_cargo_builds_in_the_new_layout() {
    let temp = tempfile::tempdir().unwrap();
    let temp = temp.path().canonicalize().unwrap();
    sources(&temp);
    let words = "+nightly -Zbuild-dir-new-layout test --no-run";
    if !cargo(&temp.join("w"), words).output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no nightly cargo that knows -Zbuild-dir-new-layout");
        return;
    }
    foresee(&temp, &[words]);
}
