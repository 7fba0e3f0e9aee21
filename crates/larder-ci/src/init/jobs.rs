//! What is to be done for a repository, whatever the CI system.

use super::Facts;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name, of small letters.
    pub id: &'static str,
    /// Why it is as it is, for who reads the file: sentences.
    pub about: String,
    /// Whether it gets the siblings' commits from the setup job, and so waits for it.
    pub needs_plan: bool,
    /// What it does.
    pub work: Work,
    /// Its variables.
    pub env: Vec<(&'static str, &'static str)>,
    /// When it hangs, and is ended.
    pub minutes: u32,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// `larder setup`, once for all.
    Setup,
    /// A command of cargo that builds: restored before, saved after.
    Cached(String),
    /// A command that needs nothing but the sources.
    Plain(String),
    /// A tool that is not a part of the toolchain, and may not be installed.
    Tool {
        /// The program.
        program: &'static str,
        /// The command.
        command: String,
        /// What installs it, once.
        install: &'static str,
    },
}

impl Job {
    /// Whether it needs what larder keeps.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        matches!(self.work, Work::Cached(_)) || self.needs_plan
    }
}

/// The jobs of a repository: `setup` first, the others in no order.
#[must_use]
pub fn of(facts: &Facts) -> Vec<Job> {
    // Siblings move: their commits decide what the lock file must say, and cargo may have to write it.
    let locked = if facts.has_lock && facts.siblings.is_empty() { " --locked" } else { "" };
    let cached = |id, about: &str, command: String| Job {
        id,
        about: about.into(),
        needs_plan: true,
        work: Work::Cached(command),
        env: Vec::new(),
        minutes: 60,
    };
    let mut docs = cached(
        "docs",
        "A broken link in the documentation is an error.",
        format!("cargo doc --workspace --no-deps{locked}"),
    );
    docs.env.push(("RUSTDOCFLAGS", "-D warnings"));
    vec![
        Job {
            id: "setup",
            about: setup_about(facts),
            needs_plan: false,
            work: Work::Setup,
            env: Vec::new(),
            minutes: 15,
        },
        cached("test", test_about(facts), format!("cargo test --workspace{locked}")),
        cached(
            "clippy",
            "Clippy checks where test compiles: what both need (build scripts, macros) is restored, not built twice.",
            format!("cargo clippy --workspace --all-targets{locked} -- -D warnings"),
        ),
        fmt(facts),
        docs,
        cached(
            "build",
            "What is released, beside the tests and not after them: none of them needs it.",
            format!("cargo build --workspace --release{locked}"),
        ),
        security(facts),
    ]
}

fn setup_about(facts: &Facts) -> String {
    match facts.siblings.as_slice() {
        [] => "Once for all jobs: room on the disk, and the keys. There are no siblings to find; should a path \
               dependency on one come, it is found here without a change of this file."
            .into(),
        names => format!(
            "Once for all jobs: room on the disk, the keys, and a commit of each sibling ({}): its branch of the same \
             name as this one, else its default branch. Git fetches with the credentials that it has on the runner.",
            names.join(", ")
        ),
    }
}

fn test_about(facts: &Facts) -> &'static str {
    match facts.has_features {
        true => "The crates have features: add --all-features, or a job for each set that matters.",
        false => "Tests, and examples that must compile.",
    }
}

fn fmt(facts: &Facts) -> Job {
    let reads = "Reads sources only: no setup, no cache. It has failed before the others have begun.";
    let (about, command) = match facts.siblings.is_empty() {
        true => (reads.to_owned(), "cargo fmt --all --check".to_owned()),
        // Cargo reads the manifests of path dependencies before it formats anything.
        false => (
            format!("{reads} Cargo would ask for the siblings; rustfmt itself does not."),
            format!("git ls-files -z '*.rs' | xargs -0 -r rustfmt --check --edition {}", facts.edition),
        ),
    };
    Job { id: "fmt", about, needs_plan: false, work: Work::Plain(command), env: Vec::new(), minutes: 10 }
}

fn security(facts: &Facts) -> Job {
    let tool = |program, command: &str, install| Work::Tool { program, command: command.into(), install };
    let alone = "The tool is installed once a runner: building it in every run takes longer than all that it checks.";
    if facts.has_deny {
        let siblings = !facts.siblings.is_empty();
        let more = " It asks cargo about the whole graph, so the siblings must be there; nothing is saved.";
        Job {
            id: "security",
            about: format!("{alone}{}", if siblings { more } else { "" }),
            needs_plan: siblings,
            work: tool("cargo-deny", "cargo deny check", "cargo install cargo-deny --locked"),
            env: if siblings { vec![("LARDER_SAVE", "never")] } else { Vec::new() },
            minutes: 15,
        }
    } else {
        Job {
            id: "security",
            about: format!("{alone} It reads Cargo.lock only: no cache, no siblings."),
            needs_plan: false,
            work: tool("cargo-audit", "cargo audit", "cargo install cargo-audit --locked"),
            env: Vec::new(),
            minutes: 15,
        }
    }
}
