//! Which program `rustc` is, and everything that decides which compiler answers when it is asked.
//!
//! Asking `rustc -vV` takes as long as a whole restore, through rustup twice as long. Cargo asks once and believes the
//! answer for as long as the program has the same time (`.rustc_info.json`); [`evidence`] is larder's form of that
//! rule. Cargo is started by rustup and finds the toolchain in its environment; larder is not, so all that rustup
//! would look at is evidence: <https://rust-lang.github.io/rustup/overrides.html>.
//!
//! An answer that is wrong all the same names a snapshot wrongly. Cargo, which asks for itself, then builds again.

use crate::config::Config;
use crate::{Env, Read, key};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Files that choose a toolchain for the directory they are in and all below.
const TOOLCHAIN_FILES: [&str; 2] = ["rust-toolchain", "rust-toolchain.toml"];

/// The doors to the machine.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// Variables.
    pub env: Env<'a>,
    /// Files.
    pub read: Read<'a>,
    /// A path with every link resolved; `None` where nothing is.
    pub resolve: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// A text that changes whenever the file at a path, links followed, is another one or written to.
    pub identity: &'a dyn Fn(&Path) -> Option<String>,
    /// Whether the file at a path is a program of machine code, which reads no other file to know who it is.
    pub is_binary: &'a dyn Fn(&Path) -> bool,
    /// The names in a directory.
    pub list: &'a dyn Fn(&Path) -> Vec<OsString>,
}

/// The program that cargo would start as its compiler, and the `+toolchain` that rustup's form of it would take.
/// Source: the cargo book, `build.rustc`.
pub fn program<'c>(command: &'c [OsString], env: Env<'_>, config: &Config) -> (OsString, Option<&'c OsStr>) {
    let named = env("RUSTC").or_else(|| env("CARGO_BUILD_RUSTC")).or_else(|| configured(config));
    match named {
        // A compiler that is named is not rustup's to choose.
        Some(named) => (named, None),
        // rustup's rustc takes the same word as its cargo.
        None => ("rustc".into(), key::toolchain(command)),
    }
}

fn configured(config: &Config) -> Option<OsString> {
    let (named, base) = config.path(&["build", "rustc"])?;
    // With a slash it is a path beside the configuration, without one a program of the PATH.
    Some(if named.contains('/') { base.join(named).into() } else { named.into() })
}

/// All that decides what `program -vV` says when it is started in `dir`, as a text to compare; `None` where that
/// cannot be told.
pub fn evidence(dir: &Path, program: &OsStr, toolchain: Option<&OsStr>, machine: &Machine<'_>) -> Option<String> {
    let found = find(program, machine)?;
    // A script may start any compiler, by any file or variable.
    if !(machine.is_binary)(&found) {
        return None;
    }
    let mut lines = vec![line(&found, machine)?, format!("toolchain {toolchain:?}")];
    // rustup's programs are links to it, symbolic ones or hard ones.
    let beside = (machine.identity)(&found.with_file_name("rustup"));
    let linked = beside.is_some() && beside == (machine.identity)(&found);
    if linked || (machine.resolve)(&found)?.file_name()?.to_str()?.starts_with("rustup") {
        lines.extend(rustup(dir, machine)?);
    }
    Some(lines.join("\n"))
}

fn line(path: &Path, machine: &Machine<'_>) -> Option<String> {
    Some(format!("{path:?} {}", (machine.identity)(path)?))
}

/// The file that is started. A relative path would depend on who starts it: it is not followed.
fn find(program: &OsStr, machine: &Machine<'_>) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.is_absolute() {
        return Some(path.to_path_buf());
    }
    if path.components().count() != 1 {
        return None;
    }
    let search = (machine.env)("PATH")?;
    let mut found = std::env::split_paths(&search).map(|dir| dir.join(path));
    found.find(|path| (machine.identity)(path).is_some()).filter(|path| path.is_absolute())
}

/// What rustup looks at, and every compiler that it may start.
fn rustup(dir: &Path, machine: &Machine<'_>) -> Option<Vec<String>> {
    let named = (machine.env)("RUSTUP_TOOLCHAIN");
    let home = match (machine.env)("RUSTUP_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from((machine.env)("HOME")?).join(".rustup"),
    };
    // A toolchain can be the path of one, which none of the following tells of.
    let is_path = |name: &OsStr| name.as_encoded_bytes().contains(&b'/');
    if !home.is_absolute() || named.iter().any(|name| is_path(name)) {
        return None;
    }
    let mut lines = vec![format!("RUSTUP_TOOLCHAIN {named:?}")];
    let mut text = |path: &Path| {
        let content = (machine.read)(path);
        lines.push(format!("{path:?} {:?}", content.as_deref().map(blake3::hash)));
        content
    };
    text(&home.join("settings.toml"));
    for file in dir.ancestors().flat_map(|dir| TOOLCHAIN_FILES.map(|name| dir.join(name))) {
        // `path = "…"` chooses a compiler that stands anywhere.
        if text(&file).is_some_and(|content| content.windows(4).any(|word| word == b"path")) {
            return None;
        }
    }
    let toolchains = home.join("toolchains");
    let mut names = (machine.list)(&toolchains);
    names.sort_unstable();
    let compilers = names.iter().map(|name| toolchains.join(name).join("bin/rustc"));
    lines.extend(compilers.filter_map(|path| line(&path, machine)));
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A machine with rustup, two toolchains and a compiler beside them.
    struct Fake {
        env: BTreeMap<&'static str, &'static str>,
        files: BTreeMap<&'static str, &'static str>,
    }

    impl Fake {
        fn new() -> Self {
            Self {
                env: BTreeMap::from([("HOME", "/h"), ("PATH", "/h/bin:/usr/bin")]),
                files: BTreeMap::from([
                    ("/h/bin/rustc", "shim"),
                    ("/usr/bin/rustc", "debian's"),
                    ("/h/.rustup/settings.toml", "default = stable"),
                    ("/h/.rustup/toolchains/stable/bin/rustc", "1.95"),
                    ("/h/.rustup/toolchains/beta/bin/rustc", "1.96"),
                ]),
            }
        }

        fn evidence(&self, program: &str, toolchain: Option<&str>) -> Option<String> {
            let at = |path: &Path| self.files.get(path.to_str().unwrap()).copied();
            let list = |dir: &Path| {
                let below = self.files.keys().filter_map(|path| Path::new(path).strip_prefix(dir).ok());
                below.filter_map(|path| Some(path.components().next()?.as_os_str().to_owned())).collect()
            };
            let resolve = |path: &Path| {
                at(path).map(|file| if file == "shim" { "/h/bin/rustup".into() } else { path.to_path_buf() })
            };
            let machine = Machine {
                env: &|name| self.env.get(name).map(OsString::from),
                read: &|path| at(path).map(|text| text.as_bytes().to_vec()),
                resolve: &resolve,
                identity: &|path| at(path).map(str::to_owned),
                is_binary: &|path| at(path) != Some("script"),
                list: &list,
            };
            evidence(Path::new("/w/app"), OsStr::new(program), toolchain.map(OsStr::new), &machine)
        }
    }

    #[test]
    fn whatever_rustup_looks_at_is_evidence() {
        let before = Fake::new().evidence("rustc", None);
        assert!(before.is_some());
        assert_eq!(before, Fake::new().evidence("rustc", None));
        assert_ne!(before, Fake::new().evidence("rustc", Some("+beta")));
        for (path, text) in [
            ("/h/.rustup/settings.toml", "default = beta"),
            ("/h/.rustup/toolchains/stable/bin/rustc", "1.95.1"),
            ("/h/.rustup/toolchains/nightly/bin/rustc", "1.97"),
            ("/w/rust-toolchain.toml", "[toolchain]\nchannel = 'beta'"),
            ("/w/app/rust-toolchain", "beta"),
            ("/rust-toolchain", "beta"),
            ("/h/bin/rustc", "1.95, no shim any more"),
        ] {
            let mut fake = Fake::new();
            fake.files.insert(path, text);
            assert_ne!(before, fake.evidence("rustc", None), "{path}");
        }
        for (name, value) in [("RUSTUP_TOOLCHAIN", "beta"), ("RUSTUP_HOME", "/other"), ("PATH", "/usr/bin")] {
            let mut fake = Fake::new();
            fake.env.insert(name, value);
            assert_ne!(before, fake.evidence("rustc", None), "{name}");
        }
    }

    #[test]
    fn what_nothing_tells_of_is_asked_each_time() {
        let mut by_path = Fake::new();
        by_path.files.insert("/w/rust-toolchain.toml", "[toolchain]\npath = '/opt/rust'");
        assert_eq!(by_path.evidence("rustc", None), None);
        let mut named = Fake::new();
        named.env.insert("RUSTUP_TOOLCHAIN", "/opt/rust");
        assert_eq!(named.evidence("rustc", None), None);
        let mut script = Fake::new();
        script.files.insert("/h/bin/rustc", "script");
        assert_eq!(script.evidence("rustc", None), None);
        assert_eq!(Fake::new().evidence("bin/rustc", None), None);
        assert_eq!(Fake::new().evidence("/absent/rustc", None), None);
        let mut homeless = Fake::new();
        homeless.env.remove("HOME");
        assert_eq!(homeless.evidence("rustc", None), None);
    }

    #[test]
    fn a_hard_link_of_rustup_is_rustup() {
        let hard = |file: &'static str| {
            let mut fake = Fake::new();
            fake.files.insert("/h/bin/rustc", "proxy");
            fake.files.insert("/h/bin/rustup", "proxy");
            fake.files.insert("/w/rust-toolchain", file);
            fake.evidence("rustc", None)
        };
        assert!(hard("beta").is_some());
        assert_ne!(hard("beta"), hard("stable"));
    }

    #[test]
    fn another_compiler_depends_on_itself_alone() {
        let before = Fake::new().evidence("/usr/bin/rustc", None);
        let mut fake = Fake::new();
        fake.files.insert("/w/rust-toolchain", "beta");
        assert!(before.is_some());
        assert_eq!(before, fake.evidence("/usr/bin/rustc", None));
        fake.files.insert("/usr/bin/rustc", "upgraded");
        assert_ne!(before, fake.evidence("/usr/bin/rustc", None));
    }

    #[test]
    fn who_names_the_compiler() {
        let table = |text: &str, base: &str| crate::config::ConfigFile {
            path: PathBuf::new(),
            base: base.into(),
            table: text.parse().unwrap(),
        };
        let words = |command: &str| command.split(' ').map(OsString::from).collect::<Vec<_>>();
        let command = words("cargo +beta build");
        let none = |_: &str| None;
        let mut config = Config::default();
        assert_eq!(program(&command, &none, &config), ("rustc".into(), Some(OsStr::new("+beta"))));
        config.files.push(table("build.rustc = 'tools/rustc'", "/w"));
        assert_eq!(program(&command, &none, &config), ("/w/tools/rustc".into(), None));
        let env = |name: &str| (name == "RUSTC").then(|| OsString::from("mine"));
        assert_eq!(program(&command, &env, &config), ("mine".into(), None));
        config.files = vec![table("build.rustc = 'rustc-dev'", "/w")];
        assert_eq!(program(&command, &none, &config), ("rustc-dev".into(), None));
    }
}
