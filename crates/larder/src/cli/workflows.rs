//! CI: finding faults in workflows.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
