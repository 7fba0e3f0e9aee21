//! CARGO_HOME as a lineage of its own: what of it a build without a network needs, kept under its lock file's name.
//!
//! The directory is the user's: files are added to it where they are missing, and nothing else is ever done there.
//! Without larder cargo would download them; so nothing here fails a command, and nothing waits for long.

use crate::history;
use crate::host;
use crate::report::Transfer;
use crate::request::{self, Request};
use crate::settings::Settings;
use crate::talk::{self, Talk};
use anyhow::Result;
use larder_cargo::home::{self, Needed, TOOL_LISTS};
use larder_cargo::table;
use larder_fs::{Dir, Entry, Lock, LockKind, Timestamp};
use larder_store::{
    AddRequest, EventKind, Events, Fallout, Manifest, Opaque, Outcome, Place, PlaceRoots, Policy, Restored, Review,
    Root, SaveRequest, Snapshot, Store, Treatment, Wants, Work,
};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long larder waits for a cargo that downloads or cleans up.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// So many snapshots of a key are looked at before another one is published.
const COMPARED: usize = 8;

/// CARGO_HOME, and what the project's lock file needs of it.
struct Home {
    dir: PathBuf,
    place: Place,
    key: String,
    parts: Vec<(String, String)>,
    /// What the lock file held.
    lock: Vec<u8>,
    needed: Needed,
    /// The tools installed there, by cargo's own list.
    tools: String,
}

impl Home {
    /// `None` where it is not to be kept, or where nothing of it is needed.
    fn of(request: &Request, settings: &Settings) -> Option<Self> {
        let project = request.project.as_ref().filter(|_| settings.cargo_home.value)?;
        let dir = larder_fs::resolve(project.cargo_home.as_ref()?).ok()?;
        // The command may have written the lock file.
        let bytes = host::read(&project.workspace.lock)?;
        let lock = table::Lock::parse(&bytes)?;
        let list = host::read(&dir.join(TOOL_LISTS[0]));
        let rustc = project.parts.iter().find(|(name, _)| name == "rustc").map_or("", |(_, text)| text);
        let (key, parts) = home::key(&bytes, rustc);
        let mut parts: Vec<_> = parts.into_iter().map(|part| (part.name.to_owned(), part.value)).collect();
        let tools = list.as_deref().map(home::tools).unwrap_or_default();
        parts.push((TOOLS.into(), tools.clone()));
        // Wherever it stands its contents are the same. They may come from a private registry: whoever may not read
        // the repository does not get them.
        let place = Place { scope: request::own_scope(), label: "cargo-home".into(), roots: PlaceRoots::KeyOnly(1) };
        Some(Self { needed: Needed::of(&lock, list.as_deref()), dir, place, key, parts, lock: bytes, tools })
    }

    fn choose(&self, relative: &OsStr, entries: &mut Vec<Entry>) {
        let Some(relative) = relative.to_str() else { return entries.clear() };
        entries.retain(|entry| {
            let Some(name) = entry.name.to_str() else { return false };
            match relative.is_empty() {
                true => self.needed.has(name),
                false => self.needed.has(&format!("{relative}/{name}")),
            }
        });
    }

    /// What stands there of what is needed, by identity: a stat for each, since a walk takes many times as long.
    fn glance(&self) -> HashSet<String> {
        let mut found = HashSet::new();
        let names = |below: &str| {
            let entries = Dir::open_optional(&self.dir.join(below)).ok().flatten().and_then(|dir| dir.entries().ok());
            entries.unwrap_or_default().into_iter().filter_map(|entry| entry.name.into_string().ok())
        };
        let mut look = |registry: &str, file: &str| {
            let path = format!("{registry}/{file}");
            if larder_fs::exists(&self.dir.join(&path)) {
                found.extend(home::identity(&path).map(str::to_owned));
            }
        };
        for registry in names("registry/cache").map(|name| format!("registry/cache/{name}")) {
            self.needed.crates().for_each(|file| look(&registry, file));
        }
        for registry in names("registry/index").map(|name| format!("registry/index/{name}")) {
            self.needed.entries().for_each(|file| look(&registry, &file));
            if self.needed.has(&format!("{registry}/.git")) {
                look(&registry, ".git");
            }
        }
        names("bin").filter(|name| self.needed.has(&format!("bin/{name}"))).for_each(|name| look("bin", &name));
        found.extend(names("git/db").map(|name| format!("git/db/{name}")).filter(|path| self.needed.has(path)));
        let lists = TOOL_LISTS.into_iter().filter(|list| self.needed.has(list));
        found.extend(lists.filter(|list| larder_fs::exists(&self.dir.join(list))).map(str::to_owned));
        found
    }

    /// The newest snapshots of the key.
    fn kept(&self, store: &Store) -> Result<impl Iterator<Item = Snapshot>> {
        let found = store.find_exact(&self.place, &self.key)?;
        let snapshots = found.into_iter().take(COMPARED).filter_map(|found| Snapshot::load(&found.path).ok());
        Ok(snapshots.filter(|snapshot| snapshot.header.key == self.key && snapshot.roots.len() == 1))
    }

    /// Whether the snapshot has all of these.
    fn is_in(&self, snapshot: &Snapshot, standing: &HashSet<String>) -> bool {
        let tools = snapshot.header.parts.iter().find(|(name, _)| name == TOOLS).map(|(_, tools)| tools);
        let held = identities(snapshot);
        (self.tools.is_empty() || tools == Some(&self.tools)) && standing.iter().all(|path| held.contains(path))
    }

    /// Whether nothing of the snapshot would be added.
    fn has_all(&self, snapshot: &Snapshot, standing: &HashSet<String>) -> bool {
        let is_tool = |path: &str| home::group(path) == Some(home::TOOLS);
        let others = TOOL_LISTS.iter().any(|list| larder_fs::exists(&self.dir.join(list)));
        identities(snapshot).iter().all(|path| standing.contains(path) || others && is_tool(path))
    }
}

/// What changes when cargo downloads or installs.
fn times(home: &Path) -> Vec<Option<Timestamp>> {
    let registries = Dir::open_optional(&home.join("registry/cache")).ok().flatten();
    let mut names = registries.and_then(|dir| dir.entries().ok()).unwrap_or_default();
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let registries = names.into_iter().map(|entry| Path::new("registry/cache").join(entry.name));
    let others = ["git/db", TOOL_LISTS[0]].into_iter().map(PathBuf::from);
    let time = |path: PathBuf| larder_fs::metadata(&home.join(path)).ok().flatten().map(|meta| meta.mtime);
    registries.chain(others).map(time).collect()
}

/// What a snapshot has, by identity.
fn identities(snapshot: &Snapshot) -> HashSet<String> {
    let paths = snapshot.roots.iter().flat_map(|manifest| manifest.link_paths());
    paths.filter_map(|path| home::identity(std::str::from_utf8(&path).ok()?).map(str::to_owned)).collect()
}

/// CARGO_HOME before a command.
pub(crate) struct Before {
    pub(crate) transfer: Transfer,
    /// Where the store has all that is needed and stands there.
    kept: Option<Kept>,
}

/// What a CARGO_HOME of which the store has all looked like.
struct Kept {
    dir: PathBuf,
    lock: Vec<u8>,
    times: Vec<Option<Timestamp>>,
}

impl Kept {
    /// Whether nothing was added since, to the lock file or there.
    fn holds(&self, request: &Request) -> bool {
        let lock = request.project.as_ref().and_then(|project| host::read(&project.workspace.lock));
        lock.as_ref() == Some(&self.lock) && times(&self.dir) == self.times
    }
}

/// The name of the key part that holds the tools.
const TOOLS: &str = "tools";

/// Adds to CARGO_HOME what the lock file needs and is missing there; `None` where that is nobody's wish or failed.
pub(crate) fn restore(
    store: &Store,
    request: &Request,
    settings: &Settings,
    dry_run: bool,
    talk: &Talk,
) -> Option<Before> {
    let start = Instant::now();
    let home = Home::of(request, settings)?;
    talk::chapter("larder: what is missing in CARGO_HOME");
    let standing = home.glance();
    let newest = home.kept(store).ok().and_then(|mut kept| kept.next());
    if let Some(snapshot) = newest.filter(|snapshot| home.has_all(snapshot, &standing)) {
        tracing::info!("CARGO_HOME: nothing that the lock file needs and the store has is missing");
        let kept = home.is_in(&snapshot, &standing);
        if !dry_run {
            store.mark_used(&snapshot.header.id);
        }
        let kept = kept.then(|| Kept { times: times(&home.dir), dir: home.dir, lock: home.lock });
        let mut transfer = Transfer::restored(nothing_missing(snapshot), &home.key);
        transfer.duration_ms = millis(start);
        return Some(Before { transfer, kept });
    }
    let wants = Missing { needed: home.needed.clone().with_all_tools(), dir: &home.dir, talk, locks: OnceCell::new() };
    let added = store.add(
        &AddRequest {
            place: home.place.clone(),
            key: home.key.clone(),
            root: Root { path: home.dir.clone(), policy: &Groups },
            wants: &wants,
            link_mode: settings.link_mode.value.0,
            dry_run,
        },
        talk,
    );
    drop(wants);
    match added {
        Ok(restored) => {
            let missed = restored.outcome == Outcome::Miss;
            let mut transfer = Transfer::restored(restored, &home.key);
            transfer.dry_run = dry_run;
            transfer.duration_ms = millis(start);
            history::cargo_home(store, request, EventKind::Restore, &transfer);
            if !missed && transfer.made() > 0 {
                talk.say(&format!("CARGO_HOME: {} in {} ms", transfer.line(), transfer.duration_ms));
            }
            Some(Before { transfer, kept: None })
        }
        Err(error) => {
            talk.warn(&format!("CARGO_HOME stays as it is: {:#}", anyhow::Error::from(error)));
            None
        }
    }
}

/// What a restore says that finds everything in its place.
fn nothing_missing(snapshot: Snapshot) -> Restored {
    let files: u64 = snapshot.roots.iter().map(|manifest| manifest.links.len() as u64).sum();
    Restored {
        outcome: Outcome::Hit,
        files,
        bytes: snapshot.roots.iter().map(Manifest::logical_bytes).sum(),
        work: Work { unchanged: files, ..Work::default() },
        created: snapshot.header.created,
        key: Some(snapshot.header.key),
        snapshot: Some(snapshot.header.id),
        ..Restored::default()
    }
}

/// The job that CARGO_HOME was added to for is over.
pub(crate) fn end_job(store: &Store, request: &Request) {
    let home = request.project.as_ref().and_then(|project| project.cargo_home.as_ref());
    if let Some(dir) = home.and_then(|dir| larder_fs::resolve(dir).ok()) {
        store.end_job(&dir);
    }
}

/// Saves what the lock file needs of CARGO_HOME, unless the store has all of it.
pub(crate) fn save(
    store: &Store,
    request: &Request,
    settings: &Settings,
    before: Option<&Before>,
    dry_run: bool,
    talk: &Talk,
) -> Option<Transfer> {
    match try_save(store, request, settings, before, dry_run, talk) {
        Ok(saved) => saved,
        Err(error) => {
            talk.warn(&format!("CARGO_HOME is not saved: {error:#}"));
            None
        }
    }
}

fn try_save(
    store: &Store,
    request: &Request,
    settings: &Settings,
    before: Option<&Before>,
    dry_run: bool,
    talk: &Talk,
) -> Result<Option<Transfer>> {
    let start = Instant::now();
    let kept = before.and_then(|before| before.kept.as_ref());
    if store.is_read_only() || kept.is_some_and(|kept| kept.holds(request)) {
        return Ok(None);
    }
    let Some(home) = Home::of(request, settings).filter(|home| !home.needed.is_empty()) else { return Ok(None) };
    let standing = home.glance();
    let is_worth = standing.iter().any(|path| home::is_worth_keeping(path));
    if !is_worth || home.kept(store)?.any(|snapshot| home.is_in(&snapshot, &standing)) {
        return Ok(None);
    }
    // Cargo writes what it downloads in place: without its lock half of a file could be saved.
    let Some(_locks) = lock(&home.dir, LockKind::Shared, talk)? else {
        talk.say("CARGO_HOME: cargo kept its lock; nothing is saved");
        return Ok(None);
    };
    let saved = store.save(
        &SaveRequest {
            place: home.place.clone(),
            key: home.key.clone(),
            parts: [home.parts.clone(), request.origin()].concat(),
            roots: vec![Root { path: home.dir.clone(), policy: &Opaque }],
            review: &home,
            link_mode: settings.link_mode.value.0,
            dry_run,
        },
        talk,
    )?;
    let mut transfer = Transfer::saved(saved);
    transfer.dry_run = dry_run;
    transfer.duration_ms = millis(start);
    history::cargo_home(store, request, EventKind::Save, &transfer);
    talk.say(&format!("CARGO_HOME: {} in {} ms", transfer.line(), transfer.duration_ms));
    Ok(Some(transfer))
}

impl Review for Home {
    fn choose(&self, _root: usize, relative: &OsStr, entries: &mut Vec<Entry>) {
        Self::choose(self, relative, entries);
    }
}

/// Wants what is needed and missing, and puts it in place under cargo's own locks.
struct Missing<'a> {
    needed: Needed,
    dir: &'a Path,
    talk: &'a Talk,
    locks: OnceCell<Vec<Lock>>,
}

impl Wants for Missing<'_> {
    fn wanted(&self, paths: &[Vec<u8>], standing: &[bool]) -> Vec<bool> {
        self.needed.missing(paths, standing)
    }

    fn placing(&self) {
        // Without them it goes on: a rename that replaces nothing harms nobody, it may only come too late.
        let taken = lock(self.dir, LockKind::Exclusive, self.talk).unwrap_or_else(|error| {
            tracing::info!("no lock on CARGO_HOME: {error:#}");
            None
        });
        if let Some(locks) = taken {
            self.locks.get_or_init(|| locks);
        }
    }
}

/// Files are copied or share extents, never inodes, since users and tools write there too; groups stay whole.
struct Groups;

impl Policy for Groups {
    fn treatments(&self, paths: &[Vec<u8>]) -> Vec<Treatment> {
        Opaque.treatments(paths)
    }

    fn fallout(&self, paths: &[Vec<u8>], damaged: &[bool]) -> Option<Fallout> {
        let group =
            |path: &Vec<u8>| std::str::from_utf8(path).ok().and_then(|path| home::group(path).map(str::to_owned));
        let bad = paths.iter().zip(damaged).filter(|(_, damaged)| **damaged);
        let broken: HashSet<String> = bad.clone().filter_map(|(path, _)| group(path)).collect();
        let in_broken = |path| group(path).is_some_and(|group| broken.contains(&group));
        let left_out = paths.iter().zip(damaged).map(|(path, damaged)| *damaged || in_broken(path)).collect();
        let alone = bad.filter(|(path, _)| group(path).is_none());
        let mut names: Vec<String> = alone.map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
        names.extend(broken);
        names.sort_unstable();
        Some(Fallout { left_out, names })
    }
}

/// Cargo's own locks on CARGO_HOME, in its order: that against removal, which any number of builds share, and that for
/// downloads. `None` when cargo kept one for too long.
fn lock(dir: &Path, downloads: LockKind, talk: &Talk) -> Result<Option<Vec<Lock>>> {
    let mut locks = Vec::new();
    for (name, kind) in [(".package-cache-mutate", LockKind::Shared), (".package-cache", downloads)] {
        let path = dir.join(name);
        let taken = match Lock::acquire(&path, kind, Duration::ZERO)? {
            Some(lock) => Some(lock),
            None => {
                talk.say(&format!("waiting for cargo's lock {}", path.display()));
                Lock::acquire(&path, kind, LOCK_WAIT)?
            }
        };
        match taken {
            Some(lock) => locks.push(lock),
            None => return Ok(None),
        }
    }
    Ok(Some(locks))
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
