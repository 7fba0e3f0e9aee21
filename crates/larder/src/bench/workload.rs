//! The trees that are worked on: copies of the user's directory, never the directory itself.
//!
//! Every run gets a place with a new name; nothing is removed before the end.

use super::measure::Runner;
use super::plan::{Cost, Sizes, Who};
use super::rivals;
use anyhow::{Context, bail};
use larder_fs::scratch::{self, Item, Kind, Times};
use std::cell::Cell;
use std::ops::Add;
use std::path::{Path, PathBuf};

/// The least a file or directory takes on most file systems.
const BLOCK: u64 = 4096;
/// One file in so many is changed.
const ONE_IN: usize = 100;
/// So much of the bytes a build makes anew after an edit of one crate that all tests use: 4.1 of 6.8 GB in 143 of 7,785
/// files of a measured target, for each test executable holds the crate.
const BUILT_PERCENT: u64 = 60;

/// A copy of the user's directory, and places to restore it to.
#[derive(Debug)]
pub(super) struct Workload {
    /// Where everything happens.
    root: PathBuf,
    /// The copy that stands for the user's directory.
    pub(super) origin: PathBuf,
    /// What is in it.
    pub(super) items: Vec<Item>,
    /// Which of the items are changed for the rows with 1 % of changes.
    changed: Vec<usize>,
    /// Which are made anew for the row of a build.
    built: Vec<usize>,
    made: Cell<u64>,
}

impl Workload {
    /// Copies `dir`, whose entries are `items`, into `root`.
    pub(super) fn copy(dir: &Path, items: Vec<Item>, root: PathBuf, runner: &Runner) -> anyhow::Result<Self> {
        let origin = root.join("origin");
        runner.run(&rivals::full_copy(dir, &origin))?;
        if let Some(what) = scratch::difference(&items, &scratch::list(&origin)?, Times::Exact) {
            bail!("{} changed while it was copied: {what}", dir.display());
        }
        let (changed, built) = (one_percent(&items), largest(&items));
        Ok(Self { root, origin, items, changed, built, made: Cell::new(0) })
    }

    /// A place where nothing has ever been, in a directory that exists.
    pub(super) fn fresh(&self) -> PathBuf {
        let number = self.made.get();
        self.made.set(number + 1);
        self.root.join(format!("{number:04}"))
    }

    /// Waits until the disk is quiet; with `cold`, makes the kernel forget what it has read.
    pub(super) fn settle(&self, cold: bool) -> anyhow::Result<()> {
        scratch::settle(&self.root)?;
        if cold {
            scratch::drop_caches()?;
        }
        Ok(())
    }

    /// Gives 1 % of a tree's files new bytes, the same ones for the same round, and other sizes than the round before:
    /// rsync would not see a change of the same size within the same second.
    pub(super) fn change(&self, tree: &Path, round: u32) -> anyhow::Result<()> {
        self.rewrite(&self.changed, tree, round)
    }

    /// Gives the files that an edit and a build would make anew new bytes, as [`Self::change`] does.
    pub(super) fn build(&self, tree: &Path, round: u32) -> anyhow::Result<()> {
        self.rewrite(&self.built, tree, round)
    }

    fn rewrite(&self, which: &[usize], tree: &Path, round: u32) -> anyhow::Result<()> {
        for (i, item) in which.iter().map(|i| &self.items[*i]).enumerate() {
            scratch::replace(
                &tree.join(&item.path),
                item.size() + (i as u64 + u64::from(round)) % 2,
                (u64::from(round) << 32) + i as u64,
            )?;
        }
        Ok(())
    }

    /// Fails unless `tree` is what the user's directory is.
    pub(super) fn check(&self, tree: &Path, who: Who, label: &str) -> anyhow::Result<()> {
        self.compare(&self.items, &self.origin, tree, &self.changed, who, label)
    }

    /// As [`Self::check`], and reads what [`Self::build`] made anew.
    pub(super) fn check_built(&self, tree: &Path, who: Who, label: &str) -> anyhow::Result<()> {
        self.compare(&self.items, &self.origin, tree, &self.built, who, label)
    }

    /// Fails unless `tree` is what `wanted` is.
    pub(super) fn check_against(&self, wanted: &Path, tree: &Path, who: Who, label: &str) -> anyhow::Result<()> {
        self.compare(&scratch::list(wanted)?, wanted, tree, &self.changed, who, label)
    }

    fn compare(
        &self,
        items: &[Item],
        wanted: &Path,
        tree: &Path,
        read: &[usize],
        who: Who,
        label: &str,
    ) -> anyhow::Result<()> {
        // rsync leaves a time alone that is right to the second, unless it is told otherwise, which its users do not.
        let times = if who == Who::Rsync { Times::Seconds } else { Times::Exact };
        let found = scratch::list(tree).with_context(|| format!("cannot check what {label} made"))?;
        let mut wrong = scratch::difference(items, &found, times);
        for item in read.iter().map(|i| &self.items[*i]) {
            if wrong.is_none() && !scratch::same_bytes(&wanted.join(&item.path), &tree.join(&item.path))? {
                wrong = Some(format!("`{}` has other bytes", item.path.display()));
            }
        }
        match wrong {
            Some(what) => bail!("{label} did not reproduce the directory, so its times mean nothing: {what}"),
            None => Ok(()),
        }
    }

    fn changed(&self) -> impl Iterator<Item = &Item> {
        self.changed.iter().map(|i| &self.items[*i])
    }

    /// How many files are changed, and their bytes.
    pub(super) fn changed_size(&self) -> (u64, u64) {
        self.changed().fold((0, 0), |(n, sum), item| (n + 1, sum + item.size()))
    }
}

/// One file in a hundred, at least one: of all files by size, the middle one of each hundred, so that small and large
/// ones are changed as often as they occur. Files with several names are left alone: a new file would part them.
fn one_percent(items: &[Item]) -> Vec<usize> {
    let mut files: Vec<usize> = (0..items.len()).filter(|i| is_single_file(&items[*i])).collect();
    files.sort_by_key(|i| (items[*i].size(), *i));
    let middle = (ONE_IN / 2).min(files.len() / 2);
    files.into_iter().skip(middle).step_by(ONE_IN).collect()
}

/// The largest files, until they hold most of the bytes. Files with several names are left alone, as above.
fn largest(items: &[Item]) -> Vec<usize> {
    let mut files: Vec<usize> = (0..items.len()).filter(|i| is_single_file(&items[*i])).collect();
    files.sort_by_key(|i| (std::cmp::Reverse(items[*i].size()), *i));
    let all: u64 = files.iter().map(|i| items[*i].size()).sum();
    let mut left = all / 100 * BUILT_PERCENT;
    files.retain(|i| {
        let taken = left > 0;
        left = left.saturating_sub(items[*i].size());
        taken
    });
    files
}

fn is_single_file(item: &Item) -> bool {
    item.single && matches!(item.kind, Kind::File(_))
}

/// What copies of a tree cost, as far as it shows before anything has run.
pub(super) fn sizes(items: &[Item]) -> Sizes {
    let whole_blocks = |bytes: u64| bytes.div_ceil(BLOCK) * BLOCK;
    let mut sizes = Sizes::default();
    for item in items {
        // A copy may part hard links and fill holes.
        let bytes = if item.kind == Kind::Directory { BLOCK } else { whole_blocks(item.size()) };
        let cost = Cost { bytes, inodes: 1 };
        sizes.full += cost;
        if item.kind == Kind::Directory {
            sizes.directories += cost;
        }
    }
    let cost = |i: usize| Cost { bytes: whole_blocks(items[i].size() + 1), inodes: 1 };
    sizes.changed = one_percent(items).into_iter().map(cost).fold(Cost::default(), Add::add);
    sizes.built = largest(items).into_iter().map(cost).fold(Cost::default(), Add::add);
    sizes
}

/// What a tree holds alone, as far as its inodes tell.
pub(super) fn own_cost(items: &[Item]) -> Cost {
    let inodes = items.iter().filter(|i| i.single).count() as u64;
    Cost { bytes: items.iter().map(|i| i.own_bytes).sum(), inodes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: u64, size: u64, single: bool) -> Item {
        let path = PathBuf::from(format!("{name:05}"));
        Item { path, kind: Kind::File(size), mode: 0o644, mtime: (1, 0), own_bytes: size, single }
    }

    #[test]
    fn one_percent_is_a_mix_of_sizes() {
        let items: Vec<Item> = (0..1000).map(|i| file(i, 5 * (999 - i), true)).collect();
        let sizes: Vec<u64> = one_percent(&items).iter().map(|i| items[*i].size() / 5).collect();
        assert_eq!(sizes, [50, 150, 250, 350, 450, 550, 650, 750, 850, 950]);
    }

    #[test]
    fn at_least_one_file_is_changed_and_none_with_two_names() {
        let items = [file(0, 9, false), file(1, 1, true), file(2, 2, true), file(3, 3, true)];
        assert_eq!(one_percent(&items), [2]);
        assert_eq!(one_percent(&items[..2]), [1]);
        assert!(one_percent(&items[..1]).is_empty());
    }

    #[test]
    fn a_build_makes_the_largest_files_anew() {
        let items: Vec<Item> = (0..100).map(|i| file(i, if i % 10 == 3 { 900 } else { 10 }, i != 13)).collect();
        assert_eq!(largest(&items), [3, 23, 33, 43, 53, 63]);
        assert!(largest(&[]).is_empty());
    }

    #[test]
    fn costs_are_whole_blocks_for_every_name() {
        let directory = Item { kind: Kind::Directory, ..file(0, 0, true) };
        let items = [directory, file(1, 1, true), file(2, 5000, false), file(3, 0, true)];
        let sizes = sizes(&items);
        assert_eq!(sizes.full, Cost { bytes: 4 * BLOCK, inodes: 4 });
        assert_eq!(sizes.directories, Cost { bytes: BLOCK, inodes: 1 });
        assert_eq!(own_cost(&items).inodes, 3);
    }
}
