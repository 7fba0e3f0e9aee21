//! A sibling's folder: what stands there, whether it may be changed, and making it a certain commit.
//!
//! What larder checked out carries a mark in its `.git`. On a desk only what is clean is moved to another commit, and
//! nothing of anybody's work is ever lost; in CI the folder is made what the plan says, but for ignored files: a target
//! directory there is worth much.
//!
//! A new folder is made aside and renamed into place. What a kill leaves beside the workspace is removed by the next one.

use super::git::{At, Git, words};
use anyhow::{Context, Result, bail};
use larder_ci::address::Address;
use larder_fs::{Dir, Kind, Lock, LockKind};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The mark in `.git` of what larder checked out.
const MARK: &str = "larder";
/// What a checkout is called until it is whole.
const ASIDE: &str = ".larder-sibling-";
/// How long another larder may check out beside the same workspace.
const WAIT: Duration = Duration::from_secs(900);

/// Where siblings stand: beside one repository.
#[derive(Debug, Clone)]
pub(crate) struct Neighbourhood {
    /// The repository, with all links resolved.
    pub(crate) repository: PathBuf,
    /// The folder that it is in.
    pub(crate) parent: PathBuf,
}

/// What is to be done with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is what it should be.
    Nothing,
    /// Check it out anew.
    Create,
    /// Move what is there to the commit.
    Move,
    /// The same, and put back what was changed and take away what was added.
    Force,
}

/// What may be done with what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    /// A machine that builds, where nobody works.
    pub(crate) ci: bool,
    /// Somebody said `--exact`.
    pub(crate) exact: bool,
}

impl Neighbourhood {
    pub(crate) fn of(repository: &Path) -> Result<Self> {
        let repository = larder_fs::canonicalize(repository)?;
        let parent = repository.parent().context("the repository has no folder around it for siblings")?.to_path_buf();
        Ok(Self { repository, parent })
    }

    /// The folder of a sibling.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.parent.join(name)
    }

    /// Whether this name is the workspace's own.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.repository.file_name() == Some(OsStr::new(name))
    }

    /// Whether larder checked this folder out.
    fn is_marked(&self, name: &str) -> Result<bool> {
        let mark = self.folder(name).join(".git").join(MARK);
        Ok(larder_fs::metadata(&mark)?.is_some_and(|meta| meta.kind == Kind::File))
    }

    /// Keeps other checkouts beside the same workspace out, and sweeps what dead ones left.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let lock = Lock::existing(&self.parent, LockKind::Exclusive, WAIT)?.with_context(|| {
            format!(
                "another larder has been checking out siblings in {} for {} s",
                self.parent.display(),
                WAIT.as_secs()
            )
        })?;
        let parent = Dir::open(&self.parent)?;
        for entry in
            parent.entries()?.into_iter().filter(|entry| entry.name.as_encoded_bytes().starts_with(ASIDE.as_bytes()))
        {
            parent.remove_all(&entry.name)?;
        }
        Ok(lock)
    }

    /// Decides what is to be done for a sibling; changes nothing.
    pub(crate) fn examine(&self, git: &Git, name: &str, commit: &str, rights: Rights) -> Result<Action> {
        let folder = self.folder(name);
        let shown = folder.display();
        if self.is_own(name) {
            bail!("the sibling {name} would stand where the workspace itself is, at {shown}");
        }
        let kind = larder_fs::metadata(&folder)?.map(|meta| meta.kind);
        match kind {
            None => return Ok(Action::Create),
            Some(Kind::Dir) => {}
            Some(Kind::Symlink) => {
                bail!("{shown} is a symbolic link, and larder checks nothing out through one: remove it")
            }
            Some(_) => bail!("{shown} is no directory: move it away"),
        }
        let dot_git = larder_fs::metadata(&folder.join(".git"))?.map(|meta| meta.kind);
        let is_empty = || Dir::open(&folder).and_then(|dir| dir.entries()).is_ok_and(|entries| entries.is_empty());
        match dot_git {
            Some(Kind::Dir) => {}
            // A worktree or submodule of somebody's.
            Some(_) => bail!("{shown} is a part of another repository; larder leaves it alone: move it away"),
            None if is_empty() => return Ok(Action::Create),
            None => bail!("{shown} is there and is no git repository; larder leaves it alone: move it away"),
        }
        let is_marked = self.is_marked(name)?;
        let head = git.line(At::Tree(&folder), &["rev-parse", "--verify", "--quiet", "HEAD"]).ok();
        let status = git
            .run(At::Tree(&folder), &["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=all"]);
        let is_clean = status.as_ref().is_ok_and(Vec::is_empty);
        let is_there = head.as_deref() == Some(commit);
        if is_there && is_clean {
            return Ok(Action::Nothing);
        }
        if rights.ci || (rights.exact && is_marked) {
            return Ok(Action::Force);
        }
        if let Err(error) = status {
            bail!("{shown} cannot be examined ({error}): move it away");
        }
        if !is_clean {
            let advice = if is_marked { ", or say --exact to throw them away" } else { "" };
            bail!("{shown} has changes that are in no commit; larder leaves it alone: commit or stash them{advice}");
        }
        // A commit that no branch has would be lost from sight.
        let is_on_branch = git.run(At::Tree(&folder), &["symbolic-ref", "--quiet", "HEAD"]).is_ok();
        if !is_marked && !is_on_branch {
            bail!("{shown} is on no branch; larder leaves it alone: check out a branch there first");
        }
        Ok(Action::Move)
    }

    /// Makes the folder of a sibling the commit, from the mirror that has it.
    pub(crate) fn apply(
        &self,
        git: &Git,
        name: &str,
        commit: &str,
        address: &Address,
        action: Action,
        mirror: &Path,
    ) -> Result<()> {
        let folder = self.folder(name);
        match action {
            Action::Nothing => return Ok(()),
            Action::Create => self.create(git, name, commit, address, mirror),
            Action::Move => switch(git, &folder, commit, false, mirror),
            Action::Force => switch(git, &folder, commit, true, mirror).or_else(|error| {
                // A disk or a kill may have damaged it. What larder made, it may make again.
                if !self.is_marked(name)? {
                    return Err(error);
                }
                tracing::info!("{} is made anew: {error:#}", folder.display());
                self.create(git, name, commit, address, mirror)
            }),
        }
        .with_context(|| format!("cannot check {} out at {commit}", folder.display()))?;
        let head = git.line(At::Tree(&folder), &["rev-parse", "HEAD"])?;
        if head != commit {
            bail!("{} is at {head} instead of {commit}", folder.display());
        }
        Ok(())
    }

    fn create(&self, git: &Git, name: &str, commit: &str, address: &Address, mirror: &Path) -> Result<()> {
        let parent = Dir::open(&self.parent)?;
        let aside = Aside { parent: &parent, name: OsString::from(format!("{ASIDE}{name}")) };
        parent.remove_all(&aside.name)?;
        let path = parent.join(&aside.name);
        // Links the mirror's packs where it can, and copies them where it cannot.
        let mut line = words([
            &"clone",
            &"--quiet",
            &"--origin",
            &"origin",
            &"--no-checkout",
            &"--no-tags",
            &"--template=",
            &"--",
        ]);
        line.extend([mirror.as_os_str().to_owned(), path.clone().into_os_string()]);
        git.run(At::Nowhere, &line)?;
        git.run(At::Tree(&path), &["config", "remote.origin.url", address.as_str()])?;
        git.run(At::Tree(&path), &["checkout", "--quiet", "--force", "--detach", commit, "--"])?;
        let dot_git = parent.open_beneath(&aside.name)?.open_beneath(OsStr::new(".git"))?;
        larder_fs::write_new(&dot_git, OsStr::new(MARK), &[b"checked out by larder\n"], false)?;
        let (name, old) = (OsStr::new(name), OsString::from(format!("{ASIDE}{name}-old")));
        if self.is_marked(&name.to_string_lossy())? {
            parent.rename_dir(name, &parent, &old)?;
        } else if parent.stat_optional(name)?.is_some() {
            // Empty, as it was a moment ago.
            parent.remove_dir(name)?;
        }
        parent.rename_new(&aside.name, &parent, name)?;
        Ok(parent.remove_all(&old)?)
    }
}

fn switch(git: &Git, folder: &Path, commit: &str, force: bool, mirror: &Path) -> Result<()> {
    let has = format!("{commit}^{{tree}}");
    if git.run(At::Tree(folder), &["cat-file", "-e", &has]).is_err() {
        let mut line =
            words([&"fetch", &"--quiet", &"--no-tags", &"--no-write-fetch-head", &"--no-auto-gc", &"--", &mirror]);
        line.push(format!("refs/larder/{commit}").into());
        git.run(At::Tree(folder), &line)?;
    }
    if force {
        // What a job that was killed left: nobody else is at work here.
        let lock = folder.join(".git/index.lock");
        if larder_fs::exists(&lock) {
            larder_fs::remove_tree(&lock)?;
        }
        git.run(At::Tree(folder), &["checkout", "--quiet", "--force", "--detach", commit, "--"])?;
        // Not what is ignored: the target directory.
        git.run(At::Tree(folder), &["clean", "-ffd", "--quiet"])?;
    } else {
        git.run(At::Tree(folder), &["checkout", "--quiet", "--detach", commit, "--"])?;
    }
    Ok(())
}

/// A checkout that is not whole yet; removed when it is dropped under that name.
struct Aside<'a> {
    parent: &'a Dir,
    name: OsString,
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.parent.remove_all(&self.name) {
            tracing::debug!("{error}; the next checkout removes it");
        }
    }
}
