//! What a directory held: the sorted list of its entries with everything needed to make them again.
//!
//! Layout: four tables. Directories come parents first, so that an index below one's own names the
//! parent and no entry can stand under a file or a symbolic link. Names are single components. File
//! *names* and *inodes* are separate tables: names that share an inode are a hard-link group.
//!
//! Invariant: a manifest that passed [`Manifest::check`] describes a tree that can exist, wholly
//! below its root. Nothing else may be materialised.

use crate::blob::{Digest, SaveId};
use larder_fs::Timestamp;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The longest name that Linux file systems take, in bytes.
const MAX_NAME: usize = 255;
/// The longest target of a symbolic link, in bytes (PATH_MAX without its NUL).
const MAX_TARGET: usize = 4095;

/// The most bytes that all paths of a manifest together may have; a million files have about 150 MB.
const MAX_PATHS: u64 = 1 << 30;

/// A directory's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Directories, the root first, sorted by (parent, name).
    pub dirs: Vec<DirEntry>,
    /// The distinct files.
    pub inodes: Vec<Inode>,
    /// The names of the files, sorted by (directory, name).
    pub links: Vec<Link>,
    /// Symbolic links, sorted by (directory, name).
    pub symlinks: Vec<Symlink>,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// Index of the directory that holds it; below its own index, but for the root's.
    pub parent: u32,
    /// Its name there; empty for the root.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Last change of its listing.
    pub mtime: Timestamp,
}

/// A file without its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// Permission bits.
    pub mode: u32,
    /// Last change of its contents.
    pub mtime: Timestamp,
    /// Length in bytes.
    pub size: u64,
    /// Where its bytes are.
    pub content: Content,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// In the snapshot itself, at this offset of its inline section.
    Inline {
        /// Offset in bytes.
        offset: u64,
    },
    /// In a blob named by its digest.
    Digest {
        /// The digest of the bytes, and so the blob's name.
        digest: Digest,
        /// The blob's inode number when it was written.
        ino: u64,
    },
    /// In a blob named before its digest was known; its own mtime is the file's.
    Ingest {
        /// The save that took it in.
        save: SaveId,
        /// Its number within that save.
        index: u32,
        /// The blob's inode number when it was taken in.
        ino: u64,
        /// The digest, where it was computed on the way in; else a sidecar beside the blob may have it.
        digest: Option<Digest>,
    },
}

/// One name of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Index of the directory.
    pub dir: u32,
    /// The name there.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Index of the inode.
    pub inode: u32,
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// Index of the directory.
    pub dir: u32,
    /// The name there.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Where it points.
    #[serde(with = "serde_bytes")]
    pub target: Vec<u8>,
    /// Its own time stamp.
    pub mtime: Timestamp,
}

impl Link {
    /// The name as the operating system takes it.
    pub fn os_name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }
}

impl Manifest {
    /// The path of every directory below the root, by index; the root's is empty.
    pub fn dir_paths(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<Vec<u8>> = Vec::with_capacity(self.dirs.len());
        for (index, dir) in self.dirs.iter().enumerate() {
            let path = if index == 0 { Vec::new() } else { join(&paths[dir.parent as usize], &dir.name) };
            paths.push(path);
        }
        paths
    }

    /// The path of every file name below the root, by index of the link.
    pub fn link_paths(&self) -> Vec<Vec<u8>> {
        let dirs = self.dir_paths();
        self.links.iter().map(|link| join(&dirs[link.dir as usize], &link.name)).collect()
    }

    /// The sum of the lengths of all distinct files.
    pub fn logical_bytes(&self) -> u64 {
        self.inodes.iter().fold(0, |sum, inode| sum.saturating_add(inode.size))
    }

    /// Refuses a manifest that does not describe a tree wholly below its root, or whose inline files
    /// do not lie within `inline_len` bytes. The reason is a sentence fragment.
    pub fn check(&self, inline_len: u64) -> Result<(), String> {
        let Some(root) = self.dirs.first() else { return Err("it has no root directory".into()) };
        if !root.name.is_empty() || root.parent != 0 {
            return Err("its root directory has a name".into());
        }
        for (index, dir) in self.dirs.iter().enumerate() {
            if index > 0 {
                if dir.parent as usize >= index {
                    return Err(format!("directory {index} comes before its parent"));
                }
                check_name(&dir.name)?;
            }
            check_mode(dir.mode)?;
            check_time(dir.mtime)?;
        }
        let mut named = vec![false; self.inodes.len()];
        for link in &self.links {
            check_name(&link.name)?;
            match named.get_mut(link.inode as usize) {
                Some(named) => *named = true,
                None => return Err(format!("file {} has no inode", show(&link.name))),
            }
        }
        if named.contains(&false) {
            return Err("an inode has no name".into());
        }
        for inode in &self.inodes {
            check_mode(inode.mode)?;
            check_time(inode.mtime)?;
            if let Content::Inline { offset } = inode.content
                && offset.checked_add(inode.size).is_none_or(|end| end > inline_len)
            {
                return Err("an inline file lies outside the snapshot".into());
            }
        }
        for symlink in &self.symlinks {
            check_name(&symlink.name)?;
            check_time(symlink.mtime)?;
            if symlink.target.is_empty() || symlink.target.len() > MAX_TARGET || symlink.target.contains(&0) {
                return Err(format!("link {} has an impossible target", show(&symlink.name)));
            }
        }
        self.check_order()?;
        self.check_paths()
    }

    /// All paths together are bounded: few bytes can describe a tree so deep that its paths fill memory.
    fn check_paths(&self) -> Result<(), String> {
        let mut sum = 0_u64;
        let mut lengths: Vec<u64> = Vec::with_capacity(self.dirs.len());
        for (index, dir) in self.dirs.iter().enumerate() {
            let parent = if index == 0 { 0 } else { lengths[dir.parent as usize] + 1 };
            lengths.push(parent + dir.name.len() as u64);
            sum += lengths[index];
        }
        sum += self.links.iter().map(|link| lengths[link.dir as usize] + 1 + link.name.len() as u64).sum::<u64>();
        if sum > MAX_PATHS { Err(format!("its paths have {sum} bytes together")) } else { Ok(()) }
    }

    /// Each table is strictly sorted, and no two tables have an entry of the same name.
    fn check_order(&self) -> Result<(), String> {
        let dirs = self.dirs.iter().skip(1).map(|d| (d.parent, d.name.as_slice()));
        let links = self.links.iter().map(|l| (l.dir, l.name.as_slice()));
        let symlinks = self.symlinks.iter().map(|s| (s.dir, s.name.as_slice()));
        if !(dirs.clone().is_sorted() && links.clone().is_sorted() && symlinks.clone().is_sorted()) {
            return Err("its entries are not sorted".into());
        }
        let mut all: Vec<(u32, &[u8])> = dirs.chain(links).chain(symlinks).collect();
        // Three sorted runs: a stable sort merges them in linear time.
        all.sort();
        for pair in all.windows(2) {
            if pair[0] == pair[1] {
                return Err(format!("the name {} occurs twice in one directory", show(pair[0].1)));
            }
        }
        match all.last() {
            Some((dir, name)) if *dir as usize >= self.dirs.len() => Err(format!("{} has no directory", show(name))),
            _ => Ok(()),
        }
    }
}

fn check_name(name: &[u8]) -> Result<(), String> {
    let bad = name.is_empty()
        || name.len() > MAX_NAME
        || name == b"."
        || name == b".."
        || name.iter().any(|byte| matches!(byte, b'/' | 0));
    if bad { Err(format!("{} is no name of a directory entry", show(name))) } else { Ok(()) }
}

fn check_mode(mode: u32) -> Result<(), String> {
    if mode > 0o7777 { Err(format!("{mode:o} are no permission bits")) } else { Ok(()) }
}

fn check_time(time: Timestamp) -> Result<(), String> {
    if time.nanos >= 1_000_000_000 { Err("a time has more than a second of nanoseconds".into()) } else { Ok(()) }
}

fn show(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&name[..name.len().min(MAX_NAME)]))
}

/// Joins a path below the root and a name.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(parent: u32, name: &str) -> DirEntry {
        DirEntry { parent, name: name.into(), mode: 0o755, mtime: Timestamp::default() }
    }

    fn empty_file() -> Inode {
        Inode { mode: 0o644, mtime: Timestamp::default(), size: 0, content: Content::Inline { offset: 0 } }
    }

    fn sample() -> Manifest {
        Manifest {
            dirs: vec![dir(0, ""), dir(0, "a"), dir(1, "b")],
            inodes: vec![empty_file()],
            links: vec![Link { dir: 1, name: "f".into(), inode: 0 }, Link { dir: 2, name: "g".into(), inode: 0 }],
            symlinks: vec![Symlink { dir: 1, name: "l".into(), target: "/x".into(), mtime: Timestamp::default() }],
        }
    }

    #[test]
    fn a_sound_manifest_passes() {
        assert_eq!(sample().check(0), Ok(()));
        assert_eq!(sample().dir_paths(), [b"".to_vec(), b"a".to_vec(), b"a/b".to_vec()]);
    }

    #[test]
    fn hostile_manifests_are_refused() {
        type Harm = fn(&mut Manifest);
        let harms: [(Harm, &str); 15] = [
            (|m| m.dirs.clear(), "no root"),
            (|m| m.dirs[1].name = b"..".to_vec(), "no name"),
            (|m| m.dirs[1].name = b"/etc".to_vec(), "no name"),
            (|m| m.links[0].name = b"a/../../b".to_vec(), "no name"),
            (|m| m.links[0].name = b"nul\0".to_vec(), "no name"),
            (|m| m.links[0].name = vec![b'n'; 256], "no name"),
            (|m| m.dirs[1].parent = 2, "before its parent"),
            (|m| m.links[1].dir = 9, "no directory"),
            (|m| m.links[0].inode = 9, "no inode"),
            (|m| m.symlinks[0].name = b"f".to_vec(), "occurs twice"),
            (|m| m.links[0].name = b"b".to_vec(), "occurs twice"),
            (|m| m.symlinks[0].target.clear(), "impossible target"),
            (|m| m.inodes[0].size = 1, "outside the snapshot"),
            (|m| m.inodes[0].mode = 0o100_644, "no permission bits"),
            (|m| m.links.swap(0, 1), "not sorted"),
        ];
        for (harm, reason) in harms {
            let mut manifest = sample();
            harm(&mut manifest);
            let refused = manifest.check(0).expect_err(reason);
            assert!(refused.contains(reason), "{refused} should say {reason}");
        }
    }
}
