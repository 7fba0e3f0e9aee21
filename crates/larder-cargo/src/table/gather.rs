//! The files of a listing, by unit: which are cargo's notes, when the unit was begun, what it holds.

use std::collections::{BTreeMap, HashSet};

use super::TargetFile;
use super::dep_info;
use crate::layout::Layout;
use crate::unit::{Spot, UnitLocator};

/// All that a listing tells of one unit.
pub(super) struct Folder<'a> {
    pub(super) root: &'a [u8],
    pub(super) hash: &'a str,
    pub(super) package: &'a str,
    /// Its fingerprints' folder, by the files' names.
    notes: BTreeMap<&'a str, TargetFile<'a>>,
    /// The mtime of `invoked.timestamp`.
    pub(super) invoked: Option<i64>,
    /// rustc's `.d`.
    pub(super) rustc_dep_info: Option<&'a [u8]>,
    pub(super) bytes: u64,
    /// Whether a dynamic library is among its files.
    pub(super) dynamic: bool,
}

impl<'a> Folder<'a> {
    /// Cargo's name of the target, the hash file, and the JSON beside it. Usually one; cargo's names for units decide
    /// whether several share a folder.
    pub(super) fn hash_files(&self) -> impl Iterator<Item = (&'a str, TargetFile<'a>, TargetFile<'a>)> {
        self.notes.iter().filter_map(|(name, file)| {
            // Emptied before a build, 16 digits after it.
            let hash = matches!(file.size, 0 | 16) && !name.starts_with("dep-") && !name.starts_with("output-");
            if !hash || *name == "invoked.timestamp" {
                return None;
            }
            // `Path::with_extension`: a name with a dot loses what follows it.
            let stem = name.rsplit_once('.').map_or(*name, |(stem, _)| stem);
            let json = self.notes.get(format!("{stem}.json").as_str())?;
            (json.path != file.path).then_some((*name, *file, *json))
        })
    }

    /// Cargo's `dep-*` file of a target, if it names anything.
    pub(super) fn dep_info(&self, target: &str) -> Option<&'a [u8]> {
        let file = self.notes.get(format!("dep-{target}").as_str())?;
        (file.size > dep_info::EMPTY).then_some(file.path)
    }
}

/// All units of a listing, in the order of their ids.
pub(super) fn by_unit<'a>(files: &[TargetFile<'a>]) -> Vec<Folder<'a>> {
    let locator = UnitLocator::new(Layout::learn(files.iter().map(|file| file.path)));
    let mut folders: BTreeMap<(&[u8], &[u8]), Folder<'a>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for file in files {
        let Spot::Unit { root, hash, name } = locator.spot(file.path) else { continue };
        let (Ok(digits), Ok(name)) = (std::str::from_utf8(hash), std::str::from_utf8(name)) else { continue };
        let folder = folders.entry((root, hash)).or_insert_with(|| Folder {
            root,
            hash: digits,
            package: "",
            notes: BTreeMap::new(),
            invoked: None,
            rustc_dep_info: None,
            bytes: 0,
            dynamic: false,
        });
        if seen.insert(file.inode) {
            folder.bytes += file.size;
        }
        let last = file.path.rsplit(|&b| b == b'/').next().unwrap_or(file.path);
        if last == b"invoked.timestamp" {
            folder.invoked = Some(file.mtime);
        }
        if let Some(note) = locator.layout().note(file.path) {
            folder.package = name;
            folder.notes.extend(std::str::from_utf8(note).map(|note| (note, *file)));
        } else if last.ends_with(b".d") {
            folder.rustc_dep_info = Some(file.path);
        } else if last.ends_with(b".so") {
            folder.dynamic = true;
        }
    }
    folders.into_values().filter(|folder| !folder.notes.is_empty()).collect()
}
