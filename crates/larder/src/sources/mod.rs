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
//! | `kept` | what was built and not saved: sources that may have held something else meanwhile |
//! | `made` | what build scripts wrote into the checkout |
//! | `documented` | what rustdoc read, which names nothing |
//! | `verdict` | what changed, and what must be touched for it |
//! | `stamp` | at a restore: the times |

mod checkout;
mod documented;
mod kept;
mod made;
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
use larder_cargo::neighbours;
use larder_cargo::workspace::root_of_package;
use larder_fs::{Dir, Entry, Kind};
use larder_store::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the sources of a build are, as a walk found them.
pub(crate) struct Sources {
    /// The root of the workspace.
    root: PathBuf,
    /// Where the units are.
    build_dir: PathBuf,
    /// The record of what was digested is kept under this name, that of the build directory, and so says what was there when that
    /// was last restored or saved.
    record: PathBuf,
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
    /// Links whose targets were not looked at yet.
    links: Vec<PathBuf>,
    /// The target directory that holds some of the sources, if one does.
    buried: Option<PathBuf>,
    /// Folders that a manifest names and that are not there.
    missing: Vec<PathBuf>,
    /// CARGO_HOME, whose sources never change.
    cargo_home: Option<PathBuf>,
    /// What no build reads unless it names it.
    ignored: Gitignore,
    /// What counts whatever else is said.
    extra: Vec<PathBuf>,
}

/// What a walk found.
struct Walked {
    /// Files and links that count.
    paths: Vec<PathBuf>,
    links: Vec<PathBuf>,
    /// What version control ignores.
    ignored: Vec<PathBuf>,
    /// Target directories.
    targets: Vec<PathBuf>,
    /// Whether what is ignored is among the paths.
    entered: bool,
}

impl Walked {
    fn below(tree: &Path, hidden: &[PathBuf], entered: bool) -> Result<Self> {
        let chooser = rules::Chooser::new(tree, hidden, entered);
        let choose =
            |dir: &Dir, relative: &std::ffi::OsStr, entries: &mut Vec<_>| chooser.choose(dir, relative, entries);
        let found = larder_fs::walk_chosen(&Dir::open(tree)?, &choose)?;
        let files = found.files.iter().map(|file| tree.join(found.relative(file.dir, &file.name)));
        let links = found.symlinks.iter().map(|link| tree.join(found.relative(link.dir, &link.name)));
        let links: Vec<PathBuf> = links.collect();
        let paths = files.chain(links.iter().cloned()).collect();
        let (targets, ignored) = chooser.left_out();
        Ok(Self { paths, links, ignored, targets, entered })
    }
}

/// The path without `..`, whether it exists or not.
fn plain(path: &Path) -> PathBuf {
    larder_fs::resolve(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A build directory that is not in its workspace may be shared by others.
fn record_of(root: &Path, build_dir: &Path) -> PathBuf {
    match build_dir.starts_with(root) {
        true => build_dir.to_path_buf(),
        false => build_dir.join(root.strip_prefix("/").unwrap_or(root)),
    }
}

impl Sources {
    /// Finds the sources of a build.
    pub(crate) fn find(site: &Site<'_>, settings: &Settings) -> Result<Self> {
        let root = larder_fs::canonicalize(&site.workspace.root)?;
        let mut hidden = site.directories();
        hidden.extend(site.directories().iter().filter_map(|dir| larder_fs::canonicalize(dir).ok()));
        hidden.push(settings.store.value.clone());
        // Some keep CARGO_HOME in the workspace. Its configuration is a source, what cargo keeps there is not.
        hidden.extend(site.cargo_home.iter().flat_map(|home| rules::CARGOS_OWN.map(|name| home.join(name))));
        let lines = rules::IGNORED.iter().copied().chain(settings.ignore.value.iter().map(String::as_str));
        let extra: Vec<PathBuf> = settings.inputs.value.iter().map(|path| plain(&root.join(path))).collect();
        let build_dir = site.directories().last().map_or_else(|| root.clone(), |dir| plain(dir));
        let mut sources = Self {
            ignored: rules::patterns(&root, lines),
            trees: Vec::new(),
            domain: Vec::new(),
            packages: BTreeMap::new(),
            listed: Vec::new(),
            hidden,
            foreign: Vec::new(),
            unlisted: Vec::new(),
            links: Vec::new(),
            buried: None,
            missing: Vec::new(),
            cargo_home: site.cargo_home.map(Path::to_path_buf),
            extra,
            record: record_of(&root, &build_dir),
            build_dir,
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
        sources.follow_links()?;
        let dirs = site.directories();
        let dirs = dirs.iter().map(|dir| larder_fs::canonicalize(dir).unwrap_or_else(|_| plain(dir)));
        sources.buried = dirs.into_iter().find(|dir| sources.is_buried_in(dir));
        Ok(sources)
    }

    /// Adds the tree of the package in `dir`, unless it is part of one that is known.
    fn add(&mut self, dir: &Path, open: &mut Vec<PathBuf>) -> Result<()> {
        // Cargo names sources by the spelling of the path, but files have times only where they really are.
        let Ok(dir) = larder_fs::canonicalize(dir) else {
            self.missing.push(dir.to_path_buf());
            return Ok(());
        };
        if self.covers(&dir) {
            return Ok(());
        }
        let tree = match dir == self.root {
            true => dir.clone(),
            false => root_of_package(&dir, self.cargo_home.as_deref(), &host::read),
        };
        // A member may be outside of its workspace, and a dependency in a folder that version control ignores.
        let tree = if dir.starts_with(&tree) && !self.covers(&tree) { tree } else { dir };
        for path in self.walk(&tree)? {
            if path.file_name().is_some_and(|name| name == "Cargo.toml")
                && let Some(manifest) = host::read(&path).and_then(|bytes| Manifest::parse(&path, &bytes))
            {
                if let (Some(name), Some(dir)) = (manifest.package, path.parent()) {
                    self.packages.entry(name).or_default().push(dir.to_path_buf());
                }
                open.extend(manifest.paths);
                if tree == self.root {
                    let dir = path.parent().unwrap_or(&tree);
                    let of = |pattern: &String| neighbours::expand(dir, pattern, &host::folders_in);
                    let members = manifest.members.iter().flat_map(of);
                    open.extend(members.filter(|dir| larder_fs::exists(&dir.join("Cargo.toml"))));
                }
            }
        }
        self.trees.push(tree);
        Ok(())
    }

    /// Whether what is at this path was listed if it is a source at all.
    fn covers(&self, path: &Path) -> bool {
        self.trees.iter().any(|known| path.starts_with(known)) && !self.unlisted.iter().any(|out| path.starts_with(out))
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
        let mut walked = Walked::below(tree, &self.hidden, rules::repository_of(tree).is_none())?;
        if !walked.ignored.is_empty() && !walked.entered {
            match rules::tracked(&walked.ignored) {
                Some(tracked) => walked.paths.extend(tracked.into_iter().filter(|path| larder_fs::exists(path))),
                None => walked = Walked::below(tree, &self.hidden, true)?,
            }
        }
        let Walked { paths, links, ignored, targets, entered } = walked;
        let made = |path: &Path| entered && ignored.iter().any(|out| path.starts_with(out));
        self.listed.extend(paths.iter().map(|path| Source { path: path.clone(), listed: !made(path) }));
        self.links.extend(links);
        self.foreign.extend(targets);
        self.unlisted.extend(ignored);
        Ok(paths)
    }

    /// Adds what links lead to, outside of all trees: files wherever they are, folders in the neighbourhood.
    fn follow_links(&mut self) -> Result<()> {
        let mut known = BTreeSet::new();
        while let Some(link) = self.links.pop() {
            let Ok(real) = larder_fs::canonicalize(&link) else { continue };
            if self.trees.iter().any(|tree| real.starts_with(tree))
                || self.is_hidden(&real)
                || !known.insert(real.clone())
            {
                continue;
            }
            match larder_fs::metadata(&real)?.map(|meta| meta.kind) {
                Some(Kind::File) => self.listed.push(Source { path: real, listed: true }),
                Some(Kind::Dir) if self.domain.iter().any(|dir| real.starts_with(dir) && real != *dir) => {
                    drop(self.walk(&real)?);
                }
                _ => {}
            }
        }
        Ok(())
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

    /// Whether a target directory holds sources.
    fn is_buried_in(&self, dir: &Path) -> bool {
        let is_source = |entry: &Entry| {
            let name = Path::new(&entry.name);
            entry.name == "Cargo.toml" || name.extension().is_some_and(|extension| extension == "rs")
        };
        let entries = || Dir::open_optional(dir).ok().flatten().and_then(|dir| dir.entries().ok());
        self.trees.iter().any(|tree| tree.starts_with(dir)) || entries().is_some_and(|all| all.iter().any(is_source))
    }

    /// Why nothing may be restored to the target directory, or saved from it: a snapshot would hold sources.
    pub(crate) fn buried(&self) -> Option<String> {
        let dir = self.buried.as_ref()?.display();
        Some(format!(
            "the target directory {dir} holds sources, which a restore would overwrite; give it a folder of its own"
        ))
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
