//! Sibling repositories: which a workspace needs, which commit of each, and checking exactly those out.
//!
//! | module | its one idea |
//! |---|---|
//! | `git` | the program: no questions, no secrets shown |
//! | `mirror` | from an address to a commit in the store's mirror |
//! | `checkout` | what stands in a sibling's folder, and what may be done with it |
//! | `setup` | deciding: find the siblings, resolve each, again until no manifest names another one |
//! | `follow` | obeying: a plan that another job made |

mod checkout;
mod follow;
mod git;
mod mirror;
mod setup;

pub(crate) use follow::{follow, given};
pub(crate) use git::{At, Git};
pub(crate) use mirror::short;
pub(crate) use setup::{Asked, Found, setup};

use crate::faults;
use crate::host;
use crate::talk::Talk;
use anyhow::Result;
use larder_fs::Dir;
use larder_store::{Events, Store};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The store that holds the mirrors: the user's, or a passing one where that cannot be used. A broken cache is no reason
/// to build without siblings.
struct Mirrors {
    store: Store,
    passing: Option<PathBuf>,
}

impl Mirrors {
    fn open(path: &Path, talk: &Talk) -> Result<Self> {
        let why = match faults::open(path, talk) {
            Ok(store) if !store.is_read_only() => return Ok(Self { store, passing: None }),
            Ok(_) => "it is read-only".to_owned(),
            Err(error) if faults::is_usage(&error) => return Err(error),
            Err(error) => format!("{error:#}"),
        };
        talk.warn(&format!("no mirrors are kept in the store: {why}; siblings are fetched anew"));
        let temp = larder_fs::canonicalize(&std::env::temp_dir())?;
        let name = format!("larder-mirrors-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Dir::open(&temp)?.create_dir(OsStr::new(&name))?;
        Dir::open(&temp)?.set_mode(OsStr::new(&name), 0o700)?;
        let passing = temp.join(name);
        Ok(Self { store: Store::open(&passing, talk)?, passing: Some(passing) })
    }
}

impl Drop for Mirrors {
    fn drop(&mut self) {
        if let Some(path) = &self.passing
            && let Err(error) = larder_fs::remove_tree(path)
        {
            tracing::debug!("{error}");
        }
    }
}

/// Whether a CI system runs this: then nobody works in the folders beside the workspace.
fn is_ci() -> bool {
    crate::settings::is_ci(&host::env)
}

/// Does something for each in a thread of its own, and gives the results in order.
fn each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a panic has been told of")).collect()
    })
}
