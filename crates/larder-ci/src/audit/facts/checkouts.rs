//! Which other repositories a step checks out.

use super::{Read, Uses};
use crate::yaml::Mark;

/// Another repository that a step checks out.
#[derive(Debug)]
pub(crate) struct Checkout {
    /// `owner/name` in lower case, or what stands for it.
    pub(crate) repository: String,
    /// Where to.
    pub(crate) path: Option<String>,
    pub(crate) at: Mark,
}

pub(super) fn of(read: &Read, uses: Option<&Uses>) -> Vec<Checkout> {
    let step = &read.step;
    if uses.is_some_and(|uses| uses.name == "actions/checkout") {
        let Some(repository) = step.input("repository") else { return Vec::new() };
        let path = step.input("path").map(|path| path.text.clone());
        return checkout(&repository.text, path, repository.at).into_iter().collect();
    }
    let clone = |command: &crate::shell::Command| {
        let words = command.effective();
        let verb = words.iter().position(|word| word == "clone")?;
        let known = match command.program() {
            "git" => words[1..verb].iter().all(|word| word.starts_with('-') || word.contains('=')),
            "gh" => verb == 2 && words[1] == "repo",
            _ => false,
        };
        if !known {
            return None;
        }
        // Options with a value of their own stand before the address.
        let at = words[verb + 1..].iter().position(|word| {
            word.contains("://") || word.starts_with("git@") || word.ends_with(".git") || command.program() == "gh"
        })?;
        let path = words.get(verb + at + 2).filter(|word| !word.starts_with('-')).cloned();
        let mark = step.run.as_ref().map_or(step.at, |run| run.inside(command.line, command.column));
        checkout(&words[verb + 1 + at], path, mark)
    };
    read.script.commands.iter().filter_map(clone).collect()
}

fn checkout(address: &str, path: Option<String>, at: Mark) -> Option<Checkout> {
    let address = address.trim().trim_end_matches('/').trim_end_matches(".git");
    // This repository itself.
    if address.contains("github.repository") || address.contains("GITHUB_REPOSITORY") || address.contains("head.repo") {
        return None;
    }
    let mut parts: Vec<&str> = address.rsplit(['/', ':']).take(2).collect();
    parts.reverse();
    let repository = parts.join("/").to_lowercase();
    // One that an expression names could be another one each time.
    (!repository.is_empty() && !repository.contains("matrix.")).then_some(Checkout { repository, path, at })
}
