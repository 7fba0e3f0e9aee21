//! The process dies by SIGKILL at every file-system operation in turn, and nothing is lost.
//!
//! The test executable runs itself as the process that dies.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod support;

use larder_fs::fault::{Fault, arm, disarm};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use support::world::Scenario;
use support::{Heard, fast};

const CHILD: &str = "LARDER_TEST_CRASH";

/// The process that dies; as a test of its own it does nothing.
#[test]
fn child() {
    let Some(order) = std::env::var_os(CHILD) else { return };
    let order = order.into_string().unwrap();
    let [scenario, nth, base]: [&str; 3] = order.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let scenario = Scenario::ALL.into_iter().find(|known| format!("{known:?}") == scenario).unwrap();
    arm(nth.parse().unwrap(), Fault::Kill);
    let ended = scenario.act(&PathBuf::from(base), &Heard::default());
    assert_eq!(disarm(), None, "SIGKILL cannot be survived");
    assert_eq!(ended, support::world::Ended::Done);
}

fn dies_everywhere(scenario: Scenario) {
    let base = fast();
    let mut nth = 0;
    loop {
        let dir = base.path().join(nth.to_string());
        std::fs::create_dir(&dir).unwrap();
        let world = scenario.arrange(&dir);
        let order = format!("{scenario:?} {nth} {}", dir.display());
        let exe = std::env::current_exe().unwrap();
        let child = Command::new(exe).args(["--exact", "child", "--nocapture"]).env(CHILD, order).output().unwrap();
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

macro_rules! scenarios {
    ($($name:ident: $scenario:ident,)*) => {$(
        #[test]
        fn $name() {
            dies_everywhere(Scenario::$scenario);
        }
    )*};
}

scenarios! {
    a_first_save: SaveFirst,
    a_save_after_a_change: SaveChanged,
    a_restore_to_an_empty_place: RestoreFresh,
    a_restore_over_another_tree: RestoreOver,
    an_exact_restore: RestoreExact,
    a_removal: Remove,
    a_verification: Verify,
    preparing_a_spare: Prepare,
    a_restore_by_spare: RestoreSpare,
}
