//! Room that a save or restore is about to use: others must not count on it too.
//!
//! ```text
//! tmp/X/reserved   device, bytes and files, a line each; counts while the process that has tmp/X lives
//! ```
//!
//! Whoever needs room writes down how much, under a lock on `tmp/`, and looks then whether it is there beside what all
//! others wrote down. So two that start at once do not both count on the last gigabyte. What was written already counts
//! twice until the work is done: that refuses too much rather than too little. A crash leaves a reservation whose lock is
//! free, which nobody counts and the next start sweeps.

use crate::error::{Error, Result};
use crate::store::{Staging, Store, TMP, chain};
use larder_fs::{Dir, Lock, LockKind, Volume};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

const RESERVED: &str = "reserved";
/// How long is waited for others who reserve: it takes them less than a millisecond.
const WAIT: Duration = Duration::from_secs(10);

/// What is needed on each file system, by device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs(HashMap<u64, Need>);

#[derive(Clone, Debug)]
struct Need {
    bytes: u64,
    files: u64,
    /// A directory of that file system, and the path to name.
    dir: std::sync::Arc<Dir>,
    path: std::path::PathBuf,
}

impl Needs {
    /// Adds what is needed on the file system of `dir` for what will stand at `path`.
    pub(crate) fn add(&mut self, dir: Dir, path: &Path, bytes: u64, files: u64) -> Result<()> {
        let device = Volume::of(&dir)?.dev;
        let new = || Need { bytes: 0, files: 0, dir: std::sync::Arc::new(dir), path: path.to_path_buf() };
        let need = self.0.entry(device).or_insert_with(new);
        need.bytes = need.bytes.saturating_add(bytes);
        need.files = need.files.saturating_add(files);
        need.path = path.to_path_buf();
        Ok(())
    }

    fn is_nothing(&self) -> bool {
        self.0.values().all(|need| need.bytes == 0 && need.files == 0)
    }

    fn check(&self, reserved: &HashMap<u64, (u64, u64)>) -> Result<()> {
        for (device, need) in &self.0 {
            let space = Volume::space(&need.dir)?;
            let (bytes, files) = reserved.get(device).copied().unwrap_or_default();
            let available = space.available.saturating_sub(bytes);
            let inodes = if space.inodes_available == u64::MAX {
                u64::MAX
            } else {
                space.inodes_available.saturating_sub(files)
            };
            if need.bytes > available || need.files > inodes {
                return Err(Error::NoSpace {
                    path: need.path.clone(),
                    needed: need.bytes,
                    files: need.files,
                    available,
                    inodes,
                    reserved: bytes,
                });
            }
        }
        Ok(())
    }
}

impl Store {
    /// Reserves room until the staging directory goes, or refuses. Nothing is reserved where nothing is needed.
    pub(crate) fn reserve(&self, needs: &Needs, staging: &Staging) -> Result<()> {
        if needs.is_nothing() {
            return Ok(());
        }
        let tmp = self.room(TMP)?;
        // Whoever cannot get the lock in time goes without: what others need is counted all the same.
        let _lock = Lock::existing(tmp.path(), LockKind::Exclusive, WAIT)?;
        let others = self.reserved(&tmp, staging.name())?;
        needs.check(&others)?;
        let lines: String =
            needs.0.iter().map(|(device, need)| format!("{device} {} {}\n", need.bytes, need.files)).collect();
        if let Err(e) = larder_fs::write_new(&staging.dir, OsStr::new(RESERVED), &[lines.as_bytes()], false) {
            tracing::debug!(error = %chain(&e), "nobody else will know what room is needed");
        }
        Ok(())
    }

    /// Reserves room for a restore: `None` where nothing is needed, or nothing can be written down. A store that is full
    /// must not keep a restore from a disk with room.
    pub(crate) fn reserve_for_restore(&self, needs: &Needs) -> Result<Option<Staging>> {
        if needs.is_nothing() {
            return Ok(None);
        }
        let staging = if self.is_read_only() { None } else { self.staging().ok() };
        let reserved = staging.as_ref().map(|staging| self.reserve(needs, staging));
        match reserved {
            Some(Ok(())) => Ok(staging),
            Some(Err(e @ Error::NoSpace { .. })) => Err(e),
            None | Some(Err(_)) => needs.check(&HashMap::new()).map(|()| None),
        }
    }

    /// What living processes have reserved, by device.
    fn reserved(&self, tmp: &Dir, ours: &OsStr) -> Result<HashMap<u64, (u64, u64)>> {
        let mut sum: HashMap<u64, (u64, u64)> = HashMap::new();
        for entry in tmp.entries()? {
            if entry.name == ours || entry.is_dir == Some(false) {
                continue;
            }
            let path = tmp.join(&entry.name);
            let Ok(Some(bytes)) = larder_fs::read_optional(&path.join(RESERVED)) else { continue };
            // Shared: two who look at once must not take each other for its owner.
            match Lock::existing(&path, LockKind::Shared, Duration::ZERO) {
                Ok(None) => {}
                Ok(Some(_)) => continue,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            }
            for line in String::from_utf8_lossy(&bytes).lines() {
                let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
                let [device, bytes, files] = numbers[..] else { continue };
                let sum = sum.entry(device).or_default();
                *sum = (sum.0.saturating_add(bytes), sum.1.saturating_add(files));
            }
        }
        Ok(sum)
    }
}

/// Takes a reservation back: what it was for is written.
pub(crate) fn release(staging: &Staging) {
    if let Err(e) = staging.dir.remove_all(OsStr::new(RESERVED)) {
        tracing::debug!(error = %chain(&e), "a reservation stays until its work is done");
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests arrange their own files")]
mod tests {
    use super::*;

    fn most_of_it(store: &Store) -> Needs {
        let mut needs = Needs::default();
        let available = Volume::space(&store.root).unwrap().available;
        needs.add(Dir::open(store.path()).unwrap(), store.path(), available / 3 * 2, 1).unwrap();
        needs
    }

    #[test]
    fn what_one_is_about_to_write_no_other_counts_on() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(temp.path(), &()).unwrap(), Store::open(temp.path(), &()).unwrap());
        let needs = most_of_it(&one);
        let first = one.staging().unwrap();
        one.reserve(&needs, &first).unwrap();
        let second = two.staging().unwrap();
        let refused = two.reserve(&needs, &second);
        assert!(matches!(&refused, Err(Error::NoSpace { reserved, .. }) if *reserved > 0), "{refused:?}");
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("about to write") && text.contains("larder gc --need"), "{text}");
        // Nobody counts a restore to the same disk in either.
        assert!(matches!(two.reserve_for_restore(&needs), Err(Error::NoSpace { .. })));
        release(&first);
        two.reserve(&needs, &second).unwrap();
    }

    #[test]
    fn the_dead_reserve_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path(), &()).unwrap();
        let needs = most_of_it(&store);
        let dead = store.staging().unwrap();
        store.reserve(&needs, &dead).unwrap();
        // As a process leaves it that was killed: the lock is free, the files are there.
        let left = std::fs::read(dead.dir.join(RESERVED)).unwrap();
        drop(dead);
        std::fs::create_dir(temp.path().join("tmp/0123456789abcdef")).unwrap();
        std::fs::write(temp.path().join("tmp/0123456789abcdef").join(RESERVED), left).unwrap();
        assert!(store.reserve_for_restore(&needs).unwrap().is_some());
    }
}
