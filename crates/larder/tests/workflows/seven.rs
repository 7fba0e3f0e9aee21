//! The workflow that `larder init` writes, from an empty store on.

use crate::act::{Job, Run};
use crate::world::{Event, World, expects, source};
use std::collections::BTreeSet;

/// The jobs, and those of them that build.
const JOBS: [&str; 7] = ["build", "clippy", "docs", "fmt", "security", "setup", "test"];
const BUILDERS: [&str; 4] = ["build", "clippy", "docs", "test"];
const SIBLINGS: [&str; 2] = ["consensus", "protocol"];

/// What must hold of every run of it, whatever it built.
#[track_caller]
fn check(world: &World, run: &Run) {
    assert_eq!(run.jobs.keys().collect::<Vec<_>>(), JOBS, "{run}");
    let plan = &run.job("setup").outputs["plan"];
    assert!(plan.starts_with("larder1."), "{plan}");
    assert!(plan.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{plan}");
    for id in BUILDERS {
        let job = run.job(id);
        // Every job was given the one plan, and had just these commits beside it.
        assert_eq!(job.after("proof plan "), [plan], "{id}");
        assert_eq!(job.after("proof commit "), world.heads(&SIBLINGS), "{id}: {run}");
        assert!(!job.summary.is_empty(), "{id} wrote no summary\n{run}");
    }
    // Nothing but sources is read there: no siblings are waited for, nothing is compiled.
    assert_eq!(run.job("fmt").after("proof plan "), [""]);
    for id in ["fmt", "security", "setup"] {
        assert!(run.job(id).compilers().is_empty(), "{id}: {run}");
    }
    assert!(run.job("security").says("cargo-audit is not installed"), "{run}");
    let setup = run.job("setup");
    assert!(!setup.outputs["cache-key"].is_empty());
    for name in SIBLINGS {
        assert_eq!(setup.outputs[&format!("commit-{name}")], world.head(name), "{name}");
        assert!(!setup.outputs[&format!("key-{name}")].is_empty(), "{name}");
        assert!(setup.summary.contains(name), "{}", setup.summary);
    }
}

/// Those of the three packages that were compiled; tests and build scripts have names of their own.
fn crates(job: &Job) -> BTreeSet<&str> {
    job.compiled().into_iter().filter(|name| ["app", "consensus", "protocol"].contains(name)).collect()
}

#[test]
fn cold_then_a_commit_in_one_sibling_then_nothing_new() {
    let Some(world) = World::with_siblings() else { return };

    let cold = world.run("app", Event::Push, &[]).ok();
    check(&world, &cold);
    // Nobody finds all of it, but who comes later may find what another job has saved a moment before.
    for id in BUILDERS {
        assert!(!cold.job(id).compiled().is_empty(), "{id}: {cold}");
    }
    let built: BTreeSet<&str> = BUILDERS.iter().flat_map(|id| crates(cold.job(id))).collect();
    assert_eq!(built, BTreeSet::from(["app", "consensus", "protocol"]), "{cold}");
    let saved = world.snapshots();
    for id in BUILDERS {
        assert!(saved.values().any(|job| job == id), "{id}: {saved:?}");
    }

    // The one in the middle: what is below it stays, what is above it is built.
    world.commit("protocol", &[("src/lib.rs", source("consensus::value() + 20"))]);
    let next = world.run("app", Event::Push, &[]).ok();
    check(&world, &next);
    for id in BUILDERS {
        let built = crates(next.job(id));
        assert!(built.contains("app") && !built.contains("consensus"), "{id}: {next}");
        assert!(!next.job(id).says("build_script_build"), "{id}: {next}");
    }
    // The other two share what they check of the siblings, and may find each other's.
    for id in ["build", "test"] {
        assert_eq!(crates(next.job(id)), BTreeSet::from(["app", "protocol"]), "{id}: {next}");
    }
    let key = |run: &Run, name: &str| run.job("setup").outputs[name].clone();
    assert_ne!(key(&cold, "key-protocol"), key(&next, "key-protocol"));
    assert_eq!(key(&cold, "key-consensus"), key(&next, "key-consensus"));

    let same = world.run("app", Event::Push, &[]).ok();
    check(&world, &same);
    for (id, job) in &same.jobs {
        assert!(job.compilers().is_empty(), "{id} compiled {:?}\n{same}", job.compilers());
    }
    for id in BUILDERS {
        assert!(same.job(id).says("larder: hit "), "{id}: {same}");
    }
    assert_eq!(same.job("setup").outputs, next.job("setup").outputs);
    world.verify();
}

#[test]
fn the_same_named_branch_of_a_sibling_is_what_is_built() {
    let Some(world) = World::with_siblings() else { return };
    let main = world.head("protocol");
    for name in ["app", "protocol"] {
        world.git(&world.desk(name), &["switch", "-q", "-c", "topic"]);
    }
    world.commit("protocol", &[("src/lib.rs", source("consensus::value() + 1000"))]);
    world.commit("app", &[("tests/value.rs", expects("app", "> 1000"))]);
    let topic = world.head("protocol");
    // The test holds with the branch's protocol only.
    let run = world.run("app", Event::Push, &["-j", "test"]).ok();
    assert_eq!(run.job("setup").outputs["commit-protocol"], topic);
    assert_eq!(run.job("test").after("proof commit "), world.heads(&["consensus", "protocol"]));
    assert_ne!(main, topic);
}
