//! Whatever is damaged, a repair loses nothing intact: what can be whole is restored exactly, the rest is a miss or lacks
//! what is gone, and the store is clean.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_store::{Ending, Error, LinkMode, Outcome, Remedy, Repaired, Snapshot, Step, Store, TreeKind};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use support::{
    ByName, Node, Scan, assert_same, fast, noise, open, place, put, restore, root, save, scan, small_tree, stamp,
};

/// What stands where links out of the store lead to.
const OUTSIDE: &str = "not the store's";

const KEYS: [&str; 3] = ["a", "b", "c"];

struct World {
    base: tempfile::TempDir,
    trees: BTreeMap<&'static str, Scan>,
    /// What somebody put into the store, which must be somewhere afterwards.
    foreign: Vec<String>,
}

impl World {
    /// A store with three snapshots that share most of their blobs, and a prepared tree of the last.
    fn new() -> Self {
        let base = fast();
        fs::write(base.path().join("outside"), OUTSIDE).unwrap();
        let store = open(&base.path().join("store"));
        let mut trees = BTreeMap::new();
        for (version, key) in (0..).zip(KEYS) {
            let src = base.path().join(format!("src-{}", version % 2));
            small_tree(&src, version);
            save(&store, &src, key, &ByName).unwrap();
            trees.insert(key, scan(&src));
            // In a working copy links would hide which blob belongs to whom.
            restore(&store, &base.path().join("work"), key, &ByName).unwrap();
        }
        fs::remove_dir_all(base.path().join("work")).unwrap();
        let snapshot = Snapshot::load(&store.find_exact(&place(), "c").unwrap()[0].path).unwrap();
        let roots = [root(&base.path().join("dest"), &ByName)];
        store.prepare(&snapshot, TreeKind::Spare, &roots, LinkMode::Copy, &()).unwrap();
        Self { base, trees, foreign: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    fn files(&self, room: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.store().join(room)];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                match fs::symlink_metadata(&entry).map(|meta| meta.file_type()) {
                    Ok(kind) if kind.is_dir() => open.push(entry),
                    // Nothing is ever done through a link: what it leads to is no part of the store.
                    Ok(kind) if kind.is_file() => found.push(entry),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }

    /// One file of a room, by chance.
    fn one(&self, room: &str, seed: u64, fits: fn(&Path) -> bool) -> Option<PathBuf> {
        // Blobs have 62 digits or a few, snapshots 37 characters: what somebody put there is not touched.
        let larders = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy();
            matches!((room, name.len()), ("blobs", 62) | ("snapshots", 37) | ("ingest", 1..10) | ("trees", _))
                && !path.to_string_lossy().contains(' ')
        };
        let files: Vec<PathBuf> = self.files(room).into_iter().filter(|path| fits(path) && larders(path)).collect();
        (!files.is_empty()).then(|| files[seed as usize % files.len()].clone())
    }

    fn somebodys(&mut self, path: &Path) {
        let text = format!("of somebody: {}", path.display());
        // What was damaged before may not be there to put something into.
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && fs::write(path, &text).is_ok() {
            self.foreign.push(text);
        }
    }

    fn repair(&self, dry_run: bool) -> Repaired {
        Store::repair(&self.store(), dry_run, &()).unwrap().expect("there is a store")
    }

    /// Everything in the store that a dry run must not change, where modes hide nothing from this account.
    fn listing(&self) -> Option<Scan> {
        (larder_fs::process::effective_uid() == 0).then(|| scan(&self.store()))
    }

    /// Repairs it and compares it with what was promised. `whole` are the keys that nothing was taken from.
    fn check(&self, whole: &[&str], what: &str) -> Repaired {
        let before = self.listing();
        let planned = self.repair(true);
        if let (Some(before), Some(after)) = (before, self.listing()) {
            assert_same(&before, &after, &format!("{what}: a dry run changes nothing"));
        }
        let repaired = self.repair(false);
        let said = |step: &Step| (step.path.clone(), step.fault.clone(), step.remedy.clone());
        // What was closed shows more once it is open.
        let planned: Vec<_> = planned.steps.iter().map(said).collect();
        let done: Vec<_> = repaired.steps.iter().map(said).collect();
        assert_eq!(planned[..], done[..planned.len().min(done.len())], "{what}: a dry run says the same");
        assert!(repaired.is_clean(), "{what}: {repaired:#?}");
        for step in &repaired.steps {
            assert!(matches!(step.ending, Ending::Done(_)), "{what}: {step:?}");
        }
        assert_eq!(fs::read_to_string(self.path("outside")).unwrap(), OUTSIDE, "{what}: a link was followed");
        let store = open(&self.store());
        let verified = store.verify(&()).unwrap();
        assert!(verified.is_clean(), "{what}: {verified:?}\n{repaired:#?}");
        let again = self.repair(false);
        assert_eq!(again.steps, [], "{what}: nothing is left to do");
        assert_eq!(again.concerned, repaired.concerned, "{what}: what is lost stays lost");
        let concerned: Vec<&str> = repaired.concerned.iter().map(|concerned| concerned.key.as_str()).collect();
        for (key, tree) in &self.trees {
            let dest = self.path(&format!("check-{key}"));
            let restored = restore(&store, &dest, key, &ByName).unwrap();
            match restored.outcome {
                Outcome::Hit => assert_same(tree, &scan(&dest), &format!("{what}: {key}")),
                Outcome::Partial => {
                    assert!(concerned.contains(key), "{what}: {key} lacks something that nobody spoke of");
                    assert_part(tree, &scan(&dest), &format!("{what}: {key}"));
                }
                Outcome::Miss => assert!(!dest.exists(), "{what}: {key}"),
            }
            if whole.contains(key) {
                assert_eq!(restored.outcome, Outcome::Hit, "{what}: {key}: {repaired:#?}");
            }
        }
        let texts: Vec<String> =
            self.files("").iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect();
        for text in &self.foreign {
            assert!(texts.contains(text), "{what}: {text:?} is lost");
        }
        // What was lost is made and saved anew.
        for (version, key) in (0..).zip(KEYS) {
            let src = self.path("anew");
            small_tree(&src, version);
            save(&store, &src, key, &ByName).unwrap();
            let dest = self.path(&format!("anew-{key}"));
            assert_eq!(restore(&store, &dest, key, &ByName).unwrap().outcome, Outcome::Hit, "{what}: {key}");
            assert_same(&scan(&src), &scan(&dest), &format!("{what}: {key} anew"));
        }
        repaired
    }
}

/// Whether everything that is there is as it should be.
#[track_caller]
fn assert_part(tree: &Scan, got: &Scan, what: &str) {
    let plain = |node: &Node| match node {
        Node::File { mode, mtime, size, digest, .. } => format!("{mode} {mtime:?} {size} {digest}"),
        // A directory that lacks something keeps its time.
        other => format!("{other:?}"),
    };
    for (path, node) in got {
        let wanted = tree.get(path).unwrap_or_else(|| panic!("{what}: {:?}", String::from_utf8_lossy(path)));
        assert_eq!(plain(wanted), plain(node), "{what}: {:?}", String::from_utf8_lossy(path));
    }
}

fn any(_: &Path) -> bool {
    true
}

fn no_sidecar(path: &Path) -> bool {
    path.extension().is_none()
}

fn flip(path: &Path, at: u64) {
    let (mut byte, time) = ([0], fs::metadata(path).unwrap().modified().unwrap());
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let at = at % file.metadata().unwrap().len().max(1);
    if file.read_at(&mut byte, at).unwrap() == 1 {
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
    file.set_modified(time).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

/// A kind of damage, done at a place by chance. Says whether no snapshot lost anything.
type Harm = fn(&mut World, u64) -> bool;

const HARMS: [(&str, Harm); 24] = [
    ("a digest blob is gone", |world, seed| gone(world, "blobs", seed)),
    ("an ingest blob is gone", |world, seed| gone(world, "ingest", seed)),
    ("a digest blob was cut", |world, seed| cut(world, "blobs", seed)),
    ("an ingest blob was cut", |world, seed| cut(world, "ingest", seed)),
    ("a digest blob has another bit", |world, seed| flipped(world, "blobs", seed)),
    ("an ingest blob has another bit", |world, seed| flipped(world, "ingest", seed)),
    ("a digest blob has another time", |world, seed| {
        if let Some(path) = world.one("blobs", seed, any) {
            stamp(&path, (1_700_000_000, 0));
        }
        true
    }),
    ("a snapshot is gone", |world, seed| gone(world, "snapshots", seed)),
    ("a snapshot was cut", |world, seed| cut(world, "snapshots", seed)),
    ("a snapshot has another bit", |world, seed| flipped(world, "snapshots", seed)),
    ("FORMAT is gone", |world, _| {
        fs::remove_file(world.store().join("FORMAT")).ok();
        true
    }),
    ("FORMAT was cut", |world, seed| {
        let text = &"larder store\nversion 1\n"[..seed as usize % 21];
        fs::write(world.store().join("FORMAT"), text).ok();
        true
    }),
    ("something stands at the place of FORMAT", |world, _| {
        fs::remove_file(world.store().join("FORMAT")).ok();
        let path = world.store().join("FORMAT/of/somebody");
        world.somebodys(&path);
        true
    }),
    ("foreign files in all rooms", |world, seed| {
        for room in ["blobs", "blobs/0f", "ingest", "ingest/0123456789abcdef", "snapshots", "sessions", "trees"] {
            let path = world.store().join(room).join(format!("-notes {seed}.txt"));
            world.somebodys(&path);
        }
        true
    }),
    ("foreign links and directories", |world, seed| {
        for room in ["blobs", "ingest", "snapshots", "sessions", "trees"] {
            let path = world.store().join(room).join(format!("directory {seed}/in/it"));
            world.somebodys(&path);
            symlink(world.path("outside"), world.store().join(room).join(format!("link {seed}"))).ok();
        }
        true
    }),
    ("a directory stands in place of a blob", |world, seed| {
        let Some(path) = world.one("blobs", seed, any) else { return true };
        fs::remove_file(&path).unwrap();
        let below = path.join("below");
        world.somebodys(&below);
        false
    }),
    ("a derived room is gone", |world, seed| {
        let room = ["sessions", "trees", "tmp", "quarantine"][seed as usize % 4];
        let room = world.store().join(room);
        fs::remove_dir_all(&room).ok();
        world.foreign.retain(|text| !text.contains(&*room.to_string_lossy()));
        true
    }),
    ("a file stands in place of a derived room", |world, seed| {
        let room = world.store().join(["sessions", "trees", "tmp", "quarantine"][seed as usize % 4]);
        if room.is_dir() && !world.foreign.iter().any(|text| text.contains(&*room.to_string_lossy())) {
            fs::remove_dir_all(&room).unwrap();
            world.somebodys(&room);
        }
        true
    }),
    ("processes died", |world, seed| {
        for n in 0..seed % 3 + 1 {
            fs::create_dir_all(world.store().join(format!("tmp/{n:016x}/ingest"))).ok();
            fs::write(world.store().join(format!("tmp/{n:016x}/snapshot")), noise(seed, 100)).ok();
        }
        true
    }),
    ("sessions are damaged", |world, seed| {
        let is_record = |path: &PathBuf| path.file_name().unwrap().len() == 24;
        for path in world.files("sessions").into_iter().filter(is_record) {
            match seed % 3 {
                0 => fs::write(&path, noise(seed, 31)).unwrap(),
                1 => fs::write(&path, "").unwrap(),
                _ => fs::write(&path, noise(seed, 99)).unwrap(),
            }
        }
        true
    }),
    ("digests beside blobs are wrong", |world, seed| {
        let is_blob =
            |path: &PathBuf| path.file_name().unwrap().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        for path in world.files("ingest").into_iter().filter(is_blob) {
            let mut name = path.file_name().unwrap().to_os_string();
            name.push(".blake3");
            match seed % 3 {
                0 => fs::write(path.with_file_name(name), "no digest").ok(),
                1 => fs::write(path.with_file_name("4000000000.blake3"), noise(1, 64)).ok(),
                _ => fs::create_dir_all(path.with_file_name(name)).ok(),
            };
        }
        true
    }),
    ("a prepared tree differs", |world, seed| {
        if let Some(path) = world.one("trees", seed, |path| !path.ends_with("inodes")) {
            fs::remove_file(path).unwrap();
        }
        true
    }),
    ("modes let nobody in", |world, seed| {
        for room in ["snapshots", "blobs", "sessions", "trees", "ingest"].iter().skip(seed as usize % 4) {
            fs::set_permissions(world.store().join(room), fs::Permissions::from_mode(0o600)).ok();
        }
        true
    }),
    ("files have no mode", |world, seed| {
        for room in ["snapshots", "blobs"] {
            if let Some(path) = world.one(room, seed, any) {
                fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
            }
        }
        true
    }),
];

fn gone(world: &mut World, room: &str, seed: u64) -> bool {
    let Some(path) = world.one(room, seed, no_sidecar) else { return true };
    fs::remove_file(path).unwrap();
    false
}

fn cut(world: &mut World, room: &str, seed: u64) -> bool {
    let Some(path) = world.one(room, seed, no_sidecar) else { return true };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let half = file.metadata().unwrap().len() / 2;
    file.set_len(half).unwrap();
    false
}

fn flipped(world: &mut World, room: &str, seed: u64) -> bool {
    let Some(path) = world.one(room, seed, no_sidecar) else { return true };
    // Another version in a snapshot's head is no damage.
    flip(&path, seed.max(40));
    false
}

#[test]
fn every_kind_of_damage_is_mended() {
    for (what, harm) in HARMS {
        for seed in 0..4 {
            let mut world = World::new();
            let whole: &[&str] = if harm(&mut world, seed) { &KEYS } else { &[] };
            world.check(whole, what);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_kinds_of_damage_together_are_mended(harms in prop::collection::vec((0..HARMS.len(), 0_u64..1000), 1..6)) {
        let mut world = World::new();
        let mut harmless = true;
        let mut what = String::new();
        for (index, seed) in harms {
            what.push_str(&format!("{} ({seed}); ", HARMS[index].0));
            harmless &= HARMS[index].1(&mut world, seed);
        }
        world.check(if harmless { &KEYS } else { &[] }, &what);
    }
}

/// A closed blob with wrong bytes is set aside, and nothing is done to it where it was.
#[test]
fn what_is_set_aside_needs_no_other_mode() {
    let mut world = World::new();
    for (what, seed) in [("files have no mode", 709), ("a digest blob has another bit", 189)] {
        let (_, harm) = HARMS.iter().find(|(name, _)| *name == what).unwrap();
        harm(&mut world, seed);
    }
    world.check(&[], "closed, with another bit");
}

#[test]
fn an_intact_store_needs_nothing() {
    let world = World::new();
    let repaired = world.check(&KEYS, "intact");
    assert_eq!((repaired.steps, repaired.concerned, repaired.snapshots), (vec![], vec![], 3));
    assert_eq!(Store::repair(&world.path("absent"), false, &()).unwrap(), None);
}

#[test]
fn lost_blobs_are_told_with_the_files_that_need_them() {
    let world = World::new();
    for path in world.files("blobs") {
        fs::remove_file(path).unwrap();
    }
    let repaired = world.check(&[], "no digest blobs");
    assert_eq!(repaired.concerned.len(), 3);
    for concerned in &repaired.concerned {
        let files: Vec<_> =
            concerned.files.iter().map(|(_, path)| String::from_utf8_lossy(path).into_owned()).collect();
        assert!(files.contains(&"unit/plain-large".to_owned()), "{files:?}");
        assert!(!files.iter().any(|file| file == "unit/w-dep"), "{files:?}");
    }
    assert!(repaired.steps.iter().all(|step| step.remedy == Remedy::NoteLoss), "{repaired:#?}");
}

#[test]
fn what_is_no_store_or_another_versions_stays_alone() {
    let base = fast();
    let here = base.path().join("thesis");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("thesis.txt"), "years of work").unwrap();
    assert!(matches!(Store::repair(&here, false, &()), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::repair(&here.join("thesis.txt"), false, &()), Err(Error::NotAStore { .. })));
    assert_eq!(fs::read_dir(&here).unwrap().count(), 1);
    let world = World::new();
    fs::write(world.store().join("FORMAT"), "larder store\nversion 2\n").unwrap();
    let before = scan(&world.store());
    assert!(matches!(Store::repair(&world.store(), false, &()), Err(Error::ForeignFormat { .. })));
    // Nor is FORMAT written where all snapshots are of another version.
    fs::remove_file(world.store().join("FORMAT")).unwrap();
    for path in world.files("snapshots") {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&3_u32.to_le_bytes(), 16).unwrap();
    }
    assert!(matches!(Store::repair(&world.store(), false, &()), Err(Error::NotAStore { .. })));
    assert_eq!(before.len(), scan(&world.store()).len() + 1);
    // With FORMAT they are this store's, and for another larder to read.
    fs::write(world.store().join("FORMAT"), "larder store\nversion 1\n").unwrap();
    let repaired = world.repair(false);
    assert!(!repaired.is_clean());
    let left = repaired.steps.iter().filter(|step| step.remedy == Remedy::Leave).count();
    assert_eq!((left, world.files("snapshots").len(), world.files("quarantine").len()), (3, 3, 0));
    assert!(!world.files("trees").is_empty(), "their trees may be needed");
}

#[test]
fn a_blob_that_nobody_names_is_not_taken_for_another() {
    let world = World::new();
    let store = open(&world.store());
    let all = store.snapshots().unwrap();
    for found in all {
        fs::remove_file(found.path).unwrap();
    }
    let path = world.one("blobs", 3, any).unwrap();
    flip(&path, 7);
    let repaired = world.check(&[], "unnamed");
    assert_eq!(repaired.steps.iter().filter(|step| step.remedy == Remedy::Quarantine).count(), 1, "{repaired:#?}");
}

#[test]
fn what_a_living_process_does_stays() {
    let world = World::new();
    fs::create_dir(world.store().join("tmp/0123456789abcdef")).unwrap();
    let staging = fs::File::open(world.store().join("tmp/0123456789abcdef")).unwrap();
    staging.lock().unwrap();
    // Somebody restores to the directory whose record is damaged.
    let sessions: Vec<PathBuf> = world.files("sessions").into_iter().filter(|path| no_sidecar(path)).collect();
    fs::write(&sessions[0], "damaged").unwrap();
    let lock = fs::File::options().create(true).append(true).open(sessions[0].with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let repaired = world.repair(false);
    assert!(!repaired.is_clean());
    let [step] = &repaired.steps[..] else { panic!("{repaired:#?}") };
    assert_eq!(step.ending, Ending::Failed("somebody works on its directory".into()));
    drop((staging, lock));
    world.check(&KEYS, "they are gone");
}

#[test]
fn what_was_touched_in_a_working_copy_keeps_its_time_there() {
    let world = World::new();
    let store = open(&world.store());
    let dest = world.path("dest");
    restore(&store, &dest, "a", &ByName).unwrap();
    let file = dest.join("lib/s-old.rlib");
    assert!(fs::metadata(&file).unwrap().nlink() > 1, "it is linked");
    fs::File::options().append(true).open(&file).unwrap().write_all(b"").unwrap();
    stamp(&file, (1_700_000_000, 5));
    let repaired = world.repair(false);
    assert!(repaired.steps.iter().any(|step| step.remedy == Remedy::Quarantine), "{repaired:#?}");
    assert_eq!(fs::metadata(&file).unwrap().mtime(), 1_700_000_000);
    put(&file, b"of the user", 0o644, (1_700_000_001, 0));
}
