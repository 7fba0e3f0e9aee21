//! A runner's hooks: put in, called by bash as the runner calls them, and taken out again.

use crate::support::tree::plant;
use crate::support::{Args, Said, Sandbox, args, said, snapshot, tool, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A runner's folder with this `.env`, and one for units.
struct Runner {
    sandbox: Sandbox,
    dir: PathBuf,
}

impl Runner {
    fn new(env: &str) -> Self {
        Self::at("runner", env)
    }

    fn at(name: &str, env: &str) -> Self {
        let sandbox = Sandbox::new();
        let dir = sandbox.path(name);
        fs::create_dir_all(dir.join("bin")).unwrap();
        fs::write(dir.join("run.sh"), "").unwrap();
        fs::write(dir.join(".env"), env).unwrap();
        fs::set_permissions(dir.join(".env"), fs::Permissions::from_mode(0o640)).unwrap();
        Self { sandbox, dir }
    }

    fn words(&self, more: &[&str]) -> Args {
        args(["install-runner", "--units"]).with(self.sandbox.path("units")).and(more).with(&self.dir)
    }

    fn install(&self, more: &[&str]) -> Said {
        self.sandbox.said(self.words(more))
    }

    fn env(&self) -> String {
        fs::read_to_string(self.dir.join(".env")).unwrap()
    }

    /// The value that the runner would take.
    fn value(&self, name: &str) -> Option<String> {
        let env = self.env();
        env.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).next_back().map(str::to_owned)
    }

    /// Runs a hook as the runner does.
    fn hook(&self, variable: &str, more: &[(&str, &Path)]) -> Said {
        let mut command = self.sandbox.command("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(self.value(variable).unwrap());
        command.env("LARDER_STORE", self.value("LARDER_STORE").unwrap()).env("LARDER_GUARD", "0");
        said(command.envs(more.iter().copied()))
    }

    /// Everything in the runner's folder and that of the units.
    fn files(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.clone(), self.sandbox.path("units")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                match meta.is_dir() {
                    true => folders.push(path),
                    false => found.push((path.clone(), meta.mode(), fs::read(&path).unwrap())),
                }
            }
        }
        found.sort();
        found
    }
}

const STARTED: &str = "ACTIONS_RUNNER_HOOK_JOB_STARTED";
const COMPLETED: &str = "ACTIONS_RUNNER_HOOK_JOB_COMPLETED";

#[test]
fn what_is_put_in_is_told_and_taken_out_to_the_byte() {
    for env in [
        "",
        "LANG=C.UTF-8\n",
        "LANG=C.UTF-8",
        "# mine\r\nLANG=C\r\n\r\nLARDER_STORE=/elsewhere\r\n",
        "LANG=C\r\nPATH=/usr/bin",
        "ACTIONS_RUNNER_HOOK_JOB_STARTED=/opt/before.sh\n\n\n",
    ] {
        let runner = Runner::new(env);
        let before = runner.files();
        runner.install(&[]).ok();
        assert!(runner.env().starts_with(env), "{:?}", runner.env());
        assert_eq!(runner.value("LARDER_STORE").as_deref(), runner.sandbox.store.to_str());
        let installed = runner.files();
        assert_eq!(fs::metadata(runner.dir.join(".env")).unwrap().mode() & 0o777, 0o640);
        // A second time there is nothing to do.
        assert_eq!(runner.install(&[]).ok().out.lines().next(), Some("nothing to do"));
        assert_eq!(runner.files(), installed);
        runner.install(&["--undo"]).ok();
        assert_eq!(runner.files(), before, "{env:?}");
        assert!(!runner.dir.join("larder").exists());
        assert_eq!(runner.install(&["--undo"]).ok().out, "nothing to do\n");
    }
}

#[test]
fn people_see_what_is_done_and_what_is_left_to_do() {
    let runner = Runner::new("ACTIONS_RUNNER_HOOK_JOB_COMPLETED=/opt/after.sh\n");
    let _filter = {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter("systemctl --user", "systemctl");
        settings.bind_to_scope()
    };
    let before = runner.files();
    snapshot!(runner.sandbox, runner.install(&["--dry-run"]).ok(), @"
    exit code 0
    --- stdout
    would write [ROOT]/runner/larder/job-started.sh
    would write [ROOT]/runner/larder/job-completed.sh
    would write [ROOT]/runner/.env
    would write [ROOT]/units/larder-gc.service
    would write [ROOT]/units/larder-gc.timer
    /opt/after.sh is still called, by larder's hook
    to do by hand, where systemd runs:
      systemctl daemon-reload
      systemctl enable --now larder-gc.timer
    ");
    assert_eq!(runner.files(), before);
    runner.install(&[]).ok();
    let service = fs::read_to_string(runner.sandbox.path("units/larder-gc.service")).unwrap();
    assert!(
        service.contains(&format!("Environment=\"LARDER_STORE={}\"\n", runner.sandbox.store.display())),
        "{service}"
    );
    assert!(service.contains("larder\" gc\n"), "{service}");
    snapshot!(runner.sandbox, runner.install(&["--undo", "--dry-run"]).ok(), @"
    exit code 0
    --- stdout
    would write [ROOT]/runner/.env
    would remove [ROOT]/runner/larder/job-started.sh
    would remove [ROOT]/runner/larder/job-completed.sh
    would remove [ROOT]/units/larder-gc.service
    would remove [ROOT]/units/larder-gc.timer
    to do by hand, where systemd runs:
      systemctl disable --now larder-gc.timer
    ");
    let object: Value = runner.sandbox.json(runner.words(&["--undo"]));
    assert_eq!((&object["undo"], object["steps"].as_array().unwrap().len()), (&true.into(), 5));
    assert_eq!(runner.files(), before);
}

#[test]
fn a_hook_that_was_there_is_called_and_decides() {
    let runner = Runner::at("a runner's", "");
    let theirs = runner.sandbox.path("their hook.sh");
    let log = runner.sandbox.path("log");
    fs::write(&theirs, format!("echo called >> '{}'\nfalse\necho not reached >> '{}'\n", log.display(), log.display()))
        .unwrap();
    let strict = runner.sandbox.path("exits.sh");
    fs::write(&strict, "exit 3\n").unwrap();
    fs::write(
        runner.dir.join(".env"),
        format!("{STARTED}=/not/this/one\n{STARTED}={}\n{COMPLETED}={}\n", theirs.display(), strict.display()),
    )
    .unwrap();
    runner.install(&[]).ok();
    runner.hook(STARTED, &[]).ends(1);
    assert_eq!(fs::read_to_string(&log).unwrap(), "called\n");
    runner.hook(COMPLETED, &[]).ends(3);
    // Installed again it still calls theirs, not itself.
    runner.install(&[]).ok();
    runner.hook(COMPLETED, &[]).ends(3);

    let alone = Runner::new("");
    alone.install(&[]).ok();
    alone.hook(STARTED, &[]).ok();
    alone.hook(COMPLETED, &[]).ok();
    // A larder that is gone, or cannot start, fails nobody.
    for line in ["larder='/no/such/larder'", "larder='/bin/false'"] {
        let script = PathBuf::from(alone.value(STARTED).unwrap());
        let text = fs::read_to_string(&script).unwrap();
        let old = text.lines().find(|line| line.starts_with("larder=")).unwrap();
        fs::write(&script, text.replace(old, line)).unwrap();
        alone.hook(STARTED, &[]).ok();
    }
}

#[test]
fn what_people_changed_since_stays() {
    let runner = Runner::new("LANG=C\n");
    runner.install(&[]).ok();
    let edited = runner.env().replace("LANG=C", "LANG=D") + "ACTIONS_RUNNER_HOOK_JOB_STARTED=/mine.sh\n";
    fs::write(runner.dir.join(".env"), edited).unwrap();
    fs::write(runner.dir.join("larder/notes"), "mine").unwrap();
    let script = runner.dir.join("larder/job-completed.sh");
    fs::write(&script, "#!/bin/sh\n# my own by now\n").unwrap();
    fs::write(runner.sandbox.path("units/larder-gc.timer"), "[Timer]\nOnCalendar=daily\n").unwrap();
    let said = runner.install(&["--undo"]).ok();
    assert!(said.err.contains("larder-gc.timer is not larder's and stays"), "{said}");
    assert_eq!(runner.env(), "LANG=D\nACTIONS_RUNNER_HOOK_JOB_STARTED=/mine.sh\n");
    assert!(script.exists() && runner.dir.join("larder/notes").exists());
    assert!(!runner.dir.join("larder/job-started.sh").exists());
}

#[test]
fn a_timer_serves_all_runners_of_a_machine() {
    let runner = Runner::new("");
    let other = runner.sandbox.path("other");
    tool("cp", &[&"-a", &runner.dir, &other]);
    let of_other = |more: &[&str]| {
        let words = args(["install-runner", "--units"]).with(runner.sandbox.path("units")).and(more).with(&other);
        runner.sandbox.said(words).ok()
    };
    let service = runner.sandbox.path("units/larder-gc.service");
    runner.install(&[]).ok();
    of_other(&[]);
    assert_eq!(fs::read_to_string(&service).unwrap().matches("# runner: ").count(), 2);
    runner.install(&["--undo"]).ok();
    let text = fs::read_to_string(&service).unwrap();
    assert!(text.contains("/other\n") && !text.contains("/runner\n"), "{text}");
    of_other(&["--undo"]);
    assert!(!service.exists());
    let words = args(["install-runner", "--no-timer"]).with(&runner.dir);
    runner.sandbox.said(words).ok();
    assert!(!service.exists() && runner.value(STARTED).is_some());
}

#[test]
fn what_is_no_runner_is_refused_and_no_link_is_followed() {
    let runner = Runner::new("LANG=C\n");
    let refused = |dir: &Path, why: &str| {
        let said = runner.sandbox.said(args(["install-runner", "--no-timer"]).with(dir)).ends(2);
        assert!(said.err.contains("is no GitHub runner") && said.err.contains(why), "{said}");
    };
    refused(&runner.sandbox.path("nowhere"), "No such file");
    refused(&runner.sandbox.path("home"), "neither run.sh nor bin/Runner.Listener");
    let outside = runner.sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, runner.dir.join("larder")).unwrap();
    refused(&runner.dir, "its larder is no folder");
    fs::remove_file(runner.dir.join("larder")).unwrap();
    fs::rename(runner.dir.join(".env"), outside.join("env")).unwrap();
    refused(&runner.dir, "configure it first");
    symlink(outside.join("env"), runner.dir.join(".env")).unwrap();
    refused(&runner.dir, ".env is no plain file");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("env")).unwrap(), b"LANG=C\n");
}

#[test]
fn where_nothing_can_be_written_nothing_changes() {
    let runner = Runner::new("LANG=C\n");
    // A folder in the way, which stops root as well.
    fs::create_dir_all(runner.dir.join("larder/job-completed.sh/in-the-way")).unwrap();
    let said = runner.install(&[]).ends(1);
    assert!(said.err.contains("job-completed.sh"), "{said}");
    assert_eq!(runner.env(), "LANG=C\n");
    let left: Vec<_> = runner.files().into_iter().map(|(path, ..)| path).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("larder-new")), "{left:?}");
}

fn leases(store: &Path) -> usize {
    let sessions = fs::read_dir(store.join("sessions")).into_iter().flatten();
    sessions.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "job")).count()
}

#[test]
fn leases_of_jobs_that_were_killed_end_and_those_of_others_stay() {
    let runner = Runner::new("");
    runner.install(&[]).ok();
    let sandbox = &runner.sandbox;
    let checkout = sandbox.path("_work/app/app");
    let elsewhere = sandbox.path("elsewhere");
    for (dir, key) in [(&checkout, "a"), (&elsewhere, "b")] {
        plant(&dir.join("tree"));
        sandbox.said(args(["save", "--key", key, "--path"]).with(dir.join("tree"))).ok();
    }
    // Killed in the midst: nobody ends its lease.
    let mut command = sandbox.larder(args(["run", "--key", "a", "--path"]).with(checkout.join("tree")));
    let ready = sandbox.path("ready");
    command.args(["--", "sh", "-c", "echo > \"$0\"; exec sleep 600"]).arg(&ready);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the job runs", || ready.exists());
    let sleeper = tool("pgrep", &[&"-P", &child.id().to_string()]);
    child.kill().unwrap();
    child.wait().unwrap();
    tool("kill", &[&"-KILL", &sleeper.trim()]);
    sandbox.said(args(["restore", "--key", "b", "--path"]).with(elsewhere.join("tree"))).ok();
    assert_eq!(leases(&sandbox.store), 2);

    let job = [
        ("GITHUB_WORKSPACE", checkout.clone()),
        ("RUNNER_TEMP", sandbox.path("_work/_temp")),
        ("GITHUB_ACTIONS", "true".into()),
    ];
    let job: Vec<(&str, &Path)> = job.iter().map(|(name, path)| (*name, path.as_path())).collect();
    let said = runner.hook(STARTED, &job).ok();
    snapshot!(sandbox, said, @"
    exit code 0
    --- stderr
    ::group::larder: before the job
    larder: 1 leases of jobs that are over ended
    ::endgroup::
    ");
    assert_eq!(leases(&sandbox.store), 1);
    // After a job it collects, and not again at once.
    let said = runner.hook(COMPLETED, &job).ok();
    assert!(said.err.contains("evicted 0 of 2 snapshots"), "{said}");
    let said = runner.hook(COMPLETED, &job).ok();
    assert!(!said.err.contains("evicted"), "{said}");
    assert_eq!(leases(&sandbox.store), 1);
    runner.install(&["--undo"]).ok();
    assert!(!runner.dir.join("larder").exists());
}

#[test]
fn a_hook_ends_well_whatever_it_finds() {
    let sandbox = Sandbox::new();
    for when in ["job-started", "job-completed"] {
        sandbox.said(["hook", when]).ok();
        fs::write(sandbox.path("a file"), "").unwrap();
        let said = said(sandbox.larder(["hook", when]).env("LARDER_STORE", sandbox.path("a file"))).ok();
        assert!(said.err.contains("; the job goes on"), "{said}");
        let said = crate::support::said(sandbox.larder(["hook", when]).env("LARDER_HIGH", "many")).ok();
        assert!(said.err.contains("LARDER_HIGH=many"), "{said}");
        let said = crate::support::said(sandbox.larder(["hook", when]).env("LARDER_DISABLE", "1")).ok();
        assert!(said.err.contains("switched off"), "{said}");
    }
}

#[test]
fn a_hook_does_not_wait_for_ever() {
    let sandbox = Sandbox::new();
    plant(&sandbox.path("tree"));
    sandbox.said(args(["save", "--key", "k", "--path"]).with(sandbox.path("tree"))).ok();
    // Nobody writes to it: opening the host's settings never ends.
    fs::create_dir_all(sandbox.path("home/.config/larder")).unwrap();
    tool("mkfifo", &[&sandbox.path("home/.config/larder/larder.toml")]);
    let said = sandbox.said(["hook", "job-completed", "--at-most", "1s"]).ok();
    assert!(said.err.contains("took its time"), "{said}");
}
