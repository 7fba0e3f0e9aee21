//! A handle on a directory. All work on trees goes through it.
//!
//! Names are single components; relative paths are resolved beneath the handle without following
//! a symbolic link, in pieces short enough for the kernel.

use crate::error::{Error, Result};
use crate::fault;
use crate::meta::{Kind, Meta, Timestamp};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom, StatxFlags, Timespec,
    Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest path handed to the kernel in one call; its own limit is 4,096 with the final NUL.
const PIECE: usize = 4000;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// One entry of a directory listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's name.
    pub name: OsString,
    /// Whether the listing says that it is a directory; `None` where the file system does not tell.
    pub is_dir: Option<bool>,
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

impl Dir {
    /// Opens the directory at `path`. Symbolic links on the way are followed: the path comes from the user.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            fault::check("open")?;
            Ok(rustix::fs::openat(CWD, path, dir_flags(), Mode::empty())?)
        };
        let fd = open().map_err(|e: std::io::Error| Error::new("open directory", path, e))?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// Opens the directory at `path`, or says that there is none.
    pub fn open_optional(path: &Path) -> Result<Option<Self>> {
        match Self::open(path) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Where this directory was opened; for messages and for system calls that want a path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages.
    pub fn join(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// Opens the directory at `relative` beneath this one; no component may be a symbolic link.
    pub fn open_beneath(&self, relative: &OsStr) -> Result<Self> {
        let fail = |e: std::io::Error| Error::new("open directory", self.join(relative), e);
        fault::check("open").map_err(fail)?;
        let bytes = relative.as_bytes();
        if bytes.is_empty() {
            let fd = rustix::fs::openat(&self.fd, ".", dir_flags(), Mode::empty()).map_err(|e| fail(e.into()))?;
            return Ok(Self { fd, path: self.path.clone() });
        }
        let mut at: Option<OwnedFd> = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            let cut = if rest.len() <= PIECE {
                rest.len()
            } else {
                match rest[..PIECE].iter().rposition(|b| *b == b'/') {
                    Some(cut) => cut,
                    None => return Err(fail(Errno::NAMETOOLONG.into())),
                }
            };
            let piece = OsStr::from_bytes(&rest[..cut]);
            let base = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            at = Some(open_no_links(base, piece).map_err(|e| fail(e.into()))?);
            rest = rest.get(cut + 1..).unwrap_or_default();
        }
        let fd = at.expect("the path is not empty");
        Ok(Self { fd, path: self.join(relative) })
    }

    /// Makes the directory `name`, writable for its owner until its final mode is set.
    pub fn create_dir(&self, name: &OsStr) -> Result<()> {
        self.run("create directory", name, || rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)))
    }

    /// Makes the directory `name` unless it is there.
    pub fn ensure_dir(&self, name: &OsStr) -> Result<()> {
        match self.create_dir(name) {
            Err(e) if e.is_already_exists() => Ok(()),
            other => other,
        }
    }

    /// What stands at `name`; a symbolic link is not followed.
    pub fn stat(&self, name: &OsStr) -> Result<Meta> {
        self.run("examine", name, || rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW))
            .map(|stat| Meta::from_stat(&stat))
    }

    /// What stands at `name`, or `None`.
    pub fn stat_optional(&self, name: &OsStr) -> Result<Option<Meta>> {
        match self.stat(name) {
            Ok(meta) => Ok(Some(meta)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the kernel says of this directory itself.
    pub fn stat_self(&self) -> Result<Meta> {
        fault::check("examine").map_err(|e| Error::new("examine", &self.path, e))?;
        rustix::fs::fstat(&self.fd).map(|s| Meta::from_stat(&s)).map_err(|e| Error::new("examine", &self.path, e))
    }

    /// When this directory was made; `None` where the file system does not keep it. With the inode number it tells
    /// this directory from one made later in its place.
    pub fn born(&self) -> Result<Option<Timestamp>> {
        let fail = |e: std::io::Error| Error::new("examine", &self.path, e);
        fault::check("examine").map_err(fail)?;
        match rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME) {
            Ok(stat) if stat.stx_mask & StatxFlags::BTIME.bits() != 0 => {
                Ok(Some(Timestamp { secs: stat.stx_btime.tv_sec, nanos: stat.stx_btime.tv_nsec }))
            }
            // Sandboxes that do not know the call.
            Ok(_) | Err(Errno::NOSYS | Errno::PERM) => Ok(None),
            Err(e) => Err(fail(e.into())),
        }
    }

    /// As [`Dir::entries`], of a directory that others may remove meanwhile: then there are none.
    pub fn entries_if_there(&self) -> Result<Vec<Entry>> {
        match self.entries() {
            Err(e) if e.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    /// The entries of this directory, `.` and `..` left out, in the file system's order.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let fail = |e: std::io::Error| Error::new("list", &self.path, e);
        fault::check("list").map_err(fail)?;
        let mut entries = Vec::new();
        // A listing may have been read before: begin at its start.
        rustix::fs::seek(&self.fd, SeekFrom::Start(0)).map_err(|e| fail(e.into()))?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut listing = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|e| fail(e.into()))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let is_dir = match entry.file_type() {
                FileType::Unknown => None,
                kind => Some(kind == FileType::Directory),
            };
            entries.push(Entry { name: OsString::from_vec(name.to_vec()), is_dir });
        }
        Ok(entries)
    }

    /// The target of the symbolic link `name`, as bytes.
    pub fn read_link(&self, name: &OsStr) -> Result<Vec<u8>> {
        self.run("read link", name, || rustix::fs::readlinkat(&self.fd, name, Vec::new())).map(|t| t.into_bytes())
    }

    /// Makes the symbolic link `name`.
    pub fn symlink(&self, target: &[u8], name: &OsStr) -> Result<()> {
        self.run("create link", name, || rustix::fs::symlinkat(OsStr::from_bytes(target), &self.fd, name))
    }

    /// Gives the file `source_name` of `source` the further name `name` here.
    pub fn hard_link(&self, source: &Dir, source_name: &OsStr, name: &OsStr) -> Result<()> {
        self.run("hard link", name, || rustix::fs::linkat(&source.fd, source_name, &self.fd, name, AtFlags::empty()))
    }

    /// Renames `name` to `new_name` in `new_dir`, replacing what is there.
    pub fn rename(&self, name: &OsStr, new_dir: &Dir, new_name: &OsStr) -> Result<()> {
        self.run("rename", name, || rustix::fs::renameat(&self.fd, name, &new_dir.fd, new_name))
    }

    /// Renames `name` to `new_name` in `new_dir`; fails with `AlreadyExists` where something is there.
    pub fn rename_new(&self, name: &OsStr, new_dir: &Dir, new_name: &OsStr) -> Result<()> {
        let renamed = self.run("rename exclusively", name, || {
            rustix::fs::renameat_with(&self.fd, name, &new_dir.fd, new_name, RenameFlags::NOREPLACE)
        });
        match renamed {
            // Some network and stacked file systems do not know the flag: a link does the same for files.
            Err(e) if e.is(Errno::INVAL) || e.is(Errno::NOSYS) => {
                new_dir.hard_link(self, name, new_name)?;
                // Either name may be the only one in the end, but not both.
                self.remove_file(name).or_else(|e| {
                    new_dir.remove_file(new_name)?;
                    Err(e)
                })
            }
            other => other,
        }
    }

    /// Renames the directory `name` to `new_name` in `new_dir`, even one that its owner may not write:
    /// the kernel wants to, since a directory names its parent.
    pub fn rename_dir(&self, name: &OsStr, new_dir: &Dir, new_name: &OsStr) -> Result<()> {
        let mode = self.stat(name)?.mode;
        if mode & 0o200 != 0 || crate::process::effective_uid() == 0 {
            return self.rename(name, new_dir, new_name);
        }
        self.set_mode(name, mode | 0o200)?;
        self.rename(name, new_dir, new_name)?;
        new_dir.set_mode(new_name, mode)
    }

    /// Puts `temp` in the place of the file `name` of `dir`, in one step, and removes what stood there.
    ///
    /// An exchange, since ext4 writes the bytes of a file out at once when it is renamed over another
    /// (`auto_da_alloc`), which takes milliseconds for each.
    pub fn replace(&self, temp: &OsStr, dir: &Dir, name: &OsStr) -> Result<()> {
        let exchanged = dir
            .run("replace", name, || rustix::fs::renameat_with(&self.fd, temp, &dir.fd, name, RenameFlags::EXCHANGE));
        match exchanged {
            Ok(()) => self.remove_file(temp),
            // Not every file system can, and `name` may have vanished.
            Err(e) if e.is(Errno::INVAL) || e.is(Errno::NOSYS) || e.is_not_found() => self.rename(temp, dir, name),
            Err(e) => Err(e),
        }
    }

    /// Removes the file or link `name`.
    pub fn remove_file(&self, name: &OsStr) -> Result<()> {
        self.run("remove", name, || rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()))
    }

    /// Removes the empty directory `name`.
    pub fn remove_dir(&self, name: &OsStr) -> Result<()> {
        self.run("remove directory", name, || rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR))
    }

    /// Removes whatever stands at `name`, with all below it; absence is success, also where others remove it meanwhile.
    pub fn remove_all(&self, name: &OsStr) -> Result<()> {
        const ATTEMPTS: u32 = 8;
        for _ in 1..ATTEMPTS {
            match self.try_remove_all(name) {
                Err(e) if e.is_not_found() => {}
                other => return other,
            }
        }
        self.try_remove_all(name)
    }

    fn try_remove_all(&self, name: &OsStr) -> Result<()> {
        let Some(meta) = self.stat_optional(name)? else { return Ok(()) };
        if meta.kind != Kind::Dir {
            return match self.remove_file(name) {
                Err(e) if e.is_not_found() => Ok(()),
                other => other,
            };
        }
        // A directory without write or search permission would keep its contents.
        if meta.mode & 0o700 != 0o700 {
            self.set_mode(name, meta.mode | 0o700)?;
        }
        // Flattens instead of recursing: trees may be deeper than the stack or the descriptor limit allow.
        let mut pending = vec![OsString::new()];
        let top = self.open_beneath(name)?;
        let mut order = Vec::new();
        while let Some(relative) = pending.pop() {
            let dir = top.open_beneath(&relative)?;
            for entry in dir.entries()? {
                let child = dir.stat_optional(&entry.name)?;
                let Some(child) = child else { continue };
                if child.kind == Kind::Dir {
                    if child.mode & 0o700 != 0o700 {
                        dir.set_mode(&entry.name, child.mode | 0o700)?;
                    }
                    pending.push(join_relative(&relative, &entry.name));
                } else {
                    match dir.remove_file(&entry.name) {
                        Err(e) if !e.is_not_found() => return Err(e),
                        _ => {}
                    }
                }
            }
            order.push(relative);
        }
        for relative in order.iter().rev().filter(|relative| !relative.is_empty()) {
            let (parent, last) = split_relative(relative);
            top.open_beneath(parent)?.remove_dir(last)?;
        }
        self.remove_dir(name)
    }

    /// Sets the permission bits of `name`, which must not be a symbolic link.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<()> {
        self.run("set mode of", name, || {
            rustix::fs::chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())
        })
    }

    /// Gives `name`, which must not be a symbolic link, to another user; root alone may. Its group stays.
    pub fn set_owner(&self, name: &OsStr, uid: u32) -> Result<()> {
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        self.run("give away", name, || rustix::fs::chownat(&self.fd, name, owner, None, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Sets the permission bits of this directory itself.
    pub fn set_mode_self(&self, mode: u32) -> Result<()> {
        fault::check("set mode of").map_err(|e| Error::new("set mode of", &self.path, e))?;
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(|e| Error::new("set mode of", &self.path, e))
    }

    /// Sets the modification time of `name`; a symbolic link is stamped itself.
    pub fn set_mtime(&self, name: &OsStr, mtime: Timestamp) -> Result<()> {
        self.run("stamp", name, || rustix::fs::utimensat(&self.fd, name, &stamps(mtime), AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Sets the modification time of this directory itself.
    pub fn set_mtime_self(&self, mtime: Timestamp) -> Result<()> {
        fault::check("stamp").map_err(|e| Error::new("stamp", &self.path, e))?;
        rustix::fs::futimens(&self.fd, &stamps(mtime)).map_err(|e| Error::new("stamp", &self.path, e))
    }

    /// Gives `name` the access time 1970, so that it can be seen later whether it was read.
    pub fn mark_unread(&self, name: &OsStr) -> Result<()> {
        let never = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: 0 },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        };
        self.run("stamp", name, || rustix::fs::utimensat(&self.fd, name, &never, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Gives `name` the modification time now, by the clock that stamps files: the precise clock runs ahead of it, and
    /// what is written a moment later would seem older. A symbolic link is stamped itself.
    pub fn touch(&self, name: &OsStr) -> Result<()> {
        // Both times, because that is what whoever may write to the file but does not own it may do.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        self.run("touch", name, || rustix::fs::utimensat(&self.fd, name, &now, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Opens the file `name` for reading; a symbolic link is refused.
    pub fn open_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.run("open", name, || rustix::fs::openat(&self.fd, name, flags, Mode::empty())).map(File::from)
    }

    /// Creates the file `name` for writing; fails with `AlreadyExists` where something is there.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        self.run("create", name, || {
            rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode((mode & 0o777) | 0o200))
        })
        .map(File::from)
    }

    /// Adds `bytes` to the end of the file `name`, made where it is absent, by one write: what several processes add at
    /// once stands there piece by piece, on any local file system. Nothing is made durable.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written to, is no regular file, or took only a part of the bytes.
    pub fn append(&self, name: &OsStr, bytes: &[u8]) -> Result<()> {
        // Opening a named pipe that nobody reads fails instead of waiting.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(0o644);
        let file = self.run("append to", name, || rustix::fs::openat(&self.fd, name, flags, mode))?;
        match self.run("append to", name, || rustix::io::write(&file, bytes))? {
            written if written == bytes.len() => Ok(()),
            _ => Err(Error::new("append to", self.join(name), std::io::Error::from(std::io::ErrorKind::WriteZero))),
        }
    }

    /// Cuts the existing file `name` to length zero, keeping its inode.
    pub fn truncate_file(&self, name: &OsStr) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.run("cut", name, || rustix::fs::openat(&self.fd, name, flags, Mode::empty())).map(drop)
    }

    /// Opens the existing file `name` to write over its bytes. It is not cut first: what is written to a file
    /// after that ext4 writes out at once when it is closed (`auto_da_alloc`).
    pub fn open_to_rewrite(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.run("rewrite", name, || rustix::fs::openat(&self.fd, name, flags, Mode::empty())).map(File::from)
    }

    /// Makes the entries of this directory durable.
    pub fn sync(&self) -> Result<()> {
        fault::check("sync").map_err(|e| Error::new("sync", &self.path, e))?;
        rustix::fs::fsync(&self.fd).map_err(|e| Error::new("sync", &self.path, e))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn run<T>(&self, op: &'static str, name: &OsStr, call: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        let attempt = || {
            fault::check(op)?;
            Ok(rustix::io::retry_on_intr(&call)?)
        };
        attempt().map_err(|e: std::io::Error| Error::new(op, self.join(name), e))
    }
}

pub(crate) fn stamps(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) },
    }
}

/// This modification time, and never read.
pub(crate) fn unread(mtime: Timestamp) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: 0 }, ..stamps(mtime) }
}

/// Joins a relative path and a name; the root is the empty path.
pub(crate) fn join_relative(relative: &OsStr, name: &OsStr) -> OsString {
    let mut joined = Vec::with_capacity(relative.len() + 1 + name.len());
    joined.extend_from_slice(relative.as_bytes());
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.as_bytes());
    OsString::from_vec(joined)
}

fn split_relative(relative: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = relative.as_bytes();
    match bytes.iter().rposition(|b| *b == b'/') {
        Some(cut) => (OsStr::from_bytes(&bytes[..cut]), OsStr::from_bytes(&bytes[cut + 1..])),
        None => (OsStr::new(""), relative),
    }
}

/// Opens a directory beneath `base` without following links: one `openat2` where the kernel and the
/// sandbox allow it, otherwise one `openat` a component.
fn open_no_links(base: BorrowedFd<'_>, relative: &OsStr) -> rustix::io::Result<OwnedFd> {
    static NO_OPENAT2: AtomicBool = AtomicBool::new(false);
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            match rustix::fs::openat2(base, relative, dir_flags(), Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) => {
                    NO_OPENAT2.store(true, Ordering::Relaxed);
                    break;
                }
                // The kernel may ask to retry when something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }
    if relative.as_bytes().split(|b| *b == b'/').any(|name| name == b"..") {
        return Err(Errno::XDEV);
    }
    let mut at: Option<OwnedFd> = None;
    for name in relative.as_bytes().split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        let from = at.as_ref().map_or(base, AsFd::as_fd);
        at = Some(rustix::fs::openat(from, OsStr::from_bytes(name), dir_flags() | OFlags::NOFOLLOW, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_inside_a_tree_is_never_followed() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        root.create_dir(OsStr::new("real")).unwrap();
        root.symlink(b"real", OsStr::new("link")).unwrap();
        assert!(root.open_beneath(OsStr::new("real")).is_ok());
        assert!(root.open_beneath(OsStr::new("link")).is_err());
        assert!(root.open_beneath(OsStr::new("..")).is_err());
    }

    #[test]
    fn a_directory_that_was_removed_meanwhile_has_no_entries() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        root.create_dir(OsStr::new("below")).unwrap();
        let below = root.open_beneath(OsStr::new("below")).unwrap();
        root.remove_dir(OsStr::new("below")).unwrap();
        assert!(below.entries_if_there().unwrap().is_empty());
        assert_eq!(root.entries_if_there().unwrap().len(), 0);
    }

    #[test]
    fn several_may_remove_the_same_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        for _ in 0..50 {
            std::fs::create_dir_all(temp.path().join("tree/a/b")).unwrap();
            std::fs::write(temp.path().join("tree/a/file"), "x").unwrap();
            std::thread::scope(|scope| {
                let removers: Vec<_> = (0..4).map(|_| scope.spawn(|| root.remove_all(OsStr::new("tree")))).collect();
                removers.into_iter().for_each(|remover| remover.join().unwrap().unwrap());
            });
            assert!(!temp.path().join("tree").exists());
        }
    }

    #[test]
    fn what_is_appended_stands_at_the_end_of_a_plain_file_only() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        root.append(OsStr::new("log"), b"one ").unwrap();
        root.append(OsStr::new("log"), b"two").unwrap();
        assert_eq!(crate::read(&root.join("log")).unwrap(), b"one two");
        root.symlink(b"log", OsStr::new("link")).unwrap();
        root.create_dir(OsStr::new("dir")).unwrap();
        assert!(root.append(OsStr::new("link"), b"x").is_err() && root.append(OsStr::new("dir"), b"x").is_err());
        assert_eq!(crate::read(&root.join("log")).unwrap(), b"one two");
    }

    #[test]
    fn trees_deeper_than_a_path_may_be_are_opened_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let name = "d".repeat(200);
        let mut relative = OsString::new();
        for _ in 0..40 {
            root.open_beneath(&relative).unwrap().create_dir(OsStr::new(&name)).unwrap();
            relative = join_relative(&relative, OsStr::new(&name));
        }
        assert!(relative.len() > 8000);
        let deep = root.open_beneath(&relative).unwrap();
        deep.create_file(OsStr::new("file"), 0o400).unwrap();
        deep.set_mode_self(0o500).unwrap();
        root.remove_all(OsStr::new(&name)).unwrap();
        assert!(root.entries().unwrap().is_empty());
    }
}
