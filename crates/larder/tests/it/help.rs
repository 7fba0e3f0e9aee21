//! What `--help` says, and what `config` shows.

mod disk;
mod workflows;

use crate::support::{Sandbox, said, snapshot};
use std::fs;

#[test]
fn larder() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["--help"]).ok(), @"
    exit code 0
    --- stdout
    A build cache for Rust CI on machines you own.

    larder keeps cargo's target directory (or any directory) in a store on local disk and gives it back
    exactly, by links, clones or mounts instead of copies. Cargo stays the only judge of what is fresh.

    Usage: larder [OPTIONS] <COMMAND>

    Commands:
      run             Restore, run a command, save: the main job, in CI or on a desk
      shell           Run a script in the canonical world: `shell: larder shell {0}` in a GitHub
                      workflow
      restore         Make the target directory (or any) what a snapshot says
      save            Publish a snapshot of the target directory (or any)
      ls              List snapshots
      du              Say what the store's disk space goes to, and what removing which snapshots would
                      free
      status          Show store, disk and who uses them on one screen
      verify          Read everything and check it: exits 1 if something is damaged
      rm              Remove snapshots, and what only they needed
      gc              Evict what is worth least, and delete what nothing needs
      guard           Keep the disks of store and workspaces between their marks; exits 1 if there is no
                      room
      pin             Keep snapshots from being evicted
      unpin           Let pinned snapshots be evicted again
      why             Say which units the last saved build compiled, and why
      report          Say what the store cost and spared: text, JSON, Markdown, or a page with pictures
      setup           Once in a workflow: resolve sibling repositories to commits, and plan it for all
                      jobs
      audit           Find what in workflows costs time, disk or trust, and say what to do
      init            Write the workflow for this repository: one setup, jobs that start warm
      install-runner  Put hooks around every job of a GitHub runner, and a timer that collects
      config          Show every setting, its value, and where that comes from
      bench           Measure larder against rsync, cp and tar | zstd on a directory of yours
      help            Print this message or the help of the given subcommand(s)

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

    Exit codes: 0 done (a miss is no error), 1 failed, 2 wrong usage; `run` passes on its command's.
    Environment: LARDER_STORE, LARDER_LINK_MODE, LARDER_EXACT, LARDER_SAVE, LARDER_SPARE, LARDER_JOB,
    LARDER_CANONICAL and LARDER_LOG set defaults; LARDER_DISABLE=1 turns larder into a pass-through.
    `larder config` shows what applies and why.
    ");
}

#[test]
fn run() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["run", "--help"]).ok(), @"
    exit code 0
    --- stdout
    Restore, run a command, save: the main job, in CI or on a desk

    Usage: larder run [OPTIONS] <CMD>...

    Arguments:
      <CMD>...
              The command and its arguments

    Options:
          --store <DIR>
              The directory that holds everything [default: ~/.cache/larder]

          --workspace <DIR>
              The cargo workspace whose target directory is kept [default: the current directory]

          --format <FORMAT>
              What to print on stdout

              Possible values:
              - text: For people
              - json: One JSON object; its schema is in the repository's schemas/

              [default: text]

          --path <DIR>
              Keep this directory instead of the target directory; may be repeated

          --key <KEY>
              The snapshot's exact name [default for cargo: made from compiler, paths, lock file and
              job]

      -q, --quiet
              Say nothing but errors

          --key-only
              Let a --path snapshot be restored at another path than it was saved from

      -v, --verbose...
              Say every decision; twice for each file and unit

          --color <COLOR>
              When to use colour

              Possible values:
              - auto:   On a terminal, unless NO_COLOR is set
              - always
              - never

              [default: auto]

          --job <JOB>
              The job whose snapshots come first [default: GITHUB_JOB, else from the command, else
              `job`]

          --link-mode <MODE>
              How files leave and enter the store

              Possible values:
              - auto:      The best that works, file by file
              - spare:     Rename a tree that was prepared ahead of time
              - subvolume: Snapshot a Btrfs subvolume
              - reflink:   Share extents (Btrfs, XFS)
              - hardlink:  Hard-link what nothing rewrites, copy the rest
              - overlay:   Mount an overlay; as an ordinary user only in `run`
              - copy:      Copy everything

          --canonical
              Work at paths that are the same on every machine and in every checkout

          --fallback-key <PREFIX>
              Without an exact match take the newest snapshot whose key starts so; may be repeated, in
              order

          --exact
              Remove what is in the directory and not in the snapshot; replace what is newer

          --explain
              Say which snapshots were considered, and what building on each would cost

          --plan <PLAN>
              Check the siblings out as `larder setup` planned [default: LARDER_PLAN]

          --save <WHEN>
              When to save

              Possible values:
              - success: After the command succeeded
              - always:  Whatever the command did
              - never:   Never

          --spare
              After saving, prepare a tree so that the next restore is one rename

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Example: larder run -- cargo test --workspace

    The command runs in the workspace; its exit code is passed on; signals are forwarded to it. A fault
    of the cache never fails it: larder warns and goes on without. stdout is the command's own; with
    --format json larder's object follows, as the last line.
    ");
}

#[test]
fn restore() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["restore", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Make the target directory (or any) what a snapshot says

    Usage: larder restore [OPTIONS]

    Options:
          --store <DIR>            The directory that holds everything [default: ~/.cache/larder]
          --workspace <DIR>        The cargo workspace whose target directory is kept [default: the
                                   current directory]
          --format <FORMAT>        What to print on stdout [default: text] [possible values: text, json]
          --path <DIR>             Keep this directory instead of the target directory; may be repeated
          --key <KEY>              The snapshot's exact name [default for cargo: made from compiler,
                                   paths, lock file and job]
      -q, --quiet                  Say nothing but errors
          --key-only               Let a --path snapshot be restored at another path than it was saved
                                   from
      -v, --verbose...             Say every decision; twice for each file and unit
          --color <COLOR>          When to use colour [default: auto] [possible values: auto, always,
                                   never]
          --job <JOB>              The job whose snapshots come first [default: GITHUB_JOB, else from
                                   the command, else `job`]
          --link-mode <MODE>       How files leave and enter the store [possible values: auto, spare,
                                   subvolume, reflink, hardlink, overlay, copy]
          --canonical              Work at paths that are the same on every machine and in every
                                   checkout
          --fallback-key <PREFIX>  Without an exact match take the newest snapshot whose key starts so;
                                   may be repeated, in order
          --exact                  Remove what is in the directory and not in the snapshot; replace what
                                   is newer
          --explain                Say which snapshots were considered, and what building on each would
                                   cost
          --plan <PLAN>            Check the siblings out as `larder setup` planned [default:
                                   LARDER_PLAN]
          --dry-run                Change nothing; say what would be done
      -h, --help                   Print help (see more with '--help')
      -V, --version                Print version

    A miss exits 0 and leaves the directory alone. Example for any directory:
      larder restore --path node_modules --key npm-$HASH --fallback-key npm-
    ");
}

#[test]
fn save() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["save", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Publish a snapshot of the target directory (or any)

    Usage: larder save [OPTIONS]

    Options:
          --store <DIR>       The directory that holds everything [default: ~/.cache/larder]
          --workspace <DIR>   The cargo workspace whose target directory is kept [default: the current
                              directory]
          --format <FORMAT>   What to print on stdout [default: text] [possible values: text, json]
          --path <DIR>        Keep this directory instead of the target directory; may be repeated
          --key <KEY>         The snapshot's exact name [default for cargo: made from compiler, paths,
                              lock file and job]
      -q, --quiet             Say nothing but errors
          --key-only          Let a --path snapshot be restored at another path than it was saved from
      -v, --verbose...        Say every decision; twice for each file and unit
          --color <COLOR>     When to use colour [default: auto] [possible values: auto, always, never]
          --job <JOB>         The job whose snapshots come first [default: GITHUB_JOB, else from the
                              command, else `job`]
          --link-mode <MODE>  How files leave and enter the store [possible values: auto, spare,
                              subvolume, reflink, hardlink, overlay, copy]
          --canonical         Work at paths that are the same on every machine and in every checkout
          --prune             Leave out units that no build wants any more, as `run` does after success
          --spare             Prepare a tree so that the next restore is one rename
          --dry-run           Change nothing; say what would be done
      -h, --help              Print help (see more with '--help')
      -V, --version           Print version
    ");
}

#[test]
fn ls() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["ls", "-h"]).ok(), @r#"
    exit code 0
    --- stdout
    List snapshots

    Usage: larder ls [OPTIONS]

    Options:
          --key <PREFIX>             Only snapshots whose key starts so [default: ""]
          --store <DIR>              The directory that holds everything [default: ~/.cache/larder]
          --format <FORMAT>          What to print on stdout [default: text] [possible values: text,
                                     json]
          --repository <OWNER/NAME>  Only snapshots of this repository
          --job <JOB>                Only snapshots of this job
      -q, --quiet                    Say nothing but errors
          --branch <BRANCH>          Only snapshots saved on this branch
      -v, --verbose...               Say every decision; twice for each file and unit
          --color <COLOR>            When to use colour [default: auto] [possible values: auto, always,
                                     never]
          --kind <KIND>              Only snapshots of this kind of directory [possible values: target,
                                     cargo-home, paths]
          --sort <WHAT>              What comes first: the newest, or the largest number [default:
                                     newest] [possible values: newest, bytes, files, key]
      -h, --help                     Print help (see more with '--help')
      -V, --version                  Print version

    Example: larder ls --branch main --sort bytes
    "#);
}

#[test]
fn status() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["status", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Show store, disk and who uses them on one screen

    Usage: larder status [OPTIONS]

    Options:
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
      -q, --quiet            Say nothing but errors
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version

    Warnings on stderr name what a person should change: a store that others may write to, files of
    several owners, damage.
    ");
}

#[test]
fn verify() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["verify", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Read everything and check it: exits 1 if something is damaged

    Usage: larder verify [OPTIONS]

    Options:
          --repair           Mend what is damaged, and list what was done
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --dry-run          Change nothing; say what would be done
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
      -q, --quiet            Say nothing but errors
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version

    With --repair nothing intact is lost: what is wrong moves to quarantine, what larder derives is
    removed, rooms, FORMAT and modes are mended. Jobs may go on meanwhile. Exits 0 when nothing is
    damaged any more. Example: larder verify --repair --dry-run
    ");
}

#[test]
fn rm() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["rm", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Remove snapshots, and what only they needed

    Usage: larder rm [OPTIONS] <SNAPSHOT|--key <KEY>>

    Arguments:
      [SNAPSHOT]...  Snapshots, by the names that `larder ls` shows

    Options:
          --key <KEY>        All snapshots of exactly this key
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --force            Also those that are pinned, or that a running job restored
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
          --dry-run          Change nothing; say what would be removed
      -q, --quiet            Say nothing but errors
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version
    ");
}

#[test]
fn config() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["config", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Show every setting, its value, and where that comes from

    Usage: larder config [OPTIONS]

    Options:
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --workspace <DIR>  The workspace whose larder.toml applies [default: the current directory]
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
      -q, --quiet            Say nothing but errors
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version
    ");
}

#[test]
fn bench() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, sandbox.said(["bench", "-h"]).ok(), @"
    exit code 0
    --- stdout
    Measure larder against rsync, cp and tar | zstd on a directory of yours

    Usage: larder bench [OPTIONS] <DIR>

    Arguments:
      <DIR>  The directory to measure with, a cargo target directory for instance; it is only read

    Options:
          --rounds <N>       How often everybody runs [default: 5]
          --store <DIR>      The directory that holds everything [default: ~/.cache/larder]
          --format <FORMAT>  What to print on stdout [default: text] [possible values: text, json]
          --scratch <DIR>    Where to work: a directory on the file system to measure [default: the one
                             that holds DIR]
          --only <ROW>       The rows to measure [default: all] [possible values: restore-empty,
                             restore-identical, restore-changed, restore-built, restore-eight,
                             save-nothing, save-changed, save-all]
      -q, --quiet            Say nothing but errors
          --cold             Drop the page cache before each restore to an empty place (needs root)
      -v, --verbose...       Say every decision; twice for each file and unit
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
          --markdown         Print the table in Markdown
      -h, --help             Print help (see more with '--help')
      -V, --version          Print version
    ");
}

#[test]
fn every_setting_shows_where_it_comes_from() {
    let sandbox = Sandbox::new();
    let repository = sandbox.path("repository");
    fs::create_dir_all(repository.join("deep")).unwrap();
    fs::write(repository.join("larder.toml"), "link-mode = \"hardlink\"\nspare = true\n").unwrap();
    fs::create_dir_all(sandbox.path("home/.config/larder")).unwrap();
    fs::write(sandbox.path("home/.config/larder/larder.toml"), "save = \"never\"\nspare = false\n").unwrap();
    let mut command = sandbox.larder(["config", "--workspace"]);
    command.arg(repository.join("deep")).env("LARDER_JOB", "nightly");
    snapshot!(sandbox, said(&mut command), @"
    exit code 0
    --- stdout
    store           [ROOT]/store LARDER_STORE
    link-mode       hardlink                         [ROOT]/repository/larder.toml
    exact           false                            default
    save            never                            [ROOT]/home/.config/larder/larder.toml
    spare           true                             [ROOT]/repository/larder.toml
    job             nightly                          LARDER_JOB
    canonical       false                            default
    disable         false                            default
    ignore                                           default
    inputs                                           default
    cargo-home      false                            default
    budget          off                              default
    max-age         7d                               default
    keep            3                                default
    keep-cargo-home 5                                default
    high            80                               default
    low             70                               default
    lease           6h                               default
    guard           false                            LARDER_GUARD
    summary         true                             default
    care                                             default
    siblings                                         default
    default-branch                                   default
    ");
    // The command line is stronger than all of them.
    let from_line = said(sandbox.larder(["config", "--store", "here"]).env("LARDER_EXACT", "yes"));
    snapshot!(sandbox, from_line, @"
    exit code 0
    --- stdout
    store           here                             command line
    link-mode       auto                             default
    exact           true                             LARDER_EXACT
    save            never                            [ROOT]/home/.config/larder/larder.toml
    spare           false                            [ROOT]/home/.config/larder/larder.toml
    job                                              default
    canonical       false                            default
    disable         false                            default
    ignore                                           default
    inputs                                           default
    cargo-home      false                            default
    budget          off                              default
    max-age         7d                               default
    keep            3                                default
    keep-cargo-home 5                                default
    high            80                               default
    low             70                               default
    lease           6h                               default
    guard           false                            LARDER_GUARD
    summary         true                             default
    care                                             default
    siblings                                         default
    default-branch                                   default
    ");
}
