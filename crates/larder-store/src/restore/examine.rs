//! What a restore finds out before it changes anything: what stands at its directories, what would have to be
//! done, whether every blob that this needs is sound, and whether there is room.

use super::plan::{self, Plan, Rules, in_blob, is_temporary, omissions};
use super::{RestoreRequest, Root};
use crate::blob::{BlobId, Checked, Sound};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::link_mode::{Ladder, LinkMode};
use crate::manifest::{Content, Inode, Manifest};
use crate::policy::Treatment;
use crate::reserve::Needs;
use crate::snapshot::Snapshot;
use crate::store::{Staging, Store, chain};
use larder_fs::{Dir, Kind, Tree, Volume};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

/// A directory as it stands before a restore.
pub(crate) enum Target {
    /// Nothing or an empty directory stands there.
    Fresh { exists: bool },
    /// A directory with contents.
    Over { dir: Dir, tree: Tree },
}

/// A plan whose blobs are known to be sound.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) checked: HashMap<u32, Sound>,
    pub(super) omitted: Vec<String>,
    pub(super) hashed: u64,
    /// Files that are not materialised, because they will be made anew.
    pub(super) remade: u64,
}

/// How a root is planned.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    /// Remove whatever the snapshot does not name.
    pub(super) exact: bool,
    /// Find out whether files stay that vouch for others and that nobody knows.
    pub(super) strays: bool,
    /// Damaged blobs are set aside.
    pub(super) set_aside: bool,
    /// Links of the manifest that will be made anew; empty where that is not known.
    pub(super) remade: &'a [bool],
}

/// All plans of a request, and the section of the snapshot that they need.
pub(super) struct Ready {
    pub(super) plans: Vec<Planned>,
    pub(super) inline: Vec<u8>,
    /// What reserves the room that the plans need.
    _room: Option<Staging>,
}

impl Store {
    /// Plans every root, checks what the plans need and whether there is room; `None` when the snapshot's contents
    /// cannot be had. Nothing outside the store is changed.
    pub(super) fn ready(
        &self,
        snapshot: &Snapshot,
        request: &RestoreRequest<'_>,
        targets: &[Target],
        events: &dyn Events,
    ) -> Result<Option<Ready>> {
        let mut plans = Vec::new();
        for (index, ((manifest, target), root)) in snapshot.roots.iter().zip(targets).zip(&request.roots).enumerate() {
            let remade = match (request.guide, target) {
                // What stands there already costs nothing.
                (Some(guide), Target::Fresh { .. }) if request.graft => {
                    let donor = (snapshot.header.clone(), snapshot.provenance.clone());
                    match guide.graft(&donor, index, &manifest.link_paths()) {
                        Some(kept) => kept.into_iter().map(|kept| !kept).collect(),
                        None => return Ok(None),
                    }
                }
                (Some(guide), Target::Fresh { .. }) => {
                    guide.will_be_remade(&snapshot.provenance, index, &manifest.link_paths())
                }
                _ => Vec::new(),
            };
            let how =
                How { exact: request.exact, strays: request.keep_newer, set_aside: !request.dry_run, remade: &remade };
            match self.plan(manifest, target, root, how, events)? {
                Some(planned) if !planned.plan.blocked.is_empty() => {
                    let path = root.path.join(&planned.plan.blocked[0]);
                    events.warn(&format!(
                        "{} is not larder's, and lies in a directory where the snapshot {} has a file or link; \
                         --exact would remove it",
                        path.display(),
                        snapshot.header.id
                    ));
                    return Ok(None);
                }
                Some(planned) => plans.push(planned),
                None => {
                    tracing::debug!(snapshot = %snapshot.header.id, root = index, "not usable without damaged blobs");
                    return Ok(None);
                }
            }
        }
        let needs_inline = plans.iter().zip(&snapshot.roots).any(|(planned, manifest)| {
            planned.plan.wanted().any(|link| {
                let inode = &manifest.inodes[manifest.links[link as usize].inode as usize];
                !in_blob(&inode.content) && inode.size > 0
            })
        });
        let inline = match needs_inline {
            false => Vec::new(),
            true => match snapshot.inline() {
                Ok(inline) => inline,
                Err(e) => {
                    events.warn(&format!("{}; it counts as absent", chain(&e)));
                    return Ok(None);
                }
            },
        };
        let mut room = None;
        if !request.dry_run {
            // Roots may share a file system: each alone would fit.
            let mut needs = Needs::default();
            let roots = snapshot.roots.iter().zip(&plans).zip(&request.roots);
            for ((manifest, planned), root) in roots {
                self.needs_of(manifest, planned, root, request.link_mode, &mut needs)?;
            }
            room = self.reserve_for_restore(&needs)?;
        }
        Ok(Some(Ready { plans, inline, _room: room }))
    }

    /// Plans one root and checks the blobs that the plan needs; damaged ones are set aside (unless `set_aside`
    /// is false) and what falls with them is left out. `None` when nothing would be left.
    pub(super) fn plan(
        &self,
        manifest: &Manifest,
        target: &Target,
        root: &Root<'_>,
        how: How<'_>,
        events: &dyn Events,
    ) -> Result<Option<Planned>> {
        let How { exact, strays, set_aside, remade } = how;
        let empty = Tree::default();
        let tree = match target {
            Target::Over { tree, .. } => tree,
            Target::Fresh { .. } => &empty,
        };
        let before = || match target {
            Target::Over { .. } => self.session_manifest(&root.path),
            Target::Fresh { .. } => None,
        };
        let rules = |omitted| Rules { exact, strays, before: &before, omitted };
        let plan = Plan::new(manifest, tree, root.policy, rules(remade));
        let mut planned = Planned { plan, ..Planned::default() };
        planned.remade = remade.iter().filter(|remade| **remade).count() as u64;
        let wanted: HashSet<u32> = planned.plan.wanted().map(|link| manifest.links[link as usize].inode).collect();
        let bad = self.check_blobs(manifest, &wanted, &mut planned, set_aside, events)?;
        if bad.is_empty() {
            return Ok(Some(planned));
        }
        let Some(fallout) = omissions(manifest, root.policy, &bad) else { return Ok(None) };
        let (mut omitted, groups) = (fallout.left_out, fallout.names);
        omitted.iter_mut().zip(remade).for_each(|(omitted, remade)| *omitted |= remade);
        events.warn(&format!(
            "{} of {} files of {} are left out and will be built again{}",
            omitted.iter().filter(|omitted| **omitted).count(),
            manifest.links.len(),
            root.path.display(),
            if groups.is_empty() { String::new() } else { format!(": {}", groups.join(", ")) },
        ));
        planned.plan = Plan::new(manifest, tree, root.policy, rules(&omitted));
        planned.omitted = if groups.is_empty() { vec!["(files that cargo makes again)".into()] } else { groups };
        Ok(Some(planned))
    }

    /// Adds what this root needs. What is linked, or may share extents, needs nothing.
    pub(super) fn needs_of(
        &self,
        manifest: &Manifest,
        planned: &Planned,
        root: &Root<'_>,
        mode: LinkMode,
        needs: &mut Needs,
    ) -> Result<()> {
        const BLOCK: u64 = 4096;
        let beside = nearest_existing(&root.path)?;
        let ladder = Ladder::new(mode, Volume::of(&self.root)?, Volume::of(&beside)?);
        let mut files = planned.plan.new_dirs.len() as u64;
        // Each directory begins with a block.
        let mut needed = files.saturating_mul(BLOCK);
        for link in planned.plan.wanted() {
            let inode = &manifest.inodes[manifest.links[link as usize].inode as usize];
            let sound = planned.checked.get(&manifest.links[link as usize].inode);
            let linked = would_link(&ladder, planned.plan.treatments[link as usize], inode, sound);
            if planned.plan.actions[link as usize] == plan::Action::Rewrite
                || in_blob(&inode.content) && (linked || ladder.may_reflink())
            {
                continue;
            }
            files += 1;
            // A sparse blob takes less than its length.
            let blocks = sound.map(|sound| sound.blocks.saturating_mul(512));
            let bytes = blocks.unwrap_or(u64::MAX).min(inode.size.next_multiple_of(BLOCK));
            needed = needed.saturating_add(bytes);
        }
        needs.add(beside, &root.path, needed, files)
    }

    /// Checks the blobs of `wanted` inodes; returns those that cannot be used.
    fn check_blobs(
        &self,
        manifest: &Manifest,
        wanted: &HashSet<u32>,
        planned: &mut Planned,
        set_aside: bool,
        events: &dyn Events,
    ) -> Result<HashSet<u32>> {
        let mut inodes: Vec<u32> =
            wanted.iter().copied().filter(|inode| in_blob(&manifest.inodes[*inode as usize].content)).collect();
        inodes.sort_unstable();
        events.phase(Phase::Check, inodes.len() as u64);
        let blobs = self.blobs();
        let checked: Vec<(u32, Checked)> = inodes
            .par_iter()
            .with_min_len(256)
            .map(|inode| Ok((*inode, blobs.check(&manifest.inodes[*inode as usize])?)))
            .collect::<Result<_>>()?;
        let mut bad = HashSet::new();
        for (index, checked) in checked {
            let inode = &manifest.inodes[index as usize];
            let id = BlobId::of(&inode.content).expect("inline files were filtered out");
            let path = self.root.join(id.path());
            let warning = match checked {
                Checked::Sound(sound) => {
                    planned.checked.insert(index, sound);
                    continue;
                }
                Checked::Missing => format!("the blob {} is missing", path.display()),
                Checked::Unproven(why) => format!("the blob {} cannot be trusted: {why}", path.display()),
                Checked::Damaged(why) if self.is_read_only() || !set_aside => {
                    format!("the blob {} is damaged: {why}", path.display())
                }
                Checked::Damaged(why) => match blobs.quarantine(id) {
                    Ok(to) => format!(
                        "the blob {} is damaged: {why}; it was moved to {}",
                        path.display(),
                        self.root.join(to).display()
                    ),
                    // Somebody else has just set it aside.
                    Err(Error::Fs(e)) if e.is_not_found() => format!("the blob {} is damaged: {why}", path.display()),
                    Err(e) => return Err(e),
                },
            };
            events.warn(&warning);
            bad.insert(index);
        }
        Ok(bad)
    }
}

/// Refuses a root where something stands that is no directory.
pub(super) fn refuse_file(path: &Path) -> Result<()> {
    match larder_fs::metadata(path)?.map(|meta| meta.kind) {
        None | Some(Kind::Dir | Kind::Symlink) => Ok(()),
        Some(_) => Err(Error::BadRoot { path: path.to_path_buf(), reason: "it is not a directory".into() }),
    }
}

pub(super) fn examine_all(request: &RestoreRequest<'_>, events: &dyn Events) -> Result<Vec<Target>> {
    events.phase(Phase::Examine, 0);
    request.roots.iter().map(|root| examine(&root.path)).collect()
}

/// What stands at a root's path, which is a directory, a link or nothing.
fn examine(path: &Path) -> Result<Target> {
    let Some(meta) = larder_fs::metadata(path)? else { return Ok(Target::Fresh { exists: false }) };
    // A link is the user's own way to a directory elsewhere: restore there, in place.
    let dir = Dir::open(path).map_err(|e| match meta.kind {
        Kind::Symlink => Error::BadRoot {
            path: path.to_path_buf(),
            reason: "it is a symbolic link that leads to no directory".into(),
        },
        _ => Error::of_walk(e),
    })?;
    if meta.kind == Kind::Dir && dir.entries()?.is_empty() {
        return Ok(Target::Fresh { exists: true });
    }
    let tree = larder_fs::walk(&dir).map_err(Error::of_walk)?;
    Ok(Target::Over { dir, tree })
}

pub(super) fn is_newer(target: &Target, manifest: &Manifest) -> bool {
    let Target::Over { tree, .. } = target else { return false };
    // Files on their way when a restore died; a store that could not be written to has no mark of it.
    let there = tree.files.iter().filter(|file| !is_temporary(&file.name)).map(|file| file.meta.mtime).max();
    let ours = manifest.inodes.iter().map(|inode| inode.mtime).max();
    there > ours
}

pub(crate) fn split_root(path: &Path) -> Result<(&Path, &OsStr)> {
    path.parent().zip(path.file_name()).ok_or_else(|| Error::BadRoot {
        path: path.to_path_buf(),
        reason: "the root of the file system is no place for it".into(),
    })
}

/// The directory, existing already, on whose file system `path` lies or will lie.
pub(crate) fn nearest_existing(path: &Path) -> Result<Dir> {
    let mut at = path;
    loop {
        match Dir::open(at) {
            Ok(dir) => return Ok(dir),
            Err(e) if e.is_not_found() => match at.parent() {
                Some(parent) => at = parent,
                None => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether a file becomes a further name of its blob. A blob has the time of the file only where it was that file itself,
/// and may be linked only where the manifest wants the mode that it has.
pub(super) fn would_link(ladder: &Ladder, treatment: Treatment, inode: &Inode, blob: Option<&Sound>) -> bool {
    matches!(inode.content, Content::Ingest { .. })
        && ladder.would_link(treatment)
        && blob.is_some_and(|blob| blob.mode == inode.mode)
}
