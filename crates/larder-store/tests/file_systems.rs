//! Every link mode on every file system that it is made for, as root.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_store::{Error, LinkMode, Outcome, Snapshot, TreeKind};
use std::fs;
use std::path::Path;
use support::disk::{Disk, run};
use support::{
    ByName, Heard, assert_same, noise, open, place, put, restore_request, root, save_request, scan, small_tree,
};

/// Saves and restores a tree in every mode; what each mode is expected to be called in the result.
fn every_mode(base: &Path, expected: &[(LinkMode, &str)]) {
    let src = base.join("src");
    small_tree(&src, 0);
    put(&src.join("unit/plain-big"), &noise(77, 300_000), 0o644, (1_600_000_000, 9));
    let tree = scan(&src);
    for (mode, name) in expected {
        let store = open(&base.join(format!("store-{name}-{}", mode.name())));
        let (dest, heard) = (base.join(format!("dest-{name}-{}", mode.name())), Heard::default());
        store.save(&save_request(&src, "k", &ByName, *mode), &heard).unwrap();
        assert_same(&tree, &scan(&src), "the source");
        if *name == "spare" {
            let snapshot = Snapshot::load(&store.find_exact(&place(), "k").unwrap()[0].path).unwrap();
            store.prepare(&snapshot, TreeKind::Spare, &[root(&dest, &ByName)], LinkMode::Auto, &()).unwrap();
        }
        let request = restore_request(&dest, "k", &ByName, *mode);
        let restored = store.restore(&request, &heard).unwrap();
        assert_eq!(restored.outcome, Outcome::Hit, "{mode:?}: {}", heard.text());
        assert!(restored.link_modes.contains_key(*name), "{mode:?}: {restored:?} {}", heard.text());
        assert_eq!(heard.text(), "", "{mode:?}");
        assert_same(&tree, &scan(&dest), name);
        // A save after that reads nothing.
        let saved = store.save(&save_request(&dest, "again", &ByName, LinkMode::Auto), &heard).unwrap();
        assert_eq!((saved.work.hashed, saved.work.copied, saved.work.linked), (0, 0, 0), "{mode:?}: {saved:?}");
        // A save after a change reads only that, and a restore brings it all back.
        small_tree(&dest, 1);
        let changed = scan(&dest);
        let saved = store.save(&save_request(&dest, "changed", &ByName, *mode), &heard).unwrap();
        assert!(saved.work.unchanged >= 5, "{mode:?}: {saved:?}");
        for (key, tree) in [("k", &tree), ("changed", &changed), ("again", &tree)] {
            let restored = store.restore(&restore_request(&dest, key, &ByName, *mode), &heard).unwrap();
            assert_eq!(restored.outcome, Outcome::Hit, "{mode:?} {key}: {}", heard.text());
            assert_same(tree, &scan(&dest), &format!("{mode:?} {key}"));
        }
        assert!(store.verify(&()).unwrap().is_clean());
        // An overlay would keep the disk busy.
        let mounted = larder_fs::mount::is_mount_point(&dest).unwrap();
        assert_eq!(mounted, *mode == LinkMode::Overlay);
        if mounted {
            store.restore(&restore_request(&dest, "k", &ByName, LinkMode::Copy), &heard).unwrap();
            assert_same(&tree, &scan(&dest), "after the overlay");
        }
    }
}

#[test]
fn ext4() {
    let Some(disk) = Disk::new("link modes on ext4", "ext4", 64) else { return };
    let expected = [
        (LinkMode::Auto, "hardlink"),
        (LinkMode::Hardlink, "hardlink"),
        (LinkMode::Auto, "spare"),
        (LinkMode::Copy, "copy"),
        (LinkMode::Overlay, "overlay"),
    ];
    every_mode(&disk.mount(), &expected);
}

#[test]
fn xfs() {
    let Some(disk) = Disk::new("link modes on XFS", "xfs", 320) else { return };
    let expected = [
        (LinkMode::Auto, "reflink"),
        (LinkMode::Reflink, "reflink"),
        (LinkMode::Hardlink, "hardlink"),
        (LinkMode::Spare, "spare"),
        (LinkMode::Copy, "copy"),
        (LinkMode::Overlay, "overlay"),
    ];
    every_mode(&disk.mount(), &expected);
}

#[test]
fn btrfs() {
    let Some(disk) = Disk::new("link modes on Btrfs", "btrfs", 256) else { return };
    let expected = [
        (LinkMode::Auto, "reflink"),
        (LinkMode::Reflink, "reflink"),
        (LinkMode::Hardlink, "hardlink"),
        (LinkMode::Subvolume, "subvolume"),
        (LinkMode::Spare, "spare"),
        (LinkMode::Copy, "copy"),
    ];
    every_mode(&disk.mount(), &expected);
}

#[test]
fn a_changed_overlay_is_saved_and_released() {
    let Some(disk) = Disk::new("an overlay", "ext4", 64) else { return };
    let (store, src, dest) = (open(&disk.mount().join("store")), disk.mount().join("src"), disk.mount().join("dest"));
    small_tree(&src, 0);
    store.save(&save_request(&src, "k", &ByName, LinkMode::Auto), &()).unwrap();
    let overlay = restore_request(&dest, "k", &ByName, LinkMode::Overlay);
    assert!(store.restore(&overlay, &()).unwrap().link_modes.contains_key("overlay"));
    fs::write(dest.join("lib/s-old.rlib"), "changed in place").unwrap();
    fs::remove_file(dest.join("unit/plain-same")).unwrap();
    let changed = scan(&dest);
    store.save(&save_request(&dest, "changed", &ByName, LinkMode::Auto), &()).unwrap();
    // Removing the snapshot keeps the tree that the mount shows.
    store.remove(&store.find_exact(&place(), "k").unwrap(), false, &()).unwrap();
    assert_same(&changed, &scan(&dest), "the mount");
    let again = restore_request(&dest, "changed", &ByName, LinkMode::Copy);
    assert_eq!(store.restore(&again, &()).unwrap().outcome, Outcome::Hit);
    assert!(!larder_fs::mount::is_mount_point(&dest).unwrap());
    assert_same(&changed, &scan(&dest), "without the mount");
    assert!(store.verify(&()).unwrap().is_clean());
}

#[test]
fn an_overlay_in_use_is_left_alone_until_its_user_is_gone() {
    let Some(disk) = Disk::new("an overlay in use", "ext4", 64) else { return };
    let (path, src, dest) = (disk.mount().join("store"), disk.mount().join("src"), disk.mount().join("dest"));
    let (job, other) = (open(&path), open(&path));
    small_tree(&src, 0);
    job.save(&save_request(&src, "k", &ByName, LinkMode::Auto), &()).unwrap();
    let overlay = restore_request(&dest, "k", &ByName, LinkMode::Overlay);
    let copy = restore_request(&dest, "k", &ByName, LinkMode::Copy);
    let refused = |at_work: &support::Scan| {
        for request in [&copy, &overlay] {
            let refused = other.restore(request, &());
            assert!(matches!(&refused, Err(Error::BusyRoot { path, .. }) if *path == dest), "{refused:?}");
            assert_same(at_work, &scan(&dest), "the job's overlay");
        }
    };
    job.restore(&overlay, &()).unwrap();
    fs::write(dest.join("unit/w-dep"), "written by the job").unwrap();
    let at_work = scan(&dest);
    refused(&at_work);
    // Another process may save what it sees; that does not end the job's lease.
    other.save(&save_request(&dest, "seen", &ByName, LinkMode::Auto), &()).unwrap();
    refused(&at_work);
    drop(job);
    assert_eq!(other.restore(&copy, &()).unwrap().outcome, Outcome::Hit);
    assert!(!larder_fs::mount::is_mount_point(&dest).unwrap());
    assert_same(&scan(&src), &scan(&dest), "after the job");
    // The lease holds without the session too.
    fs::remove_dir_all(&dest).unwrap();
    let job = open(&path);
    job.restore(&overlay, &()).unwrap();
    for entry in fs::read_dir(path.join("sessions")).unwrap() {
        let session = entry.unwrap().path();
        if session.extension().is_none() {
            fs::write(session, "damaged").unwrap();
        }
    }
    refused(&scan(&dest));
    larder_fs::mount::unmount(&dest).unwrap();
}

#[test]
fn a_foreign_mount_is_never_taken_away() {
    let Some(disk) = Disk::new("a foreign mount", "ext4", 64) else { return };
    let (store, src, dest) = (open(&disk.mount().join("store")), disk.mount().join("src"), disk.mount().join("dest"));
    small_tree(&src, 0);
    store.save(&save_request(&src, "k", &ByName, LinkMode::Auto), &()).unwrap();
    store.restore(&restore_request(&dest, "k", &ByName, LinkMode::Overlay), &()).unwrap();
    // As after a restart: the overlay is gone, and somebody mounted something else there.
    let path = dest.to_str().unwrap();
    run("umount", &[path]).unwrap();
    run("mount", &["-t", "tmpfs", "tmpfs", path]).unwrap();
    fs::write(dest.join("theirs"), "x").unwrap();
    let mut request = restore_request(&dest, "k", &ByName, LinkMode::Auto);
    request.exact = false;
    let restored = store.restore(&request, &());
    let theirs = fs::read(dest.join("theirs"));
    run("umount", &[path]).unwrap();
    assert_eq!((restored.unwrap().outcome, theirs.unwrap()), (Outcome::Hit, b"x".to_vec()));
}
