//! larder itself as a contestant: its command lines, and what it answers.

use super::measure::{Job, Stage};
use anyhow::{Context, bail};
use larder_store::LinkMode;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The version of larder's JSON that is understood here.
const SCHEMA_VERSION: u32 = 1;

/// A larder executable.
#[derive(Debug)]
pub(super) struct Larder {
    pub(super) program: PathBuf,
}

/// What a restore did.
#[derive(Debug, Deserialize)]
pub(super) struct Restored {
    schema_version: u32,
    outcome: String,
    #[serde(default)]
    link_modes: BTreeMap<String, u64>,
}

impl Larder {
    fn command(&self, store: &Path) -> Stage {
        Stage::new(&self.program).arg("--store").arg(store).args(["--format", "json"])
    }

    /// Saves `path` under `key`; with `spare`, prepares a tree for the next restore too.
    pub(super) fn save(&self, store: &Path, path: &Path, key: &str, spare: bool) -> Job {
        let stage = self.command(store).args(["save", "--key-only", "--link-mode", "auto", "--key", key, "--path"]);
        Job::of(stage.arg(path).args(spare.then_some("--spare")))
    }

    /// Restores `key` to a place where nothing is.
    pub(super) fn restore(&self, store: &Path, path: &Path, key: &str, mode: LinkMode) -> Job {
        let stage = self.command(store).args(["restore", "--key-only", "--link-mode", mode.name()]);
        Job::of(stage.args(["--key", key, "--path"]).arg(path))
    }

    /// Restores `key` over what is at `path`, and removes what is not part of it.
    pub(super) fn restore_over(&self, store: &Path, path: &Path, key: &str) -> Job {
        let stage = self.command(store).args(["restore", "--exact", "--key-only", "--link-mode", "auto"]);
        Job::of(stage.args(["--key", key, "--path"]).arg(path))
    }
}

impl Restored {
    /// Reads what a restore printed, which must have been a hit.
    pub(super) fn read(stdout: &[u8]) -> anyhow::Result<Self> {
        let this: Self =
            serde_json::from_slice(stdout).context("larder restore printed something that is not its JSON")?;
        if this.schema_version != SCHEMA_VERSION {
            bail!("larder restore speaks schema version {}, not {SCHEMA_VERSION}", this.schema_version);
        }
        if this.outcome != "hit" {
            bail!("larder restore answered `{}` for a snapshot that was just saved", this.outcome);
        }
        Ok(this)
    }

    /// Whether `mode` was used for anything at all, as it was asked for.
    pub(super) fn used(&self, mode: LinkMode) -> bool {
        mode == LinkMode::Auto || self.link_modes.get(mode.name()).is_some_and(|n| *n > 0)
    }

    /// The modes that were used and for how many files.
    pub(super) fn modes(&self) -> BTreeMap<String, u64> {
        self.link_modes.iter().filter(|(_, n)| **n > 0).map(|(m, n)| (m.clone(), *n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_is_not_the_mode_asked_for() {
        let json = r#"{"schema_version":1,"outcome":"hit","files":3,"link_modes":{"hardlink":2,"copy":1,"overlay":0}}"#;
        let restored = Restored::read(json.as_bytes()).unwrap();
        assert!(restored.used(LinkMode::Hardlink) && restored.used(LinkMode::Copy) && restored.used(LinkMode::Auto));
        assert!(!restored.used(LinkMode::Overlay) && !restored.used(LinkMode::Spare));
        assert_eq!(restored.modes().len(), 2);
    }

    #[test]
    fn only_a_hit_counts() {
        for bad in ["", "{}", r#"{"schema_version":1,"outcome":"miss"}"#, r#"{"schema_version":2,"outcome":"hit"}"#] {
            Restored::read(bad.as_bytes()).unwrap_err();
        }
    }
}
