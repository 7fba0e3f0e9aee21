//! What a save finds out before it takes anything in: what is in its directories, which of it the store has
//! already, and whether there is room for the rest.

use super::ingest::Need;
use super::{SaveRequest, Saved};
use crate::blob::Checked;
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::join::Join;
use crate::link_mode::Ladder;
use crate::manifest::{Content, Link};
use crate::policy::Treatment;
use crate::reserve::Needs;
use crate::restore::Root;
use crate::restore::plan::is_temporary;
use crate::snapshot::Snapshot;
use crate::store::{Staging, Store};
use larder_fs::{CLOCK_TICK, Dir, Entry, FileNode, Kind, Timestamp, Tree, Volume};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a snapshot takes beyond the bytes of files, at most: for each name in it, and once.
const SPACE_OF_NAME: u64 = 128;
const SPACE_OF_SAVE: u64 = 64 << 10;
const FILES_OF_SAVE: u64 = 8;

/// One root as it stands.
pub(super) struct Examined {
    pub(super) dir: Dir,
    pub(super) tree: Tree,
    pub(super) known: KnownFiles,
    pub(super) links: Vec<Link>,
    /// For each inode of the manifest the first of its files in the tree.
    pub(super) firsts: Vec<u32>,
    /// Inode numbers in the directory, by inode of the manifest.
    pub(super) inodes: Vec<u64>,
    /// For each file of the tree; empty when all are known.
    pub(super) treatments: Vec<Treatment>,
    pub(super) ladder: Ladder,
}

/// Contents that need not be read again, by file of the tree; empty where nothing is known.
#[derive(Default)]
pub(super) struct KnownFiles {
    pub(super) contents: Vec<Option<Known>>,
    /// The inline section of the snapshot that is known, where any of it is needed.
    pub(super) inline: Vec<u8>,
}

impl KnownFiles {
    /// Whether this file of the tree need not be taken in.
    pub(super) fn knows(&self, file: u32) -> bool {
        self.contents.get(file as usize).is_some_and(Option::is_some)
    }
}

/// Where the bytes of such a file are: in a blob, or at an offset of the inline section.
pub(super) enum Known {
    Blob(Content),
    Inline(u64),
}

impl Known {
    fn is_blob(&self) -> bool {
        matches!(self, Self::Blob(_))
    }
}

fn with_ino(content: &Content, number: u64) -> Content {
    let mut content = content.clone();
    match &mut content {
        Content::Digest { ino, .. } | Content::Ingest { ino, .. } => *ino = number,
        Content::Inline { .. } => {}
    }
    content
}

impl Store {
    /// Walks the root of this index and finds out what is known of it; names in `saved` what no snapshot can hold.
    pub(super) fn examine_root(
        &self,
        index: usize,
        request: &SaveRequest<'_>,
        saved: &mut Saved,
        events: &dyn Events,
    ) -> Result<Examined> {
        let SaveRequest { review, link_mode, .. } = *request;
        let root = &request.roots[index];
        let bad = |reason: &str| Error::BadRoot { path: root.path.clone(), reason: reason.into() };
        let dir = match larder_fs::metadata(&root.path)?.map(|meta| meta.kind) {
            Some(Kind::Dir) => Dir::open(&root.path)?,
            Some(Kind::Symlink) => {
                Dir::open(&root.path).map_err(|_| bad("it is a symbolic link that leads to no directory"))?
            }
            Some(_) => return Err(bad("it is not a directory")),
            None => return Err(bad("it does not exist")),
        };
        events.phase(Phase::Examine, 0);
        let choose = |_: &Dir, relative: &OsStr, entries: &mut Vec<Entry>| review.choose(index, relative, entries);
        let mut tree = larder_fs::walk_chosen(&dir, &choose).map_err(Error::of_walk)?;
        // What a restore that died left behind is no part of the directory.
        tree.files.retain(|file| !is_temporary(&file.name));
        tree.symlinks.retain(|link| !is_temporary(&link.name));
        settle_clock(&dir, &tree)?;
        let left_out = review.examined(index, &root.path, &tree);
        tree.leave_out(&left_out);
        for special in &tree.specials {
            let what = match special.kind {
                Kind::Fifo => "a FIFO",
                Kind::Socket => "a socket",
                _ => "a device",
            };
            let path = dir.join(tree.relative(special.dir, &special.name));
            events.warn(&format!("{} is {what} and is skipped", path.display()));
            saved.skipped.push(path.to_string_lossy().into_owned());
        }
        let known = self.known(root, &tree)?;
        let (links, firsts, inodes) = number_inodes(&tree);
        let ladder = Ladder::new(link_mode, Volume::of(&self.root)?, Volume::of(&dir)?);
        let treatments = match firsts.iter().all(|index| known.knows(*index)) {
            true => Vec::new(),
            false => {
                let paths = tree.files.iter().map(|f| tree.relative(f.dir, &f.name).into_vec()).collect::<Vec<_>>();
                let mut treatments = root.policy.treatments(&paths);
                Treatment::settle(&mut treatments, links.iter().map(|link| link.inode), firsts.len());
                treatments
            }
        };
        Ok(Examined { dir, tree, known, links, firsts, inodes, treatments, ladder })
    }

    /// Reserves what the save will take, or refuses it before anything is taken in. What is linked, or may share
    /// extents, needs nothing.
    pub(super) fn need_space_to_save(&self, roots: &[Examined], staging: &Staging) -> Result<()> {
        let mut need = Need::default();
        let mut names = 0;
        for root in roots {
            names += root.tree.dirs.len() + root.links.len() + root.tree.symlinks.len();
            for index in root.firsts.iter().filter(|index| !root.known.knows(**index)) {
                need.add(&root.tree.files[*index as usize].meta, root.treatments[*index as usize], &root.ladder);
            }
        }
        let needed = need.bytes.saturating_add(names as u64 * SPACE_OF_NAME).saturating_add(SPACE_OF_SAVE);
        let mut needs = Needs::default();
        needs.add(Dir::open(self.path())?, self.path(), needed, need.files + FILES_OF_SAVE)?;
        self.reserve(&needs, staging)
    }

    /// What the session proves about the files of `tree`, and the store still has.
    fn known(&self, root: &Root<'_>, tree: &Tree) -> Result<KnownFiles> {
        let mut known = KnownFiles::default();
        let Some(session) = self.session(&root.path) else { return Ok(known) };
        let Ok(snapshot) = Snapshot::load(&session.snapshot_path(self)) else { return Ok(known) };
        let Some(manifest) = snapshot.roots.get(session.index as usize) else { return Ok(known) };
        if manifest.inodes.len() != session.inodes.len() {
            return Ok(known);
        }
        let join = Join::new(manifest, tree);
        let blobs = self.blobs();
        let same: Vec<(u32, u32)> = (0..)
            .zip(&join.file_to_link)
            .filter_map(|(file, link)| {
                let inode = manifest.links[(*link)? as usize].inode;
                let (meta, recorded) = (&tree.files[file as usize].meta, &manifest.inodes[inode as usize]);
                // Tools that give files fixed times hide their writes in the mtime, not in the ctime. That of a
                // linked file says nothing: every new name moves it.
                let written_since = meta.nlink == 1 && meta.ctime > session.created;
                let same = meta.ino == session.inodes[inode as usize]
                    && meta.size == recorded.size
                    && meta.mtime == recorded.mtime
                    && !written_since;
                same.then_some((file, inode))
            })
            .collect();
        let contents: Vec<Option<Known>> = same
            .par_iter()
            .with_min_len(256)
            .map(|(_, inode)| {
                let inode = &manifest.inodes[*inode as usize];
                if let Content::Inline { offset } = inode.content {
                    return Ok(Some(Known::Inline(offset)));
                }
                // A blob that is gone or damaged is taken in anew: the directory has the right bytes.
                Ok(match blobs.check(inode)? {
                    Checked::Sound(meta) => Some(Known::Blob(with_ino(&inode.content, meta.ino))),
                    Checked::Missing | Checked::Damaged(_) | Checked::Unproven(_) => None,
                })
            })
            .collect::<Result<_>>()?;
        known.contents.resize_with(tree.files.len(), || None);
        for ((file, _), content) in same.iter().zip(contents) {
            known.contents[*file as usize] = content;
        }
        if snapshot.inline_len() > 0 && known.contents.iter().any(|known| matches!(known, Some(Known::Inline(_)))) {
            match snapshot.inline() {
                Ok(inline) => known.inline = inline,
                Err(_) => known.contents.iter_mut().for_each(|known| *known = known.take().filter(Known::is_blob)),
            }
        }
        Ok(known)
    }
}

/// A file that was written within the current tick of the clock could be written again without its time
/// showing it: wait until the tick is over, and make sure that nothing did.
fn settle_clock(dir: &Dir, tree: &Tree) -> Result<()> {
    let tick = u64::try_from(CLOCK_TICK.as_nanos()).expect("a tick is short");
    let now = Timestamp::now().as_nanos();
    let fresh = |file: &&FileNode| now.abs_diff(file.meta.mtime.as_nanos()) < tick;
    let fresh: Vec<&FileNode> = tree.files.iter().filter(fresh).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    std::thread::sleep(2 * CLOCK_TICK);
    for file in fresh {
        let at = dir.open_beneath(&tree.dirs[file.dir as usize].relative)?;
        let now = at.stat(&file.name)?;
        if (now.ino, now.size, now.mtime) != (file.meta.ino, file.meta.size, file.meta.mtime) {
            return Err(Error::Unsteady { path: at.join(&file.name) });
        }
    }
    Ok(())
}

/// Numbers the distinct files: the names, the first name of each, and their inode numbers.
fn number_inodes(tree: &Tree) -> (Vec<Link>, Vec<u32>, Vec<u64>) {
    let mut seen: HashMap<(u64, u64), u32> = HashMap::new();
    let (mut links, mut firsts, mut numbers) = (Vec::with_capacity(tree.files.len()), Vec::new(), Vec::new());
    for (index, file) in (0..).zip(&tree.files) {
        let next = u32::try_from(firsts.len()).expect("there are no more inodes than files");
        let inode = match file.meta.nlink {
            1 => next,
            _ => *seen.entry((file.meta.dev, file.meta.ino)).or_insert(next),
        };
        if inode == next {
            firsts.push(index);
            numbers.push(file.meta.ino);
        }
        links.push(Link { dir: file.dir, name: file.name.as_bytes().to_vec(), inode });
    }
    (links, firsts, numbers)
}
