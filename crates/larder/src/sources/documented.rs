//! What rustdoc read.
//!
//! It names no files to cargo, which looks at the whole package instead. That is enough to see a change, but not to know
//! what a build script made: of a package that was compiled, dep-info names such a file, and where it is gone the scripts
//! run again. For one that was documented and not compiled, any file that is gone may have been made so; and what version
//! control ignores counts once there is something to document anew.

use super::Sources;
use super::record::Notes;
use super::verdict::Verdict;
use larder_cargo::freshness::{Change, package_of};
use larder_cargo::table::{Unit, UnitTable};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How the targets of rustdoc's units begin.
const DOC: &str = "doc-";

fn is_doc(unit: &Unit) -> bool {
    unit.local && unit.target.starts_with(DOC)
}

/// The folders of the packages that were documented and not compiled.
fn dirs<'s>(units: &UnitTable, sources: &'s Sources) -> BTreeSet<&'s Path> {
    let is_script = |unit: &Unit| unit.is_run() || unit.target.starts_with("build-script-");
    let local = || units.units.iter().filter(|unit| unit.local);
    let compiled: BTreeSet<&str> =
        local().filter(|unit| !is_doc(unit) && !is_script(unit)).map(|unit| &*unit.package).collect();
    let names = local().filter(|unit| is_doc(unit)).map(|unit| &*unit.package).filter(|name| !compiled.contains(name));
    names.filter_map(|name| sources.packages.get(name)).flatten().map(PathBuf::as_path).collect()
}

/// Files and folders in these packages that version control ignores: those that were there when each was documented.
pub(super) fn unlisted(notes: &Notes, before: Option<&Notes>, sources: &Sources) -> Vec<OsString> {
    let all = dirs(&notes.units, sources);
    let anew = notes.built.iter().filter(|built| built.target.starts_with(DOC)).map(|built| built.package.as_str());
    let anew: BTreeSet<&Path> =
        anew.filter_map(|name| sources.packages.get(name)).flatten().map(PathBuf::as_path).collect();
    let is_in = |path: &Path, dirs: &BTreeSet<&Path>| path.ancestors().any(|dir| dirs.contains(dir));
    let now = sources.unlisted.iter().map(PathBuf::as_path).filter(|path| is_in(path, &all));
    let then = before.into_iter().flat_map(Notes::unlisted).filter(|path| is_in(path, &all) && !is_in(path, &anew));
    let paths: BTreeSet<&Path> = now.chain(then).collect();
    paths.into_iter().map(|path| path.as_os_str().to_owned()).collect()
}

/// Changed Rust sources of these packages: rustdoc named them if it named any.
pub(super) fn changed<'c>(
    changes: &'c [(PathBuf, Change)],
    notes: &Notes,
    sources: &Sources,
    packages: &BTreeSet<PathBuf>,
) -> BTreeSet<&'c Path> {
    let dirs = dirs(&notes.units, sources);
    let changed = changes.iter().filter(|(_, change)| *change == Change::Changed).map(|(path, _)| path.as_path());
    let is_rust = |path: &&Path| path.extension().is_some_and(|extension| extension == "rs");
    changed.filter(is_rust).filter(|path| package_of(path, packages).is_some_and(|dir| dirs.contains(dir))).collect()
}

/// A file that rustdoc may want to read and that a build script may have made: it is gone.
pub(super) fn lacking<'a>(
    changes: &'a [(PathBuf, Change)],
    notes: &'a Notes,
    sources: &Sources,
    verdict: &Verdict,
) -> Option<&'a Path> {
    let dirs = dirs(&notes.units, sources);
    let within = |path: &Path| package_of(path, &verdict.packages).is_some_and(|dir| dirs.contains(dir));
    let is_deleted = |change: &Change| matches!(change, Change::Deleted { .. });
    let deleted = changes.iter().filter(|(_, change)| is_deleted(change)).map(|(path, _)| path.as_path());
    if let Some(path) = deleted.filter(|path| !sources.is_ignored(path)).find(|path| within(path)) {
        return Some(path);
    }
    let gone = notes.unlisted().find(|path| within(path) && !larder_fs::exists(path))?;
    // All is as it was, and nobody will read it.
    let dirty = notes.units.dirty(&|path| verdict.changed(path), &|name| verdict.package_touched(name, sources));
    notes.units.units.iter().zip(dirty).any(|(unit, dirty)| dirty && is_doc(unit)).then_some(gone)
}
