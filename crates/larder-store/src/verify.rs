//! Reading everything once: are all snapshots readable, and does every blob have the bytes it should?
//!
//! This is where damage is found that keeps inode, length and mtime, and where blobs that were taken in
//! by link or reflink get their digest. A damaged blob is set aside, since a restore would not notice.

use crate::blob::{BlobId, Checked, Digest, QUARANTINE, mismatch};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::manifest::Inode;
use crate::snapshot::Snapshot;
use crate::store::{Store, chain};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Snapshots read whole.
    pub snapshots: u64,
    /// Blobs whose digest was compared.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Blobs whose digest was not known before, and is now.
    pub digested: u64,
    /// What is damaged: file and reason.
    pub damaged: Vec<(PathBuf, String)>,
    /// Blobs that snapshots name and that were set aside earlier.
    pub set_aside: u64,
}

impl Verified {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty()
    }
}

enum Finding {
    Sound { bytes: u64, digested: bool },
    SetAside,
    Damaged(PathBuf, String),
}

impl Store {
    /// Reads and checks every snapshot and every blob that one of them names.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the store itself cannot be read. Damage is no error: it is in the result.
    pub fn verify(&self, events: &dyn Events) -> Result<Verified> {
        let _shared = self.lock_shared()?;
        let mut verified = Verified::default();
        let mut wanted: BTreeMap<BlobId, Inode> = BTreeMap::new();
        for found in self.snapshots()? {
            let read = Snapshot::load(&found.path).and_then(|snapshot| snapshot.inline().map(|_| snapshot));
            match read {
                Ok(snapshot) => {
                    verified.snapshots += 1;
                    for inode in snapshot.roots.into_iter().flat_map(|manifest| manifest.inodes) {
                        if let Some(id) = BlobId::of(&inode.content) {
                            wanted.entry(id).or_insert(inode);
                        }
                    }
                }
                Err(Error::Fs(e)) if e.is_not_found() => {}
                Err(e) => verified.damaged.push((found.path, chain(&e))),
            }
        }
        let set_aside: Vec<String> = self
            .room(QUARANTINE)?
            .entries()?
            .into_iter()
            .map(|entry| entry.name.to_string_lossy().into_owned())
            .collect();
        events.phase(Phase::Digest, wanted.len() as u64);
        let wanted: Vec<(BlobId, Inode)> = wanted.into_iter().collect();
        let findings: Vec<Finding> = wanted
            .par_iter()
            .map(|(id, inode)| {
                let finding = self.verify_blob(*id, inode, &set_aside, events);
                events.advance(1);
                finding
            })
            .collect::<Result<_>>()?;
        for finding in findings {
            match finding {
                Finding::Sound { bytes, digested } => {
                    verified.blobs += 1;
                    verified.bytes += bytes;
                    verified.digested += u64::from(digested);
                }
                Finding::SetAside => verified.set_aside += 1,
                Finding::Damaged(path, reason) => verified.damaged.push((path, reason)),
            }
        }
        Ok(verified)
    }

    fn verify_blob(&self, id: BlobId, inode: &Inode, set_aside: &[String], events: &dyn Events) -> Result<Finding> {
        let blobs = self.blobs();
        let path = self.root.join(id.path());
        let Some(meta) = blobs.stat(id)? else {
            let flat = format!("{}.", id.path().to_string_lossy().replace('/', "-"));
            return Ok(match set_aside.iter().any(|name| name.starts_with(&flat)) {
                true => Finding::SetAside,
                false => Finding::Damaged(path, "it is missing".into()),
            });
        };
        let reason = match mismatch(inode, &meta) {
            Some(reason) => match blobs.blame(inode, &meta, reason) {
                Ok(Checked::Damaged(reason)) => reason,
                Ok(Checked::Unproven(reason)) => return Ok(Finding::Damaged(path, reason)),
                Ok(_) => unreachable!("a blob that does not fit its record is not sound"),
                Err(Error::Fs(e)) => return Ok(Finding::Damaged(path, chain(&e))),
                Err(e) => return Err(e),
            },
            None => {
                let digest: Digest = match blobs.digest(id) {
                    Ok(digest) => digest,
                    Err(Error::Fs(e)) => return Ok(Finding::Damaged(path, chain(&e))),
                    Err(e) => return Err(e),
                };
                match blobs.recorded_digest(inode)? {
                    Some(recorded) if recorded != digest => "its bytes do not have the recorded digest".into(),
                    Some(_) => return Ok(Finding::Sound { bytes: meta.size, digested: false }),
                    // A digest computed now would vouch for whatever the copying made of the bytes.
                    None if blobs.is_copy(inode, &meta) => "it was copied before its digest was known".into(),
                    None => {
                        let recorded = match self.is_read_only() {
                            true => false,
                            false => match blobs.record_digest(id, digest) {
                                Ok(()) => true,
                                // The disk may be full: the blob is sound all the same.
                                Err(e) => {
                                    events.warn(&format!("a digest could not be written down: {}", chain(&e)));
                                    false
                                }
                            },
                        };
                        return Ok(Finding::Sound { bytes: meta.size, digested: recorded });
                    }
                }
            }
        };
        if self.is_read_only() {
            return Ok(Finding::Damaged(path, reason));
        }
        match blobs.quarantine(id) {
            Ok(to) => Ok(Finding::Damaged(path, format!("{reason}; it was moved to {}", self.root.join(to).display()))),
            Err(Error::Fs(e)) if e.is_not_found() => Ok(Finding::SetAside),
            Err(e) => Err(e),
        }
    }
}
