//! What was last restored to, or saved from, a directory: the reason why the next save need not read
//! what did not change.
//!
//! ```text
//! sessions/ROOT          one file a directory, named by a digest of its path
//! sessions/ROOT.lock     held by whoever restores to or saves from that directory
//! sessions/ROOT.overlay/ upper and work directory of an overlay mounted there
//! sessions/ROOT.sources  what the sources held that are built in that directory (`sources`)
//! sessions/ROOT.lease    locked while the process that mounted it has the store open
//! sessions/ROOT.job      which snapshot a job restored there (`lease`)
//! ```
//!
//! A session names a snapshot and the inode number that each of its files has in the directory. A file
//! that still has that number, and the length and mtime of the manifest, still has the same bytes. A
//! session that is lost, damaged or whose snapshot is gone only costs time.
//!
//! A lease is a lock, so it ends with its process however that ends, and no process id can be mistaken for it. An
//! overlay may be mounted where nobody else sees it, in the namespace of a job: the lease is what keeps others
//! from taking away what it shows and where it writes.
//!
//! Before a restore changes an existing directory it marks the session, and the session of the end takes the
//! mark away. A directory with a mark is neither saved nor spared for being newer than a snapshot: its restore
//! failed or died. The mark keeps what the session knew before, so that the next restore still tells what larder
//! made, and names the directory itself, so that one made anew in its place is free of it.

use crate::error::{Error, Result};
use crate::store::{SESSIONS, Staging, Store};
use larder_fs::{Dir, Lock, LockKind, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::time::Duration;

const VERSION: u32 = 3;
/// How long a restore or save waits for another one of the same directory.
const ROOT_WAIT: Duration = Duration::from_secs(600);

/// One directory, whatever its path is or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirId {
    ino: u64,
    born: Option<Timestamp>,
}

impl DirId {
    /// That of an open directory.
    pub(crate) fn of(dir: &Dir) -> Result<Self> {
        Ok(Self { ino: dir.stat_self()?.ino, born: dir.born()? })
    }
}

/// A directory that something was restored to or saved from, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The directory.
    pub root: PathBuf,
    /// The name of the snapshot; empty where a restore to it never came to its end.
    pub snapshot: String,
    /// When it was restored or saved.
    pub since: Timestamp,
    /// Whether the directory is still there.
    pub stands: bool,
    /// Whether an overlay of larder's shows it.
    pub overlay: bool,
    /// Whether a living process has a lease on that overlay.
    pub leased: bool,
}

/// The record of one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    version: u32,
    /// The directory.
    #[serde(with = "serde_bytes")]
    root: Vec<u8>,
    /// The snapshot's file below `snapshots/`, as `PLACE/NAME`.
    snapshot: String,
    /// Which root of the snapshot the directory is.
    pub(crate) index: u32,
    /// When it was written.
    pub(crate) created: Timestamp,
    /// The snapshot whose prepared tree an overlay shows at the directory, where one is mounted. A save from
    /// the mount names another snapshot, but the tree is still needed.
    pub(crate) overlay: Option<String>,
    /// The directory that a restore has begun to change and not finished.
    restoring: Option<DirId>,
    /// For each inode of the manifest its number in the directory, 0 where it was left out.
    pub(crate) inodes: Vec<u64>,
}

impl Session {
    /// A session that begins now.
    pub(crate) fn new(root: &Path, snapshot: &Path, index: usize, inodes: Vec<u64>, overlay: Option<String>) -> Self {
        let place = snapshot.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = snapshot.file_name().unwrap_or_default().to_string_lossy();
        Self {
            version: VERSION,
            root: root.as_os_str().as_bytes().to_vec(),
            snapshot: format!("{place}/{name}"),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            created: Timestamp::now(),
            overlay,
            restoring: None,
            inodes,
        }
    }

    /// A mark on the session of the directory `dir` at `root`, which a restore is about to change.
    pub(crate) fn restoring(root: &Path, before: Option<Self>, dir: DirId) -> Self {
        // Without a session there is no snapshot to name: nothing is known of the files.
        let before = before.unwrap_or_else(|| Self::new(root, Path::new(""), 0, Vec::new(), None));
        Self { restoring: Some(dir), ..before }
    }

    /// Whether a restore has begun to change the directory since.
    pub(crate) fn is_mark(&self) -> bool {
        self.restoring.is_some()
    }

    /// The directory.
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.root))
    }

    /// The file of the snapshot that this session names.
    pub(crate) fn snapshot_path(&self, store: &Store) -> PathBuf {
        store.path().join(crate::store::SNAPSHOTS).join(&self.snapshot)
    }
}

pub(crate) fn name_of(root: &Path) -> String {
    blake3::hash(root.as_os_str().as_bytes()).to_hex()[..24].to_owned()
}

fn in_use(root: &Path) -> Error {
    Error::BusyRoot { path: root.to_path_buf(), waited_s: 0 }
}

/// Whether these are not the bytes of a record, whatever its version, as it was written.
pub(crate) fn is_damaged(bytes: &[u8]) -> bool {
    bytes.split_first_chunk::<32>().is_none_or(|(digest, body)| blake3::hash(body).as_bytes() != digest)
}

fn decode(bytes: &[u8], path: &Path) -> Option<Session> {
    let (digest, body) = bytes.split_first_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != digest {
        tracing::debug!(path = %path.display(), "the session record is damaged");
        return None;
    }
    let session: Session = postcard::from_bytes(body).ok()?;
    (session.version == VERSION).then_some(session)
}

impl Store {
    /// Where the changes of an overlay mounted at `root` are kept.
    pub(crate) fn overlay_dir(&self, root: &Path) -> PathBuf {
        self.path().join(SESSIONS).join(format!("{}.overlay", name_of(root)))
    }

    /// Keeps other larder processes away from the directory `root` while the lock lives.
    /// On a read-only store there is nothing to keep, and no lock.
    pub(crate) fn lock_root(&self, root: &Path) -> Result<Option<Lock>> {
        if self.is_read_only() {
            return Ok(None);
        }
        let path = self.path().join(SESSIONS).join(format!("{}.lock", name_of(root)));
        loop {
            match Lock::acquire(&path, LockKind::Exclusive, ROOT_WAIT)? {
                // A sweep may have removed the file meanwhile, and others lock the one that came after.
                Some(lock) if lock.is_at(&path)? => return Ok(Some(lock)),
                Some(_) => {}
                None => return Err(Error::BusyRoot { path: root.to_path_buf(), waited_s: ROOT_WAIT.as_secs() }),
            }
        }
    }

    /// Says that the overlay at `root` is in use, until [`Store::end_lease`] or the end of this handle.
    pub(crate) fn begin_lease(&self, root: &Path) -> Result<()> {
        self.end_lease(root);
        let lease = Lock::acquire(&self.lease_path(root), LockKind::Exclusive, Duration::ZERO)?;
        let lease = lease.ok_or_else(|| in_use(root))?;
        self.overlays().insert(root.to_path_buf(), lease);
        Ok(())
    }

    /// Ends this handle's lease of the overlay at `root`, if it has one.
    pub(crate) fn end_lease(&self, root: &Path) {
        self.overlays().remove(root);
    }

    /// Keeps anybody from beginning a lease of the overlay at `root`; an error while somebody has one.
    pub(crate) fn no_lease(&self, root: &Path) -> Result<Lock> {
        let lock = Lock::acquire(&self.lease_path(root), LockKind::Exclusive, Duration::ZERO)?;
        lock.ok_or_else(|| in_use(root))
    }

    fn lease_path(&self, root: &Path) -> PathBuf {
        self.path().join(SESSIONS).join(format!("{}.lease", name_of(root)))
    }

    fn overlays(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Lock>> {
        self.overlays.lock().expect("no thread panics while it holds the lock")
    }

    /// The session of the directory `root`; `None` where there is none that can be used.
    pub(crate) fn session(&self, root: &Path) -> Option<Session> {
        let session = self.session_named(OsStr::new(&name_of(root)))?;
        (session.root == root.as_os_str().as_bytes()).then_some(session)
    }

    /// The session in this file of `sessions/`.
    pub(crate) fn session_named(&self, name: &OsStr) -> Option<Session> {
        let path = self.path().join(SESSIONS).join(name);
        decode(&larder_fs::read_optional(&path).ok()??, &path)
    }

    /// The directories that snapshots were restored to or saved from, by path. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the store cannot be read. Records that cannot be read are left out.
    pub fn uses(&self) -> Result<Vec<Use>> {
        let mut uses = Vec::new();
        for entry in self.room(SESSIONS)?.entries()?.into_iter().filter(|entry| entry.is_dir != Some(true)) {
            let Some(session) = self.session_named(&entry.name) else { continue };
            let root = session.root();
            let snapshot = session.snapshot.rsplit_once('/').and_then(|(_, name)| name.split_once('-'));
            uses.push(Use {
                snapshot: snapshot.map(|(_, id)| id.to_owned()).unwrap_or_default(),
                since: session.created,
                stands: larder_fs::exists(&root),
                overlay: session.overlay.is_some(),
                leased: session.overlay.is_some() && self.is_leased(&root)?,
                root,
            });
        }
        uses.sort_unstable_by(|a, b| a.root.cmp(&b.root));
        Ok(uses)
    }

    /// Whether somebody has a lease of the overlay at `root`. Makes no file, and keeps nobody from sharing the look.
    fn is_leased(&self, root: &Path) -> Result<bool> {
        match Lock::existing(&self.lease_path(root), LockKind::Shared, Duration::ZERO) {
            Ok(lock) => Ok(lock.is_none()),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether a restore began to change the directory that stands at `root` now, and never came to its end.
    pub(crate) fn is_half_restored(&self, root: &Path) -> Result<bool> {
        let path = self.path().join(SESSIONS).join(name_of(root));
        // Not being able to read the record is no proof of a whole directory.
        let session = larder_fs::read_optional(&path)?.and_then(|bytes| decode(&bytes, &path));
        let Some(marked) = session.and_then(|session| session.restoring) else { return Ok(false) };
        Ok(match Dir::open_optional(root)? {
            Some(dir) => DirId::of(&dir)? == marked,
            None => false,
        })
    }

    /// Replaces the session of the directory that it names.
    pub(crate) fn put_session(&self, staging: &Staging, session: &Session) -> Result<()> {
        let root = Path::new(OsStr::from_bytes(&session.root));
        let body = postcard::to_stdvec(session).expect("a session is plain data");
        let staged: OsString = format!("session-{:08x}", fastrand::u32(..)).into();
        larder_fs::write_new(&staging.dir, &staged, &[blake3::hash(&body).as_bytes(), &body], false)?;
        let sessions = self.room(SESSIONS)?;
        // In one step: neither the record of a mount nor a mark may ever be missing.
        Ok(staging.dir.replace(&staged, &sessions, OsStr::new(&name_of(root)))?)
    }

    /// Forgets the session of `root`, before its directory is changed.
    pub(crate) fn drop_session(&self, root: &Path) -> Result<()> {
        Ok(self.room(SESSIONS)?.remove_all(OsStr::new(&name_of(root)))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_what_is_in_use_disturbs_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store"), &()).unwrap();
        let root = temp.path().join("root");
        let snapshot = store.path().join("snapshots/place/key-0123");
        let staging = store.staging().unwrap();
        for (root, overlay) in [(&root, Some("0123".to_owned())), (&temp.path().join("plain"), None)] {
            store.put_session(&staging, &Session::new(root, &snapshot, 0, vec![7], overlay)).unwrap();
        }
        let uses = store.uses().unwrap();
        let told: Vec<_> = uses.iter().map(|one| (one.root.clone(), one.overlay, one.leased, one.stands)).collect();
        assert_eq!(told, [(temp.path().join("plain"), false, false, false), (root.clone(), true, false, false)]);
        assert_eq!(uses[1].snapshot, "0123");
        assert!(!larder_fs::exists(&store.lease_path(&root)), "asking makes nothing");
        store.begin_lease(&root).unwrap();
        assert!(store.uses().unwrap()[1].leased);
        assert!(store.no_lease(&root).is_err(), "it is held still");
        store.end_lease(&root);
        assert!(!store.uses().unwrap()[1].leased);
        assert!(store.no_lease(&root).is_ok());
        store.put_session(&staging, &Session::restoring(&root, None, DirId { ino: 1, born: None })).unwrap();
        assert_eq!(store.uses().unwrap()[1].snapshot, "", "a restore that never ended names none");
    }
}
