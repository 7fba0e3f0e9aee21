//! A real file system that is really full, and one that can only be read.
//!
//! Makes a small ext4 file system in a file and mounts it, which needs root.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_store::{Error, Opaque, Outcome};
use std::fs;
use std::path::Path;
use support::disk::{Disk, run};
use support::{ByName, Heard, assert_same, fast, noise, open, place, put, restore, save, scan, small_tree};

fn megabytes(root: &Path, seed: u64) {
    fs::create_dir_all(root.join("dir")).unwrap();
    let time = (1_600_000_000 + i64::try_from(seed).unwrap(), 1);
    for n in 0..3 {
        put(&root.join(format!("dir/plain-{n}")), &noise(seed * 10 + n, 1 << 20), 0o644, time);
    }
    put(&root.join("dir/small"), &noise(seed, 300), 0o644, time);
}

#[test]
fn a_store_on_a_full_disk_keeps_what_it_has() {
    let Some(disk) = Disk::new("a store on a full disk", "ext4", 24) else { return };
    let base = fast();
    let store = open(&disk.mount().join("store"));
    let mut full = None;
    for n in 0..20 {
        let src = base.path().join(format!("src-{n}"));
        megabytes(&src, n);
        if let Err(e) = save(&store, &src, &format!("k{n}"), &Opaque) {
            assert!(matches!(e, Error::NoSpace { .. }), "{e:?}");
            full = Some(n);
            break;
        }
    }
    let full = full.expect("twenty times three megabytes do not fit");
    assert!(full >= 4, "only {full} snapshots fitted");
    assert!(store.find_exact(&place(), &format!("k{full}")).unwrap().is_empty());
    for n in 0..full {
        let dest = base.path().join(format!("dest-{n}"));
        assert_eq!(restore(&store, &dest, &format!("k{n}"), &Opaque).unwrap().outcome, Outcome::Hit);
        assert_same(&scan(&base.path().join(format!("src-{n}"))), &scan(&dest), "from a full disk");
    }
    assert!(store.verify(&()).unwrap().is_clean());
    // Really nothing left: reading and removing need no room.
    disk.fill();
    let heard = Heard::default();
    let request = support::restore_request(&base.path().join("dest-0"), "k1", &Opaque, larder_store::LinkMode::Auto);
    assert_eq!(store.restore(&request, &heard).unwrap().outcome, Outcome::Hit);
    assert!(store.verify(&()).unwrap().is_clean());
    let src = base.path().join(format!("src-{full}"));
    let refused = save(&store, &src, "again", &Opaque);
    assert!(matches!(refused, Err(Error::NoSpace { available: 0, .. })), "{refused:?}");
    for key in ["k0", "k1"] {
        let removed = store.remove(&store.find_exact(&place(), key).unwrap(), false, &()).unwrap();
        assert!(removed.bytes >= 3 << 20, "{removed:?}");
    }
    save(&store, &src, "again", &Opaque).unwrap();
    assert_eq!(restore(&store, &base.path().join("again"), "again", &Opaque).unwrap().outcome, Outcome::Hit);
    assert_same(&scan(&src), &scan(&base.path().join("again")), "saved after the removal");
    assert!(store.verify(&()).unwrap().is_clean());
}

#[test]
fn a_save_that_cannot_fit_is_refused_before_anything_is_taken_in() {
    let Some(disk) = Disk::new("a save without room", "ext4", 24) else { return };
    let base = fast();
    let store = open(&disk.mount().join("store"));
    let count = || {
        let fans = fs::read_dir(disk.mount().join("store/blobs")).unwrap();
        fans.map(|fan| fs::read_dir(fan.unwrap().path()).unwrap().count()).sum::<usize>()
    };
    // One of them would fit; both together are too much.
    let mut request = support::save_request(&base.path().join("0"), "k", &Opaque, larder_store::LinkMode::Auto);
    request.place.roots = larder_store::PlaceRoots::KeyOnly(4);
    for n in 0..4 {
        megabytes(&base.path().join(n.to_string()), n);
        put(&base.path().join(n.to_string()).join("large"), &noise(n + 50, 5 << 20), 0o644, (1_600_000_000, 1));
        if n > 0 {
            request.roots.push(support::root(&base.path().join(n.to_string()), &Opaque));
        }
    }
    let refused = store.save(&request, &());
    assert!(matches!(&refused, Err(Error::NoSpace { needed, .. }) if *needed >= 32 << 20), "{refused:?}");
    assert_eq!((count(), store.snapshots().unwrap().len()), (0, 0));
    save(&store, &base.path().join("0"), "alone", &Opaque).unwrap();
    assert_eq!(count(), 4);
    // What is linked needs no room, nor does what the store has already.
    let src = disk.mount().join("src");
    fs::create_dir(&src).unwrap();
    put(&src.join("s-linked"), &noise(9, 8 << 20), 0o644, (1_600_000_000, 1));
    save(&store, &src, "linked", &ByName).unwrap();
    save(&store, &base.path().join("0"), "again", &Opaque).unwrap();
    let refused = save(&store, &base.path().join("1"), "no", &Opaque);
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
}

#[test]
fn a_restore_to_a_full_disk_leaves_the_destination_alone() {
    let Some(disk) = Disk::new("a restore to a full disk", "ext4", 16) else { return };
    let base = fast();
    let store = open(&base.path().join("store"));
    for n in 0..2 {
        megabytes(&base.path().join(format!("src-{n}")), n);
        save(&store, &base.path().join(format!("src-{n}")), &format!("k{n}"), &Opaque).unwrap();
    }
    let (over, fresh) = (disk.mount().join("over"), disk.mount().join("fresh"));
    restore(&store, &over, "k0", &Opaque).unwrap();
    disk.fill();
    for dest in [&over, &fresh] {
        let before = dest.exists().then(|| scan(dest));
        let refused = restore(&store, dest, "k1", &Opaque);
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(dest.exists().then(|| scan(dest)), before);
    }
    assert_eq!(
        restore(&store, &over, "k0", &Opaque).unwrap().outcome,
        Outcome::Hit,
        "nothing has to be written for this"
    );
    for entry in fs::read_dir(disk.mount()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(".larder"), "{name} was left behind");
    }
    fs::remove_file(disk.mount().join("filler-1048576")).unwrap();
    assert_eq!(restore(&store, &over, "k1", &Opaque).unwrap().outcome, Outcome::Hit);
    assert_same(&scan(&base.path().join("src-1")), &scan(&over), "with room");
}

#[test]
fn what_cannot_be_linked_though_its_class_may_be_needs_room() {
    let Some(disk) = Disk::new("a restore that copies", "ext4", 16) else { return };
    let base = fast();
    let src = base.path().join("src");
    megabytes(&src, 1);
    for n in 0..3 {
        put(&src.join(format!("dir/s-shared-{n}")), &noise(90 + n, 1 << 20), 0o644, (1_600_000_000, 1));
    }
    // Taken in by copying, blobs have no file's time: nothing can be a further name of them.
    let store = open(&disk.mount().join("store"));
    let request = support::save_request(&src, "k", &ByName, larder_store::LinkMode::Copy);
    store.save(&request, &()).unwrap();
    disk.fill();
    let dest = disk.mount().join("dest");
    let refused = restore(&store, &dest, "k", &ByName);
    assert!(matches!(&refused, Err(Error::NoSpace { needed, .. }) if *needed >= 6 << 20), "{refused:?}");
    assert!(!dest.exists());
    // There is not even room for what a save begins with.
    let refused = save(&store, &src, "again", &ByName);
    assert!(matches!(&refused, Err(Error::NoSpace { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("larder gc --need"), "the command that helps");
}

#[test]
fn two_roots_that_only_fit_alone_are_refused_together() {
    let Some(disk) = Disk::new("a restore of two roots without room", "ext4", 16) else { return };
    let base = fast();
    let store = open(&base.path().join("store"));
    let request = |at: &Path| {
        let mut request = support::restore_request(&at.join("0"), "k", &Opaque, larder_store::LinkMode::Auto);
        request.roots.push(support::root(&at.join("1"), &Opaque));
        request.place.roots = larder_store::PlaceRoots::KeyOnly(2);
        request
    };
    for n in 0..2 {
        megabytes(&base.path().join(n.to_string()), n);
        let large = base.path().join(n.to_string()).join("large");
        put(&large, &noise(n + 50, 5 << 20), 0o644, (1_600_000_000, 1));
    }
    let from = request(base.path());
    let mut saved = support::save_request(&base.path().join("0"), "k", &Opaque, larder_store::LinkMode::Auto);
    (saved.roots, saved.place) = (from.roots, from.place);
    store.save(&saved, &()).unwrap();
    let refused = store.restore(&request(disk.mount().as_path()), &());
    assert!(matches!(&refused, Err(Error::NoSpace { needed, .. }) if *needed >= 16 << 20), "{refused:?}");
    assert!(!disk.mount().join("0").exists() && !disk.mount().join("1").exists());
}

#[test]
fn a_read_only_store_restores_and_lists_and_says_that_it_is() {
    let Some(disk) = Disk::new("a store on a read-only mount", "ext4", 16) else { return };
    let base = fast();
    let (src, dest) = (base.path().join("src"), base.path().join("dest"));
    small_tree(&src, 0);
    save(&open(&disk.mount().join("store")), &src, "k", &ByName).unwrap();
    run("mount", &["-o", "remount,ro", disk.mount().to_str().unwrap()]).unwrap();
    let store = open(&disk.mount().join("store"));
    assert!(store.is_read_only());
    assert_eq!(store.snapshots().unwrap().len(), 1);
    for _ in 0..2 {
        assert_eq!(restore(&store, &dest, "k", &ByName).unwrap().outcome, Outcome::Hit);
        assert_same(&scan(&src), &scan(&dest), "from a read-only store");
    }
    assert!(store.verify(&()).unwrap().is_clean());
    let refused =
        [save(&store, &src, "no", &ByName).map(drop), store.remove(&store.snapshots().unwrap(), false, &()).map(drop)];
    for refused in refused {
        assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
    }
}

#[test]
fn a_bind_mount_of_the_same_file_system_is_another_place_to_rename_to() {
    let Some(disk) = Disk::new("a restore across bind mounts", "ext4", 24) else { return };
    let (real, bound) = (disk.mount().join("real"), disk.mount().join("bound"));
    fs::create_dir_all(&real).unwrap();
    fs::create_dir_all(&bound).unwrap();
    run("mount", &["--bind", real.to_str().unwrap(), bound.to_str().unwrap()]).unwrap();
    let (store, src) = (open(&disk.mount().join("store")), disk.mount().join("src"));
    small_tree(&src, 0);
    save(&store, &src, "k", &ByName).unwrap();
    let results: Vec<_> = ["dest", "dest"].map(|name| restore(&store, &bound.join(name), "k", &ByName)).into();
    // The bound directory itself cannot be renamed over, only filled.
    let filled = restore(&store, &bound, "k", &ByName);
    let (tree, got) = (scan(&src), scan(&bound));
    run("umount", &[bound.to_str().unwrap()]).unwrap();
    for restored in results.into_iter().chain([filled]) {
        assert_eq!(restored.unwrap().outcome, Outcome::Hit);
    }
    assert_same(&tree, &got, "through a bind mount");
}

#[test]
fn a_file_with_as_many_names_as_the_file_system_allows_is_copied() {
    let Some(disk) = Disk::new("a file with 65,000 names", "ext4", 32) else { return };
    let (store, src, names) = (open(&disk.mount().join("store")), disk.mount().join("src"), disk.mount().join("names"));
    fs::create_dir(&src).unwrap();
    fs::create_dir(&names).unwrap();
    put(&src.join("s-linked"), &noise(1, 5000), 0o644, (1_600_000_000, 1));
    assert_eq!(save(&store, &src, "k", &ByName).unwrap().work.linked, 1);
    let mut last = 0;
    while fs::hard_link(src.join("s-linked"), names.join(last.to_string())).is_ok() {
        last += 1;
    }
    // The blob takes no further name, so the restore copies, and so does a save.
    let restored = restore(&store, &disk.mount().join("dest"), "k", &ByName).unwrap();
    assert_eq!((restored.outcome, restored.work.linked, restored.work.copied), (Outcome::Hit, 0, 1));
    assert!(restored.why_not["hardlink"].contains("as many names"), "{restored:?}");
    assert_same(&scan(&src), &scan(&disk.mount().join("dest")), "copied");
    fs::rename(&src, disk.mount().join("elsewhere")).unwrap();
    let saved = save(&store, &disk.mount().join("elsewhere"), "full", &ByName).unwrap();
    assert_eq!((saved.work.linked, saved.work.copied), (0, 1), "{saved:?}");
}
