//! Which blobs are sound, found out by reading all of them while nobody is kept out.
//!
//! What is not proved here may have been deleted while it was looked at, or written, or be damaged: whoever has the lock
//! judges that. So nothing here fails.

use crate::blob::{BLOBS, BlobId, Digest, mismatch};
use crate::events::{Events, Phase};
use crate::manifest::Inode;
use crate::snapshot::Snapshot;
use crate::store::{Store, chain};
use crate::verify::{Finding, Wanted, want};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Blobs with the right bytes.
#[derive(Default)]
pub(super) struct Proof {
    /// Those that snapshots name, with a digest that nobody had written down.
    named: HashMap<BlobId, Option<Digest>>,
    /// Those that nobody named and that have the digest that is their name.
    unnamed: HashSet<BlobId>,
}

impl Proof {
    /// Reads what was not proved yet.
    pub(super) fn gather(&mut self, store: &Store, events: &dyn Events) {
        let mut wanted = Wanted::new();
        let found = store.snapshots().unwrap_or_default();
        found.iter().filter_map(|found| Snapshot::load_whole(&found.path).ok()).for_each(|one| want(&mut wanted, one));
        let unnamed: Vec<(BlobId, Digest)> = digests(store)
            .into_iter()
            .map(|digest| (BlobId::Digest(digest), digest))
            .filter(|(id, _)| !wanted.contains_key(id) && !self.unnamed.contains(id))
            .collect();
        wanted.retain(|id, _| !self.named.contains_key(id));
        if wanted.is_empty() && unnamed.is_empty() {
            return;
        }
        events.phase(Phase::Digest, (wanted.len() + unnamed.len()) as u64);
        let wanted: Vec<(BlobId, Inode)> = wanted.into_iter().collect();
        let named: Vec<(BlobId, Option<Digest>)> = wanted
            .par_iter()
            .filter_map(|(id, inode)| {
                let found = store.judge_blob(*id, inode);
                events.advance(1);
                match found {
                    Ok(Finding::Sound { new, .. }) => Some((*id, new)),
                    _ => None,
                }
            })
            .collect();
        self.named.extend(named);
        let right: Vec<BlobId> = unnamed
            .par_iter()
            .filter_map(|(id, digest)| {
                let found = store.blobs().digest(*id).inspect_err(|e| tracing::debug!("{}", chain(e)));
                events.advance(1);
                (found.ok() == Some(*digest)).then_some(*id)
            })
            .collect();
        self.unnamed.extend(right);
    }

    /// What is known of a blob that a snapshot names, if it is still the one that was read.
    pub(super) fn of_named(&self, store: &Store, id: BlobId, inode: &Inode) -> Option<Finding> {
        let new = *self.named.get(&id)?;
        let meta = store.blobs().stat(id).ok()??;
        mismatch(inode, &meta).is_none().then_some(Finding::Sound { bytes: meta.size, new })
    }

    /// Whether a blob that nobody names has the digest that is its name.
    pub(super) fn has_its_name(&self, id: BlobId) -> bool {
        self.unnamed.contains(&id) || self.named.contains_key(&id)
    }
}

/// The digests that name a file, as far as they can be listed.
fn digests(store: &Store) -> Vec<Digest> {
    let Ok(blobs) = store.room(BLOBS) else { return Vec::new() };
    let mut found = Vec::new();
    for fan in blobs.entries().unwrap_or_default().into_iter().filter(|entry| entry.is_dir != Some(false)) {
        let entries = blobs.open_beneath(&fan.name).and_then(|dir| dir.entries()).unwrap_or_default();
        for entry in entries.into_iter().filter(|entry| entry.is_dir != Some(true)) {
            let hex = format!("{}{}", fan.name.to_string_lossy(), entry.name.to_string_lossy());
            found.extend(blake3::Hash::from_hex(&hex).ok().map(Digest::from));
        }
    }
    found
}
