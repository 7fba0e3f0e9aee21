//! A workflow of GitHub, or of Forgejo and Gitea, which read nearly the same.

use super::jobs::{Job, Work};
use super::lines::{Lines, list, plain, scalar};
use super::{Facts, Written};

/// What the systems have each for themselves.
pub(super) struct Dialect {
    path: &'static str,
    /// Where the checkout action comes from, pinned, with the version in a comment.
    checkout: &'static str,
    /// The labels of runners, where nobody named any.
    runner: &'static [&'static str],
    /// Where people set what strangers may start.
    approval: &'static str,
    /// Whether tokens are given permissions by the workflow.
    permissions: bool,
}

pub(super) const GITHUB: Dialect = Dialect {
    path: ".github/workflows/ci.yml",
    checkout: "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    runner: &["self-hosted", "linux"],
    approval: "Settings, Actions, General: require approval for all external contributors",
    permissions: true,
};

/// Forgejo's runner takes actions from data.forgejo.org; its node is that of the host, and v4 is content with old ones.
pub(super) const FORGEJO: Dialect = Dialect {
    path: ".forgejo/workflows/ci.yml",
    checkout: "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2",
    runner: &["self-hosted"],
    approval: "runs of pull requests from new contributors wait for an approval: look at them before you give it",
    permissions: false,
};

pub(super) fn write(dialect: &Dialect, facts: &Facts, jobs: &[Job]) -> Written {
    let mut out = Lines::default();
    head(&mut out, dialect, facts, jobs);
    let own: Vec<String> = dialect.runner.iter().map(|label| (*label).to_owned()).collect();
    let runner = list(if facts.runner.is_empty() { &own } else { &facts.runner });
    out.line(0, "jobs:");
    for (number, job) in jobs.iter().enumerate() {
        if number > 0 {
            out.line(0, "");
        }
        out.comment(2, &job.about);
        out.line(2, &format!("{}:", job.id));
        if job.needs_plan {
            out.line(4, "needs: setup");
        }
        out.line(4, &format!("runs-on: {runner}"));
        out.line(4, &format!("timeout-minutes: {}", job.minutes));
        if job.work == Work::Setup {
            out.line(4, "outputs:");
            out.line(6, "plan: ${{ steps.larder.outputs.plan }}");
        }
        if job.needs_plan || !job.env.is_empty() {
            out.line(4, "env:");
            if job.needs_plan {
                out.line(6, "LARDER_PLAN: ${{ needs.setup.outputs.plan }}");
            }
            job.env.iter().for_each(|(name, value)| out.line(6, &format!("{name}: {}", scalar(value))));
        }
        out.line(4, "steps:");
        out.line(6, &format!("- uses: {}", dialect.checkout));
        out.line(8, "with:");
        out.line(10, "persist-credentials: false");
        step(&mut out, job);
    }
    Written { path: dialect.path, text: out.finish(), executable: false }
}

fn head(out: &mut Lines, dialect: &Dialect, facts: &Facts, jobs: &[Job]) {
    out.comment(
        0,
        &format!(
            "CI of {}, written by `larder init`. It is yours now: change what you like.",
            plain(&facts.repository)
        ),
    );
    out.line(0, "#");
    tree(out, jobs);
    out.line(0, "#");
    let toolchain = match &facts.toolchain_file {
        Some(file) => format!("rustup (which installs what {} names)", plain(file)),
        None => "Rust".into(),
    };
    out.comment(
        0,
        &format!(
            "The runners need git, {toolchain}, and larder on their PATH. Those of one machine share one store: \
             LARDER_STORE in each runner's .env, a directory on the file system of the workspaces."
        ),
    );
    out.line(0, "#");
    out.comment(
        0,
        &format!(
            "A pull request from a fork runs its author's code on these machines. {}. What a fork builds is never saved \
             (LARDER_SAVE below, and larder's own default); that does not make its code harmless.",
            dialect.approval
        ),
    );
    out.line(0, "name: CI");
    out.line(0, "");
    out.line(0, "on:");
    out.line(2, "push:");
    out.line(4, &format!("branches: {}", list(std::slice::from_ref(&facts.default_branch))));
    out.line(2, "pull_request:");
    out.line(0, "");
    if dialect.permissions {
        out.line(0, "permissions:");
        out.line(2, "contents: read");
        out.line(0, "");
    }
    out.comment(0, "A newer push to a pull request ends the run of the older one. Runs of a branch go on: they save what others start from.");
    out.line(0, "concurrency:");
    out.line(2, "group: ${{ github.workflow }}-${{ github.ref }}");
    out.line(2, "cancel-in-progress: ${{ github.event_name == 'pull_request' }}");
    out.line(0, "");
    out.line(0, "env:");
    out.line(2, "CARGO_TERM_COLOR: always");
    out.comment(2, "Each runner has a _work of its own, and cargo builds again what stands elsewhere. larder shows the same paths to all of them where it may, and says in one line where it may not.");
    out.line(2, "LARDER_CANONICAL: \"true\"");
    out.comment(2, "Whoever can push to this repository may save. Somebody else's fork may not.");
    out.line(2, "LARDER_SAVE: ${{ github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name != github.repository && 'never' || 'success' }}");
    out.line(0, "");
    if !facts.directory.is_empty() {
        out.line(0, "defaults:");
        out.line(2, "run:");
        out.line(4, &format!("working-directory: {}", scalar(&facts.directory)));
        out.line(0, "");
    }
}

/// Who waits for whom.
fn tree(out: &mut Lines, jobs: &[Job]) {
    let waiting: Vec<&str> = jobs.iter().filter(|job| job.needs_plan).map(|job| job.id).collect();
    let free: Vec<&str> =
        jobs.iter().filter(|job| !job.needs_plan && job.work != Work::Setup).map(|job| job.id).collect();
    out.comment(0, &format!("setup, then at once {}; and without waiting {}.", waiting.join(", "), free.join(", ")));
}

fn step(out: &mut Lines, job: &Job) {
    match &job.work {
        Work::Setup => {
            out.line(6, "- id: larder");
            out.line(8, "run: larder setup");
        }
        Work::Cached(command) => out.line(6, &format!("- run: larder run -- {command}")),
        Work::Plain(command) => out.line(6, &format!("- run: {command}")),
        Work::Tool { program, command, install } => {
            let command = if job.needs_plan { format!("larder run -- {command}") } else { command.clone() };
            out.line(6, "- run: |");
            out.line(10, &format!("if command -v {program} >/dev/null; then"));
            out.line(12, &command);
            out.line(10, "else");
            out.line(
                12,
                &format!(
                    "echo \"::warning title={program} is not installed::not checked; on each runner, once: {install}\""
                ),
            );
            out.line(10, "fi");
        }
    }
}
