//! Reasons held against a real cargo: one change after the other, and what is said of it.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[path = "support/listing.rs"]
#[expect(dead_code, reason = "shared with tests of other sides of the table")]
mod listing;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use larder_cargo::table::{Reason, Seen};
use larder_cargo::{Unit, UnitTable};
use support::{clean, succeed, write};

const MANIFEST: &str = "[package]\nname = 'app'\nversion = '0.1.0'\nedition = '2021'\n[dependencies]\nlib = { path = 'lib' }\n[features]\nf = []\n";
const LIB: &str = "[package]\nname = 'lib'\nversion = '0.1.0'\nedition = '2021'\n";

fn sources(root: &Path) {
    write(
        root,
        &[
            ("Cargo.toml", MANIFEST),
            ("src/main.rs", "fn main() { println!(\"{:?} {}\", option_env!(\"WORD\"), lib::word()) }"),
            ("lib/Cargo.toml", LIB),
            ("lib/build.rs", "fn main() { println!(\"cargo:rerun-if-changed=data\") }"),
            ("lib/data/file", "data"),
            ("lib/src/lib.rs", "pub fn word() -> u8 { 1 }"),
            ("lib/src/unused.rs", ""),
        ],
    );
}

struct Job<'a> {
    root: &'a Path,
    before: UnitTable,
}

impl Job<'_> {
    fn build(&self, words: &str, env: &[(&str, &str)]) -> UnitTable {
        let mut command = clean("cargo", self.root);
        command.args(words.split(' ')).args(["--offline", "-q"]).env_remove("WORD").envs(env.iter().copied());
        succeed(&mut command);
        listing::table(self.root, &self.root.join("target"), &[("app", "w"), ("lib", "w/lib")])
    }

    /// Builds again; gives the reasons by the target's name.
    fn why(&mut self, words: &str, env: &[(&str, &str)], changed: &[&str]) -> BTreeMap<String, Vec<Reason>> {
        let after = self.build(words, env);
        let changed: Vec<_> = changed.iter().map(|name| self.root.join(name)).collect();
        let seen = |path: &Path| match changed.iter().any(|changed| changed.starts_with(path)) {
            true if path.exists() => Seen::Changed,
            true => Seen::Missing,
            false => Seen::Same,
        };
        let short = |unit: &Unit| unit.target.clone();
        let found = after.why(&self.before, &seen);
        let reasons = found.into_iter().map(|why| (short(why.unit), why.reasons)).collect();
        self.before = after;
        reasons
    }
}

fn expected(reasons: &[(&str, &[Reason])]) -> BTreeMap<String, Vec<Reason>> {
    reasons.iter().map(|(target, reasons)| ((*target).to_owned(), reasons.to_vec())).collect()
}

const RUN: &str = "run-build-script-build-script-build";
const SCRIPT: &str = "build-script-build-script-build";

#[test]
fn every_change_has_its_reason() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap().join("w");
    let mut job = Job { root: &root, before: UnitTable::default() };
    let lib = || "lib".to_owned();
    sources(&root);

    let first = job.why("build", &[], &[]);
    assert_eq!(first.len(), 4);
    assert!(first.values().all(|reasons| *reasons == [Reason::NeverBuilt]));
    assert_eq!(job.why("build", &[], &[]), BTreeMap::new());

    fs::write(root.join("src/main.rs"), "fn main() { println!(\"{:?}\", (option_env!(\"WORD\"), lib::word())) }")
        .unwrap();
    let changed = Reason::ChangedFile(root.join("src/main.rs"));
    assert_eq!(job.why("build", &[], &["src/main.rs"]), expected(&[("bin-app", &[changed])]));

    fs::write(root.join("lib/data/file"), "other").unwrap();
    assert_eq!(
        job.why("build", &[], &["lib/data/file"]),
        expected(&[
            (RUN, &[Reason::ChangedFile(root.join("lib/data"))]),
            ("lib-lib", &[Reason::BuildScriptRerun]),
            ("bin-app", &[Reason::DependencyRebuilt(lib())]),
        ])
    );

    let env = Reason::EnvChanged { name: "WORD".to_owned(), old: None, new: Some("x".to_owned()) };
    let word = [("WORD", "x")];
    assert_eq!(job.why("build", &word, &[]), expected(&[("bin-app", &[env])]));

    let features = Reason::FeaturesChanged { old: vec![], new: vec!["f".to_owned()] };
    assert_eq!(job.why("build --features f", &word, &[]), expected(&[("bin-app", &[features])]));

    let flags = || Reason::RustflagsChanged { old: vec![], new: vec!["-Cdebug-assertions".to_owned()] };
    let with_flags = [("WORD", "x"), ("RUSTFLAGS", "-Cdebug-assertions")];
    assert_eq!(
        job.why("build --features f", &with_flags, &[]),
        expected(&[
            (SCRIPT, &[flags()]),
            (RUN, &[flags(), Reason::DependencyChanged("build_script_build".to_owned())]),
            ("lib-lib", &[flags(), Reason::BuildScriptRerun]),
            ("bin-app", &[flags(), Reason::DependencyChanged(lib())]),
        ])
    );

    // A check is no build that changed: there was none.
    let check = job.why("check --features f", &word, &[]);
    assert_eq!(check, expected(&[("lib-lib", &[Reason::NeverBuilt]), ("bin-app", &[Reason::NeverBuilt])]));

    fs::write(root.join("Cargo.toml"), MANIFEST.replace("0.1.0", "0.2.0")).unwrap();
    assert_eq!(job.why("build --features f", &word, &[]), expected(&[("bin-app", &[Reason::IdentityChanged])]));

    fs::write(root.join("lib/build.rs"), "fn main() {}").unwrap();
    let without = job.why("build --features f", &word, &["lib/build.rs"]);
    assert_eq!(without[SCRIPT], [Reason::ChangedFile(root.join("lib/build.rs"))]);
    assert!(without[RUN].contains(&Reason::DependencyRebuilt("build_script_build".to_owned())));
    // Cargo notices in the next build only that the script no longer says what it needs.
    assert!(job.why("build --features f", &word, &[])[RUN].contains(&Reason::WatchedChanged));
    fs::remove_file(root.join("lib/src/unused.rs")).unwrap();
    assert_eq!(job.why("build --features f", &word, &[]), BTreeMap::new());
    fs::write(root.join("lib/src/new.rs"), "").unwrap();
    let newer = job.why("build --features f", &word, &[]);
    assert!(
        matches!(&newer[RUN][..], [Reason::NewestFileChanged { new, .. }] if new.ends_with("(src/new.rs)")),
        "{newer:?}"
    );
}
