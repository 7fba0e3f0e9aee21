//! Whole files and paths that do not lie in a tree: the store's own files, the user's arguments.

use crate::dir::{Dir, unread};
use crate::error::{Error, Result};
use crate::fault;
use crate::meta::{Meta, Timestamp};
use rustix::fs::{AtFlags, CWD};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

/// The contents of the file at `path`.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fault::check("read").map_err(|e| Error::new("read", path, e))?;
    fs::read(path).map_err(|e| Error::new("read", path, e))
}

/// The contents of the file at `path`, or `None` where there is none.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes `parts` to the new file `name` of `dir`; with `sync` they are durable afterwards.
pub fn write_new(dir: &Dir, name: &OsStr, parts: &[&[u8]], sync: bool) -> Result<()> {
    let mut file = dir.create_file(name, 0o644)?;
    let fail = |e: std::io::Error| Error::new("write", dir.join(name), e);
    fault::check("write").map_err(fail)?;
    for part in parts {
        file.write_all(part).map_err(fail)?;
    }
    if sync {
        fault::check("sync").map_err(fail)?;
        file.sync_all().map_err(fail)?;
    }
    Ok(())
}

/// Makes the contents of the file `name` of `dir` durable.
pub fn sync_file(dir: &Dir, name: &OsStr) -> Result<()> {
    let file = dir.open_file(name)?;
    let fail = |e: std::io::Error| Error::new("sync", dir.join(name), e);
    fault::check("sync").map_err(fail)?;
    file.sync_all().map_err(fail)
}

/// Makes the directory at `path` and those above it.
pub fn create_parents(path: &Path) -> Result<()> {
    fault::check("create directory").map_err(|e| Error::new("create directory", path, e))?;
    fs::create_dir_all(path).map_err(|e| Error::new("create directory", path, e))
}

/// Reads at most `limit` bytes of an open file, from its position.
pub fn read_up_to(file: &fs::File, limit: u64, path: &Path) -> Result<Vec<u8>> {
    fault::check("read").map_err(|e| Error::new("read", path, e))?;
    // A length from a file's own words is not believed before as many bytes are there.
    let mut bytes = Vec::with_capacity(usize::try_from(limit).unwrap_or(0).min(1 << 20));
    file.take(limit).read_to_end(&mut bytes).map_err(|e| Error::new("read", path, e))?;
    Ok(bytes)
}

/// What stands at `path`, symbolic links not followed; `None` where nothing does.
pub fn metadata(path: &Path) -> Result<Option<Meta>> {
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Meta::from_stat(&stat))),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::new("examine", path, e)),
    }
}

/// Whether anything stands at `path`, a dangling link included.
pub fn exists(path: &Path) -> bool {
    matches!(metadata(path), Ok(Some(_)))
}

/// Removes whatever stands at `path`, with all below it; absence is success.
pub fn remove_tree(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("remove", path, std::io::Error::from(std::io::ErrorKind::InvalidInput)));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match Dir::open_optional(parent)? {
        Some(dir) => dir.remove_all(name),
        None => Ok(()),
    }
}

/// The path of something that exists, with every link resolved.
pub fn canonicalize(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|e| Error::new("resolve", path, e))
}

/// The absolute path of `path` with the links in its *parent* resolved as far as it exists; the last
/// component is kept as it is, so that a link there names the same place before and after it exists.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|e| Error::new("resolve", path, e))?;
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                // `a/..` is only `.` where `a` is no link: resolve what stands before it first.
                if let Ok(real) = fs::canonicalize(&plain) {
                    plain = real;
                }
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    let (Some(parent), Some(name)) = (plain.parent(), plain.file_name()) else { return Ok(plain) };
    let mut missing: Vec<OsString> = vec![name.to_os_string()];
    let mut existing = parent;
    loop {
        if let Ok(real) = fs::canonicalize(existing) {
            return Ok(missing.iter().rev().fold(real, |path, name| path.join(name)));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_os_string());
                existing = parent;
            }
            _ => return Ok(plain),
        }
    }
}

/// Like [`resolve`], with a link in the last component resolved too where it leads somewhere.
pub fn resolve_fully(path: &Path) -> Result<PathBuf> {
    let resolved = resolve(path)?;
    Ok(fs::canonicalize(&resolved).unwrap_or(resolved))
}

/// Writes the bytes of a file that was just created or cut to nothing.
pub fn set_up_file(mut file: &fs::File, bytes: &[u8], path: &Path) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    fault::check("write").map_err(|e| Error::new("write", path, e))?;
    file.write_all(bytes).map_err(|e| Error::new("write", path, e))
}

/// Sets the length of an open file.
pub fn set_length(file: &fs::File, length: u64, path: &Path) -> Result<()> {
    fault::check("cut").map_err(|e| Error::new("cut", path, e))?;
    file.set_len(length).map_err(|e| Error::new("cut", path, e))
}

/// Gives an open file its final permission bits and modification time; returns its stat before that. Its access time
/// becomes 1970, so that whoever wants to know can see later whether it was read.
pub fn finish_file(file: &fs::File, mode: u32, mtime: Timestamp, path: &Path) -> Result<Meta> {
    let fail = |e: std::io::Error| Error::new("stamp", path, e);
    fault::check("stamp").map_err(fail)?;
    let meta = file_meta(file, path)?;
    if meta.mode != mode {
        rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode)).map_err(|e| fail(e.into()))?;
    }
    rustix::fs::futimens(file, &unread(mtime)).map_err(|e| fail(e.into()))?;
    Ok(meta)
}

/// What the kernel says of an open file.
pub fn file_meta(file: &fs::File, path: &Path) -> Result<Meta> {
    rustix::fs::fstat(file).map(|stat| Meta::from_stat(&stat)).map_err(|e| Error::new("examine", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_up_to_what_exists_and_the_last_link_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(temp.path()).unwrap();
        fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        assert_eq!(resolve(&base.join("link/a/b")).unwrap(), base.join("real/a/b"));
        assert_eq!(resolve(&base.join("link")).unwrap(), base.join("link"));
        assert_eq!(resolve(&base.join("link/../x")).unwrap(), base.join("x"));
        assert_eq!(resolve_fully(&base.join("link")).unwrap(), base.join("real"));
        assert_eq!(resolve_fully(&base.join("none/x")).unwrap(), base.join("none/x"));
    }
}
