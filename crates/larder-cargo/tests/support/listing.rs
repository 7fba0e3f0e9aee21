//! Listings of target directories, as a walk gives them, and their tables.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use larder_cargo::table::{Context, TargetFile};
use larder_cargo::{Unit, UnitTable};

/// One file of a listing.
pub(crate) struct Listed {
    path: Vec<u8>,
    size: u64,
    mtime: i64,
    inode: u32,
}

/// All files below a folder.
pub(crate) fn list(target: &Path) -> Vec<Listed> {
    let mut inodes = BTreeMap::new();
    let all = super::support::files(target);
    all.into_iter()
        .map(|(path, at)| {
            let meta = fs::symlink_metadata(at).unwrap();
            let next = u32::try_from(inodes.len()).unwrap();
            let inode = *inodes.entry(meta.ino()).or_insert(next);
            Listed { path, size: meta.len(), mtime: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(), inode }
        })
        .collect()
}

/// Borrows a listing.
pub(crate) fn files(listed: &[Listed]) -> Vec<TargetFile<'_>> {
    listed
        .iter()
        .map(|file| TargetFile { path: &file.path, size: file.size, mtime: file.mtime, inode: file.inode })
        .collect()
}

/// The table of a directory; `packages` are path packages by name and folder.
pub(crate) fn table(root: &Path, target: &Path, packages: &[(&str, &str)]) -> UnitTable {
    let mut by_name: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (name, dir) in packages {
        by_name.entry((*name).to_owned()).or_default().push(root.parent().unwrap().join(dir));
    }
    let context = Context { workspace_root: root, target_dir: target, cargo_home: None, packages: &by_name };
    let listed = list(target);
    UnitTable::read(&files(&listed), &context, &|path| fs::read(path).ok())
}

/// The one unit of a package with that target and something more.
#[track_caller]
pub(crate) fn unit<'t>(table: &'t UnitTable, package: &str, target: &str, like: impl Fn(&Unit) -> bool) -> &'t Unit {
    let mut found = table.units.iter().filter(|unit| unit.package == package && unit.target == target && like(unit));
    let one = found.next().unwrap_or_else(|| panic!("no {target} of {package}"));
    assert!(found.next().is_none(), "several {target} of {package}");
    one
}
