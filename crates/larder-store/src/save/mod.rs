//! From directories to a snapshot: examine, take in what is new, make it durable, publish last.
//!
//! What the session of the last restore or save proves unchanged (path, inode number, length, mtime) is
//! not read again. A snapshot is published by one rename after its blobs are durable; until then nothing
//! of the save can be seen, and a save that fails leaves the store as it was.

mod examine;
mod ingest;

use crate::blob::{BlobId, Digest};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::link_mode::{Ladder, LinkMode};
use crate::manifest::{Content, DirEntry, Inode, Manifest, Symlink};
use crate::provenance::{Provenance, SOURCES};
use crate::reserve::release;
use crate::restore::{Root, Work, refuse_nested};
use crate::session::Session;
use crate::snapshot::{Header, Place, RootSummary, Worth};
use crate::store::{Staging, Store};
use examine::{Examined, Known};
use ingest::{Intake, Taken};
use larder_fs::{Dir, Entry, FileNode, Kind, Timestamp, Tree, Volume};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::Ordering;

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
    /// Takes out of a listing what the save does not even look at. The listing is that of the directory `relative`
    /// below the root of this index.
    fn choose(&self, _root: usize, _relative: &OsStr, _entries: &mut Vec<Entry>) {}

    /// The root of this index was examined. Says which of its files are left out, in their order; nothing where all
    /// are kept. May come again when a save starts anew.
    fn examined(&self, _root: usize, _path: &Path, _tree: &Tree) -> Vec<bool> {
        Vec::new()
    }

    /// What the roots were built from; asked once all of them were taken in.
    fn provenance(&self) -> Provenance {
        Provenance::default()
    }

    /// What eviction wants to know; asked after the provenance.
    fn worth(&self) -> Option<Worth> {
        None
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
    /// Bytes by which the store grew: of blobs that it did not have, and of the snapshot's own file.
    pub added: u64,
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
        let mut examined = Vec::new();
        for (index, root) in request.roots.iter().enumerate() {
            self.refuse_overlap(&root.path)?;
            let found = self.examine_root(index, request, &mut saved, events)?;
            intake.keep_inline(found.known.inline.len() as u64);
            examined.push(found);
        }
        if !request.dry_run {
            self.need_space_to_save(&examined, &staging)?;
        }
        for (root, examined) in request.roots.iter().zip(examined) {
            let intake = (!request.dry_run).then_some(&intake);
            roots.push(self.take_root(root, examined, intake, &mut inline, &mut saved, events)?);
        }
        saved.files = roots.iter().map(|r| (r.manifest.links.len() + r.manifest.symlinks.len()) as u64).sum();
        saved.bytes = roots.iter().map(|r| r.manifest.logical_bytes()).sum();
        release(&staging);
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
                let own = larder_fs::metadata(&path).ok().flatten().map_or(0, |meta| meta.size);
                saved.added = intake.added.load(Ordering::Relaxed) + own;
                for (index, (root, taken)) in request.roots.iter().zip(roots).enumerate() {
                    let overlay = self.session(&root.path).and_then(|session| session.overlay);
                    let session = Session::new(&root.path, &path, index, taken.inodes, overlay);
                    self.end_job(&root.path);
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
            worth: None,
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
        let provenance = request.review.provenance();
        header.worth = request.review.worth();
        header.parts.extend(provenance.digest().map(|digest| (SOURCES.to_owned(), digest)));
        let staged = self.stage_snapshot(staging, &request.place, &mut header, &provenance, &manifests, inline)?;
        events.phase(Phase::Sync, 0);
        if intake.new_blobs.load(Ordering::Relaxed) > 0 {
            Volume::sync(&self.root)?;
        } else {
            staged.sync(staging)?;
        }
        let path = self.publish_snapshot(staging, &staged)?;
        Ok((header, path))
    }

    /// Takes in what is not known of one root; without an intake, in a dry run, only counts it.
    fn take_root(
        &self,
        root: &Root<'_>,
        examined: Examined,
        intake: Option<&Intake<'_>>,
        inline: &mut Vec<u8>,
        saved: &mut Saved,
        events: &dyn Events,
    ) -> Result<TakenRoot> {
        let Examined { dir, tree, known, links, firsts, inodes, treatments, ladder } = examined;
        events.phase(Phase::Ingest, firsts.len() as u64);
        // The files of one directory are one piece of work.
        let chunks: Vec<&[u32]> =
            firsts.chunk_by(|a, b| tree.files[*a as usize].dir == tree.files[*b as usize].dir).collect();
        let upper = self.overlay_upper(&root.path);
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
                    tracing::debug!("{}: taken in", Path::new(relative).join(&file.name).display());
                    let Some(intake) = intake else {
                        taken.push(Some(Taken::Inline(Vec::new())));
                        continue;
                    };
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

fn append(inline: &mut Vec<u8>, bytes: &[u8]) -> Content {
    let offset = inline.len() as u64;
    inline.extend_from_slice(bytes);
    Content::Inline { offset }
}

/// Where a changed file of an overlay lies outside the mount, if it is the same one.
fn in_upper(upper: &Dir, relative: &OsStr, file: &FileNode) -> Option<(Dir, FileNode)> {
    let dir = upper.open_beneath(relative).ok()?;
    let meta = dir.stat_optional(&file.name).ok()??;
    let same = meta.kind == Kind::File && meta.size == file.meta.size && meta.mtime == file.meta.mtime;
    same.then(|| (dir, FileNode { dir: file.dir, name: file.name.clone(), meta }))
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
