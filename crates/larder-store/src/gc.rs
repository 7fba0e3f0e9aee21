//! Eviction: gather the numbers, plan, carry the plan out, sweep.
//!
//! The plan is made without keeping anybody out. What happened meanwhile is looked at again under the lock, before a
//! snapshot loses its name: who was pinned or restored since stays. A crash leaves fewer snapshots than before, each of
//! them whole, and blobs for the next sweep.

use crate::census::{Census, Counted};
use crate::error::Result;
use crate::events::Events;
use crate::evict::chance::last_used;
use crate::evict::{Candidate, Eviction, Freed, Held, Limits, Plan, plan};
use crate::lineage::Lineage;
use crate::mirrors::OldMirror;
use crate::provenance::SOURCES;
use crate::remove::{Dropping, Removed};
use crate::snapshot::{Found, Header};
use crate::store::Store;
use crate::sweep::Grace;
use larder_fs::{Space, Timestamp, Volume};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What nobody knows the price of costs as much as to fetch it from elsewhere, at some 20 MB/s.
const MILLIS_PER_MEGABYTE: u64 = 50;

/// How many snapshots of a kind may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many, the newest ones.
    pub newest: usize,
    /// Of each key, because somebody chose it; else of each lineage.
    pub each_key: bool,
}

/// What is to be reached.
pub struct GcRequest<'a> {
    /// The present time.
    pub now: Timestamp,
    /// How many snapshots like this one may stay.
    pub retention: &'a dyn Fn(&Header) -> Retention,
    /// Snapshots that were not used for so long are dropped.
    pub max_age: Option<Duration>,
    /// A lineage that was used within this time keeps one, unless only that is left to make room.
    pub recent: Duration,
    /// The store may have so many bytes.
    pub budget: Option<u64>,
    /// What is to go free on the store's file system, given what is left there.
    pub wanted: &'a dyn Fn(&Space) -> Freed,
    /// Drop what is old or too many only as far as room is wanted.
    pub only_for_space: bool,
    /// How long a job's snapshot is kept when the job's process is gone.
    pub lease: Duration,
    /// How long what nothing names is left alone.
    pub grace: Grace,
    /// Snapshots that somebody is about to restore, by name: they stay.
    pub expected: &'a [String],
    /// How long each step waits for restores and saves to end before it is given up.
    pub patience: Duration,
    /// Change nothing.
    pub dry_run: bool,
}

/// A snapshot that was evicted, or would be.
#[derive(Clone, Debug)]
pub struct Evicted {
    /// What the plan says of it.
    pub eviction: Eviction,
    /// What a person wants to know of it.
    pub header: Header,
    /// The sequence that it belongs to.
    pub lineage: Lineage,
    /// When it was last restored, or else saved.
    pub used: Timestamp,
    /// Whether it stayed all the same: it was pinned or restored after the plan was made.
    pub kept: bool,
}

/// What a collection did, or would do.
#[derive(Clone, Debug)]
pub struct Collected {
    /// In the order of the plan.
    pub evicted: Vec<Evicted>,
    /// The plan.
    pub plan: Plan,
    /// How many snapshots there were.
    pub snapshots: usize,
    /// What the store took on disk before, in bytes.
    pub stored: u64,
    /// What was removed; nothing in a dry run.
    pub removed: Removed,
    /// Mirrors of siblings that nobody used for long, removed or to be removed.
    pub mirrors: Vec<OldMirror>,
    /// Snapshots that cannot be read, and why: while one is there, no blob is deleted.
    pub unreadable: Vec<(Found, String)>,
}

impl Store {
    /// Evicts what `request` asks for, and sweeps what nothing names.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Busy`] while others keep the store's lock, [`crate::Error::ReadOnly`], [`crate::Error::Fs`].
    pub fn gc(&self, request: &GcRequest<'_>, events: &dyn Events) -> Result<Collected> {
        if !request.dry_run {
            self.writable()?;
        }
        let census = self.census(events)?;
        let candidates = self.candidates_of(&census, request)?;
        let mut wanted = (request.wanted)(&Volume::space(&self.root)?);
        let stored = census.totals.stored();
        let mut over_budget = request.budget.map_or(0, |budget| stored.saturating_sub(budget));
        // Orphans go in any case, once they are old enough.
        over_budget = over_budget.saturating_sub(census.totals.orphan_reclaimable);
        if !census.damaged.is_empty() {
            // Names would go and their blobs stay.
            (wanted, over_budget) = (Freed::default(), 0);
        }
        let limits = Limits {
            now: request.now,
            max_age: request.max_age,
            recent: request.recent,
            over_budget,
            wanted,
            only_for_space: request.only_for_space,
        };
        let plan = plan(&candidates, &mut census.sizes(), &limits);
        let found: Vec<Found> = plan.evictions.iter().map(|e| census.snapshots[e.index].found.clone()).collect();
        // Nobody is kept waiting, and nothing written, for nothing.
        let nothing = request.only_for_space && found.is_empty() && census.totals.orphan_reclaimable == 0;
        let how = Dropping {
            unless: Some(request.lease),
            grace: request.grace,
            now: request.now,
            patience: request.patience,
        };
        let removed = match request.dry_run || nothing {
            true => Removed::default(),
            false => self.drop_and_sweep(&found, &how, events)?,
        };
        // Of those that only make room nobody asks for what is merely old, unless room is wanted.
        let mirrors = match request.max_age {
            Some(age) if !request.only_for_space || wanted != Freed::default() => {
                self.remove_old_mirrors(request.now, age, request.dry_run)?
            }
            _ => Vec::new(),
        };
        let kept: HashSet<&String> = removed.kept.iter().collect();
        let evicted = plan.evictions.iter().map(|eviction| {
            let used = last_used(&candidates[eviction.index], request.now);
            let nanos = u32::try_from(used.rem_euclid(1_000_000_000)).expect("less than a second");
            Evicted {
                lineage: census.snapshots[eviction.index].lineage.clone(),
                header: census.snapshots[eviction.index].header.clone(),
                used: Timestamp { secs: used.div_euclid(1_000_000_000), nanos },
                kept: kept.contains(&eviction.id),
                eviction: eviction.clone(),
            }
        });
        let evicted = evicted.collect();
        let snapshots = census.snapshots.len();
        Ok(Collected { evicted, plan, snapshots, stored, removed, mirrors, unreadable: census.damaged })
    }

    fn candidates_of(&self, census: &Census, request: &GcRequest<'_>) -> Result<Vec<Candidate>> {
        let mut held: HashMap<String, Held> = HashMap::new();
        held.extend(self.leases(request.now, request.lease)?.into_iter().map(|lease| (lease.snapshot, Held::Leased)));
        held.extend(request.expected.iter().map(|id| (id.clone(), Held::Leased)));
        held.extend(self.pins()?.into_iter().map(|pin| (pin.snapshot, Held::Pinned)));
        let candidate = |Counted { found, header, lineage, .. }: &Counted| {
            let (alone_ms, beside_ms) = price(header);
            let retention = (request.retention)(header);
            let of_key = if retention.each_key { format!(" {}", header.key) } else { String::new() };
            Candidate {
                id: found.id.clone(),
                lineage: format!("{lineage}{of_key}"),
                created: header.created,
                uses: self.used_at(&found.id),
                alone_ms,
                beside_ms,
                keep: retention.newest,
                held: held.get(&found.id).copied(),
                failed: header.worth.is_some_and(|worth| worth.failed),
                built_from: header.part(SOURCES).map(|sources| format!("{sources} {}", header.key)),
            }
        };
        Ok(census.snapshots.iter().map(candidate).collect())
    }
}

/// What a restore spares where nothing else of the lineage is there, and where something is.
fn price(header: &Header) -> (u64, u64) {
    let bytes: u64 = header.roots.iter().map(|root| root.bytes).sum();
    let worth = header.worth;
    let all = worth.map_or(bytes / 1_000_000 * MILLIS_PER_MEGABYTE, |worth| worth.build_ms);
    // What stands beside it has most of the packages at least.
    let new = worth.map_or(all, |worth| worth.new_ms);
    (all, new.min(all / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_and_without_a_price_are_read_by_those_who_know_it_and_those_who_do_not() {
        let old = r#"{"id":"1","key":"k","scope":"s","label":"l","created":{"secs":1,"nanos":0},"larder":"0.1.0",
            "parts":[],"roots":[{"path":"/t","files":1,"bytes":200000000}]"#;
        let read = |text: String| serde_json::from_str::<Header>(&text).unwrap();
        let header = read(format!("{old}}}"));
        // As fetched again at 20 MB/s.
        assert_eq!((header.worth, price(&header)), (None, (10_000, 5_000)));
        assert!(!serde_json::to_string(&header).unwrap().contains("worth"));
        // What later versions add is passed over, as this one's is by earlier ones.
        let header = read(format!(r#"{old},"worth":{{"build_ms":90000,"new_ms":7000,"more":1}},"later":2}}"#));
        assert_eq!(price(&header), (90_000, 7_000));
        // The first one of a lineage was built whole; beside others it is not worth all of that.
        let header = read(format!(r#"{old},"worth":{{"build_ms":90000,"new_ms":90000}}}}"#));
        assert_eq!(price(&header), (90_000, 45_000));
        // Only a failure is written down.
        assert!(!serde_json::to_string(&header).unwrap().contains("failed"));
        let failed = read(format!(r#"{old},"worth":{{"build_ms":1,"new_ms":1,"failed":true}}}}"#));
        assert!(failed.worth.unwrap().failed && serde_json::to_string(&failed).unwrap().contains("failed"));
    }
}
