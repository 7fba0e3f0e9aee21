//! `larder rm`: remove snapshots, and what only they needed.

use super::{is_json, open_store};
use crate::amount::count;
use crate::cli::{Global, RmArgs};
use crate::history;
use crate::report::{self, Rm, SCHEMA_VERSION};
use crate::request::UsageError;
use crate::talk::Talk;
use anyhow::Result;
use bytesize::ByteSize;
use larder_store::{EventKind, Found, Header, Removed, Snapshot, Store};
use std::collections::HashSet;
use std::time::Duration;

pub(super) fn run(global: &Global, args: &RmArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let store = open_store(global, &talk)?;
    let all = match &store {
        Some(store) => store.snapshots()?,
        None => Vec::new(),
    };
    let mut chosen: Vec<Found> = Vec::new();
    for id in &args.snapshots {
        match all.iter().find(|found| found.id == *id) {
            Some(found) => chosen.push(found.clone()),
            None => {
                return Err(UsageError(format!("there is no snapshot {id:?}: `larder ls` lists them")).into());
            }
        }
    }
    if let Some(key) = &args.key {
        let has_key = |found: &&Found| Snapshot::load_header(&found.path).is_ok_and(|header| header.key == *key);
        chosen.extend(all.iter().filter(has_key).cloned());
    }
    let mut seen = HashSet::new();
    chosen.retain(|found| seen.insert(found.id.clone()));
    // Read before it is gone; what cannot be read is told of by what it freed alone.
    let headers: Vec<_> = chosen.iter().filter_map(|found| Snapshot::load_header(&found.path).ok()).collect();
    let removed = match &store {
        Some(store) => {
            let removed = match args.force {
                true => store.remove(&chosen, args.dry_run, &talk)?,
                // What a job restored that is gone it keeps: links and copies do not go with the snapshot.
                false => store.remove_unless_kept(&chosen, Duration::ZERO, args.dry_run, &talk)?,
            };
            if !args.dry_run {
                tell(store, &headers, &removed);
            }
            removed
        }
        None => Removed::default(),
    };
    talk.finish();
    if is_json(global) {
        report::print_json(&Rm {
            schema_version: SCHEMA_VERSION,
            snapshots: removed.snapshots,
            blobs: removed.blobs,
            bytes: removed.bytes,
            dry_run: args.dry_run,
        })?;
    } else if !global.quiet {
        let snapshots = count(removed.snapshots.len() as u64, "snapshot");
        let line = match args.dry_run {
            true => format!("would remove {snapshots} and what nothing else needs\n"),
            false => format!(
                "removed {snapshots} and {}, {} freed\n",
                count(removed.blobs, "blob"),
                ByteSize(removed.bytes).display().si()
            ),
        };
        report::print(&line)?;
    }
    Ok(0)
}

/// Tells the history. Which snapshot freed how much is not known, so the sweep tells of the bytes.
fn tell(store: &Store, headers: &[Header], removed: &Removed) {
    const REASON: &str = "asked for";
    for header in headers {
        store.record(&history::dropped(EventKind::Remove, header, 0, REASON));
    }
    if removed.bytes > 0 {
        store.record(&history::swept(removed.bytes, REASON));
    }
}
