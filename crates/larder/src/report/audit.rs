//! What `larder audit` says.

use super::SCHEMA_VERSION;
use larder_ci::audit::{Finding, Severity};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// All findings.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report {
    schema_version: u32,
    findings: Vec<Found>,
}

/// A fault and where it is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Found {
    /// The rule's id; docs/audit.md has examples of each.
    rule: &'static str,
    severity: Level,
    /// As it was named, or from the repository's root.
    file: String,
    /// From 1.
    line: u32,
    /// From 1, in characters.
    column: u32,
    message: String,
    /// Why it matters.
    why: &'static str,
    /// What to do.
    fix: &'static str,
    /// What it costs in one run; null where that cannot be told.
    cost: Option<Cost>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Level {
    Note,
    Warning,
    Error,
}

/// An estimate.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Cost {
    /// In words.
    estimate: String,
    /// Runner time.
    seconds: u64,
    /// Moved or kept.
    bytes: u64,
    /// What was assumed.
    assumes: &'static str,
}

impl Report {
    pub(crate) fn of(findings: &[Finding]) -> Self {
        Self { schema_version: SCHEMA_VERSION, findings: findings.iter().map(Found::of).collect() }
    }
}

impl Found {
    fn of(finding: &Finding) -> Self {
        let Finding { rule, severity, file, at, message, why, fix, cost } = finding;
        Self {
            rule,
            severity: match severity {
                Severity::Note => Level::Note,
                Severity::Warning => Level::Warning,
                Severity::Error => Level::Error,
            },
            file: file.clone(),
            line: at.line,
            column: at.column,
            message: message.clone(),
            why,
            fix,
            cost: cost.as_ref().map(|cost| Cost {
                estimate: cost.estimate.clone(),
                seconds: cost.seconds,
                bytes: cost.bytes,
                assumes: cost.assumes,
            }),
        }
    }
}

/// The findings for people, by file; what is true of a rule is said once.
pub(crate) fn text(findings: &[Finding], colours: bool) -> String {
    let mut text = String::new();
    let mut explained = BTreeSet::new();
    let mut file = None;
    for finding in findings {
        if file.replace(&finding.file).is_some_and(|before| *before != finding.file) {
            text.push('\n');
        }
        let Finding { rule, severity, file, at, message, why, fix, cost } = finding;
        let (on, off) = match (colours, severity) {
            (false, _) => ("", ""),
            (true, Severity::Error) => ("\u{1b}[1;31m", "\u{1b}[0m"),
            (true, Severity::Warning) => ("\u{1b}[1;33m", "\u{1b}[0m"),
            (true, Severity::Note) => ("\u{1b}[1;36m", "\u{1b}[0m"),
        };
        let (file, message) = (printable(file), printable(message));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{file}:{}:{}: {on}{}[{rule}]{off}: {message}", at.line, at.column, severity.name());
        if let Some(cost) = cost {
            let _ = writeln!(text, "    costs: {} ({})", cost.estimate, cost.assumes);
        }
        if explained.insert(rule) {
            let _ = writeln!(text, "    why: {why}\n    fix: {fix}");
        }
    }
    text
}

/// A text from a file, without what would steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
