//! Findings that somebody has looked at: `# larder: allow(rule) reason` on the line of the finding or the line above.

use super::{Finding, Severity, rules};
use crate::yaml::Mark;

/// The rule of a comment that says no reason, or names no rule.
pub(super) const ID: &str = "allow-without-reason";

struct Allowed {
    line: u32,
    /// Whether nothing else is on the line: then it is about the next one.
    alone: bool,
    rules: Vec<String>,
}

/// Takes away what is allowed, and adds a note for each comment of the file itself that gives no reason or names no rule.
pub(super) fn apply<'t>(
    findings: &mut Vec<Finding>,
    name: &str,
    text: &'t str,
    text_of: &dyn Fn(&str) -> Option<&'t str>,
) {
    let own = comments(text);
    let mut files: Vec<(String, Vec<Allowed>)> = Vec::new();
    findings.retain(|finding| {
        if finding.file == name {
            return !is_allowed(finding, &own);
        }
        let known = files.iter().position(|(file, _)| *file == finding.file).unwrap_or_else(|| {
            files.push((finding.file.clone(), text_of(&finding.file).map(comments).unwrap_or_default()));
            files.len() - 1
        });
        !is_allowed(finding, &files[known].1)
    });
    let rule = rules().find(|rule| rule.id == ID).expect("it is in the table");
    for (number, line) in text.lines().enumerate() {
        let Some((column, names, reason)) = comment(line) else { continue };
        let unknown = names.iter().find(|name| !rules().any(|rule| rule.id == *name));
        let message = match unknown {
            Some(unknown) => format!("there is no rule {unknown:?} to allow"),
            None if reason.is_empty() => "this comment silences a finding and does not say why".to_owned(),
            None => continue,
        };
        let line = u32::try_from(number + 1).unwrap_or(u32::MAX);
        findings.push(Finding {
            rule: rule.id,
            severity: Severity::Note,
            file: name.to_owned(),
            at: Mark { line, column: u32::try_from(column + 1).unwrap_or(1) },
            message,
            why: rule.why,
            fix: rule.fix,
            cost: None,
        });
    }
}

fn is_allowed(finding: &Finding, comments: &[Allowed]) -> bool {
    let line = finding.at.line;
    comments.iter().any(|allowed| {
        (allowed.line == line || allowed.alone && allowed.line + 1 == line)
            && allowed.rules.iter().any(|rule| rule == finding.rule)
    })
}

fn comments(text: &str) -> Vec<Allowed> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some((column, rules, _)) = comment(line) {
            let alone = line.chars().take(column).all(char::is_whitespace);
            found.push(Allowed { line: u32::try_from(number + 1).unwrap_or(u32::MAX), alone, rules });
        }
    }
    found
}

/// The column, the rules and the reason of a line's comment.
fn comment(line: &str) -> Option<(usize, Vec<String>, &str)> {
    let at = line.find("# larder: allow(")?;
    if !line[..at].is_empty() && !line[..at].ends_with(char::is_whitespace) {
        return None;
    }
    let (rules, reason) = line[at + "# larder: allow(".len()..].split_once(')')?;
    let rules = rules.split(',').map(|rule| rule.trim().to_owned()).filter(|rule| !rule.is_empty()).collect();
    Some((line[..at].chars().count(), rules, reason.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_have_rules_and_a_reason() {
        let (column, rules, reason) = comment("  - uses: x # larder: allow(a, b-c) because").unwrap();
        assert_eq!((column, rules, reason), (12, vec!["a".to_owned(), "b-c".to_owned()], "because"));
        assert_eq!(comment("# larder: allow(a)").unwrap().2, "");
        for none in ["", "# larder: allow(a", "x# larder: allow(a) b", "# larder: allows(a) b"] {
            assert!(comment(none).is_none(), "{none}");
        }
    }
}
