//! The sources of a build: where they are, what they held when a snapshot was made, and what cargo must be shown of
//! what changed since.
//!
//! A fresh checkout gives every file a new time, and cargo, which compares times, would build all local crates again.
//! So a snapshot carries a stamp of every source. After a restore, what holds the same bytes gets its old time back and
//! what does not is touched; `larder_cargo::freshness` says what else must be touched so that nothing stale is taken for
//! fresh. docs/freshness.md explains it to users.
//!
//! | module | its one idea |
//! |---|---|
//! | `rules` | which files of a checkout count |
//! | `checkout` | what is there now, compared with what snapshots were built from: the nearest |
//! | `record` | at a save: the stamps, and the notes that a later restore needs |
//! | `users` | the target directories that the times are right for |
//! | `documented` | what rustdoc read, which names nothing |
//! | `verdict` | what changed, and what must be touched for it |
//! | `stamp` | at a restore: the times |

mod checkout;
mod documented;
mod record;
mod rules;
mod stamp;
mod users;
mod verdict;

pub(crate) use checkout::{Checkout, Considered};
pub(crate) use record::{After, Built, Compiled, Notes, Record};
pub(crate) use rules::repository_of;
pub(crate) use stamp::{Stamped, settle};

use crate::cargo::Site;
use crate::host;
use crate::settings::Settings;
use anyhow::Result;
use ignore::gitignore::Gitignore;
use larder_cargo::manifest::{Manifest, configured_paths};
use larder_cargo::workspace::root_of_package;
use larder_fs::{Dir, Kind};
use larder_store::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the sources of a build are, as a walk found them.
pub(crate) struct Sources {
    /// The root of the workspace: the record of what was digested is kept under its name.
    root: PathBuf,
    /// The workspace, and every sibling that some manifest names by path.
    trees: Vec<PathBuf>,
    /// Where times may be set: the trees, and the repositories that hold them.
    domain: Vec<PathBuf>,
    /// The path packages by name.
    packages: BTreeMap<String, Vec<PathBuf>>,
    /// All files and links that count.
    listed: Vec<Source>,
    /// Directories that hold no sources: where the build writes.
    hidden: Vec<PathBuf>,
    /// Target directories in the trees that are not the project's own.
    foreign: Vec<PathBuf>,
    /// Files and folders in the trees that version control ignores, but for target directories.
    unlisted: Vec<PathBuf>,
    /// Folders that a manifest names and that are not there.
    missing: Vec<PathBuf>,
    /// CARGO_HOME, whose sources never change.
    cargo_home: Option<PathBuf>,
    /// What no build reads unless it names it.
    ignored: Gitignore,
    /// What counts whatever else is said.
    extra: Vec<PathBuf>,
}

/// The path without `..`, whether it exists or not.
fn plain(path: &Path) -> PathBuf {
    larder_fs::resolve(path).unwrap_or_else(|_| path.to_path_buf())
}

impl Sources {
    /// Finds the sources of a build.
    pub(crate) fn find(site: &Site<'_>, settings: &Settings) -> Result<Self> {
        let root = larder_fs::canonicalize(&site.workspace.root)?;
        let mut hidden = site.directories();
        hidden.extend(site.directories().iter().filter_map(|dir| larder_fs::canonicalize(dir).ok()));
        hidden.push(settings.store.value.clone());
        // Some keep CARGO_HOME in the workspace. Its configuration is a source, what cargo downloads is not.
        hidden.extend(site.cargo_home.iter().flat_map(|home| [home.join("registry"), home.join("git")]));
        let lines = rules::IGNORED.iter().copied().chain(settings.ignore.value.iter().map(String::as_str));
        let extra: Vec<PathBuf> = settings.inputs.value.iter().map(|path| plain(&root.join(path))).collect();
        let mut sources = Self {
            ignored: rules::patterns(&root, lines),
            trees: Vec::new(),
            domain: Vec::new(),
            packages: BTreeMap::new(),
            listed: Vec::new(),
            hidden,
            foreign: Vec::new(),
            unlisted: Vec::new(),
            missing: Vec::new(),
            cargo_home: site.cargo_home.map(Path::to_path_buf),
            extra,
            root,
        };
        let mut open = vec![sources.root.clone()];
        open.extend(configured_paths(site.config));
        let mut seen = BTreeSet::new();
        while let Some(dir) = open.pop() {
            if seen.insert(dir.clone()) {
                sources.add(&dir, &mut open)?;
            }
        }
        for path in sources.extra.clone() {
            sources.add_input(&path)?;
        }
        sources.domain = sources.trees.clone();
        let repositories = sources.trees.iter().filter_map(|tree| rules::repository_of(tree));
        sources.domain.extend(repositories.map(Path::to_path_buf).collect::<Vec<_>>());
        // Sources are shared between neighbours without a manifest or a repository of their own, too.
        let neighbourhood = sources.root.parent().filter(|parent| parent.components().count() > 2);
        sources.domain.extend(neighbourhood.map(Path::to_path_buf));
        Ok(sources)
    }

    /// Adds the tree of the package in `dir`, unless it is part of one that is known.
    fn add(&mut self, dir: &Path, open: &mut Vec<PathBuf>) -> Result<()> {
        // Cargo names sources by the spelling of the path, but files have times only where they really are.
        let Ok(dir) = larder_fs::canonicalize(dir) else {
            self.missing.push(dir.to_path_buf());
            return Ok(());
        };
        let tree = match dir == self.root {
            true => dir,
            false => root_of_package(&dir, self.cargo_home.as_deref(), &host::read),
        };
        if self.trees.iter().any(|known| tree.starts_with(known)) {
            return Ok(());
        }
        for path in self.walk(&tree)? {
            if path.file_name().is_some_and(|name| name == "Cargo.toml")
                && let Some(manifest) = host::read(&path).and_then(|bytes| Manifest::parse(&path, &bytes))
            {
                if let (Some(name), Some(dir)) = (manifest.package, path.parent()) {
                    self.packages.entry(name).or_default().push(dir.to_path_buf());
                }
                open.extend(manifest.paths);
            }
        }
        self.trees.push(tree);
        Ok(())
    }

    /// Adds what the user says that builds read, ignored or not.
    fn add_input(&mut self, path: &Path) -> Result<()> {
        match larder_fs::metadata(path)?.map(|meta| meta.kind) {
            Some(Kind::Dir) => drop(self.walk(path)?),
            Some(_) => self.listed.push(Source { path: path.to_path_buf(), listed: true }),
            None => {}
        }
        Ok(())
    }

    /// Lists the sources below `tree`.
    fn walk(&mut self, tree: &Path) -> Result<Vec<PathBuf>> {
        let chooser = rules::Chooser::new(tree, &self.hidden);
        let choose =
            |dir: &Dir, relative: &std::ffi::OsStr, entries: &mut Vec<_>| chooser.choose(dir, relative, entries);
        let found = larder_fs::walk_chosen(&Dir::open(tree)?, &choose)?;
        let files = found.files.iter().map(|file| found.relative(file.dir, &file.name));
        let links = found.symlinks.iter().map(|link| found.relative(link.dir, &link.name));
        let (targets, ignored) = chooser.left_out();
        self.foreign.extend(targets);
        self.unlisted.extend(ignored);
        let paths: Vec<PathBuf> = files.chain(links).map(|relative| tree.join(relative)).collect();
        self.listed.extend(paths.iter().map(|path| Source { path: path.clone(), listed: true }));
        Ok(paths)
    }

    /// The trees, and the repositories that hold them.
    pub(crate) fn domain(&self) -> &[PathBuf] {
        &self.domain
    }

    /// The workspace, and every sibling that some manifest names by path and that is there.
    pub(crate) fn trees(&self) -> &[PathBuf] {
        &self.trees
    }

    /// The manifests of the packages in a folder.
    pub(crate) fn own_manifests(&self, root: &Path) -> impl Iterator<Item = PathBuf> {
        self.package_dirs().filter(move |dir| dir.starts_with(root)).map(|dir| dir.join("Cargo.toml"))
    }

    /// The folders of all packages.
    fn package_dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.packages.values().flatten()
    }

    /// Whether a path is where the build itself writes.
    fn is_hidden(&self, path: &Path) -> bool {
        self.hidden.iter().any(|dir| path.starts_with(dir)) || path.file_name().is_some_and(|name| name == ".git")
    }

    /// Whether larder may change the times of what is at this path.
    fn may_stamp(&self, path: &Path) -> bool {
        self.domain.iter().chain(&self.extra).any(|dir| path.starts_with(dir)) && !self.is_hidden(path)
    }

    /// Whether nothing but a unit that names the file makes it count.
    fn is_ignored(&self, path: &Path) -> bool {
        if self.extra.iter().any(|extra| path.starts_with(extra)) {
            return false;
        }
        // Patterns with a slash in front are meant for every tree, not for the workspace alone.
        let tree = self.trees.iter().find(|tree| path.starts_with(tree));
        let Some(relative) = tree.and_then(|tree| path.strip_prefix(tree).ok()) else { return false };
        self.ignored.matched_path_or_any_parents(self.root.join(relative), false).is_ignore()
    }

    /// Target directories of other builds of the same sources.
    pub(crate) fn foreign(&self) -> &[PathBuf] {
        &self.foreign
    }

    /// Siblings that are not there, for people.
    pub(crate) fn missing(&self) -> &[PathBuf] {
        &self.missing
    }
}
