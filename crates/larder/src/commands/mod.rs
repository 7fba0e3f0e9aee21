//! The commands, one a module: ask, act, say.

mod audit;
mod config;
mod du;
pub(crate) mod gc;
pub(crate) mod guard;
mod hook;
pub(crate) mod init;
mod install_runner;
mod ls;
pub(crate) mod pin;
mod repair;
mod report;
mod restore;
mod rm;
mod run;
mod save;
pub(crate) mod setup;
mod shell;
mod status;
mod summary;
mod verify;
mod why;

use crate::bench;
use crate::cargo::lock_targets;
use crate::cli::{Cli, Command, Format, Global};
use crate::report::{Transfer, print, print_json};
use crate::request::Request;
use crate::settings::Settings;
use crate::talk::{self, Talk};
use crate::{faults, request, world};
use anyhow::{Context, Result};
use larder_fs::Lock;
use larder_store::Store;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs the command; its exit code.
pub(crate) fn dispatch(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Command::Run(args) => run::run(&cli.global, args),
        Command::Shell(args) => shell::run(&cli.global, args),
        Command::Enter(args) => Ok(world::enter(args)),
        Command::Restore(args) => restore::run(&cli.global, args),
        Command::Save(args) => save::run(&cli.global, args),
        Command::Ls(args) => ls::run(&cli.global, args),
        Command::Du(args) => du::run(&cli.global, args),
        Command::Status => status::run(&cli.global),
        Command::Verify(args) if args.repair => repair::run(&cli.global, args.dry_run),
        Command::Verify(_) => verify::run(&cli.global),
        Command::Rm(args) => rm::run(&cli.global, args),
        Command::Gc(args) => gc::run(&cli.global, args),
        Command::Guard(args) => guard::run(&cli.global, args),
        Command::Pin(args) => pin::pin(&cli.global, args),
        Command::Unpin(args) => pin::unpin(&cli.global, args),
        Command::Why(args) => why::run(&cli.global, args),
        Command::Report(args) => report::run(&cli.global, args),
        Command::Setup(args) => setup::run(&cli.global, args),
        Command::Audit(args) => audit::run(&cli.global, args),
        Command::Init(args) => init::run(&cli.global, args),
        Command::InstallRunner(args) => install_runner::run(&cli.global, args),
        Command::Hook(args) => hook::run(&cli.global, args),
        Command::Summary => summary::run(),
        Command::Config(args) => config::run(&cli.global, args),
        Command::Bench(args) => {
            let larder = std::env::current_exe().context("cannot find larder's own executable")?;
            let table = bench::run(args, larder, is_json(&cli.global), &mut |line| talk::to_stderr(line))?;
            print(&table)?;
            Ok(0)
        }
    }
}

/// The settings of commands that need no directory, which may be started where there is none any more.
fn settings_here(global: &Global, typed: &request::Typed) -> Result<Settings> {
    let dir = request::work_dir(None).unwrap_or_else(|_| Path::new("/").to_path_buf());
    request::settings(global, &dir, typed)
}

/// The store of commands that need no directory; `None`, said on stderr, where there is none yet.
fn open_store(global: &Global, talk: &Talk) -> Result<Option<Store>> {
    let path = store_path(global)?;
    let store = faults::open_existing(&path, talk)?;
    if store.is_none() {
        say_no_store(&path, talk);
    }
    Ok(store)
}

/// Where the store of commands that need no directory is.
fn store_path(global: &Global) -> Result<PathBuf> {
    Ok(settings_here(global, &request::Typed::default())?.store.value)
}

fn say_no_store(path: &Path, talk: &Talk) {
    talk.say(&format!("there is no store at {} yet", path.display()));
}

/// Cargo's own locks on the directories, where they are cargo's; `None` when cargo kept one for too long.
fn lock(request: &Request, talk: &Talk) -> Result<Option<Vec<Lock>>> {
    let waiting = |path: &Path| talk.say(&format!("waiting for cargo's lock {}", path.display()));
    if request.project.is_some() { lock_targets(&request.dirs(), &waiting) } else { Ok(Some(Vec::new())) }
}

/// Says how a restore or a save that is a command of its own went.
fn tell(global: &Global, talk: &Talk, mut transfer: Transfer, dry_run: bool, start: Instant) -> Result<u8> {
    transfer.dry_run = dry_run;
    transfer.duration_ms = millis(start);
    talk.finish();
    if is_json(global) {
        print_json(&transfer)?;
    } else if !global.quiet {
        print(&format!("{} in {} ms\n", transfer.line(), transfer.duration_ms))?;
    }
    Ok(0)
}

fn is_json(global: &Global) -> bool {
    global.format == Format::Json
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
