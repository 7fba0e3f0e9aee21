//! `larder ls`: the snapshots in the store.

use super::{is_json, open_store};
use crate::cli::{Global, LsArgs, LsSort};
use crate::origin::Origin;
use crate::report::{self, Ls, LsEntry, SCHEMA_VERSION};
use crate::talk::Talk;
use anyhow::Result;
use larder_store::{Events, Header, Snapshot};
use std::cmp::Reverse;

pub(super) fn run(global: &Global, args: &LsArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let store = open_store(global, &talk)?;
    let mut snapshots = Vec::new();
    let all = match &store {
        Some(store) => store.snapshots()?,
        None => Vec::new(),
    };
    for found in all {
        match Snapshot::load_header(&found.path) {
            Ok(header) => {
                let origin = Origin::of(&header);
                if args.filter.matches(&header.key, &origin) {
                    snapshots.push(entry(header, origin));
                }
            }
            Err(larder_store::Error::Fs(e)) if e.is_not_found() => {}
            Err(error) => talk.warn(&format!("{:#}", anyhow::Error::from(error))),
        }
    }
    // They come newest first, and what is equal stays so.
    match args.sort {
        LsSort::Newest => {}
        LsSort::Bytes => snapshots.sort_by_key(|entry| Reverse(entry.bytes)),
        LsSort::Files => snapshots.sort_by_key(|entry| Reverse(entry.files)),
        LsSort::Key => snapshots.sort_by(|a, b| a.key.cmp(&b.key)),
    }
    if is_json(global) {
        report::print_json(&Ls { schema_version: SCHEMA_VERSION, snapshots })?;
        return Ok(0);
    }
    let width = snapshots.iter().map(|entry| branch(entry).chars().count()).max().unwrap_or(0);
    for entry in &snapshots {
        let line = format!(
            "{}  {}  {:>9}  {:>8} files  {:width$}  {}  {}\n",
            entry.snapshot,
            entry.created,
            report::size(entry.bytes),
            entry.files,
            branch(entry),
            entry.key.escape_debug(),
            entry.paths.iter().map(|path| report::one_line(path)).collect::<Vec<_>>().join(" "),
        );
        report::print(&line)?;
    }
    Ok(0)
}

fn branch(entry: &LsEntry) -> String {
    entry.origin.branch.as_deref().map_or("-".to_owned(), report::one_line)
}

fn entry(header: Header, origin: Origin) -> LsEntry {
    LsEntry {
        created: report::time(header.created),
        files: header.roots.iter().map(|root| root.files).sum(),
        bytes: header.roots.iter().map(|root| root.bytes).sum(),
        paths: header.roots.into_iter().map(|root| root.path).collect(),
        snapshot: header.id,
        key: header.key,
        scope: header.scope,
        origin,
    }
}
