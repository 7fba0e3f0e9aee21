//! Overlay mounts, and the private namespace in which an ordinary user may make them.

use crate::error::{Error, Result};
use crate::fault;
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Mounts `lower` (only read) under `upper` (all changes) at `target`.
/// `work` must be an empty directory on the file system of `upper`.
pub fn overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let fail = |e: std::io::Error| Error::new("mount overlay at", target, e);
    fault::check("mount").map_err(fail)?;
    let mut options = Vec::new();
    for (option, path) in [("lowerdir=", lower), (",upperdir=", upper), (",workdir=", work)] {
        options.extend_from_slice(option.as_bytes());
        // The kernel splits options at commas and lower directories at colons.
        for byte in path.as_os_str().as_bytes() {
            if matches!(byte, b'\\' | b',' | b':') {
                options.push(b'\\');
            }
            options.push(*byte);
        }
    }
    // As an ordinary user only `user.*` attributes can mark deletions.
    if rustix::process::geteuid().as_raw() != 0 || in_user_namespace() {
        options.extend_from_slice(b",userxattr");
    }
    let options = CString::new(options).map_err(|e| fail(e.into()))?;
    rustix::mount::mount("larder", target, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .map_err(|e| fail(e.into()))
}

/// Detaches the mount at `target`.
pub fn unmount(target: &Path) -> Result<()> {
    fault::check("unmount").map_err(|e| Error::new("unmount", target, e))?;
    rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|e| Error::new("unmount", target, e))
}

/// Whether a file system is mounted exactly at `path`.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let fail = |e: rustix::io::Errno| Error::new("examine", path, e);
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(CWD, path, flags, rustix::fs::StatxFlags::BASIC_STATS).map_err(fail)?;
    Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// Moves this process into a mount namespace of its own, and into a user namespace too where it is
/// not root, or a root without privileges. User and group stay what they are. Must run before the
/// process starts a thread.
pub fn enter_private_namespace() -> Result<()> {
    enter_namespace(MountPropagationFlags::PRIVATE)
}

/// The same; `propagation` says whether what is mounted or unmounted outside later is seen here. Nothing mounted here
/// may show outside.
pub(crate) fn enter_namespace(propagation: MountPropagationFlags) -> Result<()> {
    let this = Path::new("a private mount namespace");
    let fail = |e: std::io::Error| Error::new("enter", this, e);
    fault::check("enter").map_err(fail)?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let privileged = uid == 0 && unshare(UnshareFlags::NEWNS).is_ok();
    if !privileged {
        unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUSER).map_err(|e| fail(e.into()))?;
        // An unprivileged process may map its group only after giving up setgroups.
        for (file, map) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{uid} {uid} 1")),
            ("/proc/self/gid_map", format!("{gid} {gid} 1")),
        ] {
            std::fs::write(file, map).map_err(fail)?;
        }
    }
    rustix::mount::mount_change("/", propagation | MountPropagationFlags::REC).map_err(|e| fail(e.into()))
}

#[expect(unsafe_code, reason = "unshare can break assumptions of other threads; see SAFETY")]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: neither NEWNS nor NEWUSER unshares the file descriptor table, the case in which the
    // call is unsound; the kernel itself refuses NEWUSER in a process with several threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Whether this process runs in a user namespace other than the first.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}
