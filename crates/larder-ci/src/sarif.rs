//! Findings as SARIF 2.1.0, which GitHub's code scanning and editors read.

use crate::audit::{Finding, Rule, Severity, rules};
use serde_json::{Value, json};

/// The page that has all rules with examples.
const PAGE: &str = "docs/audit.md";

/// One log with one run.
#[must_use]
pub fn log(findings: &[Finding], version: &str) -> Value {
    let all: Vec<&Rule> = rules().collect();
    let descriptors: Vec<Value> = all
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": { "text": rule.title },
                "fullDescription": { "text": rule.why },
                "help": { "text": format!("{}. {PAGE} has an example.", rule.fix) },
                "defaultConfiguration": { "level": rule.severity.name() },
            })
        })
        .collect();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let index = all.iter().position(|rule| rule.id == finding.rule);
            let mut properties = json!({ "fix": finding.fix });
            if let Some(cost) = &finding.cost {
                properties["cost"] = json!(cost.estimate);
                properties["assumes"] = json!(cost.assumes);
            }
            json!({
                "ruleId": finding.rule,
                "ruleIndex": index,
                "level": level(finding.severity),
                "message": { "text": format!("{}. {}.", finding.message, finding.fix) },
                "locations": [{
                    "physicalLocation": {
                        "artifactLocation": { "uri": uri(&finding.file) },
                        "region": { "startLine": finding.at.line, "startColumn": finding.at.column },
                    },
                }],
                "properties": properties,
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "larder", "semanticVersion": version, "rules": descriptors } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// SARIF has the same words.
fn level(severity: Severity) -> &'static str {
    severity.name()
}

/// A path as a relative reference: what a URI may not hold is written by its bytes.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("./.github/workflows/a b:é.yml"), ".github/workflows/a%20b%3A%C3%A9.yml");
        assert_eq!(uri("/x/y.yml"), "file:///x/y.yml");
    }

    #[test]
    fn every_rule_is_described() {
        let log = log(&[], "1.0.0");
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), rules().count());
    }
}
