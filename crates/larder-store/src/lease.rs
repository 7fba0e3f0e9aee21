//! Which snapshots running jobs have restored, and which ones people pinned: eviction leaves both alone.
//!
//! ```text
//! sessions/ROOT.job   what a job restored to that directory; locked while the process that did it has the store open
//! pins/ID             a pinned snapshot: why, and since when
//! uses/ID             when that snapshot was restored: eight bytes a time, seconds since 1970, little endian
//! ```
//!
//! **Leases.** A restore leaves a lease; a save of the directory ends it, and so does whoever knows that the job is over
//! ([`Store::end_jobs`]). While the process lives that restored, the lease is a lock, which ends with the process however
//! that ends. A process that is gone proves little, since a step of a workflow restores and exits and the job goes on: so
//! the lease then lasts for a given time from the restore, but not over a boot, which no job outlives.
//!
//! A crash leaves a lease that expires, a pin or none, and a use that is counted or is not. Older versions of larder know
//! none of these files and leave them alone; they also evict nothing.

use crate::error::{Error, Result};
use crate::events::Events;
use crate::session::name_of;
use crate::store::{PINS, SESSIONS, Store, USES, chain};
use larder_fs::{Lock, LockKind, Timestamp};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::time::Duration;

const VERSION: u32 = 1;
/// The end of the names of leases.
pub(crate) const JOB: &str = ".job";
/// Uses are counted up to so many, the last ones; a file with twice as many is written anew.
const COUNTED: usize = 128;
const USE: usize = 8;
/// How long somebody may look at a lease: then whoever has it locked is its job.
const A_LOOK: Duration = Duration::from_millis(50);

/// A snapshot that a job has restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The snapshot's name.
    pub snapshot: String,
    /// The directory that it was restored to, for people.
    pub root: String,
    /// When.
    pub since: Timestamp,
    /// Whether the process that restored it still runs.
    pub alive: bool,
}

/// A snapshot that is never evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The snapshot's name.
    pub snapshot: String,
    /// Why, in somebody's words; may be empty.
    pub reason: String,
    /// Since when; `None` where the record cannot be read. It is a pin all the same.
    pub since: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct JobRecord {
    version: u32,
    snapshot: String,
    root: String,
    since: Timestamp,
    /// The run of the machine; empty where that cannot be told.
    boot: String,
}

#[derive(Serialize, Deserialize)]
struct PinRecord {
    version: u32,
    reason: String,
    since: Timestamp,
}

fn job_name(root: &Path) -> OsString {
    format!("{}{JOB}", name_of(root)).into()
}

impl Store {
    /// Writes down that the snapshot was restored to `root` just now. Failing to is no reason to fail the restore.
    pub(crate) fn begin_job(&self, root: &Path, snapshot: &str, events: &dyn Events) {
        if self.is_read_only() {
            return;
        }
        if let Err(e) = self.try_begin_job(root, snapshot) {
            events.warn(&format!("nothing keeps the snapshot {snapshot} from being evicted: {}", chain(&e)));
        }
    }

    fn try_begin_job(&self, root: &Path, snapshot: &str) -> Result<()> {
        let record = JobRecord {
            version: VERSION,
            snapshot: snapshot.to_owned(),
            root: root.to_string_lossy().into_owned(),
            since: Timestamp::now(),
            boot: larder_fs::process::boot_id().unwrap_or_default(),
        };
        let bytes = serde_json::to_vec(&record).expect("a lease is plain data");
        let staging = self.staging()?;
        let staged = OsStr::new("job");
        let file = staging.dir.create_file(staged, 0o644)?;
        larder_fs::set_up_file(&file, &bytes, &staging.dir.join(staged))?;
        // It has its lock before it has its name: nobody finds it without.
        let lock = Lock::on(file, &staging.dir.join(staged), LockKind::Exclusive)?;
        staging.dir.rename(staged, &self.room(SESSIONS)?, &job_name(root))?;
        if let Some(lock) = lock {
            self.jobs().insert(root.to_path_buf(), lock);
        }
        Ok(())
    }

    fn jobs(&self) -> MutexGuard<'_, std::collections::BTreeMap<PathBuf, Lock>> {
        self.jobs.lock().expect("no thread panics while it holds the lock")
    }

    /// The jobs whose directories this handle restored are over: their snapshots may be evicted.
    pub fn end_jobs(&self) {
        let jobs = std::mem::take(&mut *self.jobs());
        for (root, lock) in jobs {
            let path = self.path().join(SESSIONS).join(job_name(&root));
            // Another job's by now, where that restored to the same directory.
            let ended = lock.is_at(&path).and_then(|ours| if ours { larder_fs::remove_tree(&path) } else { Ok(()) });
            if let Err(e) = ended {
                tracing::debug!(error = %chain(&e), "a lease stays until it expires");
            }
        }
    }

    /// The job that restored to `root` has what it wanted: its snapshot may be evicted. A process that restored there and
    /// still runs keeps its lease.
    pub fn end_job(&self, root: &Path) {
        if self.is_read_only() {
            return;
        }
        self.jobs().remove(root);
        let path = self.path().join(SESSIONS).join(job_name(root));
        let end = || -> larder_fs::Result<()> {
            match Lock::existing(&path, LockKind::Exclusive, A_LOOK) {
                Ok(Some(_lock)) => larder_fs::remove_tree(&path),
                Ok(None) => Ok(()),
                Err(e) if e.is_not_found() => Ok(()),
                Err(e) => Err(e),
            }
        };
        if let Err(e) = end() {
            tracing::debug!(error = %chain(&e), "a lease stays until it expires");
        }
    }

    /// The leases that hold at `now`; those whose process is gone last for `duration` from the restore.
    ///
    /// # Errors
    ///
    /// When the sessions cannot be listed. A record that cannot be read is no lease.
    pub fn leases(&self, now: Timestamp, duration: Duration) -> Result<Vec<Lease>> {
        let sessions = self.room(SESSIONS)?;
        let boot = larder_fs::process::boot_id();
        let mut leases = Vec::new();
        for entry in sessions.entries()? {
            if !entry.name.as_encoded_bytes().ends_with(JOB.as_bytes()) {
                continue;
            }
            let path = sessions.join(&entry.name);
            let Some(bytes) = larder_fs::read_optional(&path)? else { continue };
            let Ok(record) = serde_json::from_slice::<JobRecord>(&bytes) else {
                tracing::debug!(path = %path.display(), "not a lease that can be read");
                continue;
            };
            // Shared: two who look at once must not take each other for the job.
            let alive = match Lock::existing(&path, LockKind::Shared, Duration::ZERO) {
                Ok(lock) => lock.is_none(),
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            let lease = Lease { snapshot: record.snapshot, root: record.root, since: record.since, alive };
            let same_boot = boot.as_deref().is_none_or(|boot| record.boot.is_empty() || record.boot == boot);
            if alive || same_boot && !has_passed(lease.since, now, duration) {
                leases.push(lease);
            }
        }
        Ok(leases)
    }

    /// Counts a use of the snapshot, which is what tells eviction that it is worth its room. Best effort.
    pub fn mark_used(&self, snapshot: &str) {
        let count = || -> Result<()> {
            let uses = self.room(USES)?;
            let name = OsStr::new(snapshot);
            let now = Timestamp::now().secs.to_le_bytes();
            let size = uses.stat_optional(name)?.map_or(0, |meta| meta.size);
            if size < (2 * COUNTED * USE) as u64 {
                return Ok(uses.append(name, &now)?);
            }
            let bytes = larder_fs::read(&uses.join(name))?;
            let staging = self.staging()?;
            let kept = bytes.len() / USE * USE;
            let last = &bytes[kept - COUNTED * USE..kept];
            larder_fs::write_new(&staging.dir, name, &[last, &now], false)?;
            Ok(staging.dir.rename(name, &uses, name)?)
        };
        if !self.is_read_only()
            && let Err(e) = count()
        {
            tracing::debug!(error = %chain(&e), "a use is not counted");
        }
    }

    /// When the snapshot was restored, the first time first; only the last ones where there were many.
    pub fn used_at(&self, snapshot: &str) -> Vec<Timestamp> {
        let bytes = larder_fs::read_optional(&self.path().join(USES).join(snapshot)).ok().flatten().unwrap_or_default();
        let times = bytes.chunks_exact(USE).map(|time| i64::from_le_bytes(time.try_into().expect("eight bytes")));
        times.map(|secs| Timestamp { secs, nanos: 0 }).collect()
    }

    /// Keeps the snapshot from being evicted, until it is unpinned. A pin that is there gets the new reason. Whether the
    /// snapshot is there.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::Busy`], [`Error::Fs`].
    pub fn pin(&self, snapshot: &str, reason: &str) -> Result<bool> {
        self.writable()?;
        // Between an eviction's look at the pins and its end nobody gets this.
        let _shared = self.lock_shared()?;
        if !self.snapshots()?.iter().any(|found| found.id == snapshot) {
            return Ok(false);
        }
        let staging = self.staging()?;
        let record = PinRecord { version: VERSION, reason: reason.to_owned(), since: Timestamp::now() };
        let bytes = serde_json::to_vec(&record).expect("a pin is plain data");
        let staged = OsStr::new("pin");
        larder_fs::write_new(&staging.dir, staged, &[&bytes], true)?;
        let pins = self.room(PINS)?;
        staging.dir.rename(staged, &pins, OsStr::new(snapshot))?;
        pins.sync()?;
        Ok(true)
    }

    /// Takes a pin away; whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`], [`Error::Fs`].
    pub fn unpin(&self, snapshot: &str) -> Result<bool> {
        self.writable()?;
        let pins = self.room(PINS)?;
        match pins.remove_file(OsStr::new(snapshot)) {
            Err(e) if e.is_not_found() => Ok(false),
            other => Ok(other.and_then(|()| pins.sync()).map(|()| true)?),
        }
    }

    /// All pins, by name of the snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`].
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let pins = match self.room(PINS) {
            Ok(pins) => pins,
            // A store of an older version that can only be read.
            Err(Error::Fs(e)) if e.is_not_found() => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut all = Vec::new();
        for entry in pins.entries()? {
            let Ok(snapshot) = entry.name.clone().into_string() else { continue };
            let bytes = larder_fs::read_optional(&pins.join(&entry.name)).ok().flatten();
            let record = bytes.and_then(|bytes| serde_json::from_slice::<PinRecord>(&bytes).ok());
            let (reason, since) = record.map_or((String::new(), None), |record| (record.reason, Some(record.since)));
            all.push(Pin { snapshot, reason, since });
        }
        all.sort_unstable_by(|a, b| a.snapshot.cmp(&b.snapshot));
        Ok(all)
    }

    /// Forgets what was noted about a snapshot that is gone.
    pub(crate) fn forget(&self, snapshot: &str) -> Result<()> {
        for room in [PINS, USES] {
            self.room(room)?.remove_all(OsStr::new(snapshot))?;
        }
        Ok(())
    }
}

/// Whether `duration` has passed since. What is dated in the future has only begun.
pub(crate) fn has_passed(since: Timestamp, now: Timestamp, duration: Duration) -> bool {
    let passed = now.as_nanos().saturating_sub(since.as_nanos());
    passed >= i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
