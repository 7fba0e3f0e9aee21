//! What was measured, as text for a terminal, as Markdown for a document, and as JSON for programs.

use super::measure::{Stats, ratio};
use super::plan::Row;
use bytesize::ByteSize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The version of the JSON: raised when a field changes its meaning or goes away.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// Everything that one benchmark found.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Report {
    pub(super) schema_version: u32,
    /// The directory that was measured with.
    pub(super) directory: String,
    pub(super) file_system: &'static str,
    /// Whether it is a cargo target directory, where larder knows what each file is.
    pub(super) cargo_target: bool,
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) symlinks: u64,
    pub(super) bytes: u64,
    /// What is rewritten for the rows with changes.
    pub(super) changed_files: u64,
    pub(super) changed_bytes: u64,
    /// The rounds asked for.
    pub(super) rounds: u32,
    /// Whether the page cache was dropped before each restore to an empty place.
    pub(super) cold: bool,
    /// Microseconds that creating one file took before anything was measured.
    pub(super) creation_us: f64,
    /// The rivals' programs and their versions; null for what is not installed.
    pub(super) programs: BTreeMap<&'static str, Option<String>>,
    pub(super) rows: Vec<RowReport>,
}

/// One row of the table.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RowReport {
    pub(super) row: Row,
    pub(super) title: &'static str,
    pub(super) contestants: Vec<ContestantReport>,
}

/// One contestant of a row.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ContestantReport {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// How a contestant did.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "status", rename_all = "kebab-case")]
pub(super) enum Outcome {
    Measured(Measured),
    /// The link mode does not work here: larder used these, for so many files.
    NotAvailable {
        link_modes: BTreeMap<String, u64>,
    },
    /// These programs are not installed.
    Absent {
        missing: Vec<&'static str>,
    },
}

/// Times of whole processes.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) stats: Millis,
    /// How many rounds were run; fewer than asked for if there was no disk space for more.
    pub(super) rounds: u32,
    /// How many times faster than rsync in the same row.
    pub(super) times_rsync: Option<f64>,
    /// What had to be prepared, apart from the times above.
    pub(super) preparation: Option<Preparation>,
    /// The link modes that larder used in the first run, for how many files.
    pub(super) link_modes: BTreeMap<String, u64>,
}

/// Statistics in milliseconds.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Millis {
    pub(super) median_ms: f64,
    pub(super) min_ms: f64,
    pub(super) max_ms: f64,
}

/// A preparation and what it took.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Preparation {
    /// Whether every run needs it or only the first of many.
    pub(super) every_run: bool,
    #[serde(flatten)]
    pub(super) stats: Millis,
}

impl From<Stats> for Millis {
    fn from(stats: Stats) -> Self {
        // To the microsecond: what is finer is noise.
        let ms = |d: Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
        Self { median_ms: ms(stats.median), min_ms: ms(stats.min), max_ms: ms(stats.max) }
    }
}

/// The ratio of two medians, if there is a reference.
pub(super) fn times_faster(reference: Option<Stats>, own: Stats) -> Option<f64> {
    ratio(reference?.median, own.median).map(|r| (r * 100.0).round() / 100.0)
}

/// Creation that takes longer is not what a file system is capable of: ext4 needs 15 µs, Btrfs 40.
const SLOW_CREATION_US: f64 = 100.0;
const HEADINGS: [&str; 5] = ["contestant", "median", "min – max", "× rsync", "remarks"];

impl Report {
    /// One object.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Aligned columns.
    pub(super) fn text(&self) -> String {
        let cells: Vec<Vec<[String; 5]>> = self.rows.iter().map(|r| self.cells(r)).collect();
        let mut widths = HEADINGS.map(|h| h.chars().count());
        for line in cells.iter().flatten() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = self.heading();
        for (row, lines) in self.rows.iter().zip(&cells) {
            text.push_str("\n\n");
            text.push_str(row.title);
            for line in std::iter::once(&HEADINGS.map(str::to_owned)).chain(lines) {
                let mut written = String::from("  ");
                for (i, (cell, width)) in line.iter().zip(widths).enumerate() {
                    // Numbers to the right, words to the left.
                    let pad = " ".repeat(width - cell.chars().count());
                    let (before, after) = if i == 0 || i == 4 { ("", pad.as_str()) } else { (pad.as_str(), "") };
                    written.extend([before, cell, after, "   "]);
                }
                text.push('\n');
                text.push_str(written.trim_end());
            }
        }
        text.push('\n');
        text
    }

    /// A Markdown table that names no path of this machine.
    pub(super) fn markdown(&self) -> String {
        let mut text = self.heading();
        text.push_str(
            "\n\n| work | contestant | median | min – max | × rsync | remarks |\n|---|---|--:|--:|--:|---|\n",
        );
        for row in &self.rows {
            for (i, line) in self.cells(row).iter().enumerate() {
                let title = if i == 0 { row.title } else { "" };
                let cells: Vec<String> = line.iter().map(|c| c.replace('|', "\\|")).collect();
                // Writing to a string does not fail.
                let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
            }
        }
        text
    }

    fn heading(&self) -> String {
        let kind = if self.cargo_target { "a cargo target directory" } else { "a directory" };
        let [files, directories, links] = [self.files, self.directories, self.symlinks].map(count);
        let (bytes, system) = (ByteSize(self.bytes).display().si(), self.file_system);
        let changed = ByteSize(self.changed_bytes).display().si();
        let programs: Vec<String> = self.programs.values().flatten().cloned().collect();
        let warning = slow_creation(self.creation_us).map_or_else(String::new, |w| format!("\nwarning: {w}"));
        format!(
            "{kind} on {system}: {files} files, {bytes}, in {directories} directories, {links} symbolic links; 1 % is \
             {} files, {changed}\nwhole processes, {} in rotating order; medians; larder syncs what it saves, the \
             others do not\n{}{warning}",
            count(self.changed_files),
            if self.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", self.rounds) },
            programs.join("; "),
        )
    }

    fn cells(&self, row: &RowReport) -> Vec<[String; 5]> {
        row.contestants.iter().map(|c| self.line(c)).collect()
    }

    fn line(&self, contestant: &ContestantReport) -> [String; 5] {
        let name = contestant.name.clone();
        let words = |text: String| [name.clone(), "–".to_owned(), String::new(), String::new(), text];
        match &contestant.outcome {
            Outcome::NotAvailable { link_modes } => words(format!("not available here: {}", modes(link_modes))),
            Outcome::Absent { missing } => words(format!("not installed: {}", missing.join(", "))),
            Outcome::Measured(m) => {
                let mut remarks = Vec::new();
                if let Some(p) = &m.preparation {
                    let when = if p.every_run { "before every run" } else { "once" };
                    remarks.push(format!("prepared in {} {when}", time(p.stats.median_ms)));
                }
                if !m.link_modes.is_empty() {
                    remarks.push(modes(&m.link_modes));
                }
                if m.rounds < self.rounds {
                    remarks.push(format!("{} of {} rounds, for want of disk space", m.rounds, self.rounds));
                }
                let range = format!("{} – {}", time(m.stats.min_ms), time(m.stats.max_ms));
                let times = m.times_rsync.map_or_else(String::new, times);
                [name, time(m.stats.median_ms), range, times, remarks.join("; ")]
            }
        }
    }
}

/// What is wrong if creating a file takes so many microseconds.
pub(super) fn slow_creation(us: f64) -> Option<String> {
    (us > SLOW_CREATION_US).then(|| {
        format!(
            "creating a file takes {us:.0} µs here; ext4 is that slow for minutes after much was deleted, which makes \
             everybody who copies look bad: wait five minutes and measure again"
        )
    })
}

/// `hardlink 1,200, copy 30`.
fn modes(modes: &BTreeMap<String, u64>) -> String {
    let mut modes: Vec<_> = modes.iter().collect();
    modes.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    modes.into_iter().map(|(mode, n)| format!("{mode} {}", count(*n))).collect::<Vec<_>>().join(", ")
}

/// Three digits that mean something, and a unit.
fn time(ms: f64) -> String {
    match ms {
        _ if ms < 10.0 => format!("{ms:.2} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ if ms < 1_000.0 => format!("{ms:.0} ms"),
        _ if ms < 10_000.0 => format!("{:.2} s", ms / 1e3),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

fn times(ratio: f64) -> String {
    match ratio {
        _ if ratio < 10.0 => format!("{ratio:.2}"),
        _ if ratio < 100.0 => format!("{ratio:.1}"),
        _ => count(ratio.round() as u64),
    }
}

/// Thousands apart: `1,234,567`.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
