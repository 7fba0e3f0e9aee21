//! From cargo's relative paths to absolute ones: which files and directories a unit was made from.
//!
//! A path in a `dep-*` file or a `rerun-if-changed` is relative to its package, and a unit's folder names the package
//! but not its place. One path package of that name: it is there. Otherwise rustc's `.d` decides, since it names the
//! same files relative to the workspace or absolutely. If that is gone too, every folder that it may be is taken: a file
//! that is watched for nothing costs little. For the same reason a `dep-*` file that cannot be read, as a newer cargo may
//! write it, stands for the whole package.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::dep_info::{Base, DepInfo, rustc_paths};
use super::fingerprint::Local;
use super::{Context, Note};
use crate::config::normalise;

/// An absolute path from a folder and bytes; an absolute path stays what it is.
pub(super) fn join(dir: &Path, path: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(path))
}

/// What one unit was made from.
#[derive(Default)]
pub(super) struct Own {
    pub(super) local: bool,
    /// Whether cargo's own list is there and cannot be read.
    pub(super) unreadable: bool,
    pub(super) paths: Vec<PathBuf>,
    pub(super) env: Vec<(String, Option<String>)>,
}

/// Finds the place of every path of one directory.
pub(super) struct Places<'c, 'n, 'o> {
    context: &'c Context<'c>,
    open: &'o dyn Fn(&[u8]) -> Option<Vec<u8>>,
    /// The compilation of a build script, for its run.
    scripts: BTreeMap<u64, Script<'n>>,
    /// Folders of CARGO_HOME that cargo passes over.
    passed_over: Vec<PathBuf>,
}

struct Script<'n> {
    local: bool,
    rustc_dep_info: Option<&'n [u8]>,
    roots: Vec<PathBuf>,
}

impl<'c, 'n, 'o> Places<'c, 'n, 'o> {
    pub(super) fn new(
        context: &'c Context<'c>,
        notes: &[Note<'n, '_>],
        open: &'o dyn Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Self {
        let passed_over =
            context.cargo_home.map(|home| ["registry", "git"].map(|dir| home.join(dir)).to_vec()).unwrap_or_default();
        let mut places = Self { context, open, scripts: BTreeMap::new(), passed_over };
        for note in notes.iter().filter(|note| note.hash != 0 && note.target.starts_with("build-script-")) {
            let info = places.dep_info(note).unwrap_or_default();
            let rel: Vec<&[u8]> = relative(&info).collect();
            let roots = if rel.is_empty() { Vec::new() } else { places.roots(note, &rel) };
            let script = Script { local: !rel.is_empty(), rustc_dep_info: note.folder.rustc_dep_info, roots };
            places.scripts.insert(note.hash, script);
        }
        places
    }

    /// What a unit was made from, besides whole packages.
    pub(super) fn inputs(&self, note: &Note<'_, '_>) -> Own {
        let (info, unreadable) = match self.dep_info(note) {
            Some(info) => (info, false),
            None => (DepInfo::default(), true),
        };
        let rel: Vec<&[u8]> = relative(&info).collect();
        let script = note.fingerprint.deps.iter().find_map(|dep| self.scripts.get(&dep.3));
        let mut own = Own { local: !rel.is_empty(), unreadable, ..Own::default() };
        if own.local {
            for root in self.roots(note, &rel) {
                rel.iter().for_each(|path| self.add(&mut own.paths, join(&root, path)));
            }
        }
        for (base, path) in &info.files {
            let dir = match base {
                Base::Package => continue,
                Base::Build => self.context.target_dir,
                Base::Workspace => self.context.workspace_root,
            };
            self.add(&mut own.paths, join(dir, path));
        }
        own.env = info.env;
        // Sources outside their own package are watched just so.
        own.local |= !own.paths.is_empty();
        for local in &note.fingerprint.local {
            let Local::RerunIfChanged { paths } = local else { continue };
            let roots = match script {
                Some(script) if script.local => script.roots.clone(),
                Some(script) => self.foreign_root(note.folder.package, script).into_iter().collect(),
                // The script itself is lost.
                None => self.named(note.folder.package).to_vec(),
            };
            for path in paths {
                if path.is_absolute() {
                    self.add(&mut own.paths, path.clone());
                } else {
                    roots.iter().for_each(|root| self.add(&mut own.paths, root.join(path)));
                }
            }
        }
        if note.target.starts_with("run-") {
            own.local = match script {
                Some(script) => script.local,
                None => !self.named(note.folder.package).is_empty(),
            };
        }
        own.paths.sort_unstable();
        own.paths.dedup();
        own
    }

    /// `None` if it names something and cannot be read.
    fn dep_info(&self, note: &Note<'_, '_>) -> Option<DepInfo> {
        match note.folder.dep_info(note.target) {
            Some(path) => DepInfo::parse(&(self.open)(path)?),
            None => Some(DepInfo::default()),
        }
    }

    fn named(&self, package: &str) -> &'c [PathBuf] {
        self.context.packages.get(package).map_or(&[], Vec::as_slice)
    }

    /// Where the package of a unit is that names these files in it.
    fn roots(&self, note: &Note<'_, '_>, rel: &[&[u8]]) -> Vec<PathBuf> {
        let named = self.named(note.folder.package);
        if let [one] = named {
            return vec![one.clone()];
        }
        let seen = note.folder.rustc_dep_info.and_then(|path| (self.open)(path)).unwrap_or_default();
        let seen: Vec<PathBuf> =
            rustc_paths(&seen).iter().map(|path| normalise(&join(self.context.workspace_root, path))).collect();
        let of = |path: &PathBuf, rel: &&[u8]| {
            let rel = Path::new(OsStr::from_bytes(rel));
            let depth = rel.components().count();
            path.ends_with(rel).then(|| path.ancestors().nth(depth).map(Path::to_owned)).flatten()
        };
        // The folder that most of them agree on: `src/lib.rs` may end the path of another package's file too.
        let mut votes: HashMap<PathBuf, usize> = HashMap::new();
        for root in rel.iter().flat_map(|rel| seen.iter().filter_map(move |path| of(path, rel))) {
            if named.is_empty() || named.contains(&root) {
                *votes.entry(root).or_default() += 1;
            }
        }
        let most = votes.values().copied().max().unwrap_or(0);
        let best: Vec<PathBuf> = votes.into_iter().filter(|(_, votes)| *votes == most).map(|(root, _)| root).collect();
        if best.is_empty() { named.to_vec() } else { best }
    }

    /// Where a package is that is not a path package: in the registry, a git checkout, or where `cargo vendor` put it,
    /// in a folder `NAME` or `NAME-VERSION`.
    fn foreign_root(&self, package: &str, script: &Script<'_>) -> Option<PathBuf> {
        let seen = rustc_paths(&(self.open)(script.rustc_dep_info?)?);
        let main = join(self.context.workspace_root, seen.first()?);
        if self.is_passed_over(&main) {
            return None;
        }
        let names = |dir: &&Path| {
            let name = dir.file_name().and_then(OsStr::to_str);
            let version = name.and_then(|name| name.strip_prefix(package));
            version.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        main.ancestors().skip(1).find(names).or_else(|| main.parent()).map(Path::to_owned)
    }

    fn is_passed_over(&self, path: &Path) -> bool {
        self.passed_over.iter().any(|dir| path.starts_with(dir))
    }

    fn add(&self, paths: &mut Vec<PathBuf>, path: PathBuf) {
        // `words/` and `./words` are the same as `words`; `..` is not, behind a link.
        let path: PathBuf = path.components().collect();
        if self.is_passed_over(&path) || path.starts_with(self.context.target_dir) {
            return;
        }
        if path.components().any(|part| part == Component::ParentDir) {
            let plain = normalise(&path);
            if !self.is_passed_over(&plain) && !plain.starts_with(self.context.target_dir) {
                paths.push(plain);
            }
        }
        paths.push(path);
    }
}

fn relative(info: &DepInfo) -> impl Iterator<Item = &[u8]> {
    info.files.iter().filter(|(base, _)| *base == Base::Package).map(|(_, path)| path.as_slice())
}
