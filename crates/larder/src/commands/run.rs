//! `larder run`: restore, run the command, save. A fault of the cache never fails the command.

use super::{is_json, millis, restore, save};
use crate::child;
use crate::cli::{Global, RunArgs, SaveWhen};
use crate::faults::{self, is_half_restored, is_usage};
use crate::history;
use crate::home;
use crate::host;
use crate::report::{self, CargoHome, Result as Outcome, Run, Transfer};
use crate::request::{self, Request, Typed};
use crate::siblings;
use crate::sources::After;
use crate::summary::{Half, Told};
use crate::talk::{self, Talk};
use crate::watch;
use crate::world::World;
use anyhow::Result;
use larder_store::{EventKind, Events, LinkMode, Store};
use std::time::Instant;

pub(super) fn run(global: &Global, args: &RunArgs) -> Result<u8> {
    let dir = request::work_dir(args.which.workspace.as_deref())?;
    let typed = Typed {
        link_mode: args.which.link_mode,
        exact: args.how.exact,
        save: args.save,
        spare: args.spare,
        job: args.which.job.clone(),
        canonical: args.which.canonical,
        ..Typed::default()
    };
    let settings = request::settings(global, &dir, &typed)?;
    // Also where the cache is switched off: a plan says what is built.
    if let Some(plan) = siblings::given(args.how.plan.as_deref())? {
        siblings::follow(&plan, &dir, &settings, false, &Talk::new(global))?;
    }
    if settings.disable.value {
        talk::advise(&format!("switched off by {}: the command runs without a cache", settings.disable.source));
        talk::end_details();
        let begin = Instant::now();
        let exit_code = child::run(&args.command, &dir, &World::default())?;
        if is_json(global) {
            let restore = Transfer::nothing(Outcome::Miss, args.which.key.as_deref().unwrap_or_default());
            tell(&Run { restore, save: None, cargo_home: None, exit_code, command_ms: millis(begin) });
        }
        return Ok(exit_code);
    }
    let talk = Talk::new(global);
    let start = Instant::now();
    // Mounts of an overlay live and die with this process; threads would make that impossible later.
    if settings.link_mode.value.0 == LinkMode::Overlay
        && let Err(error) = larder_fs::mount::enter_private_namespace()
    {
        talk.warn(&format!("no overlay: {:#}", anyhow::Error::from(error)));
    }
    let world = World::find(&dir, &args.command, &settings, &talk);
    let opened = Request::resolve(&args.which, &args.how, &settings, &dir, &args.command, &world)
        .and_then(|request| Ok((faults::open_for_job(&settings.store, &talk)?, request)))
        .map(|(store, mut request)| {
            request.learn(&store);
            (store, request)
        });
    let cache = match opened {
        Ok(opened) => Some(opened),
        Err(error) if is_usage(&error) => return Err(error),
        Err(error) => {
            talk.warn(&format!("{error:#}; the command runs without a cache"));
            None
        }
    };
    if let Some((store, request)) = &cache {
        watch::keep_room(store, &settings, Some(request), &talk);
    }
    let home_before =
        cache.as_ref().and_then(|(store, request)| home::restore(store, request, &settings, false, &talk));
    // What a restore left half changed is nobody's world: saving it would make it everybody's.
    let mut half_restored = false;
    let mut restored = match &cache {
        Some((store, request)) => match restore::restore(store, request, &settings, false, &talk) {
            Ok(mut transfer) => {
                transfer.duration_ms = millis(start);
                history::restored(store, request, &transfer);
                transfer
            }
            Err(error) if is_usage(&error) && !request.has_odd_target() => return Err(error),
            Err(error) => {
                half_restored = is_half_restored(&error);
                history::failed(store, request, EventKind::Restore);
                let fate = if half_restored { ", and nothing is saved" } else { "" };
                talk.warn(&format!("{error:#}; the command runs with what is there{fate}"));
                Transfer::nothing(Outcome::Miss, &request.key)
            }
        },
        None => Transfer::nothing(Outcome::Miss, args.which.key.as_deref().unwrap_or_default()),
    };
    restored.duration_ms = millis(start);
    talk.finish();
    let command_start = Instant::now();
    let code = child::run(&args.command, &dir, &world)?;
    let command_ms = millis(command_start);
    let after = if code == 0 { After::Success } else { After::Failure };
    let wanted = match settings.save.value {
        SaveWhen::Always => true,
        SaveWhen::Success => code == 0,
        SaveWhen::Never => false,
    };
    let wanted = wanted && !half_restored;
    let saved = match &cache {
        Some((store, request)) if wanted && request.is_outdated() => {
            match Request::resolve(&args.which, &args.how, &settings, &dir, &args.command, &world) {
                Ok(request) => save_after(store, &request, &settings, after, &talk),
                Err(error) => {
                    talk.warn(&format!("not saved: {error:#}"));
                    None
                }
            }
        }
        Some((store, request)) if wanted => save_after(store, request, &settings, after, &talk),
        _ => None,
    };
    let home_saved = match &cache {
        Some((store, request)) if wanted => home::save(store, request, &settings, home_before.as_ref(), false, &talk),
        _ => None,
    };
    if let Some(why) = settings.never_saves().filter(|_| host::job().is_fork() && cache.is_some()) {
        talk.say(&why);
    }
    if let Some((store, _)) = &cache {
        store.end_jobs();
        watch::keep_room(store, &settings, None, &talk);
    }
    talk.finish();
    say(&talk, &restored, saved.as_ref());
    if settings.summary.value {
        let job = cache.as_ref().map(|(_, request)| request.job.clone()).unwrap_or_default();
        let told = Told { job, restore: Some((&restored).into()), save: saved.as_ref().map(Half::from) };
        if let Err(error) = told.append() {
            tracing::info!("no table on the job's page: {:#}", anyhow::Error::from(error));
        }
    }
    if is_json(global) {
        let cargo_home = match (home_before.map(|before| before.transfer), home_saved) {
            (None, None) => None,
            (restore, save) => Some(CargoHome { restore, save }),
        };
        tell(&Run { restore: restored, save: saved, cargo_home, exit_code: code, command_ms });
    }
    Ok(code)
}

/// Prints the object; whoever reads it badly does not fail the command.
fn tell(run: &Run) {
    // Nobody can tell whether the command ended its last line on the same stdout. An empty line before the object
    // means nothing to who reads JSON.
    if let Err(error) = report::json(run).and_then(|line| report::print(&format!("\n{line}"))) {
        talk::to_stderr(&format!("warning: {error:#}"));
    }
}

fn save_after(
    store: &Store,
    request: &Request,
    settings: &crate::settings::Settings,
    after: After,
    talk: &Talk,
) -> Option<Transfer> {
    if let Some(missing) = request.dirs().iter().find(|dir| !larder_fs::exists(dir)) {
        talk.say(&format!("nothing to save: the command made no {}", missing.display()));
        return None;
    }
    let start = Instant::now();
    match save::save(store, request, settings, false, after, talk) {
        Ok(mut transfer) => {
            transfer.duration_ms = millis(start);
            history::saved(store, request, &transfer);
            Some(transfer)
        }
        Err(error) => {
            history::failed(store, request, EventKind::Save);
            talk.warn(&format!("not saved: {error:#}"));
            None
        }
    }
}

fn say(talk: &Talk, restored: &Transfer, saved: Option<&Transfer>) {
    let saved = match saved {
        Some(saved) => format!("{} in {} ms", saved.line(), saved.duration_ms),
        None => "nothing saved".to_owned(),
    };
    talk.say(&format!("{} in {} ms; {saved}", restored.line(), restored.duration_ms));
}
