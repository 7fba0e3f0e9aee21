//! What repositories hold: the truth that a checkout is made from, and edits of it, as data.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Stands in texts and in values of variables for the sandbox's path.
pub(crate) const ROOT: &str = "[ROOT]";

/// One name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    File { text: String, executable: bool },
    Link(String),
    EmptyDir,
}

/// All names of all repositories of a scenario, such as `app/src/lib.rs`; the first part is the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Content(BTreeMap<String, Node>);

/// One change of the truth.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Write(&'static str, String),
    Replace(&'static str, &'static str, &'static str),
    Delete(&'static str),
    /// A file or a folder gets another name.
    Rename(&'static str, &'static str),
    Executable(&'static str),
    Link(&'static str, &'static str),
    EmptyDir(&'static str),
    /// Everything as it was at a step; the first one is 0.
    BackTo(usize),
}

impl Content {
    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    pub(crate) fn without(mut self, path: &str) -> Self {
        self.take(path);
        self
    }

    pub(crate) fn write(&mut self, path: &str, text: &str) {
        self.0.insert(path.to_owned(), Node::File { text: text.to_owned(), executable: false });
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        match self.0.get(path) {
            Some(Node::File { text, .. }) => Some(text),
            _ => None,
        }
    }

    /// Folders of the top level: each is a repository.
    pub(crate) fn repositories(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().filter_map(|path| path.split_once('/')).map(|(top, _)| top).collect();
        names.dedup();
        names
    }

    /// Whether the sandbox's path is in it, so that it means something else in another sandbox.
    pub(crate) fn names_its_place(&self) -> bool {
        self.0.values().any(|node| matches!(node, Node::File { text, .. } if text.contains(ROOT)))
    }

    /// Every manifest with its text.
    pub(crate) fn manifests(&self) -> Vec<(&str, &Node)> {
        let all = self.0.iter().map(|(path, node)| (path.as_str(), node));
        all.filter(|(path, _)| path.ends_with("Cargo.toml")).collect()
    }

    /// Removes a file, or a folder with all that is in it.
    fn take(&mut self, path: &str) -> Vec<(String, Node)> {
        let below = format!("{path}/");
        let names: Vec<String> =
            self.0.keys().filter(|name| *name == path || name.starts_with(&below)).cloned().collect();
        assert!(!names.is_empty(), "there is no {path}");
        names.into_iter().map(|name| self.0.remove_entry(&name).unwrap()).collect()
    }

    pub(crate) fn edit(&mut self, edit: &Edit, history: &[Self]) {
        match edit {
            Edit::Write(path, text) => self.write(path, text),
            Edit::Replace(path, from, to) => {
                let text = self.text(path).unwrap_or_else(|| panic!("there is no file {path}"));
                assert!(text.contains(from), "{path} has no {from:?}");
                let text = text.replace(from, to);
                self.write(path, &text);
            }
            Edit::Delete(path) => drop(self.take(path)),
            Edit::Rename(from, to) => {
                for (name, node) in self.take(from) {
                    self.0.insert(name.replacen(from, to, 1), node);
                }
            }
            Edit::Executable(path) => match self.0.get_mut(*path) {
                Some(Node::File { executable, .. }) => *executable = true,
                _ => panic!("there is no file {path}"),
            },
            Edit::Link(path, target) => drop(self.0.insert((*path).to_owned(), Node::Link((*target).to_owned()))),
            Edit::EmptyDir(path) => drop(self.0.insert((*path).to_owned(), Node::EmptyDir)),
            Edit::BackTo(step) => *self = history[*step].clone(),
        }
    }

    /// Changes what is at `dir` from one content to this one as git does: what is equal is not touched.
    pub(crate) fn switch(&self, from: &Self, dir: &Path, root: &Path) {
        for path in from.0.keys().filter(|path| !self.0.contains_key(*path)) {
            remove(&dir.join(path));
            // git has no empty folders, and leaves none behind.
            for above in Path::new(path).ancestors().skip(1).filter(|above| above.components().next().is_some()) {
                if fs::remove_dir(dir.join(above)).is_err() {
                    break;
                }
            }
        }
        for (path, node) in self.0.iter().filter(|(path, node)| from.0.get(*path) != Some(node)) {
            let full = dir.join(path);
            if let (Some(Node::File { text: before, .. }), Node::File { text, executable }) = (from.0.get(path), node)
                && text == before
            {
                set_executable(&full, *executable);
                continue;
            }
            if from.0.contains_key(path) {
                remove(&full);
            }
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            match node {
                Node::File { text, executable } => {
                    fs::write(&full, text.replace(ROOT, root.to_str().unwrap())).unwrap();
                    if *executable {
                        set_executable(&full, true);
                    }
                }
                Node::Link(target) => symlink(target, &full).unwrap(),
                Node::EmptyDir => fs::create_dir(&full).unwrap(),
            }
        }
    }

    /// Writes everything anew.
    pub(crate) fn check_out(&self, dir: &Path, root: &Path) {
        fs::create_dir_all(dir).unwrap();
        self.switch(&Self::default(), dir, root);
    }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path).unwrap().is_dir() {
        true => fs::remove_dir(path).unwrap(),
        false => fs::remove_file(path).unwrap(),
    }
}

fn set_executable(path: &Path, executable: bool) {
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
