//! From directories to a snapshot: examine, take in what is new, make it durable, publish last.
//!
//! What the session of the last restore or save proves unchanged (path, inode number, length, mtime) is
//! not read again. A snapshot is published by one rename after its blobs are durable; until then nothing
//! of the save can be seen, and a save that fails leaves the store as it was.

mod ingest;

use crate::blob::{BlobId, Checked, Digest};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::join::Join;
use crate::link_mode::{Ladder, LinkMode};
use crate::manifest::{Content, DirEntry, Inode, Link, Manifest, Symlink};
use crate::policy::Treatment;
use crate::provenance::Provenance;
use crate::restore::plan::is_temporary;
use crate::restore::{Root, Work, refuse_nested};
use crate::session::Session;
use crate::snapshot::{Header, Place, RootSummary, Snapshot};
use crate::store::{Staging, Store};
use ingest::{Intake, Taken};
use larder_fs::{Dir, FileNode, Kind, Timestamp, Tree, Volume};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The longest time between two ticks of the clock that stamps files (CONFIG_HZ=100).
const TICK: Duration = Duration::from_millis(10);
/// Linked and reflinked files are digested before a save ends, the smallest first, up to this many
/// bytes: about 50 ms on two cores. `verify` digests the rest.
const DIGEST_BUDGET: u64 = 256 << 20;
/// How often a save starts again when files change under it.
const ATTEMPTS: u32 = 3;

/// What to save.
pub struct SaveRequest<'a> {
    /// Where the snapshot belongs.
    pub place: Place,
    /// Its key.
    pub key: String,
    /// What the key was made from.
    pub parts: Vec<(String, String)>,
    /// The directories.
    pub roots: Vec<Root<'a>>,
    /// Who looks at the directories before they are taken in, and says what they were built from.
    pub review: &'a dyn Review,
    /// How files may be taken in.
    pub link_mode: LinkMode,
    /// Change nothing; say what would be done.
    pub dry_run: bool,
}

/// Learns what a save sees, and adds what only the caller knows.
pub trait Review: Sync {
    /// The root of this index was examined. May come again when a save starts anew.
    fn examined(&self, _root: usize, _path: &Path, _tree: &Tree) {}

    /// What the roots were built from; asked once all of them were taken in.
    fn provenance(&self) -> Provenance {
        Provenance::default()
    }
}

impl Review for () {}

/// What a save did.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The snapshot's key.
    pub key: String,
    /// The snapshot's name; `None` in a dry run.
    pub snapshot: Option<String>,
    /// File names that it holds.
    pub files: u64,
    /// Bytes of its distinct files.
    pub bytes: u64,
    /// Files taken in, by the name of the mode.
    pub link_modes: BTreeMap<String, u64>,
    /// Why better modes were not used.
    pub why_not: BTreeMap<String, String>,
    /// What was done.
    pub work: Work,
    /// Sockets, FIFOs and devices that no snapshot can hold.
    pub skipped: Vec<String>,
    /// Where the snapshot's file is; `None` in a dry run.
    pub path: Option<std::path::PathBuf>,
}

/// One root, examined and taken in.
struct TakenRoot {
    manifest: Manifest,
    /// Inode numbers in the directory, by inode of the manifest.
    inodes: Vec<u64>,
}

impl Store {
    /// Publishes a snapshot of the request's directories.
    ///
    /// # Errors
    ///
    /// [`Error::BadRoot`] where a root is no directory, [`Error::HalfRestored`] where a restore left it
    /// incomplete, [`Error::Unsteady`] where a file would not hold still, [`Error::ReadOnly`], [`Error::Fs`]. After an error the store is as it was before.
    pub fn save(&self, request: &SaveRequest<'_>, events: &dyn Events) -> Result<Saved> {
        self.writable()?;
        refuse_nested(&request.roots)?;
        let _locks = self.lock_roots(request.roots.iter().map(|root| root.path.as_path()))?;
        let _shared = self.lock_shared()?;
        for root in &request.roots {
            if self.is_half_restored(&root.path)? {
                return Err(Error::HalfRestored { path: root.path.clone(), source: None });
            }
        }
        for attempt in 1.. {
            match self.try_save(request, events) {
                Err(Error::Unsteady { path }) if attempt < ATTEMPTS => {
                    events.warn(&format!("{} changed while it was saved; starting again", path.display()));
                }
                // A file that vanished between its examination and its intake.
                Err(Error::Fs(e)) if e.is_not_found() && attempt < ATTEMPTS => {
                    events.warn(&format!("{} vanished while it was saved; starting again", e.path.display()));
                }
                other => return other,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn try_save(&self, request: &SaveRequest<'_>, events: &dyn Events) -> Result<Saved> {
        let staging = self.staging()?;
        let intake = Intake::new(self, &staging);
        let mut saved = Saved { key: request.key.clone(), ..Saved::default() };
        let mut inline = Vec::new();
        let mut roots = Vec::new();
        for (index, root) in request.roots.iter().enumerate() {
            self.refuse_overlap(&root.path)?;
            roots.push(self.take_root(index, request, &intake, &mut inline, &mut saved, events)?);
        }
        saved.files = roots.iter().map(|r| (r.manifest.links.len() + r.manifest.symlinks.len()) as u64).sum();
        saved.bytes = roots.iter().map(|r| r.manifest.logical_bytes()).sum();
        let written = intake.written.load(Ordering::Relaxed);
        saved.work.copied += written;
        if written > 0 {
            *saved.link_modes.entry(LinkMode::Copy.name().to_owned()).or_default() += written;
        }
        if request.dry_run {
            saved.work.hashed = intake.hashed.load(Ordering::Relaxed);
            return Ok(saved);
        }
        let published =
            intake.settle().and_then(|()| self.publish(request, &intake, &staging, &mut roots, &inline, events));
        match published {
            Ok((header, path)) => {
                saved.work.hashed = intake.hashed.load(Ordering::Relaxed);
                saved.snapshot = Some(header.id);
                for (index, (root, taken)) in request.roots.iter().zip(roots).enumerate() {
                    let overlay = self.session(&root.path).and_then(|session| session.overlay);
                    let session = Session::new(&root.path, &path, index, taken.inodes, overlay);
                    if let Err(e) = self.put_session(&staging, &session) {
                        events.warn(&format!("the next save will read everything: {}", crate::store::chain(&e)));
                    }
                }
                saved.path = Some(path);
                Ok(saved)
            }
            Err(e) => {
                intake.unsettle();
                Err(e)
            }
        }
    }

    /// Digests what the budget allows, makes the blobs durable and gives the snapshot its name.
    fn publish(
        &self,
        request: &SaveRequest<'_>,
        intake: &Intake<'_>,
        staging: &Staging,
        roots: &mut [TakenRoot],
        inline: &[u8],
        events: &dyn Events,
    ) -> Result<(Header, std::path::PathBuf)> {
        self.digest_within_budget(roots, intake, events)?;
        let mut header = Header {
            id: String::new(),
            key: request.key.clone(),
            scope: request.place.scope.clone(),
            label: request.place.label.clone(),
            created: Timestamp::now(),
            larder: env!("CARGO_PKG_VERSION").to_owned(),
            parts: request.parts.clone(),
            roots: Vec::new(),
        };
        let mut manifests = Vec::new();
        for (root, taken) in request.roots.iter().zip(roots.iter_mut()) {
            header.roots.push(RootSummary {
                path: root.path.to_string_lossy().into_owned(),
                files: (taken.manifest.links.len() + taken.manifest.symlinks.len()) as u64,
                bytes: taken.manifest.logical_bytes(),
            });
            let manifest = std::mem::take(&mut taken.manifest);
            // What could not be restored must not be published: a name too long, a target too long.
            manifest.check(inline.len() as u64).map_err(|reason| Error::BadRoot { path: root.path.clone(), reason })?;
            manifests.push(manifest);
        }
        let staged = self.stage_snapshot(
            staging,
            &request.place,
            &mut header,
            &request.review.provenance(),
            &manifests,
            inline,
        )?;
        events.phase(Phase::Sync, 0);
        if intake.new_blobs.load(Ordering::Relaxed) > 0 {
            Volume::sync(&self.root)?;
        } else {
            staged.sync(staging)?;
        }
        let path = self.publish_snapshot(staging, &staged)?;
        Ok((header, path))
    }

    fn take_root(
        &self,
        index: usize,
        request: &SaveRequest<'_>,
        intake: &Intake<'_>,
        inline: &mut Vec<u8>,
        saved: &mut Saved,
        events: &dyn Events,
    ) -> Result<TakenRoot> {
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
        let mut tree = larder_fs::walk(&dir).map_err(Error::of_walk)?;
        // What a restore that died left behind is no part of the directory.
        tree.files.retain(|file| !is_temporary(&file.name));
        tree.symlinks.retain(|link| !is_temporary(&link.name));
        settle_clock(&dir, &tree)?;
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
        request.review.examined(index, &root.path, &tree);
        let known = self.known(root, &tree)?;
        intake.keep_inline(known.inline.len() as u64);
        let (links, firsts, inodes) = number_inodes(&tree);
        let ladder = Ladder::new(request.link_mode, Volume::of(&self.root)?, Volume::of(&dir)?);
        events.phase(Phase::Ingest, firsts.len() as u64);
        // The files of one directory are one piece of work.
        let chunks: Vec<&[u32]> =
            firsts.chunk_by(|a, b| tree.files[*a as usize].dir == tree.files[*b as usize].dir).collect();
        let upper = self.overlay_upper(&root.path);
        let treatments = match firsts.iter().all(|index| known.knows(*index)) {
            true => Vec::new(),
            false => {
                let paths = tree.files.iter().map(|f| tree.relative(f.dir, &f.name).into_vec()).collect::<Vec<_>>();
                let mut treatments = root.policy.treatments(&paths);
                Treatment::settle(&mut treatments, links.iter().map(|link| link.inode), firsts.len());
                treatments
            }
        };
        let taken: Vec<Vec<Option<Taken>>> = chunks
            .par_iter()
            .map(|chunk| {
                let relative = &tree.dirs[tree.files[chunk[0] as usize].dir as usize].relative;
                let mut opened: Option<Dir> = None;
                let mut taken = Vec::with_capacity(chunk.len());
                for index in *chunk {
                    let file = &tree.files[*index as usize];
                    if known.knows(*index) {
                        taken.push(None);
                        continue;
                    }
                    if request.dry_run {
                        taken.push(Some(Taken::Inline(Vec::new())));
                        continue;
                    }
                    if opened.is_none() {
                        opened = Some(dir.open_beneath(relative)?);
                    }
                    let at = opened.as_ref().expect("it was opened just now");
                    let treatment = treatments[*index as usize];
                    let source = upper.as_ref().and_then(|upper| in_upper(upper, relative.as_os_str(), file));
                    taken.push(Some(match &source {
                        Some((upper, file)) => intake.take(upper, file, treatment, &ladder)?,
                        None => intake.take(at, file, treatment, &ladder)?,
                    }));
                }
                events.advance(chunk.len() as u64);
                Ok(taken)
            })
            .collect::<Result<_>>()?;
        let mut table = Vec::with_capacity(firsts.len());
        for (index, taken) in firsts.iter().zip(taken.into_iter().flatten()) {
            let meta = &tree.files[*index as usize].meta;
            let content = match taken {
                Some(Taken::Blob(content)) => content,
                Some(Taken::Inline(bytes)) => append(inline, &bytes),
                None => {
                    saved.work.unchanged += 1;
                    match &known.contents[*index as usize] {
                        None => unreachable!("whatever is not known was taken in"),
                        Some(Known::Blob(content)) => content.clone(),
                        Some(Known::Inline(_)) if meta.size == 0 => append(inline, &[]),
                        Some(Known::Inline(offset)) => {
                            let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                            append(inline, &known.inline[start..][..meta.size as usize])
                        }
                    }
                }
            };
            table.push(Inode { mode: meta.mode, mtime: meta.mtime, size: meta.size, content });
        }
        saved.count(&ladder);
        let manifest = Manifest { dirs: dirs_of(&tree), inodes: table, links, symlinks: symlinks_of(&tree) };
        Ok(TakenRoot { manifest, inodes })
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

    /// The directory that holds the changes of an overlay mounted at `root` by larder.
    fn overlay_upper(&self, root: &Path) -> Option<Dir> {
        self.session(root)?.overlay?;
        Dir::open(&self.overlay_dir(root).join("upper")).ok()
    }

    /// Computes the digests of new ingest blobs, the smallest first.
    fn digest_within_budget(&self, roots: &mut [TakenRoot], intake: &Intake<'_>, events: &dyn Events) -> Result<()> {
        let mut open: Vec<&mut Inode> = roots
            .iter_mut()
            .flat_map(|root| &mut root.manifest.inodes)
            .filter(|inode| matches!(inode.content, Content::Ingest { save, digest: None, .. } if save == intake.save))
            .collect();
        open.sort_by_key(|inode| inode.size);
        let mut left = DIGEST_BUDGET;
        let affordable = open.iter().take_while(|inode| {
            let fits = inode.size <= left;
            left = left.saturating_sub(inode.size);
            fits
        });
        let count = affordable.count();
        open.truncate(count);
        events.phase(Phase::Digest, count as u64);
        let blobs = self.blobs();
        open.into_par_iter().with_min_len(16).try_for_each(|inode| -> Result<()> {
            let id = BlobId::of(&inode.content).expect("only ingest blobs were chosen");
            let computed: Digest = blobs.digest(id)?;
            if let Content::Ingest { digest, .. } = &mut inode.content {
                *digest = Some(computed);
            }
            intake.hashed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }
}

impl Saved {
    fn count(&mut self, ladder: &Ladder) {
        let (linked, reflinked, copied) = ladder.counts();
        self.work.linked += linked;
        self.work.reflinked += reflinked;
        self.work.copied += copied;
        for (mode, files) in [(LinkMode::Hardlink, linked), (LinkMode::Reflink, reflinked), (LinkMode::Copy, copied)] {
            if files > 0 {
                *self.link_modes.entry(mode.name().to_owned()).or_default() += files;
            }
        }
        self.why_not.extend(ladder.why_not());
    }
}

/// Contents that need not be read again, by file of the tree; empty where nothing is known.
#[derive(Default)]
struct KnownFiles {
    contents: Vec<Option<Known>>,
    inline: Vec<u8>,
}

impl KnownFiles {
    fn knows(&self, file: u32) -> bool {
        self.contents.get(file as usize).is_some_and(Option::is_some)
    }
}

enum Known {
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

fn append(inline: &mut Vec<u8>, bytes: &[u8]) -> Content {
    let offset = inline.len() as u64;
    inline.extend_from_slice(bytes);
    Content::Inline { offset }
}

/// Where a changed file of an overlay lies outside the mount, if it is the same one.
fn in_upper(upper: &Dir, relative: &std::ffi::OsStr, file: &FileNode) -> Option<(Dir, FileNode)> {
    let dir = upper.open_beneath(relative).ok()?;
    let meta = dir.stat_optional(&file.name).ok()??;
    let same = meta.kind == Kind::File && meta.size == file.meta.size && meta.mtime == file.meta.mtime;
    same.then(|| (dir, FileNode { dir: file.dir, name: file.name.clone(), meta }))
}

/// A file that was written within the current tick of the clock could be written again without its time
/// showing it: wait until the tick is over, and make sure that nothing did.
fn settle_clock(dir: &Dir, tree: &Tree) -> Result<()> {
    let tick = u64::try_from(TICK.as_nanos()).expect("a tick is short");
    let now = Timestamp::now().as_nanos();
    let fresh = |file: &&FileNode| now.abs_diff(file.meta.mtime.as_nanos()) < tick;
    let fresh: Vec<&FileNode> = tree.files.iter().filter(fresh).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    std::thread::sleep(2 * TICK);
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

fn dirs_of(tree: &Tree) -> Vec<DirEntry> {
    let entry = |dir: &larder_fs::DirNode| DirEntry {
        parent: dir.parent,
        name: dir.name.clone().into_vec(),
        mode: dir.meta.mode,
        mtime: dir.meta.mtime,
    };
    tree.dirs.iter().map(entry).collect()
}

fn symlinks_of(tree: &Tree) -> Vec<Symlink> {
    let entry = |link: &larder_fs::SymlinkNode| Symlink {
        dir: link.dir,
        name: link.name.clone().into_vec(),
        target: link.target.clone(),
        mtime: link.meta.mtime,
    };
    tree.symlinks.iter().map(entry).collect()
}
