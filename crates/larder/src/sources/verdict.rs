//! What changed in a checkout since a snapshot, and what must be touched so that cargo sees it: the rules of
//! `larder_cargo::freshness`, with the files that make them true here.

use super::record::Notes;
use super::{Sources, documented, made};
use larder_cargo::freshness::{self, Change, Facts, judge, judged_by_cargo, package_of};
use larder_cargo::table::{Reader, Unit};
use larder_store::{Observed, Stamp, State};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};
use std::path::{Path, PathBuf};

/// What to touch besides the changed and the new files themselves.
pub(super) struct Verdict {
    /// The folders of all packages, then and now.
    pub(super) packages: BTreeSet<PathBuf>,
    /// By packages.
    pub(super) whole: freshness::Verdict,
    /// Single files, each with the file that may have been read unseen.
    files: BTreeMap<PathBuf, PathBuf>,
    /// Sources that differ, without those that cargo judges by content.
    differing: BTreeSet<PathBuf>,
    /// The packages of these.
    differing_packages: BTreeSet<PathBuf>,
}

impl Verdict {
    /// Judges the changes since the snapshot with these notes.
    pub(super) fn of(changes: &[(PathBuf, Change)], notes: &Notes, sources: &Sources, observed: &Observed) -> Self {
        let mut packages = notes.packages();
        packages.extend(sources.package_dirs().cloned());
        let named = notes.named();
        let documented = documented::changed(changes, notes, sources, &packages);
        let roots = sources.trees().iter().cloned().collect();
        let facts = Facts {
            packages: &packages,
            roots: &roots,
            is_named: &|path| documented.contains(path) || path.ancestors().any(|path| named.contains(path)),
            names_below: &|dir| is_below(&named, dir),
            is_ignored: &|path| sources.is_ignored(path),
        };
        let mut whole = judge(changes.iter().map(|(path, change)| (path.as_path(), *change)), &facts);
        // A manifest is touched for those who watch the whole package. Clippy names it for every unit.
        let watching = notes.units.units.iter().filter(|unit| unit.watches_package);
        let watched: BTreeSet<&PathBuf> =
            watching.filter_map(|unit| sources.packages.get(&unit.package)).flatten().collect();
        whole.manifests.retain(|manifest| watched.iter().any(|dir| manifest.parent() == Some(dir)));
        let differing = changes.iter().map(|(path, _)| path).filter(|path| !judged_by_cargo(path, &packages, &roots));
        let differing: BTreeSet<PathBuf> = differing.cloned().collect();
        let differing_packages =
            differing.iter().filter_map(|path| package_of(path, &packages)).map(Path::to_path_buf).collect();
        let mut verdict = Self { packages, whole, files: BTreeMap::new(), differing, differing_packages };
        if verdict.whole.scripts.is_none() {
            verdict.whole.scripts = made::lacking(notes, changes).map(Path::to_path_buf);
        }
        verdict.touch_readers(notes, sources, observed);
        verdict
    }

    /// Whether a file that is there is to be touched, though it did not change.
    pub(super) fn touches(&self, path: &Path) -> bool {
        self.whole.manifests.contains(path)
            || self.files.contains_key(path)
            || package_of(path, &self.packages).is_some_and(|package| self.touches_all_of(package))
    }

    fn touches_all_of(&self, package: &Path) -> bool {
        self.whole.everything.is_some() || self.whole.packages.contains_key(package)
    }

    /// Whether cargo sees a change at a path that a unit names: of a file, or of anything below a folder.
    pub(super) fn changed(&self, path: &Path) -> bool {
        // A folder is as new as the newest file below it.
        is_below(&self.differing, path)
            || self.files.contains_key(path)
            || package_of(path, &self.packages).is_some_and(|package| self.touches_all_of(package))
    }

    /// Whether cargo sees a change of any file of the packages of this name.
    pub(super) fn package_touched(&self, name: &str, sources: &Sources) -> bool {
        let touched = |dir: &PathBuf| {
            self.differing_packages.contains(dir)
                || self.touches_all_of(dir)
                || self.whole.manifests.contains(&dir.join("Cargo.toml"))
        };
        sources.packages.get(name).into_iter().flatten().any(touched)
    }

    /// Makes cargo build what may have read a file unseen, unless it does so anyway.
    fn touch_readers(&mut self, notes: &Notes, sources: &Sources, observed: &Observed) {
        let whole = &self.whole;
        let quiet = whole.readers.is_none() && whole.scripts.is_none();
        if quiet && whole.readers_within.is_empty() && whole.macros_within.is_empty() {
            return;
        }
        let units = &notes.units;
        let dirty = units.dirty(&|path| self.changed(path), &|name| self.package_touched(name, sources));
        let mut blind: Vec<(&Unit, PathBuf)> = Vec::new();
        for (unit, _) in units.units.iter().zip(dirty).filter(|(unit, dirty)| unit.local && !dirty) {
            if let Some(reason) = self.unseen_by(unit, sources) {
                blind.push((unit, reason.to_path_buf()));
            }
        }
        // Cargo looks through links, so the time of one means nothing.
        let is_file = |stamp: &Stamp| matches!(stamp.state, State::File { .. });
        let may = |path: &Path| observed.stamp(path).is_some_and(is_file) && sources.may_stamp(path);
        let handles = units.handles();
        for (unit, reason) in blind {
            tracing::info!(
                "{} {} is built again: it may have read {} and does not say so",
                unit.package,
                unit.target,
                reason.display()
            );
            let dirs = sources.packages.get(&unit.package).into_iter().flatten();
            let script = if unit.is_run() { units.script_of(unit) } else { None };
            let handle = handles.of(unit, &may).or_else(|| handles.of(script?, &may));
            if unit.watches_package {
                self.whole.manifests.extend(dirs.map(|dir| dir.join("Cargo.toml")));
            } else if let Some(file) = handle {
                self.files.insert(file.to_path_buf(), reason);
            } else {
                self.whole.packages.extend(dirs.map(|dir| (dir.clone(), reason.clone())));
            }
        }
    }

    /// The file that a unit may have read, or made, without saying so.
    fn unseen_by<'v>(&'v self, unit: &Unit, sources: &Sources) -> Option<&'v Path> {
        let whole = &self.whole;
        let dirs = || sources.packages.get(&unit.package).into_iter().flatten();
        let of = |reasons: &'v BTreeMap<PathBuf, PathBuf>| dirs().find_map(|dir| reasons.get(dir));
        let found = match unit.reader {
            Reader::Nobody => None,
            Reader::Script => whole.scripts.as_ref().or(whole.readers.as_ref()).or_else(|| of(&whole.readers_within)),
            Reader::Macro => {
                let within = || of(&whole.readers_within).or_else(|| of(&whole.macros_within));
                whole.readers.as_ref().or_else(within)
            }
        };
        found.map(PathBuf::as_path)
    }
}

/// Whether a path is in a list, or anything below it.
fn is_below(list: &BTreeSet<PathBuf>, path: &Path) -> bool {
    let next = list.range::<Path, _>((Included(path), Unbounded)).next();
    next.is_some_and(|found| found.starts_with(path))
}
