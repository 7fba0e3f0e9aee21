//! A repository in memory, and findings in few words.

use larder_ci::audit::{Finding, Opened, Repository, audit};
use std::collections::{BTreeMap, BTreeSet};

/// Files by their path from the root.
#[derive(Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, String>);

impl Files {
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.to_owned(), text.to_owned());
        self
    }
}

impl Repository for Files {
    fn read(&self, path: &str) -> Option<Opened> {
        self.0.get(path).map(|text| Opened { name: path.to_owned(), text: text.clone() })
    }
}

#[track_caller]
pub(crate) fn findings(text: &str, files: &Files) -> Vec<Finding> {
    audit("ci.yml", text, files).unwrap()
}

/// The rules that found something.
#[track_caller]
pub(crate) fn rules(text: &str) -> BTreeSet<&'static str> {
    findings(text, &Files::default()).iter().map(|finding| finding.rule).collect()
}
