//! Whether a snapshot lies in the past.
//!
//! A source that is touched now must be newer than everything that was built before, or a build tool takes what is
//! stale for fresh. A snapshot from a clock that ran ahead breaks that: its blobs cannot be given other times,
//! since other directories share them, so it is passed over.

use crate::events::Events;
use crate::snapshot::Snapshot;
use larder_fs::{CLOCK_TICK, Timestamp};
use std::time::Duration;

/// So little is waited for: the snapshot was published a moment ago.
const SHORT: i64 = 200_000_000;

/// Whether everything in the snapshot is older than what will be touched from now on.
pub(super) fn has_passed(snapshot: &Snapshot, events: &dyn Events) -> bool {
    let inodes = snapshot.roots.iter().flat_map(|root| &root.inodes).map(|inode| inode.mtime);
    let stamps = snapshot.provenance.stamps.iter().map(|stamp| stamp.mtime);
    let newest = inodes.chain(stamps).max().unwrap_or_default();
    let tick = i64::try_from(CLOCK_TICK.as_nanos()).expect("a tick is short");
    // The clock that stamps files lags behind the precise one by up to a tick.
    let ahead = newest.as_nanos().saturating_add(tick).saturating_sub(Timestamp::now().as_nanos());
    match ahead {
        ..0 => true,
        0..SHORT => {
            std::thread::sleep(Duration::from_nanos(u64::try_from(ahead).unwrap_or(0)));
            true
        }
        _ => {
            events.warn(&format!(
                "the snapshot {} holds a file dated {} s after now: the clock runs behind the one that it was made \
                 with, so it is passed over",
                snapshot.header.id,
                ahead / 1_000_000_000
            ));
            false
        }
    }
}
