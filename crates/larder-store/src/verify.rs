//! Reading everything once: are all snapshots readable, and does every blob have the bytes it should?
//!
//! This is where damage is found that keeps inode, length and mtime, and where blobs that were taken in
//! by link or reflink get their digest. A damaged blob is set aside, since a restore would not notice.
//!
//! Reading everything may take minutes, and nobody is kept from deleting meanwhile. So a first look is taken without any
//! lock; what does not seem sound is looked at again under the shared lock, for a moment at a time, and is only damaged if a
//! snapshot that is still there names it.

use crate::blob::{BlobId, Checked, Digest, QUARANTINE, mismatch};
use crate::census::skim;
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::manifest::Inode;
use crate::snapshot::Snapshot;
use crate::store::{Store, chain};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a second look keeps whoever deletes waiting, unless one large blob takes longer.
const SLICE: Duration = Duration::from_millis(100);

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
    /// Blobs that snapshots name and that were set aside earlier, or are known to be lost.
    pub set_aside: u64,
}

impl Verified {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// What is to be said of a blob that a snapshot names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It has the bytes that it should have, so many. A digest that nobody had written down is here.
    Sound { bytes: u64, new: Option<Digest> },
    /// It is gone.
    Missing,
    /// It is damaged, and would be taken for sound.
    Damaged(String),
    /// It cannot be judged, or not by itself.
    Unclear(String),
}

enum Told {
    Sound { bytes: u64, digested: bool },
    SetAside,
    Damaged(PathBuf, String),
}

/// The blobs that snapshots name, each with a record of it.
pub(crate) type Wanted = BTreeMap<BlobId, Inode>;

impl Store {
    /// Reads and checks every snapshot and every blob that one of them names. Whoever deletes need not wait for it.
    ///
    /// # Errors
    ///
    /// [`Error::Fs`] where the store itself cannot be read, [`Error::Busy`] where something is wrong and somebody deletes
    /// without end. Damage is no error: it is in the result.
    pub fn verify(&self, events: &dyn Events) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut wanted = Wanted::new();
        for found in self.snapshots()? {
            match Snapshot::load_whole(&found.path) {
                Ok(snapshot) => {
                    verified.snapshots += 1;
                    want(&mut wanted, snapshot);
                }
                Err(Error::Fs(e)) if e.is_not_found() => {}
                Err(e) => verified.damaged.push((found.path, chain(&e))),
            }
        }
        events.phase(Phase::Digest, wanted.len() as u64);
        let wanted: Vec<(BlobId, Inode)> = wanted.into_iter().collect();
        let first: Vec<Option<Told>> = wanted
            .par_iter()
            .map(|(id, inode)| {
                let finding = self.judge_blob(*id, inode)?;
                events.advance(1);
                Ok(self.sound(*id, &finding, events))
            })
            .collect::<Result<_>>()?;
        let suspects = wanted.iter().zip(&first).filter(|(_, told)| told.is_none()).map(|(wanted, _)| wanted);
        let second = self.look_again(&suspects.collect::<Vec<_>>(), events)?;
        for told in first.into_iter().flatten().chain(second) {
            match told {
                Told::Sound { bytes, digested } => {
                    verified.blobs += 1;
                    verified.bytes += bytes;
                    verified.digested += u64::from(digested);
                }
                Told::SetAside => verified.set_aside += 1,
                Told::Damaged(path, reason) => verified.damaged.push((path, reason)),
            }
        }
        Ok(verified)
    }

    /// What lies in quarantine, by name.
    pub(crate) fn names_set_aside(&self) -> Result<Vec<String>> {
        let entries = self.room(QUARANTINE)?.entries()?;
        Ok(entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
    }

    /// What is to be told of a blob that is sound; its digest is written down where nobody had.
    fn sound(&self, id: BlobId, finding: &Finding, events: &dyn Events) -> Option<Told> {
        let Finding::Sound { bytes, new } = *finding else { return None };
        let digested = match new {
            Some(digest) if !self.is_read_only() => match self.blobs().record_digest(id, digest) {
                Ok(()) => true,
                // It was evicted meanwhile.
                Err(Error::Fs(e)) if e.is_not_found() => false,
                // The disk may be full: the blob is sound all the same.
                Err(e) => {
                    events.warn(&format!("a digest could not be written down: {}", chain(&e)));
                    false
                }
            },
            _ => false,
        };
        Some(Told::Sound { bytes, digested })
    }

    /// Looks again at blobs that did not seem sound while somebody may have deleted them.
    fn look_again(&self, suspects: &[&(BlobId, Inode)], events: &dyn Events) -> Result<Vec<Told>> {
        let mut told = Vec::new();
        let naming = self.who_names(suspects.iter().map(|(id, _)| *id).collect())?;
        let mut suspects = suspects.iter().peekable();
        while suspects.peek().is_some() {
            let _shared = self.lock_shared()?;
            let start = Instant::now();
            let set_aside = self.names_set_aside()?;
            for (id, inode) in suspects.by_ref() {
                if naming.is_needed(*id) {
                    told.push(self.verify_blob(*id, inode, &set_aside, events)?);
                }
                if start.elapsed() > SLICE {
                    break;
                }
            }
        }
        Ok(told)
    }

    /// Which snapshots name these blobs, now.
    pub(crate) fn who_names(&self, blobs: HashSet<BlobId>) -> Result<Naming> {
        let mut naming = Naming::default();
        if blobs.is_empty() {
            return Ok(naming);
        }
        for found in self.snapshots()? {
            // Of what cannot be read nobody knows what it names.
            let Ok(skimmed) = skim(&found.path) else { continue };
            for blob in skimmed.blobs.into_iter().filter(|blob| blobs.contains(blob)) {
                naming.snapshots.entry(blob).or_default().push(naming.paths.len());
            }
            naming.paths.push(found.path);
        }
        Ok(naming)
    }

    /// Judges a blob for good, under the shared lock.
    fn verify_blob(&self, id: BlobId, inode: &Inode, set_aside: &[String], events: &dyn Events) -> Result<Told> {
        let blobs = self.blobs();
        let path = self.root.join(id.path());
        let finding = self.judge_blob(id, inode)?;
        if let Some(told) = self.sound(id, &finding, events) {
            return Ok(told);
        }
        let reason = match finding {
            Finding::Sound { .. } => unreachable!("told above"),
            Finding::Missing if is_set_aside(id, set_aside) => return Ok(Told::SetAside),
            Finding::Missing => return Ok(Told::Damaged(path, MISSING.into())),
            Finding::Unclear(reason) => return Ok(Told::Damaged(path, reason)),
            Finding::Damaged(reason) => reason,
        };
        if self.is_read_only() {
            return Ok(Told::Damaged(path, reason));
        }
        match blobs.quarantine(id) {
            Ok(to) => Ok(Told::Damaged(path, format!("{reason}; it was moved to {}", self.root.join(to).display()))),
            Err(Error::Fs(e)) if e.is_not_found() => Ok(Told::SetAside),
            Err(e) => Err(e),
        }
    }

    /// Compares a blob with its record and its digest; changes nothing.
    pub(crate) fn judge_blob(&self, id: BlobId, inode: &Inode) -> Result<Finding> {
        let blobs = self.blobs();
        let Some(meta) = blobs.stat(id)? else { return Ok(Finding::Missing) };
        if let Some(reason) = mismatch(inode, &meta) {
            return match blobs.blame(inode, &meta, reason) {
                Ok(Checked::Damaged(reason)) => Ok(Finding::Damaged(reason)),
                Ok(Checked::Unproven(reason)) => Ok(Finding::Unclear(reason)),
                Ok(_) => unreachable!("a blob that does not fit its record is not sound"),
                Err(Error::Fs(e)) => Ok(Finding::Unclear(chain(&e))),
                Err(e) => Err(e),
            };
        }
        let digest: Digest = match blobs.digest(id) {
            Ok(digest) => digest,
            Err(Error::Fs(e)) => return Ok(Finding::Unclear(chain(&e))),
            Err(e) => return Err(e),
        };
        Ok(match blobs.recorded_digest(inode)? {
            Some(recorded) if recorded != digest => {
                Finding::Damaged("its bytes do not have the recorded digest".into())
            }
            Some(_) => Finding::Sound { bytes: meta.size, new: None },
            // A digest computed now would vouch for whatever the copying made of the bytes.
            None if blobs.is_copy(inode, &meta) => Finding::Damaged("it was copied before its digest was known".into()),
            None => Finding::Sound { bytes: meta.size, new: Some(digest) },
        })
    }
}

/// Which snapshots name some blobs.
#[derive(Debug, Default)]
pub(crate) struct Naming {
    paths: Vec<PathBuf>,
    /// By blob, as indices in `paths`.
    snapshots: HashMap<BlobId, Vec<usize>>,
}

impl Naming {
    /// Whether a snapshot that is still there names the blob.
    pub(crate) fn is_needed(&self, blob: BlobId) -> bool {
        let paths = self.snapshots.get(&blob).into_iter().flatten().map(|at| &self.paths[*at]);
        paths.map(PathBuf::as_path).any(larder_fs::exists)
    }
}

/// What is said of a blob that is gone.
pub(crate) const MISSING: &str = "it is missing";

/// Adds the blobs that a snapshot names.
pub(crate) fn want(wanted: &mut Wanted, snapshot: Snapshot) {
    for inode in snapshot.roots.into_iter().flat_map(|manifest| manifest.inodes) {
        if let Some(id) = BlobId::of(&inode.content) {
            wanted.entry(id).or_insert(inode);
        }
    }
}

/// Whether quarantine has a blob, or a note that it is lost.
pub(crate) fn is_set_aside(id: BlobId, set_aside: &[String]) -> bool {
    let flat = format!("{}.", id.flat_name());
    set_aside.iter().any(|name| name.starts_with(&flat))
}
