//! What a save writes down beside the results: the stamps of all sources, and notes about the units.

use super::{Sources, made};
use crate::cargo::Project;
use crate::host;
use crate::settings::Settings;
use larder_cargo::UnitId;
use larder_cargo::canonical::Names;
use larder_cargo::freshness::judged_by_cargo;
use larder_cargo::table::{Context, FORGOTTEN, Lock, Reader, Reason, Seen, TargetFile, Unit, UnitTable};
use larder_fs::{Dir, FileNode, Kind, Timestamp, Tree};
use larder_store::{Events, Observed, Provenance, Remembered, Review, Source, Stamp, Store, Worth};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// Notes of another version are not read: the snapshot is then one without stamps.
const VERSION: u32 = 4;

/// What a restore must know besides the stamps. Written and read by this module alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    version: u32,
    /// The folders of the path packages, as bytes.
    packages: Vec<OsString>,
    /// What build scripts wrote outside of the target directory, as bytes.
    made: Vec<OsString>,
    /// The lock file that they were built with.
    pub(crate) lock: Option<Lock>,
    /// The units, with what each was made from.
    pub(crate) units: UnitTable,
    /// Variables that units saw and whoever saved did not: the command gave them itself, as `cargo clippy` does. Sorted.
    pub(crate) given: Vec<String>,
    /// Whether what was built was built with success, as far as is known.
    pub(crate) succeeded: bool,
    /// The units that were built since the snapshot before, and why.
    pub(crate) built: Vec<Built>,
    /// That snapshot's name; `None` for the first one.
    pub(crate) since: Option<String>,
}

/// The variables that no unit saw with the value that they have here.
fn given(units: &UnitTable) -> Vec<String> {
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for (name, value) in units.units.iter().flat_map(|unit| &unit.env) {
        let is_here = host::env(name).as_deref() == value.as_deref().map(OsStr::new);
        *seen.entry(name).or_default() |= is_here;
    }
    seen.into_iter().filter(|(_, is_here)| !is_here).map(|(name, _)| name.to_owned()).collect()
}

/// A unit that was built, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Built {
    pub(crate) id: UnitId,
    pub(crate) package: String,
    pub(crate) target: String,
    pub(crate) millis: u64,
    pub(crate) reasons: Vec<Reason>,
}

impl Notes {
    /// The notes in a snapshot, with every path as it is here; `None` where there are none of this version.
    pub(crate) fn of(provenance: &Provenance, names: &Names) -> Option<Self> {
        let notes: Self = postcard::from_bytes(&provenance.notes).ok()?;
        (notes.version == VERSION).then(|| notes.renamed(|path| names.real(path)))
    }

    /// Notes about the build directory as it is; without units where it cannot be read.
    pub(super) fn of_directory(project: &Project, sources: &Sources) -> Self {
        let tree = Dir::open(&sources.build_dir).and_then(|dir| larder_fs::walk(&dir));
        let tree = tree.inspect_err(|error| tracing::info!("the units are not known: {error}")).unwrap_or_default();
        let names: Vec<OsString> = tree.files.iter().map(|file| tree.relative(file.dir, &file.name)).collect();
        let units = read_units(&listing(&tree, &names), &sources.build_dir, project, sources);
        Self { version: VERSION, units, ..Self::default() }
    }

    /// The same notes with every path as `name` gives it.
    fn renamed(mut self, name: impl Fn(&Path) -> PathBuf) -> Self {
        let own = self.packages.iter_mut().chain(&mut self.made);
        own.for_each(|path| *path = name(Path::new(path)).into_os_string());
        for path in self.units.units.iter_mut().flat_map(|unit| &mut unit.inputs) {
            *path = name(path);
        }
        self
    }

    /// Where the fingerprints of these units are, in both layouts, below the target directory.
    pub(super) fn fingerprints(&self, of: impl Fn(&Unit) -> bool) -> impl Iterator<Item = PathBuf> {
        self.units.units.iter().filter(move |unit| of(unit)).flat_map(|unit| {
            let root = Path::new(OsStr::from_bytes(&unit.id.root));
            let old = root.join(".fingerprint").join(format!("{}-{}", unit.package, unit.id.hash));
            [old, root.join("build").join(&unit.package).join(&unit.id.hash).join("fingerprint")]
        })
    }

    /// The folders of the path packages.
    pub(crate) fn packages(&self) -> BTreeSet<PathBuf> {
        self.packages.iter().map(PathBuf::from).collect()
    }

    /// What build scripts wrote outside of the target directory: files, and folders that hold such.
    pub(super) fn made(&self) -> impl Iterator<Item = &Path> {
        self.made.iter().map(Path::new)
    }

    /// Every path that some unit names: files, and folders for all that they hold.
    pub(crate) fn named(&self) -> BTreeSet<PathBuf> {
        self.units.units.iter().flat_map(|unit| &unit.inputs).cloned().collect()
    }
}

/// What a snapshot was built from, with every path of its stamps as it is here.
pub(super) fn here<'a>(provenance: &'a Provenance, names: &Names) -> Cow<'a, Provenance> {
    if names.pairs().is_empty() {
        return Cow::Borrowed(provenance);
    }
    let stamps = renamed(provenance.stamps.clone(), |path| names.real(path));
    Cow::Owned(Provenance::new(stamps, provenance.notes.clone()))
}

fn renamed(mut stamps: Vec<Stamp>, name: impl Fn(&Path) -> PathBuf) -> Vec<Stamp> {
    stamps.iter_mut().for_each(|stamp| stamp.path = name(stamp.path()).into_os_string().into_encoded_bytes());
    stamps
}

/// The snapshot that a build started from.
struct Before {
    snapshot: String,
    notes: Notes,
    stamps: Provenance,
}

/// What a save follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// A command that succeeded.
    Success,
    /// A command that failed.
    Failure,
    /// Nobody knows what: a save of its own. Steps of a workflow run after success, unless they say otherwise.
    Anything,
}

/// Watches a save: learns from the examined directories what there is to record.
pub(crate) struct Record<'a> {
    store: &'a Store,
    project: &'a Project,
    settings: &'a Settings,
    events: &'a dyn Events,
    /// Whether units that nobody wants any more are left out of the snapshot.
    prune: bool,
    /// Whether the command succeeded, as far as is known.
    succeeded: bool,
    sources: OnceLock<anyhow::Result<Sources>>,
    before: OnceLock<Option<Before>>,
    units: Mutex<UnitTable>,
    compiled: Mutex<Option<Compiled>>,
    worth: Mutex<Option<Worth>>,
}

/// What was compiled since the snapshot before, in figures.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compiled {
    pub(crate) units: u64,
    pub(crate) millis: u64,
    /// The slowest with what each cost, by package and target.
    pub(crate) slowest: Vec<(String, u64)>,
}

impl Compiled {
    /// So many of the slowest are named.
    const NAMED: usize = 16;

    fn of(built: &[Built]) -> Self {
        let mut slowest: Vec<&Built> = built.iter().filter(|built| built.millis > 0).collect();
        slowest.sort_by_key(|built| std::cmp::Reverse(built.millis));
        let named = |built: &&Built| (format!("{} {}", built.package, built.target), built.millis);
        Self {
            units: built.len() as u64,
            millis: built.iter().map(|built| built.millis).sum(),
            slowest: slowest.iter().take(Self::NAMED).map(named).collect(),
        }
    }
}

impl<'a> Record<'a> {
    pub(crate) fn new(
        store: &'a Store,
        project: &'a Project,
        settings: &'a Settings,
        after: After,
        events: &'a dyn Events,
    ) -> Self {
        Self {
            store,
            project,
            settings,
            events,
            prune: after == After::Success,
            succeeded: after != After::Failure,
            sources: OnceLock::new(),
            before: OnceLock::new(),
            units: Mutex::default(),
            compiled: Mutex::default(),
            worth: Mutex::default(),
        }
    }

    /// What was compiled, once the save has asked for the provenance.
    pub(crate) fn compiled(self) -> Option<Compiled> {
        self.compiled.into_inner().expect("no thread panics while recording")
    }

    /// Why nothing may be saved.
    pub(crate) fn refuses(&self) -> Option<String> {
        self.sources().as_ref().ok()?.buried()
    }

    fn sources(&self) -> &anyhow::Result<Sources> {
        self.sources.get_or_init(|| Sources::find(&self.project.site(), self.settings))
    }

    /// The snapshot that was last restored to or saved from the build directory.
    fn before(&self) -> Option<&Before> {
        let read = || {
            let dirs = self.project.directories();
            let (header, provenance) = self.store.last_provenance(&larder_fs::resolve(dirs.last()?).ok()?)?;
            let names = &self.project.names;
            let notes = Notes::of(&provenance, names)?;
            let stamps = here(&provenance, names).into_owned();
            Some(Before { snapshot: header.id, notes, stamps })
        };
        self.before.get_or_init(read).as_ref()
    }

    fn units(&self) -> std::sync::MutexGuard<'_, UnitTable> {
        self.units.lock().expect("no thread panics while recording")
    }
}

impl Review for Record<'_> {
    fn examined(&self, root: usize, path: &Path, tree: &Tree) -> Vec<bool> {
        // The build directory is the last one, and holds the units.
        if root + 1 < self.project.directories().len() {
            return Vec::new();
        }
        let Ok(sources) = self.sources() else { return Vec::new() };
        let names: Vec<OsString> = tree.files.iter().map(|file| tree.relative(file.dir, &file.name)).collect();
        let files = listing(tree, &names);
        let mut units = read_units(&files, path, self.project, sources);
        let left_out = match self.prune {
            true => prune(&mut units, self.before().map(|before| &before.notes.units), tree, &files),
            false => Vec::new(),
        };
        *self.units() = units;
        left_out
    }

    fn provenance(&self) -> Provenance {
        let sources = match self.sources() {
            Ok(sources) => sources,
            Err(error) => {
                self.events.warn(&format!(
                    "no stamps of the sources, so a fresh checkout will build local crates again: {error:#}"
                ));
                return Provenance::default();
            }
        };
        let units = std::mem::take(&mut *self.units());
        let before = self.before();
        let mut notes = Notes {
            version: VERSION,
            packages: sources.package_dirs().map(|dir| dir.clone().into_os_string()).collect(),
            made: Vec::new(),
            lock: lock_of(self.project),
            given: given(&units),
            units,
            succeeded: self.succeeded,
            built: Vec::new(),
            since: before.map(|before| before.snapshot.clone()),
        };
        let hidden = |path: &Path| sources.is_hidden(path);
        let mut observed = self.store.observe(&sources.record, to_observe(sources, &notes), &hidden);
        notes.made = made::made(&notes.units, &observed, sources, before.map(|before| (&before.notes, &before.stamps)));
        if let Some(looked) = self.store.remembered(&sources.record) {
            doubt(&mut observed, &looked, &notes, sources);
        }
        if let Err(error) = self.store.remember_sources(&sources.record, &observed) {
            tracing::info!("the next time reads all sources again: {error}");
        }
        let nothing = UnitTable::default();
        let seen = |path: &Path| before.map_or(Seen::Same, |before| seen(&before.stamps, &observed, path));
        let built = notes.units.why(before.map_or(&nothing, |before| &before.notes.units), &seen);
        notes.built = built
            .into_iter()
            .map(|why| Built {
                id: why.unit.id.clone(),
                package: why.unit.package.clone(),
                target: why.unit.target.clone(),
                millis: why.unit.millis,
                reasons: why.reasons,
            })
            .collect();
        *self.compiled.lock().expect("no thread panics while recording") = Some(Compiled::of(&notes.built));
        let sum = |millis: &mut dyn Iterator<Item = u64>| millis.fold(0, u64::saturating_add);
        let build_ms = sum(&mut notes.units.units.iter().map(|unit| unit.millis));
        let new_ms = sum(&mut notes.built.iter().map(|built| built.millis));
        *self.worth.lock().expect("no thread panics while recording") =
            Some(Worth { build_ms, new_ms, failed: !self.succeeded });
        // In the snapshot, every path has the name that is the same on all machines.
        let names = &self.project.names;
        let notes = notes.renamed(|path| names.canonical(path));
        let stamps = renamed(observed.stamps, |path| names.canonical(path));
        Provenance::new(stamps, postcard::to_stdvec(&notes).expect("notes are plain data"))
    }

    fn worth(&self) -> Option<Worth> {
        *self.worth.lock().expect("no thread panics while recording")
    }
}

/// Takes back what is said of sources that changed since they were looked at before the build: a macro or a build script may
/// have read them before or after. What a unit names needs no such doubt, since cargo compares its time; but who names a
/// file need not be the only one who reads it, unless it is Rust.
fn doubt(observed: &mut Observed, looked: &Remembered, notes: &Notes, sources: &Sources) {
    if !notes.units.units.iter().any(|unit| unit.local && unit.reader != Reader::Nobody) {
        return;
    }
    let (named, made) = (notes.named(), notes.made().collect::<BTreeSet<_>>());
    let is_rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let is_named = |path: &Path| is_rust(path) && path.ancestors().any(|path| named.contains(path));
    let (packages, roots) = (notes.packages(), sources.trees().iter().cloned().collect());
    let counts = |path: &Path| !sources.is_ignored(path) && !judged_by_cargo(path, &packages, &roots);
    let changed = observed.stamps.iter().filter(|stamp| looked.has_other(stamp)).map(Stamp::path);
    let changed = changed.filter(|path| counts(path));
    // What was not there, and is not listed, only the build has named.
    let changed = changed.filter(|path| looked.knows(path) || observed.stamp(path).is_some_and(|stamp| stamp.listed));
    let doubted: Vec<PathBuf> =
        changed.filter(|path| !is_named(path) && !made.contains(path)).map(Path::to_path_buf).collect();
    for path in doubted {
        tracing::info!("{} changed since the restore: whatever may have read it will be built again", path.display());
        observed.doubt(&path);
    }
}

/// What became of a source since the snapshot before.
fn seen(then: &Provenance, now: &Observed, path: &Path) -> Seen {
    match (then.stamp(path), now.stamp(path)) {
        (Some(then), Some(now)) if super::checkout::same(then, now) => Seen::Same,
        (Some(_), None) => Seen::Missing,
        (None, None) => Seen::Same,
        (_, Some(_)) => Seen::Changed,
    }
}

/// The lock file as it is now.
pub(super) fn lock_of(project: &Project) -> Option<Lock> {
    Lock::parse(&host::read(&project.workspace.lock)?)
}

/// All listed sources, and what units name besides: files, and folders with all that is below.
fn to_observe(sources: &Sources, notes: &Notes) -> Vec<Source> {
    let mut all = sources.listed.clone();
    let listed: BTreeSet<&Path> = sources.listed.iter().map(|source| source.path.as_path()).collect();
    for path in notes.named() {
        if listed.contains(path.as_path()) || sources.is_hidden(&path) {
            continue;
        }
        // Cargo looks through links: what they lead to has the time that counts.
        if let Ok(real) = larder_fs::canonicalize(&path)
            && real != path
            && !sources.is_hidden(&real)
        {
            all.push(Source { path: real, listed: false });
        }
        if larder_fs::metadata(&path).ok().flatten().is_some_and(|meta| meta.kind == Kind::Dir)
            && let Ok(dir) = Dir::open(&path)
        {
            let keep = |dir: &Dir, _: &std::ffi::OsStr, entries: &mut Vec<larder_fs::Entry>| {
                entries.retain(|entry| !sources.is_hidden(&dir.join(&entry.name)));
            };
            if let Ok(tree) = larder_fs::walk_chosen(&dir, &keep) {
                let dirs = tree.dirs.iter().skip(1).map(|dir| dir.relative.clone());
                let files = tree.files.iter().map(|file| tree.relative(file.dir, &file.name));
                let links = tree.symlinks.iter().map(|link| tree.relative(link.dir, &link.name));
                let below = dirs.chain(files).chain(links).map(|relative| path.join(relative));
                all.extend(below.map(|path| Source { path, listed: false }));
            }
        }
        // With `..` in it, it is a second name of what stands above.
        if path.components().all(|part| part != Component::ParentDir) {
            all.push(Source { path, listed: false });
        }
    }
    all
}

/// The files of a build directory, as the unit table wants them.
fn listing<'a>(tree: &Tree, names: &'a [OsString]) -> Vec<TargetFile<'a>> {
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    let file = |(name, file): (&'a OsString, &FileNode)| {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        TargetFile {
            path: name.as_encoded_bytes(),
            size: file.meta.size,
            mtime: file.meta.mtime.as_nanos(),
            inode: *numbers.entry(file.meta.ino).or_insert(next),
        }
    };
    names.iter().zip(&tree.files).map(file).collect()
}

/// Reads the units of the build directory `dir`. Cargo's notes call every path as cargo saw it.
fn read_units(files: &[TargetFile<'_>], dir: &Path, project: &Project, sources: &Sources) -> UnitTable {
    let names = &project.names;
    let seen = |path: &Path| names.canonical(path);
    let packages = sources.packages.iter();
    let packages = packages.map(|(name, dirs)| (name.clone(), dirs.iter().map(|dir| seen(dir)).collect())).collect();
    let cargo_home = project.cargo_home.as_deref().map(seen);
    let context = Context {
        workspace_root: &seen(&project.workspace.root),
        target_dir: &seen(dir),
        cargo_home: cargo_home.as_deref(),
        packages: &packages,
    };
    let mut table = UnitTable::read(files, &context, &|path| host::read(&names.real(path)));
    for path in table.units.iter_mut().flat_map(|unit| &mut unit.inputs) {
        *path = names.real(path);
    }
    table
}

/// Takes the units that nobody wants any more out of the table, and says which files go with them.
///
/// A restore marks every hash file as unread, and cargo reads that of each unit of a build. Where the file system keeps
/// no access times all of them stay unread; then nothing is known, and only what a new unit superseded goes.
fn prune(units: &mut UnitTable, before: Option<&UnitTable>, tree: &Tree, files: &[TargetFile<'_>]) -> Vec<bool> {
    let nothing = UnitTable::default();
    let before = before.unwrap_or(&nothing);
    let read: HashSet<&[u8]> = files
        .iter()
        .zip(&tree.files)
        .filter(|(_, node)| node.meta.atime != Timestamp::default())
        .map(|(file, _)| file.path)
        .collect();
    let old: HashSet<&UnitId> = before.units.iter().map(|unit| &unit.id).collect();
    let mut live = units.live(&|path| read.contains(path));
    if !live.iter().any(|id| old.contains(id)) {
        live.extend(units.units.iter().map(|unit| unit.id.clone()).filter(|id| old.contains(id)));
    }
    units.carry_over(before, &live);
    let dead = units.dead(&live);
    let gone: HashSet<&[u8]> = units.dead_files(&dead, files).into_iter().collect();
    let dead: HashSet<UnitId> = dead.into_iter().collect();
    for unit in units.units.iter().filter(|unit| dead.contains(&unit.id)) {
        let why = match unit.unread >= FORGOTTEN {
            true => format!("no build read it before {} saves in a row", unit.unread),
            false => "another version took its place, or that of what it stands on".to_owned(),
        };
        tracing::debug!("left out: {} {} ({}): {why}", unit.package, unit.target, unit.id.hash);
    }
    units.units.retain(|unit| !dead.contains(&unit.id));
    if gone.is_empty() {
        return Vec::new();
    }
    tracing::info!(
        "{} files are left out of the snapshot: {} units that no build wants any more, and what newer builds replaced",
        gone.len(),
        dead.len()
    );
    files.iter().map(|file| gone.contains(file.path)).collect()
}
