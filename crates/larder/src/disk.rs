//! How full disks may be, and what the settings ask of eviction.

use crate::amount::Size;
use crate::settings::Settings;
use anyhow::Result;
use larder_fs::{Dir, Space, Timestamp, Volume};
use larder_store::evict::Freed;
use larder_store::{GcRequest, Grace, Header, Retention, Store};
use std::time::Duration;

/// Snapshots of CARGO_HOME have this label.
const CARGO_HOME: &str = "cargo-home";
/// Snapshots of directories that somebody named have this label.
const PATHS: &str = "paths";
/// A lineage that was used within this time keeps a snapshot, unless only that is left to make room.
const RECENT: Duration = Duration::from_secs(7 * 86_400);

/// Between which marks a disk is kept, in percent of what can be used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Above this one something is done.
    pub(crate) high: u8,
    /// Until it is below this one.
    pub(crate) low: u8,
}

impl Marks {
    /// What has to go free: nothing up to the high mark, else down to the low one. Of bytes and of files.
    pub(crate) fn wanted(self, space: &Space) -> Freed {
        let down = |used: u64, all: u64| {
            let part = |percent: u8| u64::try_from(u128::from(all) * u128::from(percent) / 100).unwrap_or(u64::MAX);
            if used > part(self.high) { used - part(self.low).min(used) } else { 0 }
        };
        let (used, all) = space.used();
        Freed { bytes: down(used, all), inodes: space.inodes_used().map_or(0, |(used, all)| down(used, all)) }
    }
}

/// What is asked beside the settings.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    /// So much is to be free on the store's file system.
    pub(crate) need: Option<Size>,
    /// Evict as far as the marks ask for it, and no further.
    pub(crate) by_marks: bool,
    /// Change nothing.
    pub(crate) dry_run: bool,
    /// Nobody asked for it, and a job waits: give up soon where others are at work.
    pub(crate) unasked: bool,
    /// Snapshots that stay because they are about to be restored.
    pub(crate) expected: &'a [String],
}

/// How long a person who asked waits for others, and a job that did not.
const PATIENCE: Duration = Duration::from_secs(30);
const UNASKED: Duration = Duration::from_secs(1);

/// Lets `collect` have what the settings ask of an eviction.
pub(crate) fn with_request<T>(
    store: &Store,
    settings: &Settings,
    asked: Asked<'_>,
    collect: impl FnOnce(&GcRequest<'_>) -> Result<T>,
) -> Result<T> {
    let marks = Marks { high: settings.high.value, low: settings.low.value };
    let wanted = |space: &Space| {
        let by_marks = if asked.by_marks { marks.wanted(space) } else { Freed::default() };
        let needed = asked.need.map_or(0, |need| need.0.saturating_sub(space.available));
        Freed { bytes: by_marks.bytes.max(needed), ..by_marks }
    };
    let (keep, keep_cargo_home) = (settings.keep.value, settings.keep_cargo_home.value);
    let retention = |header: &Header| match header.label.as_str() {
        CARGO_HOME => Retention { newest: keep_cargo_home, each_key: false },
        PATHS => Retention { newest: keep, each_key: true },
        _ => Retention { newest: keep, each_key: false },
    };
    let dir = Dir::open(store.path())?;
    let total = Volume::space(&dir)?.total;
    // A save keeps the store's lock until its snapshot has a name. Where nobody gets round that lock, what has no
    // snapshot while larder holds it is of a save that died.
    let blobs = if Volume::of(&dir)?.has_true_locks() { Duration::ZERO } else { Grace::default().blobs };
    collect(&GcRequest {
        now: Timestamp::now(),
        retention: &retention,
        max_age: settings.max_age.value.0,
        recent: RECENT,
        budget: settings.budget.value.bytes(total),
        wanted: &wanted,
        only_for_space: asked.by_marks,
        lease: settings.lease.value.0.unwrap_or(Duration::MAX),
        grace: Grace { blobs, ..Grace::default() },
        expected: asked.expected,
        patience: if asked.unasked { UNASKED } else { PATIENCE },
        dry_run: asked.dry_run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wanted_up_to_the_high_mark_and_then_down_to_the_low_one() {
        let marks = Marks { high: 80, low: 70 };
        // A tenth is kept back for the system.
        let space = |used: u64, inodes_used: u64| Space {
            total: 1100,
            free: 1100 - used,
            available: 1000 - used,
            inodes: 100,
            inodes_available: 100 - inodes_used,
        };
        assert_eq!(marks.wanted(&space(800, 80)), Freed::default());
        assert_eq!(marks.wanted(&space(801, 10)), Freed { bytes: 101, inodes: 0 });
        assert_eq!(marks.wanted(&space(10, 95)), Freed { bytes: 0, inodes: 25 });
        let uncounted = Space { inodes: 0, inodes_available: u64::MAX, ..space(1000, 0) };
        assert_eq!(marks.wanted(&uncounted), Freed { bytes: 300, inodes: 0 });
    }
}
