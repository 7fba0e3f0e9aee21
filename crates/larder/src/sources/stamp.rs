//! After a restore: the sources get the times that cargo judges rightly by.

use super::checkout::{Checkout, Spared, change, pairs, same};
use super::record::{Notes, here};
use super::users::Users;
use super::verdict::Verdict;
use super::{Sources, kept};
use anyhow::Result;
use larder_cargo::freshness::{Change, package_of};
use larder_fs::Timestamp;
use larder_store::{Events, Observed, Provenance, Restored, Stamp, Store, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How seldom a file system changes its times that keeps whole seconds, or two as FAT does.
const COARSE_TICK: Duration = Duration::from_secs(2);
/// So many sources of a kind are decisions; all of them are a list.
const NAMED: usize = 10;

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
    /// What need not be compiled now.
    pub(crate) spared: Spared,
}

impl Stamped {
    /// Says which source gets which time, and why.
    fn tell(&self, times: &[(PathBuf, Time)]) {
        tracing::info!(
            "sources: {} hold what they held, {} changed, {} are new, {} are gone",
            self.unchanged,
            self.changed.len(),
            self.new.len(),
            self.deleted.len()
        );
        let (earlier, touched): (Vec<_>, Vec<_>) = times.iter().partition(|(_, time)| matches!(time, Time::At(_)));
        if !earlier.is_empty() {
            tracing::info!("{} sources get the times that they had: they hold the same bytes", earlier.len());
        }
        earlier.iter().for_each(|(path, _)| tracing::debug!("{} gets the time that it had", path.display()));
        for (paths, what) in [(&self.changed, "changed"), (&self.new, "is new"), (&self.deleted, "is gone")] {
            for path in paths.iter().take(NAMED) {
                tracing::info!("{} {what}", path.display());
            }
            if paths.len() > NAMED {
                tracing::info!("and {} more of these, which -vv names", paths.len() - NAMED);
            }
            paths.iter().skip(NAMED).for_each(|path| tracing::debug!("{} {what}", path.display()));
        }
        for (package, reason) in &self.touched {
            let (package, reason) = (package.display(), reason.display());
            tracing::info!("all of {package} is touched: no unit says whether it reads {reason}");
        }
        if !touched.is_empty() {
            tracing::info!("{} sources are touched, so that cargo builds what is made from them", touched.len());
        }
        touched.iter().for_each(|(path, _)| tracing::debug!("{} is touched", path.display()));
    }
}

/// Gives the sources of a checkout the times that belong to what was restored to `dirs`. Where that cannot be done,
/// what was built from them is made worthless: cargo builds it again.
///
/// # Errors
///
/// Where not even that can be done.
pub(crate) fn settle(
    store: &Store,
    restored: &Restored,
    checkout: Checkout<'_>,
    dirs: &[PathBuf],
    events: &dyn Events,
) -> Result<Option<Stamped>> {
    let users = Users::of(store, checkout.sources(), dirs);
    let Some(notes) = Notes::of(&restored.provenance, &checkout.project.names) else {
        settle_kept(store, &checkout, dirs);
        users.join();
        // What was read need not be read again when the build is saved.
        remember(store, checkout.sources(), &checkout.observed());
        return Ok(None);
    };
    match stamp(store, restored, &notes, &checkout, &users, events) {
        Ok(stamped) => {
            forget_vendored(&stamped, &notes, checkout.sources(), dirs)?;
            users.join();
            Ok(Some(stamped))
        }
        Err(error) => {
            events.warn(&format!("the sources could not be stamped, so local crates are built again: {error:#}"));
            make_worthless(notes.fingerprints(|unit| unit.local), dirs)?;
            Ok(None)
        }
    }
}

/// Removes fingerprints: cargo builds these units again.
fn make_worthless(fingerprints: impl Iterator<Item = PathBuf>, dirs: &[PathBuf]) -> Result<()> {
    for (dir, folder) in fingerprints.flat_map(|folder| dirs.iter().map(move |dir| (dir, folder.clone()))) {
        let path = dir.join(folder);
        if larder_fs::exists(&path) {
            // Whoever goes on with such a directory must neither build in it unwarned nor save it.
            larder_fs::remove_tree(&path).map_err(|e| larder_store::Error::HalfRestored {
                path: dir.clone(),
                source: Some(Box::new(e.into())),
            })?;
        }
    }
    Ok(())
}

/// Cargo takes it for granted that the sources of a package from a registry never change, also where `cargo vendor` put them
/// into the workspace and somebody mended them there.
fn forget_vendored(stamped: &Stamped, notes: &Notes, sources: &Sources, dirs: &[PathBuf]) -> Result<()> {
    let packages = sources.package_dirs().cloned().collect();
    let paths = stamped.changed.iter().chain(&stamped.new).chain(&stamped.deleted);
    let changed: BTreeSet<&Path> = paths.filter_map(|path| package_of(path, &packages)).collect();
    let is_changed = |name: &str| sources.packages.get(name).into_iter().flatten().any(|dir| changed.contains(&**dir));
    make_worthless(notes.fingerprints(|unit| !unit.local && is_changed(&unit.package)), dirs)
}

/// What stands in the target directories was not restored now: sources that may have held something else when it was built
/// are touched.
fn settle_kept(store: &Store, checkout: &Checkout<'_>, dirs: &[PathBuf]) {
    if !dirs.iter().any(|dir| larder_fs::exists(dir)) {
        return;
    }
    let times = kept::times(checkout, store);
    if times.is_empty() {
        return;
    }
    tracing::info!("{} sources are touched: the target directory may have been built from others", times.len());
    for (path, error) in checkout.observed().apply(&times) {
        tracing::info!("{} keeps its time: {error}", path.display());
    }
}

fn stamp(
    store: &Store,
    restored: &Restored,
    notes: &Notes,
    checkout: &Checkout<'_>,
    users: &Users<'_>,
    events: &dyn Events,
) -> Result<Stamped> {
    let provenance = &*here(&restored.provenance, &checkout.project.names);
    for path in checkout.sources().missing() {
        events.warn(&format!("{} is named by a manifest, and is not there", path.display()));
    }
    if let Some(target) = checkout.sources().foreign().first() {
        events.warn(&format!(
            "{} was built from these sources too, without larder: no file gets an older time, because what was built \
             there from other contents would seem fresh; remove it to have nothing built again",
            target.display()
        ));
    }
    if checkout.project.workspace.build_dir.is_none() {
        events.warn(
            "the build directory is named by a template that only cargo knows: what is in it is not kept, and no file \
             gets an older time; name it without `{workspace-path-hash}`",
        );
    }
    checkout.observe_named(std::iter::once(provenance));
    if restored.strays {
        tracing::info!("the target directory holds units that no snapshot knows: no file gets an older time");
    }
    let (mut stamped, mut times) = compare(provenance, notes, checkout, users, restored.strays);
    if restored.strays {
        let kept: BTreeMap<PathBuf, Time> = kept::times(checkout, store).into_iter().collect();
        times.retain(|(path, _)| !kept.contains_key(path));
        times.extend(kept);
    } else {
        // Another job beside this one touched it just now. Once more, and what that job builds meanwhile would seem older.
        times.retain(|(path, time)| *time != Time::Now || users.may_go_back(path) || !is_new(path, restored.created));
    }
    stamped.tell(&times);
    let mut observed = checkout.observed();
    let mut failed = observed.apply(&times);
    // A file system that keeps whole seconds gave a time that lies before the newest of what was built.
    let is_late = |path: &Path| {
        let mtime = observed.stamp(path).map(|stamp| stamp.mtime);
        mtime.is_some_and(|mtime| mtime.nanos == 0 && mtime <= restored.created)
    };
    let has_failed = |path: &Path| failed.iter().any(|(other, _)| other == path);
    let late = times.iter().filter(|(path, time)| *time == Time::Now && is_late(path) && !has_failed(path));
    let late: Vec<_> = late.cloned().collect();
    if !late.is_empty() {
        std::thread::sleep(COARSE_TICK);
        failed.extend(observed.apply(&late));
    }
    let old_times = times.iter().any(|(_, time)| matches!(time, Time::At(_)));
    stamped.spared = checkout.spared(&observed, provenance, notes, restored, old_times);
    remember(store, checkout.sources(), &observed);
    let times: BTreeMap<&Path, Time> = times.iter().map(|(path, time)| (path.as_path(), *time)).collect();
    for (path, error) in failed {
        let seen_anyway = observed.stamp(&path).is_none_or(|stamp| stamp.mtime > restored.created);
        match times.get(path.as_path()) {
            Some(Time::Now) if !seen_anyway => return Err(error.into()),
            _ => tracing::info!("{error}: what is built from it will be built again"),
        }
    }
    Ok(stamped)
}

/// Whether a file is newer than all that was built at that time, and not of the future.
fn is_new(path: &Path, built: Timestamp) -> bool {
    let meta = larder_fs::metadata(path).ok().flatten();
    meta.is_some_and(|meta| built < meta.mtime && meta.mtime <= Timestamp::now())
}

fn remember(store: &Store, sources: &Sources, observed: &Observed) {
    if let Err(error) = store.remember_sources(&sources.record, observed) {
        tracing::info!("the next time reads all sources again: {error}");
    }
}

/// What changed, and the time that each source gets.
fn compare(
    provenance: &Provenance,
    notes: &Notes,
    checkout: &Checkout<'_>,
    users: &Users<'_>,
    strays: bool,
) -> (Stamped, Vec<(PathBuf, Time)>) {
    let sources = checkout.sources();
    let observed = checkout.observed();
    // Where the units are is not known either in a build directory whose name only cargo can make.
    let unknown = strays || checkout.project.workspace.build_dir.is_none();
    let foreign = !sources.foreign().is_empty() || unknown;
    let mut stamped = Stamped::default();
    let mut times: BTreeMap<PathBuf, Time> = BTreeMap::new();
    let mut changes: Vec<(PathBuf, Change)> = Vec::new();
    for (then, now) in pairs(&provenance.stamps, &observed.stamps) {
        let Some(stamp) = now.or(then) else { continue };
        let path = stamp.path().to_path_buf();
        if sources.is_hidden(&path) {
            continue;
        }
        let time = match (then, now) {
            (Some(then), Some(now)) if same(then, now) => {
                stamped.unchanged += u64::from(!now.is_dir());
                let earlier = then.mtime < now.mtime;
                let stays = earlier && (foreign || !users.may_go_back(&path));
                (then.mtime != now.mtime && !stays).then_some(Time::At(then.mtime))
            }
            (_, Some(_)) => Some(Time::Now),
            (_, None) => None,
        };
        if let Some(time) = time
            && sources.may_stamp(&path)
        {
            times.insert(path.clone(), time);
        }
        let Some(change) = change(then, now) else { continue };
        match change {
            Change::Changed => stamped.changed.push(path.clone()),
            Change::New => stamped.new.push(path.clone()),
            Change::Deleted { .. } => stamped.deleted.push(path.clone()),
        }
        changes.push((path, change));
    }
    let mut verdict = Verdict::of(&changes, notes, sources, &observed);
    // What lies where larder may not touch it is seen only by touching what may be made from it.
    let unreachable = |(path, change): &&(PathBuf, Change)| !sources.may_stamp(path) && *change == Change::Changed;
    let blind = changes.iter().find(unreachable).map(|(path, _)| path.clone());
    let everything = &mut verdict.whole.everything;
    *everything = everything.take().or(blind);
    // Whatever time it had.
    let touched = observed.stamps.iter().filter(|stamp| !stamp.is_dir()).map(Stamp::path);
    for path in touched.filter(|path| verdict.touches(path) && sources.may_stamp(path)) {
        times.insert(path.to_path_buf(), Time::Now);
    }
    stamped.touched = verdict.whole.packages;
    if let Some(reason) = verdict.whole.everything {
        stamped.touched.extend(sources.package_dirs().map(|dir| (dir.clone(), reason.clone())));
    }
    (stamped, times.into_iter().collect())
}
