//! CI: writing workflows, setting a run up, finding faults in workflows.

use crate::amount::Size;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// The cargo workspace whose siblings are wanted [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// Where a sibling comes from, and which branch, tag or commit to take; may be repeated
    #[arg(long, value_name = "NAME=URL#REF")]
    pub(crate) sibling: Vec<String>,
    /// The branch to take where siblings have it [default: that of the run]
    #[arg(long, value_name = "BRANCH")]
    pub(crate) branch: Option<String>,
    /// Ask no remote: the store's mirrors must do
    #[arg(long)]
    pub(crate) offline: bool,
    /// Throw away changes in siblings that larder checked out
    #[arg(long)]
    pub(crate) exact: bool,
    /// Fail unless so much is free, such as 12GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) need: Option<Size>,
    /// Write the outputs to this file too, as variables: LARDER_PLAN and others
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Workflows and actions [default: .github/workflows, .github/actions and action.yml of this repository]
    #[arg(value_name = "FILES")]
    pub(crate) files: Vec<PathBuf>,
    /// Exit with 1 for findings of this severity or above
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Error)]
    pub(crate) fail_on: FailOn,
    /// How to say it [default: text, or what --format says]
    #[arg(long, value_enum, value_name = "OUTPUT")]
    pub(crate) output: Option<AuditOutput>,
}

/// The severity at which an audit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// What does not work, or lets strangers in
    Error,
    /// What costs time or disk in every run, too
    Warning,
    /// Everything
    Note,
    /// Nothing
    Never,
}

/// How an audit says what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditOutput {
    /// For people
    Text,
    /// One JSON object, as --format json
    Json,
    /// SARIF 2.1.0, for code scanning and editors
    Sarif,
    /// GitHub's annotations
    Github,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The cargo workspace [default: the current directory]
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The CI system that the file is for
    #[arg(long = "for", value_enum, value_name = "SYSTEM", default_value_t = For::Github)]
    pub(crate) system: For,
    /// Change a workflow that is there, and show the difference [default: all in .github/workflows]
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["force", "system"])]
    pub(crate) patch: Option<Option<PathBuf>>,
    /// A label that the runner must have; may be repeated [default: self-hosted and linux]
    #[arg(long, value_name = "LABEL", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) runner: Vec<String>,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Write nothing; print what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What `init` writes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum For {
    /// GitHub Actions: .github/workflows/ci.yml
    Github,
    /// Forgejo and Gitea Actions: .forgejo/workflows/ci.yml
    Forgejo,
    /// GitLab CI: .gitlab-ci.yml
    Gitlab,
    /// Buildkite: .buildkite/pipeline.yml
    Buildkite,
    /// No CI system: a script, ci.sh
    Plain,
}
