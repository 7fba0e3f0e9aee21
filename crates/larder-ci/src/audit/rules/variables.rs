//! Variables that are read where they do not exist.

use super::{Rule, short};
use crate::audit::facts::{Facts, JobFacts, StepFacts};
use crate::audit::{Report, Severity, cost};
use crate::shell::is_name;
use crate::workflow::Text;
use crate::yaml::Mark;
use std::collections::{BTreeMap, BTreeSet};

pub(super) static RULES: [Rule; 1] = [Rule {
    id: "variable-never-set",
    severity: Severity::Error,
    title: "a job reads a variable that only another job sets",
    why: "GITHUB_ENV, env and outputs end with their job: here the variable is empty, and a path that begins with it is another path",
    fix: "make it an output of the job that computes it, name that job under needs, and read needs.JOB.outputs.NAME",
    check,
}];

fn check(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let mut exporters: BTreeMap<&str, &str> = BTreeMap::new();
    for job in &facts.jobs {
        for name in job.environment.exported() {
            exporters.entry(name).or_insert(&job.id);
        }
    }
    for job in facts.jobs.iter().filter(|_| !facts.is_action) {
        let mut told = BTreeSet::new();
        let mut opaque = false;
        for step in &job.steps {
            opaque |= step.uses.as_ref().is_some_and(crate::audit::facts::Uses::is_opaque);
            for (name, at) in reads(step) {
                let Some(other) = exporters.get(name.as_str()).filter(|other| **other != job.id) else { continue };
                // What nobody can look into may have set it.
                if opaque || job.environment.sets(&name) || told.contains(&name) {
                    continue;
                }
                let message = format!("{name} is read in job {} and set only in job {other}", job.id);
                report.add(rule, &step.file, at, message, Some(cost::builds(1)));
                told.insert(name);
            }
            outputs(facts, job, step, rule, report);
        }
    }
}

/// The variables that a step reads without anything in their place.
fn reads(step: &StepFacts) -> Vec<(String, Mark)> {
    let script = step.script().reads.iter().filter(|read| !read.has_default);
    let mut found: Vec<(String, Mark)> =
        script.map(|read| (read.name.clone(), step.place(read.line, read.column))).collect();
    for text in texts(step) {
        for (line, column, reference) in references(&text.text, "env.") {
            if is_name(&reference) {
                found.push((reference, text.inside(line, column)));
            }
        }
    }
    found
}

fn texts(step: &StepFacts) -> impl Iterator<Item = &Text> {
    let step = step.step();
    step.with.iter().chain(&step.env).map(|(_, value)| value).chain(&step.run)
}

/// Outputs of jobs that this one does not wait for, or that have none of this name.
fn outputs(facts: &Facts<'_>, job: &JobFacts, step: &StepFacts, rule: &'static Rule, report: &mut Report) {
    for text in texts(step) {
        for (line, column, reference) in references(&text.text, "needs.") {
            let parts: Vec<&str> = reference.split('.').collect();
            let [id, "outputs", name] = parts[..] else { continue };
            let message = if !job.needs.iter().any(|need| need == id) {
                format!("needs.{id}.outputs.{name} is read in job {}, which does not need {id}", job.id)
            } else if facts
                .job(id)
                .is_some_and(|other| !other.calls && !other.outputs.iter().any(|(key, _)| key == name))
            {
                format!("job {id} has no output {}", short(name))
            } else {
                continue;
            };
            report.add(rule, &step.file, text.inside(line, column), message, Some(cost::builds(1)));
        }
    }
}

/// What follows a context's name within `${{ }}`, with line and column.
fn references(text: &str, context: &str) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut at = 0;
        while let Some(begin) = line[at..].find("${{").map(|begin| at + begin) {
            let Some(end) = line[begin..].find("}}").map(|end| begin + end) else { break };
            let body = &line[begin..end];
            for (offset, _) in body.match_indices(context) {
                let before = body[..offset].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c)) {
                    continue;
                }
                let rest = &body[offset + context.len()..];
                let length =
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap_or(rest.len());
                found.push((number, line[..begin + offset].chars().count(), rest[..length].to_owned()));
            }
            at = end + 2;
        }
    }
    found
}
