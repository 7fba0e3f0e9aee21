//! The file system that a directory lies on: its kind, its room, its durability.

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::fault;
use rustix::fs::{AtFlags, StatxFlags};

/// File systems that larder treats in ways of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsType {
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// An overlay of others.
    Overlay,
    /// Memory.
    Tmpfs,
    /// Any other.
    Other,
}

impl FsType {
    /// The name to show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Overlay => "overlay",
            Self::Tmpfs => "tmpfs",
            Self::Other => "other",
        }
    }
}

/// Room on a file system, for the calling user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All bytes.
    pub total: u64,
    /// Bytes that may still be written.
    pub available: u64,
    /// Bytes that nobody has written to, those kept back for the system among them.
    pub free: u64,
    /// All inodes; 0 where the file system does not count them.
    pub inodes: u64,
    /// Inodes that may still be made; `u64::MAX` where the file system does not count them.
    pub inodes_available: u64,
}

/// The file system that holds a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Device number, equal for two directories between which files can be linked.
    pub dev: u64,
    /// Mount through which it is seen, equal for two directories between which files can be renamed; 0
    /// where the kernel does not say.
    pub mount: u64,
    /// Its kind.
    pub fs_type: FsType,
}

impl Space {
    /// Bytes in use, and all that can be, as df counts: what is kept back for the system can be used by nobody.
    pub fn used(&self) -> (u64, u64) {
        let used = self.total.saturating_sub(self.free);
        (used, used.saturating_add(self.available))
    }

    /// Files that there are, and that can be; `None` where the file system does not count them.
    pub fn inodes_used(&self) -> Option<(u64, u64)> {
        (self.inodes > 0).then(|| (self.inodes.saturating_sub(self.inodes_available), self.inodes))
    }
}

impl Volume {
    /// The file system that holds `dir`.
    pub fn of(dir: &Dir) -> Result<Self> {
        let stat = rustix::fs::fstatfs(dir.fd()).map_err(|e| Error::new("examine", dir.path(), e))?;
        // Magic numbers from linux/magic.h.
        let fs_type = match u64::try_from(stat.f_type).unwrap_or(0) & 0xffff_ffff {
            0xef53 => FsType::Ext,
            0x5846_5342 => FsType::Xfs,
            0x9123_683e => FsType::Btrfs,
            0x794c_7630 => FsType::Overlay,
            0x0102_1994 => FsType::Tmpfs,
            _ => FsType::Other,
        };
        Ok(Self { dev: dir.stat_self()?.dev, mount: mount_of(dir)?, fs_type })
    }

    /// Whether files can be renamed from here to there: the same file system through the same mount.
    pub fn can_rename_to(&self, other: &Self) -> bool {
        self.dev == other.dev && self.mount == other.mount
    }

    /// Whether a lock there keeps out whoever else can reach the file: no other machine writes to these.
    pub fn has_true_locks(&self) -> bool {
        matches!(self.fs_type, FsType::Ext | FsType::Xfs | FsType::Btrfs | FsType::Tmpfs)
    }

    /// The room left for the calling user on the file system of `dir`.
    pub fn space(dir: &Dir) -> Result<Space> {
        let stat = rustix::fs::fstatvfs(dir.fd()).map_err(|e| Error::new("examine", dir.path(), e))?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            free: stat.f_bfree.saturating_mul(stat.f_frsize),
            inodes: stat.f_files,
            inodes_available: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
        })
    }

    /// Makes everything written so far to the file system of `dir` durable.
    pub fn sync(dir: &Dir) -> Result<()> {
        fault::check("sync").map_err(|e| Error::new("sync", dir.path(), e))?;
        rustix::fs::syncfs(dir.fd()).map_err(|e| Error::new("sync", dir.path(), e))
    }
}

fn mount_of(dir: &Dir) -> Result<u64> {
    match rustix::fs::statx(dir.fd(), "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) {
        Ok(stat) if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 => Ok(stat.stx_mnt_id),
        // Kernels before 5.8, and sandboxes that do not know the call.
        Ok(_) | Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => Ok(0),
        Err(e) => Err(Error::new("examine", dir.path(), e)),
    }
}
