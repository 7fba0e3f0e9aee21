//! Removing snapshots, and then whatever nothing names any more.
//!
//! Names go first, durably; blobs after, under the exclusive lock, when every remaining snapshot has been
//! read. A crash in between leaves blobs without a snapshot, which the next sweep finds. While a snapshot
//! cannot be read, nothing is swept: its blobs may be needed by a larder that can read it.

use crate::blob::{BLOBS, BlobId, Digest, INGEST, SIDECAR, SaveId};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::snapshot::{Found, Snapshot};
use crate::store::{SESSIONS, Store, chain};
use larder_fs::Dir;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of the snapshots removed.
    pub snapshots: Vec<String>,
    /// Blobs deleted.
    pub blobs: u64,
    /// Bytes freed: those of deleted blobs that no directory had linked.
    pub bytes: u64,
}

/// Blobs that snapshots name.
#[derive(Default)]
struct Reachable {
    digests: HashSet<Digest>,
    ingests: HashMap<SaveId, HashSet<u32>>,
}

impl Store {
    /// Removes these snapshots and sweeps what nothing names any more.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while others save or restore, [`Error::ReadOnly`], [`Error::Fs`].
    pub fn remove(&self, found: &[Found], dry_run: bool, events: &dyn Events) -> Result<Removed> {
        let ids = found.iter().map(|found| found.id.clone()).collect();
        let mut removed = Removed { snapshots: ids, ..Removed::default() };
        if dry_run {
            return Ok(removed);
        }
        self.writable()?;
        let _exclusive = self.lock_exclusive()?;
        for found in found {
            let (parent, name) = crate::restore::split_root(&found.path)?;
            let place = Dir::open(parent)?;
            place.remove_all(name)?;
            place.sync()?;
        }
        self.sweep(&mut removed, events)?;
        Ok(removed)
    }

    fn sweep(&self, removed: &mut Removed, events: &dyn Events) -> Result<()> {
        let remaining = self.snapshots()?;
        events.phase(Phase::Sweep, remaining.len() as u64);
        let mut reachable = Reachable::default();
        for found in &remaining {
            match Snapshot::load(&found.path) {
                Ok(snapshot) => reachable.add(&snapshot),
                Err(e) => {
                    events.warn(&format!(
                        "{}; no blobs are deleted while it is there: remove it with `larder rm {}`",
                        chain(&e),
                        found.id
                    ));
                    return Ok(());
                }
            }
            events.advance(1);
        }
        let mounted = self.mounted_snapshots()?;
        self.sweep_trees(&|id| remaining.iter().any(|found| found.id == id) || mounted.contains(id))?;
        self.sweep_digest_blobs(&reachable, removed)?;
        self.sweep_ingest_blobs(&reachable, removed)
    }

    fn sweep_digest_blobs(&self, reachable: &Reachable, removed: &mut Removed) -> Result<()> {
        let blobs = self.room(BLOBS)?;
        for fan in blobs.entries()?.into_iter().filter(|entry| entry.is_dir != Some(false)) {
            let dir = blobs.open_beneath(&fan.name)?;
            for entry in dir.entries()? {
                let hex = format!("{}{}", fan.name.to_string_lossy(), entry.name.to_string_lossy());
                let Ok(hash) = blake3::Hash::from_hex(&hex) else { continue };
                if !reachable.digests.contains(&Digest::from(hash)) {
                    delete(&dir, &entry.name, removed)?;
                }
            }
        }
        Ok(())
    }

    fn sweep_ingest_blobs(&self, reachable: &Reachable, removed: &mut Removed) -> Result<()> {
        let ingest = self.room(INGEST)?;
        let none = HashSet::new();
        for save in ingest.entries()? {
            let Some(id) = SaveId::parse(&save.name) else { continue };
            let needed = reachable.ingests.get(&id).unwrap_or(&none);
            if save.is_dir == Some(false) {
                continue;
            }
            let dir = ingest.open_beneath(&save.name)?;
            let mut kept = false;
            for entry in dir.entries()? {
                let name = entry.name.to_string_lossy();
                let index = name.strip_suffix(SIDECAR).unwrap_or(&name).parse::<u32>();
                match index {
                    Ok(index) if needed.contains(&index) => kept = true,
                    Ok(_) => delete(&dir, &entry.name, removed)?,
                    Err(_) => kept = true,
                }
            }
            if !kept {
                ingest.remove_dir(&save.name)?;
            }
        }
        Ok(())
    }

    /// Snapshots whose prepared trees an overlay shows right now.
    fn mounted_snapshots(&self) -> Result<HashSet<String>> {
        let mut mounted = HashSet::new();
        let sessions = self.room(SESSIONS)?;
        for entry in sessions.entries()? {
            let Some(session) = self.session_named(&entry.name) else { continue };
            let root = session.root();
            // A job may have mounted it where we do not see it.
            let leased = || matches!(self.no_lease(&root), Err(Error::BusyRoot { .. }));
            let shown = || larder_fs::exists(&root) && larder_fs::mount::is_mount_point(&root).unwrap_or(true);
            if let Some(id) = &session.overlay
                && (leased() || shown())
            {
                mounted.insert(id.clone());
            }
        }
        Ok(mounted)
    }
}

impl Reachable {
    fn add(&mut self, snapshot: &Snapshot) {
        for inode in snapshot.roots.iter().flat_map(|manifest| &manifest.inodes) {
            match BlobId::of(&inode.content) {
                Some(BlobId::Digest(digest)) => {
                    self.digests.insert(digest);
                }
                Some(BlobId::Ingest(save, index)) => {
                    self.ingests.entry(save).or_default().insert(index);
                }
                None => {}
            }
        }
    }
}

fn delete(dir: &Dir, name: &OsStr, removed: &mut Removed) -> Result<()> {
    let meta = match dir.stat_optional(name)? {
        Some(meta) => meta,
        None => return Ok(()),
    };
    match dir.remove_all(name) {
        Err(e) if e.is_not_found() => return Ok(()),
        other => other.map_err(Error::from)?,
    }
    if name.as_encoded_bytes().ends_with(SIDECAR.as_bytes()) {
        return Ok(());
    }
    removed.blobs += 1;
    if meta.nlink == 1 {
        removed.bytes += meta.size;
    }
    Ok(())
}
