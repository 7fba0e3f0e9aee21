//! Room that jobs keep by themselves: above the high mark something is evicted before a restore and after a save.
//!
//! Where there is room this is one look at the file system. Nothing here fails a job, and nobody waits for long: a store
//! in which others are at work is left to the next job.

use crate::amount::count;
use crate::commands::gc;
use crate::disk::{self, Asked, Marks};
use crate::history;
use crate::request::Request;
use crate::settings::Settings;
use crate::talk::Talk;
use anyhow::Result;
use bytesize::ByteSize;
use larder_fs::{Dir, Volume};
use larder_store::evict::Freed;
use larder_store::{Error, Events, Found, Phase, Snapshot, Store};

/// So many snapshots are looked at for one whose build did not fail.
const LOOKED_AT: usize = 8;

/// What is done unasked is told to who listens for it.
struct Quietly;

impl Events for Quietly {
    fn phase(&self, _: Phase, _: u64) {}

    fn advance(&self, _: u64) {}

    fn warn(&self, message: &str) {
        tracing::info!("{message}");
    }
}

/// Evicts down to the low mark, if the store's disk is above the high one. What `next` is about to restore stays.
pub(crate) fn keep_room(store: &Store, settings: &Settings, next: Option<&Request>, talk: &Talk) {
    if !settings.guard.value || store.is_read_only() {
        return;
    }
    if let Err(error) = try_to(store, settings, next, talk) {
        match error.downcast_ref() {
            Some(Error::Busy { .. }) => tracing::info!("no room is made: {error:#}"),
            _ => talk.warn(&format!("no room is made: {error:#}")),
        }
    }
}

fn try_to(store: &Store, settings: &Settings, next: Option<&Request>, talk: &Talk) -> Result<()> {
    let marks = Marks { high: settings.high.value, low: settings.low.value };
    let wanted = marks.wanted(&Volume::space(&Dir::open(store.path())?)?);
    if wanted == Freed::default() {
        return Ok(());
    }
    gc::check(settings)?;
    let expected = next.map(|request| expected(store, request)).transpose()?.unwrap_or_default();
    let asked = Asked { by_marks: true, unasked: true, expected: &expected, ..Asked::default() };
    let collected = disk::with_request(store, settings, asked, |request| Ok(store.gc(request, &Quietly)?))?;
    if !collected.unreadable.is_empty() {
        let unreadable = count(collected.unreadable.len() as u64, "snapshot");
        talk.warn(&format!(
            "the disk is nearly full, and nothing is evicted: {unreadable} cannot be read, see `larder gc`"
        ));
        return Ok(());
    }
    if let Some(short) = &collected.plan.short {
        tracing::info!("the disk stays above its low mark: {}", gc::sentence(short));
    }
    let gone = collected.evicted.iter().filter(|evicted| !evicted.kept).count() as u64;
    if gone == 0 && collected.removed.swept.bytes == 0 {
        return Ok(());
    }
    history::collected(store, &collected, talk);
    let freed = ByteSize(collected.removed.swept.bytes).display().si();
    let what = if wanted.bytes > 0 { "disk" } else { "disk's inodes" };
    talk.say(&format!(
        "more than {} % of the {what} were used: evicted {}, {freed} freed",
        marks.high,
        count(gone, "snapshot")
    ));
    Ok(())
}

/// The snapshots of which the request will most likely restore one: the newest, and the newest whose build did not fail.
fn expected(store: &Store, request: &Request) -> Result<Vec<String>> {
    let mut found = store.find_exact(&request.place, &request.key)?;
    if found.is_empty() && !request.fallback.is_empty() {
        found = store.find_all(&request.place)?;
    }
    let went_well = |found: &&Found| {
        let header = Snapshot::load_header(&found.path);
        header.is_ok_and(|header| header.worth.is_none_or(|worth| !worth.failed))
    };
    let newest = found.first().into_iter().chain(found.iter().take(LOOKED_AT).find(went_well));
    Ok(newest.map(|found| found.id.clone()).collect())
}
