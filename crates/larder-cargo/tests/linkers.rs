//! What linkers really do to a file with a second name, held against what `linker.rs` decides.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[path = "support/mod.rs"]
mod support;
#[path = "support/witnesses.rs"]
mod witnesses;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use larder_cargo::config::Config;
use larder_cargo::linker::{Linker, Question, Rustc, decide};
use larder_cargo::{FileClass, Layout};
use support::{clean, files, succeed, write};
use witnesses::Witnesses;

/// Sources that put `word` into every kind of linker output.
fn sources(root: &Path, word: &str) {
    write(
        root,
        &[
            (
                "src/main.rs",
                &format!(
                    "fn main() {{ println!(\"{word}\"); }}\n#[test] fn unit() {{ assert_ne!(\"{word}\", \"\"); eprintln!(\"{word}\"); }}"
                ),
            ),
            ("build.rs", &format!("fn main() {{ println!(\"cargo:rustc-env=WORD={word}\"); }}")),
            ("tests/it.rs", &format!("#[test] fn it() {{ eprintln!(\"{word}\"); pm::word!(); }}")),
            (
                "pm/src/lib.rs",
                &format!(
                    "#[proc_macro] pub fn word(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{ \"let _ = \\\"{word}\\\";\".parse().unwrap() }}"
                ),
            ),
        ],
    );
}

fn decided(root: &Path, words: &[OsString], env: &[(&str, &str)]) -> Linker {
    let lookup = |name: &str| match env.iter().find(|(key, _)| *key == name) {
        Some((_, value)) => Some(OsString::from(value)),
        None => ["HOME", "CARGO_HOME"].contains(&name).then(|| std::env::var_os(name)).flatten(),
    };
    let config = Config::load(root, words, &lookup, &|path| fs::read(path).ok());
    let rustc = Rustc::parse(&succeed(clean("rustc", root).arg("-vV")).0).expect("`rustc -vV` as ever");
    let run = |words: &[&OsStr]| {
        clean(words[0], root).args(&words[1..]).output().ok().filter(|out| out.status.success()).map(|out| out.stdout)
    };
    decide(&Question { command: words, env: &lookup, config: &config, rustc: &rustc, run: &run })
}

/// Links twice, with an edit between, and gives what was decided and which linker outputs were written into.
fn measure(name: &str, words: &[&str], env: &[(&str, &str)]) -> (Linker, Vec<String>) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("project");
    write(
        &root,
        &[
            (
                "Cargo.toml",
                "[package]\nname = 'lk'\nedition = '2021'\n[dependencies]\npm = { path = 'pm' }\n[workspace]\n[profile.dev]\ndebug = 0\n",
            ),
            ("pm/Cargo.toml", "[package]\nname = 'pm'\nedition = '2021'\n[lib]\nproc-macro = true\n"),
        ],
    );
    let build =
        || succeed(clean(words[0], &root).args(&words[1..]).env("CARGO_INCREMENTAL", "0").envs(env.iter().copied()));
    sources(&root, "one");
    build();
    let target = root.join("target");
    let all = files(&target);
    let layout = Layout::learn(all.keys().map(Vec::as_slice));
    let witnesses = Witnesses::new(
        temp.path(),
        all.iter().filter(|(path, _)| FileClass::of(path, &layout) == FileClass::Executable),
    );
    // The program and its test, the integration test, the build script, the proc-macro; three of them under two names.
    assert!(witnesses.len() >= 6, "{name}: {} linker outputs", witnesses.len());
    sources(&root, "another and longer one");
    build();
    let rewritten = witnesses.rewritten().into_iter().map(str::to_owned).collect();
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    (decided(&root, &words, env), rewritten)
}

fn has(program: &str) -> bool {
    let there = std::process::Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    assert!(
        there || std::env::var_os("LARDER_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{program} is missing and LARDER_REQUIRE_ALL=1"
    );
    if !there {
        eprintln!("SKIPPED: {program} is not installed");
    }
    there
}

const TEST: [&str; 5] = ["cargo", "test", "--no-run", "--offline", "-q"];

#[test]
fn the_default_replaces() {
    let (linker, rewritten) = measure("default", &TEST, &[]);
    assert!(linker.replaces(), "{linker}");
    assert_eq!(rewritten, [""; 0]);
}

#[test]
fn bfd_replaces() {
    if !has("ld.bfd") {
        return;
    }
    let (linker, rewritten) = measure("bfd", &TEST, &[("RUSTFLAGS", "-C link-arg=-fuse-ld=bfd")]);
    assert_eq!((linker.replaces(), linker.name()), (true, "bfd"));
    assert_eq!(rewritten, [""; 0]);
}

#[test]
fn mold_rewrites() {
    if !has("mold") {
        return;
    }
    let (linker, rewritten) = measure("mold", &TEST, &[("RUSTFLAGS", "-C link-arg=-fuse-ld=mold")]);
    assert!(matches!(linker, Linker::Rewrites { .. }), "{linker}");
    assert!(rewritten.iter().any(|path| path.contains("deps/it-")), "{rewritten:?}");
}

#[test]
fn mold_run_rewrites() {
    if !has("mold") {
        return;
    }
    let words: Vec<&str> = ["mold", "-run"].into_iter().chain(TEST).collect();
    let (linker, rewritten) = measure("mold -run", &words, &[]);
    assert!(matches!(linker, Linker::Rewrites { .. }), "{linker}");
    assert!(rewritten.iter().any(|path| path.contains("deps/it-")), "{rewritten:?}");
}
