//! Removing snapshots, and then whatever nothing names any more.
//!
//! Names go first, durably, under the exclusive lock; blobs after (`sweep`). A crash in between leaves blobs without a
//! snapshot, which a later sweep finds.

use crate::census::skim;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::lease::Lease;
use crate::session::Session;
use crate::snapshot::Found;
use crate::store::{EXCLUSIVE_WAIT, SESSIONS, Store, chain};
use crate::sweep::{Grace, Named, PAUSE, Sweep, Swept};
use larder_fs::{Dir, Timestamp};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

/// How many snapshots lose their name while everybody else waits.
const AT_ONCE: usize = 16;

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of the snapshots removed.
    pub snapshots: Vec<String>,
    /// Snapshots that were to go, and are kept: somebody restored or pinned them meanwhile.
    pub kept: Vec<String>,
    /// Blobs deleted.
    pub blobs: u64,
    /// Bytes freed: those of deleted blobs that no directory had linked.
    pub bytes: u64,
    /// What else was deleted with them.
    pub swept: Swept,
}

/// Which snapshots must stay, with the reason for a person.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(pub(crate) HashMap<String, String>);

/// How snapshots are dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropping {
    /// With a duration of leases, whoever became pinned or leased meanwhile stays.
    pub(crate) unless: Option<Duration>,
    /// How long what nothing names is left alone.
    pub(crate) grace: Grace,
    /// The present time.
    pub(crate) now: Timestamp,
    /// How long each step waits for others before it is given up.
    pub(crate) patience: Duration,
}

impl Store {
    /// Removes these snapshots, pinned and leased ones too, and sweeps what nothing names any more.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while others save or restore, [`Error::ReadOnly`], [`Error::Fs`].
    pub fn remove(&self, found: &[Found], dry_run: bool, events: &dyn Events) -> Result<Removed> {
        let ids = found.iter().map(|found| found.id.clone()).collect();
        if dry_run {
            return Ok(Removed { snapshots: ids, ..Removed::default() });
        }
        self.writable()?;
        let (grace, now) = (Grace::default(), Timestamp::now());
        self.drop_and_sweep(found, &Dropping { unless: None, grace, now, patience: EXCLUSIVE_WAIT }, events)
    }

    /// As [`Store::remove`], but nothing is removed when one of them is pinned or leased.
    ///
    /// # Errors
    ///
    /// [`Error::Kept`] for the first that is, and as [`Store::remove`].
    pub fn remove_unless_kept(
        &self,
        found: &[Found],
        lease: Duration,
        dry_run: bool,
        events: &dyn Events,
    ) -> Result<Removed> {
        let kept = self.kept(Timestamp::now(), lease)?;
        if let Some((id, why)) = found.iter().find_map(|found| kept.0.get_key_value(&found.id)) {
            return Err(Error::Kept { snapshot: id.clone(), why: why.clone() });
        }
        self.remove(found, dry_run, events)
    }

    /// Snapshots that must stay.
    pub(crate) fn kept(&self, now: Timestamp, lease: Duration) -> Result<Kept> {
        let mut kept = HashMap::new();
        for Lease { snapshot, root, alive, .. } in self.leases(now, lease)? {
            let doing = if alive { "is working with it" } else { "restored it and did not say that it is done" };
            kept.insert(snapshot, format!("a job in {root} {doing}; --force removes it all the same"));
        }
        for pin in self.pins()? {
            let reason = if pin.reason.is_empty() { String::new() } else { format!(" ({})", pin.reason) };
            let why = format!("it is pinned{reason}: `larder unpin {}` first, or --force", pin.snapshot);
            kept.insert(pin.snapshot, why);
        }
        Ok(Kept(kept))
    }

    /// Takes the names of these snapshots, in order, then sweeps.
    pub(crate) fn drop_and_sweep(&self, found: &[Found], how: &Dropping, events: &dyn Events) -> Result<Removed> {
        let mut removed = Removed::default();
        let mut orphaned = Named::default();
        for some in found.chunks(AT_ONCE) {
            // What cannot be read names nothing that anybody knows of.
            let named: Vec<_> = some.iter().map(|found| skim(&found.path).ok()).collect();
            let exclusive = match self.lock_exclusive(how.patience) {
                // What went so far is swept at least.
                Err(e @ Error::Busy { .. }) if !removed.snapshots.is_empty() => {
                    events.warn(&format!("not everything was removed: {}", chain(&e)));
                    break;
                }
                other => other?,
            };
            let kept = how.unless.map(|lease| self.kept(how.now, lease)).transpose()?.unwrap_or_default();
            let mut places: BTreeSet<&Path> = BTreeSet::new();
            for (found, named) in some.iter().zip(named) {
                if kept.0.contains_key(&found.id) {
                    removed.kept.push(found.id.clone());
                    continue;
                }
                let (parent, name) = crate::restore::split_root(&found.path)?;
                match Dir::open_optional(parent)? {
                    Some(place) => place.remove_all(name)?,
                    None => continue,
                }
                places.insert(parent);
                removed.snapshots.push(found.id.clone());
                if let Some(snapshot) = named {
                    orphaned.add(&snapshot.blobs);
                }
            }
            for place in places {
                Dir::open(place)?.sync()?;
            }
            for id in some.iter().map(|found| &found.id).filter(|id| removed.snapshots.contains(id)) {
                self.forget(id)?;
            }
            drop(exclusive);
            if found.len() > AT_ONCE {
                std::thread::sleep(PAUSE);
            }
        }
        removed.swept = Sweep::new(self, orphaned, how, events).run()?;
        (removed.blobs, removed.bytes) = (removed.swept.blobs, removed.swept.bytes);
        Ok(removed)
    }

    /// Snapshots whose prepared trees an overlay shows right now.
    pub(crate) fn mounted_snapshots(&self) -> Result<HashSet<String>> {
        let mut mounted = HashSet::new();
        let sessions = self.room(SESSIONS)?;
        for entry in sessions.entries()? {
            let Some(Session { overlay: Some(id), .. }) = self.session_named(&entry.name) else { continue };
            let Some(root) = self.session_named(&entry.name).map(|session| session.root()) else { continue };
            // A job may have mounted it where we do not see it.
            let leased = || matches!(self.no_lease(&root), Err(Error::BusyRoot { .. }));
            let shown = || larder_fs::exists(&root) && larder_fs::mount::is_mount_point(&root).unwrap_or(true);
            if leased() || shown() {
                mounted.insert(id);
            }
        }
        Ok(mounted)
    }
}
