//! Which files of a checkout count as sources.
//!
//! As for git and cargo: what `.gitignore` names does not, unless git knows the file all the same, nor does version control's
//! own data. Where there is no repository, the same patterns tell what a build may have made; it counts. A directory that
//! calls itself a cache (`CACHEDIR.TAG`) holds no sources: target directories are of that kind.

use crate::host;
use crate::siblings::{At, Git};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use larder_fs::{Dir, Entry};
use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Directories in which version control keeps its own data.
const VERSION_CONTROL: [&str; 5] = [".git", ".hg", ".jj", ".svn", ".sl"];

/// What cargo keeps in CARGO_HOME beside its configuration.
pub(super) const CARGOS_OWN: [&str; 9] = [
    "registry",
    "git",
    "bin",
    ".crates.toml",
    ".crates2.json",
    ".global-cache",
    ".global-cache-journal",
    ".package-cache",
    ".package-cache-mutate",
];

/// What no build reads unless it names it: a change of such a file touches nothing else. `larder.toml` adds to this
/// by `ignore`, and takes away by `inputs`.
pub(super) const IGNORED: [&str; 16] = [
    "*.md",
    "/docs/",
    "/doc/",
    ".github/",
    ".gitignore",
    ".gitattributes",
    ".git-blame-ignore-revs",
    ".editorconfig",
    ".vscode/",
    ".idea/",
    "LICENSE*",
    "COPYING*",
    "CODEOWNERS",
    "/rustfmt.toml",
    "/.rustfmt.toml",
    "/larder.toml",
];

/// Patterns in the notation of `.gitignore`.
pub(super) fn patterns<'a>(root: &Path, lines: impl IntoIterator<Item = &'a str>) -> Gitignore {
    let mut builder = GitignoreBuilder::new(root);
    for line in lines {
        if let Err(error) = builder.add_line(None, line) {
            tracing::info!("{}: the pattern {line:?}: {error}", root.display());
        }
    }
    builder.build().unwrap_or_else(|error| {
        tracing::info!("{}: {error}", root.display());
        Gitignore::empty()
    })
}

/// The repository that holds `dir`: the nearest folder with a `.git`.
pub(crate) fn repository_of(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|dir| larder_fs::exists(&dir.join(".git")))
}

/// The patterns of one directory, with those above it.
struct Level {
    own: Option<Gitignore>,
    above: Option<Arc<Level>>,
}

impl Level {
    fn ignores(&self, path: &Path, is_dir: bool) -> bool {
        let found = self.own.as_ref().map(|own| own.matched(path, is_dir));
        match found {
            Some(found) if found.is_ignore() => true,
            Some(found) if found.is_whitelist() => false,
            _ => self.above.as_ref().is_some_and(|above| above.ignores(path, is_dir)),
        }
    }
}

/// Cargo writes both at the top of every target directory.
const TARGET_MARKS: [&str; 2] = ["CACHEDIR.TAG", ".rustc_info.json"];

/// Chooses the sources of one tree, directory by directory, parents first.
pub(super) struct Chooser<'a> {
    hidden: &'a [PathBuf],
    /// Whether what is ignored is listed too.
    enters_ignored: bool,
    targets: Mutex<Vec<PathBuf>>,
    ignored: Mutex<Vec<PathBuf>>,
    levels: Mutex<HashMap<OsString, Arc<Level>>>,
    top: Arc<Level>,
}

impl<'a> Chooser<'a> {
    /// For the tree at `root`; `hidden` directories are left out wherever they are, what is ignored unless it `enters` that.
    pub(super) fn new(root: &Path, hidden: &'a [PathBuf], enters_ignored: bool) -> Self {
        let mut top = Arc::new(Level { own: None, above: None });
        if let Some(repository) = repository_of(root) {
            let above: Vec<&Path> = root.ancestors().skip(1).take_while(|dir| dir.starts_with(repository)).collect();
            let exclude = [(repository.to_path_buf(), repository.join(".git/info/exclude"))];
            let own = above.into_iter().rev().map(|dir| (dir.to_path_buf(), dir.join(".gitignore")));
            for (dir, file) in exclude.into_iter().chain(own) {
                if let Some(bytes) = host::read(&file) {
                    top = Arc::new(Level { own: Some(parse(&dir, &bytes)), above: Some(top) });
                }
            }
        }
        Self {
            hidden,
            enters_ignored,
            targets: Mutex::default(),
            ignored: Mutex::default(),
            levels: Mutex::new(HashMap::new()),
            top,
        }
    }

    /// The target directories that were met and not entered; and files and other folders that are ignored.
    pub(super) fn left_out(self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let inner = |list: Mutex<Vec<PathBuf>>| list.into_inner().expect("no thread panics while choosing");
        (inner(self.targets), inner(self.ignored))
    }

    /// Takes out of a listing what is no source.
    pub(super) fn choose(&self, dir: &Dir, relative: &OsStr, entries: &mut Vec<Entry>) {
        let is_root = relative.is_empty();
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        let [tag, info] = TARGET_MARKS;
        if !is_root && has(tag) {
            if has(info) {
                self.targets.lock().expect("no thread panics while choosing").push(dir.path().to_path_buf());
            }
            entries.clear();
            return;
        }
        // What a repository ignores is not for those that lie in it.
        let above = if !is_root && has(".git") {
            Arc::new(Level { own: None, above: None })
        } else {
            let levels = self.levels.lock().expect("no thread panics while choosing");
            let parent = Path::new(relative).parent().map(|parent| parent.as_os_str().to_owned());
            let parent = if is_root { None } else { levels.get(&parent.unwrap_or_default()).cloned() };
            parent.unwrap_or_else(|| Arc::clone(&self.top))
        };
        let own = entries.iter().any(|entry| entry.name == ".gitignore");
        let own = own.then(|| host::read(&dir.join(".gitignore"))).flatten();
        let level = match own {
            Some(bytes) => Arc::new(Level { own: Some(parse(dir.path(), &bytes)), above: Some(above) }),
            None => above,
        };
        entries.retain(|entry| {
            let path = dir.join(&entry.name);
            let is_dir = entry.is_dir == Some(true);
            if VERSION_CONTROL.iter().any(|name| entry.name == *name) || self.hidden.contains(&path) {
                return false;
            }
            let ignored = level.ignores(&path, is_dir);
            if ignored {
                // Target directories are what most projects ignore, and nobody enters them.
                if is_dir && is_target(&path) {
                    self.targets.lock().expect("no thread panics while choosing").push(path);
                    return false;
                }
                if is_dir && !self.enters_ignored {
                    let within = host::folders_in(&path).into_iter().map(|name| path.join(name));
                    let targets = within.filter(|path| is_target(path));
                    self.targets.lock().expect("no thread panics while choosing").extend(targets);
                }
                self.ignored.lock().expect("no thread panics while choosing").push(path);
            }
            !ignored || self.enters_ignored
        });
        self.levels.lock().expect("no thread panics while choosing").insert(relative.to_owned(), level);
    }
}

fn is_target(dir: &Path) -> bool {
    TARGET_MARKS.iter().all(|mark| larder_fs::exists(&dir.join(mark)))
}

/// Files at or below these paths that version control knows although its own rules ignore them; `None` where it does not
/// say.
pub(super) fn tracked(ignored: &[PathBuf]) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    let repositories: BTreeSet<&Path> = ignored.iter().filter_map(|path| repository_of(path.parent()?)).collect();
    for top in repositories {
        let words = ["ls-files", "-z", "--cached", "--ignored", "--exclude-standard"];
        let listed = Git::default().run(At::Tree(top), &words);
        let listed = listed.inspect_err(|error| tracing::info!("{}: {error}", top.display())).ok()?;
        let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let paths = names.map(|name| top.join(OsStr::from_bytes(name)));
        found.extend(paths.filter(|path| ignored.iter().any(|dir| path.starts_with(dir))));
    }
    Some(found)
}

fn parse(dir: &Path, bytes: &[u8]) -> Gitignore {
    patterns(dir, String::from_utf8_lossy(bytes).lines())
}
