//! The repositories that scenarios begin with: as small as they can be.

use crate::step::Project;

/// The text of a manifest.
pub(crate) fn manifest(name: &str, more: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{more}")
}

/// What is dirty when the library of [`package`] is.
pub(crate) const PROGRAM: &[&str] = &["app lib", "app bin"];
/// What is dirty when its build script must run again.
pub(crate) const RUN: &[&str] = &["app run", "app lib", "app bin"];

/// What is dirty when the package is, with its script.
pub(crate) const SCRIPT: &[&str] = &["app script", "app run", "app lib", "app bin"];

/// One package: a library with a module, a program, a test.
pub(crate) fn package() -> Project {
    Project::new(
        "one two",
        &[
            ("app/Cargo.toml", &manifest("app", "")),
            ("app/.gitignore", "/target\n"),
            ("app/src/lib.rs", LIBRARY),
            ("app/src/part.rs", "pub const WORD: &str = \"two\";\n"),
            ("app/src/main.rs", "fn main() {\n    println!(\"{}\", app::line());\n}\n"),
            ("app/tests/whole.rs", "#[test]\nfn whole() {\n    assert!(app::line().len() > 3);\n}\n"),
        ],
    )
}

const LIBRARY: &str = "mod part;

/// A line.
pub fn line() -> String {
    format!(\"one {}\", part::WORD)
}

#[cfg(test)]
mod tests {
    #[test]
    fn inner() {}
}
";

/// A package whose library says what this expression gives.
pub(crate) fn saying(expression: &str, says: &'static str) -> Project {
    package()
        .with("app/src/lib.rs", &format!("pub fn line() -> String {{\n    {expression}.trim().to_owned()\n}}\n"))
        .without("app/src/part.rs")
        .saying(says)
}

/// A package with a build script, whose statements leave a `word`; the library says it.
pub(crate) fn scripted(statements: &str) -> Project {
    let script = format!(
        "use std::fs;\n\nfn main() {{\n    {statements}\n    println!(\"cargo::rustc-env=WORD={{}}\", word.trim());\n}}\n"
    );
    saying("env!(\"WORD\")", "plain").with("app/build.rs", &script).with("app/word.txt", "plain\n")
}

/// A workspace without a package at its root: a program, a library with a build script, a proc-macro that reads a file
/// of the package that uses it, and says nobody that it did.
pub(crate) fn workspace() -> Project {
    let tool = "[dependencies]\nword = { path = \"../word\" }\nmac = { path = \"../mac\" }\n";
    Project::new(
        "plain unseen",
        &[
            ("app/Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"tool\", \"word\", \"mac\"]\n"),
            ("app/.gitignore", "/target\n"),
            ("app/tool/Cargo.toml", &manifest("tool", tool)),
            ("app/tool/src/main.rs", "fn main() {\n    println!(\"{} {}\", word::word(), mac::read!());\n}\n"),
            ("app/tool/read.txt", "unseen\n"),
            ("app/word/Cargo.toml", &manifest("word", "")),
            (
                "app/word/build.rs",
                "fn main() {\n    println!(\"cargo::rerun-if-changed=word.txt\");\n    println!(\"cargo::rustc-env=WORD={}\", std::fs::read_to_string(\"word.txt\").unwrap().trim());\n}\n",
            ),
            ("app/word/word.txt", "plain\n"),
            ("app/word/src/lib.rs", "pub fn word() -> &'static str {\n    env!(\"WORD\")\n}\n"),
            ("app/mac/Cargo.toml", &manifest("mac", "[lib]\nproc-macro = true\n")),
            ("app/mac/src/lib.rs", MACRO),
        ],
    )
}

const MACRO: &str = "use proc_macro::TokenStream;

#[proc_macro]
pub fn read(_: TokenStream) -> TokenStream {
    let path = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap() + \"/read.txt\";
    let text = std::fs::read_to_string(path).unwrap_or(\"nothing\".into());
    format!(\"{:?}\", text.trim()).parse().unwrap()
}
";

/// Three repositories beside each other: `app` needs `protocol` by path, which needs `consensus` as if it came from a
/// registry; `app` says by `[patch]` that it is beside it.
pub(crate) fn siblings() -> Project {
    let app = "[workspace]\n[dependencies]\nprotocol = { path = \"../protocol\" }\n[patch.crates-io]\nconsensus = { path = \"../consensus\" }\n";
    Project::new(
        "value 11",
        &[
            ("app/Cargo.toml", &manifest("app", app)),
            ("app/.gitignore", "/target\n"),
            ("app/src/main.rs", "fn main() {\n    println!(\"value {}\", protocol::value());\n}\n"),
            ("protocol/Cargo.toml", &manifest("protocol", "[workspace]\n[dependencies]\nconsensus = \"0.1\"\n")),
            ("protocol/src/lib.rs", "pub fn value() -> u32 {\n    consensus::value() + 10\n}\n"),
            ("consensus/Cargo.toml", &manifest("consensus", "[workspace]\n")),
            ("consensus/src/lib.rs", "pub fn value() -> u32 {\n    1\n}\n"),
        ],
    )
}
