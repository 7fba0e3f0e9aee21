//! Replays the fuzz corpus: what once broke a reader must not break it again.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

use crate::support::Files;
use larder_ci::audit::{Opened, Repository, audit};
use larder_ci::{annotations, sarif};
use std::fs;
use std::path::Path;

/// Whatever a workflow names is the workflow itself.
struct Everywhere(String);

impl Repository for Everywhere {
    fn read(&self, path: &str) -> Option<Opened> {
        Some(Opened { name: path.to_owned(), text: self.0.clone() })
    }
}

#[test]
fn every_input_is_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/workflow")).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        for repository in [&Files::default() as &dyn Repository, &Everywhere(text.clone())] {
            match audit("x.yml", &text, repository) {
                Ok(findings) => {
                    for finding in &findings {
                        let line = annotations::line(finding);
                        assert_eq!(line.matches('\n').count(), 1, "{}: {line:?}", path.display());
                    }
                    let log = sarif::log(&findings, "0.0.0");
                    assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), findings.len());
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty(), "{}", path.display());
                    refused += 1;
                }
            }
        }
    }
    assert!(read >= 4 && refused >= 4, "a corpus of {read} good and {refused} bad inputs tests little");
}
