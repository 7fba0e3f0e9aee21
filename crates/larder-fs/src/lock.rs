//! Advisory locks on files, shared between processes and freed by the kernel when their holder dies.

use crate::error::{Error, Result};
use crate::fault;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often a lock that is held elsewhere is tried again.
const POLL: Duration = Duration::from_millis(10);

/// Who else may hold the lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Any number of other shared holders.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock on the file at `path`, made if absent, and waits at most `wait` for it.
    /// Returns `None` when somebody else kept it that long.
    pub fn acquire(path: &Path, kind: LockKind, wait: Duration) -> Result<Option<Self>> {
        let fail = |e: std::io::Error| Error::new("lock", path, e);
        fault::check("lock").map_err(fail)?;
        let file = match File::options().read(true).write(true).create(true).truncate(false).open(path) {
            Ok(file) => file,
            // On a read-only store the file is there already, and reading it is enough to lock it.
            Err(e) if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
                File::open(path).map_err(fail)?
            }
            Err(e) => return Err(fail(e)),
        };
        Self::hold(file, path, kind, wait)
    }

    /// Takes the lock on something that exists, a file or a directory, and waits at most `wait`; `None` when it is held elsewhere.
    pub fn existing(path: &Path, kind: LockKind, wait: Duration) -> Result<Option<Self>> {
        fault::check("lock").map_err(|e| Error::new("lock", path, e))?;
        let file = File::open(path).map_err(|e| Error::new("lock", path, e))?;
        Self::hold(file, path, kind, wait)
    }

    fn hold(file: File, path: &Path, kind: LockKind, wait: Duration) -> Result<Option<Self>> {
        let start = Instant::now();
        loop {
            let attempt = match kind {
                LockKind::Shared => file.try_lock_shared(),
                LockKind::Exclusive => file.try_lock(),
            };
            match attempt {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::WouldBlock) if start.elapsed() >= wait => return Ok(None),
                Err(TryLockError::WouldBlock) => thread::sleep(POLL),
                Err(TryLockError::Error(e)) => return Err(Error::new("lock", path, e)),
            }
        }
    }
}
