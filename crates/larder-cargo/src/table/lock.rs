//! Lock files: which packages stood in one and stand in the other no more.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The packages of a `Cargo.lock`: versions and sources by name. Path packages have no source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    packages: BTreeMap<String, BTreeSet<(String, Option<String>)>>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
}

impl Lock {
    /// Parses a lock file of any version; `None` when it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let file: File = toml::from_str(std::str::from_utf8(text).ok()?).ok()?;
        let mut lock = Self::default();
        for Package { name, version, source } in file.package {
            lock.packages.entry(name).or_default().insert((version, source));
        }
        Some(lock)
    }

    /// Name, version and source of each package that has a source.
    pub fn sourced(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.packages.iter().flat_map(|(name, versions)| {
            versions.iter().filter_map(move |pair| {
                let (version, source) = (pair.0.as_str(), pair.1.as_deref()?);
                Some((name.as_str(), version, source))
            })
        })
    }

    /// Whether some package of this name stands here, but not in `now`. With several versions of a name, one gone
    /// is enough: units carry the name only, so it cannot be said whose they are.
    pub(super) fn lost(&self, name: &str, now: &Self) -> bool {
        let Some(then) = self.packages.get(name) else { return false };
        now.packages.get(name).is_none_or(|now| !then.is_subset(now))
    }

    /// Whether a package of this name stands here, and every one of them comes from crates.io.
    pub(super) fn is_public(&self, name: &str) -> bool {
        let public = |(_, source): &(String, Option<String>)| source.as_deref().is_some_and(is_crates_io);
        self.packages.get(name).is_some_and(|found| found.iter().all(public))
    }

    /// How many packages stand in `now`, but not here.
    pub(super) fn gained(&self, now: &Self) -> usize {
        let new = |(name, now): (&String, &BTreeSet<_>)| match self.packages.get(name) {
            Some(then) => now.difference(then).count(),
            None => now.len(),
        };
        now.packages.iter().map(new).sum()
    }
}

/// Both spellings that lock files have.
fn is_crates_io(source: &str) -> bool {
    matches!(source, "registry+https://github.com/rust-lang/crates.io-index" | "sparse+https://index.crates.io/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn lock(packages: &[(&str, &str, &str)]) -> Lock {
        let package = |(name, version, source): &(&str, &str, &str)| {
            let source = if source.is_empty() { String::new() } else { format!("source = '{source}'\n") };
            format!("[[package]]\nname = '{name}'\nversion = '{version}'\n{source}dependencies = ['x']\n\n")
        };
        let text: String = packages.iter().map(package).collect();
        Lock::parse(format!("version = 4\n\n{text}").as_bytes()).unwrap()
    }

    #[test]
    fn what_is_lost_and_gained() {
        let then =
            lock(&[("a", "1.0.0", REGISTRY), ("b", "1.0.0", REGISTRY), ("b", "2.0.0", REGISTRY), ("own", "0.1.0", "")]);
        let same_name = |now: &[(&str, &str, &str)], name: &str| {
            let now = lock(now);
            (then.lost(name, &now), then.gained(&now))
        };
        // Another version besides takes nothing away.
        assert_eq!(same_name(&[("a", "1.0.0", REGISTRY), ("a", "2.0.0", REGISTRY)], "a"), (false, 1));
        assert_eq!(same_name(&[("a", "1.0.1", REGISTRY)], "a"), (true, 1));
        assert_eq!(same_name(&[("a", "1.0.0", "git+https://x#1")], "a"), (true, 1));
        assert_eq!(same_name(&[("b", "1.0.0", REGISTRY)], "b"), (true, 0));
        assert_eq!(same_name(&[("own", "0.2.0", "")], "own"), (true, 1));
        assert_eq!(same_name(&[], "unknown"), (false, 0));
        assert_eq!(then.gained(&then), 0);
    }

    #[test]
    fn what_is_no_lock_file() {
        for text in [&b"[[package]]\nname = 'a'"[..], b"[", b"\xff", b"package = 1"] {
            assert_eq!(Lock::parse(text), None);
        }
        assert_eq!(Lock::parse(b"version = 4"), Some(Lock::default()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..64)) {
            Lock::parse(&noise);
        }
    }
}
