//! What must be touched so that cargo sees what changed.
//!
//! Cargo compares the times of the files that a unit's dep-info and `rerun-if-changed` name, and of nothing else. A
//! changed or new file that is touched is seen by every unit that names it, and by build scripts that watch their whole
//! package. Three things remain unseen (measured: each gave a stale program), and are made seen by touching more:
//!
//! - A **deleted** file changes no time: the manifest of its package is touched, for the build scripts that watch all
//!   of it. One that was made by the build itself (never listed among the sources) is made again only by what made it:
//!   its whole package is touched.
//! - A file that **no unit names** may be read by a procedural macro or a build script all the same: its whole package
//!   is touched; every package, if it belongs to none.
//! - Not so the Rust files of tests, benchmarks and examples, where no unit names any of that kind: the job builds none.
//! - What cargo judges by content needs no touch at all: `Cargo.lock`, the manifest of a workspace without a package.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What happened to a source since the snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It holds something else.
    Changed,
    /// It was not there.
    New,
    /// It is not there any more.
    Deleted {
        /// Whether it was one of the listed sources; else it was only named, and may have been made by the build.
        listed: bool,
    },
}

/// What a judgement rests on, besides the changes.
pub struct Facts<'a> {
    /// The folders of all path packages, those of the snapshot as well as those of today.
    pub packages: &'a BTreeSet<PathBuf>,
    /// Whether the dep-info or the rerun list of some unit names this file, or a folder that holds it.
    pub is_named: &'a dyn Fn(&Path) -> bool,
    /// Whether some unit names a file in this folder.
    pub names_below: &'a dyn Fn(&Path) -> bool,
    /// Whether the file is of no interest to any build unless it is named.
    pub is_ignored: &'a dyn Fn(&Path) -> bool,
}

/// What to touch besides the changed and the new files themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Manifests of packages.
    pub manifests: BTreeSet<PathBuf>,
    /// Packages of which every file is touched, each with the first file that was the reason.
    pub packages: BTreeMap<PathBuf, PathBuf>,
    /// Every package is touched, because of this file that belongs to none.
    pub everything: Option<PathBuf>,
}

/// Judges the changes of a checkout.
pub fn judge<'a>(changes: impl IntoIterator<Item = (&'a Path, Change)>, facts: &Facts<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for (path, change) in changes {
        let named = (facts.is_named)(path);
        if judged_by_cargo(path, facts.packages) || (!named && (facts.is_ignored)(path)) {
            continue;
        }
        let package = package_of(path, facts.packages);
        if !named && package.is_some_and(|package| of_targets_not_built(path, package, facts)) {
            continue;
        }
        let made_by_the_build = change == Change::Deleted { listed: false };
        if let (Change::Deleted { .. }, Some(package)) = (change, package) {
            verdict.manifests.insert(package.join("Cargo.toml"));
        }
        if named && !made_by_the_build {
            continue;
        }
        match package {
            Some(package) => drop(verdict.packages.entry(package.to_owned()).or_insert_with(|| path.to_owned())),
            None => drop(verdict.everything.get_or_insert_with(|| path.to_owned())),
        }
    }
    verdict
}

/// The innermost package that holds `path`.
pub fn package_of<'a>(path: &Path, packages: &'a BTreeSet<PathBuf>) -> Option<&'a Path> {
    path.ancestors().skip(1).find_map(|dir| packages.get(dir)).map(PathBuf::as_path)
}

/// A job that builds no tests names none of them. What a target is made from is read by that target: cargo sees it
/// when it is built.
fn of_targets_not_built(path: &Path, package: &Path, facts: &Facts<'_>) -> bool {
    let folder = ["tests", "benches", "examples"].map(|name| package.join(name));
    let folder = folder.iter().find(|folder| path.starts_with(folder));
    path.extension().is_some_and(|extension| extension == "rs") && folder.is_some_and(|dir| !(facts.names_below)(dir))
}

/// Whether cargo reads this file itself and hashes what matters in it, whatever its time.
pub fn judged_by_cargo(path: &Path, packages: &BTreeSet<PathBuf>) -> bool {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("Cargo.lock" | "rust-toolchain" | "rust-toolchain.toml") => true,
        Some("Cargo.toml") => path.parent().is_some_and(|dir| !packages.contains(dir)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(changes: &[(&str, Change)]) -> Verdict {
        let packages = ["/w/a", "/w/a/nested", "/s"].map(PathBuf::from).into();
        let facts = Facts {
            packages: &packages,
            is_named: &|path| path.ends_with("src/lib.rs") || path.starts_with("/w/a/data"),
            names_below: &|dir| dir == Path::new("/w/a/benches"),
            is_ignored: &|path| path.extension().is_some_and(|extension| extension == "md"),
        };
        judge(changes.iter().map(|(path, change)| (Path::new(*path), *change)), &facts)
    }

    #[test]
    fn what_a_unit_names_needs_nothing_more() {
        for change in [Change::Changed, Change::New] {
            assert_eq!(verdict(&[("/w/a/src/lib.rs", change), ("/w/a/data/x", change)]), Verdict::default());
        }
    }

    #[test]
    fn a_deleted_file_touches_its_manifest() {
        let found = verdict(&[("/w/a/src/lib.rs", Change::Deleted { listed: true })]);
        assert_eq!(found, Verdict { manifests: [PathBuf::from("/w/a/Cargo.toml")].into(), ..Verdict::default() });
        let generated = verdict(&[("/w/a/src/lib.rs", Change::Deleted { listed: false })]);
        assert!(generated.packages.contains_key(Path::new("/w/a")));
    }

    #[test]
    fn what_nobody_names_touches_its_package() {
        let found = verdict(&[("/w/a/nested/x.json", Change::Changed), ("/s/new.sql", Change::New)]);
        let reasons: Vec<_> = found.packages.iter().map(|(a, b)| (a.to_str().unwrap(), b.to_str().unwrap())).collect();
        assert_eq!(reasons, [("/s", "/s/new.sql"), ("/w/a/nested", "/w/a/nested/x.json")]);
        let outside = verdict(&[("/w/proto/x", Change::Deleted { listed: true })]);
        assert_eq!(outside.everything.as_deref(), Some(Path::new("/w/proto/x")));
        assert!(outside.manifests.is_empty());
    }

    #[test]
    fn targets_that_are_not_built_count_for_nothing() {
        assert_eq!(
            verdict(&[("/w/a/tests/it.rs", Change::Changed), ("/s/examples/x.rs", Change::New)]),
            Verdict::default()
        );
        for path in ["/w/a/tests/data.json", "/w/a/benches/new.rs", "/w/tests/it.rs"] {
            assert_ne!(verdict(&[(path, Change::Changed)]), Verdict::default(), "{path}");
        }
    }

    #[test]
    fn what_cargo_or_nobody_reads_touches_nothing() {
        for path in ["/w/Cargo.lock", "/w/Cargo.toml", "/w/rust-toolchain.toml", "/w/a/README.md"] {
            assert_eq!(verdict(&[(path, Change::Changed)]), Verdict::default(), "{path}");
        }
        assert!(verdict(&[("/w/a/Cargo.toml", Change::Changed)]).packages.contains_key(Path::new("/w/a")));
    }
}
