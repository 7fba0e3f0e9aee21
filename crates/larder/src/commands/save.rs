//! `larder save`: publish a snapshot of the directories.

use super::{is_json, millis};
use crate::cargo::lock_targets;
use crate::cli::{Global, How, SaveArgs};
use crate::report::{self, Result as Outcome, Transfer};
use crate::request::{self, Request, Typed};
use crate::settings::Settings;
use crate::sources;
use crate::talk::Talk;
use anyhow::{Result, bail};
use larder_store::{Review, SaveRequest, Snapshot, Store, TreeKind};
use std::time::Instant;

pub(super) fn run(global: &Global, args: &SaveArgs) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let dir = request::work_dir(args.which.workspace.as_deref())?;
    let typed =
        Typed { link_mode: args.which.link_mode, spare: args.spare, job: args.which.job.clone(), ..Typed::default() };
    let settings = request::settings(global, &dir, &typed)?;
    let mut transfer = if settings.disable.value {
        talk.say(&format!("switched off by {}", settings.disable.source));
        Transfer::nothing(Outcome::Skipped, args.which.key.as_deref().unwrap_or_default())
    } else {
        let request = Request::resolve(&args.which, &How::default(), &settings, &dir, &[])?;
        let store = Store::open(&settings.store.value, &talk)?;
        save(&store, &request, &settings, args.dry_run, &talk)?
    };
    transfer.dry_run = args.dry_run;
    transfer.duration_ms = millis(start);
    talk.finish();
    if is_json(global) {
        report::print_json(&transfer)?;
    } else if !global.quiet {
        report::print(&format!("{} in {} ms\n", transfer.line(), transfer.duration_ms))?;
    }
    Ok(0)
}

/// Saves; shared with `run`.
pub(super) fn save(
    store: &Store,
    request: &Request,
    settings: &Settings,
    dry_run: bool,
    talk: &Talk,
) -> Result<Transfer> {
    let waiting = |path: &std::path::Path| talk.say(&format!("waiting for cargo's lock {}", path.display()));
    let _locks = match request.project.is_some() {
        true => match lock_targets(&request.dirs(), &waiting)? {
            Some(locks) => locks,
            None => bail!("cargo kept its lock for too long; nothing is saved"),
        },
        false => Vec::new(),
    };
    let link_mode = settings.link_mode.value.store_mode();
    let review = request.project.as_ref().map(|project| sources::Record::new(store, project, settings, talk));
    let saved = store.save(
        &SaveRequest {
            place: request.place.clone(),
            key: request.key.clone(),
            parts: request.parts.clone(),
            roots: request.roots(),
            review: review.as_ref().map_or(&(), |review| review as &dyn Review),
            link_mode,
            dry_run,
        },
        talk,
    )?;
    if settings.spare.value
        && let Some(path) = &saved.path
    {
        let start = Instant::now();
        let snapshot = Snapshot::load(path)?;
        match store.prepare(&snapshot, TreeKind::Spare, &request.roots(), link_mode, talk) {
            Ok(files) => talk.say(&format!("prepared a spare of {files} files in {} ms", millis(start))),
            // The snapshot is published; only the next restore is slower.
            Err(error) => {
                larder_store::Events::warn(talk, &format!("no spare: {:#}", anyhow::Error::from(error)));
            }
        }
    }
    Ok(Transfer::saved(saved))
}
