//! A mount namespace in which chosen directories also stand at other, fixed paths.
//!
//! ```text
//! /               a small read-only tmpfs
//! /usr, /home …   every entry of the machine's own root, bound
//! /larder/…       the chosen directories, bound
//! /larder/binds   which they are
//! /larder/host    the machine's own root, as it was
//! ```
//!
//! Nothing has to exist beforehand, nothing shows outside, and nothing is left: all of it ends with the last process
//! in it. User, group and all real paths stay what they are. Two paths of one file system may be two mounts here, and
//! then nothing can be linked or renamed from one to the other; where that matters, [`leave`].

use crate::error::{Error, Result};
use crate::fault;
use crate::mount::{enter_namespace, unmount};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_remount};
use rustix::process::{chdir, pivot_root};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory that the machine's own root does not have.
const OWN: &str = "/larder";
const HOST: &str = "/larder/host";
const BINDS: &str = "/larder/binds";

/// A directory and where else it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Its path on the machine.
    pub real: PathBuf,
    /// Its other path, somewhere below `/larder`.
    pub canonical: PathBuf,
}

/// Moves this process into a world where `binds` hold. Must run before the process starts a thread. Where it fails,
/// the process may be in between, and is good for nothing but saying so.
pub fn enter(binds: &[Bind]) -> Result<()> {
    enter_namespace(MountPropagationFlags::DOWNSTREAM)?;
    let root = Path::new("/");
    let mut names: Vec<_> = entries(root)?;
    // Any directory will do: it is covered only until the root is another one.
    names.sort_unstable_by_key(|name| name != "tmp");
    let is_dir = |name: &&std::ffi::OsString| fs::symlink_metadata(root.join(name)).is_ok_and(|meta| meta.is_dir());
    let stage = names.iter().find(is_dir).map(|name| root.join(name)).unwrap_or_else(|| root.to_path_buf());
    let fail = |what, path: &Path, e: std::io::Error| Error::new(what, path, e);
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("larder", &stage, "tmpfs", flags, Some(c"mode=755"))
        .map_err(|e| fail("mount a tmpfs at", &stage, e.into()))?;
    let below = stage.join(Path::new(HOST).strip_prefix(root).unwrap_or(Path::new(HOST)));
    fs::create_dir_all(&below).map_err(|e| fail("create directory", &below, e))?;
    pivot_root(&stage, &below).map_err(|e| fail("change the root to", &stage, e.into()))?;
    chdir(root).map_err(|e| fail("enter", root, e.into()))?;
    for name in names.iter().filter(|name| Path::new(OWN) != root.join(name)) {
        mirror(&Path::new(HOST).join(name), &root.join(name))?;
    }
    let mut list = Vec::new();
    for Bind { real, canonical } in binds {
        fs::create_dir_all(canonical).map_err(|e| fail("create directory", canonical, e))?;
        bind(&on_host(real), canonical)?;
        for path in [real, canonical] {
            list.extend_from_slice(path.as_os_str().as_bytes());
            list.push(0);
        }
    }
    fs::write(BINDS, list).map_err(|e| fail("write", Path::new(BINDS), e))?;
    // What a job made here would be gone with it: better that it hears so.
    mount_remount(root, MountFlags::BIND | MountFlags::RDONLY | flags, c"")
        .map_err(|e| fail("make read-only", root, e.into()))
}

/// Moves this process from a world to the machine as it is outside. Must run before the process starts a thread.
pub fn leave() -> Result<()> {
    enter_namespace(MountPropagationFlags::DOWNSTREAM)?;
    let host = Path::new(HOST);
    // A mount that came with the namespace is locked in its place; a new one of the same is not.
    bind(host, host)?;
    chdir(host).map_err(|e| Error::new("enter", host, e))?;
    // The old root comes to lie over the new one, and is taken off it.
    pivot_root(".", ".").map_err(|e| Error::new("change the root to", host, e))?;
    unmount(Path::new("."))?;
    chdir("/").map_err(|e| Error::new("enter", host, e))
}

/// The directories that stand elsewhere too, where this process is in a world.
pub fn current() -> Option<Vec<Bind>> {
    let list = fs::read(BINDS).ok()?;
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let paths: Vec<PathBuf> = list.split(|byte| *byte == 0).map(path).collect();
    Some(paths.chunks_exact(2).map(|pair| Bind { real: pair[0].clone(), canonical: pair[1].clone() }).collect())
}

fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let fail = |e| Error::new("list", dir, e);
    fs::read_dir(dir).map_err(fail)?.map(|entry| entry.map(|entry| entry.file_name()).map_err(fail)).collect()
}

fn on_host(path: &Path) -> PathBuf {
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}

/// Lets an entry of the old root stand in the new one.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    let fail = |e| Error::new("mirror", to, e);
    let kind = fs::symlink_metadata(from).map_err(fail)?.file_type();
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from).map_err(fail)?, to).map_err(fail);
    }
    if kind.is_dir() {
        fs::create_dir(to).map_err(fail)?;
    } else {
        fs::File::create_new(to).map_err(fail)?;
    }
    bind(from, to)
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    fault::check("bind").map_err(|e| Error::new("bind", from, e))?;
    mount_bind_recursive(from, to).map_err(|e| Error::new("bind", from, e))
}
