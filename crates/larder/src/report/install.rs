//! The object of `install-runner`.

use serde::Serialize;

/// One file, and what becomes of it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InstallStep {
    /// `write` or `remove`.
    pub(crate) change: &'static str,
    /// The file.
    pub(crate) path: String,
}

/// The object of `install-runner`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InstallRunner {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// Whether nothing was changed because only the plan was asked for.
    pub(crate) dry_run: bool,
    /// Whether what was there before was restored.
    pub(crate) undo: bool,
    /// The runner's folder.
    pub(crate) runner: String,
    /// Files written and removed, in order; none where all was as it should be.
    pub(crate) steps: Vec<InstallStep>,
    /// Hooks that were there before and are called by larder's.
    pub(crate) chained: Vec<String>,
    /// Commands that a person still has to run.
    pub(crate) commands: Vec<String>,
}
