//! What can go wrong with a store, sorted by what a person can do about it.

use std::path::PathBuf;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error(transparent)]
    Fs(#[from] larder_fs::Error),

    /// The store's path cannot be a store.
    #[error("{} is not a larder store: {reason}", path.display())]
    NotAStore {
        /// The path given as the store.
        path: PathBuf,
        /// Why it cannot be one.
        reason: String,
    },

    /// The store was written by a version that this one does not understand.
    #[error("the store {} has format {found}, this larder reads format {known}: update larder, or name another store", path.display())]
    ForeignFormat {
        /// The store.
        path: PathBuf,
        /// The format found.
        found: String,
        /// The newest format that this version reads.
        known: u32,
    },

    /// A snapshot file cannot be used.
    #[error("the snapshot {} is unusable: {reason}", path.display())]
    BadSnapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// Somebody kept the store's lock for too long.
    #[error("the store {} is busy: other larder processes kept its lock for {waited_s} s; try again later", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
        /// How long was waited, in seconds.
        waited_s: u64,
    },

    /// Another larder process kept a directory for too long.
    #[error("{} is busy: another larder has been working on it for {waited_s} s; try again later", path.display())]
    BusyRoot {
        /// The directory.
        path: PathBuf,
        /// How long was waited, in seconds.
        waited_s: u64,
    },

    /// A blob changed between its check and its use.
    #[error("cannot make {}: {reason}", path.display())]
    ChangedBlob {
        /// The file that was to be made from it.
        path: PathBuf,
        /// What changed.
        reason: String,
    },

    /// A file did not hold still.
    #[error("{} changed again and again while it was saved; save when nothing writes to it", path.display())]
    Unsteady {
        /// The file.
        path: PathBuf,
    },

    /// A path that was to be saved or restored to is no directory, or lies where it must not.
    #[error("cannot use {}: {reason}", path.display())]
    BadRoot {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// A directory, or one below it, does not let this account in.
    #[error("cannot look into {}: its permissions keep this account out; give it read and search permission, or remove it", path.display())]
    Closed {
        /// The directory, or what in it could not be examined.
        path: PathBuf,
        /// What the system said.
        source: larder_fs::Error,
    },

    /// There is no room for what is to be restored or saved.
    #[error("no room on the file system of {}: {needed} bytes and {files} files are needed, {available} bytes and {inodes} files are left{}; see what `{}` would evict", path.display(), beside(*reserved), helper(*needed, *available))]
    NoSpace {
        /// The directory to restore to, or the store.
        path: PathBuf,
        /// Bytes that have to be written at most.
        needed: u64,
        /// Files that have to be made.
        files: u64,
        /// Bytes that may be written.
        available: u64,
        /// Files that may be made.
        inodes: u64,
        /// Bytes beside those that other larder processes are about to write.
        reserved: u64,
    },

    /// A snapshot is not to be removed.
    #[error("the snapshot {snapshot} is kept: {why}")]
    Kept {
        /// The snapshot.
        snapshot: String,
        /// Why, and what to do.
        why: String,
    },

    /// A directory was changed by a restore that failed or died, and is not what it should be.
    #[error("the restore of {} stopped half way; restore it again, or remove it", path.display())]
    HalfRestored {
        /// The directory.
        path: PathBuf,
        /// What stopped it; `None` where an earlier process was.
        source: Option<Box<Self>>,
    },

    /// The store can only be read.
    #[error("the store {} is read-only", path.display())]
    ReadOnly {
        /// The store.
        path: PathBuf,
    },
}

/// The command that shows how to get room: of bytes, or else of files.
fn helper(needed: u64, available: u64) -> String {
    match needed > available {
        true => format!("larder gc --need {needed} --dry-run"),
        false => "larder guard --dry-run".to_owned(),
    }
}

/// What others have reserved, as a part of a sentence.
fn beside(reserved: u64) -> String {
    match reserved {
        0 => String::new(),
        bytes => format!(" beside {bytes} bytes that other larder processes are about to write"),
    }
}

impl Error {
    /// Whether the user gave a path that can never work, as opposed to a passing fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NotAStore { .. } | Self::BadRoot { .. })
    }

    /// The error of looking at a root and what is below it.
    pub(crate) fn of_walk(e: larder_fs::Error) -> Self {
        match e.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Closed { path: e.path.clone(), source: e },
            _ => Self::Fs(e),
        }
    }
}

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;
