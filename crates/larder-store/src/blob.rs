//! Immutable bytes, each in a file of its own.
//!
//! ```text
//! blobs/ab/cdef…         named by digest; its mtime is DIGEST_MTIME; only ever copied or reflinked out
//! ingest/SAVE/N          named before its digest was known; mtime and mode as the file had; may be linked
//! ingest/SAVE/N.blake3   the digest of ingest/SAVE/N, in hexadecimal, once somebody computed it
//! quarantine/…           blobs that failed a check, with the place they came from in their names
//! ```
//!
//! Invariants: a blob is never touched after it has its name. Before use its inode number, length and
//! mtime must be the recorded ones. Another inode number alone (the store was copied) is settled by
//! the digest; any other difference means that somebody wrote into the blob, through a hard link or
//! directly, and the blob is set aside. Every change of contents that goes through the kernel moves the
//! mtime; one that puts the old mtime back is found by `verify`.
//!
//! Concurrency: two processes may take in the same bytes. A digest blob that exists is success for
//! both; ingest names are unique. A crash leaves blobs without a snapshot, which a sweep removes.

use crate::error::Result;
use crate::manifest::{Content, Inode};
use larder_fs::{Dir, Kind, Meta, Timestamp};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fmt;

/// The mtime of every digest blob: one second after the epoch, which no real write can leave behind.
pub(crate) const DIGEST_MTIME: Timestamp = Timestamp { secs: 1, nanos: 0 };
/// The directory of digest blobs.
pub(crate) const BLOBS: &str = "blobs";
/// The directory of ingest blobs.
pub(crate) const INGEST: &str = "ingest";
/// What the names of files with the digests of ingest blobs end in.
pub(crate) const SIDECAR: &str = ".blake3";
/// The directory of blobs that failed a check.
pub(crate) const QUARANTINE: &str = "quarantine";

/// A BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of one save's directory below `ingest/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SaveId(pub u64);

impl SaveId {
    /// The directory's name.
    pub(crate) fn dir_name(self) -> OsString {
        format!("{:016x}", self.0).into()
    }

    /// The id that a directory's name stands for.
    pub(crate) fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str().filter(|name| name.len() == 16)?;
        u64::from_str_radix(name, 16).ok().map(Self)
    }
}

/// The name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BlobId {
    Digest(Digest),
    Ingest(SaveId, u32),
}

impl BlobId {
    /// The blob that holds these contents; `None` where they are inline.
    pub(crate) fn of(content: &Content) -> Option<Self> {
        match content {
            Content::Inline { .. } => None,
            Content::Digest { digest, .. } => Some(Self::Digest(*digest)),
            Content::Ingest { save, index, .. } => Some(Self::Ingest(*save, *index)),
        }
    }

    /// The path below the store's root.
    pub(crate) fn path(self) -> OsString {
        match self {
            Self::Digest(digest) => {
                let hex = digest.to_string();
                format!("{BLOBS}/{}/{}", &hex[..2], &hex[2..]).into()
            }
            Self::Ingest(save, index) => format!("{INGEST}/{:016x}/{index}", save.0).into(),
        }
    }

    /// What the names in quarantine begin with that speak of this blob.
    pub(crate) fn flat_name(self) -> String {
        self.path().to_string_lossy().replace('/', "-")
    }

    pub(crate) fn sidecar(self) -> Option<OsString> {
        match self {
            Self::Digest(_) => None,
            Self::Ingest(..) => {
                let mut path = self.path();
                path.push(SIDECAR);
                Some(path)
            }
        }
    }
}

/// What is worth knowing of a blob that was found sound. There is one for each file of a restore: no more than that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sound {
    pub(crate) ino: u64,
    /// Allocated space in units of 512 bytes.
    pub(crate) blocks: u64,
    /// Permission bits.
    pub(crate) mode: u32,
}

impl Sound {
    pub(crate) fn of(meta: &Meta) -> Self {
        Self { ino: meta.ino, blocks: meta.blocks, mode: meta.mode }
    }
}

/// What a check of a blob found.
#[derive(Debug)]
pub(crate) enum Checked {
    /// It is the recorded one.
    Sound(Sound),
    /// It is not there.
    Missing,
    /// It was changed; why that is known.
    Damaged(String),
    /// Its bytes can be neither confirmed nor refuted; why.
    Unproven(String),
}

/// Blobs as files below the store's root.
#[derive(Debug)]
pub(crate) struct Blobs<'a> {
    pub(crate) root: &'a Dir,
}

impl Blobs<'_> {
    /// Checks the blob of `inode` before it is used. Reads its bytes only where the inode number differs.
    pub(crate) fn check(&self, inode: &Inode) -> Result<Checked> {
        let Some(id) = BlobId::of(&inode.content) else {
            unreachable!("inline contents are protected by their snapshot's digest")
        };
        let Some(meta) = self.stat(id)? else { return Ok(Checked::Missing) };
        if self.is_closed(id, &meta)? {
            return Ok(Checked::Unproven("this account may not read it".into()));
        }
        if let Some(reason) = mismatch(inode, &meta) {
            return self.blame(inode, &meta, reason);
        }
        if !self.is_copy(inode, &meta) {
            return Ok(Checked::Sound(Sound::of(&meta)));
        }
        tracing::debug!(blob = ?id.path(), "another inode than recorded: checking the digest");
        match self.recorded_digest(inode)? {
            Some(digest) if self.digest(id)? == digest => Ok(Checked::Sound(Sound::of(&meta))),
            Some(_) => Ok(Checked::Damaged("its bytes do not have the recorded digest".into())),
            None => Ok(Checked::Unproven("it was copied before its digest was known".into())),
        }
    }

    /// Whether this account may not read the blob: an ingest blob has the owner and the mode of the file it was.
    fn is_closed(&self, id: BlobId, meta: &Meta) -> Result<bool> {
        if meta.mode & 0o444 == 0o444 || larder_fs::process::effective_uid() == 0 {
            return Ok(false);
        }
        match self.root.open_file(&id.path()) {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(true),
            // Whatever else is wrong with it shows when it is used.
            _ => Ok(false),
        }
    }

    /// Whether the blob is another file than the one that was taken in, as after the store was copied.
    pub(crate) fn is_copy(&self, inode: &Inode, meta: &Meta) -> bool {
        match inode.content {
            Content::Digest { ino, .. } | Content::Ingest { ino, .. } => meta.ino != ino,
            Content::Inline { .. } => false,
        }
    }

    /// Whether a blob that does not fit its record is itself damaged: where it still has the digest that is its
    /// name, the record is wrong, and setting the blob aside would harm every other snapshot that needs it.
    pub(crate) fn blame(&self, inode: &Inode, meta: &Meta, reason: String) -> Result<Checked> {
        if let Content::Digest { digest, .. } = inode.content
            && meta.mtime == DIGEST_MTIME
            && self.digest(BlobId::Digest(digest))? == digest
        {
            return Ok(Checked::Unproven(format!("the snapshot is wrong about it: {reason}")));
        }
        Ok(Checked::Damaged(reason))
    }

    /// Whether something that is no file stands in the place of a blob.
    pub(crate) fn is_obstructed(&self, id: BlobId) -> Result<bool> {
        Ok(self.root.stat_optional(&id.path())?.is_some_and(|meta| meta.kind != Kind::File))
    }

    /// The blob's stat, or `None` where it is not a file that is there.
    pub(crate) fn stat(&self, id: BlobId) -> Result<Option<Meta>> {
        match self.root.stat_optional(&id.path()) {
            Ok(meta) => Ok(meta.filter(|meta| meta.kind == Kind::File)),
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The digest that the blob of `inode` must have, from its manifest or its sidecar.
    pub(crate) fn recorded_digest(&self, inode: &Inode) -> Result<Option<Digest>> {
        match &inode.content {
            Content::Digest { digest, .. } | Content::Ingest { digest: Some(digest), .. } => Ok(Some(*digest)),
            Content::Inline { .. } => Ok(None),
            Content::Ingest { .. } => {
                let sidecar = BlobId::of(&inode.content).and_then(BlobId::sidecar);
                let Some(sidecar) = sidecar else { return Ok(None) };
                let bytes = match larder_fs::read_optional(&self.root.join(&sidecar)) {
                    // Something else stands there: nobody knows the digest.
                    Err(e) if e.kind() == std::io::ErrorKind::IsADirectory => None,
                    other => other?,
                };
                let hash = bytes.and_then(|bytes| blake3::Hash::from_hex(bytes.trim_ascii()).ok());
                Ok(hash.map(Digest::from))
            }
        }
    }

    /// Writes down the digest of an ingest blob. A crash leaves an unreadable sidecar, which counts as none.
    pub(crate) fn record_digest(&self, id: BlobId, digest: Digest) -> Result<()> {
        let Some(sidecar) = id.sidecar() else { return Ok(()) };
        self.root.remove_all(&sidecar)?;
        Ok(larder_fs::write_new(self.root, &sidecar, &[digest.to_string().as_bytes()], false)?)
    }

    /// Reads a blob and computes its digest.
    pub(crate) fn digest(&self, id: BlobId) -> Result<Digest> {
        let path = id.path();
        let file = self.root.open_file(&path)?;
        Ok(larder_fs::digest_file(&file, &self.root.join(&path))?.0.into())
    }

    /// Sets a damaged blob aside. The name in quarantine says where it was; nothing is deleted.
    pub(crate) fn quarantine(&self, id: BlobId) -> Result<OsString> {
        let from = id.path();
        let to: OsString = format!("{QUARANTINE}/{}.{:08x}", id.flat_name(), fastrand::u32(..)).into();
        self.root.rename(&from, self.root, &to)?;
        Ok(to)
    }
}

/// Why the blob cannot be the recorded one, judged by its stat alone.
pub(crate) fn mismatch(inode: &Inode, meta: &Meta) -> Option<String> {
    let mtime = match inode.content {
        Content::Digest { .. } => DIGEST_MTIME,
        _ => inode.mtime,
    };
    if meta.size != inode.size {
        Some(format!("its length is {} instead of {} bytes", meta.size, inode.size))
    } else if meta.mtime != mtime {
        Some("its time stamp moved: something wrote to it".into())
    } else {
        None
    }
}
