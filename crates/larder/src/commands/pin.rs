//! `larder pin` and `larder unpin`: say which snapshots are never evicted.

use super::{is_json, open_store};
use crate::cli::{Global, PinArgs, UnpinArgs};
use crate::report::{self, SCHEMA_VERSION};
use crate::request::UsageError;
use crate::talk::Talk;
use anyhow::{Result, bail};
use larder_store::{Found, Snapshot, Store};
use serde::Serialize;
use std::collections::HashMap;

/// One pinned snapshot.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PinEntry {
    /// Its name.
    snapshot: String,
    /// Its key; `null` where the snapshot is gone or cannot be read.
    key: Option<String>,
    /// Why, in somebody's words; may be empty.
    reason: String,
    /// Since when, RFC 3339; `null` where the record cannot be read.
    since: Option<String>,
}

/// The object of `pin` and `unpin`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pins {
    /// Version of this object.
    schema_version: u32,
    /// Snapshots that were pinned or unpinned now.
    changed: Vec<String>,
    /// All that are pinned since.
    pinned: Vec<PinEntry>,
}

pub(super) fn pin(global: &Global, args: &PinArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let store = open_store(global, &talk)?;
    let names = Names::of(store.as_ref())?;
    let mut chosen = Vec::new();
    for name in &args.snapshots {
        // The newest of a key: that is what a restore takes.
        let found = names.ids(name).into_iter().next();
        chosen.push(found.ok_or_else(|| unknown(name))?);
    }
    if let Some(store) = &store {
        for id in &chosen {
            if !store.pin(id, args.reason.as_deref().unwrap_or_default())? {
                bail!("the snapshot {id} was removed just now: nothing is left to pin");
            }
        }
    }
    tell(global, store.as_ref(), &names, chosen, "pinned", args.list)
}

pub(super) fn unpin(global: &Global, args: &UnpinArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let store = open_store(global, &talk)?;
    let names = Names::of(store.as_ref())?;
    let pinned = store.as_ref().map(Store::pins).transpose()?.unwrap_or_default();
    let mut chosen: Vec<String> = Vec::new();
    for name in &args.snapshots {
        let of_name = names.ids(name);
        // A pin may outlive its snapshot.
        let is_meant = |id: &String| id == name || of_name.contains(id);
        let meant: Vec<String> = pinned.iter().map(|pin| pin.snapshot.clone()).filter(is_meant).collect();
        if meant.is_empty() && of_name.is_empty() {
            return Err(unknown(name));
        }
        chosen.extend(meant);
    }
    let mut changed = Vec::new();
    if let Some(store) = &store {
        for id in chosen {
            if store.unpin(&id)? {
                changed.push(id);
            }
        }
    }
    tell(global, store.as_ref(), &names, changed, "unpinned", false)
}

fn unknown(name: &str) -> anyhow::Error {
    UsageError(format!("there is no snapshot with the name or key {name:?}: `larder ls` lists them")).into()
}

/// The snapshots of a store, newest first, and their keys.
struct Names {
    all: Vec<Found>,
    keys: HashMap<String, String>,
}

impl Names {
    fn of(store: Option<&Store>) -> Result<Self> {
        let all = store.map(Store::snapshots).transpose()?.unwrap_or_default();
        let key = |found: &Found| Some((found.id.clone(), Snapshot::load_header(&found.path).ok()?.key));
        Ok(Self { keys: all.iter().filter_map(key).collect(), all })
    }

    /// Those of this name, or else of this key, newest first.
    fn ids(&self, name: &str) -> Vec<String> {
        let ids = self.all.iter().map(|found| &found.id);
        let exact: Vec<String> = ids.clone().filter(|id| *id == name).cloned().collect();
        let has_key = |id: &&String| self.keys.get(*id).is_some_and(|key| key == name);
        if exact.is_empty() { ids.filter(has_key).cloned().collect() } else { exact }
    }
}

fn tell(
    global: &Global,
    store: Option<&Store>,
    names: &Names,
    changed: Vec<String>,
    what: &str,
    list: bool,
) -> Result<u8> {
    let pins = store.map(Store::pins).transpose()?.unwrap_or_default();
    let entry = |pin: larder_store::Pin| PinEntry {
        key: names.keys.get(&pin.snapshot).cloned(),
        snapshot: pin.snapshot,
        reason: pin.reason,
        since: pin.since.map(report::time),
    };
    let object = Pins { schema_version: SCHEMA_VERSION, changed, pinned: pins.into_iter().map(entry).collect() };
    if is_json(global) {
        report::print_json(&object)?;
        return Ok(0);
    }
    if global.quiet {
        return Ok(0);
    }
    if list {
        for pin in &object.pinned {
            let line = format!(
                "{}  {}  {}  {}\n",
                pin.snapshot,
                pin.since.as_deref().unwrap_or("-"),
                report::one_line(pin.key.as_deref().unwrap_or("-")),
                report::one_line(&pin.reason)
            );
            report::print(line.trim_end()).and_then(|()| report::print("\n"))?;
        }
        return Ok(0);
    }
    report::print(&format!("{what} {} snapshots, {} are pinned\n", object.changed.len(), object.pinned.len()))?;
    Ok(0)
}
