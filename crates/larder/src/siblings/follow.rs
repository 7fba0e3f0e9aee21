//! Following a plan: every sibling at exactly the commit that the setup job chose.
//!
//! This is no cache. A sibling at another commit would be another build, so where one cannot be had the command fails.

use super::checkout::{Action, Neighbourhood, Rights};
use super::git::Git;
use super::mirror::{Remote, Silent};
use super::setup::{credentials_of, own_credentials};
use super::{Mirrors, each, is_ci, short};
use crate::host;
use crate::origin::Origin;
use crate::request::{UsageError, scope};
use crate::settings::Settings;
use crate::sources::repository_of;
use crate::talk::Talk;
use anyhow::{Context, Result};
use larder_ci::address::Address;
use larder_ci::plan::{Plan, Sibling};
use larder_store::Events;
use std::path::Path;
use std::time::Instant;

/// The plan that was given: on the command line, else by `LARDER_PLAN`. An empty one is none.
pub(crate) fn given(typed: Option<&str>) -> Result<Option<Plan>> {
    let variable = || host::env("LARDER_PLAN").map(|value| value.to_string_lossy().into_owned());
    let (word, from) = match typed {
        Some(word) => (word.to_owned(), "--plan"),
        None => (variable().unwrap_or_default(), "LARDER_PLAN"),
    };
    match word.trim().is_empty() {
        true => Ok(None),
        false => Ok(Some(Plan::decode(&word).map_err(|error| UsageError(format!("{from}: {error}")))?)),
    }
}

/// Checks out the plan's siblings beside the repository of `dir`.
pub(crate) fn follow(plan: &Plan, dir: &Path, settings: &Settings, dry_run: bool, talk: &Talk) -> Result<()> {
    let repository = repository_of(dir).unwrap_or(dir);
    let here = Neighbourhood::of(repository)?;
    let git = Git::of(&here.repository);
    warn_of_another_commit(plan, dir, talk);
    if plan.siblings.is_empty() {
        return Ok(());
    }
    let rights = Rights { ci: is_ci(), exact: settings.exact.value };
    let _lock = if dry_run { None } else { Some(here.lock()?) };
    // Before anything is changed, all of them may be.
    let mut todo = Vec::new();
    let actions = each(&plan.siblings, |sibling| here.examine(&git, sibling.name(), &sibling.commit, rights));
    for (sibling, action) in plan.siblings.iter().zip(actions) {
        let action = action?;
        tracing::info!("sibling {} at {}: {action:?}", sibling.name(), short(&sibling.commit));
        if action != Action::Nothing {
            todo.push((sibling, action));
        }
    }
    if dry_run {
        for (sibling, _) in &todo {
            talk.say(&format!(
                "would check {} out at {}",
                here.folder(sibling.name()).display(),
                short(&sibling.commit)
            ));
        }
        return Ok(());
    }
    if todo.is_empty() {
        return Ok(());
    }
    let mirrors = Mirrors::open(&settings.store.value, talk)?;
    let silent = Silent::default();
    let done = each(&todo, |(sibling, action)| {
        let start = Instant::now();
        let fetched = check_out(sibling, *action, &here, &mirrors, &silent, &git, settings)?;
        let from = if fetched { "fetched" } else { "from the mirror" };
        let spent = start.elapsed().as_millis();
        Ok(format!("{} at {} ({from}, {spent} ms)", sibling.name(), short(&sibling.commit)))
    });
    let done: Vec<String> = done.into_iter().collect::<Result<_>>()?;
    talk.say(&format!("siblings: {}", done.join(", ")));
    Ok(())
}

/// Whether anything was fetched.
fn check_out(
    sibling: &Sibling,
    action: Action,
    here: &Neighbourhood,
    mirrors: &Mirrors,
    silent: &Silent,
    git: &Git,
    settings: &Settings,
) -> Result<bool> {
    let name = sibling.name();
    let address = Address::parse(&sibling.url).context("the plan was checked")?;
    let credentials = credentials_of(settings, name, &address).or_else(|| own_credentials(here, git, &address));
    let git = &credentials.map_or_else(|| git.clone(), |credentials| git.with(&credentials));
    let scope = scope();
    let remote = Remote { store: &mirrors.store, scope: &scope, name, address: &address, git, silent, offline: false };
    let apply = |mirror: &Path| here.apply(git, name, &sibling.commit, &address, action, mirror);
    let ((), fetched) = remote.provide(&sibling.commit, sibling.branch.as_deref(), apply)?;
    Ok(fetched)
}

fn warn_of_another_commit(plan: &Plan, dir: &Path, talk: &Talk) {
    let here = Origin::find(dir, &host::env, &host::read).commit;
    if let (Some(planned), Some(here)) = (&plan.workspace.commit, &here)
        && planned != here
    {
        talk.warn(&format!(
            "the plan is for the commit {} of the workspace, and {} is checked out here",
            short(planned),
            short(here)
        ));
    }
}
