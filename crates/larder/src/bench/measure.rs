//! Whole processes and how long they take, in an order that is fair, and what to make of the times.
//!
//! Children are ended, by their own handles, when this process is told to end; what is running then fails, and every
//! caller cleans up as for any other error.

use anyhow::{Context, bail};
use larder_fs::scratch;
use shared_child::SharedChild;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One program with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    program: OsString,
    args: Vec<OsString>,
}

impl Stage {
    pub(super) fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), args: Vec::new() }
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(super) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(OsString::from));
        self
    }

    fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A pipeline: each stage reads what the one before it writes.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) stages: Vec<Stage>,
    /// Where the last stage's output goes; otherwise it is kept and returned.
    pub(super) output: Option<PathBuf>,
}

impl Job {
    pub(super) fn of(stage: Stage) -> Self {
        Self { stages: vec![stage], output: None }
    }
}

/// Whether jobs run at once or one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    AtOnce,
    InTurn,
}

/// Jobs that succeeded.
#[derive(Debug)]
pub(super) struct Finished {
    /// From before the first process started to after the last one ended.
    pub(super) wall: Duration,
    /// What each job printed, unless it went into a file.
    pub(super) outputs: Vec<Vec<u8>>,
}

impl Finished {
    /// What the first job printed.
    pub(super) fn stdout(&self) -> &[u8] {
        self.outputs.first().map_or(&[], Vec::as_slice)
    }
}

#[derive(Debug, Default)]
struct Shared {
    told_to_end: AtomicBool,
    running: Mutex<Vec<Arc<SharedChild>>>,
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Vec<Arc<SharedChild>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_children(&self) {
        for child in self.running().iter() {
            // It may have ended by itself in this moment.
            let _ = child.kill();
        }
    }
}

/// Starts processes, times them, and ends them when this process is told to end.
#[derive(Debug)]
pub(super) struct Runner {
    shared: Arc<Shared>,
    signals: Handle,
    listener: Option<JoinHandle<()>>,
    /// Where the children run and what they print is kept.
    dir: PathBuf,
    started: Cell<u64>,
}

struct Prepared {
    commands: Vec<Command>,
    shown: Vec<String>,
    stdout: Option<PathBuf>,
    stderr: Vec<PathBuf>,
}

impl Runner {
    /// Listens for signals from now on, so that what is made after this is cleaned up.
    pub(super) fn new() -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
        let handle = signals.handle();
        let listener = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for _ in signals.forever() {
                    shared.told_to_end.store(true, Ordering::SeqCst);
                    shared.end_children();
                }
            }
        });
        Ok(Self { shared, signals: handle, listener: Some(listener), dir: PathBuf::new(), started: Cell::new(0) })
    }

    /// Runs the children in `dir`, which exists and is nobody's project, and keeps there what they print.
    pub(super) fn run_in(&mut self, dir: PathBuf) {
        self.dir = dir;
    }

    /// Fails if this process was told to end.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.shared.told_to_end.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Runs one job.
    pub(super) fn run(&self, job: &Job) -> anyhow::Result<Finished> {
        self.time(std::slice::from_ref(job), Order::InTurn)
    }

    /// Runs the jobs and measures the time from the first start to the last end.
    pub(super) fn time(&self, jobs: &[Job], order: Order) -> anyhow::Result<Finished> {
        let mut prepared = jobs.iter().map(|j| self.prepare(j)).collect::<anyhow::Result<Vec<_>>>()?;
        let width = if order == Order::AtOnce { prepared.len() } else { 1 };
        let begin = Instant::now();
        for batch in prepared.chunks_mut(width.max(1)) {
            let waited = self.start(batch).and_then(|()| self.wait());
            if waited.is_err() {
                self.shared.end_children();
                // The first error is the one to tell.
                let _ = self.wait();
            }
            let failed = waited?;
            self.check()?;
            if let Some((index, status)) = failed {
                let stage = batch.iter().flat_map(|p| p.shown.iter().zip(&p.stderr)).nth(index);
                let (shown, stderr) = stage.context("a child process that nobody started failed")?;
                let said = String::from_utf8_lossy(&larder_fs::read(stderr)?).trim().to_owned();
                bail!("`{shown}` failed with {status}: {said}");
            }
        }
        let wall = begin.elapsed();
        let read = |p: &Prepared| p.stdout.as_deref().map_or(Ok(Vec::new()), larder_fs::read);
        let outputs = prepared.iter().map(read).collect::<larder_fs::Result<_>>()?;
        Ok(Finished { wall, outputs })
    }

    /// Everything about a job that need not be timed.
    fn prepare(&self, job: &Job) -> anyhow::Result<Prepared> {
        let number = self.started.get();
        self.started.set(number + 1);
        let kept = job.output.is_none().then(|| self.dir.join(format!("{number}.out")));
        let mut this = Prepared { commands: Vec::new(), shown: Vec::new(), stdout: kept, stderr: Vec::new() };
        for (i, stage) in job.stages.iter().enumerate() {
            let stderr = self.dir.join(format!("{number}-{i}.err"));
            let mut command = Command::new(&stage.program);
            command.args(&stage.args).current_dir(&self.dir).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(scratch::new_file(&stderr)?);
            // What is measured is larder as it comes, not as the user's shell has it set.
            let set = std::env::vars_os().map(|(name, _)| name);
            for name in set.filter(|n| n.as_encoded_bytes().starts_with(b"LARDER_")) {
                command.env_remove(name);
            }
            // On a full disk it would evict what is measured next.
            command.env("LARDER_GUARD", "0");
            this.commands.push(command);
            this.shown.push(stage.shown());
            this.stderr.push(stderr);
        }
        if let (Some(last), Some(file)) = (this.commands.last_mut(), job.output.as_ref().or(this.stdout.as_ref())) {
            last.stdout(scratch::new_file(file)?);
        }
        Ok(this)
    }

    fn start(&self, batch: &mut [Prepared]) -> anyhow::Result<()> {
        for prepared in batch {
            let mut input: Option<Stdio> = None;
            for (mut command, shown) in prepared.commands.drain(..).zip(&prepared.shown) {
                if let Some(input) = input.take() {
                    command.stdin(input);
                }
                // Under the lock, so that a signal finds either no child or one that it can end.
                let mut running = self.shared.running();
                self.check()?;
                let child = SharedChild::spawn(&mut command).with_context(|| format!("cannot start `{shown}`"))?;
                input = child.take_stdout().map(Stdio::from);
                running.push(Arc::new(child));
            }
        }
        Ok(())
    }

    /// Waits for all children and tells which one failed, by its place.
    fn wait(&self) -> anyhow::Result<Option<(usize, ExitStatus)>> {
        let children = self.shared.running().clone();
        let mut failed: Option<(usize, ExitStatus)> = None;
        for (i, child) in children.iter().enumerate() {
            let status = child.wait().context("cannot wait for a child process")?;
            // A stage that died of a closed pipe is the victim of the one that says why.
            let explains = status.code().is_some() && failed.is_some_and(|(_, s)| s.code().is_none());
            if !status.success() && (failed.is_none() || explains) {
                failed = Some((i, status));
            }
        }
        self.shared.running().clear();
        Ok(failed)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(listener) = self.listener.take() {
            // It does nothing that could panic.
            let _ = listener.join();
        }
    }
}

/// The order of `n` contestants in a round: everybody is first once in `n` rounds.
pub(super) fn turn(n: usize, round: u32) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| (i + round as usize) % n)
}

/// Several times as a reader wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) median: Duration,
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Stats {
    /// `None` without any times.
    pub(super) fn of(times: &[Duration]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort();
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2 };
        Some(Self { median, min, max })
    }
}

/// How many times faster `own` is than `reference`; `None` if `own` took no time that the clock could see.
pub(super) fn ratio(reference: Duration, own: Duration) -> Option<f64> {
    (!own.is_zero()).then(|| reference.as_secs_f64() / own.as_secs_f64())
}

#[cfg(test)]
mod tests;
