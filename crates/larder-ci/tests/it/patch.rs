//! Patches change what they name, and nothing else.
#![expect(clippy::disallowed_methods, reason = "tests read the workflows of others")]

use crate::support::{Files, findings};
use larder_ci::init::patch::{Patched, Wish, patch};
use larder_ci::yaml;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn wish(siblings: &[&str], runner: &[&str]) -> Wish {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Wish { siblings: own(siblings), runner: own(runner) }
}

fn patched(text: &str, wish: &Wish) -> Patched {
    let once = patch("ci.yml", text, &Files::default(), wish).unwrap();
    let twice = patch("ci.yml", &once.text, &Files::default(), wish).unwrap();
    assert_eq!(twice.text, once.text, "patched twice: {:?}", twice.notes);
    once
}

const CACHED: &str = "name: CI # by hand
on: [push, pull_request]

jobs:
    # The tests.
    test:
        runs-on: [self-hosted, linux] # ours
        steps:
            - uses: actions/checkout@v4

            # Cargo's things.
            - uses: actions/cache@v4
              with:
                  path: |
                      ~/.cargo/registry
                      target
                  key: x-${{ hashFiles('**/Cargo.lock') }} # inside

            - name: tests
              run: cargo test --workspace   # all
              env: {RUST_BACKTRACE: 1}
            - run: |
                # one command, with a comment
                cargo clippy \\
                  --all-targets
    fmt:
        runs-on: self-hosted
        steps:
            - uses: actions/checkout@v4
            - run: cargo fmt --check
";

#[test]
fn caches_go_and_commands_are_wrapped() {
    let new = patched(CACHED, &Wish::default());
    let expected = "name: CI # by hand
on: [push, pull_request]

jobs:
    # The tests.
    test:
        runs-on: [self-hosted, linux] # ours
        steps:
            - uses: actions/checkout@v4

            # Cargo's things.

            - name: tests
              run: larder run -- cargo test --workspace   # all
              env: {RUST_BACKTRACE: 1}
            - run: |
                # one command, with a comment
                larder run -- cargo clippy \\
                  --all-targets
    fmt:
        runs-on: self-hosted
        steps:
            - uses: actions/checkout@v4
            - run: cargo fmt --check
";
    assert_eq!(new.text, expected, "{:#?}", new.notes);
    assert_eq!(
        new.notes,
        ["test: 2 commands are run by larder", "test: actions/cache@v4 goes: larder keeps what it kept"]
    );
    // With the ends of lines that the file has.
    let windows = patched(&CACHED.replace('\n', "\r\n"), &Wish::default());
    assert_eq!(windows.text, expected.replace('\n', "\r\n"));
}

#[test]
fn scripts_that_do_more_get_a_restore_and_a_save() {
    let text = "on: push
jobs:
  test:
    runs-on: self-hosted
    steps:
      - uses: actions/checkout@v4
      - uses: Swatinem/rust-cache@v2
      # The long one.
      - working-directory: rust
        run: |
          ./prepare
          cargo build
          # done
      - run: echo between
      - run: cargo test
        working-directory: rust
";
    let new = patched(text, &Wish::default());
    let expected = text.replace(
        "      - uses: Swatinem/rust-cache@v2\n      # The",
        "      - run: larder restore --workspace rust\n      # The",
    ) + "      - run: larder save --workspace rust\n";
    assert_eq!(new.text, expected, "{:#?}", new.notes);
}

const SIBLINGS: &str = "on: push
jobs:
  test:
    runs-on: self-hosted
    steps:
      - uses: actions/checkout@v4 # mine
      - uses: actions/checkout@v4
        with: {repository: acme/core, path: _core}
      - name: move it
        run: |
          rm -rf ../core
          mv _core ../core
      - run: cargo test
  lint:
    needs: [test]
    runs-on: self-hosted
    env:
      A: b
    steps:
      - uses: actions/checkout@v4
      - uses: actions/checkout@v4
        with:
          repository: acme/core
          path: _core
      - run: ln -sfn \"$PWD/_core\" ../core
      - run: cargo clippy
  last:
    needs:
      - test
    runs-on: self-hosted
    steps:
      - uses: actions/checkout@v4
      - uses: actions/checkout@v4
        with: {repository: acme/core, path: _core}
      - run: |
          mv _core ../core
          ./more
      - run: cargo doc
";

#[test]
fn siblings_come_from_one_setup_job() {
    let new = patched(SIBLINGS, &wish(&["core"], &[]));
    let expected = "on: push
jobs:
  # Once for all jobs: a commit of each sibling. The plan takes them to the jobs that need it.
  setup:
    runs-on: self-hosted
    timeout-minutes: 15
    outputs:
      plan: ${{ steps.larder.outputs.plan }}
    steps:
      - uses: actions/checkout@v4 # mine
        with:
          persist-credentials: false
      - id: larder
        run: larder setup

  test:
    needs: setup
    env:
      LARDER_PLAN: ${{ needs.setup.outputs.plan }}
    runs-on: self-hosted
    steps:
      - uses: actions/checkout@v4 # mine
      - run: larder run -- cargo test
  lint:
    needs: [test, setup]
    runs-on: self-hosted
    env:
      LARDER_PLAN: ${{ needs.setup.outputs.plan }}
      A: b
    steps:
      - uses: actions/checkout@v4
      - run: larder run -- cargo clippy
";
    assert!(new.text.starts_with(expected), "{}\n{:#?}", new.text, new.notes);
    // The last one's script does more: nothing of its siblings is touched.
    assert!(new.text.contains("          mv _core ../core\n          ./more\n"), "{}", new.text);
    let before = findings(SIBLINGS, &Files::default()).len();
    let after = findings(&new.text, &Files::default()).len();
    assert!(after < before, "{before} findings, then {after}");
    // Without knowing that cargo needs it, it is somebody's checkout.
    assert!(patched(SIBLINGS, &Wish::default()).text.contains("repository: acme/core"));
}

#[test]
fn what_is_not_understood_is_left_alone_and_said() {
    let job = |lines: &str| format!("on: push\njobs:\n  a:\n    runs-on: self-hosted\n{lines}");
    let cases = [
        ("    steps: [{run: cargo test}]\n", "no step calls"),
        ("    container: rust\n    steps:\n      - run: cargo test\n", "in a container"),
        ("    steps:\n      - run: larder run -- cargo test\n", "uses larder already"),
        ("    steps:\n      - run: cross build\n", "cross builds in containers"),
        ("    steps:\n      - run: cargo install x\n", "no step calls"),
    ];
    for (lines, why) in cases {
        let text = job(lines);
        let new = patched(&text, &Wish::default());
        assert_eq!(new.text, text);
        assert!(
            new.notes.iter().any(|note| note.contains(why)) || lines.starts_with("    steps: ["),
            "{:?}",
            new.notes
        );
    }
    let kept = job(
        "    steps:\n      - uses: actions/cache@v4\n        with:\n          path: |\n            target\n            .venv\n          key: k\n      - run: cargo test\n",
    );
    let new = patched(&kept, &Wish::default());
    assert!(new.text.contains("actions/cache@v4") && new.text.contains("larder run -- cargo test"), "{}", new.text);
    assert!(new.notes.iter().any(|note| note.contains("keeps other things")), "{:?}", new.notes);
    let foreign = job("    steps:\n      - uses: acme/ci/runner-cargo-cache@main\n      - run: cargo test\n");
    assert!(patched(&foreign, &Wish::default()).notes.iter().any(|note| note.contains("nobody here knows")));
    for text in ["a: 1\n", "runs: {using: composite, steps: []}\n"] {
        assert!(patch("x", text, &Files::default(), &Wish::default()).is_err());
    }
}

#[test]
fn a_step_that_stands_for_another_is_patched_once() {
    let text = "on: push\njobs:\n  a:\n    runs-on: self-hosted\n    steps:\n      - &t\n        name: x\n        run: cargo test\n      - &u {run: cargo doc}\n      - *u\n";
    let new = patched(text, &Wish::default());
    assert!(yaml::parse(&new.text).is_ok() && !new.text.contains("larder run -- larder run"), "{}", new.text);
}

#[test]
fn hosted_runners_move_only_when_asked_to() {
    let text = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest # hosted\n    steps:\n      - run: cargo test\n";
    let left = patched(text, &Wish::default());
    assert_eq!(left.text, text);
    assert!(left.notes[0].contains("--runner"), "{:?}", left.notes);
    let moved = patched(text, &wish(&[], &["self-hosted", "linux"]));
    assert!(moved.text.contains("    runs-on: [self-hosted, linux] # hosted\n"), "{}", moved.text);
    assert!(moved.text.contains("larder run -- cargo test"), "{}", moved.text);
}

/// All workflows of a folder, and below.
fn workflows(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            workflows(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            found.push(path);
        }
    }
}

/// Comment lines, with how often each is there.
fn comments(text: &str) -> BTreeMap<&str, usize> {
    let mut counted = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| line.starts_with('#')) {
        *counted.entry(line).or_default() += 1;
    }
    counted
}

/// Every workflow keeps its lines in their order, but for what the notes name.
fn keeps_what_it_had(old: &str, new: &Patched) {
    assert!(yaml::parse(&new.text).is_ok(), "{}", new.text);
    if new.text == old {
        return;
    }
    let removes = new.notes.iter().any(|note| note.contains(" goes: ") || note.contains("siblings come from"));
    if !removes {
        let after = comments(&new.text);
        for (comment, count) in comments(old) {
            assert!(after.get(comment).is_some_and(|left| *left >= count), "{comment} is gone: {:#?}", new.notes);
        }
    }
    // The lines that both have are in the same order.
    let mut rest = new.text.lines();
    // But for the checkouts: the setup job has one of its own.
    let old_lines = old.lines().filter(|line| !line.contains("uses: actions/checkout") && line.trim() != "with:");
    for line in old_lines.filter(|line| new.text.lines().filter(|other| other == line).count() == 1) {
        if old.lines().filter(|other| *other == line).count() == 1 {
            assert!(rest.any(|other| other == line), "{line} is not where it was");
        }
    }
}

#[test]
fn real_workflows_keep_what_they_had() {
    let Some(corpus) = std::env::var_os("LARDER_WORKFLOWS").map(PathBuf::from) else {
        eprintln!("skipped: LARDER_WORKFLOWS names no folder of workflows");
        return;
    };
    let mut files = Vec::new();
    workflows(&corpus, &mut files);
    assert!(!files.is_empty(), "no workflow in {}", corpus.display());
    let mut changed = 0;
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for wish in [Wish::default(), wish(&["blvm-primitives", "blvm-consensus", "blvm-protocol"], &["self-hosted"])] {
            if patch("ci.yml", &text, &Files::default(), &wish).is_err() {
                continue;
            }
            let new = patched(&text, &wish);
            keeps_what_it_had(&text, &new);
            let (before, after) = (findings(&text, &Files::default()), findings(&new.text, &Files::default()));
            let errors = |all: &[larder_ci::audit::Finding]| {
                all.iter().filter(|one| one.severity == larder_ci::audit::Severity::Error).count()
            };
            assert!(errors(&after) <= errors(&before), "{}: {after:#?}", file.display());
            changed += usize::from(new.text != text);
        }
    }
    assert!(changed >= 10, "only {changed} of {} were changed", files.len());
}

/// Steps as people write them, some odd.
const STEPS: [&str; 10] = [
    "- uses: actions/checkout@v4",
    "- uses: actions/cache@v4\n  with:\n    path: target # t\n    key: k",
    "- {uses: Swatinem/rust-cache@v2}",
    "- run: cargo test # r",
    "- name: x\n  run: |\n    # in a script\n    cargo build\n    echo done",
    "# before\n- run: >\n    cargo\n    test",
    "- run: \"cargo clippy\"",
    "-\n  run: cargo doc",
    "- uses: actions/checkout@v4\n  with:\n    repository: acme/core\n    path: ../core",
    "- run: |\n    mkdir -p /srv/cache\n    rsync -a target/ /srv/cache/target/\n\n# after",
];

proptest! {
    #[test]
    fn any_workflow_still_reads_and_is_patched_once(
        jobs in prop::collection::vec((prop::collection::vec(0..STEPS.len(), 1..7), 0..4_usize, 1..4_usize), 1..4),
        windows: bool,
    ) {
        let mut text = "on: push\njobs:\n".to_owned();
        for (number, (steps, head, deep)) in jobs.iter().enumerate() {
            let pad = " ".repeat(2 * deep);
            text.push_str(&format!("  j{number}: # job\n{pad}  runs-on: self-hosted\n"));
            text.push_str(&["", "{P}needs: []\n", "{P}env: {A: b}\n", "{P}env:\n{P}  A: b\n{P}needs:\n{P}- j0\n"][*head].replace("{P}", &format!("{pad}  ")));
            text.push_str(&format!("{pad}  steps:\n"));
            for step in steps {
                for line in STEPS[*step].lines() {
                    if line.is_empty() { text.push('\n') } else { text.push_str(&format!("{pad}    {line}\n")) }
                }
            }
        }
        let text = if windows { text.replace('\n', "\r\n") } else { text };
        if yaml::parse(&text).is_ok() {
            let new = patched(&text, &wish(&["core"], &[]));
            keeps_what_it_had(&text, &new);
            for line in new.text.lines().filter(|line| windows && !line.is_empty()) {
                prop_assert!(new.text.contains(&format!("{line}\r\n")), "{line:?}");
            }
        }
    }
}
