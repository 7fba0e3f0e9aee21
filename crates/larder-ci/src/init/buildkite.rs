//! A pipeline of Buildkite.

use super::jobs::{Job, Work};
use super::lines::{Lines, plain, scalar, shell_word};
use super::{Facts, Written};

/// Where the plan is kept from the setup step to the others.
const META_DATA: &str = "larder-plan";

pub(super) fn write(facts: &Facts, jobs: &[Job]) -> Written {
    let mut out = Lines::default();
    let name = plain(&facts.repository);
    out.comment(
        0,
        &format!("CI of {name}, written by `larder init --for buildkite`. It is yours now: change what you like."),
    );
    out.line(0, "#");
    out.comment(
        0,
        "The agents need git, Rust, and larder on their PATH. Those of one machine share one store: LARDER_STORE in the agents' \
         environment hook, a directory on the file system of the builds.",
    );
    out.line(0, "#");
    out.comment(
        0,
        "A pull request from a fork runs its author's code on these machines, where the pipeline's settings build forks. \
         What it builds is never saved; that does not make its code harmless.",
    );
    out.line(0, "#");
    out.comment(0, "`$$` is a `$` for the step's own shell: Buildkite replaces single ones when it reads this file.");
    if !facts.runner.is_empty() {
        out.line(0, "agents:");
        for label in &facts.runner {
            let (key, value) = label.split_once('=').unwrap_or(("queue", label));
            out.line(2, &format!("{}: {}", scalar(key), scalar(value)));
        }
        out.line(0, "");
    }
    out.line(0, "env:");
    out.line(2, "CARGO_TERM_COLOR: always");
    out.comment(2, "Each agent builds in a directory of its own, and cargo builds again what stands elsewhere. larder shows the same paths to all where it may.");
    out.line(2, "LARDER_CANONICAL: \"true\"");
    out.line(0, "");
    out.line(0, "steps:");
    for (number, job) in jobs.iter().enumerate() {
        if number > 0 {
            out.line(0, "");
        }
        out.comment(2, &job.about);
        out.line(2, &format!("- key: {}", job.id));
        out.line(4, &format!("label: {}", job.id));
        if job.needs_plan {
            out.line(4, "depends_on: setup");
        }
        out.line(4, &format!("timeout_in_minutes: {}", job.minutes));
        if !job.env.is_empty() {
            out.line(4, "env:");
            job.env.iter().for_each(|(name, value)| out.line(6, &format!("{name}: {}", scalar(value))));
        }
        out.line(4, "command: |");
        if !facts.directory.is_empty() {
            out.line(6, &format!("cd ./{}", shell_word(&facts.directory).replace('$', "$$")));
        }
        if job.needs_plan {
            out.line(6, &format!("LARDER_PLAN=\"$$(buildkite-agent meta-data get {META_DATA})\""));
            out.line(6, "export LARDER_PLAN");
        }
        match &job.work {
            Work::Setup => {
                out.line(6, "outputs=\"$$(mktemp)\"");
                out.line(6, "larder setup --output \"$$outputs\"");
                out.line(6, &format!("sed -n 's/^LARDER_PLAN=//p' \"$$outputs\" | tr -d '\\n' | buildkite-agent meta-data set {META_DATA}"));
            }
            Work::Cached(command) => out.line(6, &format!("larder run -- {command}")),
            Work::Plain(command) => out.line(6, command),
            Work::Tool { program, command, install } => {
                let command = if job.needs_plan { format!("larder run -- {command}") } else { command.clone() };
                out.line(6, &format!("if command -v {program} >/dev/null; then"));
                out.line(8, &command);
                out.line(6, "else");
                out.line(
                    8,
                    &format!("echo \"not checked: {program} is not installed; on each agent, once: {install}\""),
                );
                out.line(6, "fi");
            }
        }
    }
    Written { path: ".buildkite/pipeline.yml", text: out.finish(), executable: false }
}
