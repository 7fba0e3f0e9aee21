//! Which files and variables a compilation saw: cargo's binary `dep-*` files, and rustc's text `.d`.
//!
//! Cargo's own file is what cargo itself goes by: variables that it sets itself are gone from it, and each path says
//! whether it is relative to the package, to the build directory, to the workspace, or absolute. It does not say where
//! the package is; only rustc's file does, when the package's name is not enough.
//!
//! Source: `src/cargo/core/compiler/fingerprint/dep_info.rs`, unchanged from cargo 1.85 (format version 1) to the
//! development version of August 2026. That of October 2026 (1.101) writes a third base under the same version number:
//! measured with a file of the workspace that lies outside of the package.

/// What a path of a `dep-*` file is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Package,
    /// The build directory; or nothing, if the path is absolute.
    Build,
    /// The workspace's root, for files of it outside of the package: from cargo 1.101.
    Workspace,
}

/// A `dep-*` file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DepInfo {
    pub(super) files: Vec<(Base, Vec<u8>)>,
    pub(super) env: Vec<(String, Option<String>)>,
}

/// The length of a file that names nothing, as those of most registry packages: need not be read.
pub(super) const EMPTY: u64 = 14;

/// Cargo's marker for "no version of mine older than 1.85 may read this", and the version.
const HEAD: [u8; 6] = [1, 0, 0, 0, 0xff, 1];

impl DepInfo {
    /// `None` for something that is no such file, or that only a newer cargo understands.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&HEAD)?;
        let mut info = Self::default();
        for _ in 0..number(&mut rest)? {
            let base = match byte(&mut rest)? {
                0 => Base::Package,
                1 => Base::Build,
                2 => Base::Workspace,
                _ => return None,
            };
            let path = text(&mut rest)?.to_vec();
            // A checksum, which only `-Zchecksum-freshness` writes.
            if byte(&mut rest)? != 0 {
                take(&mut rest, 8)?;
                text(&mut rest)?;
            }
            info.files.push((base, path));
        }
        for _ in 0..number(&mut rest)? {
            let name = string(&mut rest)?;
            let value = match byte(&mut rest)? {
                0 => None,
                1 => Some(string(&mut rest)?),
                _ => return None,
            };
            info.env.push((name, value));
        }
        Some(info)
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    take(bytes, 1).map(|taken| taken[0])
}

fn number(bytes: &mut &[u8]) -> Option<usize> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    usize::try_from(u32::from_le_bytes(*taken)).ok()
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number(bytes)?;
    take(bytes, len)
}

fn string(bytes: &mut &[u8]) -> Option<String> {
    Some(std::str::from_utf8(text(bytes)?).ok()?.to_owned())
}

/// The paths of rustc's `.d`: those of its first rule, as every rule names all. Relative ones are relative to the folder
/// that rustc was started in, which is the workspace's root for its own packages; for others rustc gets absolute
/// paths (`path_args` in cargo's `src/cargo/util/workspace.rs`).
///
/// rustc escapes spaces and nothing else, so the byte before a space decides.
pub(super) fn rustc_paths(bytes: &[u8]) -> Vec<Vec<u8>> {
    let rule = |line: &&[u8]| !line.starts_with(b"#") && line.windows(2).any(|pair| pair == b": ");
    let Some(line) = bytes.split(|&b| b == b'\n').find(rule) else { return Vec::new() };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let colon = line.windows(2).position(|pair| pair == b": ").map_or(line.len(), |at| at + 2);
    let (mut paths, mut path) = (Vec::new(), Vec::new());
    for &byte in &line[colon..] {
        match (byte, path.last()) {
            (b' ', Some(b'\\')) => *path.last_mut().expect("it ends with a backslash") = b' ',
            (b' ', _) => paths.push(std::mem::take(&mut path)),
            _ => path.push(byte),
        }
    }
    paths.push(path);
    paths.retain(|path| !path.is_empty());
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
    }

    /// As cargo writes it.
    fn print(info: &DepInfo) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        bytes.extend(u32::try_from(info.files.len()).unwrap().to_le_bytes());
        for (base, path) in &info.files {
            bytes.push(*base as u8);
            bytes.extend(word(path));
            bytes.push(0);
        }
        bytes.extend(u32::try_from(info.env.len()).unwrap().to_le_bytes());
        for (name, value) in &info.env {
            bytes.extend(word(name.as_bytes()));
            bytes.push(u8::from(value.is_some()));
            bytes.extend(value.iter().flat_map(|value| word(value.as_bytes())));
        }
        bytes
    }

    fn infos() -> impl Strategy<Value = DepInfo> {
        let base = prop::sample::select(vec![Base::Package, Base::Build, Base::Workspace]);
        let file = (base, prop::collection::vec(any::<u8>(), 0..9));
        let env = (".{0,5}", prop::option::of(".{0,5}"));
        (prop::collection::vec(file, 0..5), prop::collection::vec(env, 0..4))
            .prop_map(|(files, env)| DepInfo { files, env })
    }

    proptest! {
        #[test]
        fn what_cargo_writes_is_read(info in infos()) {
            prop_assert_eq!(DepInfo::parse(&print(&info)), Some(info));
        }

        #[test]
        fn no_bytes_make_it_panic(info in infos(), at: prop::sample::Index, byte: u8, noise in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = print(&info);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            DepInfo::parse(&bytes);
            DepInfo::parse(&bytes[..at]);
            DepInfo::parse(&noise);
            DepInfo::parse(&[&HEAD[..], &noise].concat());
            rustc_paths(&noise);
        }
    }

    #[test]
    fn another_version_is_not_guessed_at() {
        assert_eq!(u64::try_from(print(&DepInfo::default()).len()).unwrap(), EMPTY);
        // As before 1.85: a number of files, then files.
        assert_eq!(DepInfo::parse(&[0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(DepInfo::parse(&[1, 0, 0, 0, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        // A base that is not known yet.
        assert_eq!(DepInfo::parse(&[&HEAD[..], &[1, 0, 0, 0, 3], &word(b"a"), &[0; 5]].concat()), None);
        // A number larger than the file costs nothing.
        assert_eq!(DepInfo::parse(&[1, 0, 0, 0, 0xff, 1, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn a_checksum_is_passed_over() {
        let mut bytes =
            [&HEAD[..], &[1, 0, 0, 0, 0], &word(b"src/lib.rs"), &[1], &[7; 8], &word(b"blake3=00")].concat();
        bytes.extend([0; 4]);
        assert_eq!(DepInfo::parse(&bytes).unwrap().files, [(Base::Package, b"src/lib.rs".to_vec())]);
    }

    #[test]
    fn rules_of_rustc() {
        let text = b"# env-dep:A=b: c\n/t/my_app-1.d: app/src/main.rs app/../x\\ y\\  /t/gen.rs\n\n/t/a: other\n";
        let expected: [&[u8]; 3] = [b"app/src/main.rs", b"app/../x y ", b"/t/gen.rs"];
        assert_eq!(rustc_paths(text), expected);
        assert_eq!(rustc_paths(b"a:\n\nb:\n"), Vec::<Vec<u8>>::new());
    }
}
