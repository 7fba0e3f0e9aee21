//! Real file systems in files, mounted as loop devices, and gone when the test is over.

use super::{has, is_root, said, tool};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A mounted file system.
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    _temp: TempDir,
}

impl Volume {
    /// Makes a file system of this kind, of `megabytes`; why not, where that cannot be.
    pub(crate) fn make(kind: &str, megabytes: u64, options: &[&str]) -> Result<Self, String> {
        let maker = format!("mkfs.{kind}");
        if !is_root() {
            return Err("mounting needs root".into());
        }
        if !has(&maker) {
            return Err(format!("there is no {maker}"));
        }
        let temp = tempfile::Builder::new().prefix("larder-volume-").tempdir().unwrap();
        let (image, path) = (temp.path().join("image"), temp.path().join("mnt"));
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        fs::create_dir(&path).unwrap();
        let force = if kind == "ext4" { "-F" } else { "-f" };
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"-q", &force];
        options.iter().for_each(|option| words.push(option));
        words.push(&image);
        tool(&maker, &words);
        Self::mount(temp, path, Command::new("mount").args(["-o", "loop"]).arg(image))
    }

    /// A file system in memory.
    pub(crate) fn tmpfs(megabytes: u64) -> Result<Self, String> {
        if !is_root() {
            return Err("mounting needs root".into());
        }
        let temp = tempfile::Builder::new().prefix("larder-volume-").tempdir().unwrap();
        let path = temp.path().join("mnt");
        fs::create_dir(&path).unwrap();
        let size = format!("size={megabytes}m");
        Self::mount(temp, path, Command::new("mount").args(["-t", "tmpfs", "-o", size.as_str(), "tmpfs"]))
    }

    /// What stands at `source`, seen here and only to be read.
    pub(crate) fn read_only(source: &Path) -> Result<Self, String> {
        let temp = tempfile::Builder::new().prefix("larder-volume-").tempdir().unwrap();
        let path = temp.path().join("mnt");
        fs::create_dir(&path).unwrap();
        let volume = Self::mount(temp, path, Command::new("mount").arg("--bind").arg(source))?;
        tool("mount", &[&"-o", &"remount,bind,ro", &volume.path]);
        Ok(volume)
    }

    fn mount(temp: TempDir, path: PathBuf, command: &mut Command) -> Result<Self, String> {
        let done = said(command.arg(&path));
        if done.code != Some(0) {
            return Err(format!("{command:?} failed: {done}"));
        }
        Ok(Self { path, _temp: temp })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        unmount_below(&self.path);
        let done = said(Command::new("umount").arg(&self.path));
        if done.code != Some(0) && !std::thread::panicking() {
            panic!("{} stays mounted: {done}", self.path.display());
        }
    }
}

/// Where something is mounted, as this process sees it.
pub(crate) fn mount_points() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(|path| path.replace("\\040", " ").into()).collect()
}

pub(crate) fn is_mounted(path: &Path) -> bool {
    mount_points().iter().any(|point| point == path)
}

/// Takes away what is mounted somewhere in `dir`, the last first.
pub(crate) fn unmount_below(dir: &Path) {
    for point in mount_points().iter().rev().filter(|point| *point != dir && point.starts_with(dir)) {
        drop(said(Command::new("umount").arg(point)));
    }
}
