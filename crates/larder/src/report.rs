//! What commands say on stdout: objects with a version, and the lines that people get instead.
//!
//! The schemas are checked in (`schemas/`) and a test keeps them equal to these types.

pub(crate) mod audit;
mod install;

pub(crate) use install::{InstallRunner, InstallStep};

use crate::origin::Origin;
use crate::sources::{Compiled, Considered, Stamped};
use crate::talk::actions;
use anyhow::Context as _;
use bytesize::ByteSize;
use larder_store::{Outcome, Restored, Saved, Work};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::Duration;

/// Raised when a field changes its meaning or goes away; new fields may appear without.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// How it went, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Result {
    /// The exact key, whole.
    Hit,
    /// Another key, or not all of it.
    Partial,
    /// Nothing.
    Miss,
    /// A snapshot was published.
    Saved,
    /// Nothing was published.
    Skipped,
}

/// Files by what was done to them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WorkReport {
    /// Share an inode with the store since.
    linked: u64,
    /// Share extents with the store since.
    reflinked: u64,
    /// Were written.
    copied: u64,
    /// Were digested.
    hashed: u64,
    /// Were right already, or known from the last time.
    unchanged: u64,
    /// Were removed.
    removed: u64,
}

impl From<Work> for WorkReport {
    fn from(work: Work) -> Self {
        let Work { linked, reflinked, copied, hashed, unchanged, removed } = work;
        Self { linked, reflinked, copied, hashed, unchanged, removed }
    }
}

/// A snapshot that might have been restored.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConsideredReport {
    /// Its name in the store.
    pub(crate) snapshot: String,
    /// Its key.
    pub(crate) key: String,
    /// Whether the same job saved it; any that did is nearer than all others.
    pub(crate) same_job: bool,
    /// Sources that differ from today's.
    pub(crate) differing: u64,
    /// Units that would be built again.
    pub(crate) units: u64,
    /// What these cost when they were built last, in milliseconds of one core.
    pub(crate) predicted_ms: u64,
    /// Packages of today's lock file of which it knows nothing.
    pub(crate) unknown_packages: u64,
}

impl From<Considered> for ConsideredReport {
    fn from(considered: Considered) -> Self {
        let Considered { snapshot, key, same_job, differing, prediction } = considered;
        Self {
            snapshot,
            key,
            same_job,
            differing: differing.len() as u64,
            units: prediction.units as u64,
            predicted_ms: prediction.millis,
            unknown_packages: prediction.unknown as u64,
        }
    }
}

/// What became of the sources after a restore.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SourcesReport {
    /// Files that hold what they held when the snapshot was made, and have the time they had.
    pub(crate) unchanged: u64,
    /// Files that hold something else.
    pub(crate) changed: u64,
    /// Files that were not there.
    pub(crate) new: u64,
    /// Files that are not there any more.
    pub(crate) deleted: u64,
    /// Packages touched as a whole, each with the file that was the reason: no unit says whether it reads that.
    pub(crate) touched: BTreeMap<String, String>,
}

impl From<Stamped> for SourcesReport {
    fn from(stamped: Stamped) -> Self {
        let shown = |(package, file): (PathBuf, PathBuf)| (package.display().to_string(), file.display().to_string());
        Self {
            unchanged: stamped.unchanged,
            changed: stamped.changed.len() as u64,
            new: stamped.new.len() as u64,
            deleted: stamped.deleted.len() as u64,
            touched: stamped.touched.into_iter().map(shown).collect(),
        }
    }
}

/// The object of `restore` and `save`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Transfer {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// How it went.
    pub(crate) outcome: Result,
    /// The key of the snapshot used or published; the one asked for where there is none.
    pub(crate) key: String,
    /// Its name in the store.
    pub(crate) snapshot: Option<String>,
    /// File names in it.
    pub(crate) files: u64,
    /// Bytes of its distinct files.
    pub(crate) bytes: u64,
    /// Files by the mode that moved them.
    pub(crate) link_modes: BTreeMap<String, u64>,
    /// Why better modes were not used.
    pub(crate) why_not: BTreeMap<String, String>,
    /// What was done.
    pub(crate) work: WorkReport,
    /// What was left out because of damage in the store: cargo makes it again.
    pub(crate) left_out: Vec<String>,
    /// The sources, where their times were set.
    pub(crate) sources: Option<SourcesReport>,
    /// Whether the snapshot is another workspace's, and only units of public packages were taken from it.
    pub(crate) grafted: bool,
    /// The snapshots that were compared with the sources, before the nearest was taken.
    pub(crate) considered: Vec<ConsideredReport>,
    /// Units that the restore spares, where that is known.
    pub(crate) reused_units: Option<u64>,
    /// What these cost when they were compiled, in milliseconds of one core.
    pub(crate) spared_ms: Option<u64>,
    /// Units that were compiled before the save, where that is known.
    pub(crate) built_units: Option<u64>,
    /// What these cost, in milliseconds of one core.
    pub(crate) built_ms: Option<u64>,
    /// The slowest of them, for the history.
    #[serde(skip)]
    pub(crate) slowest: Vec<(String, u64)>,
    /// Bytes by which the store grew.
    pub(crate) added_bytes: u64,
    /// The directory was newer than the snapshot and was left alone.
    pub(crate) kept_newer: bool,
    /// Whether nothing was changed because only the plan was asked for.
    pub(crate) dry_run: bool,
    /// How long it took, in milliseconds.
    pub(crate) duration_ms: u64,
}

impl ConsideredReport {
    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let job = if self.same_job { "" } else { " of another job" };
        let unknown = match self.unknown_packages {
            0 => String::new(),
            packages => format!(", and {packages} packages that it does not know"),
        };
        format!(
            "considered {}{job}: {} sources differ, {} units to build again (about {:.1} s){unknown}",
            self.snapshot,
            self.differing,
            self.units,
            Duration::from_millis(self.predicted_ms).as_secs_f64()
        )
    }
}

impl Transfer {
    /// Nothing found or done.
    pub(crate) fn nothing(outcome: Result, key: &str) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            outcome,
            key: key.to_owned(),
            snapshot: None,
            files: 0,
            bytes: 0,
            link_modes: BTreeMap::new(),
            why_not: BTreeMap::new(),
            work: WorkReport::default(),
            left_out: Vec::new(),
            sources: None,
            grafted: false,
            considered: Vec::new(),
            reused_units: None,
            spared_ms: None,
            built_units: None,
            built_ms: None,
            slowest: Vec::new(),
            added_bytes: 0,
            kept_newer: false,
            dry_run: false,
            duration_ms: 0,
        }
    }

    pub(crate) fn restored(restored: Restored, key: &str) -> Self {
        let outcome = match restored.outcome {
            Outcome::Hit => Result::Hit,
            Outcome::Partial => Result::Partial,
            Outcome::Miss => Result::Miss,
        };
        Self {
            key: restored.key.unwrap_or_else(|| key.to_owned()),
            snapshot: restored.snapshot,
            files: restored.files,
            bytes: restored.bytes,
            link_modes: restored.link_modes,
            why_not: restored.why_not,
            work: restored.work.into(),
            left_out: restored.omitted,
            kept_newer: restored.kept_newer,
            grafted: restored.grafted,
            ..Self::nothing(outcome, key)
        }
    }

    pub(crate) fn with_sources(mut self, stamped: Option<Stamped>, considered: Vec<Considered>) -> Self {
        self.considered = considered.into_iter().map(ConsideredReport::from).collect();
        let spared = stamped.as_ref().map(|stamped| stamped.spared);
        self.reused_units = spared.map(|spared| spared.units);
        self.spared_ms = spared.map(|spared| spared.millis);
        self.sources = stamped.map(SourcesReport::from);
        self
    }

    pub(crate) fn with_compiled(mut self, compiled: Option<Compiled>) -> Self {
        self.built_units = compiled.as_ref().map(|compiled| compiled.units);
        self.built_ms = compiled.as_ref().map(|compiled| compiled.millis);
        self.slowest = compiled.map(|compiled| compiled.slowest).unwrap_or_default();
        self
    }

    /// How many files a restore made.
    pub(crate) fn made(&self) -> u64 {
        self.work.linked + self.work.reflinked + self.work.copied
    }

    pub(crate) fn saved(saved: Saved) -> Self {
        let outcome = if saved.snapshot.is_some() { Result::Saved } else { Result::Skipped };
        Self {
            snapshot: saved.snapshot,
            files: saved.files,
            bytes: saved.bytes,
            added_bytes: saved.added,
            link_modes: saved.link_modes,
            why_not: saved.why_not,
            work: saved.work.into(),
            ..Self::nothing(outcome, &saved.key)
        }
    }

    /// One line for people, without its time.
    pub(crate) fn line(&self) -> String {
        let what = match self.outcome {
            Result::Hit => "hit",
            Result::Partial => "partial",
            Result::Miss if self.key.is_empty() => return "miss".to_owned(),
            Result::Miss => return format!("miss: no snapshot for {}", self.key.escape_debug()),
            Result::Saved => "saved",
            Result::Skipped if self.dry_run => "would save",
            Result::Skipped => return "nothing saved".to_owned(),
        };
        let mut line = format!("{what} {}: {}", self.key.escape_debug(), files(self.files, self.bytes));
        if self.kept_newer {
            line.push_str(", left alone: the directory is newer than the snapshot");
            return line;
        }
        let modes: Vec<String> = self.link_modes.iter().map(|(mode, files)| format!("{files} by {mode}")).collect();
        let mut details = modes;
        for (count, word) in [(self.work.unchanged, "unchanged"), (self.work.removed, "removed")] {
            if count > 0 {
                details.push(format!("{count} {word}"));
            }
        }
        if !details.is_empty() {
            line.push_str(&format!(" ({})", details.join(", ")));
        }
        if let Some(sources) = &self.sources {
            let counts = [(sources.changed, "changed"), (sources.new, "new"), (sources.deleted, "deleted")];
            let counts: Vec<String> =
                counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
            if !counts.is_empty() {
                line.push_str(&format!("; sources: {}", counts.join(", ")));
            }
        }
        if self.grafted {
            line.push_str("; grafted from another workspace");
        }
        if self.dry_run && self.outcome != Result::Skipped {
            line.push_str("; a dry run: nothing was changed");
        }
        if !self.left_out.is_empty() {
            line.push_str(&format!("; left out, since damaged: {}", self.left_out.join(", ")));
        }
        line
    }
}

fn files(files: u64, bytes: u64) -> String {
    format!("{files} files, {}", ByteSize(bytes).display().si())
}

/// What became of CARGO_HOME around a command.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CargoHome {
    /// What was added before it; `work.unchanged` are the files that stood there already.
    pub(crate) restore: Option<Transfer>,
    /// What was saved after it; nothing where the store had all of it.
    pub(crate) save: Option<Transfer>,
}

/// The object of `run`: that of its restore, with the save and the command's end.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Run {
    /// The restore.
    #[serde(flatten)]
    pub(crate) restore: Transfer,
    /// The save, where there was one.
    pub(crate) save: Option<Transfer>,
    /// What became of CARGO_HOME, where anything did.
    pub(crate) cargo_home: Option<CargoHome>,
    /// The command's exit code (128 and the number where a signal ended it).
    pub(crate) exit_code: u8,
    /// How long the command took, in milliseconds.
    pub(crate) command_ms: u64,
}

/// One snapshot of `ls`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LsEntry {
    /// Its name, for `rm`.
    pub(crate) snapshot: String,
    /// Its key.
    pub(crate) key: String,
    /// Who may read it.
    pub(crate) scope: String,
    /// When it was published, RFC 3339.
    pub(crate) created: String,
    /// File names in it.
    pub(crate) files: u64,
    /// Bytes of its distinct files.
    pub(crate) bytes: u64,
    /// The directories it was saved from.
    pub(crate) paths: Vec<String>,
    /// Where it comes from.
    #[serde(flatten)]
    pub(crate) origin: Origin,
}

/// The object of `ls`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Ls {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// Newest first, unless another order was asked for.
    pub(crate) snapshots: Vec<LsEntry>,
}

/// One damaged file of `verify`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Damage {
    /// The file in the store.
    pub(crate) path: String,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// One step of a repair.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RepairStep {
    /// What was wrong: a path in the store.
    pub(crate) path: String,
    /// What was wrong with it.
    pub(crate) fault: String,
    /// What is done: `make-room`, `write-format`, `quarantine`, `remove`, `sweep`, `set-mode`, `set-owner`, `set-time`,
    /// `record-digest`, `note-loss`; `ask` where a command has to be run by somebody else, `leave` where a person has
    /// to decide.
    pub(crate) remedy: String,
    /// The same in words.
    pub(crate) words: String,
    /// Whether it was done.
    pub(crate) done: bool,
    /// Where the thing is since, where it was moved.
    pub(crate) moved_to: Option<String>,
    /// Why it could not be done.
    pub(crate) error: Option<String>,
    /// The command that helps, where this account may not.
    pub(crate) command: Option<String>,
}

/// A snapshot that cannot be restored whole.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Lacking {
    /// Its name in the store.
    pub(crate) snapshot: String,
    /// Its key.
    pub(crate) key: String,
    /// How many of its files are lost.
    pub(crate) files: u64,
    /// The units that these belong to, which cargo will build again; the files where there are no units, in which case
    /// the snapshot is a miss.
    pub(crate) concerned: Vec<String>,
}

/// The object of `verify --repair`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Repair {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// Whether nothing is damaged any more.
    pub(crate) clean: bool,
    /// Snapshots read whole.
    pub(crate) snapshots: u64,
    /// Blobs whose digest was compared.
    pub(crate) blobs: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// What was wrong and what was done, in that order.
    pub(crate) steps: Vec<RepairStep>,
    /// Snapshots that lack something, now or since an earlier time.
    pub(crate) lacking: Vec<Lacking>,
    /// Whether nothing was changed because only the plan was asked for.
    pub(crate) dry_run: bool,
    /// How long it took, in milliseconds.
    pub(crate) duration_ms: u64,
}

/// The object of `verify`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Verify {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// Whether nothing is damaged.
    pub(crate) clean: bool,
    /// Snapshots read.
    pub(crate) snapshots: u64,
    /// Blobs compared with their digest.
    pub(crate) blobs: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Blobs whose digest was recorded now for the first time.
    pub(crate) digested: u64,
    /// Blobs that snapshots name and that were set aside earlier.
    pub(crate) set_aside: u64,
    /// What is damaged.
    pub(crate) damaged: Vec<Damage>,
    /// How long it took, in milliseconds.
    pub(crate) duration_ms: u64,
}

/// The object of `rm`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Rm {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// Snapshots removed.
    pub(crate) snapshots: Vec<String>,
    /// Blobs deleted.
    pub(crate) blobs: u64,
    /// Bytes freed.
    pub(crate) bytes: u64,
    /// Whether nothing was changed because only the plan was asked for.
    pub(crate) dry_run: bool,
}

/// One unit of `why`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WhyUnit {
    /// The package.
    pub(crate) package: String,
    /// Kind and name of the target, as cargo names it in its fingerprints.
    pub(crate) target: String,
    /// Cargo's hash of the unit.
    pub(crate) hash: String,
    /// The profile folder.
    pub(crate) profile: String,
    /// What it cost, in milliseconds.
    pub(crate) ms: u64,
    /// Whether it was built only because others were.
    pub(crate) consequence: bool,
    /// Why, in words.
    pub(crate) reasons: Vec<String>,
}

/// The object of `why`.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Why {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// The snapshot that the build was saved as; `null` where there is none.
    pub(crate) snapshot: Option<String>,
    /// Its key.
    pub(crate) key: Option<String>,
    /// The snapshot that the build started from.
    pub(crate) since: Option<String>,
    /// Units that were not built.
    pub(crate) fresh: u64,
    /// Units that were, or those asked for.
    pub(crate) units: Vec<WhyUnit>,
}

/// One setting of `config`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConfigEntry {
    /// Its name, as in `larder.toml`.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
    /// Where that comes from.
    pub(crate) source: String,
}

/// The object of `config`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Config {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// All settings.
    pub(crate) settings: Vec<ConfigEntry>,
}

/// A name as people see it, which must not break its line or command their terminal.
pub(crate) fn one_line(name: &str) -> String {
    name.chars().fold(String::new(), |mut shown, c| {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// A time as JSON and tables have it, RFC 3339.
pub(crate) fn time(time: larder_fs::Timestamp) -> String {
    jiff::Timestamp::new(time.secs, i32::try_from(time.nanos).unwrap_or(0))
        .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().si().to_string()
}

/// An object as one line.
pub(crate) fn json(object: &impl Serialize) -> anyhow::Result<String> {
    let json = serde_json::to_string(object)?;
    Ok(format!("{}\n", if actions::is_on() { actions::inert_json(&json) } else { json }))
}

/// Prints an object.
pub(crate) fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    print(&json(object)?)
}

/// Prints data. A reader who has seen enough is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let safe = if actions::is_on() { actions::inert(text) } else { text.into() };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(safe.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}
