//! `larder report`: what the store cost and spared.

use super::{is_json, open_store, settings_here};
use crate::cli::{Global, ReportArgs};
use crate::history::figures::{Report, Today};
use crate::history::{now_ms, page, text};
use crate::report;
use crate::request::{Typed, UsageError};
use crate::settings::Settings;
use crate::talk::Talk;
use anyhow::{Context, Result};
use larder_fs::{Dir, Kind};
use larder_store::{Events, Store};
use std::ffi::OsString;
use std::path::Path;

pub(super) fn run(global: &Global, args: &ReportArgs) -> Result<u8> {
    if args.markdown && is_json(global) {
        return Err(UsageError("--markdown and --format json are two ways to say it: choose one".into()).into());
    }
    let talk = Talk::new(global);
    let settings = settings_here(global, &Typed::default())?;
    let store = open_store(global, &talk)?;
    let now_ms = now_ms();
    let age = u64::try_from(args.since.as_millis()).unwrap_or(u64::MAX);
    let since_ms = now_ms.saturating_sub(age);
    let history = store.as_ref().map(|store| store.history(since_ms)).transpose()?.unwrap_or_default();
    let report = Report::of(&history, since_ms, &today(store.as_ref(), &settings, now_ms, &talk));
    if let Some(file) = &args.html {
        let html = page::render(&report, &larder_fs::process::host_name())?;
        write(file, html.as_bytes())?;
        talk.say(&format!("wrote {}", file.display()));
    }
    talk.finish();
    if is_json(global) {
        report::print_json(&report)?;
    } else if args.markdown {
        report::print(&text::markdown(&report))?;
    } else if !global.quiet && args.html.is_none() {
        report::print(&text::terminal(&report))?;
    }
    Ok(0)
}

fn today(store: Option<&Store>, settings: &Settings, now_ms: u64, talk: &Talk) -> Today {
    // What cannot be counted is not shown; the history is worth telling all the same.
    let counted = |store: &Store| {
        let told = |error| talk.warn(&format!("the store cannot be measured: {:#}", anyhow::Error::from(error)));
        store.stored_bytes().map_err(told).ok()
    };
    Today {
        now_ms,
        stored_bytes: store.and_then(counted),
        disk: store.and_then(|store| store.disk().ok()),
        high_percent: settings.high.value,
        low_percent: settings.low.value,
    }
}

/// Writes a file whole, in the place of one that stands there. Nothing else is replaced: not a device, not a directory.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let path = larder_fs::resolve_fully(file)?;
    if larder_fs::metadata(&path)?.is_some_and(|meta| meta.kind != Kind::File) {
        return Err(UsageError(format!("--html: {} is no file", file.display())).into());
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(UsageError(format!("--html: {} names no file", file.display())).into());
    };
    let dir = Dir::open(parent).with_context(|| format!("--html: cannot write {}", file.display()))?;
    let mut staged = OsString::from(".");
    staged.push(name);
    staged.push(format!(".{}", std::process::id()));
    let put = || -> larder_fs::Result<()> {
        dir.remove_all(&staged)?;
        larder_fs::write_new(&dir, &staged, &[bytes], false)?;
        dir.rename(&staged, &dir, name)
    };
    // What was begun goes: the disk may be full.
    put()
        .inspect_err(|_| drop(dir.remove_all(&staged)))
        .with_context(|| format!("--html: cannot write {}", file.display()))
}
