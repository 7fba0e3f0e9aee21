//! What an error means to whoever waits for a command: wrong usage, or a fault that the cache can do without.
//!
//! A bad argument is told and nothing is done. Bad content of a store is no reason for that: `run` and `restore`
//! warn and go on without. The same path is an argument where somebody typed it, and the state of a machine where
//! the environment or a file named it, or nobody: what made it no store may have happened after it was written down.

use crate::request::UsageError;
use crate::settings::{Setting, Source};
use crate::talk::Talk;
use anyhow::Result;
use larder_store::{Error, Store};
use std::fmt;
use std::path::{Path, PathBuf};

/// A path that can be no store, and that nobody typed.
#[derive(Debug)]
struct NamedElsewhere {
    error: Error,
    source: Source,
}

impl fmt::Display for NamedElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => write!(f, "{}", self.error),
            source => write!(f, "{} (named by {source})", self.error),
        }
    }
}

impl std::error::Error for NamedElsewhere {}

/// A directory that was a store, and that the store's own rules no longer take for one.
#[derive(Debug)]
struct LostFormat {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for LostFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason } = self;
        let path = path.display();
        write!(f, "the store {path} is damaged: {reason}; `larder verify --repair` mends it, or name another store")
    }
}

impl std::error::Error for LostFormat {}

/// Opens the store, and makes it where there is none.
pub(crate) fn open(path: &Path, talk: &Talk) -> Result<Store> {
    Store::open(path, talk).map_err(judged)
}

/// The same for what is part of a job: only a path that was typed is a wrong argument.
pub(crate) fn open_for_job(store: &Setting<PathBuf>, talk: &Talk) -> Result<Store> {
    open(&store.value, talk).map_err(|error| match error.downcast::<Error>() {
        Ok(error) if error.is_usage() && store.source != Source::CommandLine => {
            NamedElsewhere { error, source: store.source.clone() }.into()
        }
        Ok(error) => error.into(),
        Err(error) => error,
    })
}

/// Opens the store if there is one.
pub(crate) fn open_existing(path: &Path, talk: &Talk) -> Result<Option<Store>> {
    Store::open_existing(path, talk).map_err(judged)
}

/// Tells a store that is damaged from a path that was never one.
fn judged(error: Error) -> anyhow::Error {
    match error {
        // Nobody else's directory has both of these.
        Error::NotAStore { path, reason }
            if ["snapshots", "blobs"].iter().all(|r| larder_fs::exists(&path.join(r))) =>
        {
            LostFormat { path, reason }.into()
        }
        other => other.into(),
    }
}

/// Whether the user asked for what can never work.
pub(crate) fn is_usage(error: &anyhow::Error) -> bool {
    // Not of its causes: what stopped a restore half way is no argument.
    error.is::<UsageError>() || error.downcast_ref::<Error>().is_some_and(Error::is_usage)
}

/// Whether the store failed before anything was changed: then it is a miss.
pub(crate) fn leaves_alone(error: &anyhow::Error) -> bool {
    let passing = |error: &Error| !error.is_usage() && !matches!(error, Error::HalfRestored { .. });
    error.is::<LostFormat>() || error.is::<NamedElsewhere>() || error.downcast_ref().is_some_and(passing)
}

/// Whether a restore changed a directory before it failed.
pub(crate) fn is_half_restored(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::HalfRestored { .. }))
}
