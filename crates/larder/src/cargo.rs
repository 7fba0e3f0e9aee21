//! What `larder-cargo` knows, brought to the store's terms: a policy for the files of target directories,
//! the key of a build, and cargo's own locks.

use crate::compiler::Compiler;
use crate::host;
use crate::settings::Settings;
use crate::world::World;
use anyhow::Result;
use larder_cargo::canonical::Names;
use larder_cargo::config::Config;
use larder_cargo::key::{self, KeyInputs};
use larder_cargo::linker::{Question, Rustc};
use larder_cargo::workspace::Workspace;
use larder_cargo::{FileClass, Layout, Linker, Location, UnitLocator};
use larder_fs::{Dir, Kind, Lock, LockKind};
use larder_store::{Fallout, Policy, Treatment};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How long larder waits for a cargo that works in the same target directory.
const LOCK_WAIT: Duration = Duration::from_secs(600);
/// The names of cargo's lock files in a profile folder: until 1.99, and the two from 1.100 on.
const LOCK_NAMES: [&str; 3] = [".cargo-lock", ".cargo-build-lock", ".cargo-artifact-lock"];

/// Where a build happens, as far as files say.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) config: &'a Config,
    pub(crate) cargo_home: Option<&'a Path>,
}

impl Site<'_> {
    /// The directories that one build fills: the target directory, and the build directory where it is another.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let target = self.workspace.target_dir.clone();
        match &self.workspace.build_dir {
            Some(build) if *build != target => vec![target, build.clone()],
            _ => vec![target],
        }
    }
}

/// CARGO_HOME, with links resolved.
pub(crate) fn cargo_home(dir: &Path) -> Option<PathBuf> {
    let home = larder_cargo::config::cargo_home(dir, &host::env);
    home.map(|home| larder_fs::canonicalize(&home).unwrap_or(home))
}

/// A cargo project, as seen from one directory and one command.
pub(crate) struct Project {
    pub(crate) workspace: Workspace,
    pub(crate) linker: Linker,
    pub(crate) key: String,
    pub(crate) job: String,
    /// What the lock file held when the key was made.
    pub(crate) lock: Option<Vec<u8>>,
    /// CARGO_HOME, with links resolved.
    pub(crate) cargo_home: Option<PathBuf>,
    /// Cargo's configuration, as it applies to the command.
    pub(crate) config: Config,
    /// Names and values of all key parts.
    pub(crate) parts: Vec<(String, String)>,
    /// A short digest of the parts that must be equal.
    pub(crate) compatibility: String,
    /// What cargo calls the directories.
    pub(crate) names: Names,
    /// The compiler, and whether it had to be asked.
    pub(crate) compiler: Compiler,
}

impl Project {
    /// Finds the project of `dir`; `None` outside of any.
    pub(crate) fn find(dir: &Path, command: &[OsString], settings: &Settings, world: &World) -> Result<Option<Self>> {
        let config = Config::load(dir, command, &host::env, &host::read);
        for problem in &config.problems {
            tracing::info!("cargo configuration: {problem}");
        }
        let found = larder_cargo::workspace::find(dir, command, &host::env, &config, &host::read)?;
        let Some(workspace) = found else { return Ok(None) };
        let compiler = Compiler::ask(dir, command, &config, Some(&settings.store.value))?;
        let rustc = &compiler.rustc;
        let linker = linker(dir, command, &config, rustc);
        let cargo_home = cargo_home(dir);
        let names = world.names.clone();
        let lock = host::read(&workspace.lock);
        let rustflags = key::rustflags(&host::env, &config);
        let job = key::job_name(settings.job.value.as_deref(), &host::env, command);
        let parts = key::parts(&KeyInputs {
            rustc,
            workspace: &names.workspace(&workspace),
            cargo_home: cargo_home.as_deref().map(|home| names.canonical(home)).as_deref(),
            linker: &linker,
            lock: lock.as_deref(),
            rustflags: &rustflags,
            job: &job,
        });
        let required: Vec<_> = parts.iter().filter(|part| part.required).cloned().collect();
        Ok(Some(Self {
            linker,
            key: key::render(&job, &parts),
            compatibility: key::render("cargo-target", &required),
            job,
            cargo_home,
            config,
            lock,
            parts: parts.into_iter().map(|part| (part.name.to_owned(), part.value)).collect(),
            workspace,
            names,
            compiler,
        }))
    }

    /// Where it is.
    pub(crate) fn site(&self) -> Site<'_> {
        Site { workspace: &self.workspace, config: &self.config, cargo_home: self.cargo_home.as_deref() }
    }

    /// The directories that one build fills: the target directory, and the build directory where it is another.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        self.site().directories()
    }
}

fn linker(dir: &Path, command: &[OsString], config: &Config, rustc: &Rustc) -> Linker {
    let run = |words: &[&OsStr]| host::run_in(dir, words);
    let linker = larder_cargo::linker::decide(&Question { command, env: &host::env, config, rustc, run: &run });
    tracing::info!("linker: {linker}");
    linker
}

/// The rules for a directory that may be a target directory, which its listing tells.
pub(crate) struct TargetPolicy {
    /// The linker is asked for only when executables have to be judged.
    linker: OnceLock<bool>,
    root: PathBuf,
    dir: PathBuf,
    command: Vec<OsString>,
    /// The compiler of what is to be restored, where that is known.
    pub(crate) learned: Option<Rustc>,
}

impl TargetPolicy {
    /// For a directory of a known project.
    pub(crate) fn of(project: &Project) -> Self {
        let dir = project.workspace.root.clone();
        let root = project.workspace.target_dir.clone();
        Self { linker: OnceLock::from(project.linker.replaces()), root, dir, command: Vec::new(), learned: None }
    }

    /// For any directory; `command` is what will be run there.
    pub(crate) fn guess(root: &Path, command: &[OsString]) -> Self {
        let dir = root.parent().unwrap_or(root).to_path_buf();
        Self { linker: OnceLock::new(), root: root.to_path_buf(), dir, command: command.to_vec(), learned: None }
    }

    /// The compiler that cargo noted in the directory.
    pub(crate) fn noted(&self) -> Option<Rustc> {
        host::read(&self.root.join(".rustc_info.json")).and_then(|info| Rustc::of_target(&info))
    }

    fn linker_replaces(&self) -> bool {
        *self.linker.get_or_init(|| {
            let dir = existing(&self.dir);
            let config = Config::load(dir, &self.command, &host::env, &host::read);
            // Which linker is the default depends on the compiler. Asking that takes longer than many a restore: what
            // cargo noted is as good.
            let known = self.noted().or_else(|| self.learned.clone());
            let ask = || Compiler::ask(dir, &self.command, &config, None).map(|compiler| compiler.rustc);
            match known.map_or_else(ask, Ok) {
                Ok(rustc) => {
                    let linker = linker(dir, &self.command, &config, &rustc);
                    if !linker.replaces() {
                        tracing::warn!("executables are copied instead of linked: {linker}");
                    }
                    linker.replaces()
                }
                Err(error) => {
                    tracing::info!("executables are copied: the linker is not known, since {error:#}");
                    false
                }
            }
        })
    }
}

fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| larder_fs::exists(path)).unwrap_or(Path::new("/"))
}

/// Cargo writes both of these at the top of every target directory.
fn is_target(paths: &[Vec<u8>]) -> bool {
    let has = |name: &[u8]| paths.iter().any(|path| path == name);
    has(b".rustc_info.json") || (has(b"CACHEDIR.TAG") && paths.iter().any(|path| is_fingerprint(path)))
}

fn is_fingerprint(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|part| part == b".fingerprint" || part == b"fingerprint")
}

impl Policy for TargetPolicy {
    fn treatments(&self, paths: &[Vec<u8>]) -> Vec<Treatment> {
        if !is_target(paths) {
            return vec![Treatment::default(); paths.len()];
        }
        let layout = Layout::learn(paths.iter().map(Vec::as_slice));
        let treatment = |path: &Vec<u8>| match FileClass::of(path, &layout) {
            FileClass::Immutable => Treatment { share: true, ..Treatment::default() },
            FileClass::Executable => Treatment { share: self.linker_replaces(), ..Treatment::default() },
            FileClass::Fingerprint => Treatment { rewrite: true, vouches: true, share: false },
            // A lock is held on an inode: keeping that is what rewriting means here.
            FileClass::Mutable | FileClass::Lock => Treatment { rewrite: true, ..Treatment::default() },
            FileClass::Unknown => Treatment::default(),
        };
        paths.iter().map(treatment).collect()
    }

    fn fallout(&self, paths: &[Vec<u8>], damaged: &[bool]) -> Option<Fallout> {
        if !is_target(paths) {
            return None;
        }
        let locator = UnitLocator::new(Layout::learn(paths.iter().map(Vec::as_slice)));
        let broken = paths.iter().zip(damaged).filter(|(_, damaged)| **damaged).map(|(path, _)| path.as_slice());
        let gone: BTreeSet<&[u8]> =
            locator.leave_out(broken.clone(), paths.iter().map(Vec::as_slice))?.into_iter().collect();
        let mut names: BTreeMap<String, ()> = BTreeMap::new();
        for path in broken {
            match locator.locate(path) {
                Location::Unit { id, name } => {
                    names.insert(format!("{}-{}", String::from_utf8_lossy(&name), id.hash), ());
                }
                Location::Incremental { dir } => drop(names.insert(String::from_utf8_lossy(&dir).into_owned(), ())),
                Location::Unhashed { stem } => drop(names.insert(String::from_utf8_lossy(&stem).into_owned(), ())),
                Location::Droppable | Location::Shared => {}
            }
        }
        let left_out = paths.iter().map(|path| gone.contains(path.as_slice())).collect();
        Some(Fallout { left_out, names: names.into_keys().collect() })
    }
}

/// What files of a directory mean to a person: the units of a target directory that lack them, else the files.
pub(crate) fn named(paths: &[Vec<u8>], lost: &[bool]) -> Vec<String> {
    // Whose linker would write there does not matter.
    let policy = TargetPolicy::guess(Path::new("/"), &[]);
    policy.fallout(paths, lost).map(|fallout| fallout.names).unwrap_or_else(|| {
        let lost = paths.iter().zip(lost).filter(|(_, lost)| **lost);
        lost.map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
    })
}

/// Takes cargo's own locks on every profile folder of the target directories, so that no cargo writes
/// there meanwhile. `waiting` is told when one is held. `None` when it was held for too long.
pub(crate) fn lock_targets(dirs: &[PathBuf], waiting: &dyn Fn(&Path)) -> Result<Option<Vec<Lock>>> {
    let mut paths = Vec::new();
    for dir in dirs {
        paths.extend(lock_files(dir, 2)?);
    }
    // One order for everybody.
    paths.sort_unstable();
    let mut locks = Vec::new();
    for path in paths {
        let taken = match Lock::existing(&path, LockKind::Exclusive, Duration::ZERO)? {
            Some(lock) => Some(lock),
            None => {
                waiting(&path);
                Lock::existing(&path, LockKind::Exclusive, LOCK_WAIT)?
            }
        };
        match taken {
            Some(lock) => locks.push(lock),
            None => return Ok(None),
        }
    }
    Ok(Some(locks))
}

/// Lock files in the folders of `dir`, at most `depth` below it: `PROFILE/` and `TRIPLE/PROFILE/`.
fn lock_files(dir: &Path, depth: u32) -> Result<Vec<PathBuf>> {
    let Ok(Some(at)) = Dir::open_optional(dir) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut seen: HashMap<OsString, ()> = HashMap::new();
    for name in LOCK_NAMES {
        if at.stat_optional(OsStr::new(name))?.is_some_and(|meta| meta.kind == Kind::File) {
            found.push(dir.join(name));
            seen.insert(name.into(), ());
        }
    }
    if depth > 0 && seen.is_empty() {
        for entry in at.entries()? {
            if entry.is_dir != Some(false) && at.stat_optional(&entry.name)?.is_some_and(|m| m.kind == Kind::Dir) {
                found.extend(lock_files(&dir.join(&entry.name), depth - 1)?);
            }
        }
    }
    Ok(found)
}
