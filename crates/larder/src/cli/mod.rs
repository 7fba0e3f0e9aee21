//! The command line as typed: words become fields, nothing is decided here.
//!
//! | module | the commands of |
//! |---|---|
//! | `disk` | what the store keeps and gives up |
//! | `workflows` | CI: writing workflows, setting a run up, finding faults |
//! | `runner` | runners and their hooks |

mod disk;
mod runner;
mod workflows;

pub(crate) use disk::*;
pub(crate) use runner::*;
pub(crate) use workflows::*;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use larder_store::LinkMode;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A build cache for Rust CI on machines you own.
///
/// larder keeps cargo's target directory (or any directory) in a store on local disk and gives it back
/// exactly, by links, clones or mounts instead of copies. Cargo stays the only judge of what is fresh.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done (a miss is no error), 1 failed, 2 wrong usage; `run` passes on its command's.\n\
Environment: LARDER_STORE, LARDER_LINK_MODE, LARDER_EXACT, LARDER_SAVE, LARDER_SPARE, LARDER_JOB, LARDER_CANONICAL and \
LARDER_LOG set defaults; LARDER_DISABLE=1 turns larder into a pass-through. `larder config` shows what applies and why."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The directory that holds everything [default: ~/.cache/larder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// What to print on stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say every decision; twice for each file and unit
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object; its schema is in the repository's schemas/
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

/// When `run` saves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SaveWhen {
    /// After the command succeeded
    #[default]
    Success,
    /// Whatever the command did
    Always,
    /// Never
    Never,
}

/// How files leave and enter the store: the store's modes, as words of a command line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Mode(pub(crate) LinkMode);

impl ValueEnum for Mode {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: [Mode; LinkMode::ALL.len()] = {
            let mut all = [Mode(LinkMode::Auto); LinkMode::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = Mode(LinkMode::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            LinkMode::Auto => "The best that works, file by file",
            LinkMode::Spare => "Rename a tree that was prepared ahead of time",
            LinkMode::Subvolume => "Snapshot a Btrfs subvolume",
            LinkMode::Reflink => "Share extents (Btrfs, XFS)",
            LinkMode::Hardlink => "Hard-link what nothing rewrites, copy the rest",
            LinkMode::Overlay => "Mount an overlay; as an ordinary user only in `run`",
            LinkMode::Copy => "Copy everything",
        };
        Some(PossibleValue::new(self.0.name()).help(help))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Restore, run a command, save: the main job, in CI or on a desk
    #[command(after_help = "Example: larder run -- cargo test --workspace\n\n\
The command runs in the workspace; its exit code is passed on; signals are forwarded to it. A fault of the cache \
never fails it: larder warns and goes on without. stdout is the command's own; with --format json larder's object \
follows, as the last line.")]
    Run(RunArgs),
    /// Run a script in the canonical world: `shell: larder shell {0}` in a GitHub workflow
    #[command(
        after_help = "The script is run as GitHub would run it, by bash --noprofile --norc -eo pipefail, else by \
sh -e; nothing is restored or saved. Whatever cargo hashes stands at the same paths on every machine: see \
docs/canonical.md. Where that is not permitted, larder says why, and the script runs without."
    )]
    Shell(ShellArgs),
    #[command(hide = true)]
    Enter(EnterArgs),
    /// Make the target directory (or any) what a snapshot says
    #[command(after_help = "A miss exits 0 and leaves the directory alone. Example for any directory:\n  \
larder restore --path node_modules --key npm-$HASH --fallback-key npm-")]
    Restore(RestoreArgs),
    /// Publish a snapshot of the target directory (or any)
    Save(SaveArgs),
    /// List snapshots
    #[command(after_help = "Example: larder ls --branch main --sort bytes")]
    Ls(LsArgs),
    /// Say what the store's disk space goes to, and what removing which snapshots would free
    #[command(
        after_help = "Logical bytes are the lengths of all files, as copies would have. Stored is space on disk, \
each blob once. Unique is stored for this row alone. Reclaimable is what removing the row's snapshots would free: a blob \
that a workspace still links frees nothing.\n\n\
Examples:\n  \
larder du                              what each lineage (a job of a repository) holds\n  \
larder du --by repository --sort unique\n  \
larder du --by snapshot --job test     which snapshots to remove with `larder rm`"
    )]
    Du(DuArgs),
    /// Show store, disk and who uses them on one screen
    #[command(after_help = "Warnings on stderr name what a person should change: a store that others may write to, \
files of several owners, damage.")]
    Status,
    /// Read everything and check it: exits 1 if something is damaged
    #[command(
        after_help = "With --repair nothing intact is lost: what is wrong moves to quarantine, what larder derives is \
removed, rooms, FORMAT and modes are mended. Jobs may go on meanwhile. Exits 0 when nothing is damaged any more. \
Example: larder verify --repair --dry-run"
    )]
    Verify(VerifyArgs),
    /// Remove snapshots, and what only they needed
    Rm(RmArgs),
    /// Evict what is worth least, and delete what nothing needs
    #[command(
        after_help = "Drops what is old or too many in its lineage; then, while the store is over its budget or \
room is needed, what spares the fewest expected seconds for its bytes. What a job uses or somebody pinned stays.\n\n\
Examples:\n  larder gc --dry-run        who would go, in this order, and why\n  larder gc --need 12GB      make room for a job; \
exits 1 if that cannot be\n  larder gc --budget 20%     keep the store below a fifth of its disk\n\n\
Settings in larder.toml: budget, max-age, keep, keep-cargo-home, high, low, lease. See docs/eviction.md."
    )]
    Gc(GcArgs),
    /// Keep the disks of store and workspaces between their marks; exits 1 if there is no room
    #[command(
        after_help = "Above the high mark it evicts down to the low one, in the order of `larder gc`. Where that is not \
enough it names what fills the disk, and touches nothing of it. Folders of others are cleaned up only where the host's \
larder.toml names them:\n\n  [[care]]\n  path = \"/home/runner/_work/_temp\"\n  max-age = \"3d\"\n\n\
Example, before a job: larder guard --need 12GB"
    )]
    Guard(GuardArgs),
    /// Keep snapshots from being evicted
    #[command(after_help = "Example: larder pin --reason 'release 1.2' cargo-test-1f0c9a4be2d7\n\n\
`larder ls` shows names and keys. A pin stays until `larder unpin`.")]
    Pin(PinArgs),
    /// Let pinned snapshots be evicted again
    Unpin(UnpinArgs),
    /// Say which units the last saved build compiled, and why
    #[command(
        after_help = "Cargo says of a unit that it is dirty, or, for most reasons, nothing at all. larder compares \
the units before and after a build and names the file, flag, variable or dependency. Example: larder why serde"
    )]
    Why(WhyArgs),
    /// Say what the store cost and spared: text, JSON, Markdown, or a page with pictures
    #[command(
        after_help = "Every restore, save and removal is recorded in the store. Spared is what the units that were restored \
cost when they were compiled, added up: on several cores a build takes less. Examples:\n  \
larder report --since 7d\n  \
larder report --html report.html\n  \
larder report --markdown >> \"$GITHUB_STEP_SUMMARY\""
    )]
    Report(ReportArgs),
    /// Once in a workflow: resolve sibling repositories to commits, and plan it for all jobs
    #[command(
        after_help = "Siblings are the repositories beside this one that manifests name by path, and those that they name. Of \
each the branch of the run's own name is taken, else that of the pull request's base, else the configured or the default one. \
Outputs go to GITHUB_OUTPUT and stdout: `plan`, `cache-key`, and `key-NAME` and `commit-NAME` of each sibling. Other jobs take the \
plan by LARDER_PLAN or --plan, and build the same commits. Fetches go to mirrors in the store and move only what is new; a \
remote that cannot be reached is replaced by its mirror, with a warning. See docs/setup.md.\n\n\
Examples:\n  \
larder setup\n  \
larder setup --sibling consensus=https://git.example.org/acme/consensus#v1.2\n  \
larder setup --output larder.env      (GitLab: artifacts:reports:dotenv)\n\n\
In larder.toml:\n\n  default-branch = \"develop\"\n  [siblings.consensus]\n  url = \"https://git.example.org/acme/consensus\"\n  \
branch = \"main\""
    )]
    Setup(SetupArgs),
    /// Find what in workflows costs time, disk or trust, and say what to do
    #[command(
        after_help = "Reads GitHub workflows and composite actions; without FILES those of this repository. Changes nothing. Every \
rule has a bad and a good example in docs/audit.md; `# larder: allow(rule) reason` on a line, or above it, silences a rule \
there. Examples:\n  \
larder audit\n  \
larder audit --fail-on warning .github/workflows/ci.yml\n  \
larder audit --output github      (annotations on a pull request)\n  \
larder audit --output sarif > larder.sarif"
    )]
    Audit(AuditArgs),
    /// Write the workflow for this repository: one setup, jobs that start warm
    #[command(
        after_help = "Writes one file, which says in comments why it is as it is, and larder.toml only where a sibling's address \
cannot be guessed. A file that is there stays, unless --force is given.\n\n\
With --patch it changes a GitHub workflow in place: caches of cargo's directories go, commands that build are run by \
larder, siblings that several jobs check out come from one setup job. Comments, order and every other byte stay; what it \
does not understand it leaves alone, and says so. docs/init.md shows both. Examples:\n  \
larder init --dry-run\n  \
larder init --for gitlab\n  \
larder init --patch .github/workflows/ci.yml --dry-run\n  \
larder init --patch --runner self-hosted --runner linux"
    )]
    Init(InitArgs),
    /// Put hooks around every job of a GitHub runner, and a timer that collects
    #[command(
        after_help = "Before each job the hooks make room and end the leases of jobs that were killed; after it they end its own and \
collect now and then. They end in time and fail no job. Hooks that are there already are called by larder's, and \
nothing else in .env changes. See docs/runner.md. Examples:\n  \
larder install-runner --dry-run ~/actions-runner\n  \
larder install-runner --store /var/cache/larder ~/actions-runner\n  \
larder install-runner --undo ~/actions-runner"
    )]
    InstallRunner(InstallRunnerArgs),
    #[command(hide = true)]
    Hook(HookArgs),
    /// Read what restore and save said, as one JSON object on stdin; print a job's table in Markdown. For the action.
    #[command(hide = true)]
    Summary,
    /// Show every setting, its value, and where that comes from
    Config(ConfigArgs),
    /// Measure larder against rsync, cp and tar | zstd on a directory of yours
    Bench(crate::bench::BenchArgs),
}

/// Which directories, and under which name.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Which {
    /// The cargo workspace whose target directory is kept [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// Keep this directory instead of the target directory; may be repeated
    #[arg(long, value_name = "DIR", requires = "key")]
    pub(crate) path: Vec<PathBuf>,
    /// The snapshot's exact name [default for cargo: made from compiler, paths, lock file and job]
    #[arg(long, value_name = "KEY", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,
    /// Let a --path snapshot be restored at another path than it was saved from
    #[arg(long, requires = "path")]
    pub(crate) key_only: bool,
    /// The job whose snapshots come first [default: GITHUB_JOB, else from the command, else `job`]
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// How files leave and enter the store
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) link_mode: Option<Mode>,
    /// Work at paths that are the same on every machine and in every checkout
    #[arg(long)]
    pub(crate) canonical: bool,
}

/// What only a restore needs to know.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct How {
    /// Without an exact match take the newest snapshot whose key starts so; may be repeated, in order
    #[arg(long, value_name = "PREFIX")]
    pub(crate) fallback_key: Vec<String>,
    /// Remove what is in the directory and not in the snapshot; replace what is newer
    #[arg(long)]
    pub(crate) exact: bool,
    /// Say which snapshots were considered, and what building on each would cost
    #[arg(long)]
    pub(crate) explain: bool,
    /// Check the siblings out as `larder setup` planned [default: LARDER_PLAN]
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) how: How,
    /// When to save
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) save: Option<SaveWhen>,
    /// After saving, prepare a tree so that the next restore is one rename
    #[arg(long)]
    pub(crate) spare: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The script
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Enter the canonical world and become a command: larder starts itself so.
#[derive(Debug, Args)]
pub(crate) struct EnterArgs {
    /// Only see whether it is permitted
    #[arg(long)]
    pub(crate) check: bool,
    /// A directory, and where it is to stand
    #[arg(long, num_args = 2, value_names = ["REAL", "CANONICAL"])]
    pub(crate) bind: Vec<PathBuf>,
    /// Where the command starts
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) dir: PathBuf,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) how: How,
    /// Change nothing; say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Leave out units that no build wants any more, as `run` does after success
    #[arg(long)]
    pub(crate) prune: bool,
    /// Prepare a tree so that the next restore is one rename
    #[arg(long)]
    pub(crate) spare: bool,
    /// Change nothing; say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Which snapshots of the store.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Filter {
    /// Only snapshots whose key starts so
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(crate) key: String,
    /// Only snapshots of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    pub(crate) repository: Option<String>,
    /// Only snapshots of this job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Only snapshots saved on this branch
    #[arg(long, value_name = "BRANCH")]
    pub(crate) branch: Option<String>,
    /// Only snapshots of this kind of directory
    #[arg(long, value_name = "KIND", value_parser = crate::origin::KINDS)]
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// What comes first: the newest, or the largest number
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = LsSort::Newest)]
    pub(crate) sort: LsSort,
}

/// The order of `ls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LsSort {
    Newest,
    Bytes,
    Files,
    /// By key, the newest first within one
    Key,
}

#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    /// What a row is
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Lineage)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// The column with the largest numbers first
    #[arg(long, value_enum, value_name = "COLUMN", default_value_t = DuSort::Stored)]
    pub(crate) sort: DuSort,
}

/// What a row of `du` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Repository,
    /// A job of a repository, at one place
    Lineage,
    Snapshot,
    Branch,
    /// Target directories, CARGO_HOME, other paths
    Kind,
}

/// The order of `du`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DuSort {
    Stored,
    Logical,
    Unique,
    Reclaimable,
    Snapshots,
    /// By name
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Only this crate or unit
    #[arg(value_name = "UNIT|CRATE")]
    pub(crate) unit: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// How far to look back: hours, days or weeks, as 12h, 30d, 4w
    #[arg(long, value_name = "AGE", default_value = "30d", value_parser = age)]
    pub(crate) since: Duration,
    /// Print Markdown, for the summary of a CI step
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Write one HTML page with pictures, whole in itself, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// The longest period that a report looks back over.
const LONGEST_AGE: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Reads `12h`, `30d` or `4w`.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with h, d or w, such as 30d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return Err(wrong()),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds = number.parse::<u64>().map_err(|_| wrong())?.saturating_mul(hours * 3600);
    let age = Duration::from_secs(seconds);
    match age {
        Duration::ZERO => Err(wrong()),
        age if age > LONGEST_AGE => Err("more than ten years is too long".to_owned()),
        age => Ok(age),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The workspace whose larder.toml applies [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn ages_are_numbers_with_a_unit() {
        assert_eq!(age("36h").unwrap(), Duration::from_secs(36 * 3600));
        assert_eq!(age("2w").unwrap(), age("14d").unwrap());
        for wrong in ["", "d", "30", "0d", "-1d", "+1d", "1.5d", "30m", "1d ", "9999w", "99999999999999999999d", "3é"]
        {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
