//! `larder save`: publish a snapshot of the directories.

use super::{lock, millis, tell};
use crate::cli::{Global, How, SaveArgs};
use crate::report::{Result as Outcome, Transfer};
use crate::request::{self, Request, Typed};
use crate::settings::Settings;
use crate::sources::{self, After};
use crate::talk::{self, Talk};
use crate::world::World;
use crate::{faults, history, home, watch};
use anyhow::{Result, bail};
use larder_store::{EventKind, Events, Review, SaveRequest, Snapshot, Store, TreeKind};
use std::time::Instant;

pub(super) fn run(global: &Global, args: &SaveArgs) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let dir = request::work_dir(args.which.workspace.as_deref())?;
    let typed = Typed {
        link_mode: args.which.link_mode,
        spare: args.spare,
        job: args.which.job.clone(),
        canonical: args.which.canonical,
        ..Typed::default()
    };
    let settings = request::settings(global, &dir, &typed)?;
    let after = if args.prune { After::Success } else { After::Anything };
    let transfer = if settings.disable.value {
        talk.switched_off(&format!("switched off by {}: nothing is saved", settings.disable.source));
        Transfer::nothing(Outcome::Skipped, args.which.key.as_deref().unwrap_or_default())
    } else if let Some(why) = settings.never_saves() {
        talk.say(&why);
        Transfer::nothing(Outcome::Skipped, args.which.key.as_deref().unwrap_or_default())
    } else {
        let world = World::find(&dir, &[], &settings, &talk);
        let request = Request::resolve(&args.which, &How::default(), &settings, &dir, &[], &world)?;
        let store = faults::open_for_job(&settings.store, &talk)?;
        let saved = save(&store, &request, &settings, args.dry_run, after, &talk);
        match &saved {
            Ok(transfer) => {
                history::saved(&store, &request, &Transfer { duration_ms: millis(start), ..transfer.clone() })
            }
            Err(_) if !args.dry_run => history::failed(&store, &request, EventKind::Save),
            Err(_) => {}
        }
        let saved = saved?;
        home::save(&store, &request, &settings, None, args.dry_run, &talk);
        if !args.dry_run {
            home::end_job(&store, &request);
            watch::keep_room(&store, &settings, None, &talk);
        }
        saved
    };
    tell(global, &talk, transfer, args.dry_run, start)
}

/// Saves; shared with `run`.
pub(super) fn save(
    store: &Store,
    request: &Request,
    settings: &Settings,
    dry_run: bool,
    after: After,
    talk: &Talk,
) -> Result<Transfer> {
    talk::chapter("larder: the save, step by step");
    let Some(_locks) = lock(request, talk)? else { bail!("cargo kept its lock for too long; nothing is saved") };
    let link_mode = settings.link_mode.value.0;
    let review = request.project.as_ref().map(|project| sources::Record::new(store, project, settings, after, talk));
    if let Some(why) = review.as_ref().and_then(sources::Record::refuses) {
        talk.warn(&format!("{why}; nothing is saved"));
        return Ok(Transfer::nothing(Outcome::Skipped, &request.key));
    }
    let saved = store.save(
        &SaveRequest {
            place: request.place.clone(),
            key: request.key.clone(),
            parts: [request.parts(), request.origin()].concat(),
            roots: request.roots(),
            review: review.as_ref().map_or(&(), |review| review as &dyn Review),
            link_mode,
            dry_run,
        },
        talk,
    )?;
    for (mode, files) in &saved.link_modes {
        tracing::info!("{files} files taken in by {mode}");
    }
    if !saved.link_modes.is_empty() {
        saved.why_not.iter().for_each(|(mode, why)| tracing::info!("not by {mode}: {why}"));
    }
    tracing::info!("{} files known from the last time and not read again", saved.work.unchanged);
    if let Some(id) = &saved.snapshot {
        tracing::info!("published the snapshot {id}: {} files, {} bytes", saved.files, saved.bytes);
    }
    if settings.spare.value
        && let Some(path) = &saved.path
    {
        let start = Instant::now();
        let snapshot = Snapshot::load(path)?;
        match store.prepare(&snapshot, TreeKind::Spare, &request.roots(), link_mode, talk) {
            Ok(files) => talk.say(&format!("prepared a spare of {files} files in {} ms", millis(start))),
            // The snapshot is published; only the next restore is slower.
            Err(error) => talk.warn(&format!("no spare: {:#}", anyhow::Error::from(error))),
        }
    }
    let compiled = review.and_then(sources::Record::compiled);
    Ok(Transfer::saved(saved).with_compiled(compiled))
}
