//! Btrfs subvolumes: directories that the file system can copy whole in constant time.

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::fault;
use crate::volume::{FsType, Volume};
use rustix::fd::AsRawFd;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Inode number of every subvolume's root (BTRFS_FIRST_FREE_OBJECTID in linux/btrfs_tree.h).
const ROOT_INODE: u64 = 256;
/// The ioctl group of Btrfs (BTRFS_IOCTL_MAGIC in linux/btrfs.h).
const MAGIC: u8 = 0x94;

/// `struct btrfs_ioctl_vol_args_v2` of linux/btrfs.h.
#[repr(C)]
struct VolumeArgs {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// Whether `dir` is the root of a Btrfs subvolume.
pub fn is_subvolume(dir: &Dir) -> Result<bool> {
    Ok(Volume::of(dir)?.fs_type == FsType::Btrfs && dir.stat_self()?.ino == ROOT_INODE)
}

/// Makes the empty subvolume `name` in `parent`.
pub fn create(parent: &Dir, name: &OsStr) -> Result<()> {
    // BTRFS_IOC_SUBVOL_CREATE_V2
    call::<{ rustix::ioctl::opcode::write::<VolumeArgs>(MAGIC, 24) }>(parent, "create subvolume", name, 0)
}

/// Makes `name` in `parent` a writable copy of the subvolume `source`, in constant time.
pub fn snapshot(source: &Dir, parent: &Dir, name: &OsStr) -> Result<()> {
    // BTRFS_IOC_SNAP_CREATE_V2
    let source = i64::from(source.fd().as_raw_fd());
    call::<{ rustix::ioctl::opcode::write::<VolumeArgs>(MAGIC, 23) }>(parent, "snapshot subvolume to", name, source)
}

#[expect(unsafe_code, reason = "rustix has no wrapper for the ioctls of Btrfs")]
fn call<const OPCODE: rustix::ioctl::Opcode>(parent: &Dir, op: &'static str, name: &OsStr, fd: i64) -> Result<()> {
    let fail = |e: std::io::Error| Error::new(op, parent.join(name), e);
    fault::check(op).map_err(fail)?;
    let mut args = VolumeArgs { fd, transid: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    // The name is read up to its NUL and must be one component of at most 255 bytes.
    if name.is_empty() || name.len() > 255 {
        return Err(fail(rustix::io::Errno::NAMETOOLONG.into()));
    }
    args.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the opcode's direction and size describe `VolumeArgs`, whose layout is the kernel's;
    // the kernel reads it and keeps no reference; the descriptors outlive the call.
    let done = unsafe { rustix::ioctl::ioctl(parent.fd(), rustix::ioctl::Setter::<OPCODE, VolumeArgs>::new(args)) };
    done.map_err(|e| fail(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_has_the_size_that_the_kernel_expects() {
        assert_eq!(size_of::<VolumeArgs>(), 4096);
    }

    #[test]
    fn other_file_systems_refuse_with_an_error() {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert!(!is_subvolume(&dir).unwrap());
        assert!(create(&dir, OsStr::new("sub")).is_err());
        assert!(create(&dir, OsStr::new(&"n".repeat(300))).is_err());
    }
}
