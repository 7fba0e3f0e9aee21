//! Eviction in a real store: what goes, what stays because somebody uses it, and what is swept.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[macro_use]
mod support;

use larder_fs::{Space, Timestamp};
use larder_store::evict::{Freed, Reason};
use larder_store::{Error, Events, GcRequest, Grace, LinkMode, Opaque, Outcome, Retention, Snapshot, Store, TreeKind};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{
    ByName, another_process, assert_same, fast, gc_request, noise, open, place, put, restore, save, scan, small_tree,
};

const HOUR: Duration = Duration::from_secs(3600);
const CHILD: &str = "LARDER_TEST_JOB";

fn later(time: Duration) -> Timestamp {
    let now = Timestamp::now();
    Timestamp { secs: now.secs + i64::try_from(time.as_secs()).unwrap(), ..now }
}

fn everything(_: &Space) -> Freed {
    Freed { bytes: u64::MAX, inodes: 0 }
}

fn id(store: &Store, key: &str) -> String {
    store.find_exact(&place(), key).unwrap()[0].id.clone()
}

fn keys(store: &Store) -> Vec<String> {
    let all = store.snapshots().unwrap();
    let mut keys: Vec<String> = all.iter().map(|found| Snapshot::load_header(&found.path).unwrap().key).collect();
    keys.sort_unstable();
    keys
}

/// A store with snapshots of these keys, of a file each that no other has, and one that all share.
fn store_of(base: &Path, keys: &[&str]) -> Store {
    let store = open(&base.join("store"));
    for (n, key) in (0..).zip(keys) {
        let src = base.join(format!("src-{key}/tree"));
        fs::create_dir_all(&src).unwrap();
        put(&src.join("own"), &noise(n + 1, 100_000), 0o644, (1_600_000_000, 1));
        put(&src.join("shared"), &noise(0, 50_000), 0o644, (1_600_000_000, 1));
        save(&store, &src, key, &Opaque).unwrap();
    }
    store
}

#[test]
fn what_is_worth_least_goes_until_there_is_room_and_the_rest_restores() {
    let base = fast();
    let store = store_of(base.path(), &["a", "b", "c", "d"]);
    assert!(store.pin(&id(&store, "b"), "release").unwrap() && !store.pin("nobody", "").unwrap());
    let wanted = |_: &Space| Freed { bytes: 150_000, inodes: 0 };
    let request = GcRequest { wanted: &wanted, ..gc_request() };
    let planned = store.gc(&GcRequest { dry_run: true, ..request }, &()).unwrap();
    assert_eq!(keys(&store), ["a", "b", "c", "d"]);
    let request = GcRequest { wanted: &wanted, ..gc_request() };
    let done = store.gc(&request, &()).unwrap();
    let order = |collected: &larder_store::Collected| -> Vec<String> {
        collected.evicted.iter().map(|evicted| evicted.header.key.clone()).collect()
    };
    assert_eq!(order(&planned), order(&done));
    assert!(done.evicted.iter().all(|evicted| evicted.eviction.reason == Reason::Room));
    assert_eq!(keys(&store), ["b", "d"]);
    assert_eq!((done.removed.snapshots.len(), done.removed.blobs), (2, 2));
    assert!(done.removed.bytes >= 200_000, "{:?}", done.removed);
    for key in ["b", "d"] {
        let dest = base.path().join(format!("dest-{key}"));
        assert_eq!(restore(&store, &dest, key, &Opaque).unwrap().outcome, Outcome::Hit);
        assert_same(&scan(&base.path().join(format!("src-{key}/tree"))), &scan(&dest), key);
    }
    assert!(store.verify(&()).unwrap().is_clean());
}

#[test]
fn the_budget_holds_and_ceilings_and_ages_are_kept() {
    let base = fast();
    let store = store_of(base.path(), &["a", "b", "c", "d"]);
    let newest = |newest, each_key| move |_: &larder_store::Header| Retention { newest, each_key };
    // Each key is a lineage of its own, where somebody chose it.
    let keep = newest(1, true);
    assert!(store.gc(&GcRequest { retention: &keep, ..gc_request() }, &()).unwrap().evicted.is_empty());
    let keep = newest(3, false);
    let done = store.gc(&GcRequest { retention: &keep, ..gc_request() }, &()).unwrap();
    assert_eq!(done.evicted.len(), 1);
    assert_eq!(done.evicted[0].eviction.reason, Reason::Surplus(3));
    assert_eq!(keys(&store), ["b", "c", "d"]);
    let budget = store.census(&()).unwrap().totals.stored() - 1;
    let done = store.gc(&GcRequest { budget: Some(budget), ..gc_request() }, &()).unwrap();
    assert_eq!((done.evicted.len(), done.evicted[0].eviction.reason), (1, Reason::Budget));
    assert!(store.census(&()).unwrap().totals.stored() <= budget);
    let week = Some(7 * 24 * HOUR);
    let early = store.gc(&GcRequest { max_age: week, now: later(6 * 24 * HOUR), ..gc_request() }, &()).unwrap();
    assert!(early.evicted.is_empty());
    let late = store.gc(&GcRequest { max_age: week, now: later(8 * 24 * HOUR), ..gc_request() }, &()).unwrap();
    assert_eq!(late.evicted.len(), 2);
    assert_eq!(keys(&store), [] as [&str; 0]);
    assert_eq!(late.removed.blobs, 3);
}

/// Collects everything once, as soon as a blob was read.
struct Meanwhile {
    store: PathBuf,
    evicted: AtomicUsize,
    begun: AtomicBool,
}

impl Events for Meanwhile {
    fn advance(&self, _steps: u64) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            let store = open(&self.store);
            let request = GcRequest { wanted: &everything, patience: Duration::from_secs(1), ..gc_request() };
            self.evicted.store(store.gc(&request, &()).unwrap().evicted.len(), Ordering::Relaxed);
        }
    }
}

#[test]
fn a_collection_does_not_wait_for_a_verification_nor_a_repair() {
    for repairs in [false, true] {
        let base = fast();
        let store = store_of(base.path(), &["a", "b", "c", "d"]);
        store.pin(&id(&store, "b"), "").unwrap();
        let path = base.path().join("store");
        let is_clean = |events: &dyn Events| match repairs {
            true => Store::repair(&path, true, events).unwrap().unwrap().is_clean(),
            false => store.verify(events).unwrap().is_clean(),
        };
        let meanwhile = Meanwhile { store: path.clone(), evicted: AtomicUsize::new(0), begun: AtomicBool::new(false) };
        assert!(is_clean(&meanwhile), "what was evicted meanwhile is not damaged");
        assert_eq!((meanwhile.evicted.into_inner(), keys(&store)), (3, vec!["b".to_owned()]));
        assert!(is_clean(&()));
        // What a snapshot needs is missed all the same.
        let blobs = fs::read_dir(path.join("blobs")).unwrap().map(|fan| fan.unwrap().path());
        let lost = blobs.flat_map(|fan| fs::read_dir(fan).unwrap()).next().unwrap().unwrap().path();
        fs::remove_file(lost).unwrap();
        assert!(!is_clean(&()));
    }
}

#[test]
fn what_a_workspace_still_links_is_not_evicted_for_room() {
    let base = fast();
    let store = open(&base.path().join("store"));
    let src = base.path().join("src");
    small_tree(&src, 0);
    fs::create_dir_all(src.join("lib")).unwrap();
    for name in ["unit", "empty"] {
        fs::remove_dir_all(src.join(name)).unwrap();
    }
    save(&store, &src, "linked", &ByName).unwrap();
    let request = GcRequest { wanted: &everything, ..gc_request() };
    let done = store.gc(&request, &()).unwrap();
    assert_eq!((done.evicted.len(), done.plan.short.unwrap().bound), (0, 1));
    fs::remove_dir_all(&src).unwrap();
    let request = GcRequest { wanted: &everything, ..gc_request() };
    assert_eq!(store.gc(&request, &()).unwrap().evicted.len(), 1);
}

/// A job: restores, says so, and goes on for ever. As a test of its own it does nothing.
#[test]
fn job() {
    let Some(order) = std::env::var_os(CHILD) else { return };
    let base = PathBuf::from(order);
    let store = open(&base.join("store"));
    assert_eq!(restore(&store, &base.join("job"), "a", &Opaque).unwrap().outcome, Outcome::Hit);
    println!("\nrestored");
    loop {
        std::thread::park();
    }
}

fn start_job(base: &Path) -> Child {
    let mut child = another_process("job", CHILD, base.to_str().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "restored"), "the job ended");
    child
}

fn evicted(store: &Store, now: Timestamp) -> usize {
    let request = GcRequest { wanted: &everything, now, dry_run: true, ..gc_request() };
    store.gc(&request, &()).unwrap().evicted.len()
}

#[test]
fn what_a_job_restored_stays_until_the_job_is_over_or_its_lease_expires() {
    let base = fast();
    let store = store_of(base.path(), &["a"]);
    let mut child = start_job(base.path());
    // However long it takes.
    assert_eq!(evicted(&store, later(1000 * HOUR)), 0);
    let lease = store.leases(later(HOUR), HOUR).unwrap();
    assert!(lease.len() == 1 && lease[0].alive && lease[0].snapshot == id(&store, "a"), "{lease:?}");
    let refused = store.remove_unless_kept(&store.snapshots().unwrap(), Duration::ZERO, false, &());
    assert!(matches!(&refused, Err(Error::Kept { why, .. }) if why.contains("is working with it")), "{refused:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    // It died without a word, and the steps after it may go on.
    assert_eq!(evicted(&store, later(5 * HOUR)), 0);
    assert_eq!(evicted(&store, later(7 * HOUR)), 1);
    // No job outlives a boot.
    let record = fs::read_dir(base.path().join("store/sessions")).unwrap().map(|entry| entry.unwrap().path());
    let record = record.into_iter().find(|path| path.extension().is_some_and(|end| end == "job")).unwrap();
    let text = fs::read_to_string(&record).unwrap();
    let boot = larder_fs::process::boot_id().unwrap();
    assert!(text.contains(&boot));
    fs::write(&record, text.replace(&boot, "0a0a0a0a-0000-4000-8000-000000000000")).unwrap();
    assert_eq!(evicted(&store, Timestamp::now()), 1);
    fs::write(&record, text).unwrap();
    assert_eq!(evicted(&store, Timestamp::now()), 0);
    // A save ends it.
    save(&store, &base.path().join("job"), "b", &Opaque).unwrap();
    assert_eq!(store.leases(Timestamp::now(), HOUR).unwrap(), []);
    let request = GcRequest { wanted: &everything, ..gc_request() };
    assert_eq!(store.gc(&request, &()).unwrap().removed.snapshots.len(), 2);
}

#[test]
fn a_handle_ends_the_leases_that_it_began_and_no_others() {
    let base = fast();
    let store = store_of(base.path(), &["a"]);
    let mut child = start_job(base.path());
    let own = base.path().join("own");
    restore(&store, &own, "a", &Opaque).unwrap();
    let count = || store.leases(Timestamp::now(), HOUR).unwrap().len();
    assert_eq!(count(), 2);
    store.end_jobs();
    assert_eq!(count(), 1);
    // Somebody else's job works there: saying that it is over is not ours.
    store.end_job(&base.path().join("job"));
    assert_eq!(count(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    store.end_job(&base.path().join("job"));
    assert_eq!(count(), 0);
}

#[test]
fn who_is_pinned_stays_and_a_damaged_record_is_a_pin_too() {
    let base = fast();
    let store = store_of(base.path(), &["a", "b"]);
    let (a, b) = (id(&store, "a"), id(&store, "b"));
    store.pin(&a, "demo").unwrap();
    store.pin(&b, "").unwrap();
    fs::write(base.path().join("store/pins").join(&b), "half a rec").unwrap();
    let store = open(&base.path().join("store"));
    let pins = store.pins().unwrap();
    assert_eq!((pins.len(), pins[0].reason.as_str(), pins[1].since), (2, "demo", None));
    assert_eq!(evicted(&store, Timestamp::now()), 0);
    let refused = store.remove_unless_kept(&store.snapshots().unwrap(), Duration::ZERO, false, &()).unwrap_err();
    assert!(refused.to_string().contains("larder unpin"), "{refused}");
    assert_eq!(keys(&store), ["a", "b"]);
    assert!(store.unpin(&a).unwrap() && !store.unpin(&a).unwrap());
    let request = GcRequest { wanted: &everything, ..gc_request() };
    store.gc(&request, &()).unwrap();
    assert_eq!(keys(&store), ["b"]);
    // With the snapshot goes what was noted about it.
    store.remove(&store.snapshots().unwrap(), false, &()).unwrap();
    assert_eq!(store.pins().unwrap(), []);
    assert_eq!(fs::read_dir(base.path().join("store/uses")).unwrap().count(), 0);
}

#[test]
fn uses_are_counted_and_the_file_stays_short() {
    let base = fast();
    let store = store_of(base.path(), &["a"]);
    let (a, before) = (id(&store, "a"), Timestamp::now());
    assert_eq!(store.used_at(&a), []);
    for n in 0..3 {
        restore(&store, &base.path().join(format!("dest-{n}")), "a", &Opaque).unwrap();
    }
    let uses = store.used_at(&a);
    assert!(uses.len() == 3 && uses.iter().all(|time| time.secs >= before.secs), "{uses:?}");
    (0..1000).for_each(|_| store.mark_used(&a));
    assert!((128..=256).contains(&store.used_at(&a).len()));
}

#[test]
fn orphans_stay_for_their_grace_and_what_an_eviction_orphaned_goes_at_once() {
    let base = fast();
    let store = store_of(base.path(), &["a", "b"]);
    let found = store.find_exact(&place(), "a").unwrap();
    fs::remove_file(&found[0].path).unwrap();
    fs::create_dir_all(base.path().join("store/ingest/0123456789abcdef")).unwrap();
    fs::write(base.path().join("store/ingest/0123456789abcdef/0"), "half a save").unwrap();
    let quiet = || gc_request();
    assert_eq!(store.gc(&quiet(), &()).unwrap().removed.blobs, 0);
    let done = store.gc(&GcRequest { now: later(2 * HOUR), ..quiet() }, &()).unwrap();
    assert_eq!(done.removed.blobs, 2);
    assert!(!base.path().join("store/ingest/0123456789abcdef").exists());
    assert_eq!(store.remove(&store.find_exact(&place(), "b").unwrap(), false, &()).unwrap().blobs, 2);
}

#[test]
fn trees_records_and_what_was_set_aside_go_with_what_they_belonged_to() {
    let base = fast();
    let store = store_of(base.path(), &["a", "b"]);
    let snapshot = Snapshot::load(&store.find_exact(&place(), "a").unwrap()[0].path).unwrap();
    let (gone, there) = (base.path().join("gone"), base.path().join("src-b/tree"));
    let roots = [support::root(&gone, &Opaque)];
    store.prepare(&snapshot, TreeKind::Spare, &roots, LinkMode::Copy, &()).unwrap();
    restore(&store, &gone, "b", &Opaque).unwrap();
    store.end_jobs();
    let quarantine = base.path().join("store/quarantine");
    let unnamed = format!("blobs-ab-{}.01234567", "c".repeat(62));
    fs::write(quarantine.join(&unnamed), "damaged long ago").unwrap();
    let blob = fs::read_dir(base.path().join("store/blobs")).unwrap().next().unwrap().unwrap();
    let name = fs::read_dir(blob.path()).unwrap().next().unwrap().unwrap().file_name();
    let named = format!("blobs-{}-{}.76543210", blob.file_name().display(), name.display());
    fs::write(quarantine.join(&named), "of a blob that is still wanted").unwrap();
    let sessions = || fs::read_dir(base.path().join("store/sessions")).unwrap().count();
    let before = sessions();
    fs::remove_dir_all(&gone).unwrap();
    store.remove(&store.find_exact(&place(), "a").unwrap(), false, &()).unwrap();
    assert_eq!(fs::read_dir(base.path().join("store/trees")).unwrap().count(), 0);
    assert_eq!(sessions(), before, "a directory may come back");
    let swept = store.gc(&GcRequest { now: later(31 * 24 * HOUR), ..gc_request() }, &()).unwrap().removed.swept;
    assert_eq!((swept.sessions, swept.quarantined), (1, 1));
    assert!(quarantine.join(&named).exists() && !quarantine.join(&unnamed).exists());
    assert!(there.exists() && sessions() < before);
    // A directory whose lock went can be used as before.
    restore(&store, &gone, "b", &Opaque).unwrap();
    save(&store, &there, "c", &Opaque).unwrap();
}

#[test]
fn nothing_goes_for_room_while_a_snapshot_cannot_be_read() {
    let base = fast();
    let store = store_of(base.path(), &["a", "b"]);
    let path = store.find_exact(&place(), "a").unwrap()[0].path.clone();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let heard = support::Heard::default();
    let done = store.gc(&GcRequest { wanted: &everything, ..gc_request() }, &heard).unwrap();
    assert_eq!((done.evicted.len(), done.unreadable.len(), done.removed.blobs), (0, 1, 0));
    assert!(heard.text().contains("larder rm"), "{}", heard.text());
}

#[test]
fn a_busy_store_does_not_starve_a_collection_and_is_not_kept_waiting() {
    let base = fast();
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let store = store_of(base.path(), &names);
    let over = AtomicBool::new(false);
    let counts: [AtomicUsize; 4] = Default::default();
    std::thread::scope(|scope| {
        // Always somebody has the lock, and somebody else wants it.
        let restoring: Vec<_> = (0..4)
            .map(|n: usize| {
                let (base, over, counts) = (base.path(), &over, &counts);
                scope.spawn(move || {
                    let store = open(&base.join("store"));
                    while !over.load(Ordering::Relaxed) {
                        let dest = base.join(format!("dest-{n}-{}", counts[n].load(Ordering::Relaxed)));
                        let restored = restore(&store, &dest, "k11", &Opaque).unwrap();
                        assert_eq!(restored.outcome, Outcome::Hit);
                        fs::remove_dir_all(&dest).unwrap();
                        counts[n].fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for key in &keys[..11] {
            // All of them come to their turn between two removals.
            let before: Vec<usize> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            let begin = Instant::now();
            while counts.iter().zip(&before).any(|(now, before)| now.load(Ordering::Relaxed) == *before) {
                assert!(begin.elapsed() < Duration::from_secs(60), "a restore starves");
                std::thread::sleep(Duration::from_millis(2));
            }
            let removed = store.remove(&store.find_exact(&place(), key).unwrap(), false, &()).unwrap();
            assert_eq!((removed.snapshots.len(), removed.blobs), (1, 1), "{key}");
        }
        over.store(true, Ordering::Relaxed);
        restoring.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert!(store.verify(&()).unwrap().is_clean());
}

#[test]
fn saves_restores_and_collections_at_once_leave_every_snapshot_whole() {
    let base = fast();
    let store = store_of(base.path(), &["first"]);
    store.pin(&id(&store, "first"), "").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let savers: Vec<_> = (0..3_u64)
            .map(|n| {
                let base = base.path();
                scope.spawn(move || {
                    let store = open(&base.join("store"));
                    let src = base.join(format!("src-{n}"));
                    for version in 0..12 {
                        small_tree(&src, version);
                        save(&store, &src, &format!("{n}-{version}"), &ByName).unwrap();
                        let dest = base.join(format!("dest-{n}-{version}"));
                        // It may have been evicted already; what comes back is whole.
                        let restored = restore(&store, &dest, &format!("{n}-{version}"), &ByName).unwrap();
                        match restored.outcome {
                            Outcome::Hit => assert_same(&scan(&src), &scan(&dest), "at once with collections"),
                            Outcome::Miss => assert!(!dest.exists()),
                            Outcome::Partial => panic!("{restored:?}"),
                        }
                        store.end_jobs();
                    }
                })
            })
            .collect();
        let (over, store) = (&over, &store);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let grace = Grace { blobs: Duration::ZERO, ..Grace::default() };
                store.gc(&GcRequest { wanted: &everything, grace, ..gc_request() }, &()).unwrap();
            }
        });
        let ended: Vec<_> = savers.into_iter().map(|saver| saver.join()).collect();
        over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert!(store.verify(&()).unwrap().is_clean());
    assert_eq!(restore(&store, &base.path().join("last"), "first", &Opaque).unwrap().outcome, Outcome::Hit);
}
