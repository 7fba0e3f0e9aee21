//! Real cargo projects, small enough to build in every test, and what cargo says about them.

use super::{Said, Sandbox, args, said};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A workspace: an application with a library, a build script, tests; a library; a proc-macro.
pub(crate) struct Project {
    pub(crate) dir: PathBuf,
    pub(crate) target: PathBuf,
}

const FILES: [(&str, &str); 11] = [
    (
        "Cargo.toml",
        r#"[workspace]
members = ["part", "mac"]

[package]
name = "app"
version = "0.1.0"
edition = "2021"

[dependencies]
part = { path = "part" }
mac = { path = "mac" }

[profile.dev]
debug = 0
"#,
    ),
    (
        "build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=word.txt\");\n    println!(\"cargo::rustc-env=WORD={}\", std::fs::read_to_string(\"word.txt\").unwrap().trim());\n}\n",
    ),
    ("word.txt", "plain\n"),
    (
        "src/lib.rs",
        "pub fn line() -> String {\n    format!(\"{} {} {}\", env!(\"WORD\"), part::value(), mac::answer!())\n}\n\n#[test]\nfn works() {\n    assert!(line().starts_with(env!(\"WORD\")));\n}\n",
    ),
    ("src/main.rs", "fn main() {\n    println!(\"{}\", app::line());\n}\n"),
    ("tests/whole.rs", "#[test]\nfn whole() {\n    assert!(app::line().ends_with(\"42\"));\n}\n"),
    ("part/Cargo.toml", "[package]\nname = \"part\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
    ("part/src/lib.rs", "pub fn value() -> u32 {\n    7\n}\n"),
    (
        "mac/Cargo.toml",
        "[package]\nname = \"mac\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[lib]\nproc-macro = true\n",
    ),
    (
        "mac/src/lib.rs",
        "use proc_macro::TokenStream;\n\n#[proc_macro]\npub fn answer(_: TokenStream) -> TokenStream {\n    \"42\".parse().unwrap()\n}\n",
    ),
    (".gitignore", "target\n"),
];

impl Project {
    /// Writes the sources of a new project, not built yet.
    pub(crate) fn new(dir: &Path) -> Self {
        for (name, text) in FILES {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { dir: dir.to_path_buf(), target: dir.join("target") }
    }

    /// A cargo command in it.
    pub(crate) fn cargo(&self, sandbox: &Sandbox, words: &[&str]) -> Command {
        let mut command = sandbox.command("cargo");
        command.current_dir(&self.dir).args(words);
        command
    }

    /// Makes all that a job would: library, program, tests.
    pub(crate) fn build(&self, sandbox: &Sandbox) {
        said(&mut self.cargo(sandbox, &["build"])).ok();
        said(&mut self.cargo(sandbox, &["test", "--no-run"])).ok();
    }

    /// `larder run` of a command in it.
    pub(crate) fn run(&self, sandbox: &Sandbox, options: &[&str], words: &[&str]) -> Command {
        sandbox.larder(args(["run", "--workspace"]).with(&self.dir).and(options).and(["--"]).and(words))
    }

    /// Replaces a part of a source file.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.dir.join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// What the program prints.
    pub(crate) fn output(&self, sandbox: &Sandbox) -> String {
        said(&mut sandbox.command(self.target.join("debug/app"))).ok().out.trim().to_owned()
    }

    /// Files of a folder of the target directory whose names begin and end so.
    pub(crate) fn files(&self, folder: &str, prefix: &str, suffix: &str) -> Vec<PathBuf> {
        find(&self.target, folder, prefix, suffix)
    }
}

/// Files of a folder of `target`, relative to it, whose names begin and end so.
pub(crate) fn find(target: &Path, folder: &str, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(target.join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
    let fits = |name: &String| name.starts_with(prefix) && name.ends_with(suffix);
    let names = names.map(|name| name.into_string().unwrap()).filter(fits);
    let mut found: Vec<PathBuf> = names.map(|name| Path::new(folder).join(name)).collect();
    found.sort();
    found
}

/// Packages that cargo compiled.
pub(crate) fn compiled(said: &Said) -> Vec<String> {
    let line = |line: &str| {
        line.trim_start().strip_prefix("Compiling ").and_then(|rest| rest.split(' ').next().map(str::to_owned))
    };
    said.err.lines().filter_map(line).collect()
}

/// Artefacts that cargo made anew, of what `--message-format=json` told.
pub(crate) fn stale(said: &Said) -> Vec<String> {
    let messages = said.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message["reason"] == "compiler-artifact" && message["fresh"] != true)
        .map(|message| message["target"]["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}
