//! `larder install-runner`: hooks around every job of a GitHub runner, and a timer that collects.
//!
//! A plan is made of what stands there and shown or followed; what it cannot do for its user (enabling a timer where no
//! systemd runs) it prints as commands. Nothing is written through a symbolic link out of the runner's folder.

use super::is_json;
use crate::cli::{Global, InstallRunnerArgs};
use crate::host;
use crate::report::{self, InstallRunner, InstallStep, SCHEMA_VERSION};
use crate::request::{self, Typed, UsageError};
use crate::settings::{Settings, Source};
use crate::talk::Talk;
use anyhow::{Context, Result};
use larder_ci::hooks::{self, Lines, Timer, When};
use larder_fs::{Dir, Kind, Meta};
use larder_store::Events;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The runner's variables, in its folder.
const ENV: &str = ".env";
/// larder's own folder there.
const FOLDER: &str = "larder";
/// When the hooks last collected, in it.
const STAMP: &str = "collected";
/// Whoever boots with systemd has this.
const BOOTED: &str = "/run/systemd/system";

/// One file, and what becomes of it.
enum Change {
    Write { bytes: Vec<u8>, mode: u32, owner: Option<u32> },
    Remove,
}

struct Step {
    folder: PathBuf,
    name: String,
    change: Change,
}

/// What is to be done, in order.
struct Plan {
    steps: Vec<Step>,
    /// Hooks that were there before and are called by ours.
    chained: Vec<String>,
    /// Run or printed after the steps; before them where a timer is taken out.
    systemctl: Vec<Vec<String>>,
}

/// A runner's installation.
struct Runner {
    dir: PathBuf,
    env: Vec<u8>,
    meta: Meta,
}

pub(super) fn run(global: &Global, args: &InstallRunnerArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let runner = Runner::find(&args.dir)?;
    let settings = request::settings(global, Path::new("/"), &Typed::default())?;
    let mut plan = Plan { steps: Vec::new(), chained: Vec::new(), systemctl: Vec::new() };
    match args.undo {
        true => runner.undo(&mut plan)?,
        false => runner.install(&settings, &mut plan)?,
    }
    if !args.no_timer {
        let units = units_folder(args)?;
        runner.timer(&units, args, &settings, &mut plan, &talk)?;
    }
    let may_enable = args.units.is_none() && larder_fs::exists(Path::new(BOOTED));
    let mut commands = Vec::new();
    if !args.dry_run {
        // A timer is stopped while systemd still knows it.
        if args.undo && may_enable {
            commands = systemctl(&plan.systemctl, &talk);
        }
        plan.steps.iter().try_for_each(Step::apply)?;
        if args.undo {
            runner.remove_folder()?;
        } else if may_enable {
            commands = systemctl(&plan.systemctl, &talk);
        }
    }
    if args.dry_run || !may_enable {
        commands = plan.systemctl.iter().map(|words| words.join(" ")).collect();
    }
    let object = InstallRunner {
        schema_version: SCHEMA_VERSION,
        dry_run: args.dry_run,
        undo: args.undo,
        runner: runner.dir.display().to_string(),
        steps: plan.steps.iter().map(Step::told).collect(),
        chained: plan.chained,
        commands,
    };
    if is_json(global) {
        report::print_json(&object)?;
    } else if !global.quiet {
        report::print(&text(&object))?;
    }
    Ok(0)
}

impl Runner {
    fn find(dir: &Path) -> Result<Self> {
        let no = |what: &str| UsageError(format!("{} is no GitHub runner: {what}", dir.display()));
        let real = larder_fs::canonicalize(dir).map_err(|e| no(&e.source.to_string()))?;
        if real.to_str().is_none_or(|path| path.contains(['\n', '\r'])) {
            return Err(no("its path cannot stand in a line of .env").into());
        }
        let stands = |name: &str| larder_fs::exists(&real.join(name));
        if !stands("run.sh") && !stands("bin/Runner.Listener") {
            return Err(
                no("it has neither run.sh nor bin/Runner.Listener; name the folder that config.sh is in").into()
            );
        }
        let folder = Dir::open(&real)?;
        let meta = match folder.stat_optional(OsStr::new(ENV))? {
            Some(meta) if meta.kind == Kind::File => meta,
            Some(_) => return Err(no(".env is no plain file, and larder writes through no link").into()),
            None => return Err(no("it has no .env: configure it first, by config.sh").into()),
        };
        if let Some(own) = folder.stat_optional(OsStr::new(FOLDER))?
            && own.kind != Kind::Dir
        {
            return Err(no("its larder is no folder, and larder writes through no link").into());
        }
        let env = larder_fs::read(&real.join(ENV))?;
        Ok(Self { dir: real, env, meta })
    }

    fn own(&self, name: &str) -> Result<String> {
        path_text(&self.dir.join(FOLDER).join(name))
    }

    fn step(&self, folder: &Path, name: &str, change: Change) -> Step {
        Step { folder: self.dir.join(folder), name: name.to_owned(), change }
    }

    /// The runner's account, where it is not the one that installs.
    fn owner(&self) -> Option<u32> {
        Some(self.meta.uid).filter(|uid| *uid != larder_fs::process::effective_uid())
    }

    fn set_env(&self, bytes: Vec<u8>, plan: &mut Plan) {
        if bytes != self.env {
            let change = Change::Write { bytes, mode: self.meta.mode, owner: self.owner() };
            plan.steps.push(self.step(Path::new(""), ENV, change));
        }
    }

    fn install(&self, settings: &Settings, plan: &mut Plan) -> Result<()> {
        let larder = path_text(&larder_fs::canonicalize(&std::env::current_exe()?)?)?;
        let before = hooks::without(&self.env);
        let stamp = self.own(STAMP)?;
        for when in [When::Started, When::Completed] {
            let name = format!("{}.sh", when.word());
            let ours = self.own(&name)?;
            let previous = hooks::value(&before, when.variable()).filter(|path| path != ours.as_bytes());
            let previous = previous
                .map(String::from_utf8)
                .transpose()
                .with_context(|| format!("{}: {} is not UTF-8", self.dir.join(ENV).display(), when.variable()))?;
            let bytes = hooks::script(when, &larder, &stamp, previous.as_deref()).into_bytes();
            plan.chained.extend(previous);
            if !self.has(&name, &bytes)? {
                let change = Change::Write { bytes, mode: 0o755, owner: self.owner() };
                plan.steps.push(self.step(Path::new(FOLDER), &name, change));
            }
        }
        let lines = Lines {
            started: self.own("job-started.sh")?,
            completed: self.own("job-completed.sh")?,
            store: named_store(settings)?,
        };
        // Last: only now does a runner that starts meanwhile find the hooks.
        self.set_env(hooks::with(&self.env, &lines), plan);
        Ok(())
    }

    fn has(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.dir.join(FOLDER).join(name);
        let mode = larder_fs::metadata(&path)?.filter(|meta| meta.kind == Kind::File).map(|meta| meta.mode);
        Ok(mode == Some(0o755) && larder_fs::read(&path)? == bytes)
    }

    fn undo(&self, plan: &mut Plan) -> Result<()> {
        self.set_env(hooks::without(&self.env), plan);
        for name in ["job-started.sh", "job-completed.sh", STAMP] {
            let path = self.dir.join(FOLDER).join(name);
            let is_file = larder_fs::metadata(&path)?.is_some_and(|meta| meta.kind == Kind::File);
            let is_ours = || Ok::<_, anyhow::Error>(name == STAMP || is_marked(&larder_fs::read(&path)?));
            if is_file && is_ours()? {
                plan.steps.push(self.step(Path::new(FOLDER), name, Change::Remove));
            }
        }
        Ok(())
    }

    /// Removes larder's folder where nobody keeps anything else in it.
    fn remove_folder(&self) -> Result<()> {
        let dir = Dir::open(&self.dir)?;
        let is_empty = match dir.stat_optional(OsStr::new(FOLDER))? {
            Some(_) => dir.open_beneath(OsStr::new(FOLDER))?.entries()?.is_empty(),
            None => false,
        };
        if is_empty {
            dir.remove_dir(OsStr::new(FOLDER))?;
        }
        Ok(())
    }

    /// The timer, which the runners of a machine share.
    fn timer(
        &self,
        folder: &Path,
        args: &InstallRunnerArgs,
        settings: &Settings,
        plan: &mut Plan,
        talk: &Talk,
    ) -> Result<()> {
        let mut there = Vec::new();
        for name in [hooks::SERVICE, hooks::TIMER] {
            let bytes = larder_fs::read_optional(&folder.join(name))?;
            if bytes.as_ref().is_some_and(|bytes| !is_marked(bytes)) {
                talk.warn(&format!("{} is not larder's and stays as it is", folder.join(name).display()));
                return Ok(());
            }
            there.push(bytes);
        }
        let me = path_text(&self.dir)?;
        let known = there[0].as_ref().map(|bytes| hooks::runners(&String::from_utf8_lossy(bytes))).unwrap_or_default();
        let mut runners: Vec<String> = known.into_iter().filter(|runner| *runner != me).collect();
        if !args.undo {
            runners.push(me.clone());
        }
        let step = |name: &str, change| Step { folder: folder.to_path_buf(), name: name.to_owned(), change };
        let scope: &[&str] = if is_root() { &[] } else { &["--user"] };
        let command =
            |words: &[&str]| ["systemctl"].iter().chain(scope).chain(words).map(|w| (*w).to_owned()).collect();
        if runners.is_empty() {
            let found = [hooks::SERVICE, hooks::TIMER].into_iter().zip(&there).filter(|(_, bytes)| bytes.is_some());
            let mut found = found.peekable();
            if found.peek().is_some() {
                plan.systemctl.push(command(&["disable", "--now", hooks::TIMER]));
            }
            plan.steps.extend(found.map(|(name, _)| step(name, Change::Remove)));
            return Ok(());
        }
        if args.undo {
            // Another runner's: only the line that names this one goes.
            for (name, bytes) in [hooks::SERVICE, hooks::TIMER].into_iter().zip(there) {
                let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
                let line = format!("# runner: {me}\n");
                if text.contains(&line) {
                    let bytes = text.replace(&line, "").into_bytes();
                    plan.steps.push(step(name, Change::Write { bytes, mode: 0o644, owner: None }));
                }
            }
            return Ok(());
        }
        let store = match named_store(settings)? {
            Some(store) => Some(store),
            None => hooks::value(&self.env, hooks::STORE).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        };
        let larder = path_text(&larder_fs::canonicalize(&std::env::current_exe()?)?)?;
        let timer = Timer { larder, store, user: self.owner().filter(|_| is_root()) };
        let mut changed = false;
        for ((name, text), before) in hooks::units(&timer, &runners).into_iter().zip(there) {
            if before.as_deref() != Some(text.as_bytes()) {
                let change = Change::Write { bytes: text.into_bytes(), mode: 0o644, owner: None };
                plan.steps.push(step(name, change));
                changed = true;
            }
        }
        if changed {
            plan.systemctl.push(command(&["daemon-reload"]));
            plan.systemctl.push(command(&["enable", "--now", hooks::TIMER]));
        }
        Ok(())
    }
}

impl Step {
    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn told(&self) -> InstallStep {
        let change = match &self.change {
            Change::Write { .. } => "write",
            Change::Remove => "remove",
        };
        InstallStep { change, path: self.path().display().to_string() }
    }

    /// One rename or one removal: nobody sees half a file.
    fn apply(&self) -> Result<()> {
        let name = OsStr::new(&self.name);
        match &self.change {
            Change::Remove => Ok(Dir::open(&self.folder)?.remove_file(name)?),
            Change::Write { bytes, mode, owner } => {
                larder_fs::create_parents(&self.folder)?;
                let dir = Dir::open(&self.folder)?;
                if let Some(uid) = owner
                    && self.folder.ends_with(FOLDER)
                {
                    dir.set_owner(OsStr::new("."), *uid)?;
                }
                let staged = format!(".{}.larder-new", self.name.trim_start_matches('.'));
                let staged = OsStr::new(&staged);
                dir.remove_all(staged)?;
                let written = || -> larder_fs::Result<()> {
                    larder_fs::write_new(&dir, staged, &[bytes], true)?;
                    if let Some(uid) = owner {
                        dir.set_owner(staged, *uid)?;
                    }
                    dir.set_mode(staged, *mode)?;
                    dir.rename(staged, &dir, name)?;
                    dir.sync()
                };
                written().or_else(|e| dir.remove_all(staged).and(Err(e))).map_err(Into::into)
            }
        }
    }
}

fn is_marked(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).lines().take(2).any(|line| line == hooks::MARK)
}

fn is_root() -> bool {
    larder_fs::process::effective_uid() == 0
}

fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['\n', '\r']));
    let text = text.ok_or_else(|| UsageError(format!("{:?} cannot stand in a line of text", path.as_os_str())))?;
    Ok(text.to_owned())
}

/// The store that somebody named for this command; files of the host name it to the hooks as well.
fn named_store(settings: &Settings) -> Result<Option<String>> {
    match settings.store.source {
        Source::CommandLine | Source::Environment(_) => {
            Ok(Some(path_text(&larder_fs::resolve_fully(&settings.store.value)?)?))
        }
        Source::File(_) | Source::Default => Ok(None),
    }
}

/// Where systemd looks for units of this account.
fn units_folder(args: &InstallRunnerArgs) -> Result<PathBuf> {
    if let Some(folder) = &args.units {
        return Ok(larder_fs::resolve_fully(folder)?);
    }
    if is_root() {
        return Ok("/etc/systemd/system".into());
    }
    let of = |name| host::env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = of("XDG_CONFIG_HOME").or_else(|| of("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| UsageError("HOME is not set: name the folder of the units by --units".into()))?;
    Ok(config.join("systemd/user"))
}

/// Runs the commands; those that did not work, for a person.
fn systemctl(commands: &[Vec<String>], talk: &Talk) -> Vec<String> {
    let mut left = Vec::new();
    for words in commands {
        let done = Command::new(&words[0]).args(&words[1..]).output();
        let why = match done {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        talk.warn(&format!("`{}` failed: {}", words.join(" "), report::one_line(&why)));
        left.push(words.join(" "));
    }
    left
}

fn text(object: &InstallRunner) -> String {
    let would = if object.dry_run { "would " } else { "" };
    let mut text = String::new();
    for step in &object.steps {
        let done = match (object.dry_run, step.change) {
            (true, change) => change,
            (false, "write") => "wrote",
            (false, _) => "removed",
        };
        text += &format!("{would}{done} {}\n", report::one_line(&step.path));
    }
    if object.steps.is_empty() {
        text += "nothing to do\n";
    }
    for hook in &object.chained {
        text += &format!("{} is still called, by larder's hook\n", report::one_line(hook));
    }
    if !object.commands.is_empty() {
        text += "to do by hand, where systemd runs:\n";
        object.commands.iter().for_each(|command| text += &format!("  {command}\n"));
    }
    if !object.steps.is_empty() && !object.dry_run {
        text += "restart the runner: it reads .env when it starts\n";
    }
    text
}
