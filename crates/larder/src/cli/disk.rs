//! What the store keeps and gives up: rm, verify, gc, guard, pin, unpin.

use crate::amount::{Budget, Size, Span};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct RmArgs {
    /// Snapshots, by the names that `larder ls` shows
    #[arg(value_name = "SNAPSHOT", group = "what")]
    pub(crate) snapshots: Vec<String>,
    /// All snapshots of exactly this key
    #[arg(long, value_name = "KEY", group = "what")]
    pub(crate) key: Option<String>,
    /// Also those that are pinned, or that a running job restored
    #[arg(long)]
    pub(crate) force: bool,
    /// Change nothing; say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Mend what is damaged, and list what was done
    #[arg(long)]
    pub(crate) repair: bool,
    /// Change nothing; say what would be done
    #[arg(long, requires = "repair")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Evict until so much is free on the store's file system, such as 12GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) need: Option<Size>,
    /// What the store may take: a size, a part of its file system such as 20%, or off [default: off]
    #[arg(long, value_name = "SIZE")]
    pub(crate) budget: Option<Budget>,
    /// Drop what was not used for so long, such as 7d or 36h, or off [default: 7d]
    #[arg(long, value_name = "TIME")]
    pub(crate) max_age: Option<Span>,
    /// So many snapshots of each lineage may stay, the newest ones [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,
    /// Change nothing; say who would go, in this order
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// A directory whose disk is looked at too; may be repeated [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Vec<PathBuf>,
    /// What a job is about to write there, such as 12GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) need: Option<Size>,
    /// Act above so many percent [default: 80]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) high: Option<u8>,
    /// Until it is so many [default: 70]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) low: Option<u8>,
    /// Change nothing; say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct PinArgs {
    /// Snapshots, by name, or by key: then the newest one
    #[arg(value_name = "ID|KEY", group = "what")]
    pub(crate) snapshots: Vec<String>,
    /// Why, for whoever wonders later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// List what is pinned
    #[arg(long, group = "what")]
    pub(crate) list: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnpinArgs {
    /// Snapshots, by name, or by key: then all of it
    #[arg(required = true, value_name = "ID|KEY")]
    pub(crate) snapshots: Vec<String>,
}
