//! Each rule's examples in the documentation are what the rule says of them.

use crate::support::{Files, findings, rules};
use larder_ci::audit;

const PAGE: &str = include_str!("../../../../docs/audit.md");

/// The section of a rule.
fn section(id: &str) -> &'static str {
    let title = format!("\n### {id}\n");
    let begin = PAGE.find(&title).unwrap_or_else(|| panic!("{id} is not documented")) + title.len();
    let rest = &PAGE[begin..];
    &rest[..rest.find("\n### ").unwrap_or(rest.len())]
}

/// The workflow that follows a word.
fn example<'s>(section: &'s str, word: &str) -> &'s str {
    let begin =
        section.find(&format!("{word}:\n\n```yaml\n")).unwrap_or_else(|| panic!("no {word} example: {section}"));
    let rest = &section[begin..];
    let begin = rest.find("```yaml\n").unwrap() + "```yaml\n".len();
    &rest[begin..begin + rest[begin..].find("```").unwrap()]
}

#[test]
fn every_bad_example_has_its_fault_and_no_other() {
    for rule in audit::rules() {
        let bad = example(section(rule.id), "Bad");
        let found: Vec<_> = rules(bad).into_iter().collect();
        assert_eq!(found, [rule.id], "{}\n{:#?}", rule.id, findings(bad, &Files::default()));
    }
}

#[test]
fn no_good_example_has_a_fault() {
    for rule in audit::rules() {
        let good = example(section(rule.id), "Good");
        assert!(rules(good).is_empty(), "{}\n{:#?}", rule.id, findings(good, &Files::default()));
    }
}

#[test]
fn the_page_says_what_the_rules_say_and_has_no_other() {
    let mut documented: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for rule in audit::rules() {
        let row = format!("| [`{0}`](#{0}) | {1} | {2} |", rule.id, rule.severity.name(), rule.title);
        assert!(PAGE.contains(&row), "the table lacks {row}");
        let section = section(rule.id);
        assert!(section.contains(rule.fix), "{}: the page says another remedy than {:?}", rule.id, rule.fix);
        documented.retain(|id| *id != rule.id);
    }
    assert!(documented.is_empty(), "no such rules: {documented:?}");
}
