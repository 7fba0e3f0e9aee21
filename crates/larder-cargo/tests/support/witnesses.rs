//! Second names for files, to see who writes into them.

use std::fs;
use std::path::{Path, PathBuf};

/// Second names for files, to see later whether their content was written into.
pub(crate) struct Witnesses {
    dir: tempfile::TempDir,
    content: Vec<(String, Vec<u8>)>,
}

impl Witnesses {
    /// Links every given file elsewhere on the same file system.
    pub(crate) fn new<'a>(beside: &Path, paths: impl Iterator<Item = (&'a Vec<u8>, &'a PathBuf)>) -> Self {
        let dir = tempfile::tempdir_in(beside).unwrap();
        let mut content = Vec::new();
        for (name, path) in paths {
            fs::hard_link(path, dir.path().join(content.len().to_string())).unwrap();
            content.push((name.escape_ascii().to_string(), fs::read(path).unwrap()));
        }
        Self { dir, content }
    }

    /// The names of those that changed under their second name.
    pub(crate) fn rewritten(&self) -> Vec<&str> {
        let changed = |(index, (_, before)): &(usize, &(String, Vec<u8>))| {
            fs::read(self.dir.path().join(index.to_string())).unwrap() != *before
        };
        self.content.iter().enumerate().filter(changed).map(|(_, (name, _))| name.as_str()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.content.len()
    }
}
