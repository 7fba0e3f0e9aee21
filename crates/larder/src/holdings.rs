//! What the store holds, as `du` and `status` print it: objects with a version, and tables for people.

use crate::amount::count;
use crate::origin::Origin;
use crate::report::{one_line, size};
use larder_store::{Census, Sums, Totals};
use serde::Serialize;
use std::collections::BTreeSet;

/// Snapshots taken together, in bytes and numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Amounts {
    /// Snapshots.
    pub(crate) snapshots: u64,
    /// Names of files and symbolic links in them.
    pub(crate) files: u64,
    /// The lengths of their files: what a full copy of each would take at least.
    pub(crate) logical_bytes: u64,
    /// The lengths of the files of the newest of each lineage: what one full copy per job, as rsync
    /// keeps it, would take at least.
    pub(crate) naive_bytes: u64,
    /// Space on disk, each blob once.
    pub(crate) stored_bytes: u64,
    /// Space on disk for these alone.
    pub(crate) unique_bytes: u64,
    /// What removing them would free.
    pub(crate) reclaimable_bytes: u64,
}

impl Amounts {
    /// Of the snapshots of these indices, whose sums are known.
    pub(crate) fn new(census: &Census, sums: Sums, members: &[usize]) -> Self {
        // The first of a lineage is its newest.
        let mut seen = BTreeSet::new();
        let newest = members.iter().map(|index| &census.snapshots[*index]).filter(|one| seen.insert(&one.lineage));
        Self {
            snapshots: sums.snapshots,
            files: sums.files,
            logical_bytes: sums.logical,
            naive_bytes: newest.map(|one| one.logical).fold(0, u64::saturating_add),
            stored_bytes: sums.stored,
            unique_bytes: sums.unique,
            reclaimable_bytes: sums.reclaimable,
        }
    }
}

/// What the parts of the store take on disk.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Parts {
    /// Blobs that snapshots name.
    pub(crate) blobs: u64,
    /// Blobs that snapshots name and that are not there.
    pub(crate) missing: u64,
    /// What the blobs take.
    pub(crate) blob_bytes: u64,
    /// What the files of snapshots take, with the small files in them.
    pub(crate) snapshot_bytes: u64,
    /// Prepared trees.
    pub(crate) trees: u64,
    /// What they take beside blobs.
    pub(crate) tree_bytes: u64,
    /// Blobs that no readable snapshot names.
    pub(crate) orphans: u64,
    /// What they take.
    pub(crate) orphan_bytes: u64,
    /// Mirrors of sibling repositories.
    pub(crate) mirrors: u64,
    /// What they take.
    pub(crate) mirror_bytes: u64,
    /// What is set aside in quarantine.
    pub(crate) quarantine_bytes: u64,
    /// Sessions, staging, damaged snapshots, and what is not larder's.
    pub(crate) other_bytes: u64,
    /// All of it.
    pub(crate) bytes: u64,
}

impl From<Totals> for Parts {
    fn from(totals: Totals) -> Self {
        Self {
            blobs: totals.blobs,
            missing: totals.missing,
            blob_bytes: totals.blob_bytes,
            snapshot_bytes: totals.snapshot_bytes,
            trees: totals.trees,
            tree_bytes: totals.tree_bytes,
            orphans: totals.orphans,
            orphan_bytes: totals.orphan_bytes,
            mirrors: totals.mirrors,
            mirror_bytes: totals.mirror_bytes,
            quarantine_bytes: totals.quarantine_bytes,
            other_bytes: totals.other_bytes,
            bytes: totals.stored(),
        }
    }
}

impl Parts {
    /// What takes something, in words.
    pub(crate) fn line(&self) -> String {
        let parts = [
            (self.blob_bytes, "blobs"),
            (self.snapshot_bytes, "snapshots"),
            (self.tree_bytes, "prepared trees"),
            (self.orphan_bytes, "orphan blobs"),
            (self.mirror_bytes, "mirrors of siblings"),
            (self.quarantine_bytes, "quarantine"),
            (self.other_bytes, "other files"),
        ];
        let words: Vec<String> = parts
            .iter()
            .filter(|(bytes, _)| *bytes > 0)
            .map(|(bytes, what)| format!("{} {what}", size(*bytes)))
            .collect();
        let list = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
        format!("{}{list}", size(self.bytes))
    }
}

/// One row of `du`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DuGroup {
    /// What all of its snapshots have in common, by the question asked; empty where that is not known.
    pub(crate) name: String,
    /// Its sizes.
    #[serde(flatten)]
    pub(crate) amounts: Amounts,
    /// Where all of them come from, as far as they have it in common.
    pub(crate) origin: Option<Origin>,
    /// When the newest of them was published, RFC 3339.
    pub(crate) newest: String,
}

/// The object of `du`.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Du {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// What a group is: `repository`, `lineage`, `snapshot`, `branch` or `kind`.
    pub(crate) by: String,
    /// The groups, in the order asked for.
    pub(crate) groups: Vec<DuGroup>,
    /// All chosen snapshots together; what groups share counts once in `stored_bytes`.
    pub(crate) total: Amounts,
    /// Lineages of the chosen snapshots.
    pub(crate) lineages: u64,
    /// The whole store, whatever was chosen.
    pub(crate) store: Parts,
    /// Snapshots that cannot be read.
    pub(crate) damaged: Vec<String>,
}

impl Du {
    /// As a table, with the comparison below it.
    pub(crate) fn text(&self) -> String {
        let head = ["SNAPSHOTS", "LOGICAL", "STORED", "UNIQUE", "RECLAIMABLE"].map(str::to_owned);
        let cells = |amounts: &Amounts| {
            let bytes = [amounts.logical_bytes, amounts.stored_bytes, amounts.unique_bytes, amounts.reclaimable_bytes];
            let mut cells = vec![amounts.snapshots.to_string()];
            cells.extend(bytes.map(size));
            cells
        };
        let mut rows = vec![(head.to_vec(), self.by.to_uppercase())];
        rows.extend(self.groups.iter().map(|group| (cells(&group.amounts), self.named(group))));
        rows.push((cells(&self.total), "total".into()));
        let width = |column: usize| rows.iter().map(|(cells, _)| cells[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut out = String::new();
        for (cells, name) in &rows {
            for (cell, width) in cells.iter().zip(&widths) {
                out.push_str(&format!("{cell:>width$}  "));
            }
            out.push_str(name);
            out.push('\n');
        }
        let Amounts { snapshots, logical_bytes, naive_bytes, stored_bytes, .. } = self.total;
        out.push_str(&format!(
            "\n{} on disk for what would be at least {} as a copy for each of {}, {} as one for each of {}\nthe store takes {}\n",
            size(stored_bytes),
            size(logical_bytes),
            count(snapshots, "snapshot"),
            size(naive_bytes),
            count(self.lineages, "lineage"),
            self.store.line(),
        ));
        out
    }

    fn named(&self, group: &DuGroup) -> String {
        let name = if group.name.is_empty() { "(unknown)".into() } else { one_line(&group.name) };
        let of = |value: &Option<String>| value.as_deref().map(one_line);
        let origin = group.origin.as_ref().filter(|_| matches!(self.by.as_str(), "lineage" | "snapshot"));
        let Some(origin) = origin else { return name };
        let job = of(&origin.job).filter(|_| self.by == "snapshot").or_else(|| Some(origin.kind.clone()));
        let more: Vec<String> = [of(&origin.repository), job, of(&origin.branch)].into_iter().flatten().collect();
        format!("{name}  {}", more.join(" "))
    }
}

/// The file system of the store.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DiskStatus {
    /// Its kind, as far as larder treats it in a way of its own.
    pub(crate) file_system: String,
    /// All bytes.
    pub(crate) total_bytes: u64,
    /// Bytes that this account may still write.
    pub(crate) free_bytes: u64,
    /// What is used of what can be, in percent. What is kept back for the system can be used by nobody.
    pub(crate) used_percent: f64,
    /// Files that may still be made; `null` where the file system does not count them.
    pub(crate) free_inodes: Option<u64>,
    /// Files that there are, in percent of those that can be; `null` where they are not counted.
    pub(crate) used_inodes_percent: Option<f64>,
    /// Above this percentage jobs and `guard` evict.
    pub(crate) high_percent: u8,
    /// Down to this one.
    pub(crate) low_percent: u8,
}

/// The last time that something was evicted or swept, as far as the history tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LastGc {
    /// When, RFC 3339.
    pub(crate) at: String,
    /// Snapshots that were evicted then.
    pub(crate) evicted: u64,
    /// Bytes that came free.
    pub(crate) freed_bytes: u64,
}

/// A directory that is in use.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct UseStatus {
    /// The directory.
    pub(crate) path: String,
    /// The snapshot that was last restored to it or saved from it; empty where a first restore did not come to its end.
    pub(crate) snapshot: String,
    /// When, RFC 3339.
    pub(crate) since: String,
    /// Whether the directory is still there.
    pub(crate) stands: bool,
    /// Whether an overlay shows it.
    pub(crate) overlay: bool,
    /// Whether a living process has a lease on that.
    pub(crate) leased: bool,
}

/// Who may write to the store.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Access {
    /// The user who owns it, by name where it has one.
    pub(crate) owner: String,
    /// Its group.
    pub(crate) group: String,
    /// Permission bits of the store's directory, in octal.
    pub(crate) mode: String,
    /// The umask of this process, in octal; `null` where the system does not tell.
    pub(crate) umask: Option<String>,
    /// Whether this account can only read it.
    pub(crate) read_only: bool,
    /// Who may write to it: `owner`, `group` or `everyone`.
    pub(crate) writers: String,
    /// Owners of blobs and snapshots, with the number of files.
    pub(crate) owners: std::collections::BTreeMap<String, u64>,
}

/// The object of `status`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Status {
    /// Version of this object.
    pub(crate) schema_version: u32,
    /// The store's path.
    pub(crate) path: String,
    /// Whether there is a store.
    pub(crate) exists: bool,
    /// The version of its format.
    pub(crate) format: Option<u32>,
    /// Its disk.
    pub(crate) disk: Option<DiskStatus>,
    /// All snapshots together.
    pub(crate) total: Amounts,
    /// Lineages.
    pub(crate) lineages: u64,
    /// Repositories that are known by name.
    pub(crate) repositories: u64,
    /// What the store takes.
    pub(crate) store: Parts,
    /// Snapshots that cannot be read.
    pub(crate) damaged: Vec<String>,
    /// Snapshots that are pinned, by name.
    pub(crate) pinned: Vec<String>,
    /// The last clean-up; `null` where the history knows of none.
    pub(crate) last_gc: Option<LastGc>,
    /// Directories that were restored to or saved from.
    pub(crate) uses: Vec<UseStatus>,
    /// Who may write.
    pub(crate) access: Option<Access>,
    /// What a person should look at.
    pub(crate) warnings: Vec<String>,
}

impl Status {
    /// As one screen.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, text: String| out.push_str(&format!("{name:<8}{text}\n"));
        let format = self.format.map_or("there is none yet".to_owned(), |format| format!("format {format}"));
        line("store", format!("{} ({format})", one_line(&self.path)));
        if let Some(disk) = &self.disk {
            let inodes = disk.used_inodes_percent.zip(disk.free_inodes);
            let inodes = inodes
                .map_or(String::new(), |(percent, free)| format!("; {percent:.0} % of the inodes used, {free} free"));
            let (free, total) = (size(disk.free_bytes), size(disk.total_bytes));
            line(
                "disk",
                format!("{} {:.0} % used, {free} of {total} free{inodes}", disk.file_system, disk.used_percent),
            );
            line("marks", format!("above {} % it is cleaned up, down to {} %", disk.high_percent, disk.low_percent));
        }
        let Some(access) = &self.access else { return out };
        let (snapshots, lineages) = (count(self.total.snapshots, "snapshot"), count(self.lineages, "lineage"));
        let repositories = match self.repositories {
            0 => String::new(),
            number => format!(" in {}", count(number, "repository")),
        };
        let logical = size(self.total.logical_bytes);
        line("holds", format!("{snapshots} of {lineages}{repositories}, {logical} in {} files", self.total.files));
        line("takes", self.store.line());
        line("trees", format!("{} prepared", self.store.trees));
        line("pins", format!("{} pinned", count(self.pinned.len() as u64, "snapshot")));
        line(
            "last gc",
            match &self.last_gc {
                Some(LastGc { at, evicted, freed_bytes }) => {
                    format!("{at}, {} evicted, {} freed", count(*evicted, "snapshot"), size(*freed_bytes))
                }
                None => "none is recorded".to_owned(),
            },
        );
        let (standing, leased) = (
            self.uses.iter().filter(|one| one.stands).count() as u64,
            self.uses.iter().filter(|one| one.leased).count() as u64,
        );
        let gone = self.uses.len() as u64 - standing;
        let gone = if gone > 0 { format!(", {gone} of directories that are gone") } else { String::new() };
        line("uses", format!("{} with a session{gone}, {}", count(standing, "directory"), count(leased, "live lease")));
        let who = match access.writers.as_str() {
            "owner" => "only the owner may write",
            "group" => "its group may write",
            _ => "everyone may write",
        };
        let read_only = if access.read_only { ", read-only for this account" } else { "" };
        line("access", format!("{}:{} {}, {who}{read_only}", access.owner, access.group, access.mode));
        out
    }
}
