//! Changing directories until they are what was planned, and writing down what is where since.

use super::apply::{Applied, Apply};
use super::examine::{How, Ready, Target, nearest_existing, split_root};
use super::{RestoreRequest, Restored, Root, plan};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::link_mode::{Ladder, LinkMode};
use crate::manifest::Manifest;
use crate::session::{DirId, Session};
use crate::snapshot::Snapshot;
use crate::store::{Staging, Store, chain};
use larder_fs::{Dir, Timestamp, Volume};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// All of a snapshot and nothing else.
const WHOLE: How<'_> = How { exact: true, strays: false, set_aside: true, remade: &[] };

impl Store {
    /// Carries out the plans, one root after the other; in a dry run only counts what they would do.
    pub(super) fn materialise(
        &self,
        snapshot: &Snapshot,
        request: &RestoreRequest<'_>,
        targets: &[Target],
        ready: &Ready,
        restored: &mut Restored,
        events: &dyn Events,
    ) -> Result<()> {
        if !request.dry_run && !self.is_read_only() {
            // All of them before the first one changes: dying between two leaves directories that do not fit together.
            for ((planned, target), root) in ready.plans.iter().zip(targets).zip(&request.roots) {
                match target {
                    _ if planned.plan.is_empty() => {}
                    Target::Over { dir, .. } => self.mark_restoring(&root.path, dir, events)?,
                    // It is renamed into place whole.
                    Target::Fresh { .. } => self.drop_session(&root.path)?,
                }
            }
        }
        let mut numbers = Vec::new();
        for ((manifest, planned), (index, root)) in
            snapshot.roots.iter().zip(&ready.plans).zip(request.roots.iter().enumerate())
        {
            restored.omitted.extend(planned.omitted.iter().cloned());
            restored.remade += planned.remade;
            restored.strays |= planned.plan.strays;
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
                inline: &ready.inline,
                ladder: &ladder,
                events,
            };
            let half = |e: Error| Error::HalfRestored { path: root.path.clone(), source: Some(Box::new(e)) };
            let applied = match &targets[index] {
                Target::Over { dir, .. } => {
                    let applied = apply.run(dir).map_err(half)?;
                    let watched = request.guide.map(|guide| guide.watched(&snapshot.provenance, index));
                    mark_unread(dir, &watched.unwrap_or_default());
                    applied
                }
                Target::Fresh { exists } => match self.build_aside(&apply, &root.path, *exists, &beside) {
                    // The first directory is as it was; later ones no longer fit to those before.
                    Err(e) if index > 0 && !matches!(e, Error::HalfRestored { .. }) => return Err(half(e)),
                    other => other?,
                },
            };
            restored.count(&ladder, &applied);
            numbers.push(applied.inodes);
        }
        for (index, (inodes, root)) in numbers.into_iter().zip(&request.roots).enumerate() {
            self.remember(snapshot, index, &root.path, inodes, None, events);
        }
        Ok(())
    }

    /// Builds a root where nothing stands yet beside its final place and renames it there.
    fn build_aside(&self, apply: &Apply<'_>, path: &Path, exists: bool, beside: &Dir) -> Result<Applied> {
        let (parent, name) = split_root(path)?;
        larder_fs::create_parents(parent)?;
        let parent_dir = Dir::open(parent)?;
        if exists && larder_fs::mount::is_mount_point(path)? {
            // A mount point cannot be renamed over.
            let half = |e: Error| Error::HalfRestored { path: path.to_path_buf(), source: Some(Box::new(e)) };
            let dir = Dir::open(path)?;
            if !self.is_read_only() {
                self.mark_restoring(path, &dir, apply.events)?;
            }
            return apply.run(&dir).map_err(half);
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

    /// Writes down that a restore is about to change the directory `dir` at `root`, unless an earlier one did and
    /// never ended: that one knows better what stood there before.
    fn mark_restoring(&self, root: &Path, dir: &Dir, events: &dyn Events) -> Result<()> {
        if self.is_half_restored(root)? {
            return Ok(());
        }
        let mark = Session::restoring(root, self.session(root), DirId::of(dir)?);
        let Err(e) = self.staging().and_then(|staging| self.put_session(&staging, &mark)) else { return Ok(()) };
        // The store may be full, and the restore may be what makes room. An old record would be wrong soon.
        events.warn(&format!(
            "nothing will tell that {} is incomplete, should its restore be interrupted: {}",
            root.display(),
            chain(&e)
        ));
        self.drop_session(root)
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
        // The directory is whole: better no record of it than the mark.
        let written = self.staging().and_then(write).or_else(|e| self.drop_session(root).and(Err(e)));
        if let Err(e) = written {
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

/// Marks files as never read. What is new is so already; what cannot be marked counts as read.
fn mark_unread(root: &Dir, paths: &[Vec<u8>]) {
    for path in paths {
        let (dir, name) = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or((&[][..], &path[..]), |slash| (&path[..slash], &path[slash + 1..]));
        let marked = root
            .open_beneath(OsStr::from_bytes(dir))
            .and_then(|dir| dir.stat_optional(OsStr::from_bytes(name)).map(|meta| (dir, meta)))
            .and_then(|(dir, meta)| match meta {
                Some(meta) if meta.atime != Timestamp::default() => dir.mark_unread(OsStr::from_bytes(name)),
                _ => Ok(()),
            });
        if let Err(e) = marked {
            tracing::trace!("{e}");
        }
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
    let Some(planned) = store.plan(manifest, &Target::Fresh { exists: true }, root, WHOLE, events)? else {
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

impl Restored {
    pub(super) fn count(&mut self, ladder: &Ladder, applied: &Applied) {
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
