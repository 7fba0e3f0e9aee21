//! The rules, in the order of `docs/audit.md`, where each has an example.

mod actions;
mod clean_up;
mod keys;
mod paths;
mod scripts;
mod setup;
mod trust;
mod variables;

use super::facts::Facts;
use super::{Report, Severity, allow};

/// A rule: what is always true of it, and how it looks.
#[derive(Debug)]
pub struct Rule {
    /// In kebab-case; stays what it is.
    pub id: &'static str,
    /// Of its findings, unless one costs little.
    pub severity: Severity,
    /// What it finds, in a few words.
    pub title: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
    pub(super) check: fn(&Facts<'_>, &'static Rule, &mut Report),
}

static ALLOW: Rule = Rule {
    id: allow::ID,
    severity: Severity::Note,
    title: "a finding is silenced and nobody says why",
    why: "whoever reads the workflow next cannot tell whether the fault is still wanted",
    fix: "write the reason behind the bracket: # larder: allow(rule) reason",
    check: |_, _, _| {},
};

/// All rules.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    let groups: [&[Rule]; 8] = [
        &setup::RULES,
        &keys::RULES,
        &paths::RULES,
        &variables::RULES,
        &scripts::RULES,
        &clean_up::RULES,
        &trust::RULES,
        &actions::RULES,
    ];
    groups.into_iter().flatten().chain([&ALLOW])
}

/// Names as a sentence lists them; a long list is cut.
fn list<S: AsRef<str>>(names: &[S]) -> String {
    const MOST: usize = 8;
    let mut text = names.iter().take(MOST).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", names.len() - MOST));
    }
    text
}

/// A text of the workflow, short enough for a message.
fn short(text: &str) -> String {
    const MOST: usize = 80;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MOST { line } else { line.chars().take(MOST - 1).chain(['…']).collect() }
}
