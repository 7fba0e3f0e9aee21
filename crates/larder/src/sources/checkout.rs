//! A checkout as a restore finds it, compared with what snapshots were built from.

use super::Sources;
use super::record::{Notes, here, lock_of};
use super::verdict::Verdict;
use crate::cargo::Project;
use crate::host;
use crate::request;
use crate::settings::Settings;
use anyhow::Result;
use larder_cargo::config::ConfigFile;
use larder_cargo::freshness::Change;
use larder_cargo::table::{Lock, Prediction, Unit};
use larder_cargo::{Layout, Location, UnitId, UnitLocator};
use larder_ci::system;
use larder_store::{Guide, Header, Observed, Provenance, Restored, Source, Stamp, State, Store};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A snapshot of another job lacks what this one needs, nobody knows how much: any of the same job is nearer.
const OTHER_JOB: u64 = 1 << 40;
/// What a package costs of which no table knows anything, in milliseconds: the mean of a real workspace of 547 units.
const UNKNOWN_PACKAGE: u64 = 1000;

/// A checkout, looked at once before anything is restored.
pub(crate) struct Checkout<'a> {
    store: &'a Store,
    pub(super) project: &'a Project,
    sources: Sources,
    /// What was listed, and what snapshots name besides.
    observed: Mutex<Observed>,
    lock: Option<Lock>,
    considered: Mutex<Vec<Considered>>,
}

/// A snapshot that was judged for nearness.
#[derive(Debug, Clone)]
pub(crate) struct Considered {
    pub(crate) snapshot: String,
    pub(crate) key: String,
    /// Whether it was saved by the same job.
    pub(crate) same_job: bool,
    /// Sources that differ, the first few by name.
    pub(crate) differing: Vec<PathBuf>,
    pub(crate) prediction: Prediction,
}

impl Considered {
    /// Says how near it is, and why not nearer.
    fn tell(&self) {
        let Self { snapshot, key, same_job, differing, prediction } = self;
        let job = if *same_job { "the same job" } else { "another job, so any of the same job is nearer" };
        let unknown = match prediction.unknown {
            0 => String::new(),
            packages => format!(", {packages} packages that it does not know"),
        };
        tracing::info!(
            "considered {snapshot} ({key}) of {job}: {} sources differ, {} units to build again, predicted {:.1} s{unknown}",
            differing.len(),
            prediction.units,
            Duration::from_millis(prediction.millis).as_secs_f64()
        );
        differing.iter().for_each(|path| tracing::debug!("{} is another than in {snapshot}", path.display()));
    }

    fn cost(&self) -> u64 {
        let unknown = UNKNOWN_PACKAGE.saturating_mul(self.prediction.unknown as u64);
        // A unit that took no time to build is dirt all the same.
        let cost = self.prediction.millis.saturating_add(unknown).saturating_add(self.prediction.units as u64);
        if self.same_job { cost } else { cost.saturating_add(OTHER_JOB) }
    }
}

/// The units of a snapshot that a restore brought back and that today's sources leave as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spared {
    pub(crate) units: u64,
    /// What these cost when they were built, in milliseconds of one core.
    pub(crate) millis: u64,
}

/// The units that other builds with the same lock file had, and this one has not.
fn lacking<'n>(notes: &Notes, others: impl Iterator<Item = &'n Notes>) -> Vec<&'n Unit> {
    let mut known: HashSet<(&UnitId, &str)> =
        notes.units.units.iter().map(|unit| (&unit.id, unit.target.as_str())).collect();
    let others = others.filter(|other| other.succeeded && other.lock == notes.lock);
    let units = others.flat_map(|other| &other.units.units).filter(|unit| unit.unread == 0);
    units.filter(|unit| known.insert((&unit.id, unit.target.as_str()))).collect()
}

/// Gives a unit the same price wherever it stands: what differs between two builds of it is chance.
fn same_prices(notes: &mut [Option<Notes>]) {
    let mut prices: HashMap<(String, String, Vec<u8>), u64> = HashMap::new();
    let key = |unit: &Unit| (unit.package.clone(), unit.target.clone(), unit.id.root.clone());
    for unit in notes.iter().flatten().flat_map(|notes| &notes.units.units) {
        prices.entry(key(unit)).and_modify(|price| *price = unit.millis.min(*price)).or_insert(unit.millis);
    }
    for unit in notes.iter_mut().flatten().flat_map(|notes| &mut notes.units.units) {
        unit.millis = prices.get(&key(unit)).copied().unwrap_or(unit.millis);
    }
}

impl<'a> Checkout<'a> {
    /// Looks at the sources of `project`.
    pub(crate) fn look(store: &'a Store, project: &'a Project, settings: &Settings) -> Result<Self> {
        let sources = Sources::find(&project.site(), settings)?;
        let hidden = |path: &Path| sources.is_hidden(path);
        let observed = store.observe(&sources.record, sources.listed.clone(), &hidden);
        Ok(Self {
            store,
            project,
            observed: Mutex::new(observed),
            lock: lock_of(project),
            considered: Mutex::default(),
            sources,
        })
    }

    /// Where they are.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The sources as they are.
    pub(super) fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().expect("no thread panics while observing")
    }

    /// Looks at what snapshots name besides what is listed.
    pub(super) fn observe_named<'p>(&self, snapshots: impl Iterator<Item = &'p Provenance>) {
        self.observe_paths(snapshots.flat_map(|provenance| &provenance.stamps).map(Stamp::path));
    }

    /// Looks at these besides what is listed.
    pub(super) fn observe_paths<'p>(&self, paths: impl Iterator<Item = &'p Path>) {
        let mut observed = self.observed();
        let listed: HashSet<&Path> = self.sources.listed.iter().map(|source| source.path.as_path()).collect();
        let named: BTreeSet<&Path> = paths.collect();
        let besides = named.into_iter().filter(|path| !listed.contains(path) && !self.sources.is_hidden(path));
        let besides = besides.map(|path| Source { path: path.to_path_buf(), listed: false }).collect();
        let hidden = |path: &Path| self.sources.is_hidden(path);
        observed.merge(self.store.observe(&self.sources.record, besides, &hidden));
    }

    /// The notes about the units in this root of a snapshot.
    fn notes_for(&self, provenance: &Provenance, root: usize) -> Option<Notes> {
        // The build directory is the last one, and holds the units.
        if root + 1 < self.project.directories().len() { None } else { Notes::of(provenance, &self.project.names) }
    }

    /// The snapshots that were judged, the nearest first.
    pub(crate) fn considered(&self) -> Vec<Considered> {
        let mut all = self.considered.lock().expect("no thread panics while judging").clone();
        all.sort_by(|a, b| b.snapshot.cmp(&a.snapshot));
        all.sort_by_key(|one| (!one.same_job, one.prediction.millis, one.prediction.units));
        all
    }

    fn predict(&self, observed: &Observed, provenance: &Provenance, notes: &Notes) -> (Prediction, Vec<PathBuf>) {
        let lock = notes.lock.as_ref().zip(self.lock.as_ref());
        self.with_changes(observed, provenance, notes, |differing, changed, package_touched| {
            let is_given = |name: &str| notes.given.binary_search_by(|given| given.as_str().cmp(name)).is_ok();
            let varied = |name: &str, then: Option<&str>| !is_given(name) && self.varied(name, then);
            (notes.units.predict(changed, package_touched, lock, &varied), differing)
        })
    }

    /// Whether the environment has another value of a variable than a build saw. Cargo's own are as it sets them, and
    /// those of its configuration it compares with that.
    fn varied(&self, name: &str, then: Option<&str>) -> bool {
        let configured = |file: &ConfigFile| file.table.get("env").is_some_and(|env| env.get(name).is_some());
        let cargos = name.starts_with("CARGO") || self.project.config.files.iter().any(configured);
        !cargos && host::env(name).as_deref() != then.map(OsStr::new)
    }

    /// What a restore spares: what its units cost, of those that the build before had read and that nothing makes dirty.
    ///
    /// Of a directory that held a part of the files already, only the share that was brought counts; of the units of path
    /// packages all do where sources got their old times back, since cargo would have built those again.
    pub(super) fn spared(
        &self,
        observed: &Observed,
        provenance: &Provenance,
        notes: &Notes,
        restored: &Restored,
        old_times: bool,
    ) -> Spared {
        let made: u64 = restored.link_modes.values().sum();
        let files = made.saturating_add(restored.work.unchanged).max(1);
        if restored.kept_newer {
            return Spared::default();
        }
        let dirty =
            self.with_changes(observed, provenance, notes, |_, changed, touched| notes.units.dirty(changed, touched));
        let outdated = match (&notes.lock, &self.lock) {
            (Some(then), Some(now)) => notes.units.lock_difference(then, now),
            _ => vec![false; dirty.len()],
        };
        let mut spared = Spared::default();
        for ((unit, dirty), outdated) in notes.units.units.iter().zip(dirty).zip(outdated) {
            let whole = old_times && unit.local;
            if dirty || outdated || unit.unread > 0 || (made == 0 && !whole) {
                continue;
            }
            spared.units += 1;
            let share = u128::from(unit.millis) * u128::from(made) / u128::from(files);
            let share = if whole { unit.millis } else { u64::try_from(share).unwrap_or(unit.millis) };
            spared.millis = spared.millis.saturating_add(share);
        }
        spared
    }

    /// Hands over what differs from the snapshot's sources, and what a unit that names a path or watches a package sees.
    fn with_changes<T>(
        &self,
        observed: &Observed,
        provenance: &Provenance,
        notes: &Notes,
        judge: impl FnOnce(Vec<PathBuf>, &dyn Fn(&Path) -> bool, &dyn Fn(&str) -> bool) -> T,
    ) -> T {
        let changes: Vec<(PathBuf, Change)> = pairs(&provenance.stamps, &observed.stamps)
            .into_iter()
            .filter_map(|(then, now)| Some((now.or(then)?.path().to_path_buf(), change(then, now)?)))
            .collect();
        let verdict = Verdict::of(&changes, notes, &self.sources, observed);
        let differing = changes.into_iter().map(|(path, _)| path).collect();
        judge(differing, &|path| verdict.changed(path), &|name| verdict.package_touched(name, &self.sources))
    }
}

impl Guide for Checkout<'_> {
    fn costs(&self, snapshots: &[(Header, Provenance)]) -> Vec<Option<u64>> {
        let names = &self.project.names;
        let mut notes: Vec<Option<Notes>> =
            snapshots.iter().map(|(_, provenance)| Notes::of(provenance, names)).collect();
        same_prices(&mut notes);
        let snapshots: Vec<_> = snapshots.iter().map(|(header, then)| (header, here(then, names))).collect();
        self.observe_named(snapshots.iter().map(|(_, provenance)| &**provenance));
        let observed = self.observed();
        let all = &notes;
        let judge = |((header, provenance), notes): (&(&Header, Cow<'_, Provenance>), &Option<Notes>)| {
            let same_job = header.parts.iter().any(|(name, value)| name == "job" && *value == self.project.job);
            let (mut prediction, differing) = match notes {
                Some(notes) => self.predict(&observed, provenance, notes),
                // Everything local is built again.
                None => (Prediction { units: 0, millis: OTHER_JOB / 2, unknown: 0 }, Vec::new()),
            };
            if let Some(notes) = notes.as_ref().filter(|notes| !notes.succeeded) {
                // It may lack whatever the failure kept from being built.
                let lacking = lacking(notes, all.iter().flatten());
                prediction.units += lacking.len().max(1);
                prediction.millis += lacking.iter().map(|unit| unit.millis).sum::<u64>();
            }
            let (snapshot, key) = (header.id.clone(), header.key.clone());
            Considered { snapshot, key, same_job, differing, prediction }
        };
        let judged: Vec<Considered> = snapshots.iter().zip(&notes).map(judge).collect();
        let before = std::mem::take(&mut *self.considered.lock().expect("no thread panics while judging"));
        let is_new = |one: &&Considered| before.iter().all(|other| other.snapshot != one.snapshot);
        judged.iter().filter(is_new).for_each(Considered::tell);
        let costs = judged.iter().map(Considered::cost).map(Some).collect();
        *self.considered.lock().expect("no thread panics while judging") = judged;
        costs
    }

    fn will_be_remade(&self, provenance: &Provenance, root: usize, paths: &[Vec<u8>]) -> Vec<bool> {
        let Some(notes) = self.notes_for(provenance, root) else { return Vec::new() };
        let provenance = here(provenance, &self.project.names);
        self.observe_named(std::iter::once(&*provenance));
        let observed = self.observed();
        let dirty = self
            .with_changes(&observed, &provenance, &notes, |_, changed, touched| notes.units.dirty(changed, touched));
        // Build scripts keep what they like in their output directory, and may go on from there.
        let compiled = |unit: &&Unit| !unit.target.starts_with("run-");
        let dirty: HashSet<&UnitId> = notes
            .units
            .units
            .iter()
            .zip(dirty)
            .filter(|(_, dirty)| *dirty)
            .map(|(unit, _)| unit)
            .filter(compiled)
            .map(|unit| &unit.id)
            .collect();
        if dirty.is_empty() {
            return Vec::new();
        }
        tracing::info!("{} units are certain to be built again and are not materialised", dirty.len());
        for unit in notes.units.units.iter().filter(|unit| dirty.contains(&unit.id)) {
            tracing::debug!("certain to be built again: {} {} ({})", unit.package, unit.target, unit.id.hash);
        }
        let locator = UnitLocator::new(Layout::learn(paths.iter().map(Vec::as_slice)));
        let of_dirty = |path: &Vec<u8>| match locator.locate(path) {
            Location::Unit { id, .. } => dirty.contains(&id),
            _ => false,
        };
        paths.iter().map(of_dirty).collect()
    }

    fn graft(&self, (header, provenance): &(Header, Provenance), root: usize, paths: &[Vec<u8>]) -> Option<Vec<bool>> {
        // What a pull request saved is nobody else's.
        if system::is_pull_request(&header.scope) && header.scope != request::own_scope() {
            return None;
        }
        let (notes, now) = (self.notes_for(provenance, root), self.lock.as_ref()?);
        // CARGO_HOME, or directories that somebody named: there are no units to give.
        Notes::of(provenance, &self.project.names)?;
        // Where target and build directory are two, only the latter holds units.
        let Some(notes) = notes else { return Some(vec![false; paths.len()]) };
        let ours = |name: &str| self.project.parts.iter().find(|(part, _)| part == name).map(|(_, value)| value);
        let theirs = |name: &str| header.parts.iter().find(|(part, _)| part == name).map(|(_, value)| value);
        let same = ["rustc", "host", "target-dir", "build-dir", "cargo-home", "linker"];
        if let Some(name) = same.iter().find(|name| ours(name).is_none() || ours(name) != theirs(name)) {
            tracing::info!("no graft from {}: its {name} is another", header.id);
            return None;
        }
        let kept = notes.units.graftable(notes.lock.as_ref()?, now);
        let kept: HashSet<&UnitId> =
            notes.units.units.iter().zip(kept).filter(|(_, kept)| *kept).map(|(unit, _)| &unit.id).collect();
        if kept.is_empty() {
            tracing::info!("no graft from {}: it has no public package of this lock file", header.id);
            return None;
        }
        if !paths.is_empty() {
            tracing::info!("graft from {}: {} units of public packages", header.id, kept.len());
            for unit in notes.units.units.iter().filter(|unit| kept.contains(&unit.id)) {
                tracing::debug!("grafted: {} {} ({})", unit.package, unit.target, unit.id.hash);
            }
        }
        let locator = UnitLocator::new(Layout::learn(paths.iter().map(Vec::as_slice)));
        let serves = |path: &Vec<u8>| match locator.locate(path) {
            Location::Unit { id, .. } => kept.contains(&id),
            Location::Droppable => path == b".rustc_info.json" || path == b"CACHEDIR.TAG",
            _ => false,
        };
        Some(paths.iter().map(serves).collect())
    }

    fn watched(&self, provenance: &Provenance, root: usize) -> Vec<Vec<u8>> {
        let Some(notes) = self.notes_for(provenance, root) else { return Vec::new() };
        notes.units.units.iter().flat_map(Unit::hash_files).collect()
    }
}

/// What happened to a source; `None` where nothing did, and for directories, which are only as old as their listing.
pub(super) fn change(then: Option<&Stamp>, now: Option<&Stamp>) -> Option<Change> {
    match (then, now) {
        (Some(then), Some(now)) if same(then, now) => None,
        (Some(then), Some(now)) if now.is_dir() && !then.is_dir() => Some(Change::Deleted { listed: then.listed }),
        (_, Some(now)) if now.is_dir() => None,
        (Some(_), Some(_)) => Some(Change::Changed),
        // What only some other snapshot names.
        (None, Some(now)) if !now.listed => None,
        (None, Some(_)) => Some(Change::New),
        (Some(then), None) if then.is_dir() => None,
        (Some(then), None) => Some(Change::Deleted { listed: then.listed }),
        (None, None) => None,
    }
}

pub(super) fn same(then: &Stamp, now: &Stamp) -> bool {
    match (&then.state, &now.state) {
        (State::File { size: a, digest: b }, State::File { size: c, digest: d }) => a == c && b == d,
        (a, b) => a == b,
    }
}

/// Both lists are sorted by path: their entries in pairs.
pub(super) fn pairs<'a>(
    then: impl IntoIterator<Item = &'a Stamp>,
    now: impl IntoIterator<Item = &'a Stamp>,
) -> Vec<(Option<&'a Stamp>, Option<&'a Stamp>)> {
    let mut all: BTreeMap<&OsStr, (Option<&Stamp>, Option<&Stamp>)> = BTreeMap::new();
    for stamp in then {
        all.entry(OsStr::from_bytes(&stamp.path)).or_default().0 = Some(stamp);
    }
    for stamp in now {
        all.entry(OsStr::from_bytes(&stamp.path)).or_default().1 = Some(stamp);
    }
    all.into_values().collect()
}
