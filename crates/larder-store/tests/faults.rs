//! Every file-system operation fails in turn, in every way, and nothing is lost.
//!
//! The injection is global to a process, so each test runs again as a process of its own.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[macro_use]
mod support;

use larder_fs::fault::{Fault, arm, arm_for, disarm};
use larder_store::{Opaque, Outcome};
use std::fs;
use std::os::unix::fs::MetadataExt;
use support::world::{Ended, Scenario};
use support::{Heard, alone, assert_same, bases, fast, noise, open, put, restore, save, scan, small_tree};

const EIO: i32 = 5;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;
const FAULTS: [Fault; 4] =
    [Fault::Errno(EIO), Fault::Errno(ENOSPC), Fault::Errno(EACCES), Fault::ErrnoFromHere(ENOSPC)];

fn fails_everywhere(test: &str, scenario: Scenario) {
    alone(test, || every_operation_fails(scenario));
}

fn every_operation_fails(scenario: Scenario) {
    for base in bases() {
        // A real disk is slow to sync and treats the faults alike: there every seventh operation meets one of them.
        let in_memory = base.path().starts_with("/dev/shm");
        let stride = if in_memory { 1 } else { 7 };
        let mut operations = 0;
        for nth in (0..).step_by(stride) {
            let faults = if in_memory { &FAULTS[..] } else { &FAULTS[(nth as usize % FAULTS.len())..][..1] };
            let mut hits = 0;
            for (index, fault) in faults.iter().enumerate() {
                let dir = base.path().join(format!("{nth}-{index}"));
                std::fs::create_dir(&dir).unwrap();
                let world = scenario.arrange(&dir);
                let heard = Heard::default();
                arm(nth, *fault);
                let ended = scenario.act(&dir, &heard);
                let Some(operation) = disarm() else {
                    assert_eq!(ended, Ended::Done, "nothing was disturbed");
                    continue;
                };
                hits += 1;
                let what = format!(
                    "{scenario:?}, operation {nth} ({operation}), {fault:?}, ended {ended:?}, heard {}",
                    heard.text()
                );
                world.check(Some(&ended), &what);
                std::fs::remove_dir_all(&dir).unwrap();
            }
            if hits == 0 {
                operations = nth;
                break;
            }
        }
        assert!(operations > 20, "{operations} operations are too few to be true");
        eprintln!("{scenario:?}: {operations} operations, every {stride}. failed in turn in {}", base.path().display());
    }
}

every_scenario!(fails_everywhere);

/// A save publishes its blobs, and the store its FORMAT, by renames that must not replace anything.
#[test]
fn a_file_system_that_cannot_refuse_to_replace() {
    alone("a_file_system_that_cannot_refuse_to_replace", || {
        for errno in [EINVAL, ENOSYS] {
            let base = fast();
            let tree = |name: &str| {
                small_tree(&base.path().join(name), 0);
                // Too large to be read before it is written: its second copy meets a blob that is there.
                put(&base.path().join(name).join("lib/large"), &noise(7, 2 << 20), 0o644, (1_600_000_000, 1));
                base.path().join(name)
            };
            let (first, second) = (tree("first"), tree("second"));
            arm_for("rename exclusively", errno);
            let store = open(&base.path().join("store"));
            for (src, key) in [(&first, "first"), (&second, "second")] {
                save(&store, src, key, &Opaque).unwrap();
            }
            assert_eq!(disarm(), Some("rename exclusively"));
            let mut blobs = 0;
            for fan in fs::read_dir(base.path().join("store/blobs")).unwrap() {
                for blob in fs::read_dir(fan.unwrap().path()).unwrap() {
                    // The link has become the only name.
                    assert_eq!(blob.unwrap().metadata().unwrap().nlink(), 1);
                    blobs += 1;
                }
            }
            assert!(blobs > 3, "{blobs}");
            assert_eq!(fs::read_dir(base.path().join("store/tmp")).unwrap().count(), 0);
            let verified = store.verify(&()).unwrap();
            assert!(verified.is_clean() && verified.blobs == blobs, "{verified:?}");
            for (src, key) in [(&first, "first"), (&second, "second")] {
                let dest = base.path().join(format!("dest-{key}"));
                assert_eq!(restore(&store, &dest, key, &Opaque).unwrap().outcome, Outcome::Hit);
                assert_same(&scan(src), &scan(&dest), key);
            }
        }
    });
}
