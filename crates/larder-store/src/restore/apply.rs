//! Carrying out a plan.
//!
//! The order is what makes an interrupted restore harmless: files that vouch for others are cut to
//! nothing before anything changes and written after everything they vouch for. New inodes are made
//! before old ones are freed, because ext4 is slow to make inodes where it has just freed some.

use super::examine::would_link;
use super::plan::{Action, Plan, TEMP_PREFIX};
use crate::blob::{BlobId, Sound};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::link_mode::{Ladder, Moved};
use crate::manifest::{Content, Inode, Manifest};
use crate::store::Store;
use larder_fs::{Dir, Meta, Timestamp, finish_file, set_up_file};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// One root on its way from the store to its directory.
pub(crate) struct Apply<'a> {
    pub(crate) store: &'a Store,
    pub(crate) manifest: &'a Manifest,
    pub(crate) plan: &'a Plan,
    /// What is known of each blob that was found sound, by inode of the manifest.
    pub(crate) checked: &'a HashMap<u32, Sound>,
    /// The snapshot's inline section; empty where the plan needs none of it.
    pub(crate) inline: &'a [u8],
    pub(crate) ladder: &'a Ladder,
    pub(crate) events: &'a dyn Events,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Files written from the snapshot itself.
    pub(crate) written: u64,
    /// Files and links removed.
    pub(crate) removed: u64,
    /// The inode number of each file of the manifest, 0 where it was left out.
    pub(crate) inodes: Vec<u64>,
}

type Renames = Mutex<Vec<(u32, OsString, u32)>>;

impl Apply<'_> {
    /// Makes the directory `root` what the plan says.
    pub(crate) fn run(&self, root: &Dir) -> Result<Applied> {
        let paths: Vec<OsString> = self.manifest.dir_paths().into_iter().map(OsString::from_vec).collect();
        let work = Work {
            apply: self,
            root,
            paths: &paths,
            inodes: self.plan.inodes.iter().map(|ino| AtomicU64::new(*ino)).collect(),
            written: AtomicU64::new(0),
        };
        let total = self.plan.actions.iter().filter(|a| !matches!(a, Action::Keep | Action::Omit)).count();
        self.events.phase(Phase::Materialise, total as u64);
        work.make_writable()?;
        work.invalidate()?;
        for obstacle in &self.plan.obstacles {
            root.remove_all(obstacle)?;
        }
        work.make_dirs()?;
        let renames = work.make_files(false)?;
        work.rename_over(renames)?;
        work.link_groups(false)?;
        work.make_symlinks()?;
        let removed = work.remove()?;
        let renames = work.make_files(true)?;
        work.rename_over(renames)?;
        work.link_groups(true)?;
        work.set_modes()?;
        work.stamp_dirs()?;
        Ok(Applied {
            written: work.written.into_inner(),
            removed,
            inodes: work.inodes.into_iter().map(AtomicU64::into_inner).collect(),
        })
    }
}

struct Work<'a> {
    apply: &'a Apply<'a>,
    root: &'a Dir,
    paths: &'a [OsString],
    inodes: Vec<AtomicU64>,
    written: AtomicU64,
}

impl Work<'_> {
    fn manifest(&self) -> &Manifest {
        self.apply.manifest
    }

    fn plan(&self) -> &Plan {
        self.apply.plan
    }

    fn open(&self, dir: u32) -> Result<Dir> {
        Ok(self.root.open_beneath(&self.paths[dir as usize])?)
    }

    /// Lets the owner change existing directories that are about to change; their final mode comes last.
    fn make_writable(&self) -> Result<()> {
        if larder_fs::process::effective_uid() == 0 {
            return Ok(());
        }
        let new: std::collections::HashSet<u32> = self.plan().new_dirs.iter().copied().collect();
        for index in self.plan().stamps.iter().filter(|index| !new.contains(index)) {
            let dir = self.open(*index)?;
            let mode = dir.stat_self()?.mode;
            if mode & 0o300 != 0o300 {
                dir.set_mode_self(mode | 0o700)?;
            }
        }
        // Parents first, which is the reverse of the order in which they go.
        for path in self.plan().dir_removals.iter().rev() {
            let (parent, name) = split(path);
            let dir = self.root.open_beneath(parent)?;
            let mode = dir.stat(name)?.mode;
            if mode & 0o300 != 0o300 {
                dir.set_mode(name, mode | 0o700)?;
            }
        }
        Ok(())
    }

    /// Cuts to nothing what vouches for files that are about to change or go.
    fn invalidate(&self) -> Result<()> {
        for (index, action) in self.plan().actions.iter().enumerate() {
            let there = matches!(action, Action::Replace | Action::Rewrite | Action::LinkTo { replace: true, .. });
            if there && self.plan().treatments[index].vouches {
                let link = &self.manifest().links[index];
                invalidate(&self.open(link.dir)?, link.os_name())?;
            }
        }
        for (path, _) in self.plan().removals.iter().filter(|(_, vouches)| *vouches) {
            let (dir, name) = split(path);
            invalidate(&self.root.open_beneath(dir)?, name)?;
        }
        Ok(())
    }

    fn make_dirs(&self) -> Result<()> {
        // Consecutive directories mostly share their parent.
        let mut parent: Option<(u32, Dir)> = None;
        for index in &self.plan().new_dirs {
            if *index == 0 {
                continue;
            }
            let dir = &self.manifest().dirs[*index as usize];
            let at = match parent.take() {
                Some((index, at)) if index == dir.parent => at,
                _ => self.open(dir.parent)?,
            };
            at.ensure_dir(OsStr::from_bytes(&dir.name))?;
            parent = Some((dir.parent, at));
        }
        Ok(())
    }

    /// Makes the files that vouch for others, or all the rest. Those that replace something get a
    /// temporary name; the renames still to be done are returned.
    fn make_files(&self, vouching: bool) -> Result<Vec<(u32, OsString, u32)>> {
        let links: Vec<u32> =
            self.plan().wanted().filter(|link| self.plan().treatments[*link as usize].vouches == vouching).collect();
        let renames = Renames::default();
        // Links are sorted by directory: a chunk is the work of one directory.
        let chunks: Vec<&[u32]> = links
            .chunk_by(|a, b| self.manifest().links[*a as usize].dir == self.manifest().links[*b as usize].dir)
            .collect();
        chunks.par_iter().try_for_each(|chunk| -> Result<()> {
            let index = self.manifest().links[chunk[0] as usize].dir;
            let dir = self.open(index)?;
            for link in *chunk {
                let entry = &self.manifest().links[*link as usize];
                let ino = match self.plan().actions[*link as usize] {
                    Action::Rewrite => self.rewrite(&dir, *link)?,
                    Action::Replace => {
                        let temp = temp_name(*link);
                        let ino = self.make_file(&dir, &temp, *link)?;
                        renames.lock().expect("no thread panics with the lock").push((index, temp, *link));
                        ino
                    }
                    _ => self.make_file(&dir, entry.os_name(), *link)?,
                };
                let relative = || Path::new(&self.paths[index as usize]).join(entry.os_name());
                tracing::debug!("{}: {}", relative().display(), self.plan().actions[*link as usize].name());
                self.inodes[entry.inode as usize].store(ino, Ordering::Relaxed);
            }
            self.apply.events.advance(chunk.len() as u64);
            Ok(())
        })?;
        Ok(renames.into_inner().expect("no thread panicked with the lock"))
    }

    /// Makes one file under a name that is free; returns its inode number.
    fn make_file(&self, dir: &Dir, name: &OsStr, link: u32) -> Result<u64> {
        let inode = &self.manifest().inodes[self.manifest().links[link as usize].inode as usize];
        let Some(id) = BlobId::of(&inode.content) else {
            let file = dir.create_file(name, inode.mode)?;
            set_up_file(&file, self.inline_bytes(inode), &dir.join(name))?;
            return self.finish(&file, dir, name, inode);
        };
        let blob_path = id.path();
        let treatment = self.plan().treatments[link as usize];
        let checked = self.apply.checked.get(&self.manifest().links[link as usize].inode);
        if would_link(self.apply.ladder, treatment, inode, checked)
            && self.apply.ladder.try_link(&self.apply.store.root, &blob_path, dir, name)?
        {
            return Ok(checked.map_or(0, |sound| sound.ino));
        }
        let blob = self.apply.store.root.open_file(&blob_path)?;
        let file = dir.create_file(name, inode.mode)?;
        let meta = Meta { size: inode.size, ..larder_fs::file_meta(&blob, &self.apply.store.root.join(&blob_path))? };
        self.apply.ladder.fill(&blob, &meta, &file, None, &dir.join(name))?;
        self.finish(&file, dir, name, inode)
    }

    fn rewrite(&self, dir: &Dir, link: u32) -> Result<u64> {
        let entry = &self.manifest().links[link as usize];
        let inode = &self.manifest().inodes[entry.inode as usize];
        let name = entry.os_name();
        let file = match dir.open_to_rewrite(name) {
            Ok(file) => file,
            // What could not be cut was removed.
            Err(e) if e.is_not_found() => return self.make_file(dir, name, link),
            Err(e) => return Err(e.into()),
        };
        let path = dir.join(name);
        match BlobId::of(&inode.content) {
            None => set_up_file(&file, self.inline_bytes(inode), &path)?,
            Some(id) => {
                let blob = self.apply.store.root.open_file(&id.path())?;
                larder_fs::copy_contents(&blob, &file, false, None, &path)?;
                self.apply.ladder.count(Moved::Copied);
            }
        }
        if larder_fs::file_meta(&file, &path)?.size > inode.size {
            larder_fs::set_length(&file, inode.size, &path)?;
        }
        self.finish(&file, dir, name, inode)
    }

    fn inline_bytes(&self, inode: &Inode) -> &[u8] {
        self.written.fetch_add(1, Ordering::Relaxed);
        match inode.content {
            // The manifest was checked against the section's length.
            // An empty file needs no section, and there may be none.
            Content::Inline { .. } if inode.size == 0 => &[],
            Content::Inline { offset } => &self.apply.inline[offset as usize..][..inode.size as usize],
            _ => &[],
        }
    }

    fn finish(&self, file: &std::fs::File, dir: &Dir, name: &OsStr, inode: &Inode) -> Result<u64> {
        let meta = finish_file(file, inode.mode, inode.mtime, &dir.join(name))?;
        if meta.size != inode.size {
            return Err(Error::ChangedBlob {
                path: dir.join(name),
                reason: format!("its blob has {} instead of {} bytes", meta.size, inode.size),
            });
        }
        Ok(meta.ino)
    }

    fn rename_over(&self, renames: Vec<(u32, OsString, u32)>) -> Result<()> {
        for (dir, temp, link) in renames {
            let dir = self.open(dir)?;
            dir.replace(&temp, &dir, self.manifest().links[link as usize].os_name())?;
        }
        Ok(())
    }

    /// Gives the files that vouch for others, or all the rest, their further names.
    fn link_groups(&self, vouching: bool) -> Result<()> {
        let mut dirs: HashMap<u32, Dir> = HashMap::new();
        for (index, action) in (0..).zip(&self.plan().actions) {
            let Action::LinkTo { link, replace } = *action else { continue };
            if self.plan().treatments[index as usize].vouches != vouching {
                continue;
            }
            let (source, target) = (&self.manifest().links[link as usize], &self.manifest().links[index as usize]);
            // A few directories hold all the groups; the bound only keeps descriptors from running out.
            if dirs.len() > 64 {
                dirs.clear();
            }
            for dir in [source.dir, target.dir] {
                if let std::collections::hash_map::Entry::Vacant(vacant) = dirs.entry(dir) {
                    vacant.insert(self.open(dir)?);
                }
            }
            let (from, to) = (&dirs[&source.dir], &dirs[&target.dir]);
            if replace {
                let temp = temp_name(index);
                to.hard_link(from, source.os_name(), &temp)?;
                to.rename(&temp, to, target.os_name())?;
                // Renaming one name of a file to another name of it does nothing and leaves both.
                to.remove_all(&temp)?;
            } else {
                to.hard_link(from, source.os_name(), target.os_name())?;
            }
            self.apply.events.advance(1);
        }
        Ok(())
    }

    /// Gives files that stay other permission bits.
    fn set_modes(&self) -> Result<()> {
        for (index, action) in self.plan().actions.iter().enumerate() {
            if *action == Action::SetMode {
                let link = &self.manifest().links[index];
                self.open(link.dir)?.set_mode(link.os_name(), self.manifest().inodes[link.inode as usize].mode)?;
            }
        }
        Ok(())
    }

    fn make_symlinks(&self) -> Result<()> {
        for (index, replace) in &self.plan().symlinks {
            let symlink = &self.manifest().symlinks[*index as usize];
            let dir = self.open(symlink.dir)?;
            let name = OsStr::from_bytes(&symlink.name);
            let made = if *replace { temp_name(*index) } else { name.to_os_string() };
            dir.symlink(&symlink.target, &made)?;
            dir.set_mtime(&made, symlink.mtime)?;
            if *replace {
                dir.rename(&made, &dir, name)?;
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<u64> {
        let mut removed = self.plan().obstacles.len() as u64;
        let mut at: Option<(OsString, Dir)> = None;
        for (path, _) in &self.plan().removals {
            let (parent, name) = split(path);
            let dir = match at.take() {
                Some((path, dir)) if path == parent => dir,
                _ => match self.root.open_beneath(parent) {
                    Ok(dir) => dir,
                    Err(e) if e.is_not_found() => continue,
                    Err(e) => return Err(e.into()),
                },
            };
            match dir.remove_file(name) {
                Ok(()) => {
                    tracing::debug!("{}: removed, the snapshot has no such file", dir.join(name).display());
                    removed += 1;
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
            at = Some((parent.to_os_string(), dir));
        }
        for path in &self.plan().dir_removals {
            let (parent, name) = split(path);
            let gone = self.root.open_beneath(parent).and_then(|dir| dir.remove_dir(name));
            match gone {
                Ok(()) => removed += 1,
                // Something that is not ours is in it, or mounted on it.
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy | ErrorKind::NotFound
                    ) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(removed)
    }

    /// Sets modes and times of directories after nothing below them changes any more.
    fn stamp_dirs(&self) -> Result<()> {
        let set_mode = |dir: &Dir, mode: u32| -> Result<()> {
            if dir.stat_self()?.mode != mode {
                dir.set_mode_self(mode)?;
            }
            Ok(())
        };
        // A directory that its owner may not search hides those below it: such modes come last, deepest first.
        let hides = |index: &u32| self.manifest().dirs[*index as usize].mode & 0o500 != 0o500;
        self.plan().stamps.par_iter().with_min_len(64).try_for_each(|index| -> Result<()> {
            let entry = &self.manifest().dirs[*index as usize];
            let dir = self.open(*index)?;
            if !hides(index) {
                set_mode(&dir, entry.mode)?;
            }
            Ok(dir.set_mtime_self(entry.mtime)?)
        })?;
        for index in self.plan().stamps.iter().rev().filter(|index| hides(index)) {
            set_mode(&self.open(*index)?, self.manifest().dirs[*index as usize].mode)?;
        }
        Ok(())
    }
}

fn temp_name(index: u32) -> OsString {
    format!("{TEMP_PREFIX}{index}-{:08x}", fastrand::u32(..)).into()
}

/// Cuts a private file to nothing, which frees no inode; a shared one loses this name.
fn invalidate(dir: &Dir, name: &OsStr) -> Result<()> {
    match dir.stat_optional(name)? {
        Some(meta)
            if meta.kind == larder_fs::Kind::File
                && meta.nlink == 1
                && meta.mode & 0o200 != 0
                // Another owner's file, or one that is being executed, cannot be written but it can go.
                && dir.truncate_file(name).is_ok() =>
        {
            // An old time: were this restore to die, the directory must not look newer than the snapshot.
            Ok(dir.set_mtime(name, Timestamp::default())?)
        }
        Some(_) => Ok(dir.remove_all(name)?),
        None => Ok(()),
    }
}

fn split(path: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(cut) => (OsStr::from_bytes(&bytes[..cut]), OsStr::from_bytes(&bytes[cut + 1..])),
        None => (OsStr::new(""), path),
    }
}
