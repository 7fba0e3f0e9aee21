//! `larder hook`, hidden: what an operator's hooks do before and after every job of a runner.
//!
//! It ends within a given time, always with success: a job is not worth less because of its cache. One runner has one job at
//! a time, so before a job and after it every lease below the runner's work folder is of a job that is over. The settings
//! are the host's: what lies in the checkout was written by whoever may push to it.

use crate::cli::{Global, HookArgs, HookWhen};
use crate::commands::gc;
use crate::disk::{self, Asked, Marks};
use crate::request::{self, Typed};
use crate::settings::Settings;
use crate::talk::{self, Talk};
use crate::{faults, history, host, watch};
use anyhow::Result;
use bytesize::ByteSize;
use larder_fs::{Dir, Timestamp, Volume};
use larder_store::evict::Freed;
use larder_store::{Error, Events, Store};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two collections by hooks. Above the mark room is made all the same.
const BETWEEN: Duration = Duration::from_secs(6 * 3600);

pub(super) fn run(global: &Global, args: &HookArgs) -> Result<u8> {
    let at_most = args.at_most.0.unwrap_or(Duration::MAX);
    // Whatever is under way then, the store bears that anything dies at any time.
    std::thread::spawn(move || {
        std::thread::sleep(at_most);
        talk::to_stderr("the hook took its time and ends here; the next one goes on");
        talk::end_group();
        std::process::exit(0);
    });
    talk::begin_group(match args.when {
        HookWhen::JobStarted => "larder: before the job",
        HookWhen::JobCompleted => "larder: after the job",
    });
    let talk = Talk::new(global);
    if let Err(error) = act(global, args, &talk) {
        talk.warn(&format!("{error:#}; the job goes on"));
    }
    talk.finish();
    talk::end_group();
    Ok(0)
}

fn act(global: &Global, args: &HookArgs, talk: &Talk) -> Result<()> {
    let settings = request::settings(global, Path::new("/"), &Typed::default())?;
    if settings.disable.value {
        talk.say(&format!("switched off by {}", settings.disable.source));
        return Ok(());
    }
    gc::check(&settings)?;
    let work = work_folder();
    if let Some(store) = faults::open_existing(&settings.store.value, talk)? {
        if let Some(work) = &work {
            release(&store, &settings, work, talk)?;
        }
        if let (HookWhen::JobCompleted, Some(stamp)) = (args.when, &args.stamp)
            && is_due(stamp)
        {
            collect(&store, &settings, talk)?;
        }
        watch::keep_room(&store, &settings, None, talk);
        tell_disk(store.path(), &settings, talk)?;
    }
    match work {
        Some(work) => tell_disk(&work, &settings, talk),
        None => Ok(()),
    }
}

/// The runner's work folder, in which it checks out everything; `None` where the variables do not agree on one.
fn work_folder() -> Option<PathBuf> {
    let of = |name| host::env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let (checkout, temp) = (of("GITHUB_WORKSPACE")?, of("RUNNER_TEMP"));
    // `_work/NAME/NAME` and `_work/_temp`.
    let work = checkout.parent()?.parent()?;
    let whole = temp.is_some_and(|temp| temp.parent() == Some(work)) && work.parent().is_some();
    let folder = if whole { work.to_path_buf() } else { checkout };
    larder_fs::resolve_fully(&folder).ok()
}

/// Ends the leases of jobs that are over.
fn release(store: &Store, settings: &Settings, work: &Path, talk: &Talk) -> Result<()> {
    let lasts = settings.lease.value.0.unwrap_or(Duration::MAX);
    let mut ended = 0;
    for lease in store.leases(Timestamp::now(), lasts)? {
        let root = Path::new(&lease.root);
        if root.starts_with(work) && !lease.alive {
            store.end_job(root);
            ended += 1;
        }
    }
    if ended > 0 {
        talk.say(&format!("{ended} leases of jobs that are over ended"));
    }
    Ok(())
}

/// Whether it is time to collect; then the stamp says so to the next one. Where it cannot be written, the timer collects.
fn is_due(stamp: &Path) -> bool {
    let (Some(folder), Some(name)) = (stamp.parent(), stamp.file_name()) else { return false };
    let now = Timestamp::now();
    let renew = || -> larder_fs::Result<bool> {
        let Some(dir) = Dir::open_optional(folder)? else { return Ok(false) };
        if let Some(meta) = dir.stat_optional(name)? {
            let passed = now.as_nanos().saturating_sub(meta.mtime.as_nanos());
            if (0..i64::try_from(BETWEEN.as_nanos()).unwrap_or(i64::MAX)).contains(&passed) {
                return Ok(false);
            }
        } else {
            dir.append(name, b"")?;
        }
        dir.set_mtime(OsStr::new(name), now)?;
        Ok(true)
    };
    renew().unwrap_or_else(|error| {
        tracing::info!("no collection: {:#}", anyhow::Error::from(error));
        false
    })
}

fn collect(store: &Store, settings: &Settings, talk: &Talk) -> Result<()> {
    let asked = Asked { unasked: true, ..Asked::default() };
    let collected = match disk::with_request(store, settings, asked, |request| Ok(store.gc(request, talk)?)) {
        Err(error) if matches!(error.downcast_ref(), Some(Error::Busy { .. })) => {
            talk.say("no collection: others are at work in the store");
            return Ok(());
        }
        other => other?,
    };
    history::collected(store, &collected, talk);
    let gone = collected.evicted.iter().filter(|evicted| !evicted.kept).count();
    let freed = ByteSize(collected.removed.swept.bytes).display().si();
    talk.say(&format!("evicted {gone} of {} snapshots, {freed} freed", collected.snapshots));
    Ok(())
}

/// Warns of a disk that is too full, whatever filled it.
fn tell_disk(path: &Path, settings: &Settings, talk: &Talk) -> Result<()> {
    let Some(dir) = Dir::open_optional(path)? else { return Ok(()) };
    let marks = Marks { high: settings.high.value, low: settings.low.value };
    if settings.guard.value && marks.wanted(&Volume::space(&dir)?) != Freed::default() {
        talk.warn(&format!(
            "more than {} % of the disk of {} are used: `larder guard --workspace {}` says by what",
            marks.high,
            path.display(),
            path.display()
        ));
    }
    Ok(())
}
