//! Taking one file into the store, in the cheapest way that its class and the file system allow.
//!
//! | file | becomes |
//! |---|---|
//! | empty, or small and not shared | inline in the snapshot |
//! | of a class that may be shared, where links work | an ingest blob: a further name of its inode |
//! | large, where extents can be shared | an ingest blob: a reflink |
//! | any other | a digest blob: copied, and digested on the way |
//!
//! A link or reflink reads nothing, so its digest is not known yet; [`super`] decides how many of those
//! are computed before the save ends.

use crate::blob::{BLOBS, BlobId, Checked, DIGEST_MTIME, Digest, SaveId};
use crate::error::{Error, Result};
use crate::link_mode::{Ladder, Moved};
use crate::manifest::{Content, Inode};
use crate::policy::Treatment;
use crate::store::{Staging, Store};
use larder_fs::{Dir, FileNode, Meta, finish_file, set_up_file};
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Files up to this many bytes may go into the snapshot itself: one read there spares opening a blob
/// each. Cargo's fingerprints are all smaller.
const INLINE_FILE: u64 = 4 * 1024;
/// All inline files of a snapshot together have at most this many bytes, which bounds the memory of
/// whoever restores it.
const INLINE_TOTAL: u64 = 16 << 20;
/// Files up to this size are digested even where they could be reflinked: they are worth sharing
/// between snapshots, and reading them costs less than a reflink.
const DIGEST_SMALL: u64 = 64 * 1024;
/// Files up to this size are read into memory, so that bytes the store has already are not written.
const IN_MEMORY: u64 = 1 << 20;

const STAGED_INGEST: &str = "ingest";

/// What a save has to write, at most: which bytes the store has already is only known when they are read.
pub(crate) struct Need {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    inline_left: u64,
}

impl Default for Need {
    fn default() -> Self {
        Self { bytes: 0, files: 0, inline_left: INLINE_TOTAL }
    }
}

impl Need {
    /// Adds a file; the same choices as in [`Intake::take`].
    pub(crate) fn add(&mut self, meta: &Meta, treatment: Treatment, ladder: &Ladder) {
        const BLOCK: u64 = 4096;
        if meta.size == 0 || ladder.would_link(treatment) {
            return;
        }
        if meta.size <= INLINE_FILE && meta.size <= self.inline_left {
            self.inline_left -= meta.size;
            self.bytes += meta.size;
            return;
        }
        if ladder.may_reflink() && meta.size > DIGEST_SMALL {
            return;
        }
        self.files += 1;
        let full = meta.size.next_multiple_of(BLOCK);
        let bytes = if meta.is_sparse() { full.min(meta.blocks.saturating_mul(512)) } else { full };
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Where the bytes of a file went.
pub(crate) enum Taken {
    /// Into the snapshot; their place there is not known yet.
    Inline(Vec<u8>),
    /// Into a blob.
    Blob(Content),
}

/// One save's intake, shared by its threads.
pub(crate) struct Intake<'a> {
    store: &'a Store,
    staging: &'a Staging,
    pub(crate) save: SaveId,
    next: AtomicU32,
    staged: AtomicU32,
    inline_left: AtomicU64,
    ingest_dir: OnceLock<Dir>,
    pub(crate) hashed: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) new_blobs: AtomicU64,
    /// Bytes of the blobs that the store did not have.
    pub(crate) added: AtomicU64,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(store: &'a Store, staging: &'a Staging) -> Self {
        Self {
            store,
            staging,
            save: SaveId(fastrand::u64(..)),
            next: AtomicU32::new(0),
            staged: AtomicU32::new(0),
            inline_left: AtomicU64::new(INLINE_TOTAL),
            ingest_dir: OnceLock::new(),
            hashed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            new_blobs: AtomicU64::new(0),
            added: AtomicU64::new(0),
        }
    }

    /// Reserves room in the inline section.
    pub(crate) fn may_inline(&self, size: u64) -> bool {
        size <= INLINE_FILE
            && self
                .inline_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size))
                .is_ok()
    }

    /// Counts bytes that are in the inline section without having been taken in by this save.
    pub(crate) fn keep_inline(&self, size: u64) {
        // Saturates: what was inline stays so, but leaves less room for others.
        let less = |left: u64| Some(left.saturating_sub(size));
        self.inline_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }

    /// Takes in the file `file` of `dir`. `upper` is where the same file can be linked from, if it is not here.
    pub(crate) fn take(&self, dir: &Dir, file: &FileNode, treatment: Treatment, ladder: &Ladder) -> Result<Taken> {
        let meta = &file.meta;
        if meta.size == 0 {
            return Ok(Taken::Inline(Vec::new()));
        }
        if ladder.would_link(treatment)
            && let Some(content) = self.link(dir, file, ladder)?
        {
            return Ok(Taken::Blob(content));
        }
        if self.may_inline(meta.size) {
            self.written.fetch_add(1, Ordering::Relaxed);
            return Ok(Taken::Inline(self.read(dir, file)?));
        }
        self.new_blobs.fetch_add(1, Ordering::Relaxed);
        if ladder.may_reflink() && meta.size > DIGEST_SMALL {
            return self.reflink(dir, file, ladder).map(Taken::Blob);
        }
        self.copy(dir, file, ladder).map(Taken::Blob)
    }

    fn ingest_dir(&self) -> Result<&Dir> {
        if let Some(dir) = self.ingest_dir.get() {
            return Ok(dir);
        }
        self.staging.dir.ensure_dir(OsStr::new(STAGED_INGEST))?;
        let dir = self.staging.dir.open_beneath(OsStr::new(STAGED_INGEST))?;
        Ok(self.ingest_dir.get_or_init(|| dir))
    }

    fn link(&self, dir: &Dir, file: &FileNode, ladder: &Ladder) -> Result<Option<Content>> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let ingest = self.ingest_dir()?;
        let name: OsString = index.to_string().into();
        if !ladder.try_link(dir, &file.name, ingest, &name)? {
            return Ok(None);
        }
        self.new_blobs.fetch_add(1, Ordering::Relaxed);
        if !same(&ingest.stat(&name)?, &file.meta) {
            return Err(unsteady(dir, file));
        }
        self.added.fetch_add(file.meta.size, Ordering::Relaxed);
        Ok(Some(Content::Ingest { save: self.save, index, ino: file.meta.ino, digest: None }))
    }

    fn reflink(&self, dir: &Dir, file: &FileNode, ladder: &Ladder) -> Result<Content> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let ingest = self.ingest_dir()?;
        let name: OsString = index.to_string().into();
        let source = dir.open_file(&file.name)?;
        let blob = ingest.create_file(&name, file.meta.mode)?;
        ladder.fill(&source, &file.meta, &blob, None, &ingest.join(&name))?;
        let made = finish_file(&blob, file.meta.mode, file.meta.mtime, &ingest.join(&name))?;
        self.held_still(dir, file, &source, made.size)?;
        self.added.fetch_add(made.size, Ordering::Relaxed);
        Ok(Content::Ingest { save: self.save, index, ino: made.ino, digest: None })
    }

    fn read(&self, dir: &Dir, file: &FileNode) -> Result<Vec<u8>> {
        let source = dir.open_file(&file.name)?;
        // One byte more than expected tells a file that grew.
        let bytes = larder_fs::read_up_to(&source, file.meta.size + 1, &dir.join(&file.name))?;
        self.held_still(dir, file, &source, bytes.len() as u64)?;
        Ok(bytes)
    }

    fn copy(&self, dir: &Dir, file: &FileNode, ladder: &Ladder) -> Result<Content> {
        self.hashed.fetch_add(1, Ordering::Relaxed);
        let staged: OsString = format!("copy-{}", self.staged.fetch_add(1, Ordering::Relaxed)).into();
        let path = self.staging.dir.join(&staged);
        let digest = if file.meta.size <= IN_MEMORY && !file.meta.is_sparse() {
            let bytes = self.read(dir, file)?;
            let digest = Digest::from(blake3::hash(&bytes));
            if let Some(content) = self.existing(digest, file.meta.size)? {
                return Ok(content);
            }
            let blob = self.staging.dir.create_file(&staged, 0o444)?;
            set_up_file(&blob, &bytes, &path)?;
            finish_file(&blob, 0o444, DIGEST_MTIME, &path)?;
            ladder.count(Moved::Copied);
            digest
        } else {
            let source = dir.open_file(&file.name)?;
            let blob = self.staging.dir.create_file(&staged, 0o444)?;
            let mut hasher = blake3::Hasher::new();
            ladder.fill(&source, &file.meta, &blob, Some(&mut hasher), &path)?;
            let made = finish_file(&blob, 0o444, DIGEST_MTIME, &path)?;
            self.held_still(dir, file, &source, made.size)?;
            hasher.finalize().into()
        };
        self.name_digest_blob(&staged, digest, file.meta.size)
    }

    /// Gives a staged copy its name; whoever came first wins.
    fn name_digest_blob(&self, staged: &OsStr, digest: Digest, size: u64) -> Result<Content> {
        let hex = digest.to_string();
        let dir_name: OsString = format!("{BLOBS}/{}", &hex[..2]).into();
        let root = &self.store.root;
        let final_name: OsString = hex[2..].into();
        for _ in 0..3 {
            root.ensure_dir(&dir_name)?;
            let dir = root.open_beneath(&dir_name)?;
            match self.staging.dir.rename_new(staged, &dir, &final_name) {
                Ok(()) => {
                    let ino = dir.stat(&final_name)?.ino;
                    self.added.fetch_add(size, Ordering::Relaxed);
                    return Ok(Content::Digest { digest, ino });
                }
                Err(e) if e.is_already_exists() => {
                    if let Some(content) = self.existing(digest, size)? {
                        return Ok(content);
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::NotAStore {
            path: self.store.path().to_path_buf(),
            reason: format!("the blob {hex} comes and goes while it is written"),
        })
    }

    /// The blob with this digest, if the store has a sound one; a damaged one is set aside.
    fn existing(&self, digest: Digest, size: u64) -> Result<Option<Content>> {
        let blobs = self.store.blobs();
        let id = BlobId::Digest(digest);
        let Some(meta) = blobs.stat(id)? else {
            if blobs.is_obstructed(id)? {
                self.set_aside(id)?;
            }
            return Ok(None);
        };
        let content = Content::Digest { digest, ino: meta.ino };
        let inode = Inode { mode: 0, mtime: DIGEST_MTIME, size, content };
        match blobs.check(&inode)? {
            Checked::Sound(_) => Ok(Some(inode.content)),
            Checked::Missing => Ok(None),
            Checked::Damaged(_) | Checked::Unproven(_) => {
                self.set_aside(id)?;
                Ok(None)
            }
        }
    }

    fn set_aside(&self, id: BlobId) -> Result<()> {
        match self.store.blobs().quarantine(id) {
            Err(Error::Fs(e)) if e.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    fn held_still(&self, dir: &Dir, file: &FileNode, source: &std::fs::File, length: u64) -> Result<()> {
        let now = larder_fs::file_meta(source, &dir.join(&file.name))?;
        if same(&now, &file.meta) && length == file.meta.size { Ok(()) } else { Err(unsteady(dir, file)) }
    }

    /// Moves the ingest blobs to their final place; they count for nothing until a snapshot names them.
    pub(crate) fn settle(&self) -> Result<()> {
        if self.ingest_dir.get().is_none() {
            return Ok(());
        }
        let ingest = self.store.room(crate::blob::INGEST)?;
        // The name is this save's own, and not every file system knows renames that refuse to replace.
        Ok(self.staging.dir.rename(OsStr::new(STAGED_INGEST), &ingest, &self.save.dir_name())?)
    }

    /// Takes back what [`Intake::settle`] moved, after a failure.
    pub(crate) fn unsettle(&self) {
        let undo = || -> Result<()> {
            let ingest = self.store.room(crate::blob::INGEST)?;
            Ok(ingest.remove_all(&self.save.dir_name())?)
        };
        if let Err(e) = undo() {
            tracing::debug!(error = %crate::store::chain(&e), "unnamed blobs stay for the next sweep");
        }
    }
}

fn same(a: &Meta, b: &Meta) -> bool {
    a.ino == b.ino && a.size == b.size && a.mtime == b.mtime
}

fn unsteady(dir: &Dir, file: &FileNode) -> Error {
    Error::Unsteady { path: dir.join(&file.name) }
}
