//! From what was typed and configured to what the store is asked: directories, place, key.

use crate::amount::{Budget, Span};
use crate::cargo::{Project, TargetPolicy};
use crate::cli::{Global, How, Mode, SaveWhen, Which};
use crate::host;
use crate::origin::Origin;
use crate::settings::{self, BadSetting, Layer, Settings, Source};
use crate::talk;
use crate::world::World;
use anyhow::Result;
use larder_cargo::linker::Rustc;
use larder_ci::system;
use larder_store::{Found, Place, PlaceRoots, Root, Snapshot, Store};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// A command line or configuration that cannot be followed.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<BadSetting> for UsageError {
    fn from(bad: BadSetting) -> Self {
        Self(bad.to_string())
    }
}

/// What the command line adds to the settings; absent options are `None`.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    pub(crate) link_mode: Option<Mode>,
    pub(crate) exact: bool,
    pub(crate) save: Option<SaveWhen>,
    pub(crate) spare: bool,
    pub(crate) job: Option<String>,
    pub(crate) canonical: bool,
    pub(crate) budget: Option<Budget>,
    pub(crate) max_age: Option<Span>,
    pub(crate) keep: Option<usize>,
    pub(crate) high: Option<u8>,
    pub(crate) low: Option<u8>,
}

/// The directory that the user works in: `--workspace`, else the current one.
pub(crate) fn work_dir(workspace: Option<&Path>) -> Result<PathBuf> {
    let (given, what) = workspace.map_or((Path::new("."), "the current directory"), |dir| (dir, "--workspace"));
    let dir = larder_fs::canonicalize(given).map_err(|e| UsageError(format!("{what}: {}", chain(&e))))?;
    match larder_fs::metadata(&dir)? {
        Some(meta) if meta.kind == larder_fs::Kind::Dir => Ok(dir),
        _ => Err(UsageError(format!("--workspace: {} is not a directory", dir.display())).into()),
    }
}

fn chain(error: &larder_fs::Error) -> String {
    format!("{error}: {}", error.source)
}

/// All settings that apply in `dir`. Whoever switched larder off is not told what is wrong with them.
pub(crate) fn settings(global: &Global, dir: &Path, typed: &Typed) -> Result<Settings> {
    resolve_settings(global, dir, typed).or_else(|error| {
        let off = Layer { disable: Some(true), ..Layer::default() };
        let source = Source::Environment("LARDER_DISABLE".into());
        match settings::is_disabled(&host::env) {
            true => Ok(Settings::resolve(&[(source, off)], settings::default_store(&host::env))),
            false => Err(error),
        }
    })
}

fn resolve_settings(global: &Global, dir: &Path, typed: &Typed) -> Result<Settings> {
    let line = Layer {
        store: global.store.clone(),
        link_mode: typed.link_mode,
        exact: typed.exact.then_some(true),
        save: typed.save,
        spare: typed.spare.then_some(true),
        job: typed.job.clone(),
        canonical: typed.canonical.then_some(true),
        budget: typed.budget,
        max_age: typed.max_age,
        keep: typed.keep,
        high: typed.high,
        low: typed.low,
        ..Layer::default()
    };
    let mut layers = vec![(Source::CommandLine, line)];
    layers.extend(settings::environment_layers(&host::env).map_err(UsageError::from)?);
    layers.extend(settings::file_layers(dir, &host::env, &host::read).map_err(UsageError::from)?);
    layers.extend(settings::ci_layer(&host::env));
    layers.extend(settings::job_layers(host::job()));
    let mut settings = Settings::resolve(&layers, settings::default_store(&host::env));
    settings.keep_strangers_apart(host::job());
    Ok(settings)
}

/// What to ask the store for.
pub(crate) struct Request {
    pub(crate) place: Place,
    pub(crate) key: String,
    pub(crate) fallback: Vec<String>,
    parts: Vec<(String, String)>,
    /// The job that asks.
    pub(crate) job: String,
    /// The cargo project whose directories these are; `None` for any others.
    pub(crate) project: Option<Project>,
    roots: Vec<(PathBuf, TargetPolicy)>,
    /// Where the command works.
    dir: PathBuf,
    /// Whether the lock file is a part of the key.
    keyed_by_lock: bool,
    /// Whether any snapshot of the place will do, the nearest first: nobody named one.
    pub(crate) by_nearness: bool,
    /// Whether to say what was considered.
    pub(crate) explain: bool,
}

impl Request {
    /// Resolves what to keep for `command`, run in `dir`.
    pub(crate) fn resolve(
        which: &Which,
        how: &How,
        settings: &Settings,
        dir: &Path,
        command: &[OsString],
        world: &World,
    ) -> Result<Self> {
        if let Some(key) = &which.key
            && key.len() > MAX_KEY
        {
            return Err(UsageError(format!("--key: {} bytes are more than {MAX_KEY}", key.len())).into());
        }
        talk::chapter("larder: the key and its parts");
        let request = match which.path.is_empty() {
            true => cargo(which, how, settings, dir, command, world),
            false => paths(which, how, settings, dir, command, world),
        }?;
        request.tell();
        Ok(request)
    }

    /// Says what is asked for, and what the key was made from.
    fn tell(&self) {
        for (name, value) in &self.parts {
            // The compiler's text has several lines.
            let value = if value.is_empty() { "none".to_owned() } else { value.lines().collect::<Vec<_>>().join("; ") };
            tracing::info!("key part {name}: {value}");
        }
        tracing::info!("key {}, scope {}", self.key, self.place.scope);
        let outer = scope();
        if self.place.scope != outer {
            tracing::info!("a pull request: what {outer} has is read, too, and nothing is saved there");
        }
        match &self.place.roots {
            PlaceRoots::Paths(paths) => {
                paths.iter().for_each(|path| tracing::info!("the snapshot is for {}", path.display()));
            }
            PlaceRoots::KeyOnly(count) => tracing::info!("the snapshot is for any {count} directories"),
        }
        match self.by_nearness {
            true => tracing::info!("without an exact key the nearest snapshot of the place will do"),
            false => {
                self.fallback.iter().for_each(|prefix| tracing::info!("fallback: any key that begins with {prefix:?}"))
            }
        }
    }

    /// Whether the lock file is another since: cargo writes it where there is none, and updates it. What was
    /// built belongs to the new one, and that is what the next run will ask for.
    pub(crate) fn is_outdated(&self) -> bool {
        let changed = |project: &Project| host::read(&project.workspace.lock) != project.lock;
        self.keyed_by_lock && self.project.as_ref().is_some_and(changed)
    }

    /// Whether something stands where a target directory belongs and is none, such as a link to a disk that is not
    /// mounted. Nobody named it on the command line: that is for cargo to say.
    pub(crate) fn has_odd_target(&self) -> bool {
        let odd = |path: &Path| larder_fs::exists(path) && larder_fs::Dir::open(path).is_err();
        self.project.is_some() && self.roots.iter().any(|(path, _)| odd(path))
    }

    /// The directories.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.roots.iter().map(|(path, _)| path.clone()).collect()
    }

    /// The key's parts, and with directories that may be any the compiler that cargo noted in them.
    pub(crate) fn parts(&self) -> Vec<(String, String)> {
        let mut noted = Vec::new();
        if self.project.is_none() {
            noted.extend(self.roots.iter().filter_map(|(_, policy)| policy.noted()).map(|rustc| rustc.text));
            noted.dedup();
        }
        let mut parts = self.parts.clone();
        // Of two compilers neither speaks for both.
        if let [text] = noted.as_slice() {
            parts.push((COMPILER.into(), text.clone()));
        }
        parts
    }

    /// Where what is saved comes from, by header parts that belong to no key.
    pub(crate) fn origin(&self) -> Vec<(String, String)> {
        Origin::find(&self.dir, &host::env, &host::read).parts()
    }

    /// Spares asking the compiler: the next time, or this time where the snapshots that will be restored tell it. With
    /// fallback keys nobody knows which those will be.
    pub(crate) fn learn(&mut self, store: &Store) {
        if let Some(project) = &self.project {
            project.compiler.remember(store);
        }
        if self.project.is_some() || !self.fallback.is_empty() {
            return;
        }
        // What cannot be read now is told of by the restore.
        let Ok(found) = store.find_exact(&self.place, &self.key) else { return };
        let noted = |found: &Found| {
            let parts = Snapshot::load_header(&found.path).ok()?.parts;
            parts.into_iter().find(|(name, _)| name == COMPILER).map(|(_, text)| text)
        };
        let mut all = found.iter().map(noted);
        let Some(Some(text)) = all.next() else { return };
        if all.all(|other| other.as_ref() == Some(&text)) {
            let learned = Rustc::parse(&text);
            self.roots.iter_mut().for_each(|(_, policy)| policy.learned = learned.clone());
        }
    }

    /// The directories with what is known of their files, as the store wants them.
    pub(crate) fn roots(&self) -> Vec<Root<'_>> {
        self.roots.iter().map(|(path, policy)| Root { path: path.clone(), policy }).collect()
    }
}

/// The name of the key part that holds the compiler, as `larder-cargo` has it.
const COMPILER: &str = "rustc";
/// The scope where no CI system names the repository.
pub(crate) const LOCAL: &str = "local";
/// Longer keys are a mistake, and would make headers that nobody can read.
const MAX_KEY: usize = 64 * 1024;

fn cargo(
    which: &Which,
    how: &How,
    settings: &Settings,
    dir: &Path,
    command: &[OsString],
    world: &World,
) -> Result<Request> {
    let project = Project::find(dir, command, settings, world)?.ok_or_else(|| {
        UsageError(format!(
            "{} is in no cargo project: name one with --workspace, or directories with --path and --key",
            dir.display()
        ))
    })?;
    let dirs = project.directories();
    let fallback = match how.fallback_key.is_empty() {
        // The same job first, then any other that fits.
        true => vec![format!("{}-", project.job), String::new()],
        false => how.fallback_key.clone(),
    };
    let mut roots = Vec::new();
    for path in &dirs {
        roots.push((larder_fs::resolve(path)?, TargetPolicy::of(&project)));
    }
    let paths = roots.iter().map(|(path, _)| world.names.canonical(path)).collect();
    Ok(Request {
        place: Place { scope: own_scope(), label: project.compatibility.clone(), roots: PlaceRoots::Paths(paths) },
        key: which.key.clone().unwrap_or_else(|| project.key.clone()),
        fallback,
        parts: project.parts.clone(),
        keyed_by_lock: which.key.is_none(),
        by_nearness: which.key.is_none() && how.fallback_key.is_empty(),
        explain: how.explain,
        job: project.job.clone(),
        project: Some(project),
        roots,
        dir: dir.to_path_buf(),
    })
}

fn paths(
    which: &Which,
    how: &How,
    settings: &Settings,
    dir: &Path,
    command: &[OsString],
    world: &World,
) -> Result<Request> {
    let key = which.key.clone().ok_or_else(|| UsageError("--path needs --key".into()))?;
    let mut roots: Vec<(PathBuf, TargetPolicy)> = Vec::new();
    for path in &which.path {
        let path = larder_fs::resolve(path)?;
        if roots.iter().any(|(other, _)| other.starts_with(&path) || path.starts_with(other)) {
            return Err(UsageError(format!("--path: {} and another one lie in each other", path.display())).into());
        }
        let policy = TargetPolicy::guess(&path, command);
        roots.push((path, policy));
    }
    let place = match which.key_only {
        true => PlaceRoots::KeyOnly(roots.len()),
        false => PlaceRoots::Paths(roots.iter().map(|(path, _)| world.names.canonical(path)).collect()),
    };
    Ok(Request {
        place: Place { scope: own_scope(), label: "paths".into(), roots: place },
        parts: vec![("key".into(), key.clone())],
        key,
        fallback: how.fallback_key.clone(),
        job: larder_cargo::key::job_name(settings.job.value.as_deref(), &host::env, command),
        project: None,
        roots,
        dir: dir.to_path_buf(),
        keyed_by_lock: false,
        by_nearness: false,
        explain: how.explain,
    })
}

/// Who may see what a job saves: in CI the repository, and each pull request for itself; elsewhere whoever reads the store.
pub(crate) fn own_scope() -> String {
    host::job().scope().unwrap_or_else(|| LOCAL.to_owned())
}

/// The repository's own scope, which its pull requests are within.
pub(crate) fn scope() -> String {
    system::repository_of(&own_scope()).to_owned()
}
