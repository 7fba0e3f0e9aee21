//! What has to be done to a directory so that it equals a manifest: a plan, which is data.

use crate::join::Join;
use crate::manifest::{Content, Manifest};
use crate::policy::{Fallout, Policy, Treatment};
use crate::session::Session;
use larder_fs::{Meta, Tree};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Names that a restore uses for files on their way; left by one that died, they are always removed.
pub(crate) const TEMP_PREFIX: &str = ".larder-tmp-";

/// What happens to one file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It stays as it is.
    Keep,
    /// Only its permission bits change.
    SetMode,
    /// It is made where nothing stands.
    Create,
    /// It is made under another name and renamed over what stands there.
    Replace,
    /// The private file that stands there is rewritten, which spares an inode.
    Rewrite,
    /// It becomes a further name of another link's file, after that one is in place.
    LinkTo { link: u32, replace: bool },
    /// It is left out.
    Omit,
}

impl Action {
    /// What is done, in words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keep => "right already",
            Self::SetMode => "gets its permission bits",
            Self::Create => "made",
            Self::Replace => "replaced",
            Self::Rewrite => "rewritten in place",
            Self::LinkTo { .. } => "gets a further name",
            Self::Omit => "left out",
        }
    }
}

/// Everything to be done to one directory.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// For each link of the manifest.
    pub(crate) actions: Vec<Action>,
    /// For each link of the manifest; empty when no file has to be made.
    pub(crate) treatments: Vec<Treatment>,
    /// Directories of the manifest to make, parents first.
    pub(crate) new_dirs: Vec<u32>,
    /// Symlinks of the manifest to make, and whether something stands in their place.
    pub(crate) symlinks: Vec<(u32, bool)>,
    /// What stands in the way of an entry of another kind, as paths: removed first.
    pub(crate) obstacles: Vec<OsString>,
    /// Files that nobody gave larder leave to remove, below directories that are in the way.
    pub(crate) blocked: Vec<OsString>,
    /// Files and links to remove, as paths, at the end; the flag says that the file vouches for others.
    pub(crate) removals: Vec<(OsString, bool)>,
    /// Whether files stay that vouch for others, and that neither the snapshot nor the session knows.
    pub(crate) strays: bool,
    /// Directories to remove when they are empty, as paths, deepest first.
    pub(crate) dir_removals: Vec<OsString>,
    /// Directories of the manifest whose mode or time must be set at the end.
    pub(crate) stamps: Vec<u32>,
    /// The inode number of each file of the manifest that stays; 0 where it does not.
    pub(crate) inodes: Vec<u64>,
}

/// What a restore may do beyond adding and changing what the snapshot names.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Remove everything that the snapshot does not name.
    pub(crate) exact: bool,
    /// Find out whether there are strays.
    pub(crate) strays: bool,
    /// Finds what larder made there before, the earlier manifest and its session; asked only when there is
    /// something that could be removed.
    pub(crate) before: &'a dyn Fn() -> Option<(Manifest, Session)>,
    /// Links of the manifest that are left out.
    pub(crate) omitted: &'a [bool],
}

impl Plan {
    /// Compares `manifest` with the directory as `tree` describes it.
    pub(crate) fn new(manifest: &Manifest, tree: &Tree, policy: &dyn Policy, rules: Rules<'_>) -> Self {
        let join = Join::new(manifest, tree);
        let mut plan = Self { inodes: vec![0; manifest.inodes.len()], ..Self::default() };
        let changed = plan.files(manifest, tree, &join, policy, rules);
        plan.symlinks(manifest, tree, &join);
        plan.remove(manifest, tree, &join, policy, rules);
        plan.dirs(manifest, tree, &join, &changed);
        plan
    }

    /// How many of the manifest's names are there already.
    pub(crate) fn unchanged(&self) -> u64 {
        self.actions.iter().filter(|action| matches!(action, Action::Keep | Action::SetMode)).count() as u64
    }

    /// The links whose bytes have to come from the store.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.actions).filter_map(|(link, action)| {
            matches!(action, Action::Create | Action::Replace | Action::Rewrite).then_some(link)
        })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.actions.iter().all(|action| matches!(action, Action::Keep | Action::Omit))
            && self.symlinks.is_empty()
            && self.obstacles.is_empty()
            && self.removals.is_empty()
            && self.dir_removals.is_empty()
            && self.new_dirs.is_empty()
            && self.stamps.is_empty()
    }

    /// Decides on every file name; returns which directories get or lose an entry.
    fn files(
        &mut self,
        manifest: &Manifest,
        tree: &Tree,
        join: &Join,
        policy: &dyn Policy,
        rules: Rules<'_>,
    ) -> HashSet<u32> {
        let mut changed = HashSet::new();
        // The directory's inode that stands for each of ours, and the other way round: hard-link groups
        // must match both ways.
        let mut stands_for: HashMap<(u64, u64), u32> = HashMap::new();
        let mut actions: Vec<Option<Action>> = vec![None; manifest.links.len()];
        for (index, link) in manifest.links.iter().enumerate() {
            if rules.omitted.get(index).copied().unwrap_or(false) {
                actions[index] = Some(Action::Omit);
                continue;
            }
            let Some(file) = join.link_to_file[index] else { continue };
            let meta = &tree.files[file as usize].meta;
            let inode = &manifest.inodes[link.inode as usize];
            let number = &mut self.inodes[link.inode as usize];
            let same_bytes = meta.size == inode.size && meta.mtime == inode.mtime;
            // A file with names outside the tree is replaced instead of getting another mode.
            let same_mode = meta.mode == inode.mode;
            if !same_bytes || !(same_mode || meta.nlink == 1 && is_mine(meta)) || (*number != 0 && *number != meta.ino)
            {
                continue;
            }
            if *stands_for.entry((meta.dev, meta.ino)).or_insert(link.inode) != link.inode {
                continue;
            }
            *number = meta.ino;
            actions[index] = Some(if same_mode { Action::Keep } else { Action::SetMode });
        }
        // Judging files may take asking the compiler: only where something has to be made.
        if actions.iter().any(Option::is_none) {
            self.treatments = policy.treatments(&manifest.link_paths());
            let inodes = manifest.links.iter().map(|link| link.inode);
            Treatment::settle(&mut self.treatments, inodes, manifest.inodes.len());
        }
        // Whoever has a name already is the one that the other names of its file link to.
        let mut first: HashMap<u32, u32> = HashMap::new();
        for (link, action) in (0..).zip(&actions) {
            if matches!(action, Some(Action::Keep | Action::SetMode)) {
                first.entry(manifest.links[link as usize].inode).or_insert(link);
            }
        }
        for (index, link) in manifest.links.iter().enumerate() {
            if actions[index].is_some() {
                continue;
            }
            changed.insert(link.dir);
            let here = u32::try_from(index).expect("links are counted in 32 bits");
            let there = join.link_to_file[index].map(|file| &tree.files[file as usize].meta);
            let first = *first.entry(link.inode).or_insert(here);
            actions[index] = Some(match there {
                _ if first != here => Action::LinkTo { link: first, replace: there.is_some() },
                None => Action::Create,
                Some(meta) if may_rewrite(meta, self.treatments[index], manifest, link.inode) => Action::Rewrite,
                Some(_) => Action::Replace,
            });
        }
        self.actions = actions.into_iter().map(|action| action.unwrap_or(Action::Keep)).collect();
        changed
    }

    fn symlinks(&mut self, manifest: &Manifest, tree: &Tree, join: &Join) {
        for (index, symlink) in (0..).zip(&manifest.symlinks) {
            match join.symlink_to_tree[index as usize].map(|there| &tree.symlinks[there as usize]) {
                Some(there) if there.target == symlink.target && there.meta.mtime == symlink.mtime => {}
                there => self.symlinks.push((index, there.is_some())),
            }
        }
    }

    /// What is there and not in the manifest.
    fn remove(&mut self, manifest: &Manifest, tree: &Tree, join: &Join, policy: &dyn Policy, rules: Rules<'_>) {
        let all_joined = join.file_to_link.iter().all(Option::is_some)
            && join.tree_to_symlink.iter().all(Option::is_some)
            && join.tree_to_dir.iter().all(Option::is_some);
        if all_joined && tree.specials.is_empty() && !self.actions.contains(&Action::Omit) {
            return;
        }
        let ours: HashSet<(u32, &[u8])> = manifest
            .dirs
            .iter()
            .skip(1)
            .map(|d| (d.parent, d.name.as_slice()))
            .chain(manifest.links.iter().map(|l| (l.dir, l.name.as_slice())))
            .chain(manifest.symlinks.iter().map(|s| (s.dir, s.name.as_slice())))
            .collect();
        // An entry of ours that stands there as another kind of thing is an obstacle.
        let wanted = |dir: u32, name: &OsStr| {
            join.tree_to_dir[dir as usize].is_some_and(|dir| ours.contains(&(dir, name.as_bytes())))
        };
        // What lies below a directory that is in the way goes with it.
        let mut in_the_way = vec![false; tree.dirs.len()];
        for (index, dir) in tree.dirs.iter().enumerate().skip(1) {
            in_the_way[index] =
                in_the_way[dir.parent as usize] || (join.tree_to_dir[index].is_none() && wanted(dir.parent, &dir.name));
        }
        let before = match rules.exact {
            true => None,
            false => (rules.before)().map(|(manifest, session)| {
                let join = Join::new(&manifest, tree);
                (manifest, session, join)
            }),
        };
        let mut treatments: Option<Vec<Treatment>> = None;
        for (index, file) in tree.files.iter().enumerate() {
            // Most files stay, so most restores never ask.
            let mut vouches = || {
                let all = || tree.files.iter().map(|f| tree.relative(f.dir, &f.name).into_vec()).collect::<Vec<_>>();
                treatments.get_or_insert_with(|| policy.treatments(&all()))[index].vouches
            };
            let made_by_us = || {
                before.as_ref().is_some_and(|(manifest, session, join)| {
                    join.file_to_link[index].is_some_and(|link| {
                        let inode = manifest.links[link as usize].inode as usize;
                        let same = manifest.inodes[inode].mtime == file.meta.mtime
                            && manifest.inodes[inode].size == file.meta.size;
                        // The restore that died may have cut it to nothing.
                        let cut = session.is_mark() && file.meta.size == 0;
                        session.inodes.get(inode) == Some(&file.meta.ino) && (same || cut)
                    })
                })
            };
            let path = tree.relative(file.dir, &file.name);
            if in_the_way[file.dir as usize] {
                if !rules.exact && !made_by_us() {
                    self.blocked.push(path);
                }
                continue;
            }
            if let Some(link) = join.file_to_link[index] {
                if self.actions[link as usize] == Action::Omit {
                    self.removals.push((path.clone(), vouches()));
                }
                continue;
            }
            if wanted(file.dir, &file.name) {
                self.obstacles.push(path);
                continue;
            }
            if rules.exact || is_temporary(&file.name) || made_by_us() {
                self.removals.push((path.clone(), vouches()));
            } else if rules.strays && !self.strays {
                self.strays = vouches();
            }
        }
        for (index, symlink) in tree.symlinks.iter().enumerate() {
            if join.tree_to_symlink[index].is_some() || in_the_way[symlink.dir as usize] {
                continue;
            }
            let path = tree.relative(symlink.dir, &symlink.name);
            let made_by_us = || {
                before.as_ref().is_some_and(|(manifest, _, join)| {
                    join.tree_to_symlink[index].is_some_and(|i| manifest.symlinks[i as usize].target == symlink.target)
                })
            };
            if wanted(symlink.dir, &symlink.name) {
                self.obstacles.push(path);
            } else if rules.exact || is_temporary(&symlink.name) || made_by_us() {
                self.removals.push((path, false));
            }
        }
        for special in tree.specials.iter().filter(|special| !in_the_way[special.dir as usize]) {
            let path = tree.relative(special.dir, &special.name);
            if wanted(special.dir, &special.name) {
                self.obstacles.push(path);
            } else if rules.exact {
                self.removals.push((path, false));
            }
        }
        for (index, dir) in tree.dirs.iter().enumerate().skip(1).rev() {
            if join.tree_to_dir[index].is_some() || in_the_way[dir.parent as usize] {
                continue;
            }
            let made_by_us = || before.as_ref().is_some_and(|(_, _, join)| join.tree_to_dir[index].is_some());
            if in_the_way[index] {
                self.obstacles.push(dir.relative.clone());
            } else if rules.exact || made_by_us() {
                self.dir_removals.push(dir.relative.clone());
            }
        }
    }

    fn dirs(&mut self, manifest: &Manifest, tree: &Tree, join: &Join, changed: &HashSet<u32>) {
        let mut touched: HashSet<u32> = changed.clone();
        touched.extend(self.symlinks.iter().map(|(index, _)| manifest.symlinks[*index as usize].dir));
        for (index, dir) in (0..).zip(&manifest.dirs) {
            match join.dir_to_tree[index as usize] {
                None => {
                    self.new_dirs.push(index);
                    touched.insert(dir.parent);
                    touched.insert(index);
                }
                Some(there) => {
                    let meta = &tree.dirs[there as usize].meta;
                    if meta.mtime != dir.mtime || meta.mode != dir.mode {
                        touched.insert(index);
                    }
                }
            }
        }
        let emptied = self.removals.iter().map(|(path, _)| path).chain(&self.dir_removals).chain(&self.obstacles);
        let emptied: HashSet<&[u8]> = emptied.map(|path| parent_of(path.as_bytes())).collect();
        if !emptied.is_empty() {
            for (index, path) in (0..).zip(manifest.dir_paths()) {
                if emptied.contains(path.as_slice()) {
                    touched.insert(index);
                }
            }
        }
        self.stamps = touched.into_iter().collect();
        self.stamps.sort_unstable();
    }
}

/// Whether a restore uses such names for files and links on their way.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMP_PREFIX.as_bytes())
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |cut| &path[..cut])
}

/// Small private files that their own tools rewrite in place need no new inode.
fn may_rewrite(meta: &Meta, treatment: Treatment, manifest: &Manifest, inode: u32) -> bool {
    const LIMIT: u64 = 64 * 1024;
    treatment.rewrite
        && meta.nlink == 1
        && is_mine(meta)
        && meta.mode & 0o200 != 0
        && manifest.inodes[inode as usize].size <= LIMIT
}

/// Whether this process may set a file's mode and time.
fn is_mine(meta: &Meta) -> bool {
    let me = larder_fs::process::effective_uid();
    me == 0 || me == meta.uid
}

/// Which links must be left out, given the inodes whose bytes cannot be had; `None` when nothing of the
/// snapshot can be trusted without them.
pub(crate) fn omissions(manifest: &Manifest, policy: &dyn Policy, bad: &HashSet<u32>) -> Option<Fallout> {
    let damaged: Vec<bool> = manifest.links.iter().map(|link| bad.contains(&link.inode)).collect();
    let mut fallout = policy.fallout(&manifest.link_paths(), &damaged)?;
    // Whatever the policy says, what is damaged cannot be had.
    fallout.left_out.resize(damaged.len(), false);
    fallout.left_out.iter_mut().zip(damaged).for_each(|(out, damaged)| *out |= damaged);
    Some(fallout)
}

/// Whether the bytes of a file come from a blob (and not from the snapshot itself).
pub(crate) fn in_blob(content: &Content) -> bool {
    !matches!(content, Content::Inline { .. })
}
