//! What the kernel says of one file: enough to tell whether it changed, and to make it again.

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// The longest time between two ticks of the clock that stamps files (CONFIG_HZ=100): what is written within one tick
/// has one time.
pub const CLOCK_TICK: Duration = Duration::from_millis(10);

/// A point in time as file systems keep it, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// The current time by the precise clock (file systems use a coarser one).
    pub fn now() -> Self {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() },
            Err(before) => Self { secs: -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX), nanos: 0 },
        }
    }

    /// Nanoseconds since 1970, saturating where 64 bits do not hold them.
    pub fn as_nanos(self) -> i64 {
        self.secs.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanos))
    }
}

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
}

/// What `stat` says of an entry, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The kind of the entry.
    pub kind: Kind,
    /// Number of the device that holds it.
    pub dev: u64,
    /// Its inode number, unique on its device.
    pub ino: u64,
    /// Permission bits with setuid, setgid and sticky (0o7777).
    pub mode: u32,
    /// How many names the inode has.
    pub nlink: u64,
    /// Length in bytes.
    pub size: u64,
    /// Allocated space in units of 512 bytes; less than the length for sparse files.
    pub blocks: u64,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last time it was read, where the file system keeps that (`relatime` does when it is older than mtime).
    pub atime: Timestamp,
    /// Last change of anything, set by the kernel alone; a new name or mode moves it too.
    pub ctime: Timestamp,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Meta {
    #[expect(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the field types differ between architectures"
    )]
    pub(crate) fn from_stat(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::BlockDevice | FileType::CharacterDevice => Kind::Device,
            _ => Kind::File,
        };
        Self {
            kind,
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            mode: stat.st_mode & 0o7777,
            nlink: stat.st_nlink as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            mtime: Timestamp { secs: i64::from(stat.st_mtime), nanos: stat.st_mtime_nsec as u32 },
            atime: Timestamp { secs: i64::from(stat.st_atime), nanos: stat.st_atime_nsec as u32 },
            ctime: Timestamp { secs: i64::from(stat.st_ctime), nanos: stat.st_ctime_nsec as u32 },
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    /// Whether the file has holes.
    pub fn is_sparse(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }
}
