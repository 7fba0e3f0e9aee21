//! Where a snapshot comes from: repository, branch and commit, noted in its header when it is saved.
//!
//! They are for people who ask what the store holds. They belong to no key and to no choice of what is restored: the
//! same build on another branch is the same build. Git is not run for them; what is read are its small files.

use larder_cargo::Env;
use larder_ci::system;
use larder_store::{Header, JOB};
use serde::Serialize;
use std::path::{Path, PathBuf};

const REPOSITORY: &str = "repository";
const BRANCH: &str = "branch";
const COMMIT: &str = "commit";
/// The scope of snapshots that no CI system gave a repository.
const LOCAL: &str = "local";
/// What `--kind` takes.
pub(crate) const KINDS: [&str; 3] = ["target", "cargo-home", "paths"];
/// No branch of a person is longer, and headers are to be read.
const MAX: usize = 512;

/// Where a snapshot comes from; what is not known is `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Origin {
    /// The repository, as owner and name where that is known, else its folder's name.
    pub(crate) repository: Option<String>,
    /// The job.
    pub(crate) job: Option<String>,
    /// The branch that was checked out; of a pull request its own.
    pub(crate) branch: Option<String>,
    /// The commit that was checked out.
    pub(crate) commit: Option<String>,
    /// `target` of cargo, `cargo-home`, or other `paths`.
    pub(crate) kind: String,
}

impl Origin {
    /// What a snapshot's header says.
    pub(crate) fn of(header: &Header) -> Self {
        let part = |name: &str| header.part(name).map(str::to_owned);
        let scope = Some(system::repository_of(&header.scope).to_owned()).filter(|scope| scope != LOCAL);
        let kind = match header.label.as_str() {
            label if label.starts_with("cargo-target") => KINDS[0],
            label => label,
        };
        Self {
            repository: scope.or_else(|| part(REPOSITORY)),
            job: part(JOB),
            branch: part(BRANCH),
            commit: part(COMMIT),
            kind: kind.to_owned(),
        }
    }

    /// What is known of the checkout at or above `dir`.
    pub(crate) fn find(dir: &Path, env: Env<'_>, read: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Self {
        let text = |path: &Path| read(path).and_then(|bytes| String::from_utf8(bytes).ok());
        let word = |name: &str| env(name)?.into_string().ok();
        // No event is read: who wrote the code is not asked here.
        let job = system::detect(&word, &|_| None);
        let (git, top) = match git_dir(dir, &text) {
            Some((top, git)) => (Some(git), Some(top)),
            None => (None, None),
        };
        let common = git.as_ref().map(|git| match text(&git.join("commondir")) {
            Some(path) => git.join(path.trim()),
            None => git.clone(),
        });
        let head = git.as_ref().and_then(|git| text(&git.join("HEAD"))).map(|head| head.trim().to_owned());
        let name = head.as_deref().and_then(|head| head.strip_prefix("ref: ")).map(|name| name.trim().to_owned());
        let commit = match (&name, &common) {
            (Some(name), Some(common)) => {
                text(&common.join(name)).or_else(|| packed(&text(&common.join("packed-refs"))?, name))
            }
            _ => head.clone(),
        };
        // In CI usually a commit is checked out, not a branch.
        let of_ci = || job.branch.clone();
        let branch = name.as_deref().and_then(|name| name.strip_prefix("refs/heads/")).map(str::to_owned);
        let repository = job
            .repository
            .clone()
            .or_else(|| remote(&text(&common.as_ref()?.join("config"))?))
            .or_else(|| Some(top?.file_name()?.to_str()?.to_owned()));
        let is_commit = |commit: &String| commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sane = |text: &String| text.len() <= MAX && !text.is_empty();
        Self {
            repository: repository.filter(sane),
            branch: branch.or_else(of_ci).filter(sane),
            commit: commit.map(|commit| commit.trim().to_owned()).filter(is_commit).filter(sane),
            ..Self::default()
        }
    }

    /// The header parts that say it.
    pub(crate) fn parts(self) -> Vec<(String, String)> {
        let parts = [(REPOSITORY, self.repository), (BRANCH, self.branch), (COMMIT, self.commit)];
        parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// The checkout at or above `dir`, and its git directory: a worktree has only a file that names it.
fn git_dir(dir: &Path, text: &dyn Fn(&Path) -> Option<String>) -> Option<(PathBuf, PathBuf)> {
    dir.ancestors().find_map(|top| {
        let git = top.join(".git");
        if text(&git.join("HEAD")).is_some() {
            return Some((top.to_path_buf(), git));
        }
        let named = text(&git)?;
        Some((top.to_path_buf(), top.join(named.strip_prefix("gitdir:")?.trim())))
    })
}

/// A commit from the file in which git keeps references that rarely change.
fn packed(refs: &str, name: &str) -> Option<String> {
    refs.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ').map(str::to_owned))
}

/// Owner and name from the address of `origin`. The rest of an address may hold a password and is dropped.
fn remote(config: &str) -> Option<String> {
    let mut lines = config.lines().map(str::trim).skip_while(|line| *line != "[remote \"origin\"]").skip(1);
    let url = lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "url").then(|| value.trim().to_owned())
    })?;
    system::owner_and_name(&url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::ffi::OsString;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn find(files: &[(&str, &str)], env: &[(&str, &str)]) -> Origin {
        let files: HashMap<_, _> = files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes())).collect();
        let value = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Origin::find(Path::new("/w/app/sub"), &value, &|path| files.get(path).map(|bytes| bytes.to_vec()))
    }

    fn said(origin: &Origin) -> [&str; 3] {
        [&origin.repository, &origin.branch, &origin.commit].map(|value| value.as_deref().unwrap_or("-"))
    }

    #[test]
    fn a_checkout_tells_branch_commit_and_remote() {
        let head = ("/w/app/.git/HEAD", "ref: refs/heads/topic/a\n");
        let of = |more: &[(&str, &str)]| find(&[&[head], more].concat(), &[]);
        assert_eq!(said(&of(&[])), ["app", "topic/a", "-"]);
        let loose = ("/w/app/.git/refs/heads/topic/a", &*format!("{SHA}\n"));
        assert_eq!(said(&of(&[loose])), ["app", "topic/a", SHA]);
        let refs = format!("# pack-refs\n{} refs/heads/a\n{SHA} refs/heads/topic/a\n", "f".repeat(40));
        let config = "[core]\n[remote \"other\"]\n\turl = x/y\n[remote \"origin\"]\n\turl = https://token@github.com/acme/one.git\n";
        let both = of(&[("/w/app/.git/packed-refs", &refs), ("/w/app/.git/config", config)]);
        assert_eq!(said(&both), ["acme/one", "topic/a", SHA]);
        assert_eq!(said(&find(&[], &[])), ["-", "-", "-"]);
    }

    #[test]
    fn a_worktree_has_its_head_elsewhere() {
        let files = [
            ("/w/app/.git", "gitdir: /r/.git/worktrees/app\n"),
            ("/r/.git/worktrees/app/HEAD", "ref: refs/heads/du\n"),
            ("/r/.git/worktrees/app/commondir", "../..\n"),
            ("/r/.git/worktrees/app/../../refs/heads/du", SHA),
        ];
        assert_eq!(said(&find(&files, &[])), ["app", "du", SHA]);
    }

    #[test]
    fn ci_checks_out_commits_and_names_the_branch() {
        let files = [("/w/app/.git/HEAD", SHA)];
        let push = [("GITHUB_REPOSITORY", "acme/one"), ("GITHUB_REF", "refs/heads/main"), ("GITHUB_HEAD_REF", "")];
        assert_eq!(said(&find(&files, &push)), ["acme/one", "main", SHA]);
        let pull = [("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_HEAD_REF", "topic")];
        assert_eq!(said(&find(&files, &pull)), ["app", "topic", SHA]);
        assert_eq!(said(&find(&files, &[("GITHUB_REF", "refs/tags/v1")])), ["app", "-", SHA]);
    }

    #[test]
    fn nothing_of_an_address_but_owner_and_name_is_kept() {
        let of = |url: &str| remote(&format!("[remote \"origin\"]\nurl = {url}\n")).unwrap_or_default();
        assert_eq!(of("git@github.com:acme/one.git"), "acme/one");
        assert_eq!(of("https://u:secret@host/acme/one/"), "acme/one");
        assert_eq!(of("https://u:secret@host"), "");
        assert_eq!(of("/srv/git/one"), "git/one");
        assert_eq!(remote("[remote \"origin\"]\n[core]\nurl = a/b\n"), None);
    }
}
