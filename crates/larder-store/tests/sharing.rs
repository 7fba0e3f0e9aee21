//! Sixteen processes use one store at once.
//!
//! The test executable runs itself as these processes.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_store::{Error, Outcome};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use support::{ByName, Scan, another_process, assert_same, at, fast, noise, open, put, restore, save, scan, stamp};

const CHILD: &str = "LARDER_TEST_SHARING";
const PROCESSES: u64 = 16;
const STEPS: u64 = 40;
const KEYS: u64 = 5;

/// The tree that belongs to a key: half of its files are those of other keys too.
fn make(root: &Path, key: u64) {
    for dir in ["", "one", "two"] {
        fs::create_dir_all(at(root, dir.as_bytes())).unwrap();
    }
    for n in 0..6_u64 {
        let content = if n.is_multiple_of(2) { n } else { 100 * (key + 1) + n };
        let time = (1_600_000_000 + i64::try_from(content).unwrap(), 7);
        put(&root.join(format!("one/s-{n}")), &noise(content, 6000), 0o644, time);
        put(&root.join(format!("two/plain-{n}")), &noise(content + 50, 9000), 0o600, time);
        put(&root.join(format!("two/w-{n}")), &noise(content + 70, 200), 0o644, time);
        put(&root.join(format!("two/v-{n}")), &noise(content + 90, 20), 0o644, time);
    }
    fs::hard_link(root.join("one/s-1"), root.join("two/hard")).unwrap();
    for dir in ["one", "two", ""] {
        stamp(&at(root, dir.as_bytes()), (1_650_000_000, 3));
    }
}

fn expected(base: &Path, key: u64) -> Scan {
    let like = base.join(format!("like-{key}"));
    make(&like, key);
    let tree = scan(&like);
    fs::remove_dir_all(&like).unwrap();
    tree
}

#[test]
fn child() {
    let Some(order) = std::env::var_os(CHILD) else { return };
    let order = order.into_string().unwrap();
    let (number, base) = order.split_once(' ').unwrap();
    let (number, base): (u64, PathBuf) = (number.parse().unwrap(), base.into());
    let mut chance = fastrand::Rng::with_seed(number);
    let own = base.join(format!("process-{number}"));
    fs::create_dir(&own).unwrap();
    let trees: Vec<Scan> = (0..KEYS).map(|key| expected(&own, key)).collect();
    let dest = own.join("dest");
    for step in 0..STEPS {
        let store = open(&base.join("store"));
        let key = chance.u64(..KEYS);
        let name = format!("k{key}");
        match chance.u32(..10) {
            0..4 => {
                let src = own.join(format!("src-{step}"));
                make(&src, key);
                save(&store, &src, &name, &ByName).unwrap();
            }
            4..8 => {
                // Over what is there, or to an empty place.
                let dest = if chance.bool() { dest.clone() } else { own.join(format!("dest-{step}")) };
                let before = dest.exists().then(|| scan(&dest));
                let restored = restore(&store, &dest, &name, &ByName).unwrap();
                match restored.outcome {
                    Outcome::Hit => assert_same(&trees[usize::try_from(key).unwrap()], &scan(&dest), &name),
                    Outcome::Miss => assert_eq!(dest.exists().then(|| scan(&dest)), before),
                    Outcome::Partial => panic!("no blob is damaged"),
                }
            }
            8 => {
                let snapshots = store.snapshots().unwrap();
                if let Some(found) = chance.choice(&snapshots) {
                    match store.remove(std::slice::from_ref(found), false, &()) {
                        Ok(_) | Err(Error::Busy { .. }) => {}
                        Err(e) => panic!("{e:?}"),
                    }
                }
            }
            _ => {
                let verified = store.verify(&()).unwrap();
                assert!(verified.is_clean(), "{verified:?}");
            }
        }
    }
}

fn spawn(number: u64, base: &Path) -> std::process::Child {
    let order = format!("{number} {}", base.display());
    another_process("child", CHILD, &order).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn sixteen_processes_save_restore_remove_and_verify() {
    let base = fast();
    let children: Vec<_> = (0..PROCESSES).map(|number| spawn(number, base.path())).collect();
    for (number, child) in children.into_iter().enumerate() {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "seed {number}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let store = open(&base.path().join("store"));
    assert!(store.verify(&()).unwrap().is_clean());
    for key in 0..KEYS {
        let dest = base.path().join(format!("last-{key}"));
        if restore(&store, &dest, &format!("k{key}"), &ByName).unwrap().outcome == Outcome::Hit {
            assert_same(&expected(base.path(), key), &scan(&dest), "at the end");
        }
    }
    assert_eq!(fs::read_dir(base.path().join("store/quarantine")).unwrap().count(), 0);
    store.remove(&store.snapshots().unwrap(), false, &()).unwrap();
    assert_eq!(blobs(&base.path().join("store")), Vec::<PathBuf>::new(), "nothing names them any more");
}

fn blobs(store: &Path) -> Vec<PathBuf> {
    let files = |room: &str| {
        let dirs = fs::read_dir(store.join(room)).unwrap().map(|dir| dir.unwrap().path());
        dirs.flat_map(|dir| fs::read_dir(dir).unwrap().map(|file| file.unwrap().path())).collect::<Vec<_>>()
    };
    [files("blobs"), files("ingest")].concat()
}

#[test]
fn racing_saves_of_the_same_bytes_both_succeed() {
    let base = fast();
    for n in 0..8 {
        make(&base.path().join(format!("src-{n}")), 1);
    }
    std::thread::scope(|scope| {
        for n in 0..8 {
            let base = base.path();
            scope.spawn(move || {
                save(&open(&base.join("store")), &base.join(format!("src-{n}")), &format!("k{n}"), &ByName).unwrap()
            });
        }
    });
    let store = open(&base.path().join("store"));
    assert!(store.verify(&()).unwrap().is_clean());
    for n in 0..8 {
        let dest = base.path().join(format!("dest-{n}"));
        assert_eq!(restore(&store, &dest, &format!("k{n}"), &ByName).unwrap().outcome, Outcome::Hit);
        assert_same(&expected(base.path(), 1), &scan(&dest), "after the race");
    }
}

#[test]
fn removing_a_snapshot_leaves_what_another_needs() {
    let base = fast();
    let (store, src) = (open(&base.path().join("store")), base.path().join("src"));
    make(&src, 1);
    save(&store, &src, "first", &ByName).unwrap();
    // The second names the blobs of the first, known from the session.
    save(&store, &src, "second", &ByName).unwrap();
    let removed = store.remove(&store.find_exact(&support::place(), "first").unwrap(), false, &()).unwrap();
    assert_eq!((removed.snapshots.len(), removed.blobs), (1, 0));
    assert_eq!(restore(&store, &base.path().join("dest"), "second", &ByName).unwrap().outcome, Outcome::Hit);
    assert_same(&expected(base.path(), 1), &scan(&base.path().join("dest")), "after the removal");
    fs::remove_dir_all(&src).unwrap();
    fs::remove_dir_all(base.path().join("dest")).unwrap();
    let removed = store.remove(&store.snapshots().unwrap(), false, &()).unwrap();
    assert!(removed.blobs > 0 && removed.bytes > 0, "{removed:?}");
    assert_eq!(blobs(&base.path().join("store")), Vec::<PathBuf>::new());
}
