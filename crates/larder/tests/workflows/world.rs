//! A place of its own for workflows: bare remotes, desks that push to them, a store, a home, and a clean environment.

use crate::act::{Run, Running, find};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// Who owns the repositories.
const OWNER: &str = "acme";

/// What a run is for.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Push,
    /// A pull request from somebody else's copy of the repository.
    Fork,
}

pub(crate) struct World {
    pub(crate) root: PathBuf,
    count: Cell<usize>,
    _temp: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("larder-workflows-").tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        for folder in ["home", "bin", "events"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin!("larder"), root.join("bin/larder")).unwrap();
        Self { root, count: Cell::new(0), _temp: temp }
    }

    /// A world with app, protocol and consensus, and the workflow that `larder init` writes for app. `None`, said, where
    /// there is no `act`.
    pub(crate) fn with_siblings() -> Option<Self> {
        find()?;
        let world = Self::of_siblings();
        world.init("app");
        Some(world)
    }

    /// A world with app, protocol and consensus.
    pub(crate) fn of_siblings() -> Self {
        let world = Self::new();
        world.publish("consensus", &library("consensus", &[], "1"));
        world.publish("protocol", &library("protocol", &["consensus"], "consensus::value() + 10"));
        world.publish("app", &application("app"));
        world
    }

    pub(crate) fn desk(&self, name: &str) -> PathBuf {
        self.root.join("desks").join(name)
    }

    /// A new repository with a remote.
    pub(crate) fn publish(&self, name: &str, files: &[(&str, String)]) {
        let remote = self.root.join("git").join(OWNER).join(format!("{name}.git"));
        let desk = self.desk(name);
        fs::create_dir_all(&remote).unwrap();
        fs::create_dir_all(&desk).unwrap();
        self.git(&remote, &["init", "-q", "--bare", "-b", "main"]);
        self.git(&desk, &["init", "-q", "-b", "main"]);
        self.git(&desk, &["remote", "add", "origin", &format!("file://{}", remote.to_str().unwrap())]);
        self.commit(name, files);
    }

    /// Writes files, commits and pushes them; the commit.
    pub(crate) fn commit(&self, name: &str, files: &[(&str, String)]) -> String {
        let desk = self.desk(name);
        for (path, text) in files {
            let path = desk.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&desk, &["add", "-A"]);
        self.git(&desk, &["commit", "-q", "-m", "Change it"]);
        self.git(&desk, &["push", "-q", "-u", "origin", "HEAD"]);
        self.head(name)
    }

    /// A new checkout of a repository, with nothing beside it.
    pub(crate) fn clone(&self, name: &str) -> PathBuf {
        self.count.set(self.count.get() + 1);
        let place = self.root.join(format!("checkout-{}", self.count.get()));
        fs::create_dir(&place).unwrap();
        let url = format!("file://{}/git/{OWNER}/{name}.git", self.root.to_str().unwrap());
        self.git(&place, &["clone", "-q", &url, name]);
        place.join(name)
    }

    /// The newest commit of a repository.
    pub(crate) fn head(&self, name: &str) -> String {
        self.git(&self.desk(name), &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Lets larder write the workflow, and adds to each job a step that says what the job had.
    pub(crate) fn init(&self, name: &str) {
        let desk = self.desk(name);
        let output = self.larder(name, &["init", "--runner", "self-hosted"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = desk.join(".github/workflows/ci.yml");
        fs::write(&path, with_proof(&fs::read_to_string(&path).unwrap())).unwrap();
        self.commit(name, &[]);
    }

    /// A command that inherits nothing but what cargo needs to work.
    pub(crate) fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(dir).stdin(Stdio::null());
        command.envs(["TMPDIR", "LD_LIBRARY_PATH"].iter().filter_map(|n| std::env::var_os(n).map(|value| (*n, value))));
        let home = std::env::home_dir().unwrap_or_default();
        command.env("RUSTUP_HOME", std::env::var_os("RUSTUP_HOME").unwrap_or_else(|| home.join(".rustup").into()));
        let paths = [self.root.join("bin")].into_iter().chain(std::env::split_paths(&*PATH));
        command.env("PATH", std::env::join_paths(paths).unwrap());
        for (name, folder) in [
            ("HOME", "home"),
            ("CARGO_HOME", "cargo-home"),
            ("XDG_CACHE_HOME", "home/.cache"),
            ("XDG_CONFIG_HOME", "home/.config"),
            ("LARDER_STORE", "store"),
        ] {
            command.env(name, self.root.join(folder));
        }
        // The disk of whoever runs the tests may be full of other things.
        command.env("LARDER_GUARD", "0");
        command.envs([("CARGO_NET_OFFLINE", "true"), ("LC_ALL", "C"), ("GIT_CONFIG_NOSYSTEM", "1")]);
        command.envs([("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_DEBUG", "0")]);
        // Cargo names every command that it starts.
        command.env("CARGO_TERM_VERBOSE", "true");
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "somebody")
                .env(format!("GIT_{who}_EMAIL"), "somebody@example.invalid");
        }
        command
    }

    /// Runs git, which must succeed; what it printed.
    pub(crate) fn git(&self, dir: &Path, words: &[&str]) -> String {
        let output = self.command(Path::new("git"), dir).args(words).output().unwrap();
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn larder(&self, name: &str, words: &[&str]) -> Command {
        let mut command = self.command(&self.root.join("bin/larder"), &self.desk(name));
        command.args(words);
        command
    }

    /// Starts a workflow of a repository; `words` are further options of `act`.
    pub(crate) fn start(&self, name: &str, event: Event, words: &[&str], env: &[(&str, &str)]) -> Running {
        self.count.set(self.count.get() + 1);
        let place = self.root.join(format!("act-{}", self.count.get()));
        let mut command = self.command(&find().unwrap(), &self.desk(name));
        let repository = format!("{OWNER}/{name}");
        command.arg(match event {
            Event::Push => "push",
            Event::Fork => "pull_request",
        });
        command.arg("--eventpath").arg(self.event(name, event));
        command.args([
            "-W",
            ".github/workflows/ci.yml",
            "--json",
            "--no-cache-server",
            "-P",
            "self-hosted=-self-hosted",
        ]);
        command.arg("--action-cache-path").arg(place);
        // act knows no server but GitHub's, and so no name of a repository elsewhere.
        command.args(["--env", &format!("GITHUB_REPOSITORY={repository}")]);
        command.args(words).envs(env.iter().copied());
        // Of its own, so that a test can end all of it.
        command.process_group(0);
        Running::start(&mut command)
    }

    pub(crate) fn run(&self, name: &str, event: Event, words: &[&str]) -> Run {
        self.start(name, event, words, &[]).end()
    }

    /// What GitHub tells of an event, as far as anybody here asks.
    fn event(&self, name: &str, event: Event) -> PathBuf {
        let repository = format!("{OWNER}/{name}");
        let head = self.head(name);
        let branch = self.git(&self.desk(name), &["branch", "--show-current"]).trim().to_owned();
        let (file, value) = match event {
            Event::Push => (
                "push",
                serde_json::json!({
                    "ref": format!("refs/heads/{branch}"),
                    "after": head,
                    "repository": { "full_name": repository, "default_branch": "main" },
                }),
            ),
            Event::Fork => (
                "fork",
                serde_json::json!({
                    "number": 7,
                    "repository": { "full_name": repository, "default_branch": "main" },
                    "pull_request": {
                        "number": 7,
                        "head": {
                            "ref": "main",
                            "sha": head,
                            "repo": { "full_name": format!("mallory/{name}"), "fork": true },
                        },
                        "base": { "ref": "main", "repo": { "full_name": repository, "fork": false } },
                    },
                }),
            ),
        };
        let path = self.root.join("events").join(format!("{name}-{file}.json"));
        fs::write(&path, value.to_string()).unwrap();
        path
    }

    /// Every snapshot of the store: its name, and the job that saved it.
    pub(crate) fn snapshots(&self) -> BTreeMap<String, String> {
        if !self.root.join("store").exists() {
            return BTreeMap::new();
        }
        let output = self.larder("app", &["ls", "--format", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let snapshots = value["snapshots"].as_array().unwrap().iter();
        snapshots.map(|one| (text(one, "snapshot"), text(one, "job"))).collect()
    }

    /// The store is sound.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let output = self.larder("app", &["verify"]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }

    /// The commits that every job must have beside it.
    pub(crate) fn heads(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("{name} {}", self.head(name))).collect()
    }
}

/// A library whose value comes from others; `value` is an expression.
pub(crate) fn library(name: &str, siblings: &[&str], value: &str) -> Vec<(&'static str, String)> {
    vec![("Cargo.toml", manifest(name, siblings)), ("src/lib.rs", source(value)), (".gitignore", "target\n".into())]
}

/// A library's source.
pub(crate) fn source(value: &str) -> String {
    format!(
        "//! A part of the whole.\n\n/// What it comes to.\n#[must_use]\npub fn value() -> u32 {{\n    {value}\n}}\n"
    )
}

/// An application on top of protocol: a library, a program, a test, and a build script that can be made to wait.
pub(crate) fn application(name: &str) -> Vec<(&'static str, String)> {
    let mut packages = [
        format!("[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"protocol\",\n]\n"),
        "[[package]]\nname = \"consensus\"\nversion = \"0.1.0\"\n".into(),
        "[[package]]\nname = \"protocol\"\nversion = \"0.1.0\"\ndependencies = [\n \"consensus\",\n]\n".into(),
    ];
    // As cargo orders them: it would write another order anew, and that is a change.
    packages.sort();
    let lock = format!(
        "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = 4\n\n{}",
        packages.join("\n")
    );
    let mut files = library(name, &["protocol"], "protocol::value() + 100");
    files.extend([
        ("Cargo.lock", lock),
        (
            "src/main.rs",
            format!("//! Says what it comes to.\n\nfn main() {{\n    println!(\"{{}}\", {name}::value());\n}}\n"),
        ),
        ("tests/value.rs", expects(name, "> 100")),
        ("build.rs", SCRIPT.to_owned()),
    ]);
    files
}

/// A test of an application's value.
pub(crate) fn expects(name: &str, what: &str) -> String {
    format!("//! What it comes to.\n\n#[test]\nfn value() {{\n    assert!({name}::value() {what});\n}}\n")
}

/// The variable with the pipe that the application's build script writes its process into, and then waits.
pub(crate) const PIPE: &str = "WAIT_PIPE";

const SCRIPT: &str = "//! Waits where it is told to.\n
fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    if let Ok(pipe) = std::env::var(\"WAIT_PIPE\") {
        std::fs::write(pipe, std::process::id().to_string()).unwrap();
        loop {
            std::thread::park();
        }
    }
}
";

fn manifest(name: &str, siblings: &[&str]) -> String {
    let mut text = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\nlicense = \"MIT\"\npublish = false\n\n[dependencies]\n"
    );
    for sibling in siblings {
        text.push_str(&format!("{sibling} = {{ path = \"../{sibling}\" }}\n"));
    }
    text
}

/// The workflow with one step more at the end of each job, however the job ends: it says which repositories are beside
/// the workspace, at which commits, and which plan the job was given.
fn with_proof(workflow: &str) -> String {
    const STEP: &str = r#"      - name: proof
        if: always()
        run: |
          echo "proof plan ${LARDER_PLAN:-}"
          for git in ../*/.git; do
            if [ "${git%/.git}" -ef . ]; then continue; fi
            if [ -e "$git" ]; then echo "proof commit $(basename "${git%/.git}") $(git -C "${git%/.git}" rev-parse HEAD)"; fi
          done
"#;
    let mut text = String::new();
    let (mut in_steps, mut held) = (false, String::new());
    for line in workflow.lines() {
        let depth = line.len() - line.trim_start().len();
        if line.trim() == "steps:" {
            in_steps = true;
        } else if in_steps && depth < 6 && !line.trim().is_empty() {
            in_steps = false;
            text.push_str(STEP);
        }
        if line.trim().is_empty() {
            held.push_str(line);
            held.push('\n');
            continue;
        }
        text.push_str(&std::mem::take(&mut held));
        text.push_str(line);
        text.push('\n');
    }
    if in_steps {
        text.push_str(STEP);
    }
    text
}

/// The toolchain's own folder comes first: rustup's proxies would cost more than the tiny compilations.
static PATH: LazyLock<std::ffi::OsString> = LazyLock::new(|| {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap().stdout;
    let own = Path::new(String::from_utf8(sysroot).unwrap().trim()).join("bin");
    let own = own.join("cargo").is_file().then_some(own);
    // The job `security` goes without cargo-audit, which would ask a server for what is known today.
    let others = std::env::split_paths(&path).filter(|dir| !dir.join("cargo-audit").exists());
    std::env::join_paths(own.into_iter().chain(others)).unwrap()
});
