//! Scripts that remove what is kept.

use super::{Rule, short};
use crate::audit::facts::{Facts, JobFacts, StepFacts};
use crate::audit::{Report, Severity, cost};
use crate::shell::{Command, Script, has_flag};
use std::collections::BTreeSet;

pub(super) static RULES: [Rule; 3] = [
    Rule {
        id: "cleanup-matches-root",
        severity: Severity::Error,
        title: "a clean-up can remove its own root",
        why: "find lists the directory that it starts from: once that is old or large enough, everything is removed at once, under all \
              jobs that use it",
        fix: "add -mindepth 1 to find; larder gc removes what a plan names, never a directory that it found",
        check: cleanup_matches_root,
    },
    Rule {
        id: "keeps-by-name-order",
        severity: Severity::Warning,
        title: "a clean-up keeps the last by name, not the newest",
        why: "find and ls list by directory order or name: of keys that are digests, that is chance, and the newest goes as often as the oldest",
        fix: "sort by time: ls -t, or find -printf '%T@ %p\\n' | sort -n",
        check: keeps_by_name_order,
    },
    Rule {
        id: "guard-wrong-filesystem",
        severity: Severity::Warning,
        title: "a disk guard looks at / only",
        why: "cache and workspaces may be on other file systems: these run full while / has room, or caches are removed that free nothing of /",
        fix: "ask df for the directories themselves: df --output=pcent \"$CACHE_ROOT\" \"$GITHUB_WORKSPACE\"; larder guard looks at all of them",
        check: guard_wrong_filesystem,
    },
];

/// Each listing of a script that ends in `rm -r`, up to a number that nobody writes by hand.
fn removed_listings<'s>(step: &'s StepFacts, programs: &'s [&'s str]) -> impl Iterator<Item = (usize, &'s Command)> {
    let script = step.script();
    let listings = script.commands.iter().enumerate().filter(move |(_, command)| programs.contains(&command.program()));
    listings.take(20).filter(move |(at, _)| is_removed(script, *at))
}

/// Whether what a command lists is removed with all that is in it.
fn is_removed(script: &Script, at: usize) -> bool {
    let listing = &script.commands[at];
    let words = listing.arguments();
    if words.iter().any(|word| word == "-delete") {
        return true;
    }
    let exec = words.iter().position(|word| matches!(word.as_str(), "-exec" | "-execdir" | "-ok"));
    if exec.is_some_and(|exec| removes(&words[exec + 1..])) {
        return true;
    }
    if script.pipeline(listing).any(|part| part.program() == "xargs" && removes(part.arguments())) {
        return true;
    }
    let names = receivers(script, listing);
    let read: Vec<String> = names.iter().flat_map(|name| [format!("${name}"), format!("${{{name}")]).collect();
    let takes = |word: &String| word.contains('$') && read.iter().any(|name| word.contains(name));
    !names.is_empty()
        && script.commands.iter().any(|command| command.removes_trees() && command.arguments().iter().any(takes))
}

/// Whether words hold an `rm -r`.
fn removes(words: &[String]) -> bool {
    let rm = words.iter().position(|word| crate::shell::base_name(word) == "rm");
    rm.is_some_and(|rm| has_flag(&words[rm + 1..], &['r', 'R'], "--recursive"))
        || words.iter().any(|word| word.contains("rm -r") || word.contains("rm -fr"))
}

/// The variables that get what a command lists.
fn receivers(script: &Script, listing: &Command) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut add = |command: &Command| {
        names.extend(command.assignments.iter().map(|(name, _)| name.clone()));
        match command.program() {
            "for" => names.extend(command.arguments().first().cloned()),
            "read" | "mapfile" | "readarray" | "local" | "declare" | "export" | "readonly" => {
                let words = command.arguments().iter().filter(|word| !word.starts_with('-'));
                names.extend(words.map(|word| word.split('=').next().unwrap_or(word).to_owned()));
            }
            // `done < <(find …)`: the loop above reads it.
            "done" => {
                let loops = script.commands.iter().filter(|command| command.program() == "read").take(20);
                names.extend(
                    loops.flat_map(|command| command.arguments().iter().filter(|word| !word.starts_with('-')).cloned()),
                );
            }
            _ => {}
        }
    };
    for part in script.pipeline(listing) {
        add(part);
    }
    let mut within = listing.within;
    for _ in 0..8 {
        let Some(holder) = within.map(|at| &script.commands[at]) else { break };
        add(holder);
        within = holder.within;
    }
    // `for d in $LIST`: what the list gets, the loop gets.
    for command in script.commands.iter().filter(|command| command.program() == "for") {
        let Some((name, list)) = command.arguments().split_first() else { continue };
        let from = |word: &String| {
            let word = word.trim_start_matches(['$', '{']);
            let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
            names.contains(&word[..end])
        };
        if list.iter().any(from) {
            names.insert(name.clone());
        }
    }
    names
}

fn each<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = (&'f JobFacts, &'f StepFacts)> {
    facts.jobs.iter().flat_map(|job| job.steps.iter().map(move |step| (job, step)))
}

fn cleanup_matches_root(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for (_, step) in each(facts) {
        for (_, command) in removed_listings(step, &["find"]) {
            let words = command.arguments();
            let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
            let value = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
            let deep = value("-mindepth").is_some_and(|depth| depth != "0");
            let files = value("-type").is_some_and(|kind| !kind.contains('d'));
            // A name or a path that is asked for is hardly that of the root.
            let named = has(&["-name", "-iname", "-path", "-wholename", "-regex", "-iregex", "-empty", "-samefile"]);
            let roots: Vec<&String> = words.iter().take_while(|word| !word.starts_with(['-', '(', '!'])).collect();
            let kept = roots.iter().find(|root| {
                root.starts_with(['/', '$', '~']) && !root.contains('*') || root.to_lowercase().contains("cache")
            });
            if let (Some(root), false) = (kept, deep || files || named) {
                let message = format!("find lists {} itself too, and what it lists is removed", short(root));
                report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
            }
        }
    }
}

fn keeps_by_name_order(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for (_, step) in each(facts) {
        let script = step.script();
        for (_, command) in removed_listings(step, &["find", "ls"]) {
            let sorted = command.program() == "ls" && has_flag(command.arguments(), &['t', 'c', 'u'], "--sort=time");
            let mut cuts = false;
            let mut by_time = sorted;
            for part in script.pipeline(command) {
                cuts |= matches!(part.program(), "head" | "tail");
                by_time |= matches!(part.program(), "sort" | "stat" | "jq");
            }
            if cuts && !by_time {
                let message = format!("what is kept is chosen in the order of {}, not by age", command.program());
                report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
            }
        }
    }
}

fn guard_wrong_filesystem(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let paths = |command: &Command| {
        command.arguments().iter().filter(|word| !word.starts_with('-')).cloned().collect::<Vec<_>>()
    };
    let looks_elsewhere = |command: &Command| {
        matches!(command.program(), "df" | "stat")
            && paths(command).iter().any(|path| path != "/" && path.contains(['/', '$', '.']))
    };
    for job in facts.jobs.iter().filter(|job| job.shares_disk()) {
        if job.commands().any(|(_, _, command)| looks_elsewhere(command)) {
            continue;
        }
        for step in &job.steps {
            // One that is only shown decides nothing.
            let guard = step.script().commands.iter().find(|command| {
                command.program() == "df"
                    && paths(command) == ["/"]
                    && (command.within.is_some() || step.script().pipeline(command).count() > 1)
            });
            if let Some(command) = guard {
                let message = "this guard looks at the file system of / and at no other".to_owned();
                report.add(rule, &step.file, step.place_of(command), message, None);
            }
        }
    }
}
