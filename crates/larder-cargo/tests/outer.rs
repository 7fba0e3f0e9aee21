//! What a real `cargo run` adds to the environment, held against what `outer.rs` takes away.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "shared with tests that look into target directories")]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use larder_cargo::outer::variables_of_outer_cargo_run;
use support::{clean, succeed, write};

fn variables(text: &str) -> BTreeMap<OsString, OsString> {
    text.split_terminator('\0')
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// The environment of a program under `cargo run`, cleaned, and of one that was started without cargo.
fn both(root: &Path, env: &[(&str, &str)]) -> (BTreeMap<OsString, OsString>, BTreeMap<OsString, OsString>) {
    let (outer, _) = succeed(clean("cargo", root).args(["run", "-q", "--offline"]).envs(env.iter().copied()));
    let (plain, _) = succeed(clean("env", root).arg("-0").envs(env.iter().copied()));
    let mut outer = variables(&outer);
    let mut plain = variables(&plain);
    let cleaning = variables_of_outer_cargo_run(outer.clone());
    assert!(cleaning.remove.contains(&"CARGO_MANIFEST_DIR".into()), "{cleaning:?}");
    outer.retain(|key, _| !cleaning.remove.contains(key));
    outer.extend(cleaning.set);
    // rustup spells these out, and an inner cargo finds the same without them; `_` is the shell's.
    for name in ["CARGO_HOME", "RUSTUP_HOME", "PATH", "_"] {
        outer.remove(std::ffi::OsStr::new(name));
        plain.remove(std::ffi::OsStr::new(name));
    }
    (outer, plain)
}

#[test]
fn nothing_of_cargo_run_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let main = "fn main() { std::env::vars_os().for_each(|(key, value)| print!(\"{}={}\\0\", key.display(), value.display())) }";
    let manifest = "[package]\nname = 'larder'\nedition = '2021'\n[workspace]\n";
    write(temp.path(), &[("Cargo.toml", manifest), ("src/main.rs", main)]);
    let elsewhere = temp.path().join("elsewhere");
    let target = elsewhere.to_str().unwrap();
    for env in [vec![], vec![("LD_LIBRARY_PATH", "/opt/lib"), ("CARGO_TARGET_DIR", target), ("RUSTFLAGS", "--cfg x")]] {
        let (cleaned, plain) = both(temp.path(), &env);
        assert_eq!(cleaned, plain);
    }
}
