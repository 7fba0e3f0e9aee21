//! `larder init --patch`: a workflow that is there, changed in place.

use super::{Init, InitFile, Project, put};
use crate::cli::{Global, InitArgs};
use crate::commands::audit::{self, Checkout};
use crate::commands::is_json;
use crate::faults::is_usage;
use crate::report::{SCHEMA_VERSION, print, print_json};
use crate::talk::Talk;
use anyhow::{Context, Result};
use larder_ci::init::patch::{Wish, patch};
use larder_ci::workflow::File;
use larder_ci::{workflow, yaml};
use larder_fs::Kind;
use std::path::{Path, PathBuf};

pub(super) fn run(global: &Global, args: &InitArgs, dir: &Path, file: Option<&Path>, talk: &Talk) -> Result<u8> {
    let siblings = match Project::find(global, dir) {
        Ok(project) => project.facts.siblings,
        // Workflows are patched wherever they stand; only who its siblings are a project alone can tell.
        Err(error) if is_usage(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    let wish = Wish { siblings, runner: args.runner.clone() };
    let paths: Vec<PathBuf> = match file {
        Some(file) => vec![file.to_path_buf()],
        None => audit::own_files(dir)?.into_iter().filter(|path| is_workflow(path)).collect(),
    };
    let mut files = Vec::new();
    let mut notes = Vec::new();
    for path in &paths {
        let name = path.to_string_lossy();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let old = audit::read(path).with_context(|| name.clone())?;
        let new = patch(&name, &old, &Checkout::of(path), &wish).with_context(|| name.clone())?;
        notes.extend(new.notes.iter().map(|note| format!("{name}: {note}")));
        if new.text == old {
            talk.say(&format!("{name}: nothing to change"));
            continue;
        }
        let diff = similar::TextDiff::from_lines(&old, &new.text);
        let diff = diff.unified_diff().header(&format!("a/{name}"), &format!("b/{name}")).to_string();
        files.push(InitFile { path: name, replaced: true, text: new.text, diff: Some(diff) });
    }
    if !args.dry_run {
        for file in &files {
            // A link stays one.
            let path = larder_fs::canonicalize(Path::new(&file.path))?;
            let mode =
                larder_fs::metadata(&path)?.filter(|meta| meta.kind == Kind::File).map_or(0o644, |meta| meta.mode);
            put(&path, &file.text, mode)?;
        }
    }
    notes.iter().for_each(|note| talk.say(note));
    for file in &files {
        talk.say(&format!("{} {}", if args.dry_run { "would patch" } else { "patched" }, file.path));
    }
    if is_json(global) {
        print_json(&Init { schema_version: SCHEMA_VERSION, dry_run: args.dry_run, files, notes })?;
    } else {
        print(&files.iter().filter_map(|file| file.diff.as_deref()).collect::<String>())?;
    }
    Ok(0)
}

/// Whether a file of the repository is a workflow, and not an action.
fn is_workflow(path: &Path) -> bool {
    let read = |text: String| Some(matches!(workflow::read(&yaml::parse(&text).ok()?).ok()?, File::Workflow(_)));
    audit::read(path).ok().and_then(read).unwrap_or(false)
}
