//! Faults of workflows that cost time, disk or trust.
//!
//! A workflow is read ([`crate::workflow`]), its local composite actions are put where they are used, and what its steps do to a
//! build is worked out (`facts`). Each rule looks at that and reports; none knows of the others. What cannot
//! be known (an action of somebody else, a variable that nobody sets here) is never reported: a false alarm
//! costs more than a fault that is missed.

mod allow;
mod cost;
pub(crate) mod facts;
mod rules;

pub use cost::Cost;
pub use rules::{Rule, rules};

use crate::workflow::{self, File};
use crate::yaml::{self, Mark};
use serde::Serialize;
use std::collections::HashSet;
use thiserror::Error;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Costs time or disk in every run.
    Warning,
    /// Does not do what it is there for, loses what others need, or lets strangers in.
    Error,
}

impl Severity {
    /// As it is written everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A fault and where it is.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// Mostly that of the rule; lower where it costs little here.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// Where in it.
    pub at: Mark,
    /// What is wrong here.
    pub message: String,
    /// Why it matters, whatever the workflow.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// An estimate of what it costs in a run.
    pub cost: Option<Cost>,
}

/// A file of the repository that a workflow belongs to.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What to call it in a finding.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// The door to the repository that a workflow belongs to.
pub trait Repository {
    /// Reads a file by its path from the repository's root; `None` where there is none that can be read.
    fn read(&self, path: &str) -> Option<Opened>;
}

/// A repository of which nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct Unknown;

impl Repository for Unknown {
    fn read(&self, _path: &str) -> Option<Opened> {
        None
    }
}

/// Why a file cannot be audited.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// It is no YAML.
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    /// It is too large.
    #[error(transparent)]
    TooLarge(#[from] workflow::TooLarge),
}

/// Reports the faults of one workflow or composite action, in the order of their places. Any other YAML has none.
///
/// `name` is what the findings call the file. Faults in local composite actions that a workflow uses are reported where they are.
///
/// # Errors
///
/// [`enum@Error`] when the text is no YAML or too large.
pub fn audit(name: &str, text: &str, repository: &dyn Repository) -> Result<Vec<Finding>, Error> {
    let file = workflow::read(&yaml::parse(text)?)?;
    let facts = match &file {
        File::Other => return Ok(Vec::new()),
        File::Workflow(workflow) => facts::Facts::of_workflow(name, workflow, repository),
        File::Action(action) => facts::Facts::of_action(name, action, repository),
    };
    let mut report = Report::default();
    for rule in rules() {
        (rule.check)(&facts, rule, &mut report);
    }
    let mut findings = report.findings;
    let text_of = |file: &str| {
        if file == name { Some(text) } else { facts.action_text(file) }
    };
    allow::apply(&mut findings, name, text, &text_of);
    // The file itself first, then the actions that it uses.
    let order = |f: &Finding| (f.file != name, f.file.clone(), f.at, f.rule);
    findings.sort_by_cached_key(order);
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert((finding.rule, finding.file.clone(), finding.at)));
    Ok(findings)
}

/// What rules add their findings to.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// How many findings of one rule a file can have: more would not be read, and mean a file that nobody wrote by hand.
    const MOST: usize = 200;

    fn add(&mut self, rule: &'static Rule, file: &str, at: Mark, message: String, cost: Option<Cost>) {
        self.add_as(rule, rule.severity, file, at, message, cost);
    }

    fn add_as(
        &mut self,
        rule: &'static Rule,
        severity: Severity,
        file: &str,
        at: Mark,
        message: String,
        cost: Option<Cost>,
    ) {
        if self.findings.iter().rev().take_while(|finding| finding.rule == rule.id).count() >= Self::MOST {
            return;
        }
        let Rule { id, why, fix, .. } = rule;
        self.findings.push(Finding { rule: id, severity, file: file.to_owned(), at, message, why, fix, cost });
    }
}
