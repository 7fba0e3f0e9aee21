//! `larder restore`: make the directories what a snapshot says.

use super::{lock, millis, tell};
use crate::cli::{Global, RestoreArgs};
use crate::report::{Result as Outcome, Transfer};
use crate::request::{self, Request, Typed};
use crate::settings::Settings;
use crate::siblings;
use crate::sources::{self, Checkout};
use crate::talk::{self, Talk};
use crate::world::World;
use crate::{faults, history, home, watch};
use anyhow::Result;
use larder_store::{EventKind, Events, Guide, LinkMode, RestoreRequest, Restored, Store};
use std::time::Instant;

/// Fewer bytes are copied in a moment: nobody need act on that.
const WORTH_LINKING: u64 = 64 << 20;

pub(super) fn run(global: &Global, args: &RestoreArgs) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let dir = request::work_dir(args.which.workspace.as_deref())?;
    let typed = Typed {
        link_mode: args.which.link_mode,
        exact: args.how.exact,
        job: args.which.job.clone(),
        canonical: args.which.canonical,
        ..Typed::default()
    };
    let settings = request::settings(global, &dir, &typed)?;
    // Also where the cache is switched off: a plan says what is built.
    if let Some(plan) = siblings::given(args.how.plan.as_deref())? {
        siblings::follow(&plan, &dir, &settings, args.dry_run, &talk)?;
    }
    if settings.disable.value {
        talk.switched_off(&format!("switched off by {}: nothing is restored", settings.disable.source));
        let nothing = Transfer::nothing(Outcome::Miss, args.which.key.as_deref().unwrap_or_default());
        return tell(global, &talk, nothing, args.dry_run, start);
    }
    let world = World::find(&dir, &[], &settings, &talk);
    let mut request = Request::resolve(&args.which, &args.how, &settings, &dir, &[], &world)?;
    let opened = faults::open_for_job(&settings.store, &talk).inspect(|store| request.learn(store));
    let opened = opened.inspect(|store| {
        if !args.dry_run {
            watch::keep_room(store, &settings, Some(&request), &talk);
        }
    });
    let opened = opened.inspect(|store| drop(home::restore(store, &request, &settings, args.dry_run, &talk)));
    let told = |store: Store| {
        let restored = restore(&store, &request, &settings, args.dry_run, &talk);
        match &restored {
            Ok(transfer) => {
                history::restored(&store, &request, &Transfer { duration_ms: millis(start), ..transfer.clone() })
            }
            Err(_) if !args.dry_run => history::failed(&store, &request, EventKind::Restore),
            Err(_) => {}
        }
        restored
    };
    let transfer = match opened.and_then(told) {
        Ok(transfer) => transfer,
        Err(error) if faults::leaves_alone(&error) => {
            talk.warn(&format!("{error:#}; nothing is restored"));
            Transfer::nothing(Outcome::Miss, &request.key)
        }
        Err(error) => return Err(error),
    };
    tell(global, &talk, transfer, args.dry_run, start)
}

/// Restores; shared with `run`.
pub(super) fn restore(
    store: &Store,
    request: &Request,
    settings: &Settings,
    dry_run: bool,
    talk: &Talk,
) -> Result<Transfer> {
    talk::chapter("larder: the restore, step by step");
    let Some(_locks) = lock(request, talk)? else {
        talk.warn("cargo kept its lock for too long; nothing is restored");
        return Ok(Transfer::nothing(Outcome::Miss, &request.key));
    };
    let checkout = match request.project.as_ref().map(|project| Checkout::look(store, project, settings)) {
        Some(Ok(checkout)) => Some(checkout),
        Some(Err(error)) => {
            talk.warn(&format!("the sources cannot be looked at; nothing is restored: {error:#}"));
            return Ok(Transfer::nothing(Outcome::Miss, &request.key));
        }
        None => None,
    };
    if let Some(why) = checkout.as_ref().and_then(|checkout| checkout.sources().buried()) {
        talk.warn(&format!("{why}; nothing is restored"));
        return Ok(Transfer::nothing(Outcome::Miss, &request.key));
    }
    let guide = checkout.as_ref().map(|checkout| checkout as &dyn Guide);
    let restored = store.restore(
        &RestoreRequest {
            place: request.place.clone(),
            key: request.key.clone(),
            fallback: request.fallback.clone(),
            guide,
            by_nearness: request.by_nearness,
            graft: false,
            roots: request.roots(),
            link_mode: settings.link_mode.value.0,
            exact: settings.exact.value,
            keep_newer: request.project.is_some(),
            refuse_future: request.project.is_some(),
            dry_run,
        },
        talk,
    )?;
    let considered = checkout.as_ref().map(Checkout::considered).unwrap_or_default();
    tell_modes(&restored, settings);
    let stamped = match checkout {
        Some(checkout) if !dry_run => sources::settle(store, &restored, checkout, &request.dirs(), talk)?,
        _ => None,
    };
    let mut transfer = Transfer::restored(restored, &request.key).with_sources(stamped, considered);
    transfer.dry_run = dry_run;
    if request.explain {
        transfer.considered.iter().for_each(|considered| talk.say(&considered.line()));
    }
    Ok(transfer)
}

/// Says how the files were made, and why not better.
fn tell_modes(restored: &Restored, settings: &Settings) {
    for (mode, files) in &restored.link_modes {
        tracing::info!("{files} files made by {mode}");
    }
    if restored.remade > 0 {
        tracing::info!("{} files left out: the build will certainly make them anew", restored.remade);
    }
    if restored.link_modes.is_empty() {
        return;
    }
    for (mode, why) in &restored.why_not {
        tracing::info!("not by {mode}: {why}");
    }
    let only_copied = restored.link_modes.keys().all(|mode| *mode == LinkMode::Copy.name());
    let reason = |mode: LinkMode| restored.why_not.get(mode.name());
    if let (true, Some(reflink), Some(hardlink)) = (only_copied, reason(LinkMode::Reflink), reason(LinkMode::Hardlink))
        && settings.link_mode.value.0 == LinkMode::Auto
        && restored.bytes >= WORTH_LINKING
    {
        talk::advise(&format!(
            "no link mode is better than copy here, so {} files were copied (reflink: {reflink}; hardlink: {hardlink}); a \
             store on the file system of the workspace shares them instead",
            restored.work.copied
        ));
    }
}
