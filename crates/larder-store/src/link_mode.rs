//! The ladder of link modes: how a file comes out of the store or goes into it.
//!
//! For each file the best mode that its class allows and that has not proved impossible is tried; what
//! fails for good is not tried again, and why is remembered for the report.

use crate::error::Result;
use crate::policy::Treatment;
use larder_fs::{CopyMethod, Dir, FsType, Meta, Reflink, Volume, clone_file, copy_contents};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A way to make a directory from a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// The best that works, file by file; never a mount.
    #[default]
    Auto,
    /// A tree prepared beforehand, by one rename.
    Spare,
    /// A Btrfs subvolume prepared beforehand, by one snapshot of it.
    Subvolume,
    /// Every file shares its extents with the store.
    Reflink,
    /// Files of classes that nothing rewrites share their inode with the store; the others are copied.
    Hardlink,
    /// A mount that shows a prepared tree and keeps changes apart.
    Overlay,
    /// Every file is copied.
    Copy,
}

impl LinkMode {
    /// All modes, by their place on the ladder.
    pub const ALL: [Self; 7] =
        [Self::Auto, Self::Spare, Self::Subvolume, Self::Reflink, Self::Hardlink, Self::Overlay, Self::Copy];

    /// The mode's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Spare => "spare",
            Self::Subvolume => "subvolume",
            Self::Reflink => "reflink",
            Self::Hardlink => "hardlink",
            Self::Overlay => "overlay",
            Self::Copy => "copy",
        }
    }
}

/// Why a mode is not possible, known after the first failure.
#[derive(Debug, Default)]
struct Gate {
    closed: AtomicBool,
}

/// The state of the ladder during one restore or save, shared by its threads.
#[derive(Debug)]
pub(crate) struct Ladder {
    reflink: Gate,
    hardlink: Gate,
    why_not: Mutex<BTreeMap<&'static str, String>>,
    linked: AtomicU64,
    reflinked: AtomicU64,
    copied: AtomicU64,
}

/// How one file was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Linked,
    Reflinked,
    Copied,
}

impl Ladder {
    /// The ladder for moves between the file systems `store` and `other`, under a forced mode.
    pub(crate) fn new(mode: LinkMode, store: Volume, other: Volume) -> Self {
        let ladder = Self {
            reflink: Gate::default(),
            hardlink: Gate::default(),
            why_not: Mutex::default(),
            linked: AtomicU64::new(0),
            reflinked: AtomicU64::new(0),
            copied: AtomicU64::new(0),
        };
        match mode {
            LinkMode::Copy => {
                ladder.close(&ladder.reflink, "reflink", "copying was asked for");
                ladder.close(&ladder.hardlink, "hardlink", "copying was asked for");
            }
            LinkMode::Hardlink => ladder.close(&ladder.reflink, "reflink", "hard links were asked for"),
            LinkMode::Reflink => ladder.close(&ladder.hardlink, "hardlink", "reflinks were asked for"),
            _ => {}
        }
        if matches!(store.fs_type, FsType::Ext | FsType::Tmpfs) || matches!(other.fs_type, FsType::Ext | FsType::Tmpfs)
        {
            let ext = if matches!(store.fs_type, FsType::Ext | FsType::Tmpfs) { store } else { other };
            ladder.close(&ladder.reflink, "reflink", &format!("{} does not share extents", ext.fs_type.name()));
        }
        if store.dev != other.dev {
            ladder.close(&ladder.hardlink, "hardlink", "store and directory are on different file systems");
        }
        ladder
    }

    fn close(&self, gate: &Gate, mode: &'static str, why: &str) {
        if !gate.closed.swap(true, Ordering::Relaxed) {
            self.note(mode, why);
        }
    }

    /// Remembers why a mode was not used, for the report; the first reason stays.
    pub(crate) fn note(&self, mode: &'static str, why: &str) {
        let mut why_not = self.why_not.lock().expect("no thread panics while it holds the lock");
        why_not.entry(mode).or_insert_with(|| why.to_owned());
    }

    pub(crate) fn may_reflink(&self) -> bool {
        !self.reflink.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn may_hardlink(&self) -> bool {
        !self.hardlink.closed.load(Ordering::Relaxed)
    }

    /// Why better modes were not used: mode and reason.
    pub(crate) fn why_not(&self) -> BTreeMap<String, String> {
        let why_not = self.why_not.lock().expect("no thread panics while it holds the lock");
        why_not.iter().map(|(mode, why)| ((*mode).to_owned(), why.clone())).collect()
    }

    pub(crate) fn count(&self, moved: Moved) {
        let counter = match moved {
            Moved::Linked => &self.linked,
            Moved::Reflinked => &self.reflinked,
            Moved::Copied => &self.copied,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Files linked, reflinked and copied so far.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (get(&self.linked), get(&self.reflinked), get(&self.copied))
    }

    /// Whether the ladder would hard-link a file of this treatment.
    pub(crate) fn would_link(&self, treatment: Treatment) -> bool {
        treatment.share && self.may_hardlink() && !self.may_reflink()
    }

    /// Tries to hard-link; `false` when this file has to be moved in another way.
    pub(crate) fn try_link(&self, from: &Dir, from_name: &OsStr, to: &Dir, name: &OsStr) -> Result<bool> {
        use std::io::ErrorKind;
        match to.hard_link(from, from_name, name) {
            Ok(()) => {
                self.count(Moved::Linked);
                Ok(true)
            }
            Err(e) => match e.kind() {
                // An inode takes only so many names (65,000 on ext4): this one file is full, others are not.
                ErrorKind::TooManyLinks => {
                    self.note("hardlink", "some files have as many names as the file system allows");
                    Ok(false)
                }
                ErrorKind::CrossesDevices => {
                    self.close(&self.hardlink, "hardlink", "store and directory are on different mounts");
                    Ok(false)
                }
                // Somebody else's file (protected_hardlinks), an immutable file, or no links at all here.
                ErrorKind::PermissionDenied | ErrorKind::Unsupported => {
                    self.note("hardlink", "the system forbids linking some files (another owner, or immutable)");
                    Ok(false)
                }
                _ => Err(e.into()),
            },
        }
    }

    /// Moves the bytes of `from` into the new, empty file `to`, by reference where that works.
    pub(crate) fn fill(
        &self,
        from: &File,
        from_meta: &Meta,
        to: &File,
        digest: Option<&mut blake3::Hasher>,
        path: &std::path::Path,
    ) -> Result<Moved> {
        if self.may_reflink() && digest.is_none() && from_meta.size > 0 {
            match clone_file(from, to, path)? {
                Reflink::Done => {
                    self.count(Moved::Reflinked);
                    return Ok(Moved::Reflinked);
                }
                Reflink::Unsupported(why) => self.close(&self.reflink, "reflink", why),
            }
        }
        let (_, _method): (u64, CopyMethod) = copy_contents(from, to, from_meta.is_sparse(), digest, path)?;
        self.count(Moved::Copied);
        Ok(Moved::Copied)
    }
}
