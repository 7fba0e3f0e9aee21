//! Deciding what a run builds: the siblings of a workspace, each at one commit.
//!
//! Which siblings there are is only known from manifests, and those of a sibling only once it is there. So what is named
//! is resolved and checked out, and its manifests are read in turn, until they name nobody new.

use super::checkout::{Neighbourhood, Rights};
use super::git::{At, Git};
use super::mirror::{Remote, Resolved, Silent, Wanted};
use super::{Mirrors, each, is_ci, short};
use crate::cargo::cargo_home;
use crate::host;
use crate::origin::Origin;
use crate::request::{UsageError, scope};
use crate::settings::{Settings, Sibling};
use crate::sources::repository_of;
use crate::talk::Talk;
use anyhow::{Context, Result, bail};
use larder_cargo::config::Config;
use larder_cargo::neighbours::{self, Doors};
use larder_ci::address::{Address, Credentials};
use larder_ci::plan::is_sibling_name;
use larder_ci::reference::{Branches, is_branch, is_commit};
use larder_store::Events;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::time::{Duration, Instant};

/// What was asked for on the command line.
pub(crate) struct Asked<'a> {
    /// `NAME=URL`, `NAME=URL#REF` or `NAME=#REF`.
    pub(crate) siblings: &'a [String],
    /// The branch to take where siblings have it.
    pub(crate) branch: Option<&'a str>,
    /// Whether no remote may be asked.
    pub(crate) offline: bool,
    /// Whether larder's own checkouts may lose their changes.
    pub(crate) exact: bool,
}

/// A sibling, resolved and checked out.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) resolved: Resolved,
    pub(crate) took: Duration,
}

/// What is configured for one sibling.
#[derive(Default, Clone)]
struct Named {
    url: Option<String>,
    /// A branch, tag or commit of the command line.
    reference: Option<String>,
    /// A branch to fall back to.
    branch: Option<String>,
}

/// Finds, resolves and checks out all siblings of the workspace in `root`, which belongs to `repository`.
pub(crate) fn setup(
    root: &Path,
    config: &Config,
    asked: &Asked<'_>,
    settings: &Settings,
    talk: &Talk,
) -> Result<Vec<Found>> {
    let named = named(asked, settings)?;
    let here = Neighbourhood::of(repository_of(root).unwrap_or(root))?;
    let root = larder_fs::canonicalize(root)?;
    let git = Git::of(&here.repository);
    let origin = own_address(&here, &git);
    let mirrors = Mirrors::open(&settings.store.value, talk)?;
    let job = Job {
        rights: Rights { ci: is_ci(), exact: asked.exact || settings.exact.value },
        branches: branches(asked, &here),
        default_branch: settings.default_branch.value.clone(),
        scope: scope(),
        offline: asked.offline,
        here,
        git,
        origin,
        mirrors,
        silent: Silent::default(),
        talk,
    };
    let _lock = job.here.lock()?;
    let home = cargo_home(&root);
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut odd = BTreeSet::new();
    loop {
        let doors = Doors { read: &host::read, list: &host::folders_in };
        let outside = neighbours::outside(&root, &job.here.repository, config, home.as_deref(), doors);
        let mut new = BTreeSet::new();
        for folder in outside {
            match sibling_name(&job.here, &folder) {
                Some(name) if found.contains_key(&name) => {}
                Some(name) => drop(new.insert(name)),
                None if odd.insert(folder.clone()) => talk.warn(&format!(
                    "{} is needed and does not stand beside the repository, as ../NAME; setup leaves it alone",
                    folder.display()
                )),
                None => {}
            }
        }
        if new.is_empty() {
            break;
        }
        let new: Vec<String> = new.into_iter().collect();
        let none = Named::default();
        let results = each(&new, |name| job.settle(name, named.get(name).unwrap_or(&none)));
        for one in results {
            let one = one?;
            found.insert(one.name.clone(), one);
        }
    }
    for name in named
        .iter()
        .filter(|(name, named)| named.reference.is_some() && !found.contains_key(*name))
        .map(|(name, _)| name)
    {
        talk.warn(&format!("--sibling: no manifest names ../{name}"));
    }
    Ok(found.into_values().collect())
}

/// What all siblings of one setup share.
struct Job<'a> {
    here: Neighbourhood,
    git: Git,
    /// Where the workspace itself comes from.
    origin: Option<(Address, Option<Credentials>)>,
    mirrors: Mirrors,
    scope: String,
    branches: Branches,
    default_branch: Option<String>,
    rights: Rights,
    offline: bool,
    /// Servers that did not answer.
    silent: Silent,
    talk: &'a Talk,
}

impl Job<'_> {
    /// Resolves one sibling and checks it out.
    fn settle(&self, name: &str, named: &Named) -> Result<Found> {
        let start = Instant::now();
        let (address, credentials) = self.address(name, named)?;
        let git = credentials.map_or_else(|| self.git.clone(), |credentials| self.git.with(&credentials));
        let candidates = self.branches.candidates(named.branch.as_deref().or(self.default_branch.as_deref()));
        let wanted = Wanted { asked: named.reference.as_deref(), candidates: &candidates };
        let remote = Remote {
            store: &self.mirrors.store,
            scope: &self.scope,
            name,
            address: &address,
            git: &git,
            silent: &self.silent,
            offline: self.offline,
        };
        let mut resolved = remote.resolve(&wanted, self.talk)?;
        tracing::info!(
            "sibling {name}: {} at {} ({}), from the {}",
            resolved.branch.as_deref().unwrap_or("commit"),
            short(&resolved.commit),
            resolved.reason.name(),
            resolved.source.name()
        );
        let action = self.here.examine(&git, name, &resolved.commit, self.rights)?;
        let apply = |mirror: &Path| self.here.apply(&git, name, &resolved.commit, &address, action, mirror);
        let ((), fetched) = remote.provide(&resolved.commit, resolved.branch.as_deref(), apply)?;
        resolved.fetched |= fetched;
        if larder_fs::exists(&self.here.folder(name).join(".gitmodules")) {
            self.talk.warn(&format!("the sibling {name} has submodules; larder does not check those out"));
        }
        Ok(Found { name: name.to_owned(), address, resolved, took: start.elapsed() })
    }

    /// Where a sibling comes from: as configured, else from where the workspace does.
    fn address(&self, name: &str, named: &Named) -> Result<(Address, Option<Credentials>)> {
        if let Some(url) = &named.url {
            let refuse = |why: &dyn std::fmt::Display| UsageError(format!("the address of the sibling {name}: {why}"));
            if url.starts_with("./") || url.starts_with("../") {
                let (origin, credentials) =
                    self.origin.as_ref().ok_or_else(|| refuse(&"it is relative, and the workspace has no remote"))?;
                return Ok((origin.join(url).map_err(|error| refuse(&error))?, credentials.clone()));
            }
            return Ok(Address::clean(url).map_err(|error| refuse(&error))?);
        }
        let Some((origin, credentials)) = &self.origin else {
            bail!(
                "nothing says where the sibling {name} comes from: the workspace has no remote `origin`; name it in \
                 larder.toml ([siblings.{name}] url = \"…\") or with --sibling {name}=URL"
            );
        };
        let beside = origin.beside(name).with_context(|| format!("{origin} has no neighbours"))?;
        // Of a folder only one spelling is there.
        let is_there = |address: &Address| address.local_path().is_none_or(|path| larder_fs::exists(Path::new(path)));
        let address = match beside.other_spelling() {
            Some(other) if !is_there(&beside) && is_there(&other) => other,
            _ => beside,
        };
        Ok((address, credentials.clone()))
    }
}

/// The name of the sibling that a folder belongs to; `None` where it stands elsewhere.
fn sibling_name(here: &Neighbourhood, folder: &Path) -> Option<String> {
    let mut below = folder.strip_prefix(&here.parent).ok()?.components();
    let Some(Component::Normal(first)) = below.next() else { return None };
    first.to_str().filter(|name| is_sibling_name(name)).map(str::to_owned)
}

/// What the command line and the configuration say of siblings.
fn named(asked: &Asked<'_>, settings: &Settings) -> Result<BTreeMap<String, Named>> {
    let mut named: BTreeMap<String, Named> = BTreeMap::new();
    for (name, sibling) in &settings.siblings.value {
        if !is_sibling_name(name) {
            return Err(
                UsageError(format!("siblings.{name}: expected the name of a folder beside the repository")).into()
            );
        }
        if let Some(branch) = sibling.branch.as_ref().filter(|branch| !is_branch(branch)) {
            return Err(UsageError(format!("siblings.{name}: {branch:?} is no branch")).into());
        }
        let Sibling { url, branch } = sibling.clone();
        named.insert(name.clone(), Named { url, branch, reference: None });
    }
    for text in asked.siblings {
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        let (url, reference) = rest.rsplit_once('#').map_or((rest, None), |(url, reference)| (url, Some(reference)));
        let is_reference = |reference: &str| is_branch(reference) || is_commit(reference);
        if !is_sibling_name(name) || rest.is_empty() || !reference.is_none_or(is_reference) {
            // The address may hold a password: it is not repeated.
            return Err(UsageError("--sibling: expected NAME=URL, NAME=URL#REF or NAME=#REF".into()).into());
        }
        let one = named.entry(name.to_owned()).or_default();
        if !url.is_empty() {
            one.url = Some(url.to_owned());
        }
        one.reference = reference.map(str::to_owned);
    }
    if let Some(branch) = asked.branch.filter(|branch| !is_branch(branch)) {
        return Err(UsageError(format!("--branch: {branch:?} is no branch")).into());
    }
    Ok(named)
}

/// The branches whose namesakes are looked for.
fn branches(asked: &Asked<'_>, here: &Neighbourhood) -> Branches {
    let word = |name: &str| host::env(name)?.into_string().ok();
    let mut branches = Branches::of_ci(&word);
    if let Some(branch) = asked.branch {
        branches.head = Some(branch.to_owned());
    }
    let is_in_ci = branches.base.is_some() || host::env("GITHUB_REF").is_some();
    if branches.head.is_none() && !is_in_ci {
        branches.head = Origin::find(&here.repository, &host::env, &host::read).branch;
    }
    branches
}

/// Where the workspace's repository comes from: its remote, else what GitHub says.
fn own_address(here: &Neighbourhood, git: &Git) -> Option<(Address, Option<Credentials>)> {
    let configured = git.line(At::Tree(&here.repository), &["config", "--get", "remote.origin.url"]).ok();
    let of_remote = configured.filter(|url| !url.is_empty()).and_then(|url| {
        let is_relative = !url.contains(':') && !url.starts_with('/');
        let url = match is_relative {
            true => larder_fs::resolve(&here.repository.join(&url)).ok()?.to_str()?.to_owned(),
            false => url,
        };
        match Address::clean(&url) {
            Ok(clean) => Some(clean),
            Err(error) => {
                tracing::info!("the workspace's remote is not used: {error}");
                None
            }
        }
    });
    of_remote.or_else(|| {
        let word = |name: &str| host::env(name)?.into_string().ok().filter(|value| !value.is_empty());
        let (server, repository) = (word("GITHUB_SERVER_URL")?, word("GITHUB_REPOSITORY")?);
        Address::clean(&format!("{}/{repository}", server.trim_end_matches('/'))).ok()
    })
}

/// Credentials in the address of the workspace's own remote, where this one is on the same host.
pub(super) fn own_credentials(here: &Neighbourhood, git: &Git, address: &Address) -> Option<Credentials> {
    let (_, credentials) = own_address(here, git)?;
    credentials.filter(|credentials| {
        address.as_str().strip_prefix(&*credentials.origin).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// Credentials that the configuration has for an address, which a plan has not.
pub(super) fn credentials_of(settings: &Settings, name: &str, address: &Address) -> Option<Credentials> {
    let url = settings.siblings.value.get(name)?.url.as_ref()?;
    let (configured, credentials) = Address::clean(url).ok()?;
    credentials.filter(|_| configured == *address)
}
