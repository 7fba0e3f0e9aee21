//! A store of many snapshots, such as a busy host has after weeks, made without the builds: real snapshots in the
//! store's own encoding, and real blobs, but with few bytes in each.
//!
//! Lineages take turns. Of the files of a snapshot three in five are small and stand in the snapshot; the others are
//! blobs, and one in eight of these is new in each snapshot of its lineage. So the blobs are mostly shared, as those of
//! target directories are.

use larder_fs::Timestamp;
use larder_store::{Content, Digest, DirEntry, Header, Inode, Link, Manifest, Provenance, RootSummary, Store, encode};
use std::fs;
use std::path::Path;

/// How large the store is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) snapshots: usize,
    pub(crate) lineages: usize,
    /// Files of each snapshot.
    pub(crate) files: usize,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) entries: u64,
    pub(crate) logical: u64,
    /// Distinct blobs.
    pub(crate) blobs: u64,
}

/// The length of a blob.
const BLOB: usize = 100;
/// The length of a small file.
const SMALL: u64 = 300;
/// Files of a directory.
const FAN: usize = 100;

/// Whether the file of this number is a blob.
fn is_blob(file: usize) -> bool {
    file % 5 >= 3
}

/// The bytes of a file: one blob in eight is of this turn, another one of each fifth turn, the others of the lineage's first.
fn bytes_of(lineage: usize, turn: usize, file: usize) -> Vec<u8> {
    let born = match file % 20 {
        3 => turn,
        4 => turn - turn % 5,
        _ => 0,
    };
    let mut bytes = format!("{lineage} {born} {file}").into_bytes();
    bytes.resize(BLOB, b' ');
    bytes
}

/// Makes the store at `path`, which must not exist.
pub(crate) fn make(path: &Path, size: Size) -> Made {
    drop(Store::open(path, &()).unwrap());
    let mut made = Made::default();
    for number in 0..size.snapshots {
        let (lineage, turn) = (number % size.lineages, number / size.lineages);
        let (manifest, inline) = manifest(path, lineage, turn, size.files, &mut made);
        publish(path, number, lineage, &manifest, &inline);
        made.entries += manifest.links.len() as u64;
        made.logical += manifest.logical_bytes();
    }
    made
}

fn manifest(store: &Path, lineage: usize, turn: usize, files: usize, made: &mut Made) -> (Manifest, Vec<u8>) {
    let mtime = Timestamp { secs: 1_700_000_000, nanos: 123_456_789 };
    let dir = |name: String| DirEntry { parent: 0, name: name.into_bytes(), mode: 0o755, mtime };
    let mut manifest = Manifest { dirs: vec![dir(String::new())], ..Manifest::default() };
    manifest.dirs.extend((0..files.div_ceil(FAN)).map(|at| dir(format!("dir-{at:05}"))));
    let mut inline = Vec::new();
    for file in 0..files {
        let (size, content) = if is_blob(file) {
            let bytes = bytes_of(lineage, turn, file);
            let digest = Digest::from(blake3::hash(&bytes));
            let hex = digest.to_string();
            let blob = store.join(format!("blobs/{}/{}", &hex[..2], &hex[2..]));
            if !blob.exists() {
                fs::create_dir_all(blob.parent().unwrap()).unwrap();
                fs::write(&blob, &bytes).unwrap();
                made.blobs += 1;
            }
            (bytes.len() as u64, Content::Digest { digest, ino: 1_000_000 + file as u64 })
        } else {
            let offset = inline.len() as u64;
            inline.resize(inline.len() + SMALL as usize, b'.');
            (SMALL, Content::Inline { offset })
        };
        manifest.inodes.push(Inode { mode: 0o644, mtime, size, content });
        let name = format!("lib{file:08}-{:016x}.rmeta", file * 7919).into_bytes();
        manifest.links.push(Link { dir: (1 + file / FAN) as u32, name, inode: file as u32 });
    }
    (manifest, inline)
}

fn publish(store: &Path, number: usize, lineage: usize, manifest: &Manifest, inline: &[u8]) {
    let job = format!("job-{lineage}");
    let created = Timestamp { secs: 1_700_000_000 + number as i64 * 60, nanos: 0 };
    let id = format!("{:012x}{number:08x}", created.secs * 1000);
    let header = Header {
        id: id.clone(),
        key: format!("{job}-{number:012}"),
        scope: format!("acme/repository-{}", lineage / 4),
        label: "cargo-target-0123456789ab".into(),
        created,
        larder: "0.1.0".into(),
        parts: vec![
            ("workspace".into(), "/build/acme".into()),
            ("job".into(), job),
            ("branch".into(), if number.is_multiple_of(3) { "main" } else { "topic" }.into()),
        ],
        roots: vec![RootSummary {
            path: "/build/acme/target".into(),
            files: manifest.links.len() as u64,
            bytes: manifest.logical_bytes(),
        }],
        worth: None,
    };
    let mut bytes = encode(&header, &Provenance::default(), std::slice::from_ref(manifest), inline).unwrap();
    bytes.extend_from_slice(inline);
    let place = store.join(format!("snapshots/{:016x}", lineage / 4));
    fs::create_dir_all(&place).unwrap();
    let key = &blake3::hash(header.key.as_bytes()).to_hex()[..16];
    fs::write(place.join(format!("{key}-{id}")), bytes).unwrap();
}
