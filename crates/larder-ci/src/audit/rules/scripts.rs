//! Scripts that move what is kept.

use super::{Rule, short};
use crate::audit::facts::caches::{Cache, Tool, Way};
use crate::audit::facts::{Facts, JobFacts, StepFacts};
use crate::audit::{Report, Severity, cost};
use crate::shell::{Command, Script, has_flag};

pub(super) static RULES: [Rule; 4] = [
    Rule {
        id: "swallowed-error",
        severity: Severity::Warning,
        title: "errors of a cache step are swallowed",
        why: "a save that fails in every run looks like one that works: the cache stays empty, and nobody is told",
        fix: "let the step say what failed: drop `|| true` and `set +e`, or print a ::warning:: and the exit code",
        check: swallowed_error,
    },
    Rule {
        id: "copy-without-lock",
        severity: Severity::Error,
        title: "files are copied to or from a shared directory without a lock",
        why: "other jobs read and write it meanwhile: a reader gets half of the old state and half of the new one, and cargo takes \
              what it finds for true; --delete removes files under a reader",
        fix: "take one lock around restore and one around save (flock), save beside and rename; larder's snapshots are published whole",
        check: copy_without_lock,
    },
    Rule {
        id: "save-without-mkdir",
        severity: Severity::Warning,
        title: "nothing makes the directory that a save writes to",
        why: "rsync makes the last directory of its target only: where more are missing it exits with 11 and saves nothing",
        fix: "mkdir -p the target first, or use rsync --mkpath",
        check: save_without_mkdir,
    },
    Rule {
        id: "sibling-moved-in-place",
        severity: Severity::Error,
        title: "a sibling is replaced beside the checkout while other jobs may use it",
        why: "the place beside a checkout belongs to the runner, not to the job: a job that runs at the same time loses the sources that \
              it compiles, or builds another commit",
        fix: "check siblings out inside the job's own directory, or have larder restore them at canonical paths, which each job has for itself",
        check: sibling_moved_in_place,
    },
];

/// Caches of a job that scripts move, with the command of each.
fn moved(job: &JobFacts) -> impl Iterator<Item = (&StepFacts, &Cache, &Command, usize)> {
    job.caches().filter(|(_, cache)| cache.tool == Tool::Script).filter_map(|(step, cache)| {
        let at = cache.command?;
        Some((step, cache, &step.script().commands[at], at))
    })
}

fn swallowed_error(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in &facts.jobs {
        for (step, cache, command, at) in moved(job) {
            let script = step.script();
            let instead = script.or_else(at).filter(|other| {
                matches!(other.program(), "true" | ":" | "echo" | "printf")
                    || other.program() == "exit" && other.arguments().first().is_none_or(|code| code == "0")
            });
            let off =
                script.commands[..at].iter().rev().find(|other| other.program() == "set").is_some_and(|other| {
                    other.arguments().iter().any(|word| word.starts_with('+') && word.contains('e'))
                });
            let way = if cache.way == Way::Save { "save" } else { "restore" };
            let program = command.program();
            let message = if let Some(other) = instead {
                format!("`|| {}` hides that this {way} failed", short(&other.words.join(" ")))
            } else if off {
                format!("`set +e` hides that this {program} failed")
            } else if step.step().continue_on_error.is_some() {
                format!("continue-on-error hides that this {way} failed")
            } else {
                continue;
            };
            report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
        }
        for (step, cache) in job.caches().filter(|(_, cache)| cache.tool == Tool::Other) {
            if let Some(goes_on) = &step.step().continue_on_error {
                let message = format!("continue-on-error hides that {} failed", name(step));
                let _ = cache;
                report.add(rule, &step.file, goes_on.at, message, Some(cost::builds(1)));
            }
        }
    }
}

fn name(step: &StepFacts) -> &str {
    step.uses.as_ref().map_or("the step", |uses| uses.name.as_str())
}

/// Whether a script takes a lock.
fn locks(script: &Script) -> bool {
    script.commands.iter().any(|command| {
        matches!(command.program(), "flock" | "lockfile" | "shlock" | "setlock" | "lckdo" | "dotlockfile")
            || command.words.iter().any(|word| word == "flock")
    })
}

fn copy_without_lock(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in facts.jobs.iter().filter(|job| job.shares_disk()) {
        for step in &job.steps {
            if locks(step.script()) {
                continue;
            }
            let mut copies = step.caches.iter().filter_map(|cache| {
                let command = &step.script().commands[cache.command?];
                // A rename is whole or not there.
                (cache.tool == Tool::Script && command.program() != "mv").then_some((cache, command))
            });
            let Some((cache, command)) = copies.next() else { continue };
            let (program, store) = (command.program(), short(cache.store.as_deref().unwrap_or_default()));
            let deletes = command.arguments().iter().any(|word| word.starts_with("--del")) && cache.saves();
            let message = match (cache.way, deletes) {
                (_, true) => format!("{program} --delete writes to {store} without a lock, under whoever reads it"),
                (Way::Save, _) => format!("{program} writes to {store} without a lock"),
                _ => format!("{program} reads {store} without a lock, while others may write to it"),
            };
            report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
        }
    }
}

fn save_without_mkdir(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let made: Vec<String> = facts
        .jobs
        .iter()
        .flat_map(|job| job.commands().map(move |(_, _, command)| (job, command)))
        .filter(|(_, command)| matches!(command.program(), "mkdir" | "install"))
        .flat_map(|(job, command)| command.arguments().iter().map(move |word| job.environment.expand(word)))
        .take(Report::MOST)
        .collect();
    for job in &facts.jobs {
        for (step, cache, command, _) in moved(job) {
            let helps = has_flag(command.arguments(), &[], "--mkpath");
            if command.program() != "rsync" || cache.way != Way::Save || helps {
                continue;
            }
            let store = job.environment.expand(cache.store.as_deref().unwrap_or_default());
            let store = store.trim_end_matches('/');
            let Some((parent, _)) = store.rsplit_once('/').filter(|(parent, _)| parent.matches('/').count() >= 2)
            else {
                continue;
            };
            // Another machine's directories, or those of an action, are made elsewhere.
            if store.contains(':')
                || job.steps.iter().any(|step| step.uses.as_ref().is_some_and(|uses| uses.is_opaque()))
            {
                continue;
            }
            if !made.iter().any(|made| made.trim_end_matches('/').starts_with(parent)) {
                let message = format!("nothing makes {} before this save", short(parent));
                report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
            }
        }
    }
}

fn sibling_moved_in_place(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in facts.jobs.iter().filter(|job| job.shares_disk()) {
        let beside = |word: &str| {
            let path = job.environment.expand(word);
            let path = path.strip_prefix("$GITHUB_WORKSPACE/").unwrap_or(&path).trim_end_matches('/');
            let inner = path.strip_prefix("../")?;
            (!inner.is_empty() && inner != ".." && !inner.contains("/target")).then(|| path.to_owned())
        };
        for step in &job.steps {
            let commands = &step.script().commands;
            let removals =
                commands.iter().enumerate().filter(|(_, command)| command.removes_trees()).take(Report::MOST);
            for (at, command) in removals {
                let removed: Vec<String> = command.arguments().iter().filter_map(|word| beside(word)).collect();
                let replaced = commands[at + 1..].iter().take(Report::MOST).find_map(|other| {
                    let puts = match other.program() {
                        "mv" | "cp" | "ln" | "rsync" => true,
                        "git" => other.arguments().iter().any(|word| word == "clone" || word == "worktree"),
                        _ => false,
                    };
                    let to = other.arguments().last().and_then(|word| beside(word)).filter(|_| puts)?;
                    removed.contains(&to).then_some((to, other))
                });
                if let Some((path, other)) = replaced {
                    let message = format!("{path} is removed and replaced by {}, whoever uses it", other.program());
                    report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
                }
            }
        }
    }
}
