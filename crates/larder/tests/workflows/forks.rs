//! Pull requests from forks: they may read what the project saved, and save nothing.

use crate::world::{Event, World, source};

#[test]
fn a_fork_may_read_and_may_not_save() {
    let Some(world) = World::with_siblings() else { return };
    let words = ["-j", "test"];
    world.run("app", Event::Push, &words).ok();
    let before = world.snapshots();

    let same = world.run("app", Event::Fork, &words).ok();
    assert!(same.job("test").compilers().is_empty(), "{same}");
    assert_eq!(world.snapshots(), before, "{same}");

    world.commit("app", &[("src/lib.rs", source("protocol::value() + 200"))]);
    let changed = world.run("app", Event::Fork, &words).ok();
    let compiled = changed.job("test").compiled();
    assert!(compiled.contains("app") && !compiled.contains("protocol"), "{compiled:?}\n{changed}");
    assert_eq!(world.snapshots(), before, "{changed}");

    // Not even where the workflow lets it: larder knows a fork by the event.
    let path = world.desk("app").join(".github/workflows/ci.yml");
    let workflow = std::fs::read_to_string(&path).unwrap();
    let lines = workflow.lines().filter(|line| !line.trim_start().starts_with("LARDER_SAVE:"));
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    world.commit("app", &[]);
    let bold = world.run("app", Event::Fork, &words).ok();
    assert_eq!(world.snapshots(), before, "{bold}");

    // The project's own run saves.
    world.run("app", Event::Push, &words).ok();
    assert_ne!(world.snapshots(), before);
    world.verify();
}
