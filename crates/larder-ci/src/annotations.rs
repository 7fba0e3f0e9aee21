//! Findings as GitHub shows them beside the lines of a pull request: `::warning file=…::…` on standard output.

use crate::audit::{Finding, Severity};

/// One line for a finding.
#[must_use]
pub fn line(finding: &Finding) -> String {
    let command = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let cost = finding.cost.as_ref().map(|cost| format!("\nCost of a run: {} ({}).", cost.estimate, cost.assumes));
    let text =
        format!("{}.\nWhy: {}.\nFix: {}.{}", finding.message, finding.why, finding.fix, cost.unwrap_or_default());
    format!(
        "::{command} file={},line={},col={},title={}::{}\n",
        property(&finding.file),
        finding.at.line,
        finding.at.column,
        property(&format!("larder: {}", finding.rule)),
        data(&text)
    )
}

/// What GitHub's runner takes for the text itself.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What it takes for the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Mark;

    #[test]
    fn nothing_in_a_finding_ends_it_early() {
        let finding = Finding {
            rule: "a-rule",
            severity: Severity::Note,
            file: "a,b:c%\n::error::x.yml".into(),
            at: Mark { line: 3, column: 4 },
            message: "50 %\nof it".into(),
            why: "why",
            fix: "fix",
            cost: None,
        };
        assert_eq!(
            line(&finding),
            "::notice file=a%2Cb%3Ac%25%0A%3A%3Aerror%3A%3Ax.yml,line=3,col=4,title=larder%3A a-rule::50 %25%0Aof it.%0AWhy: why.%0AFix: fix.\n"
        );
    }
}
