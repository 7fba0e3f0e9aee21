//! A pipeline of GitLab.

use super::jobs::{Job, Work};
use super::lines::{Lines, list, plain, scalar, shell_word};
use super::{Facts, Written};

pub(super) fn write(facts: &Facts, jobs: &[Job]) -> Written {
    let mut out = Lines::default();
    let name = plain(&facts.repository);
    out.comment(
        0,
        &format!("CI of {name}, written by `larder init --for gitlab`. It is yours now: change what you like."),
    );
    out.line(0, "#");
    out.comment(
        0,
        "The runners (executor: shell) need git, Rust, and larder on their PATH. Those of one machine share one store: \
         LARDER_STORE in the environment of config.toml, a directory on the file system of the builds.",
    );
    out.line(0, "#");
    out.comment(
        0,
        "A merge request from a fork runs its author's code on these machines as soon as a member starts its pipeline here. \
         What it builds is never saved; that does not make its code harmless.",
    );
    out.line(0, "stages: [setup, check]");
    out.line(0, "");
    out.comment(0, "A newer push to a merge request ends the pipeline of the older one. Pipelines of the default branch go on: they save what others start from.");
    out.line(0, "workflow:");
    out.line(2, "auto_cancel:");
    out.line(4, "on_new_commit: none");
    out.line(2, "rules:");
    out.line(4, "- if: $CI_PIPELINE_SOURCE == \"merge_request_event\"");
    out.line(6, "auto_cancel:");
    out.line(8, "on_new_commit: interruptible");
    out.line(4, "- if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH");
    out.line(0, "");
    out.line(0, "default:");
    out.line(2, "interruptible: true");
    if !facts.runner.is_empty() {
        out.line(2, &format!("tags: {}", list(&facts.runner)));
    }
    if !facts.directory.is_empty() {
        out.line(2, "before_script:");
        out.line(4, &format!("- {}", scalar(&format!("cd ./{}", shell_word(&facts.directory)))));
    }
    out.line(0, "");
    out.line(0, "variables:");
    out.line(2, "CARGO_TERM_COLOR: always");
    out.comment(2, "Each runner builds in a directory of its own, and cargo builds again what stands elsewhere. larder shows the same paths to all where it may.");
    out.line(2, "LARDER_CANONICAL: \"true\"");
    for job in jobs {
        out.line(0, "");
        out.comment(0, &job.about);
        out.line(0, &format!("{}:", job.id));
        let stage = if job.work == Work::Setup { "setup" } else { "check" };
        out.line(2, &format!("stage: {stage}"));
        if job.needs_plan {
            out.comment(2, "The plan comes as the variable LARDER_PLAN, from the dotenv report.");
        }
        if job.work != Work::Setup {
            out.line(2, if job.needs_plan { "needs: [setup]" } else { "needs: []" });
        }
        out.line(2, &format!("timeout: {} minutes", job.minutes));
        if !job.env.is_empty() {
            out.line(2, "variables:");
            job.env.iter().for_each(|(name, value)| out.line(4, &format!("{name}: {}", scalar(value))));
        }
        out.line(2, "script:");
        match &job.work {
            Work::Setup => {
                out.line(4, "- larder setup --output \"$CI_PROJECT_DIR/plan.env\"");
                out.line(2, "artifacts:");
                out.line(4, "reports:");
                out.line(6, "dotenv: plan.env");
            }
            Work::Cached(command) => out.line(4, &format!("- larder run -- {command}")),
            Work::Plain(command) => out.line(4, &format!("- {command}")),
            Work::Tool { program, command, install } => {
                let command = if job.needs_plan { format!("larder run -- {command}") } else { command.clone() };
                out.line(4, "- |");
                out.line(6, &format!("if command -v {program} >/dev/null; then"));
                out.line(8, &command);
                out.line(6, "else");
                out.line(
                    8,
                    &format!("echo \"not checked: {program} is not installed; on each runner, once: {install}\""),
                );
                out.line(6, "fi");
            }
        }
    }
    Written { path: ".gitlab-ci.yml", text: out.finish(), executable: false }
}
