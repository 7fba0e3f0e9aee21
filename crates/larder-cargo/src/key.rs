//! What a snapshot of a target directory must, and should, have in common with a build.
//!
//! Required parts decide whether a snapshot may be used at all: they are what cargo does not hash and yet believes in
//! (absolute paths, the linker), and the compiler, without which nothing fits. Ranking parts only say how near it is:
//! cargo hashes them itself and rebuilds what differs. Every part is readable text, so that a miss can be explained
//! by showing two lists.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::Env;
use crate::config::Config;
use crate::linker::{Linker, Rustc};
use crate::words::{cargo_words, file_name, subcommand};
use crate::workspace::Workspace;

/// Changes whenever [`render`] or the list of parts does, so that old and new keys never meet.
const VERSION: &str = "larder cargo key 1";

/// One input to a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPart {
    /// Unique within a list.
    pub name: &'static str,
    /// As people can read it.
    pub value: String,
    /// Whether a snapshot with another value must not be used.
    pub required: bool,
}

/// What the parts are made from.
#[derive(Debug, Clone, Copy)]
pub struct KeyInputs<'a> {
    /// The compiler.
    pub rustc: &'a Rustc,
    /// Where cargo works; its paths must be canonical already.
    pub workspace: &'a Workspace,
    /// CARGO_HOME, canonical, if there is one.
    pub cargo_home: Option<&'a Path>,
    /// The linker.
    pub linker: &'a Linker,
    /// The bytes of `Cargo.lock`, if there is one.
    pub lock: Option<&'a [u8]>,
    /// See [`rustflags`].
    pub rustflags: &'a str,
    /// See [`job_name`].
    pub job: &'a str,
}

/// The parts in the order in which they are best shown: required ones first.
pub fn parts(inputs: &KeyInputs<'_>) -> Vec<KeyPart> {
    let required = |name, value| KeyPart { name, value, required: true };
    let ranking = |name, value| KeyPart { name, value, required: false };
    let none = || "none".to_owned();
    vec![
        required("rustc", inputs.rustc.text.clone()),
        required("host", inputs.rustc.host.clone()),
        required("workspace", readable(&inputs.workspace.root)),
        required("target-dir", readable(&inputs.workspace.target_dir)),
        required("build-dir", inputs.workspace.build_dir.as_deref().map_or_else(none, readable)),
        required("cargo-home", inputs.cargo_home.map_or_else(none, readable)),
        required("linker", inputs.linker.name().to_owned()),
        ranking("lock", inputs.lock.map_or_else(none, |bytes| blake3::hash(bytes).to_hex().to_string())),
        ranking("rustflags", inputs.rustflags.to_owned()),
        ranking("job", inputs.job.to_owned()),
    ]
}

/// The names of required parts that differ, or that only one side has; empty when a snapshot with `theirs` may be
/// used for `ours`.
pub fn incompatible(ours: &[KeyPart], theirs: &[KeyPart]) -> Vec<&'static str> {
    let missing = |from: &[KeyPart], other: &[KeyPart]| -> Vec<&'static str> {
        let lacks = |part: &&KeyPart| {
            part.required && !other.iter().any(|their| their.name == part.name && their.value == part.value)
        };
        from.iter().filter(lacks).map(|part| part.name).collect()
    };
    let mut names = missing(ours, theirs);
    for name in missing(theirs, ours) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A short stable name, such as `cargo-build-1f0c9a4be2d7`, equal only for equal jobs and parts.
pub fn render(job: &str, parts: &[KeyPart]) -> String {
    let mut hasher = blake3::Hasher::new();
    // Lengths stand before the texts, so that no two lists run together into one.
    for text in [VERSION, job].into_iter().chain(parts.iter().flat_map(|part| [part.name, part.value.as_str()])) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let digest = hasher.finalize().to_hex();
    format!("{}-{}", sanitise(job), &digest[..12])
}

/// A short digest of named values, equal only for equal ones.
pub fn digest(values: &[(&str, &[u8])]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in values.iter().flat_map(|(name, value)| [name.as_bytes(), value]) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex()[..12].to_owned()
}

/// What of cargo's configuration decides what a build makes, as text to be digested: how it compiles and from which
/// sources. Where it downloads from and who it is there is left out, and so are the names of folders: they differ from
/// machine to machine.
pub fn configuration(config: &Config, home: Option<&Path>) -> String {
    const COUNTED: [&str; 10] = [
        "build",
        "env",
        "host",
        "patch",
        "paths",
        "profile",
        "resolver",
        "target",
        "target-applies-to-host",
        "unstable",
    ];
    const PLACES: [&str; 3] = ["target-dir", "build-dir", "jobs"];
    let mut text = String::new();
    for file in &config.files {
        // What stands in CARGO_HOME is the machine's; it counts as much.
        let kind = if home.is_some_and(|home| file.path.starts_with(home)) { "home" } else { "tree" };
        for name in COUNTED {
            let Some(value) = file.table.get(name) else { continue };
            let mut value = value.clone();
            if let Some(build) = value.as_table_mut().filter(|_| name == "build") {
                PLACES.iter().for_each(|place| drop(build.remove(*place)));
            }
            if value.as_table().is_none_or(|table| !table.is_empty()) {
                text += &format!("{kind} {name} {value:?}\n");
            }
        }
    }
    text
}

/// The job: what was said, else what GitHub calls it, else what the command does.
pub fn job_name(explicit: Option<&str>, env: Env<'_>, command: &[OsString]) -> String {
    if let Some(job) = explicit.filter(|job| !job.is_empty()) {
        return sanitise(job);
    }
    if let Some(job) = env("GITHUB_JOB").filter(|job| !job.is_empty()) {
        return sanitise(&job.to_string_lossy());
    }
    match (subcommand(command), command.first()) {
        (Some(subcommand), _) => sanitise(&format!("cargo-{subcommand}")),
        (None, Some(first)) => sanitise(file_name(first).unwrap_or("")),
        (None, None) => sanitise(""),
    }
}

/// The toolchain that a command asks rustup for, with its `+`: `+nightly` of `cargo +nightly build`.
pub fn toolchain(command: &[OsString]) -> Option<&OsStr> {
    // rustup looks at the first word only.
    cargo_words(command).first().map(OsString::as_os_str).filter(|word| word.as_encoded_bytes().starts_with(b"+"))
}

/// The flags that cargo would take, from the strongest source that has any.
pub fn rustflags(env: Env<'_>, config: &Config) -> String {
    if let Some(flags) = env("CARGO_ENCODED_RUSTFLAGS") {
        return flags.to_string_lossy().replace('\x1f', " ");
    }
    if let Some(flags) = env("RUSTFLAGS").or_else(|| env("CARGO_BUILD_RUSTFLAGS")) {
        return flags.to_string_lossy().into_owned();
    }
    match config.get(&["build", "rustflags"]) {
        Some((toml::Value::String(flags), _)) => flags.clone(),
        Some((toml::Value::Array(flags), _)) => {
            flags.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// Lower case letters, digits and single dashes; never empty.
fn sanitise(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    if out.is_empty() { "job".to_owned() } else { out }
}

/// A path as text that is equal only for equal paths, though it need not be UTF-8.
fn readable(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn list(root: &str, lock: &[u8], job: &str) -> Vec<KeyPart> {
        let rustc = Rustc::parse("rustc 1.95.0\nhost: h\nrelease: 1.95.0").unwrap();
        let target_dir = Path::new(root).join("target");
        let workspace = Workspace {
            root: root.into(),
            manifest: PathBuf::new(),
            build_dir: Some(target_dir.clone()),
            target_dir,
            lock: PathBuf::new(),
        };
        let linker = Linker::Replaces { name: "rust-lld".into(), why: String::new() };
        parts(&KeyInputs {
            rustc: &rustc,
            workspace: &workspace,
            cargo_home: None,
            linker: &linker,
            lock: Some(lock),
            rustflags: "",
            job,
        })
    }

    #[test]
    fn only_required_parts_forbid() {
        let ours = list("/w", b"a", "build");
        assert!(incompatible(&ours, &list("/w", b"b", "test")).is_empty());
        assert_eq!(incompatible(&ours, &list("/v", b"a", "build")), ["workspace", "target-dir", "build-dir"]);
        assert_eq!(incompatible(&ours, &ours[1..]), ["rustc"]);
        assert_eq!(incompatible(&ours[1..], &ours), ["rustc"]);
    }

    #[test]
    fn keys_are_short_and_stable() {
        let key = render("cargo-build", &list("/w", b"a", "cargo-build"));
        assert_eq!(key, render("cargo-build", &list("/w", b"a", "cargo-build")));
        assert!(key.starts_with("cargo-build-") && key.len() == 24, "{key}");
        assert_ne!(key, render("cargo-build", &list("/w", b"b", "cargo-build")));
    }

    #[test]
    fn jobs() {
        let words = |command: &str| command.split(' ').map(OsString::from).collect::<Vec<_>>();
        let none = |_: &str| None;
        assert_eq!(job_name(Some("Big Job!"), &none, &[]), "big-job");
        assert_eq!(
            job_name(None, &|name| (name == "GITHUB_JOB").then(|| "unit_tests".into()), &words("cargo b")),
            "unit-tests"
        );
        for (command, expected) in [
            ("cargo test --no-run", "cargo-test"),
            ("mold -run cargo +nightly build", "cargo-build"),
            ("./ci/Run.sh all", "run-sh"),
            ("/", "job"),
        ] {
            assert_eq!(job_name(None, &none, &words(command)), expected, "{command}");
        }
    }

    #[test]
    fn toolchains() {
        let words = |command: &str| command.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (command, expected) in [
            ("cargo +nightly build", Some("+nightly")),
            ("mold -run cargo +1.95.0 test", Some("+1.95.0")),
            ("cargo build +nightly", None),
            ("make +x", None),
        ] {
            assert_eq!(toolchain(&words(command)), expected.map(OsStr::new), "{command}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn paths_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let shown = |bytes: &[u8]| readable(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(shown(b"/a\xff"), "/a\\xff");
        assert_ne!(shown(b"/a\xff"), shown(b"/a\\xff"));
    }
}
