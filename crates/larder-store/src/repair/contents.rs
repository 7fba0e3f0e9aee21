//! What reading the store shows: snapshots, the blobs that they name, blobs that nobody names, prepared trees.

use super::{Concerned, Remedy, Survey, below};
use crate::blob::{BlobId, DIGEST_MTIME, Digest};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::manifest::{Content, Inode};
use crate::snapshot::{self, Snapshot};
use crate::store::{Store, TREES, chain};
use crate::verify::{Finding, MISSING, Wanted, is_set_aside, want};
use larder_fs::Timestamp;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The snapshots that could be read: their files by id.
type Whole = BTreeMap<String, PathBuf>;

impl Survey<'_> {
    /// Reads everything once.
    pub(super) fn contents(&mut self, events: &dyn Events) -> Result<()> {
        let (whole, wanted) = self.snapshots()?;
        let bad = self.named_blobs(&wanted)?;
        self.other_blobs(&wanted)?;
        self.trees(&whole, events)?;
        self.concern(&whole, &bad)
    }

    fn snapshots(&mut self) -> Result<(Whole, Wanted)> {
        self.snapshot_names()?;
        let (mut whole, mut wanted) = (Whole::new(), Wanted::new());
        for (relative, path) in self.snapshot_files()? {
            match Snapshot::load_whole(&path) {
                Ok(snapshot) => {
                    whole.insert(snapshot.header.id.clone(), path);
                    want(&mut wanted, snapshot);
                }
                Err(Error::Fs(e)) if e.is_not_found() => {}
                Err(Error::Fs(e)) => {
                    self.complete = false;
                    self.unreadable(&relative, &e);
                }
                Err(e) => match snapshot::version_of(&path) {
                    Some(version) if version != snapshot::VERSION && version < 256 => {
                        self.complete = false;
                        let fault =
                            format!("it has version {version}, which another larder may read; `larder rm` removes it");
                        self.step(relative, fault, Remedy::Leave);
                    }
                    _ => self.step(relative, reason(e), Remedy::Quarantine),
                },
            }
        }
        self.found.snapshots = whole.len() as u64;
        Ok((whole, wanted))
    }

    /// A file that this account, or nobody, can read. What a change of its mode settles was said.
    fn unreadable(&mut self, relative: &OsStr, error: &larder_fs::Error) {
        let path = self.store.root.join(relative);
        if self.found.steps.iter().any(|step| path.starts_with(&step.path) && !step.relative.is_empty()) {
            return;
        }
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => Remedy::Ask(self.command(relative, false)),
            _ => Remedy::Leave,
        };
        self.step(relative, chain(error), remedy);
    }

    /// Judges the blobs that snapshots name; returns those that are lost to them.
    fn named_blobs(&mut self, wanted: &Wanted) -> Result<HashSet<BlobId>> {
        let (store, proof) = (self.store, self.proof);
        let all: Vec<(&BlobId, &Inode)> = wanted.iter().collect();
        let judged: Vec<(Finding, Option<Timestamp>)> = all
            .par_iter()
            .map(|(id, inode)| {
                let judged = proof.of_named(store, **id, inode).map_or_else(|| store.judge_blob(**id, inode), Ok);
                let finding = match judged {
                    Ok(finding) => finding,
                    Err(Error::Fs(e)) => Finding::Unclear(chain(&e)),
                    Err(e) => return Err(e),
                };
                let time = match &finding {
                    Finding::Damaged(_) => store.right_time(**id, inode)?,
                    _ => None,
                };
                Ok((finding, time))
            })
            .collect::<Result<_>>()?;
        let set_aside = self.set_aside()?;
        let mut bad = HashSet::new();
        for ((id, _), (finding, time)) in all.into_iter().zip(judged) {
            let relative = id.path();
            match finding {
                Finding::Sound { bytes, new } => {
                    self.found.blobs += 1;
                    self.found.bytes += bytes;
                    if let Some(digest) = new {
                        self.step(relative, "nobody knew its digest", Remedy::RecordDigest(digest));
                    }
                    continue;
                }
                Finding::Missing if is_set_aside(*id, &set_aside) => {}
                // What stands in its place, or in the way to it, is on its way to quarantine or will be opened.
                Finding::Missing if self.is_in_hand(&relative) => {}
                Finding::Missing => self.step(relative, MISSING, Remedy::NoteLoss),
                Finding::Damaged(fault) => match time {
                    Some(time) => {
                        self.step(relative, format!("{fault}, though its bytes are right"), Remedy::SetTime(time));
                        continue;
                    }
                    None => self.step(relative, fault, Remedy::Quarantine),
                },
                Finding::Unclear(fault) if self.is_in_hand(&relative) => {
                    tracing::debug!("{}: {fault}", self.store.root.join(&relative).display());
                    continue;
                }
                Finding::Unclear(fault) => {
                    let closed =
                        matches!(store.root.open_file(&relative), Err(e) if e.kind() == ErrorKind::PermissionDenied);
                    let remedy = if closed { Remedy::Ask(self.command(&relative, false)) } else { Remedy::Leave };
                    self.step(relative, fault, remedy);
                }
            }
            bad.insert(*id);
        }
        Ok(bad)
    }

    /// Whether a step has to do with this path or one above it.
    fn is_in_hand(&self, relative: &OsStr) -> bool {
        let path = self.store.root.join(relative);
        let steps = self.found.steps.iter().filter(|step| !step.relative.is_empty());
        // A room that is made anew holds nothing: what was in it is lost.
        steps.filter(|step| step.remedy != Remedy::MakeRoom).any(|step| path.starts_with(&step.path))
    }

    /// Blobs that nobody names: a later save would take them for what their names say.
    fn other_blobs(&mut self, wanted: &Wanted) -> Result<()> {
        let names = self.digest_names()?;
        let unnamed: Vec<(BlobId, Digest)> = names
            .into_iter()
            .map(|(hash, _)| (BlobId::Digest(hash.into()), hash.into()))
            .filter(|(id, _)| !wanted.contains_key(id) && !self.proof.has_its_name(*id))
            .collect();
        let blobs = self.store.blobs();
        let wrong: Vec<Option<BlobId>> = unnamed
            .par_iter()
            .map(|(id, digest)| {
                match blobs.digest(*id) {
                    Ok(found) => (found != *digest).then_some(*id),
                    // What cannot be read cannot be used either.
                    Err(e) => {
                        tracing::debug!("{e}");
                        None
                    }
                }
            })
            .collect();
        for id in wrong.into_iter().flatten() {
            self.step(id.path(), "its bytes do not have the digest that is its name", Remedy::Quarantine);
        }
        Ok(())
    }

    fn trees(&mut self, whole: &Whole, events: &dyn Events) -> Result<()> {
        let names = self.tree_names()?;
        if names.is_empty() {
            return Ok(());
        }
        let mounted = self.store.mounted_snapshots().unwrap_or_default();
        for (id, name) in names {
            let id = id.to_string_lossy();
            let relative = below(&format!("{TREES}/{id}"), &name);
            if mounted.contains(&*id) {
                continue;
            }
            let fault = match whole.get(&*id) {
                None if self.complete => Some("its snapshot is gone"),
                None => None,
                Some(path) => match Snapshot::load(path)
                    .and_then(|snapshot| self.store.check_tree(self.store.root.join(&relative), &snapshot, events))
                {
                    Ok(Some(_)) => None,
                    Ok(None) => Some("it differs from its snapshot"),
                    Err(Error::Fs(e)) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => None,
                    Err(_) => Some("it cannot be compared with its snapshot"),
                },
            };
            if let Some(fault) = fault {
                self.step(relative, fault, Remedy::Remove);
            }
        }
        Ok(())
    }

    /// Which snapshots name the lost blobs, and by which files.
    fn concern(&mut self, whole: &Whole, bad: &HashSet<BlobId>) -> Result<()> {
        if bad.is_empty() {
            return Ok(());
        }
        for (id, path) in whole {
            let Ok(snapshot) = Snapshot::load(path) else { continue };
            let mut files = Vec::new();
            for (index, manifest) in snapshot.roots.iter().enumerate() {
                let lost: BTreeSet<u32> = (0..)
                    .zip(&manifest.inodes)
                    .filter(|(_, inode)| BlobId::of(&inode.content).is_some_and(|id| bad.contains(&id)))
                    .map(|(inode, _)| inode)
                    .collect();
                if !lost.is_empty() {
                    let links = manifest.links.iter().zip(manifest.link_paths());
                    files.extend(links.filter(|(link, _)| lost.contains(&link.inode)).map(|(_, path)| (index, path)));
                }
            }
            if !files.is_empty() {
                let (snapshot, header) = (id.clone(), snapshot.header);
                let (key, label, path) = (header.key, header.label, path.clone());
                self.found.concerned.push(Concerned { snapshot, key, path, label, files });
            }
        }
        Ok(())
    }
}

impl Store {
    /// The time that would make a blob with the right bytes the recorded one again; `None` where the bytes are wrong,
    /// or nobody knows them, or the file is somebody's working copy too.
    fn right_time(&self, id: BlobId, inode: &Inode) -> Result<Option<Timestamp>> {
        let blobs = self.blobs();
        let Some(meta) = blobs.stat(id)?.filter(|meta| meta.size == inode.size && meta.nlink == 1) else {
            return Ok(None);
        };
        let time = match inode.content {
            Content::Digest { .. } => DIGEST_MTIME,
            _ => inode.mtime,
        };
        let recorded = blobs.recorded_digest(inode)?;
        let right = meta.mtime != time && recorded.is_some() && blobs.digest(id).ok() == recorded;
        Ok(right.then_some(time))
    }
}

/// What is wrong with a snapshot, without its path.
fn reason(error: Error) -> String {
    match error {
        Error::BadSnapshot { reason, .. } => reason,
        other => chain(&other),
    }
}
