//! `larder setup`: decide once what a run builds, and hand it on to all its jobs.

use super::{guard, is_json, millis};
use crate::cargo::cargo_home;
use crate::cli::{Global, SetupArgs};
use crate::compiler::Compiler;
use crate::origin::Origin;
use crate::report::{self, SCHEMA_VERSION};
use crate::request::{self, Typed, UsageError};
use crate::settings::Settings;
use crate::siblings::{self, Asked, Found, short};
use crate::talk::Talk;
use crate::{faults, host};
use anyhow::{Context, Result, bail};
use larder_cargo::config::Config;
use larder_cargo::key;
use larder_ci::outputs::{Outputs, word};
use larder_ci::plan::{Plan, Sibling, Workspace};
use larder_fs::Dir;
use larder_store::Events;
use serde::Serialize;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

/// So long is looked for what fills a disk: a run waits.
const LOOK: Duration = Duration::from_secs(2);

/// One sibling of `setup`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SetupSibling {
    /// The name of its folder.
    name: String,
    /// Where it stands, relative to the repository's root.
    path: String,
    /// Where it comes from, without credentials.
    url: String,
    /// The branch or tag that was taken; `null` where a commit was asked for.
    branch: Option<String>,
    /// Why that one: `asked for`, `same name`, `name of the base`, `configured` or `the remote's default`.
    reason: &'static str,
    /// The commit that every job builds.
    commit: String,
    /// Its key: the compiler and the commit.
    key: String,
    /// Who said so: `remote`, or `mirror` where the remote was not or could not be asked.
    source: &'static str,
    /// Whether anything was fetched.
    fetched: bool,
    /// How long it took, in milliseconds; siblings are worked on at the same time.
    duration_ms: u64,
}

/// The object of `setup`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Setup {
    /// Version of this object.
    schema_version: u32,
    /// What the other jobs are given: `--plan`, or `LARDER_PLAN`.
    plan: String,
    /// A key of all that a build depends on, from coarse to fine: each beginning that ends with `-` is a prefix to fall
    /// back to.
    cache_key: String,
    /// The repository, as owner and name where that is known.
    repository: Option<String>,
    /// The commit that is checked out.
    commit: Option<String>,
    /// Its branch.
    branch: Option<String>,
    /// By name.
    siblings: Vec<SetupSibling>,
    /// Whether the disks have room; `null` where nobody looked.
    room: Option<bool>,
    /// How long it took, in milliseconds.
    duration_ms: u64,
}

pub(super) fn run(global: &Global, args: &SetupArgs) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let dir = request::work_dir(args.workspace.as_deref())?;
    let typed = Typed { exact: args.exact, ..Typed::default() };
    let settings = request::settings(global, &dir, &typed)?;
    let room = look_for_room(&settings, &dir, args, &talk)?;
    let config = Config::load(&dir, &[], &host::env, &host::read);
    let workspace = larder_cargo::workspace::find(&dir, &[], &host::env, &config, &host::read)?
        .ok_or_else(|| UsageError(format!("{} is in no cargo project: name one with --workspace", dir.display())))?;
    let asked =
        Asked { siblings: &args.sibling, branch: args.branch.as_deref(), offline: args.offline, exact: args.exact };
    let found = siblings::setup(&workspace.root, &config, &asked, &settings, &talk)?;
    let origin = Origin::find(&dir, &host::env, &host::read);
    let keys = Keys::make(&dir, &workspace.lock, &config, &settings, &found, &origin, &talk);
    let plan = Plan {
        workspace: Workspace {
            repository: origin.repository.clone(),
            commit: origin.commit.as_ref().map(|commit| commit.to_ascii_lowercase()),
            branch: origin.branch.clone().filter(|branch| larder_ci::reference::is_branch(branch)),
        },
        siblings: found.iter().map(|found| planned(found, &keys)).collect(),
        parts: keys.parts.clone(),
        key: keys.whole.clone(),
    };
    let word = plan.encode().context("the plan cannot be written")?;
    let object = Setup {
        schema_version: SCHEMA_VERSION,
        cache_key: keys.whole.clone(),
        repository: plan.workspace.repository.clone(),
        commit: plan.workspace.commit.clone(),
        branch: plan.workspace.branch.clone(),
        siblings: found.iter().map(|found| entry(found, &keys)).collect(),
        room,
        duration_ms: millis(start),
        plan: word,
    };
    let outputs = object.outputs();
    hand_on(&object, &outputs, args.output.as_deref())?;
    talk.finish();
    for sibling in &object.siblings {
        talk.say(&sibling.line());
    }
    if is_json(global) {
        report::print_json(&object)?;
    } else if !global.quiet {
        let lines: String = outputs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        report::print(&lines)?;
    }
    Ok(0)
}

/// Whether there is room for the run; an error only where somebody said how much is needed.
fn look_for_room(settings: &Settings, dir: &Path, args: &SetupArgs, talk: &Talk) -> Result<Option<bool>> {
    if !settings.guard.value && args.need.is_none() {
        return Ok(None);
    }
    match guard::check(settings, &[dir.to_path_buf()], args.need, false, LOOK, talk) {
        Ok(guard) if guard.room() => Ok(Some(true)),
        Ok(guard) => {
            let full = guard.text();
            let full = full.trim_end().lines().collect::<Vec<_>>().join("; ");
            if args.need.is_some() {
                bail!("there is no room: {full}");
            }
            talk.warn(&format!("there is little room: {full}"));
            Ok(Some(false))
        }
        Err(error) if args.need.is_some() || faults::is_usage(&error) => Err(error),
        Err(error) => {
            talk.warn(&format!("nobody knows whether there is room: {error:#}"));
            Ok(None)
        }
    }
}

/// All keys of a run, made once.
struct Keys {
    whole: String,
    compiler: String,
    /// What they are made of, in short.
    parts: Vec<(String, String)>,
}

impl Keys {
    fn make(
        dir: &Path,
        lock: &Path,
        config: &Config,
        settings: &Settings,
        found: &[Found],
        origin: &Origin,
        talk: &Talk,
    ) -> Self {
        let store = Some(settings.store.value.as_path());
        let rustc = match Compiler::ask(dir, &[], config, store) {
            Ok(compiler) => compiler.rustc.text,
            Err(error) => {
                talk.warn(&format!("the keys are made without the compiler: {error:#}"));
                "none".to_owned()
            }
        };
        let rustflags = key::rustflags(&host::env, config);
        let configured = key::configuration(config, cargo_home(dir).as_deref());
        let lock = host::read(lock).map_or("none".to_owned(), |bytes| key::digest(&[("lock", &bytes)]));
        let compiler = key::digest(&[
            ("rustc", rustc.as_bytes()),
            ("rustflags", rustflags.as_bytes()),
            ("config", configured.as_bytes()),
        ]);
        let commits = found.iter().map(|found| (found.name.as_str(), found.resolved.commit.as_bytes()));
        let own = ("", origin.commit.as_deref().unwrap_or("none").as_bytes());
        let commits = key::digest(&commits.chain([own]).collect::<Vec<_>>());
        let name = origin.repository.as_deref().and_then(|name| name.rsplit('/').next()).unwrap_or("workspace");
        let whole = format!("{}-{compiler}-{lock}-{commits}", short_word(name));
        let first = rustc.lines().next().unwrap_or_default().to_owned();
        let of =
            |name: &str, value: &str| (name.to_owned(), value.chars().filter(|c| !c.is_control()).collect::<String>());
        let mut parts = vec![
            of("rustc", &first),
            of("compiler", &compiler),
            of("config", &key::digest(&[("config", configured.as_bytes()), ("rustflags", rustflags.as_bytes())])),
            of("lock", &lock),
            of("commits", &commits),
        ];
        parts.iter_mut().for_each(|(_, value)| value.truncate(value.floor_char_boundary(200)));
        for (name, value) in &parts {
            tracing::info!("key part {name}: {value}");
        }
        tracing::info!("cache-key {whole}");
        Self { whole, compiler, parts }
    }

    fn of(&self, found: &Found) -> String {
        format!("{}-{}-{}", short_word(&found.name), self.compiler, short(&found.resolved.commit))
    }
}

/// A name as a part of a key.
fn short_word(name: &str) -> String {
    word(name).chars().take(64).collect()
}

fn planned(found: &Found, keys: &Keys) -> Sibling {
    Sibling {
        path: format!("../{}", found.name),
        url: found.address.to_string(),
        commit: found.resolved.commit.clone(),
        branch: found.resolved.branch.clone(),
        key: keys.of(found),
    }
}

fn entry(found: &Found, keys: &Keys) -> SetupSibling {
    SetupSibling {
        name: found.name.clone(),
        path: format!("../{}", found.name),
        url: found.address.to_string(),
        branch: found.resolved.branch.clone(),
        reason: found.resolved.reason.name(),
        commit: found.resolved.commit.clone(),
        key: keys.of(found),
        source: found.resolved.source.name(),
        fetched: found.resolved.fetched,
        duration_ms: u64::try_from(found.took.as_millis()).unwrap_or(u64::MAX),
    }
}

impl SetupSibling {
    fn line(&self) -> String {
        let branch = self.branch.as_deref().unwrap_or("commit");
        let fetched = if self.fetched { ", fetched" } else { "" };
        let Self { name, commit, reason, source, duration_ms, .. } = self;
        format!("{name}: {branch} at {} ({reason}; {source}{fetched}) in {duration_ms} ms", short(commit))
    }
}

impl Setup {
    fn outputs(&self) -> Outputs {
        let mut outputs = Outputs::default();
        outputs.add("plan", &self.plan);
        outputs.add("cache-key", &self.cache_key);
        for sibling in &self.siblings {
            outputs.add(format!("key-{}", word(&sibling.name)), &sibling.key);
            outputs.add(format!("commit-{}", word(&sibling.name)), &sibling.commit);
        }
        outputs
    }

    /// The summary of the step, in Markdown.
    fn summary(&self) -> String {
        let cell = |text: &str| report::one_line(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
        let mut text = "### larder setup\n\n".to_owned();
        if self.siblings.is_empty() {
            text += "No manifest names a sibling repository.\n\n";
        } else {
            text += "| sibling | ref | commit | from | seconds |\n|---|---|---|---|---:|\n";
        }
        for sibling in &self.siblings {
            let from = if sibling.fetched { format!("{}, fetched", sibling.source) } else { sibling.source.to_owned() };
            text += &format!(
                "| {} | {} ({}) | `{}` | {from} | {}.{} |\n",
                cell(&sibling.name),
                cell(sibling.branch.as_deref().unwrap_or("commit")),
                sibling.reason,
                short(&sibling.commit),
                sibling.duration_ms / 1000,
                sibling.duration_ms % 1000 / 100
            );
        }
        text + &format!("\nCache key: `{}`\n\n", self.cache_key)
    }
}

/// Writes outputs and summary where others look for them.
fn hand_on(object: &Setup, outputs: &Outputs, file: Option<&Path>) -> Result<()> {
    let named = |name: &str| host::env(name).filter(|value| !value.is_empty());
    if let Some(path) = named("GITHUB_OUTPUT") {
        append(Path::new(&path), &outputs.github(&mut || fastrand::u64(..)))
            .context("the outputs cannot be written")?;
    }
    if let Some(path) = named("GITHUB_STEP_SUMMARY") {
        append(Path::new(&path), &object.summary()).context("the summary cannot be written")?;
    }
    if let Some(path) = file {
        let (parent, name) = split(path)?;
        parent.remove_all(&name)?;
        larder_fs::write_new(&parent, &name, &[outputs.dotenv().as_bytes()], false).context("--output")?;
    }
    Ok(())
}

fn split(path: &Path) -> Result<(Dir, std::ffi::OsString)> {
    let name = path.file_name().map(OsStr::to_owned);
    let name = name.ok_or_else(|| UsageError(format!("{} is no name of a file", path.display())))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Dir::open(parent)?, name))
}

fn append(path: &Path, text: &str) -> Result<()> {
    let (parent, name) = split(path)?;
    Ok(parent.append(&name, text.as_bytes())?)
}
