//! What must be touched so that cargo sees what changed.
//!
//! Cargo compares the times of the files that a unit's dep-info and `rerun-if-changed` name, and of nothing else. A
//! changed or new file that is touched is seen by every unit that names it, and by build scripts that watch their whole
//! package. Four things remain unseen (measured: each gave a stale program or a build that failed), and are made seen by
//! touching more:
//!
//! - A **deleted** file changes no time: the manifest of its package is touched, for the build scripts that watch all
//!   of it.
//! - A file that a unit names and that is gone may have been **made by a build script**, of its own package or of another:
//!   it is made again only if the script runs again. Which files scripts made nobody knows, so all of them run. Where
//!   it was no listed source (git ignores it), its whole package is touched too.
//! - A file that **no unit names** may be read by a procedural macro or a build script all the same: its whole package
//!   is touched; every package, if it belongs to none.
//! - A file may be read by **others than those who name it**, of any package: whoever may have read files unseen
//!   ([`Reader`](crate::table::Reader)) is touched. What is below `tests/`, `benches/` and `examples/` is taken to be
//!   read by its own package alone, and so is any Rust source; one that a unit names by those who name it, but for
//!   examples, which macros show in documentation.
//!
//! Where no unit names any Rust file of tests, benchmarks or examples the job builds none of that kind: only macros of the
//! package may have read such a file. What cargo judges by content needs no touch at all: `Cargo.lock`, the manifest of a
//! workspace without a package. Version control's own data is read by those who name it.

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
    /// The folders of workspaces, and of packages that have none.
    pub roots: &'a BTreeSet<PathBuf>,
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
    /// Whatever may read files unseen is touched, because of this one.
    pub readers: Option<PathBuf>,
    /// The same for what is of these packages, each with the first file that was the reason.
    pub readers_within: BTreeMap<PathBuf, PathBuf>,
    /// The same for their macros alone.
    pub macros_within: BTreeMap<PathBuf, PathBuf>,
    /// All build scripts run again, because one of them may have made this file, which is gone.
    pub scripts: Option<PathBuf>,
}

/// Judges the changes of a checkout.
pub fn judge<'a>(changes: impl IntoIterator<Item = (&'a Path, Change)>, facts: &Facts<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for (path, change) in changes {
        let named = (facts.is_named)(path);
        if judged_by_cargo(path, facts.packages, facts.roots) || (!named && (facts.is_ignored)(path)) {
            continue;
        }
        let package = package_of(path, facts.packages);
        verdict.add_readers(path, change, named, facts);
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

impl Verdict {
    /// Who may have read this file though he does not name it, and who may have made it.
    fn add_readers(&mut self, path: &Path, change: Change, named: bool, facts: &Facts<'_>) {
        if path.iter().any(|part| part == ".git") {
            return;
        }
        if named && matches!(change, Change::Deleted { .. }) {
            self.scripts.get_or_insert_with(|| path.to_owned());
        }
        let package = package_of(path, facts.packages);
        let folder = package.and_then(|package| Some((package, folder_of_targets(path, package)?)));
        let rust = is_rust(path);
        let within = match folder {
            None if rust => return,
            None => {
                self.readers.get_or_insert_with(|| path.to_owned());
                return;
            }
            // Such a source is a target's own, and an edit of a test is what happens most.
            Some((_, folder)) if named && rust && folder != EXAMPLES => return,
            Some((package, _)) => package,
        };
        let readers = if rust { &mut self.macros_within } else { &mut self.readers_within };
        readers.entry(within.to_owned()).or_insert_with(|| path.to_owned());
    }
}

/// The innermost package that holds `path`.
pub fn package_of<'a>(path: &Path, packages: &'a BTreeSet<PathBuf>) -> Option<&'a Path> {
    path.ancestors().skip(1).find_map(|dir| packages.get(dir)).map(PathBuf::as_path)
}

/// A job that builds no tests names none of them. What a target is made from is read by that target: cargo sees it
/// when it is built.
fn of_targets_not_built(path: &Path, package: &Path, facts: &Facts<'_>) -> bool {
    let folder = folder_of_targets(path, package).map(|name| package.join(name));
    is_rust(path) && folder.is_some_and(|dir| !(facts.names_below)(&dir))
}

const EXAMPLES: &str = "examples";

/// The folder of tests, benchmarks or examples that holds the file, by its name.
fn folder_of_targets(path: &Path, package: &Path) -> Option<&'static str> {
    ["tests", "benches", EXAMPLES].into_iter().find(|name| path.starts_with(package.join(name)))
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Whether cargo reads this file itself and hashes what matters in it, whatever its time. Elsewhere such a name is one like
/// any other: a template, or data of a test.
pub fn judged_by_cargo(path: &Path, packages: &BTreeSet<PathBuf>, roots: &BTreeSet<PathBuf>) -> bool {
    let Some(dir) = path.parent() else { return false };
    match path.file_name().and_then(|name| name.to_str()) {
        Some("Cargo.lock" | "rust-toolchain" | "rust-toolchain.toml") => roots.contains(dir) || packages.contains(dir),
        Some("Cargo.toml") => roots.contains(dir) && !packages.contains(dir),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(changes: &[(&str, Change)]) -> Verdict {
        let packages = ["/w/a", "/w/a/nested", "/s"].map(PathBuf::from).into();
        let roots = ["/w", "/s"].map(PathBuf::from).into();
        let facts = Facts {
            packages: &packages,
            roots: &roots,
            is_named: &|path| path.ends_with("src/lib.rs") || path.starts_with("/w/a/data"),
            names_below: &|dir| dir == Path::new("/w/a/benches"),
            is_ignored: &|path| path.extension().is_some_and(|extension| extension == "md"),
        };
        judge(changes.iter().map(|(path, change)| (Path::new(*path), *change)), &facts)
    }

    fn reason(path: &str) -> Option<PathBuf> {
        Some(PathBuf::from(path))
    }

    #[test]
    fn a_source_that_a_unit_names_needs_nothing_more() {
        for change in [Change::Changed, Change::New] {
            assert_eq!(verdict(&[("/w/a/src/lib.rs", change)]), Verdict::default());
            let data = Verdict { readers: reason("/w/a/data/x"), ..Verdict::default() };
            assert_eq!(verdict(&[("/w/a/data/x", change)]), data, "others may have read it too");
        }
    }

    #[test]
    fn a_deleted_file_touches_its_manifest_and_runs_scripts() {
        let found = verdict(&[("/w/a/src/lib.rs", Change::Deleted { listed: true })]);
        let manifests = [PathBuf::from("/w/a/Cargo.toml")].into();
        assert_eq!(found, Verdict { manifests, scripts: reason("/w/a/src/lib.rs"), ..Verdict::default() });
        let generated = verdict(&[("/w/a/src/lib.rs", Change::Deleted { listed: false })]);
        assert!(generated.packages.contains_key(Path::new("/w/a")) && generated.scripts.is_some());
    }

    #[test]
    fn what_nobody_names_touches_its_package_and_whoever_may_read() {
        let found = verdict(&[("/w/a/nested/x.json", Change::Changed), ("/s/new.sql", Change::New)]);
        let reasons: Vec<_> = found.packages.iter().map(|(a, b)| (a.to_str().unwrap(), b.to_str().unwrap())).collect();
        assert_eq!(reasons, [("/s", "/s/new.sql"), ("/w/a/nested", "/w/a/nested/x.json")]);
        assert_eq!((found.readers, found.scripts), (reason("/w/a/nested/x.json"), None));
        let outside = verdict(&[("/w/proto/x", Change::Deleted { listed: true })]);
        assert_eq!(outside.everything.as_deref(), Some(Path::new("/w/proto/x")));
        assert!(outside.manifests.is_empty());
    }

    #[test]
    fn of_targets_that_are_not_built_only_macros_read() {
        let found = verdict(&[("/w/a/tests/it.rs", Change::Changed), ("/s/examples/x.rs", Change::New)]);
        let macros_within = [("/w/a", "/w/a/tests/it.rs"), ("/s", "/s/examples/x.rs")];
        let macros_within = macros_within.map(|(a, b)| (PathBuf::from(a), PathBuf::from(b))).into();
        assert_eq!(found, Verdict { macros_within, ..Verdict::default() });
        for path in ["/w/a/tests/data.json", "/w/a/benches/new.rs", "/w/a/src/windows.rs"] {
            let found = verdict(&[(path, Change::Changed)]);
            assert!(found.packages.contains_key(Path::new("/w/a")) && found.readers.is_none(), "{path}");
        }
        assert!(verdict(&[("/w/tests/it.rs", Change::Changed)]).everything.is_some());
    }

    #[test]
    fn an_example_is_shown_by_macros_and_a_test_is_not() {
        let packages = [PathBuf::from("/a")].into();
        let (is_named, is_ignored) = (&|_: &Path| true, &|_: &Path| false);
        let facts = Facts { packages: &packages, roots: &packages, is_named, names_below: is_named, is_ignored };
        let found = |path: &str| judge([(Path::new(path), Change::Changed)], &facts);
        assert_eq!(found("/a/examples/x.rs").macros_within.len(), 1);
        assert_eq!(found("/a/tests/x.json").readers_within.len(), 1);
        for path in ["/a/tests/x.rs", "/a/benches/x.rs", "/a/.git/HEAD"] {
            assert_eq!(found(path), Verdict::default(), "{path}");
        }
    }

    #[test]
    fn what_cargo_or_nobody_reads_touches_nothing() {
        for path in ["/w/Cargo.lock", "/w/Cargo.toml", "/w/rust-toolchain.toml", "/w/a/README.md"] {
            assert_eq!(verdict(&[(path, Change::Changed)]), Verdict::default(), "{path}");
        }
        assert!(verdict(&[("/w/a/Cargo.toml", Change::Changed)]).packages.contains_key(Path::new("/w/a")));
        for path in ["/w/data/Cargo.lock", "/w/data/Cargo.toml", "/w/data/rust-toolchain.toml"] {
            assert!(verdict(&[(path, Change::Changed)]).everything.is_some(), "a macro may read {path}");
        }
    }
}
