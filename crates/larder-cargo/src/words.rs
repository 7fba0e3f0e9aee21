//! A command's words, as far as cargo's command line can be understood without running it.
//!
//! Only what stands between `cargo` and a lone `--` is cargo's; what follows belongs to a test or a program.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Options of cargo that take the next word, seen before or after the subcommand, where that word could be mistaken
/// for another.
const WITH_VALUE: [&str; 6] = ["--config", "--color", "--manifest-path", "--target-dir", "-C", "-Z"];

/// The file name of a word, as text.
pub(crate) fn file_name(word: &OsStr) -> Option<&str> {
    Path::new(word).file_name()?.to_str()
}

fn is_cargo(word: &OsStr) -> bool {
    matches!(file_name(word), Some("cargo" | "cargo.exe"))
}

/// The words after `cargo`, up to a lone `--`; empty when the command does not name cargo.
pub(crate) fn cargo_words(command: &[OsString]) -> &[OsString] {
    let Some(at) = command.iter().position(|word| is_cargo(word)) else { return &[] };
    let rest = &command[at + 1..];
    &rest[..rest.iter().position(|word| word == "--").unwrap_or(rest.len())]
}

/// Every value of an option: `--name VALUE` and `--name=VALUE`.
pub(crate) fn values<'a>(words: &'a [OsString], name: &str) -> Vec<&'a OsStr> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == name {
            found.extend(words.next().map(OsString::as_os_str));
        } else if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(name)?.strip_prefix('=')) {
            found.push(OsStr::new(value));
        }
    }
    found
}

/// `test` for `cargo +nightly --config x test --no-run`.
pub fn subcommand(command: &[OsString]) -> Option<&str> {
    let mut words = cargo_words(command).iter();
    while let Some(word) = words.next() {
        let word = word.to_str()?;
        if WITH_VALUE.contains(&word) {
            words.next();
        } else if !word.starts_with(['-', '+']) {
            return Some(word);
        }
    }
    None
}

/// The triples that a command, the environment and the configuration ask to build for; empty means for the host.
pub fn targets(command: &[OsString], env: crate::Env<'_>, config: &crate::config::Config) -> Vec<String> {
    let given: Vec<String> = values(cargo_words(command), "--target")
        .into_iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    if !given.is_empty() {
        return given;
    }
    if let Some(value) = env("CARGO_BUILD_TARGET") {
        return vec![value.to_string_lossy().into_owned()];
    }
    match config.get(&["build", "target"]) {
        Some((toml::Value::String(one), _)) => vec![one.clone()],
        Some((toml::Value::Array(many), _)) => {
            many.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(command: &str) -> Vec<OsString> {
        command.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn subcommands() {
        for (command, expected) in [
            ("cargo test --no-run", Some("test")),
            ("mold -run /usr/bin/cargo +nightly --config a=1 -Z x build", Some("build")),
            ("cargo --version", None),
            ("make cargo-build", None),
        ] {
            assert_eq!(subcommand(&split(command)), expected, "{command}");
        }
    }

    #[test]
    fn values_stop_at_the_programs_own_words() {
        let command = split("cargo run --target-dir a --target-dir=b -- --target-dir c");
        assert_eq!(values(cargo_words(&command), "--target-dir"), ["a", "b"]);
        assert!(values(cargo_words(&split("make --target-dir x")), "--target-dir").is_empty());
    }
}
