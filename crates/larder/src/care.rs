//! Folders of other programs that the host's configuration puts under the guard's care, each with an age: what was not
//! touched for so long is deleted.
//!
//! Never by default, never the store nor a folder that it lies in, never what a workspace lies in. Links are not followed,
//! and what has another file system mounted in it stays.

use crate::amount::Span;
use crate::request::UsageError;
use crate::talk::Talk;
use anyhow::Result;
use larder_fs::{Dir, Kind, Meta, Timestamp, Usage};
use larder_store::Events;
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One folder, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Care {
    pub(crate) path: PathBuf,
    /// What is in it and was not touched for so long is deleted.
    pub(crate) max_age: Span,
}

impl fmt::Display for Care {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.max_age)
    }
}

/// One folder that may be cleaned.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    age: Duration,
    /// What in it stays, whatever its age.
    kept: Vec<PathBuf>,
}

/// Checks the configured folders; those that are not there are passed over.
pub(crate) fn resolve(care: &[Care], store: &Path, workspaces: &[PathBuf]) -> Result<Vec<Folder>> {
    let mut folders = Vec::new();
    let store = larder_fs::resolve_fully(store)?;
    for one in care {
        let refuse = |why: &str| UsageError(format!("care: {}: {why}", one.path.display()));
        if !one.path.is_absolute() {
            return Err(refuse("expected an absolute path").into());
        }
        let Some(age) = one.max_age.0 else { continue };
        match larder_fs::metadata(&one.path)?.map(|meta| meta.kind) {
            None => continue,
            Some(Kind::Dir) => {}
            Some(_) => return Err(refuse("it is no directory; links are not followed").into()),
        }
        let path = larder_fs::canonicalize(&one.path)?;
        if path.parent().is_none() || store.starts_with(&path) || path.starts_with(&store) {
            return Err(refuse("it is no folder to clean up: it holds the store or lies in it").into());
        }
        let kept = workspaces.iter().map(|dir| larder_fs::canonicalize(dir)).collect::<larder_fs::Result<_>>()?;
        folders.push(Folder { path, age, kept });
    }
    Ok(folders)
}

/// Deletes what is old enough in these folders; what that was, and what it took. What cannot be deleted is told of.
pub(crate) fn clean(folders: &[Folder], dry_run: bool, talk: &Talk) -> Vec<Usage> {
    let now = Timestamp::now();
    let mut gone = Vec::new();
    for folder in folders {
        let mut look = || -> larder_fs::Result<()> {
            let dir = Dir::open(&folder.path)?;
            let device = dir.stat_self()?.dev;
            let mut entries = dir.entries()?;
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            for entry in entries {
                let path = dir.join(&entry.name);
                let Some(meta) = dir.stat_optional(&entry.name)? else { continue };
                if folder.kept.iter().any(|kept| kept.starts_with(&path)) {
                    continue;
                }
                let Some(found) = examine(&dir, &entry.name, &meta, device)? else { continue };
                let quiet = now.as_nanos().saturating_sub(found.touched.as_nanos());
                if quiet < i64::try_from(folder.age.as_nanos()).unwrap_or(i64::MAX) {
                    continue;
                }
                if !dry_run {
                    dir.remove_all(&entry.name)?;
                }
                gone.push(Usage { path, bytes: found.bytes, files: found.files });
            }
            Ok(())
        };
        if let Err(error) = look() {
            talk.warn(&format!(
                "not all of {} was cleaned up: {:#}",
                folder.path.display(),
                anyhow::Error::from(error)
            ));
        }
    }
    gone
}

struct Found {
    /// The last time that anything in it changed; what was unpacked lately is new, whatever its times say.
    touched: Timestamp,
    bytes: u64,
    files: u64,
}

/// `None` where another file system is mounted in it.
fn examine(dir: &Dir, name: &std::ffi::OsStr, meta: &Meta, device: u64) -> larder_fs::Result<Option<Found>> {
    let mut found = Found { touched: meta.mtime.max(meta.ctime), bytes: meta.blocks.saturating_mul(512), files: 1 };
    if meta.dev != device {
        return Ok(None);
    }
    if meta.kind == Kind::Dir {
        let tree = larder_fs::walk(&dir.open_beneath(name)?)?;
        let dirs = tree.dirs.iter().skip(1).map(|dir| &dir.meta);
        let files = tree.files.iter().map(|file| &file.meta);
        for meta in dirs.chain(files).chain(tree.symlinks.iter().map(|link| &link.meta)) {
            if meta.dev != device {
                return Ok(None);
            }
            found.touched = found.touched.max(meta.mtime).max(meta.ctime);
            found.bytes = found.bytes.saturating_add(meta.blocks.saturating_mul(512));
            found.files += 1;
        }
    }
    Ok(Some(found))
}
