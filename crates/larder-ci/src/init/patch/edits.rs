//! Edits of a text by its lines: what is not edited stays, byte by byte.

use crate::yaml::Mark;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// Takes lines away.
    Remove(Range<usize>),
    /// Puts lines before a line.
    Before(usize, Vec<String>),
    /// Puts a text into a line, before a character.
    Within(usize, usize, String),
    /// Gives a line another text, from a character on.
    Rest(usize, usize, String),
}

/// A text and the changes to it. Lines and characters count from 0.
#[derive(Debug)]
pub(super) struct Edits<'t> {
    lines: Vec<&'t str>,
    /// How the file ends its lines.
    end: &'static str,
    removed: BTreeSet<usize>,
    before: BTreeMap<usize, Vec<String>>,
    changed: BTreeMap<usize, String>,
}

impl<'t> Edits<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let end = if lines.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
        Self { lines, end, removed: BTreeSet::new(), before: BTreeMap::new(), changed: BTreeMap::new() }
    }

    /// A line without its end; empty after the last one.
    pub(super) fn line(&self, at: usize) -> &'t str {
        self.lines.get(at).map_or("", |line| line.trim_end_matches(['\n', '\r']))
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// How far a line is indented; `None` for an empty one.
    pub(super) fn indent(&self, at: usize) -> Option<usize> {
        let line = self.line(at);
        let text = line.trim_start_matches(' ');
        (!text.trim().is_empty()).then(|| line.len() - text.len())
    }

    pub(super) fn is_comment(&self, at: usize) -> bool {
        self.line(at).trim_start().starts_with('#')
    }

    /// What stands at a place of the file.
    pub(super) fn at(&self, mark: Mark) -> &'t str {
        let line = self.line((mark.line as usize).saturating_sub(1));
        let skip = (mark.column as usize).saturating_sub(1);
        line.char_indices().nth(skip).map_or("", |(byte, _)| &line[byte..])
    }

    /// The lines of what begins in line `first` with this indentation: up to the next line that is not further in. Empty lines
    /// and comments behind it that are not further in belong to what follows.
    pub(super) fn block(&self, first: usize, indent: usize) -> Range<usize> {
        let mut end = first + 1;
        let mut at = end;
        while at < self.len() {
            match self.indent(at) {
                None => {}
                Some(own) if own > indent => end = at + 1,
                Some(_) => break,
            }
            at += 1;
        }
        first..end
    }

    pub(super) fn insert(&mut self, line: usize, text: Vec<String>) {
        self.add(vec![Edit::Before(line, text)]);
    }

    pub(super) fn add(&mut self, edits: Vec<Edit>) {
        for edit in edits {
            match edit {
                Edit::Remove(lines) => self.removed.extend(lines),
                Edit::Before(line, mut text) => self.before.entry(line).or_default().append(&mut text),
                Edit::Within(line, at, text) => {
                    let old = self.changed.remove(&line).unwrap_or_else(|| self.line(line).to_owned());
                    let byte = old.char_indices().nth(at).map_or(old.len(), |(byte, _)| byte);
                    self.changed.insert(line, format!("{}{text}{}", &old[..byte], &old[byte..]));
                }
                Edit::Rest(line, at, text) => {
                    let old = self.changed.remove(&line).unwrap_or_else(|| self.line(line).to_owned());
                    let byte = old.char_indices().nth(at).map_or(old.len(), |(byte, _)| byte);
                    self.changed.insert(line, format!("{}{text}", &old[..byte]));
                }
            }
        }
    }

    /// The text with all changes.
    pub(super) fn apply(&self) -> String {
        let mut out = String::new();
        let mut blank_before = false;
        for at in 0..=self.len() {
            for line in self.before.get(&at).into_iter().flatten() {
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push_str(self.end);
                }
                out.push_str(line);
                out.push_str(self.end);
            }
            let Some(line) = self.lines.get(at) else { break };
            if self.removed.contains(&at) {
                blank_before |= at > 0 && self.line(at - 1).trim().is_empty();
                continue;
            }
            // Of the empty lines around what went one is enough.
            let follows = at > 0 && self.removed.contains(&(at - 1));
            if follows && std::mem::take(&mut blank_before) && line.trim().is_empty() {
                continue;
            }
            blank_before = false;
            match self.changed.get(&at) {
                Some(changed) => {
                    out.push_str(changed);
                    out.push_str(&line[self.line(at).len()..]);
                }
                None => out.push_str(line),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_edited_stays_byte_by_byte() {
        for text in ["a\r\n  b\r\n\r\nc", "", "a\n", "\n\n", "é: ü\n"] {
            assert_eq!(Edits::of(text).apply(), text);
        }
    }

    #[test]
    fn lines_go_and_come_with_the_files_own_ends() {
        let mut edits = Edits::of("a\r\n\r\nb\r\n\r\nc");
        edits.add(vec![
            Edit::Remove(2..3),
            Edit::Before(4, vec!["x".into()]),
            Edit::Within(0, 1, "é".into()),
            Edit::Within(0, 0, "-".into()),
            Edit::Before(5, vec!["z".into()]),
        ]);
        assert_eq!(edits.apply(), "-aé\r\n\r\nx\r\nc\r\nz\r\n");
    }

    #[test]
    fn a_block_ends_where_nothing_is_further_in() {
        let edits = Edits::of("- a:\n    # in\n    b\n\n  c: |\n    x\n\n# out\n- d\n");
        assert_eq!(edits.block(0, 0), 0..6);
        assert_eq!(edits.block(8, 0), 8..9);
    }
}
