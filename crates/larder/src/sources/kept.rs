//! A target directory that was not restored now: it was built here and not saved, or without larder.
//!
//! What a unit names cargo compares by its time. But what a macro or a build script read unseen may have held something else
//! when it was read, although it holds today what it held in some snapshot. Only of a file that nobody has written to since
//! larder last looked, before that build, is it known what the build saw. All others are taken for changed.

use super::checkout::Checkout;
use super::record::Notes;
use super::verdict::Verdict;
use larder_cargo::freshness::Change;
use larder_store::{Remembered, Stamp, Store, Time};
use std::path::{Path, PathBuf};

/// What may have held something else when the units in the target directory were built.
pub(super) fn changes(checkout: &Checkout<'_>, looked: &Remembered) -> Vec<(PathBuf, Change)> {
    checkout.observe_paths(looked.paths());
    let observed = checkout.observed();
    let disturbed = looked.disturbed(&observed).into_iter().map(Stamp::path);
    let changed = disturbed.map(|path| (path.to_path_buf(), Change::Changed));
    let gone = looked.paths().filter(|path| observed.stamp(path).is_none());
    let gone = gone.map(|path| (path.to_path_buf(), Change::Deleted { listed: true }));
    changed.chain(gone).filter(|(path, _)| !checkout.sources().is_hidden(path)).collect()
}

/// The times that make cargo build again whatever was not certainly built from the sources as they are.
pub(super) fn times(checkout: &Checkout<'_>, store: &Store) -> Vec<(PathBuf, Time)> {
    let sources = checkout.sources();
    let changes = store.remembered(&sources.record).map(|looked| changes(checkout, &looked));
    let Some(changes) = changes else {
        tracing::info!("{} was built without larder: all sources are touched", sources.build_dir.display());
        return touch(checkout, &|_| true);
    };
    if changes.is_empty() {
        return Vec::new();
    }
    let notes = Notes::of_directory(checkout.project, sources);
    let observed = checkout.observed();
    let verdict = Verdict::of(&changes, &notes, sources, &observed);
    drop(observed);
    for (path, _) in &changes {
        tracing::debug!(
            "{} may have held something else when {} was built",
            path.display(),
            sources.build_dir.display()
        );
    }
    let blind = changes.iter().any(|(path, change)| *change == Change::Changed && !sources.may_stamp(path));
    let differs = |path: &Path| changes.iter().any(|(changed, _)| changed == path);
    touch(checkout, &|path| blind || differs(path) || verdict.touches(path))
}

fn touch(checkout: &Checkout<'_>, chosen: &dyn Fn(&Path) -> bool) -> Vec<(PathBuf, Time)> {
    let observed = checkout.observed();
    let files = observed.stamps.iter().filter(|stamp| !stamp.is_dir()).map(Stamp::path);
    let chosen = files.filter(|path| chosen(path) && checkout.sources().may_stamp(path));
    chosen.map(|path| (path.to_path_buf(), Time::Now)).collect()
}
