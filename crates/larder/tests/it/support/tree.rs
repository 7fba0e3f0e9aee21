//! Trees: one that looks like a target directory, and what a tree holds, so that two can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Everything that a restore must bring back of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    kind: &'static str,
    mode: u32,
    mtime: (i64, i64),
    /// The first name of the same file, where it has several.
    same_as: Option<PathBuf>,
    /// Bytes of a file, target of a link.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) type Listing = BTreeMap<PathBuf, Entry>;

/// Everything in `root`, itself included.
pub(crate) fn list(root: &Path) -> Listing {
    let mut paths = Vec::new();
    collect(root, Path::new(""), &mut paths);
    paths.sort();
    let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut listing = Listing::new();
    for path in paths {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let kind = meta.file_type();
        let (kind, bytes) = match kind {
            _ if kind.is_dir() => ("directory", Vec::new()),
            _ if kind.is_symlink() => ("link", fs::read_link(&full).unwrap().into_os_string().into_encoded_bytes()),
            _ if kind.is_file() => ("file", fs::read(&full).unwrap()),
            _ if kind.is_fifo() => ("fifo", Vec::new()),
            _ => ("other", Vec::new()),
        };
        let same_as = match kind {
            "file" => first.get(&(meta.dev(), meta.ino())).cloned(),
            _ => None,
        };
        first.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
        // A link has no permissions of its own.
        let mode = if kind == "link" { 0 } else { meta.mode() & 0o7777 };
        listing.insert(path, Entry { kind, mode, mtime: (meta.mtime(), meta.mtime_nsec()), same_as, bytes });
    }
    listing
}

fn collect(root: &Path, relative: &Path, paths: &mut Vec<PathBuf>) {
    paths.push(relative.to_path_buf());
    let full = root.join(relative);
    if fs::symlink_metadata(&full).unwrap().is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            collect(root, &relative.join(entry.unwrap().file_name()), paths);
        }
    }
}

/// What is different, one line a name.
pub(crate) fn differences(expected: &Listing, found: &Listing) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in expected {
        match found.get(path) {
            None => lines.push(format!("{}: missing", path.display())),
            Some(other) if other == entry => {}
            Some(other) => {
                let short = |e: &Entry| format!("{e:?}").chars().take(160).collect::<String>();
                lines.push(format!("{}: {} instead of {}", path.display(), short(other), short(entry)));
            }
        }
    }
    lines.extend(found.keys().filter(|path| !expected.contains_key(*path)).map(|p| format!("{}: extra", p.display())));
    lines
}

#[track_caller]
pub(crate) fn assert_same(expected: &Listing, found: &Listing) {
    let differences = differences(expected, found);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Fails when `root` is not exactly what it was.
#[track_caller]
pub(crate) fn assert_is(expected: &Listing, root: &Path) {
    assert_same(expected, &list(root));
}

const H: &str = "0123456789abcdef";

/// Names in a target directory that nothing but rustc writes: shared wherever links work.
pub(crate) fn immutable() -> [PathBuf; 3] {
    [
        format!("debug/deps/liba-{H}.rlib").into(),
        format!("debug/deps/liba-{H}.rmeta").into(),
        "debug/incremental/a-1x2y/s-h1-a-b/dep-graph.bin".into(),
    ]
}

/// A small tree shaped like cargo's, with everything in it that a restore could get wrong.
pub(crate) fn plant_target(root: &Path) {
    let unit = |prefix: &str, suffix: &str| format!("debug/deps/{prefix}-{H}{suffix}");
    let files: [(String, usize, u32); 14] = [
        (".rustc_info.json".into(), 900, 0o644),
        ("CACHEDIR.TAG".into(), 177, 0o644),
        ("debug/.cargo-lock".into(), 0, 0o644),
        (format!("debug/.fingerprint/a-{H}/lib-a"), 16, 0o644),
        (format!("debug/.fingerprint/a-{H}/lib-a.json"), 5_000, 0o644),
        (unit("liba", ".rlib"), 200_000, 0o644),
        (unit("liba", ".rmeta"), 90_000, 0o644),
        (unit("a", ".d"), 300, 0o644),
        (unit("app", ""), 300_000, 0o755),
        ("debug/app.d".into(), 200, 0o644),
        (format!("debug/build/b-{H}/out/generated.rs"), 70_000, 0o600),
        ("debug/incremental/a-1x2y/s-h1-a-b/dep-graph.bin".into(), 120_000, 0o644),
        ("debug/incremental/a-1x2y/s-h1-a-b.lock".into(), 0, 0o644),
        ("debug/notes.txt".into(), 100_000, 0o640),
    ];
    for (index, (name, size, mode)) in files.iter().enumerate() {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..*size).map(|at| (at / 7 * (index + 3)) as u8).collect();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
        let age = Duration::new(90_000 + index as u64, 111_111_111 + index as u32);
        set_mtime(&path, SystemTime::now() - age);
    }
    // `debug/app` and `deps/app-H` are one file.
    fs::hard_link(root.join(unit("app", "")), root.join("debug/app")).unwrap();
    symlink("../nowhere", root.join("debug/dangling")).unwrap();
    fs::create_dir(root.join("debug/examples")).unwrap();
    for dir in ["debug/examples", "debug/deps", "debug", ""] {
        set_mtime(&root.join(dir), SystemTime::now() - Duration::new(80_000, 222_222_222));
    }
}

/// A plain tree, of which nobody can know how its files are written.
pub(crate) fn plant(root: &Path) {
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    for (name, text) in [("a.txt", "first"), ("sub/b.txt", "second")] {
        fs::write(root.join(name), text).unwrap();
        set_mtime(&root.join(name), SystemTime::now() - Duration::from_secs(5_000));
    }
    fs::write(root.join("sub/large"), vec![7; 100_000]).unwrap();
    set_mtime(&root.join("sub/large"), SystemTime::now() - Duration::from_secs(5_000));
}

pub(crate) fn set_mtime(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Writes into a file that may be read-only, as blobs are; its mtime moves.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The inode number and how many names it has.
pub(crate) fn inode(path: &Path) -> (u64, u64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.nlink())
}
