//! One step, carried out. No choices are made here but one: what is no longer as it was when it was looked at stays.

use super::structure::parent_of;
use super::{Ending, Remedy, Step};
use crate::blob::{BlobId, QUARANTINE, SIDECAR, SaveId};
use crate::error::{Error, Result};
use crate::session;
use crate::store::{FORMAT, FormatFile, SESSIONS, Store, TMP, parse_format, sweep_one, write_format};
use larder_fs::{Kind, Lock, LockKind};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// Names in quarantine are cut here, so that there is room for what tells them apart.
const LONGEST: usize = 200;

impl Store {
    pub(super) fn apply(&self, step: &Step) -> Result<Ending> {
        let done = Ok(Ending::Done(None));
        match &step.remedy {
            Remedy::Ask(_) | Remedy::Leave => return Ok(Ending::Planned),
            Remedy::MakeRoom => self.make_room(&step.relative)?,
            Remedy::WriteFormat => {
                write_format(&self.root)?;
                let bytes = larder_fs::read_optional(&self.root.join(FORMAT))?.unwrap_or_default();
                if !matches!(parse_format(&bytes), FormatFile::Ours) {
                    return Ok(Ending::Failed("something else stands there".into()));
                }
            }
            Remedy::RecordDigest(digest) => {
                let id = ingest_id(&step.relative).expect("only ingest blobs have their digest beside them");
                self.blobs().record_digest(id, *digest)?;
            }
            Remedy::NoteLoss => self.note_loss(&step.relative)?,
            Remedy::SetMode(mode) => {
                let (dir, name) = parent_of(&self.root, &step.relative)?;
                match step.relative.is_empty() {
                    true => self.root.set_mode_self(*mode)?,
                    false => dir.set_mode(name, *mode)?,
                }
            }
            Remedy::SetOwner(uid) => {
                let (dir, name) = parent_of(&self.root, &step.relative)?;
                dir.set_owner(name, *uid)?;
            }
            Remedy::SetTime(time) => {
                let (dir, name) = parent_of(&self.root, &step.relative)?;
                dir.set_mtime(name, *time)?;
            }
            Remedy::Sweep => {
                let (_, name) = parent_of(&self.root, &step.relative)?;
                sweep_one(&self.room(TMP)?, name)?;
            }
            Remedy::Quarantine => {
                return match self.set_aside(&step.relative) {
                    Ok(to) => Ok(Ending::Done(Some(to))),
                    // Somebody else did it.
                    Err(Error::Fs(e)) if e.is_not_found() && e.path == self.root.join(&step.relative) => done,
                    Err(e) => Err(e),
                };
            }
            Remedy::Remove => return self.remove_derived(&step.relative),
        }
        done
    }

    fn make_room(&self, relative: &OsStr) -> Result<()> {
        self.root.ensure_dir(relative)?;
        let store = self.root.stat_self()?;
        let made = self.root.stat(relative)?;
        if store.mode & 0o020 != 0 && made.mode & 0o070 != 0o070 {
            self.root.set_mode(relative, made.mode | 0o070)?;
        }
        if made.uid != store.uid && larder_fs::process::effective_uid() == 0 {
            self.root.set_owner(relative, store.uid)?;
        }
        Ok(())
    }

    /// Moves something to quarantine. Its name there tells where it was.
    fn set_aside(&self, relative: &OsStr) -> Result<PathBuf> {
        let (dir, name) = parent_of(&self.root, relative)?;
        let mut flat = relative.as_bytes().to_vec();
        flat.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'-');
        flat.truncate(LONGEST);
        flat.extend_from_slice(format!(".{:08x}", fastrand::u32(..)).as_bytes());
        let flat = OsString::from_vec(flat);
        let is_dir = dir.stat(name)?.kind == Kind::Dir;
        if relative == QUARANTINE {
            // It stands where it should go: beside, until there is such a room.
            self.root.rename(name, &self.root, &flat)?;
            return Ok(self.root.join(flat));
        }
        self.root.ensure_dir(OsStr::new(QUARANTINE))?;
        let quarantine = self.room(QUARANTINE)?;
        match is_dir {
            true => dir.rename_dir(name, &quarantine, &flat)?,
            false => dir.rename(name, &quarantine, &flat)?,
        }
        Ok(quarantine.join(flat))
    }

    fn note_loss(&self, relative: &OsStr) -> Result<()> {
        // A save may have brought it back.
        if self.root.stat_optional(relative).is_ok_and(|meta| meta.is_some()) {
            return Ok(());
        }
        self.root.ensure_dir(OsStr::new(QUARANTINE))?;
        let name: OsString = format!("{}.lost", relative.to_string_lossy().replace('/', "-")).into();
        let text = b"This blob was gone when the store was repaired.\n";
        match larder_fs::write_new(&self.room(QUARANTINE)?, &name, &[text], false) {
            Err(e) if !e.is_already_exists() => Err(e.into()),
            _ => Ok(()),
        }
    }

    fn remove_derived(&self, relative: &OsStr) -> Result<Ending> {
        let (dir, name) = match parent_of(&self.root, relative) {
            Err(Error::Fs(e)) if e.is_not_found() => return Ok(Ending::Done(None)),
            other => other?,
        };
        if relative.as_bytes().starts_with(SESSIONS.as_bytes()) {
            let root = OsStr::from_bytes(&name.as_bytes()[..24]);
            let lock = self.path().join(SESSIONS).join(format!("{}.lock", root.to_string_lossy()));
            let Some(_root) = Lock::acquire(&lock, LockKind::Exclusive, Duration::ZERO)? else {
                return Ok(Ending::Failed("somebody works on its directory".into()));
            };
            // Whoever had the lock before may have written a new one.
            let bytes = larder_fs::read_optional(&dir.join(name))?;
            if bytes.is_none_or(|bytes| !session::is_damaged(&bytes)) {
                return Ok(Ending::Done(None));
            }
            dir.remove_all(name)?;
            return Ok(Ending::Done(None));
        }
        dir.remove_all(name)?;
        Ok(Ending::Done(None))
    }
}

/// The ingest blob at a path below the store.
fn ingest_id(relative: &OsStr) -> Option<BlobId> {
    let mut parts = relative.to_str()?.split('/').skip(1);
    let save = SaveId::parse(OsStr::new(parts.next()?))?;
    let index = parts.next()?.trim_end_matches(SIDECAR).parse().ok()?;
    Some(BlobId::Ingest(save, index))
}
