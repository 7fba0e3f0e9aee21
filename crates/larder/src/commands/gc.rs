//! `larder gc`: evict what is worth least, then sweep what nothing names.

use super::{is_json, millis, settings_here};
use crate::cli::{GcArgs, Global};
use crate::disk::{self, Asked};
use crate::report::{self, SCHEMA_VERSION};
use crate::request::{Typed, UsageError};
use crate::talk::Talk;
use crate::{faults, history, settings::Settings};
use anyhow::Result;
use bytesize::ByteSize;
use larder_store::evict::Short;
use larder_store::{Collected, Events, Evicted, GcRequest};
use serde::Serialize;
use std::time::Instant;

/// One snapshot of `gc`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Eviction {
    /// Its name.
    snapshot: String,
    /// Its key.
    key: String,
    /// Who may read it.
    scope: String,
    /// The sequence that it belongs to, as job@place.
    lineage: String,
    /// When it was published, RFC 3339.
    created: String,
    /// When it was last restored, or else published, RFC 3339.
    used: String,
    /// Why it goes: `repeated`, `unused`, `surplus`, `budget` or `room`.
    reason: &'static str,
    /// The same for people.
    why: String,
    /// What goes free on disk with it, once those before it are gone, in bytes.
    bytes: u64,
    /// What it was expected to spare: milliseconds of compiling a day, for each gigabyte.
    worth: f64,
    /// Whether it stayed all the same, because somebody pinned or restored it meanwhile.
    kept: bool,
}

/// What could not be reached.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Missing {
    /// Bytes that would still have to go free on the store's file system.
    bytes: u64,
    /// Files that would.
    inodes: u64,
    /// Bytes by which the store stays over its budget.
    over_budget: u64,
    /// Snapshots that are pinned.
    pinned: usize,
    /// Snapshots that jobs have restored.
    leased: usize,
    /// Snapshots that would free nothing, since a workspace links their blobs or a kept snapshot needs them.
    bound: usize,
}

/// The object of `gc`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Gc {
    /// Version of this object.
    schema_version: u32,
    /// Whether nothing was changed because only the plan was asked for.
    dry_run: bool,
    /// How many snapshots there were.
    snapshots: usize,
    /// What the store took on disk before, in bytes.
    stored: u64,
    /// Who goes, the first one first.
    evicted: Vec<Eviction>,
    /// What goes free on disk with them by the plan, in bytes.
    planned: u64,
    /// What could not be reached; `null` where all was.
    missing: Option<Missing>,
    /// Blobs deleted, those of no snapshot among them.
    blobs: u64,
    /// Bytes freed with them.
    bytes: u64,
    /// Prepared trees deleted.
    trees: u64,
    /// Records of directories that are gone, deleted.
    sessions: u64,
    /// Damaged blobs deleted that had been set aside a month ago.
    quarantined: u64,
    /// Mirrors of sibling repositories deleted that nobody used for as long as `max-age`, or that would be; their paths
    /// in the store.
    mirrors: Vec<String>,
    /// Bytes that they took.
    mirror_bytes: u64,
    /// Snapshots that cannot be read: while one is there no blob is deleted, and nothing is evicted for room.
    unreadable: Vec<String>,
    /// How long it took, in milliseconds.
    duration_ms: u64,
}

pub(super) fn run(global: &Global, args: &GcArgs) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let typed = Typed { budget: args.budget, max_age: args.max_age, keep: args.keep, ..Typed::default() };
    let settings = settings_here(global, &typed)?;
    check(&settings)?;
    let asked = Asked { need: args.need, dry_run: args.dry_run, ..Asked::default() };
    let collected = match faults::open_existing(&settings.store.value, &talk)? {
        Some(store) => {
            let collect = |request: &GcRequest<'_>| Ok(store.gc(request, &talk)?);
            let collected = disk::with_request(&store, &settings, asked, collect)?;
            if !args.dry_run {
                history::collected(&store, &collected, &talk);
            }
            Some(collected)
        }
        None => {
            talk.say(&format!("there is no store at {} yet", settings.store.value.display()));
            None
        }
    };
    talk.finish();
    let short = collected.as_ref().and_then(|collected| collected.plan.short);
    let object = object(collected, args.dry_run, millis(start));
    if is_json(global) {
        report::print_json(&object)?;
    } else if !global.quiet {
        report::print(&object.text())?;
    }
    if let Some(short) = short {
        talk.warn(&sentence(&short));
    }
    // Whoever needs room waits for an answer.
    Ok(u8::from(args.need.is_some() && short.is_some_and(|short| short.wanted.bytes > 0)))
}

/// Settings that contradict each other.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    let (high, low) = (settings.high.value, settings.low.value);
    if low > high || high > 100 {
        return Err(UsageError(format!("high = {high} and low = {low}: expected low <= high <= 100")).into());
    }
    Ok(())
}

fn object(collected: Option<Collected>, dry_run: bool, duration_ms: u64) -> Gc {
    let mut object = Gc {
        schema_version: SCHEMA_VERSION,
        dry_run,
        snapshots: 0,
        stored: 0,
        evicted: Vec::new(),
        planned: 0,
        missing: None,
        blobs: 0,
        bytes: 0,
        trees: 0,
        sessions: 0,
        quarantined: 0,
        mirrors: Vec::new(),
        mirror_bytes: 0,
        unreadable: Vec::new(),
        duration_ms,
    };
    let Some(collected) = collected else { return object };
    let swept = collected.removed.swept;
    object.snapshots = collected.snapshots;
    object.stored = collected.stored;
    object.planned = collected.plan.freed.bytes;
    object.missing = collected.plan.short.map(|short| Missing {
        bytes: short.wanted.bytes,
        inodes: short.wanted.inodes,
        over_budget: short.over_budget,
        pinned: short.pinned,
        leased: short.leased,
        bound: short.bound,
    });
    (object.blobs, object.bytes) = (swept.blobs, swept.bytes);
    (object.trees, object.sessions, object.quarantined) = (swept.trees, swept.sessions, swept.quarantined);
    object.mirror_bytes = collected.mirrors.iter().map(|mirror| mirror.bytes).sum();
    object.mirrors = collected.mirrors.iter().map(|mirror| mirror.path.display().to_string()).collect();
    object.unreadable = collected.unreadable.into_iter().map(|(found, _)| found.id).collect();
    object.evicted = collected.evicted.into_iter().map(entry).collect();
    object
}

fn entry(Evicted { eviction, header, lineage, used, kept }: Evicted) -> Eviction {
    Eviction {
        snapshot: eviction.id,
        key: header.key,
        scope: header.scope,
        lineage: lineage.to_string(),
        created: report::time(header.created),
        used: report::time(used),
        reason: eviction.reason.name(),
        why: eviction.reason.to_string(),
        bytes: eviction.freed.bytes,
        worth: eviction.worth,
        kept,
    }
}

fn sized(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

/// What could not be reached, for people.
pub(crate) fn sentence(short: &Short) -> String {
    let mut wanted = Vec::new();
    if short.wanted.bytes > 0 {
        wanted.push(format!("{} more would have to go free", sized(short.wanted.bytes)));
    }
    if short.wanted.inodes > 0 {
        wanted.push(format!("{} more files would have to go", short.wanted.inodes));
    }
    if short.over_budget > 0 {
        wanted.push(format!("the store stays {} over its budget", sized(short.over_budget)));
    }
    let Short { pinned, leased, bound, .. } = short;
    format!(
        "{}; of the snapshots that stay {pinned} are pinned, {leased} are in use by jobs, {bound} would free nothing",
        wanted.join(", ")
    )
}

impl Gc {
    fn text(&self) -> String {
        let mut text = String::new();
        for evicted in &self.evicted {
            text += &format!(
                "{}  {}  {:>9}  {}  {}{}\n",
                evicted.snapshot,
                evicted.created,
                sized(evicted.bytes),
                evicted.key.escape_debug(),
                evicted.why,
                if evicted.kept { "; stays, in use since" } else { "" },
            );
        }
        for mirror in &self.mirrors {
            let done = if self.dry_run { "would delete" } else { "deleted" };
            text += &format!("{done} {}, which nobody used\n", mirror.escape_debug());
        }
        let evicted = self.evicted.iter().filter(|evicted| !evicted.kept).count();
        text += &match self.dry_run {
            true => {
                format!("would evict {evicted} of {} snapshots and free {}\n", self.snapshots, sized(self.planned))
            }
            false => format!(
                "evicted {evicted} of {} snapshots and deleted {} blobs, {} freed\n",
                self.snapshots,
                self.blobs,
                sized(self.bytes)
            ),
        };
        text
    }
}
