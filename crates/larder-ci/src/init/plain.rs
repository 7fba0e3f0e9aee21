//! A script that does the same jobs one after the other: for a desk, a timer, or a CI system that nobody here knows.

use super::jobs::{Job, Work};
use super::lines::{Lines, plain, shell_word};
use super::{Facts, Written};

pub(super) fn write(facts: &Facts, jobs: &[Job]) -> Written {
    let mut out = Lines::default();
    let ids: Vec<&str> = jobs.iter().map(|job| job.id).collect();
    out.line(0, "#!/usr/bin/env bash");
    let name = plain(&facts.repository);
    out.comment(
        0,
        &format!("CI of {name}, written by `larder init --for plain`. It is yours now: change what you like."),
    );
    out.line(0, "#");
    out.line(0, "#   ./ci.sh            all jobs, in order, until one fails");
    out.line(0, &format!("#   ./ci.sh JOB…       some of them: {}", ids.join(" ")));
    out.line(0, "#");
    out.comment(
        0,
        "It needs git, Rust, and larder on the PATH. LARDER_STORE names the store, a directory on the file system of the \
         builds that all of them share.",
    );
    out.line(0, "set -euo pipefail");
    out.line(0, "shopt -s inherit_errexit");
    let folder = match facts.directory.is_empty() {
        true => String::new(),
        false => format!("/{}", shell_word(&facts.directory)),
    };
    out.line(0, &format!("cd \"$(dirname \"${{BASH_SOURCE[0]}}\")\"{folder}"));
    out.line(0, "");
    out.comment(0, "Checkouts in several places build as if they stood in one, where that is permitted.");
    out.line(0, "export LARDER_CANONICAL=true");
    for job in jobs {
        out.line(0, "");
        out.comment(0, &job.about);
        out.line(0, &format!("job_{}() {{", job.id));
        let env: String = job.env.iter().map(|(name, value)| format!("{name}={} ", shell_word(value))).collect();
        let run = |command: &str| format!("{env}larder run --job {} -- {command}", job.id);
        match &job.work {
            Work::Setup => {
                out.line(4, "local outputs");
                out.line(4, "outputs=$(mktemp)");
                out.line(4, "larder setup --output \"$outputs\"");
                out.comment(4, "The jobs that follow find it in their environment.");
                out.line(4, "LARDER_PLAN=$(sed -n 's/^LARDER_PLAN=//p' \"$outputs\")");
                out.line(4, "export LARDER_PLAN");
                out.line(4, "rm -f \"$outputs\"");
            }
            Work::Cached(command) => out.line(4, &run(command)),
            Work::Plain(command) => out.line(4, &format!("{env}{command}")),
            Work::Tool { program, command, install } => {
                let command = if job.needs_plan { run(command) } else { format!("{env}{command}") };
                out.line(4, &format!("if command -v {program} >/dev/null; then"));
                out.line(8, &command);
                out.line(4, "else");
                out.line(8, &format!("echo \"not checked: {program} is not installed: {install}\" >&2"));
                out.line(4, "fi");
            }
        }
        out.line(0, "}");
    }
    out.line(0, "");
    out.line(0, &format!("jobs=({})", ids.join(" ")));
    out.line(0, "if (($#)); then jobs=(\"$@\"); fi");
    out.line(0, "for job in \"${jobs[@]}\"; do");
    out.line(4, "if ! declare -F \"job_$job\" >/dev/null; then");
    out.line(8, &format!("echo \"no such job: $job; these are: {}\" >&2", ids.join(" ")));
    out.line(8, "exit 2");
    out.line(4, "fi");
    out.line(0, "done");
    out.line(0, "for job in \"${jobs[@]}\"; do");
    out.line(4, "echo \"== $job\" >&2");
    out.line(4, "\"job_$job\"");
    out.line(0, "done");
    Written { path: "ci.sh", text: out.finish(), executable: true }
}
