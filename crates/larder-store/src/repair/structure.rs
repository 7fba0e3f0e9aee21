//! What a listing of the store shows: rooms, FORMAT, names that larder never gives, modes and owners, leftovers.
//!
//! Which modes a store has is told by its own directory: where its group may write, the group shares the store and must
//! be able to read and search; otherwise its owner must. Nothing is ever opened to more than that.

use super::{Remedy, Survey, below, is_hex, quoted};
use crate::blob::{BLOBS, INGEST, QUARANTINE, SIDECAR, SaveId};
use crate::error::{Error, Result};
use crate::store::{FORMAT, FormatFile, ROOMS, SESSIONS, SNAPSHOTS, TMP, TREES, parse_format};
use crate::{session, snapshot};
use larder_fs::{Dir, Kind, Lock, LockKind, Meta};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What is said of names that larder never gives.
const FOREIGN: &str = "larder never makes such a file here";

impl Survey<'_> {
    /// Looks at everything that need not be read.
    pub(super) fn structure(&mut self) -> Result<()> {
        // Where everything else goes comes first; what says that the store is whole comes last.
        let others = ROOMS.into_iter().filter(|room| *room != QUARANTINE);
        for room in std::iter::once(QUARANTINE).chain(others) {
            match self.store.root.stat_optional(OsStr::new(room))? {
                None => self.step(room, "the directory is missing", Remedy::MakeRoom),
                Some(meta) if meta.kind == Kind::Dir => self.access(OsStr::new(room), &meta),
                Some(_) => {
                    self.step(room, "it is no directory", Remedy::Quarantine);
                    self.step(room, "the directory is missing", Remedy::MakeRoom);
                }
            }
        }
        match self.store.root.stat_optional(OsStr::new("lock"))? {
            Some(meta) if meta.kind != Kind::File => self.step("lock", "it is no file", Remedy::Quarantine),
            Some(meta) => self.access(OsStr::new("lock"), &meta),
            None => {}
        }
        self.format()?;
        self.staging()?;
        self.ingest_names()?;
        self.sessions()
    }

    /// What FORMAT says, and whether a lost one may be written anew.
    pub(super) fn format(&mut self) -> Result<()> {
        let root = &self.store.root;
        let name = OsStr::new(FORMAT);
        let fault = match root.stat_optional(name)? {
            None => "it is missing",
            Some(meta) if meta.kind == Kind::File => {
                self.access(name, &meta);
                let bytes = match larder_fs::read_optional(&root.join(name)) {
                    Ok(bytes) => bytes.unwrap_or_default(),
                    // Said already.
                    Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
                    Err(e) => return Err(e.into()),
                };
                match parse_format(&bytes) {
                    FormatFile::Ours => return Ok(()),
                    FormatFile::Other(found) => {
                        let path = self.store.path().to_path_buf();
                        return Err(Error::ForeignFormat { path, found, known: crate::store::FORMAT_VERSION });
                    }
                    FormatFile::Unreadable => "it does not say what larder wrote",
                }
            }
            Some(_) => "it is no file",
        };
        self.recognise()?;
        if fault != "it is missing" {
            self.step(FORMAT, fault, Remedy::Quarantine);
        }
        self.step(FORMAT, "no FORMAT says what this is, but everything in it is this version's", Remedy::WriteFormat);
        Ok(())
    }

    /// Refuses what may be anything, or another version's.
    fn recognise(&self) -> Result<()> {
        let refuse =
            |reason: &str| Err(Error::NotAStore { path: self.store.path().to_path_buf(), reason: reason.into() });
        let is_room = |room: &str| {
            let meta = self.store.root.stat_optional(OsStr::new(room));
            meta.is_ok_and(|meta| meta.is_some_and(|meta| meta.kind == Kind::Dir))
        };
        if ![BLOBS, SNAPSHOTS, INGEST].iter().all(|room| is_room(room)) {
            return refuse(
                "it has no FORMAT of larder, and not the directories blobs, ingest and snapshots that would tell a \
                 store",
            );
        }
        let (mut ours, mut others) = (false, None);
        for (_, path) in self.snapshot_files()? {
            match snapshot::version_of(&path) {
                Some(version) if version == snapshot::VERSION => ours = true,
                Some(version) => others = Some(version),
                None => {}
            }
        }
        match others {
            Some(version) if !ours => refuse(&format!(
                "it has no FORMAT of larder, and its snapshots have version {version}: repair it with the larder \
                 that made them"
            )),
            _ => Ok(()),
        }
    }

    /// The snapshots' files by their names below the store; what else is there is not among them.
    pub(super) fn snapshot_files(&self) -> Result<Vec<(OsString, std::path::PathBuf)>> {
        let mut files = Vec::new();
        for (place, meta) in self.list(OsStr::new(SNAPSHOTS))? {
            if meta.kind != Kind::Dir || !is_hex(&place, 16) {
                continue;
            }
            let dir = below(SNAPSHOTS, &place);
            for (name, meta) in self.list(&dir)? {
                if meta.kind == Kind::File && is_snapshot_name(&name) {
                    let relative = below(&dir.to_string_lossy(), &name);
                    files.push((relative.clone(), self.store.root.join(relative)));
                }
            }
        }
        Ok(files)
    }

    /// What stands in a directory of the store, by name; nothing where it is absent or closed, which is said elsewhere.
    pub(super) fn list(&self, relative: &OsStr) -> Result<Vec<(OsString, Meta)>> {
        let dir = match self.store.root.open_beneath(relative) {
            Ok(dir) => dir,
            Err(e) if is_passing(&e) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let mut found = Vec::new();
        for entry in dir.entries()? {
            match dir.stat_optional(&entry.name) {
                Ok(Some(meta)) => found.push((entry.name, meta)),
                Ok(None) => {}
                // It can be listed and not searched.
                Err(e) if is_passing(&e) => return Ok(Vec::new()),
                Err(e) => return Err(e.into()),
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// What a directory of one room holds, with everything foreign on the way to quarantine.
    pub(super) fn known(
        &mut self,
        relative: &OsStr,
        is_known: &dyn Fn(&OsStr, &Meta) -> bool,
    ) -> Result<Vec<(OsString, Meta)>> {
        let (known, foreign): (Vec<_>, Vec<_>) =
            self.list(relative)?.into_iter().partition(|(name, meta)| is_known(name, meta));
        let dir = relative.to_string_lossy();
        for (name, _) in foreign {
            self.step(below(&dir, &name), FOREIGN, Remedy::Quarantine);
        }
        Ok(known)
    }

    /// Whether the store's accounts can use this, and what would let them.
    pub(super) fn access(&mut self, relative: &OsStr, meta: &Meta) {
        let is_dir = meta.kind == Kind::Dir;
        let required = match (is_dir, self.shared) {
            (true, true) => 0o770,
            (true, false) => 0o700,
            (false, true) => 0o440,
            (false, false) => 0o400,
        };
        let may_change = self.uid == 0 || self.uid == meta.uid;
        if meta.mode & required != required {
            let remedy = match may_change {
                true => Remedy::SetMode(meta.mode | required),
                false => Remedy::Ask(self.command(relative, is_dir)),
            };
            let fault = format!("its mode {:04o} keeps the store's accounts out", meta.mode);
            self.step(relative, fault, remedy);
        }
        // Where accounts share the store each has files of its own.
        let closed = if is_dir { 0o005 } else { 0o004 };
        if !self.shared && meta.uid != self.owner && (is_dir || meta.mode & closed != closed) {
            let remedy = match self.uid {
                0 => Remedy::SetOwner(self.owner),
                _ => Remedy::Ask(format!("sudo chown {} {}", self.owner, quoted(&self.store.root.join(relative)))),
            };
            self.step(relative, format!("it belongs to the user {}, the store to {}", meta.uid, self.owner), remedy);
        }
    }

    /// What lets the store's accounts in, for whoever may do it.
    pub(super) fn command(&self, relative: &OsStr, is_dir: bool) -> String {
        let class = if self.shared { "ug" } else { "u" };
        let bits = if is_dir { "rwx" } else { "r" };
        format!("sudo chmod {class}+{bits} {}", quoted(&self.store.root.join(relative)))
    }

    fn staging(&mut self) -> Result<()> {
        for (name, meta) in self.list(OsStr::new(TMP))? {
            let path = self.store.path().join(TMP).join(&name);
            let living = meta.kind == Kind::Dir
                && matches!(Lock::existing(&path, LockKind::Exclusive, Duration::ZERO), Ok(None) | Err(_));
            if !living {
                self.step(below(TMP, &name), "a process that is gone left it", Remedy::Sweep);
            }
        }
        Ok(())
    }

    fn ingest_names(&mut self) -> Result<()> {
        let is_save = |name: &OsStr, meta: &Meta| {
            meta.kind == Kind::Dir && SaveId::parse(name).is_some_and(|id| id.dir_name() == name)
        };
        for (save, meta) in self.known(OsStr::new(INGEST), &is_save)? {
            let dir = below(INGEST, &save);
            self.access(&dir, &meta);
            let is_blob = |name: &OsStr, meta: &Meta| meta.kind == Kind::File && index_of(name).is_some();
            let known = self.known(&dir, &is_blob)?;
            for (name, _) in &known {
                let Some(blob) = name.to_str().and_then(|name| name.strip_suffix(SIDECAR)) else { continue };
                let relative = below(&dir.to_string_lossy(), name);
                if !known.iter().any(|(other, _)| other == blob) {
                    self.step(relative, "it is the digest of a blob that is gone", Remedy::Remove);
                    continue;
                }
                let says = |bytes: Vec<u8>| blake3::Hash::from_hex(bytes.trim_ascii()).is_ok();
                if larder_fs::read_optional(&self.store.root.join(&relative)).is_ok_and(|bytes| !bytes.is_none_or(says))
                {
                    self.step(relative, "it holds no digest", Remedy::Remove);
                }
            }
        }
        Ok(())
    }

    fn sessions(&mut self) -> Result<()> {
        // `.overlay` holds what a job wrote, and what a later larder adds is not for this one to judge.
        let is_known = |name: &OsStr, meta: &Meta| {
            let name = name.as_bytes();
            let (root, suffix) = name.split_at(name.len().min(24));
            let kind = if suffix == b".overlay" { Kind::Dir } else { Kind::File };
            is_hex(OsStr::from_bytes(root), 24) && (suffix.is_empty() || suffix[0] == b'.') && meta.kind == kind
        };
        for (name, meta) in self.known(OsStr::new(SESSIONS), &is_known)? {
            let relative = below(SESSIONS, &name);
            self.access(&relative, &meta);
            let is_record = name.len() == 24 || name.as_bytes().ends_with(b".sources");
            if !is_record {
                continue;
            }
            let read = larder_fs::read_optional(&self.store.root.join(&relative));
            if read.is_ok_and(|bytes| bytes.is_some_and(|bytes| session::is_damaged(&bytes))) {
                self.step(relative, "the record is damaged; without it the next save reads more", Remedy::Remove);
            }
        }
        Ok(())
    }

    /// The names of digest blobs that are there, and with them whatever is foreign.
    pub(super) fn digest_names(&mut self) -> Result<Vec<(blake3::Hash, Meta)>> {
        let mut blobs = Vec::new();
        let is_fan = |name: &OsStr, meta: &Meta| meta.kind == Kind::Dir && is_hex(name, 2);
        let is_blob = |name: &OsStr, meta: &Meta| meta.kind == Kind::File && is_hex(name, 62);
        for (fan, meta) in self.known(OsStr::new(BLOBS), &is_fan)? {
            let dir = below(BLOBS, &fan);
            self.access(&dir, &meta);
            for (name, meta) in self.known(&dir, &is_blob)? {
                self.access(&below(&dir.to_string_lossy(), &name), &meta);
                let hex = format!("{}{}", fan.to_string_lossy(), name.to_string_lossy());
                blobs.extend(blake3::Hash::from_hex(&hex).ok().map(|hash| (hash, meta)));
            }
        }
        Ok(blobs)
    }

    /// Sends whatever is no snapshot out of their room.
    pub(super) fn snapshot_names(&mut self) -> Result<()> {
        let is_place = |name: &OsStr, meta: &Meta| meta.kind == Kind::Dir && is_hex(name, 16);
        let is_snapshot = |name: &OsStr, meta: &Meta| meta.kind == Kind::File && is_snapshot_name(name);
        for (place, meta) in self.known(OsStr::new(SNAPSHOTS), &is_place)? {
            let dir = below(SNAPSHOTS, &place);
            self.access(&dir, &meta);
            for (name, meta) in self.known(&dir, &is_snapshot)? {
                self.access(&below(&dir.to_string_lossy(), &name), &meta);
            }
        }
        Ok(())
    }

    /// The prepared trees, by snapshot and name.
    pub(super) fn tree_names(&mut self) -> Result<Vec<(OsString, OsString)>> {
        let mut trees = Vec::new();
        let is_id = |name: &OsStr, meta: &Meta| meta.kind == Kind::Dir && is_hex(name, 20);
        let is_tree = |name: &OsStr, meta: &Meta| {
            let kinds = [&b"spare-"[..], b"subvolume-", b"lower-"];
            meta.kind == Kind::Dir && kinds.iter().any(|kind| name.as_bytes().starts_with(kind))
        };
        for (id, meta) in self.known(OsStr::new(TREES), &is_id)? {
            let dir = below(TREES, &id);
            self.access(&dir, &meta);
            let known = self.known(&dir, &is_tree)?;
            trees.extend(known.into_iter().map(|(name, _)| (id.clone(), name)));
        }
        Ok(trees)
    }

    /// Whether something is in quarantine under names that begin so.
    pub(super) fn set_aside(&self) -> Result<Vec<String>> {
        let names = self.list(OsStr::new(QUARANTINE))?.into_iter();
        Ok(names.map(|(name, _)| name.to_string_lossy().into_owned()).collect())
    }
}

/// Whether looking further makes no sense, and the reason is said where the thing itself is looked at.
fn is_passing(e: &larder_fs::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, PermissionDenied};
    e.is_not_found() || e.is_link() || matches!(e.kind(), PermissionDenied | NotADirectory)
}

fn is_snapshot_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    match name.iter().position(|byte| *byte == b'-') {
        Some(16) => is_hex(OsStr::from_bytes(&name[..16]), 16) && is_hex(OsStr::from_bytes(&name[17..]), 20),
        _ => false,
    }
}

/// The number of a blob of a save, from its name or that of its digest.
fn index_of(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?;
    let number = name.strip_suffix(SIDECAR).unwrap_or(name);
    number.parse::<u32>().ok().filter(|index| index.to_string() == number)
}

/// Opens a directory below the store, for who changes something in it.
pub(super) fn parent_of<'r>(root: &Dir, relative: &'r OsStr) -> Result<(Dir, &'r OsStr)> {
    let bytes = relative.as_bytes();
    let (dir, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(cut) => (&bytes[..cut], &bytes[cut + 1..]),
        None => (&b""[..], bytes),
    };
    Ok((root.open_beneath(OsStr::from_bytes(dir))?, OsStr::from_bytes(name)))
}
