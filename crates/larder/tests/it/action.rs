//! The action, run by node as a runner would: inputs from the environment, outputs, state and summary in files.

use crate::support::project::{Project, compiled};
use crate::support::{Said, Sandbox, has, said, skip, snapshot, tool, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

type Values = BTreeMap<String, String>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../action")
}

/// Names and defaults of one list of action.yml, which is written so that lines are enough to read it.
fn listed(section: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join("action.yml")).unwrap();
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines().skip_while(|line| *line != format!("{section}:")).skip(1) {
        match line.strip_prefix("  ") {
            None => break,
            Some(rest) => match rest.strip_prefix("  ").and_then(|rest| rest.strip_prefix("default: ")) {
                Some(default) => found.last_mut().unwrap().1 = default.trim_matches('\'').to_owned(),
                None if !rest.starts_with(' ') => {
                    found.push((rest.trim_end_matches(':').to_owned(), String::new()));
                }
                None => {}
            },
        }
    }
    found
}

/// What stands in a file of the runner, read as strictly as the runner does.
fn values(path: &Path) -> Values {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let mut found = Values::new();
    while let Some(line) = lines.next() {
        let (name, mark) = line.split_once("<<").unwrap_or_else(|| panic!("{line:?}"));
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != mark).collect();
        found.insert(name.to_owned(), value.join("\n"));
    }
    found
}

/// One use of the action in a job.
struct Step<'a> {
    sandbox: &'a Sandbox,
    workspace: PathBuf,
    inputs: Values,
    env: Values,
}

impl<'a> Step<'a> {
    fn new(sandbox: &'a Sandbox, inputs: &[(&str, &str)]) -> Self {
        let mut all: Values = listed("inputs").into_iter().collect();
        all.insert("binary".into(), assert_cmd::cargo::cargo_bin!("larder").to_str().unwrap().into());
        all.insert("job-status".into(), "success".into());
        for (name, value) in inputs {
            assert!(all.insert((*name).to_owned(), (*value).to_owned()).is_some(), "no input {name}");
        }
        let step = Self { sandbox, workspace: sandbox.path("work"), inputs: all, env: Values::new() };
        fs::create_dir_all(&step.workspace).unwrap();
        for file in ["output", "state", "summary"] {
            put(&step.file(file), b"");
        }
        step
    }

    /// Three files of the runner's.
    fn file(&self, name: &str) -> PathBuf {
        self.sandbox.path(&format!("runner-{name}"))
    }

    fn node(&self, script: &str) -> Command {
        let mut command = self.sandbox.command("node");
        command.arg(folder().join(script)).current_dir(&self.workspace);
        command.env("LARDER_STORE", &self.sandbox.store).env("LARDER_GUARD", "0");
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_JOB", "test").env("GITHUB_WORKSPACE", &self.workspace);
        for (variable, file) in
            [("GITHUB_OUTPUT", "output"), ("GITHUB_STATE", "state"), ("GITHUB_STEP_SUMMARY", "summary")]
        {
            command.env(variable, self.file(file));
        }
        for (name, value) in &self.inputs {
            command.env(format!("INPUT_{}", name.replace(' ', "_").to_uppercase()), value);
        }
        command.envs(&self.env);
        command
    }

    fn main(&self) -> Said {
        said(&mut self.node("main.js"))
    }

    /// The post step, which a runner hands what main kept.
    fn post(&self, status: &str) -> Said {
        let mut command = self.node("post.js");
        command.env("INPUT_JOB-STATUS", status);
        command.envs(values(&self.file("state")).into_iter().map(|(name, value)| (format!("STATE_{name}"), value)));
        said(&mut command)
    }

    fn outputs(&self) -> Values {
        values(&self.file("output"))
    }

    fn summary(&self) -> String {
        fs::read_to_string(self.file("summary")).unwrap()
    }
}

/// Whether node is there; without it a test is skipped.
fn has_node() -> bool {
    let found = has("node");
    if !found {
        skip("there is no node to run the action with");
    }
    found
}

#[track_caller]
fn assert_outputs(step: &Step<'_>, wanted: [(&str, &str); 4]) {
    let wanted: Values = wanted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(step.outputs(), wanted);
}

fn warnings(said: &Said) -> usize {
    let both = said.out.lines().chain(said.err.lines());
    both.filter(|line| line.starts_with("::warning") || line.starts_with("::error")).count()
}

/// A program of a few lines.
fn script(path: &Path, text: &str) {
    let source = path.with_extension("source");
    put(&source, text.as_bytes());
    fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
    // Not by this process: a child of another test could hold it open for writing while it is run.
    tool("cp", &[&"--remove-destination", &source, &path]);
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// A step that keeps the folder `kept` under the key `k`.
fn of_a_folder<'a>(sandbox: &'a Sandbox, more: &[(&str, &str)]) -> Step<'a> {
    let step = Step::new(sandbox, &[&[("path", "kept"), ("key", "k")], more].concat());
    fs::create_dir_all(step.workspace.join("kept")).unwrap();
    put(&step.workspace.join("kept/file"), b"bytes");
    step
}

#[test]
fn a_build_misses_is_saved_and_hits() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let step = Step::new(&sandbox, &[]);
    let project = Project::new(&step.workspace);
    assert_eq!(warnings(&step.main().ok()), 0);
    let missed = step.outputs();
    assert_eq!((missed["cache-hit"].as_str(), missed["outcome"].as_str()), ("false", "miss"));
    assert!(missed["key"].len() > 5 && missed["snapshot"].is_empty(), "{missed:?}");
    project.build(&sandbox);
    let saved = step.post("success").ok();
    assert!(saved.out.contains("larder: saved "), "{saved}");
    assert_eq!(warnings(&saved), 0, "{saved}");
    let summary = step.summary();
    assert!(summary.starts_with("| larder test | restored |") && summary.contains("| miss | nothing |"), "{summary}");

    fs::remove_dir_all(&project.target).unwrap();
    let step = Step::new(&sandbox, &[]);
    let hit = step.main().ok();
    let snapshot = &sandbox.json(["ls"])["snapshots"][0];
    let (key, name) = (snapshot["key"].as_str().unwrap(), snapshot["snapshot"].as_str().unwrap());
    assert_outputs(&step, [("cache-hit", "true"), ("outcome", "hit"), ("key", key), ("snapshot", name)]);
    assert!(hit.out.contains(&format!("larder: hit {key}: ")), "{hit}");
    let built = said(&mut project.cargo(&sandbox, &["build"])).ok();
    assert_eq!(compiled(&built), [""; 0], "{built}");
    step.post("success").ok();
    let summary = step.summary();
    assert_eq!(summary.lines().count(), 4, "{summary}");
    assert!(summary.contains("| hit | ") && summary.contains(" units | "), "{summary}");
}

#[test]
fn how_the_job_went_decides_what_is_saved() {
    if !has_node() {
        return;
    }
    for (save, status, saves) in [
        ("success", "success", true),
        ("success", "failure", false),
        ("success", "cancelled", false),
        ("success", "", false),
        ("always", "failure", true),
        ("always", "cancelled", true),
        ("always", "", true),
        ("never", "success", false),
    ] {
        let sandbox = Sandbox::new();
        let step = of_a_folder(&sandbox, &[("save", save)]);
        step.main().ok();
        let said = step.post(status).ok();
        let snapshots = sandbox.json(["ls"])["snapshots"].as_array().unwrap().len();
        assert_eq!(snapshots, usize::from(saves), "{save} after {status}: {said}");
        assert_eq!(said.out.contains("nothing is saved: "), !saves, "{said}");
        assert_eq!(step.summary().lines().count(), 4, "{}", step.summary());
    }
}

#[test]
fn another_key_is_no_cache_hit() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let step = of_a_folder(&sandbox, &[("key", "npm-1")]);
    step.main().ok();
    step.post("success").ok();
    fs::remove_dir_all(step.workspace.join("kept")).unwrap();
    let step = Step::new(&sandbox, &[("path", "kept"), ("key", "npm-2"), ("restore-keys", "other-\n  npm-\n\n")]);
    step.main().ok();
    let outputs = step.outputs();
    assert_eq!((outputs["cache-hit"].as_str(), outputs["outcome"].as_str()), ("false", "partial"));
    assert_eq!(outputs["key"], "npm-1");
    assert_eq!(fs::read(step.workspace.join("kept/file")).unwrap(), b"bytes");
}

#[test]
fn without_larder_the_job_goes_on() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let gone = [("binary", "no-such-larder")];
    let step = of_a_folder(&sandbox, &gone);
    let said = step.main().ok();
    snapshot!(sandbox, said, @"
    exit code 0
    --- stdout
    ::warning title=larder::larder cannot be started (no-such-larder: ENOENT): install it on this runner, on the PATH of the runner's service, or name it by the input binary; the job goes on without
    ");
    assert_outputs(&step, [("cache-hit", "false"), ("outcome", "miss"), ("key", "k"), ("snapshot", "")]);
    let after = step.post("success").ok();
    assert_eq!((after.out.as_str(), after.err.as_str(), step.summary().as_str()), ("", "", ""));

    let mut step = of_a_folder(&sandbox, &gone);
    step.env.insert("GITHUB_WORKSPACE".into(), "/__w/app/app".into());
    let said = step.main().ok();
    assert!(said.out.contains("in a container") && said.out.contains("`container.volumes`"), "{said}");

    let step = of_a_folder(&sandbox, &[("binary", "no-such-larder"), ("fail-on-error", "true")]);
    let said = step.main().ends(1);
    assert!(said.out.starts_with("::error title=larder::larder cannot be started"), "{said}");
    assert_eq!(step.outputs()["outcome"], "miss");
}

#[test]
fn a_store_that_dies_with_the_container_is_told_of() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut step = of_a_folder(&sandbox, &[]);
    step.env.insert("GITHUB_WORKSPACE".into(), "/__w/app/app".into());
    let said = step.main().ok();
    assert_eq!(warnings(&said), 1, "{said}");
    assert!(said.out.contains("there is no store at "), "{said}");
    step.post("success").ok();
    let mut step = of_a_folder(&sandbox, &[]);
    step.env.insert("GITHUB_WORKSPACE".into(), "/__w/app/app".into());
    let said = step.main().ok();
    assert_eq!(warnings(&said), 0, "{said}");
}

#[test]
fn what_is_not_this_larder_is_a_miss_and_says_why() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let fake = sandbox.path("fake larder");
    for (text, why) in [
        ("#!/bin/sh\necho hello\n", "is no JSON"),
        ("#!/bin/sh\necho '{\"schema_version\": 9}'\n", "speaks version 9"),
        ("#!/bin/sh\necho null\n", "speaks version undefined"),
        ("#!/bin/sh\necho 'error: unexpected argument' >&2\nexit 2\n", "older than this action"),
        ("#!/bin/sh\nexit 7\n", "exit code 7"),
        ("#!/bin/sh\nkill -9 $$\n", "ended by SIGKILL"),
        ("no such program", "exit code 127"),
    ] {
        script(&fake, text);
        let step = of_a_folder(&sandbox, &[("binary", fake.to_str().unwrap())]);
        let said = step.main().ok();
        assert_eq!(warnings(&said), 1, "{said}");
        assert!(said.out.contains(why), "{why}: {said}");
        assert_outputs(&step, [("cache-hit", "false"), ("outcome", "miss"), ("key", "k"), ("snapshot", "")]);
        assert_eq!(step.post("success").ok().out, "");
    }
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o644)).unwrap();
    let said = of_a_folder(&sandbox, &[("binary", fake.to_str().unwrap())]).main().ok();
    assert!(said.out.contains("EACCES") && said.out.contains("is it an executable file"), "{said}");
}

#[test]
fn a_runner_without_files_is_told_of() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut step = of_a_folder(&sandbox, &[]);
    step.env.insert("GITHUB_OUTPUT".into(), String::new());
    let said = step.main().ok();
    assert_eq!(warnings(&said), 1, "{said}");
    assert!(said.out.contains("gives no GITHUB_OUTPUT"), "{said}");
    step.env.insert("GITHUB_OUTPUT".into(), "/no/such/folder/file".into());
    step.main().ok();
}

#[test]
fn nothing_in_an_input_is_obeyed() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    for (at, hostile) in [
        "--version",
        "-x --path=/etc",
        "$(touch pwned); `touch pwned` && touch pwned | 'touch' \"pwned\"",
        "a<<b",
        "EOF",
        "%0A::error::x ##[error]y ::warning::z",
        "é \u{200b}::set-output name=a::b",
        "two\nlines<<EOF\nEOF\noutcome=hit",
    ]
    .into_iter()
    .enumerate()
    {
        let folder = if at % 2 == 0 { "-rf dir with  spaces" } else { "--exact" };
        let inputs = [("path", folder), ("key", hostile), ("job", hostile), ("key-only", "true"), ("spare", "true")];
        let step = Step::new(&sandbox, &inputs);
        fs::create_dir_all(step.workspace.join(folder)).unwrap();
        put(&step.workspace.join(folder).join("file"), hostile.as_bytes());
        let missed = step.main().ok();
        assert_eq!(step.outputs()["outcome"], "miss", "{missed}");
        let saved = step.post("success").ok();
        fs::remove_dir_all(step.workspace.join(folder)).unwrap();
        let step = Step::new(&sandbox, &inputs);
        let hit = step.main().ok();
        let name = step.outputs()["snapshot"].clone();
        assert_outputs(&step, [("cache-hit", "true"), ("outcome", "hit"), ("key", hostile), ("snapshot", &name)]);
        assert_eq!(fs::read(step.workspace.join(folder).join("file")).unwrap(), hostile.as_bytes());
        for said in [&missed, &saved, &hit] {
            assert_eq!(warnings(said), 0, "{said}");
            let lines: Vec<&str> = said.out.lines().chain(said.err.lines()).collect();
            assert!(lines.iter().all(|line| !line.trim_start().starts_with("::") && !line.contains("##[")), "{said}");
        }
        assert!(!step.workspace.join("pwned").exists() && !sandbox.path("pwned").exists());
    }
}

#[test]
fn inputs_that_cannot_be_understood_are_named() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    for (name, value, why) in [
        ("save", "sometimes", "input save: expected success, always, never, not \\\"sometimes\\\""),
        ("exact", "1", "input exact: expected true or false"),
        ("fail-on-error", "perhaps", "input fail-on-error: expected true or false"),
        ("link-mode", "teleport", "was not understood"),
        ("need", "much", "was not understood"),
        ("workspace", "no/such/folder", "was not understood"),
    ] {
        let step = of_a_folder(&sandbox, &[(name, value)]);
        let said = step.main().ok();
        assert!(said.out.contains(&why.replace('\\', "")), "{said}");
        assert_eq!(step.outputs()["outcome"], "miss");
    }
    // It may have been meant to be setup, on which other jobs rest.
    let step = of_a_folder(&sandbox, &[("mode", "setpu")]);
    let said = step.main().ends(1);
    assert!(said.out.starts_with("::error title=larder::input mode: expected restore, setup, guard, gc"), "{said}");
}

#[test]
fn guard_and_gc_say_what_they_did() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let step = of_a_folder(&sandbox, &[]);
    step.main().ok();
    step.post("success").ok();
    let step = Step::new(&sandbox, &[("mode", "gc")]);
    assert_eq!(step.main().ok().out, "larder: 0 snapshots evicted, 0 bytes freed\n");
    assert_eq!((step.outputs(), step.post("success").ok().out), (Values::new(), String::new()));
    let impossible = [("mode", "gc"), ("need", "900PB")];
    let said = Step::new(&sandbox, &impossible).main().ok();
    assert!(said.out.contains("::warning title=larder::larder gc could not free"), "{said}");

    let guard = |more: &[(&str, &str)]| {
        let mut step = Step::new(&sandbox, &[&[("mode", "guard"), ("need", "900PB")], more].concat());
        step.env.insert("LARDER_HIGH".into(), "100".into());
        step.env.insert("LARDER_LOW".into(), "100".into());
        step.main()
    };
    let said = guard(&[]).ok();
    assert!(said.out.contains("::warning title=larder::no room on the disk of "), "{said}");
    let said = guard(&[("fail-on-error", "true")]).ends(1);
    assert!(said.out.contains("::error title=larder::no room on the disk of "), "{said}");
}

/// What larder prints for it is stood in for: the action only passes it on.
#[test]
fn setup_passes_the_runners_file_on_and_must_succeed() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let fake = sandbox.path("larder");
    script(
        &fake,
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > arguments\necho plan=larder1.e30 >> \"$GITHUB_OUTPUT\"\n\
         echo '{\"schema_version\": 1, \"siblings\": [{\"name\": \"core\", \"commit\": \"c0ffee\", \"key\": \"core-1\"}, {\"name\": \"odd\"}]}'\n",
    );
    let step = Step::new(&sandbox, &[("mode", "setup"), ("binary", fake.to_str().unwrap()), ("need", "12GB")]);
    step.main().ok();
    assert_eq!(
        fs::read_to_string(step.workspace.join("arguments")).unwrap(),
        "--format=json\nsetup\n--need=12GB\n--exact\n",
    );
    let text = fs::read_to_string(step.file("output")).unwrap();
    let rest = text.strip_prefix("plan=larder1.e30\n").unwrap();
    put(&step.file("output"), rest.as_bytes());
    let outputs = step.outputs();
    assert_eq!(outputs["commits"], r#"{"core":"c0ffee"}"#);
    assert_eq!(outputs["keys"], r#"{"core":"core-1"}"#);
    assert_eq!(step.post("success").ok().out, "");

    script(&fake, "#!/bin/sh\nexit 1\n");
    let step = Step::new(&sandbox, &[("mode", "setup"), ("binary", fake.to_str().unwrap())]);
    let said = step.main().ends(1);
    assert!(said.out.starts_with("::error title=larder::larder setup failed"), "{said}");
    assert_eq!(step.outputs(), Values::new());
}

/// A plan, and everything else that a restore may be told, reach larder as options with values.
#[test]
fn what_is_asked_for_reaches_larder() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let fake = sandbox.path("larder");
    script(
        &fake,
        "#!/bin/sh\nprintf '%s\\n' \"$@\" ${GITHUB_RUN_ID:+\"$(env | grep -c -e INPUT_ -e TOKEN)\"} >> arguments\n\
         echo '{\"schema_version\": 1, \"outcome\": \"miss\", \"key\": \"k\"}'\n",
    );
    let inputs = [
        ("binary", fake.to_str().unwrap()),
        ("workspace", "app"),
        ("job", "test"),
        ("plan", "larder1.e30"),
        ("path", "~/a\n./b"),
        ("key", "k"),
        ("restore-keys", "x\ny"),
        ("key-only", "true"),
        ("exact", "TRUE"),
        ("canonical", "true"),
        ("link-mode", "copy"),
        ("spare", "true"),
        ("store", "~/store"),
    ];
    let mut step = Step::new(&sandbox, &inputs);
    step.env.insert("GITHUB_RUN_ID".into(), "1".into());
    step.env.insert("ACTIONS_RUNTIME_TOKEN".into(), "secret".into());
    step.main().ok();
    step.post("success").ok();
    let arguments = fs::read_to_string(step.workspace.join("arguments")).unwrap();
    snapshot!(sandbox, arguments, @"
    --format=json
    restore
    --store=[ROOT]/home/store
    --workspace=app
    --path=[ROOT]/home/a
    --path=./b
    --key=k
    --key-only
    --job=test
    --link-mode=copy
    --canonical
    --fallback-key=x
    --fallback-key=y
    --plan=larder1.e30
    --exact
    0
    --format=json
    save
    --store=[ROOT]/home/store
    --workspace=app
    --path=[ROOT]/home/a
    --path=./b
    --key=k
    --key-only
    --job=test
    --link-mode=copy
    --canonical
    --spare
    --prune
    0
    summary
    0
    ");
}

#[test]
fn a_cancelled_step_ends_larder_too() {
    if !has_node() {
        return;
    }
    let sandbox = Sandbox::new();
    let step = Step::new(&sandbox, &[]);
    let project = Project::new(&step.workspace);
    project.build(&sandbox);
    // As a cargo that still works: larder waits for it.
    let lock = fs::File::open(project.target.join("debug/.cargo-lock")).unwrap();
    lock.lock().unwrap();
    let mut child = step.node("main.js").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("waiting for cargo's lock")));
    tool("kill", &[&"-INT", &child.id().to_string()]);
    // Whoever has this open is node or larder: the end means that both are gone.
    assert_eq!(said.count(), 0);
    wait_for(child).ends(130);
}

#[test]
fn every_input_is_read_and_documented() {
    let inputs: BTreeSet<String> = listed("inputs").into_iter().map(|(name, _)| name).collect();
    let outputs: BTreeSet<String> = listed("outputs").into_iter().map(|(name, _)| name).collect();
    let code = ["main.js", "post.js"].map(|name| fs::read_to_string(folder().join(name)).unwrap()).concat();
    let quoted = |call: &str| -> BTreeSet<String> {
        let ends = code.split(call).skip(1).filter_map(|rest| rest.split_once('\''));
        ends.map(|(name, _)| name.to_owned()).collect()
    };
    let read: BTreeSet<String> =
        ["runner.input('", "runner.lines('", "runner.flag('", "runner.choice('"].into_iter().flat_map(quoted).collect();
    assert_eq!(read, inputs);
    let of_setup: BTreeSet<String> = ["plan", "cache-key"].map(str::to_owned).into();
    assert_eq!(&quoted("runner.output('") | &of_setup, outputs);

    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let (before, after) = readme.split_once("## Outputs").unwrap();
    let rows = |text: &str| -> BTreeSet<String> {
        let names = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    let mut documented = inputs.clone();
    documented.remove("job-status");
    assert_eq!(rows(before), documented);
    assert_eq!(rows(after), outputs);
    for (name, default) in listed("inputs").into_iter().filter(|(name, _)| name != "job-status") {
        let row = before.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        let shown = if default.is_empty() { "| |".to_owned() } else { format!("| `{default}` |") };
        assert!(row.contains(&shown), "{row}: the default is {default:?}");
    }
}

#[test]
fn the_audit_finds_nothing_in_it() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.larder(["audit", "--fail-on", "note"]);
    let said = said(command.arg(folder().join("action.yml"))).ok();
    assert!(said.err.contains("0 errors, 0 warnings, 0 notes"), "{said}");
}
