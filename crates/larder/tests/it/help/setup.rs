//! What `larder setup -h` says.

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
