//! From a snapshot to directories: choose it, plan, check every blob that will be used, then apply.
//!
//! Nothing outside the store changes before the plan stands and every blob it needs is known to be
//! sound. A directory that is absent or empty is built aside and renamed into place; an existing one
//! is changed in place, only where it differs.

mod apply;
pub(crate) mod plan;

use crate::blob::{BlobId, Checked};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::link_mode::{Ladder, LinkMode};
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::session::Session;
use crate::snapshot::{Found, Place, Snapshot, load_or_warn};
use crate::store::{Staging, Store, chain};
use apply::{Applied, Apply};
use larder_fs::{Dir, Kind, Lock, Meta, Tree, Volume};
use plan::{Plan, Rules, in_blob, omissions};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A directory to restore or save.
#[derive(Clone)]
pub struct Root<'a> {
    /// Its absolute path, as [`larder_fs::resolve`] gives it.
    pub path: PathBuf,
    /// What is known of its files.
    pub policy: &'a dyn Policy,
}

/// What to restore.
pub struct RestoreRequest<'a> {
    /// Where to look.
    pub place: Place,
    /// The exact key.
    pub key: String,
    /// Prefixes of other keys that will do, in order of preference.
    pub fallback: Vec<String>,
    /// The directories, in the order in which they were saved.
    pub roots: Vec<Root<'a>>,
    /// How.
    pub link_mode: LinkMode,
    /// Remove whatever the snapshot does not name.
    pub exact: bool,
    /// Leave a directory alone that was changed after the snapshot was made.
    pub keep_newer: bool,
    /// Change nothing; say what would be done.
    pub dry_run: bool,
}

/// How well a restore met its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The exact key, whole.
    Hit,
    /// Another key, or not all of it.
    Partial,
    /// Nothing.
    #[default]
    Miss,
}

/// Counts of what was done to files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Files that share an inode between store and directory since.
    pub linked: u64,
    /// Files that share extents since.
    pub reflinked: u64,
    /// Files whose bytes were written.
    pub copied: u64,
    /// Files whose bytes were digested.
    pub hashed: u64,
    /// Files that were right already, or known from the last time.
    pub unchanged: u64,
    /// Files, links and directories removed.
    pub removed: u64,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// How well the request was met.
    pub outcome: Outcome,
    /// The key of the snapshot used.
    pub key: Option<String>,
    /// Its name.
    pub snapshot: Option<String>,
    /// File names that the snapshot holds.
    pub files: u64,
    /// Bytes of its distinct files.
    pub bytes: u64,
    /// Files made, by the name of the mode that made them.
    pub link_modes: BTreeMap<String, u64>,
    /// Why better modes were not used.
    pub why_not: BTreeMap<String, String>,
    /// What was done.
    pub work: Work,
    /// Groups that were left out because a blob of theirs was damaged.
    pub omitted: Vec<String>,
    /// A directory was newer than the snapshot and was left alone.
    pub kept_newer: bool,
}

/// A directory as it stands before a restore.
pub(crate) enum Target {
    /// Nothing or an empty directory stands there.
    Fresh { exists: bool },
    /// A directory with contents.
    Over { dir: Dir, tree: Tree },
}

impl Store {
    /// Restores what `request` names. A miss leaves everything alone and is no error.
    ///
    /// # Errors
    ///
    /// [`Error::BadRoot`] where a root cannot be restored to, [`Error::HalfRestored`] where one was changed
    /// and is not what it should be, any other where nothing was changed. Damage in the store is never an
    /// error: it is a warning and a miss.
    pub fn restore(&self, request: &RestoreRequest<'_>, events: &dyn Events) -> Result<Restored> {
        let _locks = self.lock_roots(request.roots.iter().map(|root| root.path.as_path()))?;
        let _shared = self.lock_shared()?;
        for root in &request.roots {
            self.refuse_overlap(&root.path)?;
            refuse_file(&root.path)?;
        }
        // A miss costs no look at the directories, and leaves an overlay of an earlier restore alone.
        let mut targets: Option<Vec<Target>> = None;
        let exact = self.find_exact(&request.place, &request.key)?;
        for found in &exact {
            let snapshot = match targets.is_none() {
                // Most exact snapshots are usable: look at the directories meanwhile.
                true => {
                    let (snapshot, examined) =
                        rayon::join(|| load_or_warn(found, events), || examine_all(request, events));
                    if snapshot.is_some() {
                        targets = Some(examined?);
                    }
                    snapshot
                }
                false => load_or_warn(found, events),
            };
            if let Some(snapshot) = snapshot
                && snapshot.header.key == request.key
                && let Some(mut restored) = self.restore_snapshot(&snapshot, request, &mut targets, events)?
            {
                let whole = restored.omitted.is_empty() && !restored.kept_newer;
                restored.outcome = if whole { Outcome::Hit } else { Outcome::Partial };
                return Ok(restored);
            }
        }
        let others: Vec<Found> = match request.fallback.is_empty() {
            true => Vec::new(),
            false => self.find_all(&request.place)?.into_iter().filter(|found| !exact.contains(found)).collect(),
        };
        let mut headers: HashMap<&Path, Option<String>> = HashMap::new();
        for prefix in &request.fallback {
            for found in &others {
                let key = headers
                    .entry(found.path.as_path())
                    .or_insert_with(|| Snapshot::load_header(&found.path).ok().map(|header| header.key));
                if key.as_ref().is_some_and(|key| key.starts_with(prefix))
                    && let Some(snapshot) = load_or_warn(found, events)
                    && let Some(mut restored) = self.restore_snapshot(&snapshot, request, &mut targets, events)?
                {
                    restored.outcome = Outcome::Partial;
                    return Ok(restored);
                }
            }
        }
        Ok(Restored::default())
    }

    fn has_overlay(&self, roots: &[Root<'_>]) -> bool {
        roots.iter().any(|root| larder_fs::exists(&self.overlay_dir(&root.path)))
    }

    pub(crate) fn lock_roots<'p>(&self, roots: impl Iterator<Item = &'p Path>) -> Result<Vec<Option<Lock>>> {
        let mut roots: Vec<&Path> = roots.collect();
        // One order for everybody, so that two processes never wait for each other.
        roots.sort_unstable();
        roots.dedup();
        roots.into_iter().map(|root| self.lock_root(root)).collect()
    }

    /// A root must neither hold the store nor lie in it.
    pub(crate) fn refuse_overlap(&self, root: &Path) -> Result<()> {
        let store = larder_fs::resolve_fully(self.path())?;
        let root = &larder_fs::resolve_fully(root)?;
        if store.starts_with(root) || root.starts_with(&store) {
            return Err(Error::BadRoot { path: root.clone(), reason: "it and the store lie in each other".into() });
        }
        Ok(())
    }

    /// Restores from this snapshot; `None` when its contents cannot be had.
    fn restore_snapshot(
        &self,
        snapshot: &Snapshot,
        request: &RestoreRequest<'_>,
        targets: &mut Option<Vec<Target>>,
        events: &dyn Events,
    ) -> Result<Option<Restored>> {
        if snapshot.roots.len() != request.roots.len() {
            return Ok(None);
        }
        let slot = targets;
        let mut targets: &[Target] = match slot {
            Some(targets) => targets,
            None => slot.insert(examine_all(request, events)?),
        };
        let mut restored = Restored {
            key: Some(snapshot.header.key.clone()),
            snapshot: Some(snapshot.header.id.clone()),
            files: snapshot.roots.iter().map(|m| (m.links.len() + m.symlinks.len()) as u64).sum(),
            bytes: snapshot.roots.iter().map(Manifest::logical_bytes).sum(),
            ..Restored::default()
        };
        if request.keep_newer && !request.exact {
            let newer = snapshot.roots.iter().zip(targets).any(|(manifest, target)| is_newer(target, manifest));
            if newer {
                restored.kept_newer = true;
                return Ok(Some(restored));
            }
        }
        if !request.dry_run && self.has_overlay(&request.roots) {
            // What was written in an overlay goes with it: only for a snapshot that can take its place.
            let empty = Target::Fresh { exists: true };
            for (manifest, root) in snapshot.roots.iter().zip(&request.roots) {
                if self.plan(manifest, &empty, root, request.exact, true, events)?.is_none() {
                    return Ok(None);
                }
            }
            for root in &request.roots {
                self.release_overlay(&root.path)?;
            }
            targets = slot.insert(examine_all(request, events)?);
        }
        if let Some(done) = self.restore_prepared(snapshot, request, targets, &mut restored, events)? {
            return Ok(done.then_some(restored));
        }
        let mut plans = Vec::new();
        for (index, ((manifest, target), root)) in snapshot.roots.iter().zip(targets).zip(&request.roots).enumerate() {
            match self.plan(manifest, target, root, request.exact, !request.dry_run, events)? {
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
        if !request.dry_run {
            let roots = snapshot.roots.iter().zip(&plans).zip(&request.roots);
            for ((manifest, planned), root) in roots {
                self.need_space(manifest, planned, root, request.link_mode)?;
            }
        }
        for ((manifest, planned), (index, root)) in
            snapshot.roots.iter().zip(&plans).zip(request.roots.iter().enumerate())
        {
            restored.omitted.extend(planned.omitted.iter().cloned());
            restored.work.hashed += planned.hashed;
            restored.work.unchanged += planned.plan.unchanged();
            if request.dry_run {
                restored.work.copied += planned.plan.wanted().count() as u64;
                restored.work.removed += (planned.plan.removals.len() + planned.plan.dir_removals.len()) as u64;
                continue;
            }
            let store_volume = Volume::of(&self.root)?;
            let beside = nearest_existing(&root.path)?;
            let ladder = Ladder::new(request.link_mode, store_volume, Volume::of(&beside)?);
            let apply = Apply {
                store: self,
                manifest,
                plan: &planned.plan,
                checked: &planned.checked,
                inline: &inline,
                ladder: &ladder,
                events,
            };
            if !self.is_read_only() && !planned.plan.is_empty() {
                self.drop_session(&root.path)?;
            }
            let half = |e: Error| Error::HalfRestored { path: root.path.clone(), source: Box::new(e) };
            let applied = match &targets[index] {
                Target::Over { dir, .. } => apply.run(dir).map_err(half)?,
                Target::Fresh { exists } => match self.build_aside(&apply, &root.path, *exists, &beside) {
                    // The first directory is as it was; later ones no longer fit to those before.
                    Err(e) if index > 0 && !matches!(e, Error::HalfRestored { .. }) => return Err(half(e)),
                    other => other?,
                },
            };
            restored.count(&ladder, &applied);
            self.remember(snapshot, index, &root.path, applied.inodes, None, events);
        }
        Ok(Some(restored))
    }

    /// Plans one root and checks the blobs that the plan needs; damaged ones are set aside (unless `set_aside`
    /// is false) and what falls with them is left out. `None` when nothing would be left.
    fn plan(
        &self,
        manifest: &Manifest,
        target: &Target,
        root: &Root<'_>,
        exact: bool,
        set_aside: bool,
        events: &dyn Events,
    ) -> Result<Option<Planned>> {
        let empty = Tree::default();
        let tree = match target {
            Target::Over { tree, .. } => tree,
            Target::Fresh { .. } => &empty,
        };
        let before = || match target {
            Target::Over { .. } => self.session_manifest(&root.path),
            Target::Fresh { .. } => None,
        };
        let rules = |omitted| Rules { exact, before: &before, omitted };
        let mut planned = Planned { plan: Plan::new(manifest, tree, root.policy, rules(&[])), ..Planned::default() };
        let wanted: HashSet<u32> = planned.plan.wanted().map(|link| manifest.links[link as usize].inode).collect();
        let bad = self.check_blobs(manifest, &wanted, &mut planned, set_aside, events)?;
        if bad.is_empty() {
            return Ok(Some(planned));
        }
        let Some(fallout) = omissions(manifest, root.policy, &bad) else { return Ok(None) };
        let (omitted, groups) = (fallout.left_out, fallout.names);
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

    /// Refuses what cannot fit, before anything is changed. What is linked, or may share extents, needs nothing.
    fn need_space(&self, manifest: &Manifest, planned: &Planned, root: &Root<'_>, mode: LinkMode) -> Result<()> {
        const BLOCK: u64 = 4096;
        let beside = nearest_existing(&root.path)?;
        let ladder = Ladder::new(mode, Volume::of(&self.root)?, Volume::of(&beside)?);
        let (mut needed, mut files) = (0_u64, planned.plan.new_dirs.len() as u64);
        for link in planned.plan.wanted() {
            let inode = &manifest.inodes[manifest.links[link as usize].inode as usize];
            let linked = ladder.would_link(planned.plan.treatments[link as usize]);
            if planned.plan.actions[link as usize] == plan::Action::Rewrite
                || in_blob(&inode.content) && (linked || ladder.may_reflink())
            {
                continue;
            }
            files += 1;
            // A sparse blob takes less than its length.
            let blocks =
                planned.checked.get(&manifest.links[link as usize].inode).map(|meta| meta.blocks.saturating_mul(512));
            let bytes = blocks.unwrap_or(u64::MAX).min(inode.size.next_multiple_of(BLOCK));
            needed = needed.saturating_add(bytes);
        }
        let space = Volume::space(&beside)?;
        if needed <= space.available && files <= space.inodes_available {
            return Ok(());
        }
        Err(Error::NoSpace {
            path: root.path.clone(),
            needed,
            files,
            available: space.available,
            inodes: space.inodes_available,
        })
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
                Checked::Sound(meta) => {
                    planned.checked.insert(index, meta);
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

    /// Builds a root where nothing stands yet beside its final place and renames it there.
    fn build_aside(&self, apply: &Apply<'_>, path: &Path, exists: bool, beside: &Dir) -> Result<Applied> {
        let (parent, name) = split_root(path)?;
        larder_fs::create_parents(parent)?;
        let parent_dir = Dir::open(parent)?;
        if exists && larder_fs::mount::is_mount_point(path)? {
            // A mount point cannot be renamed over.
            let half = |e: Error| Error::HalfRestored { path: path.to_path_buf(), source: Box::new(e) };
            return apply.run(&Dir::open(path)?).map_err(half);
        }
        // The store's own staging is swept by the next start, one beside the root by the next restore there.
        let in_store = !self.is_read_only() && Volume::of(&self.root)?.can_rename_to(&Volume::of(beside)?);
        let staging = match in_store {
            true => self.staging()?,
            false => Staging::beside(Dir::open(parent)?, plan::TEMP_PREFIX)?,
        };
        let tree = OsStr::new("root");
        staging.dir.create_dir(tree)?;
        let applied = apply.run(&staging.dir.open_beneath(tree)?)?;
        staging.dir.rename_dir(tree, &parent_dir, name)?;
        Ok(applied)
    }

    /// Writes the session of a root. Failing to only makes the next save slower.
    pub(crate) fn remember(
        &self,
        snapshot: &Snapshot,
        index: usize,
        root: &Path,
        inodes: Vec<u64>,
        overlay: Option<String>,
        events: &dyn Events,
    ) {
        if self.is_read_only() {
            return;
        }
        let write = |staging: Staging| {
            let session = Session::new(root, &snapshot.path, index, inodes, overlay);
            self.put_session(&staging, &session)
        };
        if let Err(e) = self.staging().and_then(write) {
            events.warn(&format!("the next save of {} will read everything: {}", root.display(), chain(&e)));
        }
    }

    /// The manifest that was last restored to or saved from `root`, if it is still there.
    pub(crate) fn session_manifest(&self, root: &Path) -> Option<(Manifest, Session)> {
        let session = self.session(root)?;
        let mut snapshot = Snapshot::load(&session.snapshot_path(self)).ok()?;
        let index = session.index as usize;
        let fits = snapshot.roots.get(index)?.inodes.len() == session.inodes.len();
        fits.then(|| (snapshot.roots.swap_remove(index), session))
    }
}

/// Makes the empty directory `at` like `manifest` and returns the inode numbers of its files; `None` when
/// not all of it can be had.
pub(crate) fn apply_fresh(
    store: &Store,
    snapshot: &Snapshot,
    manifest: &Manifest,
    root: &Root<'_>,
    at: &Dir,
    ladder: &Ladder,
    events: &dyn Events,
) -> Result<Option<Vec<u64>>> {
    let Some(planned) = store.plan(manifest, &Target::Fresh { exists: true }, root, true, true, events)? else {
        return Ok(None);
    };
    if !planned.omitted.is_empty() {
        return Ok(None);
    }
    let inline = snapshot.inline()?;
    let (plan, checked) = (&planned.plan, &planned.checked);
    let applied = Apply { store, manifest, plan, checked, inline: &inline, ladder, events }.run(at)?;
    Ok(Some(applied.inodes))
}

/// A plan whose blobs are known to be sound.
#[derive(Debug, Default)]
struct Planned {
    plan: Plan,
    checked: HashMap<u32, Meta>,
    omitted: Vec<String>,
    hashed: u64,
}

impl Restored {
    fn count(&mut self, ladder: &Ladder, applied: &Applied) {
        let (linked, reflinked, copied) = ladder.counts();
        let copied = copied + applied.written;
        self.work.linked += linked;
        self.work.reflinked += reflinked;
        self.work.copied += copied;
        self.work.removed += applied.removed;
        for (mode, files) in [(LinkMode::Hardlink, linked), (LinkMode::Reflink, reflinked), (LinkMode::Copy, copied)] {
            if files > 0 {
                *self.link_modes.entry(mode.name().to_owned()).or_default() += files;
            }
        }
        self.why_not.extend(ladder.why_not());
    }
}

/// Refuses a root where something stands that is no directory.
fn refuse_file(path: &Path) -> Result<()> {
    match larder_fs::metadata(path)?.map(|meta| meta.kind) {
        None | Some(Kind::Dir | Kind::Symlink) => Ok(()),
        Some(_) => Err(Error::BadRoot { path: path.to_path_buf(), reason: "it is not a directory".into() }),
    }
}

fn examine_all(request: &RestoreRequest<'_>, events: &dyn Events) -> Result<Vec<Target>> {
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
        _ => e.into(),
    })?;
    if meta.kind == Kind::Dir && dir.entries()?.is_empty() {
        return Ok(Target::Fresh { exists: true });
    }
    let tree = larder_fs::walk(&dir)?;
    Ok(Target::Over { dir, tree })
}

fn is_newer(target: &Target, manifest: &Manifest) -> bool {
    let Target::Over { tree, .. } = target else { return false };
    // What a restore that died left behind is new, and worth nothing.
    let temporary = |name: &OsStr| name.as_encoded_bytes().starts_with(plan::TEMP_PREFIX.as_bytes());
    let there = tree.files.iter().filter(|file| !temporary(&file.name)).map(|file| file.meta.mtime).max();
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
