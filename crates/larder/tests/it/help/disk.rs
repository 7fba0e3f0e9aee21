//! What `--help` says of the commands that look after the disk.

use crate::support::{Sandbox, snapshot};

#[test]
fn du() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["du", "-h"]).ok(), @r#"
    exit code 0
    --- stdout
    Say what the store's disk space goes to, and what removing which snapshots would free

    Usage: larder du [OPTIONS]

    Options:
          --by <WHAT>                What a row is [default: lineage] [possible values: repository,
                                     lineage, snapshot, branch, kind]
          --store <DIR>              The directory that holds everything [default: ~/.cache/larder]
          --format <FORMAT>          What to print on stdout [default: text] [possible values: text,
                                     json]
          --key <PREFIX>             Only snapshots whose key starts so [default: ""]
      -q, --quiet                    Say nothing but errors
          --repository <OWNER/NAME>  Only snapshots of this repository
          --job <JOB>                Only snapshots of this job
      -v, --verbose...               Say every decision; twice for each file and unit
          --branch <BRANCH>          Only snapshots saved on this branch
          --color <COLOR>            When to use colour [default: auto] [possible values: auto, always,
                                     never]
          --kind <KIND>              Only snapshots of this kind of directory [possible values: target,
                                     cargo-home, paths]
          --sort <COLUMN>            The column with the largest numbers first [default: stored]
                                     [possible values: stored, logical, unique, reclaimable, snapshots,
                                     name]
      -h, --help                     Print help (see more with '--help')
      -V, --version                  Print version

    Logical bytes are the lengths of all files, as copies would have. Stored is space on disk, each blob
    once. Unique is stored for this row alone. Reclaimable is what removing the row's snapshots would
    free: a blob that a workspace still links frees nothing.

    Examples:
      larder du                              what each lineage (a job of a repository) holds
      larder du --by repository --sort unique
      larder du --by snapshot --job test     which snapshots to remove with `larder rm`
    "#);
}

#[test]
fn report() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["report", "-h"]).ok(), @r#"
    exit code 0
    --- stdout
    Say what the store cost and spared: text, JSON, Markdown, or a page with pictures

    Usage: larder report [OPTIONS]

    Options:
          --since <AGE>      How far to look back: hours, days or weeks, as 12h, 30d, 4w [default: 30d]
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
          --markdown         Print Markdown, for the summary of a CI step
          --html <FILE>      Write one HTML page with pictures, whole in itself, to this file
      -q, --quiet            Say nothing but errors
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version

    Every restore, save and removal is recorded in the store. Spared is what the units that were
    restored cost when they were compiled, added up: on several cores a build takes less. Examples:
      larder report --since 7d
      larder report --html report.html
      larder report --markdown >> "$GITHUB_STEP_SUMMARY"
    "#);
}

#[test]
fn gc() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["gc", "--help"]).ok(), @"
    exit code 0
    --- stdout
    Evict what is worth least, and delete what nothing needs

    Usage: larder gc [OPTIONS]

    Options:
          --need <SIZE>
              Evict until so much is free on the store's file system, such as 12GB

          --store <DIR>
              The directory that holds everything [default: ~/.cache/larder]

          --budget <SIZE>
              What the store may take: a size, a part of its file system such as 20%, or off [default:
              off]

          --format <FORMAT>
              What to print on stdout

              Possible values:
              - text: For people
              - json: One JSON object; its schema is in the repository's schemas/

              [default: text]

          --max-age <TIME>
              Drop what was not used for so long, such as 7d or 36h, or off [default: 7d]

      -q, --quiet
              Say nothing but errors

          --keep <N>
              So many snapshots of each lineage may stay, the newest ones [default: 3]

      -v, --verbose...
              Say every decision; twice for each file and unit

          --color <COLOR>
              When to use colour

              Possible values:
              - auto:   On a terminal, unless NO_COLOR is set
              - always
              - never

              [default: auto]

          --dry-run
              Change nothing; say who would go, in this order

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Drops what is old or too many in its lineage; then, while the store is over its budget or room is
    needed, what spares the fewest expected seconds for its bytes. What a job uses or somebody pinned
    stays.

    Examples:
      larder gc --dry-run        who would go, in this order, and why
      larder gc --need 12GB      make room for a job; exits 1 if that cannot be
      larder gc --budget 20%     keep the store below a fifth of its disk

    Settings in larder.toml: budget, max-age, keep, keep-cargo-home, high, low, lease. See
    docs/eviction.md.
    ");
}

#[test]
fn pin() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["pin", "--help"]).ok(), @"
    exit code 0
    --- stdout
    Keep snapshots from being evicted

    Usage: larder pin [OPTIONS] <ID|KEY|--list>

    Arguments:
      [ID|KEY]...
              Snapshots, by name, or by key: then the newest one

    Options:
          --reason <TEXT>
              Why, for whoever wonders later

          --store <DIR>
              The directory that holds everything [default: ~/.cache/larder]

          --format <FORMAT>
              What to print on stdout

              Possible values:
              - text: For people
              - json: One JSON object; its schema is in the repository's schemas/

              [default: text]

          --list
              List what is pinned

      -q, --quiet
              Say nothing but errors

      -v, --verbose...
              Say every decision; twice for each file and unit

          --color <COLOR>
              When to use colour

              Possible values:
              - auto:   On a terminal, unless NO_COLOR is set
              - always
              - never

              [default: auto]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Example: larder pin --reason 'release 1.2' cargo-test-1f0c9a4be2d7

    `larder ls` shows names and keys. A pin stays until `larder unpin`.
    ");
}

#[test]
fn unpin() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["unpin", "--help"]).ok(), @"
    exit code 0
    --- stdout
    Let pinned snapshots be evicted again

    Usage: larder unpin [OPTIONS] <ID|KEY>...

    Arguments:
      <ID|KEY>...
              Snapshots, by name, or by key: then all of it

    Options:
          --store <DIR>
              The directory that holds everything [default: ~/.cache/larder]

          --format <FORMAT>
              What to print on stdout

              Possible values:
              - text: For people
              - json: One JSON object; its schema is in the repository's schemas/

              [default: text]

      -q, --quiet
              Say nothing but errors

      -v, --verbose...
              Say every decision; twice for each file and unit

          --color <COLOR>
              When to use colour

              Possible values:
              - auto:   On a terminal, unless NO_COLOR is set
              - always
              - never

              [default: auto]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version
    ");
}

#[test]
fn guard() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["guard", "--help"]).ok(), @r#"
    exit code 0
    --- stdout
    Keep the disks of store and workspaces between their marks; exits 1 if there is no room

    Usage: larder guard [OPTIONS]

    Options:
          --store <DIR>
              The directory that holds everything [default: ~/.cache/larder]

          --workspace <DIR>
              A directory whose disk is looked at too; may be repeated [default: the current directory]

          --format <FORMAT>
              What to print on stdout

              Possible values:
              - text: For people
              - json: One JSON object; its schema is in the repository's schemas/

              [default: text]

          --need <SIZE>
              What a job is about to write there, such as 12GB

          --high <PERCENT>
              Act above so many percent [default: 80]

      -q, --quiet
              Say nothing but errors

          --low <PERCENT>
              Until it is so many [default: 70]

      -v, --verbose...
              Say every decision; twice for each file and unit

          --color <COLOR>
              When to use colour

              Possible values:
              - auto:   On a terminal, unless NO_COLOR is set
              - always
              - never

              [default: auto]

          --dry-run
              Change nothing; say what would be done

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Above the high mark it evicts down to the low one, in the order of `larder gc`. Where that is not
    enough it names what fills the disk, and touches nothing of it. Folders of others are cleaned up
    only where the host's larder.toml names them:

      [[care]]
      path = "/home/runner/_work/_temp"
      max-age = "3d"

    Example, before a job: larder guard --need 12GB
    "#);
}
