//! What the tests of the store share: making and comparing trees, policies, short calls.
//!
//! Trees are compared with `std` alone, so that a mistake in larder-fs cannot hide itself.

#![allow(dead_code, unused_macros, clippy::allow_attributes, reason = "each test target uses a part of it")]

use larder_store::evict::Freed;
use larder_store::{
    Events, Fallout, GcRequest, Grace, LinkMode, Opaque, Place, PlaceRoots, Policy, RestoreRequest, Restored, Result,
    Retention, Root, SaveRequest, Saved, Store, Treatment,
};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

pub(crate) mod disk;
#[macro_use]
pub(crate) mod world;

/// Remembers what the library says.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<String>>);

impl Events for Heard {
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

impl Heard {
    /// Everything heard so far, in one string.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// Gives each path a treatment by chance, always the same one, and lets whole groups of paths fall together.
pub(crate) struct ByChance(pub(crate) u64);

impl ByChance {
    pub(crate) fn number(&self, path: &[u8]) -> u8 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0.to_le_bytes()).update(path);
        hasher.finalize().as_bytes()[0]
    }

    pub(crate) fn treatment(&self, path: &[u8]) -> Treatment {
        let number = self.number(path);
        Treatment { share: number & 3 != 0, rewrite: number & 4 != 0, vouches: number & 24 == 0 }
    }

    pub(crate) fn group(&self, path: &[u8]) -> u8 {
        self.number(path) >> 5
    }
}

impl Policy for ByChance {
    fn treatments(&self, paths: &[Vec<u8>]) -> Vec<Treatment> {
        paths.iter().map(|path| self.treatment(path)).collect()
    }

    fn fallout(&self, paths: &[Vec<u8>], damaged: &[bool]) -> Option<Fallout> {
        let fallen: Vec<u8> =
            paths.iter().zip(damaged).filter(|(_, bad)| **bad).map(|(path, _)| self.group(path)).collect();
        let left_out = paths.iter().map(|path| fallen.contains(&self.group(path))).collect();
        Some(Fallout { left_out, names: fallen.iter().map(|group| format!("group {group}")).collect() })
    }
}

/// Like the classes of a cargo target: by the first letter of the file's name.
///
/// `s` is shared, `w` is rewritten in place, `v` is rewritten and vouches, anything else is plain.
/// What stands in one directory falls together.
pub(crate) struct ByName;

impl Policy for ByName {
    fn treatments(&self, paths: &[Vec<u8>]) -> Vec<Treatment> {
        let one = |path: &Vec<u8>| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            match name.first() {
                Some(b's') => Treatment { share: true, ..Treatment::default() },
                Some(b'w') => Treatment { rewrite: true, ..Treatment::default() },
                Some(b'v') => Treatment { rewrite: true, vouches: true, ..Treatment::default() },
                _ => Treatment::default(),
            }
        };
        paths.iter().map(one).collect()
    }

    fn fallout(&self, paths: &[Vec<u8>], damaged: &[bool]) -> Option<Fallout> {
        fn dir(path: &[u8]) -> Vec<u8> {
            path.iter().rposition(|byte| *byte == b'/').map_or(Vec::new(), |cut| path[..cut].to_vec())
        }
        let fallen: Vec<Vec<u8>> =
            paths.iter().zip(damaged).filter(|(_, bad)| **bad).map(|(path, _)| dir(path)).collect();
        let left_out = paths.iter().map(|path| fallen.contains(&dir(path))).collect();
        Some(Fallout { left_out, names: fallen.iter().map(|dir| String::from_utf8_lossy(dir).into_owned()).collect() })
    }
}

/// Everything that must survive about one directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Dir { mode: u32, mtime: (i64, i64) },
    File { mode: u32, mtime: (i64, i64), size: u64, digest: String, group: Vec<u8> },
    Symlink { mtime: (i64, i64), target: Vec<u8> },
    Other,
}

/// A tree as it is on disk, by path.
pub(crate) type Scan = BTreeMap<Vec<u8>, Node>;

/// Walks below `root`, which may be deeper than a path may be long: long paths are shortened through
/// `/proc/self/fd`.
pub(crate) fn scan(root: &Path) -> Scan {
    let mut found = Scan::new();
    let mut groups: HashMap<(u64, u64), Vec<Vec<u8>>> = HashMap::new();
    let mut pending: Vec<(PathBuf, Vec<u8>, Option<Rc<fs::File>>)> = vec![(root.to_path_buf(), Vec::new(), None)];
    while let Some((mut at, relative, mut anchor)) = pending.pop() {
        let here = if relative.is_empty() { fs::metadata(&at) } else { fs::symlink_metadata(&at) }.unwrap();
        found.insert(
            relative.clone(),
            Node::Dir { mode: here.mode() & 0o7777, mtime: (here.mtime(), here.mtime_nsec()) },
        );
        if at.as_os_str().len() > 3000 {
            let open = Rc::new(fs::File::open(&at).unwrap());
            at = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
            anchor = Some(open);
        }
        for entry in fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            let name = join(&relative, entry.file_name().as_bytes());
            let meta = fs::symlink_metadata(&path).unwrap();
            let mtime = (meta.mtime(), meta.mtime_nsec());
            if meta.is_dir() {
                pending.push((path, name, anchor.clone()));
                continue;
            }
            let node = if meta.is_file() {
                groups.entry((meta.dev(), meta.ino())).or_default().push(name.clone());
                let digest = blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string();
                Node::File { mode: meta.mode() & 0o7777, mtime, size: meta.len(), digest, group: Vec::new() }
            } else if meta.is_symlink() {
                Node::Symlink { mtime, target: fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec() }
            } else {
                Node::Other
            };
            found.insert(name, node);
        }
    }
    for names in groups.into_values() {
        let first = names.iter().min().unwrap().clone();
        for name in &names {
            if let Some(Node::File { group, .. }) = found.get_mut(name) {
                group.clone_from(&first);
            }
        }
    }
    found
}

/// Fails with the first differences when two trees are not the same.
#[track_caller]
pub(crate) fn assert_same(expected: &Scan, got: &Scan, what: &str) {
    if expected == got {
        return;
    }
    let mut text = String::new();
    for (path, node) in expected {
        if got.get(path) != Some(node) {
            text.push_str(&format!(
                "{:?}:\n  wanted {node:?}\n  found  {:?}\n",
                String::from_utf8_lossy(path),
                got.get(path)
            ));
        }
    }
    for path in got.keys().filter(|path| !expected.contains_key(*path)) {
        text.push_str(&format!("{:?} should not be there\n", String::from_utf8_lossy(path)));
    }
    panic!("{what}: the trees differ\n{}", text.chars().take(4000).collect::<String>());
}

/// The tree without sockets, FIFOs and devices, which no snapshot holds.
pub(crate) fn without_specials(mut scan: Scan) -> Scan {
    scan.retain(|_, node| *node != Node::Other);
    scan
}

pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

pub(crate) fn at(root: &Path, relative: &[u8]) -> PathBuf {
    if relative.is_empty() { root.to_path_buf() } else { root.join(OsStr::from_bytes(relative)) }
}

/// Puts a new file with mode and mtime in place, unless the same one is there.
pub(crate) fn put(path: &Path, bytes: &[u8], mode: u32, mtime: (i64, u32)) {
    if let Ok(there) = fs::symlink_metadata(path) {
        if (there.len(), there.mtime(), there.mtime_nsec()) == (bytes.len() as u64, mtime.0, i64::from(mtime.1)) {
            return;
        }
        fs::remove_file(path).unwrap();
    }
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    stamp(path, mtime);
}

/// Sets the mtime of a file, directory or symbolic link.
pub(crate) fn stamp(path: &Path, (secs, nanos): (i64, u32)) {
    let parent = larder_fs::Dir::open(path.parent().unwrap()).unwrap();
    parent.set_mtime(path.file_name().unwrap(), larder_fs::Timestamp { secs, nanos }).unwrap();
}

/// Bytes that no compression or deduplication makes equal by accident.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// One of every kind of file that the store treats in its own way, under [`ByName`]; `version` changes some.
pub(crate) fn small_tree(root: &Path, version: u64) {
    let time = |n: u64| (1_600_000_000 + i64::try_from(n).unwrap(), 123_456_789);
    for dir in ["unit", "unit/fp", "lib", "empty"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    put(&root.join("lib/s-old.rlib"), &noise(1, 9000), 0o644, time(1));
    put(&root.join("lib/s-new.rlib"), &noise(10 + version, 8000), 0o644, time(10 + version));
    put(&root.join("lib/s-tiny"), b"tiny", 0o755, time(2));
    put(&root.join("unit/plain-large"), &noise(20 + version, 70_000), 0o644, time(20 + version));
    put(&root.join("unit/plain-same"), &noise(3, 6000), 0o600, time(3));
    put(&root.join("unit/w-dep"), format!("dep-info {version}").as_bytes(), 0o644, time(30 + version));
    put(&root.join("unit/fp/v-print"), format!("fingerprint {version}").as_bytes(), 0o644, time(40 + version));
    put(&root.join("unit/fp/w-same"), b"the same", 0o644, time(4));
    put(&root.join("unit/nothing"), b"", 0o644, time(5));
    put(&root.join(format!("unit/only-{version}")), &noise(50 + version, 5000), 0o644, time(6));
    put(&root.join(format!("unit/fp/v-only-{version}")), b"for one version", 0o644, time(6));
    let other = 1 - version.min(1);
    for path in
        ["unit/hard".to_owned(), "unit/sym".to_owned(), format!("unit/only-{other}"), format!("unit/fp/v-only-{other}")]
    {
        match fs::remove_file(root.join(path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{e}"),
            _ => {}
        }
    }
    fs::hard_link(root.join("lib/s-new.rlib"), root.join("unit/hard")).unwrap();
    std::os::unix::fs::symlink(format!("../lib/{version}"), root.join("unit/sym")).unwrap();
    stamp(&root.join("unit/sym"), time(7));
    for (n, dir) in ["unit/fp", "unit", "lib", "empty", ""].iter().enumerate() {
        let path = if dir.is_empty() { root.to_path_buf() } else { root.join(dir) };
        stamp(&path, time(100 + n as u64));
    }
}

/// The place that all tests use; keys tell snapshots apart.
pub(crate) fn place() -> Place {
    Place { scope: "tests".into(), label: "tree".into(), roots: PlaceRoots::KeyOnly(1) }
}

pub(crate) fn open(path: &Path) -> Store {
    Store::open(path, &()).unwrap()
}

pub(crate) fn root<'a>(path: &Path, policy: &'a dyn Policy) -> Root<'a> {
    Root { path: path.to_path_buf(), policy }
}

pub(crate) fn save_request<'a>(path: &Path, key: &str, policy: &'a dyn Policy, link_mode: LinkMode) -> SaveRequest<'a> {
    SaveRequest {
        place: place(),
        key: key.into(),
        parts: vec![("part".into(), "value".into())],
        roots: vec![root(path, policy)],
        review: &(),
        link_mode,
        dry_run: false,
    }
}

pub(crate) fn restore_request<'a>(
    path: &Path,
    key: &str,
    policy: &'a dyn Policy,
    link_mode: LinkMode,
) -> RestoreRequest<'a> {
    RestoreRequest {
        place: place(),
        key: key.into(),
        fallback: vec![],
        guide: None,
        by_nearness: false,
        graft: false,
        roots: vec![root(path, policy)],
        link_mode,
        exact: true,
        keep_newer: false,
        refuse_future: false,
        dry_run: false,
    }
}

/// Keeps everything, whatever its age.
pub(crate) fn gc_request() -> GcRequest<'static> {
    GcRequest {
        now: larder_fs::Timestamp::now(),
        retention: &|_| Retention { newest: usize::MAX, each_key: false },
        max_age: None,
        recent: Duration::ZERO,
        budget: None,
        wanted: &|_| Freed::default(),
        only_for_space: false,
        lease: Duration::from_secs(6 * 3600),
        grace: Grace::default(),
        expected: &[],
        patience: Duration::from_secs(30),
        dry_run: false,
    }
}

pub(crate) fn save(store: &Store, path: &Path, key: &str, policy: &dyn Policy) -> Result<Saved> {
    store.save(&save_request(path, key, policy, LinkMode::Auto), &())
}

pub(crate) fn restore(store: &Store, path: &Path, key: &str, policy: &dyn Policy) -> Result<Restored> {
    store.restore(&restore_request(path, key, policy, LinkMode::Auto), &())
}

pub(crate) fn save_opaque(store: &Store, path: &Path, key: &str) -> Saved {
    save(store, path, key, &Opaque).unwrap()
}

/// A directory on the file system of temporary files, and one in memory where there is one.
pub(crate) fn bases() -> Vec<tempfile::TempDir> {
    let mut bases = vec![tempfile::tempdir().unwrap()];
    bases.extend(in_memory());
    bases
}

pub(crate) fn in_memory() -> Option<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").ok()
}

/// The fastest place for tests that need no particular file system.
pub(crate) fn fast() -> tempfile::TempDir {
    in_memory().unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// The test `name` of this executable as a process of its own, which finds `order` in the variable `variable`.
pub(crate) fn another_process(name: &str, variable: &str, order: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(variable, order);
    command
}

/// Runs `test`, the body of the test `name`, in a process of its own: what it does to a process is no other's.
pub(crate) fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "LARDER_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let done = another_process(name, ALONE, "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}\n{}", text(&done.stdout), text(&done.stderr));
    eprint!("{}", text(&done.stderr));
}

/// Says that something cannot be tested here, or fails where everything must be.
pub(crate) fn skip(what: &str, why: &str) {
    let required = std::env::var_os("LARDER_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "{what} must be tested here, but {why}");
    eprintln!("SKIPPED: {what}: {why}");
}

/// Whether an entry is neither file, directory nor link.
pub(crate) fn is_special(meta: &fs::Metadata) -> bool {
    let kind = meta.file_type();
    kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device()
}
