//! `larder guard`: keep disks between their marks, and say what fills them.

use super::{gc, is_json, millis};
use crate::amount::Size;
use crate::cli::{Global, GuardArgs};
use crate::disk::{self, Asked, Marks};
use crate::report::{self, SCHEMA_VERSION};
use crate::request::{self, Typed};
use crate::settings::Settings;
use crate::talk::Talk;
use crate::{care, faults, history};
use anyhow::Result;
use bytesize::ByteSize;
use larder_fs::{Dir, Space, Usage, Volume};
use larder_store::evict::Freed;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So long is looked for what fills a disk: who runs this waits for a job.
const LOOK: Duration = Duration::from_secs(20);
/// So many folders are named.
const NAMED: usize = 10;
/// Folders down to this depth, from where the file system begins.
const DEPTH: usize = 4;

/// A folder that takes much.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Folder {
    /// The folder.
    path: String,
    /// What it takes with all below it, in bytes.
    bytes: u64,
    /// Files and folders, with all below it.
    files: u64,
}

/// One file system of `guard`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Disk {
    /// The store or workspace for which it was looked at.
    path: String,
    /// Whether the store is on it: then evictions make room there.
    holds_store: bool,
    /// All bytes that can be used.
    total: u64,
    /// Bytes that may be written.
    available: u64,
    /// In percent of `total`.
    used_percent: u64,
    /// Files that may be made; `null` where they are not counted.
    inodes_available: Option<u64>,
    /// In percent of all; `null` where they are not counted.
    inodes_used_percent: Option<u64>,
    /// Whether it is below the high mark and has what is needed.
    room: bool,
    /// What fills it, where it has no room: the largest folders first, or those with most files where only files are too
    /// many. Nothing of it was touched.
    largest: Vec<Folder>,
    /// Whether the time was enough to look at all of it.
    looked_at_all: bool,
}

/// The object of `guard`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Guard {
    /// Version of this object.
    schema_version: u32,
    /// Whether nothing was changed.
    dry_run: bool,
    /// Whether every file system has room.
    room: bool,
    /// As they are in the end.
    disks: Vec<Disk>,
    /// Snapshots evicted, in their order.
    evicted: Vec<String>,
    /// What was deleted in folders under care, or would be.
    cared: Vec<Folder>,
    /// How long it took, in milliseconds.
    duration_ms: u64,
}

pub(super) fn run(global: &Global, args: &GuardArgs) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let dir = request::work_dir(args.workspace.first().map(PathBuf::as_path))?;
    let typed = Typed { high: args.high, low: args.low, ..Typed::default() };
    let settings = request::settings(global, &dir, &typed)?;
    let mut workspaces = vec![dir];
    for workspace in args.workspace.iter().skip(1) {
        workspaces.push(request::work_dir(Some(workspace))?);
    }
    let mut object = check(&settings, &workspaces, args.need, args.dry_run, LOOK, &talk)?;
    object.duration_ms = millis(start);
    talk.finish();
    if is_json(global) {
        report::print_json(&object)?;
    } else if !global.quiet {
        report::print(&object.text())?;
    }
    Ok(u8::from(!object.room))
}

/// Keeps the disks of the store and of these workspaces between the marks, and cleans the folders under care. On the
/// workspaces' disks `need` is to be free. What fills a disk is looked for `look_for` long.
pub(super) fn check(
    settings: &Settings,
    workspaces: &[PathBuf],
    need: Option<Size>,
    dry_run: bool,
    look_for: Duration,
    talk: &Talk,
) -> Result<Guard> {
    gc::check(settings)?;
    let folders = care::resolve(&settings.care.value, &settings.store.value, workspaces)?;
    let cared = care::clean(&folders, dry_run, talk);
    let marks = Marks { high: settings.high.value, low: settings.low.value };
    let store = faults::open_existing(&settings.store.value, talk)?;
    let mut watched = Vec::new();
    for path in store.iter().map(|store| store.path()).chain(workspaces.iter().map(PathBuf::as_path)) {
        let directory = Dir::open(path)?;
        let device = Volume::of(&directory)?.dev;
        if !watched.iter().any(|(_, _, other)| *other == device) {
            watched.push((path.to_path_buf(), directory, device));
        }
    }
    // A job writes to its workspace.
    let needing: Vec<u64> =
        workspaces.iter().map(|dir| Ok(Volume::of(&Dir::open(dir)?)?.dev)).collect::<Result<_>>()?;
    let need_on = |device: u64| need.filter(|_| needing.contains(&device)).map_or(0, |need| need.0);
    let mut evicted = Vec::new();
    // What a dry run would have freed.
    let mut planned = Freed::default();
    if let (Some(store), Some((_, directory, device))) = (&store, watched.first()) {
        let needed = need_on(*device);
        let space = Volume::space(directory)?;
        // Nothing but this look, where there is room.
        if marks.wanted(&space) != Freed::default() || space.available < needed {
            let asked = Asked { need: need.filter(|_| needed > 0), by_marks: true, dry_run, ..Asked::default() };
            let collected = disk::with_request(store, settings, asked, |request| Ok(store.gc(request, talk)?))?;
            if !dry_run {
                history::collected(store, &collected, talk);
            }
            planned = if dry_run { collected.plan.freed } else { Freed::default() };
            evicted.extend(collected.evicted.into_iter().filter(|one| !one.kept).map(|one| one.eviction.id));
        }
    }
    let mut disks = Vec::new();
    for (at, (path, directory, device)) in watched.iter().enumerate() {
        let mut space = Volume::space(directory)?;
        if at == 0 && store.is_some() {
            (space.available, space.free) = (space.available + planned.bytes, space.free + planned.bytes);
            space.inodes_available = space.inodes_available.saturating_add(planned.inodes);
        }
        let wanted = marks.wanted(&space);
        let lacks = match (wanted.bytes > 0 || space.available < need_on(*device), wanted.inodes > 0) {
            (true, _) => Some(Lack::Bytes),
            (false, true) => Some(Lack::Files),
            (false, false) => None,
        };
        disks.push(look(path, &space, lacks, look_for, store.as_ref().map(|store| store.path()).filter(|_| at == 0)));
    }
    Ok(Guard {
        schema_version: SCHEMA_VERSION,
        dry_run,
        room: disks.iter().all(|disk| disk.room),
        disks,
        evicted,
        cared: cared.iter().map(Folder::of).collect(),
        duration_ms: 0,
    })
}

fn percent(part: u64, all: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(all.max(1))).unwrap_or(100)
}

/// What a file system has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Bytes,
    Files,
}

impl Folder {
    fn of(usage: &Usage) -> Self {
        Self { path: usage.path.display().to_string(), bytes: usage.bytes, files: usage.files }
    }
}

fn look(path: &Path, space: &Space, lacks: Option<Lack>, look_for: Duration, store: Option<&Path>) -> Disk {
    let (used, total) = space.used();
    let inodes = space.inodes_used();
    let mut disk = Disk {
        path: path.display().to_string(),
        holds_store: store.is_some(),
        total,
        available: space.available,
        used_percent: percent(used, total),
        inodes_available: inodes.map(|_| space.inodes_available),
        inodes_used_percent: inodes.map(|(used, all)| percent(used, all)),
        room: lacks.is_none(),
        largest: Vec::new(),
        looked_at_all: true,
    };
    if let Some(lack) = lacks
        && let Ok(found) = larder_fs::top_of_volume(path).and_then(|top| larder_fs::usage(&top, DEPTH, look_for))
    {
        disk.looked_at_all = found.complete;
        let mut folders = found.folders;
        // Of the store `larder du` tells.
        let is_inside = |path: &Path| store.is_some_and(|store| path != store && path.starts_with(store));
        let takes = |folder: &Usage| if lack == Lack::Files { folder.files } else { folder.bytes };
        folders.retain(|folder| takes(folder) > 0 && !is_inside(&folder.path));
        folders.sort_by_key(|folder| std::cmp::Reverse(takes(folder)));
        // A folder that is mostly another one of these says nothing.
        let tells = |folder: &&Usage| {
            let inner =
                folders.iter().filter(|other| other.path != folder.path && other.path.starts_with(&folder.path));
            inner.map(takes).max().is_none_or(|largest| largest < takes(folder) / 10 * 8)
        };
        let named = folders.iter().filter(tells).take(NAMED);
        disk.largest = named.map(Folder::of).collect();
    }
    disk
}

fn sized(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

impl Guard {
    /// Whether every disk has room.
    pub(super) fn room(&self) -> bool {
        self.room
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for folder in &self.cared {
            let done = if self.dry_run { "would delete" } else { "deleted" };
            text += &format!("{done} {}, {}\n", report::one_line(&folder.path), sized(folder.bytes));
        }
        if !self.evicted.is_empty() {
            let done = if self.dry_run { "would evict" } else { "evicted" };
            text += &format!("{done} {} snapshots\n", self.evicted.len());
        }
        for disk in &self.disks {
            let state = if disk.room { "room" } else { "no room" };
            let inodes =
                disk.inodes_used_percent.map_or(String::new(), |percent| format!(", {percent} % of the inodes used"));
            text += &format!(
                "{}: {} % used, {} free{inodes}: {state}\n",
                report::one_line(&disk.path),
                disk.used_percent,
                sized(disk.available)
            );
            for Folder { path, bytes, files } in &disk.largest {
                text += &format!("  {:>9}  {files:>8} files  {}\n", sized(*bytes), report::one_line(path));
            }
            if !disk.looked_at_all {
                text += "  not all of it could be looked at\n";
            }
        }
        text
    }
}
