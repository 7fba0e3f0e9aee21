//! Deleting what nothing names any more, a moment at a time.
//!
//! 1. *Mark*, without keeping anybody out: every snapshot is read, and what it names is reachable.
//! 2. *Look*, likewise: which blobs are there and not reachable.
//! 3. *Sweep*, in slices under the exclusive lock: snapshots that were published meanwhile are read first, so that what
//!    is reachable is known exactly while nobody else is at work; then blobs are renamed into staging until the slice's
//!    time is over. Their bytes are freed after the lock was.
//!
//! A blob that was swept is gone in one step; a crash leaves the rest for the next sweep, and staging for the next start.
//! Blobs that never had a snapshot are left alone until they are as old as the grace period, which whoever asks gives:
//! some file systems keep no locks, and a save may be at work there. While a snapshot cannot be read nothing is swept: a larder that can read it
//! may need its blobs.

use crate::blob::{BLOBS, BlobId, Digest, INGEST, QUARANTINE, SIDECAR, SaveId};
use crate::census::skim;
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::lease::{JOB, has_passed};
use crate::remove::Dropping;
use crate::store::{PINS, SESSIONS, SNAPSHOTS, Staging, Store, TREES, USES, chain};
use larder_fs::{Dir, Kind, Lock, LockKind, Timestamp};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one slice keeps restores and saves waiting: less than a person notices.
const SLICE: Duration = Duration::from_millis(50);
/// Between two slices there is time for everybody who waits: they look every 10 ms whether the way is free.
pub(crate) const PAUSE: Duration = Duration::from_millis(25);
/// The clock is looked at after so many blobs.
const BETWEEN_LOOKS: usize = 64;

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs.
    pub blobs: u64,
    /// Bytes freed on disk: those of deleted blobs that no directory had linked.
    pub bytes: u64,
    /// Prepared trees of snapshots that are gone.
    pub trees: u64,
    /// Records of directories that are gone.
    pub sessions: u64,
    /// Damaged blobs that had been set aside, and that no snapshot names.
    pub quarantined: u64,
}

/// How long things that nothing names are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// Blobs that never had a snapshot.
    pub blobs: Duration,
    /// Records of directories that are gone.
    pub sessions: Duration,
    /// What was set aside.
    pub quarantine: Duration,
}

impl Default for Grace {
    /// No save takes an hour. A lost record costs time only, but a disk may be away for a night. Whoever wants to look at
    /// a damaged blob does so within a month.
    fn default() -> Self {
        const DAY: u64 = 86_400;
        let [blobs, sessions, quarantine] = [3600, DAY, 30 * DAY].map(Duration::from_secs);
        Self { blobs, sessions, quarantine }
    }
}

/// Blobs that snapshots name.
#[derive(Default)]
pub(crate) struct Named {
    digests: HashSet<Digest>,
    ingests: HashMap<SaveId, HashSet<u32>>,
}

impl Named {
    pub(crate) fn add(&mut self, blobs: &[BlobId]) {
        for blob in blobs {
            match *blob {
                BlobId::Digest(digest) => {
                    self.digests.insert(digest);
                }
                BlobId::Ingest(save, index) => {
                    self.ingests.entry(save).or_default().insert(index);
                }
            }
        }
    }

    fn has(&self, blob: BlobId) -> bool {
        match blob {
            BlobId::Digest(digest) => self.digests.contains(&digest),
            BlobId::Ingest(save, index) => self.ingests.get(&save).is_some_and(|named| named.contains(&index)),
        }
    }
}

/// One sweep.
pub(crate) struct Sweep<'a> {
    store: &'a Store,
    events: &'a dyn Events,
    grace: Grace,
    now: Timestamp,
    /// How long each slice waits for others.
    patience: Duration,
    /// Snapshots whose blobs are in `named`.
    read: HashSet<String>,
    named: Named,
    /// What the snapshots named that this process removed just now: no grace for that.
    orphaned: Named,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(store: &'a Store, orphaned: Named, how: &Dropping, events: &'a dyn Events) -> Self {
        let Dropping { grace, now, patience, .. } = *how;
        Self { store, events, grace, now, patience, read: HashSet::new(), named: Named::default(), orphaned }
    }

    /// Sweeps everything; stops early, with a warning, where others keep the store busy.
    pub(crate) fn run(mut self) -> Result<Swept> {
        let mut swept = Swept::default();
        if !self.mark()? {
            return Ok(swept);
        }
        let mut unnamed = self.unnamed_blobs()?;
        self.events.phase(Phase::Sweep, unnamed.len() as u64);
        // Trees have names of blobs: what goes free shows only when they are gone.
        let mut rest = true;
        let mut saves: BTreeSet<SaveId> = BTreeSet::new();
        while rest || !unnamed.is_empty() {
            // On a full disk there is no room for a directory: then everybody waits until the bytes are freed.
            let staging = self.store.staging().ok();
            {
                let _exclusive = match self.store.lock_exclusive(self.patience) {
                    Ok(lock) => lock,
                    Err(e @ Error::Busy { .. }) => {
                        self.events.warn(&format!("not everything was swept: {}", chain(&e)));
                        return Ok(swept);
                    }
                    Err(e) => return Err(e),
                };
                let start = Instant::now();
                if !self.mark()? {
                    return Ok(swept);
                }
                if std::mem::take(&mut rest) {
                    self.rest(staging.as_ref(), &mut swept)?;
                    continue;
                }
                while start.elapsed() < SLICE && !unnamed.is_empty() {
                    let from = unnamed.len().saturating_sub(BETWEEN_LOOKS);
                    for blob in unnamed.split_off(from) {
                        if let BlobId::Ingest(save, _) = blob.blob {
                            saves.insert(save);
                        }
                        self.take(blob, staging.as_ref(), &mut swept)?;
                        self.events.advance(1);
                    }
                }
                // With the last blob of a save its directory goes; of any other save it is not empty.
                let ingest = self.store.room(INGEST)?;
                for save in std::mem::take(&mut saves) {
                    remove_if_empty(&ingest, &save.dir_name())?;
                }
            }
            // Nobody waits for this.
            drop(staging);
            if !unnamed.is_empty() {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(swept)
    }

    /// Reads the snapshots that were not read yet; whether all can be.
    fn mark(&mut self) -> Result<bool> {
        let all = self.store.snapshots()?;
        let new: Vec<_> = all.into_iter().filter(|found| !self.read.contains(&found.id)).collect();
        // A few at a time: manifests are much larger than the names of their blobs.
        for some in new.chunks(16) {
            let loaded: Vec<_> = some.par_iter().map(|found| (found, skim(&found.path))).collect();
            for (found, loaded) in loaded {
                match loaded {
                    Ok(snapshot) => {
                        self.named.add(&snapshot.blobs);
                        self.read.insert(found.id.clone());
                    }
                    Err(Error::Fs(e)) if e.is_not_found() => {}
                    Err(e) => {
                        self.events.warn(&format!(
                            "{}; no blobs are deleted while it is there: remove it with `larder rm {}`",
                            chain(&e),
                            found.id
                        ));
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Blobs, and sidecars of blobs, that nothing names.
    fn unnamed_blobs(&self) -> Result<Vec<Unnamed>> {
        let mut unnamed = Vec::new();
        let blobs = self.store.room(BLOBS)?;
        for fan in blobs.entries()?.into_iter().filter(|entry| entry.is_dir != Some(false)) {
            let dir = blobs.open_beneath(&fan.name)?;
            for entry in dir.entries_if_there()? {
                let hex = format!("{}{}", fan.name.to_string_lossy(), entry.name.to_string_lossy());
                let Ok(hash) = blake3::Hash::from_hex(&hex) else { continue };
                let blob = BlobId::Digest(Digest::from(hash));
                if !self.named.has(blob) {
                    unnamed.push(Unnamed { blob, path: blob.path(), is_sidecar: false });
                }
            }
        }
        let ingest = self.store.room(INGEST)?;
        for save in ingest.entries()?.into_iter().filter(|entry| entry.is_dir != Some(false)) {
            let Some(id) = SaveId::parse(&save.name) else { continue };
            let dir = match ingest.open_beneath(&save.name) {
                Ok(dir) => dir,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            for entry in dir.entries_if_there()? {
                let name = entry.name.to_string_lossy();
                let stem = name.strip_suffix(SIDECAR);
                let Ok(index) = stem.unwrap_or(&name).parse::<u32>() else { continue };
                let blob = BlobId::Ingest(id, index);
                if !self.named.has(blob) {
                    let mut path = blob.path();
                    path.push(if stem.is_some() { SIDECAR } else { "" });
                    unnamed.push(Unnamed { blob, path, is_sidecar: stem.is_some() });
                }
            }
        }
        Ok(unnamed)
    }

    /// Takes one of them out of everybody's sight, unless a snapshot names it by now or its grace is not over.
    fn take(&self, unnamed: Unnamed, staging: Option<&Staging>, swept: &mut Swept) -> Result<()> {
        if self.named.has(unnamed.blob) {
            return Ok(());
        }
        let root = &self.store.root;
        let Some(meta) = root.stat_optional(&unnamed.path)? else { return Ok(()) };
        // The kernel's own time: what is taken in keeps the times that it had.
        if !self.orphaned.has(unnamed.blob) && !has_passed(meta.ctime, self.now, self.grace.blobs) {
            return Ok(());
        }
        discard(root, &unnamed.path, staging)?;
        if !unnamed.is_sidecar {
            swept.blobs += 1;
            swept.bytes += if meta.nlink == 1 { meta.blocks.saturating_mul(512) } else { 0 };
        }
        Ok(())
    }

    /// Everything but blobs; there is never much of it.
    fn rest(&self, staging: Option<&Staging>, swept: &mut Swept) -> Result<()> {
        let there: HashSet<String> = self.store.snapshots()?.into_iter().map(|found| found.id).collect();
        let snapshots = self.store.room(SNAPSHOTS)?;
        for place in snapshots.entries()?.into_iter().filter(|entry| entry.is_dir != Some(false)) {
            remove_if_empty(&snapshots, &place.name)?;
        }
        let mounted = self.store.mounted_snapshots()?;
        let gone = |name: &OsStr| name.to_str().is_none_or(|name| !there.contains(name));
        let trees = self.store.room(TREES)?;
        for entry in trees.entries()? {
            if gone(&entry.name) && !mounted.contains(&*entry.name.to_string_lossy()) {
                discard(&trees, &entry.name, staging)?;
                swept.trees += 1;
            }
        }
        for room in [PINS, USES] {
            let room = self.store.room(room)?;
            for entry in room.entries()?.into_iter().filter(|entry| gone(&entry.name)) {
                room.remove_all(&entry.name)?;
            }
        }
        self.sweep_sessions(staging, swept)?;
        let quarantine = self.store.room(QUARANTINE)?;
        for entry in quarantine.entries()? {
            let Some(meta) = quarantine.stat_optional(&entry.name)? else { continue };
            let named = set_aside(&entry.name).is_some_and(|blob| self.named.has(blob));
            if !named && has_passed(meta.ctime, self.now, self.grace.quarantine) {
                discard(&quarantine, &entry.name, staging)?;
                swept.quarantined += 1;
            }
        }
        Ok(())
    }

    /// Records of directories that are gone, locks that nobody holds, leases that expired with their process.
    fn sweep_sessions(&self, staging: Option<&Staging>, swept: &mut Swept) -> Result<()> {
        let sessions = self.store.room(SESSIONS)?;
        let entries = sessions.entries()?;
        let old = |name: &OsStr, kind: &str| -> Result<bool> {
            // Leases have a duration of their own, which whoever sweeps need not know.
            let grace = if kind == &JOB[1..] { self.grace.quarantine } else { self.grace.sessions };
            let meta = sessions.stat_optional(name)?;
            Ok(meta.is_some_and(|meta| has_passed(meta.ctime, self.now, grace)))
        };
        for entry in &entries {
            let name = entry.name.to_string_lossy();
            let (stem, kind) = name.split_once('.').unwrap_or((&name, ""));
            let has_record = kind.is_empty() || entries.iter().any(|other| other.name == *stem);
            if has_record && !kind.is_empty() && kind != &JOB[1..] || !old(&entry.name, kind)? {
                continue;
            }
            match kind {
                // The record of a directory: with it goes what is kept beside it.
                "" => {
                    let Some(session) = self.store.session_named(&entry.name) else {
                        sessions.remove_all(&entry.name)?;
                        continue;
                    };
                    let root = session.root();
                    if larder_fs::exists(&root) || !free(&sessions.join(format!("{stem}.lock")))? {
                        continue;
                    }
                    if session.overlay.is_some() {
                        let Ok(_nobody) = self.store.no_lease(&root) else { continue };
                        self.remove_beside(&sessions, stem, ".overlay", staging)?;
                    }
                    for beside in [".sources", ".lease", JOB] {
                        self.remove_beside(&sessions, stem, beside, staging)?;
                    }
                    sessions.remove_all(&entry.name)?;
                    swept.sessions += 1;
                }
                // What sources held is of a directory of its own, which may have no other record.
                "sources" | "job" if free(&sessions.join(&entry.name))? => sessions.remove_all(&entry.name)?,
                "lock" | "lease" => remove_lock(&sessions, &entry.name)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn remove_beside(&self, sessions: &Dir, stem: &str, kind: &str, staging: Option<&Staging>) -> Result<()> {
        let name: OsString = format!("{stem}{kind}").into();
        match sessions.stat_optional(&name)? {
            Some(_) => discard(sessions, &name, staging),
            None => Ok(()),
        }
    }
}

/// A blob's file, or a sidecar's, that nothing names.
struct Unnamed {
    blob: BlobId,
    path: OsString,
    is_sidecar: bool,
}

/// The blob that a name in quarantine tells of.
fn set_aside(name: &OsStr) -> Option<BlobId> {
    let flat = name.to_str()?.rsplit_once('.')?.0;
    if let Some(hex) = flat.strip_prefix(BLOBS) {
        return blake3::Hash::from_hex(hex.replace('-', "")).ok().map(|hash| BlobId::Digest(Digest::from(hash)));
    }
    let (save, index) = flat.strip_prefix(INGEST)?.strip_prefix('-')?.split_once('-')?;
    Some(BlobId::Ingest(SaveId::parse(OsStr::new(save))?, index.parse().ok()?))
}

/// Takes something out of everybody's sight, in one step where there is staging: its bytes go with that.
fn discard(from: &Dir, name: &OsStr, staging: Option<&Staging>) -> Result<()> {
    if let Some(staging) = staging {
        let to: OsString = format!("{:016x}", fastrand::u64(..)).into();
        let moved = from.stat(name).and_then(|meta| match meta.kind {
            Kind::Dir => from.rename_dir(name, &staging.dir, &to),
            _ => from.rename(name, &staging.dir, &to),
        });
        match moved {
            Ok(()) => return Ok(()),
            Err(e) if e.is_not_found() => return Ok(()),
            // A full disk may have no room for a name either.
            Err(e) => tracing::debug!(error = %chain(&e), "deleted where it stands"),
        }
    }
    Ok(from.remove_all(name)?)
}

/// Removes a directory, unless there is something in it.
fn remove_if_empty(dir: &Dir, name: &OsStr) -> Result<()> {
    match dir.remove_dir(name) {
        Err(e) if e.kind() != std::io::ErrorKind::DirectoryNotEmpty && !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

/// Whether nobody holds this lock, if it is there at all.
fn free(path: &Path) -> Result<bool> {
    match Lock::existing(path, LockKind::Exclusive, Duration::ZERO) {
        Ok(lock) => Ok(lock.is_some()),
        Err(e) if e.is_not_found() => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Removes a lock's file while holding it: whoever waited for it notices that it is gone.
fn remove_lock(dir: &Dir, name: &OsStr) -> Result<()> {
    match Lock::existing(&dir.join(name), LockKind::Exclusive, Duration::ZERO) {
        Ok(Some(_lock)) => Ok(dir.remove_all(name)?),
        Ok(None) => Ok(()),
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e.into()),
    }
}
