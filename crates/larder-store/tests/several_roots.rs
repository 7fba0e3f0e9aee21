//! A snapshot of several directories is restored whole, or not at all.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_store::{Error, LinkMode, Opaque, Outcome, PlaceRoots, RestoreRequest, Restored, Snapshot, Store, TreeKind};
use std::fs;
use std::path::Path;
use support::{
    ByName, Scan, assert_same, fast, open, place, put, restore_request, root, save_request, scan, small_tree,
};

fn save_two(store: &Store, base: &Path) -> [Scan; 2] {
    let mut request = save_request(&base.join("one"), "k", &ByName, LinkMode::Auto);
    small_tree(&base.join("one"), 0);
    small_tree(&base.join("two"), 1);
    put(&base.join("two/unit/plain-more"), b"of the second", 0o600, (1_600_000_000, 1));
    request.roots.push(root(&base.join("two"), &Opaque));
    request.place.roots = PlaceRoots::KeyOnly(2);
    store.save(&request, &()).unwrap();
    [scan(&base.join("one")), scan(&base.join("two"))]
}

fn request_two(one: &Path, two: &Path) -> RestoreRequest<'static> {
    let mut request = restore_request(one, "k", &ByName, LinkMode::Auto);
    request.roots.push(root(two, &Opaque));
    request.place.roots = PlaceRoots::KeyOnly(2);
    request
}

fn restore_two(store: &Store, one: &Path, two: &Path) -> larder_store::Result<Restored> {
    store.restore(&request_two(one, two), &())
}

#[test]
fn both_come_back() {
    let base = fast();
    let store = open(&base.path().join("store"));
    let trees = save_two(&store, base.path());
    let (one, two) = (base.path().join("to/one"), base.path().join("elsewhere/two"));
    for _ in 0..2 {
        assert_eq!(restore_two(&store, &one, &two).unwrap().outcome, Outcome::Hit);
        assert_same(&trees[0], &scan(&one), "the first");
        assert_same(&trees[1], &scan(&two), "the second");
    }
    // As many roots as were saved, or a miss.
    let mut request = restore_request(&one, "k", &ByName, LinkMode::Auto);
    request.place.roots = PlaceRoots::KeyOnly(2);
    assert_eq!(store.restore(&request, &()).unwrap().outcome, Outcome::Miss);
}

#[test]
fn both_come_back_by_a_spare() {
    let base = fast();
    let store = open(&base.path().join("store"));
    let trees = save_two(&store, base.path());
    let (one, two) = (base.path().join("to/one"), base.path().join("to/two"));
    let request = request_two(&one, &two);
    let snapshot = Snapshot::load(&store.find_exact(&request.place, "k").unwrap()[0].path).unwrap();
    store.prepare(&snapshot, TreeKind::Spare, &request.roots, LinkMode::Auto, &()).unwrap();
    assert!(store.restore(&request, &()).unwrap().link_modes.contains_key("spare"));
    assert_same(&trees[0], &scan(&one), "the first");
    assert_same(&trees[1], &scan(&two), "the second");
}

#[test]
fn a_second_root_that_cannot_be_leaves_the_first_alone() {
    let base = fast();
    let store = open(&base.path().join("store"));
    save_two(&store, base.path());
    let (one, two) = (base.path().join("to-one"), base.path().join("to-two"));
    fs::write(&two, "a file").unwrap();
    let refused = restore_two(&store, &one, &two);
    assert!(matches!(refused, Err(Error::BadRoot { .. })), "{refused:?}");
    assert!(!one.exists());
    assert_eq!(fs::read(&two).unwrap(), b"a file");
}

#[test]
fn roots_that_lie_in_each_other_are_refused() {
    let base = fast();
    let store = open(&base.path().join("store"));
    save_two(&store, base.path());
    std::os::unix::fs::symlink("one", base.path().join("link")).unwrap();
    let (one, below, link) = (base.path().join("one"), base.path().join("one/unit"), base.path().join("link"));
    let before = scan(&one);
    for (first, second) in [(&one, &below), (&below, &one), (&one, &one), (&one, &link), (&link, &below)] {
        let mut request = save_request(first, "nested", &ByName, LinkMode::Auto);
        request.roots.push(root(second, &Opaque));
        request.place.roots = PlaceRoots::KeyOnly(2);
        let refused = [restore_two(&store, first, second).map(drop), store.save(&request, &()).map(drop)];
        for refused in refused {
            let error = refused.unwrap_err();
            assert!(matches!(&error, Error::BadRoot { path, .. } if path == second), "{error:?}");
            assert!(error.is_usage() && error.to_string().contains(first.to_str().unwrap()), "{error}");
        }
    }
    assert_same(&before, &scan(&one), "nothing was changed");
    assert_eq!(store.snapshots().unwrap().len(), 1);
}

#[test]
fn a_damaged_blob_of_the_second_is_a_miss_for_both() {
    let base = fast();
    let store = open(&base.path().join("store"));
    save_two(&store, base.path());
    // Only the second root has this file, and nothing is known of its files.
    let snapshot = Snapshot::load(&store.snapshots().unwrap()[0].path).unwrap();
    let digests = |index: usize| {
        let inodes = snapshot.roots[index].inodes.iter();
        inodes.filter_map(|inode| match inode.content {
            larder_store::Content::Digest { digest, .. } => Some(digest.to_string()),
            _ => None,
        })
    };
    let first: Vec<String> = digests(0).collect();
    let own = digests(1).find(|digest| !first.contains(digest)).unwrap();
    fs::remove_file(base.path().join("store/blobs").join(&own[..2]).join(&own[2..])).unwrap();
    let (one, two) = (base.path().join("to-one"), base.path().join("to-two"));
    assert_eq!(restore_two(&store, &one, &two).unwrap().outcome, Outcome::Miss);
    assert!(!one.exists() && !two.exists());
    assert!(store.find_all(&place()).unwrap().is_empty(), "places of other numbers of roots are others");
}

#[test]
fn what_a_dead_restore_left_beside_a_root_is_removed() {
    let Some(memory) = support::in_memory() else {
        return support::skip("a restore to another file system", "there is no /dev/shm");
    };
    let base = tempfile::tempdir().unwrap();
    let store = open(&memory.path().join("store"));
    let trees = save_two(&store, memory.path());
    fs::create_dir_all(base.path().join(".larder-tmp-0123456789abcdef/root/half")).unwrap();
    // Another restore's, on its way to its own directory.
    fs::write(base.path().join(".larder-tmp-7-01234567"), "in flight").unwrap();
    let (one, two) = (base.path().join("one"), base.path().join("two"));
    assert_eq!(restore_two(&store, &one, &two).unwrap().outcome, Outcome::Hit);
    assert_same(&trees[0], &scan(&one), "on another file system");
    let mut left: Vec<_> = fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".larder-tmp-7-01234567", "one", "two"]);
}
