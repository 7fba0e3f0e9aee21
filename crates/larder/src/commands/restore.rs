//! `larder restore`: make the directories what a snapshot says.

use super::{is_json, millis};
use crate::cargo::lock_targets;
use crate::cli::{Global, RestoreArgs};
use crate::report::{self, Result as Outcome, Transfer};
use crate::request::{self, Request, Typed};
use crate::settings::Settings;
use crate::sources;
use crate::talk::Talk;
use anyhow::Result;
use larder_store::{RestoreRequest, Store};
use std::time::Instant;

pub(super) fn run(global: &Global, args: &RestoreArgs) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let dir = request::work_dir(args.which.workspace.as_deref())?;
    let typed = Typed {
        link_mode: args.which.link_mode,
        exact: args.how.exact,
        job: args.which.job.clone(),
        ..Typed::default()
    };
    let settings = request::settings(global, &dir, &typed)?;
    let mut transfer = if settings.disable.value {
        talk.say(&format!("switched off by {}: nothing is restored", settings.disable.source));
        Transfer::nothing(Outcome::Miss, args.which.key.as_deref().unwrap_or_default())
    } else {
        let request = Request::resolve(&args.which, &args.how, &settings, &dir, &[])?;
        let store = match open(&settings, &talk) {
            Ok(store) => store,
            Err(error) if is_usage(&error) => return Err(error.into()),
            Err(error) => {
                larder_store::Events::warn(&talk, &format!("{:#}; going on without", anyhow::Error::from(error)));
                return finish(global, &talk, Transfer::nothing(Outcome::Miss, &request.key), start);
            }
        };
        match restore(&store, &request, &settings, args.dry_run, &talk) {
            Ok(transfer) => transfer,
            Err(error) if leaves_alone(&error) => {
                larder_store::Events::warn(&talk, &format!("{error:#}; nothing is restored"));
                Transfer::nothing(Outcome::Miss, &request.key)
            }
            Err(error) => return Err(error),
        }
    };
    transfer.dry_run = args.dry_run;
    finish(global, &talk, transfer, start)
}

fn finish(global: &Global, talk: &Talk, mut transfer: Transfer, start: Instant) -> Result<u8> {
    transfer.duration_ms = millis(start);
    talk.finish();
    if is_json(global) {
        report::print_json(&transfer)?;
    } else if !global.quiet {
        report::print(&format!("{} in {} ms\n", transfer.line(), transfer.duration_ms))?;
    }
    Ok(0)
}

fn is_usage(error: &larder_store::Error) -> bool {
    error.is_usage()
}

/// Whether the error came before anything was changed, and is not the user's: then it is a miss.
fn leaves_alone(error: &anyhow::Error) -> bool {
    let store_error = error.downcast_ref::<larder_store::Error>();
    store_error.is_some_and(|e| !e.is_usage() && !matches!(e, larder_store::Error::HalfRestored { .. }))
}

fn open(settings: &Settings, talk: &Talk) -> larder_store::Result<Store> {
    Store::open(&settings.store.value, talk)
}

/// Restores; shared with `run`.
pub(super) fn restore(
    store: &Store,
    request: &Request,
    settings: &Settings,
    dry_run: bool,
    talk: &Talk,
) -> Result<Transfer> {
    let waiting = |path: &std::path::Path| talk.say(&format!("waiting for cargo's lock {}", path.display()));
    let locks = match request.project.is_some() {
        true => lock_targets(&request.dirs(), &waiting)?,
        false => Some(Vec::new()),
    };
    if locks.is_none() {
        larder_store::Events::warn(talk, "cargo kept its lock for too long; nothing is restored");
        return Ok(Transfer::nothing(Outcome::Miss, &request.key));
    }
    let restored = store.restore(
        &RestoreRequest {
            place: request.place.clone(),
            key: request.key.clone(),
            fallback: request.fallback.clone(),
            roots: request.roots(),
            link_mode: settings.link_mode.value.store_mode(),
            exact: settings.exact.value,
            keep_newer: request.project.is_some(),
            refuse_future: request.project.is_some(),
            dry_run,
        },
        talk,
    )?;
    let stamped = match &request.project {
        Some(project) if restored.snapshot.is_some() && !dry_run => {
            sources::settle(store, &restored, project, settings, &request.dirs(), talk)?
        }
        _ => None,
    };
    Ok(Transfer::restored(restored, &request.key).with_sources(stamped))
}
