//! Making a damaged store whole: what is wrong becomes a list of steps, and these are carried out one by one.
//!
//! | module | its one idea |
//! |---|---|
//! | `structure` | rooms, FORMAT, names, modes and owners, leftovers: what a listing shows |
//! | `proof` | which blobs are sound, found out while nobody is kept out |
//! | `contents` | snapshots, blobs and prepared trees: what reading shows |
//! | `apply` | one step, carried out |
//!
//! Invariants: nothing is deleted but what larder derives (sessions, prepared trees, digests noted beside blobs) and
//! what dead processes left in `tmp/`. Everything else that is wrong goes to quarantine by one rename. Each step stands
//! for itself, so a crash between two leaves a store that is whole in more places than before, and the next repair
//! finds the rest. What stands at the top of the store beside its rooms stays: it is not in the way.
//!
//! Concurrency: most of the time goes by reading blobs, without any lock. What was not proved sound then is judged, and
//! mended, while the store's lock is held shared, so that jobs go on meanwhile and nobody deletes blobs; a session is
//! only removed under its directory's lock, staging only where its process is gone.

mod apply;
mod contents;
mod proof;
mod structure;

use crate::blob::Digest;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::store::{SHARED_WAIT, Store, chain};
use larder_fs::{Dir, Kind, Lock, LockKind, Timestamp};
use proof::Proof;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What was closed may hide more: so often is looked again after something was opened.
const ROUNDS: usize = 4;

/// What is done about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The directory is made anew, empty.
    MakeRoom,
    /// FORMAT is written anew.
    WriteFormat,
    /// It is moved to quarantine.
    Quarantine,
    /// It is deleted: it was derived from something else, and being without it costs time alone.
    Remove,
    /// It is deleted: the process that was about to finish it is gone.
    Sweep,
    /// It gets these permission bits.
    SetMode(u32),
    /// It is given to this user.
    SetOwner(u32),
    /// Its bytes are right: it gets the time that it should have.
    SetTime(Timestamp),
    /// Its digest is written down for the first time.
    RecordDigest(Digest),
    /// It cannot be brought back. A note in quarantine says so, and it no longer counts as damage.
    NoteLoss,
    /// This account may not mend it; the command that would.
    Ask(String),
    /// Nothing is done; a person has to decide.
    Leave,
}

impl Remedy {
    /// The remedy in a word, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MakeRoom => "make-room",
            Self::WriteFormat => "write-format",
            Self::Quarantine => "quarantine",
            Self::Remove => "remove",
            Self::Sweep => "sweep",
            Self::SetMode(_) => "set-mode",
            Self::SetOwner(_) => "set-owner",
            Self::SetTime(_) => "set-time",
            Self::RecordDigest(_) => "record-digest",
            Self::NoteLoss => "note-loss",
            Self::Ask(_) => "ask",
            Self::Leave => "leave",
        }
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was only planned: a dry run, or nothing that larder can do.
    Planned,
    /// It was carried out; where the thing is since, if it was moved.
    Done(Option<PathBuf>),
    /// It could not be carried out.
    Failed(String),
}

/// One fault and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is wrong, below the store's directory; empty for that itself.
    pub(crate) relative: OsString,
    /// What is wrong, as a whole path.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: String,
    /// What is done.
    pub remedy: Remedy,
    /// How that ended.
    pub ending: Ending,
}

impl Step {
    /// Whether something is damaged, as opposed to housekeeping that any run may find.
    pub fn is_damage(&self) -> bool {
        !matches!(self.remedy, Remedy::Sweep | Remedy::RecordDigest(_))
    }

    /// Whether the fault is there no more.
    pub fn is_mended(&self) -> bool {
        matches!(self.ending, Ending::Done(_))
    }
}

/// A snapshot that cannot be restored whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// Its name.
    pub snapshot: String,
    /// Its key.
    pub key: String,
    /// Its file.
    pub path: PathBuf,
    /// What its directories are.
    pub label: String,
    /// Files whose bytes are lost: which root, and the path below it.
    pub files: Vec<(usize, Vec<u8>)>,
}

/// What a repair found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Snapshots read whole.
    pub snapshots: u64,
    /// Blobs whose digest was compared.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Faults in the order in which they are dealt with.
    pub steps: Vec<Step>,
    /// The snapshots that lack something, now or since an earlier time.
    pub concerned: Vec<Concerned>,
}

impl Repaired {
    /// Whether nothing is damaged any more.
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| !step.is_damage() || step.is_mended())
    }
}

/// What looking at the store brought to light so far.
struct Survey<'a> {
    store: &'a Store,
    /// Blobs that need not be read again.
    proof: &'a Proof,
    /// Who looks.
    uid: u32,
    /// Whose the store is.
    owner: u32,
    /// Whether a group of accounts shares it.
    shared: bool,
    /// Whether all snapshots could be seen: else nothing is derived from one's absence.
    complete: bool,
    found: Repaired,
}

impl<'a> Survey<'a> {
    fn new(store: &'a Store, proof: &'a Proof) -> Result<Self> {
        let meta = store.root.stat_self()?;
        Ok(Self {
            store,
            proof,
            uid: larder_fs::process::effective_uid(),
            owner: meta.uid,
            shared: meta.mode & 0o020 != 0,
            complete: true,
            found: Repaired::default(),
        })
    }

    fn step(&mut self, relative: impl AsRef<OsStr>, fault: impl Into<String>, remedy: Remedy) {
        let relative = relative.as_ref().to_os_string();
        let path = if relative.is_empty() { self.store.path().to_path_buf() } else { self.store.root.join(&relative) };
        self.found.steps.push(Step { relative, path, fault: fault.into(), remedy, ending: Ending::Planned });
    }
}

impl Store {
    /// Finds what is wrong with the store at `path` and mends it; in a dry run only finds it. `None` where there is
    /// nothing. What a closed directory hides is found once that is open, so a dry run cannot show it.
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`] where too little tells that it is one, [`Error::ForeignFormat`] where another version wrote
    /// it, [`Error::ReadOnly`] where nothing can be changed and something would have to be, [`Error::Busy`] while
    /// somebody removes, [`Error::Fs`] where it cannot be read.
    pub fn repair(path: &Path, dry_run: bool, events: &dyn Events) -> Result<Option<Repaired>> {
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let mut before = Vec::new();
        let root = match Dir::open(path) {
            Ok(root) => root,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) if e.kind() == ErrorKind::NotADirectory => {
                let reason = "it is a file, not a directory".to_owned();
                return Err(Error::NotAStore { path: path.clone(), reason });
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                let opened = open_root(path, dry_run)?;
                before.push(opened);
                if !before[0].is_mended() {
                    return Ok(Some(Repaired { steps: before, ..Repaired::default() }));
                }
                Dir::open(path)?
            }
            Err(e) => return Err(e.into()),
        };
        let store = Self::unchecked(root, path);
        // What is no store is refused before anything is made in it.
        let mut proof = Proof::default();
        Survey::new(&store, &proof)?.format()?;
        let mut all = Repaired { steps: before, ..Repaired::default() };
        for _ in 0..ROUNDS {
            proof.gather(&store, events);
            let _shared = store.lock_damaged(dry_run)?;
            let mut survey = Survey::new(&store, &proof)?;
            survey.structure()?;
            survey.contents(events)?;
            let Repaired { snapshots, blobs, bytes, mut steps, concerned } = survey.found;
            all = Repaired { snapshots, blobs, bytes, concerned, steps: all.steps };
            // What could not be mended is there again.
            steps.retain(|step| !all.steps.iter().any(|old| old.path == step.path && old.remedy == step.remedy));
            let opens = |step: &Step| matches!(step.remedy, Remedy::SetMode(_) | Remedy::SetOwner(_));
            // What goes to quarantine needs no other mode there.
            let gone: Vec<PathBuf> =
                steps.iter().filter(|s| s.remedy == Remedy::Quarantine).map(|s| s.path.clone()).collect();
            steps.retain(|step| !(opens(step) && gone.contains(&step.path)));
            let again = !dry_run && steps.iter().any(opens);
            if !dry_run && steps.iter().any(|step| !matches!(step.remedy, Remedy::Ask(_) | Remedy::Leave)) {
                store.carry_out(&mut steps)?;
            }
            all.steps.extend(steps);
            if !again {
                break;
            }
        }
        Ok(Some(all))
    }

    /// The shared lock of a store that may lack the means for one; `None` where nobody can have it.
    fn lock_damaged(&self, dry_run: bool) -> Result<Option<Lock>> {
        // In a dry run not even the lock is made. What cannot be locked is said later; nobody else can lock it either.
        let path = self.path().join("lock");
        let lock = match (larder_fs::metadata(&path)?.map(|meta| meta.kind), dry_run) {
            (Some(Kind::File), _) => Lock::existing(&path, LockKind::Shared, SHARED_WAIT),
            (None, false) => Lock::acquire(&path, LockKind::Shared, SHARED_WAIT),
            _ => return Ok(None),
        };
        match lock {
            Ok(None) => Err(self.busy(SHARED_WAIT)),
            Ok(lock) => Ok(lock),
            // Where it cannot be made it cannot be taken by anybody.
            Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Ok(None),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Carries out the steps in their order. One that fails does not keep the others back.
    fn carry_out(&self, steps: &mut [Step]) -> Result<()> {
        for step in steps {
            step.ending = match self.apply(step) {
                Ok(ending) => ending,
                Err(Error::Fs(e)) if e.kind() == ErrorKind::ReadOnlyFilesystem => {
                    return Err(Error::ReadOnly { path: self.path().to_path_buf() });
                }
                Err(e) => Ending::Failed(chain(&e)),
            };
        }
        Ok(())
    }
}

/// Opens a store's directory that its own account closed.
fn open_root(path: &Path, dry_run: bool) -> Result<Step> {
    let fault = "its permissions keep this account out".to_owned();
    let step = |remedy, ending| Step { relative: OsString::new(), path: path.to_path_buf(), fault, remedy, ending };
    let meta = larder_fs::metadata(path)?;
    let mine = meta.filter(|meta| meta.kind == Kind::Dir && meta.uid == larder_fs::process::effective_uid());
    let (Some(meta), Some((parent, name))) = (mine, path.parent().zip(path.file_name())) else {
        let command = format!("sudo chmod u+rwx {}", quoted(path));
        return Ok(step(Remedy::Ask(command), Ending::Planned));
    };
    let mode = meta.mode | 0o700;
    if dry_run {
        return Ok(step(Remedy::SetMode(mode), Ending::Planned));
    }
    let ending = match Dir::open(parent)?.set_mode(name, mode) {
        Ok(()) => Ending::Done(None),
        Err(e) => Ending::Failed(chain(&e)),
    };
    Ok(step(Remedy::SetMode(mode), ending))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A relative path.
fn below(dir: &str, name: &OsStr) -> OsString {
    let mut path = OsString::from(dir);
    path.push("/");
    path.push(name);
    path
}

/// Whether the name has so many digits as larder writes them.
fn is_hex(name: &OsStr, digits: usize) -> bool {
    let name = name.as_bytes();
    name.len() == digits && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
