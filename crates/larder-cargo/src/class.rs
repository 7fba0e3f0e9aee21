//! How a file of a target directory is rewritten, and so whether its inode may be shared.
//!
//! Sharing an inode is safe only when every writer unlinks or renames before it writes. The table "What is written in
//! place" of the design notes is turned into cases here; what no case covers is [`FileClass::Unknown`] and is never
//! shared.
//!
//! **All linker output is one class.** `.so`, `.dylib`, `.wasm` and executables are [`FileClass::Executable`], though
//! bfd and lld replace them: mold writes into what it finds, and whoever asks "does the linker replace its output?"
//! must get the answer for every file the linker writes. Archives (`.rlib`, `.a`) and `.rmeta` are written by rustc
//! itself, beside their place, and renamed.
//!
//! Objects and split debug information in `deps/` (`.o`, `.dwo`, `.dwp`) are [`FileClass::Mutable`]: LLVM and rustc
//! open them for writing where they are.

use crate::layout::{Inside, Layout, Part, Place, cut, is_lock, split_hash};

/// How a file may be given to a target directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileClass {
    /// Only ever replaced by its writer, never written into: `.rlib`, `.rmeta`, `.a`, most data of incremental sessions.
    Immutable,
    /// Written by the linker: to be treated as [`Immutable`](Self::Immutable) where the linker replaces its output,
    /// else as [`Mutable`](Self::Mutable).
    Executable,
    /// Rewritten in place by cargo, rustc, rustdoc or a build script.
    Mutable,
    /// Rewritten in place, and vouches for other files: to be written after them.
    Fingerprint,
    /// Held by `flock`, which is per inode: never to be shared, and worthless to another place.
    Lock,
    /// Not recognised with certainty: to be treated as [`Mutable`](Self::Mutable).
    Unknown,
}

impl FileClass {
    /// The class of a path relative to the target (or build) directory, separated by `/`, in any encoding.
    pub fn of(path: &[u8], layout: &Layout) -> Self {
        match layout.place(path) {
            Place::Top(
                b".rustc_info.json" | b".rustdoc_fingerprint.json" | b".future-incompat-report.json" | b"CACHEDIR.TAG",
            ) => Self::Mutable,
            Place::Top(name) if is_lock(name) => Self::Lock,
            // rustdoc holds it while it merges what several crates share.
            Place::Doc(b".lock") => Self::Lock,
            Place::Doc(_) | Place::Scratch | Place::Report => Self::Mutable,
            Place::Top(_) | Place::Elsewhere => Self::Unknown,
            Place::Profile { inside, .. } => inside_profile(path, inside, layout),
        }
    }

    /// Whether the inode may be shared, given what is known of the linker.
    pub fn may_share(self, linker_replaces_output: bool) -> bool {
        match self {
            Self::Immutable => true,
            Self::Executable => linker_replaces_output,
            Self::Mutable | Self::Fingerprint | Self::Lock | Self::Unknown => false,
        }
    }
}

fn inside_profile(path: &[u8], inside: Inside<'_>, layout: &Layout) -> FileClass {
    match inside {
        Inside::File(name) if is_lock(name) => FileClass::Lock,
        Inside::File(name) => artefact(path, name, layout),
        Inside::Fingerprint(_) => FileClass::Fingerprint,
        Inside::Deps(rest) => in_deps(rest),
        Inside::Examples(rest) if split_file(rest).is_some() => in_deps(rest),
        Inside::Examples(rest) => artefact(path, rest, layout),
        Inside::Incremental { rest, .. } => in_incremental(rest),
        Inside::Build { dir, rest } => in_build(dir, rest),
        Inside::Unit { part: Part::Fingerprint, .. } => FileClass::Fingerprint,
        Inside::Unit { part: Part::Run, .. } => FileClass::Mutable,
        Inside::Unit { part: Part::Out, hash, rest, run, .. } => {
            // OUT_DIR and rustc's output share the name `out`: only a file named by the unit's own hash, or vouched
            // for by its `.d`, is rustc's.
            let hashed = split_file(rest).is_some_and(|file| file.hash == hash);
            if run || rest.contains(&b'/') || !(hashed || layout.describes_crate(path)) {
                return FileClass::Mutable;
            }
            match by_extension(if hashed { after_stem(rest) } else { extension(rest) }) {
                FileClass::Unknown => FileClass::Mutable,
                class => class,
            }
        }
        Inside::Other => FileClass::Unknown,
    }
}

/// A file named by a unit's hash: `[lib]NAME-H[.SUFFIX]`.
pub(crate) struct HashedFile<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) hash: &'a [u8],
}

/// Splits the first component of `rest` if it carries a hash. Crate names have no dots, so the first dot ends the stem.
pub(crate) fn split_file(rest: &[u8]) -> Option<HashedFile<'_>> {
    let file = cut(rest).map_or(rest, |(file, _)| file);
    let stem = file.split(|&b| b == b'.').next()?;
    let (name, hash) = split_hash(stem)?;
    Some(HashedFile { name, hash })
}

/// Folders in which rustc works and that it leaves behind only when it is killed.
pub(crate) fn is_rustc_temporary(rest: &[u8]) -> bool {
    cut(rest).is_some_and(|(dir, _)| {
        let id = dir.strip_prefix(b"rustc").or_else(|| dir.strip_prefix(b"rmeta"));
        id.is_some_and(|id| id.len() == 6 && id.iter().all(u8::is_ascii_alphanumeric))
    })
}

fn after_stem(file: &[u8]) -> &[u8] {
    file.iter().position(|&b| b == b'.').map_or(b"", |dot| &file[dot + 1..])
}

fn extension(file: &[u8]) -> &[u8] {
    file.iter().rposition(|&b| b == b'.').map_or(b"", |dot| &file[dot + 1..])
}

/// The class by everything after the stem; an empty suffix is an executable's.
fn by_extension(suffix: &[u8]) -> FileClass {
    match suffix {
        b"rlib" | b"rmeta" | b"a" => FileClass::Immutable,
        b"" | b"so" | b"dylib" | b"dll" | b"exe" | b"wasm" => FileClass::Executable,
        // A code generation unit's name may stand before: `NAME-H.CGU.rcgu.o`.
        _ => match extension_of_suffix(suffix) {
            b"d" | b"o" | b"dwo" | b"dwp" | b"pdb" | b"bc" | b"ll" | b"s" | b"asm" | b"mir" | b"lib" | b"exp"
            | b"def" | b"dSYM" => FileClass::Mutable,
            _ => FileClass::Unknown,
        },
    }
}

fn extension_of_suffix(suffix: &[u8]) -> &[u8] {
    suffix.rsplit(|&b| b == b'.').next().unwrap_or(suffix)
}

fn in_deps(rest: &[u8]) -> FileClass {
    if let Some((dir, _)) = cut(rest) {
        let bundle = dir.ends_with(b".dSYM") && split_file(rest).is_some();
        return if bundle || is_rustc_temporary(rest) { FileClass::Mutable } else { FileClass::Unknown };
    }
    if split_file(rest).is_some() {
        return by_extension(after_stem(rest));
    }
    // dylibs, cdylibs and what is built together with them have no hash, because their names are their interface.
    match (rest.starts_with(b"lib"), after_stem(rest)) {
        (true, b"rlib" | b"rmeta" | b"a") => FileClass::Immutable,
        (true, b"so" | b"dylib") | (_, b"dll" | b"wasm") => FileClass::Executable,
        // `libx.so.dwp`
        (_, suffix) if matches!(extension_of_suffix(suffix), b"d" | b"dwp" | b"pdb") => FileClass::Mutable,
        _ => FileClass::Unknown,
    }
}

/// Final artefacts are hard links to `deps/`, so what is true of those is true of these; cargo unlinks before it links.
fn artefact(path: &[u8], name: &[u8], layout: &Layout) -> FileClass {
    if name.contains(&b'/') {
        return FileClass::Unknown;
    }
    if name.ends_with(b".d") && name.len() > 2 {
        return FileClass::Mutable;
    }
    if name.starts_with(b".") || !layout.describes(path) {
        return FileClass::Unknown;
    }
    by_extension(extension(name))
}

fn in_incremental(rest: &[u8]) -> FileClass {
    // Where the metadata of a crate stays equal, rustc links this file into `deps/` and the new session, and cargo gives
    // it a new time there (measured with check and clippy): whoever shares its inode is re-dated.
    if rest.ends_with(b"/metadata.rmeta") {
        return FileClass::Mutable;
    }
    match cut(rest) {
        None if rest.starts_with(b"s-") && rest.ends_with(b".lock") => FileClass::Lock,
        // A session that never ended: rustc throws it away.
        Some((session, _)) if session.starts_with(b"s-") && session.ends_with(b"-working") => FileClass::Mutable,
        Some((session, file)) if session.starts_with(b"s-") && !file.contains(&b'/') => FileClass::Immutable,
        _ => FileClass::Unknown,
    }
}

fn in_build(dir: &[u8], rest: &[u8]) -> FileClass {
    let Some((_, hash)) = split_hash(dir) else { return FileClass::Unknown };
    match cut(rest) {
        Some((b"out", _)) => return FileClass::Mutable,
        Some((bundle, _)) if bundle.ends_with(b".dSYM") => return FileClass::Mutable,
        Some(_) => return FileClass::Unknown,
        None => {}
    }
    match rest {
        b"output" | b"root-output" | b"stderr" | b"stdout" | b"invoked.timestamp" => FileClass::Mutable,
        _ if split_file(rest).is_some_and(|file| file.hash == hash) => by_extension(after_stem(rest)),
        // `build-script-build`, or `build-script-NAME` when the manifest names another file.
        _ if rest.starts_with(b"build-script-") => by_extension(extension(rest)),
        _ => FileClass::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FileClass::*;

    const H: &str = "0123456789abcdef";

    fn class(path: &str) -> FileClass {
        FileClass::of(
            path.replace("-H", &format!("-{H}")).replace("/H/", &format!("/{H}/")).as_bytes(),
            &Layout::default(),
        )
    }

    #[test]
    fn old_layout_case_by_case() {
        for (expected, paths) in [
            (
                Immutable,
                "deps/liba-H.rlib deps/liba-H.rmeta deps/liba-H.a deps/liba.rlib deps/liba.a incremental/a-1x/s-a-b-c/dep-graph.bin",
            ),
            (
                Executable,
                "deps/a-H deps/liba-H.so deps/liba-H.dylib deps/a-H.wasm deps/liba.so examples/a-H build/a-H/build-script-build",
            ),
            (Executable, "build/a-H/build_script_build-H build/a-H/build-script-main examples/liba-H.so deps/a-H.exe"),
            (
                Mutable,
                "a.d deps/a-H.d deps/a.d deps/a-H.o deps/a-H.x.0a.rcgu.o deps/a-H.x.0a.rcgu.dwo deps/a-H.dwp deps/liba.so.dwp examples/a.d",
            ),
            (
                Mutable,
                "build/a-H/output build/a-H/root-output build/a-H/stderr build/a-H/invoked.timestamp build/a-H/out/x/y.rlib",
            ),
            (
                Mutable,
                "build/a-H/build_script_build-H.d incremental/a-1x/s-a-b-working/x.o incremental/a-1x/s-a-b-c/metadata.rmeta deps/a-H.dSYM/Contents/Info.plist deps/rmetaAb12Cd/full.rmeta",
            ),
            (Fingerprint, ".fingerprint/a-H/lib-a .fingerprint/a-H/dep-lib-a .fingerprint/odd"),
            (Lock, ".cargo-lock .cargo-build-lock .cargo-artifact-lock incremental/a-1x/s-a-b.lock"),
            (
                Unknown,
                "a notes.txt deps/a deps/a.txt deps/save/x deps/a-H.bak deps/sub/liba-H.rlib build/a/x build/a-H/x build/odd gen/x",
            ),
            (
                Unknown,
                "incremental/x incremental/a-1x/x examples/a examples/x/y build/a-H/build_script_build-0000000000000000",
            ),
        ] {
            for path in paths.split(' ') {
                for root in ["debug", "release", "aarch64-apple-darwin/debug"] {
                    assert_eq!(class(&format!("{root}/{path}")), expected, "{root}/{path}");
                }
            }
        }
    }

    #[test]
    fn outside_profiles() {
        for path in [
            "doc/a/index.html",
            "x86_64-unknown-linux-gnu/doc/a",
            "x86_64-unknown-linux-gnu/CACHEDIR.TAG",
            "tmp/a",
            "package/a-0.1.0.crate",
            ".rustc_info.json",
            "CACHEDIR.TAG",
        ] {
            assert_eq!(class(path), Mutable, "{path}");
        }
        assert_eq!(class("doc/.lock"), Lock);
        for path in [
            "",
            "a",
            "nextest/default/junit.xml",
            "criterion/a/report",
            "nextest/debug/deps/liba-H.rlib",
            "ci/deps/liba-H.rlib",
            "a-b/x.profraw",
        ] {
            assert_eq!(class(path), Unknown, "{path}");
        }
        assert_eq!(FileClass::of(b"debug/deps/\xff-0123456789abcdef.rlib", &Layout::default()), Immutable);
    }

    #[test]
    fn new_layout_knows_rustc_from_a_build_script() {
        for (expected, path) in [
            (Fingerprint, "debug/build/a/H/fingerprint/lib-a"),
            (Mutable, "debug/build/a/H/run/stdout"),
            (Immutable, "debug/build/a/H/out/liba-H.rlib"),
            (Executable, "debug/build/a/H/out/liba-H.so"),
            (Executable, "debug/build/a/H/out/a-H"),
            (Mutable, "debug/build/a/H/out/a-H.d"),
            (Mutable, "debug/build/a/H/out/liba.a"),
            (Mutable, "debug/build/a/H/out/sub/liba-H.rlib"),
            (Mutable, "debug/build/a/H/out/liba-0000000000000000.rlib"),
            (Unknown, "debug/build/a/H/other/x"),
        ] {
            assert_eq!(class(path), expected, "{path}");
        }
        let unit = format!("debug/build/a/{H}");
        let listing = [format!("{unit}/out/a.d"), format!("{unit}/fingerprint/lib-a")];
        let library = format!("{unit}/out/liba.a");
        let rustc = Layout::learn(listing.iter().map(String::as_bytes));
        assert_eq!(FileClass::of(library.as_bytes(), &rustc), Immutable);
        let ran = format!("{unit}/run/stdout");
        let script = Layout::learn(listing.iter().chain([&ran]).map(String::as_bytes));
        assert_eq!(FileClass::of(library.as_bytes(), &script), Mutable);
    }

    #[test]
    fn artefacts_need_their_companion() {
        let layout = Layout::learn([b"debug/my-app.d".as_slice(), b"debug/liba.d", b"debug/examples/ex.d"]);
        for (expected, path) in [
            (Executable, "debug/my-app"),
            (Executable, "debug/liba.so"),
            (Immutable, "debug/liba.rlib"),
            (Immutable, "debug/liba.a"),
            (Mutable, "debug/my-app.dwp"),
            (Executable, "debug/examples/ex"),
            (Unknown, "debug/version"),
            (Unknown, "debug/my-app.json"),
        ] {
            assert_eq!(FileClass::of(path.as_bytes(), &layout), expected, "{path}");
        }
    }

    #[test]
    fn sharing_follows_the_class() {
        assert!(Immutable.may_share(false) && Executable.may_share(true) && !Executable.may_share(false));
        assert!([Mutable, Fingerprint, Lock, Unknown].iter().all(|class| !class.may_share(true)));
    }
}
