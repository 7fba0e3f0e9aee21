//! What changes for users who are not root: modes bind them, and other people's files are not theirs.
//!
//! Root runs these tests as another user; other users run them as themselves, where that is enough.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_fs::Space;
use larder_store::evict::Freed;
use larder_store::{Error, GcRequest, LinkMode, Opaque, Outcome, Remedy, Repaired, Snapshot, Store, TreeKind};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{
    ByName, Heard, assert_same, fast, gc_request, noise, open, place, put, restore, restore_request, root, save,
    save_request, scan, skip, small_tree, stamp,
};

const CHILD: &str = "LARDER_TEST_UNPRIVILEGED";
/// The user and group `nobody`, by number: no other account is everywhere.
const NOBODY: u32 = 65534;

/// Runs the test `name` again as nobody, in a directory that is theirs, after `arrange` prepared it as root.
/// As nobody, returns the directory.
fn as_nobody(name: &str, arrange: impl Fn(&Path)) -> Option<PathBuf> {
    as_nobody_by(&[], name, arrange)
}

/// The same, through a program that runs what follows its arguments.
fn as_nobody_by(program: &[&str], name: &str, arrange: impl Fn(&Path)) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os(CHILD) {
        return Some(dir.into());
    }
    if larder_fs::process::effective_uid() != 0 {
        skip(name, "only root can become another user");
        return None;
    }
    let base = fast();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = base.path().join("theirs");
    fs::create_dir(&dir).unwrap();
    arrange(base.path());
    chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    // Where the executable was built may be closed to others.
    let exe = base.path().join("test");
    // Not by this process: another thread's child could hold the copy open for writing while it is run.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&exe).status().unwrap();
    assert!(copied.success());
    let mut command = match program {
        [] => Command::new(&exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(&exe);
            command
        }
    };
    command
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, &dir)
        .env("TMPDIR", &dir)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    None
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Directories that their owner may not write, at the root and below, and files that nobody may write.
fn read_only_tree(path: &Path, version: u64) {
    small_tree(path, version);
    let time = (1_600_000_000 + i64::try_from(version).unwrap(), 1);
    put(&path.join("lib/locked"), format!("version {version}").as_bytes(), 0o444, time);
    for dir in ["unit/fp", "unit", "lib", ""] {
        let dir = if dir.is_empty() { path.to_path_buf() } else { path.join(dir) };
        stamp(&dir, (1_650_000_000 + i64::try_from(version).unwrap(), 5));
        chmod(&dir, 0o555);
    }
}

#[test]
fn read_only_directories_are_restored_changed_and_removed() {
    let Some(dir) = as_nobody("read_only_directories_are_restored_changed_and_removed", |_| {}) else { return };
    let (store, dest) = (open(&dir.join("store")), dir.join("dest"));
    let mut trees = Vec::new();
    for version in [0, 1] {
        let src = dir.join(format!("src-{version}"));
        read_only_tree(&src, version);
        save(&store, &src, &format!("k{version}"), &ByName).unwrap();
        trees.push(scan(&src));
    }
    // Absent, then over the other version, both ways, exactly.
    for version in [0, 1, 0, 1] {
        let restored = restore(&store, &dest, &format!("k{version}"), &ByName).unwrap();
        assert_eq!(restored.outcome, Outcome::Hit);
        assert_same(&trees[version], &scan(&dest), "over a read-only tree");
    }
    // Read-only directories that the snapshot does not have go too.
    chmod(&dest, 0o755);
    fs::create_dir_all(dest.join("extra/deep")).unwrap();
    fs::write(dest.join("extra/deep/file"), "x").unwrap();
    chmod(&dest.join("extra/deep"), 0o555);
    chmod(&dest.join("extra"), 0o555);
    chmod(&dest, 0o555);
    restore(&store, &dest, "k1", &ByName).unwrap();
    assert_same(&trees[1], &scan(&dest), "without the extras");
    // By a spare, whose root has to be renamed although it is read-only.
    let snapshot = Snapshot::load(&store.find_exact(&place(), "k0").unwrap()[0].path).unwrap();
    let spare = dir.join("spare");
    store.prepare(&snapshot, TreeKind::Spare, &[root(&spare, &ByName)], LinkMode::Auto, &()).unwrap();
    let restored = restore(&store, &spare, "k0", &ByName).unwrap();
    assert!(restored.link_modes.contains_key("spare"), "{restored:?}");
    assert_same(&trees[0], &scan(&spare), "by a spare");
    store.remove(&store.snapshots().unwrap(), false, &()).unwrap();
}

#[test]
fn a_directory_that_keeps_its_owner_out_is_named_and_nothing_is_changed() {
    let name = "a_directory_that_keeps_its_owner_out_is_named_and_nothing_is_changed";
    let Some(dir) = as_nobody(name, |_| {}) else { return };
    let (store, src, dest) = (open(&dir.join("store")), dir.join("src"), dir.join("dest"));
    for version in [0, 1] {
        small_tree(&src, version);
        save(&store, &src, &format!("k{version}"), &ByName).unwrap();
    }
    restore(&store, &dest, "k0", &ByName).unwrap();
    let before = scan(&dest);
    let meta = fs::metadata(dest.join("unit/fp")).unwrap();
    // Neither read nor search; search alone; read alone.
    for mode in [0o000, 0o100, 0o400] {
        chmod(&dest.join("unit/fp"), mode);
        let refused = [restore(&store, &dest, "k1", &ByName).map(drop), save(&store, &dest, "no", &ByName).map(drop)];
        for refused in refused {
            let error = refused.unwrap_err();
            assert!(
                matches!(&error, Error::Closed { path, .. } if path.starts_with(dest.join("unit/fp"))),
                "{error:?}"
            );
            assert!(error.to_string().contains("unit/fp"), "{error}");
        }
        assert_eq!(fs::metadata(dest.join("unit/fp")).unwrap().permissions().mode() & 0o7777, mode);
        chmod(&dest.join("unit/fp"), meta.permissions().mode() & 0o7777);
        assert_same(&before, &scan(&dest), "nothing was changed");
    }
    // An empty one that can be listed is no obstacle.
    chmod(&dest.join("empty"), 0o400);
    assert_eq!(restore(&store, &dest, "k1", &ByName).unwrap().outcome, Outcome::Hit);
    assert_same(&scan(&src), &scan(&dest), "with permission");
}

#[test]
fn a_store_of_another_user_restores() {
    let arrange = |base: &Path| {
        let store = open(&base.join("store"));
        small_tree(&base.join("src"), 0);
        chmod(&base.join("src/unit/plain-same"), 0o640);
        save(&store, &base.join("src"), "k", &ByName).unwrap();
        // The comparison below has to read it; the store has its mode already.
        chown(base.join("src/unit/plain-same"), None, Some(NOBODY)).unwrap();
    };
    let Some(dir) = as_nobody("a_store_of_another_user_restores", arrange) else { return };
    let base = dir.parent().unwrap();
    let store = open(&base.join("store"));
    assert!(store.is_read_only());
    let mut expected = scan(&base.join("src"));
    for name in ["dest", "dest"] {
        let heard = Heard::default();
        let restored = store.restore(&restore_request(&dir.join(name), "k", &ByName, LinkMode::Auto), &heard);
        let restored = restored.unwrap();
        assert_eq!(restored.outcome, Outcome::Hit, "{}", heard.text());
        let mut got = scan(&dir.join(name));
        for tree in [&mut expected, &mut got] {
            tree.retain(|path, _| !path.is_empty());
        }
        assert_same(&expected, &got, "from another user's store");
    }
    assert!(store.verify(&()).unwrap().is_clean());
    let refused = save(&store, &dir.join("dest"), "no", &ByName);
    assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
}

#[test]
fn a_blob_that_only_its_owner_may_read_is_a_miss_of_that_blob() {
    let arrange = |base: &Path| {
        small_tree(&base.join("src"), 0);
        chmod(&base.join("src/lib/s-old.rlib"), 0o600);
        let saved = save(&open(&base.join("store")), &base.join("src"), "k", &ByName).unwrap();
        assert!(saved.work.linked > 0, "{saved:?}");
    };
    let name = "a_blob_that_only_its_owner_may_read_is_a_miss_of_that_blob";
    let Some(dir) = as_nobody(name, arrange) else { return };
    let (base, heard) = (dir.parent().unwrap(), Heard::default());
    let store = open(&base.join("store"));
    let request = restore_request(&dir.join("dest"), "k", &ByName, LinkMode::Auto);
    let restored = store.restore(&request, &heard).unwrap();
    assert_eq!((restored.outcome, restored.omitted), (Outcome::Partial, vec!["lib".to_owned()]));
    assert!(heard.text().contains("/ingest/") && heard.text().contains("may not read"), "{}", heard.text());
    assert!(dir.join("dest/unit/plain-same").exists() && !dir.join("dest/lib/s-old.rlib").exists());
    // All or nothing where nothing is known of the files.
    let request = restore_request(&dir.join("other"), "k", &Opaque, LinkMode::Auto);
    assert_eq!(store.restore(&request, &()).unwrap().outcome, Outcome::Miss);
    assert!(!dir.join("other").exists());
    assert_eq!(fs::read_dir(base.join("store/quarantine")).unwrap().count(), 0, "it may be sound");
}

#[test]
fn files_of_another_owner_in_the_destination_are_replaced() {
    let arrange = |base: &Path| {
        small_tree(&base.join("theirs/dest"), 1);
        for dir in ["", "unit", "unit/fp", "lib", "empty"] {
            let path = base.join("theirs/dest").join(dir);
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        chmod(&base.join("theirs/dest/unit/w-dep"), 0o666);
        // The right bytes, but the mode is not theirs to change.
        chmod(&base.join("theirs/dest/unit/plain-same"), 0o644);
    };
    let Some(dir) = as_nobody("files_of_another_owner_in_the_destination_are_replaced", arrange) else { return };
    let store = open(&dir.join("store"));
    small_tree(&dir.join("src"), 0);
    chmod(&dir.join("src/unit/fp/w-same"), 0o600);
    save(&store, &dir.join("src"), "k", &ByName).unwrap();
    restore(&store, &dir.join("dest"), "k", &ByName).unwrap();
    assert_same(&scan(&dir.join("src")), &scan(&dir.join("dest")), "over root's files");
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    let Some(dir) = as_nobody("what_cannot_be_read_is_an_error_that_names_it", |_| {}) else { return };
    let (store, src) = (open(&dir.join("store")), dir.join("src"));
    small_tree(&src, 0);
    chmod(&src.join("unit/plain-same"), 0o000);
    let refused = save(&store, &src, "k", &Opaque).unwrap_err();
    assert!(refused.to_string().contains("plain-same"), "{refused}");
    assert!(store.find_exact(&place(), "k").unwrap().is_empty());
}

/// Programs that refuse user namespaces, as some containers do, are no fault of larder.
#[test]
fn what_is_closed_is_not_counted_and_keeps_a_collection_from_deleting() {
    let name = "what_is_closed_is_not_counted_and_keeps_a_collection_from_deleting";
    let Some(dir) = as_nobody(name, |_| {}) else { return };
    let store = open(&dir.join("store"));
    for (n, key) in (0..).zip(["a", "b"]) {
        let src = dir.join(key);
        fs::create_dir(&src).unwrap();
        put(&src.join("own"), &noise(n, 50_000), 0o644, (1_600_000_000, 1));
        // Two places: each keeps its snapshots in a directory of its own.
        let mut request = save_request(&src, key, &Opaque, LinkMode::Auto);
        request.place.scope = key.into();
        store.save(&request, &()).unwrap();
    }
    let places: Vec<PathBuf> =
        fs::read_dir(dir.join("store/snapshots")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(places.len(), 2);
    chmod(&places[0], 0);
    let heard = Heard::default();
    let census = store.census(&heard).unwrap();
    assert_eq!((census.snapshots.len(), census.damaged.len(), census.damaged[0].0.path == places[0]), (1, 1, true));
    let text = heard.text();
    assert!(text.contains("ermission denied") && text.contains("larder verify --repair --dry-run"), "{text}");
    // What the closed one names may be anything.
    let wanted = |_: &Space| Freed { bytes: u64::MAX, inodes: 0 };
    assert!(store.gc(&GcRequest { wanted: &wanted, ..gc_request() }, &()).is_err());
    chmod(&places[0], 0o755);
    let census = store.census(&()).unwrap();
    assert_eq!((census.snapshots.len(), census.totals.missing, census.totals.orphans), (2, 0, 0));
}

fn may_make_namespaces() -> bool {
    let done = Command::new("unshare").args(["-Urm", "true"]).uid(NOBODY).gid(NOBODY).current_dir("/").output();
    done.is_ok_and(|done| done.status.success())
}

#[test]
fn an_overlay_in_a_user_namespace() {
    const NAME: &str = "an_overlay_in_a_user_namespace";
    if std::env::var_os(CHILD).is_none() && larder_fs::process::effective_uid() == 0 && !may_make_namespaces() {
        return skip(NAME, "users may not make namespaces here");
    }
    let Some(dir) = as_nobody_by(&["unshare", "-Urm"], NAME, |_| {}) else { return };
    let (store, src, dest) = (open(&dir.join("store")), dir.join("src"), dir.join("dest"));
    small_tree(&src, 0);
    save(&store, &src, "k", &ByName).unwrap();
    let overlay = restore_request(&dest, "k", &ByName, LinkMode::Overlay);
    let restored = store.restore(&overlay, &()).unwrap();
    assert!(restored.link_modes.contains_key("overlay"), "{restored:?}");
    assert_same(&scan(&src), &scan(&dest), "through the overlay");
    fs::remove_file(dest.join("unit/plain-same")).unwrap();
    fs::remove_dir(dest.join("empty")).unwrap();
    fs::write(dest.join("unit/w-dep"), "changed").unwrap();
    let changed = scan(&dest);
    save(&store, &dest, "changed", &ByName).unwrap();
    assert_eq!(restore(&store, &dir.join("other"), "changed", &ByName).unwrap().outcome, Outcome::Hit);
    assert_same(&changed, &scan(&dir.join("other")), "saved from the overlay");
    store.restore(&restore_request(&dest, "k", &ByName, LinkMode::Copy), &()).unwrap();
    assert_same(&scan(&src), &scan(&dest), "after the overlay");
}

fn repair(store: &Path) -> Repaired {
    Store::repair(store, false, &()).unwrap().expect("there is a store")
}

#[test]
fn a_store_that_keeps_its_own_account_out_is_opened() {
    let Some(dir) = as_nobody("a_store_that_keeps_its_own_account_out_is_opened", |_| {}) else { return };
    let (src, path) = (dir.join("src"), dir.join("store"));
    small_tree(&src, 0);
    let store = open(&path);
    save(&store, &src, "k", &ByName).unwrap();
    let snapshot = store.find_exact(&place(), "k").unwrap()[0].path.clone();
    for (closed, mode) in
        [(&snapshot, 0o000), (&path.join("snapshots"), 0o600), (&path.join("blobs"), 0o000), (&path, 0o000)]
    {
        chmod(closed, mode);
    }
    let repaired = repair(&path);
    assert!(repaired.is_clean(), "{repaired:#?}");
    let opened = repaired.steps.iter().filter(|step| matches!(step.remedy, Remedy::SetMode(_))).count();
    assert_eq!((opened, repaired.steps.len()), (4, 4), "{repaired:#?}");
    assert_eq!(repair(&path).steps, []);
    let restored = restore(&open(&path), &dir.join("dest"), "k", &ByName).unwrap();
    assert_eq!(restored.outcome, Outcome::Hit);
    assert_same(&scan(&src), &scan(&dir.join("dest")), "restored");
}

#[test]
fn what_another_account_closed_is_named_with_the_command_that_helps() {
    let arrange = |base: &Path| {
        let (src, path) = (base.join("theirs/src"), base.join("theirs/store"));
        small_tree(&src, 0);
        let store = open(&path);
        save(&store, &src, "k", &Opaque).unwrap();
        // A group shares the store; whoever saved has a private umask.
        let mut all = vec![path];
        while let Some(path) = all.pop() {
            chown(&path, None, Some(NOBODY)).unwrap();
            if path.is_dir() {
                chmod(&path, 0o770);
                all.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.parent().unwrap().parent().unwrap().ends_with("snapshots") {
                chmod(&path, 0o600);
            }
        }
    };
    let Some(dir) = as_nobody("what_another_account_closed_is_named_with_the_command_that_helps", arrange) else {
        // Root may change what anybody owns.
        if larder_fs::process::effective_uid() == 0 {
            let base = fast();
            fs::create_dir(base.path().join("theirs")).unwrap();
            arrange(base.path());
            let repaired = repair(&base.path().join("theirs/store"));
            assert!(repaired.is_clean(), "{repaired:#?}");
            assert!(repaired.steps.iter().any(|step| step.remedy == Remedy::SetMode(0o640)), "{repaired:#?}");
        }
        return;
    };
    let repaired = repair(&dir.join("store"));
    let asked = |remedy: &Remedy| matches!(remedy, Remedy::Ask(command) if command.starts_with("sudo chmod ug+r /"));
    let [step] = &repaired.steps[..] else { panic!("{repaired:#?}") };
    assert!(!repaired.is_clean() && asked(&step.remedy), "{repaired:#?}");
}
