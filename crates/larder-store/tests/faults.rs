//! Every file-system operation fails in turn, in every way, and nothing is lost.
//!
//! The injection is global to a process, so each test runs again as a process of its own.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[macro_use]
mod support;

use larder_fs::fault::{Fault, arm, disarm};
use support::world::{Ended, Scenario};
use support::{Heard, alone, bases};

const EIO: i32 = 5;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
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
