//! How often a snapshot will be restored.
//!
//! Three observations make the model. A lineage that is busy stays busy for some days and then goes quiet: so its
//! events are counted over the time in which they happened, and what is expected of it halves with every
//! [`HALF_LIFE`] of silence. Within a lineage nearly every job takes the newest snapshot, and an older one only where
//! that fits better (another branch): so each place further down is worth a fixed part of the one above. And a
//! snapshot that *was* taken though newer ones stood there is some branch's newest: each such use counts for itself.
//!
//! The numbers were chosen with the simulator (`docs/eviction.md`); the outcome depends little on them.

use super::Candidate;
use larder_fs::Timestamp;

const DAY: f64 = 86_400e9;
/// After so many days of silence half as much is expected.
const HALF_LIFE: f64 = 2.0;
/// What an older snapshot is expected to be used, as part of what the next newer one is.
const OLDER: f64 = 0.4;
/// Uses a day that one use of an older snapshot stands for.
const CHOSEN: f64 = 0.5;
/// Events are counted over no less than so many days: two within a minute are no thousand a day.
const SHORTEST: f64 = 0.5;

/// What all snapshots of a lineage say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lineage {
    /// Restores a day that are expected.
    rate: f64,
    /// When it was used last, in nanoseconds since 1970; never in the future.
    pub(crate) used: i64,
}

/// A time that a clock may have got wrong: nothing was used in the future.
fn past(time: Timestamp, now: i64) -> i64 {
    time.as_nanos().min(now)
}

fn days(from: i64, to: i64) -> f64 {
    to.saturating_sub(from).max(0) as f64 / DAY
}

fn fading(silence: f64) -> f64 {
    (-silence / HALF_LIFE).exp2()
}

/// When the snapshot was used last: restored, or saved.
pub(crate) fn last_used(candidate: &Candidate, now: Timestamp) -> i64 {
    let now = now.as_nanos();
    candidate.uses.iter().chain([&candidate.created]).map(|time| past(*time, now)).max().unwrap_or(now)
}

impl Lineage {
    /// Of all its snapshots.
    pub(crate) fn of<'a>(members: impl Iterator<Item = &'a Candidate>, now: Timestamp) -> Self {
        let at = now.as_nanos();
        let (mut events, mut first, mut used) = (0_u32, at, i64::MIN);
        for time in members.flat_map(|member| member.uses.iter().chain([&member.created])) {
            let time = past(*time, at);
            events += 1;
            first = first.min(time);
            used = used.max(time);
        }
        let rate = f64::from(events) / days(first, at).max(SHORTEST) * fading(days(used, at));
        Self { rate, used }
    }
}

/// Restores a day that are expected of a snapshot. `newer` counts those of its lineage that are newer and still there,
/// `overtaken` is when the first newer one was made.
pub(crate) fn restores(
    lineage: Lineage,
    candidate: &Candidate,
    newer: usize,
    overtaken: Option<Timestamp>,
    now: Timestamp,
) -> f64 {
    let now = now.as_nanos();
    let place = OLDER.powi(i32::try_from(newer).unwrap_or(i32::MAX));
    let chosen = |since: Timestamp| -> f64 {
        let late = candidate.uses.iter().filter(|time| **time > since);
        late.map(|time| CHOSEN * fading(days(past(*time, now), now))).sum()
    };
    lineage.rate * place + overtaken.map_or(0.0, chosen)
}
