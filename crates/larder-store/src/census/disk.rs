//! What the store's directories take on disk, by the stat of every file.
//!
//! An inode may have several names: as blobs (it was taken in twice), in prepared trees, and in workspaces. What it
//! takes is counted once, and removing its names within the store frees it only where there is none outside.

use crate::blob::{BLOBS, BlobId, Digest, INGEST, QUARANTINE, SIDECAR, SaveId};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::store::{SESSIONS, Store, TMP, TREES, chain};
use larder_fs::{Dir, Kind, Meta};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

/// Disks count space in these.
const BLOCK: u64 = 512;

/// What a file takes on disk: holes take nothing.
pub(super) fn taken(meta: &Meta) -> u64 {
    meta.blocks.saturating_mul(BLOCK)
}

/// What a blob takes, and gives back when nothing in the store needs it any more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OnDisk {
    pub(super) stored: u64,
    pub(super) freed: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// By blob.
    pub(super) blobs: Vec<Option<OnDisk>>,
    /// For a blob whose inode another one has too, that one.
    pub(super) same: HashMap<u32, u32>,
    pub(super) orphans: u64,
    pub(super) orphan_bytes: OnDisk,
    /// By the name of the snapshot.
    pub(super) trees: HashMap<String, OnDisk>,
    pub(super) prepared: u64,
    /// Blobs by the user id of their owner.
    pub(super) owners: BTreeMap<u32, u64>,
    pub(super) quarantine: u64,
    pub(super) other: u64,
}

/// One file of `blobs/` or `ingest/`.
struct Seen {
    what: What,
    taken: u64,
    ino: u64,
    nlink: u64,
    uid: u32,
}

enum What {
    Blob(u32),
    Orphan,
    /// The digest of this blob.
    Sidecar(Option<u32>),
    Foreign,
}

/// An inode with several names.
#[derive(Default)]
struct Linked {
    /// Its names in the store.
    names: u64,
    /// The first blob that snapshots name.
    first: Option<u32>,
    /// Whether what it takes was counted among orphans or trees.
    counted: bool,
}

type Links = HashMap<u64, Linked>;

impl Disk {
    /// Examines all of the store; `ids` are the blobs that snapshots name.
    pub(super) fn of(store: &Store, ids: &HashMap<BlobId, u32>, events: &dyn Events) -> Result<Self> {
        let mut disk = Self { blobs: vec![None; ids.len()], ..Self::default() };
        let mut links = Links::new();
        let in_trees = disk.walk_trees(store, &mut links, events)?;
        let seen = list(store, ids, events)?;
        for one in seen.iter().filter(|one| one.nlink > 1) {
            let link = links.entry(one.ino).or_default();
            link.names += 1;
            if let (What::Blob(id), None) = (&one.what, link.first) {
                link.first = Some(*id);
            }
        }
        for one in &seen {
            disk.count(one, &mut links);
        }
        // Sidecars go with their blobs, also where the blob itself stays linked elsewhere.
        for one in &seen {
            if let What::Sidecar(id) = one.what {
                let id = id.map(|id| disk.same.get(&id).copied().unwrap_or(id));
                let of = id.and_then(|id| disk.blobs[id as usize].as_mut());
                of.unwrap_or(&mut disk.orphan_bytes).add(one.taken, true);
            }
        }
        for (id, file) in in_trees {
            let (counts, is_free) = file.is_first(&mut links);
            if counts {
                disk.trees.entry(id).or_default().add(file.taken, is_free);
            }
        }
        disk.quarantine = total(&store.room(QUARANTINE)?)?;
        disk.other += total(&store.room(SESSIONS)?)? + total(&store.room(TMP)?)?;
        Ok(disk)
    }

    /// Counts a file that nothing else here counts.
    pub(super) fn add_other(&mut self, meta: Option<&Meta>) {
        self.other += meta.map_or(0, taken);
    }

    fn count(&mut self, one: &Seen, links: &mut Links) {
        if matches!(one.what, What::Blob(_) | What::Orphan) {
            *self.owners.entry(one.uid).or_default() += 1;
        }
        match one.what {
            What::Blob(id) => match links.get(&one.ino).filter(|_| one.nlink > 1) {
                Some(Linked { first: Some(first), .. }) if *first != id => drop(self.same.insert(id, *first)),
                link => {
                    let is_free = one.nlink <= link.map_or(1, |link| link.names);
                    self.blobs[id as usize].get_or_insert_default().add(one.taken, is_free);
                }
            },
            What::Orphan => {
                self.orphans += 1;
                let (counts, is_free) = one.is_first(links);
                if counts {
                    self.orphan_bytes.add(one.taken, is_free);
                }
            }
            What::Sidecar(_) => {}
            What::Foreign => self.other += one.taken,
        }
    }

    /// Counts the prepared trees but for files with several names, which are returned with the snapshot's name.
    fn walk_trees(&mut self, store: &Store, links: &mut Links, events: &dyn Events) -> Result<Vec<(String, Seen)>> {
        let mut shared = Vec::new();
        let trees = store.room(TREES)?;
        for entry in trees.entries()? {
            let Some(tree) = open(&trees, &entry.name, events) else { continue };
            let id = entry.name.to_string_lossy().into_owned();
            self.prepared += tree.entries_if_there()?.len() as u64;
            let mut on_disk = OnDisk::default();
            on_disk.add(taken(&tree.stat_self()?), true);
            visit(&tree, &mut |meta| match meta.kind {
                Kind::File if meta.nlink > 1 => {
                    links.entry(meta.ino).or_default().names += 1;
                    shared.push((id.clone(), Seen::new(What::Foreign, meta)));
                }
                _ => on_disk.add(taken(meta), true),
            })?;
            self.trees.insert(id, on_disk);
        }
        Ok(shared)
    }
}

impl OnDisk {
    fn add(&mut self, taken: u64, is_free: bool) {
        self.stored += taken;
        self.freed += if is_free { taken } else { 0 };
    }
}

impl Seen {
    fn new(what: What, meta: &Meta) -> Self {
        Self { what, taken: taken(meta), ino: meta.ino, nlink: meta.nlink, uid: meta.uid }
    }

    /// For what no snapshot names: whether what it takes counts here and not for another name of its inode, and
    /// whether it is free when all names in the store are gone.
    fn is_first(&self, links: &mut Links) -> (bool, bool) {
        match links.get_mut(&self.ino).filter(|_| self.nlink > 1) {
            Some(link) => {
                let counts = link.first.is_none() && !link.counted;
                link.counted = true;
                (counts, self.nlink <= link.names)
            }
            None => (true, self.nlink <= 1),
        }
    }
}

/// The files of `blobs/` and `ingest/`. Directories are listed in parallel.
fn list(store: &Store, ids: &HashMap<BlobId, u32>, events: &dyn Events) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for room in [BLOBS, INGEST] {
        let dir = store.room(room)?;
        let entries = dir.entries()?;
        let listed: Vec<Vec<Seen>> = entries
            .par_iter()
            .map(|entry| {
                match open(&dir, &entry.name, events) {
                    Some(below) => list_one(&below, &|name| identify(room, &entry.name, name, ids)),
                    None => dir
                        .stat_optional(&entry.name)
                        .map(|meta| meta.map(|meta| Seen::new(What::Foreign, &meta)).into_iter().collect()),
                }
                .map_err(Error::from)
            })
            .collect::<Result<_>>()?;
        seen.extend(listed.into_iter().flatten());
    }
    Ok(seen)
}

fn list_one(dir: &Dir, identify: &dyn Fn(&OsStr) -> What) -> larder_fs::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for entry in dir.entries_if_there()? {
        if let Some(meta) = dir.stat_optional(&entry.name)? {
            let what = if meta.kind == Kind::File { identify(&entry.name) } else { What::Foreign };
            seen.push(Seen::new(what, &meta));
        }
    }
    Ok(seen)
}

fn identify(room: &str, dir: &OsStr, name: &OsStr, ids: &HashMap<BlobId, u32>) -> What {
    let name = name.to_string_lossy();
    let stem = name.strip_suffix(SIDECAR).filter(|_| room == INGEST);
    let id = match room {
        BLOBS => blake3::Hash::from_hex(format!("{}{name}", dir.to_string_lossy()))
            .ok()
            .map(|h| BlobId::Digest(Digest::from(h))),
        _ => {
            SaveId::parse(dir).zip(stem.unwrap_or(&name).parse().ok()).map(|(save, index)| BlobId::Ingest(save, index))
        }
    };
    let Some(id) = id else { return What::Foreign };
    match (ids.get(&id), stem) {
        (id, Some(_)) => What::Sidecar(id.copied()),
        (Some(id), None) => What::Blob(*id),
        (None, None) => What::Orphan,
    }
}

/// Opens a directory below; `None` where there is none (any more), or, with a warning, where it cannot be looked into.
fn open(dir: &Dir, name: &OsStr, events: &dyn Events) -> Option<Dir> {
    match dir.open_beneath(name) {
        Ok(below) => Some(below),
        Err(e) if e.is_not_found() || matches!(dir.stat_optional(name), Ok(Some(meta)) if meta.kind != Kind::Dir) => {
            None
        }
        Err(e) => {
            events.warn(&format!("{}; what is in it is not counted", chain(&e)));
            None
        }
    }
}

/// Shows every entry below a directory. What vanishes meanwhile, or lets nobody in (an overlay's work directory),
/// has no contents.
fn visit(top: &Dir, each: &mut dyn FnMut(&Meta)) -> Result<()> {
    let mut pending = vec![OsString::new()];
    while let Some(relative) = pending.pop() {
        let listed = top.open_beneath(&relative).and_then(|dir| dir.entries().map(|entries| (dir, entries)));
        let (dir, entries) = match listed {
            Ok(listed) => listed,
            Err(e) if e.is_not_found() || e.kind() == std::io::ErrorKind::PermissionDenied => {
                tracing::debug!("not counted: {}", chain(&e));
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        for entry in entries {
            let Some(meta) = dir.stat_optional(&entry.name)? else { continue };
            each(&meta);
            if meta.kind == Kind::Dir {
                let mut below = relative.clone();
                if !below.is_empty() {
                    below.push("/");
                }
                below.push(&entry.name);
                pending.push(below);
            }
        }
    }
    Ok(())
}

/// What everything below a directory takes.
pub(crate) fn total(dir: &Dir) -> Result<u64> {
    let mut sum = 0;
    visit(dir, &mut |meta| sum += taken(meta))?;
    Ok(sum)
}
