//! From an address to a commit in the store's mirror: asking the remote, fetching what is new, doing without it.
//!
//! A mirror is a bare repository that knows no address. Branches stand at `refs/heads/`, as the remote had them when it
//! was last asked; `refs/larder/COMMIT` vouches for a commit that is there with all it needs, and keeps it when its branch
//! moves on. A ref is written when git has checked what it leads to, so a fetch that was killed leaves nothing that counts.

use super::git::{ASKING, At, FETCHING, Git, GitError, words};
use crate::talk::Talk;
use anyhow::{Context, Result, bail};
use larder_ci::address::Address;
use larder_ci::reference::{Reason, is_branch, is_commit};
use larder_fs::{LockKind, Timestamp};
use larder_store::{Events, Mirror, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long others may work on the same mirror. The first fetch of a large repository takes minutes.
const WAIT: Duration = Duration::from_secs(900);
/// With more packs than this a mirror is repacked after a fetch.
const MANY_PACKS: usize = 40;

/// Where a commit was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The remote said so, just now.
    Remote,
    /// Nobody asked the remote, or it did not answer.
    Mirror,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Mirror => "mirror",
        }
    }
}

/// A commit, and why this one.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) commit: String,
    /// The branch or tag; `None` where a commit was asked for.
    pub(crate) branch: Option<String>,
    pub(crate) reason: Reason,
    pub(crate) source: Source,
    /// Whether anything was fetched.
    pub(crate) fetched: bool,
}

/// What is wanted of a sibling.
pub(crate) struct Wanted<'a> {
    /// A branch, tag or commit that somebody named.
    pub(crate) asked: Option<&'a str>,
    /// Branches to look for otherwise, the best one first.
    pub(crate) candidates: &'a [(String, Reason)],
}

/// Servers that did not answer in time: nobody waits for one twice.
#[derive(Default)]
pub(crate) struct Silent(Mutex<BTreeSet<String>>);

impl Silent {
    fn servers(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A remote, and the room for its mirror.
pub(crate) struct Remote<'a> {
    pub(crate) store: &'a Store,
    pub(crate) scope: &'a str,
    pub(crate) name: &'a str,
    pub(crate) address: &'a Address,
    pub(crate) git: &'a Git,
    pub(crate) silent: &'a Silent,
    /// Whether the remote must not be asked.
    pub(crate) offline: bool,
}

/// What a repository has: branches and tags with their commits, and which branch is its own.
#[derive(Debug, Default)]
struct Listing {
    refs: BTreeMap<String, String>,
    default: Option<String>,
}

/// What a listing offers for what is wanted.
struct Choice {
    commit: String,
    branch: Option<String>,
    reason: Reason,
    /// The full name of the ref; `None` for a commit as such.
    name: Option<String>,
}

impl Listing {
    /// Reads `ls-remote --symref`.
    fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        for line in text.lines() {
            let Some((value, name)) = line.split_once('\t') else { continue };
            match value.strip_prefix("ref: ") {
                Some(target) if name == "HEAD" => {
                    listing.default =
                        target.strip_prefix("refs/heads/").filter(|name| is_branch(name)).map(str::to_owned);
                }
                None if is_commit(value) => drop(listing.refs.insert(name.to_owned(), value.to_owned())),
                _ => {}
            }
        }
        listing
    }

    fn choose(&self, wanted: &Wanted<'_>) -> Result<Choice> {
        let found = |name: String, branch: &str, reason| {
            // A tag with a message is an object of its own; behind ^{} stands the commit.
            let commit = self.refs.get(&format!("{name}^{{}}")).or_else(|| self.refs.get(&name))?;
            Some(Choice { commit: commit.clone(), branch: Some(branch.to_owned()), reason, name: Some(name) })
        };
        if let Some(asked) = wanted.asked {
            if is_commit(asked) {
                return Ok(Choice { commit: asked.to_owned(), branch: None, reason: Reason::Asked, name: None });
            }
            let named = ["refs/heads/", "refs/tags/"].into_iter();
            let choice =
                named.map(|kind| found(format!("{kind}{asked}"), asked, Reason::Asked)).find_map(|found| found);
            return choice.with_context(|| format!("there is no branch or tag {asked:?}"));
        }
        for (branch, reason) in wanted.candidates {
            if let Some(choice) = found(format!("refs/heads/{branch}"), branch, *reason) {
                return Ok(choice);
            }
        }
        if let Some(choice) =
            self.default.as_ref().and_then(|branch| found(format!("refs/heads/{branch}"), branch, Reason::Default))
        {
            return Ok(choice);
        }
        let head = self.refs.get("HEAD").cloned();
        head.map(|commit| Choice { commit, branch: None, reason: Reason::Default, name: None })
            .context("it has none of the wanted branches, and no default one")
    }
}

impl Remote<'_> {
    fn room(&self, kind: LockKind) -> Result<Mirror<'_>> {
        Ok(self.store.mirror(self.scope, self.name, self.address.as_str(), kind, WAIT)?)
    }

    /// Finds the commit that is wanted, and has it in the mirror afterwards. Where the remote cannot be reached the mirror
    /// has to do, with a warning.
    pub(crate) fn resolve(&self, wanted: &Wanted<'_>, talk: &Talk) -> Result<Resolved> {
        // Nobody waits for the mirror while a remote does not answer.
        let asked = if self.offline { None } else { Some(self.ask(wanted)) };
        let mirror = self.room(LockKind::Exclusive)?;
        let why = match asked {
            Some(Ok(listing)) => {
                let choice = listing.choose(wanted).with_context(|| format!("{} ({})", self.name, self.address))?;
                match self.bring(&mirror, &listing, wanted, choice) {
                    Ok(resolved) => return Ok(resolved),
                    Err(error) => error,
                }
            }
            Some(Err(error)) => error.into(),
            None => {
                return self.without(&mirror, wanted).with_context(|| {
                    format!(
                        "{} is not in the store's mirror as wanted, and --offline forbids asking {}",
                        self.name, self.address
                    )
                });
            }
        };
        match self.without(&mirror, wanted) {
            Ok(resolved) => {
                let age =
                    mirror.reached().map_or("of unknown age".to_owned(), |reached| format!("{} old", age(reached)));
                talk.warn(&format!(
                    "{} cannot be reached ({why:#}); its mirror is used, which is {age}: {} at {}",
                    self.address,
                    resolved.branch.as_deref().unwrap_or("commit"),
                    short(&resolved.commit),
                ));
                Ok(resolved)
            }
            Err(_) => bail!(
                "the sibling {} cannot be had: {why:#}; is {} the right address, and may this machine read it? Name another one \
                 in larder.toml ([siblings.{}] url = \"…\") or with --sibling {}=URL",
                self.name,
                self.address,
                self.name,
                self.name
            ),
        }
    }

    /// Asks the remote for the refs that matter.
    fn ask(&self, wanted: &Wanted<'_>) -> Result<Listing, GitError> {
        let mut line: Vec<String> =
            ["ls-remote", "--symref", "--", self.address.as_str(), "HEAD"].map(str::to_owned).into();
        match wanted.asked {
            Some(asked) => line.extend([
                format!("refs/heads/{asked}"),
                format!("refs/tags/{asked}"),
                format!("refs/tags/{asked}^{{}}"),
            ]),
            None => line.extend(wanted.candidates.iter().map(|(branch, _)| format!("refs/heads/{branch}"))),
        }
        // The default branch is known only afterwards, by name, and its commit by that of HEAD.
        let said = self.contact(ASKING, At::Nowhere, &line)?;
        let mut listing = Listing::parse(&String::from_utf8_lossy(&said));
        if let (Some(default), Some(head)) = (&listing.default, listing.refs.get("HEAD").cloned()) {
            listing.refs.entry(format!("refs/heads/{default}")).or_insert(head);
        }
        Ok(listing)
    }

    /// Has the chosen commit in the mirror.
    fn bring(&self, mirror: &Mirror<'_>, listing: &Listing, wanted: &Wanted<'_>, choice: Choice) -> Result<Resolved> {
        let Choice { mut commit, branch, reason, name } = choice;
        let path = mirror.path();
        let known = mirror.exists() && self.has(&path, &commit);
        if !known {
            let default = listing.default.as_ref().map(|branch| format!("refs/heads/{branch}"));
            let mut specs: Vec<String> = match &name {
                Some(name) => vec![format!("+{name}:{name}")],
                None => vec![format!("{commit}:refs/larder/{commit}")],
            };
            // What a later run falls back to.
            specs
                .extend(default.filter(|default| Some(default) != name.as_ref()).map(|name| format!("+{name}:{name}")));
            self.fetch(mirror, &specs)?;
            if let Some(name) = &name {
                // It may have moved since it was listed.
                commit = self.git.line(At::Bare(&path), &["rev-parse", "--verify", &format!("{name}^{{commit}}")])?;
                self.vouch(&path, &commit)?;
            }
        } else if let Some(name) = name.filter(|name| name.starts_with("refs/heads/")) {
            self.git.run(At::Bare(&path), &["update-ref", &name, &commit])?;
        }
        if let Some(default) = &listing.default {
            self.git.run(At::Bare(&path), &["symbolic-ref", "HEAD", &format!("refs/heads/{default}")])?;
        }
        for (candidate, _) in wanted.candidates {
            let name = format!("refs/heads/{candidate}");
            // What the remote has no more must not be found when it cannot be asked.
            if !listing.refs.contains_key(&name) {
                self.git.run(At::Bare(&path), &["update-ref", "-d", &name])?;
            }
        }
        mirror.note_reached()?;
        mirror.note_used()?;
        Ok(Resolved { commit, branch, reason, source: Source::Remote, fetched: !known })
    }

    /// Fetches into the mirror, which is made where there is none, and anew where it cannot be fetched into.
    fn fetch(&self, mirror: &Mirror<'_>, specs: &[String]) -> Result<()> {
        let mut broken = None;
        if mirror.exists() {
            match self.fetch_into(&mirror.path(), specs) {
                Ok(()) => return Ok(self.tidy(&mirror.path())?),
                Err(error) => broken = Some(error),
            }
        }
        match (self.anew(mirror, specs), broken) {
            (Ok(()), _) => Ok(()),
            // Where the remote is at fault the mirror that is there keeps its place.
            (Err(_), Some(error)) => Err(error.into()),
            (Err(error), None) => Err(error),
        }
    }

    /// Makes the mirror anew; what stood there is set aside once that is done.
    fn anew(&self, mirror: &Mirror<'_>, specs: &[String]) -> Result<()> {
        let new = mirror.anew()?;
        let shared = if mirror.is_shared()? { "--shared=group" } else { "--shared=umask" };
        self.git
            .run(At::Nowhere, &words([&"init", &"--quiet", &"--bare", &"--template=", &shared, &"--", &new.path()]))?;
        self.fetch_into(&new.path(), specs)?;
        Ok(new.publish()?)
    }

    fn fetch_into(&self, path: &Path, specs: &[String]) -> Result<(), GitError> {
        let manners = ["--quiet", "--force", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", "--"];
        let line = ["fetch"].into_iter().chain(manners).chain([self.address.as_str()]).map(str::to_owned);
        let line: Vec<String> = line.chain(specs.iter().cloned()).collect();
        self.contact(FETCHING, At::Bare(path), &line).map(drop)
    }

    /// Lets git speak to the remote.
    fn contact(&self, limit: Duration, at: At<'_>, line: &[String]) -> Result<Vec<u8>, GitError> {
        let server = self.address.server();
        if self.silent.servers().contains(server) {
            let said = format!("{server} did not answer a moment ago");
            return Err(GitError { verb: line[0].clone(), said, timed_out: true });
        }
        self.git.run_for(limit, at, line).inspect_err(|error| {
            if error.timed_out {
                self.silent.servers().insert(server.to_owned());
            }
        })
    }

    /// Keeps the number of packs small. What no ref names stays: somebody's plan may.
    fn tidy(&self, path: &Path) -> Result<(), GitError> {
        let packs = larder_fs::Dir::open(&path.join("objects/pack")).and_then(|dir| dir.entries()).unwrap_or_default();
        let packs = packs.iter().filter(|entry| entry.name.as_encoded_bytes().ends_with(b".pack")).count();
        if packs > MANY_PACKS {
            self.git.run(At::Bare(path), &["repack", "-a", "-d", "-k", "-q"])?;
            self.git.run(At::Bare(path), &["pack-refs", "--all"])?;
        }
        Ok(())
    }

    /// Whether the mirror vouches for a commit.
    fn has(&self, path: &Path, commit: &str) -> bool {
        let name = format!("refs/larder/{commit}^{{commit}}");
        self.git.run(At::Bare(path), &["rev-parse", "--verify", "--quiet", &name]).is_ok()
    }

    fn vouch(&self, path: &Path, commit: &str) -> Result<(), GitError> {
        self.git.run(At::Bare(path), &["update-ref", &format!("refs/larder/{commit}"), commit]).map(drop)
    }

    /// What the mirror alone offers.
    fn without(&self, mirror: &Mirror<'_>, wanted: &Wanted<'_>) -> Result<Resolved> {
        if !mirror.exists() {
            bail!("there is no mirror");
        }
        let path = mirror.path();
        let format = "--format=%(objectname)%09%(refname)%0a%(*objectname)%09%(refname)^{}";
        let listed = self.git.run(At::Bare(&path), &["for-each-ref", format, "refs/heads", "refs/tags"])?;
        let mut listing = Listing::parse(&String::from_utf8_lossy(&listed));
        let head = self.git.line(At::Bare(&path), &["symbolic-ref", "HEAD"]).ok();
        listing.default = head.and_then(|head| head.strip_prefix("refs/heads/").map(str::to_owned));
        let Choice { commit, branch, reason, .. } = listing.choose(wanted)?;
        if !self.has(&path, &commit) {
            // A branch that was fetched beside the chosen one.
            self.git.run(
                At::Bare(&path),
                &["rev-list", "--objects", "--quiet", &commit, "--not", "--glob=refs/larder/*"],
            )?;
            self.vouch(&path, &commit)?;
        }
        mirror.note_used()?;
        Ok(Resolved { commit, branch, reason, source: Source::Mirror, fetched: false })
    }

    /// Has exactly this commit in the mirror, and keeps it there while `then` works with the mirror. Whether anything was
    /// fetched is given back too.
    pub(crate) fn provide<T>(
        &self,
        commit: &str,
        branch: Option<&str>,
        then: impl Fn(&Path) -> Result<T>,
    ) -> Result<(T, bool)> {
        let mut damaged = None;
        {
            let mirror = self.room(LockKind::Shared)?;
            if mirror.exists() && self.has(&mirror.path(), commit) {
                mirror.note_used()?;
                match then(&mirror.path()) {
                    Ok(done) => return Ok((done, false)),
                    Err(error) => damaged = Some(error),
                }
            }
        }
        let mirror = self.room(LockKind::Exclusive)?;
        if let Some(error) = damaged {
            // What is in it may be damaged. A new one tells.
            return match self.offline || self.anew(&mirror, &whole(commit, branch)).is_err() {
                true => Err(error),
                false => Ok((then(&mirror.path())?, true)),
            };
        }
        let known = mirror.exists() && self.has(&mirror.path(), commit);
        if !known {
            self.fetch_commit(&mirror, commit, branch).with_context(|| {
                format!(
                    "the sibling {} cannot be had at the planned commit {}: the store's mirror does not have it",
                    self.name,
                    short(commit)
                )
            })?;
            mirror.note_reached()?;
        }
        mirror.note_used()?;
        Ok((then(&mirror.path())?, !known))
    }

    fn fetch_commit(&self, mirror: &Mirror<'_>, commit: &str, branch: Option<&str>) -> Result<()> {
        if self.offline {
            bail!("the remote must not be asked");
        }
        let Err(error) = self.fetch(mirror, &[format!("{commit}:refs/larder/{commit}")]) else { return Ok(()) };
        // Some servers give what a branch or tag names and nothing else.
        let Some(branch) = branch else { return Err(error) };
        let kinds = ["refs/heads/", "refs/tags/"];
        let fetched = kinds.iter().any(|kind| self.fetch(mirror, &[format!("+{kind}{branch}:{kind}{branch}")]).is_ok());
        if !fetched {
            return Err(error);
        }
        let path = mirror.path();
        let contains = format!("--contains={commit}");
        match self.git.line(At::Bare(&path), &["for-each-ref", "--count=1", &contains, "refs/heads", "refs/tags"]) {
            Ok(found) if !found.is_empty() => Ok(self.vouch(&path, commit)?),
            _ => bail!("{} does not have it any more on {branch}", self.address),
        }
    }
}

/// What to fetch so that a new mirror vouches for the commit.
fn whole(commit: &str, branch: Option<&str>) -> Vec<String> {
    let branch = branch.map(|branch| format!("+refs/heads/{branch}:refs/heads/{branch}"));
    [format!("{commit}:refs/larder/{commit}")].into_iter().chain(branch).collect()
}

/// How long ago, roughly.
fn age(then: Timestamp) -> String {
    let seconds = Timestamp::now().as_nanos().saturating_sub(then.as_nanos()) / 1_000_000_000;
    match seconds {
        ..=119 => format!("{} s", seconds.max(0)),
        120..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A commit as people write it.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
