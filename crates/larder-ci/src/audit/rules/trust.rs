//! Who may write what others read.

use super::Rule;
use crate::audit::facts::caches::{Cache, Tool};
use crate::audit::facts::{Facts, JobFacts, Runner, StepFacts};
use crate::audit::{Report, Severity};

pub(super) static RULES: [Rule; 1] = [Rule {
    id: "save-on-pull-request",
    severity: Severity::Error,
    title: "a pull request's build is saved where others restore it",
    why: "whoever opens a pull request, from a fork too, chooses what is in the cache: the next build of the main branch runs it",
    fix: "save only for branches: if: github.event_name != 'pull_request'; larder keeps a scope for each trust level by itself",
    check,
}];

fn check(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let asked = facts.is_triggered_by("pull_request");
    let privileged = facts.is_triggered_by("pull_request_target");
    if !asked && !privileged {
        return;
    }
    for job in &facts.jobs {
        let head = job.steps.iter().any(checks_out_head);
        for (step, cache) in job.caches().filter(|(_, cache)| cache.saves()) {
            if is_guarded(job, step) || has_guarded_save(step) {
                continue;
            }
            let on_disk = match cache.tool {
                Tool::Script => job.shares_disk(),
                Tool::Other => job.runner == Runner::SelfHosted && !only_both(cache),
                _ => false,
            };
            let message =
                if privileged && head && matches!(cache.tool, Tool::Actions | Tool::RustCache | Tool::Provider) {
                    "pull_request_target builds a stranger's code and saves it for the main branch"
                } else if on_disk {
                    "this saves builds of pull requests where every other build restores them"
                } else {
                    continue;
                };
            report.add(rule, &step.file, cache.at, message.to_owned(), None);
        }
    }
}

/// Whether it is only known that an action caches, not that it saves here.
fn only_both(cache: &Cache) -> bool {
    cache.restores() && cache.saves()
}

fn checks_out_head(step: &StepFacts) -> bool {
    let of_head = |text: &str| {
        text.contains("pull_request.head") || text.contains("head_ref") || text.contains("pull_request.number")
    };
    let action = step.uses.as_ref().is_some_and(|uses| uses.name == "actions/checkout");
    action && step.step().with.iter().any(|(_, value)| of_head(&value.text))
        || step.script().commands.iter().any(|command| {
            command.program() == "gh" && command.arguments().starts_with(&["pr".to_owned(), "checkout".to_owned()])
        })
}

/// Whether a condition keeps pull requests, or those of forks, away.
fn is_guarded(job: &JobFacts, step: &StepFacts) -> bool {
    job.condition.iter().chain(&step.conditions).any(|condition| keeps_away(condition))
        || step.script().commands.iter().any(|command| {
            matches!(command.program(), "[" | "[[" | "test" | "case")
                && command.words.iter().any(|word| {
                    word.contains("event_name")
                        || word.contains("EVENT_NAME")
                        || word.contains("github.ref")
                        || word.contains("GITHUB_REF")
                })
        })
}

fn has_guarded_save(step: &StepFacts) -> bool {
    step.step().input("save-if").is_some_and(|input| keeps_away(&input.text) || input.text == "false")
}

fn keeps_away(condition: &str) -> bool {
    let condition: String = condition.chars().filter(|c| !c.is_whitespace()).collect();
    let condition = condition.replace('"', "'");
    [
        "event_name=='push'",
        "event_name!='pull_request'",
        "event_name=='schedule'",
        "event_name=='workflow_dispatch'",
        "github.ref=='",
        "github.ref_name=='",
        "startsWith(github.ref",
        "head.repo",
        "ref_protected",
        "github.event.pull_request==null",
        "event_name=='release'",
    ]
    .iter()
    .any(|guard| condition.contains(guard))
}
