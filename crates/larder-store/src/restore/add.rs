//! Adding to a directory that somebody else owns what a snapshot has and the directory lacks.
//!
//! Invariant: nothing that stands there is changed, replaced, renamed or removed. What is missing is built aside, whole
//! and with its final times, and moved into place by renames that replace nothing: a directory that is absent by one
//! rename, any other file by one each. So whoever works there meanwhile sees a file or a directory complete or not at
//! all, and an addition that dies leaves nothing half made.

use super::apply::Apply;
use super::examine::{How, Target, refuse_file};
use super::plan::{self, in_blob};
use super::{Outcome, Restored, Root};
use crate::error::{Error, Result};
use crate::events::{Events, Phase};
use crate::join::Join;
use crate::link_mode::{Ladder, LinkMode};
use crate::manifest::Manifest;
use crate::reserve::Needs;
use crate::snapshot::{Place, Snapshot, load_or_warn};
use crate::store::{Staging, Store, chain};
use larder_fs::{Dir, Tree, Volume};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What to add, and to what.
pub struct AddRequest<'a> {
    /// Where to look; its snapshots have one root.
    pub place: Place,
    /// The exact key; else the newest snapshot of the place will do.
    pub key: String,
    /// The directory; it is made if it is absent and something is to be added.
    pub root: Root<'a>,
    /// Who says what of it is wanted.
    pub wants: &'a dyn Wants,
    /// How.
    pub link_mode: LinkMode,
    /// Change nothing; say what would be done.
    pub dry_run: bool,
}

/// Chooses among what a snapshot has.
pub trait Wants {
    /// Which of these files are wanted, given whether something stands at the path of each. What stands there is
    /// never touched, whatever is said here.
    fn wanted(&self, paths: &[Vec<u8>], standing: &[bool]) -> Vec<bool>;

    /// All is built; what stays undone are the renames.
    fn placing(&self) {}
}

impl Store {
    /// Adds what is missing. A miss leaves everything alone and is no error.
    ///
    /// # Errors
    ///
    /// [`Error::BadRoot`] where nothing can be added to the root, any other where some of the files may have been
    /// added, each of them whole.
    pub fn add(&self, request: &AddRequest<'_>, events: &dyn Events) -> Result<Restored> {
        let path = &request.root.path;
        let _root = self.lock_root(path)?;
        let _shared = self.lock_shared()?;
        self.refuse_overlap(path)?;
        refuse_file(path)?;
        let mut order = self.find_exact(&request.place, &request.key)?;
        let exact = order.len();
        let others = self.find_all(&request.place)?.into_iter().filter(|found| !order.contains(found));
        let others: Vec<_> = others.collect();
        order.extend(others);
        for (at, found) in order.iter().enumerate() {
            let Some(snapshot) = load_or_warn(found, events) else { continue };
            // Names of snapshots hold a shortened digest of their key.
            if at < exact && snapshot.header.key != request.key {
                continue;
            }
            let [manifest] = snapshot.roots.as_slice() else { continue };
            if let Some(mut restored) = self.add_from(&snapshot, manifest, request, events)? {
                let whole = restored.omitted.is_empty() && snapshot.header.key == request.key;
                restored.outcome = if whole { Outcome::Hit } else { Outcome::Partial };
                if !request.dry_run {
                    self.begin_job(path, &snapshot.header.id, events);
                    self.mark_used(&snapshot.header.id);
                }
                return Ok(restored);
            }
        }
        Ok(Restored::default())
    }

    /// Adds from this snapshot; `None` when its contents cannot be had.
    fn add_from(
        &self,
        snapshot: &Snapshot,
        manifest: &Manifest,
        request: &AddRequest<'_>,
        events: &dyn Events,
    ) -> Result<Option<Restored>> {
        let root = &request.root;
        events.phase(Phase::Examine, 0);
        let tree = standing_tree(manifest, &root.path)?;
        let standing = standing(manifest, &tree);
        let mut wanted = request.wants.wanted(&manifest.link_paths(), &standing);
        wanted.resize(standing.len(), false);
        wanted.iter_mut().zip(&standing).for_each(|(wanted, standing)| *wanted &= !standing);
        let mut restored = Restored {
            key: Some(snapshot.header.key.clone()),
            snapshot: Some(snapshot.header.id.clone()),
            created: snapshot.header.created,
            files: manifest.links.len() as u64,
            bytes: manifest.logical_bytes(),
            ..Restored::default()
        };
        restored.work.unchanged = standing.iter().filter(|standing| **standing).count() as u64;
        if !wanted.contains(&true) {
            return Ok(Some(restored));
        }
        let (part, whole_of) = part(manifest, &wanted);
        let how = How { exact: true, strays: false, set_aside: !request.dry_run, remade: &[] };
        let Some(planned) = self.plan(&part, &Target::Fresh { exists: true }, root, how, events)? else {
            return Ok(None);
        };
        restored.omitted.extend(planned.omitted.iter().cloned());
        restored.work.hashed = planned.hashed;
        if request.dry_run {
            restored.work.copied = planned.plan.wanted().count() as u64;
            return Ok(Some(restored));
        }
        let inline = match part.inodes.iter().all(|inode| in_blob(&inode.content)) {
            true => Vec::new(),
            false => match snapshot.inline() {
                Ok(inline) => inline,
                Err(e) => {
                    events.warn(&format!("{}; it counts as absent", chain(&e)));
                    return Ok(None);
                }
            },
        };
        let mut needs = Needs::default();
        self.needs_of(&part, &planned, root, request.link_mode, &mut needs)?;
        let _room = self.reserve_for_restore(&needs)?;
        larder_fs::create_parents(&root.path)?;
        let home = Dir::open(&root.path)?;
        let (store_volume, volume) = (Volume::of(&self.root)?, Volume::of(&home)?);
        // The store's own staging is swept by its next start, one in the directory by the next addition to it.
        let staging = match !self.is_read_only() && store_volume.can_rename_to(&volume) {
            true => self.staging()?,
            false => Staging::beside(Dir::open(&root.path)?, plan::TEMP_PREFIX)?,
        };
        let aside = OsStr::new("root");
        staging.dir.create_dir(aside)?;
        let aside = staging.dir.open_beneath(aside)?;
        let ladder = Ladder::new(request.link_mode, store_volume, volume);
        let (plan, checked) = (&planned.plan, &planned.checked);
        let apply = Apply { store: self, manifest: &part, plan, checked, inline: &inline, ladder: &ladder, events };
        let applied = apply.run(&aside)?;
        request.wants.placing();
        place(&aside, &home)?;
        restored.count(&ladder, &applied);
        let mut inodes = same_inodes(manifest, &tree);
        for (number, whole) in applied.inodes.iter().zip(whole_of) {
            inodes[whole as usize] = *number;
        }
        self.remember(snapshot, 0, &root.path, inodes, None, events);
        Ok(Some(restored))
    }
}

/// What stands at the paths of the manifest, and nothing else.
fn standing_tree(manifest: &Manifest, path: &Path) -> Result<Tree> {
    let Some(dir) = Dir::open_optional(path)? else { return Ok(Tree::default()) };
    let dirs = manifest.dir_paths();
    let mut names: HashMap<&[u8], HashSet<&[u8]>> = HashMap::new();
    for entry in manifest.dirs.iter().skip(1) {
        names.entry(&dirs[entry.parent as usize]).or_default().insert(&entry.name);
    }
    for link in &manifest.links {
        names.entry(&dirs[link.dir as usize]).or_default().insert(&link.name);
    }
    let choose = |_: &Dir, relative: &OsStr, entries: &mut Vec<larder_fs::Entry>| match names.get(relative.as_bytes()) {
        Some(names) => entries.retain(|entry| names.contains(entry.name.as_bytes())),
        None => entries.clear(),
    };
    larder_fs::walk_chosen(&dir, &choose).map_err(Error::of_walk)
}

/// For each link of the manifest whether something stands there, or in the way to it.
fn standing(manifest: &Manifest, tree: &Tree) -> Vec<bool> {
    let others = tree.symlinks.iter().map(|link| (link.dir, link.name.as_bytes()));
    let others = others.chain(tree.specials.iter().map(|special| (special.dir, special.name.as_bytes())));
    let others: HashSet<_> = others.chain(tree.files.iter().map(|file| (file.dir, file.name.as_bytes()))).collect();
    let dirs: HashSet<_> = tree.dirs.iter().skip(1).map(|dir| (dir.parent, dir.name.as_bytes())).collect();
    let join = Join::new(manifest, tree);
    let is_other = |dir: Option<u32>, name: &[u8]| dir.is_some_and(|dir| others.contains(&(dir, name)));
    // Parents stand before their children.
    let mut blocked = vec![false; manifest.dirs.len()];
    for (index, dir) in manifest.dirs.iter().enumerate().skip(1) {
        let parent = dir.parent as usize;
        blocked[index] = blocked[parent] || is_other(join.dir_to_tree[parent], &dir.name);
    }
    let there = |link: &crate::manifest::Link| {
        let dir = join.dir_to_tree[link.dir as usize];
        let is_dir = dir.is_some_and(|dir| dirs.contains(&(dir, link.name.as_slice())));
        blocked[link.dir as usize] || is_other(dir, &link.name) || is_dir
    };
    manifest.links.iter().map(there).collect()
}

/// The inode numbers of files that stand there as the manifest has them; 0 for all others.
fn same_inodes(manifest: &Manifest, tree: &Tree) -> Vec<u64> {
    let join = Join::new(manifest, tree);
    let mut inodes = vec![0; manifest.inodes.len()];
    for (link, file) in manifest.links.iter().zip(join.link_to_file) {
        let Some(file) = file else { continue };
        let (meta, inode) = (&tree.files[file as usize].meta, &manifest.inodes[link.inode as usize]);
        if meta.size == inode.size && meta.mtime == inode.mtime {
            inodes[link.inode as usize] = meta.ino;
        }
    }
    inodes
}

/// The manifest of the wanted files alone, with the directories that they need; and for each of its inodes which one
/// of the whole it is.
fn part(manifest: &Manifest, wanted: &[bool]) -> (Manifest, Vec<u32>) {
    let mut needed = vec![false; manifest.dirs.len()];
    for (link, _) in manifest.links.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
        let mut dir = link.dir as usize;
        while !std::mem::replace(&mut needed[dir], true) {
            dir = manifest.dirs[dir].parent as usize;
        }
    }
    let number = |count: usize| u32::try_from(count).expect("a part has no more entries than the whole");
    let mut part = Manifest::default();
    let mut dirs: HashMap<u32, u32> = HashMap::new();
    for (index, dir) in (0..).zip(&manifest.dirs).filter(|(index, _)| needed[*index as usize]) {
        dirs.insert(index, number(part.dirs.len()));
        let mut dir = dir.clone();
        dir.parent = dirs[&dir.parent];
        part.dirs.push(dir);
    }
    let mut inodes: HashMap<u32, u32> = HashMap::new();
    let mut whole_of = Vec::new();
    for (link, _) in manifest.links.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
        let mut link = link.clone();
        let whole = link.inode;
        link.dir = dirs[&link.dir];
        link.inode = *inodes.entry(whole).or_insert_with(|| {
            part.inodes.push(manifest.inodes[whole as usize].clone());
            whole_of.push(whole);
            number(whole_of.len() - 1)
        });
        part.links.push(link);
    }
    (part, whole_of)
}

/// Moves everything in `from` to `to`, where nothing stands in its place.
fn place(from: &Dir, to: &Dir) -> Result<()> {
    for entry in from.entries()? {
        let name = &entry.name;
        match from.rename_new(name, to, name) {
            Ok(()) => {}
            Err(e) if e.is_already_exists() => {
                // Somebody else's directory keeps what it has; any other thing there is theirs altogether.
                if let (Ok(from), Ok(to)) = (from.open_beneath(name), to.open_beneath(name)) {
                    place(&from, &to)?;
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
