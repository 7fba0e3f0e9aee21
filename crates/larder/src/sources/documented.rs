//! What rustdoc read.
//!
//! It names no files to cargo, which looks at the whole package instead. That is enough to see a change; but of a package
//! that was documented and not compiled any Rust source may be one that was read.

use super::Sources;
use super::record::Notes;
use larder_cargo::freshness::{Change, package_of};
use larder_cargo::table::{Unit, UnitTable};
use std::collections::BTreeSet;
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
