//! Indented lines, comments of a bearable width, YAML's quotes.

/// How wide comments become, with their indentation.
const WIDTH: usize = 110;

/// A text that grows line by line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: String,
}

impl Lines {
    /// Adds a line; an empty one has no indentation.
    pub(super) fn line(&mut self, indent: usize, text: &str) {
        if !text.is_empty() {
            self.text.extend(std::iter::repeat_n(' ', indent));
            self.text.push_str(text);
        }
        self.text.push('\n');
    }

    /// Adds a comment, broken between words.
    pub(super) fn comment(&mut self, indent: usize, text: &str) {
        for paragraph in text.split('\n') {
            let mut line = String::from("#");
            for word in paragraph.split_whitespace() {
                if line.len() > 1 && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
                    self.line(indent, &line);
                    line = String::from("#");
                }
                line.push(' ');
                line.push_str(word);
            }
            self.line(indent, &line);
        }
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// A text as a YAML scalar: plain where that is safe in a block and in a list, else in single quotes.
pub(super) fn scalar(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_safe);
    // What some reader takes for something else than text.
    let is_taken =
        ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_word && !is_taken { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// A list in brackets.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| scalar(item)).collect::<Vec<_>>().join(", "))
}

/// A text from outside for a comment: one line, nothing that a terminal or a reader would take for more.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A word that a shell takes as it is.
pub(super) fn shell_word(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_text_whatever_they_hold() {
        let hard =
            ["main", "release/1.x", "on", "No", "1.20", "", "a: b", "it's", "#x", "- a", "*x", "a, b", "ü", "@x", "a]"];
        for text in hard {
            for (yaml, path) in [(format!("k: {}\n", scalar(text)), 0), (format!("k: {}\n", list(&[text.into()])), 1)] {
                let document = crate::yaml::parse(&yaml).unwrap();
                let value = document.root().get("k").unwrap();
                let read = if path == 0 { value } else { value.items().next().unwrap() };
                assert_eq!(read.text(), Some(text), "{yaml}");
            }
        }
        assert_eq!(scalar("release/1.x"), "release/1.x");
        assert_eq!(scalar("on"), "'on'");
    }

    #[test]
    fn comments_are_broken_between_words() {
        let mut lines = Lines::default();
        lines.comment(2, &"word ".repeat(60));
        lines.comment(0, "one\n\ntwo");
        let text = lines.finish();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.ends_with("\n# one\n#\n# two\n"), "{text}");
    }
}
