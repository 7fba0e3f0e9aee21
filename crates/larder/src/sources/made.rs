//! What build scripts wrote outside of their output directories.
//!
//! Some write sources beside those of their package, committed ones among them, or files that the program wants when it
//! runs. No unit names the script as their maker. But cargo notes when each script began and ended, and what was written
//! meanwhile was probably written by it. In a checkout that lacks such a file, or holds another text in it, the scripts run
//! again, as they would in a build from nothing.

use super::Sources;
use super::checkout::same;
use super::record::Notes;
use larder_cargo::freshness::Change;
use larder_cargo::table::UnitTable;
use larder_fs::{CLOCK_TICK, Dir, Timestamp};
use larder_store::{Observed, Provenance};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// When the scripts of a table ran, in nanoseconds since 1970.
struct Runs(Vec<RangeInclusive<i128>>);

impl Runs {
    fn of(units: &UnitTable) -> Self {
        // The clock that stamps files lags behind, and the table counts milliseconds.
        let tick = i128::try_from(CLOCK_TICK.as_nanos()).expect("a tick is short");
        let run = |started: i64, millis: u64| {
            let began = i128::from(started);
            began - tick..=began + (i128::from(millis) + 1) * 1_000_000 + tick
        };
        let known = units.units.iter().filter(|unit| unit.is_run() && unit.local && unit.started > 0);
        Self(known.map(|unit| run(unit.started, unit.millis)).collect())
    }

    /// Whether one of these times lies in a run: an archive gives what it holds an old time of modification, and none of
    /// change.
    fn saw(&self, times: [Timestamp; 2]) -> bool {
        times.iter().any(|time| self.0.iter().any(|run| run.contains(&i128::from(time.as_nanos()))))
    }
}

/// What the scripts of these units wrote into the checkout: sources, and what version control ignores, each of that at its
/// top.
pub(super) fn made(
    units: &UnitTable,
    observed: &Observed,
    sources: &Sources,
    before: Option<(&Notes, &Provenance)>,
) -> Vec<OsString> {
    let runs = Runs::of(units);
    if runs.0.is_empty() {
        return Vec::new();
    }
    let is_made = |path: &Path| {
        let meta = larder_fs::metadata(path).ok().flatten();
        meta.is_some_and(|meta| runs.saw([meta.mtime, meta.ctime]))
    };
    let holds_made = |path: &Path| {
        let entries = Dir::open(path).and_then(|dir| dir.entries()).unwrap_or_default();
        entries.iter().any(|entry| is_made(&path.join(&entry.name)))
    };
    let listed = observed.times().filter(|(stamp, times)| !stamp.is_dir() && runs.saw(*times));
    let listed = listed.map(|(stamp, _)| stamp.path());
    let ignored = sources.unlisted.iter().map(PathBuf::as_path).filter(|path| is_made(path) || holds_made(path));
    // What a script found up to date it did not write anew; what became another meanwhile, and not by a script, is no more its.
    let is_same = |then: &Provenance, path: &Path| {
        then.stamp(path).is_none_or(|then| observed.stamp(path).is_some_and(|now| same(then, now)))
    };
    let still = before.into_iter().flat_map(|(notes, then)| notes.made().filter(move |path| is_same(then, path)));
    let still = still.filter(|path| larder_fs::exists(path));
    let all: BTreeSet<&Path> = listed.chain(ignored).chain(still).collect();
    all.into_iter().filter(|path| !sources.is_hidden(path)).map(|path| path.as_os_str().to_owned()).collect()
}

/// A file that a script wrote, and that is gone or another now.
pub(super) fn lacking<'n>(notes: &'n Notes, changes: &[(PathBuf, Change)]) -> Option<&'n Path> {
    let differs = |path: &Path| changes.iter().any(|(changed, _)| changed == path);
    notes.made().find(|path| differs(path) || !larder_fs::exists(path))
}
