//! Changing a workflow that is there: larder in the place of what its jobs cache by hand, and nothing else.
//!
//! The file is never written anew from what was read. Each change is an edit of whole lines or of a place in one (`edits`), so
//! comments, order, indentation and every other byte stay. What is not understood is left alone, and said.

mod edits;
mod jobs;

use super::lines;
use crate::audit::Repository;
use crate::audit::facts::{Facts, Runner};
use crate::workflow::{self, File};
use crate::yaml;
use edits::Edits;
use thiserror::Error;

/// What the patch may count on.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The folders beside the repository that `larder setup` finds.
    pub siblings: Vec<String>,
    /// The labels of the runner that jobs of hosted runners shall move to; empty where they stay.
    pub runner: Vec<String>,
}

impl Wish {
    fn is_sibling(&self, repository: &str) -> bool {
        let name = repository.rsplit('/').next().unwrap_or(repository);
        self.siblings.iter().any(|sibling| sibling.eq_ignore_ascii_case(name))
    }
}

/// A workflow after the patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The whole file; equal to the one before where there was nothing to do.
    pub text: String,
    /// What was done and what was left alone, and why.
    pub notes: Vec<String>,
}

/// Why a file cannot be patched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// It is no YAML.
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    /// It is too large.
    #[error(transparent)]
    TooLarge(#[from] workflow::TooLarge),
    /// It is something else.
    #[error("is no workflow: it has no jobs, or no triggers")]
    NoWorkflow,
}

/// Patches a workflow.
///
/// # Errors
///
/// [`enum@Error`] when the text is no workflow that can be read.
pub fn patch(name: &str, text: &str, repository: &dyn Repository, wish: &Wish) -> Result<Patched, Error> {
    let document = yaml::parse(text)?;
    let File::Workflow(workflow) = workflow::read(&document)? else { return Err(Error::NoWorkflow) };
    let facts = Facts::of_workflow(name, &workflow, repository);
    let mut edits = Edits::of(text);
    let mut notes = Vec::new();
    let jobs_at = document.root().get("jobs").map(|jobs| jobs.pairs()).unwrap_or_default();
    let mut jobs = Vec::new();
    for job in facts.jobs.iter().filter(|job| job.compiles()) {
        let Some((key, value)) = jobs_at.iter().find(|(key, _)| key.text() == Some(&job.id)) else { continue };
        match jobs::lines_of(&edits, *key) {
            Some(lines) => {
                let is_hosted = job.runner == Runner::Hosted;
                jobs.push(jobs::Job { facts: job, name, key: *key, value: *value, lines, is_hosted });
            }
            None => notes.push(format!("{}: left alone: it is not written in lines of its own", job.id)),
        }
    }
    // One job that checks a sibling out has nothing to agree on with others.
    let with_siblings = |job: &&jobs::Job<'_>| {
        job.facts.steps.iter().flat_map(|step| &step.checkouts).any(|checkout| wish.is_sibling(&checkout.repository))
    };
    let site = match jobs.iter().filter(with_siblings).count() {
        0 | 1 => None,
        _ => jobs.iter().find_map(|job| job.site(&edits, wish)),
    };
    let id = if facts.job("setup").is_some() { "larder-setup" } else { "setup" };
    let mut takes_plan = false;
    for job in &jobs {
        match job.change(&edits, wish, site.as_ref().map(|_| id)) {
            Ok(change) => {
                takes_plan |= change.takes_plan;
                edits.add(change.edits);
                notes.extend(change.notes.into_iter().map(|note| format!("{}: {note}", job.facts.id)));
            }
            Err(why) => notes.push(format!("{}: left alone: {why}", job.facts.id)),
        }
    }
    if let Some(site) = site.filter(|_| takes_plan) {
        edits.insert(site.line, setup_job(id, &site));
        notes.push(format!("{id}: new: it decides once which commits of the siblings are built"));
    }
    let patched = edits.apply();
    // Nobody's workflow is broken for a cache: what does not read as before is not written.
    let reads = yaml::parse(&patched).is_ok_and(|document| matches!(workflow::read(&document), Ok(File::Workflow(_))));
    if !reads {
        notes.push("left alone: the changes would not read as a workflow".into());
        return Ok(Patched { text: text.to_owned(), notes });
    }
    Ok(Patched { text: patched, notes })
}

/// Where a setup job goes, and what it has from the first job that needs it.
struct Site {
    /// Before this line, from 0.
    line: usize,
    /// How far job names and their contents are indented.
    indents: (usize, usize),
    /// The value of `runs-on`, as written.
    runs_on: String,
    /// The checkout action, as written.
    checkout: String,
}

fn setup_job(id: &str, site: &Site) -> Vec<String> {
    let mut out = lines::Lines::default();
    let (name, body) = site.indents;
    let step = body + 2;
    out.comment(name, "Once for all jobs: a commit of each sibling. The plan takes them to the jobs that need it.");
    out.line(name, &format!("{id}:"));
    out.line(body, &format!("runs-on: {}", site.runs_on));
    out.line(body, "timeout-minutes: 15");
    out.line(body, "outputs:");
    out.line(step, "plan: ${{ steps.larder.outputs.plan }}");
    out.line(body, "steps:");
    out.line(step, &format!("- uses: {}", site.checkout));
    out.line(step + 2, "with:");
    out.line(step + 4, "persist-credentials: false");
    out.line(step, "- id: larder");
    out.line(step + 2, "run: larder setup");
    out.line(0, "");
    out.finish().lines().map(str::to_owned).collect()
}
