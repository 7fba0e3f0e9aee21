//! What names a cache: too much, too little, or the wrong thing.

use super::{Rule, list, short};
use crate::audit::facts::caches::{Cache, Kind, Tool};
use crate::audit::facts::keys::{Sources, sources};
use crate::audit::facts::{Facts, JobFacts, StepFacts};
use crate::audit::{Report, Severity, cost};
use crate::shell::{Command, Script};
use crate::yaml::Mark;
use std::collections::BTreeMap;

pub(super) static RULES: [Rule; 6] = [
    Rule {
        id: "key-per-job",
        severity: Severity::Warning,
        title: "each job has a key of its own",
        why: "what one job built or downloaded, the next one builds or downloads again, and the disk keeps it once a job",
        fix: "use one key for all jobs of a workflow and let one of them save; larder takes the nearest snapshot of any job",
        check: key_per_job,
    },
    Rule {
        id: "key-without-lockfile",
        severity: Severity::Warning,
        title: "the key does not depend on Cargo.lock",
        why: "Cargo.toml says which versions would do, the lock file which ones are built: the key stays the same while the \
              dependencies change, and a cache that is never replaced grows staler with every update",
        fix: "put hashFiles('**/Cargo.lock') into the key",
        check: key_without_lockfile,
    },
    Rule {
        id: "key-without-toolchain",
        severity: Severity::Warning,
        title: "the key does not depend on the compiler",
        why: "cargo rebuilds everything when the compiler changes: the old target directory is restored for nothing, and kept beside \
              the new one",
        fix: "put the compiler's release into the key: the output of rustc -vV, or rust-toolchain.toml by hashFiles",
        check: key_without_toolchain,
    },
    Rule {
        id: "key-with-commit",
        severity: Severity::Warning,
        title: "the key contains the commit or the run",
        why: "no two commits have the same key: nothing is found by it, and every run saves everything anew",
        fix: "make the key of what decides the build (lock file, compiler), and let cargo judge the sources",
        check: key_with_commit,
    },
    Rule {
        id: "lockfile-not-committed",
        severity: Severity::Warning,
        title: "Cargo.lock is not committed",
        why: "each run may choose other versions: no two jobs build the same thing for certain, and no key can name it",
        fix: "commit Cargo.lock, of a library too, and build with --locked",
        check: lockfile_not_committed,
    },
    Rule {
        id: "no-restore-keys",
        severity: Severity::Warning,
        title: "there is nothing to fall back to",
        why: "whenever one dependency changes, the key is new, nothing is restored, and all the others are built again too",
        fix: "add restore-keys with the key's beginning; larder takes the nearest snapshot by itself",
        check: no_restore_keys,
    },
];

/// A cache of cargo's files that the workflow names by a key, or by a path that holds one.
struct Keyed<'f> {
    job: &'f JobFacts,
    step: &'f StepFacts,
    cache: &'f Cache,
    key: &'f str,
    at: Mark,
    sources: Sources,
}

fn keyed<'f>(facts: &'f Facts<'_>) -> impl Iterator<Item = Keyed<'f>> {
    facts.jobs.iter().flat_map(move |job| {
        job.caches().filter(|(_, cache)| cache.is_cargos()).filter_map(move |(step, cache)| {
            let (key, at) = match cache.tool {
                Tool::Actions | Tool::Provider if !is_rust_cache(step) => {
                    cache.key.as_ref().map(|key| (key.text.as_str(), key.at))?
                }
                Tool::Script => (cache.store.as_deref()?, cache.at),
                _ => return None,
            };
            let sources = sources(facts, job, key);
            Some(Keyed { job, step, cache, key, at, sources })
        })
    })
}

fn is_rust_cache(step: &StepFacts) -> bool {
    step.uses.as_ref().is_some_and(|uses| uses.name.ends_with("/rust-cache"))
}

fn key_per_job(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let mut groups: BTreeMap<(String, Vec<Kind>), Vec<Keyed<'_>>> = BTreeMap::new();
    for keyed in keyed(facts) {
        let written = keyed.key.to_lowercase();
        let general = without_job(&written, &keyed.job.id.to_lowercase());
        if !names_job(&written) && general == written {
            continue;
        }
        let mut kinds: Vec<Kind> = keyed.cache.local.iter().map(|local| local.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let group = groups.entry((general, kinds)).or_default();
        if !group.iter().any(|other| other.job.id == keyed.job.id) {
            group.push(keyed);
        }
    }
    for group in groups.into_values() {
        let Keyed { job, step, key, at, .. } = &group[0];
        // One job alone has nobody to share with, unless its composite action is used by many.
        let others = names_job(&key.to_lowercase()) && (facts.is_action || facts.jobs.len() > 1);
        if group.len() < 2 && !others {
            continue;
        }
        let names: Vec<&str> = group.iter().map(|keyed| keyed.job.id.as_str()).collect();
        let message = match names.len() {
            1 => format!("the key of job {} names the job: {}", job.id, short(key)),
            count => format!("{count} jobs have keys that differ only in the job's name: {}", list(&names)),
        };
        let (file, at) = if names.len() == 1 { (&*step.file, *at) } else { facts.place(step, *at) };
        report.add(rule, file, at, message, Some(cost::builds(names.len().saturating_sub(1).max(1))));
    }
    rust_cache_keys(facts, rule, report);
}

/// Whether a key, in lower case, names the job by its context.
fn names_job(key: &str) -> bool {
    ["github.job", "github_job"].iter().any(|word| key.contains(word))
}

/// `shared-key` of rust-cache that nobody shares: the action's own key would do the same.
fn rust_cache_keys(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let keys: Vec<_> = facts
        .jobs
        .iter()
        .flat_map(|job| job.caches().map(move |(step, cache)| (job, step, cache)))
        .filter(|(job, step, cache)| {
            is_rust_cache(step) && cache.key.is_some() && *step.file == *facts.name && job.compiles()
        })
        .filter_map(|(job, _, cache)| cache.key.as_ref().map(|key| (job, key)))
        .filter(|(_, key)| !key.text.contains("${{"))
        .collect();
    let alone = keys.len() > 1
        && keys.iter().all(|(_, key)| keys.iter().filter(|(_, other)| other.text == key.text).count() == 1);
    let named = keys.iter().any(|(job, key)| job.id.eq_ignore_ascii_case(&key.text));
    if alone && named {
        let names: Vec<&str> = keys.iter().map(|(job, _)| job.id.as_str()).collect();
        let message = format!("{} jobs have a shared-key that no other job shares: {}", names.len(), list(&names));
        let cost = Some(cost::builds(names.len() - 1));
        report.add_as(rule, Severity::Note, facts.name, keys[0].1.at, message, cost);
    }
}

/// A key with the job's name taken out where it stands as a word.
fn without_job(key: &str, job: &str) -> String {
    if job.len() < 2 {
        return key.to_owned();
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let mut out = String::new();
    let mut rest = key;
    while let Some(at) = rest.find(job) {
        let before = rest[..at].chars().next_back().or_else(|| out.chars().next_back());
        let after = rest[at + job.len()..].chars().next();
        out.push_str(&rest[..at]);
        let whole = !before.is_some_and(is_part) && !after.is_some_and(is_part);
        out.push_str(if whole { "\u{0}" } else { job });
        rest = &rest[at + job.len()..];
    }
    out.push_str(rest);
    out
}

/// Programs that make a key of files.
const HASHES: &[&str] = &["sha256sum", "sha1sum", "sha512sum", "md5sum", "b3sum", "b2sum", "shasum", "cksum", "xxhsum"];

/// Whether a command hashes manifests, and its script no lock file.
fn hashes_manifests(script: &Script, command: &Command) -> bool {
    // `grep` and the like take a line out of a manifest: the compiler's release, for example.
    let passes_on = |part: &Command| {
        HASHES.contains(&part.program()) || matches!(part.program(), "cat" | "find" | "ls" | "git" | "xargs")
    };
    HASHES.contains(&command.program())
        && script.pipeline(command).all(|part| passes_on(part) || !names_manifest(part))
        && script.pipeline(command).any(names_manifest)
        && !script.commands.iter().any(|other| other.words.iter().any(|word| word.contains("Cargo.lock")))
}

fn names_manifest(command: &Command) -> bool {
    command.words.iter().any(|word| word.ends_with("Cargo.toml"))
}

fn key_without_lockfile(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for job in &facts.jobs {
        let hashes = job.commands().filter(|(_, _, command)| HASHES.contains(&command.program())).take(20);
        for (step, _, command) in hashes {
            let script = step.script();
            if !hashes_manifests(script, command) {
                continue;
            }
            let names = |name: &String| ["key", "hash", "cache"].iter().any(|word| name.to_lowercase().contains(word));
            let is_key = script
                .commands
                .iter()
                .any(|other| other.assignments.iter().any(|(name, _)| names(name)) || other.words.iter().any(names));
            if is_key {
                let message = "the key is made of Cargo.toml alone".to_owned();
                report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
            }
        }
    }
    for Keyed { step, cache, key, at, sources, .. } in keyed(facts) {
        let told_already = HASHES.iter().any(|hash| sources.text.contains(hash));
        let all = sources.text.contains("hashfiles('**')") || sources.text.contains("hashfiles('**/*')");
        if sources.has_lock_file() || sources.unknown || sources.has_commit() || told_already || all {
            continue;
        }
        // A directory without any key is one mirror of the newest state: cargo judges what is fresh in it.
        if cache.tool == Tool::Script && !sources.varies() {
            continue;
        }
        let message = format!("the key {} does not depend on Cargo.lock", short(key));
        report.add(rule, &step.file, at, message, Some(cost::builds(1)));
    }
}

fn key_without_toolchain(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for Keyed { step, cache, key, at, sources, .. } in keyed(facts) {
        let names = cache.tool != Tool::Script || sources.varies();
        if cache.holds(Kind::Target) && names && !sources.unknown && !sources.has_toolchain() {
            let message = format!("the key {} of a target directory does not depend on the compiler", short(key));
            report.add(rule, &step.file, at, message, Some(cost::kept(1)));
        }
    }
}

fn key_with_commit(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for Keyed { job, step, cache, key, at, sources } in keyed(facts) {
        if !sources.has_commit() || !cache.saves() && cache.has_restore_keys {
            continue;
        }
        let message = format!("the key {} is another one for every commit or run", short(key));
        if cache.has_restore_keys {
            // It works by its fallback; what is left is what every run saves.
            let cost = cost::transfers(job.instances);
            report.add_as(rule, Severity::Note, &step.file, at, message, Some(cost));
        } else {
            report.add(rule, &step.file, at, message, Some(cost::builds(job.instances)));
        }
    }
}

fn lockfile_not_committed(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    let caches =
        facts.jobs.iter().any(|job| job.caches().any(|(_, cache)| cache.is_cargos() || cache.tool == Tool::Other));
    if !caches {
        return;
    }
    for job in facts.jobs.iter().filter(|job| job.compiles()) {
        for (step, _, command) in job.commands() {
            let words = command.arguments();
            let made = command.program() == "cargo" && words.first().is_some_and(|word| word == "generate-lockfile");
            let removed = command.program() == "rm" && words.iter().any(|word| word == "Cargo.lock");
            if made || removed {
                let message = format!("`{}` chooses the versions anew in every run", short(&command.words.join(" ")));
                report.add(rule, &step.file, step.place_of(command), message, Some(cost::builds(1)));
                return;
            }
        }
    }
    let ignored = facts.repository.read(".gitignore").is_some_and(|file| {
        file.text.lines().any(|line| matches!(line.trim(), "Cargo.lock" | "/Cargo.lock" | "**/Cargo.lock" | "*.lock"))
    });
    let missing = || facts.repository.read("Cargo.toml").is_some() && facts.repository.read("Cargo.lock").is_none();
    if !ignored && !missing() {
        return;
    }
    let message = match ignored {
        true => ".gitignore leaves out Cargo.lock, so no key can be made of it",
        false => "the repository has a Cargo.toml and no Cargo.lock, so no key can be made of it",
    };
    let compile = facts
        .jobs
        .iter()
        .flat_map(|job| &job.steps)
        .find_map(|step| step.cargo.iter().find(|cargo| cargo.compiles).map(|cargo| facts.place(step, cargo.at)));
    if let Some((file, at)) = compile {
        report.add(rule, file, at, message.to_owned(), Some(cost::builds(1)));
    }
}

fn no_restore_keys(facts: &Facts<'_>, rule: &'static Rule, report: &mut Report) {
    for Keyed { job, step, cache, key, at, sources } in keyed(facts) {
        let by_action = matches!(cache.tool, Tool::Actions | Tool::Provider);
        if by_action && cache.restores() && !cache.has_restore_keys && sources.varies() && !sources.has_commit() {
            let message = format!("when the key {} is new, nothing is restored", short(key));
            let cost =
                if cache.holds(Kind::Target) { cost::builds(job.instances) } else { cost::downloads(job.instances) };
            report.add(rule, &step.file, at, message, Some(cost));
        }
    }
}
