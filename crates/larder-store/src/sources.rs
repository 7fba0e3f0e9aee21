//! Sources as they are now: what they hold, and giving them their times back.
//!
//! ```text
//! sessions/ROOT.sources  what was digested last time, with inode, length and both times: not read again
//! ```
//!
//! It is named after the directory that is built in, since it tells which bytes a build there may have seen
//! ([`Remembered`]); besides it spares reading. A file is believed to be as recorded while inode, length, mtime and ctime are, and
//! its mtime is older than the record by more than a tick of the clock (as git does for racy entries).

use crate::blob::Digest;
use crate::error::Result;
use crate::provenance::{Provenance, Stamp, State};
use crate::session::name_of;
use crate::snapshot::{Header, Snapshot};
use crate::store::{SESSIONS, Store};
use larder_fs::{CLOCK_TICK, Dir, Kind, Meta, Timestamp};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Changes when the record does; another version is no record.
const VERSION: u32 = 1;
/// How seldom a file system changes its times that keeps whole seconds, or two as FAT does.
const COARSE_TICK: Duration = Duration::from_secs(2);
/// How often a file that changes while it is digested is tried.
const ATTEMPTS: u32 = 5;

/// A source to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether it was found by listing a tree of sources.
    pub listed: bool,
}

/// Sources as they are.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// One stamp a source, sorted by path. What does not exist or cannot be read has none.
    pub stamps: Vec<Stamp>,
    /// What the kernel said of each when it was digested.
    metas: Vec<Meta>,
    /// How many files were read.
    pub digested: u64,
}

/// The time that a source gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// That of its stamp.
    At(Timestamp),
    /// The present.
    Now,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    taken: Timestamp,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    proof: Proof,
    digest: Digest,
}

/// What must be equal for a file to be the same, unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    ino: u64,
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

impl Proof {
    fn of(meta: &Meta) -> Self {
        Self { ino: meta.ino, size: meta.size, mtime: meta.mtime, ctime: meta.ctime }
    }
}

type Known = HashMap<Vec<u8>, (Proof, Digest)>;

/// Sources as they were when they were last written down.
#[derive(Clone, Debug, Default)]
pub struct Remembered {
    known: Known,
}

impl Remembered {
    /// Their paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.known.keys().map(|path| Path::new(OsStr::from_bytes(path)))
    }

    /// Whether the source was there then.
    pub fn knows(&self, path: &Path) -> bool {
        self.known.contains_key(path.as_os_str().as_bytes())
    }

    /// Whether a file or link holds something else than then, or was not there.
    pub fn has_other(&self, stamp: &Stamp) -> bool {
        match &stamp.state {
            State::File { digest, .. } | State::Symlink { target: digest } => {
                self.known.get(&stamp.path).is_none_or(|(_, then)| then != digest)
            }
            State::Dir { .. } => false,
        }
    }

    /// The files and links that may have held something else since, though they may hold the same now: whoever writes to one, or
    /// puts another in its place, or only gives it another time, changes what the kernel says of it.
    pub fn disturbed<'o>(&self, now: &'o Observed) -> Vec<&'o Stamp> {
        let disturbed = |(stamp, meta): &(&Stamp, &Meta)| {
            let same = self.known.get(&stamp.path).is_some_and(|(then, _)| *then == Proof::of(meta));
            !stamp.is_dir() && (!same || self.has_other(stamp))
        };
        now.stamps.iter().zip(&now.metas).filter(disturbed).map(|(stamp, _)| stamp).collect()
    }
}

impl Store {
    /// Looks at sources; those that the record of `root` proves unchanged are not read. `hidden` names the
    /// directory entries that do not count as part of a directory's listing.
    pub fn observe(&self, root: &Path, mut sources: Vec<Source>, hidden: &(dyn Fn(&Path) -> bool + Sync)) -> Observed {
        let known = self.recorded(root).map(Record::usable).unwrap_or_default();
        sources.sort_unstable_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
        // Whoever both listed and named a source listed it.
        sources.dedup_by(|later, first| {
            let same = later.path == first.path;
            first.listed |= same && later.listed;
            same
        });
        let chunks: Vec<&[Source]> = sources.chunk_by(|a, b| a.path.parent() == b.path.parent()).collect();
        let found: Vec<Vec<(Stamp, Meta, bool)>> = chunks
            .into_par_iter()
            .map(|chunk| {
                let parent = chunk[0].path.parent().unwrap_or(Path::new("/"));
                let Ok(dir) = Dir::open(parent) else { return Vec::new() };
                let look = |source| look_at(&dir, source, &known, hidden);
                chunk.par_iter().with_min_len(8).filter_map(look).collect()
            })
            .collect();
        let mut observed = Observed::default();
        for (stamp, meta, read) in found.into_iter().flatten() {
            observed.stamps.push(stamp);
            observed.metas.push(meta);
            observed.digested += u64::from(read);
        }
        // Directories and the files in them came in groups.
        let mut both: Vec<(Stamp, Meta)> = observed.stamps.into_iter().zip(observed.metas).collect();
        both.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        (observed.stamps, observed.metas) = both.into_iter().unzip();
        observed
    }

    /// What the snapshot was built from that was last restored to or saved from the directory `root`.
    pub fn last_provenance(&self, root: &Path) -> Option<(Header, Provenance)> {
        let session = self.session(root)?;
        Snapshot::load_provenance(&session.snapshot_path(self)).ok()
    }

    /// Writes down what was observed, so that the next time need not read it. Losing the record costs only time.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Fs`] where it cannot be written.
    pub fn remember_sources(&self, root: &Path, observed: &Observed) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let entry = |(stamp, meta): (&Stamp, &Meta)| match &stamp.state {
            _ if stamp.is_doubted() => None,
            State::File { digest, .. } | State::Symlink { target: digest } => {
                Some(Entry { path: stamp.path.clone(), proof: Proof::of(meta), digest: *digest })
            }
            State::Dir { .. } => None,
        };
        let entries = observed.stamps.iter().zip(&observed.metas).filter_map(entry).collect();
        let record = Record { version: VERSION, taken: Timestamp::now(), entries };
        let body = postcard::to_stdvec(&record).expect("a record is plain data");
        let staging = self.staging()?;
        let staged: OsString = format!("sources-{:08x}", fastrand::u32(..)).into();
        larder_fs::write_new(&staging.dir, &staged, &[blake3::hash(&body).as_bytes(), &body], false)?;
        let (sessions, name) = (self.room(SESSIONS)?, OsString::from(record_name(root)));
        sessions.remove_all(&name)?;
        Ok(staging.dir.rename(&staged, &sessions, &name)?)
    }

    /// What was last written down under the name of `root`.
    pub fn remembered(&self, root: &Path) -> Option<Remembered> {
        let record = self.recorded(root)?;
        Some(Remembered { known: record.entries.into_iter().map(|e| (e.path, (e.proof, e.digest))).collect() })
    }

    fn recorded(&self, root: &Path) -> Option<Record> {
        let path = self.path().join(SESSIONS).join(record_name(root));
        let bytes = larder_fs::read_optional(&path).ok()??;
        let (digest, body) = bytes.split_first_chunk::<32>()?;
        if blake3::hash(body).as_bytes() != digest {
            return None;
        }
        let record: Record = postcard::from_bytes(body).ok()?;
        (record.version == VERSION).then_some(record)
    }
}

impl Record {
    /// What it proves: a file that was written in the last tick of the clock may have been written again in it.
    fn usable(self) -> Known {
        let taken = self.taken.as_nanos();
        let usable = |entry: &Entry| {
            let Proof { mtime, ctime, .. } = entry.proof;
            // Where times have no fractions, they change once in one or two seconds.
            match ctime.nanos == 0 {
                true => ctime.as_nanos().max(mtime.as_nanos()) < taken.saturating_sub(nanos(COARSE_TICK)),
                false => mtime.as_nanos() < taken.saturating_sub(nanos(CLOCK_TICK)),
            }
        };
        self.entries.into_iter().filter(usable).map(|e| (e.path, (e.proof, e.digest))).collect()
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).expect("a tick is short")
}

fn record_name(root: &Path) -> String {
    format!("{}.sources", name_of(root))
}

/// The source's stamp, what the kernel says of it, and whether it was read.
fn look_at(
    dir: &Dir,
    source: &Source,
    known: &Known,
    hidden: &(dyn Fn(&Path) -> bool + Sync),
) -> Option<(Stamp, Meta, bool)> {
    let name = source.path.file_name()?;
    let path = source.path.as_os_str().as_bytes();
    for _ in 0..ATTEMPTS {
        let meta = dir.stat_optional(name).ok()??;
        let (state, read) = match meta.kind {
            Kind::File => match known.get(path) {
                Some((proof, digest)) if *proof == Proof::of(&meta) => {
                    (State::File { size: meta.size, digest: *digest }, false)
                }
                _ => {
                    let file = dir.open_file(name).ok()?;
                    let (digest, size) = larder_fs::digest_file(&file, &source.path).ok()?;
                    (State::File { size, digest: digest.into() }, true)
                }
            },
            Kind::Symlink => (State::Symlink { target: blake3::hash(&dir.read_link(name).ok()?).into() }, false),
            Kind::Dir => (State::Dir { names: names_of(dir, name, &source.path, hidden)? }, false),
            Kind::Fifo | Kind::Socket | Kind::Device => return None,
        };
        // An old time must never be recorded for new bytes.
        let after = dir.stat_optional(name).ok()??;
        let size_fits = !matches!(state, State::File { size, .. } if size != after.size);
        if (after.ino, after.mtime, after.size) == (meta.ino, meta.mtime, meta.size) && size_fits {
            let stamp = Stamp { path: path.to_vec(), state, mtime: meta.mtime, listed: source.listed };
            return Some((stamp, meta, read));
        }
    }
    None
}

fn names_of(dir: &Dir, name: &OsStr, path: &Path, hidden: &(dyn Fn(&Path) -> bool + Sync)) -> Option<Digest> {
    let entries = dir.open_beneath(name).ok()?.entries().ok()?;
    let mut names: Vec<OsString> = entries.into_iter().map(|entry| entry.name).collect();
    names.retain(|name| !hidden(&path.join(name)));
    names.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    Some(hasher.finalize().into())
}

impl Observed {
    /// Adds what was observed besides; what both have is kept as it was first.
    pub fn merge(&mut self, other: Self) {
        let mine = std::mem::take(&mut self.stamps).into_iter().zip(std::mem::take(&mut self.metas));
        let mut both: Vec<(Stamp, Meta)> = mine.chain(other.stamps.into_iter().zip(other.metas)).collect();
        both.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        both.dedup_by(|later, first| later.0.path == first.0.path);
        (self.stamps, self.metas) = both.into_iter().unzip();
        self.digested += other.digested;
    }

    /// Gives sources their times; directories last, in any order otherwise. What could not be done is returned.
    ///
    /// What is not as it was observed gets the present time, whatever was asked for, and is observed no more: nobody
    /// knows what it holds now.
    pub fn apply(&mut self, times: &[(PathBuf, Time)]) -> Vec<(PathBuf, larder_fs::Error)> {
        let mut failed = Vec::new();
        let is_dir = |path: &Path| self.find(path).is_some_and(|at| self.stamps[at].is_dir());
        let (dirs, files): (Vec<_>, Vec<_>) = times.iter().partition(|(path, _)| is_dir(path));
        let mut unknown = vec![false; self.stamps.len()];
        for (path, time) in files.into_iter().chain(dirs) {
            let at = self.find(path);
            match set(path, *time, at.map(|at| &self.metas[at])) {
                Ok(Some(meta)) => {
                    if let Some(at) = at {
                        self.stamps[at].mtime = meta.mtime;
                        self.metas[at] = meta;
                    }
                }
                Ok(None) => at.into_iter().for_each(|at| unknown[at] = true),
                Err(e) => failed.push((path.clone(), e)),
            }
        }
        let mut gone = unknown.iter();
        self.stamps.retain(|_| !gone.next().expect("one flag a stamp"));
        let mut gone = unknown.iter();
        self.metas.retain(|_| !gone.next().expect("one flag a stamp"));
        failed
    }

    /// The stamps with the times at which each source was modified and changed.
    pub fn times(&self) -> impl Iterator<Item = (&Stamp, [Timestamp; 2])> {
        self.stamps.iter().zip(&self.metas).map(|(stamp, meta)| (stamp, [meta.mtime, meta.ctime]))
    }

    /// Takes back what is said of a source: nobody knows what it held when it was read.
    pub fn doubt(&mut self, path: &Path) {
        if let Some(at) = self.find(path) {
            self.stamps[at].doubt();
        }
    }

    /// The stamp of a path.
    pub fn stamp(&self, path: &Path) -> Option<&Stamp> {
        self.find(path).map(|at| &self.stamps[at])
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let path = path.as_os_str().as_bytes();
        self.stamps.binary_search_by(|stamp| stamp.path.as_slice().cmp(path)).ok()
    }
}

/// Sets the time of what is still as it was observed; else touches it, and is `None`.
fn set(path: &Path, time: Time, observed: Option<&Meta>) -> larder_fs::Result<Option<Meta>> {
    let (parent, name) = path.parent().zip(path.file_name()).unwrap_or((path, OsStr::new(".")));
    let dir = Dir::open(parent)?;
    let before = dir.stat(name)?;
    let as_observed = observed.is_none_or(|then| {
        // A second name of a file that has just got its time differs in nothing else.
        let set_just_now = before.nlink > 1 && matches!(time, Time::At(mtime) if mtime == before.mtime);
        (then.ino, then.size) == (before.ino, before.size)
            && (set_just_now || (then.mtime, then.ctime) == (before.mtime, before.ctime))
    });
    match time {
        Time::At(mtime) if as_observed => dir.set_mtime(name, mtime)?,
        _ => dir.touch(name)?,
    }
    let after = dir.stat(name)?;
    if as_observed && (after.ino, after.size) == (before.ino, before.size) {
        return Ok(Some(after));
    }
    // Somebody wrote to it meanwhile: cargo must see that.
    dir.touch(name)?;
    Ok(None)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests arrange their own files")]
mod tests {
    use super::*;
    use std::fs;

    const OLD: Timestamp = Timestamp { secs: 1_000_000_000, nanos: 5 };

    /// A store and three observed files of one content; the third is a second name of the second.
    fn world() -> (tempfile::TempDir, Store, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(&base.path().join("store"), &()).unwrap();
        let root = base.path().join("sources");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "one").unwrap();
        fs::write(root.join("b"), "one").unwrap();
        fs::hard_link(root.join("b"), root.join("c")).unwrap();
        (base, store, root)
    }

    fn observe(store: &Store, root: &Path) -> Observed {
        let source = |name: &str| Source { path: root.join(name), listed: true };
        store.observe(root, ["a", "b", "c"].map(source).to_vec(), &|_| false)
    }

    fn mtime(path: &Path) -> Timestamp {
        larder_fs::metadata(path).unwrap().unwrap().mtime
    }

    #[test]
    fn what_is_as_it_was_gets_its_time_by_every_name() {
        let (_base, store, root) = world();
        let mut observed = observe(&store, &root);
        let times: Vec<_> = ["a", "b", "c"].map(|name| (root.join(name), Time::At(OLD))).into();
        assert!(observed.apply(&times).is_empty());
        for name in ["a", "b", "c"] {
            assert_eq!(mtime(&root.join(name)), OLD, "{name}");
            assert_eq!(observed.stamp(&root.join(name)).unwrap().mtime, OLD);
        }
    }

    #[test]
    fn what_was_written_meanwhile_gets_no_old_time_and_no_old_digest() {
        type Change = fn(&Path);
        let changes: [Change; 3] = [
            |path| fs::write(path, "two").unwrap(),
            |path| fs::write(path, "longer").unwrap(),
            |path| {
                fs::write(path.with_extension("new"), "two").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
        ];
        for change in changes {
            let (_base, store, root) = world();
            let path = root.join("a");
            // Older than a tick of the clock, or nobody could tell that it was written since.
            fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            let mut observed = observe(&store, &root);
            change(&path);
            let before = mtime(&path);
            assert!(observed.apply(&[(path.clone(), Time::At(OLD))]).is_empty());
            assert!(mtime(&path) >= before);
            assert!(observed.stamp(&path).is_none());
            assert_eq!(observed.stamps.len(), observed.metas.len());
            // The record must not claim to know it either.
            store.remember_sources(&root, &observed).unwrap();
            let again = observe(&store, &root);
            let digest = |bytes: &[u8]| Digest::from(blake3::hash(bytes));
            let State::File { digest: found, .. } = again.stamp(&path).unwrap().state else { panic!("a file") };
            assert_eq!(found, digest(&fs::read(&path).unwrap()));
        }
    }

    /// A build between may have seen the other bytes; it takes longer than a tick of the clock.
    fn put_back(path: &Path) {
        let ctime = || larder_fs::metadata(path).unwrap().unwrap().ctime;
        let before = ctime();
        while ctime() == before {
            fs::write(path, "two").unwrap();
            fs::write(path, "one").unwrap();
        }
    }

    fn touch_back(path: &Path) {
        let dir = Dir::open(path.parent().unwrap()).unwrap();
        dir.set_mtime(path.file_name().unwrap(), OLD).unwrap();
    }

    #[test]
    fn what_was_written_or_put_back_since_is_disturbed() {
        type Change = fn(&Path);
        let changes: [(Change, bool); 4] =
            [(|_| (), false), (|path| fs::write(path, "two").unwrap(), true), (put_back, true), (touch_back, true)];
        for (change, expected) in changes {
            let (_base, store, root) = world();
            let path = root.join("a");
            store.remember_sources(&root, &observe(&store, &root)).unwrap();
            change(&path);
            let remembered = store.remembered(&root).unwrap();
            let now = observe(&store, &root);
            let disturbed: Vec<_> = remembered.disturbed(&now).into_iter().map(|stamp| stamp.path.clone()).collect();
            assert_eq!(!disturbed.is_empty(), expected);
            assert!(disturbed.iter().all(|found| *found == path.as_os_str().as_bytes()));
        }
    }

    #[test]
    fn what_is_doubted_is_neither_equal_nor_remembered() {
        let (_base, store, root) = world();
        let (path, before) = (root.join("a"), observe(&store, &root));
        let mut observed = before.clone();
        observed.doubt(&path);
        assert!(observed.stamp(&path).unwrap().is_doubted());
        assert_ne!(observed.stamp(&path).unwrap().state, before.stamp(&path).unwrap().state);
        store.remember_sources(&root, &observed).unwrap();
        let remembered = store.remembered(&root).unwrap();
        assert!(!remembered.knows(&path) && remembered.knows(&root.join("b")));
        assert!(remembered.has_other(before.stamp(&path).unwrap()));
    }
}
