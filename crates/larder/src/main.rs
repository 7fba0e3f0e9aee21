//! `larder`: a build cache for Rust CI on machines you own.
//!
//! Architecture invariant: the only room with a command line, an environment, configuration files and a
//! terminal. It resolves what the user wants ([`settings`]), asks `larder-cargo` where cargo works and
//! `larder-store` to save and restore, and says what happened ([`report`], [`talk`]). It makes no system
//! calls of its own.

mod amount;
mod bench;
mod care;
mod cargo;
mod child;
mod cli;
mod commands;
mod compiler;
mod disk;
mod faults;
mod history;
mod holdings;
mod home;
mod host;
mod origin;
mod reasons;
mod report;
mod request;
#[cfg(test)]
mod schemas;
mod settings;
mod siblings;
mod sources;
mod summary;
mod talk;
mod watch;
mod world;

use clap::Parser;
use std::process::ExitCode;

/// Exit codes, the same for every command; `run` passes on that of its command.
mod exit {
    /// Something failed.
    pub(crate) const FAILED: u8 = 1;
    /// The command line cannot be followed.
    pub(crate) const USAGE: u8 = 2;
}

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    talk::start_log(&cli.global);
    if !matches!(cli.command, cli::Command::Enter(_)) {
        world::leave();
    }
    let done = commands::dispatch(&cli);
    talk::end_details();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            talk::failed(&format!("{error:#}"));
            ExitCode::from(if faults::is_usage(&error) { exit::USAGE } else { exit::FAILED })
        }
    }
}
