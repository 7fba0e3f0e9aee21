//! Cache actions: where they keep, and which release of them runs.

use super::Rule;
use crate::audit::facts::caches::Tool;
use crate::audit::facts::{Facts, Runner, StepFacts, Uses};
use crate::audit::{Report, Severity, cost};
use std::collections::BTreeMap;

pub(super) static RULES: [Rule; 3] = [
    Rule {
        id: "hosted-cache-on-self-hosted",
        severity: Severity::Warning,
        title: "a self-hosted runner keeps its cache at GitHub",
        why: "the runner has a disk of its own that outlives the job, and packs, sends and fetches gigabytes all the same; GitHub drops \
              what exceeds 10 GB a repository",
        fix: "keep the cache on the runner's disk: larder run, or larder restore and larder save",
        check: hosted_cache,
    },
    Rule {
        id: "unpinned-cache-action",
        severity: Severity::Warning,
        title: "a cache action follows a branch or a tag that can move",
        why: "whoever can push to that branch or move that tag decides what all later builds restore",
        fix: "name the commit: uses: owner/action@<40 digits> # v1.2.3",
        check: unpinned,
    },
    Rule {
        id: "deprecated-cache-version",
        severity: Severity::Error,
        title: "a cache action's release no longer works",
        why: "GitHub closed the service that old releases call: the step fails, or restores and saves nothing",
        fix: "use actions/cache v4 or later (or 3.4.0 where v3 is needed), Swatinem/rust-cache v2",
        check: deprecated,
    },
];

/// Steps with a cache action, in all jobs.
fn cache_actions<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = (&'f StepFacts, &'f Uses)> {
    facts.jobs.iter().flat_map(|job| &job.steps).filter_map(|step| {
        let uses = step.uses.as_ref()?;
        let is_cache = !step.caches.is_empty() || uses.name == "mozilla-actions/sccache-action";
        (is_cache && !uses.is_local()).then_some((step, uses))
    })
}

fn hosted_cache(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in facts.jobs.iter().filter(|job| job.runner == Runner::SelfHosted) {
        for (step, cache) in job.caches() {
            if matches!(cache.tool, Tool::Actions | Tool::RustCache) {
                let name = step.uses.as_ref().map_or("", |uses| uses.name.as_str());
                let message = format!("{name} sends the cache over the network, past the runner's own disk");
                report.add(rule, &step.file, cache.at, message, Some(cost::transfers(job.instances)));
            }
        }
    }
}

fn unpinned(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    /// The first step with an action in one release, and how many there are.
    struct First<'f> {
        step: &'f StepFacts,
        uses: &'f Uses,
        steps: usize,
    }
    let mut found: BTreeMap<(&str, Option<&str>), First<'_>> = BTreeMap::new();
    for (step, uses) in cache_actions(facts) {
        let first = found.entry((&uses.name, uses.reference.as_deref()));
        first.or_insert(First { step, uses, steps: 0 }).steps += 1;
    }
    for ((name, reference), First { step, uses, steps }) in found {
        let count = match steps {
            1 => String::new(),
            count => format!(" in {count} steps"),
        };
        let branches = ["main", "master", "develop", "dev", "trunk", "latest", "nightly", "head"];
        match reference {
            None => {
                let message = format!("{name} names no release{count}");
                report.add(rule, &step.file, uses.at, message, None);
            }
            Some(branch) if branches.contains(&branch.to_lowercase().as_str()) => {
                let message = format!("{name} follows the branch {branch}{count}");
                report.add(rule, &step.file, uses.at, message, None);
            }
            Some(commit) if commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()) => {}
            // GitHub's own are as trusted as the runner.
            Some(_) if name.starts_with("actions/") => {}
            Some(tag) => {
                let message = format!("{name} follows the tag {tag}, which its owner can move{count}");
                report.add_as(rule, Severity::Note, &step.file, uses.at, message, None);
            }
        }
    }
}

fn deprecated(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for (step, uses) in cache_actions(facts) {
        let Some(version) = uses.reference.as_deref().and_then(|reference| reference.strip_prefix('v')) else {
            continue;
        };
        let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
        let base = uses.name.trim_end_matches("/restore").trim_end_matches("/save");
        let severity = match (base, &numbers[..]) {
            ("actions/cache", [0..=2, ..] | [3, 0..=3, ..] | [4, 0..=1, ..]) => Severity::Error,
            // The tag is at a release that works; what runs it is no longer kept up.
            ("actions/cache", [3, ..]) => Severity::Warning,
            (name, [0..=1, ..]) if name.ends_with("/rust-cache") => Severity::Error,
            _ => continue,
        };
        let message = match severity {
            Severity::Error => format!("{base}@v{version} calls a service that no longer exists"),
            _ => format!("{base}@v{version} runs on a Node.js that is no longer kept up"),
        };
        report.add_as(rule, severity, &step.file, uses.at, message, Some(cost::builds(1)));
    }
}
