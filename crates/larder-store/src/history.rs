//! What happened: one line an event, kept for whoever wants to know what the store costs and spares.
//!
//! ```text
//! events/2026-11.jsonl   the events of one month, UTC: JSON objects, one a line, with empty lines between
//! ```
//!
//! An event is added by one `write` of at most [`LONGEST_EVENT`] bytes to a file opened with `O_APPEND`, so that lines of
//! many processes never interleave. It begins and ends with a line feed: after a line that a crash or a full disk
//! tore, the next one stands on a line of its own, and the torn one costs itself alone. Nothing is synced: power
//! lost takes the last few seconds of history with it.
//!
//! Invariant: history is told, never asked. No restore, save or removal reads it, and one that cannot be written
//! changes nothing else: a read-only store or a full disk has no history of that time.
//!
//! Compatibility: every line carries [`EVENT_VERSION`]. A line of another version, or one that is none of ours, is
//! passed over and counted. New fields may come, and are passed over by who does not know them. A larder that knows
//! nothing of `events/` leaves it alone.

use crate::error::Result;
use crate::store::{Store, chain};
use larder_fs::{Dir, Kind, Volume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};

/// The room.
pub(crate) const EVENTS: &str = "events";
/// Of each line.
pub const EVENT_VERSION: u32 = 1;
/// No event is longer, in bytes, with both its line feeds.
pub const LONGEST_EVENT: usize = 4096;
/// How many whole months of history are worth keeping, unless somebody says otherwise.
pub const MONTHS_KEPT: u32 = 12;

const ENDING: &str = ".jsonl";
/// The longest texts of an event, in bytes; the next one is tried where the line would be too long.
const TEXT_LIMITS: [usize; 4] = [256, 128, 64, 24];
/// So many units and link modes are named at most.
const MOST_NAMED: usize = 16;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Somebody wanted a directory back: [`Event::outcome`] says what came of it.
    Restore,
    /// Somebody wanted a directory kept.
    Save,
    /// A snapshot was dropped to make room.
    Evict,
    /// Snapshots were removed because somebody asked for it.
    Remove,
    /// What nothing needed any more was swept.
    Gc,
    /// What a newer larder told.
    #[default]
    #[serde(other)]
    Other,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventOutcome {
    /// A restore by the exact key, whole.
    Hit,
    /// A restore by another key, or not of all.
    Partial,
    /// A restore of nothing.
    Miss,
    /// A save that published a snapshot.
    Saved,
    /// Anything that an error ended.
    Failed,
    /// What a newer larder told.
    #[serde(other)]
    Other,
}

/// One event. Texts are shortened when it is recorded; whoever makes one must not put secrets or paths of a home in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// [`EVENT_VERSION`].
    pub v: u32,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it was.
    pub kind: EventKind,
    /// How it went; of restores and saves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<EventOutcome>,
    /// The machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The repository, as `owner/name` or by its folder's name. With `job` and `what` it names the lineage: of the
    /// snapshot, not of whoever evicts it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The job.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// The branch.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub branch: String,
    /// Who may read the snapshot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The CI system's number of the run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// What the directories are: `target`, `paths`, `cargo-home`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// The snapshot's key; the one asked for where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The snapshot's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot: String,
    /// Why it happened, where that is not plain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// File names in the snapshot.
    #[serde(skip_serializing_if = "is_zero")]
    pub files: u64,
    /// Logical bytes of the snapshot.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Bytes by which the store grew.
    #[serde(skip_serializing_if = "is_zero")]
    pub added: u64,
    /// Bytes by which the store shrank, and that no other event tells of.
    #[serde(skip_serializing_if = "is_zero")]
    pub freed: u64,
    /// Files by the mode that moved them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub link_modes: BTreeMap<String, u64>,
    /// Milliseconds of compiling that a restore spares, by what the units cost when they were built; `None` where
    /// nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spared_ms: Option<u64>,
    /// How many units that are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused: Option<u64>,
    /// What was compiled before a save; `None` where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built: Option<Built>,
    /// The store's file system at that time; filled in when the event is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// The units that a build compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Built {
    /// How many.
    pub units: u64,
    /// What they cost together, in milliseconds.
    pub ms: u64,
    /// The slowest, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slowest: Vec<SlowUnit>,
}

/// A unit and its price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowUnit {
    /// Package and target.
    pub unit: String,
    /// What it cost, in milliseconds.
    pub ms: u64,
}

/// Room on the store's file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// All bytes that can be used: not those that are kept back for the system.
    pub total: u64,
    /// Bytes that may still be written.
    pub available: u64,
}

impl Disk {
    /// How much is in use, in hundredths of a percent, as the watermarks count.
    pub fn used_basis_points(self) -> u64 {
        let used = u128::from(self.total.saturating_sub(self.available)) * 10_000;
        u64::try_from(used.checked_div(u128::from(self.total)).unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The events, the oldest first.
    pub events: Vec<Event>,
    /// Lines that are no events: torn, foreign, or of another version.
    pub skipped: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    /// An event of now, of which nothing else is known.
    pub fn new(kind: EventKind, at_ms: u64) -> Self {
        Self { v: EVENT_VERSION, at_ms, kind, ..Self::default() }
    }

    /// The line, with both line feeds; never longer than [`LONGEST_EVENT`].
    fn line(&self) -> Vec<u8> {
        let mut short = self.clone();
        if let Some(built) = &mut short.built {
            built.slowest.truncate(MOST_NAMED);
        }
        while short.link_modes.len() > MOST_NAMED {
            short.link_modes.pop_last();
        }
        for limit in TEXT_LIMITS {
            short.shorten(limit);
            let line = short.spelt();
            if line.len() <= LONGEST_EVENT {
                return line;
            }
        }
        short.link_modes.clear();
        short.built.iter_mut().for_each(|built| built.slowest.clear());
        short.spelt()
    }

    fn spelt(&self) -> Vec<u8> {
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, self).expect("an event is plain data, and memory takes all of it");
        line.push(b'\n');
        line
    }

    fn shorten(&mut self, limit: usize) {
        let slowest = self.built.iter_mut().flat_map(|built| &mut built.slowest).map(|slow| &mut slow.unit);
        let texts = [
            &mut self.host,
            &mut self.user,
            &mut self.repository,
            &mut self.job,
            &mut self.branch,
            &mut self.scope,
            &mut self.run,
            &mut self.what,
            &mut self.key,
            &mut self.snapshot,
            &mut self.reason,
        ];
        texts.into_iter().chain(slowest).for_each(|text| shorten(text, limit));
        let modes = std::mem::take(&mut self.link_modes);
        self.link_modes.extend(modes.into_iter().map(|(mut mode, files)| {
            shorten(&mut mode, limit.min(32));
            (mode, files)
        }));
    }
}

/// Cuts a text to at most `limit` bytes. Control characters, each six bytes as JSON spells them, become spaces.
fn shorten(text: &mut String, limit: usize) {
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
    if text.len() > limit {
        let mark = "…";
        let end = (0..=limit - mark.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(mark);
    }
}

/// Year and month of a day since 1970, of the calendar that is in use (civil_from_days of Howard Hinnant's
/// "chrono-compatible low-level date algorithms").
fn month_of(at_ms: u64) -> (u64, u64) {
    let days = at_ms / DAY_MS + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Counted from March.
    let month = (5 * day_of_year + 2) / 153;
    let year = year_of_era + era * 400;
    if month < 10 { (year, month + 3) } else { (year + 1, month - 9) }
}

/// The file of a month; names sort as months do until the year 9999.
fn file_name((year, month): (u64, u64)) -> String {
    format!("{year:04}-{month:02}{ENDING}")
}

/// The month of a file; `None` for a name that is not ours.
fn parse_name(name: &OsStr) -> Option<(u64, u64)> {
    let (year, month) = name.to_str()?.strip_suffix(ENDING)?.split_once('-')?;
    let month = (year.parse().ok()?, month.parse().ok()?);
    (file_name(month) == name.to_str()? && (1..=12).contains(&month.1)).then_some(month)
}

impl Store {
    /// Adds an event to the history, with the room left on the disk; whether that could be done. Where it could not,
    /// nothing else is affected, and only the log of debugging says so.
    pub fn record(&self, event: &Event) -> bool {
        if self.is_read_only() {
            return false;
        }
        let add = || -> Result<()> {
            let mut event = event.clone();
            event.v = EVENT_VERSION;
            if event.disk.is_none() {
                event.disk = Some(self.disk()?);
            }
            let events = match self.room(EVENTS) {
                Err(crate::Error::Fs(e)) if e.is_not_found() => {
                    self.root.ensure_dir(OsStr::new(EVENTS))?;
                    self.room(EVENTS)?
                }
                other => other?,
            };
            Ok(events.append(OsStr::new(&file_name(month_of(event.at_ms))), &event.line())?)
        };
        add().inspect_err(|e| tracing::debug!("an event is not recorded: {}", chain(e))).is_ok()
    }

    /// The events from `since_ms` (milliseconds since 1970) on, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`](crate::Error::Fs) where `events/` cannot be listed. A file in it that cannot be read is passed over and
    /// counted as one line.
    pub fn history(&self, since_ms: u64) -> Result<History> {
        let mut history = History::default();
        let Some(events) = self.events_room()? else { return Ok(history) };
        let first = month_of(since_ms);
        for entry in events.entries()? {
            let Some(month) = parse_name(&entry.name) else { continue };
            if month < first {
                continue;
            }
            if let Err(e) = read_month(&events, &entry.name, since_ms, &mut history) {
                tracing::debug!("{}", chain(&e));
                history.skipped += 1;
            }
        }
        // Stable: what one process told in one millisecond stays in its order.
        history.events.sort_by_key(|event| event.at_ms);
        Ok(history)
    }

    /// Drops the files of all months that ended more than `months` whole months before `now_ms`, or only says which
    /// those are; their names.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`](crate::Error::Fs), [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn drop_history(&self, months: u32, now_ms: u64, dry_run: bool) -> Result<Vec<String>> {
        let Some(events) = self.events_room()? else { return Ok(Vec::new()) };
        if !dry_run {
            self.writable()?;
        }
        let count = |(year, month): (u64, u64)| year.saturating_mul(12).saturating_add(month);
        let now = count(month_of(now_ms));
        let mut dropped = Vec::new();
        for entry in events.entries()? {
            let Some(month) = parse_name(&entry.name) else { continue };
            if count(month).saturating_add(u64::from(months)) < now {
                if !dry_run {
                    events.remove_all(&entry.name)?;
                }
                dropped.push(entry.name.to_string_lossy().into_owned());
            }
        }
        dropped.sort_unstable();
        Ok(dropped)
    }

    fn events_room(&self) -> Result<Option<Dir>> {
        match self.room(EVENTS) {
            Ok(dir) => Ok(Some(dir)),
            Err(crate::Error::Fs(e)) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Bytes of all blobs and snapshots, counted one by one: milliseconds for some thousand blobs.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`](crate::Error::Fs).
    pub fn stored_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for room in [crate::blob::BLOBS, crate::blob::INGEST, crate::store::SNAPSHOTS] {
            let room = self.room(room)?;
            for entry in room.entries()?.into_iter().filter(|entry| entry.is_dir != Some(false)) {
                // Somebody may remove it meanwhile.
                let dir = match room.open_beneath(&entry.name) {
                    Err(e) if e.is_not_found() => continue,
                    other => other?,
                };
                for entry in dir.entries_if_there()? {
                    let meta = dir.stat_optional(&entry.name)?.filter(|meta| meta.kind == Kind::File);
                    bytes += meta.map_or(0, |meta| meta.size);
                }
            }
        }
        Ok(bytes)
    }

    /// Room on the store's file system.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`](crate::Error::Fs).
    pub fn disk(&self) -> Result<Disk> {
        let space = Volume::space(&self.root)?;
        Ok(Disk { total: space.used().1, available: space.available })
    }
}

fn read_month(events: &Dir, name: &OsStr, since_ms: u64, history: &mut History) -> Result<()> {
    let file = events.open_file(name)?;
    let path = events.join(name);
    if larder_fs::file_meta(&file, &path)?.kind != Kind::File {
        history.skipped += 1;
        return Ok(());
    }
    let fail = |source| crate::Error::Fs(larder_fs::Error { op: "read", path: path.clone(), source });
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // However long a line is, no more of it is held than an event can have.
        let mut piece = (&mut reader).take(LONGEST_EVENT as u64);
        if piece.read_until(b'\n', &mut line).map_err(fail)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() == LONGEST_EVENT {
            history.skipped += 1;
            reader.skip_until(b'\n').map_err(fail)?;
            continue;
        }
        match line.trim_ascii() {
            [] => {}
            // serde would take a list for an object without names.
            text if text.first() != Some(&b'{') => history.skipped += 1,
            text => match serde_json::from_slice::<Event>(text) {
                Ok(event) if event.v != EVENT_VERSION => history.skipped += 1,
                Ok(event) if event.at_ms >= since_ms => history.events.push(event),
                Ok(_) => {}
                Err(_) => history.skipped += 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let day = |day: u64| month_of(day * DAY_MS);
        assert_eq!(day(0), (1970, 1));
        assert_eq!((day(30), day(31)), ((1970, 1), (1970, 2)));
        // 2000-02-29 and the day after, 2026-11-30 and the day after.
        assert_eq!((day(11_016), day(11_017)), ((2000, 2), (2000, 3)));
        assert_eq!((day(20_787), day(20_788)), ((2026, 11), (2026, 12)));
        assert_eq!(month_of(20_788 * DAY_MS - 1), (2026, 11));
        month_of(u64::MAX);
    }

    #[test]
    fn only_our_own_names_are_months() {
        assert_eq!(parse_name(OsStr::new("2026-11.jsonl")), Some((2026, 11)));
        for name in
            ["2026-13.jsonl", "2026-00.jsonl", "2026-1.jsonl", "+026-01.jsonl", "2026-11.jsonl.gz", "x", ".jsonl"]
        {
            assert_eq!(parse_name(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn shares_of_a_disk_are_told_in_whole_numbers() {
        assert_eq!(Disk { total: 1000, available: 255 }.used_basis_points(), 7450);
        assert_eq!(Disk { total: 0, available: 9 }.used_basis_points(), 0);
        assert_eq!(Disk { total: u64::MAX, available: 0 }.used_basis_points(), 10_000);
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![".{0,40}", "[\\x00-\\x1f\"\\\\é𝄞]{0,3000}", "\\PC{0,3000}"]
    }

    proptest! {
        #[test]
        fn every_event_is_one_short_line_that_can_be_read(
            texts in proptest::collection::vec(text(), 13),
            numbers in proptest::collection::vec(any::<u64>(), 8),
            modes in proptest::collection::btree_map(text(), any::<u64>(), 0..40),
            units in proptest::collection::vec((text(), any::<u64>()), 0..40),
        ) {
            let event = Event {
                outcome: Some(EventOutcome::Partial),
                host: texts[0].clone(), user: texts[1].clone(), repository: texts[2].clone(), job: texts[3].clone(),
                branch: texts[4].clone(), scope: texts[5].clone(), run: texts[6].clone(), what: texts[7].clone(),
                key: texts[8].clone(), snapshot: texts[9].clone(), reason: texts[10].clone(),
                ms: numbers[0], files: numbers[1], bytes: numbers[2], added: numbers[3], freed: numbers[4],
                link_modes: modes,
                spared_ms: Some(numbers[5]), reused: Some(numbers[6]),
                built: Some(Built {
                    units: numbers[7], ms: numbers[0],
                    slowest: units.into_iter().map(|(unit, ms)| SlowUnit { unit, ms }).collect(),
                }),
                disk: Some(Disk { total: numbers[1], available: numbers[2] }),
                ..Event::new(EventKind::Restore, numbers[4])
            };
            let line = event.line();
            prop_assert!(line.len() <= LONGEST_EVENT, "{}", line.len());
            let (first, rest) = line.split_first().unwrap();
            let (last, body) = rest.split_last().unwrap();
            prop_assert_eq!((*first, *last), (b'\n', b'\n'));
            prop_assert!(!body.contains(&b'\n'));
            let read: Event = serde_json::from_slice(body).unwrap();
            prop_assert_eq!(read.spared_ms, event.spared_ms);
            prop_assert_eq!(read.disk, event.disk);
            prop_assert_eq!((read.v, read.at_ms, read.kind), (EVENT_VERSION, event.at_ms, event.kind));
        }
    }
}
