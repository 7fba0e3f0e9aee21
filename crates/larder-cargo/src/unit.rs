//! What must go together when a file is lost.
//!
//! When one blob is damaged, all files of its unit are left out, and cargo sees a unit that was never built. The set
//! is safe because cargo names every trace of a unit by the same hash: `.fingerprint/NAME-H/`, `deps/*-H*`,
//! `examples/*-H*`, `build/NAME-H/`, or the one folder `build/PKG/HASH/`. A missing fingerprint makes the unit dirty,
//! its rebuild is newer than its dependents, and so they are rebuilt too.
//!
//! Files without a hash in `deps/` (dylibs, cdylibs and what is built with them) go together by their name: cargo
//! takes a missing output for a dirty unit (measured: "couldn't read metadata", then compiled again), but does not
//! miss split debug information, which must therefore take the library along. Final artefacts are linked anew from
//! `deps/` even when everything is fresh.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::class::{is_rustc_temporary, split_file};
use crate::layout::{Inside, Layout, Part, Place, is_hash, is_lock, split_hash};

/// A unit within one target directory: cargo's hash, and the profile folder, because host and cross builds keep units
/// of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitId {
    /// The profile folder, such as `debug` or `aarch64-apple-darwin/release`.
    #[serde(with = "crate::text::bytes")]
    pub root: Vec<u8>,
    /// 16 lower-case hexadecimal digits.
    pub hash: String,
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.root.escape_ascii(), self.hash)
    }
}

/// What a path belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// One compilation, or one run of a build script.
    Unit {
        /// Equal for all files of the unit.
        id: UnitId,
        /// As this path spells it: the package in folders (`my-app`), the crate in files (`my_app`), without a `lib`
        /// in front.
        name: Vec<u8>,
    },
    /// rustc's incremental data of one crate; lost as a whole it costs time and nothing else.
    Incremental {
        /// The folder that must be left out as a whole.
        dir: Vec<u8>,
    },
    /// An output whose name carries no hash, because the name is its interface; lost together with its like, it makes
    /// its unit dirty.
    Unhashed {
        /// Equal for all of them: the path without a `lib` in front of the name and without everything from its first
        /// dot.
        stem: Vec<u8>,
    },
    /// May be lost alone: cargo makes it again.
    Droppable,
    /// Belongs to no unit, or to nobody knows whom: without it the directory as a whole cannot be trusted.
    Shared,
}

/// A [`Location`] in the path's own bytes.
pub(crate) enum Spot<'a> {
    Unit { root: &'a [u8], hash: &'a [u8], name: &'a [u8] },
    Incremental { root: &'a [u8], krate: &'a [u8], rest: &'a [u8] },
    Unhashed { root: &'a [u8], stem: &'a [u8] },
    Droppable,
    Shared,
}

/// Attributes paths of one target directory to units.
#[derive(Debug, Clone, Default)]
pub struct UnitLocator {
    layout: Layout,
}

impl UnitLocator {
    /// For a directory whose paths were [learnt](Layout::learn).
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// The layout that it judges by, for [`FileClass::of`](crate::FileClass::of).
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What a path relative to the target (or build) directory belongs to.
    pub fn locate(&self, path: &[u8]) -> Location {
        match self.spot(path) {
            Spot::Unit { root, hash, name } => Location::Unit {
                id: UnitId { root: root.to_vec(), hash: String::from_utf8_lossy(hash).into_owned() },
                name: name.to_vec(),
            },
            Spot::Incremental { root, krate, .. } => {
                Location::Incremental { dir: [root, b"incremental", krate].join(&b'/') }
            }
            Spot::Unhashed { root, stem } => Location::Unhashed { stem: [root, b"deps", stem].join(&b'/') },
            Spot::Droppable => Location::Droppable,
            Spot::Shared => Location::Shared,
        }
    }

    /// The same without a copy, for whoever asks about every file of a directory.
    pub(crate) fn spot<'a>(&self, path: &'a [u8]) -> Spot<'a> {
        match self.layout.place(path) {
            Place::Top(
                b".rustc_info.json" | b".rustdoc_fingerprint.json" | b".future-incompat-report.json" | b"CACHEDIR.TAG",
            ) => Spot::Droppable,
            Place::Top(name) if is_lock(name) => Spot::Droppable,
            Place::Doc(b".lock") | Place::Report => Spot::Droppable,
            // Tests keep state of their own in `tmp/`: half of it may mislead them.
            Place::Top(_) | Place::Doc(_) | Place::Scratch | Place::Elsewhere => Spot::Shared,
            Place::Profile { root, inside } => self.inside(path, root, inside),
        }
    }

    fn inside<'a>(&self, path: &'a [u8], root: &'a [u8], inside: Inside<'a>) -> Spot<'a> {
        let folder =
            |dir: &'a [u8]| split_hash(dir).map_or(Spot::Shared, |(name, hash)| Spot::Unit { root, hash, name });
        let hashed = |rest: &'a [u8]| {
            split_file(rest).map(|file| Spot::Unit {
                root,
                hash: file.hash,
                name: file.name.strip_prefix(b"lib").unwrap_or(file.name),
            })
        };
        match inside {
            Inside::File(name) if is_lock(name) || name.ends_with(b".d") || self.layout.describes(path) => {
                Spot::Droppable
            }
            Inside::File(_) | Inside::Other => Spot::Shared,
            Inside::Fingerprint(rest) => {
                rest.iter().position(|&b| b == b'/').map_or(Spot::Shared, |slash| folder(&rest[..slash]))
            }
            Inside::Deps(rest) => hashed(rest).unwrap_or_else(|| without_hash(root, rest)),
            Inside::Examples(rest) => hashed(rest).unwrap_or_else(|| {
                let artefact = !rest.contains(&b'/') && (rest.ends_with(b".d") || self.layout.describes(path));
                if artefact { Spot::Droppable } else { Spot::Shared }
            }),
            Inside::Incremental { krate, rest } => Spot::Incremental { root, krate, rest },
            Inside::Build { dir, .. } => folder(dir),
            Inside::Unit { pkg, hash, part: Part::Fingerprint | Part::Out | Part::Run, .. } if is_hash(hash) => {
                Spot::Unit { root, hash, name: pkg }
            }
            Inside::Unit { .. } => Spot::Shared,
        }
    }

    /// All paths to leave out when some are damaged, in the order of `all`; `None` when the whole directory has to go.
    pub fn leave_out<'a>(
        &self,
        damaged: impl IntoIterator<Item = &'a [u8]>,
        all: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Vec<&'a [u8]>> {
        let (mut alone, mut units, mut groups) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for path in damaged {
            match self.locate(path) {
                Location::Unit { id, .. } => drop(units.insert(id)),
                Location::Incremental { dir: group } | Location::Unhashed { stem: group } => drop(groups.insert(group)),
                Location::Droppable => drop(alone.insert(path)),
                Location::Shared => return None,
            }
        }
        let goes = |path: &&[u8]| match self.locate(path) {
            Location::Unit { id, .. } => units.contains(&id),
            Location::Incremental { dir: group } | Location::Unhashed { stem: group } => groups.contains(&group),
            Location::Droppable => alone.contains(path),
            Location::Shared => false,
        };
        Some(all.into_iter().filter(goes).collect())
    }
}

fn without_hash<'a>(root: &'a [u8], rest: &'a [u8]) -> Spot<'a> {
    if is_rustc_temporary(rest) {
        return Spot::Droppable;
    }
    let (stem, suffix) = match rest.iter().position(|&b| b == b'.') {
        Some(dot) if !rest.contains(&b'/') => (&rest[..dot], &rest[dot + 1..]),
        _ => return Spot::Shared,
    };
    let last = suffix.rsplit(|&b| b == b'.').next().unwrap_or(suffix);
    match last {
        b"rlib" | b"rmeta" | b"a" | b"so" | b"dylib" | b"dll" | b"wasm" | b"d" | b"dwp" | b"pdb" => {
            Spot::Unhashed { root, stem: stem.strip_prefix(b"lib").unwrap_or(stem) }
        }
        _ => Spot::Shared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileClass;
    use proptest::prelude::*;

    const H: &str = "0123456789abcdef";

    fn locate(path: &str) -> Location {
        UnitLocator::default().locate(path.replace("-H", &format!("-{H}")).replace("/H/", &format!("/{H}/")).as_bytes())
    }

    #[test]
    fn one_unit_in_both_layouts() {
        for path in [
            ".fingerprint/my-app-H/lib-my_app",
            "deps/libmy_app-H.rlib",
            "deps/my_app-H",
            "deps/my_app-H.cgu.0.rcgu.dwo",
            "examples/my_app-H.d",
            "build/my-app-H/out/deep/er",
            "build/my-app/H/fingerprint/lib-my_app",
            "build/my-app/H/out/whatever",
        ] {
            let Location::Unit { id, name } = locate(&format!("debug/{path}")) else { panic!("{path}") };
            assert_eq!((id.root.as_slice(), id.hash.as_str()), (b"debug".as_slice(), H), "{path}");
            assert_eq!(String::from_utf8(name).unwrap().replace('_', "-"), "my-app", "{path}");
        }
        assert_ne!(locate("debug/deps/a-H"), locate("a-b-c/debug/deps/a-H"));
    }

    #[test]
    fn what_is_no_unit() {
        for path in [
            ".rustc_info.json",
            "CACHEDIR.TAG",
            "debug/a.d",
            "debug/.cargo-lock",
            "x-y-z/CACHEDIR.TAG",
            "doc/.lock",
            "package/a.crate",
        ] {
            assert_eq!(locate(path), Location::Droppable, "{path}");
        }
        for path in [
            "doc/a.html",
            "x",
            "nextest/x",
            "debug/x",
            "debug/deps/x",
            "debug/deps/x.txt",
            "debug/build/x",
            "debug/.fingerprint/x",
            "tmp/a",
        ] {
            assert_eq!(locate(path), Location::Shared, "{path}");
        }
        for path in ["liba.so", "liba.rlib", "liba.so.dwp", "a.d"] {
            assert_eq!(
                locate(&format!("debug/deps/{path}")),
                Location::Unhashed { stem: b"debug/deps/a".to_vec() },
                "{path}"
            );
        }
        assert_eq!(
            locate("debug/incremental/a-1x/s-a-b.lock"),
            Location::Incremental { dir: b"debug/incremental/a-1x".to_vec() }
        );
    }

    #[test]
    fn a_damaged_blob_takes_its_unit_along() {
        let all: Vec<Vec<u8>> = [
            "debug/deps/liba-H.rlib",
            "debug/.fingerprint/a-H/lib-a",
            "debug/deps/libb-0000000000000000.rlib",
            "debug/a.d",
            "doc/x",
        ]
        .iter()
        .map(|path| path.replace("-H", &format!("-{H}")).into_bytes())
        .collect();
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let locator = UnitLocator::new(Layout::learn(all.iter().copied()));
        assert_eq!(locator.leave_out([all[0]], all.clone()), Some(all[..2].to_vec()));
        assert_eq!(locator.leave_out([all[3]], all.clone()), Some(vec![all[3]]));
        assert_eq!(locator.leave_out([all[4]], all.clone()), None);
    }

    /// Paths made of cargo's own words, with some noise, so that deep cases are reached often.
    fn paths() -> impl Strategy<Value = Vec<u8>> {
        let one_of = |words: &'static str| {
            prop::sample::select(words.split(' ').collect::<Vec<_>>()).prop_map(|word| word.as_bytes().to_vec())
        };
        let noise = || prop_oneof![prop::collection::vec(any::<u8>(), 0..24), Just(b"..".to_vec()), Just(Vec::new())];
        let root = one_of("debug release ci a-b-c a-b-c/debug doc tmp");
        let folder = one_of("deps build .fingerprint incremental examples .cargo-lock a a.d build/a");
        let inner = one_of(
            "0123456789abcdef a-0123456789abcdef liba-0123456789abcdef.rlib a-0123456789abcdef.x.o liba.so liba.a liba.so.dwp \
             a a.d a.exe out run fingerprint build-script-build build_script_build-0123456789abcdef s-a-b-c s-a.lock .hidden",
        );
        let part = |known| prop_oneof![12 => known, 1 => noise()];
        (part(root.boxed()), part(folder.boxed()), prop::collection::vec(part(inner.boxed()), 0..4))
            .prop_map(|(root, folder, inner)| [root, folder].into_iter().chain(inner).collect::<Vec<_>>().join(&b'/'))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_bytes_make_it_panic(path in prop::collection::vec(any::<u8>(), 0..64)) {
            let locator = UnitLocator::new(Layout::learn([path.as_slice()]));
            prop_assert!(!FileClass::of(&path, locator.layout()).may_share(false) || locator.locate(&path) != Location::Shared);
        }

        #[test]
        fn whatever_may_be_shared_can_be_left_out(all in prop::collection::vec(paths(), 1..12)) {
            for layout in [Layout::default(), Layout::learn(all.iter().map(Vec::as_slice))] {
                let locator = UnitLocator::new(layout);
                for path in &all {
                    if FileClass::of(path, locator.layout()).may_share(true) {
                        prop_assert_ne!(locator.locate(path), Location::Shared, "{}", path.escape_ascii());
                    }
                }
            }
        }

        #[test]
        fn leaving_out_is_whole(all in prop::collection::vec(paths(), 1..12)) {
            let locator = UnitLocator::new(Layout::learn(all.iter().map(Vec::as_slice)));
            let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
            if let Some(out) = locator.leave_out([all[0]], all.clone()) {
                prop_assert!(out.contains(&all[0]));
                for path in &all {
                    let Location::Unit { id, .. } = locator.locate(path) else { continue };
                    let same = out.iter().any(|other| matches!(locator.locate(other), Location::Unit { id: other, .. } if other == id));
                    prop_assert_eq!(same, out.contains(path));
                }
            }
        }
    }
}
