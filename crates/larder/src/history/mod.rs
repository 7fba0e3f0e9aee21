//! History: what commands did, told to the store, and what `larder report` makes of it.
//!
//! | module | its one idea |
//! |---|---|
//! | `figures` | from events to figures: pure, with the time of its reader |
//! | `text` | the figures for a terminal, and in Markdown for the summary of a CI step |
//! | `charts` | from figures to shapes in a plane |
//! | `page` | one HTML page with pictures, whole in itself |
//!
//! Told are names that the CI system or the user gave (repository, branch, job, key), this machine's and account's name,
//! and numbers. No path, no command line, no variable but those named here.

pub(crate) mod charts;
pub(crate) mod figures;
pub(crate) mod page;
pub(crate) mod text;

use crate::holdings::LastGc;
use crate::host;
use crate::report::{Result as Outcome, Transfer};
use crate::request::{self, Request};
use crate::sources::repository_of;
use crate::talk::Talk;
use larder_ci::system;
use larder_store::{Built, Collected, Event, EventKind, EventOutcome, Events, Header, MONTHS_KEPT, SlowUnit, Store};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the directories of a request are, in the history's words.
const TARGET: &str = "target";
const PATHS: &str = "paths";
/// CARGO_HOME, whose lineage is of its own.
pub(crate) const CARGO_HOME: &str = "cargo-home";

/// Variables with the number of a run, in the order in which CI systems are asked.
const RUNS: [&str; 5] = ["GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILDKITE_BUILD_ID", "CIRCLE_WORKFLOW_ID", "BUILD_ID"];
const BRANCHES: [&str; 2] = ["GITHUB_REF_NAME", "CI_COMMIT_REF_NAME"];
const USERS: [&str; 2] = ["USER", "LOGNAME"];

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Tells of a restore.
pub(crate) fn restored(store: &Store, request: &Request, transfer: &Transfer) {
    if transfer.dry_run {
        return;
    }
    store.record(&Event {
        outcome: outcome(transfer.outcome),
        spared_ms: transfer.spared_ms,
        reused: transfer.reused_units,
        ..of_transfer(EventKind::Restore, request, transfer)
    });
}

/// Tells of a save.
pub(crate) fn saved(store: &Store, request: &Request, transfer: &Transfer) {
    if transfer.outcome != Outcome::Saved || transfer.dry_run {
        return;
    }
    let slowest = transfer.slowest.iter().map(|(unit, ms)| SlowUnit { unit: unit.clone(), ms: *ms }).collect();
    let built = transfer.built_units.zip(transfer.built_ms).map(|(units, ms)| Built { units, ms, slowest });
    let told = of_transfer(EventKind::Save, request, transfer);
    store.record(&Event { outcome: Some(EventOutcome::Saved), added: transfer.added_bytes, built, ..told });
}

/// Tells that a restore or a save failed, which is not why a command fails. The error stays untold: it names paths.
pub(crate) fn failed(store: &Store, request: &Request, kind: EventKind) {
    let key = request.key.clone();
    store.record(&Event { outcome: Some(EventOutcome::Failed), key, ..of_request(kind, request) });
}

/// Tells of what was added to CARGO_HOME, or saved of it; finding everything in its place is no news.
pub(crate) fn cargo_home(store: &Store, request: &Request, kind: EventKind, transfer: &Transfer) {
    let news = match kind {
        EventKind::Save => transfer.outcome == Outcome::Saved,
        _ => transfer.made() > 0,
    };
    if transfer.dry_run || !news {
        return;
    }
    let told = of_transfer(kind, request, transfer);
    let (outcome, added) = (outcome(transfer.outcome), transfer.added_bytes);
    store.record(&Event { what: CARGO_HOME.into(), job: String::new(), outcome, added, ..told });
}

/// The event of dropping the snapshot with this header, by which `freed` bytes came free, for `reason`: `kind` is
/// [`EventKind::Evict`], or [`EventKind::Remove`] where somebody asked for it. What the event does not tell, such as how
/// long it took, may be filled in before [`Store::record`].
pub(crate) fn dropped(kind: EventKind, header: &Header, freed: u64, reason: &str) -> Event {
    let job = header.parts.iter().find(|(name, _)| name == "job").map(|(_, job)| job.clone()).unwrap_or_default();
    let what = match header.label.as_str() {
        label @ (PATHS | CARGO_HOME) => label,
        _ => TARGET,
    };
    // As `repository` calls it: where nobody gave a name, that of the folder which holds the directory.
    let folder = || {
        let root = header.roots.first().map(|root| Path::new(&root.path)).and_then(Path::parent);
        root.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    Event {
        repository: match header.scope.as_str() {
            request::LOCAL => folder(),
            scope => system::repository_of(scope).to_owned(),
        },
        job: if what == CARGO_HOME { String::new() } else { job },
        what: what.into(),
        scope: header.scope.clone(),
        key: header.key.clone(),
        snapshot: header.id.clone(),
        files: header.roots.iter().map(|root| root.files).sum(),
        bytes: header.roots.iter().map(|root| root.bytes).sum(),
        freed,
        reason: reason.into(),
        ..here(kind)
    }
}

/// The event of a sweep that freed `freed` bytes beside those that were told of with their snapshots.
pub(crate) fn swept(freed: u64, reason: &str) -> Event {
    Event { freed, reason: reason.into(), ..here(EventKind::Gc) }
}

/// Tells what a collection evicted and swept, and drops the history of months that are long past.
pub(crate) fn collected(store: &Store, collected: &Collected, talk: &Talk) {
    let gone = collected.evicted.iter().filter(|evicted| !evicted.kept);
    // One time for all of it: so it can be told what went together.
    let at_ms = now_ms();
    let mut told = 0;
    for evicted in gone {
        // What is freed with a snapshot is told with it, but no more than went in all.
        let freed = evicted.eviction.freed.bytes.min(collected.removed.swept.bytes.saturating_sub(told));
        told += freed;
        let event = dropped(EventKind::Evict, &evicted.header, freed, evicted.eviction.reason.name());
        store.record(&Event { at_ms, ..event });
    }
    store.record(&Event { at_ms, ..swept(collected.removed.swept.bytes.saturating_sub(told), "swept") });
    if let Err(error) = store.drop_history(MONTHS_KEPT, at_ms, false) {
        talk.warn(&format!("old history stays: {:#}", anyhow::Error::from(error)));
    }
}

/// The last clean-up that the history tells of.
pub(crate) fn last_collection(store: &Store) -> larder_store::Result<Option<LastGc>> {
    const LATELY: u64 = 31 * figures::DAY_MS;
    let now = now_ms();
    // Mostly it was lately, and months of history are not read.
    for since in [now.saturating_sub(LATELY), 0] {
        let history = store.history(since)?;
        let is_of_one = |event: &&Event| matches!(event.kind, EventKind::Gc | EventKind::Evict) && event.at_ms <= now;
        let events = || history.events.iter().filter(is_of_one);
        let Some(last) = events().next_back() else { continue };
        let together = || events().filter(|event| (event.at_ms, &event.host) == (last.at_ms, &last.host));
        return Ok(Some(LastGc {
            at: figures::rfc3339(last.at_ms),
            evicted: together().filter(|event| event.kind == EventKind::Evict).count() as u64,
            freed_bytes: together().map(|event| event.freed).fold(0, u64::saturating_add),
        }));
    }
    Ok(None)
}

fn of_transfer(kind: EventKind, request: &Request, transfer: &Transfer) -> Event {
    Event {
        key: transfer.key.clone(),
        snapshot: transfer.snapshot.clone().unwrap_or_default(),
        ms: transfer.duration_ms,
        files: transfer.files,
        bytes: transfer.bytes,
        link_modes: transfer.link_modes.clone(),
        reason: match (transfer.grafted, transfer.kept_newer, transfer.left_out.is_empty()) {
            (true, ..) => "grafted".into(),
            (_, true, _) => "kept newer".into(),
            (.., false) => "damaged".into(),
            _ => String::new(),
        },
        ..of_request(kind, request)
    }
}

fn of_request(kind: EventKind, request: &Request) -> Event {
    let what = if request.project.is_some() { TARGET } else { PATHS };
    Event {
        repository: repository(request),
        job: request.job.clone(),
        branch: branch(request),
        scope: request.place.scope.clone(),
        what: what.into(),
        ..here(kind)
    }
}

/// An event of now, with what is known of this machine and run.
fn here(kind: EventKind) -> Event {
    let run = first_of(&RUNS).map(|run| match text("GITHUB_RUN_ATTEMPT").filter(|attempt| attempt != "1") {
        Some(attempt) => format!("{run}.{attempt}"),
        None => run,
    });
    Event {
        host: larder_fs::process::host_name(),
        user: first_of(&USERS).unwrap_or_else(|| larder_fs::process::effective_uid().to_string()),
        run: run.unwrap_or_default(),
        ..Event::new(kind, now_ms())
    }
}

fn repository(request: &Request) -> String {
    let folder = || {
        let root = match &request.project {
            Some(project) => Some(project.workspace.root.clone()),
            None => request.dirs().first().and_then(|dir| dir.parent()).map(Path::to_path_buf),
        };
        root?.file_name().map(|name| name.to_string_lossy().into_owned())
    };
    host::job().repository.clone().or_else(folder).unwrap_or_default()
}

/// What the CI system says, else what git has checked out.
fn branch(request: &Request) -> String {
    let checked_out = || {
        let root = &request.project.as_ref()?.workspace.root;
        let head = host::read(&repository_of(root)?.join(".git/HEAD"))?;
        let head = String::from_utf8(head).ok()?;
        Some(head.trim().strip_prefix("ref: refs/heads/")?.to_owned())
    };
    host::job().branch.clone().or_else(|| first_of(&BRANCHES)).or_else(checked_out).unwrap_or_default()
}

fn first_of(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| text(name))
}

fn text(name: &str) -> Option<String> {
    host::env(name)?.into_string().ok().filter(|text| !text.is_empty())
}

fn outcome(outcome: Outcome) -> Option<EventOutcome> {
    match outcome {
        Outcome::Hit => Some(EventOutcome::Hit),
        Outcome::Partial => Some(EventOutcome::Partial),
        Outcome::Miss => Some(EventOutcome::Miss),
        Outcome::Saved => Some(EventOutcome::Saved),
        Outcome::Skipped => None,
    }
}
