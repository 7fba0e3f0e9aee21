//! From a snapshot to directories: choose it, plan, check every blob that will be used, then apply.
//!
//! Here the snapshot is chosen. [`examine`] finds out what has to be done and whether it can be, [`settle`] does
//! it: directory by directory ([`apply`]), and then writes down what is where.
//!
//! Nothing outside the store changes before the plan stands and every blob it needs is known to be
//! sound. A directory that is absent or empty is built aside and renamed into place; an existing one
//! is changed in place, only where it differs.

mod add;
mod apply;
mod choose;
mod clock;
mod examine;
pub(crate) mod plan;
mod settle;

use crate::error::{Error, Result};
use crate::events::Events;
use crate::link_mode::LinkMode;
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::provenance::Provenance;
use crate::snapshot::{Place, Snapshot, load_or_warn};
use crate::store::Store;
pub use add::{AddRequest, Wants};
pub use choose::Guide;
use examine::{How, examine_all, is_newer, refuse_file};
pub(crate) use examine::{Target, nearest_existing, split_root};
use larder_fs::{Lock, Timestamp};
use serde::{Deserialize, Serialize};
pub(crate) use settle::apply_fresh;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A directory to restore or save.
#[derive(Clone)]
pub struct Root<'a> {
    /// Its absolute path, as [`larder_fs::resolve`] gives it.
    pub path: PathBuf,
    /// What is known of its files.
    pub policy: &'a dyn Policy,
}

/// What to restore.
#[derive(Clone)]
pub struct RestoreRequest<'a> {
    /// Where to look.
    pub place: Place,
    /// The exact key.
    pub key: String,
    /// Prefixes of other keys that will do, in order of preference.
    pub fallback: Vec<String>,
    /// Who knows what the snapshots are worth.
    pub guide: Option<&'a dyn Guide>,
    /// Any key of the place will do, the nearest first, as the guide tells.
    pub by_nearness: bool,
    /// The directories, in the order in which they were saved.
    pub roots: Vec<Root<'a>>,
    /// How.
    pub link_mode: LinkMode,
    /// Remove whatever the snapshot does not name.
    pub exact: bool,
    /// Leave a directory alone that was changed after the snapshot was made.
    pub keep_newer: bool,
    /// Only what may serve another place is materialised, as the guide tells. Set by the store itself.
    pub graft: bool,
    /// Pass over a snapshot with times that are still to come: what is touched now must be newer than all of it.
    pub refuse_future: bool,
    /// Change nothing; say what would be done.
    pub dry_run: bool,
}

/// How well a restore met its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The exact key, whole.
    Hit,
    /// Another key, or not all of it.
    Partial,
    /// Nothing.
    #[default]
    Miss,
}

/// Counts of what was done to files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Files that share an inode between store and directory since.
    pub linked: u64,
    /// Files that share extents since.
    pub reflinked: u64,
    /// Files whose bytes were written.
    pub copied: u64,
    /// Files whose bytes were digested.
    pub hashed: u64,
    /// Files that were right already, or known from the last time.
    pub unchanged: u64,
    /// Files, links and directories removed.
    pub removed: u64,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// How well the request was met.
    pub outcome: Outcome,
    /// The key of the snapshot used.
    pub key: Option<String>,
    /// Its name.
    pub snapshot: Option<String>,
    /// File names that the snapshot holds; none where it was not applied.
    pub files: u64,
    /// Bytes of its distinct files; none where it was not applied.
    pub bytes: u64,
    /// Files made, by the name of the mode that made them.
    pub link_modes: BTreeMap<String, u64>,
    /// Why better modes were not used.
    pub why_not: BTreeMap<String, String>,
    /// What was done.
    pub work: Work,
    /// Whether it is of another place, and only parts of it were materialised.
    pub grafted: bool,
    /// Files that were not materialised, because they will be made anew.
    pub remade: u64,
    /// Groups that were left out because a blob of theirs was damaged.
    pub omitted: Vec<String>,
    /// A directory was newer than the snapshot and was left alone.
    pub kept_newer: bool,
    /// Files stayed that vouch for others, and that neither the snapshot nor an earlier one of this directory has: what was
    /// built with them was built from who knows what. Told where [`RestoreRequest::keep_newer`] is set.
    pub strays: bool,
    /// What the snapshot was built from; empty where none was put in place.
    pub provenance: Provenance,
    /// When the snapshot was made.
    pub created: Timestamp,
}
/// Roots must not hold each other: what is in one would be in both, and each restore would undo the other.
pub(crate) fn refuse_nested(roots: &[Root<'_>]) -> Result<()> {
    let mut resolved: Vec<(PathBuf, &Path)> = Vec::new();
    for root in roots {
        let path = larder_fs::resolve_fully(&root.path)?;
        if let Some((_, other)) = resolved.iter().find(|(other, _)| other.starts_with(&path) || path.starts_with(other))
        {
            let reason = format!("it and {} lie in each other", other.display());
            return Err(Error::BadRoot { path: root.path.clone(), reason });
        }
        resolved.push((path, &root.path));
    }
    Ok(())
}

impl Store {
    /// Restores what `request` names. A miss leaves everything alone and is no error.
    ///
    /// # Errors
    ///
    /// [`Error::BadRoot`] where a root cannot be restored to, [`Error::HalfRestored`] where one was changed
    /// and is not what it should be, any other where nothing was changed. Damage in the store is never an
    /// error: it is a warning and a miss.
    pub fn restore(&self, request: &RestoreRequest<'_>, events: &dyn Events) -> Result<Restored> {
        refuse_nested(&request.roots)?;
        let _locks = self.lock_roots(request.roots.iter().map(|root| root.path.as_path()))?;
        let _shared = self.lock_shared()?;
        for root in &request.roots {
            self.refuse_overlap(&root.path)?;
            refuse_file(&root.path)?;
        }
        // A miss costs no look at the directories, and leaves an overlay of an earlier restore alone.
        let mut targets: Option<Vec<Target>> = None;
        let exact = self.find_exact(&request.place, &request.key)?;
        let (order, examined) = match exact.is_empty() {
            true => (self.candidates(request, &exact)?, None),
            // Most exact snapshots are usable: look at the directories meanwhile.
            false => {
                let (order, examined) =
                    rayon::join(|| self.candidates(request, &exact), || examine_all(request, events));
                (order?, Some(examined))
            }
        };
        let mut examined = examined;
        tracing::info!("snapshots with the exact key: {}; tried in order of preference: {}", exact.len(), order.len());
        for found in &order {
            let Some(snapshot) = load_or_warn(found, events) else { continue };
            // Names of snapshots hold a shortened digest of their key.
            if exact.contains(found) && snapshot.header.key != request.key {
                tracing::info!("{} is passed over: its key only looks alike", found.id);
                continue;
            }
            if let Some(examined) = examined.take() {
                targets = Some(examined?);
            }
            if let Some(mut restored) = self.restore_snapshot(&snapshot, request, &mut targets, events)? {
                let whole = restored.omitted.is_empty() && !restored.kept_newer;
                let exact = snapshot.header.key == request.key;
                restored.outcome = if whole && exact { Outcome::Hit } else { Outcome::Partial };
                self.begin_jobs(request, &restored, events);
                for other in order.iter().skip_while(|other| *other != found).skip(1) {
                    tracing::info!("{} is not needed: {} came first", other.id, found.id);
                }
                return Ok(restored);
            }
        }
        // Nothing of this place: parts of other places' snapshots may serve, where nothing stands yet.
        let donors = if order.is_empty() { self.donors(request)? } else { Vec::new() };
        if !donors.is_empty() {
            tracing::info!("nothing of this place: {} snapshots of others are looked at for a graft", donors.len());
        }
        for found in &donors {
            let Ok((header, provenance)) = Snapshot::load_provenance(&found.path) else { continue };
            let donor = (header, provenance);
            if request.guide.is_none_or(|guide| guide.graft(&donor, 0, &[]).is_none()) {
                continue;
            }
            let Some(snapshot) = load_or_warn(found, events) else { continue };
            let fresh = examine_all(request, events)?;
            if !fresh.iter().all(|target| matches!(target, Target::Fresh { .. })) {
                break;
            }
            targets = Some(fresh);
            let graft = RestoreRequest { graft: true, roots: request.roots.clone(), ..request.clone() };
            if let Some(mut restored) = self.restore_snapshot(&snapshot, &graft, &mut targets, events)? {
                restored.outcome = Outcome::Partial;
                restored.grafted = true;
                // It tells of another workspace's sources.
                restored.provenance = Provenance::default();
                self.begin_jobs(request, &restored, events);
                return Ok(restored);
            }
        }
        tracing::info!("a miss: no snapshot can be used, and the directories stay as they are");
        Ok(Restored::default())
    }

    /// A job works with what was restored.
    fn begin_jobs(&self, request: &RestoreRequest<'_>, restored: &Restored, events: &dyn Events) {
        let Some(snapshot) = restored.snapshot.as_ref().filter(|_| !request.dry_run && !restored.kept_newer) else {
            return;
        };
        for root in &request.roots {
            self.begin_job(&root.path, snapshot, events);
        }
        self.mark_used(snapshot);
    }

    fn has_overlay(&self, roots: &[Root<'_>]) -> bool {
        roots.iter().any(|root| larder_fs::exists(&self.overlay_dir(&root.path)))
    }

    pub(crate) fn lock_roots<'p>(&self, roots: impl Iterator<Item = &'p Path>) -> Result<Vec<Option<Lock>>> {
        let mut roots: Vec<&Path> = roots.collect();
        // One order for everybody, so that two processes never wait for each other.
        roots.sort_unstable();
        roots.dedup();
        roots.into_iter().map(|root| self.lock_root(root)).collect()
    }

    /// A root must neither hold the store nor lie in it.
    pub(crate) fn refuse_overlap(&self, root: &Path) -> Result<()> {
        let store = larder_fs::resolve_fully(self.path())?;
        let root = &larder_fs::resolve_fully(root)?;
        if store.starts_with(root) || root.starts_with(&store) {
            return Err(Error::BadRoot { path: root.clone(), reason: "it and the store lie in each other".into() });
        }
        Ok(())
    }

    /// Restores from this snapshot; `None` when its contents cannot be had.
    fn restore_snapshot(
        &self,
        snapshot: &Snapshot,
        request: &RestoreRequest<'_>,
        targets: &mut Option<Vec<Target>>,
        events: &dyn Events,
    ) -> Result<Option<Restored>> {
        let id = &snapshot.header.id;
        if snapshot.roots.len() != request.roots.len() {
            tracing::info!("{id} is passed over: it has {} directories", snapshot.roots.len());
            return Ok(None);
        }
        if request.refuse_future && !clock::has_passed(snapshot, events) {
            return Ok(None);
        }
        let slot = targets;
        let mut targets: &[Target] = match slot {
            Some(targets) => targets,
            None => slot.insert(examine_all(request, events)?),
        };
        let mut restored = Restored {
            key: Some(snapshot.header.key.clone()),
            snapshot: Some(snapshot.header.id.clone()),
            created: snapshot.header.created,
            ..Restored::default()
        };
        if request.keep_newer && !request.exact {
            for ((manifest, target), root) in snapshot.roots.iter().zip(targets).zip(&request.roots) {
                // What a restore that died left behind is new, and worth nothing; what was saved is not lost.
                if is_newer(target, manifest)
                    && !self.is_half_restored(&root.path)?
                    && self.session_manifest(&root.path).is_none_or(|(saved, _)| is_newer(target, &saved))
                {
                    restored.kept_newer = true;
                    tracing::info!("{} stays: it was built later than {id}", root.path.display());
                    return Ok(Some(restored));
                }
            }
        }
        restored.provenance = snapshot.provenance.clone();
        restored.files = snapshot.roots.iter().map(|m| (m.links.len() + m.symlinks.len()) as u64).sum();
        restored.bytes = snapshot.roots.iter().map(Manifest::logical_bytes).sum();
        if !request.dry_run && self.has_overlay(&request.roots) {
            // What was written in an overlay goes with it: only for a snapshot that can take its place.
            let empty = Target::Fresh { exists: true };
            let whole = How { exact: request.exact, strays: false, set_aside: true, remade: &[] };
            for (manifest, root) in snapshot.roots.iter().zip(&request.roots) {
                if self.plan(manifest, &empty, root, whole, events)?.is_none() {
                    return Ok(None);
                }
            }
            for root in &request.roots {
                self.release_overlay(&root.path)?;
            }
            targets = slot.insert(examine_all(request, events)?);
        }
        if !request.graft
            && let Some(done) = self.restore_prepared(snapshot, request, targets, &mut restored, events)?
        {
            return Ok(done.then_some(restored));
        }
        let Some(ready) = self.ready(snapshot, request, targets, events)? else {
            tracing::info!("{id} is passed over: what it holds cannot be had");
            return Ok(None);
        };
        tracing::info!("{id} is taken");
        self.materialise(snapshot, request, targets, &ready, &mut restored, events)?;
        Ok(Some(restored))
    }
}
