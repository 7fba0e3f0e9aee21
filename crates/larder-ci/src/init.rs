//! Writing the good workflow: what jobs a repository needs, and how each CI system is told of them.
//!
//! The jobs are data ([`jobs::of`]), made from what is known of the repository ([`Facts`]). One writer a system turns them
//! into a file that explains itself in comments. The writers know the systems, the jobs know cargo and larder; neither
//! reads or writes anything.
//!
//! | module | its one idea |
//! |---|---|
//! | [`jobs`] | what is to be done, in which order, and why |
//! | `github` | a workflow of GitHub, or of Forgejo and Gitea, which read nearly the same |
//! | `gitlab` | a pipeline of GitLab |
//! | `buildkite` | a pipeline of Buildkite |
//! | `plain` | a script that does the jobs one after the other |
//! | [`patch`] | a workflow that is there, changed in place |
//! | `lines` | indented lines, comments of a bearable width, YAML's quotes |

mod buildkite;
mod github;
mod gitlab;
pub mod jobs;
mod lines;
pub mod patch;
mod plain;

/// The CI systems that a file can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// GitHub Actions.
    Github,
    /// Forgejo Actions, and Gitea's.
    Forgejo,
    /// GitLab CI.
    Gitlab,
    /// Buildkite.
    Buildkite,
    /// None: a script.
    Plain,
}

/// What is known of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Owner and name, or the folder's name.
    pub repository: String,
    /// The branch that pull requests are made for.
    pub default_branch: String,
    /// Where the cargo workspace is, from the repository's root; empty for the root itself.
    pub directory: String,
    /// The folders beside the repository that the build needs, by name, in order.
    pub siblings: Vec<String>,
    /// Whether `Cargo.lock` is there.
    pub has_lock: bool,
    /// Whether `deny.toml` is there.
    pub has_deny: bool,
    /// Whether some crate has features.
    pub has_features: bool,
    /// The edition of the crates, the newest where they differ.
    pub edition: String,
    /// What the toolchain file is called, where there is one.
    pub toolchain_file: Option<String>,
    /// The labels of the runners; empty for what the system's own default is.
    pub runner: Vec<String>,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where, from the repository's root.
    pub path: &'static str,
    /// What.
    pub text: String,
    /// Whether it is a program.
    pub executable: bool,
}

/// The file that tells a CI system what to do for a repository.
#[must_use]
pub fn write(system: System, facts: &Facts) -> Written {
    let jobs = jobs::of(facts);
    match system {
        System::Github => github::write(&github::GITHUB, facts, &jobs),
        System::Forgejo => github::write(&github::FORGEJO, facts, &jobs),
        System::Gitlab => gitlab::write(facts, &jobs),
        System::Buildkite => buildkite::write(facts, &jobs),
        System::Plain => plain::write(facts, &jobs),
    }
}
