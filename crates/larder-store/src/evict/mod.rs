//! Which snapshots are worth least: a plan, made from numbers alone.
//!
//! | module | its one idea |
//! |---|---|
//! | `chance` | how often a snapshot will be restored, from what was used and when |
//! | `sizes` | what goes free when some snapshots go, though they share blobs |
//! | `plan` | who goes, in which order, until there is room |
//!
//! Nothing here reads a clock or a disk: [`crate::Store::gc`] gathers the numbers and carries the plan out, and the
//! simulator of `docs/eviction.md` replays a month with the same code.

pub(crate) mod chance;
pub(crate) mod plan;
pub(crate) mod sizes;

use larder_fs::Timestamp;
use std::fmt;
use std::time::Duration;

pub use sizes::{Freed, Sizes};

/// A snapshot as eviction sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name. Names of one place rise with every save, whatever the clock did: the greatest is the newest.
    pub id: String,
    /// The sequence of snapshots that it belongs to: those of one repository and job.
    pub lineage: String,
    /// When it was published.
    pub created: Timestamp,
    /// When it was restored, as far as that is known; in any order.
    pub uses: Vec<Timestamp>,
    /// What a restore of it spares while nothing else of its lineage is there, in milliseconds of building.
    pub alone_ms: u64,
    /// What a restore of it spares compared with a restore of what else there is of its lineage, in milliseconds.
    pub beside_ms: u64,
    /// So many snapshots of its lineage may stay, the newest ones.
    pub keep: usize,
    /// Why it must stay.
    pub held: Option<Held>,
    /// What it was built from, where that is known: of those of a lineage that have the same all but one are repeats.
    pub built_from: Option<String>,
    /// Whether its build failed: then it is a repeat of one that did not, however new it is.
    pub failed: bool,
}

/// Why a snapshot must not be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Somebody pinned it.
    Pinned,
    /// A job restored it, and has not ended as far as is known.
    Leased,
}

/// What a plan has to reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The present time.
    pub now: Timestamp,
    /// Snapshots that were not used for so long are dropped; `None` to keep them.
    pub max_age: Option<Duration>,
    /// A lineage that was used within this time keeps a snapshot, unless only that is left to make room.
    pub recent: Duration,
    /// Bytes of the store that have to go for its budget.
    pub over_budget: u64,
    /// What has to go free on the store's file system.
    pub wanted: Freed,
    /// Drop what is old or too many only as far as `over_budget` and `wanted` ask for it.
    pub only_for_space: bool,
}

/// Who goes, the first one first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they go.
    pub evictions: Vec<Eviction>,
    /// What all of them free.
    pub freed: Freed,
    /// What cannot be reached; `None` where all is.
    pub short: Option<Short>,
}

/// One snapshot that goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// Which candidate it is.
    pub index: usize,
    /// Its name.
    pub id: String,
    /// Why it goes.
    pub reason: Reason,
    /// What it frees, once those before it are gone.
    pub freed: Freed,
    /// Milliseconds of building that it was expected to spare a day, for each gigabyte.
    pub worth: f64,
}

/// Why a snapshot is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another one of its lineage was built from the same sources under the same key: a newer one, or one that did not
    /// fail.
    Repeated,
    /// It was not used for so long.
    Unused(Duration),
    /// So many newer ones of its lineage may stay, and do.
    Surplus(usize),
    /// The store is over its budget, and this is worth least.
    Budget,
    /// The disk is too full, and this is worth least.
    Room,
}

impl Reason {
    /// Whether it goes before all others.
    pub(crate) fn is_repeated(self) -> bool {
        self == Self::Repeated
    }

    /// In a word, for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::Unused(_) => "unused",
            Self::Surplus(_) => "surplus",
            Self::Budget => "budget",
            Self::Room => "room",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated => f.write_str("another one of its lineage was built from the same sources"),
            Self::Unused(time) => write!(f, "unused for {} days", time.as_secs() / 86_400),
            Self::Surplus(keep) => write!(f, "{keep} newer ones of its lineage stay"),
            Self::Budget => f.write_str("worth least while the store is over its budget"),
            Self::Room => f.write_str("worth least while room is needed"),
        }
    }
}

/// What could not be reached, and who is in the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short {
    /// Bytes by which the store stays over its budget.
    pub over_budget: u64,
    /// What is still wanted on the file system.
    pub wanted: Freed,
    /// Snapshots that are pinned.
    pub pinned: usize,
    /// Snapshots that a job has restored.
    pub leased: usize,
    /// Snapshots that would free nothing: their blobs are linked from a workspace, or held with a snapshot that stays.
    pub bound: usize,
}

pub use plan::plan;
