//! What a cache key is made of.

use super::{Facts, JobFacts};
use crate::shell::{Script, is_name};

/// The text of a key and of all that it is computed from, as far as the workflow shows it, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) text: String,
    /// Whether a part comes from somewhere that cannot be looked into.
    pub(crate) unknown: bool,
}

/// The most that is gathered, in bytes.
const LENGTH: usize = 64 << 10;
/// How many references are followed.
const STEPS: usize = 40;

impl Sources {
    pub(crate) fn has_lock_file(&self) -> bool {
        self.text.contains(".lock")
    }

    pub(crate) fn has_toolchain(&self) -> bool {
        let words = [
            "toolchain",
            "rustc",
            "matrix.rust",
            "matrix.channel",
            "channel",
            "msrv",
            "nightly",
            "stable",
            "beta",
            "rust-version",
            "rust_version",
            "cachekey",
            "rustup",
        ];
        words.iter().any(|word| self.text.contains(word)) || has_release(&self.text)
    }

    pub(crate) fn has_commit(&self) -> bool {
        ["github.sha", "github_sha", "github.run_id", "github_run_id", "github.event.pull_request.head.sha"]
            .iter()
            .any(|word| self.text.contains(word))
            || self.text.contains("rev-parse head")
            || self.text.contains("rev-parse --short head")
    }

    /// Whether it differs from one lock file or compiler to the next, as far as one sees.
    pub(crate) fn varies(&self) -> bool {
        ["hashfiles(", "sha256sum", "sha1sum", "md5sum", "b3sum"].iter().any(|word| self.text.contains(word))
    }

    fn add(&mut self, text: &str) {
        if self.text.len() + text.len() < LENGTH {
            self.text.push(' ');
            self.text.push_str(&text.to_lowercase());
        }
    }
}

/// Whether a text holds something like `1.88`.
fn has_release(text: &str) -> bool {
    text.match_indices("1.").any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let digits = text[at + 2..].bytes().take_while(u8::is_ascii_digit).count();
        before.is_none_or(|c| !c.is_ascii_digit() && c != '.' && c != 'v') && digits == 2
    })
}

/// Gathers what a key in a job is made of.
pub(crate) fn sources(facts: &Facts<'_>, job: &JobFacts, key: &str) -> Sources {
    let mut sources = Sources::default();
    let mut waiting = vec![(job, key.to_owned())];
    let mut seen = Vec::new();
    while let Some((job, text)) = waiting.pop() {
        if seen.len() > STEPS {
            sources.unknown = true;
            break;
        }
        sources.add(&text);
        for reference in references(&text) {
            let id = (job.id.clone(), reference.clone());
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            follow(facts, job, &reference, &mut sources, &mut waiting);
        }
    }
    sources
}

fn follow<'f>(
    facts: &'f Facts<'_>,
    job: &'f JobFacts,
    reference: &str,
    sources: &mut Sources,
    waiting: &mut Vec<(&'f JobFacts, String)>,
) {
    let parts: Vec<&str> = reference.split('.').collect();
    match parts[..] {
        ["steps", id, ..] => {
            let step = job.steps.iter().find(|step| step.step().id.as_deref() == Some(id));
            match step {
                Some(step) if step.step().run.is_some() => {
                    waiting.push((job, step_text(step.script())));
                }
                Some(step) => {
                    let name = step.uses.as_ref().map_or("", |uses| uses.name.as_str());
                    sources.add(name);
                    sources.unknown |= !name.contains("rust-toolchain");
                }
                None => sources.unknown = true,
            }
        }
        ["needs", id, "outputs", name] => {
            let output = facts.job(id).and_then(|job| Some((job, job.outputs.iter().find(|(key, _)| key == name)?)));
            match output {
                Some((job, (_, value))) => waiting.push((job, value.text.clone())),
                None => sources.unknown = true,
            }
        }
        ["env", name] => match job.environment.value(name) {
            Some(value) if !value.contains(name) => {
                waiting.push((job, value.to_owned()));
                // What a program printed: which one is in the script that set it.
                let set = job.steps.iter().find(|step| {
                    step.script().commands.iter().any(|command| command.assignments.iter().any(|(n, _)| n == name))
                });
                waiting.extend(set.map(|step| (job, step_text(step.script()))));
            }
            _ => sources.unknown |= !is_well_known(name),
        },
        ["inputs", ..] => sources.unknown = true,
        _ => {}
    }
}

fn is_well_known(name: &str) -> bool {
    name.starts_with("GITHUB_") || name.starts_with("RUNNER_") || ["HOME", "USER", "PWD", "CARGO_HOME"].contains(&name)
}

/// The words of a script, without its comments.
fn step_text(script: &Script) -> String {
    let mut text = String::new();
    for command in script.commands.iter().take(400) {
        for word in command.words.iter().chain(command.assignments.iter().map(|(_, value)| value)) {
            text.push_str(word);
            text.push(' ');
        }
    }
    text
}

/// What a text refers to: `steps.a.outputs.b` and the like, and `$NAME` as `env.NAME`.
fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    for context in ["steps.", "needs.", "env.", "inputs."] {
        for (at, _) in text.match_indices(context).take(STEPS) {
            if text[..at].chars().next_back().is_some_and(is_part) {
                continue;
            }
            let end = text[at..].find(|c| !is_part(c)).map_or(text.len(), |end| at + end);
            found.push(text[at..end].to_owned());
        }
    }
    for (at, _) in text.match_indices('$').take(4 * STEPS) {
        let rest = text[at + 1..].trim_start_matches('{');
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if is_name(&rest[..end]) {
            found.push(format!("env.{}", &rest[..end]));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
