//! The census against a count that walks everything for every question.

use super::*;
use crate::blob::{Digest, SaveId};
use crate::manifest::{Content, DirEntry, Inode, Link, Manifest};
use crate::provenance::Provenance;
use crate::snapshot::{Place, PlaceRoots, RootSummary};
use larder_fs::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Events for Heard {
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

fn id(number: u32) -> BlobId {
    match number % 2 {
        0 => BlobId::Digest(Digest::from(blake3::hash(&number.to_le_bytes()))),
        _ => BlobId::Ingest(SaveId(u64::from(number % 3)), number),
    }
}

fn content(number: u32) -> Content {
    match id(number) {
        BlobId::Digest(digest) => Content::Digest { digest, ino: 1 },
        BlobId::Ingest(save, index) => Content::Ingest { save, index, ino: 1, digest: None },
    }
}

fn put_blob(store: &Store, number: u32, bytes: usize) -> PathBuf {
    let path = store.path().join(id(number).path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![1; bytes]).unwrap();
    path
}

/// Publishes a snapshot whose files are these blobs, and one small file of its own.
fn publish(store: &Store, job: &str, numbers: &[u32]) -> PathBuf {
    let time = Timestamp { secs: 1_700_000_000, nanos: 0 };
    let inode = |size, content| Inode { mode: 0o644, mtime: time, size, content };
    let mut inodes = vec![inode(3, Content::Inline { offset: 0 })];
    inodes.extend(numbers.iter().map(|number| inode(u64::from(*number), content(*number))));
    let name = |index: usize| format!("{index:05}").into_bytes();
    let links = (0..inodes.len()).map(|at| Link { dir: 0, name: name(at), inode: at as u32 }).collect();
    let root = DirEntry { parent: 0, name: Vec::new(), mode: 0o755, mtime: time };
    let manifest = Manifest { dirs: vec![root], inodes, links, symlinks: Vec::new() };
    let mut header = Header {
        id: String::new(),
        key: format!("key-{job}"),
        scope: "acme/one".into(),
        label: "l".into(),
        created: time,
        larder: "0".into(),
        parts: vec![("job".into(), job.into())],
        roots: vec![RootSummary { path: "/w/target".into(), files: 1, bytes: 1 }],
        worth: None,
    };
    let place = Place { scope: "acme/one".into(), label: "l".into(), roots: PlaceRoots::KeyOnly(1) };
    let staging = store.staging().unwrap();
    let staged =
        store.stage_snapshot(&staging, &place, &mut header, &Provenance::default(), &[manifest], b"abc").unwrap();
    store.publish_snapshot(&staging, &staged).unwrap()
}

/// What a list of snapshots alone needs, by a walk over all inodes of the store: unique and reclaimable bytes of the
/// blobs that no snapshot outside of `chosen` names.
fn naive(store: &Store, named: &[BTreeSet<u32>], left: &BTreeSet<usize>, chosen: &BTreeSet<usize>) -> (u64, u64) {
    let mut inodes: BTreeMap<u64, (u64, u64, Vec<u32>, u64)> = BTreeMap::new();
    let all: BTreeSet<u32> = named.iter().flatten().copied().collect();
    for number in &(0..24).chain(ORPHANS).collect::<Vec<_>>() {
        let path = store.path().join(id(*number).path());
        let Ok(meta) = fs::metadata(&path) else { continue };
        let mut sidecar = path.into_os_string();
        sidecar.push(".blake3");
        let extra = fs::metadata(Path::new(&sidecar)).map_or(0, |meta| meta.blocks() * 512);
        let inode = inodes.entry(meta.ino()).or_insert((meta.blocks() * 512, meta.nlink(), Vec::new(), 0));
        inode.2.push(*number);
        // That of an orphan is one too.
        inode.3 += if all.contains(number) { extra } else { 0 };
    }
    let (mut unique, mut freed) = (0, 0);
    for (bytes, nlink, names, extra) in inodes.values() {
        let owners: BTreeSet<usize> =
            left.iter().copied().filter(|at| names.iter().any(|name| named[*at].contains(name))).collect();
        if owners.is_empty() || !owners.is_subset(chosen) {
            continue;
        }
        unique += bytes + extra;
        freed += extra + if *nlink <= names.len() as u64 { *bytes } else { 0 };
    }
    (unique, freed)
}

/// Numbers of blobs that no snapshot names.
const ORPHANS: [u32; 2] = [1000, 1001];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_figure_is_what_a_walk_finds(
        named in prop::collection::vec(prop::collection::btree_set(0_u32..24, 0..12), 1..7),
        lost in prop::collection::btree_set(0_u32..24, 0..3),
        linked in prop::collection::btree_set(0_u32..24, 0..6),
        twice in prop::collection::btree_set(0_u32..12, 0..3),
        order in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle(),
        groups in prop::collection::vec(0_usize..3, 7),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("store"), &()).unwrap();
        for number in (0..24).chain(ORPHANS).filter(|number| !lost.contains(number)) {
            let path = put_blob(&store, number, number as usize * 700 + 1);
            if linked.contains(&number) {
                fs::hard_link(&path, temp.path().join(format!("work-{number}"))).unwrap();
            }
            if number % 4 == 1 {
                fs::write(format!("{}.blake3", path.display()), "ab".repeat(32)).unwrap();
            }
        }
        for number in twice.iter().filter(|number| !lost.contains(number) && !lost.contains(&(**number + 12))) {
            let other = store.path().join(id(number + 12).path());
            fs::remove_file(&other).unwrap();
            fs::hard_link(store.path().join(id(*number).path()), other).unwrap();
        }
        let paths: Vec<_> = named.iter().enumerate().map(|(at, blobs)| {
            publish(&store, &format!("job-{at}"), &blobs.iter().copied().collect::<Vec<_>>())
        }).collect();
        let mut census = store.census(&()).unwrap();
        prop_assert_eq!(census.snapshots.len(), named.len());
        // Newest first: the other way round than they were published.
        let named: Vec<_> = named.into_iter().rev().collect();
        let own: Vec<u64> = paths.iter().rev().map(|path| fs::metadata(path).unwrap().blocks() * 512).collect();
        let mut left: BTreeSet<usize> = (0..named.len()).collect();
        let totals = census.totals;
        let files: u64 = sum_of(&store.path().join("blobs")) + sum_of(&store.path().join("ingest"));
        prop_assert_eq!(totals.blob_bytes + totals.orphan_bytes, files, "all is named or an orphan, once");
        let inodes = 24 + ORPHANS.len() - lost.len();
        prop_assert_eq!(census.owners.values().sum::<u64>(), (inodes + named.len()) as u64, "each file has an owner");
        prop_assert!(totals.orphans >= 2 && totals.logical == census.snapshots.iter().map(|one| one.logical).sum::<u64>());
        let present = |number: &&u32| !lost.contains(number);
        for (counted, blobs) in census.snapshots.iter().zip(&named) {
            prop_assert_eq!(counted.logical, 3 + blobs.iter().map(|number| u64::from(*number)).sum::<u64>());
            prop_assert_eq!(counted.files, 1 + blobs.len() as u64);
            prop_assert_eq!(counted.missing, (blobs.len() - blobs.iter().filter(present).count()) as u64);
        }
        for next in order.into_iter().filter(|next| *next < named.len()) {
            for at in &left {
                let (unique, freed) = naive(&store, &named, &left, &BTreeSet::from([*at]));
                prop_assert_eq!(census.snapshots[*at].unique, unique + own[*at]);
                prop_assert_eq!(census.snapshots[*at].reclaimable, freed + own[*at]);
            }
            let sums = census.groups(&groups[..named.len()]);
            for (group, sum) in sums.iter().enumerate() {
                let chosen: BTreeSet<usize> = left.iter().copied().filter(|at| groups[*at] == group).collect();
                let own: u64 = chosen.iter().map(|at| own[*at]).sum();
                let (unique, freed) = naive(&store, &named, &left, &chosen);
                prop_assert_eq!((sum.snapshots, sum.unique, sum.reclaimable), (chosen.len() as u64, unique + own, freed + own));
                prop_assert!(sum.stored >= sum.unique);
                prop_assert_eq!(census.together(&chosen.iter().copied().collect::<Vec<_>>()), *sum);
            }
            let promised = census.snapshots[next].reclaimable;
            prop_assert_eq!(census.remove(next), promised);
            prop_assert_eq!(census.remove(next), 0);
            prop_assert!(census.is_removed(next));
            left.remove(&next);
        }
        prop_assert_eq!(census.totals, totals);
    }
}

/// What the files below a directory take, each inode once.
fn sum_of(dir: &Path) -> u64 {
    fn collect(dir: &Path, inodes: &mut BTreeMap<u64, u64>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            match meta.is_dir() {
                true => collect(&path, inodes),
                false => drop(inodes.insert(meta.ino(), meta.blocks() * 512)),
            }
        }
    }
    let mut inodes = BTreeMap::new();
    collect(dir, &mut inodes);
    inodes.values().sum()
}

#[test]
fn damage_is_named_and_counted_and_the_rest_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path(), &()).unwrap();
    put_blob(&store, 4, 5000);
    let bad = publish(&store, "bad", &[4]);
    publish(&store, "good", &[]);
    let mut bytes = fs::read(&bad).unwrap();
    let body = bytes.len() - 10;
    bytes[body] ^= 1;
    fs::write(&bad, &bytes).unwrap();
    fs::write(temp.path().join("blobs/readme"), "not larder's").unwrap();
    fs::create_dir_all(temp.path().join("blobs/00/dir")).unwrap();
    fs::write(temp.path().join("quarantine/blob"), "x").unwrap();
    let heard = Heard::default();
    let census = store.census(&heard).unwrap();
    let heard = heard.0.into_inner().unwrap().join("\n");
    assert_eq!(census.snapshots.len(), 1);
    assert_eq!(census.damaged.len(), 1);
    assert!(heard.contains("it is not counted: remove it with `larder rm"), "{heard}");
    assert!(heard.contains(&bad.display().to_string()), "{heard}");
    let size = |path: &Path| fs::metadata(path).unwrap().blocks() * 512;
    let totals = census.totals;
    assert_eq!((totals.blobs, totals.orphans), (0, 1), "what only it names is an orphan");
    assert!(totals.other_bytes >= size(&bad) + size(&temp.path().join("blobs/readme")));
    assert_eq!(totals.quarantine_bytes, size(&temp.path().join("quarantine/blob")));
    assert_eq!(store.census(&()).unwrap().totals, totals);
}

#[test]
fn a_prepared_tree_is_no_workspace() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path(), &()).unwrap();
    let (a, b) = (put_blob(&store, 4, 9000), put_blob(&store, 6, 9000));
    let snapshot = publish(&store, "job", &[4, 6]);
    let id = snapshot.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1.to_owned();
    let plain = store.census(&()).unwrap();
    assert_eq!(plain.snapshots[0].trees, 0);
    for tree in [&id, "gone"] {
        let tree = temp.path().join(format!("trees/{tree}/spare-1/0"));
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("copied"), vec![1; 20_000]).unwrap();
        fs::hard_link(tree.join("copied"), tree.join("again")).unwrap();
    }
    fs::hard_link(&a, temp.path().join(format!("trees/{id}/spare-1/0/a"))).unwrap();
    fs::hard_link(&b, temp.path().join(format!("trees/{id}/spare-1/0/b"))).unwrap();
    let census = store.census(&()).unwrap();
    let counted = &census.snapshots[0];
    assert_eq!(
        counted.trees,
        sum_of(&temp.path().join("trees").join(&id)) - sum_of(&temp.path().join("blobs"))
            + 3 * fs::metadata(temp.path().join("trees").join(&id)).unwrap().blocks() * 512
    );
    assert_eq!(counted.reclaimable, counted.unique, "a link in a tree goes with it");
    assert_eq!(counted.unique, plain.snapshots[0].unique + counted.trees);
    assert_eq!((plain.totals.trees, census.totals.trees), (0, 2));
    assert_eq!(census.totals.tree_bytes, 2 * counted.trees, "also the tree of a snapshot that is gone");
    assert_eq!(census.totals.blob_bytes, plain.totals.blob_bytes);
    fs::hard_link(&a, temp.path().join("trees-elsewhere")).unwrap();
    let linked = store.census(&()).unwrap();
    let size = fs::metadata(&a).unwrap().blocks() * 512;
    assert_eq!(linked.snapshots[0].reclaimable, counted.reclaimable - size, "a workspace keeps it");
    assert_eq!(linked.snapshots[0].unique, counted.unique);
}
