//! What of CARGO_HOME a build without a network needs, and no more.
//!
//! Measured with cargo 1.95: of a registry `config.json`, the index entries of the packages that `Cargo.lock` names and
//! their `.crate` files; `registry/src` and `git/checkouts` are made again from these. Of a registry whose index is
//! a git repository all of that repository, since entries are trusted only beside the commit that they came from. Of a
//! git dependency its whole database. Of installed tools the programs, and cargo's two lists of them.
//! Configuration and credentials are never part of it, nor are the programs that rustup put in `bin`.
//!
//! Some files mean nothing without others: a git database, a registry's git index, and the tools with cargo's lists
//! of them. Each such *group* is kept, left out and added whole ([`group`]).

use crate::key::{self, KeyPart};
use crate::table::Lock;
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Cargo's lists of installed tools; in the order in which they are written before the programs.
pub const TOOL_LISTS: [&str; 2] = [".crates.toml", ".crates2.json"];
/// The name of the group of installed tools.
pub const TOOLS: &str = "bin";
/// The hash at the end of a registry's or a git database's folder.
const HASH: usize = 16;

/// What one lock file needs.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// Names of `.crate` files.
    crates: BTreeSet<String>,
    /// Index entries below `.cache`.
    entries: BTreeSet<String>,
    /// The folders that lead to them.
    folders: BTreeSet<String>,
    /// Names of git databases without their hash, in lower case.
    repositories: BTreeSet<String>,
    /// Installed programs; `None` for any.
    tools: Option<BTreeSet<String>>,
}

impl Needed {
    /// What this lock file's packages need, and the programs in `tools`, which is what `.crates.toml` holds.
    pub fn of(lock: &Lock, tools: Option<&[u8]>) -> Self {
        let mut needed = Self { tools: Some(tools.map(programs).unwrap_or_default()), ..Self::default() };
        for (name, version, source) in lock.sourced() {
            if let Some(url) = source.strip_prefix("git+") {
                needed.repositories.insert(repository(url));
                continue;
            }
            needed.crates.insert(format!("{name}-{version}.crate"));
            let entry = index_entry(&name.to_lowercase());
            for (slash, _) in entry.match_indices('/') {
                needed.folders.insert(entry[..slash].to_owned());
            }
            needed.entries.insert(entry);
        }
        needed
    }

    /// The same, with whatever tools there are.
    #[must_use]
    pub fn with_all_tools(mut self) -> Self {
        self.tools = None;
        self
    }

    /// Whether nothing is needed, so that CARGO_HOME need not be looked at.
    pub fn is_empty(&self) -> bool {
        self.crates.is_empty() && self.repositories.is_empty() && self.tools.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// The `.crate` files, in the folder of a registry below `registry/cache`.
    pub fn crates(&self) -> impl Iterator<Item = &str> {
        self.crates.iter().map(String::as_str)
    }

    /// The index entries and what goes with them, in the folder of a registry below `registry/index`.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|entry| format!(".cache/{entry}")).chain([String::from("config.json")])
    }

    /// Whether the file or folder at this path below CARGO_HOME is needed, or leads to what is.
    pub fn has(&self, path: &str) -> bool {
        let tools = self.tools.as_ref();
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["registry" | "git"] | ["registry", "cache" | "index"] | ["git", "db"] => true,
            ["registry" | "git", "CACHEDIR.TAG"] | ["registry", "cache" | "index", _] => true,
            ["registry", "cache", _, file] => self.crates.contains(*file),
            ["registry", "index", _, "config.json" | ".cache"] => true,
            ["registry", "index", _, ".cache", entry @ ..] => {
                let entry = entry.join("/");
                self.entries.contains(&entry) || self.folders.contains(&entry)
            }
            // Nobody wants the gigabyte of history of the public one, which cargo gave up for another protocol.
            ["registry", "index", index, ".git", ..] => !index.starts_with("github.com-"),
            ["git", "db", database, ..] => {
                let name = database.len().checked_sub(HASH + 1).and_then(|end| database.get(..end));
                name.is_some_and(|name| self.repositories.contains(&name.to_lowercase()))
            }
            [list] if TOOL_LISTS.contains(list) => tools.is_none_or(|tools| !tools.is_empty()),
            ["bin"] => tools.is_none_or(|tools| !tools.is_empty()),
            ["bin", program] => tools.is_none_or(|tools| tools.contains(*program)),
            _ => false,
        }
    }

    /// Which of these files are to be added to a CARGO_HOME, given which of them stand there: what is needed and
    /// missing; of a group nothing where any of it stands.
    pub fn missing(&self, paths: &[Vec<u8>], standing: &[bool]) -> Vec<bool> {
        let paths: Vec<Option<&str>> = paths.iter().map(|path| std::str::from_utf8(path).ok()).collect();
        let begun: BTreeSet<&str> =
            paths.iter().zip(standing).filter(|(_, there)| **there).filter_map(|(path, _)| group((*path)?)).collect();
        let is_missing = |(path, there): (&Option<&str>, &bool)| {
            path.is_some_and(|path| !there && self.has(path) && group(path).is_none_or(|group| !begun.contains(group)))
        };
        paths.iter().zip(standing).map(is_missing).collect()
    }
}

/// The key of what this lock file needs, and the parts that it was made from. The compiler is one of them because each
/// release of cargo reads only its own kind of index entry, and writes those of others anew.
pub fn key(lock: &[u8], rustc: &str) -> (String, Vec<KeyPart>) {
    let part = |name, value| KeyPart { name, value, required: false };
    let parts = vec![part("rustc", rustc.to_owned()), part("lock", blake3::hash(lock).to_hex().to_string())];
    (key::render("cargo-home", &parts), parts)
}

/// The tools that `.crates.toml` names, as people read them.
pub fn tools(list: &[u8]) -> String {
    let table: Option<Table> = std::str::from_utf8(list).ok().and_then(|text| text.parse().ok());
    let installed = table.as_ref().and_then(|table| table.get("v1")?.as_table());
    installed.map(|installed| installed.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

/// Whether a file is worth a snapshot; what merely goes with such files is not.
pub fn is_worth_keeping(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    !matches!(file, "CACHEDIR.TAG" | "config.json") && !path.contains("/.cache/")
}

/// What stands for a file where two CARGO_HOMEs are compared: its group, unless that grows file by file, as the tools
/// do. `None` for what no build misses.
pub fn identity(path: &str) -> Option<&str> {
    match group(path) {
        Some(group) if group != TOOLS => Some(group),
        _ => (!path.ends_with("/CACHEDIR.TAG")).then_some(path),
    }
}

/// The group of a file: what is kept, left out and added with it. `None` for a file that stands for itself.
pub fn group(path: &str) -> Option<&str> {
    if path.starts_with("bin/") || TOOL_LISTS.contains(&path) {
        return Some(TOOLS);
    }
    let end_of = |part: usize| path.match_indices('/').nth(part).map_or(path.len(), |(at, _)| at);
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["git", "db", _, _, ..] => Some(&path[..end_of(2)]),
        ["registry", "index", _, ".git", ..] => Some(&path[..end_of(2)]),
        _ => None,
    }
}

/// Where the index keeps the entry of a package: `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcde`. Names are ASCII; any other
/// has no entry.
fn index_entry(name: &str) -> String {
    match name.len() {
        _ if !name.is_ascii() => name.to_owned(),
        length @ (0..=2) => format!("{length}/{name}"),
        3 => format!("3/{}/{name}", &name[..1]),
        _ => format!("{}/{}/{name}", &name[..2], &name[2..4]),
    }
}

/// The name that cargo gives a repository's database, without its hash: the last part of the address.
fn repository(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let address = url[..end].trim_end_matches('/');
    let last = address.rsplit('/').next().unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    if last.is_empty() { "_empty".to_owned() } else { last.to_lowercase() }
}

/// The programs that `.crates.toml` names.
fn programs(list: &[u8]) -> BTreeSet<String> {
    let table: Option<Table> = std::str::from_utf8(list).ok().and_then(|text| text.parse().ok());
    let installed = table.as_ref().and_then(|table| table.get("v1")?.as_table());
    let named = installed.into_iter().flat_map(|installed| installed.values()).filter_map(Value::as_array).flatten();
    named.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        [[package]]
        name = "app"
        version = "0.1.0"
        [[package]]
        name = "Inflector"
        version = "0.11.4"
        source = "registry+https://github.com/rust-lang/crates.io-index"
        [[package]]
        name = "log"
        version = "0.4.1"
        source = "sparse+https://example.org/index/"
        [[package]]
        name = "dep"
        version = "0.1.0"
        source = "git+https://example.org/some/Dep.git?branch=main#0123"
    "#;

    fn needed() -> Needed {
        let tools = b"[v1]\n'just 1.0.0 (registry+x)' = ['just']\n";
        Needed::of(&Lock::parse(LOCK.as_bytes()).unwrap(), Some(tools))
    }

    #[test]
    fn what_the_lock_file_names_is_needed_and_no_more() {
        let needed = needed();
        for path in [
            "registry/cache/index.crates.io-1949cf8c6b5b557f/Inflector-0.11.4.crate",
            "registry/index/index.crates.io-1949cf8c6b5b557f/.cache/in/fl/inflector",
            "registry/index/index.crates.io-1949cf8c6b5b557f/.cache/3/l",
            "registry/index/example.org-0123456789abcdef/.cache/3/l/log",
            "registry/index/example.org-0123456789abcdef/config.json",
            "registry/index/example.org-0123456789abcdef/.git/HEAD",
            "git/db/dep-0123456789abcdef/objects/pack",
            "git/db/Dep-0123456789abcdef",
            "bin/just",
            ".crates.toml",
        ] {
            assert!(needed.has(path), "{path}");
        }
        for path in [
            "config.toml",
            "credentials.toml",
            "credentials",
            "env",
            ".global-cache",
            ".package-cache",
            "registry/src",
            "registry/cache/index.crates.io-1949cf8c6b5b557f/Inflector-0.11.3.crate",
            "registry/cache/index.crates.io-1949cf8c6b5b557f/app-0.1.0.crate",
            "registry/index/github.com-1ecc6299db9ec823/.git",
            "git/checkouts",
            "git/db/other-0123456789abcdef",
            "git/db/dep",
            "git/db/dep-more-0123456789abcdef",
            "bin/cargo",
        ] {
            assert!(!needed.has(path), "{path}");
        }
        let none = Needed::of(&Lock::default(), None);
        assert!(none.is_empty() && !none.has("bin") && !none.has(".crates.toml") && !needed.is_empty());
    }

    #[test]
    fn groups_are_added_whole_or_not_at_all() {
        let needed = needed().with_all_tools();
        let paths = [
            ("registry/cache/x-0123456789abcdef/log-0.4.1.crate", false),
            ("registry/cache/x-0123456789abcdef/Inflector-0.11.4.crate", true),
            ("git/db/dep-0123456789abcdef/HEAD", false),
            ("git/db/dep-0123456789abcdef/objects/01", true),
            ("git/db/dep-fedcba9876543210/HEAD", false),
            ("bin/any", false),
            (".crates.toml", true),
        ];
        let (names, standing): (Vec<Vec<u8>>, Vec<bool>) =
            paths.iter().map(|(path, there)| (path.as_bytes().to_vec(), *there)).unzip();
        assert_eq!(needed.missing(&names, &standing), [true, false, false, false, true, false, false]);
    }

    #[test]
    fn repositories_are_named_as_cargo_names_them() {
        for (url, name) in [
            ("https://github.com/a/B.git#1", "b"),
            ("ssh://git@h/a/b?rev=1#1", "b"),
            ("file:///a/b/", "b"),
            ("https://h/", "h"),
        ] {
            assert_eq!(repository(url), name, "{url}");
        }
    }
}
