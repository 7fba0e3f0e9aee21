//! What goes free when some snapshots go, though they share blobs.
//!
//! A blob goes when the last snapshot that names it does. Until then each of them carries an equal share of it: of two
//! snapshots with the same blobs neither frees anything alone, and both together are as cheap to keep as one. Blobs
//! that cannot go (a workspace links them, a pinned or leased snapshot names them) weigh nothing.

use std::ops::{Add, AddAssign, SubAssign};

/// Room on a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub inodes: u64,
}

impl Freed {
    /// Whether this is at least as much, of both.
    pub fn covers(self, other: Self) -> bool {
        self.bytes >= other.bytes && self.inodes >= other.inodes
    }

    /// What of `other` this does not cover.
    pub fn short_of(self, other: Self) -> Self {
        Self { bytes: other.bytes.saturating_sub(self.bytes), inodes: other.inodes.saturating_sub(self.inodes) }
    }
}

impl Add for Freed {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }
}

impl AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Freed {
    fn sub_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.inodes = self.inodes.saturating_sub(other.inodes);
    }
}

#[derive(Clone, Debug)]
struct Blob {
    size: Freed,
    /// Snapshots that name it and are still there.
    left: u32,
    /// Whether it can go at all.
    loose: bool,
    /// Who names it, in `owners`.
    owners: std::ops::Range<usize>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    blobs: Vec<u32>,
    /// What it alone has besides: its own file and trees.
    own: Freed,
    held: bool,
    gone: bool,
    /// Blobs that can go.
    loose: u32,
    /// Its share of them and what it alone has.
    bytes: f64,
    inodes: f64,
}

/// Snapshots, the blobs they name, and which of the snapshots are gone.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    members: Vec<Member>,
    blobs: Vec<Blob>,
    owners: Vec<u32>,
}

impl Sizes {
    /// Of so many snapshots, by index.
    pub fn new(snapshots: usize) -> Self {
        Self { members: vec![Member::default(); snapshots], ..Self::default() }
    }

    /// What this snapshot has alone, besides blobs.
    pub fn add_own(&mut self, snapshot: usize, own: Freed) {
        self.members[snapshot].own += own;
    }

    /// This snapshot stays, whatever happens.
    pub fn hold(&mut self, snapshot: usize) {
        self.members[snapshot].held = true;
    }

    /// A blob that these snapshots name, each once. `linked` where something outside the store has it too.
    pub fn add_blob(&mut self, snapshots: impl IntoIterator<Item = usize>, size: Freed, linked: bool) {
        let number = u32::try_from(self.blobs.len()).expect("blobs are counted in 32 bits");
        let start = self.owners.len();
        for snapshot in snapshots {
            self.members[snapshot].blobs.push(number);
            self.owners.push(u32::try_from(snapshot).expect("snapshots are counted in 32 bits"));
        }
        let owners = start..self.owners.len();
        let left = u32::try_from(owners.len()).expect("snapshots are counted in 32 bits");
        self.blobs.push(Blob { size, left, loose: !linked, owners });
    }

    /// Computes the shares; once, when everything was added.
    pub(crate) fn settle(&mut self) {
        for blob in &mut self.blobs {
            let owners = &self.owners[blob.owners.clone()];
            blob.loose &= owners.iter().all(|owner| !self.members[*owner as usize].held);
        }
        for member in &mut self.members {
            (member.bytes, member.inodes) = (member.own.bytes as f64, member.own.inodes as f64);
            for blob in member.blobs.iter().map(|blob| &self.blobs[*blob as usize]).filter(|blob| blob.loose) {
                member.loose += 1;
                member.bytes += blob.size.bytes as f64 / f64::from(blob.left);
                member.inodes += blob.size.inodes as f64 / f64::from(blob.left);
            }
        }
    }

    /// Whether removing this snapshot can make room, alone or with others.
    pub(crate) fn can_free(&self, snapshot: usize) -> bool {
        let member = &self.members[snapshot];
        member.loose > 0 || member.blobs.is_empty()
    }

    /// The snapshot's share of what can go: bytes and files.
    pub(crate) fn share(&self, snapshot: usize) -> (f64, f64) {
        let member = &self.members[snapshot];
        (member.bytes, member.inodes)
    }

    /// Takes the snapshot away; what that frees.
    pub(crate) fn remove(&mut self, snapshot: usize) -> Freed {
        self.turn(snapshot, true)
    }

    /// Puts a removed snapshot back; what it had freed.
    pub(crate) fn put_back(&mut self, snapshot: usize) -> Freed {
        self.turn(snapshot, false)
    }

    fn turn(&mut self, snapshot: usize, gone: bool) -> Freed {
        let Self { members, blobs, owners } = self;
        debug_assert_ne!(members[snapshot].gone, gone);
        members[snapshot].gone = gone;
        let mut freed = members[snapshot].own;
        let numbers = std::mem::take(&mut members[snapshot].blobs);
        for number in &numbers {
            let blob = &mut blobs[*number as usize];
            let before = blob.left;
            blob.left = if gone { before - 1 } else { before + 1 };
            if !blob.loose {
                continue;
            }
            if before.min(blob.left) == 0 {
                freed += blob.size;
                continue;
            }
            let change = 1.0 / f64::from(blob.left) - 1.0 / f64::from(before);
            for owner in &owners[blob.owners.clone()] {
                // One that is gone keeps the share that it had when it went, and finds it again.
                let other = &mut members[*owner as usize];
                if !other.gone && *owner as usize != snapshot {
                    other.bytes += blob.size.bytes as f64 * change;
                    other.inodes += blob.size.inodes as f64 * change;
                }
            }
        }
        members[snapshot].blobs = numbers;
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: u64) -> Freed {
        Freed { bytes, inodes: 1 }
    }

    #[test]
    fn shared_blobs_go_with_the_last_who_names_them() {
        let mut sizes = Sizes::new(3);
        sizes.add_blob([0, 1], bytes(100), false);
        sizes.add_blob([0, 1, 2], bytes(30), false);
        sizes.add_blob([2], bytes(7), true);
        sizes.add_own(0, bytes(1));
        sizes.settle();
        assert_eq!(sizes.share(0).0.round(), 61.0);
        assert_eq!(sizes.remove(0), bytes(1));
        assert_eq!(sizes.share(1).0.round(), 115.0);
        assert_eq!(sizes.remove(1).bytes, 100);
        assert_eq!(sizes.remove(2), Freed { bytes: 30, inodes: 1 });
        assert_eq!(sizes.put_back(2).bytes, 30);
        assert_eq!(sizes.put_back(1).bytes, 100);
        assert_eq!(sizes.share(2).0.round(), 15.0);
    }

    #[test]
    fn what_a_workspace_links_or_a_held_snapshot_names_frees_nothing() {
        let mut sizes = Sizes::new(3);
        sizes.add_blob([0], bytes(100), true);
        sizes.add_blob([1, 2], bytes(100), false);
        sizes.hold(2);
        sizes.settle();
        assert!(!sizes.can_free(0) && !sizes.can_free(1));
        assert_eq!((sizes.remove(0), sizes.remove(1)), (Freed::default(), Freed::default()));
    }
}
