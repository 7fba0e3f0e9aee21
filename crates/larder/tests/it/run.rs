//! `larder run`: the command is its user's own, whatever the cache does.

use crate::support::project::Project;
use crate::support::tree::{list, plant};
use crate::support::volume::Volume;
use crate::support::{Args, Said, Sandbox, args, has, is_root, said, skip, snapshot, tool, wait_for, wait_until};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn planted() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    (sandbox, tree)
}

fn run(path: &Path, command: &[&str]) -> Args {
    run_with(path, &[], command)
}

fn run_with(path: &Path, options: &[&str], command: &[&str]) -> Args {
    args(["run", "--key", "k", "--path"]).with(path).and(options).with("--").and(command)
}

fn count(sandbox: &Sandbox) -> usize {
    sandbox.json(["ls"])["snapshots"].as_array().unwrap().len()
}

#[track_caller]
fn last_line(said: &Said) -> &str {
    assert_eq!(said.summaries().len(), 1, "{said}");
    let last = said.err.lines().last().unwrap();
    assert_eq!(said.summaries()[0], last, "{said}");
    last
}

#[test]
fn the_exit_code_is_the_commands() {
    let (sandbox, tree) = planted();
    for (script, code) in
        [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
    {
        let said = sandbox.said(run(&tree, &["sh", "-c", script])).ends(code);
        let object = said_json(&sandbox, run(&tree, &["sh", "-c", script]));
        assert_eq!(object["exit_code"], code, "{script}");
        last_line(&said);
    }
    let plain = sandbox.path("plain");
    fs::write(&plain, "no program").unwrap();
    fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)).unwrap();
    snapshot!(sandbox, sandbox.said(run(&tree, &["no-such-program-anywhere"])), @"
    exit code 127
    --- stderr
    larder: examining
    larder: checking blobs
    larder: materialising
    larder: cannot run no-such-program-anywhere: No such file or directory (os error 2)
    larder: hit k: 3 files, 100.0 kB (3 unchanged) in [N] ms; nothing saved
    ");
    sandbox.said(run(&tree, &[plain.to_str().unwrap()])).ends(126);
    sandbox.said(run(&tree, &[sandbox.root.to_str().unwrap()])).ends(126);
}

fn said_json(sandbox: &Sandbox, words: Args) -> Value {
    said(sandbox.larder(["--format", "json"]).args(words)).json()
}

#[test]
fn it_saves_after_success_or_as_told() {
    let (sandbox, tree) = planted();
    let mut expected = 0;
    for (options, command, saves) in [
        (&[][..], "true", true),
        (&[], "false", false),
        (&["--save", "success"], "false", false),
        (&["--save", "always"], "false", true),
        (&["--save", "always"], "true", true),
        (&["--save", "never"], "true", false),
    ] {
        let said = sandbox.said(run_with(&tree, options, &[command]));
        expected += usize::from(saves);
        assert_eq!(count(&sandbox), expected, "{options:?} {command}: {said}");
        assert_eq!(last_line(&said).contains("; saved k: 3 files"), saves, "{said}");
    }
    said(sandbox.larder(run(&tree, &["false"])).env("LARDER_SAVE", "always")).ends(1);
    assert_eq!(count(&sandbox), expected + 1);
}

#[test]
fn it_ends_with_one_line() {
    let (sandbox, tree) = planted();
    snapshot!(sandbox, sandbox.said(run(&tree, &["echo", "out"])), @"
    exit code 0
    --- stdout
    out
    --- stderr
    larder: examining
    larder: taking in (3)
    larder: digesting
    larder: syncing
    larder: miss: no snapshot for k in [N] ms; saved k: 3 files, 100.0 kB (3 by copy) in [N] ms
    ");
    fs::remove_dir_all(&tree).unwrap();
    snapshot!(sandbox, sandbox.said(run(&tree, &["true"])), @"
    exit code 0
    --- stderr
    larder: examining
    larder: checking blobs (1)
    larder: materialising (3)
    larder: examining
    larder: taking in (3)
    larder: digesting
    larder: syncing
    larder: hit k: 3 files, 100.0 kB (3 by copy) in [N] ms; saved k: 3 files, 100.0 kB (3 unchanged) in [N] ms
    ");
    fs::write(tree.join("a.txt"), "changed").unwrap();
    snapshot!(sandbox, sandbox.said(run_with(&tree, &["--fallback-key", "k", "--exact"], &["false"])), @"
    exit code 1
    --- stderr
    larder: examining
    larder: checking blobs
    larder: materialising (1)
    larder: hit k: 3 files, 100.0 kB (1 by copy, 2 unchanged) in [N] ms; nothing saved
    ");
    let other = args(["run", "--key", "other", "--fallback-key", "k", "--path"]).with(&tree).and(["--", "true"]);
    assert!(last_line(&sandbox.said(other).ok()).starts_with("larder: partial k: "));
    // Nothing to save is no fault.
    let absent = sandbox.path("absent");
    snapshot!(sandbox, sandbox.said(run(&absent, &["true"])), @"
    exit code 0
    --- stderr
    larder: nothing to save: the command made no [ROOT]/absent
    larder: miss: no snapshot for k in [N] ms; nothing saved
    ");
    let quiet = said(sandbox.larder(["-q"]).args(run(&tree, &["echo", "out"]))).ok();
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("out\n", ""));
}

#[test]
fn input_and_outputs_are_the_commands_own() {
    let (sandbox, tree) = planted();
    let mut command = sandbox.larder(run(&tree, &["sh", "-c", "cat; echo talk >&2; readlink /proc/self/fd/0"]));
    let input = sandbox.path("input");
    fs::write(&input, "from a file\n").unwrap();
    let said = said(command.stdin(File::open(&input).unwrap())).ok();
    assert_eq!(said.out, format!("from a file\n{}\n", input.display()));
    assert_eq!(said.err.lines().filter(|line| *line == "talk").count(), 1);
    // A pipe stays open in both directions.
    let mut child = sandbox
        .larder(run(&tree, &["cat"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"ping").unwrap();
    let mut pong = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"ping");
    drop(child.stdin.take());
    wait_for(child).ok();
}

#[test]
fn the_object_is_the_last_line_whatever_the_command_wrote() {
    let (sandbox, tree) = planted();
    for off in ["0", "1"] {
        for (printed, shown) in [("unfinished", "unfinished\n"), ("whole\n", "whole\n\n"), ("", "\n")] {
            let mut command = sandbox.larder(["--format", "json"]);
            let said = said(command.args(run(&tree, &["printf", printed])).env("LARDER_DISABLE", off)).ok();
            let object = said.out.strip_prefix(shown).unwrap_or_else(|| panic!("{said}"));
            let object: Value = serde_json::from_str(object).unwrap();
            assert_eq!(object["exit_code"], 0);
        }
    }
}

#[test]
fn a_reader_who_leaves_changes_nothing_for_the_command() {
    let (sandbox, tree) = planted();
    for options in [&[][..], &["--format", "json"], &["-vv"]] {
        let before = if sandbox.store.exists() { count(&sandbox) } else { 0 };
        let mut command = sandbox.larder(options);
        command.args(run_with(&tree, &["--save", "always"], &["sh", "-c", "exit 4"]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(wait_for(child).code, Some(4), "{options:?}");
        assert_eq!(count(&sandbox), before + 1);
    }
    // The same for a full disk below stdout and stderr.
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = sandbox.larder(["--format", "json"]);
    command.args(run(&tree, &["true"])).stdout(full()).stderr(full());
    assert!(command.status().unwrap().success());
    let mut ls = sandbox.larder(["ls"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(ls.stdout.take());
    wait_for(ls).ok();
    assert_eq!(sandbox.larder(["ls"]).stdout(full()).stderr(full()).status().unwrap().code(), Some(1));
}

/// Starts `run` of a script, and waits until the script says that it is there.
fn started(sandbox: &Sandbox, tree: &Path, script: &str) -> Child {
    let ready = sandbox.path("ready");
    let script = format!("{script}\n: > {}\nwhile :; do sleep 0.02; done", ready.display());
    let mut command =
        listening(sandbox, &sandbox.larder(run_with(tree, &["--save", "always"], &["sh", "-c", &script])));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the command starts", || ready.exists());
    fs::remove_file(ready).unwrap();
    child
}

/// The command with no signal ignored: whoever started these tests in the background may have ignored some.
fn listening(sandbox: &Sandbox, larder: &Command) -> Command {
    let mut command = sandbox.command("env");
    command.env("LARDER_STORE", &sandbox.store).arg("--default-signal");
    command.arg(larder.get_program()).args(larder.get_args());
    command
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([format!("-{name}"), id]).status().unwrap().success());
}

#[test]
fn signals_reach_the_command_which_ends_in_its_own_way() {
    let (sandbox, tree) = planted();
    for (count, name) in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"].iter().enumerate() {
        let child = started(&sandbox, &tree, &format!("trap 'echo got {name}; exit {}' {name}", 40 + count));
        signal(&child, name);
        let said = wait_for(child).ends(40 + i32::try_from(count).unwrap());
        assert_eq!(said.out, format!("got {name}\n"));
        assert!(last_line(&said).contains("; saved k"), "larder itself lives on: {said}");
    }
    // Who handles nothing dies of it.
    let child = started(&sandbox, &tree, "");
    signal(&child, "TERM");
    wait_for(child).ends(143);
    // Who ignores it goes on; the next one counts.
    let child = started(&sandbox, &tree, "trap '' INT; trap 'exit 9' TERM");
    signal(&child, "INT");
    signal(&child, "TERM");
    wait_for(child).ends(9);
}

#[test]
fn signals_that_larder_was_told_to_ignore_stay_ignored() {
    // As under nohup.
    let (sandbox, tree) = planted();
    let larder = sandbox.larder(run(&tree, &["sh", "-c", "kill -HUP $$; echo lives"]));
    let mut words = vec![larder.get_program().to_os_string()];
    words.extend(larder.get_args().map(ToOwned::to_owned));
    let mut command = sandbox.command("sh");
    command.env("LARDER_STORE", &sandbox.store).args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).args(words);
    assert_eq!(said(&mut command).ok().out, "lives\n");
}

#[test]
fn what_a_terminal_sends_to_all_arrives_once() {
    if !has("script") {
        return skip("there is no script to make a terminal");
    }
    let (sandbox, tree) = planted();
    let (ready, got) = (sandbox.path("ready"), sandbox.path("got"));
    // The first signal is the terminal's, the second says that whatever else was to come has come.
    let inner = format!(
        "n=0; trap 'n=$((n+1)); : > {}' INT; trap 'echo interrupts: $n; exit 8' TERM; echo $PPID > {}; \
         while :; do sleep 0.02; done",
        got.display(),
        ready.display()
    );
    fs::write(sandbox.path("inner.sh"), inner).unwrap();
    let larder = sandbox.larder(run(&tree, &["sh", "inner.sh"]));
    let words: Vec<&str> =
        [larder.get_program()].into_iter().chain(larder.get_args()).map(|w| w.to_str().unwrap()).collect();
    let mut terminal = sandbox.command("script");
    terminal.env("LARDER_STORE", &sandbox.store).env("TERM", "xterm").args([
        "-qec",
        &format!("exec env --default-signal {}", words.join(" ")),
        "/dev/null",
    ]);
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let larders_id = || fs::read_to_string(&ready).unwrap_or_default();
    wait_until("the command starts", || larders_id().ends_with('\n'));
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    wait_until("the interrupt arrives", || got.exists());
    tool("kill", &[&"-TERM", &larders_id().trim()]);
    let said = wait_for(child).ends(8);
    assert!(said.out.contains("interrupts: 1\r\n"), "{said}");
    assert!(said.out.contains("; nothing saved"), "{said}");
}

#[test]
fn the_command_runs_in_the_workspace_with_a_clean_environment() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    fs::create_dir(project.dir.join("sub")).unwrap();
    fs::write(project.dir.join("here.sh"), "#!/bin/sh\npwd\n").unwrap();
    fs::set_permissions(project.dir.join("here.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = project.run(&sandbox, &[], &["./here.sh"]);
    assert_eq!(said(&mut command).ok().out, format!("{}\n", project.dir.display()));
    // What `cargo run` of larder sets is not the command's.
    let outer = [
        ("CARGO", "/outer/cargo"),
        ("CARGO_MANIFEST_DIR", "/outer/crates/larder"),
        ("CARGO_PKG_NAME", "larder"),
        ("CARGO_PKG_VERSION", "9.9.9"),
        ("CARGO_BIN_NAME", "larder"),
        ("OUT_DIR", "/outer/out"),
        ("RUST_RECURSION_COUNT", "1"),
        ("LD_LIBRARY_PATH", "/outer/target/debug/deps:/outer/target/debug:/mine"),
    ];
    let mut command = project.run(&sandbox, &[], &["env"]);
    command.envs(outer).env("MY_OWN", "stays").env("CARGO_TARGET_DIR", "elsewhere");
    let seen = said(&mut command).ok().out;
    for (name, _) in outer.iter().filter(|(name, _)| *name != "LD_LIBRARY_PATH") {
        assert!(!seen.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}: {seen}");
    }
    for kept in ["MY_OWN=stays", "CARGO_TARGET_DIR=elsewhere", "LD_LIBRARY_PATH=/mine"] {
        assert!(seen.lines().any(|line| line == kept), "{kept}: {seen}");
    }
    // Without an outer cargo the same names are the user's.
    let mut command = project.run(&sandbox, &[], &["env"]);
    let seen = said(command.env("OUT_DIR", "/mine")).ok().out;
    assert!(seen.contains("OUT_DIR=/mine"));
}

#[test]
fn a_store_that_cannot_be_written_to_fails_nothing() {
    if !is_root() {
        return skip("becoming another user needs root");
    }
    let (mut sandbox, tree) = planted();
    sandbox.own_program();
    sandbox.json(args(["save", "--key", "k", "--path"]).with(&tree));
    let before = list(&tree);
    fs::set_permissions(&sandbox.root, PermissionsExt::from_mode(0o755)).unwrap();
    let nobody = |sandbox: &Sandbox, words: Args| {
        let larder = sandbox.larder(words);
        let mut command = sandbox.command("setpriv");
        command.env("LARDER_STORE", &sandbox.store);
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(larder.get_program())
            .args(larder.get_args());
        said(&mut command)
    };
    let command = ["sh", "-c", "echo it ran; exit 6"];
    // It is readable, and so restores; nothing can be saved.
    let mine = sandbox.path("mine");
    fs::create_dir(&mine).unwrap();
    std::os::unix::fs::chown(&mine, Some(65534), Some(65534)).unwrap();
    sandbox.json(args(["save", "--key", "k", "--key-only", "--path"]).with(&tree));
    let words = args(["run", "--save", "always", "--key", "k", "--key-only", "--path"])
        .with(mine.join("tree"))
        .with("--")
        .and(command);
    let ran = nobody(&sandbox, words).ends(6);
    assert!(last_line(&ran).starts_with("larder: hit k"), "{ran}");
    assert_eq!(ran.warnings().len(), 1, "{ran}");
    crate::support::tree::assert_is(&before, &mine.join("tree"));
    // It cannot even be looked into.
    fs::set_permissions(&sandbox.store, PermissionsExt::from_mode(0o700)).unwrap();
    let ran = nobody(&sandbox, run(&mine.join("tree"), &command)).ends(6);
    assert_eq!((ran.out.as_str(), ran.warnings().len()), ("it ran\n", 1), "{ran}");
    // It cannot be made.
    sandbox.store = sandbox.path("tree/below");
    let ran = nobody(&sandbox, run(&mine.join("tree"), &command)).ends(6);
    assert_eq!((ran.out.as_str(), ran.warnings().len()), ("it ran\n", 1), "{ran}");
}

#[test]
fn after_half_a_restore_the_command_runs_and_nothing_is_saved() {
    let (sandbox, tree) = planted();
    sandbox.json(args(["save", "--key", "k", "--path"]).with(&tree));
    fs::write(tree.join("a.txt"), "other").unwrap();
    fs::write(tree.join("sub/large"), "other").unwrap();
    // No file may grow beyond half of the large one: writing it fails when others were changed already.
    let limited = |words: Args| {
        let larder = sandbox.larder(words);
        let mut command = sandbox.command("bash");
        command.env("LARDER_STORE", &sandbox.store);
        command.args(["-c", "trap '' XFSZ; ulimit -f 50; exec \"$@\"", "bash"]);
        said(command.arg(larder.get_program()).args(larder.get_args()))
    };
    let options = ["--exact", "--link-mode", "copy", "--save", "always"];
    let command = ["sh", "-c", "echo it ran; exit 7"];
    let ran = limited(run_with(&tree, &options, &command)).ends(7);
    let warning = ran.warnings().join("\n");
    assert!(warning.contains("stopped half way") && warning.ends_with(", and nothing is saved"), "{ran}");
    assert_eq!((ran.out.as_str(), last_line(&ran).ends_with("; nothing saved")), ("it ran\n", true), "{ran}");
    let object = limited(args(["--format", "json"]).and(run_with(&tree, &options, &command))).ends(7);
    let object: Value = serde_json::from_str(object.out.strip_prefix("it ran\n").unwrap()).unwrap();
    assert_eq!((&object["outcome"], &object["save"]), (&"miss".into(), &Value::Null));
    assert_eq!(count(&sandbox), 1, "nothing is published");
    // By itself a restore fails: its step is not told that all is well.
    limited(args(["restore", "--exact", "--link-mode", "copy", "--key", "k", "--path"]).with(&tree)).ends(1);
    // The next one completes it.
    sandbox.said(run(&tree, &["true"])).ok();
    assert_eq!(fs::read(tree.join("sub/large")).unwrap(), [7; 100_000]);
}

#[test]
fn a_store_on_a_full_disk_fails_nothing() {
    let volume = match Volume::tmpfs(1) {
        Ok(volume) => volume,
        Err(why) => return skip(&why),
    };
    let (mut sandbox, tree) = planted();
    sandbox.store = volume.path.join("store");
    sandbox.json(args(["save", "--key", "k", "--path"]).with(&tree));
    fs::write(tree.join("huge"), vec![3; 3 << 20]).unwrap();
    let ran = sandbox.said(run(&tree, &["echo", "it ran"])).ok();
    assert_eq!((ran.out.as_str(), ran.warnings().len()), ("it ran\n", 1), "{ran}");
    assert!(last_line(&ran).ends_with("; nothing saved"), "{ran}");
    assert_eq!(fs::read(tree.join("huge")).unwrap().len(), 3 << 20);
    assert_eq!(count(&sandbox), 1);
    sandbox.said(["verify"]).ok();
    // Nothing is left at all: not even a session can be written.
    File::create(volume.path.join("filler")).unwrap().write_all(&vec![0; 4 << 20]).unwrap_err();
    fs::remove_dir_all(&tree).unwrap();
    let ran = sandbox.said(run_with(&tree, &["--save", "never"], &["ls", "tree"])).ok();
    assert!(last_line(&ran).starts_with("larder: hit k"), "{ran}");
    assert_eq!(ran.out, "a.txt\nsub\n");
}
