//! What `--help` says of the commands around workflows.

use crate::support::{Sandbox, snapshot};

#[test]
fn setup() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["setup", "-h"]).ok(), @r#"
    exit code 0
    --- stdout
    Once in a workflow: resolve sibling repositories to commits, and plan it for all jobs

    Usage: larder setup [OPTIONS]

    Options:
          --store <DIR>             The directory that holds everything [default: ~/.cache/larder]
          --workspace <DIR>         The cargo workspace whose siblings are wanted [default: the current
                                    directory]
          --format <FORMAT>         What to print on stdout [default: text] [possible values: text,
                                    json]
          --sibling <NAME=URL#REF>  Where a sibling comes from, and which branch, tag or commit to take;
                                    may be repeated
          --branch <BRANCH>         The branch to take where siblings have it [default: that of the run]
      -q, --quiet                   Say nothing but errors
          --offline                 Ask no remote: the store's mirrors must do
      -v, --verbose...              Say every decision; twice for each file and unit
          --color <COLOR>           When to use colour [default: auto] [possible values: auto, always,
                                    never]
          --exact                   Throw away changes in siblings that larder checked out
          --need <SIZE>             Fail unless so much is free, such as 12GB
          --output <FILE>           Write the outputs to this file too, as variables: LARDER_PLAN and
                                    others
      -h, --help                    Print help (see more with '--help')
      -V, --version                 Print version

    Siblings are the repositories beside this one that manifests name by path, and those that they name.
    Of each the branch of the run's own name is taken, else that of the pull request's base, else the
    configured or the default one. Outputs go to GITHUB_OUTPUT and stdout: `plan`, `cache-key`, and
    `key-NAME` and `commit-NAME` of each sibling. Other jobs take the plan by LARDER_PLAN or --plan, and
    build the same commits. Fetches go to mirrors in the store and move only what is new; a remote that
    cannot be reached is replaced by its mirror, with a warning. See docs/setup.md.

    Examples:
      larder setup
      larder setup --sibling consensus=https://git.example.org/acme/consensus#v1.2
      larder setup --output larder.env      (GitLab: artifacts:reports:dotenv)

    In larder.toml:

      default-branch = "develop"
      [siblings.consensus]
      url = "https://git.example.org/acme/consensus"
      branch = "main"
    "#);
}

#[test]
fn audit() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["audit", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Find what in workflows costs time, disk or trust, and say what to do

    Usage: larder audit [OPTIONS] [FILES]...

    Arguments:
      [FILES]...  Workflows and actions [default: .github/workflows, .github/actions and action.yml of
                  this repository]

    Options:
          --fail-on <SEVERITY>  Exit with 1 for findings of this severity or above [default: error]
                                [possible values: error, warning, note, never]
          --store <DIR>         The directory that holds everything [default: ~/.cache/larder]
          --format <FORMAT>     What to print on stdout [default: text] [possible values: text, json]
          --output <OUTPUT>     How to say it [default: text, or what --format says] [possible values:
                                text, json, sarif, github]
      -q, --quiet               Say nothing but errors
      -v, --verbose...          Say every decision; twice for each file and unit
          --color <COLOR>       When to use colour [default: auto] [possible values: auto, always,
                                never]
      -h, --help                Print help (see more with '--help')
      -V, --version             Print version

    Reads GitHub workflows and composite actions; without FILES those of this repository. Changes
    nothing. Every rule has a bad and a good example in docs/audit.md; `# larder: allow(rule) reason` on
    a line, or above it, silences a rule there. Examples:
      larder audit
      larder audit --fail-on warning .github/workflows/ci.yml
      larder audit --output github      (annotations on a pull request)
      larder audit --output sarif > larder.sarif
    ");
}

#[test]
fn install_runner() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["install-runner", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Put hooks around every job of a GitHub runner, and a timer that collects

    Usage: larder install-runner [OPTIONS] <DIR>

    Arguments:
      <DIR>  The runner's folder, with its run.sh and .env

    Options:
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --undo             Take out what was put in, and restore what was there
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
          --no-timer         Leave systemd alone
      -q, --quiet            Say nothing but errors
          --units <DIR>      Where systemd's units go [default: /etc/systemd/system as root, else
                             ~/.config/systemd/user]
          --dry-run          Change nothing; say what would be done
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version

    Before each job the hooks make room and end the leases of jobs that were killed; after it they end
    its own and collect now and then. They end in time and fail no job. Hooks that are there already are
    called by larder's, and nothing else in .env changes. See docs/runner.md. Examples:
      larder install-runner --dry-run ~/actions-runner
      larder install-runner --store /var/cache/larder ~/actions-runner
      larder install-runner --undo ~/actions-runner
    ");
}

#[test]
fn init() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["init", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Write the workflow for this repository: one setup, jobs that start warm

    Usage: larder init [OPTIONS] [DIR]

    Arguments:
      [DIR]  The cargo workspace [default: the current directory]

    Options:
          --for <SYSTEM>     The CI system that the file is for [default: github] [possible values:
                             github, forgejo, gitlab, buildkite, plain]
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
          --patch [<FILE>]   Change a workflow that is there, and show the difference [default: all in
                             .github/workflows]
      -q, --quiet            Say nothing but errors
          --runner <LABEL>   A label that the runner must have; may be repeated [default: self-hosted
                             and linux]
          --force            Replace a file that is there
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
          --dry-run          Write nothing; print what would be written
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version

    Writes one file, which says in comments why it is as it is, and larder.toml only where a sibling's
    address cannot be guessed. A file that is there stays, unless --force is given.

    With --patch it changes a GitHub workflow in place: caches of cargo's directories go, commands that
    build are run by larder, siblings that several jobs check out come from one setup job. Comments,
    order and every other byte stay; what it does not understand it leaves alone, and says so.
    docs/init.md shows both. Examples:
      larder init --dry-run
      larder init --for gitlab
      larder init --patch .github/workflows/ci.yml --dry-run
      larder init --patch --runner self-hosted --runner linux
    ");
}
