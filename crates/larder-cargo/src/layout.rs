//! Where cargo puts things: a path relative to a target (or build) directory, parsed into a place.
//!
//! Both layouts are understood at once, because one directory can hold both after an upgrade:
//!
//! ```text
//! [TRIPLE/]PROFILE/{.fingerprint,build,deps,examples,incremental}/…     until cargo 1.99
//! [TRIPLE/]PROFILE/build/PKG/HASH/{fingerprint,out,run}/…               from 1.100 (measured with a nightly of 1.97)
//! [TRIPLE/]PROFILE/NAME                                                 final artefacts, both
//! ```
//!
//! A folder called `debug` or `release` is cargo's. Any other profile folder is believed only when [`Layout::learn`]
//! saw cargo's own marks in it (`.fingerprint/` or a lock file), and a final artefact only when it saw the `.d` file
//! that cargo writes beside each one: a build script may put whatever it likes in there, and a guess would let its
//! file be shared.

use std::collections::BTreeSet;

/// Lock files of cargo, in a profile folder: `.cargo-lock` of old, the other two from 1.100.
const LOCKS: [&[u8]; 3] = [b".cargo-lock", b".cargo-build-lock", b".cargo-artifact-lock"];

/// First components that are never a triple or a profile.
const RESERVED: [&[u8]; 6] = [b"doc", b"tmp", b"package", b"cargo-timings", b"nextest", b"criterion"];

/// What the listing of one target directory taught about its shape.
///
/// The default knows only what is certain without a listing; with it final artefacts and custom profiles are unknown.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    roots: BTreeSet<Vec<u8>>,
    /// Paths without their `.d`, wherever cargo or rustc puts one beside what it built.
    described: BTreeSet<Vec<u8>>,
    /// `…/build/PKG/HASH` folders that belong to the run of a build script: their `out` is an `OUT_DIR`.
    runs: BTreeSet<Vec<u8>>,
}

/// A place, with the profile folder it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A file at the very top, or beside the profiles of a triple.
    Top(&'a [u8]),
    /// Below `doc/` or `TRIPLE/doc/`.
    Doc(&'a [u8]),
    /// Below `package/` or `cargo-timings/`.
    Report,
    /// Below `tmp/`, that is `CARGO_TARGET_TMPDIR`.
    Scratch,
    /// In the profile folder `root`.
    Profile { root: &'a [u8], inside: Inside<'a> },
    /// Nothing that cargo is known to make.
    Elsewhere,
}

/// A place within a profile folder. `rest` is never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside<'a> {
    File(&'a [u8]),
    Fingerprint(&'a [u8]),
    Deps(&'a [u8]),
    Examples(&'a [u8]),
    Incremental {
        krate: &'a [u8],
        rest: &'a [u8],
    },
    /// `build/NAME-H/rest`.
    Build {
        dir: &'a [u8],
        rest: &'a [u8],
    },
    /// `build/PKG/HASH/part/rest`; `run` when [`Layout::learn`] saw that a build script ran there.
    Unit {
        pkg: &'a [u8],
        hash: &'a [u8],
        part: Part,
        rest: &'a [u8],
        run: bool,
    },
    Other,
}

/// The three folders of a unit in the new layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Fingerprint,
    Out,
    Run,
}

impl Layout {
    /// Learns from all paths of a directory, in any order, relative to it and separated by `/`.
    pub fn learn<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut layout = Self::default();
        let mut candidates = BTreeSet::new();
        for path in paths {
            if !is_plain(path) {
                continue;
            }
            if let Some(root) = marked_root(path) {
                candidates.insert(root.to_vec());
            }
            if let Some(stem) = path.strip_suffix(b".d") {
                layout.described.insert(stem.to_vec());
            }
            if let Some(dir) = run_dir(path) {
                layout.runs.insert(dir.to_vec());
            }
        }
        for root in candidates {
            // Shorter ones come first: a target directory inside an OUT_DIR is that script's affair.
            if layout.root_of(&root).is_none() {
                layout.roots.insert(root);
            }
        }
        layout
    }

    /// The profile folders learnt beyond what is known anyway, as `debug` is.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(Vec::as_slice)
    }

    /// Whether `stem.d` stands beside: cargo vouches that it built `stem` or `stem.EXT`.
    pub(crate) fn describes(&self, path: &[u8]) -> bool {
        let name = path.len() - last(path).len();
        // `libx.so.dwp` is described by `libx.d`.
        let dots = path.iter().enumerate().skip(name).filter(|(_, b)| **b == b'.').map(|(at, _)| at);
        dots.chain([path.len()]).any(|end| self.described.contains(&path[..end]))
    }

    /// The same for rustc's own `.d`, which names the crate: `a.d` beside `liba.rlib`.
    pub(crate) fn describes_crate(&self, path: &[u8]) -> bool {
        let name = last(path);
        let (dir, bare) = (&path[..path.len() - name.len()], name.strip_prefix(b"lib").unwrap_or(name));
        self.describes(path) || self.describes(&[dir, bare].concat())
    }

    /// The name of a file among the fingerprints of one unit: `lib-foo` for `debug/.fingerprint/foo-H/lib-foo`.
    pub(crate) fn note<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let name = match self.place(path) {
            Place::Profile { inside: Inside::Fingerprint(rest), .. } => cut(rest)?.1,
            Place::Profile { inside: Inside::Unit { part: Part::Fingerprint, rest, .. }, .. } => rest,
            _ => return None,
        };
        (!name.contains(&b'/')).then_some(name)
    }

    pub(crate) fn place<'a>(&self, path: &'a [u8]) -> Place<'a> {
        if !is_plain(path) {
            return Place::Elsewhere;
        }
        let Some((first, rest)) = cut(path) else { return Place::Top(path) };
        match first {
            b"doc" => return Place::Doc(rest),
            b"package" | b"cargo-timings" => return Place::Report,
            b"tmp" => return Place::Scratch,
            _ if RESERVED.contains(&first) => return Place::Elsewhere,
            _ => {}
        }
        let Some(root) = self.root_of(path) else {
            return match cut(rest) {
                Some((b"doc", rest)) if first.contains(&b'-') => Place::Doc(rest),
                None if first.contains(&b'-') => Place::Top(rest),
                _ => Place::Elsewhere,
            };
        };
        // `root_of` never gives the whole path here unless a file has a learnt folder's name.
        match path.get(root.len() + 1..) {
            Some(rest) => Place::Profile { root, inside: self.inside(root, rest) },
            None => Place::Elsewhere,
        }
    }

    fn inside<'a>(&self, root: &[u8], path: &'a [u8]) -> Inside<'a> {
        let Some((first, rest)) = cut(path) else { return Inside::File(path) };
        match first {
            b".fingerprint" => Inside::Fingerprint(rest),
            b"deps" => Inside::Deps(rest),
            b"examples" => Inside::Examples(rest),
            b"incremental" => match cut(rest) {
                Some((krate, rest)) => Inside::Incremental { krate, rest },
                None => Inside::Other,
            },
            b"build" => match cut(rest) {
                Some((dir, rest)) => match new_unit(rest) {
                    Some((hash, part, rest)) => {
                        let unit = [root, b"build", dir, hash].join(&b'/');
                        Inside::Unit { pkg: dir, hash, part, rest, run: self.runs.contains(&unit) }
                    }
                    None => Inside::Build { dir, rest },
                },
                None => Inside::Other,
            },
            _ => Inside::Other,
        }
    }

    fn root_of<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let (first, rest) = cut(path).unwrap_or((path, b""));
        if RESERVED.contains(&first) {
            return None;
        }
        if is_standard(first) {
            return Some(first);
        }
        let second = cut(rest).map_or(rest, |(second, _)| second);
        // A triple has a dash, and so have the target directories that tools keep inside this one (`rust-analyzer`,
        // `llvm-cov-target`).
        if first.contains(&b'-') && is_standard(second) {
            return Some(&path[..first.len() + 1 + second.len()]);
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).find(|prefix| self.roots.contains(*prefix))
    }
}

/// Whether this name is one of cargo's own lock files.
pub(crate) fn is_lock(name: &[u8]) -> bool {
    LOCKS.contains(&name)
}

/// The 16 lower-case hexadecimal digits that name a unit.
pub(crate) fn is_hash(word: &[u8]) -> bool {
    word.len() == 16 && word.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `NAME-H` into both; names may contain dashes.
pub(crate) fn split_hash(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let dash = word.len().checked_sub(17)?;
    (dash > 0 && word[dash] == b'-' && is_hash(&word[dash + 1..])).then(|| (&word[..dash], &word[dash + 1..]))
}

/// The first component and what follows it, if anything does.
pub(crate) fn cut(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().position(|&b| b == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

fn is_plain(path: &[u8]) -> bool {
    path.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

fn is_standard(profile: &[u8]) -> bool {
    matches!(profile, b"debug" | b"release")
}

/// The folder of at most three components that holds `.fingerprint/` or a lock of cargo.
fn marked_root(path: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    for (index, part) in path.split(|&b| b == b'/').enumerate() {
        let end = at + part.len();
        let marks = if end == path.len() { is_lock(part) } else { part == b".fingerprint" };
        if marks {
            let reserved = cut(path).is_some_and(|(first, _)| RESERVED.contains(&first));
            return (!reserved && (1..=3).contains(&index)).then(|| &path[..at - 1]);
        }
        at = end + 1;
    }
    None
}

fn new_unit(rest: &[u8]) -> Option<(&[u8], Part, &[u8])> {
    let (hash, rest) = cut(rest)?;
    let (part, rest) = cut(rest)?;
    let part = match part {
        b"fingerprint" => Part::Fingerprint,
        b"out" => Part::Out,
        b"run" => Part::Run,
        _ => return None,
    };
    is_hash(hash).then_some((hash, part, rest))
}

/// `…/HASH` for `…/HASH/run/x` and `…/HASH/fingerprint/run-build-script-x`.
fn run_dir(path: &[u8]) -> Option<&[u8]> {
    let dir = &path[..path.len().checked_sub(last(path).len() + 1)?];
    let ran = dir.ends_with(b"/run") || (dir.ends_with(b"/fingerprint") && last(path).starts_with(b"run-build-script"));
    let unit = &dir[..dir.len().checked_sub(last(dir).len() + 1)?];
    (ran && is_hash(last(unit))).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_certain_or_learnt() {
        let bare = Layout::default();
        assert!(matches!(bare.place(b"debug/x"), Place::Profile { root: b"debug", inside: Inside::File(b"x") }));
        assert!(matches!(
            bare.place(b"wasm32-wasip1/release/deps/x"),
            Place::Profile { root: b"wasm32-wasip1/release", .. }
        ));
        for path in ["ci/deps/x", "nextest/debug/x", "/debug/x", "debug//x", "debug/../x", "a/b/debug/x"] {
            assert_eq!(bare.place(path.as_bytes()), Place::Elsewhere, "{path}");
        }
        let listing: [&[u8]; 4] = [
            b"ci/.fingerprint/a-0123456789abcdef/lib-a",
            b"a-b-c/dist/.cargo-build-lock",
            b"debug/build/a-0123456789abcdef/out/debug/.cargo-lock",
            b"tmp/x/.cargo-lock",
        ];
        let learnt = Layout::learn(listing);
        assert_eq!(learnt.roots().collect::<Vec<_>>(), [b"a-b-c/dist".as_slice(), b"ci"]);
        assert!(matches!(learnt.place(b"ci/deps/x"), Place::Profile { root: b"ci", inside: Inside::Deps(b"x") }));
        assert_eq!(learnt.place(b"ci"), Place::Top(b"ci"));
        assert_eq!(learnt.place(b"a-b-c/dist"), Place::Elsewhere);
        assert_eq!(learnt.place(b"x-y-z/CACHEDIR.TAG"), Place::Top(b"CACHEDIR.TAG"));
    }

    #[test]
    fn companions_are_found_beside() {
        let learnt = Layout::learn([b"debug/my-app.d".as_slice(), b"debug/libx.d"]);
        assert!(
            learnt.describes(b"debug/my-app")
                && learnt.describes(b"debug/my-app.exe")
                && learnt.describes(b"debug/libx.so.dwp")
        );
        assert!(!learnt.describes(b"debug/my") && !learnt.describes(b"release/my-app"));
    }

    #[test]
    fn hashes_end_a_name() {
        assert_eq!(
            split_hash(b"my-app-0123456789abcdef"),
            Some((b"my-app".as_slice(), b"0123456789abcdef".as_slice()))
        );
        for word in ["0123456789abcdef", "-0123456789abcdef", "a-0123456789ABCDEF", "a-0123456789abcde"] {
            assert_eq!(split_hash(word.as_bytes()), None, "{word}");
        }
    }
}
