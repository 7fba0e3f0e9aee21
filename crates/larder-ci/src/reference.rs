//! Which branch of a sibling a run takes: the one that has the name of the run's own, else what was configured.
//!
//! Source: docs.github.com, "Variables" (`GITHUB_HEAD_REF`, `GITHUB_BASE_REF` and `GITHUB_REF_NAME`, which Forgejo and
//! Gitea set too); docs.gitlab.com, "Predefined CI/CD variables"; buildkite.com, "Environment variables".

/// The branches of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branches {
    /// The branch that was pushed, or that is to be merged.
    pub head: Option<String>,
    /// The branch that it is to be merged into, of a pull request.
    pub base: Option<String>,
}

/// Why a branch was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Somebody named it for this sibling.
    Asked,
    /// It has the name of the run's own branch.
    Head,
    /// It has the name of the branch that the run's is to be merged into.
    Base,
    /// It is configured.
    Configured,
    /// It is the one that the remote calls its own.
    Default,
}

impl Reason {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked for",
            Self::Head => "same name",
            Self::Base => "name of the base",
            Self::Configured => "configured",
            Self::Default => "the remote's default",
        }
    }
}

impl Branches {
    /// What the variables of the CI system say.
    pub fn of_ci(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| env(name).filter(|value| is_branch(value)));
        let pushed = || match env("GITHUB_REF_TYPE").as_deref() {
            // A tag is no branch, and `7/merge` is one of GitHub's own.
            Some("tag") => None,
            _ => {
                let full = env("GITHUB_REF").unwrap_or_default();
                first(&["GITHUB_REF_NAME"]).filter(|_| full.is_empty() || full.starts_with("refs/heads/"))
            }
        };
        let head = first(&["GITHUB_HEAD_REF"])
            .or_else(pushed)
            .or_else(|| first(&["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH", "BUILDKITE_BRANCH"]));
        let base =
            first(&["GITHUB_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "BUILDKITE_PULL_REQUEST_BASE_BRANCH"]);
        Self { head, base }
    }

    /// The branches to look for, the best one first; where none of them is there, the remote's default is taken.
    pub fn candidates(&self, configured: Option<&str>) -> Vec<(String, Reason)> {
        let named = [(self.head.as_deref(), Reason::Head), (self.base.as_deref(), Reason::Base)];
        let all = named.into_iter().chain([(configured, Reason::Configured)]);
        let mut candidates: Vec<(String, Reason)> = Vec::new();
        for (name, reason) in all {
            if let Some(name) = name.filter(|name| is_branch(name))
                && !candidates.iter().any(|(known, _)| known == name)
            {
                candidates.push((name.to_owned(), reason));
            }
        }
        candidates
    }
}

/// Whether git would take it as a branch's name, and nobody could take it for anything else.
pub fn is_branch(name: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !name.is_empty()
        && name.len() <= 255
        && name != "@"
        && !name.starts_with(['-', '/'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(is_odd)
        && name.split('/').all(is_part)
}

/// Whether it is the full name of a commit.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(env: &[(&str, &str)], configured: Option<&str>) -> String {
        let value = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let found = Branches::of_ci(&value).candidates(configured);
        found.iter().map(|(name, reason)| format!("{name} ({})", reason.name())).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_run_s_own_branch_comes_first() {
        let push = [("GITHUB_REF", "refs/heads/topic/a"), ("GITHUB_REF_NAME", "topic/a"), ("GITHUB_HEAD_REF", "")];
        assert_eq!(candidates(&push, None), "topic/a (same name)");
        assert_eq!(candidates(&push, Some("dev")), "topic/a (same name), dev (configured)");
        assert_eq!(candidates(&push, Some("topic/a")), "topic/a (same name)");
        let pull = [
            ("GITHUB_REF", "refs/pull/7/merge"),
            ("GITHUB_REF_NAME", "7/merge"),
            ("GITHUB_HEAD_REF", "topic"),
            ("GITHUB_BASE_REF", "release"),
        ];
        assert_eq!(candidates(&pull, Some("dev")), "topic (same name), release (name of the base), dev (configured)");
        assert_eq!(candidates(&pull[..2], None), "");
        assert_eq!(
            candidates(&[("GITHUB_REF_TYPE", "tag"), ("GITHUB_REF_NAME", "v1")], Some("dev")),
            "dev (configured)"
        );
        assert_eq!(candidates(&[("GITHUB_REF_NAME", "main")], None), "main (same name)");
        let merge = [("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "x"), ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")];
        assert_eq!(candidates(&merge, None), "x (same name), main (name of the base)");
        assert_eq!(candidates(&[("GITHUB_HEAD_REF", "--upload-pack=x")], None), "");
    }

    #[test]
    fn names() {
        for good in ["main", "topic/a-b", "v1.2", "ünï", "a@b"] {
            assert!(is_branch(good), "{good}");
        }
        for bad in [
            "", "-x", "/x", "x/", "x.", "a..b", "a b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "a@{b", "@",
            ".a", "a/.b", "a//b", "a.lock", "a\nb", "a\u{7f}",
        ] {
            assert!(!is_branch(bad), "{bad:?}");
        }
        assert!(is_commit(&"0a".repeat(20)) && is_commit(&"0a".repeat(32)));
        assert!(!is_commit(&"0A".repeat(20)) && !is_commit("0a") && !is_commit(&"g".repeat(40)));
    }
}
