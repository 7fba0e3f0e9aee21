//! The census: what every snapshot holds, what it takes on disk, and what removing it would free.
//!
//! All figures in bytes. *Logical* is the sum of the lengths of the files of a snapshot, as a copy of them would have.
//! What is *stored* is space on disk as the file system counts it (`st_blocks`): holes take nothing, short files a
//! whole block, and each blob counts once however many snapshots name it. *Unique* is what is stored for a snapshot
//! (or a group of them) alone: the blobs that no other one names, its own file with the small files in it, its
//! prepared trees. *Reclaimable* is what removing it frees: what is unique and has no name outside the store, since
//! a blob that a workspace links too stays where it is. Extents that a reflink shares with a workspace cannot be told
//! from others by a stat; there, reclaimable bytes are the most that may be freed.
//!
//! Snapshots are read one after another, a few at a time, and nothing is kept of their paths: a blob is a number of 32
//! bits, with a count of the snapshots that name it and the exclusive or of their indices. So when one of two goes, the
//! other is known without a search, and [`Census::remove`] costs no more than the blobs of the one that is removed.
//!
//! The census takes no lock: what it counts may change meanwhile. Blobs of a save that is under way count as orphans.
//! Whoever acts upon it holds the store's exclusive lock.

mod disk;
mod skim;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests arrange their own files")]
mod tests;

use crate::blob::BlobId;
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::evict::{Freed, Sizes};
use crate::lineage::Lineage;
use crate::snapshot::{Found, Header};
use crate::store::{Store, chain};
pub(crate) use disk::total as taken_below;
use disk::{Disk, OnDisk};
use rayon::prelude::*;
use skim::Skimmed;
pub(crate) use skim::skim;
use std::collections::{BTreeMap, HashMap};

/// So many snapshots are in memory at once, while they are read.
const BATCH: usize = 8;

/// A snapshot and what it holds.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Where it is.
    pub found: Found,
    /// What a person wants to know of it.
    pub header: Header,
    /// The sequence that it belongs to.
    pub lineage: Lineage,
    /// The sum of the lengths of its distinct files, in bytes.
    pub logical: u64,
    /// Names of files and symbolic links.
    pub files: u64,
    /// Distinct blobs that it names.
    pub blobs: u64,
    /// Blobs of these that are not in the store.
    pub missing: u64,
    /// What its own file takes on disk, with the small files in it, in bytes.
    pub own: u64,
    /// What its prepared trees take on disk beside blobs, in bytes.
    pub trees: u64,
    /// What is stored for it alone, in bytes, among the snapshots that were not removed from the census.
    pub unique: u64,
    /// What removing it frees, in bytes, among the snapshots that were not removed from the census.
    pub reclaimable: u64,
    own_freed: u64,
    removed: bool,
}

/// The whole store. Bytes are space on disk but for `logical`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The sum of the lengths of the files of all snapshots.
    pub logical: u64,
    /// Blobs that snapshots name and that are there.
    pub blobs: u64,
    /// Blobs that snapshots name and that are not there: lost or set aside.
    pub missing: u64,
    /// What the blobs take.
    pub blob_bytes: u64,
    /// What the files of snapshots take.
    pub snapshot_bytes: u64,
    /// Prepared trees.
    pub trees: u64,
    /// What prepared trees take beside blobs, also those of snapshots that are gone.
    pub tree_bytes: u64,
    /// Blobs that no readable snapshot names: of crashed saves, of damaged snapshots, or of a save that is under way.
    pub orphans: u64,
    /// What they take.
    pub orphan_bytes: u64,
    /// What a sweep of them would free.
    pub orphan_reclaimable: u64,
    /// What is set aside in quarantine.
    pub quarantine_bytes: u64,
    /// Mirrors of sibling repositories.
    pub mirrors: u64,
    /// What they take.
    pub mirror_bytes: u64,
    /// What sessions with the changes of their overlays, staging, damaged snapshots and files that are not larder's take.
    pub other_bytes: u64,
}

impl Totals {
    /// All that the store takes on disk, in bytes, but for its few directories of its own.
    pub fn stored(&self) -> u64 {
        let Self {
            blob_bytes,
            snapshot_bytes,
            tree_bytes,
            orphan_bytes,
            quarantine_bytes,
            mirror_bytes,
            other_bytes,
            ..
        } = self;
        blob_bytes + snapshot_bytes + tree_bytes + orphan_bytes + quarantine_bytes + mirror_bytes + other_bytes
    }
}

/// Snapshots taken together. Bytes are space on disk but for `logical`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many.
    pub snapshots: u64,
    /// Names of files and symbolic links.
    pub files: u64,
    /// The sum of the lengths of their files.
    pub logical: u64,
    /// What they take: each blob that any of them names once, their files, their prepared trees.
    pub stored: u64,
    /// What of it is stored for them alone.
    pub unique: u64,
    /// What removing all of them frees.
    pub reclaimable: u64,
}

/// A blob, or several that are names of one inode.
#[derive(Clone, Copy, Debug, Default)]
struct Blob {
    on_disk: OnDisk,
    /// Snapshots that name it and were not removed.
    refs: u32,
    /// The exclusive or of their indices: the index of the only one where there is one.
    owners: u32,
}

/// What the store holds.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Every snapshot that can be read, the newest first.
    pub snapshots: Vec<Counted>,
    /// Snapshots that cannot be read, with the reason. What only they name counts as orphans.
    pub damaged: Vec<(Found, String)>,
    /// The whole store, as it was when it was counted.
    pub totals: Totals,
    /// Blobs and snapshots by the user id of their owner.
    pub owners: BTreeMap<u32, u64>,
    blobs: Vec<Blob>,
    /// The blobs of each snapshot, one snapshot after another.
    named: Vec<u32>,
    /// Where the blobs of each snapshot end in `named`.
    ends: Vec<usize>,
}

impl Store {
    /// Counts what the store holds. Damaged snapshots are named in a warning each.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the store itself cannot be read.
    pub fn census(&self, events: &dyn Events) -> Result<Census> {
        let mut reading = Reading::default();
        let (all, closed) = self.snapshots_seen()?;
        for (place, e) in closed {
            let reason = chain(&e);
            events.warn(&format!("{reason}; what is in it is not counted: see `larder verify --repair --dry-run`"));
            let id = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            reading.census.damaged.push((Found { id, path: place }, reason));
        }
        events.phase(Phase::Count, all.len() as u64);
        for batch in all.chunks(BATCH) {
            let read: Vec<Result<Skimmed>> = batch.par_iter().map(|found| skim(&found.path)).collect();
            for (found, read) in batch.iter().zip(read) {
                reading.take(found, read, events)?;
            }
            events.advance(batch.len() as u64);
        }
        let mut disk = Disk::of(self, &reading.ids, events)?;
        for (found, _) in &reading.census.damaged {
            disk.add_other(larder_fs::metadata(&found.path)?.as_ref());
        }
        let (mirrors, mirror_bytes) = self.mirror_sums()?;
        let mut census = reading.finish(disk);
        (census.totals.mirrors, census.totals.mirror_bytes) = (mirrors, mirror_bytes);
        Ok(census)
    }
}

/// A census in the making.
#[derive(Default)]
struct Reading {
    census: Census,
    ids: HashMap<BlobId, u32>,
}

impl Reading {
    fn take(&mut self, found: &Found, read: Result<Skimmed>, events: &dyn Events) -> Result<()> {
        let skimmed = match read {
            Ok(skimmed) => skimmed,
            // Somebody removed it just now.
            Err(Error::Fs(e)) if e.is_not_found() => return Ok(()),
            Err(e) => {
                let reason = chain(&e);
                events.warn(&format!("{reason}; it is not counted: remove it with `larder rm {}`", found.id));
                self.census.damaged.push((found.clone(), reason));
                return Ok(());
            }
        };
        let Skimmed { header, meta, logical, files, blobs } = skimmed;
        for blob in &blobs {
            let next = u32::try_from(self.ids.len()).expect("memory ends before numbers of blobs do");
            self.census.named.push(*self.ids.entry(*blob).or_insert(next));
        }
        self.census.ends.push(self.census.named.len());
        let own = disk::taken(&meta);
        *self.census.owners.entry(meta.uid).or_default() += 1;
        self.census.snapshots.push(Counted {
            found: found.clone(),
            lineage: Lineage::of(found, &header),
            header,
            logical,
            files,
            blobs: blobs.len() as u64,
            missing: 0,
            own,
            trees: 0,
            unique: 0,
            reclaimable: 0,
            own_freed: if meta.nlink <= 1 { own } else { 0 },
            removed: false,
        });
        Ok(())
    }

    fn finish(self, disk: Disk) -> Census {
        let Self { mut census, ids } = self;
        drop(ids);
        let Disk { blobs, same, orphans, orphan_bytes, mut trees, prepared, owners, quarantine, other } = disk;
        owners.into_iter().for_each(|(uid, files)| *census.owners.entry(uid).or_default() += files);
        census.totals = Totals {
            blobs: blobs.iter().flatten().count() as u64 + same.len() as u64,
            missing: (blobs.iter().filter(|blob| blob.is_none()).count() - same.len()) as u64,
            blob_bytes: blobs.iter().flatten().map(|on_disk| on_disk.stored).sum(),
            trees: prepared,
            tree_bytes: trees.values().map(|on_disk| on_disk.stored).sum(),
            orphans,
            orphan_bytes: orphan_bytes.stored,
            orphan_reclaimable: orphan_bytes.freed,
            quarantine_bytes: quarantine,
            other_bytes: other,
            ..Totals::default()
        };
        if !same.is_empty() {
            census.merge(&same);
        }
        census.blobs = blobs.iter().map(|blob| Blob { on_disk: blob.unwrap_or_default(), ..Blob::default() }).collect();
        for index in 0..census.snapshots.len() {
            for at in census.range(index) {
                let blob = &mut census.blobs[census.named[at] as usize];
                blob.refs += 1;
                blob.owners ^= number(index);
            }
        }
        for index in 0..census.snapshots.len() {
            let (mut unique, mut freed, mut missing) = (0, 0, 0);
            for id in &census.named[census.range(index)] {
                let blob = &census.blobs[*id as usize];
                missing += u64::from(blobs[*id as usize].is_none());
                if blob.refs == 1 {
                    unique += blob.on_disk.stored;
                    freed += blob.on_disk.freed;
                }
            }
            let counted = &mut census.snapshots[index];
            let tree = trees.remove(&counted.found.id).unwrap_or_default();
            counted.missing = missing;
            counted.trees = tree.stored;
            counted.own_freed += tree.freed;
            counted.unique = unique + counted.own + counted.trees;
            counted.reclaimable = freed + counted.own_freed;
            census.totals.logical = census.totals.logical.saturating_add(counted.logical);
            census.totals.snapshot_bytes += counted.own;
        }
        census
    }
}

impl Census {
    /// Removes a snapshot from the census, by its index in `snapshots`, and returns the bytes that removing it now
    /// frees. The figures of the others follow: what only one of them needs now is unique to it. Nothing on disk
    /// changes. Removing one again frees nothing.
    pub fn remove(&mut self, index: usize) -> u64 {
        let counted = &mut self.snapshots[index];
        if std::mem::replace(&mut counted.removed, true) {
            return 0;
        }
        let freed = std::mem::take(&mut counted.reclaimable);
        counted.unique = 0;
        for at in self.range(index) {
            let blob = &mut self.blobs[self.named[at] as usize];
            blob.refs -= 1;
            blob.owners ^= number(index);
            if blob.refs == 1 {
                let heir = &mut self.snapshots[blob.owners as usize];
                heir.unique += blob.on_disk.stored;
                heir.reclaimable += blob.on_disk.freed;
            }
        }
        freed
    }

    /// Whether [`Census::remove`] was called for the snapshot of this index.
    pub fn is_removed(&self, index: usize) -> bool {
        self.snapshots[index].removed
    }

    /// The sums of groups of snapshots: `of` says of each snapshot, by its index, which group it is in, from 0 on.
    /// Removed ones are in none. What two snapshots of one group share is unique to the group.
    pub fn groups(&self, of: &[usize]) -> Vec<Sums> {
        assert_eq!(of.len(), self.snapshots.len(), "every snapshot is in one group");
        let mut sums = vec![Sums::default(); of.iter().max().map_or(0, |last| last + 1)];
        let mut order: Vec<usize> = (0..of.len()).filter(|index| !self.snapshots[*index].removed).collect();
        order.sort_by_key(|index| of[*index]);
        // For each blob the group that named it last, and how many snapshots of that group do.
        let mut last = vec![(usize::MAX, 0_u32); self.blobs.len()];
        for index in order {
            let (group, counted) = (of[index], &self.snapshots[index]);
            let sum = &mut sums[group];
            sum.snapshots += 1;
            sum.files += counted.files;
            sum.logical = sum.logical.saturating_add(counted.logical);
            sum.stored += counted.own + counted.trees;
            sum.unique += counted.own + counted.trees;
            sum.reclaimable += counted.own_freed;
            for id in &self.named[self.range(index)] {
                let (blob, seen) = (&self.blobs[*id as usize], &mut last[*id as usize]);
                if seen.0 != group {
                    *seen = (group, 0);
                    sum.stored += blob.on_disk.stored;
                }
                seen.1 += 1;
                // All that name it are in this group.
                if seen.1 == blob.refs {
                    sum.unique += blob.on_disk.stored;
                    sum.reclaimable += blob.on_disk.freed;
                }
            }
        }
        sums
    }

    /// The sums of some snapshots taken together, by their indices.
    pub fn together(&self, chosen: &[usize]) -> Sums {
        let mut of = vec![0; self.snapshots.len()];
        chosen.iter().for_each(|index| of[*index] = 1);
        self.groups(&of).into_iter().nth(1).unwrap_or_default()
    }

    /// What goes free with which snapshots, for a plan of evictions; whoever was removed from the census is gone already.
    pub(crate) fn sizes(&self) -> Sizes {
        let mut owners: Vec<(u32, u32)> = Vec::with_capacity(self.named.len());
        let mut sizes = Sizes::new(self.snapshots.len());
        for (index, counted) in self.snapshots.iter().enumerate().filter(|(_, counted)| !counted.removed) {
            sizes.add_own(index, Freed { bytes: counted.own_freed, inodes: 1 });
            owners.extend(self.named[self.range(index)].iter().map(|id| (*id, number(index))));
        }
        owners.sort_unstable();
        for named in owners.chunk_by(|a, b| a.0 == b.0) {
            let OnDisk { freed, .. } = self.blobs[named[0].0 as usize].on_disk;
            let size = Freed { bytes: freed, inodes: u64::from(freed > 0) };
            sizes.add_blob(named.iter().map(|(_, index)| *index as usize), size, freed == 0);
        }
        sizes
    }

    /// Lets blobs that are names of one inode be one.
    fn merge(&mut self, same: &HashMap<u32, u32>) {
        let mut named = Vec::with_capacity(self.named.len());
        for index in 0..self.snapshots.len() {
            let mut ids: Vec<u32> =
                self.named[self.range(index)].iter().map(|id| same.get(id).copied().unwrap_or(*id)).collect();
            ids.sort_unstable();
            ids.dedup();
            named.push(ids);
        }
        let mut end = 0;
        self.ends = named
            .iter()
            .map(|ids| {
                end += ids.len();
                end
            })
            .collect();
        self.named = named.concat();
    }

    /// Where the blobs of a snapshot stand in `named`.
    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("snapshots are fewer than 32 bits can count")
}
