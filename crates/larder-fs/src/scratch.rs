//! A place to measure in: a directory that is gone afterwards, and what a benchmark does to trees in it.
//!
//! Nothing here serves a store. Removing happens once, at the end: ext4 makes creation slow for minutes after a
//! deletion, so a measurement never deletes between its runs. Trees are compared by a walk of its own, so that the
//! judge shares no fault with what it judges. [`Scratch`] removes itself when dropped, whatever lies in
//! it: mounts, directories without write permission.

use crate::{Dir, Error, FsType, Result, Space, Volume, mount};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much is read, written or compared at a time.
const BUFFER: usize = 1 << 16;
/// How many files are made to see what one costs.
const PROBES: u32 = 500;

/// A directory that is removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    removed: bool,
}

impl Scratch {
    /// Makes a directory with a fresh name in `parent`, which must exist. Its own path holds no symbolic link.
    pub fn create_in(parent: &Path) -> Result<Self> {
        let parent = canonical(parent)?;
        let dir = tempfile::Builder::new()
            .prefix(".larder-bench-")
            .tempdir_in(&parent)
            .map_err(|e| at("make a scratch directory in", &parent, e))?;
        Ok(Self { path: dir.keep(), removed: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and says what went wrong, which dropping cannot.
    pub fn remove(mut self) -> Result<()> {
        self.removed = true;
        self.clear()
    }

    fn clear(&self) -> Result<()> {
        // The mount made last is undone first: mounts can stand on one another.
        for place in mount_points()?.iter().rev().filter(|p| p.starts_with(&self.path)) {
            mount::unmount(place)?;
        }
        remove(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.removed {
            // Nobody is left to hear of a failure: the error that led here matters more.
            let _ = self.clear();
        }
    }
}

/// What the file system of `dir` has left.
pub fn room(dir: &Path) -> Result<Space> {
    Volume::space(&Dir::open(dir)?)
}

/// The kind of the file system that holds `dir`.
pub fn file_system(dir: &Path) -> Result<FsType> {
    Ok(Volume::of(&Dir::open(dir)?)?.fs_type)
}

/// The path without symbolic links, `.` and `..`.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|e| at("find", path, e))
}

/// Whether there is a regular file at `path`.
pub fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

/// Makes one directory in an existing one.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir(path).map_err(|e| at("make directory", path, e))
}

/// Makes a file for a child process to write into.
pub fn new_file(path: &Path) -> Result<File> {
    File::create_new(path).map_err(|e| at("create", path, e))
}

/// Writes everything that is waiting for the file system of `dir` to its disk, as a quiet state to measure from.
pub fn settle(dir: &Path) -> Result<()> {
    Volume::sync(&Dir::open(dir)?)
}

/// Makes the kernel forget cached pages, names and inodes. Only root may.
pub fn drop_caches() -> Result<()> {
    let switch = Path::new("/proc/sys/vm/drop_caches");
    rustix::fs::sync();
    fs::write(switch, "3\n").map_err(|e| at("write to", switch, e))
}

/// What creating one empty file costs in `dir`, which exists and is empty: the mean of several hundred. On ext4 it is
/// some 15 µs, and thirty times as much for minutes after much was deleted.
pub fn creation_cost(dir: &Path) -> Result<Duration> {
    let begin = Instant::now();
    for i in 0..PROBES {
        new_file(&dir.join(i.to_string()))?;
    }
    Ok(begin.elapsed() / PROBES)
}

/// What kind of thing an entry of a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link and what it says.
    Symlink(PathBuf),
}

/// One entry of a tree.
#[derive(Clone, Debug)]
pub struct Item {
    /// The path below the tree's root.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// When it was last modified: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Bytes of disk that it alone holds: 0 for a file with further names.
    pub own_bytes: u64,
    /// Whether the inode has this name only.
    pub single: bool,
}

impl Item {
    /// The length of a file; 0 for everything else.
    pub fn size(&self) -> u64 {
        if let Kind::File(size) = self.kind { size } else { 0 }
    }
}

/// All entries below `root`, sorted by path. Sockets, FIFOs and devices are left out, as is the root itself.
pub fn list(root: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        let place = root.join(&dir);
        for entry in fs::read_dir(&place).map_err(|e| at("list", &place, e))? {
            let entry = entry.map_err(|e| at("list", &place, e))?;
            let path = dir.join(entry.file_name());
            let meta = entry.metadata().map_err(|e| at("stat", &entry.path(), e))?;
            let kind = if meta.is_dir() {
                pending.push(path.clone());
                Kind::Directory
            } else if meta.is_file() {
                Kind::File(meta.size())
            } else if meta.is_symlink() {
                Kind::Symlink(fs::read_link(entry.path()).map_err(|e| at("read link", &entry.path(), e))?)
            } else {
                continue;
            };
            let single = meta.is_dir() || meta.nlink() == 1;
            items.push(Item {
                path,
                kind,
                mode: meta.mode() & 0o7777,
                mtime: (meta.mtime(), meta.mtime_nsec()),
                own_bytes: if single { meta.blocks() * 512 } else { 0 },
                single,
            });
        }
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(items)
}

/// How exactly modification times must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// To the nanosecond.
    Exact,
    /// To the second.
    Seconds,
}

/// The first thing in which `found` differs from `wanted`, told for a reader; `None` if they are the same in names,
/// kinds, sizes, permissions, link targets and modification times (those of links aside).
pub fn difference(wanted: &[Item], found: &[Item], times: Times) -> Option<String> {
    for (w, f) in wanted.iter().zip(found) {
        let name = w.path.display();
        if w.path < f.path {
            return Some(format!("`{name}` is missing"));
        }
        if w.path > f.path {
            return Some(format!("`{}` is there and should not be", f.path.display()));
        }
        if w.kind != f.kind {
            return Some(format!("`{name}` should be {:?} and is {:?}", w.kind, f.kind));
        }
        if matches!(w.kind, Kind::Symlink(_)) {
            continue;
        }
        if w.mode != f.mode {
            return Some(format!("`{name}` should have mode {:04o} and has {:04o}", w.mode, f.mode));
        }
        if w.mtime.0 != f.mtime.0 || (times == Times::Exact && w.mtime.1 != f.mtime.1) {
            let ((ws, wn), (fs, fn_)) = (w.mtime, f.mtime);
            return Some(format!("`{name}` should have mtime {ws}.{wn:09} and has {fs}.{fn_:09}"));
        }
    }
    match (wanted.get(found.len()), found.get(wanted.len())) {
        (Some(w), _) => Some(format!("`{}` is missing", w.path.display())),
        (_, Some(f)) => Some(format!("`{}` is there and should not be", f.path.display())),
        (None, None) => None,
    }
}

/// Whether two files hold the same bytes.
pub fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    let open = |p: &Path| File::open(p).map_err(|e| at("open", p, e));
    let (left, right) = (open(a)?, open(b)?);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        other.clear();
        (&left).take(BUFFER as u64).read_to_end(&mut one).map_err(|e| at("read", a, e))?;
        (&right).take(BUFFER as u64).read_to_end(&mut other).map_err(|e| at("read", b, e))?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}

/// Puts `size` new bytes, which follow from `seed`, in the place of a file: written beside it under another name and
/// renamed over it, as build tools do, so that other names of the old inode keep the old bytes.
pub fn replace(path: &Path, size: u64, seed: u64) -> Result<()> {
    let mode = fs::symlink_metadata(path).map_err(|e| at("stat", path, e))?.permissions().mode();
    let mut name = OsStr::new(".larder-bench-").to_owned();
    name.push(path.file_name().unwrap_or_default());
    let fresh = path.with_file_name(name);
    let mut out = File::create_new(&fresh).map_err(|e| at("create", &fresh, e))?;
    let mut state = seed;
    let mut left = size;
    let mut buffer = [0; BUFFER];
    while left > 0 {
        for word in buffer.chunks_exact_mut(8) {
            word.copy_from_slice(&next_word(&mut state).to_le_bytes());
        }
        let part = usize::try_from(left).map_or(BUFFER, |n| n.min(BUFFER));
        out.write_all(&buffer[..part]).map_err(|e| at("write to", &fresh, e))?;
        left -= part as u64;
    }
    out.set_permissions(Permissions::from_mode(mode)).map_err(|e| at("set the mode of", &fresh, e))?;
    fs::rename(&fresh, path).map_err(|e| at("rename over", path, e))
}

/// The SplitMix64 sequence: bytes that do not compress and are the same in every run.
fn next_word(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The places where something is mounted, as this process sees them, in the order in which they were mounted.
fn mount_points() -> Result<Vec<PathBuf>> {
    let table = crate::read(Path::new("/proc/self/mountinfo"))?;
    let place = |line: &[u8]| line.split(|b| *b == b' ').nth(4).map(|p| PathBuf::from(OsString::from_vec(unescape(p))));
    Ok(table.split(|b| *b == b'\n').filter_map(place).collect())
}

/// Undoes the kernel's `\040` for a blank, and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|d| str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        let (byte, after) = match (first, code) {
            (b'\\', Some(byte)) => (byte, &tail[3..]),
            _ => (*first, tail),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}

/// Removes a tree of this process's own making.
fn remove(root: &Path) -> Result<()> {
    if crate::remove_tree(root).is_ok() {
        return Ok(());
    }
    // Something resisted: directories that may not be written to, for whoever is not root.
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(|e| at("set the mode of", &dir, e))?;
        for entry in fs::read_dir(&dir).map_err(|e| at("list", &dir, e))?.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                pending.push(entry.path());
            }
        }
    }
    crate::remove_tree(root)
}

fn at(verb: &'static str, path: &Path, e: io::Error) -> Error {
    Error::new(verb, path, e)
}

#[cfg(test)]
mod tests;
