//! An addition makes what is missing and touches nothing else, whatever happens to it.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_fs::fault::{Fault, arm, disarm};
use larder_store::{AddRequest, LinkMode, Outcome, Restored, Result, Review, Store, Wants};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use support::{ByName, alone, bases, fast, open, place, put, root, save, save_request, small_tree};

/// Wants everything but what has this in its path.
struct But(&'static str);

impl Wants for But {
    fn wanted(&self, paths: &[Vec<u8>], _standing: &[bool]) -> Vec<bool> {
        let wanted = |path: &Vec<u8>| self.0.is_empty() || !String::from_utf8_lossy(path).contains(self.0);
        paths.iter().map(wanted).collect()
    }
}

fn add(store: &Store, path: &Path, key: &str, wants: &dyn Wants) -> Result<Restored> {
    let request = AddRequest {
        place: place(),
        key: key.into(),
        root: root(path, &ByName),
        wants,
        link_mode: LinkMode::Auto,
        dry_run: false,
    };
    store.add(&request, &())
}

/// Every file and link: inode number, time, and what it holds.
fn listed(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                open.push(path);
                continue;
            }
            let bytes = if meta.is_symlink() { b"link".to_vec() } else { fs::read(&path).unwrap() };
            let relative = path.strip_prefix(dir).unwrap().to_path_buf();
            found.insert(relative, (meta.ino(), meta.mtime(), meta.mtime_nsec(), bytes));
        }
    }
    found
}

/// A directory with half of what a snapshot has, none of it as there, and things of its own.
fn arrange(base: &Path) -> (Store, PathBuf) {
    let (source, theirs) = (base.join("source"), base.join("theirs"));
    small_tree(&source, 0);
    fs::create_dir_all(source.join("deep/er")).unwrap();
    put(&source.join("deep/er/plain"), b"deep", 0o640, (1_600_000_000, 5));
    let store = open(&base.join("store"));
    save(&store, &source, "k", &ByName).unwrap();
    fs::create_dir_all(theirs.join("unit")).unwrap();
    put(&theirs.join("unit/plain-large"), b"theirs", 0o600, (1_700_000_000, 0));
    put(&theirs.join("unit/mine"), b"mine", 0o600, (1_700_000_000, 0));
    // A file where the snapshot has a directory, a directory where it has a file, and a link to elsewhere.
    put(&theirs.join("deep"), b"a file", 0o600, (1_700_000_000, 0));
    fs::create_dir_all(theirs.join("unit/plain-same")).unwrap();
    symlink(base.join("elsewhere"), theirs.join("lib")).unwrap();
    fs::create_dir_all(base.join("elsewhere")).unwrap();
    (store, theirs)
}

#[test]
fn what_stands_there_is_never_touched() {
    for base in bases() {
        // The store is on the file system of temporary files, the directory where `base` is.
        let home = tempfile::tempdir().unwrap();
        let (store, theirs) = arrange(base.path());
        let before = listed(&theirs);
        let done = add(&store, &theirs, "k", &But("v-print")).unwrap();
        assert_eq!(done.outcome, Outcome::Hit);
        let after = listed(&theirs);
        assert!(before.iter().all(|(path, file)| after.get(path) == Some(file)), "{before:?} {after:?}");
        assert_eq!(after[Path::new("unit/w-dep")].3, b"dep-info 0");
        assert!(!after.contains_key(Path::new("unit/fp/v-print")) && after.contains_key(Path::new("unit/fp/w-same")));
        assert!(theirs.join("unit/plain-same").is_dir() && listed(&base.path().join("elsewhere")).is_empty());
        // The second time nothing is missing but what is not wanted.
        let again = add(&store, &theirs, "k", &But("v-print")).unwrap();
        assert_eq!(again.work.copied + again.work.linked + again.work.reflinked, 0, "{again:?}");
        assert_eq!(listed(&theirs), after);
        // Nothing stands here: all of it comes, also to another file system; the newest will do for any key.
        let fresh = home.path().join("not/there");
        assert_eq!(add(&store, &fresh, "other", &But("")).unwrap().outcome, Outcome::Partial);
        let source = listed(&base.path().join("source"));
        let fresh = listed(&fresh);
        // Links are nobody's need, and inode numbers are each one's own.
        let files = source.iter().filter(|(_, file)| file.3 != b"link");
        assert!(
            files
                .clone()
                .all(|(path, file)| fresh.get(path).is_some_and(|f| (f.1, f.2, &f.3) == (file.1, file.2, &file.3)))
        );
        assert_eq!(files.count(), fresh.len());
    }
}

#[test]
fn a_miss_makes_nothing() {
    let base = fast();
    let store = open(&base.path().join("store"));
    let done = add(&store, &base.path().join("none"), "k", &But("")).unwrap();
    assert_eq!(done.outcome, Outcome::Miss);
    assert!(!base.path().join("none").exists());
}

#[test]
fn an_addition_that_fails_anywhere_leaves_whole_files() {
    alone("an_addition_that_fails_anywhere_leaves_whole_files", || {
        for nth in 0.. {
            let base = fast();
            let (store, theirs) = arrange(base.path());
            let (before, source) = (listed(&theirs), listed(&base.path().join("source")));
            arm(nth, Fault::Errno(28));
            let done = add(&store, &theirs, "k", &But(""));
            let Some(operation) = disarm() else {
                assert_eq!(done.unwrap().outcome, Outcome::Hit);
                assert!(nth > 20, "it was hit by nothing");
                return;
            };
            for (path, file) in listed(&theirs) {
                let whole = before.get(&path) == Some(&file)
                    || source.get(&path).is_some_and(|f| (f.1, f.2, &f.3) == (file.1, file.2, &file.3));
                assert!(whole, "{} after a fault at {operation} ({nth})", path.display());
            }
            assert!(before.keys().all(|path| theirs.join(path).symlink_metadata().is_ok()));
            add(&store, &theirs, "k", &But("")).unwrap();
        }
    });
}

/// Looks at one folder only.
struct Only(&'static str);

impl Review for Only {
    fn choose(&self, _root: usize, relative: &OsStr, entries: &mut Vec<larder_fs::Entry>) {
        entries.retain(|entry| !relative.is_empty() || entry.name == self.0);
    }
}

#[test]
fn a_save_looks_at_what_is_chosen_and_nothing_else() {
    let base = fast();
    let source = base.path().join("source");
    small_tree(&source, 0);
    let store = open(&base.path().join("store"));
    let review = Only("lib");
    let mut request = save_request(&source, "k", &ByName, LinkMode::Auto);
    request.review = &review;
    store.save(&request, &()).unwrap();
    let dest = base.path().join("dest");
    add(&store, &dest, "k", &But("")).unwrap();
    let names: Vec<_> = listed(&dest).into_keys().collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("lib")), "{names:?}");
}
