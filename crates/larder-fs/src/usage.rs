//! What fills a file system: folders by what they take.

use crate::dir::{Dir, join_relative};
use crate::error::Result;
use crate::meta::Kind;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A folder, with all that is below it on the same file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The folder.
    pub path: PathBuf,
    /// Bytes on disk; a file of several names counts once, where it was found first.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usages {
    /// Every folder down to the depth that was asked for, by path.
    pub folders: Vec<Usage>,
    /// Whether all was looked at: time was left, and nothing was closed to this account.
    pub complete: bool,
}

/// The directory at which the file system of `path` begins, as far as its parents tell.
pub fn top_of_volume(path: &Path) -> Result<PathBuf> {
    let mut top = path.to_path_buf();
    let device = Dir::open(path)?.stat_self()?.dev;
    while let Some(parent) = top.parent().map(Path::to_path_buf) {
        match Dir::open(&parent).and_then(|dir| dir.stat_self()) {
            Ok(meta) if meta.dev == device => top = parent,
            _ => break,
        }
    }
    Ok(top)
}

/// Adds up the folders below `top` down to `depth`, for at most so long. Links are not followed, other file systems are
/// left out, and nothing is changed.
pub fn usage(top: &Path, depth: usize, at_most: Duration) -> Result<Usages> {
    let start = Instant::now();
    let root = Dir::open(top)?;
    let device = root.stat_self()?.dev;
    let mut sums: BTreeMap<OsString, (u64, u64)> = BTreeMap::new();
    let mut seen: HashSet<u64> = HashSet::new();
    let mut usages = Usages { complete: true, ..Usages::default() };
    let mut pending = vec![OsString::new()];
    while let Some(relative) = pending.pop() {
        if start.elapsed() > at_most {
            usages.complete = false;
            break;
        }
        let listed = root.open_beneath(&relative).and_then(|dir| Ok((dir.entries()?, dir)));
        let Ok((entries, dir)) = listed else {
            usages.complete = false;
            continue;
        };
        let (mut bytes, mut files) = (0_u64, 0_u64);
        for entry in entries {
            // What goes away meanwhile takes nothing.
            let Ok(Some(meta)) = dir.stat_optional(&entry.name) else { continue };
            if meta.dev != device || meta.kind != Kind::Dir && meta.nlink > 1 && !seen.insert(meta.ino) {
                continue;
            }
            bytes = bytes.saturating_add(meta.blocks.saturating_mul(512));
            files += 1;
            if meta.kind == Kind::Dir {
                pending.push(join_relative(&relative, &entry.name));
            }
        }
        for folder in folders_of(&relative, depth) {
            let sum = sums.entry(folder.to_os_string()).or_default();
            *sum = (sum.0.saturating_add(bytes), sum.1 + files);
        }
    }
    usages.folders =
        sums.into_iter().map(|(relative, (bytes, files))| Usage { path: top.join(relative), bytes, files }).collect();
    Ok(usages)
}

/// The folder itself and those that it lies in, down to a depth; the top has depth 0.
fn folders_of(relative: &OsStr, depth: usize) -> impl Iterator<Item = &OsStr> {
    let deep = |path: &&Path| path.components().count() <= depth;
    Path::new(relative).ancestors().filter(deep).map(Path::as_os_str).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_added_up_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::create_dir_all(at("a/b/c")).unwrap();
        std::fs::create_dir_all(at("d")).unwrap();
        std::fs::write(at("a/b/c/large"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(at("a/b/c/large"), at("a/b/c/again")).unwrap();
        std::os::unix::fs::symlink(at("a"), at("d/link")).unwrap();
        let found = usage(temp.path(), 2, Duration::from_secs(60)).unwrap();
        assert!(found.complete);
        let bytes = |name: &str| found.folders.iter().find(|folder| folder.path == at(name)).map(|folder| folder.bytes);
        assert!((100_000..150_000).contains(&bytes("a/b").unwrap()));
        assert!(bytes("a") >= bytes("a/b") && bytes("d").unwrap() < 10_000 && bytes("a/b/c").is_none());
        assert!(!usage(temp.path(), 2, Duration::ZERO).unwrap().complete);
        let top = top_of_volume(temp.path()).unwrap();
        assert!(temp.path().starts_with(top));
    }
}
