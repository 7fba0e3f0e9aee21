//! A snapshot: manifests published under a key. One self-describing file each, the truth of the store.
//!
//! ```text
//! snapshots/PLACE/KEY-ID
//!
//! magic "larder snapshot\n", version u32, header length u32, lengths of the other three sections u64,
//! BLAKE3 of each of the four sections (little endian throughout),
//! header (JSON: what a person wants to know), provenance (postcard: what the roots were built from),
//! body (postcard: the roots), inline section (small files)
//! ```
//!
//! PLACE and KEY are shortened digests, so keys may hold any characters and a look-up by exact key is
//! one directory listing; the header holds the real ones, which are compared. ID begins with the time:
//! within a place, the greatest is the newest. A crash leaves a file in `tmp/` or the whole snapshot;
//! lost power may leave one whose digests are wrong, which is no snapshot.

use crate::error::{Error, Result};
use crate::events::Events;
use crate::manifest::Manifest;
use crate::provenance::Provenance;
use crate::store::{SNAPSHOTS, Staging, Store, chain};
use larder_fs::{Dir, Kind, Meta, Timestamp};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io::{Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 16] = b"larder snapshot\n";
/// Version 1 had no provenance. Only this version is read: an unreadable snapshot is a miss, and the next save
/// publishes one that can be read.
pub(crate) const VERSION: u32 = 2;
const PREAMBLE: usize = 16 + 4 + 4 + 3 * 8 + 4 * 32;
/// No header is longer: it holds a key, some parts and the roots' paths.
const MAX_HEADER: u32 = 16 << 20;

/// Where a snapshot belongs: only saves and restores of the same place meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who may read and write it. `OUTER#INNER` is within `OUTER` and reads what that has too, but saves for itself.
    pub scope: String,
    /// What the directories are, for instance `cargo-target`; empty for any.
    pub label: String,
    /// The absolute paths of the roots, or their number where only the key counts.
    pub roots: PlaceRoots,
}

/// How far the roots' paths belong to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceRoots {
    /// The snapshot is for these paths alone.
    Paths(Vec<PathBuf>),
    /// The snapshot is for any paths, as many as this.
    KeyOnly(usize),
}

impl Place {
    /// The places that may be read: this one, and those of the scopes that its own is within.
    fn readable(&self) -> impl Iterator<Item = Self> {
        let outer = |place: &Self| {
            let (outer, _) = place.scope.rsplit_once('#').filter(|(outer, _)| !outer.is_empty())?;
            Some(Self { scope: outer.to_owned(), ..place.clone() })
        };
        std::iter::successors(Some(self.clone()), outer)
    }

    /// The directory's name below `snapshots/`.
    pub(crate) fn dir_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.scope.as_bytes());
        part(self.label.as_bytes());
        match &self.roots {
            PlaceRoots::Paths(paths) => paths.iter().for_each(|path| part(path.as_os_str().as_bytes())),
            PlaceRoots::KeyOnly(count) => part(format!("key only, {count}").as_bytes()),
        }
        short(&hasher.finalize())
    }
}

fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..16].to_owned()
}

/// The name of a snapshot's file.
fn snapshot_name(header: &Header) -> String {
    format!("{}-{}", key_name(&header.key), header.id)
}

fn key_name(key: &str) -> String {
    short(&blake3::hash(key.as_bytes()))
}

/// What a person wants to know of a snapshot, readable with `head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The snapshot's name, unique in its store.
    pub id: String,
    /// The key it was saved under.
    pub key: String,
    /// Who may read and write it.
    pub scope: String,
    /// What its directories are.
    pub label: String,
    /// When it was published.
    pub created: Timestamp,
    /// The version of larder that wrote it.
    pub larder: String,
    /// The key parts: names and values.
    pub parts: Vec<(String, String)>,
    /// One summary a root.
    pub roots: Vec<RootSummary>,
    /// What it cost to build; absent where nobody knew, and in
    /// snapshots of versions that did not ask. Those versions read a header with it all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth: Option<Worth>,
}

/// What eviction wants to know of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worth {
    /// What it cost to build everything in it, in milliseconds of compiling.
    pub build_ms: u64,
    /// What was built since the snapshot before it, in milliseconds of compiling.
    pub new_ms: u64,
    /// Whether the build is known to have failed: it may lack whatever the failure kept from being built.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// What a snapshot holds of one root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSummary {
    /// The path it was saved from, for people (bytes that are not UTF-8 are replaced).
    pub path: String,
    /// How many file names it has.
    pub files: u64,
    /// How many bytes its distinct files have.
    pub bytes: u64,
}

/// A directory of snapshots that cannot be listed, and why.
pub(crate) type Closed = (PathBuf, Error);

/// A snapshot as read from its file.
#[derive(Debug)]
pub struct Snapshot {
    /// What a person wants to know.
    pub header: Header,
    /// What the roots were built from.
    pub provenance: Provenance,
    /// The manifests, one a root.
    pub roots: Vec<Manifest>,
    /// Where it is.
    pub(crate) path: PathBuf,
    file: std::fs::File,
    inline: Section,
}

#[derive(Clone, Copy, Debug)]
struct Section {
    start: u64,
    len: u64,
    digest: [u8; 32],
}

/// A snapshot's file, found but not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its unique name.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
}

impl Header {
    /// The value of the key part of this name.
    pub fn part(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|(part, _)| part == name).map(|(_, value)| value.as_str())
    }
}

impl Snapshot {
    /// Reads and checks header and body; the inline section is left for [`Snapshot::inline`].
    pub fn load(path: &Path) -> Result<Self> {
        let mut reader = Reader::open(path)?;
        let header = reader.header()?;
        let provenance = reader.provenance()?;
        let body = reader.section(reader.preamble.body)?;
        let roots = decode_body(&body, &header, reader.preamble.inline.len).map_err(|reason| reader.bad(reason))?;
        let inline = reader.preamble.inline;
        Ok(Self { header, provenance, roots, path: path.to_path_buf(), file: reader.file, inline })
    }

    /// Reads and checks every section; the inline one is not kept.
    pub(crate) fn load_whole(path: &Path) -> Result<Self> {
        Self::load(path).and_then(|snapshot| snapshot.inline().map(|_| snapshot))
    }

    /// Header and provenance alone: enough to judge how near it is.
    pub fn load_provenance(path: &Path) -> Result<(Header, Provenance)> {
        let mut reader = Reader::open(path)?;
        Ok((reader.header()?, reader.provenance()?))
    }

    /// The header alone.
    pub fn load_header(path: &Path) -> Result<Header> {
        Reader::open(path)?.header()
    }

    /// The header, the bytes of the body with the right digest, and the stat of the file; nothing else is read.
    pub(crate) fn load_body(path: &Path) -> Result<(Header, Vec<u8>, Meta)> {
        let mut reader = Reader::open(path)?;
        let header = reader.header()?;
        let body = reader.preamble.body;
        reader.file.seek(SeekFrom::Start(body.start)).map_err(|e| reader.bad(e.to_string()))?;
        Ok((header, reader.section(body)?, reader.meta))
    }

    /// Reads and checks the inline section.
    pub fn inline(&self) -> Result<Vec<u8>> {
        let fail = |e| Error::BadSnapshot { path: self.path.clone(), reason: format!("its inline section: {e}") };
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.inline.start)).map_err(fail)?;
        let bytes = larder_fs::read_up_to(file, self.inline.len, &self.path)?;
        if *blake3::hash(&bytes).as_bytes() != self.inline.digest {
            return Err(Error::BadSnapshot {
                path: self.path.clone(),
                reason: "its inline section does not have the recorded digest".into(),
            });
        }
        Ok(bytes)
    }

    /// How many bytes the inline section has.
    pub(crate) fn inline_len(&self) -> u64 {
        self.inline.len
    }
}

struct Preamble {
    header: Section,
    provenance: Section,
    body: Section,
    inline: Section,
}

struct Reader<'a> {
    path: &'a Path,
    file: std::fs::File,
    meta: Meta,
    preamble: Preamble,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let bad = |reason: String| Error::BadSnapshot { path: path.to_path_buf(), reason };
        let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(|| bad("it has no name".into()))?;
        let file = Dir::open(parent)?.open_file(name)?;
        let meta = larder_fs::file_meta(&file, path)?;
        if meta.kind != Kind::File {
            return Err(bad("it is no regular file".into()));
        }
        let (bytes, length) = (larder_fs::read_up_to(&file, PREAMBLE as u64, path)?, meta.size);
        let bytes: [u8; PREAMBLE] = bytes.try_into().map_err(|_| bad("it is cut short".into()))?;
        let preamble = Preamble::parse(&bytes, length).map_err(bad)?;
        Ok(Self { path, file, meta, preamble })
    }

    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::BadSnapshot { path: self.path.to_path_buf(), reason: reason.into() }
    }

    fn header(&mut self) -> Result<Header> {
        let bytes = self.section(self.preamble.header)?;
        let header: Header = serde_json::from_slice(&bytes).map_err(|e| self.bad(format!("its header: {e}")))?;
        // The id becomes a part of paths, and the key is what people look for: neither may be another's.
        if self.path.file_name() != Some(OsStr::new(&snapshot_name(&header))) {
            return Err(self.bad("its name does not belong to its contents"));
        }
        Ok(header)
    }

    fn provenance(&mut self) -> Result<Provenance> {
        let bytes = self.section(self.preamble.provenance)?;
        Provenance::decode(&bytes).map_err(|reason| self.bad(reason))
    }

    /// Reads the next section; the file is known to be long enough.
    fn section(&self, section: Section) -> Result<Vec<u8>> {
        let bytes = larder_fs::read_up_to(&self.file, section.len, self.path)?;
        if *blake3::hash(&bytes).as_bytes() != section.digest {
            return Err(self.bad("its bytes do not have the recorded digest"));
        }
        Ok(bytes)
    }
}

impl Preamble {
    fn parse(bytes: &[u8; PREAMBLE], file_len: u64) -> std::result::Result<Self, String> {
        let (magic, rest) = bytes.split_at(16);
        if magic != MAGIC {
            return Err("it is no snapshot file".into());
        }
        let u32_at = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
        let digest_at = |at: usize| -> [u8; 32] { rest[at..at + 32].try_into().expect("32 bytes") };
        let version = u32_at(0);
        if version != VERSION {
            return Err(format!("it has version {version}, this larder reads version {VERSION}"));
        }
        let header_len = u32_at(4);
        let lengths = [u64::from(header_len), u64_at(8), u64_at(16), u64_at(24)];
        let mut at = PREAMBLE as u64;
        let mut sections = [Section { start: 0, len: 0, digest: [0; 32] }; 4];
        for (index, (section, len)) in sections.iter_mut().zip(lengths).enumerate() {
            *section = Section { start: at, len, digest: digest_at(32 + 32 * index) };
            at = at.checked_add(len).ok_or("its length is not the recorded one")?;
        }
        if header_len > MAX_HEADER || at != file_len {
            return Err("its length is not the recorded one".into());
        }
        let [header, provenance, body, inline] = sections;
        Ok(Self { header, provenance, body, inline })
    }
}

/// Encodes a snapshot's file, but for the inline section, which follows as it is. Nothing is checked.
///
/// # Errors
///
/// Where the header is larger than any reader accepts.
pub fn encode(
    header: &Header,
    provenance: &Provenance,
    roots: &[Manifest],
    inline: &[u8],
) -> std::result::Result<Vec<u8>, String> {
    let header = serde_json::to_vec(header).expect("a header is plain data");
    let header_len = u32::try_from(header.len()).ok().filter(|len| *len <= MAX_HEADER);
    let header_len = header_len.ok_or_else(|| format!("key and key parts have {} bytes together", header.len()))?;
    let provenance = provenance.encode();
    let body = postcard::to_stdvec(roots).expect("manifests are plain data");
    let mut bytes = Vec::with_capacity(PREAMBLE + header.len() + provenance.len() + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&header_len.to_le_bytes());
    for section in [&provenance[..], &body[..], inline] {
        bytes.extend_from_slice(&(section.len() as u64).to_le_bytes());
    }
    for section in [&header[..], &provenance[..], &body[..], inline] {
        bytes.extend_from_slice(blake3::hash(section).as_bytes());
    }
    for section in [&header[..], &provenance[..], &body[..]] {
        bytes.extend_from_slice(section);
    }
    Ok(bytes)
}

/// A snapshot written to staging, durable but without its name.
pub(crate) struct Staged {
    file: OsString,
    place: String,
    name: String,
}

impl Staged {
    /// Makes the staged file durable; needed only where no sync of the whole file system follows.
    pub(crate) fn sync(&self, staging: &Staging) -> Result<()> {
        Ok(larder_fs::sync_file(&staging.dir, &self.file)?)
    }
}

impl Store {
    /// Writes a snapshot's file to staging. The header's id is filled in here: greater than that of
    /// every other snapshot of the place, even where the clock ran backwards.
    pub(crate) fn stage_snapshot(
        &self,
        staging: &Staging,
        place: &Place,
        header: &mut Header,
        provenance: &Provenance,
        roots: &[Manifest],
        inline: &[u8],
    ) -> Result<Staged> {
        let place = place.dir_name();
        let millis = u64::try_from(header.created.as_nanos() / 1_000_000).unwrap_or(0);
        let newest = self.list_place(&place)?.first().and_then(|found| time_of_id(&found.id));
        let time = newest.map_or(millis, |newest| millis.max(newest + 1));
        header.id = format!("{time:012x}{:08x}", fastrand::u32(..));
        let file = OsString::from("snapshot");
        let bytes = encode(header, provenance, roots, inline)
            .map_err(|reason| Error::BadSnapshot { path: staging.dir.join(&file), reason })?;
        larder_fs::write_new(&staging.dir, &file, &[&bytes, inline], false)?;
        let name = snapshot_name(header);
        Ok(Staged { file, place, name })
    }

    /// Gives a staged snapshot its name. Everything that it names must be durable already; the name itself
    /// need not be: a snapshot whose name is lost with the power is a miss.
    pub(crate) fn publish_snapshot(&self, staging: &Staging, staged: &Staged) -> Result<PathBuf> {
        let snapshots = self.room(SNAPSHOTS)?;
        snapshots.ensure_dir(OsStr::new(&staged.place))?;
        let place = snapshots.open_beneath(OsStr::new(&staged.place))?;
        staging.dir.rename_new(&staged.file, &place, OsStr::new(&staged.name))?;
        Ok(place.join(&staged.name))
    }

    /// The snapshots that a place may read with exactly this key, newest first.
    pub fn find_exact(&self, place: &Place, key: &str) -> Result<Vec<Found>> {
        let prefix = format!("{}-", key_name(key));
        let mut found = self.find_all(place)?;
        found.retain(|found| file_name(&found.path).starts_with(&prefix));
        Ok(found)
    }

    /// All snapshots that a place may read, newest first.
    pub fn find_all(&self, place: &Place) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for place in place.readable() {
            all.extend(self.list_place(&place.dir_name())?);
        }
        all.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        Ok(all)
    }

    /// All snapshots of the store, newest first.
    pub fn snapshots(&self) -> Result<Vec<Found>> {
        match self.snapshots_seen()? {
            (all, closed) if closed.is_empty() => Ok(all),
            (_, mut closed) => Err(closed.swap_remove(0).1),
        }
    }

    /// All snapshots that can be seen, newest first, and the directories that cannot be listed, with the error.
    pub(crate) fn snapshots_seen(&self) -> Result<(Vec<Found>, Vec<Closed>)> {
        let (mut all, mut closed) = (Vec::new(), Vec::new());
        let room = self.room(SNAPSHOTS)?;
        for place in room.entries()? {
            match self.list_place(&place.name.to_string_lossy()) {
                Ok(found) => all.extend(found),
                Err(e) => closed.push((room.join(&place.name), e)),
            }
        }
        all.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        Ok((all, closed))
    }

    fn list_place(&self, place: &str) -> Result<Vec<Found>> {
        let dir = match Dir::open_optional(&self.path().join(SNAPSHOTS).join(place)) {
            Ok(Some(dir)) => dir,
            Ok(None) => return Ok(Vec::new()),
            // Nothing that larder put there.
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let mut found = Vec::new();
        for entry in dir.entries_if_there()? {
            let path = dir.join(&entry.name);
            match file_name(&path).split_once('-') {
                Some((_, id)) if !id.is_empty() => found.push(Found { id: id.to_owned(), path }),
                _ => tracing::debug!(path = %path.display(), "not a snapshot's name"),
            }
        }
        found.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        Ok(found)
    }
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default()
}

fn time_of_id(id: &str) -> Option<u64> {
    // The last moment that twelve digits can tell has no successor: no clock names it.
    id.get(..12).and_then(|time| u64::from_str_radix(time, 16).ok()).filter(|time| *time < (1 << 48) - 1)
}

/// The version that the file at `path` names; `None` where it is no snapshot or cannot be read.
pub(crate) fn version_of(path: &Path) -> Option<u32> {
    let (parent, name) = path.parent().zip(path.file_name())?;
    let file = Dir::open(parent).ok()?.open_file(name).ok()?;
    let head: [u8; 20] = larder_fs::read_up_to(&file, 20, path).ok()?.try_into().ok()?;
    let (magic, version) = head.split_at(16);
    (magic == MAGIC).then(|| u32::from_le_bytes(version.try_into().expect("four bytes")))
}

/// Loads the snapshot, or warns and returns `None` when it cannot be used.
pub(crate) fn load_or_warn(found: &Found, events: &dyn Events) -> Option<Snapshot> {
    match Snapshot::load(&found.path) {
        Ok(snapshot) => Some(snapshot),
        Err(Error::Fs(e)) if e.is_not_found() => None,
        Err(e) => {
            events.warn(&format!("{}; it counts as absent: remove it with `larder rm {}`", chain(&e), found.id));
            None
        }
    }
}

/// Reads a snapshot from bytes, as a file would hold them. For fuzzing and for bytes from elsewhere.
///
/// # Errors
///
/// [`Error::BadSnapshot`] with the reason.
pub fn parse(bytes: &[u8]) -> Result<(Header, Provenance, Vec<Manifest>)> {
    let bad = |reason: String| Error::BadSnapshot { path: PathBuf::from("(bytes)"), reason };
    let (head, mut rest) = bytes.split_first_chunk::<PREAMBLE>().ok_or_else(|| bad("it is cut short".into()))?;
    let preamble = Preamble::parse(head, bytes.len() as u64).map_err(bad)?;
    let mut section = |section: Section| {
        let bytes = rest.split_off(..usize::try_from(section.len).unwrap_or(usize::MAX)).unwrap_or_default();
        match *blake3::hash(bytes).as_bytes() == section.digest {
            true => Ok(bytes),
            false => Err(bad("its bytes do not have the recorded digest".into())),
        }
    };
    let header = section(preamble.header)?;
    let provenance = section(preamble.provenance)?;
    let body = section(preamble.body)?;
    let inline = section(preamble.inline)?;
    let header: Header = serde_json::from_slice(header).map_err(|e| bad(format!("its header: {e}")))?;
    let provenance = Provenance::decode(provenance).map_err(bad)?;
    let roots = decode_body(body, &header, inline.len() as u64).map_err(bad)?;
    Ok((header, provenance, roots))
}

/// Decodes and checks manifests whose inline files lie within `inline_len` bytes. This is what stands between
/// hostile bytes with right digests and the file system.
///
/// # Errors
///
/// A sentence fragment that says what is wrong.
pub fn decode_manifests(body: &[u8], inline_len: u64) -> std::result::Result<Vec<Manifest>, String> {
    let (roots, rest) = postcard::take_from_bytes::<Vec<Manifest>>(body).map_err(|e| format!("its body: {e}"))?;
    if !rest.is_empty() {
        return Err("its body has bytes that mean nothing".into());
    }
    for manifest in &roots {
        manifest.check(inline_len)?;
    }
    Ok(roots)
}

fn decode_body(body: &[u8], header: &Header, inline_len: u64) -> std::result::Result<Vec<Manifest>, String> {
    let roots = decode_manifests(body, inline_len)?;
    if roots.len() != header.roots.len() {
        return Err("header and body differ in their number of roots".into());
    }
    Ok(roots)
}
