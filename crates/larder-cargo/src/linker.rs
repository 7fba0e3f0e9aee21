//! Whether the linker replaces its output or writes into it, decided before anything is linked.
//!
//! A file that a linker wrote may share its inode only if the next link unlinks it or renames over it. Everything
//! that may choose a linker is taken as evidence, even where cargo would let one source override another, and the
//! worst answer wins: a wrong "replaces" corrupts a store, a wrong "unknown" costs a copy.
//!
//! Measured with rustc 1.95 on Linux, the other name's content after an edit and a rebuild, for an executable, a
//! test, a build script and a proc-macro:
//!
//! | linker | executable | test executable | build script | proc-macro `.so` |
//! |---|---|---|---|---|
//! | rust-lld (default on x86_64-unknown-linux-gnu since 1.90) | intact | intact | intact | intact |
//! | GNU ld (bfd) 2.40 | intact | intact | intact | intact |
//! | gold 1.16 | intact | intact | intact | intact |
//! | mold 1.10.1 | intact | **rewritten** | intact | intact |
//!
//! mold spares executables and build scripts only because cargo itself unlinks outputs that it also links elsewhere
//! (rust-lang/cargo#8348). gold is deprecated and answers differently with its incremental options, so it stays
//! unknown. `mold -run` wins over everything, rust-lld too: it preloads a library that replaces whatever linker is
//! started.

mod ask;
mod evidence;

use std::ffi::OsString;
use std::fmt;

use crate::config::Config;
use crate::words::targets;
use crate::{Env, Run};

use evidence::Evidence;

/// What the linker does to an existing output file, and the reason to think so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linker {
    /// The output gets a new inode: executables may be hard-linked.
    Replaces {
        /// Such as `rust-lld` or `bfd`; a key part.
        name: String,
        /// What decided it.
        why: String,
    },
    /// The output is written into the inode that is there.
    Rewrites {
        /// Such as `mold`.
        name: String,
        /// What decided it.
        why: String,
    },
    /// Not known: to be treated as [`Rewrites`](Self::Rewrites).
    Unknown {
        /// What could not be judged.
        why: String,
        /// What to do to get executables linked.
        hint: String,
    },
}

impl Linker {
    /// Whether executables may be hard-linked.
    pub fn replaces(&self) -> bool {
        matches!(self, Self::Replaces { .. })
    }

    /// A name for key parts and messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Replaces { name, .. } | Self::Rewrites { name, .. } => name,
            Self::Unknown { .. } => "unknown",
        }
    }

    fn replaced_by(name: &str, why: impl Into<String>) -> Self {
        Self::Replaces { name: name.to_owned(), why: why.into() }
    }

    fn mold(why: impl Into<String>) -> Self {
        Self::Rewrites { name: "mold".to_owned(), why: why.into() }
    }

    fn unknown(why: impl Into<String>) -> Self {
        let hint = "link with rust-lld or `-C link-arg=-fuse-ld=bfd`, which replace their output, to have executables hard-linked";
        Self::Unknown { why: why.into(), hint: hint.to_owned() }
    }

    fn badness(&self) -> u8 {
        match self {
            Self::Replaces { .. } => 0,
            Self::Unknown { .. } => 1,
            Self::Rewrites { .. } => 2,
        }
    }

    fn worse(self, other: Self) -> Self {
        if other.badness() > self.badness() { other } else { self }
    }
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaces { name, why } => write!(f, "{name} replaces its output ({why})"),
            Self::Rewrites { name, why } => write!(f, "{name} writes into its output ({why})"),
            Self::Unknown { why, hint } => write!(f, "unknown linker: {why}; {hint}"),
        }
    }
}

/// What `rustc -vV` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rustc {
    /// The text as given, for the key.
    pub text: String,
    /// The host triple.
    pub host: String,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Rustc {
    /// Understands the output of `rustc -vV`; `None` if a line that is needed is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        let mut numbers = line("release")?.split('.');
        let version = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        Some(Self { text: text.to_owned(), host: line("host")?.trim().to_owned(), version })
    }

    /// The compiler that a target directory was built with, from the `.rustc_info.json` in it, which is cargo's
    /// note of what `rustc -vV` said; `None` if it notes none, or several. That is the one to judge a linker by: what
    /// another compiler builds there gets other names, and overwrites nothing.
    pub fn of_target(info: &[u8]) -> Option<Self> {
        let info: serde_json::Value = serde_json::from_slice(info).ok()?;
        let said = info.get("outputs")?.as_object()?.values().filter_map(|output| output.get("stdout")?.as_str());
        let mut noted = said.filter_map(Self::parse);
        let first = noted.next()?;
        noted.all(|other| other == first).then_some(first)
    }
}

/// All that is asked before the linker is judged.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The words of the command to be run.
    pub command: &'a [OsString],
    /// The environment it gets.
    pub env: Env<'a>,
    /// The configuration that applies where it runs.
    pub config: &'a Config,
    /// The compiler it uses.
    pub rustc: &'a Rustc,
    /// To ask a compiler driver for its linker.
    pub run: Run<'a>,
}

/// Judges the linker of everything that the command will link: for the host, because of build scripts and
/// proc-macros, and for each target.
pub fn decide(question: &Question<'_>) -> Linker {
    let Question { command, env, config, rustc, .. } = *question;
    let mut evidence = Evidence::default();
    if let Some(problem) = config.problems.first() {
        evidence.judge(Linker::unknown(problem));
    }
    let mut triples = targets(command, env, config);
    // With a target, flags do not reach build scripts and proc-macros, so the host's default counts all the same.
    let only_host = triples.is_empty();
    if !triples.contains(&rustc.host) {
        triples.push(rustc.host.clone());
    }
    evidence.preloaded(env);
    evidence.command(command);
    evidence.environment(env, &triples, only_host);
    evidence.config(config, &triples);
    let mut verdict = evidence.verdict.take();
    let drivers = std::mem::take(&mut evidence.drivers);
    let mut judge =
        |linker: Linker| verdict = Some(verdict.take().map_or_else(|| linker.clone(), |old| old.worse(linker.clone())));
    for (driver, why) in &drivers {
        judge(ask::driver(driver, why, evidence.chosen, question.run));
    }
    for triple in &triples {
        if !evidence.chosen && !evidence.own_linker.contains(triple) {
            judge(ask::default_of(triple, evidence.no_lld, question));
        }
    }
    verdict.unwrap_or_else(|| Linker::unknown("nothing tells which linker is used"))
}

#[cfg(test)]
mod tests;
