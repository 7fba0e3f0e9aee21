//! Workflows as teams had them before larder, with all their faults.

use crate::support::{Files, findings, rules};
use larder_ci::audit::Severity;

/// A cache of rsync scripts with every fault that such scripts had.
const RSYNC: &str = r#"
name: CI
on:
  push:
  pull_request:
env:
  CACHE_ROOT: /srv/ci-cache
jobs:
  setup:
    runs-on: [self-hosted, Linux]
    steps:
      - uses: actions/checkout@v4
      - name: Guard
        run: |
          use=$(df / | awk 'NR==2 {print $5}' | tr -d %)
          if [ "$use" -gt 80 ]; then
            find "$CACHE_ROOT" -maxdepth 2 -type d -mtime +7 -exec rm -rf {} \; 2>/dev/null || true
          fi
      - name: Key
        run: |
          KEY=$(sha256sum Cargo.toml | cut -d' ' -f1)
          echo "CACHE_KEY=$KEY" >> $GITHUB_ENV
  test:
    needs: setup
    runs-on: [self-hosted, Linux]
    env:
      CARGO_HOME: ${{ github.workspace }}/.cargo-home
    steps:
      - uses: actions/checkout@v4
      - name: Restore
        run: |
          mkdir -p ~/.cargo/registry target
          rsync -a --delete "$CACHE_ROOT/cargo/$CACHE_KEY/registry/" ~/.cargo/registry/ || true
          rsync -a --delete "$CACHE_ROOT/target/$CACHE_KEY/" target/ || true
      - run: cargo test
      - name: Save
        if: always()
        run: |
          rsync -a --delete target/ "/tmp/ci-cache/target/$CACHE_KEY/" || true
  prune:
    needs: test
    runs-on: [self-hosted, Linux]
    steps:
      - run: |
          for kind in cargo target; do
            find "$CACHE_ROOT/$kind" -maxdepth 1 -type d | head -n -5 | while read -r old; do
              rm -rf "$old"
            done
          done
"#;

#[test]
fn every_fault_of_the_rsync_scripts_is_found() {
    let found = findings(RSYNC, &Files::default());
    let has = |rule: &str, line: u32, word: &str| {
        assert!(
            found.iter().any(|f| f.rule == rule && f.at.line == line && f.message.contains(word)),
            "{rule} in line {line} with {word:?}: {found:#?}"
        );
    };
    let line = |text: &str| 1 + u32::try_from(RSYNC.lines().position(|line| line.contains(text)).unwrap()).unwrap();
    // Prune lists its own root, and keeps the last in directory order.
    has("cleanup-matches-root", line("head -n -5"), "$CACHE_ROOT/$kind");
    has("keeps-by-name-order", line("head -n -5"), "find");
    // The guard checks / only, and matches its own root.
    has("guard-wrong-filesystem", line("df /"), "/");
    has("cleanup-matches-root", line("-mtime +7"), "$CACHE_ROOT");
    // The save lacks mkdir -p, and its error is hidden.
    let save = line("rsync -a --delete target/");
    has("save-without-mkdir", save, "/tmp/ci-cache/target");
    has("swallowed-error", save, "save");
    has("swallowed-error", line("rsync -a --delete \"$CACHE_ROOT/target"), "restore");
    // What is saved is not where restore looks.
    has("roots-differ", save, "/tmp/ci-cache");
    // CARGO_HOME is elsewhere.
    has("cargo-home-mismatch", line("~/.cargo/registry/ ||"), ".cargo-home");
    // The key is exported in another job.
    has("variable-never-set", line("~/.cargo/registry/ ||"), "CACHE_KEY");
    // It hashes Cargo.toml only.
    has("key-without-lockfile", line("sha256sum"), "Cargo.toml");
    // No locks, --delete under readers.
    has("copy-without-lock", save, "--delete");
    // And pull requests write what the main branch reads.
    has("save-on-pull-request", save, "pull requests");
    assert!(
        found
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .all(|f| f.cost.is_some() || f.rule == "save-on-pull-request")
    );
}

/// Five jobs that each fetch the same dependencies, with keys of their own, for one repository alone.
fn five_jobs() -> String {
    let mut text = "on: push\njobs:\n".to_owned();
    for (job, command) in [
        ("test", "test"),
        ("clippy", "clippy"),
        ("docs", "doc"),
        ("bench", "bench --no-run"),
        ("build", "build --release"),
    ] {
        text.push_str(&format!(
            r#"  {job}:
    runs-on: [self-hosted, linux]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/checkout@v4
        with:
          repository: acme/primitives
          path: primitives
      - run: git clone --depth 1 https://github.com/acme/spec.git spec
      - run: |
          CACHE="/var/cache/ci/${{{{ github.repository }}}}"
          KEY="{job}-$(sha256sum Cargo.toml | cut -c1-16)"
          mkdir -p "$CACHE/target/{job}-$KEY"
          flock "$CACHE/lock" rsync -a "$CACHE/target/{job}-$KEY/" target/
      - run: cargo install cargo-nextest --locked
      - run: cargo build
        working-directory: primitives
      - run: cargo {command}
      - run: flock "$CACHE/lock" rsync -a target/ "$CACHE/target/{job}-$KEY/"
"#
        ));
    }
    text
}

#[test]
fn five_isolated_jobs_have_all_their_faults() {
    let text = five_jobs();
    let found = rules(&text);
    for rule in [
        "repeated-checkout",
        "no-shared-setup",
        "key-per-job",
        "key-without-lockfile",
        "cache-per-repository",
        "sibling-target-not-cached",
        "tool-built-every-run",
        "target-without-pruning",
    ] {
        assert!(found.contains(rule), "{rule}: {found:?}");
    }
    let all = findings(&text, &Files::default());
    let checkouts: Vec<_> = all.iter().filter(|finding| finding.rule == "repeated-checkout").collect();
    assert_eq!(checkouts.len(), 2, "{checkouts:#?}");
    assert!(checkouts.iter().all(|finding| finding.message.contains("in 5 jobs")), "{checkouts:#?}");
    assert_eq!(checkouts[0].cost.as_ref().unwrap().seconds, 32);
}

#[test]
fn composite_actions_are_a_part_of_the_jobs_that_use_them() {
    let action = "runs:\n  using: composite\n  steps:\n    - uses: actions/checkout@v4\n      with: {repository: acme/core, path: core}\n    \
                  - uses: Swatinem/rust-cache@main\n    - uses: ./.github/actions/setup\n";
    let files = Files::default().with(".github/actions/setup/action.yml", action);
    let job = |name: &str| {
        format!(
            "  {name}:\n    runs-on: self-hosted\n    steps:\n      - uses: ./.github/actions/setup\n      - run: cargo test\n"
        )
    };
    let found = findings(&format!("on: push\njobs:\n{}{}", job("a"), job("b")), &files);
    let places: Vec<_> = found.iter().map(|f| (f.rule, f.file.as_str(), f.at.line)).collect();
    let action = ".github/actions/setup/action.yml";
    assert!(places.contains(&("repeated-checkout", "ci.yml", 6)), "{places:?}");
    assert!(places.contains(&("unpinned-cache-action", action, 6)), "{places:?}");
    assert!(places.contains(&("hosted-cache-on-self-hosted", action, 6)), "{places:?}");
    // Each once, however often it is used; and its own comments count.
    assert_eq!(places.iter().filter(|(rule, ..)| *rule == "hosted-cache-on-self-hosted").count(), 1);
    let allowed = files.0[action]
        .replace("@main", "@main # larder: allow(unpinned-cache-action, hosted-cache-on-self-hosted) ours");
    let found = findings(&format!("on: push\njobs:\n{}", job("a")), &Files::default().with(action, &allowed));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_repository_tells_whether_there_is_a_lock_file() {
    let text = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - uses: \
                Swatinem/rust-cache@6323deb102c322ba6fcbdcafc7e3dddab59af2b6\n      - run: cargo test\n";
    let has = |files: &Files| findings(text, files).iter().any(|finding| finding.rule == "lockfile-not-committed");
    let package = || Files::default().with("Cargo.toml", "");
    assert!(!has(&Files::default()));
    assert!(has(&package()));
    assert!(!has(&package().with("Cargo.lock", "")));
    assert!(has(&package().with("Cargo.lock", "").with(".gitignore", "target\n/Cargo.lock\n")));
}

#[test]
fn what_cannot_be_known_is_not_reported() {
    for text in [
        // An action of somebody else may set the variable.
        "on: push\njobs:\n  a: {runs-on: x, steps: [{run: 'echo A=1 >> $GITHUB_ENV'}]}\n  b: {runs-on: x, steps: [{uses: o/env@v1}, {run: 'echo $A'}]}\n",
        // The key comes from it.
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - {id: k, uses: o/key@v1}\n      - uses: actions/cache@v4\n        with: \
         {path: target, key: '${{ steps.k.outputs.key }}'}\n      - run: cargo test\n",
        // A release's own checkout of itself, and a job that builds by a script of its own.
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n        with: {repository: '${{ github.repository \
         }}'}\n      - uses: Swatinem/rust-cache@6323deb102c322ba6fcbdcafc7e3dddab59af2b6\n      - run: ./build.sh\n",
        // Shown, not decided by.
        "on: push\njobs:\n  a: {runs-on: self-hosted, steps: [{run: df -h /}, {run: 'find /srv/cache -name x -delete'}]}\n",
    ] {
        assert!(rules(text).is_empty(), "{text}\n{:#?}", findings(text, &Files::default()));
    }
}
