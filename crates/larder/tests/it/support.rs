//! What every test of the binary needs: a place of its own, a clean environment, and what larder said.

pub(crate) mod http;
pub(crate) mod project;
pub(crate) mod registry;
pub(crate) mod remotes;
pub(crate) mod tree;
pub(crate) mod volume;

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No step of a test takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory with a store, a home and whatever the test puts there.
pub(crate) struct Sandbox {
    pub(crate) root: PathBuf,
    pub(crate) store: PathBuf,
    program: PathBuf,
    _temp: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// A sandbox on the file system of `dir`.
    pub(crate) fn within(dir: &Path) -> Self {
        let temp = tempfile::Builder::new().prefix("larder-test-").tempdir_in(dir).unwrap();
        let root = temp.path().canonicalize().unwrap();
        fs::create_dir(root.join("home")).unwrap();
        let program = assert_cmd::cargo::cargo_bin!("larder").to_path_buf();
        Self { store: root.join("store"), root, program, _temp: temp }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A command in the sandbox that inherits nothing but what cargo needs to work.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.root).stdin(Stdio::null());
        let kept = ["PATH", "TMPDIR", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"];
        command.envs(kept.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value))));
        let home = std::env::home_dir().unwrap_or_default();
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            command.env(name, std::env::var_os(name).unwrap_or_else(|| home.join(folder).into()));
        }
        command.env("HOME", self.path("home"));
        command.envs([("CARGO_NET_OFFLINE", "true"), ("CARGO_TERM_COLOR", "never"), ("LC_ALL", "C")]);
        // However full the machine's disk is.
        command.env("LARDER_GUARD", "0");
        command
    }

    /// larder, with the sandbox's store.
    pub(crate) fn larder<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(&self.program);
        command.env("LARDER_STORE", &self.store).env("COLUMNS", "100").args(arguments);
        command
    }

    /// Runs larder to its end.
    pub(crate) fn said<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        said(&mut self.larder(arguments))
    }

    /// Runs larder, which must succeed, and reads its object.
    pub(crate) fn json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        said(self.larder(arguments).args(["--format", "json"])).ok().json()
    }

    /// `save` or `restore` of one directory under a key, wherever it was saved from.
    pub(crate) fn transfer(&self, verb: &str, path: &Path, key: &str, more: &[&str]) -> Value {
        self.json(args([verb, "--key-only", "--key", key, "--path"]).with(path).and(more))
    }

    /// A copy of the binary inside the sandbox, for users who may not look into the build directory.
    pub(crate) fn own_program(&mut self) {
        let own = self.path("larder");
        // Not by this process: a child of another test could hold it open for writing while it is run.
        tool("cp", &[&self.program, &own]);
        self.program = own;
    }

    /// What differs between runs, and what stands for it in snapshots, until the guard goes.
    pub(crate) fn filtered(&self) -> insta::internals::SettingsBindDropGuard {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(&self.root.to_str().unwrap().replace('.', r"\."), "[ROOT]");
        settings.add_filter(r"\b[0-9a-f]{12}-?[0-9a-f]{8,}\b", "[ID]");
        settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:]+Z", "[TIME]");
        settings.add_filter(r"in \d+ ms", "in [N] ms");
        settings.add_filter(r"(quarantine/\S+)\.[0-9a-f]{8}\b", "$1.[RANDOM]");
        settings.add_filter(r"(?m)[ \t]+$", "");
        // Columns are as wide as the sandbox's path is long.
        settings.add_filter(r"(\[ROOT\]\S*) +", "$1 ");
        settings.bind_to_scope()
    }
}

/// Checks what was said against an inline snapshot.
macro_rules! snapshot {
    ($sandbox:expr, $said:expr, @$expected:literal) => {
        let said = $said.to_string();
        let _filtered = $sandbox.filtered();
        insta::assert_snapshot!(said, @$expected);
    };
}
pub(crate) use snapshot;

/// Arguments of any kind, one after the other.
#[derive(Clone)]
pub(crate) struct Args(Vec<OsString>);

pub(crate) fn args<A: Into<OsString>, const N: usize>(words: [A; N]) -> Args {
    Args(words.into_iter().map(Into::into).collect())
}

impl Args {
    pub(crate) fn with(mut self, word: impl AsRef<OsStr>) -> Self {
        self.0.push(word.as_ref().to_os_string());
        self
    }

    pub(crate) fn and<A: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        self.0.extend(words.into_iter().map(|word| word.as_ref().to_os_string()));
        self
    }
}

impl IntoIterator for Args {
    type Item = OsString;
    type IntoIter = std::vec::IntoIter<OsString>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => writeln!(f, "exit code {code}")?,
            (None, signal) => writeln!(f, "signal {}", signal.unwrap_or_default())?,
        }
        for (name, text) in [("stdout", &self.out), ("stderr", &self.err)] {
            if !text.is_empty() {
                write!(f, "--- {name}\n{text}")?;
            }
        }
        Ok(())
    }
}

impl Said {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.ends(0)
    }

    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// The one object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// The object on the last line of stdout, after what a command wrote.
    #[track_caller]
    pub(crate) fn last_json(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// The lines on stderr that say what happened.
    pub(crate) fn summaries(&self) -> Vec<&str> {
        let words = ["hit ", "partial ", "miss", "skipped"];
        let is_summary = |line: &&str| {
            line.strip_prefix("larder: ").is_some_and(|line| words.iter().any(|word| line.starts_with(word)))
        };
        self.err.lines().filter(is_summary).collect()
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.err.lines().filter(|line| line.starts_with("larder: warning: ")).collect()
    }
}

/// Runs a command to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}")).into()
}

/// Runs a tool that must succeed; what it printed.
#[track_caller]
pub(crate) fn tool(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> String {
    let mut command = Command::new(program);
    command.args(arguments.iter().map(|a| (*a).as_ref())).stdin(Stdio::null());
    let done = said(&mut command);
    assert_eq!(done.code, Some(0), "{command:?}: {done}");
    done.out
}

/// Waits until something is so, and fails when it never is.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a child that must end by itself.
#[track_caller]
pub(crate) fn wait_for(mut child: Child) -> Said {
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the child never ended");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap().into()
}

/// Says that a test is skipped, or fails where nothing may be.
pub(crate) fn skip(why: &str) {
    let required = std::env::var("LARDER_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "LARDER_REQUIRE_ALL=1, and {why}");
    // Not by the macro, whose output the test harness hides when a test passes.
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}

pub(crate) fn is_root() -> bool {
    tool("id", &[&"-u"]).trim() == "0"
}

/// Whether a program can be found.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// Files by mode, as an object of larder tells.
pub(crate) fn modes(object: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(object["link_modes"].clone()).unwrap()
}
