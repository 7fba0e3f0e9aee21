//! What is saved comes back exactly: random trees, random policies, over random leftovers.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_store::{Error, LinkMode, Opaque, Outcome, Policy};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use support::{
    ByChance, Heard, Node, assert_same, at, fast, join, noise, open, restore, restore_request, save, save_opaque,
    save_request, scan, stamp, without_specials,
};

type Time = (i64, u32);

#[derive(Clone, Debug)]
enum What {
    Dir { mode: u32, time: Time },
    File { len: usize, holes: bool, seed: u64, mode: u32, time: Time },
    Symlink { target: Vec<u8>, time: Time },
    Hard { of: u16 },
    Fifo,
}

#[derive(Clone, Debug)]
struct Entry {
    parent: u16,
    name: Vec<u8>,
    what: What,
}

fn times() -> impl Strategy<Value = Time> {
    let secs = prop_oneof![
        4 => 1_500_000_000..1_800_000_000_i64,
        1 => -2_000_000_000..0_i64,
        1 => 4_000_000_000..15_000_000_000_i64,
        // Beyond what ext4 keeps; only used where the file system has room for it.
        1 => prop_oneof![Just(-9_000_000_000_000_i64), Just(9_000_000_000_000_i64), Just(i64::MIN / 4), Just(i64::MAX / 4)],
    ];
    (secs, 0..1_000_000_000_u32)
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte });
    prop_oneof![
        6 => proptest::collection::vec(byte.clone(), 1..12),
        4 => "[a-c]".prop_map(String::into_bytes),
        1 => proptest::collection::vec(byte, 255),
    ]
    .prop_map(|name| if name == b"." || name == b".." { b"dots".to_vec() } else { name })
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let mode = prop_oneof![3 => Just(0o644_u32), 1 => Just(0o755_u32), 2 => 0..=0o7777_u32];
    let len = prop_oneof![2 => Just(0_usize), 3 => 1..4096_usize, 3 => 4096..70_000_usize, 1 => 70_000..200_000_usize];
    let what = prop_oneof![
        4 => (mode.clone(), times()).prop_map(|(mode, time)| What::Dir { mode, time }),
        8 => (len, any::<bool>(), 0..50_u64, mode, times())
            .prop_map(|(len, holes, seed, mode, time)| What::File { len, holes, seed, mode, time }),
        3 => (prop_oneof![names(), Just(b"/etc/passwd".to_vec()), Just(b"../..".to_vec()), Just(b"a".to_vec())], times())
            .prop_map(|(target, time)| What::Symlink { target, time }),
        3 => any::<u16>().prop_map(|of| What::Hard { of }),
        1 => Just(What::Fifo),
    ];
    let entry = (any::<u16>(), names(), what).prop_map(|(parent, name, what)| Entry { parent, name, what });
    proptest::collection::vec(entry, 0..40)
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Makes the tree and returns the paths of its FIFOs.
fn make(root: &Path, entries: &[Entry], any_time: bool) -> Vec<PathBuf> {
    let time = |(secs, nanos): Time| (if any_time { secs } else { secs.clamp(-2_000_000_000, 15_000_000_000) }, nanos);
    fs::create_dir_all(root).unwrap();
    let mut dirs: Vec<(Vec<u8>, u32, Time)> = vec![(Vec::new(), 0o755, (1_700_000_000, 1))];
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut taken: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut fifos = Vec::new();
    for entry in entries {
        let relative = join(&dirs[usize::from(entry.parent) % dirs.len()].0, &entry.name);
        if relative.len() > 3500 || !taken.insert(relative.clone()) {
            continue;
        }
        let path = at(root, &relative);
        match &entry.what {
            What::Dir { mode, time: t } => {
                fs::create_dir(&path).unwrap();
                dirs.push((relative, *mode, time(*t)));
            }
            What::File { len, holes, seed, mode, time: t } => {
                let mut file = fs::File::create(&path).unwrap();
                let bytes = noise(*seed, *len);
                if *holes && *len > 40_000 {
                    file.write_all(&bytes[..5000]).unwrap();
                    file.seek(SeekFrom::Start(*len as u64 - 3000)).unwrap();
                    file.write_all(&bytes[..1000]).unwrap();
                    file.set_len(*len as u64).unwrap();
                } else {
                    file.write_all(&bytes).unwrap();
                }
                file.set_permissions(fs::Permissions::from_mode(*mode)).unwrap();
                stamp(&path, time(*t));
                files.push(relative);
            }
            What::Symlink { target, time: t } => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap();
                stamp(&path, time(*t));
            }
            What::Hard { of } if !files.is_empty() => {
                let source = &files[usize::from(*of) % files.len()];
                fs::hard_link(at(root, source), &path).unwrap();
                files.push(relative);
            }
            What::Hard { .. } => {}
            What::Fifo => {
                fifo(&path);
                fifos.push(path);
            }
        }
    }
    for (relative, mode, time) in dirs.iter().rev() {
        fs::set_permissions(at(root, relative), fs::Permissions::from_mode(*mode)).unwrap();
        stamp(&at(root, relative), *time);
    }
    fifos
}

/// Does something to the `which`th entry of the tree below `root`.
fn disturb(root: &Path, which: u16, how: u8) {
    let paths: Vec<Vec<u8>> = scan(root).into_keys().filter(|path| !path.is_empty()).collect();
    let Some(relative) = paths.get(usize::from(which) % paths.len().max(1)) else {
        fs::write(root.join("added"), "x").unwrap();
        return;
    };
    let path = at(root, relative);
    let meta = fs::symlink_metadata(&path).unwrap();
    let remove = || if meta.is_dir() { fs::remove_dir_all(&path).unwrap() } else { fs::remove_file(&path).unwrap() };
    match how % 14 {
        0 => remove(),
        1 if meta.is_file() => fs::write(&path, noise(99, usize::try_from(meta.len()).unwrap())).unwrap(),
        2 if meta.is_file() => fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap(),
        3 if meta.is_file() => fs::File::options().write(true).open(&path).unwrap().set_len(meta.len() / 2).unwrap(),
        4 if !meta.is_symlink() => fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).unwrap(),
        5 => stamp(&path, (1_234_567_890, 5)),
        6 => {
            remove();
            fs::create_dir_all(path.join("in/the/way")).unwrap();
            fs::write(path.join("in/file"), "x").unwrap();
            std::os::unix::fs::symlink("nowhere", path.join("in/link")).unwrap();
        }
        7 => {
            remove();
            fs::write(&path, "in the way").unwrap();
        }
        8 => {
            remove();
            std::os::unix::fs::symlink(root, &path).unwrap();
        }
        9 => {
            remove();
            fifo(&path);
        }
        10 if meta.is_dir() && fs::symlink_metadata(path.join("extra")).is_err() => {
            fs::create_dir_all(path.join("extra/deep")).unwrap();
            fs::write(path.join("extra/deep/file"), "x").unwrap();
        }
        11 if meta.is_file() => {
            // The hard-link group loses a member, with equal bytes and time.
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            support::put(
                &path,
                &bytes,
                meta.mode() & 0o7777,
                (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()),
            );
        }
        12 if meta.is_file() => {
            let other = root.join(format!("joined-{which}"));
            if !other.exists() {
                fs::hard_link(&path, other).unwrap();
            }
        }
        13 if meta.is_file() => {
            // Two files of the tree become one.
            let other = paths.iter().map(|path| at(root, path)).find(|other| *other != path && other.is_file());
            if let Some(other) = other {
                fs::remove_file(&path).unwrap();
                fs::hard_link(other, &path).unwrap();
            }
        }
        _ => {}
    }
}

fn check(
    entries: &[Entry],
    disturbances: &[(u16, u8)],
    chance: Option<u64>,
    mode: LinkMode,
    base: &Path,
    any_time: bool,
) {
    let by_chance = ByChance(chance.unwrap_or(0));
    let policy: &dyn Policy = if chance.is_some() { &by_chance } else { &Opaque };
    let (source, dest) = (base.join("source"), base.join("dest"));
    let fifos = make(&source, entries, any_time);
    let original = without_specials(scan(&source));
    let store = open(&base.join("store"));
    let heard = Heard::default();
    let saved = store.save(&save_request(&source, "k", policy, mode), &heard).unwrap();
    assert_eq!(saved.skipped.len(), fifos.len());
    for fifo in &fifos {
        let named = format!("{} is a FIFO and is skipped", fifo.display());
        assert!(heard.text().contains(&named), "{named:?} is missing in {:?}", heard.text());
    }
    assert_same(&original, &without_specials(scan(&source)), "the source after the save");

    let inodes: BTreeSet<&Vec<u8>> =
        original.values().filter_map(|n| if let Node::File { group, .. } = n { Some(group) } else { None }).collect();
    let again = save(&store, &source, "again", policy).unwrap();
    assert_eq!((again.work.hashed, again.work.unchanged), (0, inodes.len() as u64), "{again:?}");

    let restored = store.restore(&restore_request(&dest, "k", policy, mode), &()).unwrap();
    assert_eq!(restored.outcome, Outcome::Hit);
    assert_same(&original, &scan(&dest), "into an empty place");
    compare_holes(&source, &dest, &original);
    nothing_to_do(&store, &dest, policy, mode);
    let after = save(&store, &dest, "after", policy).unwrap();
    assert_eq!((after.work.hashed, after.work.unchanged), (0, inodes.len() as u64), "{after:?}");

    for (which, how) in disturbances {
        disturb(&dest, *which, *how);
    }
    let restored = store.restore(&restore_request(&dest, "again", policy, mode), &heard).unwrap();
    // What was changed through a hard link is damaged in the store too: then it is left out, never wrong.
    if restored.outcome == Outcome::Hit {
        assert_same(&original, &scan(&dest), "over a disturbed copy");
        nothing_to_do(&store, &dest, policy, mode);
    } else {
        assert!(chance.is_some(), "nothing is linked under the opaque policy: {}", heard.text());
        let got = scan(&dest);
        for (path, node) in got.iter().filter(|_| restored.outcome == Outcome::Partial) {
            let name = String::from_utf8_lossy(path);
            match (node, original.get(path)) {
                // With other names left out, another name is the first of a group, and folders have lost entries.
                (Node::File { digest, mtime, mode, .. }, Some(Node::File { digest: d, mtime: t, mode: m, .. })) => {
                    assert_eq!((digest, mtime, mode), (d, t, m), "{name}");
                }
                (Node::Dir { mode, .. }, Some(Node::Dir { mode: m, .. })) => assert_eq!(mode, m, "{name}"),
                (node, wanted) => assert_eq!(Some(node), wanted, "{name}"),
            }
        }
    }
}

fn nothing_to_do(store: &larder_store::Store, dest: &Path, policy: &dyn Policy, mode: LinkMode) {
    let again = store.restore(&restore_request(dest, "k", policy, mode), &()).unwrap();
    let work = again.work;
    assert_eq!(
        (again.outcome, work.linked + work.reflinked + work.copied + work.hashed + work.removed),
        (Outcome::Hit, 0),
        "{work:?}"
    );
}

fn compare_holes(source: &Path, dest: &Path, tree: &support::Scan) {
    for (path, node) in tree {
        if let Node::File { size: 40_000.., .. } = node {
            let blocks = |root: &Path| fs::symlink_metadata(at(root, path)).unwrap().blocks();
            assert!(blocks(dest) <= blocks(source) + 32, "{:?} lost its holes", String::from_utf8_lossy(path));
        }
    }
}

type Case = (Vec<Entry>, Vec<(u16, u8)>, Option<u64>, LinkMode);

fn cases() -> impl Strategy<Value = Case> {
    let modes =
        prop_oneof![Just(LinkMode::Auto), Just(LinkMode::Hardlink), Just(LinkMode::Copy), Just(LinkMode::Reflink)];
    (
        entries(),
        proptest::collection::vec(any::<(u16, u8)>(), 0..12),
        proptest::option::weighted(0.7, any::<u64>()),
        modes,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn random_trees_come_back((entries, disturbances, chance, mode) in cases()) {
        let base = fast();
        check(&entries, &disturbances, chance, mode, base.path(), base.path().starts_with("/dev/shm"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::default() })]
    #[test]
    fn random_trees_come_back_on_the_temporary_file_system((entries, disturbances, chance, mode) in cases()) {
        let base = tempfile::tempdir().unwrap();
        check(&entries, &disturbances, chance, mode, base.path(), false);
    }
}

/// A tree of one directory in another, `depth` times, made and seen through short paths.
fn nest(root: &Path, name: &[u8], depth: usize) -> larder_fs::Dir {
    let mut dir = larder_fs::Dir::open(root).unwrap();
    for _ in 0..depth {
        dir.create_dir(std::ffi::OsStr::from_bytes(name)).unwrap();
        dir = dir.open_beneath(std::ffi::OsStr::from_bytes(name)).unwrap();
    }
    dir
}

fn comes_back(base: &Path) {
    let original = scan(&base.join("source"));
    let store = open(&base.join("store"));
    save_opaque(&store, &base.join("source"), "k");
    for _ in 0..2 {
        let restored = restore(&store, &base.join("dest"), "k", &Opaque).unwrap();
        assert_eq!(restored.outcome, Outcome::Hit);
        assert_same(&original, &scan(&base.join("dest")), "a fixed case");
    }
    // Over another tree, which all of it replaces.
    fs::create_dir_all(base.join("over/a")).unwrap();
    fs::write(base.join("over/file"), "x").unwrap();
    restore(&store, &base.join("over"), "k", &Opaque).unwrap();
    assert_same(&original, &scan(&base.join("over")), "a fixed case over another tree");
}

#[test]
fn two_thousand_levels() {
    let base = fast();
    fs::create_dir(base.path().join("source")).unwrap();
    let deepest = nest(&base.path().join("source"), b"a", 2000);
    drop(deepest.create_file("file".as_ref(), 0o640).unwrap());
    comes_back(base.path());
    // The guard of the standard library recurses too deep for this tree's paths.
    larder_fs::remove_tree(base.path()).unwrap();
}

#[test]
fn paths_of_4000_bytes_and_more_with_names_of_255() {
    let base = fast();
    fs::create_dir(base.path().join("source")).unwrap();
    for depth in [15, 16, 17, 40] {
        let dir = nest(&base.path().join("source"), &[b'a' + u8::try_from(depth).unwrap() - 15; 255], depth);
        let file = dir.create_file(std::ffi::OsStr::from_bytes(&[0xff; 255]), 0o600).unwrap();
        (&file).write_all(&noise(depth as u64, 5000)).unwrap();
        dir.symlink(b"nowhere", "link".as_ref()).unwrap();
    }
    comes_back(base.path());
    larder_fs::remove_tree(base.path()).unwrap();
}

#[test]
fn an_empty_root() {
    let base = fast();
    fs::create_dir(base.path().join("source")).unwrap();
    stamp(&base.path().join("source"), (-5, 1));
    comes_back(base.path());
}

#[test]
fn into_an_empty_directory_that_exists() {
    let base = fast();
    support::small_tree(&base.path().join("source"), 0);
    fs::create_dir(base.path().join("dest")).unwrap();
    comes_back(base.path());
}

#[test]
fn a_root_that_is_a_link_to_a_directory() {
    let base = fast();
    let (real, link) = (base.path().join("real"), base.path().join("link"));
    support::small_tree(&real, 0);
    std::os::unix::fs::symlink("real", &link).unwrap();
    let original = scan(&real);
    let store = open(&base.path().join("store"));
    save_opaque(&store, &link, "k");
    support::small_tree(&real, 1);
    assert_eq!(restore(&store, &link, "k", &Opaque).unwrap().outcome, Outcome::Hit);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_same(&original, &scan(&real), "through a link");
}

#[test]
fn roots_that_can_never_work() {
    let base = fast();
    let store = open(&base.path().join("store"));
    support::small_tree(&base.path().join("source"), 0);
    save_opaque(&store, &base.path().join("source"), "k");
    fs::write(base.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("file", base.path().join("to-file")).unwrap();
    std::os::unix::fs::symlink("nothing", base.path().join("dangling")).unwrap();
    std::os::unix::fs::symlink(".", base.path().join("around")).unwrap();
    std::os::unix::fs::symlink("store/tmp", base.path().join("inside")).unwrap();
    for name in ["file", "to-file", "dangling", "around", "inside", "store", "store/blobs/new", "."] {
        let path = base.path().join(name);
        let saved = save(&store, &path, "no", &Opaque);
        assert!(matches!(saved, Err(Error::BadRoot { .. })), "saving {name}: {saved:?}");
        let restored = restore(&store, &path, "k", &Opaque);
        assert!(matches!(restored, Err(Error::BadRoot { .. })), "restoring to {name}: {restored:?}");
    }
    let missing = save(&store, &base.path().join("missing"), "no", &Opaque);
    assert!(matches!(missing, Err(Error::BadRoot { .. })), "{missing:?}");
    assert_eq!(fs::read(base.path().join("file")).unwrap(), b"x");
    assert_eq!(restore(&store, &base.path().join("dest"), "k", &Opaque).unwrap().outcome, Outcome::Hit);
}

#[test]
fn sockets_and_fifos_are_skipped_and_named() {
    let base = fast();
    let source = base.path().join("source");
    fs::create_dir(&source).unwrap();
    fifo(&source.join("pipe"));
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let heard = Heard::default();
    let store = open(&base.path().join("store"));
    let saved = store.save(&save_request(&source, "k", &Opaque, LinkMode::Auto), &heard).unwrap();
    assert_eq!(saved.skipped.len(), 2);
    assert!(heard.text().contains("pipe is a FIFO") && heard.text().contains("socket is a socket"), "{}", heard.text());
}

#[test]
fn without_exact_only_what_larder_made_goes() {
    let base = fast();
    let (source, dest) = (base.path().join("source"), base.path().join("dest"));
    let store = open(&base.path().join("store"));
    for version in [0, 1] {
        support::small_tree(&source, version);
        save_opaque(&store, &source, &format!("k{version}"));
    }
    restore(&store, &dest, "k0", &Opaque).unwrap();
    fs::create_dir(dest.join("mine")).unwrap();
    fs::write(dest.join("mine/file"), "by hand").unwrap();
    fs::write(dest.join("unit/mine"), "by hand").unwrap();
    let mut request = restore_request(&dest, "k1", &Opaque, LinkMode::Auto);
    request.exact = false;
    assert_eq!(store.restore(&request, &()).unwrap().outcome, Outcome::Hit);
    assert_eq!(fs::read(dest.join("mine/file")).unwrap(), b"by hand");
    assert_eq!(fs::read(dest.join("unit/mine")).unwrap(), b"by hand");
    assert!(!dest.join("unit/only-0").exists(), "it came from the snapshot before");
    assert!(dest.join("unit/only-1").exists());
}

#[test]
fn a_newer_directory_stays_and_nothing_is_counted_as_restored() {
    let base = fast();
    let (source, dest) = (base.path().join("source"), base.path().join("dest"));
    let store = open(&base.path().join("store"));
    support::small_tree(&source, 0);
    save_opaque(&store, &source, "k");
    restore(&store, &dest, "k", &Opaque).unwrap();
    fs::write(dest.join("unit/built-since"), "newer").unwrap();
    let before = scan(&dest);
    let mut request = restore_request(&dest, "k", &Opaque, LinkMode::Auto);
    request.exact = false;
    request.keep_newer = true;
    let kept = store.restore(&request, &()).unwrap();
    assert_eq!((kept.outcome, kept.kept_newer), (Outcome::Partial, true));
    assert_eq!((kept.files, kept.bytes, kept.work), (0, 0, larder_store::Work::default()));
    assert_eq!(kept.key.as_deref(), Some("k"));
    assert_same(&before, &scan(&dest), "it stays");
}

#[test]
fn a_file_with_a_name_that_tools_rewrite_is_never_shared() {
    let base = fast();
    let source = base.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("s-shared"), noise(1, 9000)).unwrap();
    fs::hard_link(source.join("s-shared"), source.join("w-rewritten")).unwrap();
    let store = open(&base.path().join("store"));
    assert_eq!(save(&store, &source, "k", &support::ByName).unwrap().work.linked, 0);
    let restored = restore(&store, &base.path().join("dest"), "k", &support::ByName).unwrap();
    assert_eq!((restored.work.linked, fs::metadata(base.path().join("dest/s-shared")).unwrap().nlink()), (0, 2));
}
