//! What `larder init --for` writes for other systems than GitHub, on the same siblings: cold, after a commit in one of
//! them, and with nothing new.

use crate::act::{Job, on_path, plain, skip};
use crate::world::{World, source};
use larder_ci::yaml;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const BUILDERS: [&str; 4] = ["test", "clippy", "docs", "build"];

/// What one run of all jobs said, by job.
type Jobs = BTreeMap<String, Job>;

/// Runs all jobs three times, by `run`, which gets a new checkout of app.
fn three_times(world: &World, run: impl Fn(&Path) -> Jobs) {
    let round = |expected: &[&str]| {
        let jobs = run(&world.clone("app"));
        assert!(jobs.len() >= BUILDERS.len() && jobs.values().all(|job| job.succeeded), "{jobs:#?}");
        let built: BTreeSet<&str> = jobs.values().flat_map(Job::compiled).collect();
        // Tests and build scripts have names of their own.
        let packages = BTreeSet::from(["app", "consensus", "protocol"]);
        assert_eq!(built.intersection(&packages).copied().collect::<Vec<_>>(), expected, "{jobs:#?}");
    };
    round(&["app", "consensus", "protocol"]);
    world.commit("protocol", &[("src/lib.rs", source("consensus::value() + 20"))]);
    round(&["app", "protocol"]);
    round(&[]);
    world.verify();
}

/// Writes the file of a system and publishes it.
fn init(world: &World, system: &str) {
    let output = world.larder("app", &["init", "--for", system]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.commit("app", &[]);
}

/// The commits that lie beside a workspace are the newest ones.
#[track_caller]
fn has_siblings(world: &World, beside: &Path) {
    for name in ["consensus", "protocol"] {
        assert_eq!(world.git(&beside.join(name), &["rev-parse", "HEAD"]).trim(), world.head(name), "{name}");
    }
}

/// gitlab-ci-local does what a runner with the shell executor does: a checkout for each job, all jobs of a stage at once, and
/// the plan as a variable from the report of `setup`.
#[test]
fn the_pipeline_of_gitlab() {
    let Some(gitlab) = on_path("gitlab-ci-local") else {
        return skip("there is no gitlab-ci-local on the PATH: npm install gitlab-ci-local");
    };
    let world = World::of_siblings();
    init(&world, "gitlab");
    three_times(&world, |app| {
        let output = world.command(&gitlab, app).arg("--shell-isolation").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let place = app.join(".gitlab-ci-local");
        has_siblings(&world, &place.join("builds"));
        let logs = fs::read_dir(place.join("output")).unwrap().map(|entry| entry.unwrap().path());
        let job = |text: &str| Job { succeeded: true, lines: lines(text), ..Job::default() };
        logs.map(|log| {
            let id = log.file_stem().unwrap().to_str().unwrap().to_owned();
            (id, job(&fs::read_to_string(&log).unwrap()))
        })
        .collect()
    });
}

fn lines(text: &str) -> Vec<String> {
    plain(text).lines().map(str::to_owned).collect()
}

/// Buildkite's agent runs no pipeline without its server. So each command runs as the agent would run it, in a checkout of
/// its own, and the one thing that it asks the server for is kept in a file.
#[test]
fn the_steps_of_buildkite() {
    const AGENT: &str = "#!/bin/sh
case \"$1 $2\" in
'meta-data set') cat >\"$META_DATA/$3\" ;;
'meta-data get') cat \"$META_DATA/$3\" ;;
*) echo \"$*\" >&2; exit 64 ;;
esac
";
    let world = World::of_siblings();
    init(&world, "buildkite");
    let agent = world.root.join("bin/buildkite-agent");
    fs::write(&agent, AGENT).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let meta_data = world.root.join("meta-data");
    fs::create_dir(&meta_data).unwrap();
    three_times(&world, |first| {
        let text = fs::read_to_string(first.join(".buildkite/pipeline.yml")).unwrap();
        let pipeline = yaml::parse(&text).unwrap();
        let variables = |at: Option<yaml::At<'_>>| -> Vec<(String, String)> {
            let pairs = at.into_iter().flat_map(|env| env.pairs());
            pairs.map(|(name, value)| (name.text().unwrap().to_owned(), value.text().unwrap().to_owned())).collect()
        };
        let steps = pipeline.root().get("steps").unwrap();
        let mut jobs = Jobs::new();
        for step in steps.items() {
            let id = step.get("key").unwrap().text().unwrap();
            let app = world.clone("app");
            // As the server does when it reads the file.
            let script = step.get("command").unwrap().text().unwrap().replace("$$", "$");
            let mut bash = world.command(Path::new("/bin/bash"), &app);
            bash.args(["-e", "-c", &script]).env("META_DATA", &meta_data);
            bash.envs([("BUILDKITE", "true"), ("CI", "true"), ("BUILDKITE_BRANCH", "main")]);
            bash.envs([("BUILDKITE_STEP_KEY", id), ("BUILDKITE_PULL_REQUEST", "false")]);
            bash.env("BUILDKITE_REPO", world.git(&app, &["remote", "get-url", "origin"]).trim());
            bash.envs(variables(pipeline.root().get("env"))).envs(variables(step.get("env")));
            let job = said(&mut bash);
            if BUILDERS.contains(&id) {
                has_siblings(&world, app.parent().unwrap());
            }
            jobs.insert(id.to_owned(), job);
        }
        jobs
    });
}

/// Runs a command as a job.
fn said(command: &mut Command) -> Job {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Job { succeeded: output.status.success(), lines: lines(&text), ..Job::default() }
}

/// `ci.sh`, in a checkout with nothing beside it: its first job brings the siblings' commits, the others check them out.
#[test]
fn the_plain_script() {
    let world = World::of_siblings();
    init(&world, "plain");
    three_times(&world, |app| {
        let whole = said(&mut world.command(&app.join("ci.sh"), app));
        has_siblings(&world, app.parent().unwrap());
        let mut jobs = Jobs::new();
        let mut id = String::new();
        for line in whole.lines {
            if let Some(next) = line.strip_prefix("== ") {
                id = next.to_owned();
            }
            let job = jobs.entry(id.clone()).or_default();
            job.succeeded = whole.succeeded;
            job.lines.push(line);
        }
        jobs
    });
}
