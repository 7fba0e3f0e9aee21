//! `larder audit`: the faults of workflows and composite actions.

use super::is_json;
use crate::amount::count;
use crate::cli::{AuditArgs, AuditOutput, Color, FailOn, Global};
use crate::report::audit::{Report, text};
use crate::report::{print, print_json};
use crate::request::UsageError;
use crate::talk::Talk;
use crate::{exit, report, request};
use anyhow::{Context, Result, bail};
use larder_ci::audit::{Finding, Opened, Repository, Severity, audit};
use larder_ci::{annotations, sarif, yaml};
use larder_fs::{Dir, Kind};
use larder_store::Events;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Component, Path, PathBuf};

pub(super) fn run(global: &Global, args: &AuditArgs) -> Result<u8> {
    let output = match args.output {
        Some(output) if is_json(global) && output != AuditOutput::Json => {
            return Err(UsageError("--output and --format json say two things: choose one".into()).into());
        }
        Some(output) => output,
        None if is_json(global) => AuditOutput::Json,
        None => AuditOutput::Text,
    };
    let talk = Talk::new(global);
    let files = if args.files.is_empty() { own_files(&request::work_dir(None)?)? } else { args.files.clone() };
    let mut findings: Vec<Finding> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut failed = false;
    for file in &files {
        let checkout = Checkout::of(file);
        let name = file.to_string_lossy();
        let name = name.strip_prefix("./").unwrap_or(&name);
        match read(file).and_then(|text| Ok(audit(name, &text, &checkout)?)) {
            // Faults of an action are found in each workflow that uses it.
            Ok(found) => {
                findings.extend(found.into_iter().filter(|f| seen.insert((f.rule, f.file.clone(), f.at))));
            }
            // A file that nobody named is as likely not meant for this as broken.
            Err(error) => {
                failed |= !args.files.is_empty();
                talk.warn(&format!("{name}: {error:#}"));
            }
        }
    }
    match output {
        AuditOutput::Text => print(&text(&findings, colours(global)))?,
        AuditOutput::Json => print_json(&Report::of(&findings))?,
        AuditOutput::Sarif => print(&report::json(&sarif::log(&findings, env!("CARGO_PKG_VERSION")))?)?,
        AuditOutput::Github => print(&findings.iter().map(annotations::line).collect::<String>())?,
    }
    talk.say(&summary(&findings, files.len()));
    let limit = match args.fail_on {
        FailOn::Error => Some(Severity::Error),
        FailOn::Warning => Some(Severity::Warning),
        FailOn::Note => Some(Severity::Note),
        FailOn::Never => None,
    };
    let fails = limit.is_some_and(|limit| findings.iter().any(|finding| finding.severity >= limit));
    Ok(if failed || fails { exit::FAILED } else { 0 })
}

fn summary(findings: &[Finding], files: usize) -> String {
    let kinds = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| {
        count(findings.iter().filter(|finding| finding.severity == severity).count() as u64, severity.name())
    });
    format!("{} in {}", kinds.join(", "), count(files as u64, "file"))
}

/// Whether stdout gets colour.
fn colours(global: &Global) -> bool {
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

/// The text of a file that is no larger than a workflow can be.
pub(super) fn read(file: &Path) -> Result<String> {
    let path = larder_fs::canonicalize(file)?;
    match larder_fs::metadata(&path)? {
        Some(meta) if meta.kind != Kind::File => bail!("is no file"),
        Some(meta) if meta.size > yaml::LONGEST as u64 => return Err(yaml::Error::TooLarge.into()),
        _ => {}
    }
    String::from_utf8(larder_fs::read(&path)?).context("is no YAML: it is no UTF-8 text")
}

/// The workflows and actions of the repository that a directory is in.
pub(super) fn own_files(here: &Path) -> Result<Vec<PathBuf>> {
    let root = here.ancestors().find(|dir| larder_fs::exists(&dir.join(".git"))).unwrap_or(here);
    // Annotations and code scanning want paths from the root.
    let from = if root == request::work_dir(None)? { Path::new("") } else { root };
    let is_yaml = |name: &Path| name.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
    let mut files = Vec::new();
    for name in names(&root.join(".github/workflows"))? {
        if is_yaml(&name) {
            files.push(from.join(".github/workflows").join(name));
        }
    }
    let mut actions = vec![PathBuf::new()];
    actions
        .extend(names(&root.join(".github/actions"))?.into_iter().map(|name| Path::new(".github/actions").join(name)));
    for action in actions {
        let named = ["action.yml", "action.yaml"].map(|name| action.join(name));
        files.extend(named.into_iter().filter(|path| larder_fs::exists(&root.join(path))).map(|path| from.join(path)));
    }
    if files.is_empty() {
        bail!("{} has neither workflows nor actions: name the files, as larder audit ci.yml", root.display());
    }
    Ok(files)
}

/// The names in a directory, sorted; none where there is no directory.
fn names(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = Dir::open_optional(dir)?.map(|dir| dir.entries()).transpose()?.unwrap_or_default();
    let mut names: Vec<PathBuf> = entries.into_iter().map(|entry| entry.name.into()).collect();
    names.sort();
    Ok(names)
}

/// The repository that a file is in.
pub(super) struct Checkout {
    /// As the file's own path begins; `None` where no repository is known.
    root: Option<PathBuf>,
}

impl Checkout {
    pub(super) fn of(file: &Path) -> Self {
        // By name first: a workflow says by its place where the root is.
        let parts: Vec<Component<'_>> = file.components().collect();
        if let Some(at) = parts.iter().rposition(|part| part.as_os_str() == ".github") {
            return Self { root: Some(parts[..at].iter().collect()) };
        }
        let holds = |dir: &&Path| larder_fs::exists(&dir.join(".git"));
        Self { root: file.ancestors().skip(1).find(holds).map(Path::to_path_buf) }
    }
}

impl Repository for Checkout {
    fn read(&self, path: &str) -> Option<Opened> {
        let path = Path::new(path);
        // A workflow names only what is in its repository.
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return None;
        }
        let path: PathBuf = self.root.as_ref()?.join(path).components().collect();
        let text = read(&path).ok()?;
        let name = path.to_string_lossy();
        Some(Opened { name: name.strip_prefix("./").unwrap_or(&name).to_owned(), text })
    }
}
