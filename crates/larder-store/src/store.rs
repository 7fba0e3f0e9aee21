//! The directory that holds everything, shared by any number of processes.
//!
//! ```text
//! STORE/
//!   FORMAT        magic line and version
//!   lock          shared by restore and save, exclusive for whoever deletes names and blobs
//!   blobs/ ingest/ quarantine/   see blob
//!   snapshots/    see snapshot: the truth
//!   sessions/     see session: what is restored where
//!   trees/        see trees: prepared trees, derived from snapshots
//!   events/       see history: what happened; made by the first event
//!   mirrors/      see mirrors: of sibling repositories; made by the first one
//!   pins/ uses/   see lease: what people pinned, and when snapshots were restored
//!   tmp/          staging; one locked directory a process
//! ```
//!
//! Invariants: a snapshot is published by one rename, after everything it names is durable. Blobs are
//! deleted only under the exclusive lock, when no snapshot names them. Whatever a crash leaves is
//! unreachable (blobs without a snapshot) or in `tmp/`, where the next start removes what no living
//! process has locked.
//!
//! Locks: whoever deletes waits at the turnstile, which is the store's directory itself. It holds the turnstile while it
//! waits for `lock`, and newcomers pass the turnstile before they take theirs: so a stream of restores does not keep it
//! waiting for ever. It lets go now and then, since one long save must not keep everybody out; and it holds `lock` for a
//! moment only, again and again, until its work is done.
//!
//! Compatibility: FORMAT holds the version. Another version is refused before anything is touched.

use crate::blob::{BLOBS, Blobs, INGEST, QUARANTINE};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::history::EVENTS;
use crate::mirrors::MIRRORS;
use larder_fs::{Dir, Kind, Lock, LockKind, Volume};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The format that this version reads and writes.
pub const FORMAT_VERSION: u32 = 1;
pub(crate) const FORMAT: &str = "FORMAT";
const MAGIC: &str = "larder store";
pub(crate) const TMP: &str = "tmp";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const TREES: &str = "trees";
pub(crate) const PINS: &str = "pins";
pub(crate) const USES: &str = "uses";
pub(crate) const ROOMS: [&str; 9] = [BLOBS, INGEST, QUARANTINE, SNAPSHOTS, SESSIONS, TREES, PINS, USES, TMP];

/// How long restore and save wait while somebody deletes blobs.
pub(crate) const SHARED_WAIT: Duration = Duration::from_secs(60);
/// How long a removal that somebody asked for waits for restores and saves to end.
pub(crate) const EXCLUSIVE_WAIT: Duration = Duration::from_secs(30);
/// How long a removal keeps newcomers waiting the first time; twice as long every next time, up to the last.
const TURN: Duration = Duration::from_millis(250);
const LONGEST_TURN: Duration = Duration::from_secs(4);

/// An open store. Overlays that it mounts are in use until it is dropped.
#[derive(Debug)]
pub struct Store {
    pub(crate) root: Dir,
    path: PathBuf,
    read_only: bool,
    /// The overlays that this handle mounted, by root: see session.
    pub(crate) overlays: Mutex<BTreeMap<PathBuf, Lock>>,
    /// The directories that this handle restored, for a job that runs on: see lease.
    pub(crate) jobs: Mutex<BTreeMap<PathBuf, Lock>>,
}

impl Store {
    /// Opens the store at `path`, and makes it where nothing or an empty directory stands.
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`] where something else stands there, [`Error::ForeignFormat`] where another
    /// version wrote it, [`Error::Fs`] where the file system refuses.
    pub fn open(path: &Path, events: &dyn Events) -> Result<Self> {
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        if let Err(e) = larder_fs::create_parents(path) {
            return match larder_fs::metadata(path) {
                Ok(Some(_)) => Err(not_a_store(path, "it is a file, not a directory")),
                _ if e.kind() == std::io::ErrorKind::NotADirectory => {
                    Err(not_a_store(path, "a part of the path is a file, not a directory"))
                }
                _ => Err(e.into()),
            };
        }
        let root = Dir::open(path)?;
        let read_only = match read_format(&root, path)? {
            true => create_rooms(&root)?,
            false => {
                let foreign = root.entries()?.into_iter().find(|entry| !is_room(&entry.name));
                if let Some(foreign) = foreign {
                    let name = foreign.name.to_string_lossy().into_owned();
                    return Err(not_a_store(path, &format!("it has no FORMAT file but holds {name:?}")));
                }
                let read_only = create_rooms(&root)?;
                write_format(&root)?;
                // Two first users may meet: whatever stands there now must be readable.
                read_format(&root, path)?;
                read_only
            }
        };
        let store = Self { root, path: path.clone(), read_only, overlays: Mutex::default(), jobs: Mutex::default() };
        if !read_only {
            store.sweep_staging(events);
        }
        Ok(store)
    }

    /// Opens the store at `path` if there is one; makes nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open_existing(path: &Path, events: &dyn Events) -> Result<Option<Self>> {
        match larder_fs::metadata(path)? {
            Some(_) => Self::open(path, events).map(Some),
            None => {
                // A path through a file can never be a store.
                let above = path.ancestors().skip(1).find_map(|above| larder_fs::metadata(above).ok().flatten());
                match above.is_some_and(|meta| meta.kind == Kind::File) {
                    true => Err(not_a_store(path, "a part of the path is a file, not a directory")),
                    false => Ok(None),
                }
            }
        }
    }

    /// The store's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the store can only be read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn writable(&self) -> Result<()> {
        if self.read_only { Err(Error::ReadOnly { path: self.path.clone() }) } else { Ok(()) }
    }

    pub(crate) fn blobs(&self) -> Blobs<'_> {
        Blobs { root: &self.root }
    }

    /// Keeps names and blobs from being deleted while the lock lives.
    pub(crate) fn lock_shared(&self) -> Result<Lock> {
        let start = Instant::now();
        // Behind whoever waits to delete.
        drop(Lock::existing(&self.path, LockKind::Shared, SHARED_WAIT)?.ok_or_else(|| self.busy(SHARED_WAIT))?);
        let left = SHARED_WAIT.saturating_sub(start.elapsed());
        Lock::acquire(&self.lock_path(), LockKind::Shared, left)?.ok_or_else(|| self.busy(SHARED_WAIT))
    }

    /// Keeps everybody else out, for a moment. Bounded by `patience`: newcomers wait meanwhile, but never for longer than
    /// a turn.
    pub(crate) fn lock_exclusive(&self, patience: Duration) -> Result<Lock> {
        let start = Instant::now();
        let mut turn = TURN;
        while start.elapsed() < patience {
            let Some(turnstile) = Lock::existing(&self.path, LockKind::Exclusive, patience)? else { break };
            if let Some(lock) = Lock::acquire(&self.lock_path(), LockKind::Exclusive, turn.min(patience))? {
                return Ok(lock);
            }
            drop(turnstile);
            // Whoever came meanwhile looks every 10 ms whether the way is free.
            std::thread::sleep(turn / 4);
            turn = (turn * 2).min(LONGEST_TURN);
        }
        Err(self.busy(patience))
    }

    fn lock_path(&self) -> PathBuf {
        self.path.join("lock")
    }

    pub(crate) fn busy(&self, waited: Duration) -> Error {
        Error::Busy { path: self.path.clone(), waited_s: waited.as_secs() }
    }

    /// A handle on what may be a damaged store: nothing was looked at, made or swept.
    pub(crate) fn unchecked(root: Dir, path: &Path) -> Self {
        let path = path.to_path_buf();
        Self { root, path, read_only: false, overlays: Mutex::default(), jobs: Mutex::default() }
    }

    /// Opens one of the store's directories.
    pub(crate) fn room(&self, name: &str) -> Result<Dir> {
        Ok(self.root.open_beneath(OsStr::new(name))?)
    }

    /// A new directory of this process's own below `tmp/`.
    pub(crate) fn staging(&self) -> Result<Staging> {
        /// What a directory takes, at most.
        const BLOCK: u64 = 4096;
        self.writable()?;
        match Staging::new(self.room(TMP)?, "") {
            Err(Error::Fs(e)) if e.kind() == std::io::ErrorKind::StorageFull => {
                let larder_fs::Space { available, inodes_available: inodes, .. } = Volume::space(&self.root)?;
                let path = self.path.clone();
                // Where the system refuses a directory though there is room, it keeps that room for itself.
                let available = if inodes == 0 { available } else { available.min(BLOCK - 1) };
                Err(Error::NoSpace { path, needed: BLOCK, files: 1, available, inodes, reserved: 0 })
            }
            other => other,
        }
    }

    /// Removes what processes that ended without a word left in `tmp/`. Failures only delay it.
    fn sweep_staging(&self, events: &dyn Events) {
        let sweep = || -> Result<()> {
            let tmp = self.room(TMP)?;
            for entry in tmp.entries()? {
                sweep_one(&tmp, &entry.name)?;
            }
            Ok(())
        };
        if let Err(e) = sweep() {
            events.warn(&format!("leftovers in {} could not be removed: {}", self.path.join(TMP).display(), chain(&e)));
        }
    }
}

/// Removes `name` from a directory for staging, unless a living process keeps it.
pub(crate) fn sweep_one(tmp: &Dir, name: &OsStr) -> Result<()> {
    let Some(meta) = tmp.stat_optional(name)? else { return Ok(()) };
    // Nobody stages anything but directories; opening anything else might follow a link or never return.
    if meta.kind != Kind::Dir {
        return Ok(tmp.remove_all(name)?);
    }
    match Lock::existing(&tmp.join(name), LockKind::Exclusive, Duration::ZERO) {
        Ok(Some(_lock)) => Ok(tmp.remove_all(name)?),
        Ok(None) => Ok(()),
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A directory of one process's own below `tmp/`, or beside a root, removed when dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    tmp: Dir,
    name: OsString,
    pub(crate) dir: Dir,
    _lock: Lock,
}

impl Staging {
    /// A staging directory in `parent`, where other file systems' renames do not reach; what processes that
    /// died left there under the prefix is removed.
    pub(crate) fn beside(parent: Dir, prefix: &str) -> Result<Self> {
        for entry in parent.entries()? {
            // A file of that name is another restore's, on its way into the directory that this root lies in.
            if entry.is_dir != Some(false) && entry.name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
                sweep_one(&parent, &entry.name)?;
            }
        }
        Self::new(parent, prefix)
    }

    /// Its name in the directory that it was made in.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    fn new(tmp: Dir, prefix: &str) -> Result<Self> {
        loop {
            let name: OsString = format!("{prefix}{:016x}", fastrand::u64(..)).into();
            match tmp.create_dir(&name) {
                Err(e) if e.is_already_exists() => continue,
                other => other?,
            }
            // A sweeper may take the directory for a leftover until it is locked: make sure that the
            // locked one still has its name.
            let path = tmp.join(&name);
            let lock = match Lock::existing(&path, LockKind::Exclusive, Duration::ZERO) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            if let Some(dir) = Dir::open_optional(&path)? {
                return Ok(Self { tmp, name, dir, _lock: lock });
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is swept on the next start.
        if let Err(e) = self.tmp.remove_all(&self.name) {
            tracing::debug!(error = %chain(&e), "staging stays for the next start to sweep");
        }
    }
}

fn not_a_store(path: &Path, reason: &str) -> Error {
    Error::NotAStore { path: path.to_path_buf(), reason: reason.into() }
}

fn is_room(name: &OsStr) -> bool {
    name == "lock"
        || name == "lost+found"
        || name.as_encoded_bytes().starts_with(b"FORMAT")
        || name == EVENTS
        || name == MIRRORS
        || ROOMS.iter().any(|room| name == *room)
}

/// Makes the directories that are missing; returns whether the store can only be read.
fn create_rooms(root: &Dir) -> Result<bool> {
    for room in ROOMS {
        match root.ensure_dir(OsStr::new(room)) {
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => return Ok(true),
            other => other?,
        }
    }
    // A directory of another owner looks writable until something is made in it.
    let probe: OsString = format!("{TMP}/probe-{:016x}", fastrand::u64(..)).into();
    match root.create_dir(&probe) {
        Ok(()) => root
            .remove_dir(&probe)
            .map(|()| false)
            .or_else(|e| if e.is_not_found() { Ok(false) } else { Err(e.into()) }),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem) => {
            Ok(true)
        }
        // Full, but not closed: what makes room must be able to.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether there is a FORMAT of this version; an error for any other.
fn read_format(root: &Dir, path: &Path) -> Result<bool> {
    let Some(bytes) = larder_fs::read_optional(&root.join(FORMAT))? else { return Ok(false) };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next() != Some(MAGIC) {
        // Beside a store's rooms it is bad content; beside anything else, somebody else's file.
        let is_store = |room: &str| root.stat_optional(OsStr::new(room)).is_ok_and(|meta| meta.is_some());
        if is_store(SNAPSHOTS) && is_store(BLOBS) {
            let found = "(unreadable)".to_owned();
            return Err(Error::ForeignFormat { path: path.to_path_buf(), found, known: FORMAT_VERSION });
        }
        return Err(not_a_store(path, "its FORMAT file was not written by larder"));
    }
    let found = lines.next().and_then(|line| line.strip_prefix("version ")).unwrap_or("(none)");
    if found == FORMAT_VERSION.to_string() {
        return Ok(true);
    }
    Err(Error::ForeignFormat { path: path.to_path_buf(), found: found.to_owned(), known: FORMAT_VERSION })
}

/// What a FORMAT file says.
pub(crate) enum FormatFile {
    /// This version.
    Ours,
    /// Another version, which is named.
    Other(String),
    /// Nothing that larder wrote, or not all of it.
    Unreadable,
}

/// Reads a FORMAT file for who repairs it: what larder never wrote is damage, not another version.
pub(crate) fn parse_format(bytes: &[u8]) -> FormatFile {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let version = lines.next().filter(|line| *line == MAGIC).and(lines.next());
    match version.and_then(|line| line.strip_prefix("version ")).map(|version| (version, version.parse::<u32>())) {
        Some((_, Ok(FORMAT_VERSION))) => FormatFile::Ours,
        Some((version, Ok(_))) => FormatFile::Other(version.to_owned()),
        _ => FormatFile::Unreadable,
    }
}

pub(crate) fn write_format(root: &Dir) -> Result<()> {
    let staged: OsString = format!("{FORMAT}.{:016x}", fastrand::u64(..)).into();
    let text = format!("{MAGIC}\nversion {FORMAT_VERSION}\n");
    larder_fs::write_new(root, &staged, &[text.as_bytes()], true)?;
    match root.rename_new(&staged, root, OsStr::new(FORMAT)) {
        Err(e) if e.is_already_exists() => root.remove_file(&staged)?,
        other => other?,
    }
    Ok(root.sync()?)
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests arrange their own files")]
mod tests {
    use super::*;

    #[test]
    fn another_format_is_refused_and_named() {
        let temp = tempfile::tempdir().unwrap();
        Store::open(temp.path(), &()).unwrap();
        for (text, found) in [
            ("larder store\nversion 2\n", "2"),
            ("larder store\n", "(none)"),
            ("larder-store 7", "(unreadable)"),
            ("", "(unreadable)"),
        ] {
            std::fs::write(temp.path().join(FORMAT), text).unwrap();
            match Store::open(temp.path(), &()) {
                Err(Error::ForeignFormat { found: f, .. }) => assert_eq!(f, found),
                other => panic!("expected a refusal, got {other:?}"),
            }
        }
    }

    #[test]
    fn a_directory_with_other_things_in_it_is_not_taken_over() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(Store::open(temp.path(), &()), Err(Error::NotAStore { .. })));
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        let file = temp.path().join("thesis.txt");
        assert!(matches!(Store::open(&file, &()), Err(Error::NotAStore { .. })));
        assert!(matches!(Store::open(&file.join("below"), &()), Err(Error::NotAStore { .. })));
    }

    #[test]
    fn the_next_start_sweeps_what_a_dead_process_left_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path(), &()).unwrap();
        let alive = store.staging().unwrap();
        std::fs::create_dir_all(temp.path().join("tmp/0123456789abcdef/deep/er")).unwrap();
        Store::open(temp.path(), &()).unwrap();
        let left: Vec<_> = store.room(TMP).unwrap().entries().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].name, alive.name);
    }
}
