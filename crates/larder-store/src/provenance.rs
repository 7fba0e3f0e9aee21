//! What the roots of a snapshot were built from: a stamp of every source, and the caller's own notes.
//!
//! A build tool that judges by modification times is right only while the times of its sources and of its
//! results belong together. So both are saved as one pair: the manifests hold the results, the stamps say of
//! every source what it held and when it had last changed.
//!
//! Invariant: provenance that passed [`Provenance::decode`] has absolute paths without `.` or `..`, sorted, each
//! once. They are still only names: whoever applies stamps decides which paths it may touch.

use crate::blob::Digest;
use larder_fs::Timestamp;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// The header part with the digest of what a snapshot was built from. It belongs to no key.
pub const SOURCES: &str = "sources";

/// No file has this length, in bytes.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// What a snapshot was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The sources, sorted by path.
    pub stamps: Vec<Stamp>,
    /// What the caller wants to know again; the store does not look into it.
    #[serde(with = "serde_bytes")]
    pub notes: Vec<u8>,
}

/// The state of one source when the snapshot was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its absolute path.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// What it held.
    pub state: State,
    /// When that had last changed.
    pub mtime: Timestamp,
    /// Whether it was found by listing a tree of sources; else it was only named, and may be made by the build.
    pub listed: bool,
}

/// What a source held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Digest of its bytes.
        digest: Digest,
    },
    /// A symbolic link; what it leads to has a stamp of its own.
    Symlink {
        /// Digest of its target.
        target: Digest,
    },
    /// A directory.
    Dir {
        /// Digest of its sorted names.
        names: Digest,
    },
}

impl Stamp {
    /// The path as the operating system takes it.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Makes it differ from whatever the source holds.
    pub(crate) fn doubt(&mut self) {
        self.state = State::File { size: UNKNOWN_SIZE, digest: Digest([0; 32]) };
    }

    /// Whether nobody knows what the source held.
    pub fn is_doubted(&self) -> bool {
        matches!(self.state, State::File { size: UNKNOWN_SIZE, .. })
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.state, State::Dir { .. })
    }
}

impl Provenance {
    /// Of these stamps, in any order. What no reader would accept is dropped.
    pub fn new(mut stamps: Vec<Stamp>, notes: Vec<u8>) -> Self {
        stamps.retain(|stamp| check_path(&stamp.path).is_ok() && stamp.mtime.nanos < 1_000_000_000);
        stamps.sort_by(|a, b| a.path.cmp(&b.path));
        stamps.dedup_by(|later, first| later.path == first.path);
        Self { stamps, notes }
    }

    /// The stamp of a path.
    pub fn stamp(&self, path: &Path) -> Option<&Stamp> {
        let path = path.as_os_str().as_bytes();
        let at = self.stamps.binary_search_by(|stamp| stamp.path.as_slice().cmp(path)).ok()?;
        self.stamps.get(at)
    }

    /// A digest of where the sources are and what they hold, whenever that last changed; `None` where there are none.
    pub fn digest(&self) -> Option<String> {
        let mut hasher = blake3::Hasher::new();
        for stamp in &self.stamps {
            hasher.update(&(stamp.path.len() as u64).to_le_bytes()).update(&stamp.path);
            hasher.update(&postcard::to_stdvec(&stamp.state).expect("a state is plain data"));
        }
        (!self.stamps.is_empty()).then(|| hasher.finalize().to_hex()[..32].to_owned())
    }

    /// The bytes for a snapshot's file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("provenance is plain data")
    }

    /// Reads and checks the section of a snapshot.
    ///
    /// # Errors
    ///
    /// A sentence fragment that says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (this, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|e| format!("its provenance: {e}"))?;
        if !rest.is_empty() {
            return Err("its provenance has bytes that mean nothing".into());
        }
        for stamp in &this.stamps {
            check_path(&stamp.path)?;
            if stamp.mtime.nanos >= 1_000_000_000 {
                return Err("a time has more than a second of nanoseconds".into());
            }
        }
        if !this.stamps.is_sorted_by(|a, b| a.path < b.path) {
            return Err("its stamps are not sorted".into());
        }
        Ok(this)
    }
}

fn check_path(path: &[u8]) -> Result<(), String> {
    let spelt = Path::new(OsStr::from_bytes(path));
    let plain = spelt.components().enumerate().all(|(at, part)| match part {
        Component::RootDir => at == 0,
        Component::Normal(_) => at > 0,
        _ => false,
    });
    // `components` forgives doubled and final slashes, and `.` within a path.
    let exact = spelt.components().collect::<std::path::PathBuf>().as_os_str().as_bytes() == path;
    match plain && exact && !path.is_empty() && !path.contains(&0) {
        true => Ok(()),
        false => Err(format!("{:?} is no absolute path", String::from_utf8_lossy(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(path: &str) -> Stamp {
        let state = State::File { size: 1, digest: Digest([1; 32]) };
        Stamp { path: path.into(), state, mtime: Timestamp::default(), listed: true }
    }

    fn decode(paths: &[&str]) -> Result<Provenance, String> {
        let stamps = paths.iter().map(|path| stamp(path)).collect();
        Provenance::decode(&Provenance { stamps, notes: vec![7] }.encode())
    }

    #[test]
    fn sound_provenance_comes_back() {
        let read = decode(&["/w/a", "/w/b"]).unwrap();
        assert_eq!(read.notes, [7]);
        assert!(read.stamp(Path::new("/w/b")).is_some() && read.stamp(Path::new("/w/c")).is_none());
    }

    #[test]
    fn the_digest_tells_other_paths_and_contents_and_no_times() {
        let of = |stamps: &[Stamp]| Provenance::new(stamps.to_vec(), Vec::new()).digest();
        let known = of(&[stamp("/a"), stamp("/b")]);
        assert!(known.is_some() && of(&[]).is_none());
        let touched = Stamp { mtime: Timestamp { secs: 9, nanos: 9 }, ..stamp("/a") };
        assert_eq!(of(&[stamp("/b"), touched]), known);
        let edited = Stamp { state: State::File { size: 1, digest: Digest([2; 32]) }, ..stamp("/b") };
        let replaced = Stamp { state: State::Symlink { target: Digest([1; 32]) }, ..stamp("/b") };
        for other in [&[stamp("/a"), edited][..], &[stamp("/a"), replaced], &[stamp("/a"), stamp("/c")], &[stamp("/a")]]
        {
            assert_ne!(of(other), known, "{other:?}");
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in ["", "a", "/a/../b", "/a/./b", "/a//b", "/a/", "../a", "/a\0b"] {
            let path = path.replace("\\0", "\0");
            assert!(decode(&[&path]).unwrap_err().contains("no absolute path"), "{path:?}");
        }
        assert!(decode(&["/b", "/a"]).unwrap_err().contains("not sorted"));
        assert!(decode(&["/a", "/a"]).unwrap_err().contains("not sorted"));
        let kept = Provenance::new(vec![stamp("/b"), stamp("/a/../b"), stamp("/a"), stamp("/b")], vec![7]);
        assert_eq!(Provenance::decode(&kept.encode()).unwrap().stamps, [stamp("/a"), stamp("/b")]);
        let mut late = stamp("/a");
        late.mtime.nanos = 1_000_000_000;
        assert!(Provenance::decode(&Provenance { stamps: vec![late], notes: Vec::new() }.encode()).is_err());
    }
}
