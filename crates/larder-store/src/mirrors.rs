//! Room for bare mirrors of sibling repositories. What is in one is git's affair; the store gives it a place, a lock and
//! an end.
//!
//! ```text
//! mirrors/SCOPE/NAME-HASH.git    the mirror; HASH is of the address
//! mirrors/SCOPE/NAME-HASH.lock   shared by who reads it, exclusive for who changes or removes it
//! ```
//!
//! A mirror belongs to one scope: what one repository may fetch another one may not. SCOPE is readable and ends with a
//! digest, so that no two scopes share a folder; it is closed to all but the accounts of the store.
//!
//! A mirror is made in `tmp/` and renamed into its place when it is whole. It is derived: losing one costs a fetch. Two
//! empty files in it tell by their times when the remote was last reached, and when anybody last used it; `gc` removes
//! mirrors that nobody used for long. Older versions of larder leave the room alone.

use crate::blob::QUARANTINE;
use crate::error::{Error, Result};
use crate::store::{Staging, Store};
use larder_fs::{Dir, Kind, Lock, LockKind, Timestamp};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const MIRRORS: &str = "mirrors";
/// Its time is when the remote was last reached.
const REACHED: &str = "larder-reached";
/// Its time is when the mirror was last used.
const USED: &str = "larder-used";

/// The place of one mirror, locked.
#[derive(Debug)]
pub struct Mirror<'s> {
    store: &'s Store,
    scope: Dir,
    name: OsString,
    kind: LockKind,
    _lock: Lock,
}

/// A mirror in the making; dropped before it is published, it was never there.
#[derive(Debug)]
pub struct NewMirror<'m> {
    mirror: &'m Mirror<'m>,
    staging: Staging,
}

/// A mirror that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldMirror {
    /// Where it is, below the store.
    pub path: PathBuf,
    /// When it was last used.
    pub used: Timestamp,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
}

/// A name that is safe as a part of a file's, and short.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = name.chars().take(64).map(|c| if is_plain(c) { c } else { '-' }).collect();
    if plain.starts_with('.') { format!("-{plain}") } else { plain }
}

fn short_digest(text: &str, digits: usize) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..digits].to_owned()
}

impl Store {
    /// The place of the mirror of `address`, for the repositories of `scope`; waits at most `wait` for others who work on
    /// it. To change the mirror takes an exclusive lock.
    ///
    /// # Errors
    ///
    /// [`Error::BusyRoot`] where others kept it that long, [`Error::ReadOnly`], [`Error::Fs`].
    pub fn mirror(&self, scope: &str, name: &str, address: &str, kind: LockKind, wait: Duration) -> Result<Mirror<'_>> {
        self.writable()?;
        let scope = OsString::from(format!("{}-{}", plain(scope), short_digest(scope, 8)));
        let stem = format!("{}-{}", plain(name), short_digest(address, 16));
        self.root.ensure_dir(OsStr::new(MIRRORS))?;
        let mirrors = self.room(MIRRORS)?;
        // Where a group shares the store its accounts share the mirrors.
        let mode = if self.is_shared()? { 0o2770 } else { 0o700 };
        for (dir, name) in [(&self.root, OsStr::new(MIRRORS)), (&mirrors, &scope)] {
            dir.ensure_dir(name)?;
            let meta = dir.stat(name)?;
            if meta.mode & 0o7777 != mode && meta.uid == larder_fs::process::effective_uid() {
                dir.set_mode(name, mode)?;
            }
        }
        let scope = mirrors.open_beneath(&scope)?;
        let path = scope.join(format!("{stem}.lock"));
        let start = Instant::now();
        loop {
            let left = wait.saturating_sub(start.elapsed());
            let Some(lock) = Lock::acquire(&path, kind, left)? else {
                return Err(Error::BusyRoot { path: scope.join(format!("{stem}.git")), waited_s: wait.as_secs() });
            };
            // Whoever removes a mirror removes its lock with it.
            if lock.is_at(&path)? {
                return Ok(Mirror { store: self, scope, name: format!("{stem}.git").into(), kind, _lock: lock });
            }
        }
    }

    /// Whether a group of accounts shares the store.
    pub(crate) fn is_shared(&self) -> Result<bool> {
        Ok(self.root.stat_self()?.mode & 0o020 != 0)
    }

    /// Removes the mirrors that nobody used for `age`, unless somebody works on one now.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the file system refuses.
    pub(crate) fn remove_old_mirrors(&self, now: Timestamp, age: Duration, dry_run: bool) -> Result<Vec<OldMirror>> {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let mut old = Vec::new();
        for (scope, dir) in self.mirror_scopes()? {
            for entry in dir.entries()? {
                let Some(stem) = entry.name.to_str().and_then(|name| name.strip_suffix(".git")) else { continue };
                let is_old = |used: Timestamp| now.as_nanos().saturating_sub(used.as_nanos()) >= age;
                if !last_used(&dir, &entry.name)?.is_some_and(is_old) {
                    continue;
                }
                let lock_path = dir.join(format!("{stem}.lock"));
                let Some(_lock) = Lock::acquire(&lock_path, LockKind::Exclusive, Duration::ZERO)? else { continue };
                // Somebody may have used it before the lock was ours.
                let Some(used) = last_used(&dir, &entry.name)?.filter(|used| is_old(*used)) else { continue };
                let bytes = crate::census::taken_below(&dir.open_beneath(&entry.name)?)?;
                if !dry_run {
                    let staging = self.staging()?;
                    dir.rename_dir(&entry.name, &staging.dir, &entry.name)?;
                    dir.remove_file(OsStr::new(&format!("{stem}.lock")))?;
                }
                old.push(OldMirror { path: Path::new(MIRRORS).join(&scope).join(&entry.name), used, bytes });
            }
        }
        Ok(old)
    }

    /// The folders of scopes.
    fn mirror_scopes(&self) -> Result<Vec<(OsString, Dir)>> {
        let Some(mirrors) = Dir::open_optional(&self.root.join(MIRRORS))? else { return Ok(Vec::new()) };
        let mut scopes = Vec::new();
        for entry in mirrors.entries()? {
            if mirrors.stat_optional(&entry.name)?.is_some_and(|meta| meta.kind == Kind::Dir) {
                match mirrors.open_beneath(&entry.name) {
                    Ok(dir) => scopes.push((entry.name, dir)),
                    // Another account's.
                    Err(e) if e.is_not_found() || e.kind() == std::io::ErrorKind::PermissionDenied => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(scopes)
    }

    /// How many mirrors there are, and the bytes that they take.
    pub(crate) fn mirror_sums(&self) -> Result<(u64, u64)> {
        let mut sums = (0, 0);
        for (_, dir) in self.mirror_scopes()? {
            let is_mirror = |entry: &larder_fs::Entry| entry.name.as_encoded_bytes().ends_with(b".git");
            sums.0 += dir.entries()?.iter().filter(|entry| is_mirror(entry)).count() as u64;
            sums.1 += crate::census::taken_below(&dir)?;
        }
        Ok(sums)
    }
}

/// When a mirror was last used; `None` where it is no directory (any more).
fn last_used(scope: &Dir, name: &OsStr) -> Result<Option<Timestamp>> {
    let Some(meta) = scope.stat_optional(name)?.filter(|meta| meta.kind == Kind::Dir) else { return Ok(None) };
    let mut marked: OsString = name.to_os_string();
    marked.push("/");
    marked.push(USED);
    Ok(Some(scope.stat_optional(&marked)?.map_or(meta.mtime, |meta| meta.mtime)))
}

impl Mirror<'_> {
    /// Where the mirror is, or would be.
    pub fn path(&self) -> PathBuf {
        self.scope.join(&self.name)
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        matches!(self.scope.stat_optional(&self.name), Ok(Some(meta)) if meta.kind == Kind::Dir)
    }

    /// Whether a group of accounts uses it.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the store cannot be looked at.
    pub fn is_shared(&self) -> Result<bool> {
        self.store.is_shared()
    }

    /// When the remote was last reached; `None` where nobody noted it.
    pub fn reached(&self) -> Option<Timestamp> {
        let dir = self.scope.open_beneath(&self.name).ok()?;
        dir.stat_optional(OsStr::new(REACHED)).ok()?.map(|meta| meta.mtime)
    }

    /// Notes that the remote was reached just now.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the file system refuses.
    pub fn note_reached(&self) -> Result<()> {
        self.note(REACHED)
    }

    /// Notes that somebody uses it.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the file system refuses.
    pub fn note_used(&self) -> Result<()> {
        self.note(USED)
    }

    fn note(&self, name: &str) -> Result<()> {
        let dir = self.scope.open_beneath(&self.name)?;
        dir.append(OsStr::new(name), b"")?;
        // Another account's file keeps its time; one of them is as good as the other.
        match dir.touch(OsStr::new(name)) {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
            other => Ok(other?),
        }
    }

    /// A new mirror, to be filled at the path that it gives and then published. What stood in the mirror's place moves to
    /// quarantine when it is.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the file system refuses.
    pub fn anew(&self) -> Result<NewMirror<'_>> {
        debug_assert_eq!(self.kind, LockKind::Exclusive);
        Ok(NewMirror { mirror: self, staging: self.store.staging()? })
    }
}

impl NewMirror<'_> {
    /// An absent path in a folder of this process's own.
    pub fn path(&self) -> PathBuf {
        self.staging.dir.join("mirror.git")
    }

    /// Puts the mirror in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the file system refuses.
    pub fn publish(self) -> Result<()> {
        let Mirror { scope, name, store, .. } = self.mirror;
        if self.mirror.exists() {
            let mut aside = OsString::from("mirror-");
            aside.push(name);
            aside.push(format!(".{:08x}", fastrand::u32(..)));
            scope.rename_dir(name, &store.room(QUARANTINE)?, &aside)?;
        }
        Ok(self.staging.dir.rename_new(OsStr::new("mirror.git"), scope, name)?)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests arrange their own files")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Timestamp = Timestamp { secs: 4_000_000_000, nanos: 0 };
    const WAIT: Duration = Duration::from_millis(5);

    fn take<'s>(store: &'s Store, scope: &str, kind: LockKind) -> Result<Mirror<'s>> {
        store.mirror(scope, "one", "https://host/acme/one", kind, WAIT)
    }

    fn make(store: &Store, scope: &str) -> PathBuf {
        let mirror = take(store, scope, LockKind::Exclusive).unwrap();
        let new = mirror.anew().unwrap();
        fs::create_dir(new.path()).unwrap();
        fs::write(new.path().join("HEAD"), "x").unwrap();
        new.publish().unwrap();
        mirror.note_used().unwrap();
        mirror.path()
    }

    #[test]
    fn a_mirror_is_there_whole_or_not_at_all_and_for_its_scope_alone() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path(), &()).unwrap();
        let mirror = take(&store, "acme/app", LockKind::Exclusive).unwrap();
        let new = mirror.anew().unwrap();
        fs::create_dir(new.path()).unwrap();
        assert!(!mirror.exists());
        drop(new);
        assert!(!mirror.exists());
        assert_eq!(fs::read_dir(temp.path().join("tmp")).unwrap().count(), 0);
        drop(mirror);
        let first = make(&store, "acme/app");
        assert!(first.is_dir());
        // Names that look alike have folders of their own.
        let other = take(&store, "acme-app", LockKind::Shared).unwrap();
        assert!(!other.exists());
        assert_ne!(other.path(), first);
        let odd = take(&store, "../../x", LockKind::Shared).unwrap().path();
        assert!(odd.starts_with(temp.path()) && !odd.components().any(|part| part == std::path::Component::ParentDir));
        let mode = fs::metadata(first.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        // A new one takes the place of the old one, which is set aside.
        make(&store, "acme/app");
        assert_eq!(fs::read_dir(temp.path().join("quarantine")).unwrap().count(), 1);
        let census = store.census(&()).unwrap();
        assert_eq!(census.totals.mirrors, 1);
        assert!(census.totals.mirror_bytes > 0 && census.totals.stored() >= census.totals.mirror_bytes);
    }

    #[test]
    fn readers_share_and_others_wait_for_a_bounded_time() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path(), &()).unwrap();
        let one = take(&store, "s", LockKind::Shared).unwrap();
        let two = take(&store, "s", LockKind::Shared).unwrap();
        assert!(matches!(take(&store, "s", LockKind::Exclusive), Err(Error::BusyRoot { .. })));
        drop((one, two));
        take(&store, "s", LockKind::Exclusive).unwrap();
    }

    #[test]
    fn what_nobody_used_for_long_goes_and_what_somebody_uses_stays() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path(), &()).unwrap();
        let path = make(&store, "s");
        let age = Duration::from_secs(1000);
        assert_eq!(store.remove_old_mirrors(Timestamp::now(), age, false).unwrap(), []);
        let reader = take(&store, "s", LockKind::Shared).unwrap();
        assert_eq!(store.remove_old_mirrors(NOW, age, false).unwrap(), []);
        drop(reader);
        let planned = store.remove_old_mirrors(NOW, age, true).unwrap();
        assert!(planned.len() == 1 && planned[0].bytes > 0 && path.exists());
        let removed = store.remove_old_mirrors(NOW, age, false).unwrap();
        assert_eq!((removed, path.exists()), (planned, false));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "its lock is gone too");
        assert_eq!(fs::read_dir(temp.path().join("tmp")).unwrap().count(), 0);
        make(&store, "s");
    }
}
