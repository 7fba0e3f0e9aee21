//! `larder init`: the workflow for the repository that it stands in, or changes to the one that is there.

mod patch;

use super::is_json;
use crate::cli::{For, Global, InitArgs};
use crate::origin::Origin;
use crate::report::{SCHEMA_VERSION, print, print_json};
use crate::request::{self, Typed, UsageError};
use crate::sources::{Sources, repository_of};
use crate::talk::Talk;
use crate::{cargo, host};
use anyhow::Result;
use larder_cargo::config::Config;
use larder_ci::init::{Facts, System, write};
use larder_fs::Dir;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Init {
    schema_version: u32,
    /// Whether nothing was written, but only said what would be.
    dry_run: bool,
    files: Vec<InitFile>,
    /// What a person should know or do.
    notes: Vec<String>,
}

/// A file that was written, or would be.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct InitFile {
    /// From the repository's root.
    path: String,
    /// Whether it took the place of another.
    replaced: bool,
    /// The whole file.
    text: String,
    /// With --patch, what is changed, as a unified diff; else null.
    diff: Option<String>,
}

/// The repository, as `init` sees it.
struct Project {
    /// Where the file goes.
    root: PathBuf,
    facts: Facts,
    /// What `larder.toml` must say for setup to find the siblings; empty where it finds them by itself.
    settings: String,
    notes: Vec<String>,
}

pub(super) fn run(global: &Global, args: &InitArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let dir = request::work_dir(args.dir.as_deref())?;
    if let Some(file) = &args.patch {
        return patch::run(global, args, &dir, file.as_deref(), &talk);
    }
    let mut project = Project::find(global, &dir)?;
    project.facts.runner.clone_from(&args.runner);
    let system = match args.system {
        For::Github => System::Github,
        For::Forgejo => System::Forgejo,
        For::Gitlab => System::Gitlab,
        For::Buildkite => System::Buildkite,
        For::Plain => System::Plain,
    };
    let written = write(system, &project.facts);
    let mut files = vec![new_file(&project.root, Path::new(written.path), written.text, args)?];
    if !project.settings.is_empty() {
        let path = Path::new(&project.facts.directory).join("larder.toml");
        if larder_fs::exists(&project.root.join(&path)) {
            let note = format!("{} lacks what setup needs; add:\n{}", path.display(), project.settings);
            project.notes.push(note);
        } else {
            files.push(new_file(&project.root, &path, project.settings.clone(), args)?);
        }
    }
    if !args.dry_run {
        for file in &files {
            let mode = if written.executable && file.path == written.path { 0o755 } else { 0o644 };
            put(&project.root.join(&file.path), &file.text, mode)?;
        }
    }
    for file in &files {
        let verb = match (args.dry_run, file.replaced) {
            (true, true) => "would replace",
            (true, false) => "would write",
            (false, true) => "replaced",
            (false, false) => "wrote",
        };
        talk.say(&format!("{verb} {}", file.path));
    }
    project.notes.iter().for_each(|note| talk.say(note));
    if is_json(global) {
        let Project { notes, .. } = project;
        print_json(&Init { schema_version: SCHEMA_VERSION, dry_run: args.dry_run, files, notes })?;
    } else if args.dry_run {
        print(&files.iter().map(|file| file.text.as_str()).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(0)
}

/// A file that may be written.
fn new_file(root: &Path, path: &Path, text: String, args: &InitArgs) -> Result<InitFile> {
    let replaced = larder_fs::exists(&root.join(path));
    let path = path.to_string_lossy().into_owned();
    if replaced && !args.force && !args.dry_run {
        let way = "--patch changes it in place, --dry-run prints what would be written, --force replaces it";
        return Err(UsageError(format!("{path} is there already, and stays as it is: {way}")).into());
    }
    Ok(InitFile { path, replaced, text, diff: None })
}

/// Writes a file whole, in the place of another where there is one.
fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    larder_fs::create_parents(parent)?;
    let dir = Dir::open(parent)?;
    let mut temporary = name.to_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let written = larder_fs::write_new(&dir, &temporary, &[text.as_bytes()], false)
        .and_then(|()| dir.set_mode(&temporary, mode))
        .and_then(|()| dir.rename(&temporary, &dir, name));
    if let Err(error) = written {
        // What is left of it is nobody's file.
        let _ = dir.remove_file(&temporary);
        return Err(error.into());
    }
    Ok(())
}

impl Project {
    fn find(global: &Global, dir: &Path) -> Result<Self> {
        let settings = request::settings(global, dir, &Typed::default())?;
        let config = Config::load(dir, &[], &host::env, &host::read);
        let workspace =
            larder_cargo::workspace::find(dir, &[], &host::env, &config, &host::read)?.ok_or_else(|| {
                UsageError(format!(
                    "{} is in no cargo project: name the folder of one, as larder init app",
                    dir.display()
                ))
            })?;
        let cargo_home = cargo::cargo_home(dir);
        let site = cargo::Site { workspace: &workspace, config: &config, cargo_home: cargo_home.as_deref() };
        let sources = Sources::find(&site, &settings)?;
        let cargo_root = larder_fs::canonicalize(&workspace.root)?;
        let root = repository_of(&cargo_root).unwrap_or(&cargo_root).to_path_buf();
        let is_there = |name: &str| larder_fs::exists(&cargo_root.join(name));
        let manifests = Manifests::read(&sources, &cargo_root);
        let origin = Origin::find(&cargo_root, &|_| None, &host::read);
        let mut notes = Vec::new();
        let siblings = siblings(&root, &sources, &mut notes);
        let facts = Facts {
            repository: origin.repository.unwrap_or_else(|| folder_name(&root)),
            default_branch: default_branch(&root),
            directory: cargo_root.strip_prefix(&root).unwrap_or(Path::new("")).to_string_lossy().into_owned(),
            has_lock: is_there("Cargo.lock"),
            has_deny: is_there("deny.toml") || is_there(".deny.toml") || is_there(".cargo/deny.toml"),
            has_features: manifests.has_features,
            edition: manifests.edition,
            toolchain_file: ["rust-toolchain.toml", "rust-toolchain"]
                .into_iter()
                .find(|name| is_there(name) || larder_fs::exists(&root.join(name)))
                .map(str::to_owned),
            runner: Vec::new(),
            siblings,
        };
        if !facts.has_lock {
            notes.push("there is no Cargo.lock: commit one, or each run may build other versions".into());
        }
        let settings = sibling_settings(&root, &facts.siblings);
        Ok(Self { root, facts, settings, notes })
    }
}

fn folder_name(path: &Path) -> String {
    path.file_name().unwrap_or(OsStr::new("this repository")).to_string_lossy().into_owned()
}

/// The folders beside the repository that hold what the build names by path.
fn siblings(root: &Path, sources: &Sources, notes: &mut Vec<String>) -> Vec<String> {
    let mut names = BTreeSet::new();
    let beside = root.parent();
    for path in sources.trees().iter().chain(sources.missing()).filter(|path| !path.starts_with(root)) {
        let name = beside.and_then(|beside| path.strip_prefix(beside).ok()?.components().next());
        match name {
            Some(name) => {
                names.insert(name.as_os_str().to_string_lossy().into_owned());
            }
            None => notes.push(format!(
                "{} is named by a path dependency and is not beside the repository: setup cannot bring it",
                path.display()
            )),
        }
    }
    names.into_iter().collect()
}

/// What `larder.toml` must say of siblings that come from elsewhere than beside this repository's own address.
fn sibling_settings(root: &Path, siblings: &[String]) -> String {
    let mut text = String::new();
    let own = remote(root);
    for name in siblings {
        let Some(url) = root.parent().and_then(|beside| remote(&beside.join(name))) else { continue };
        let guessed = own.as_deref().and_then(|own| neighbour(own, name));
        let plain = |url: &str| url.trim_end_matches('/').trim_end_matches(".git").to_owned();
        if guessed.is_none_or(|guessed| plain(&guessed) != plain(&url)) {
            if text.is_empty() {
                text.push_str(
                    "# Where `larder setup` finds the siblings that are not beside this repository at its host.\n",
                );
            }
            let _ = write!(text, "\n[siblings.{}]\nurl = {}\n", toml_text(name), toml_text(&url));
        }
    }
    text
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The address that setup takes a sibling from, unless it is told another.
fn neighbour(own: &str, name: &str) -> Option<String> {
    let own = own.trim_end_matches('/');
    let at = own.rfind(['/', ':'])?;
    Some(format!("{}{name}{}", &own[..=at], if own.ends_with(".git") { ".git" } else { "" }))
}

/// The address that a checkout was cloned from, without what may be a password.
fn remote(checkout: &Path) -> Option<String> {
    if !larder_fs::exists(&checkout.join(".git")) {
        return None;
    }
    let said = host::run_in(checkout, &["git", "config", "--get", "remote.origin.url"].map(OsStr::new))?;
    let url = String::from_utf8(said).ok()?.trim().to_owned();
    let Some((scheme, rest)) = url.split_once("://") else { return Some(url) };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = match host.rsplit_once('@') {
        // The user of ssh is no secret, and needed.
        Some((user, host)) if scheme == "ssh" => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        Some((_, host)) => host.to_owned(),
        None => host.to_owned(),
    };
    Some(format!("{scheme}://{host}/{path}"))
}

/// The branch that the remote calls its own, else the usual one that is there.
fn default_branch(root: &Path) -> String {
    let git = |words: &[&str]| {
        let words: Vec<&OsStr> = std::iter::once("git").chain(words.iter().copied()).map(OsStr::new).collect();
        let said = host::run_in(root, &words)?;
        String::from_utf8(said).ok().map(|said| said.trim().to_owned()).filter(|said| !said.is_empty())
    };
    let of_remote = git(&["symbolic-ref", "--short", "refs/remotes/origin/HEAD"]);
    let of_remote = of_remote.and_then(|name| name.strip_prefix("origin/").map(str::to_owned));
    let is_branch = |name: &&str| git(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{name}")]).is_some();
    let usual = || ["main", "master"].into_iter().find(is_branch).map(str::to_owned);
    of_remote.or_else(usual).or_else(|| git(&["symbolic-ref", "--short", "HEAD"])).unwrap_or_else(|| "main".into())
}

/// What the manifests of the workspace itself say.
struct Manifests {
    edition: String,
    has_features: bool,
}

impl Manifests {
    fn read(sources: &Sources, root: &Path) -> Self {
        let mut read = Self { edition: "2015".into(), has_features: false };
        for path in sources.own_manifests(root).chain([root.join("Cargo.toml")]) {
            let text = host::read(&path).and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(table) = text.and_then(|text| text.parse::<toml::Table>().ok()) else { continue };
            let edition = |table: &toml::Table| Some(table.get("package")?.get("edition")?.as_str()?.to_owned());
            let shared = || edition(table.get("workspace")?.as_table()?);
            let is_year = |text: &String| text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
            // Years in order of their digits.
            read.edition = edition(&table).or_else(shared).filter(is_year).unwrap_or_default().max(read.edition);
            read.has_features |= table.get("features").and_then(toml::Value::as_table).is_some_and(|f| !f.is_empty());
        }
        read
    }
}
