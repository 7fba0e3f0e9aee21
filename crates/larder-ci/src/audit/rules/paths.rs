//! What is kept where: too much, not enough, or elsewhere than it is used.

use super::{Rule, short};
use crate::audit::facts::caches::{Cache, Kind, Tool, Way};
use crate::audit::facts::{Facts, JobFacts, StepFacts};
use crate::audit::{Report, Severity, cost};
use std::collections::BTreeSet;

pub(super) static RULES: [Rule; 5] = [
    Rule {
        id: "target-without-pruning",
        severity: Severity::Warning,
        title: "a target directory is kept and never pruned",
        why: "cargo removes nothing: units of old versions, old features and old compilers stay, and each save is larger than the last",
        fix: "keep only what builds still want: Swatinem/rust-cache for dependencies, larder save --prune for all units",
        check: target_without_pruning,
    },
    Rule {
        id: "sibling-target-not-cached",
        severity: Severity::Warning,
        title: "a sibling is built, and its target directory is not kept",
        why: "the sibling is built from scratch in every run while this repository starts warm",
        fix: "keep the sibling's target directory too, or build all of them into one CARGO_TARGET_DIR; larder keeps siblings as one",
        check: sibling_target_not_cached,
    },
    Rule {
        id: "cargo-home-mismatch",
        severity: Severity::Error,
        title: "CARGO_HOME is restored elsewhere than it is used",
        why: "cargo looks where CARGO_HOME says: what is restored to ~/.cargo is never read, and what it downloads is never saved",
        fix: "restore and save $CARGO_HOME, or do not set it",
        check: cargo_home_mismatch,
    },
    Rule {
        id: "roots-differ",
        severity: Severity::Error,
        title: "what is saved is never where restore looks",
        why: "the two paths differ, so each run saves in vain and starts cold",
        fix: "name the path once, in env of the workflow, and use that name in both",
        check: roots_differ,
    },
    Rule {
        id: "cache-per-repository",
        severity: Severity::Warning,
        title: "each repository has a cache root of its own",
        why: "crates and siblings are the same for all repositories of a team: with a root for each they are downloaded, built and kept \
              once a repository",
        fix: "keep one root a machine and let keys tell things apart; larder's store is one for all, its scopes decide who reads what",
        check: cache_per_repository,
    },
];

fn target_without_pruning(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in &facts.jobs {
        let prunes = job.commands().any(|(_, _, command)| {
            let words = command.arguments();
            let of_target = || words.iter().any(|word| word.contains("target") || word.contains("incremental"));
            match command.program() {
                "cargo" => words.first().is_some_and(|word| word == "sweep" || word == "clean" || word == "cache"),
                "cargo-sweep" | "cargo-cache" => true,
                "find" => of_target() && words.iter().any(|word| word == "-delete" || word == "-exec"),
                "rm" => of_target(),
                "larder" => true,
                _ => false,
            }
        });
        if prunes {
            continue;
        }
        for (step, cache) in job.caches() {
            let grows = match cache.tool {
                // Without a fallback every new key starts from nothing.
                Tool::Actions | Tool::Provider => {
                    cache.has_restore_keys && step.uses.as_ref().is_some_and(|uses| !uses.name.ends_with("/rust-cache"))
                }
                Tool::Script => true,
                _ => false,
            };
            if grows && cache.saves() && cache.holds(Kind::Target) {
                let message = "the target directory is saved with everything that was ever built in it".to_owned();
                let over_network = cache.tool != Tool::Script;
                let cost = if over_network { cost::transfers(job.instances) } else { cost::kept(1) };
                report.add(rule, &step.file, cache.at, message, Some(cost));
            }
        }
    }
}

fn sibling_target_not_cached(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in &facts.jobs {
        let keeps = |step: &StepFacts, name: &str| {
            let input = |input: &str| step.step().input(input).is_some_and(|text| text.text.contains(name));
            step.caches.iter().any(|cache| {
                cache.tool == Tool::Larder
                    || cache.local.iter().any(|local| local.path.contains(name))
                    || input("workspaces")
                    || input("path")
                    || input("cache-directories")
            })
        };
        let target = job.caches().any(|(_, cache)| cache.holds(Kind::Target));
        if !target || job.environment.sets("CARGO_TARGET_DIR") {
            continue;
        }
        let mut told = BTreeSet::new();
        for step in &job.steps {
            for cargo in step.cargo.iter().filter(|cargo| cargo.compiles) {
                let Some(directory) = &cargo.directory else { continue };
                let Some(name) = sibling(job, directory) else { continue };
                let own = cargo.arguments.iter().any(|word| word.starts_with("--target-dir"));
                if own || !told.insert(name.to_owned()) || job.steps.iter().any(|step| keeps(step, name)) {
                    continue;
                }
                let message = format!("{name} is built here, and no cache keeps its target directory");
                report.add(rule, &step.file, cargo.at, message, Some(cost::builds(job.instances)));
            }
        }
    }
}

/// The name of the sibling that a directory belongs to.
fn sibling<'d>(job: &JobFacts, directory: &'d str) -> Option<&'d str> {
    let workspace = "$GITHUB_WORKSPACE/";
    let path = directory.strip_prefix(workspace).unwrap_or(directory).trim_start_matches("./").trim_end_matches('/');
    if let Some(outside) = path.strip_prefix("../") {
        return outside.split('/').find(|part| !matches!(*part, "" | "." | ".."));
    }
    let checked_out = job.steps.iter().flat_map(|step| &step.checkouts).any(|checkout| {
        let to = checkout.path.as_deref().unwrap_or_default().trim_start_matches("./").trim_end_matches('/');
        !to.is_empty() && (path == to || path.strip_prefix(to).is_some_and(|rest| rest.starts_with('/')))
    });
    checked_out.then(|| path.split('/').next()).flatten()
}

fn cargo_home_mismatch(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in &facts.jobs {
        let Some(value) = job.environment.value("CARGO_HOME") else { continue };
        let home = job.environment.expand(value);
        // Where it is anyway, or where nobody knows.
        if home.trim_end_matches('/').ends_with("/.cargo") && is_a_home(&home)
            || home.contains("$()")
            || home.contains("${{")
        {
            continue;
        }
        for (step, cache) in job.caches() {
            if !matches!(cache.tool, Tool::Actions | Tool::Provider | Tool::Script) {
                continue;
            }
            let elsewhere = cache.local.iter().find(|local| {
                local.kind == Kind::CargoHome
                    && is_a_home(&local.path)
                    && local.path.contains("/.cargo")
                    && !local.path.starts_with(&home)
            });
            if let Some(local) = elsewhere {
                let what = if cache.way == Way::Save { "saved from" } else { "restored to" };
                let message = format!("CARGO_HOME is {}, and crates are {what} {}", short(value), short(&local.path));
                report.add(rule, &step.file, cache.at, message, Some(cost::downloads(job.instances)));
            }
        }
    }
}

/// Whether a path begins in a home directory.
fn is_a_home(path: &str) -> bool {
    ["$HOME", "/home/", "/root/", "/github/home", "/Users/"].iter().any(|home| path.starts_with(home))
}

fn roots_differ(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    type Moved<'f> = (&'f JobFacts, &'f StepFacts, &'f Cache, String);
    for kind in [Kind::Target, Kind::CargoHome] {
        let (mut restores, mut saves): (Vec<Moved<'_>>, Vec<Moved<'_>>) = (Vec::new(), Vec::new());
        for job in &facts.jobs {
            for (step, cache) in job.caches().filter(|(_, cache)| cache.tool == Tool::Script && cache.holds(kind)) {
                let store = job.environment.expand(cache.store.as_deref().unwrap_or_default());
                let store = store.trim_end_matches(['.', '/', '*']).to_owned();
                let list = if cache.way == Way::Save { &mut saves } else { &mut restores };
                // More than these were not written by hand.
                if list.len() < Report::MOST {
                    list.push((job, step, cache, store));
                }
            }
        }
        for (job, step, cache, store) in &saves {
            // What the job itself restores; of jobs that only save, what any job restores.
            let own: Vec<&Moved<'_>> = restores.iter().filter(|(other, ..)| other.id == job.id).collect();
            let looked = if own.is_empty() { restores.iter().collect() } else { own };
            let meets = looked.iter().any(|(.., other)| is_within(other, store) || is_within(store, other));
            if let (Some((.., first)), false) = (looked.first(), meets) {
                let message = format!("saved to {}, restored from {}", short(store), short(first));
                report.add(rule, &step.file, cache.at, message, Some(cost::builds(1)));
            }
        }
    }
    for job in &facts.jobs {
        let by_action = |way: Way| {
            job.caches().filter(move |(_, cache)| {
                matches!(cache.tool, Tool::Actions | Tool::Provider) && cache.way == way && cache.is_cargos()
            })
        };
        let paths = |cache: &Cache| {
            cache.local.iter().map(|local| local.path.trim_end_matches('/').to_owned()).collect::<BTreeSet<_>>()
        };
        for (step, save) in by_action(Way::Save).take(Report::MOST) {
            let mut restores = by_action(Way::Restore).map(|(_, cache)| paths(cache)).peekable();
            if restores.peek().is_some() && !restores.any(|restore| restore == paths(save)) {
                let message =
                    "the paths that are saved are not those that are restored, and a cache is found by its paths too";
                report.add(rule, &step.file, save.at, message.to_owned(), Some(cost::builds(job.instances)));
            }
        }
    }
}

fn is_within(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn cache_per_repository(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let names_it = |path: &str| path.contains("GITHUB_REPOSITORY") || path.contains("github.repository");
    let is_root = |path: &str| path.starts_with(['/', '$', '~']) && path.to_lowercase().contains("cache");
    for job in facts.jobs.iter().filter(|job| job.shares_disk()) {
        let mut assigned = job.steps.iter().flat_map(|step| {
            step.script().commands.iter().flat_map(move |command| {
                command.assignments.iter().map(move |(name, value)| (step, command, name, value))
            })
        });
        let written = assigned.find(|(_, _, name, value)| {
            let own = value.starts_with('/') && names_it(value) && is_root(value);
            own || name.to_lowercase().contains("cache") && value.starts_with('/') && names_it(value)
        });
        if let Some((step, command, _, value)) = written {
            report.add(rule, &step.file, step.place_of(command), message(value), Some(cost::downloads(1)));
            return;
        }
        for (step, cache) in job.caches().filter(|(_, cache)| cache.tool == Tool::Script) {
            let store = job.environment.expand(cache.store.as_deref().unwrap_or_default());
            if names_it(&store) && store.starts_with('/') {
                report.add(rule, &step.file, cache.at, message(&store), Some(cost::downloads(1)));
                return;
            }
        }
    }
}

fn message(root: &str) -> String {
    format!("nothing under {} is shared with other repositories", short(root))
}
