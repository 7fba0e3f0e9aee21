//! The action: restored before the steps, saved after the job, on the same repositories.

use crate::world::{Event, World, expects, source};
use std::fs;
use std::path::Path;

const WORKFLOW: &str = r#"on: [push, pull_request]
env:
  LARDER_CANONICAL: "true"
defaults:
  run:
    shell: larder shell {0}
jobs:
  setup:
    runs-on: self-hosted
    outputs:
      plan: ${{ steps.larder.outputs.plan }}
      key: ${{ steps.larder.outputs.cache-key }}
      commits: ${{ steps.larder.outputs.commits }}
    steps:
      - uses: actions/checkout@v4
      - id: larder
        uses: acme/larder/action@v1
        with:
          mode: setup
  test:
    needs: setup
    runs-on: self-hosted
    steps:
      - uses: actions/checkout@v4
      - id: cache
        uses: acme/larder/action@v1
        with:
          plan: ${{ needs.setup.outputs.plan }}
          job: test
      - run: cargo test --workspace
      - shell: bash
        if: always()
        run: |
          echo "proof hit ${{ steps.cache.outputs.cache-hit }} ${{ steps.cache.outputs.outcome }}"
          echo "proof key ${{ needs.setup.outputs.key }}"
          echo 'proof commits ${{ needs.setup.outputs.commits }}'
"#;

/// Puts the action where its repository would be: act copies all of what it is given, and ours holds gigabytes of builds.
fn take_action(repository: &Path) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../action");
    fs::create_dir_all(repository.join("action")).unwrap();
    for entry in fs::read_dir(ours).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), repository.join("action").join(entry.file_name())).unwrap();
    }
}

#[test]
fn the_action_restores_before_and_saves_after() {
    let Some(world) = World::with_siblings() else { return };
    let larder = world.desk("larder");
    take_action(&larder);
    let local = format!("acme/larder@v1={}", larder.to_str().unwrap());
    let words = ["--local-repository", &local];
    world.commit("app", &[(".github/workflows/ci.yml", WORKFLOW.into())]);

    let cold = world.run("app", Event::Push, &words).ok();
    let job = cold.job("test");
    assert!(job.compiled().is_superset(&["app", "consensus", "protocol"].into()), "{cold}");
    assert_eq!(job.after("proof hit "), ["false miss"], "{cold}");
    assert!(!job.summary.is_empty(), "{cold}");
    let commits: serde_json::Value = serde_json::from_str(job.after("proof commits ")[0]).unwrap();
    for name in ["consensus", "protocol"] {
        assert_eq!(commits[name], world.head(name), "{commits}");
    }

    let same = world.run("app", Event::Push, &words).ok();
    let job = same.job("test");
    assert!(job.compilers().is_empty(), "{same}");
    assert_eq!(job.after("proof hit "), ["true hit"], "{same}");
    assert_eq!(job.after("proof key "), cold.job("test").after("proof key "));

    // An edit, and the sources' key with it: what is nearest is not what was asked for.
    world.commit("protocol", &[("src/lib.rs", source("consensus::value() + 30"))]);
    let next = world.run("app", Event::Push, &words).ok();
    assert!(!next.job("test").compiled().contains("consensus"), "{next}");
    assert!(next.job("test").compiled().contains("protocol"), "{next}");

    // A job that fails saves nothing, and a fork's does not either.
    let before = world.snapshots();
    world.commit("app", &[("tests/value.rs", expects("app", "< 100"))]);
    let failed = world.run("app", Event::Push, &words).fails();
    assert!(!failed.job("test").succeeded, "{failed}");
    assert_eq!(world.snapshots(), before, "{failed}");
    world.commit("app", &[("tests/value.rs", expects("app", "> 99"))]);
    let fork = world.run("app", Event::Fork, &words).ok();
    assert_eq!(world.snapshots(), before, "{fork}");
    world.verify();
}
