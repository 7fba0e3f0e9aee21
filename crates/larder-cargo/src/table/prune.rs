//! Which files go with dead units.
//!
//! **Final artefacts** (`debug/app`) are second names of a unit's file. Where the only names left are of dead units, the
//! artefact goes too: it is a program that no job built for a long time, and as long as its name stays, so do all its
//! bytes, which are most of what a dead unit has. If it is wanted after all, cargo builds it.
//!
//! **Incremental folders** are named by the crate and by rustc's own id of it, which is no unit's. So they are counted:
//! of each crate as many of the newest stay as there are units left that rustc may compile incrementally, which cargo
//! asks for path packages only. In each that stays, rustc leaves the session before the last behind, and what was
//! killed half way; only the last whole session is ever read again.
//!
//! Source for sessions: rustc's `rustc_incremental/src/persist/fs.rs`: `s-TIME-RANDOM-HASH`, or `-working` instead of the
//! hash, and `s-TIME-RANDOM.lock`; the time is microseconds in base 36.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{TargetFile, UnitTable};
use crate::UnitId;
use crate::layout::{Inside, Layout, Place, cut};
use crate::unit::{Spot, UnitLocator};

/// Time and random number of a session. The order of base 36 numbers is that of length, then of digits.
type Name<'a> = (usize, &'a [u8], &'a [u8]);

impl UnitTable {
    /// The files of a listing that may go when these units are [dead](Self::dead), in the listing's order.
    pub fn dead_files<'f>(&self, dead: &[UnitId], files: &[TargetFile<'f>]) -> Vec<&'f [u8]> {
        let dead: HashSet<(&[u8], &[u8])> = dead.iter().map(|id| (id.root.as_slice(), id.hash.as_bytes())).collect();
        let locator = UnitLocator::new(Layout::learn(files.iter().map(|file| file.path)));
        let (mut gone, mut kept) = (HashSet::new(), HashSet::new());
        let mut sessions = Sessions::default();
        for file in files {
            match locator.spot(file.path) {
                Spot::Unit { root, hash, .. } if dead.contains(&(root, hash)) => drop(gone.insert(file.inode)),
                Spot::Incremental { root, krate, rest } => sessions.add(root, krate, rest),
                _ if is_artefact(locator.layout(), file.path) => {}
                _ => drop(kept.insert(file.inode)),
            }
        }
        let sessions = sessions.newest(&self.incremental(&dead));
        let goes = |file: &&TargetFile<'_>| match locator.spot(file.path) {
            Spot::Unit { root, hash, .. } if dead.contains(&(root, hash)) => true,
            Spot::Incremental { root, krate, rest } => sessions.drop(root, krate, rest),
            _ => gone.contains(&file.inode) && !kept.contains(&file.inode),
        };
        files.iter().filter(goes).map(|file| file.path).collect()
    }

    /// How many living units of each profile folder and crate may be compiled incrementally.
    fn incremental(&self, dead: &HashSet<(&[u8], &[u8])>) -> HashMap<(&[u8], String), usize> {
        let mut count = HashMap::new();
        for unit in self.units.iter().filter(|unit| unit.local) {
            let root = unit.id.root.as_slice();
            if !dead.contains(&(root, unit.id.hash.as_bytes()))
                && let Some(name) = unit.crate_name()
            {
                *count.entry((root, name)).or_default() += 1;
            }
        }
        count
    }
}

fn is_artefact(layout: &Layout, path: &[u8]) -> bool {
    match layout.place(path) {
        Place::Profile { inside: Inside::File(_), .. } => true,
        Place::Profile { inside: Inside::Examples(rest), .. } => crate::class::split_file(rest).is_none(),
        _ => false,
    }
}

/// The last whole session of each incremental folder, by profile folder and the folder's name.
#[derive(Default)]
struct Sessions<'a> {
    last: BTreeMap<(&'a [u8], &'a [u8]), Option<Name<'a>>>,
}

impl<'a> Sessions<'a> {
    fn add(&mut self, root: &'a [u8], krate: &'a [u8], rest: &'a [u8]) {
        let last = self.last.entry((root, krate)).or_default();
        if let Some(Session { name, whole: true }) = Session::of(rest) {
            *last = (*last).max(Some(name));
        }
    }

    /// Forgets all folders but the newest of each crate, as many as it has living units.
    fn newest(mut self, living: &HashMap<(&[u8], String), usize>) -> Self {
        let mut crates: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((root, folder), last) in self.last {
            let name = folder.iter().rposition(|&b| b == b'-').map_or(folder, |dash| &folder[..dash]);
            crates.entry((root, name)).or_default().push((last, folder));
        }
        self.last = BTreeMap::new();
        for ((root, name), mut folders) in crates {
            let keep = living.get(&(root, String::from_utf8_lossy(name).into_owned())).copied().unwrap_or(0);
            folders.sort_unstable_by(|one, other| other.cmp(one));
            self.last.extend(folders.into_iter().take(keep).map(|(last, folder)| ((root, folder), last)));
        }
        self
    }

    fn drop(&self, root: &[u8], krate: &[u8], rest: &[u8]) -> bool {
        let Some(last) = self.last.get(&(root, krate)) else { return true };
        match Session::of(rest) {
            Some(Session { name, .. }) => *last != Some(name),
            // Nothing that rustc is known to make.
            None => false,
        }
    }
}

struct Session<'a> {
    name: Name<'a>,
    /// A folder that rustc finished, rather than one at work or a lock.
    whole: bool,
}

impl<'a> Session<'a> {
    fn of(rest: &'a [u8]) -> Option<Self> {
        let (name, is_folder) = match cut(rest) {
            Some((folder, _)) => (folder, true),
            None => (rest.strip_suffix(b".lock")?, false),
        };
        let mut parts = name.strip_prefix(b"s-")?.split(|&b| b == b'-');
        let (time, random, hash) = (parts.next()?, parts.next()?, parts.next());
        (parts.next().is_none() && hash.is_some() == is_folder)
            .then_some(Self { name: (time.len(), time, random), whole: hash.is_some_and(|hash| hash != b"working") })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{local, registry, table};
    use super::*;
    use proptest::prelude::*;

    /// Paths with inode numbers; `H` stands for the hash of fingerprint 1, `I` for that of 2.
    fn dead_files(table: &UnitTable, dead: &[u64], files: &[(&str, u32)]) -> Vec<String> {
        let spell = |path: &str| path.replace("-H", "-0000000000000001").replace("-I", "-0000000000000002");
        let paths: Vec<String> = files.iter().map(|(path, _)| spell(path)).collect();
        let files: Vec<TargetFile<'_>> = paths
            .iter()
            .zip(files)
            .map(|(path, (_, inode))| TargetFile { path: path.as_bytes(), size: 1, mtime: 1, inode: *inode })
            .collect();
        let dead: Vec<UnitId> =
            table.units.iter().filter(|unit| dead.contains(&unit.fingerprint)).map(|unit| unit.id.clone()).collect();
        let unspell = |path: &&[u8]| {
            let path = String::from_utf8_lossy(path);
            path.replace("-0000000000000001", "-H").replace("-0000000000000002", "-I")
        };
        table.dead_files(&dead, &files).iter().map(unspell).collect()
    }

    #[test]
    fn a_dead_unit_and_its_artefact() {
        let table = table(vec![registry("app", "bin-app", 1, &[]), registry("app", "bin-app", 2, &[])]);
        let files = [
            ("debug/.fingerprint/app-H/bin-app", 1),
            ("debug/deps/app-H", 2),
            ("debug/deps/app-H.d", 3),
            ("debug/deps/app-I", 4),
            ("debug/app", 2),
            ("debug/app.d", 5),
            ("debug/.cargo-lock", 6),
            ("release/deps/app-H", 7),
        ];
        assert_eq!(
            dead_files(&table, &[1], &files),
            ["debug/.fingerprint/app-H/bin-app", "debug/deps/app-H", "debug/deps/app-H.d", "debug/app"]
        );
        assert_eq!(dead_files(&table, &[2], &files), ["debug/deps/app-I"]);
        assert_eq!(dead_files(&table, &[], &files), [""; 0]);
        // Somebody else names the same file.
        let mut shared = files.to_vec();
        shared.push(("out/app", 2));
        assert!(!dead_files(&table, &[1], &shared).contains(&"debug/app".to_owned()));
    }

    #[test]
    fn sessions() {
        let table = table(vec![
            local("app", "bin-app", 1, &[], &[]),
            local("app", "test-bin-app", 2, &[], &[]),
            registry("dep", "lib-dep", 3, &[]),
        ]);
        let folder = |folder: &'static str, at: &str| format!("debug/incremental/{folder}/{at}");
        let paths = [
            folder("app-one", "s-zz-r1-hash/dep-graph.bin"),
            folder("app-one", "s-zz-r1.lock"),
            folder("app-one", "s-100-r2-hash/dep-graph.bin"),
            folder("app-one", "s-100-r2.lock"),
            folder("app-one", "s-200-r3-working/x.o"),
            folder("app-one", "s-200-r3.lock"),
            folder("app-one", "notes"),
            folder("app-two", "s-300-r4-hash/x.o"),
            folder("app-old", "s-0zz-r5-hash/x.o"),
            folder("dep-one", "s-300-r6-hash/x.o"),
        ];
        let files: Vec<(&str, u32)> = paths.iter().zip(0..).map(|(path, inode)| (path.as_str(), inode)).collect();
        let expected = |indices: &[usize]| indices.iter().map(|index| paths[*index].clone()).collect::<Vec<_>>();
        assert_eq!(dead_files(&table, &[], &files), expected(&[0, 1, 4, 5, 8, 9]));
        assert_eq!(dead_files(&table, &[1], &files), expected(&[0, 1, 2, 3, 4, 5, 6, 8, 9]));
        assert_eq!(dead_files(&table, &[1, 2], &files).len(), files.len());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(rest in prop::collection::vec(prop::sample::select(b"s-ab/.lock\xff".to_vec()), 0..24)) {
            Session::of(&rest);
            let path = [b"debug/incremental/a-b/".as_slice(), &rest].concat();
            let file = TargetFile { path: &path, size: 1, mtime: 1, inode: 1 };
            table(Vec::new()).dead_files(&[], &[file]);
        }
    }
}
