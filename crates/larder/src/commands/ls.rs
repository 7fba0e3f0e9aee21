//! `larder ls`: the snapshots in the store.

use super::{is_json, open_store, time};
use crate::cli::{Global, LsArgs};
use crate::report::{self, Ls, LsEntry, SCHEMA_VERSION};
use crate::talk::Talk;
use anyhow::Result;
use bytesize::ByteSize;
use larder_store::{Events, Header, Snapshot};

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
            Ok(header) if header.key.starts_with(&args.key) => snapshots.push(entry(header)),
            Ok(_) => {}
            Err(larder_store::Error::Fs(e)) if e.is_not_found() => {}
            Err(error) => talk.warn(&format!("{:#}", anyhow::Error::from(error))),
        }
    }
    if is_json(global) {
        report::print_json(&Ls { schema_version: SCHEMA_VERSION, snapshots })?;
        return Ok(0);
    }
    for entry in &snapshots {
        let line = format!(
            "{}  {}  {:>9}  {:>8} files  {}  {}\n",
            entry.snapshot,
            entry.created,
            ByteSize(entry.bytes).display().si().to_string(),
            entry.files,
            entry.key.escape_debug(),
            entry.paths.iter().map(|path| report::one_line(path)).collect::<Vec<_>>().join(" "),
        );
        report::print(&line)?;
    }
    Ok(0)
}

fn entry(header: Header) -> LsEntry {
    let created = time(header.created);
    LsEntry {
        created,
        files: header.roots.iter().map(|root| root.files).sum(),
        bytes: header.roots.iter().map(|root| root.bytes).sum(),
        paths: header.roots.into_iter().map(|root| root.path).collect(),
        snapshot: header.id,
        key: header.key,
        scope: header.scope,
    }
}
