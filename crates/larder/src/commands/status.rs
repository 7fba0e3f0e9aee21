//! `larder status`: the store, its disk and who uses it, on one screen.

use super::is_json;
use crate::cli::Global;
use crate::history;
use crate::holdings::{Access, Amounts, DiskStatus, Status, UseStatus};
use crate::host;
use crate::origin::Origin;
use crate::report::{self, SCHEMA_VERSION};
use crate::settings::Settings;
use crate::talk::Talk;
use crate::{faults, request};
use anyhow::Result;
use larder_fs::{Dir, Meta, Volume};
use larder_store::{Census, Events, FORMAT_VERSION, Store, Use};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(super) fn run(global: &Global) -> Result<u8> {
    let talk = Talk::new(global);
    let dir = request::work_dir(None).unwrap_or_else(|_| Path::new("/").to_path_buf());
    let settings = request::settings(global, &dir, &request::Typed::default())?;
    let path = &settings.store.value;
    let store = faults::open_existing(path, &talk)?;
    let status = match &store {
        Some(store) => look(store, &settings, &talk)?,
        None => Status { disk: disk_of(existing(path), &settings)?, ..empty(path) },
    };
    talk.finish();
    status.warnings.iter().for_each(|warning| talk.warn(warning));
    match is_json(global) {
        true => report::print_json(&status)?,
        false => report::print(&status.text())?,
    }
    Ok(0)
}

fn empty(path: &Path) -> Status {
    Status {
        schema_version: SCHEMA_VERSION,
        path: path.display().to_string(),
        exists: false,
        format: None,
        disk: None,
        total: Amounts::default(),
        lineages: 0,
        repositories: 0,
        store: Census::default().totals.into(),
        damaged: Vec::new(),
        pinned: Vec::new(),
        last_gc: None,
        uses: Vec::new(),
        access: None,
        warnings: Vec::new(),
    }
}

fn look(store: &Store, settings: &Settings, talk: &Talk) -> Result<Status> {
    let census = store.census(talk)?;
    let all: Vec<usize> = (0..census.snapshots.len()).collect();
    let lineages: BTreeSet<_> = census.snapshots.iter().map(|one| &one.lineage).collect();
    let repositories: BTreeSet<_> =
        census.snapshots.iter().filter_map(|one| Origin::of(&one.header).repository).collect();
    let (access, mut warnings) = access(store, &census)?;
    if census.totals.missing > 0 {
        let missing = census.totals.missing;
        warnings.push(format!("{missing} blobs that snapshots name are gone or set aside: `larder verify` names them"));
    }
    Ok(Status {
        exists: true,
        format: Some(FORMAT_VERSION),
        disk: disk_of(store.path(), settings)?,
        total: Amounts::new(&census, census.together(&all), &all),
        lineages: lineages.len() as u64,
        repositories: repositories.len() as u64,
        store: census.totals.into(),
        damaged: census.damaged.iter().map(|(found, _)| found.id.clone()).collect(),
        pinned: store.pins()?.into_iter().map(|pin| pin.snapshot).collect(),
        last_gc: history::last_collection(store)?,
        uses: store.uses()?.into_iter().map(in_use).collect(),
        access: Some(access),
        warnings,
        ..empty(store.path())
    })
}

fn in_use(one: Use) -> UseStatus {
    UseStatus {
        path: one.root.display().to_string(),
        snapshot: one.snapshot,
        since: report::time(one.since),
        stands: one.stands,
        overlay: one.overlay,
        leased: one.leased,
    }
}

fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| larder_fs::exists(path)).unwrap_or(Path::new("/"))
}

fn disk_of(path: &Path, settings: &Settings) -> Result<Option<DiskStatus>> {
    let Some(dir) = Dir::open_optional(path)? else { return Ok(None) };
    let space = Volume::space(&dir)?;
    let percent = |(used, all): (u64, u64)| {
        let percent = if all == 0 { 0.0 } else { used as f64 / all as f64 * 100.0 };
        (percent * 10.0).round() / 10.0
    };
    let inodes = space.inodes_used();
    Ok(Some(DiskStatus {
        file_system: Volume::of(&dir)?.fs_type.name().to_owned(),
        total_bytes: space.total,
        free_bytes: space.available,
        used_percent: percent(space.used()),
        free_inodes: inodes.map(|_| space.inodes_available),
        used_inodes_percent: inodes.map(percent),
        high_percent: settings.high.value,
        low_percent: settings.low.value,
    }))
}

/// Who may write to the store, and what about that a person should change.
fn access(store: &Store, census: &Census) -> Result<(Access, Vec<String>)> {
    let dir = Dir::open(store.path())?;
    let meta = dir.stat_self()?;
    let users = host::read(Path::new("/etc/passwd")).unwrap_or_default();
    let groups = host::read(Path::new("/etc/group")).unwrap_or_default();
    let user = |uid: u32| named(&users, uid);
    let mask = umask();
    let mut owners: BTreeMap<String, u64> = BTreeMap::new();
    for (uid, files) in &census.owners {
        *owners.entry(user(*uid)).or_default() += files;
    }
    let access = Access {
        owner: user(meta.uid),
        group: named(&groups, meta.gid),
        mode: format!("{:04o}", meta.mode),
        umask: mask.map(|mask| format!("{mask:04o}")),
        read_only: store.is_read_only(),
        writers: writers(&meta).to_owned(),
        owners,
    };
    let closed: Vec<String> = dir
        .entries()?
        .into_iter()
        .filter(|entry| entry.is_dir != Some(false))
        .filter_map(|entry| {
            let room = dir.stat_optional(&entry.name).ok()??;
            let differs = (room.mode & 0o2070, room.gid) != (meta.mode & 0o2070, meta.gid);
            differs.then(|| entry.name.to_string_lossy().into_owned())
        })
        .collect();
    let warnings = advice(&access, mask, &closed);
    Ok((access, warnings))
}

fn writers(meta: &Meta) -> &'static str {
    match (meta.mode & 0o002 != 0, meta.mode & 0o020 != 0) {
        (true, _) => "everyone",
        (false, true) => "group",
        (false, false) => "owner",
    }
}

/// What should be changed; `closed` are directories of the store whose group rights are not those of the store's own.
fn advice(access: &Access, umask: Option<u32>, closed: &[String]) -> Vec<String> {
    let mut advice = Vec::new();
    if access.writers == "everyone" {
        let mode = &access.mode;
        advice
            .push(format!("the store has mode {mode}: everyone on this machine may change what builds get; chmod o-w"));
    }
    if access.owners.len() > 1 {
        let names: Vec<String> =
            access.owners.iter().map(|(owner, files)| format!("{owner} ({files} files)")).collect();
        let names = names.join(", ");
        advice.push(match access.writers.as_str() {
            "owner" => format!(
                "blobs and snapshots belong to several users: {names}; who is not their owner copies them instead of \
                 linking, and may not be able to remove them: give each user a store, or chown them"
            ),
            _ => format!(
                "blobs and snapshots belong to several users: {names}; each links its own and copies the others'"
            ),
        });
    }
    if access.writers == "group" {
        let is_inherited = u32::from_str_radix(&access.mode, 8).is_ok_and(|mode| mode & 0o2000 != 0);
        if !is_inherited || !closed.is_empty() {
            advice.push(
                "the group may write to the store, but not to everything in it: chmod -R g+w and set g+s on its \
                 directories"
                    .into(),
            );
        }
        if umask.is_some_and(|umask| umask & 0o020 != 0) {
            advice.push("the store is its group's, but this umask keeps the group from writing: use umask 002".into());
        }
    }
    advice
}

/// The umask of this process. Reading it by setting it would change it for other threads.
fn umask() -> Option<u32> {
    let status = host::read(Path::new("/proc/self/status"))?;
    let text = String::from_utf8_lossy(&status);
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// The name of a user or group by its number, from a file as /etc/passwd is; the number where it has none.
fn named(table: &[u8], number: u32) -> String {
    let text = String::from_utf8_lossy(table);
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| report::one_line(name))
    });
    found.unwrap_or_else(|| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(mode: u32, owners: &[&str], umask: u32, closed: &[&str]) -> String {
        let writers = match (mode & 0o002 != 0, mode & 0o020 != 0) {
            (true, _) => "everyone",
            (false, true) => "group",
            (false, false) => "owner",
        };
        let access = Access {
            owner: "ci".into(),
            group: "ci".into(),
            mode: format!("{mode:04o}"),
            umask: None,
            read_only: false,
            writers: writers.into(),
            owners: owners.iter().map(|owner| ((*owner).to_owned(), 3)).collect(),
        };
        let closed: Vec<String> = closed.iter().map(|name| (*name).to_owned()).collect();
        advice(&access, Some(umask), &closed).join("\n")
    }

    #[test]
    fn what_is_wrong_with_the_rights_is_said() {
        assert_eq!(said(0o755, &["ci"], 0o022, &["blobs"]), "");
        assert_eq!(said(0o2775, &["ci"], 0o002, &[]), "");
        assert!(said(0o777, &["ci"], 0o022, &[]).contains("everyone on this machine"));
        assert!(said(0o755, &["a", "b"], 0o022, &[]).contains("a (3 files), b (3 files); who is not their owner"));
        assert!(said(0o2775, &["a", "b"], 0o002, &[]).ends_with("each links its own and copies the others'"));
        assert!(said(0o775, &["ci"], 0o002, &[]).contains("set g+s"));
        assert!(said(0o2775, &["ci"], 0o002, &["blobs"]).contains("not to everything in it"));
        assert!(said(0o2775, &["ci"], 0o022, &[]).contains("use umask 002"));
    }

    #[test]
    fn names_come_from_the_systems_tables() {
        let table = b"root:x:0:0:root:/root:/bin/sh\nci:x:1000:1000::/home/ci:/bin/sh\nbad\n";
        assert_eq!((named(table, 1000), named(table, 7)), ("ci".to_owned(), "7".to_owned()));
    }
}
