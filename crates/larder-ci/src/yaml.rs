//! YAML with the place of every node.
//!
//! Nodes are in one list and name each other by number, so an alias is the number of what it stands for: a document of
//! aliases to aliases takes no more memory than its text. Whoever walks a document must bound the walk, as
//! [`workflow`](crate::workflow) does.
//!
//! Lenient: a key that is there twice counts with its last value, an alias to nothing is an empty value, tags are not
//! looked at. Only the first document of a file is read.

use granit_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;
use thiserror::Error;

/// The longest file that is read, in bytes. GitHub's own limit for a workflow is half of it.
pub const LONGEST: usize = 1 << 20;
/// How deep merge keys (`<<`) are followed.
const MERGE_DEPTH: u8 = 8;
/// How many pairs one mapping may have together with what it merges.
const MERGED_PAIRS: usize = 10_000;

/// A place in a file: line and column from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Mark {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };

    fn new(line: usize, column: usize) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(line.max(1)), column: number(column.max(1)) }
    }
}

/// Why a text is no YAML that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Longer than [`LONGEST`].
    #[error("is larger than {LONGEST} bytes, which no workflow is")]
    TooLarge,
    /// Not YAML.
    #[error("is no YAML: line {}, column {}: {reason}", at.line, at.column)]
    Syntax {
        /// Where the reader stopped.
        at: Mark,
        /// What it says.
        reason: String,
    },
}

#[derive(Debug)]
enum Value {
    Scalar { text: String, style: Style },
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// On the line where it begins, as written.
    Plain,
    /// In quotes, as written if nothing in it is escaped.
    Quoted,
    /// A block whose lines are those of the file.
    Literal,
    /// Lines are joined: only the beginning is known.
    Folded,
}

#[derive(Debug)]
struct Node {
    value: Value,
    at: Mark,
}

/// One document, and the text that it was read from.
#[derive(Debug)]
pub struct Document<'t> {
    nodes: Vec<Node>,
    root: usize,
    lines: Vec<&'t str>,
}

/// A node of a document.
#[derive(Debug, Clone, Copy)]
pub struct At<'d> {
    document: &'d Document<'d>,
    node: usize,
}

/// Reads the first document of a text.
///
/// # Errors
///
/// [`enum@Error`] when the text is too long or no YAML. A text without any document is an empty one.
pub fn parse(text: &str) -> Result<Document<'_>, Error> {
    if text.len() > LONGEST {
        return Err(Error::TooLarge);
    }
    let mut builder = Builder::default();
    let options = granit_parser::options! { emit_unresolved_aliases: true, emit_comments: false };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let at = *error.marker();
            Error::Syntax { at: Mark::new(at.line(), at.col() + 1), reason: error.info().to_string() }
        })?;
        let at = Mark::new(span.start.line(), span.start.col() + 1);
        if builder.take(event, at) == Flow::Done {
            break;
        }
    }
    let root = builder.root();
    Ok(Document { nodes: builder.nodes, root, lines: text.lines().collect() })
}

#[derive(Debug, PartialEq, Eq)]
enum Flow {
    More,
    Done,
}

/// A collection that is still open.
struct Open {
    node: usize,
    anchor: usize,
    /// The key that waits for its value, in a mapping.
    key: Option<usize>,
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, usize>,
    root: Option<usize>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Mark) -> Flow {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let style = match style {
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                    ScalarStyle::Plain => Style::Plain,
                    _ => Style::Quoted,
                };
                let node = self.add(Value::Scalar { text: text.into_owned(), style }, at);
                self.name(anchor, node);
                self.place(node);
            }
            Event::SequenceStart(_, anchor, _) => self.start(Value::Sequence(Vec::new()), anchor, at),
            Event::MappingStart(_, anchor, _) => self.start(Value::Mapping(Vec::new()), anchor, at),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    // Only now: what names itself would have no end.
                    self.name(open.anchor, open.node);
                    self.place(open.node);
                }
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).copied();
                let node = node.unwrap_or_else(|| self.add(Value::Nothing, at));
                self.place(node);
            }
            Event::UnresolvedAlias(_) => {
                let node = self.add(Value::Nothing, at);
                self.place(node);
            }
            Event::DocumentEnd => return Flow::Done,
            _ => {}
        }
        Flow::More
    }

    fn add(&mut self, value: Value, at: Mark) -> usize {
        self.nodes.push(Node { value, at });
        self.nodes.len() - 1
    }

    fn name(&mut self, anchor: usize, node: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
    }

    fn start(&mut self, value: Value, anchor: usize, at: Mark) {
        let node = self.add(value, at);
        self.open.push(Open { node, anchor, key: None });
    }

    /// Puts a finished node into the collection that is open.
    fn place(&mut self, node: usize) {
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match &mut self.nodes[open.node].value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(pairs) => match open.key.take() {
                Some(key) => pairs.push((key, node)),
                None => open.key = Some(node),
            },
            _ => {}
        }
    }

    fn root(&mut self) -> usize {
        match self.root {
            Some(root) => root,
            None => self.add(Value::Nothing, Mark::START),
        }
    }
}

impl<'t> Document<'t> {
    /// The node that holds all others.
    #[must_use]
    pub fn root(&self) -> At<'_> {
        At { document: self, node: self.root }
    }

    /// The lines of the text.
    #[must_use]
    pub fn lines(&self) -> &[&'t str] {
        &self.lines
    }
}

impl<'d> At<'d> {
    fn node(&self) -> &'d Node {
        &self.document.nodes[self.node]
    }

    fn other(&self, node: usize) -> Self {
        Self { document: self.document, node }
    }

    /// Where it begins. An alias is where its anchor is.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.node().at
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&'d str> {
        match &self.node().value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it is a mapping.
    #[must_use]
    pub fn is_mapping(&self) -> bool {
        matches!(self.node().value, Value::Mapping(_))
    }

    /// The items of a sequence; none of anything else.
    pub fn items(&self) -> impl Iterator<Item = Self> + use<'d> {
        let this = *self;
        let items: &'d [usize] = match &self.node().value {
            Value::Sequence(items) => items,
            _ => &[],
        };
        items.iter().map(move |item| this.other(*item))
    }

    /// The pairs of a mapping with text for keys, its own and what it merges; none of anything else.
    ///
    /// A key that is there more than once has its last value, and stands where it stood first.
    #[must_use]
    pub fn pairs(&self) -> Vec<(Self, Self)> {
        let mut pairs: Vec<(Self, Self)> = Vec::new();
        let mut known: HashMap<&str, (usize, u8)> = HashMap::new();
        self.collect(0, &mut pairs, &mut known);
        pairs
    }

    fn collect(&self, depth: u8, pairs: &mut Vec<(Self, Self)>, known: &mut HashMap<&'d str, (usize, u8)>) {
        let Value::Mapping(own) = &self.node().value else { return };
        let mut merged = Vec::new();
        for (key, value) in own {
            let (key, value) = (self.other(*key), self.other(*value));
            let Some(name) = key.text() else { continue };
            if name == "<<" {
                merged.push(value);
                continue;
            }
            match known.get(name) {
                // The mapping's own key wins against merged ones, which come later.
                Some((at, from)) if *from == depth => pairs[*at].1 = value,
                Some(_) => {}
                None if pairs.len() < MERGED_PAIRS || depth == 0 => {
                    known.insert(name, (pairs.len(), depth));
                    pairs.push((key, value));
                }
                None => return,
            }
        }
        if depth == MERGE_DEPTH {
            return;
        }
        for source in merged {
            if source.is_mapping() {
                source.collect(depth + 1, pairs, known);
            }
            // A list merges its mappings in order; one level of lists is all that YAML knows.
            for item in source.items().take(usize::from(MERGE_DEPTH)) {
                item.collect(MERGE_DEPTH, pairs, known);
            }
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Self> {
        let Value::Mapping(own) = &self.node().value else { return None };
        let is = |key: usize, name: &str| self.other(key).text() == Some(name);
        if let Some((_, value)) = own.iter().rev().find(|(key, _)| is(*key, name)) {
            return Some(self.other(*value));
        }
        if own.iter().any(|(key, _)| is(*key, "<<")) {
            return self.pairs().into_iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value);
        }
        None
    }

    /// Where each line of a scalar's text stands in the file.
    ///
    /// Exact for blocks that keep their lines and for text on one line. Of other scalars only the beginning is known, and
    /// the list is empty.
    #[must_use]
    pub fn line_marks(&self) -> Vec<Mark> {
        let Node { value: Value::Scalar { text, style }, at } = self.node() else { return Vec::new() };
        let (at_line, at_column) = (at.line as usize, at.column as usize);
        match style {
            Style::Literal => {
                // The parser names the first line that is not blank.
                let blank = text.chars().take_while(|c| *c == '\n').count();
                let first = at_line.saturating_sub(blank);
                let mark = |(n, of_text): (usize, &str)| {
                    let of_file = self.document.lines.get((first + n).wrapping_sub(1)).copied().unwrap_or_default();
                    let indent = of_file.strip_suffix(of_text).map_or(0, |indent| indent.chars().count());
                    Mark::new(first + n, indent + 1)
                };
                text.lines().enumerate().map(mark).collect()
            }
            Style::Plain if !text.contains('\n') => vec![*at],
            Style::Quoted if !text.contains('\n') => vec![Mark::new(at_line, at_column + 1)],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(document: &Document<'_>, path: &[&str]) -> Option<String> {
        let mut at = document.root();
        for name in path {
            at = at.get(name)?;
        }
        at.text().map(str::to_owned)
    }

    #[test]
    fn every_node_has_its_place() {
        let document = parse("on: push\nx:\n  - a: 'é'\n    b: |\n\n      one\n        two\n").unwrap();
        let item = document.root().get("x").unwrap().items().next().unwrap();
        assert_eq!(item.get("a").unwrap().mark(), Mark { line: 3, column: 8 });
        let block = item.get("b").unwrap();
        assert_eq!(block.text(), Some("\none\n  two\n"));
        assert_eq!(block.line_marks()[1..], [Mark { line: 6, column: 7 }, Mark { line: 7, column: 7 }]);
        assert_eq!(item.get("a").unwrap().line_marks(), [Mark { line: 3, column: 9 }]);
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let document = parse("a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(text(&document, &["a"]).unwrap(), "3");
        let pairs = document.root().pairs();
        let seen: Vec<_> = pairs.iter().map(|(k, v)| (k.text().unwrap(), v.text().unwrap())).collect();
        assert_eq!(seen, [("a", "3"), ("b", "2")]);
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let document =
            parse("base: &base {a: 1, b: 2}\nmore: &more {c: 3}\nx:\n  <<: *base\n  b: 9\ny: {<<: [*base, *more]}\nz: *none\n")
                .unwrap();
        assert_eq!(text(&document, &["x", "a"]).unwrap(), "1");
        assert_eq!(text(&document, &["x", "b"]).unwrap(), "9");
        assert_eq!(text(&document, &["y", "c"]).unwrap(), "3");
        assert_eq!(text(&document, &["z"]), None);
    }

    #[test]
    fn what_names_itself_ends() {
        let document = parse("a: &a\n  b: *a\n  <<: *a\n").unwrap();
        assert_eq!(text(&document, &["a", "b", "b"]), None);
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(parse(&deep), Err(Error::Syntax { .. })));
        assert_eq!(parse(&"x".repeat(LONGEST + 1)).unwrap_err(), Error::TooLarge);
        assert_eq!(parse("").unwrap().root().text(), None);
    }

    #[test]
    fn an_error_has_its_place() {
        let error = parse("a: b\nc: [1, 2\nd: e\n").unwrap_err();
        assert!(matches!(&error, Error::Syntax { at, .. } if at.line >= 2), "{error}");
    }
}
