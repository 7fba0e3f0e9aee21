//! Who reads and writes what: branches, pull requests, forks, on every CI system.

use crate::support::tree::plant;
use crate::support::{Said, Sandbox, args, said};
use std::fs;

/// A job, by the variables that its system sets.
struct Job {
    variables: Vec<(&'static str, String)>,
}

const ONE: &str = "acme/one";

impl Job {
    fn github(reference: &str, head: Option<&str>, sandbox: &Sandbox) -> Self {
        let mut variables = vec![("GITHUB_REPOSITORY", ONE.to_owned()), ("GITHUB_REF", reference.to_owned())];
        if let Some(head) = head {
            let event = sandbox.path("event.json");
            let text = format!(
                r#"{{"pull_request": {{"head": {{"repo": {{"full_name": "{head}"}}}}, "base": {{"repo": {{"full_name": "{ONE}"}}}}}}}}"#
            );
            fs::write(&event, text).unwrap();
            variables.push(("GITHUB_EVENT_NAME", "pull_request".into()));
            variables.push(("GITHUB_EVENT_PATH", event.to_str().unwrap().into()));
        }
        Self { variables }
    }

    fn gitlab(source: &str) -> Self {
        let pairs = [
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_PATH", ONE),
            ("CI_JOB_NAME", "unit tests"),
            ("CI_MERGE_REQUEST_IID", "7"),
            ("CI_MERGE_REQUEST_PROJECT_PATH", ONE),
            ("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", source),
        ];
        Self { variables: pairs.map(|(name, value)| (name, value.to_owned())).into() }
    }

    fn buildkite(source: &str) -> Self {
        let pairs = [
            ("BUILDKITE", "true"),
            ("BUILDKITE_REPO", "https://git.example/acme/one.git"),
            ("BUILDKITE_STEP_KEY", "unit-tests"),
            ("BUILDKITE_PULL_REQUEST", "7"),
            ("BUILDKITE_PULL_REQUEST_REPO", source),
        ];
        Self { variables: pairs.map(|(name, value)| (name, value.to_owned())).into() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// A restore, a command that succeeds, a save.
    fn run(&self, sandbox: &Sandbox, key: &str) -> Said {
        let words =
            args(["--format", "json", "run", "--path"]).with(sandbox.path("tree")).and(["--key", key, "--", "true"]);
        said(sandbox.larder(words).envs(self.variables.iter().map(|(name, value)| (*name, value)))).ok()
    }

    fn alone(&self, sandbox: &Sandbox, verb: &str, key: &str) -> Said {
        let words = args(["--format", "json", verb, "--path"]).with(sandbox.path("tree")).and(["--key", key]);
        said(sandbox.larder(words).envs(self.variables.iter().map(|(name, value)| (*name, value)))).ok()
    }
}

/// What was restored and saved.
fn outcomes(said: &Said) -> (String, Option<String>) {
    let object = said.last_json();
    let saved = object["save"]["outcome"].as_str().map(str::to_owned);
    (object["outcome"].as_str().unwrap().to_owned(), saved)
}

fn scopes(sandbox: &Sandbox) -> Vec<String> {
    let listed = sandbox.json(["ls", "--sort", "key"]);
    let mut scopes: Vec<String> =
        listed["snapshots"].as_array().unwrap().iter().map(|one| one["scope"].as_str().unwrap().to_owned()).collect();
    scopes.sort();
    scopes
}

fn planted() -> Sandbox {
    let sandbox = Sandbox::new();
    plant(&sandbox.path("tree"));
    sandbox
}

#[test]
fn a_pull_request_reads_the_branch_and_saves_for_itself() {
    let sandbox = planted();
    let main = Job::github("refs/heads/main", None, &sandbox);
    let seven = Job::github("refs/pull/7/merge", Some(ONE), &sandbox);
    let eight = Job::github("refs/pull/8/merge", Some(ONE), &sandbox);
    assert_eq!(outcomes(&main.run(&sandbox, "k")), ("miss".into(), Some("saved".into())));
    assert_eq!(outcomes(&seven.run(&sandbox, "k")), ("hit".into(), Some("saved".into())));
    assert_eq!(outcomes(&seven.run(&sandbox, "own")).0, "miss");
    assert_eq!(outcomes(&seven.run(&sandbox, "own")).0, "hit");
    // Nobody else reads it: no branch, no other pull request.
    assert_eq!(outcomes(&main.run(&sandbox, "own")).0, "miss");
    assert_eq!(eight.alone(&sandbox, "restore", "own").json()["outcome"], "hit", "the branch has saved it meanwhile");
    assert_eq!(outcomes(&seven.run(&sandbox, "mine")).1.as_deref(), Some("saved"));
    assert_eq!(eight.alone(&sandbox, "restore", "mine").json()["outcome"], "miss");
    assert_eq!(main.alone(&sandbox, "restore", "mine").json()["outcome"], "miss");
    assert!(scopes(&sandbox).iter().all(|scope| scope == ONE || scope == "acme/one#7"), "{:?}", scopes(&sandbox));
    // For people it is one repository.
    let listed = sandbox.json(["ls", "--repository", ONE]);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), scopes(&sandbox).len());
}

#[test]
fn a_fork_saves_nothing_on_any_system() {
    let sandbox = planted();
    let main = Job::github("refs/heads/main", None, &sandbox);
    main.run(&sandbox, "k");
    let before = scopes(&sandbox);
    let forks = [
        Job::github("refs/pull/7/merge", Some("eve/one"), &sandbox),
        Job::gitlab("eve/one"),
        Job::buildkite("https://git.example/eve/one.git"),
        // Nobody knows where this one comes from.
        Job::github("refs/pull/7/merge", None, &sandbox),
    ];
    for fork in forks {
        let run = fork.run(&sandbox, "k");
        assert_eq!(outcomes(&run), ("hit".into(), None), "{run}");
        assert!(run.err.contains("nothing is saved: this is a pull request from a fork"), "{run}");
        let saved = fork.alone(&sandbox, "save", "other");
        assert_eq!(saved.json()["outcome"], "skipped");
        assert!(saved.err.contains("nothing is saved: this is a pull request from a fork"), "{saved}");
        // Its code could write through a hard link into the store.
        fs::remove_dir_all(sandbox.path("tree")).unwrap();
        let restored = fork.alone(&sandbox, "restore", "k").json();
        assert_eq!(restored["outcome"], "hit");
        assert_eq!(restored["link_modes"]["hardlink"], serde_json::Value::Null, "{restored}");
        assert_eq!(restored["link_modes"]["spare"], serde_json::Value::Null, "{restored}");
    }
    assert_eq!(scopes(&sandbox), before);
    // Who wants it otherwise says so; even then nobody else reads it.
    let asked = Job::github("refs/pull/7/merge", Some("eve/one"), &sandbox).with("LARDER_SAVE", "success");
    assert_eq!(outcomes(&asked.run(&sandbox, "k")).1.as_deref(), Some("saved"));
    assert!(scopes(&sandbox).contains(&"acme/one#7".to_owned()));
}

#[test]
fn a_job_that_must_not_save_says_why() {
    let sandbox = planted();
    let main = Job::github("refs/heads/main", None, &sandbox).with("LARDER_SAVE", "never");
    let saved = main.alone(&sandbox, "save", "k");
    assert_eq!(saved.json()["outcome"], "skipped");
    assert!(saved.err.contains("nothing is saved: LARDER_SAVE says never"), "{saved}");
}

#[test]
fn jobs_have_the_names_that_their_systems_give() {
    let sandbox = planted();
    for (job, variable, name) in [
        (Job::gitlab(ONE), "CI_JOB_NAME", "unit tests"),
        (Job::buildkite("https://git.example/acme/one.git"), "BUILDKITE_STEP_KEY", "unit-tests"),
    ] {
        let config = said(sandbox.larder(["config"]).envs(job.variables.iter().map(|(name, value)| (*name, value))));
        let line = config.out.lines().find(|line| line.starts_with("job ")).unwrap();
        assert!(line.contains(name) && line.contains(variable), "{config}");
        job.run(&sandbox, "k");
        assert_eq!(sandbox.json(["ls"])["snapshots"][0]["repository"], ONE);
    }
}
