//! Which units may have read files that they do not name.
//!
//! rustc names every file that it reads itself. A procedural macro runs within it and reads what it likes, and has no way
//! to say so; the run of a build script names what it chooses to. So what a unit was made from is known for certain
//! where neither has a part in it. A macro is told by its file, a `.so`; a crate that exports one may be passed on by any
//! library, so whatever stands on a macro may use it.
//!
//! Most macros read nothing: those of crates.io that are used most are listed here ([`HARMLESS`]), and of those in path
//! packages the sources tell. Whoever opens a file in Rust writes one of a few words ([`OPENS`]) in its own source or in that
//! of a crate that it stands on. Any doubt counts as reading.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Unit, UnitTable};
use crate::Read;

/// Who may read files for a unit that it does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reader {
    /// Nobody: rustc alone made it.
    #[default]
    Nobody,
    /// A procedural macro, which has no way to name them.
    Macro,
    /// A build script, which names what it chooses to.
    Script,
}

/// Crates of public registries that read no file when a macro runs: macros, and what macros stand on. Sorted.
const HARMLESS: &[&str] = &[
    "actix-macros",
    "async-recursion",
    "async-stream-impl",
    "async-trait",
    "auto_impl",
    "bitflags",
    "bytemuck_derive",
    "cfg-if",
    "clap_derive",
    "convert_case",
    "ctor",
    "curve25519-dalek-derive",
    "darling",
    "darling_core",
    "darling_macro",
    "derivative",
    "derive_arbitrary",
    "derive_builder_core",
    "derive_builder_macro",
    "derive_more",
    "derive_more-impl",
    "diesel_derives",
    "displaydoc",
    "educe",
    "either",
    "enum_dispatch",
    "equivalent",
    "fnv",
    "foldhash",
    "futures-macro",
    "getset",
    "hashbrown",
    "heck",
    "ident_case",
    "indexmap",
    "indoc",
    "itertools",
    "linkme-impl",
    "memchr",
    "num-derive",
    "num_enum_derive",
    "once_cell",
    "paste",
    "phf_macros",
    "pin-project-internal",
    "proc-macro-error",
    "proc-macro-error-attr",
    "proc-macro-error-attr2",
    "proc-macro-error2",
    "proc-macro2",
    "proptest-derive",
    "prost-derive",
    "quote",
    "ref-cast-impl",
    "schemars_derive",
    "serde_derive",
    "serde_derive_internals",
    "serde_repr",
    "serde_with_macros",
    "smallvec",
    "strsim",
    "structmeta",
    "structmeta-derive",
    "structopt-derive",
    "strum_macros",
    "syn",
    "synstructure",
    "test-case-core",
    "test-case-macros",
    "thiserror-impl",
    "time-macros",
    "tokio-macros",
    "tracing-attributes",
    "typed-builder-macro",
    "unicode-ident",
    "unicode-segmentation",
    "unicode-xid",
    "unindent",
    "valuable-derive",
    "wasm-bindgen-shared",
    "windows-implement",
    "windows-interface",
    "yoke-derive",
    "zerocopy-derive",
    "zerofrom-derive",
    "zeroize_derive",
    "zerovec-derive",
];

/// Words without one of which no source of Rust looks at the disk: modules and types that open files or start
/// programs, the methods of `Path` that look, and the ways around the standard library.
const OPENS: &[&[u8]] = &[
    b"asm",
    b"canonicalize",
    b"Command",
    b"exists",
    b"File",
    b"fs",
    b"is_dir",
    b"is_file",
    b"is_symlink",
    b"libc",
    b"metadata",
    b"OpenOptions",
    b"process",
    b"read_dir",
    b"read_link",
    b"symlink_metadata",
    b"try_exists",
];

impl UnitTable {
    /// Says of each unit who may have read files for it unseen. `libraries` says which of them are dynamic libraries.
    pub(super) fn find_readers(&mut self, libraries: &[bool], read: Read<'_>) {
        let mut by_fingerprint: HashMap<u64, usize> = HashMap::new();
        for (index, unit) in self.units.iter().enumerate() {
            by_fingerprint.insert(unit.fingerprint, index);
        }
        let mut finder = Finder {
            units: &self.units,
            libraries,
            by_fingerprint,
            read,
            opens: HashMap::new(),
            brings: vec![None; self.units.len()],
            files: HashMap::new(),
        };
        let found: Vec<Reader> = (0..self.units.len()).map(|index| finder.reader(index)).collect();
        self.units.iter_mut().zip(found).for_each(|(unit, reader)| unit.reader = reader);
    }

    /// What units can be moved by.
    pub fn handles(&self) -> Handles<'_> {
        let mut named_by: HashMap<&Path, usize> = HashMap::new();
        self.units.iter().flat_map(|unit| &unit.inputs).for_each(|path| *named_by.entry(path).or_default() += 1);
        Handles { named_by }
    }

    /// The program that a run of a build script is a run of.
    pub fn script_of(&self, run: &Unit) -> Option<&Unit> {
        let is_script = |unit: &&Unit| unit.target.starts_with("build-script-") && run.deps.contains(&unit.fingerprint);
        self.units.iter().find(is_script)
    }
}

impl Unit {
    /// Whether it is the run of a build script.
    pub fn is_run(&self) -> bool {
        self.target.starts_with("run-")
    }
}

/// How many units name each file.
pub struct Handles<'t> {
    named_by: HashMap<&'t Path, usize>,
}

impl Handles<'_> {
    /// Of the files that a unit names and that `may` be touched, the one that the fewest others name: touched, it makes
    /// cargo build this unit again, and hardly another that does not stand on it.
    pub fn of<'u>(&self, unit: &'u Unit, may: &dyn Fn(&Path) -> bool) -> Option<&'u Path> {
        let named_by = |path: &&PathBuf| self.named_by.get(path.as_path()).copied().unwrap_or_default();
        unit.inputs.iter().filter(|path| may(path)).min_by_key(named_by).map(PathBuf::as_path)
    }
}

struct Finder<'a> {
    units: &'a [Unit],
    libraries: &'a [bool],
    by_fingerprint: HashMap<u64, usize>,
    read: Read<'a>,
    /// By unit: whether its code may open files.
    opens: HashMap<usize, bool>,
    /// By unit: whether who depends on it may use a macro that opens files.
    brings: Vec<Option<bool>>,
    /// By file: whether it holds one of the words.
    files: HashMap<&'a Path, bool>,
}

impl Finder<'_> {
    fn reader(&mut self, index: usize) -> Reader {
        let unit = &self.units[index];
        if unit.is_run() {
            return Reader::Script;
        }
        let brought = unit.deps.iter().any(|dep| self.brings(*dep));
        if brought { Reader::Macro } else { Reader::Nobody }
    }

    /// Whether the unit with this fingerprint is such a macro, or passes one on.
    fn brings(&mut self, fingerprint: u64) -> bool {
        // A dependency that was built again since, or lost: nobody knows what it was.
        let Some(&index) = self.by_fingerprint.get(&fingerprint) else { return true };
        let unit = &self.units[index];
        if unit.is_run() || unit.target.starts_with("build-script-") {
            return false;
        }
        if let Some(known) = self.brings[index] {
            return known;
        }
        // No cargo writes a circle, but a file may hold anything.
        self.brings[index] = Some(true);
        let found = match self.libraries[index] {
            true => self.opens(index),
            false => unit.deps.iter().any(|dep| self.brings(*dep)),
        };
        self.brings[index] = Some(found);
        found
    }

    /// Whether the code of a unit may open files, as far as its sources and those of what it stands on tell.
    fn opens(&mut self, index: usize) -> bool {
        let units = self.units;
        let unit = &units[index];
        if !unit.local {
            return HARMLESS.binary_search(&unit.package.as_str()).is_err();
        }
        if let Some(known) = self.opens.get(&index) {
            return *known;
        }
        self.opens.insert(index, true);
        let found = unit.inputs.is_empty()
            || unit.inputs.iter().any(|path| {
                let read = self.read;
                *self.files.entry(path).or_insert_with(|| read(path).is_none_or(|text| opens_files(&text)))
            })
            || unit.deps.iter().any(|dep| match self.by_fingerprint.get(dep) {
                // What a script generates is no file that a unit names.
                Some(&dep) => self.units[dep].is_run() || self.opens(dep),
                None => true,
            });
        self.opens.insert(index, found);
        found
    }
}

/// Whether a source holds a word that opening files takes.
fn opens_files(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let mut words = text.split(|byte| !is_part(byte)).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        // `extern crate` is how some call a crate; all else that is `extern` is foreign.
        let foreign = word == b"extern" && words.peek().is_none_or(|next| *next != b"crate");
        if foreign || OPENS.contains(&word) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::tests::{local, registry, table};
    use super::*;

    fn readers(units: Vec<Unit>, libraries: &[u64], sources: &[(&str, &str)]) -> Vec<Reader> {
        let mut table = table(units);
        let libraries: Vec<bool> = table.units.iter().map(|unit| libraries.contains(&unit.fingerprint)).collect();
        let text =
            |path: &Path| sources.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).into());
        table.find_readers(&libraries, &text);
        table.units.iter().map(|unit| unit.reader).collect()
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(HARMLESS.is_sorted(), "it is searched by halves");
    }

    #[test]
    fn a_macro_reaches_whoever_stands_on_it() {
        use Reader::{Macro, Nobody, Script};
        let units = || {
            vec![
                registry("serde_derive", "lib-serde_derive", 1, &[]),
                registry("sqlx-macros", "lib-sqlx-macros", 2, &[]),
                registry("serde", "lib-serde", 3, &[1]),
                local("db", "lib-db", 4, &[2, 3], &["/db/lib.rs"]),
                local("app", "bin-app", 5, &[4], &["/app/main.rs"]),
                local("tool", "bin-tool", 6, &[3], &["/tool/main.rs"]),
                local("tool", "build-script-build-script-build", 7, &[4], &["/tool/build.rs"]),
                local("tool", "run-build-script-build-script-build", 8, &[7], &[]),
                local("other", "lib-other", 9, &[8], &["/other/lib.rs"]),
            ]
        };
        let found = readers(units(), &[1, 2], &[]);
        assert_eq!(found, [Nobody, Nobody, Nobody, Macro, Macro, Nobody, Macro, Script, Nobody]);
        // Who depends on what is not there depends on anything.
        let mut units = units();
        units[2].fingerprint = 33;
        assert_eq!(readers(units, &[1, 2], &[])[5], Macro);
    }

    #[test]
    fn the_sources_of_a_macro_tell_whether_it_opens_files() {
        let units = || {
            vec![
                registry("syn", "lib-syn", 1, &[]),
                registry("walkdir", "lib-walkdir", 2, &[]),
                local("help", "lib-help", 3, &[], &["/help/lib.rs"]),
                local("mac", "lib-mac", 4, &[1, 3], &["/mac/lib.rs"]),
                local("app", "bin-app", 5, &[4], &["/app/main.rs"]),
            ]
        };
        let reader = |units: Vec<Unit>, help: &str, mac: &str| {
            readers(units, &[4], &[("/help/lib.rs", help), ("/mac/lib.rs", mac)])[4]
        };
        let quiet = "extern crate proc_macro; fn offset() {} // affs, profile, existing";
        assert_eq!(reader(units(), quiet, quiet), Reader::Nobody);
        for text in ["std::fs::read(x)", "path.exists()", "use std::{env, fs}", "extern \"C\" { fn open(); }"] {
            assert_eq!(reader(units(), quiet, text), Reader::Macro, "{text}");
            assert_eq!(reader(units(), text, quiet), Reader::Macro, "{text}");
        }
        let mut with_walk = units();
        with_walk[3].deps.push(2);
        assert_eq!(reader(with_walk, quiet, quiet), Reader::Macro);
        assert_eq!(readers(units(), &[4], &[("/mac/lib.rs", quiet)])[4], Reader::Macro, "a source that is not there");
    }

    #[test]
    fn the_handle_of_a_unit_moves_hardly_another() {
        let table = table(vec![
            local("app", "lib-app", 1, &[], &["/app/part.rs", "/app/lib.rs"]),
            local("app", "test-lib-app", 2, &[], &["/app/part.rs", "/app/lib.rs", "/app/tests.rs"]),
            local("app", "run-build-script-build-script-build", 3, &[4], &[]),
            local("app", "build-script-build-script-build", 4, &[], &["/app/build.rs"]),
        ]);
        let handles = table.handles();
        assert_eq!(handles.of(&table.units[1], &|_| true), Some(Path::new("/app/tests.rs")));
        assert_eq!(handles.of(&table.units[0], &|path| path.ends_with("lib.rs")), Some(Path::new("/app/lib.rs")));
        assert_eq!(handles.of(&table.units[0], &|_| false), None);
        assert_eq!(table.script_of(&table.units[2]).map(|unit| unit.fingerprint), Some(4));
    }
}
