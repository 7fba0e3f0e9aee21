//! From events to figures.
//!
//! Days are of UTC. Sums saturate: a line that somebody forged may be wrong, but it breaks nothing.

use crate::report::SCHEMA_VERSION;
use larder_store::{Disk, Event, EventKind, EventOutcome, History};
use serde::Serialize;
use std::collections::BTreeMap;

/// In milliseconds.
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// An event that is said to be so much later than now is no event: clocks of one host do not differ more.
const AHEAD_MS: u64 = 60 * 60 * 1000;
/// So many units that are never reused are told.
const SLOWEST: usize = 20;

/// What the store and its disk are now, which no event tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Today {
    /// Milliseconds since 1970.
    pub(crate) now_ms: u64,
    /// Bytes of all blobs and snapshots.
    pub(crate) stored_bytes: Option<u64>,
    /// The store's file system.
    pub(crate) disk: Option<Disk>,
    /// Disk use that starts eviction, in percent.
    pub(crate) high_percent: u8,
    /// Disk use that ends it, in percent.
    pub(crate) low_percent: u8,
}

/// The object of `report`.
#[derive(Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// The begin of the period, RFC 3339.
    pub(crate) since: String,
    /// Its end.
    pub(crate) until: String,
    /// Lines of the history that could not be understood.
    pub(crate) skipped_lines: u64,
    /// All of the period.
    pub(crate) totals: Totals,
    /// What the store is now.
    pub(crate) store: StoreReport,
    /// Every day of the period, the oldest first. Those before anything was recorded are left out of periods of more than
    /// 31 days.
    pub(crate) days: Vec<Day>,
    /// What each lineage cost and earned, those that spared most first.
    pub(crate) lineages: Vec<Lineage>,
    /// Units that were compiled before every save since they were first seen, and at least twice; what cost most first.
    pub(crate) never_reused: Vec<NeverReused>,
    /// Restored files by the mode that moved them.
    pub(crate) link_modes: BTreeMap<String, u64>,
}

/// Sums.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Totals {
    /// Restores that found the exact key.
    pub(crate) hits: u64,
    /// Restores that found another key, or not all.
    pub(crate) partials: u64,
    /// Restores that found nothing.
    pub(crate) misses: u64,
    /// Snapshots published.
    pub(crate) saves: u64,
    /// Restores and saves that an error ended.
    pub(crate) failures: u64,
    /// Snapshots dropped to make room.
    pub(crate) evictions: u64,
    /// Compiling spared by restores, in milliseconds of one core.
    pub(crate) spared_ms: u64,
    /// Compiling that was done all the same, in milliseconds of one core.
    pub(crate) built_ms: u64,
    /// Units that were compiled.
    pub(crate) built_units: u64,
    /// Time that larder itself took, in milliseconds.
    pub(crate) larder_ms: u64,
    /// Logical bytes of what was restored.
    pub(crate) restored_bytes: u64,
    /// Bytes by which saves made the store grow.
    pub(crate) added_bytes: u64,
    /// Bytes by which evictions, removals and sweeps made it shrink.
    pub(crate) freed_bytes: u64,
}

/// One day, or a whole period.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Day {
    /// The date, of UTC.
    pub(crate) day: String,
    /// What happened.
    #[serde(flatten)]
    pub(crate) totals: Totals,
    /// The store's size at the day's end, reckoned back from what it is now; `null` before anything was recorded.
    pub(crate) stored_bytes: Option<u64>,
    /// The highest use of its disk that was seen, in percent.
    pub(crate) disk_percent: Option<f64>,
}

/// The store and its disk, now.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StoreReport {
    /// Bytes of all blobs and snapshots; `null` where there is no store, or it cannot be counted.
    pub(crate) stored_bytes: Option<u64>,
    /// All bytes of its file system that can be used.
    pub(crate) disk_bytes: Option<u64>,
    /// Those that may still be written.
    pub(crate) available_bytes: Option<u64>,
    /// How much is in use, in percent.
    pub(crate) disk_percent: Option<f64>,
    /// Disk use that starts eviction, in percent.
    pub(crate) high_percent: u8,
    /// Disk use that ends it, in percent.
    pub(crate) low_percent: u8,
}

/// The sequence of snapshots of one repository and job.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Lineage {
    /// The repository.
    pub(crate) repository: String,
    /// The job; empty for CARGO_HOME, which all jobs share.
    pub(crate) job: String,
    /// What its directories are: `target`, `paths` or `cargo-home`.
    pub(crate) what: String,
    /// What it cost and earned.
    #[serde(flatten)]
    pub(crate) totals: Totals,
    /// Logical bytes of the newest snapshot.
    pub(crate) newest_bytes: u64,
    /// When it was last used, RFC 3339.
    pub(crate) last: String,
}

/// A unit that no build of its lineage found ready.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NeverReused {
    /// Package and target.
    pub(crate) unit: String,
    /// The repository.
    pub(crate) repository: String,
    /// The job.
    pub(crate) job: String,
    /// How often it was compiled.
    pub(crate) built: u64,
    /// What that cost in all, in milliseconds of one core.
    pub(crate) total_ms: u64,
}

impl Totals {
    /// How many restores there were.
    pub(crate) fn restores(&self) -> u64 {
        self.hits.saturating_add(self.partials).saturating_add(self.misses)
    }

    fn add(&mut self, event: &Event) {
        let count = |number: &mut u64| *number = number.saturating_add(1);
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        // CARGO_HOME is told of only when something was added: as a hit it would count for too much.
        let counts = event.what != super::CARGO_HOME;
        match (event.kind, event.outcome) {
            (EventKind::Restore, Some(EventOutcome::Hit)) if counts => count(&mut self.hits),
            (EventKind::Restore, Some(EventOutcome::Partial)) if counts => count(&mut self.partials),
            (EventKind::Restore, Some(EventOutcome::Miss)) if counts => count(&mut self.misses),
            (EventKind::Restore | EventKind::Save, Some(EventOutcome::Failed)) => count(&mut self.failures),
            (EventKind::Save, Some(EventOutcome::Saved)) => count(&mut self.saves),
            (EventKind::Evict, _) => count(&mut self.evictions),
            _ => {}
        }
        match event.kind {
            EventKind::Restore => {
                add(&mut self.spared_ms, event.spared_ms.unwrap_or(0));
                add(&mut self.restored_bytes, event.bytes);
            }
            EventKind::Save => {
                add(&mut self.added_bytes, event.added);
                if let Some(built) = &event.built {
                    add(&mut self.built_ms, built.ms);
                    add(&mut self.built_units, built.units);
                }
            }
            EventKind::Evict | EventKind::Remove | EventKind::Gc => add(&mut self.freed_bytes, event.freed),
            EventKind::Other => {}
        }
        if event.kind != EventKind::Other {
            add(&mut self.larder_ms, event.ms);
        }
    }
}

/// A time as RFC 3339, to the second.
pub(crate) fn rfc3339(ms: u64) -> String {
    spelt(ms, "%Y-%m-%dT%H:%M:%SZ")
}

fn spelt(ms: u64, format: &str) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| time.strftime(format).to_string()).unwrap_or_default()
}

/// Percent, to a tenth.
fn percent(disk: Disk) -> f64 {
    let tenths = u32::try_from(disk.used_basis_points() / 10).unwrap_or(u32::MAX);
    f64::from(tenths) / 10.0
}

impl Report {
    /// The figures of everything since `since_ms` (milliseconds since 1970).
    pub(crate) fn of(history: &History, since_ms: u64, today: &Today) -> Self {
        let ahead = today.now_ms.saturating_add(AHEAD_MS);
        let (events, foreign): (Vec<&Event>, Vec<&Event>) =
            history.events.iter().filter(|event| event.at_ms >= since_ms).partition(|event| event.at_ms <= ahead);
        let mut totals = Totals::default();
        let mut link_modes: BTreeMap<String, u64> = BTreeMap::new();
        for event in &events {
            totals.add(event);
            if event.kind == EventKind::Restore {
                for (mode, files) in &event.link_modes {
                    let sum = link_modes.entry(mode.clone()).or_default();
                    *sum = sum.saturating_add(*files);
                }
            }
        }
        Self {
            schema_version: SCHEMA_VERSION,
            since: rfc3339(since_ms),
            until: rfc3339(today.now_ms),
            skipped_lines: history.skipped.saturating_add(foreign.len() as u64),
            days: days(&events, since_ms, today),
            lineages: lineages(&events),
            never_reused: never_reused(&events),
            link_modes,
            totals,
            store: StoreReport {
                stored_bytes: today.stored_bytes,
                disk_bytes: today.disk.map(|disk| disk.total),
                available_bytes: today.disk.map(|disk| disk.available),
                disk_percent: today.disk.map(percent),
                high_percent: today.high_percent,
                low_percent: today.low_percent,
            },
        }
    }

    /// Whether nothing happened.
    pub(crate) fn is_empty(&self) -> bool {
        self.totals == Totals::default()
    }
}

fn days(events: &[&Event], since_ms: u64, today: &Today) -> Vec<Day> {
    const ALWAYS_SHOWN: u64 = 31;
    let recorded = events.first().map(|event| event.at_ms / DAY_MS);
    let last = today.now_ms / DAY_MS;
    let first = match since_ms / DAY_MS {
        first if last.saturating_sub(first) <= ALWAYS_SHOWN => first,
        first => first.max(recorded.unwrap_or(last)),
    };
    let mut days: Vec<Day> =
        (first..=last).map(|day| Day { day: spelt(day * DAY_MS, "%Y-%m-%d"), ..Day::default() }).collect();
    for event in events {
        // What is a little ahead of now belongs to today.
        let at = usize::try_from((event.at_ms / DAY_MS).min(last).saturating_sub(first)).unwrap_or(usize::MAX);
        let Some(day) = days.get_mut(at) else { continue };
        day.totals.add(event);
        let seen = event.disk.filter(|disk| disk.total > 0).map(percent);
        day.disk_percent = [day.disk_percent, seen].into_iter().flatten().reduce(f64::max);
    }
    if let Some(day) = days.last_mut() {
        day.disk_percent = [day.disk_percent, today.disk.map(percent)].into_iter().flatten().reduce(f64::max);
    }
    let mut stored = today.stored_bytes;
    for (at, day) in days.iter_mut().enumerate().rev() {
        let known = recorded.is_some_and(|recorded| first + at as u64 >= recorded) || first + at as u64 == last;
        day.stored_bytes = stored.filter(|_| known);
        let (added, freed) = (day.totals.added_bytes, day.totals.freed_bytes);
        stored = stored.map(|bytes| bytes.saturating_add(freed).saturating_sub(added));
    }
    days
}

fn lineages(events: &[&Event]) -> Vec<Lineage> {
    let mut all: BTreeMap<(&str, &str, &str), (Lineage, u64)> = BTreeMap::new();
    // A sweep is nobody's.
    for event in events.iter().filter(|event| !matches!(event.kind, EventKind::Gc | EventKind::Other)) {
        let (lineage, last) = all.entry((&event.repository, &event.job, &event.what)).or_default();
        lineage.totals.add(event);
        if matches!(event.kind, EventKind::Save | EventKind::Restore) {
            *last = event.at_ms;
        }
        if event.kind == EventKind::Save && event.outcome == Some(EventOutcome::Saved) {
            lineage.newest_bytes = event.bytes;
        }
    }
    let mut lineages: Vec<Lineage> = all
        .into_iter()
        .map(|((repository, job, what), (lineage, last))| Lineage {
            repository: repository.to_owned(),
            job: job.to_owned(),
            what: what.to_owned(),
            last: if last == 0 { String::new() } else { rfc3339(last) },
            ..lineage
        })
        .collect();
    lineages.sort_by_key(|lineage| {
        std::cmp::Reverse((lineage.totals.spared_ms, lineage.totals.restores(), lineage.totals.added_bytes))
    });
    lineages
}

fn never_reused(events: &[&Event]) -> Vec<NeverReused> {
    #[derive(Default)]
    struct Seen {
        built: u64,
        total_ms: u64,
        /// How many saves of the lineage there had been before it.
        before: u64,
    }
    #[derive(Default)]
    struct Saves<'a> {
        count: u64,
        units: BTreeMap<&'a str, Seen>,
    }
    let mut all: BTreeMap<(&str, &str, &str), Saves<'_>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == EventKind::Save) {
        let Some(built) = &event.built else { continue };
        let saves = all.entry((&event.repository, &event.job, &event.what)).or_default();
        let mut here: BTreeMap<&str, u64> = BTreeMap::new();
        for slow in &built.slowest {
            // One target in two profiles.
            let ms = here.entry(&slow.unit).or_default();
            *ms = ms.saturating_add(slow.ms);
        }
        for (unit, ms) in here {
            let seen = saves.units.entry(unit).or_insert_with(|| Seen { before: saves.count, ..Seen::default() });
            seen.built += 1;
            seen.total_ms = seen.total_ms.saturating_add(ms);
        }
        saves.count += 1;
    }
    let mut never: Vec<NeverReused> = Vec::new();
    for ((repository, job, _), saves) in all {
        let always = |seen: &Seen| seen.built >= 2 && seen.built == saves.count - seen.before;
        never.extend(saves.units.iter().filter(|(_, seen)| always(seen)).map(|(unit, seen)| NeverReused {
            unit: (*unit).to_owned(),
            repository: repository.to_owned(),
            job: job.to_owned(),
            built: seen.built,
            total_ms: seen.total_ms,
        }));
    }
    never.sort_by_key(|unit| std::cmp::Reverse(unit.total_ms));
    never.truncate(SLOWEST);
    never
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_store::{Built, SlowUnit};

    /// 2026-11-23, 12:00 UTC.
    const NOW: u64 = 1_795_435_200_000;

    fn today() -> Today {
        let disk = Some(Disk { total: 1000, available: 300 });
        Today { now_ms: NOW, stored_bytes: Some(500), disk, high_percent: 80, low_percent: 70 }
    }

    fn restore(days_ago: u64, outcome: EventOutcome, spared: u64) -> Event {
        Event {
            outcome: Some(outcome),
            repository: "o/r".into(),
            job: "test".into(),
            what: "target".into(),
            spared_ms: Some(spared),
            ms: 10,
            ..Event::new(EventKind::Restore, NOW - days_ago * DAY_MS)
        }
    }

    fn save(days_ago: u64, added: u64, units: &[(&str, u64)]) -> Event {
        let slowest: Vec<SlowUnit> =
            units.iter().map(|(unit, ms)| SlowUnit { unit: (*unit).into(), ms: *ms }).collect();
        Event {
            kind: EventKind::Save,
            spared_ms: None,
            added,
            bytes: 77,
            built: Some(Built { units: slowest.len() as u64, ms: units.iter().map(|unit| unit.1).sum(), slowest }),
            ..restore(days_ago, EventOutcome::Saved, 0)
        }
    }

    fn evict(days_ago: u64, freed: u64) -> Event {
        Event {
            kind: EventKind::Evict,
            outcome: None,
            spared_ms: None,
            freed,
            ..restore(days_ago, EventOutcome::Hit, 0)
        }
    }

    fn report(mut events: Vec<Event>, days: u64) -> Report {
        events.sort_by_key(|event| event.at_ms);
        Report::of(&History { events, skipped: 2 }, NOW - days * DAY_MS, &today())
    }

    #[test]
    fn days_add_up_to_the_totals_and_the_size_is_reckoned_back() {
        let report = report(
            vec![
                save(3, 300, &[("a lib", 5)]),
                evict(2, 100),
                restore(1, EventOutcome::Hit, 1000),
                restore(1, EventOutcome::Partial, 200),
                restore(0, EventOutcome::Miss, 0),
                save(0, 50, &[]),
            ],
            5,
        );
        assert_eq!(report.days.len(), 6);
        assert_eq!((report.days[0].day.as_str(), report.days[5].day.as_str()), ("2026-11-18", "2026-11-23"));
        let stored: Vec<Option<u64>> = report.days.iter().map(|day| day.stored_bytes).collect();
        assert_eq!(stored, [None, None, Some(550), Some(450), Some(450), Some(500)]);
        let totals = &report.totals;
        assert_eq!((totals.hits, totals.partials, totals.misses, totals.saves, totals.evictions), (1, 1, 1, 2, 1));
        assert_eq!((totals.spared_ms, totals.built_ms, totals.larder_ms), (1200, 5, 60));
        assert_eq!((totals.added_bytes, totals.freed_bytes), (350, 100));
        assert_eq!(report.days.iter().map(|day| day.totals.spared_ms).sum::<u64>(), totals.spared_ms);
        assert_eq!(report.days[5].disk_percent, Some(70.0));
        assert_eq!(report.lineages.len(), 1);
        assert_eq!(report.lineages[0].totals, Totals { ..totals.clone() });
        assert_eq!((report.lineages[0].newest_bytes, report.skipped_lines), (77, 2));
    }

    #[test]
    fn a_unit_is_never_reused_when_every_save_since_built_it() {
        let report = report(
            vec![
                save(5, 0, &[("always lib", 10), ("once lib", 1000)]),
                save(4, 0, &[("always lib", 20), ("new bin", 5)]),
                save(3, 0, &[("always lib", 30), ("new bin", 6), ("last test", 7)]),
            ],
            9,
        );
        let never: Vec<_> = report.never_reused.iter().map(|n| (n.unit.as_str(), n.built, n.total_ms)).collect();
        assert_eq!(never, [("always lib", 3, 60), ("new bin", 2, 11)]);
    }

    #[test]
    fn forged_numbers_and_times_break_nothing() {
        let mut forged = restore(0, EventOutcome::Hit, u64::MAX);
        (forged.ms, forged.bytes, forged.freed, forged.added) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        forged.disk = Some(Disk { total: 1, available: u64::MAX });
        let ahead = Event { at_ms: u64::MAX, ..forged.clone() };
        let soon = Event { at_ms: NOW + 1000, ..restore(0, EventOutcome::Hit, 1) };
        let report =
            report(vec![forged.clone(), forged.clone(), Event { kind: EventKind::Save, ..forged }, ahead, soon], 3);
        assert_eq!((report.totals.spared_ms, report.totals.larder_ms), (u64::MAX, u64::MAX));
        assert_eq!((report.totals.hits, report.skipped_lines), (3, 3));
        assert_eq!(report.days.len(), 4);
    }

    #[test]
    fn long_periods_begin_where_the_history_does() {
        assert_eq!(report(vec![restore(2, EventOutcome::Hit, 1)], 3000).days.len(), 3);
        assert_eq!(report(vec![restore(2, EventOutcome::Hit, 1)], 30).days.len(), 31);
        assert!(report(Vec::new(), 3000).is_empty());
        assert_eq!(report(Vec::new(), 3000).days.len(), 1);
    }
}
