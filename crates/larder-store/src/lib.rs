//! The larder store: directories saved as snapshots and restored exactly, by many processes at once.
//!
//! Architecture invariant: a synchronous library that owns the on-disk format. It knows nothing of
//! cargo, of command lines, of the environment or of terminals. What it must know about files it is
//! told through [`Policy`]; what it has to say it says through [`Events`].

mod answers;
mod blob;
mod census;
mod error;
mod events;
pub mod evict;
mod gc;
mod history;
mod join;
mod lease;
mod lineage;
mod link_mode;
mod manifest;
mod mirrors;
mod policy;
mod provenance;
mod remove;
mod repair;
mod reserve;
mod restore;
mod save;
mod session;
mod snapshot;
mod sources;
mod store;
mod sweep;
mod trees;
mod verify;

pub use blob::{Digest, SaveId};
pub use census::{Census, Counted, Sums, Totals};
pub use error::{Error, Result};
pub use events::{Events, Phase};
pub use gc::{Collected, Evicted, GcRequest, Retention};
pub use history::{
    Built, Disk, EVENT_VERSION, Event, EventKind, EventOutcome, History, LONGEST_EVENT, MONTHS_KEPT, SlowUnit,
};
pub use lease::{Lease, Pin};
pub use lineage::{JOB, Lineage};
pub use link_mode::LinkMode;
pub use manifest::{Content, DirEntry, Inode, Link, Manifest, Symlink};
pub use mirrors::{Mirror, NewMirror, OldMirror};
pub use policy::{Fallout, Opaque, Policy, Treatment};
pub use provenance::{Provenance, SOURCES, Stamp, State};
pub use remove::Removed;
pub use repair::{Concerned, Ending, Remedy, Repaired, Step};
pub use restore::{AddRequest, Guide, Outcome, RestoreRequest, Restored, Root, Wants, Work};
pub use save::{Review, SaveRequest, Saved};
pub use session::Use;
pub use snapshot::{Found, Header, Place, PlaceRoots, RootSummary, Snapshot, Worth, decode_manifests, encode, parse};
pub use sources::{Observed, Remembered, Source, Time};
pub use store::{FORMAT_VERSION, Store};
pub use sweep::{Grace, Swept};
pub use trees::TreeKind;
pub use verify::Verified;
