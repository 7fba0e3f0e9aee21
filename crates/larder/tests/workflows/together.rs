//! Workflows of two repositories at the same time, on one store.

use crate::act::Run;
use crate::world::{Event, World, application};

#[test]
fn two_repositories_run_at_once() {
    let Some(world) = World::with_siblings() else { return };
    world.publish("wallet", &application("wallet"));
    world.init("wallet");
    let both = || -> [Run; 2] {
        let one = ["--concurrent-jobs", "1"];
        let running = ["app", "wallet"].map(|name| world.start(name, Event::Push, &one, &[]));
        running.map(|run| run.end().ok())
    };
    for (run, own) in both().iter().zip(["app", "wallet"]) {
        assert!(run.job("test").compiled().contains(own), "{run}");
        assert_eq!(run.job("test").after("proof commit "), world.heads(&["consensus", "protocol"]), "{run}");
    }
    let again = both();
    for run in &again {
        for (id, job) in &run.jobs {
            assert!(job.compilers().is_empty(), "{id}: {run}");
        }
    }
    // Each has plan and keys of its own.
    assert_ne!(again[0].job("setup").outputs["plan"], again[1].job("setup").outputs["plan"]);
    world.verify();
}
