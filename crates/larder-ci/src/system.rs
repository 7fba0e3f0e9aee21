//! Which CI system runs this, for which repository, branch and job, and how far its code is trusted.
//!
//! Sources: docs.github.com, "Variables reference" and "Webhook events and payloads"; forgejo.org, "Forgejo Actions
//! reference" (the same names, also with `FORGEJO_`); docs.gitlab.com, "Predefined CI/CD variables"; buildkite.com,
//! "Environment variables".
//!
//! A variable can be set by anybody who runs a process. What is decided here keeps honest builds apart; it is no wall
//! against code that means harm and runs as the same user.

use serde_json::Value;

/// A CI system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// GitHub Actions.
    Github,
    /// Forgejo's, and Gitea's.
    Forgejo,
    /// GitLab CI.
    Gitlab,
    /// Buildkite.
    Buildkite,
    /// None that is known.
    None,
}

/// How far the code that is built is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// A branch that the system protects.
    Protected,
    /// A branch or tag of the repository itself: whoever may push to it wrote the code.
    Branch,
    /// A pull request from the repository itself, by its number where that is known.
    PullRequest(Option<u64>),
    /// Somebody else's fork, or a pull request of which nobody can tell where it comes from.
    Fork(Option<u64>),
}

/// A job, as its system tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which system.
    pub system: Name,
    /// Owner and name.
    pub repository: Option<String>,
    /// The branch; of a pull request its own.
    pub branch: Option<String>,
    /// The commit.
    pub commit: Option<String>,
    /// The job.
    pub job: Option<String>,
    /// How far its code is trusted.
    pub trust: Trust,
    /// The run, pipeline or build that the job belongs to.
    pub run: Option<String>,
}

/// What stands between a repository and the pull request of a scope: no repository's name has it.
pub const WITHIN: char = '#';

impl Run {
    /// Who may read and write what the job saves: the repository, and within it each pull request for itself. `None`
    /// where no system names a repository.
    #[must_use]
    pub fn scope(&self) -> Option<String> {
        let repository = self.repository.as_ref()?.replace(WITHIN, "-");
        Some(match &self.trust {
            Trust::Protected | Trust::Branch => repository,
            Trust::PullRequest(Some(number)) | Trust::Fork(Some(number)) => format!("{repository}{WITHIN}{number}"),
            Trust::PullRequest(None) | Trust::Fork(None) => format!("{repository}{WITHIN}pull"),
        })
    }

    /// Whether somebody else's code is built.
    #[must_use]
    pub fn is_fork(&self) -> bool {
        matches!(self.trust, Trust::Fork(_))
    }
}

/// The repository of a scope: what stands before a pull request.
#[must_use]
pub fn repository_of(scope: &str) -> &str {
    scope.split(WITHIN).next().unwrap_or(scope)
}

/// Whether a scope is that of a pull request.
#[must_use]
pub fn is_pull_request(scope: &str) -> bool {
    scope.contains(WITHIN)
}

/// Finds out. `env` gives variables (empty ones count as absent), `read` a file by its path.
pub fn detect(env: &dyn Fn(&str) -> Option<String>, read: &dyn Fn(&str) -> Option<String>) -> Run {
    let env = Variables { env };
    if env.is_true("BUILDKITE") {
        env.buildkite()
    } else if env.is_true("GITLAB_CI") {
        env.gitlab()
    } else if ["GITHUB_REPOSITORY", "FORGEJO_REPOSITORY", "GITHUB_REF"].iter().any(|name| env.get(name).is_some()) {
        env.actions(read)
    } else {
        let job = env.get("GITHUB_JOB");
        Run { system: Name::None, repository: None, branch: None, commit: None, job, trust: Trust::Branch, run: None }
    }
}

struct Variables<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
}

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }

    /// GitHub, Forgejo, Gitea.
    fn actions(&self, read: &dyn Fn(&str) -> Option<String>) -> Run {
        let get = |name: &str| self.get(&format!("FORGEJO_{name}")).or_else(|| self.get(&format!("GITHUB_{name}")));
        let other = ["FORGEJO_ACTIONS", "GITEA_ACTIONS"].into_iter().any(|name| self.is_true(name));
        let repository = get("REPOSITORY");
        let reference = get("REF").unwrap_or_default();
        let pull = reference.strip_prefix("refs/pull/").map(|rest| rest.split('/').next().and_then(|n| n.parse().ok()));
        let event = get("EVENT_NAME").unwrap_or_default();
        // What these build comes from elsewhere than the reference tells.
        let asks = event.starts_with("pull_request") || event == "workflow_run";
        let trust = if pull.is_some() || asks {
            let payload = get("EVENT_PATH").and_then(|path| read(&path));
            let payload = payload.and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
            of_event(&payload, repository.as_deref(), pull.flatten(), &event)
        } else if self.is_true("GITHUB_REF_PROTECTED") || self.is_true("FORGEJO_REF_PROTECTED") {
            Trust::Protected
        } else {
            Trust::Branch
        };
        Run {
            system: if other { Name::Forgejo } else { Name::Github },
            repository,
            branch: get("HEAD_REF").or_else(|| Some(reference.strip_prefix("refs/heads/")?.to_owned())),
            commit: get("SHA"),
            job: get("JOB"),
            trust,
            run: get("RUN_ID"),
        }
    }

    fn gitlab(&self) -> Run {
        let repository = self.get("CI_PROJECT_PATH");
        let request = self.get("CI_MERGE_REQUEST_IID").or_else(|| self.get("CI_EXTERNAL_PULL_REQUEST_IID"));
        let trust = match request {
            Some(number) => {
                let source = self
                    .get("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH")
                    .or_else(|| self.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY"));
                let target = self
                    .get("CI_MERGE_REQUEST_PROJECT_PATH")
                    .or_else(|| self.get("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY"))
                    .or_else(|| repository.clone());
                of_request(number.parse().ok(), source.as_deref(), target.as_deref())
            }
            None if self.is_true("CI_COMMIT_REF_PROTECTED") => Trust::Protected,
            None => Trust::Branch,
        };
        let named = || self.get("CI_COMMIT_REF_NAME").filter(|_| self.get("CI_COMMIT_TAG").is_none());
        let branch = self.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME").or_else(|| self.get("CI_COMMIT_BRANCH"));
        Run {
            system: Name::Gitlab,
            repository,
            branch: branch.or_else(named),
            commit: self.get("CI_COMMIT_SHA"),
            job: self.get("CI_JOB_NAME"),
            trust,
            run: self.get("CI_PIPELINE_ID"),
        }
    }

    fn buildkite(&self) -> Run {
        let own = self.get("BUILDKITE_REPO").and_then(|url| owner_and_name(&url));
        let pull = self.get("BUILDKITE_PULL_REQUEST").filter(|number| number != "false");
        let branch = self.get("BUILDKITE_BRANCH");
        let trust = match pull {
            Some(number) => {
                let source = self.get("BUILDKITE_PULL_REQUEST_REPO").and_then(|url| owner_and_name(&url));
                of_request(number.parse().ok(), source.as_deref(), own.as_deref())
            }
            None if branch.is_some() && branch == self.get("BUILDKITE_PIPELINE_DEFAULT_BRANCH") => Trust::Protected,
            None => Trust::Branch,
        };
        let pipeline = || {
            let slug = self.get("BUILDKITE_PIPELINE_SLUG")?;
            Some(self.get("BUILDKITE_ORGANIZATION_SLUG").map_or(slug.clone(), |owner| format!("{owner}/{slug}")))
        };
        Run {
            system: Name::Buildkite,
            repository: own.or_else(pipeline),
            branch,
            commit: self.get("BUILDKITE_COMMIT").filter(|commit| commit != "HEAD"),
            job: self.get("BUILDKITE_STEP_KEY").or_else(|| self.get("BUILDKITE_LABEL")),
            trust,
            run: self.get("BUILDKITE_BUILD_ID"),
        }
    }
}

/// What an event's payload says of where the code comes from.
fn of_event(payload: &Value, repository: Option<&str>, number: Option<u64>, event: &str) -> Trust {
    let text = |path: &str| payload.pointer(path).and_then(Value::as_str);
    if event == "workflow_run" {
        // Its code is that of the branch, but what it was told to build is the other run's.
        let source = text("/workflow_run/head_repository/full_name");
        return if source.is_some() && source == repository { Trust::Branch } else { Trust::Fork(number) };
    }
    let number = number
        .or_else(|| payload.get("number").and_then(Value::as_u64))
        .or_else(|| payload.pointer("/pull_request/number").and_then(Value::as_u64));
    let target = text("/pull_request/base/repo/full_name").or(repository);
    of_request(number, text("/pull_request/head/repo/full_name"), target)
}

/// A fork that was deleted has no name any more.
fn of_request(number: Option<u64>, source: Option<&str>, target: Option<&str>) -> Trust {
    match (source, target) {
        (Some(source), Some(target)) if source.eq_ignore_ascii_case(target) => Trust::PullRequest(number),
        _ => Trust::Fork(number),
    }
}

/// Owner and name from a repository's address. The rest may hold a password and is dropped.
#[must_use]
pub fn owner_and_name(url: &str) -> Option<String> {
    let path = url.trim().trim_end_matches('/').trim_end_matches(".git");
    let mut names = path.rsplit(['/', ':']);
    let (name, owner) = (names.next()?, names.next()?);
    let is_plain = |name: &str| !name.is_empty() && !name.contains(['@', '?', '#']);
    (is_plain(name) && is_plain(owner)).then(|| format!("{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(variables: &[(&str, &str)], event: &str) -> Run {
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        detect(&env, &|path| (path == "/event.json").then(|| event.to_owned()))
    }

    /// System, repository, branch, job, run.
    fn said(run: &Run) -> [String; 5] {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        [format!("{:?}", run.system), text(&run.repository), text(&run.branch), text(&run.job), text(&run.run)]
    }

    const GITHUB: [(&str, &str); 5] = [
        ("GITHUB_REPOSITORY", "acme/one"),
        ("GITHUB_JOB", "test"),
        ("GITHUB_RUN_ID", "77"),
        ("GITHUB_SHA", "abc"),
        ("GITHUB_EVENT_PATH", "/event.json"),
    ];

    fn github(more: &[(&str, &str)], event: &str) -> Run {
        run(&[&GITHUB, more].concat(), event)
    }

    fn head(name: &str) -> String {
        format!(
            "{{\"number\": 7, \"pull_request\": {{\"head\": {{\"repo\": {name}}}, \"base\": {{\"repo\": {{\"full_name\": \"acme/one\"}}}}}}}}"
        )
    }

    #[test]
    fn github_tells_branches_from_pull_requests_and_forks() {
        let branch = github(&[("GITHUB_REF", "refs/heads/main"), ("GITHUB_HEAD_REF", "")], "");
        assert_eq!(said(&branch), ["Github", "acme/one", "main", "test", "77"]);
        assert_eq!((&branch.trust, branch.scope().as_deref()), (&Trust::Branch, Some("acme/one")));
        let protected = [("GITHUB_REF", "refs/heads/main"), ("GITHUB_REF_PROTECTED", "true")];
        assert_eq!(github(&protected, "").trust, Trust::Protected);
        let pull =
            [("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_HEAD_REF", "topic"), ("GITHUB_EVENT_NAME", "pull_request")];
        let own = github(&pull, &head("{\"full_name\": \"acme/one\"}"));
        assert_eq!((own.branch.as_deref(), own.scope().as_deref()), (Some("topic"), Some("acme/one#7")));
        assert_eq!(own.trust, Trust::PullRequest(Some(7)));
        for event in [&*head("{\"full_name\": \"eve/one\"}"), &*head("null"), "{}", "no JSON"] {
            let fork = github(&pull, event);
            assert_eq!((fork.is_fork(), fork.scope().as_deref()), (true, Some("acme/one#7")), "{event}");
        }
        // It runs on the base branch, for the code of a stranger.
        let target = [("GITHUB_REF", "refs/heads/main"), ("GITHUB_EVENT_NAME", "pull_request_target")];
        assert_eq!(github(&target, &head("{\"full_name\": \"eve/one\"}")).trust, Trust::Fork(Some(7)));
        let after = [("GITHUB_REF", "refs/heads/main"), ("GITHUB_EVENT_NAME", "workflow_run")];
        let of = |name: &str| format!("{{\"workflow_run\": {{\"head_repository\": {{\"full_name\": \"{name}\"}}}}}}");
        assert_eq!(github(&after, &of("acme/one")).trust, Trust::Branch);
        assert!(github(&after, &of("eve/one")).is_fork());
    }

    #[test]
    fn forgejo_speaks_as_github_does() {
        let found = run(
            &[
                ("FORGEJO_ACTIONS", "true"),
                ("FORGEJO_REPOSITORY", "a/b"),
                ("FORGEJO_REF", "refs/heads/x"),
                ("GITHUB_JOB", "j"),
            ],
            "",
        );
        assert_eq!(said(&found), ["Forgejo", "a/b", "x", "j", "-"]);
        let gitea = github(&[("GITEA_ACTIONS", "true")], "");
        assert_eq!(gitea.system, Name::Forgejo);
    }

    #[test]
    fn gitlab_tells_merge_requests() {
        let base = [
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_PATH", "g/s/one"),
            ("CI_JOB_NAME", "test: unit"),
            ("CI_PIPELINE_ID", "5"),
        ];
        let with = |more: &[(&str, &str)]| run(&[&base, more].concat(), "");
        let main = with(&[("CI_COMMIT_REF_NAME", "main"), ("CI_COMMIT_REF_PROTECTED", "true")]);
        assert_eq!(said(&main), ["Gitlab", "g/s/one", "main", "test: unit", "5"]);
        assert_eq!(main.trust, Trust::Protected);
        let tag = with(&[("CI_COMMIT_REF_NAME", "v1"), ("CI_COMMIT_TAG", "v1")]);
        assert_eq!((tag.branch, tag.trust), (None, Trust::Branch));
        let request = [
            ("CI_MERGE_REQUEST_IID", "4"),
            ("CI_MERGE_REQUEST_PROJECT_PATH", "g/s/one"),
            ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "t"),
        ];
        let of = |source: &str| with(&[&request[..], &[("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", source)]].concat());
        assert_eq!((of("g/s/one").trust, of("g/s/one").branch.as_deref()), (Trust::PullRequest(Some(4)), Some("t")));
        assert_eq!(of("eve/one").trust, Trust::Fork(Some(4)));
        assert_eq!(of("").trust, Trust::Fork(Some(4)));
    }

    #[test]
    fn buildkite_tells_by_addresses() {
        let base = [
            ("BUILDKITE", "true"),
            ("BUILDKITE_REPO", "git@github.com:acme/one.git"),
            ("BUILDKITE_BRANCH", "main"),
            ("BUILDKITE_STEP_KEY", "test"),
        ];
        let with = |more: &[(&str, &str)]| run(&[&base, more].concat(), "");
        let branch = with(&[("BUILDKITE_PULL_REQUEST", "false"), ("BUILDKITE_BUILD_ID", "b-1")]);
        assert_eq!(said(&branch), ["Buildkite", "acme/one", "main", "test", "b-1"]);
        assert_eq!(branch.trust, Trust::Branch);
        assert_eq!(with(&[("BUILDKITE_PIPELINE_DEFAULT_BRANCH", "main")]).trust, Trust::Protected);
        let of = |url: &str| with(&[("BUILDKITE_PULL_REQUEST", "9"), ("BUILDKITE_PULL_REQUEST_REPO", url)]).trust;
        assert_eq!(of("https://github.com/acme/one.git"), Trust::PullRequest(Some(9)));
        assert_eq!(of("git://github.com/eve/one.git"), Trust::Fork(Some(9)));
        assert_eq!(of(""), Trust::Fork(Some(9)));
        let local =
            run(&[("BUILDKITE", "true"), ("BUILDKITE_ORGANIZATION_SLUG", "o"), ("BUILDKITE_PIPELINE_SLUG", "p")], "");
        assert_eq!(local.repository.as_deref(), Some("o/p"));
    }

    #[test]
    fn elsewhere_nobody_names_a_scope() {
        let found = run(&[("GITHUB_JOB", "j"), ("BUILDKITE", "false")], "");
        assert_eq!((said(&found), found.scope()), (["None", "-", "-", "j", "-"].map(str::to_owned), None));
        assert_eq!((repository_of("a/b#7"), is_pull_request("a/b#7")), ("a/b", true));
        // A name cannot pass for a pull request of another repository.
        let odd = run(&[("GITHUB_REF", "refs/heads/main"), ("GITHUB_REPOSITORY", "a#7")], "");
        assert_eq!(odd.scope().as_deref(), Some("a-7"));
    }
}
