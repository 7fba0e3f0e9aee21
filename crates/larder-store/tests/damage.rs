//! A store that was damaged, by accident or on purpose, gives misses and never wrong bytes.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_store::{Content, Digest, Inode, LinkMode, Manifest, Opaque, Outcome, Restored, Snapshot, Store};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use support::{
    ByName, Heard, Scan, assert_same, fast, noise, open, place, put, restore, restore_request, save, scan, small_tree,
};

struct World {
    base: tempfile::TempDir,
    store: Store,
    tree: Scan,
}

impl World {
    /// A store with the snapshot `k` of a small tree, saved under [`ByName`].
    fn new() -> Self {
        let base = fast();
        let store = open(&base.path().join("store"));
        small_tree(&base.path().join("src"), 0);
        save(&store, &base.path().join("src"), "k", &ByName).unwrap();
        let tree = scan(&base.path().join("src"));
        Self { base, store, tree }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    fn snapshot(&self) -> PathBuf {
        self.store.find_exact(&place(), "k").unwrap()[0].path.clone()
    }

    fn restore(&self, name: &str) -> (Restored, String) {
        let heard = Heard::default();
        let request = restore_request(&self.path(name), "k", &ByName, LinkMode::Auto);
        (self.store.restore(&request, &heard).unwrap(), heard.text())
    }

    /// Restoring to a new place is a miss that names `word` in its warning, and leaves no trace.
    fn misses(&self, name: &str, word: &str) {
        let heard = Heard::default();
        let request = restore_request(&self.path(name), "k", &Opaque, LinkMode::Auto);
        let restored = self.store.restore(&request, &heard).unwrap();
        assert_eq!(restored.outcome, Outcome::Miss, "{}", heard.text());
        assert!(heard.text().contains(word), "{word:?} is missing in {:?}", heard.text());
        assert!(!self.path(name).exists());
    }

    fn quarantined(&self) -> usize {
        fs::read_dir(self.path("store/quarantine")).unwrap().count()
    }

    /// The blob of the file at this path of the tree.
    fn blob(&self, path: &str) -> PathBuf {
        let snapshot = Snapshot::load(&self.snapshot()).unwrap();
        let manifest = &snapshot.roots[0];
        let link = manifest.link_paths().iter().position(|p| p == path.as_bytes()).unwrap();
        match &manifest.inodes[manifest.links[link].inode as usize].content {
            Content::Digest { digest, .. } => {
                let hex = digest.to_string();
                self.path("store/blobs").join(&hex[..2]).join(&hex[2..])
            }
            Content::Ingest { save, index, .. } => {
                self.path("store/ingest").join(format!("{:016x}", save.0)).join(index.to_string())
            }
            Content::Inline { .. } => panic!("{path} is inline"),
        }
    }
}

fn append(path: &Path) {
    fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn touch(path: &Path) {
    fs::File::options().write(true).open(path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
}

/// Changes one byte and puts the mtime back.
fn flip_quietly(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::File::options().write(true).open(path).unwrap().write_all(&bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(meta.modified().unwrap()).unwrap();
    let now = fs::metadata(path).unwrap();
    assert_eq!((meta.ino(), meta.len(), meta.mtime_nsec()), (now.ino(), now.len(), now.mtime_nsec()));
}

type Harm = fn(&Path);

const HARMS: [(&str, Harm); 4] = [
    ("append", append),
    ("truncate", |path| fs::File::options().write(true).open(path).unwrap().set_len(10).unwrap()),
    ("overwrite", |path| {
        let len = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
        fs::write(path, noise(7, len)).unwrap();
    }),
    ("touch", touch),
];

#[test]
fn a_blob_changed_through_a_hard_link_is_set_aside_and_what_falls_with_it_left_out() {
    for (name, harm) in HARMS {
        let world = World::new();
        let (restored, _) = world.restore("dest");
        assert!(restored.work.linked > 0, "{restored:?}");
        harm(&world.path("dest/lib/s-old.rlib"));
        let (restored, warnings) = world.restore("partial");
        assert_eq!((restored.outcome, world.quarantined()), (Outcome::Partial, 1), "{name}: {warnings}");
        assert!(warnings.contains("was moved to"), "{name}: {warnings}");
        assert_eq!(restored.omitted, ["lib"]);
        let mut tree = world.tree.clone();
        let lib: Vec<u8> = b"lib/".to_vec();
        tree.retain(|path, _| !path.starts_with(&lib));
        // The file keeps the name that it has elsewhere.
        let mut got = scan(&world.path("partial"));
        for scan in [&mut tree, &mut got] {
            if let Some(support::Node::File { group, .. }) = scan.get_mut(&b"unit/hard"[..]) {
                group.clear();
            }
        }
        assert_same(&tree, &got, name);
        world.misses("nothing", "is missing");
        // In place, the damaged file goes and the rest stays.
        let (restored, _) = world.restore("dest");
        assert_eq!(restored.outcome, Outcome::Partial, "{name}");
        assert!(!world.path("dest/lib/s-old.rlib").exists());
        assert!(world.store.verify(&()).unwrap().is_clean(), "it is past quarantine");
        // Built anew and saved, all is well again.
        save(&world.store, &world.path("src"), "k", &ByName).unwrap();
    }
}

#[test]
fn a_dry_run_finds_damage_and_moves_nothing() {
    let world = World::new();
    append(&world.blob("unit/plain-large"));
    let mut request = restore_request(&world.path("elsewhere"), "k", &ByName, LinkMode::Auto);
    request.dry_run = true;
    let heard = Heard::default();
    world.store.restore(&request, &heard).unwrap();
    assert!(heard.text().contains("damaged"), "{}", heard.text());
    assert_eq!(world.quarantined(), 0);
    assert!(world.blob("unit/plain-large").exists() && !world.path("elsewhere").exists());
}

#[test]
fn a_file_of_the_users_below_a_directory_in_the_way_is_a_miss_unless_exactness_is_asked_for() {
    let world = World::new();
    world.restore("dest");
    let mine = world.path("dest/unit/plain-large/mine");
    fs::remove_file(mine.parent().unwrap()).unwrap();
    fs::create_dir(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "years of work").unwrap();
    let mut request = restore_request(&world.path("dest"), "k", &ByName, LinkMode::Auto);
    request.exact = false;
    let heard = Heard::default();
    let restored = world.store.restore(&request, &heard).unwrap();
    assert_eq!(restored.outcome, Outcome::Miss, "{}", heard.text());
    assert!(heard.text().contains("plain-large/mine") && mine.exists(), "{}", heard.text());
    request.exact = true;
    world.store.restore(&request, &()).unwrap();
    assert_same(&world.tree, &scan(&world.path("dest")), "exact");
}

#[test]
fn a_write_that_puts_the_time_back_is_saved() {
    let world = World::new();
    let path = world.path("src/unit/plain-large");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"changed in place", 0).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), length);
    save(&world.store, &world.path("src"), "k", &ByName).unwrap();
    world.restore("new");
    assert_same(&scan(&world.path("src")), &scan(&world.path("new")), "what is there now");
}

#[test]
fn all_or_nothing_where_nothing_is_known_of_the_files() {
    for (name, harm) in HARMS {
        let world = World::new();
        world.restore("dest");
        harm(&world.path("dest/lib/s-old.rlib"));
        world.misses("nothing", "is damaged");
        assert_eq!(world.quarantined(), 1, "{name}");
    }
}

#[test]
fn damage_that_shows_in_no_stat_is_found_by_verify() {
    for file in ["lib/s-old.rlib", "unit/plain-large"] {
        let world = World::new();
        flip_quietly(&world.blob(file));
        let first = world.store.verify(&()).unwrap();
        assert_eq!((first.is_clean(), first.damaged.len(), world.quarantined()), (false, 1, 1), "{first:?}");
        assert_eq!(first.damaged[0].0, world.blob(file));
        let second = world.store.verify(&()).unwrap();
        assert_eq!((second.is_clean(), second.set_aside), (true, 1), "{second:?}");
        world.misses("dest", "is missing");
    }
}

#[test]
fn a_missing_blob_is_a_miss_and_named_by_verify() {
    let world = World::new();
    fs::remove_file(world.blob("unit/plain-large")).unwrap();
    world.misses("dest", "is missing");
    let verified = world.store.verify(&()).unwrap();
    assert_eq!((verified.damaged.len(), verified.damaged[0].0.clone()), (1, world.blob("unit/plain-large")));
    // The next save has the bytes and gives the store its blob again.
    small_tree(&world.path("again"), 0);
    save(&world.store, &world.path("again"), "other", &ByName).unwrap();
    assert_eq!(world.restore("dest").0.outcome, Outcome::Hit);
    assert_same(&world.tree, &scan(&world.path("dest")), "after the repair");
}

#[test]
fn a_blob_that_is_no_file_is_a_miss_and_replaced_by_the_next_save() {
    let kinds: [(&str, Harm); 3] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a link", |path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap()),
        ("a FIFO", |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success())),
    ];
    for file in ["unit/plain-large", "lib/s-old.rlib"] {
        for (kind, make) in kinds {
            let world = World::new();
            let blob = world.blob(file);
            fs::remove_file(&blob).unwrap();
            make(&blob);
            world.misses("dest", "is missing");
            assert!(!world.store.verify(&()).unwrap().is_clean(), "{kind}");
            let again = save(&world.store, &world.path("src"), "k", &ByName).unwrap();
            assert!(again.work.hashed > 0, "{kind}: {again:?}");
            let (restored, warnings) = world.restore("dest");
            assert_eq!(restored.outcome, Outcome::Hit, "{kind}: {warnings}");
            assert_same(&world.tree, &scan(&world.path("dest")), kind);
            world.store.remove(&world.store.snapshots().unwrap(), false, &()).unwrap();
        }
    }
}

fn copy_store(world: &World) -> Store {
    let copied =
        std::process::Command::new("cp").arg("-a").args([world.path("store"), world.path("copy")]).status().unwrap();
    assert!(copied.success());
    open(&world.path("copy"))
}

#[test]
fn a_copied_store_restores_by_digest() {
    let world = World::new();
    let store = copy_store(&world);
    let restored = restore(&store, &world.path("dest"), "k", &ByName).unwrap();
    assert_eq!(restored.outcome, Outcome::Hit);
    assert_same(&world.tree, &scan(&world.path("dest")), "from the copy");
    assert!(store.verify(&()).unwrap().is_clean());
}

#[test]
fn a_blob_copied_before_its_digest_was_known_is_a_miss() {
    let world = World::new();
    let path = world.snapshot();
    rewrite(&path, |manifest, _| {
        for inode in &mut manifest.inodes {
            if let Content::Ingest { digest, .. } = &mut inode.content {
                *digest = None;
            }
        }
    });
    assert_eq!(world.restore("dest").0.outcome, Outcome::Hit, "where it was taken in, it is proven");
    let store = copy_store(&world);
    let heard = Heard::default();
    let request = restore_request(&world.path("other"), "k", &Opaque, LinkMode::Auto);
    assert_eq!(store.restore(&request, &heard).unwrap().outcome, Outcome::Miss);
    assert!(heard.text().contains("cannot be trusted"), "{}", heard.text());
    // Verify must not make it look proven.
    assert!(!store.verify(&()).unwrap().is_clean());
    assert_eq!(store.restore(&request, &()).unwrap().outcome, Outcome::Miss);
    // In the original, verify writes the digests down: then a copy is good.
    assert!(world.store.verify(&()).unwrap().digested > 0);
    fs::remove_dir_all(world.path("copy")).unwrap();
    let store = copy_store(&world);
    assert_eq!(restore(&store, &world.path("other"), "k", &ByName).unwrap().outcome, Outcome::Hit);
    assert_same(&world.tree, &scan(&world.path("other")), "by sidecars");
}

/// Writes the snapshot anew, with right digests, after `change` had its way with manifest and header.
fn rewrite(path: &Path, change: impl FnOnce(&mut Manifest, &mut larder_store::Header)) {
    let snapshot = Snapshot::load(path).unwrap();
    let inline = snapshot.inline().unwrap();
    let (mut header, mut roots) = (snapshot.header.clone(), snapshot.roots.clone());
    change(&mut roots[0], &mut header);
    let mut bytes = larder_store::encode(&header, &snapshot.provenance, &roots, &inline).unwrap();
    bytes.extend_from_slice(&inline);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A changed snapshot file is a miss with a warning that names it, and nothing else in the store changes.
fn refused(world: &World, bytes: &[u8], what: &str) {
    let path = world.snapshot();
    fs::write(&path, bytes).unwrap();
    let before = scan(&world.path("store"));
    let heard = Heard::default();
    let restored =
        world.store.restore(&restore_request(&world.path("dest"), "k", &ByName, LinkMode::Auto), &heard).unwrap();
    assert_eq!(restored.outcome, Outcome::Miss, "{what}");
    assert!(heard.text().contains(&path.display().to_string()), "{what}: {}", heard.text());
    assert!(!world.path("dest").exists(), "{what}");
    let mut after = scan(&world.path("store"));
    // Only the lock of the destination may be new.
    after.retain(|path, _| before.contains_key(path));
    for scan in [&mut after, &mut before.clone()] {
        scan.remove(&b"tmp"[..]);
        scan.remove(&b"sessions"[..]);
    }
    let mut before = before;
    before.remove(&b"tmp"[..]);
    before.remove(&b"sessions"[..]);
    assert_same(&before, &after, what);
}

#[test]
fn a_damaged_snapshot_file_is_a_miss_that_names_it() {
    let world = World::new();
    let good = fs::read(world.snapshot()).unwrap();
    let mut chance = fastrand::Rng::with_seed(4);
    let preamble = 16 + 4 + 4 + 8 + 8 + 3 * 32;
    let sampled: Vec<usize> = (0..60).map(|_| chance.usize(preamble..good.len())).collect();
    for position in (0..preamble).chain(sampled.iter().copied()) {
        let mut bytes = good.clone();
        bytes[position] ^= 1 << chance.u32(..8);
        refused(&world, &bytes, &format!("byte {position} changed"));
    }
    for length in [0, 1, 15, 16, preamble - 1, preamble, good.len() - 1].into_iter().chain(sampled) {
        refused(&world, &good[..length], &format!("cut to {length} bytes"));
    }
    refused(&world, &[&good[..], b"x"].concat(), "one byte more");
    let mut newer = good.clone();
    newer[16] += 1;
    refused(&world, &newer, "a newer version");
    // While one is there that cannot be read, no blob is deleted.
    small_tree(&world.path("src"), 1);
    save(&world.store, &world.path("src"), "other", &ByName).unwrap();
    let heard = Heard::default();
    let other = world.store.find_exact(&place(), "other").unwrap();
    assert_eq!(world.store.remove(&other, false, &heard).unwrap().blobs, 0);
    assert!(heard.text().contains("no blobs are deleted"), "{}", heard.text());
    assert!(!world.store.verify(&()).unwrap().is_clean());
    fs::write(world.snapshot(), &good).unwrap();
    assert_eq!(world.restore("dest").0.outcome, Outcome::Hit);
    assert_same(&world.tree, &scan(&world.path("dest")), "whole again");
}

#[test]
fn a_damaged_newest_snapshot_gives_way_to_an_older_one_or_to_a_fallback() {
    let world = World::new();
    small_tree(&world.path("src"), 1);
    save(&world.store, &world.path("src"), "k", &ByName).unwrap();
    let newest = world.snapshot();
    fs::write(&newest, "nothing of worth").unwrap();
    let (restored, warnings) = world.restore("dest");
    assert_eq!(restored.outcome, Outcome::Hit, "{warnings}");
    assert!(warnings.contains(&newest.display().to_string()), "{warnings}");
    assert_same(&world.tree, &scan(&world.path("dest")), "the older one");
    let mut request = restore_request(&world.path("other"), "none", &ByName, LinkMode::Auto);
    request.fallback = vec!["x".into(), "k".into()];
    assert_eq!(world.store.restore(&request, &()).unwrap().outcome, Outcome::Partial);
    assert_same(&world.tree, &scan(&world.path("other")), "the fallback");
}

#[test]
fn what_is_no_file_among_the_snapshots_neither_hangs_nor_spreads() {
    let world = World::new();
    let good = world.snapshot();
    let dir = good.parent().unwrap();
    let stem = good.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().0.to_owned();
    let fifo =
        std::process::Command::new("mkfifo").arg(dir.join(format!("{stem}-ffffffffffff00000000"))).status().unwrap();
    assert!(fifo.success());
    fs::create_dir(dir.join(format!("{stem}-fffffffffffe00000000"))).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join(format!("{stem}-fffffffffffd00000000"))).unwrap();
    fs::write(dir.join("no snapshot's name"), "x").unwrap();
    fs::write(world.path("store/snapshots/a-file"), "x").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(world.path("store/tmp/pipe")).status().unwrap().success());
    let store = open(&world.path("store"));
    let (restored, warnings) = world.restore("dest");
    assert_eq!(restored.outcome, Outcome::Hit);
    assert_eq!(warnings.lines().count(), 3, "{warnings}");
    assert_eq!(store.verify(&()).unwrap().damaged.len(), 3);
    // A later save is the newest all the same, once they are removed.
    let strange: Vec<_> = store.snapshots().unwrap().into_iter().filter(|found| found.id.starts_with("fff")).collect();
    store.remove(&strange, false, &()).unwrap();
    assert!(store.verify(&()).unwrap().is_clean());
}

#[test]
fn hostile_manifests_with_right_digests_are_refused() {
    type Harm = fn(&mut Manifest, &mut larder_store::Header);
    let harms: [(&str, Harm); 14] = [
        ("an absolute name", |m, _| m.links[0].name = b"/tmp/evil".to_vec()),
        ("a name with ..", |m, _| m.dirs[1].name = b"..".to_vec()),
        ("a path as a name", |m, _| m.links[0].name = b"../../evil".to_vec()),
        ("a duplicate name", |m, _| m.links[1].name = m.links[0].name.clone()),
        ("a file under a symbolic link", |m, _| {
            let under = m.symlinks[0].clone();
            m.symlinks
                .insert(0, larder_store::Symlink { name: m.dirs[1].name.clone(), dir: m.dirs[1].parent, ..under });
        }),
        ("a parent that comes later", |m, _| m.dirs[1].parent = 3),
        ("a directory that is not there", |m, _| m.links.last_mut().unwrap().dir = 4_000_000_000),
        ("an inode that is not there", |m, _| m.links[0].inode = u32::MAX),
        ("sizes beyond all files", |m, _| m.inodes.iter_mut().for_each(|inode| inode.size = u64::MAX)),
        ("an inline file outside", |m, _| {
            let inline = m.inodes.iter_mut().find(|i| matches!(i.content, Content::Inline { .. })).unwrap();
            inline.content = Content::Inline { offset: u64::MAX };
        }),
        ("impossible mode", |m, _| m.inodes[0].mode = u32::MAX),
        ("impossible time", |m, _| m.dirs[0].mtime.nanos = u32::MAX),
        ("another's id", |_, h| h.id = "../../../escaped".into()),
        ("another's key", |_, h| h.key = "other".into()),
    ];
    for (name, harm) in harms {
        let world = World::new();
        rewrite(&world.snapshot(), harm);
        let bytes = fs::read(world.snapshot()).unwrap();
        refused(&world, &bytes, name);
    }
}

#[test]
fn a_manifest_whose_paths_would_fill_memory_is_refused() {
    let world = World::new();
    rewrite(&world.snapshot(), |manifest, _| {
        let root = manifest.dirs[0].clone();
        *manifest = Manifest { dirs: vec![root.clone()], ..Manifest::default() };
        for parent in 0..60_000 {
            manifest.dirs.push(larder_store::DirEntry { parent, name: b"deep".to_vec(), ..root.clone() });
        }
    });
    let bytes = fs::read(world.snapshot()).unwrap();
    refused(&world, &bytes, "sixty thousand levels");
}

#[test]
fn a_lying_manifest_does_not_cost_others_their_blob() {
    let world = World::new();
    small_tree(&world.path("src"), 0);
    save(&world.store, &world.path("src"), "liar", &ByName).unwrap();
    let liar = world.store.find_exact(&place(), "liar").unwrap()[0].path.clone();
    rewrite(&liar, |manifest, _| {
        for Inode { size, content, .. } in &mut manifest.inodes {
            if matches!(content, Content::Digest { .. }) {
                *size += 1;
            }
        }
    });
    assert_eq!(restore(&world.store, &world.path("dest"), "liar", &Opaque).unwrap().outcome, Outcome::Miss);
    world.store.verify(&()).unwrap();
    assert_eq!(world.quarantined(), 0);
    assert_eq!(world.restore("dest").0.outcome, Outcome::Hit);
}

#[test]
fn a_lost_or_damaged_session_only_costs_time() {
    for harm in [fs::remove_file as fn(PathBuf) -> _, |path| fs::write(path, "x"), |path| fs::write(path, "")] {
        let world = World::new();
        world.restore("dest");
        let sessions: Vec<PathBuf> =
            fs::read_dir(world.path("store/sessions")).unwrap().map(|e| e.unwrap().path()).collect();
        for session in sessions.into_iter().filter(|path| path.extension().is_none()) {
            harm(session).unwrap();
        }
        let saved = save(&world.store, &world.path("dest"), "new", &ByName).unwrap();
        assert_eq!(saved.work.unchanged, 0);
        assert_eq!(restore(&world.store, &world.path("other"), "new", &ByName).unwrap().outcome, Outcome::Hit);
        assert_same(&world.tree, &scan(&world.path("other")), "without a session");
    }
}

#[test]
fn a_mode_changed_through_a_hard_link_is_not_restored_elsewhere() {
    let world = World::new();
    world.restore("dest");
    fs::set_permissions(world.path("dest/lib/s-old.rlib"), fs::Permissions::from_mode(0o600)).unwrap();
    let (restored, warnings) = world.restore("other");
    assert_eq!(restored.outcome, Outcome::Hit, "{warnings}");
    assert_same(&world.tree, &scan(&world.path("other")), "the bytes are the same");
}

#[test]
fn a_spare_that_was_changed_is_thrown_away() {
    let world = World::new();
    let snapshot = Snapshot::load(&world.snapshot()).unwrap();
    let roots = [support::root(&world.path("dest"), &ByName)];
    world.store.prepare(&snapshot, larder_store::TreeKind::Spare, &roots, LinkMode::Auto, &()).unwrap();
    let spares = world.path("store/trees").join(&snapshot.header.id);
    let spare = fs::read_dir(&spares).unwrap().next().unwrap().unwrap().path();
    put(&spare.join("0/unit/plain-same"), b"changed", 0o644, (1, 1));
    let (restored, _) = world.restore("dest");
    assert_eq!((restored.outcome, restored.link_modes.contains_key("spare")), (Outcome::Hit, false), "{restored:?}");
    assert_same(&world.tree, &scan(&world.path("dest")), "without the spare");
    assert_eq!(fs::read_dir(&spares).unwrap().count(), 0);
}

#[test]
fn a_digest_is_shown_as_people_know_it() {
    assert_eq!(Digest::from(blake3::hash(b"")).to_string(), blake3::hash(b"").to_hex().to_string());
}
