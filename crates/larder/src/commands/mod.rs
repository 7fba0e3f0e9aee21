//! The commands, one a module: ask, act, say.

mod config;
mod ls;
mod restore;
mod rm;
mod run;
mod save;
mod verify;

use crate::bench;
use crate::cli::{Cli, Command, Format, Global};
use crate::talk::{self, Talk};
use crate::{report, request};
use anyhow::{Context, Result};
use larder_store::Store;
use std::path::Path;

/// Runs the command; its exit code.
pub(crate) fn dispatch(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Command::Run(args) => run::run(&cli.global, args),
        Command::Restore(args) => restore::run(&cli.global, args),
        Command::Save(args) => save::run(&cli.global, args),
        Command::Ls(args) => ls::run(&cli.global, args),
        Command::Verify => verify::run(&cli.global),
        Command::Rm(args) => rm::run(&cli.global, args),
        Command::Config(args) => config::run(&cli.global, args),
        Command::Bench(args) => {
            let larder = std::env::current_exe().context("cannot find larder's own executable")?;
            let table = bench::run(args, larder, is_json(&cli.global), &mut |line| talk::to_stderr(line))?;
            report::print(&table)?;
            Ok(0)
        }
    }
}

/// The store of commands that need no directory; `None`, said on stderr, where there is none yet.
fn open_store(global: &Global, talk: &Talk) -> Result<Option<Store>> {
    let dir = request::work_dir(None).unwrap_or_else(|_| Path::new("/").to_path_buf());
    let settings = request::settings(global, &dir, &request::Typed::default())?;
    let store = Store::open_existing(&settings.store.value, talk)?;
    if store.is_none() {
        talk.say(&format!("there is no store at {} yet", settings.store.value.display()));
    }
    Ok(store)
}

fn is_json(global: &Global) -> bool {
    global.format == Format::Json
}

fn millis(since: std::time::Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
