//! Whom the times of the sources are right for.
//!
//! Several target directories may be built from one tree: of workspaces that share a sibling, of jobs beside each other in
//! one folder. A time that goes back because one of them was built from these bytes can hide from another one that it was
//! built from others. So the store keeps a list for each tree: the target directories that its times are right for. While
//! one of somebody else is there, no time in that tree goes back; what has an old time already keeps it. To touch a
//! source is always right.

use super::Sources;
use larder_fs::{Lock, LockKind};
use larder_store::Store;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another larder may give the sources of a tree their times; it takes some milliseconds.
const WAIT: Duration = Duration::from_secs(5);

/// One build: its target directories, as bytes.
type User = Vec<Vec<u8>>;

/// The trees of a checkout, kept from other larders until this is dropped.
pub(super) struct Users<'a> {
    store: &'a Store,
    ours: User,
    trees: Vec<Tree<'a>>,
}

struct Tree<'a> {
    root: &'a Path,
    listed: BTreeSet<User>,
    /// Whether a time may go back.
    free: bool,
    _lock: Option<Lock>,
}

/// Where the units of a build are: the build directory is the last one. A target directory may be shared by several.
fn units_of(user: &User) -> &Path {
    user.last().map_or(Path::new(""), |dir| Path::new(std::ffi::OsStr::from_bytes(dir)))
}

fn exists(user: &User) -> bool {
    larder_fs::exists(units_of(user))
}

fn question(root: &Path) -> String {
    format!("the target directories that the times of the sources in {root:?} are right for")
}

impl<'a> Users<'a> {
    pub(super) fn of(store: &'a Store, sources: &'a Sources, dirs: &[PathBuf]) -> Self {
        let ours: User = dirs.iter().map(|dir| dir.as_os_str().as_bytes().to_vec()).collect();
        // Everybody in the same order, so that nobody waits for one who waits for him.
        let roots: BTreeSet<&Path> = sources.domain().iter().map(PathBuf::as_path).collect();
        let trees = roots.into_iter().map(|root| {
            let lock = Lock::existing(root, LockKind::Exclusive, WAIT).ok().flatten();
            let listed = Store::recall(store.path(), &question(root));
            let listed: BTreeSet<User> = listed.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
            let other = listed.iter().find(|user| units_of(user) != units_of(&ours) && exists(user));
            if let Some(dir) = other.map(units_of) {
                tracing::info!("no time in {} goes back: {} is built from it too", root.display(), dir.display());
            }
            Tree { root, free: lock.is_some() && other.is_none(), listed, _lock: lock }
        });
        Self { store, trees: trees.collect(), ours }
    }

    /// The tree of a path: the innermost one.
    fn tree(&self, path: &Path) -> Option<&Tree<'a>> {
        // What is below another comes after it.
        self.trees.iter().rev().find(|tree| path.starts_with(tree.root))
    }

    /// Whether the time of a source may go back.
    pub(super) fn may_go_back(&self, path: &Path) -> bool {
        self.tree(path).is_none_or(|tree| tree.free)
    }

    /// Notes that the times are right for ours as well.
    pub(super) fn join(self) {
        for tree in &self.trees {
            let mut listed: BTreeSet<User> = tree.listed.iter().filter(|user| exists(user)).cloned().collect();
            listed.insert(self.ours.clone());
            if listed == tree.listed {
                continue;
            }
            let bytes = postcard::to_stdvec(&listed).expect("lists of bytes always have a form");
            if let Err(error) = self.store.note(&question(tree.root), &bytes) {
                tracing::info!("nobody will know whom the times in {} are right for: {error}", tree.root.display());
            }
        }
    }
}
