//! Runners and their hooks.

use crate::amount::Span;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct InstallRunnerArgs {
    /// The runner's folder, with its run.sh and .env
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Take out what was put in, and restore what was there
    #[arg(long)]
    pub(crate) undo: bool,
    /// Leave systemd alone
    #[arg(long)]
    pub(crate) no_timer: bool,
    /// Where systemd's units go [default: /etc/systemd/system as root, else ~/.config/systemd/user]
    #[arg(long, value_name = "DIR", conflicts_with = "no_timer")]
    pub(crate) units: Option<PathBuf>,
    /// Change nothing; say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What a runner's hooks call.
#[derive(Debug, Args)]
pub(crate) struct HookArgs {
    /// Which hook
    #[arg(value_enum, value_name = "WHEN")]
    pub(crate) when: HookWhen,
    /// The file whose time says when a hook last collected; without it none does
    #[arg(long, value_name = "FILE")]
    pub(crate) stamp: Option<PathBuf>,
    /// End after so long, whatever is under way
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) at_most: Span,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HookWhen {
    /// Before a job
    JobStarted,
    /// After it
    JobCompleted,
}
