//! Moving the bytes of one file into another: by reference where the file system shares extents,
//! else by copy, holes kept, with the digest computed on the way when it is wanted.

use crate::error::{Error, Result};
use crate::fault;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Bytes read at once; two of these a thread are all the memory that a copy needs.
const CHUNK: usize = 512 * 1024;

/// What became of an attempt to share extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflink {
    /// The files now share their extents.
    Done,
    /// This pair of file systems cannot; the reason is the kernel's.
    Unsupported(&'static str),
}

/// How bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMethod {
    /// Inside the kernel, by `copy_file_range`.
    Kernel,
    /// Through this process, so that they could be digested.
    Digest,
}

/// Makes `to` share the extents of `from` (`FICLONE`).
pub fn clone_file(from: &File, to: &File, path: &Path) -> Result<Reflink> {
    fault::check("reflink").map_err(|e| Error::new("reflink", path, e))?;
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(Reflink::Done),
        Err(Errno::XDEV) => Ok(Reflink::Unsupported("store and destination are on different file systems")),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
            Ok(Reflink::Unsupported("the file system does not share extents"))
        }
        Err(e) => Err(Error::new("reflink", path, e)),
    }
}

/// Copies `from`, from its start, to the empty file `to`, and keeps the holes of a sparse file.
/// With `hasher` the bytes pass through this process and are digested, holes as zeros.
/// Returns the length copied.
pub fn copy_contents(
    from: &File,
    to: &File,
    sparse: bool,
    mut hasher: Option<&mut blake3::Hasher>,
    path: &Path,
) -> Result<(u64, CopyMethod)> {
    let fail = |e: std::io::Error| Error::new("copy to", path, e);
    fault::check("copy to").map_err(fail)?;
    let mut buffer = Vec::new();
    let method = if hasher.is_some() { CopyMethod::Digest } else { CopyMethod::Kernel };
    if !sparse {
        let copied = copy_range(from, to, None, &mut hasher, &mut buffer).map_err(fail)?;
        return Ok((copied, method));
    }
    let length = from.metadata().map_err(fail)?.len();
    let mut position = 0;
    while position < length {
        let data = match rustix::fs::seek(from, SeekFrom::Data(position)) {
            Ok(data) => data,
            Err(Errno::NXIO) => length,
            Err(e) => return Err(fail(e.into())),
        };
        hash_zeros(&mut hasher, data.min(length) - position);
        if data >= length {
            break;
        }
        let hole = rustix::fs::seek(from, SeekFrom::Hole(data)).map_err(|e| fail(e.into()))?.min(length);
        rustix::fs::seek(from, SeekFrom::Start(data)).map_err(|e| fail(e.into()))?;
        rustix::fs::seek(to, SeekFrom::Start(data)).map_err(|e| fail(e.into()))?;
        let copied = copy_range(from, to, Some(hole - data), &mut hasher, &mut buffer).map_err(fail)?;
        position = data + copied;
        if copied < hole - data {
            // The file shrank under us; its caller compares lengths.
            return Ok((position, method));
        }
    }
    rustix::fs::ftruncate(to, length).map_err(|e| fail(e.into()))?;
    Ok((length, method))
}

fn copy_range(
    mut from: &File,
    mut to: &File,
    limit: Option<u64>,
    hasher: &mut Option<&mut blake3::Hasher>,
    buffer: &mut Vec<u8>,
) -> std::io::Result<u64> {
    let mut copied = 0;
    if hasher.is_none() {
        loop {
            let want = limit.map_or(1 << 30, |limit| (limit - copied).min(1 << 30));
            if want == 0 {
                return Ok(copied);
            }
            match rustix::fs::copy_file_range(from, None, to, None, want as usize) {
                Ok(0) => break,
                Ok(n) => copied += n as u64,
                Err(Errno::INTR) => {}
                // Old kernels refuse across file systems, some file systems at all: copy by hand.
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) if copied == 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        // A length of zero may also mean a file that only claims to be empty (procfs): read to be sure.
    }
    buffer.resize(CHUNK, 0);
    loop {
        let want = limit.map_or(CHUNK, |limit| usize::try_from(limit - copied).unwrap_or(CHUNK).min(CHUNK));
        if want == 0 {
            return Ok(copied);
        }
        let n = match from.read(&mut buffer[..want]) {
            Ok(0) => return Ok(copied),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if let Some(hasher) = hasher {
            hasher.update(&buffer[..n]);
        }
        to.write_all(&buffer[..n])?;
        copied += n as u64;
    }
}

fn hash_zeros(hasher: &mut Option<&mut blake3::Hasher>, mut count: u64) {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let Some(hasher) = hasher else { return };
    while count > 0 {
        let n = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..n as usize]);
        count -= n;
    }
}

/// The BLAKE3 digest and length of a file's bytes, read in chunks.
pub fn digest_file(mut file: &File, path: &Path) -> Result<(blake3::Hash, u64)> {
    let fail = |e: std::io::Error| Error::new("read", path, e);
    fault::check("read").map_err(fail)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finalize(), hasher.count())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(fail(e)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom as StdSeek};

    fn sparse_file(path: &Path) -> File {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.set_len(8 << 20).unwrap();
        file.seek(StdSeek::Start(3 << 20)).unwrap();
        file.write_all(b"in the middle").unwrap();
        file.seek(StdSeek::Start(0)).unwrap();
        file
    }

    #[test]
    fn holes_stay_holes_and_count_as_zeros_in_the_digest() {
        let temp = tempfile::tempdir().unwrap();
        let from = sparse_file(&temp.path().join("from"));
        for digest in [false, true] {
            let path = temp.path().join(format!("to-{digest}"));
            let to = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
            (&from).seek(StdSeek::Start(0)).unwrap();
            let mut hasher = blake3::Hasher::new();
            let (length, _) = copy_contents(&from, &to, true, digest.then_some(&mut hasher), &path).unwrap();
            assert_eq!(length, 8 << 20);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes, std::fs::read(temp.path().join("from")).unwrap());
            if digest {
                assert_eq!(hasher.finalize(), blake3::hash(&bytes));
            }
            let blocks = std::os::unix::fs::MetadataExt::blocks(&to.metadata().unwrap());
            assert!(blocks * 512 < 1 << 20, "{blocks} blocks were allocated");
        }
    }
}
