//! Advisory locks on files, shared between processes and freed by the kernel when their holder dies.

use crate::error::{Error, Result};
use crate::fault;
use crate::file::{file_meta, metadata};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How soon a lock that is held elsewhere is tried again: at first, and at last. Most are held for a moment.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

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
    file: File,
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

    /// Takes the lock on an open file; `None` when it is held elsewhere.
    pub fn on(file: File, path: &Path, kind: LockKind) -> Result<Option<Self>> {
        fault::check("lock").map_err(|e| Error::new("lock", path, e))?;
        Self::hold(file, path, kind, Duration::ZERO)
    }

    /// Whether what is locked still stands at `path`: whoever waits for a lock may get it after its file was removed,
    /// and others then lock another file of that name.
    pub fn is_at(&self, path: &Path) -> Result<bool> {
        let ours = file_meta(&self.file, path)?;
        Ok(metadata(path)?.is_some_and(|there| (there.dev, there.ino) == (ours.dev, ours.ino)))
    }

    fn hold(file: File, path: &Path, kind: LockKind, wait: Duration) -> Result<Option<Self>> {
        let start = Instant::now();
        let mut poll = POLL.0;
        loop {
            let attempt = match kind {
                LockKind::Shared => file.try_lock_shared(),
                LockKind::Exclusive => file.try_lock(),
            };
            match attempt {
                Ok(()) => return Ok(Some(Self { file })),
                Err(TryLockError::WouldBlock) if start.elapsed() >= wait => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    thread::sleep(poll);
                    poll = (poll * 2).min(POLL.1);
                }
                Err(TryLockError::Error(e)) => return Err(Error::new("lock", path, e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_knows_when_its_file_was_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let lock = Lock::acquire(&path, LockKind::Exclusive, Duration::ZERO).unwrap().unwrap();
        assert!(lock.is_at(&path).unwrap());
        assert!(Lock::acquire(&path, LockKind::Shared, Duration::ZERO).unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(!lock.is_at(&path).unwrap());
        let other = Lock::on(File::create(&path).unwrap(), &path, LockKind::Exclusive).unwrap().unwrap();
        assert!(other.is_at(&path).unwrap() && !lock.is_at(&path).unwrap());
        assert!(Lock::on(File::open(&path).unwrap(), &path, LockKind::Shared).unwrap().is_none());
    }
}
