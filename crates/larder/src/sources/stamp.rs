//! After a restore: the sources get the times that cargo judges rightly by.

use super::Sources;
use super::record::Notes;
use crate::cargo::Project;
use crate::settings::Settings;
use anyhow::Result;
use larder_cargo::freshness::{Change, Facts, Verdict, judge, package_of};
use larder_store::{Events, Observed, Provenance, Restored, Source, Stamp, State, Store, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What became of the sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stamped {
    /// Files that hold what they held, and have the time they had.
    pub(crate) unchanged: u64,
    /// Files that hold something else, in the order of their paths.
    pub(crate) changed: Vec<PathBuf>,
    /// Files that were not there.
    pub(crate) new: Vec<PathBuf>,
    /// Files that are not there any more.
    pub(crate) deleted: Vec<PathBuf>,
    /// Packages touched as a whole, and why.
    pub(crate) touched: BTreeMap<PathBuf, PathBuf>,
}

/// Gives the sources of `project` the times that belong to what was restored to `dirs`. Where that cannot be done,
/// what was built from them is made worthless: cargo builds it again.
///
/// # Errors
///
/// Where not even that can be done.
pub(crate) fn settle(
    store: &Store,
    restored: &Restored,
    project: &Project,
    settings: &Settings,
    dirs: &[PathBuf],
    events: &dyn Events,
) -> Result<Option<Stamped>> {
    let Some(notes) = Notes::of(&restored.provenance) else { return Ok(None) };
    match stamp(store, restored, &notes, project, settings, events) {
        Ok(stamped) => Ok(Some(stamped)),
        Err(error) => {
            events.warn(&format!("the sources could not be stamped, so local crates are built again: {error:#}"));
            for (dir, folder) in dirs.iter().flat_map(|dir| notes.fingerprints().map(move |folder| (dir, folder))) {
                let path = dir.join(folder);
                if larder_fs::exists(&path) {
                    larder_fs::remove_tree(&path)?;
                }
            }
            Ok(None)
        }
    }
}

fn stamp(
    store: &Store,
    restored: &Restored,
    notes: &Notes,
    project: &Project,
    settings: &Settings,
    events: &dyn Events,
) -> Result<Stamped> {
    let provenance = &restored.provenance;
    let sources = Sources::find(project, settings)?;
    for path in sources.missing() {
        events.warn(&format!("{} is named by a manifest, and is not there", path.display()));
    }
    let mut wanted = sources.listed.clone();
    let recorded = provenance.stamps.iter().filter(|stamp| !sources.is_hidden(stamp.path()));
    wanted.extend(recorded.clone().map(|stamp| Source { path: stamp.path().to_path_buf(), listed: false }));
    let hidden = |path: &Path| sources.is_hidden(path);
    let mut observed = store.observe(&sources.root, wanted, &hidden);
    let (stamped, times) = compare(provenance, notes, &sources, &observed);
    let failed = observed.apply(&times);
    if let Err(error) = store.remember_sources(&sources.root, &observed) {
        tracing::info!("the next time reads all sources again: {error}");
    }
    let times: BTreeMap<&Path, Time> = times.iter().map(|(path, time)| (path.as_path(), *time)).collect();
    for (path, error) in failed {
        let seen_anyway = find(&observed, &path).is_none_or(|stamp| stamp.mtime > restored.created);
        match times.get(path.as_path()) {
            Some(Time::Now) if !seen_anyway => return Err(error.into()),
            _ => tracing::info!("{error}: what is built from it will be built again"),
        }
    }
    Ok(stamped)
}

/// What changed, and the time that each source gets.
fn compare(
    provenance: &Provenance,
    notes: &Notes,
    sources: &Sources,
    observed: &Observed,
) -> (Stamped, Vec<(PathBuf, Time)>) {
    let mut stamped = Stamped::default();
    let mut times: BTreeMap<PathBuf, Time> = BTreeMap::new();
    let mut changes: Vec<(PathBuf, Change)> = Vec::new();
    for (then, now) in pairs(&provenance.stamps, &observed.stamps) {
        let Some(stamp) = now.or(then) else { continue };
        let (path, is_dir) = (stamp.path().to_path_buf(), stamp.is_dir());
        if sources.is_hidden(&path) {
            continue;
        }
        let (change, time) = match (then, now) {
            (Some(then), Some(now)) if same(then, now) => {
                stamped.unchanged += u64::from(!is_dir);
                (None, (then.mtime != now.mtime).then_some(Time::At(then.mtime)))
            }
            (Some(_), Some(_)) => (Some(Change::Changed), Some(Time::Now)),
            (None, Some(_)) => (Some(Change::New), Some(Time::Now)),
            (Some(then), None) => (Some(Change::Deleted { listed: then.listed }), None),
            (None, None) => continue,
        };
        if let Some(time) = time
            && sources.may_stamp(&path)
        {
            times.insert(path.clone(), time);
        }
        if let Some(change) = change
            && !is_dir
        {
            match change {
                Change::Changed => stamped.changed.push(path.clone()),
                Change::New => stamped.new.push(path.clone()),
                Change::Deleted { .. } => stamped.deleted.push(path.clone()),
            }
            changes.push((path, change));
        }
    }
    let named = notes.named();
    let mut packages = notes.packages();
    packages.extend(sources.package_dirs().cloned());
    let facts = Facts {
        packages: &packages,
        is_named: &|path| path.ancestors().any(|path| named.contains(path)),
        is_ignored: &|path| sources.is_ignored(path),
    };
    // What lies where larder may not touch it is seen only by touching what may be made from it.
    let unreachable = |(path, change): &&(PathBuf, Change)| !sources.may_stamp(path) && *change == Change::Changed;
    let blind = changes.iter().find(unreachable).map(|(path, _)| path.clone());
    let mut verdict = judge(changes.iter().map(|(path, change)| (path.as_path(), *change)), &facts);
    verdict.everything = verdict.everything.or(blind);
    touch(&verdict, &packages, sources, observed, &mut times);
    stamped.touched = verdict.packages;
    if let Some(reason) = verdict.everything {
        stamped.touched.extend(sources.package_dirs().map(|dir| (dir.clone(), reason.clone())));
    }
    (stamped, times.into_iter().collect())
}

/// Touches what the verdict asks for, whatever time it had.
fn touch(
    verdict: &Verdict,
    packages: &BTreeSet<PathBuf>,
    sources: &Sources,
    observed: &Observed,
    times: &mut BTreeMap<PathBuf, Time>,
) {
    for stamp in observed.stamps.iter().filter(|stamp| !stamp.is_dir()) {
        let path = stamp.path();
        let package = package_of(path, packages);
        let wanted = verdict.manifests.contains(path)
            || package.is_some_and(|package| verdict.everything.is_some() || verdict.packages.contains_key(package));
        if wanted && sources.may_stamp(path) {
            times.insert(path.to_path_buf(), Time::Now);
        }
    }
}

fn same(then: &Stamp, now: &Stamp) -> bool {
    match (&then.state, &now.state) {
        (State::File { size: a, digest: b }, State::File { size: c, digest: d }) => a == c && b == d,
        (a, b) => a == b,
    }
}

fn find<'a>(observed: &'a Observed, path: &Path) -> Option<&'a Stamp> {
    let path = path.as_os_str().as_bytes();
    let at = observed.stamps.binary_search_by(|stamp| stamp.path.as_slice().cmp(path)).ok()?;
    observed.stamps.get(at)
}

/// Both lists are sorted by path: their entries in pairs.
fn pairs<'a>(then: &'a [Stamp], now: &'a [Stamp]) -> Vec<(Option<&'a Stamp>, Option<&'a Stamp>)> {
    let mut all: BTreeMap<&OsStr, (Option<&Stamp>, Option<&Stamp>)> = BTreeMap::new();
    for stamp in then {
        all.entry(OsStr::from_bytes(&stamp.path)).or_default().0 = Some(stamp);
    }
    for stamp in now {
        all.entry(OsStr::from_bytes(&stamp.path)).or_default().1 = Some(stamp);
    }
    all.into_values().collect()
}
