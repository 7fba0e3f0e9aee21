//! A tree as the kernel describes it: every entry below a directory with its stat, nothing read.
//!
//! The walk goes level by level. The directories of one level are listed in parallel, and the result
//! is in a fixed order: parents before children, names sorted within a directory.

use crate::dir::{Dir, Entry, join_relative};
use crate::error::{Error, Result};
use crate::meta::{Kind, Meta};
use rayon::prelude::*;
use std::ffi::{OsStr, OsString};

/// A directory of a tree; the first one is the root, with an empty name.
#[derive(Clone, Debug)]
pub struct DirNode {
    /// Index of the directory that holds it; the root holds itself.
    pub parent: u32,
    /// Its name there.
    pub name: OsString,
    /// Its path below the root.
    pub relative: OsString,
    /// What the kernel says of it.
    pub meta: Meta,
}

/// A regular file of a tree.
#[derive(Clone, Debug)]
pub struct FileNode {
    /// Index of its directory.
    pub dir: u32,
    /// Its name there.
    pub name: OsString,
    /// What the kernel says of it.
    pub meta: Meta,
}

/// A symbolic link of a tree.
#[derive(Clone, Debug)]
pub struct SymlinkNode {
    /// Index of its directory.
    pub dir: u32,
    /// Its name there.
    pub name: OsString,
    /// What the kernel says of it.
    pub meta: Meta,
    /// Where it points, as bytes.
    pub target: Vec<u8>,
}

/// A socket, FIFO or device of a tree.
#[derive(Clone, Debug)]
pub struct SpecialNode {
    /// Index of its directory.
    pub dir: u32,
    /// Its name there.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

/// Everything below a directory.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Directories, parents before children.
    pub dirs: Vec<DirNode>,
    /// Regular files, grouped by directory.
    pub files: Vec<FileNode>,
    /// Symbolic links, grouped by directory.
    pub symlinks: Vec<SymlinkNode>,
    /// What can be neither copied nor linked.
    pub specials: Vec<SpecialNode>,
}

impl Tree {
    /// The path below the root of the entry `name` of directory `dir`.
    pub fn relative(&self, dir: u32, name: &OsStr) -> OsString {
        join_relative(&self.dirs[dir as usize].relative, name)
    }
}

impl Tree {
    /// Takes files out, given by one flag each in their order, and the directories that are empty for want of them.
    pub fn leave_out(&mut self, files: &[bool]) {
        let out = |index: usize| files.get(index).copied().unwrap_or(false);
        let mut held = vec![0_u32; self.dirs.len()];
        let mut lost = vec![false; self.dirs.len()];
        for (index, file) in self.files.iter().enumerate() {
            match out(index) {
                true => lost[file.dir as usize] = true,
                false => held[file.dir as usize] += 1,
            }
        }
        for dir in self.symlinks.iter().map(|link| link.dir).chain(self.specials.iter().map(|special| special.dir)) {
            held[dir as usize] += 1;
        }
        // Children come after their parents.
        for index in (1..self.dirs.len()).rev() {
            let parent = self.dirs[index].parent as usize;
            match held[index] == 0 && lost[index] {
                true => lost[parent] = true,
                false => held[parent] += 1,
            }
        }
        let goes = |index: usize| index > 0 && held[index] == 0 && lost[index];
        let mut next = 0;
        let numbers: Vec<u32> = (0..self.dirs.len())
            .map(|index| {
                let number = next;
                next += u32::from(!goes(index));
                number
            })
            .collect();
        let mut index = 0;
        self.files.retain(|_| {
            index += 1;
            !out(index - 1)
        });
        let mut index = 0;
        self.dirs.retain(|_| {
            index += 1;
            !goes(index - 1)
        });
        let dirs = self.dirs.iter_mut().map(|dir| &mut dir.parent);
        let files = self.files.iter_mut().map(|file| &mut file.dir);
        let others = self.symlinks.iter_mut().map(|link| &mut link.dir);
        let specials = self.specials.iter_mut().map(|special| &mut special.dir);
        for dir in dirs.chain(files).chain(others).chain(specials) {
            *dir = numbers[*dir as usize];
        }
    }
}

struct Listed {
    dirs: Vec<(OsString, Meta)>,
    files: Vec<FileNode>,
    symlinks: Vec<SymlinkNode>,
    specials: Vec<SpecialNode>,
}

/// Walks the tree below `root`. Entries that vanish meanwhile are left out.
pub fn walk(root: &Dir) -> Result<Tree> {
    walk_chosen(root, &|_, _, _| {})
}

/// What takes entries out of a directory's listing before they are examined; it is given the directory and its path
/// below the root.
pub type Choose<'a> = &'a (dyn Fn(&Dir, &OsStr, &mut Vec<Entry>) + Sync);

/// Walks the tree below `root` as [`walk`] does, but only the entries that `choose` leaves in each listing.
pub fn walk_chosen(root: &Dir, choose: Choose<'_>) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.dirs.push(DirNode { parent: 0, name: OsString::new(), relative: OsString::new(), meta: root.stat_self()? });
    let mut level = 0..1_u32;
    while !level.is_empty() {
        let indices: Vec<u32> = level.clone().collect();
        let listed: Vec<Option<Listed>> = indices
            .par_iter()
            .with_min_len(8)
            .map(|index| list(root, &tree.dirs[*index as usize].relative, *index, choose))
            .collect::<Result<_>>()?;
        for (index, listed) in level.clone().zip(listed) {
            let Some(listed) = listed else { continue };
            for (name, meta) in listed.dirs {
                let relative = join_relative(&tree.dirs[index as usize].relative, &name);
                tree.dirs.push(DirNode { parent: index, name, relative, meta });
            }
            tree.files.extend(listed.files);
            tree.symlinks.extend(listed.symlinks);
            tree.specials.extend(listed.specials);
        }
        let end = u32::try_from(tree.dirs.len()).map_err(|_| {
            Error::new("list", root.path(), std::io::Error::other("more than 4,294,967,295 directories"))
        })?;
        level = level.end..end;
    }
    Ok(tree)
}

/// Fewer stats than this are not worth a thread's attention.
const STATS_AT_ONCE: usize = 128;

struct Examined {
    name: OsString,
    meta: Meta,
    target: Vec<u8>,
}

/// Examines one entry, or `None` when it is gone.
fn examine(dir: &Dir, entry: Entry) -> Result<Option<Examined>> {
    let Some(meta) = dir.stat_optional(&entry.name)? else { return Ok(None) };
    let target = match meta.kind {
        Kind::Symlink => match dir.read_link(&entry.name) {
            Ok(target) => target,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        },
        _ => Vec::new(),
    };
    Ok(Some(Examined { name: entry.name, meta, target }))
}

/// Lists one directory, or `None` when it is gone.
fn list(root: &Dir, relative: &OsStr, index: u32, choose: Choose<'_>) -> Result<Option<Listed>> {
    let dir = match root.open_beneath(relative) {
        Ok(dir) => dir,
        Err(e) if e.is_not_found() && index != 0 => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut entries = dir.entries()?;
    choose(&dir, relative, &mut entries);
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    // One large directory must not keep one thread busy while the others wait.
    let examined: Vec<Option<Examined>> =
        entries.into_par_iter().with_min_len(STATS_AT_ONCE).map(|entry| examine(&dir, entry)).collect::<Result<_>>()?;
    let mut listed = Listed { dirs: vec![], files: vec![], symlinks: vec![], specials: vec![] };
    for Examined { name, meta, target } in examined.into_iter().flatten() {
        match meta.kind {
            Kind::Dir => listed.dirs.push((name, meta)),
            Kind::File => listed.files.push(FileNode { dir: index, name, meta }),
            Kind::Symlink => listed.symlinks.push(SymlinkNode { dir: index, name, meta, target }),
            kind => listed.specials.push(SpecialNode { dir: index, name, kind }),
        }
    }
    Ok(Some(listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_children_and_names_are_sorted() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("b/d")).unwrap();
        std::fs::create_dir_all(temp.path().join("a/c")).unwrap();
        std::fs::write(temp.path().join("b/d/file"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", temp.path().join("dangling")).unwrap();
        let tree = walk(&Dir::open(temp.path()).unwrap()).unwrap();
        let dirs: Vec<_> = tree.dirs.iter().map(|d| d.relative.to_str().unwrap()).collect();
        assert_eq!(dirs, ["", "a", "b", "a/c", "b/d"]);
        assert_eq!(tree.relative(tree.files[0].dir, &tree.files[0].name), "b/d/file");
        assert_eq!(tree.symlinks[0].target, b"nowhere");
        let mut less = tree.clone();
        less.leave_out(&[true]);
        let dirs: Vec<_> = less.dirs.iter().map(|d| d.relative.to_str().unwrap()).collect();
        assert_eq!(dirs, ["", "a", "a/c"], "b/d held a file, a/c never did");
        assert!(less.files.is_empty() && less.symlinks.len() == 1 && less.dirs[2].parent == 1);
        let chosen = walk_chosen(&Dir::open(temp.path()).unwrap(), &|_, relative, entries| {
            entries.retain(|entry| entry.name != "a" && relative != "b");
        });
        let chosen = chosen.unwrap();
        assert_eq!((chosen.dirs.len(), chosen.files.len(), chosen.symlinks.len()), (2, 0, 1));
    }
}
