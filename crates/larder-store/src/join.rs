//! Which entries of a manifest and of a directory as it is now have the same path.
//!
//! Both sides are sorted by (directory, name), so each pair of directories is merged in one pass.

use crate::manifest::Manifest;
use larder_fs::Tree;
use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;

/// For each entry the index of its counterpart, by kind.
#[derive(Debug)]
pub(crate) struct Join {
    /// Manifest directory → directory of the tree.
    pub(crate) dir_to_tree: Vec<Option<u32>>,
    /// Directory of the tree → manifest directory.
    pub(crate) tree_to_dir: Vec<Option<u32>>,
    /// Manifest link → file of the tree.
    pub(crate) link_to_file: Vec<Option<u32>>,
    /// File of the tree → manifest link.
    pub(crate) file_to_link: Vec<Option<u32>>,
    /// Manifest symlink → symlink of the tree.
    pub(crate) symlink_to_tree: Vec<Option<u32>>,
    /// Symlink of the tree → manifest symlink.
    pub(crate) tree_to_symlink: Vec<Option<u32>>,
}

impl Join {
    pub(crate) fn new(manifest: &Manifest, tree: &Tree) -> Self {
        let mut join = Self {
            dir_to_tree: vec![None; manifest.dirs.len()],
            tree_to_dir: vec![None; tree.dirs.len()],
            link_to_file: vec![None; manifest.links.len()],
            file_to_link: vec![None; tree.files.len()],
            symlink_to_tree: vec![None; manifest.symlinks.len()],
            tree_to_symlink: vec![None; tree.symlinks.len()],
        };
        if manifest.dirs.is_empty() || tree.dirs.is_empty() {
            return join;
        }
        join.dir_to_tree[0] = Some(0);
        join.tree_to_dir[0] = Some(0);
        for dir in 0..manifest.dirs.len() {
            let Some(tree_dir) = join.dir_to_tree[dir] else { continue };
            let dir = u32::try_from(dir).expect("directories are counted in 32 bits");
            // The root holds itself; it is nobody's child.
            let ours = range(&manifest.dirs[1..], dir, |d| d.parent);
            let theirs = range(&tree.dirs[1..], tree_dir, |d| d.parent);
            merge(
                ours.start + 1..ours.end + 1,
                theirs.start + 1..theirs.end + 1,
                |a| &manifest.dirs[a].name,
                |b| tree.dirs[b].name.as_bytes(),
                (&mut join.dir_to_tree, &mut join.tree_to_dir),
            );
            merge(
                range(&manifest.links, dir, |l| l.dir),
                range(&tree.files, tree_dir, |f| f.dir),
                |a| &manifest.links[a].name,
                |b| tree.files[b].name.as_bytes(),
                (&mut join.link_to_file, &mut join.file_to_link),
            );
            merge(
                range(&manifest.symlinks, dir, |s| s.dir),
                range(&tree.symlinks, tree_dir, |s| s.dir),
                |a| &manifest.symlinks[a].name,
                |b| tree.symlinks[b].name.as_bytes(),
                (&mut join.symlink_to_tree, &mut join.tree_to_symlink),
            );
        }
        join
    }
}

/// The part of a table sorted by directory that belongs to `dir`.
pub(crate) fn range<T>(table: &[T], dir: u32, dir_of: impl Fn(&T) -> u32) -> std::ops::Range<usize> {
    let start = table.partition_point(|entry| dir_of(entry) < dir);
    let len = table[start..].partition_point(|entry| dir_of(entry) == dir);
    start..start + len
}

fn merge<'a>(
    mut ours: std::ops::Range<usize>,
    mut theirs: std::ops::Range<usize>,
    our_name: impl Fn(usize) -> &'a [u8],
    their_name: impl Fn(usize) -> &'a [u8],
    (forth, back): (&mut [Option<u32>], &mut [Option<u32>]),
) {
    while !ours.is_empty() && !theirs.is_empty() {
        match our_name(ours.start).cmp(their_name(theirs.start)) {
            Ordering::Less => ours.start += 1,
            Ordering::Greater => theirs.start += 1,
            Ordering::Equal => {
                forth[ours.start] = u32::try_from(theirs.start).ok();
                back[theirs.start] = u32::try_from(ours.start).ok();
                ours.start += 1;
                theirs.start += 1;
            }
        }
    }
}
