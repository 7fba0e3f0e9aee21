//! Work that jobs repeat, and need not do at all.

use super::{Rule, list};
use crate::audit::facts::caches::{Kind, Tool};
use crate::audit::facts::{Facts, JobFacts, Runner, StepFacts, is_larder};
use crate::audit::{Report, Severity, cost};
use crate::shell::Join;
use std::collections::BTreeMap;

pub(super) static RULES: [Rule; 4] = [
    Rule {
        id: "repeated-checkout",
        severity: Severity::Warning,
        title: "the same dependency is checked out in several jobs",
        why: "each checkout costs seconds, and jobs that start minutes apart may get different commits of it",
        fix: "resolve siblings to commits once, in one setup job (larder setup), and restore them in the others",
        check: repeated_checkout,
    },
    Rule {
        id: "no-shared-setup",
        severity: Severity::Warning,
        title: "jobs prepare the same things, each for itself",
        why: "what every job resolves, hashes and copies for itself is done as often as there are jobs, and can differ between them",
        fix: "let one job prepare and hand its outputs to the others with needs (larder setup, then larder restore --plan)",
        check: no_shared_setup,
    },
    Rule {
        id: "cache-in-idle-job",
        severity: Severity::Warning,
        title: "a job restores a cache and builds nothing",
        why: "fmt, audit and the like read sources and lock file only: what is restored for them is moved for nothing",
        fix: "take the cache steps out of this job",
        check: cache_in_idle_job,
    },
    Rule {
        id: "tool-built-every-run",
        severity: Severity::Warning,
        title: "a tool is built from source in every run",
        why: "cargo install compiles the tool and all its dependencies again whenever CARGO_HOME is new",
        fix: "install the released program (taiki-e/install-action, cargo binstall), put it on the runner's image, or cache ~/.cargo/bin",
        check: tool_built_every_run,
    },
];

fn repeated_checkout(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let mut found: BTreeMap<&str, Vec<(&JobFacts, &StepFacts, crate::yaml::Mark)>> = BTreeMap::new();
    for job in &facts.jobs {
        for step in &job.steps {
            for checkout in &step.checkouts {
                let jobs = found.entry(&checkout.repository).or_default();
                if !jobs.iter().any(|(other, _, _)| other.id == job.id) {
                    jobs.push((job, step, checkout.at));
                }
            }
        }
    }
    for (repository, jobs) in found {
        let [(_, step, at), _, ..] = jobs[..] else { continue };
        // A machine that is thrown away has nothing that a job could share.
        let own = jobs.iter().any(|(job, _, _)| job.shares_disk());
        let severity = if own { rule.severity } else { Severity::Note };
        let names: Vec<&str> = jobs.iter().map(|(job, _, _)| job.id.as_str()).collect();
        let runs: usize = jobs.iter().map(|(job, _, _)| job.instances).sum();
        let message = format!("{repository} is checked out in {} jobs: {}", names.len(), list(&names));
        let (file, at) = facts.place(step, at);
        report.add_as(rule, severity, file, at, message, Some(cost::checkouts(runs - 1)));
    }
}

fn no_shared_setup(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    /// Fewer jobs gain nothing by one more that they wait for.
    const JOBS: usize = 3;
    let prepares = |job: &&JobFacts| {
        let scripts = job.caches().any(|(_, cache)| cache.tool == Tool::Script && cache.restores());
        job.compiles() && (scripts || job.steps.iter().any(|step| !step.checkouts.is_empty()))
    };
    let jobs: Vec<&JobFacts> = facts.jobs.iter().filter(prepares).collect();
    if jobs.len() < JOBS {
        return;
    }
    // Jobs that wait for one that tells them something have a shared setup already.
    let told = |job: &JobFacts, by: &str| {
        job.needs.iter().any(|need| need == by) && facts.job(by).is_some_and(|job| job.calls || !job.outputs.is_empty())
    };
    if jobs[0].needs.iter().any(|by| jobs.iter().all(|job| told(job, by))) {
        return;
    }
    let names: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    let checkouts: usize = jobs[1..].iter().flat_map(|job| &job.steps).map(|step| step.checkouts.len()).sum();
    let message = format!("{} jobs prepare siblings and caches, each for itself: {}", names.len(), list(&names));
    let cost = if checkouts > 0 { cost::checkouts(checkouts) } else { cost::copies(jobs.len() - 1) };
    report.add(rule, facts.name, jobs[0].at, message, Some(cost));
}

/// Programs that build nothing.
const HARMLESS: &[&str] = &[
    "",
    "echo",
    "printf",
    "rustup",
    "git",
    "mkdir",
    "cp",
    "mv",
    "rm",
    "ls",
    "cat",
    "test",
    "[",
    "[[",
    "true",
    "false",
    ":",
    "exit",
    "set",
    "export",
    "cd",
    "pwd",
    "fi",
    "done",
    "esac",
    "for",
    "case",
    "read",
    "df",
    "du",
    "find",
    "grep",
    "awk",
    "sed",
    "jq",
    "tee",
    "head",
    "tail",
    "cut",
    "sort",
    "uniq",
    "wc",
    "xargs",
    "date",
    "rustfmt",
    "rustc",
    "rsync",
    "tar",
    "sha256sum",
    "flock",
    "local",
    "shopt",
    "source",
    "hash",
    "which",
    "command",
    "larder",
    "}",
    "touch",
    "chmod",
    "tr",
    "stat",
    "dirname",
    "basename",
];

fn cache_in_idle_job(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in facts.jobs.iter().filter(|_| !facts.is_action) {
        let knows = |step: &StepFacts| {
            let action = step.uses.as_ref().is_none_or(|uses| {
                let quiet = [
                    "actions/",
                    "dtolnay/rust-toolchain",
                    "actions-rs/toolchain",
                    "swatinem/rust-cache",
                    "crate-ci/typos",
                    "embarkstudios/cargo-deny-action",
                    "taiki-e/install-action",
                    "step-security/",
                ];
                // It may run anything.
                uses.name != "actions/github-script"
                    && (quiet.iter().any(|q| uses.name.starts_with(q)) || is_larder(&uses.name))
            });
            let script = step.script().commands.iter().all(|command| {
                let program = command.program();
                matches!(program, "cargo" | "cross") || HARMLESS.contains(&program)
            });
            // A script in another language is not read.
            action && script && (step.step().run.is_none() || !step.script().commands.is_empty())
        };
        let asks_cargo = job.steps.iter().any(|step| !step.cargo.is_empty());
        if !asks_cargo || job.compiles() || !job.steps.iter().all(knows) {
            continue;
        }
        let of_a_build = |tool| matches!(tool, Tool::Actions | Tool::Provider | Tool::RustCache | Tool::Script);
        let cache = job.caches().find(|(_, cache)| of_a_build(cache.tool) && cache.holds(Kind::Target));
        if let Some((step, cache)) = cache {
            let (file, at) = facts.place(step, cache.at);
            let message = format!("job {} restores a target directory and compiles nothing", job.id);
            let over_network = matches!(cache.tool, Tool::Actions | Tool::RustCache | Tool::Provider);
            let cost = if over_network { cost::transfers(job.instances) } else { cost::copies(job.instances) };
            report.add(rule, file, at, message, Some(cost));
        }
    }
}

fn tool_built_every_run(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in &facts.jobs {
        let keeps_programs = job.steps.iter().any(|step| {
            let kept = |cache: &crate::audit::facts::caches::Cache| match cache.tool {
                Tool::Actions | Tool::Provider | Tool::Script => cache.local.iter().any(|local| {
                    local.kind == Kind::Bin
                        || local.path.trim_end_matches('/').ends_with(".cargo")
                        || local.path == "$CARGO_HOME"
                }),
                _ => false,
            };
            // It keeps what was installed, unless told otherwise.
            let rust_cache = step.uses.as_ref().is_some_and(|uses| uses.name.ends_with("/rust-cache"))
                && step.step().input("cache-bin").is_none_or(|input| input.text != "false");
            rust_cache || step.caches.iter().any(kept)
        });
        if keeps_programs {
            continue;
        }
        for step in &job.steps {
            let asked =
                step.conditions.iter().any(|condition| condition.contains("cache-hit") || condition.contains("steps."));
            let looks = step.script().commands.iter().any(|command| {
                matches!(command.words.first().map(String::as_str), Some("command" | "which" | "type" | "hash"))
            });
            if asked || looks {
                continue;
            }
            for cargo in step.cargo.iter().filter(|cargo| cargo.subcommand == "install") {
                let local = cargo
                    .arguments
                    .iter()
                    .any(|word| word.starts_with("--path") || word == "--list" || word == "--root");
                if local || step.script().commands[cargo.command].join == Join::Or {
                    continue;
                }
                let Some(tool) = tool(&cargo.arguments) else { continue };
                let often = facts.runs_often();
                let severity = if often { rule.severity } else { Severity::Note };
                let message = match job.runner {
                    Runner::SelfHosted => {
                        format!("{tool} is built with cargo install, unless the runner keeps its CARGO_HOME")
                    }
                    _ => format!("{tool} is built with cargo install in every run"),
                };
                report.add_as(rule, severity, &step.file, cargo.at, message, Some(cost::tools(job.instances)));
            }
        }
    }
}

/// The name of the crate that `cargo install` is asked for.
fn tool(arguments: &[String]) -> Option<&str> {
    let valued = [
        "--version",
        "--vers",
        "--features",
        "-F",
        "--git",
        "--branch",
        "--tag",
        "--rev",
        "--target",
        "--profile",
        "-j",
        "--jobs",
        "--target-dir",
        "--registry",
        "--index",
        "--color",
        "--config",
        "--bin",
        "--example",
        "-Z",
    ];
    let mut skip = false;
    let mut address = None;
    for (at, word) in arguments.iter().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        if word == "--git" {
            address = arguments.get(at + 1).map(String::as_str);
        }
        if valued.contains(&word.as_str()) {
            skip = true;
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    address
}
