//! The table that a job's page shows of the cache: one row, made here for `larder run` and for the action alike.
//!
//! GitHub, Forgejo and Gitea show what a step appends to the file GITHUB_STEP_SUMMARY. `larder run` does so by itself;
//! `restore` and `save` of their own do not, since each knows one half: the action hands both halves to the hidden command
//! `larder summary` when the job is over.

use crate::history::text::{bytes, duration, escaped, number};
use crate::host;
use crate::report::{Result as Outcome, Transfer};
use larder_fs::Dir;
use serde::Deserialize;
use std::path::PathBuf;

/// The runner's file for it.
const FILE: &str = "GITHUB_STEP_SUMMARY";

/// What the table says of a restore or a save. Whatever another version left out is nothing.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Half {
    outcome: Outcome,
    #[serde(default)]
    files: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    added_bytes: u64,
    #[serde(default)]
    duration_ms: u64,
    #[serde(default)]
    reused_units: Option<u64>,
    #[serde(default)]
    spared_ms: Option<u64>,
    #[serde(default)]
    built_units: Option<u64>,
    #[serde(default)]
    built_ms: Option<u64>,
}

impl From<&Transfer> for Half {
    fn from(transfer: &Transfer) -> Self {
        Self {
            outcome: transfer.outcome,
            files: transfer.files,
            bytes: transfer.bytes,
            added_bytes: transfer.added_bytes,
            duration_ms: transfer.duration_ms,
            reused_units: transfer.reused_units,
            spared_ms: transfer.spared_ms,
            built_units: transfer.built_units,
            built_ms: transfer.built_ms,
        }
    }
}

/// What became of the cache in a job.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Told {
    /// The job's name; may be empty.
    #[serde(default)]
    pub(crate) job: String,
    /// The restore, where there was one.
    pub(crate) restore: Option<Half>,
    /// The save, where there was one.
    pub(crate) save: Option<Half>,
}

impl Told {
    /// The table, in Markdown; empty where there is nothing to tell.
    pub(crate) fn markdown(&self) -> String {
        if self.restore.is_none() && self.save.is_none() {
            return String::new();
        }
        let restored = self.restore.as_ref();
        let outcome = restored.map_or("–", |half| match half.outcome {
            Outcome::Hit => "hit",
            Outcome::Partial => "partial",
            _ => "miss",
        });
        let restore = match restored.filter(|half| matches!(half.outcome, Outcome::Hit | Outcome::Partial)) {
            Some(half) => {
                let (files, size) = (number(half.files), bytes(half.bytes));
                format!("{files} files, {size} in {}", duration(half.duration_ms))
            }
            None => "nothing".to_owned(),
        };
        let spared = work(restored.and_then(|half| half.reused_units.zip(half.spared_ms)));
        let compiled = work(self.save.as_ref().and_then(|half| half.built_units.zip(half.built_ms)));
        let save = match self.save.as_ref().filter(|half| half.outcome == Outcome::Saved) {
            Some(half) => {
                format!("{}, {} new, in {}", bytes(half.bytes), bytes(half.added_bytes), duration(half.duration_ms))
            }
            None => "nothing".to_owned(),
        };
        let job = match self.job.as_str() {
            "" => String::new(),
            job => format!(" {}", escaped(job)),
        };
        format!(
            "| larder{job} | restored | compiling spared | compiled | saved |\n|---|---|---|---|---|\n\
             | {outcome} | {restore} | {spared} | {compiled} | {save} |\n\n"
        )
    }

    /// Appends the table to the runner's file, where there is one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written to. Nobody should fail for that.
    pub(crate) fn append(&self) -> larder_fs::Result<()> {
        let Some(path) = host::env(FILE).filter(|path| !path.is_empty()).map(PathBuf::from) else { return Ok(()) };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        Dir::open(parent)?.append(name, self.markdown().as_bytes())
    }
}

/// Seconds of one core, and in how many units.
fn work(units: Option<(u64, u64)>) -> String {
    match units {
        Some((1, ms)) => format!("{} in 1 unit", duration(ms)),
        Some((units, ms)) => format!("{} in {} units", duration(ms), number(units)),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: serde_json::Value) -> Told {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn both_halves_make_one_row() {
        let told = told(serde_json::json!({
            "job": "test",
            "restore": {"outcome": "hit", "files": 7785, "bytes": 6_800_000_000_u64, "duration_ms": 140,
                "reused_units": 203, "spared_ms": 101_000},
            "save": {"outcome": "saved", "bytes": 6_800_000_000_u64, "added_bytes": 31_000_000, "duration_ms": 1250,
                "built_units": 1, "built_ms": 4200, "of_a_later_version": {}},
        }));
        insta::assert_snapshot!(told.markdown(), @"
        | larder test | restored | compiling spared | compiled | saved |
        |---|---|---|---|---|
        | hit | 7,785 files, 6.8 GB in 140 ms | 1 min 41 s in 203 units | 4.2 s in 1 unit | 6.8 GB, 31.0 MB new, in 1.2 s |
        ");
    }

    #[test]
    fn what_was_not_done_is_said_in_few_words() {
        insta::assert_snapshot!(told(serde_json::json!({"restore": {"outcome": "miss"}, "save": null})).markdown(), @"
        | larder | restored | compiling spared | compiled | saved |
        |---|---|---|---|---|
        | miss | nothing | – | – | nothing |
        ");
        insta::assert_snapshot!(told(serde_json::json!({"save": {"outcome": "skipped"}})).markdown(), @"
        | larder | restored | compiling spared | compiled | saved |
        |---|---|---|---|---|
        | – | nothing | – | – | nothing |
        ");
        assert_eq!(Told::default().markdown(), "");
    }

    #[test]
    fn a_name_is_never_markup() {
        let job = "a|b\n<img src=x>`@root`";
        let table = told(serde_json::json!({"job": job, "restore": {"outcome": "miss"}})).markdown();
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(!table.contains('<') && !table.contains("@root") && table.contains("a\\|b"), "{table}");
    }
}
