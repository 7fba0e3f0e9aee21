//! The process dies by SIGKILL at every file-system operation in turn, and nothing is lost.
//!
//! The test executable runs itself as the process that dies.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[macro_use]
mod support;

use larder_fs::fault::{Fault, arm, disarm};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use support::world::Scenario;
use support::{Heard, another_process, fast};

const CHILD: &str = "LARDER_TEST_CRASH";

/// The process that dies; as a test of its own it does nothing.
#[test]
fn child() {
    let Some(order) = std::env::var_os(CHILD) else { return };
    let order = order.into_string().unwrap();
    let [scenario, nth, base]: [&str; 3] = order.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let scenario = *Scenario::ALL.iter().find(|known| format!("{known:?}") == scenario).unwrap();
    arm(nth.parse().unwrap(), Fault::Kill);
    let ended = scenario.act(&PathBuf::from(base), &Heard::default());
    assert_eq!(disarm(), None, "SIGKILL cannot be survived");
    assert_eq!(ended, support::world::Ended::Done);
}

fn dies_everywhere(_test: &str, scenario: Scenario) {
    let base = fast();
    let mut nth = 0;
    loop {
        let dir = base.path().join(nth.to_string());
        std::fs::create_dir(&dir).unwrap();
        let world = scenario.arrange(&dir);
        let order = format!("{scenario:?} {nth} {}", dir.display());
        let child = another_process("child", CHILD, &order).output().unwrap();
        if child.status.success() {
            break;
        }
        assert_eq!(child.status.signal(), Some(9), "{}", String::from_utf8_lossy(&child.stderr));
        world.check(None, &format!("{scenario:?}, died at operation {nth}"));
        std::fs::remove_dir_all(&dir).unwrap();
        nth += 1;
    }
    assert!(nth > 20, "{nth} operations are too few to be true");
    eprintln!("{scenario:?}: died at {nth} operations");
}

every_scenario!(dies_everywhere);
