//! Workflows and composite actions: whatever somebody puts into a repository that is audited.
#![no_main]

use larder_ci::audit::{Opened, Repository, Unknown, audit};
use larder_ci::{annotations, sarif};

/// A repository whose every file is the one at hand: what a workflow names is as hostile as the workflow.
struct Everywhere<'t>(&'t str);

impl Repository for Everywhere<'_> {
    fn read(&self, path: &str) -> Option<Opened> {
        Some(Opened { name: path.to_owned(), text: self.0.to_owned() })
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for repository in [&Unknown as &dyn Repository, &Everywhere(text)] {
        let Ok(findings) = audit("x.yml", text, repository) else { return };
        for finding in &findings {
            // One line each, whatever the file is called or says.
            assert_eq!(annotations::line(finding).matches('\n').count(), 1);
        }
        let log = sarif::log(&findings, "0.0.0");
        assert_eq!(log["runs"][0]["results"].as_array().map(Vec::len), Some(findings.len()));
    }
});
