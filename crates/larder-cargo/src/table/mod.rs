//! What each unit of a target directory was made from, what it needs and what it cost.
//!
//! Cargo writes all of it down beside its fingerprints; a [`UnitTable`] is that, read once, as plain data that can be
//! kept after the directory is gone.
//!
//! | module | its one idea |
//! |---|---|
//! | `fingerprint` | the hash that cargo compares, and the JSON that says what was hashed |
//! | `dep_info` | which files and variables a compilation saw |
//! | `graft` | which units may serve another workspace |
//! | `gather` | the files of a listing, by unit |
//! | `inputs` | from cargo's relative paths to absolute ones |
//! | `graph` | who depends on whom, and so what a change will cost |
//! | `lock` | which packages stand in one lock file and not in another |
//! | `live` | which units are still wanted |
//! | `prune` | which files go with those that are not |
//! | `unseen` | who may have read files that it does not name |
//! | `why` | why a unit was built |
//!
//! **What is read.** Two small files a unit, the hash and its JSON, and the `dep-*` file only where it names something:
//! 14 bytes, as those of registry packages have, name nothing. rustc's `.d` is read only where a package's name does
//! not say where the package is. Everything else, sizes and costs among it, is from the listing. Measured with 802 units
//! among 12,172 files, on a warm cache: 1,835 reads of 0.6 MB and 23 ms in all, half of them in the reads.
//!
//! **What a unit cost** is the time from its `invoked.timestamp` to its hash file, which cargo writes when the process has
//! ended, and not again. Its newest output would do for a build, but a check writes its `.rmeta` early and then goes on
//! checking: measured on the same directory, often a fifth of what it really took. Documentation has no output of its own.

mod dep_info;
mod fingerprint;
mod gather;
mod graft;
mod graph;
mod inputs;
mod live;
mod lock;
mod prune;
mod unseen;
mod why;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use fingerprint::Recipe;
pub use graph::Prediction;
pub use live::FORGOTTEN;
pub use lock::Lock;
pub use unseen::{Handles, Reader};
pub use why::{Reason, Seen, Why, explain};

use crate::{Read, UnitId};
use fingerprint::{Fingerprint, Local, parse_hash, watches_files};
use gather::Folder;
use inputs::Places;

/// A file of a target directory, as a listing tells.
#[derive(Debug, Clone, Copy)]
pub struct TargetFile<'a> {
    /// Relative to the directory, separated by `/`.
    pub path: &'a [u8],
    /// In bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// The same number for two names of one file, and for no others.
    pub inode: u32,
}

/// Where things are that a target directory was built from.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The root of the workspace: rustc is started there for its packages.
    pub workspace_root: &'a Path,
    /// The directory that was listed: cargo's build directory, which is its target directory unless configured.
    pub target_dir: &'a Path,
    /// What is in its `registry` and `git` never changes, and cargo does not look.
    pub cargo_home: Option<&'a Path>,
    /// The folders of the path packages by their names, those of siblings too. A name may have several.
    pub packages: &'a BTreeMap<String, Vec<PathBuf>>,
}

/// All units of one target directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitTable {
    /// In the order of their ids.
    pub units: Vec<Unit>,
}

/// One compilation, one run of a build script, or one documentation of a crate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Its profile folder and cargo's name for it.
    pub id: UnitId,
    /// The package, as its folder spells it.
    pub package: String,
    /// Kind and name of the target, as cargo names the fingerprint: `lib-foo`, `bin-app`, `test-lib-foo`,
    /// `build-script-build-script-build`, `run-build-script-build-script-build`, `doc-lib-foo`. A check is not told
    /// from a build by it.
    pub target: String,
    /// What cargo compares. 0 after a build of it that failed or was killed: cargo empties the file first.
    pub fingerprint: u64,
    /// Fingerprints of the units that it depends on; never of a program, on which nothing depends that way.
    pub deps: Vec<u64>,
    /// How `deps` are called here, in the same order: the names of crates, and `build_script_build` for both the
    /// program and its run.
    pub dep_names: Vec<String>,
    /// What else cargo hashed.
    pub recipe: Recipe,
    /// Whether it is of a path package: cargo watches its sources.
    pub local: bool,
    /// Files and directories whose mtime cargo compares, as absolute paths: from dep-info and `rerun-if-changed`,
    /// without what is in the target directory, the registry and git checkouts. A path with `..` stands twice: as cargo
    /// looks at it, and without, as a walk finds it; behind a symbolic link these may differ.
    #[serde(with = "crate::text::paths")]
    pub inputs: Vec<PathBuf>,
    /// Whether every file of the package counts: it is documentation, or the run of a build script that says nothing.
    pub watches_package: bool,
    /// If so, the newest of these files with its time, as cargo prints it; cargo compares the text.
    #[serde(default)]
    pub newest: String,
    /// Variables with the value that was seen: `env!`, `option_env!` and `rerun-if-env-changed`.
    pub env: Vec<(String, Option<String>)>,
    /// Who may have read files for it that it does not name.
    #[serde(default)]
    pub reader: Reader,
    /// Of all its files, each once, without incremental data.
    pub bytes: u64,
    /// When it was begun, in nanoseconds since 1970; 0 when that is not known.
    pub started: i64,
    /// How long it took.
    pub millis: u64,
    /// In how many earlier saves it stood; 0 for one that this job made.
    #[serde(default)]
    pub saves: u8,
    /// In how many saves one after the other no build had read it.
    #[serde(default)]
    pub unread: u8,
}

impl UnitTable {
    /// Reads the table of a directory from its listing and, through `read`, from cargo's notes in it.
    ///
    /// A unit whose notes cannot be read or understood is left out, and nothing is claimed of it.
    pub fn read(files: &[TargetFile<'_>], context: &Context<'_>, read: Read<'_>) -> Self {
        let open = |path: &[u8]| read(&inputs::join(context.target_dir, path));
        let folders = gather::by_unit(files);
        let mut notes: Vec<Note<'_, '_>> = Vec::with_capacity(folders.len());
        for folder in &folders {
            notes.extend(folder.hash_files().filter_map(|(target, hash, json)| {
                Some(Note {
                    folder,
                    target,
                    ended: hash.mtime,
                    hash: if hash.size == 0 { 0 } else { parse_hash(&open(hash.path)?)? },
                    fingerprint: Fingerprint::parse(&open(json.path)?)?,
                })
            }));
        }
        let places = Places::new(context, &notes, &open);
        let mut table = Self { units: notes.iter().map(|note| note.unit(&places)).collect() };
        let libraries: Vec<bool> = notes.iter().map(Note::is_library).collect();
        table.find_readers(&libraries, read);
        table
    }
}

/// What cargo noted about one unit.
struct Note<'a, 'f> {
    folder: &'f Folder<'a>,
    target: &'a str,
    /// The mtime of the hash file.
    ended: i64,
    hash: u64,
    fingerprint: Fingerprint,
}

impl Note<'_, '_> {
    /// Whether it is a dynamic library, as a procedural macro is.
    fn is_library(&self) -> bool {
        self.folder.dynamic && self.target.starts_with("lib-")
    }

    fn unit(&self, places: &Places<'_, '_, '_>) -> Unit {
        let own = places.inputs(self);
        let mut env = own.env;
        // A cargo that is newer than this wrote what it saw: anything may count.
        let (mut watches_package, mut newest) = (own.unreadable, String::new());
        for local in &self.fingerprint.local {
            match local {
                Local::Precalculated(text) if watches_files(text) => {
                    watches_package = true;
                    newest.clone_from(text);
                }
                Local::RerunIfEnvChanged { var, val } => env.push((var.clone(), val.clone())),
                Local::Precalculated(_) | Local::CheckDepInfo {} | Local::RerunIfChanged { .. } => {}
                Local::Unknown(_) => watches_package = true,
            }
        }
        let deps = &self.fingerprint.deps;
        let started = self.folder.invoked.unwrap_or(0);
        let lasted = if started == 0 { 0 } else { self.ended.saturating_sub(started) };
        Unit {
            id: UnitId { root: self.folder.root.to_vec(), hash: self.folder.hash.to_owned() },
            package: self.folder.package.to_owned(),
            target: self.target.to_owned(),
            fingerprint: self.hash,
            deps: deps.iter().map(|dep| dep.3).collect(),
            dep_names: deps.iter().map(|dep| dep.1.clone()).collect(),
            recipe: self.fingerprint.recipe.clone(),
            local: own.local || watches_package,
            inputs: own.paths,
            watches_package,
            newest,
            env,
            reader: Reader::Nobody,
            bytes: self.folder.bytes,
            started,
            millis: u64::try_from(lasted / 1_000_000).unwrap_or(0),
            saves: 0,
            unread: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A unit that cost as many milliseconds as its fingerprint says.
    pub(super) fn registry(package: &str, target: &str, fingerprint: u64, deps: &[u64]) -> Unit {
        Unit {
            id: UnitId { root: b"debug".to_vec(), hash: format!("{fingerprint:016x}") },
            package: package.to_owned(),
            target: target.to_owned(),
            fingerprint,
            deps: deps.to_vec(),
            dep_names: deps.iter().map(|dep| format!("crate{dep}")).collect(),
            recipe: Recipe::default(),
            local: false,
            inputs: Vec::new(),
            watches_package: false,
            newest: String::new(),
            env: Vec::new(),
            reader: Reader::Nobody,
            bytes: 1000,
            started: 1,
            millis: fingerprint,
            saves: 0,
            unread: 0,
        }
    }

    /// The same of a path package.
    pub(super) fn local(package: &str, target: &str, fingerprint: u64, deps: &[u64], inputs: &[&str]) -> Unit {
        let inputs = inputs.iter().map(PathBuf::from).collect();
        Unit { local: true, inputs, ..registry(package, target, fingerprint, deps) }
    }

    pub(super) fn table(units: Vec<Unit>) -> UnitTable {
        UnitTable { units }
    }

    /// Listings made of cargo's own words, with contents that are sometimes cargo's too.
    fn listings() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        let words = |words: &'static str| prop::sample::select(words.split(' ').collect::<Vec<_>>());
        let folder = words(
            "debug/.fingerprint/a-0123456789abcdef debug/.fingerprint/b-0000000000000000 debug/deps debug/build/a-0123456789abcdef \
             debug/build/a/0123456789abcdef/fingerprint debug/build/a/0123456789abcdef/out debug/incremental/a-1/s-1-2-3",
        );
        let file = words(
            "lib-a lib-a.json dep-lib-a run-build-script-x run-build-script-x.json build-script-x build-script-x.json dep-build-script-x \
             invoked.timestamp a-0123456789abcdef.d liba-0123456789abcdef.rlib lib-a.b output-lib-a .json dep-",
        );
        let known: Vec<Vec<u8>> = vec![
            b"0123456789abcdef".to_vec(),
            Vec::new(),
            br#"{"deps":[[1,"x",false,17279655951921914625]],"local":[{"CheckDepInfo":{}},{"RerunIfChanged":{"paths":["x","../y"]}}]}"#.to_vec(),
            br#"{"local":[{"Precalculated":"1.2s (x)"},{"Later":1}]}"#.to_vec(),
            b"\x01\0\0\0\xff\x01\x01\0\0\0\0\x01\0\0\0x\0\0\0\0\0".to_vec(),
            b"x: a/x /b/x c\n".to_vec(),
        ];
        let content = prop_oneof![4 => prop::sample::select(known), 1 => prop::collection::vec(any::<u8>(), 0..20)];
        prop::collection::vec(((folder, file).prop_map(|(folder, file)| format!("{folder}/{file}")), content), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn no_directory_makes_it_panic(listing in listings(), several: bool) {
            let content: BTreeMap<PathBuf, &Vec<u8>> =
                listing.iter().map(|(path, content)| (Path::new("/t").join(path), content)).collect();
            let files: Vec<TargetFile<'_>> = listing.iter().zip(0..).map(|((path, content), inode)| TargetFile {
                path: path.as_bytes(),
                size: content.len() as u64,
                mtime: i64::from(inode) * 1_000_000_000,
                inode,
            }).collect();
            let mut packages = BTreeMap::new();
            if several {
                packages.insert("a".to_owned(), vec![PathBuf::from("/w/a"), PathBuf::from("/w/b")]);
            }
            let context = Context {
                workspace_root: Path::new("/w"),
                target_dir: Path::new("/t"),
                cargo_home: Some(Path::new("/b")),
                packages: &packages,
            };
            let table = UnitTable::read(&files, &context, &|path| content.get(path).map(|content| (*content).clone()));
            let all = table.live(&|_| true);
            let mut again = table.clone();
            again.carry_over(&table, &all);
            prop_assert!(again.dead(&all).is_empty());
            prop_assert!(table.why(&table, &|_| Seen::Changed).is_empty());
            prop_assert_eq!(table.dirty(&|_| true, &|_| true).len(), table.units.len());
            for path in table.dead_files(&all.into_iter().collect::<Vec<_>>(), &files) {
                prop_assert!(files.iter().any(|file| file.path == path));
            }
            let json = serde_json::to_vec(&table).unwrap();
            prop_assert_eq!(serde_json::from_slice::<UnitTable>(&json).unwrap(), table);
        }
    }
}
