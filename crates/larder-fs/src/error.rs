//! One error for the room: what was attempted, on which path, and why the system refused.

use std::io;
use std::path::{Path, PathBuf};

/// A file-system operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}", path.display())]
pub struct Error {
    /// What was attempted, as a verb that fits "cannot … PATH".
    pub op: &'static str,
    /// The path it was attempted on.
    pub path: PathBuf,
    /// Why the system refused.
    pub source: io::Error,
}

impl Error {
    pub(crate) fn new(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { op, path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// The class of the failure.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Whether something stands at the path already.
    pub fn is_already_exists(&self) -> bool {
        self.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether a symbolic link stood where none may.
    pub fn is_link(&self) -> bool {
        self.is(rustix::io::Errno::LOOP)
    }

    /// Whether the kernel answered with this error.
    pub fn is(&self, errno: rustix::io::Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }
}

/// The result of a file-system operation.
pub type Result<T> = std::result::Result<T, Error>;
