//! Trees prepared beforehand, so that a restore is one rename, one subvolume snapshot or one mount.
//!
//! ```text
//! trees/ID/spare-X/0…      directories like those of snapshot ID; a restore takes one away whole
//! trees/ID/subvolume-X/0…  Btrfs subvolumes; a restore makes a snapshot of them and leaves them
//! trees/ID/lower-X/0…      lower directories of overlay mounts; only ever read
//! …/inodes                 the inode numbers of their files, by root and manifest
//! ```
//!
//! Trees are derived: losing one costs the time to make it. They are built in `tmp/` and renamed, so one
//! that has its name is complete. Before use every file is compared with the manifest by inode number,
//! length and mtime, as blobs are; a tree that differs is thrown away.

use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::join::range;
use crate::link_mode::{Ladder, LinkMode};
use crate::manifest::Manifest;
use crate::restore::{RestoreRequest, Restored, Root, Target, apply_fresh, nearest_existing, split_root};
use crate::snapshot::Snapshot;
use crate::store::{Staging, Store, TREES, chain};
use larder_fs::{Dir, FsType, Kind, Volume, subvolume};
use rayon::prelude::*;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const RECORD: &str = "inodes";

/// What a tree is prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    /// To be renamed into place.
    Spare,
    /// To be copied by Btrfs.
    Subvolume,
    /// To be shown by an overlay.
    Lower,
}

impl TreeKind {
    /// What the names of such trees begin with.
    fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            other => other.mode().name(),
        }
    }

    /// The link mode that restores by such trees.
    fn mode(self) -> LinkMode {
        match self {
            Self::Spare => LinkMode::Spare,
            Self::Subvolume => LinkMode::Subvolume,
            Self::Lower => LinkMode::Overlay,
        }
    }
}

/// A prepared tree that was found.
pub(crate) struct Prepared {
    path: PathBuf,
    /// Inode numbers by root and inode of the manifest.
    inodes: Vec<Vec<u64>>,
}

impl Store {
    /// Prepares a tree of the snapshot, unless there is one of that kind.
    /// Returns how many files it has, 0 where it was there already.
    ///
    /// # Errors
    ///
    /// When the store is read-only, its file system refuses, or blobs of the snapshot are damaged.
    pub fn prepare(
        &self,
        snapshot: &Snapshot,
        kind: TreeKind,
        roots: &[Root<'_>],
        link_mode: LinkMode,
        events: &dyn Events,
    ) -> Result<u64> {
        let _shared = self.lock_shared()?;
        if self.find_tree(snapshot, kind)?.is_some() {
            return Ok(0);
        }
        self.build_tree(snapshot, kind, roots, link_mode, events).map(|(_, files)| files)
    }

    /// Makes a tree and gives it its name; returns where it is and how many files it has.
    fn build_tree(
        &self,
        snapshot: &Snapshot,
        kind: TreeKind,
        roots: &[Root<'_>],
        link_mode: LinkMode,
        events: &dyn Events,
    ) -> Result<(PathBuf, u64)> {
        let staging = self.staging()?;
        let tree = OsStr::new("tree");
        staging.dir.create_dir(tree)?;
        let dir = staging.dir.open_beneath(tree)?;
        let volume = Volume::of(&self.root)?;
        let mut record = Vec::new();
        let mut files = 0;
        for (index, (manifest, root)) in snapshot.roots.iter().zip(roots).enumerate() {
            let name = OsString::from(index.to_string());
            match kind {
                TreeKind::Subvolume => subvolume::create(&dir, &name)?,
                _ => dir.create_dir(&name)?,
            }
            let at = dir.open_beneath(&name)?;
            let ladder = Ladder::new(link_mode, volume, Volume::of(&at)?);
            let Some(inodes) = apply_fresh(self, snapshot, manifest, root, &at, &ladder, events)? else {
                return Err(Error::BadSnapshot {
                    path: snapshot.path.clone(),
                    reason: "some of its blobs are damaged, so no tree of it can be prepared".into(),
                });
            };
            files += manifest.links.len() as u64;
            record.push(inodes);
        }
        let bytes = postcard::to_stdvec(&record).expect("numbers are plain data");
        larder_fs::write_new(&dir, OsStr::new(RECORD), &[blake3::hash(&bytes).as_bytes(), &bytes], false)?;
        let trees = self.room(TREES)?;
        let id = OsStr::new(&snapshot.header.id);
        trees.ensure_dir(id)?;
        let name: OsString = format!("{}-{:08x}", kind.name(), fastrand::u32(..)).into();
        let trees = trees.open_beneath(id)?;
        staging.dir.rename(tree, &trees, &name)?;
        Ok((trees.join(name), files))
    }

    fn find_tree(&self, snapshot: &Snapshot, kind: TreeKind) -> Result<Option<PathBuf>> {
        let dir = self.path().join(TREES).join(&snapshot.header.id);
        let Some(dir) = Dir::open_optional(&dir)? else { return Ok(None) };
        let prefix = format!("{}-", kind.name());
        let found = dir.entries()?.into_iter().find(|entry| entry.name.to_string_lossy().starts_with(&prefix));
        Ok(found.map(|entry| dir.join(entry.name)))
    }

    /// Restores by a prepared tree. `Some(true)` when that was done, `None` when files have to be
    /// materialised one by one.
    pub(crate) fn restore_prepared(
        &self,
        snapshot: &Snapshot,
        request: &RestoreRequest<'_>,
        targets: &[Target],
        restored: &mut Restored,
        events: &dyn Events,
    ) -> Result<Option<bool>> {
        let kinds: &[TreeKind] = match request.link_mode {
            LinkMode::Auto => &[TreeKind::Spare, TreeKind::Subvolume],
            LinkMode::Spare => &[TreeKind::Spare],
            LinkMode::Subvolume => &[TreeKind::Subvolume],
            LinkMode::Overlay => &[TreeKind::Lower],
            _ => return Ok(None),
        };
        for kind in kinds {
            match self.try_prepared(*kind, snapshot, request, targets, events) {
                Ok(Ok(inodes)) => {
                    let files = snapshot.roots.iter().map(|m| m.links.len() as u64).sum();
                    restored.link_modes.insert(kind.mode().name().to_owned(), files);
                    let shown = (*kind == TreeKind::Lower).then(|| snapshot.header.id.clone());
                    for (index, (root, inodes)) in request.roots.iter().zip(inodes).enumerate() {
                        self.remember(snapshot, index, &root.path, inodes, shown.clone(), events);
                    }
                    return Ok(Some(true));
                }
                Ok(Err(why)) => {
                    restored.why_not.entry(kind.mode().name().to_owned()).or_insert(why);
                }
                Err(e @ Error::HalfRestored { .. }) => return Err(e),
                Err(e) => {
                    // The ladder goes on; what was asked for by name deserves a word.
                    if request.link_mode != LinkMode::Auto {
                        events.warn(&format!("{} did not work: {}", kind.mode().name(), chain(&e)));
                    }
                    restored.why_not.insert(kind.mode().name().to_owned(), chain(&e));
                }
            }
        }
        Ok(None)
    }

    /// Tries one kind: the inode numbers in the directories when it worked, else why not.
    fn try_prepared(
        &self,
        kind: TreeKind,
        snapshot: &Snapshot,
        request: &RestoreRequest<'_>,
        targets: &[Target],
        events: &dyn Events,
    ) -> Result<std::result::Result<Vec<Vec<u64>>, String>> {
        if request.dry_run {
            return Ok(Err("nothing is changed in a dry run".into()));
        }
        if self.is_read_only() {
            return Ok(Err("the store is read-only".into()));
        }
        if targets.iter().any(|target| matches!(target, Target::Over { .. })) {
            return Ok(Err("the directory is not empty".into()));
        }
        let store = Volume::of(&self.root)?;
        if kind == TreeKind::Subvolume && store.fs_type != FsType::Btrfs {
            return Ok(Err(format!("the store lies on {}, not on btrfs", store.fs_type.name())));
        }
        if kind != TreeKind::Lower {
            for root in &request.roots {
                let beside = Volume::of(&nearest_existing(&root.path)?)?;
                let same = match kind {
                    TreeKind::Subvolume => beside.fs_type == FsType::Btrfs,
                    _ => store.can_rename_to(&beside),
                };
                if !same {
                    return Ok(Err("store and directory are on different file systems".into()));
                }
            }
        }
        let path = match self.find_tree(snapshot, kind)? {
            Some(path) => path,
            // What was asked for by name is prepared now; a spare made now would be a plain restore.
            None if request.link_mode == kind.mode() && kind != TreeKind::Spare => {
                self.build_tree(snapshot, kind, &request.roots, LinkMode::Auto, events)?.0
            }
            None => return Ok(Err("none was prepared".into())),
        };
        // A spare is taken out of everybody's sight first; a rename has one winner.
        let staging = self.staging()?;
        let path = match kind {
            TreeKind::Spare => {
                let (parent, name) = split_root(&path)?;
                match Dir::open(parent)?.rename(name, &staging.dir, OsStr::new("taken")) {
                    Err(e) if e.is_not_found() => return Ok(Err("another restore took the last one".into())),
                    other => other?,
                }
                staging.dir.join("taken")
            }
            _ => path,
        };
        let Some(prepared) = self.check_tree(path.clone(), snapshot, events)? else {
            if kind != TreeKind::Spare {
                larder_fs::remove_tree(&path)?;
            }
            return Ok(Err("the prepared tree had been changed and was thrown away".into()));
        };
        for (index, root) in request.roots.iter().enumerate() {
            let placed = self.put_in_place(kind, &prepared.path.join(index.to_string()), &root.path, &staging);
            // Only the first may give way to another mode: later ones leave roots that were changed already.
            placed.map_err(|e| match index {
                0 => e,
                _ => Error::HalfRestored { path: root.path.clone(), source: Some(Box::new(e)) },
            })?;
        }
        Ok(Ok(prepared.inodes))
    }

    /// Compares a prepared tree with the manifests and its record of inode numbers.
    pub(crate) fn check_tree(
        &self,
        path: PathBuf,
        snapshot: &Snapshot,
        events: &dyn Events,
    ) -> Result<Option<Prepared>> {
        events.phase(Phase::Check, 0);
        let Some(bytes) = larder_fs::read_optional(&path.join(RECORD))? else { return Ok(None) };
        let Some((digest, body)) = bytes.split_first_chunk::<32>() else { return Ok(None) };
        if blake3::hash(body).as_bytes() != digest {
            return Ok(None);
        }
        let Ok(inodes) = postcard::from_bytes::<Vec<Vec<u64>>>(body) else { return Ok(None) };
        if inodes.len() != snapshot.roots.len() {
            return Ok(None);
        }
        for (index, (manifest, record)) in snapshot.roots.iter().zip(&inodes).enumerate() {
            let Some(dir) = Dir::open_optional(&path.join(index.to_string()))? else { return Ok(None) };
            if !is_untouched(&dir, manifest, record)? {
                tracing::debug!(path = %path.display(), "a prepared tree differs from its snapshot");
                return Ok(None);
            }
        }
        Ok(Some(Prepared { path, inodes }))
    }

    fn put_in_place(&self, kind: TreeKind, tree: &Path, root: &Path, staging: &Staging) -> Result<()> {
        let (parent, name) = split_root(root)?;
        larder_fs::create_parents(parent)?;
        let parent_dir = Dir::open(parent)?;
        match kind {
            TreeKind::Spare => {
                let (from, tree_name) = split_root(tree)?;
                Ok(Dir::open(from)?.rename_dir(tree_name, &parent_dir, name)?)
            }
            TreeKind::Subvolume => {
                let made = OsStr::new("snapshot");
                subvolume::snapshot(&Dir::open(tree)?, &staging.dir, made)?;
                // A subvolume can be renamed onto an empty directory like any other directory.
                Ok(staging.dir.rename_dir(made, &parent_dir, name)?)
            }
            TreeKind::Lower => {
                parent_dir.ensure_dir(name)?;
                self.begin_lease(root)?;
                let changes = self.overlay_dir(root);
                larder_fs::remove_tree(&changes)?;
                let (upper, work) = (changes.join("upper"), changes.join("work"));
                larder_fs::create_parents(&upper)?;
                larder_fs::create_parents(&work)?;
                // The merged directory takes its own mode and time from the upper one.
                let lower = Dir::open(tree)?.stat_self()?;
                let upper_dir = Dir::open(&upper)?;
                upper_dir.set_mode_self(lower.mode)?;
                upper_dir.set_mtime_self(lower.mtime)?;
                larder_fs::mount::overlay(tree, &upper, &work, root).or_else(|e| {
                    self.end_lease(root);
                    larder_fs::remove_tree(&changes)?;
                    Err(e.into())
                })
            }
        }
    }

    /// Takes away an overlay that larder mounted at `root` before, with what was changed in it; an error while
    /// another process uses it.
    pub(crate) fn release_overlay(&self, root: &Path) -> Result<()> {
        if self.is_read_only() || !larder_fs::exists(&self.overlay_dir(root)) {
            return Ok(());
        }
        self.end_lease(root);
        let _nobody = self.no_lease(root)?;
        if self.session(root).is_none_or(|session| session.overlay.is_none()) {
            return Ok(());
        }
        // After a restart of the machine something else may be mounted there: only an overlay is ours.
        if larder_fs::exists(root)
            && larder_fs::mount::is_mount_point(root)?
            && Volume::of(&Dir::open(root)?)?.fs_type == FsType::Overlay
        {
            larder_fs::mount::unmount(root)?;
        }
        self.drop_session(root)?;
        Ok(larder_fs::remove_tree(&self.overlay_dir(root))?)
    }
}

/// Whether the tree below `root` is still the one that was prepared. Nothing is listed: a directory that got or
/// lost an entry has another time.
fn is_untouched(root: &Dir, manifest: &Manifest, record: &[u64]) -> Result<bool> {
    if record.len() != manifest.inodes.len() {
        return Ok(false);
    }
    let paths = manifest.dir_paths();
    let check = |index: usize| -> Result<bool> {
        let entry = &manifest.dirs[index];
        let dir = match root.open_beneath(OsStr::from_bytes(&paths[index])) {
            Ok(dir) => dir,
            Err(e) if e.is_not_found() => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        let meta = dir.stat_self()?;
        if (meta.mode, meta.mtime) != (entry.mode, entry.mtime) {
            return Ok(false);
        }
        let here = u32::try_from(index).expect("directories are counted in 32 bits");
        for link in &manifest.links[range(&manifest.links, here, |link| link.dir)] {
            let inode = &manifest.inodes[link.inode as usize];
            let Some(meta) = dir.stat_optional(link.os_name())? else { return Ok(false) };
            let same = meta.kind == Kind::File
                && meta.ino == record[link.inode as usize]
                && (meta.size, meta.mtime, meta.mode) == (inode.size, inode.mtime, inode.mode);
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    };
    // The error of a difference is `None`: the first one ends the search.
    let differs = (0..manifest.dirs.len()).into_par_iter().with_min_len(16).try_for_each(|index| match check(index) {
        Ok(true) => Ok(()),
        Ok(false) => Err(None),
        Err(e) => Err(Some(e)),
    });
    match differs {
        Ok(()) => Ok(true),
        Err(None) => Ok(false),
        Err(Some(e)) => Err(e),
    }
}
