//! From characters to commands, in one pass.

use super::{Command, Join, Read, Script, is_name};

/// How deep substitutions, subshells and groups are followed. Deeper ones are taken for words.
const DEPTH: usize = 24;
/// The longest `${…}` and `${{ … }}`, in characters. A longer one has no end.
const BRACED: usize = 500;
/// Words after which a command follows.
const KEYWORDS: &[&str] = &["if", "then", "elif", "else", "do", "while", "until", "!", "{"];

/// Reads a script.
#[must_use]
pub fn parse(text: &str) -> Script {
    let mut reader = Reader {
        chars: text.chars().collect(),
        at: 0,
        line: 0,
        column: 0,
        depth: 0,
        pipelines: 0,
        ticks: false,
        here: Vec::new(),
        script: Script::default(),
    };
    // A closing bracket too many ends a list: go on behind it.
    while reader.at < reader.chars.len() {
        reader.list(None, None);
    }
    let Reader { mut script, pipelines, .. } = reader;
    script.pipelines.resize(pipelines + 1, Vec::new());
    for (at, command) in script.commands.iter().enumerate() {
        script.pipelines[command.pipeline].push(at);
    }
    script
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    column: usize,
    depth: usize,
    pipelines: usize,
    /// Whether the list that is read began with a backtick.
    ticks: bool,
    /// Ends of the here documents that begin on the next line, and whether tabs may stand before them.
    here: Vec<(String, bool)>,
    script: Script,
}

/// One list of commands, to its end.
struct List {
    within: Option<usize>,
    join: Join,
    pipeline: usize,
    /// The command that is being read.
    open: Option<usize>,
    /// Whether a subshell stands where a command would.
    subshell: bool,
    /// First commands of the groups that are open.
    groups: Vec<usize>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(n, c)| self.peek(n) == Some(c))
    }

    fn fresh_pipeline(&mut self) -> usize {
        self.pipelines += 1;
        self.pipelines
    }

    /// Commands up to the closing character, which is taken too.
    fn list(&mut self, within: Option<usize>, until: Option<char>) {
        let pipeline = self.fresh_pipeline();
        let mut list = List { within, join: Join::Then, pipeline, open: None, subshell: false, groups: Vec::new() };
        self.depth += 1;
        let ticks = std::mem::replace(&mut self.ticks, until == Some('`'));
        while let Some(c) = self.peek(0) {
            if Some(c) == until {
                self.next();
                break;
            }
            match c {
                ' ' | '\t' | '\r' => self.skip(1),
                '\\' if self.peek(1) == Some('\n') => self.skip(2),
                '#' => self.comment(),
                '\n' => {
                    self.next();
                    self.end(&mut list, Join::Then);
                    self.here_documents();
                }
                ';' => {
                    self.next();
                    self.end(&mut list, Join::Then);
                }
                '&' if self.peek(1) == Some('&') => {
                    self.skip(2);
                    self.end(&mut list, Join::And);
                }
                '&' if self.peek(1) == Some('>') => self.redirect(&mut list),
                '&' => {
                    self.next();
                    self.end(&mut list, Join::Then);
                }
                '|' if self.peek(1) == Some('|') => {
                    self.skip(2);
                    self.end(&mut list, Join::Or);
                }
                '|' => {
                    self.next();
                    if self.peek(0) == Some('&') {
                        self.next();
                    }
                    self.end(&mut list, Join::Pipe);
                }
                '(' => {
                    self.next();
                    list.subshell = true;
                    if self.depth < DEPTH {
                        self.list(list.open.or(list.within), Some(')'));
                    }
                }
                ')' => {
                    self.next();
                    self.end(&mut list, Join::Then);
                    if until.is_none() {
                        break;
                    }
                }
                '<' | '>' => self.redirect(&mut list),
                '0'..='9' if self.is_numbered_redirect() => {
                    self.next();
                    self.redirect(&mut list);
                }
                _ => self.argument(&mut list),
            }
        }
        self.end(&mut list, Join::Then);
        self.ticks = ticks;
        self.depth -= 1;
    }

    fn is_numbered_redirect(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.chars.get(at));
        before.is_none_or(|c| c.is_whitespace()) && matches!(self.peek(1), Some('<' | '>'))
    }

    fn comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.next();
        }
    }

    fn end(&mut self, list: &mut List, join: Join) {
        let ended = list.open.take();
        if let Some(at) = ended
            && self.script.commands[at].words.first().is_some_and(|word| word == "}")
            && let Some(first) = list.groups.pop()
        {
            let redirects = self.script.commands[at].redirects.clone();
            if !redirects.is_empty() {
                for command in &mut self.script.commands[first..at] {
                    command.redirects.extend(redirects.iter().cloned());
                }
            }
        }
        // A newline after `|` or `&&` changes nothing.
        if ended.is_some() || std::mem::take(&mut list.subshell) || join != Join::Then {
            list.join = join;
            if join != Join::Pipe {
                list.pipeline = self.fresh_pipeline();
            }
        }
    }

    /// The command that is being read; a new one if there is none.
    fn command(&mut self, list: &mut List, line: usize, column: usize) -> usize {
        if let Some(open) = list.open {
            return open;
        }
        self.script.commands.push(Command {
            words: Vec::new(),
            assignments: Vec::new(),
            redirects: Vec::new(),
            join: list.join,
            pipeline: list.pipeline,
            within: list.within,
            line,
            column,
        });
        let at = self.script.commands.len() - 1;
        list.open = Some(at);
        at
    }

    fn argument(&mut self, list: &mut List) {
        let (line, column) = (self.line, self.column);
        let at = self.command(list, line, column);
        let plain = self.peek(0).is_some_and(|c| !matches!(c, '"' | '\'' | '\\'));
        let word = self.word(at);
        let command = &mut self.script.commands[at];
        if command.words.is_empty() {
            if plain && command.assignments.is_empty() && KEYWORDS.contains(&word.as_str()) {
                // Nothing was read for it yet, so the place is that of what follows.
                if word == "{" && list.groups.len() < DEPTH / 3 {
                    list.groups.push(at);
                }
                if at + 1 == self.script.commands.len() {
                    self.script.commands.pop();
                    list.open = None;
                }
                return;
            }
            if let Some((name, value)) = word.split_once('=')
                && plain
                && is_name(name.strip_suffix('+').unwrap_or(name))
            {
                let name = name.strip_suffix('+').unwrap_or(name);
                command.assignments.push((name.to_owned(), value.to_owned()));
                return;
            }
        }
        command.words.push(word);
    }

    fn redirect(&mut self, list: &mut List) {
        let (line, column) = (self.line, self.column);
        let mut operator = String::new();
        while operator.len() < 3 && matches!(self.peek(0), Some('<' | '>' | '&' | '|')) {
            // `2>&1`: what follows `&` is the target.
            operator.extend(self.next());
        }
        let at = self.command(list, line, column);
        if operator.ends_with('<') && self.peek(0) == Some('(') || operator == ">" && self.peek(0) == Some('(') {
            self.next();
            if self.depth < DEPTH {
                self.list(Some(at), Some(')'));
            }
            return;
        }
        let tabs = operator == "<<" && self.peek(0) == Some('-');
        if tabs {
            self.next();
        }
        while matches!(self.peek(0), Some(' ' | '\t')) {
            self.next();
        }
        let target = self.word(at);
        if operator == "<<" {
            self.here.push((target, tabs));
        } else {
            self.script.commands[at].redirects.push((operator, target));
        }
    }

    fn here_documents(&mut self) {
        for (end, tabs) in std::mem::take(&mut self.here) {
            while self.at < self.chars.len() {
                let begin = self.at;
                self.comment();
                let line: String = self.chars[begin..self.at].iter().collect();
                self.next();
                let line = line.trim_end_matches('\r');
                if end == if tabs { line.trim_start_matches('\t') } else { line } {
                    break;
                }
            }
        }
    }

    /// One word, for the command at an index.
    fn word(&mut self, command: usize) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | ')' => break,
                '(' if word.ends_with('=') || self.depth >= DEPTH => {
                    // An array: its items are words like others.
                    self.next();
                }
                '(' => break,
                '\'' => {
                    self.next();
                    while let Some(c) = self.next().filter(|c| *c != '\'') {
                        word.push(c);
                    }
                }
                '"' => {
                    self.next();
                    self.quoted(command, &mut word);
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(c) => word.push(c),
                    }
                }
                '$' => self.dollar(command, &mut word),
                // It ends the list that it began.
                '`' if self.ticks => break,
                '`' if self.depth < DEPTH => {
                    self.next();
                    word.push_str("$()");
                    self.list(Some(command), Some('`'));
                }
                _ => word.extend(self.next()),
            }
        }
        word
    }

    /// The rest of a text in double quotes.
    fn quoted(&mut self, command: usize, word: &mut String) {
        while let Some(c) = self.peek(0) {
            match c {
                '"' => {
                    self.next();
                    return;
                }
                '\\' => {
                    self.next();
                    word.extend(self.next().filter(|c| *c != '\n'));
                }
                '$' => self.dollar(command, word),
                '`' if self.depth < DEPTH && !self.ticks => {
                    self.next();
                    word.push_str("$()");
                    self.list(Some(command), Some('`'));
                }
                _ => word.extend(self.next()),
            }
        }
    }

    /// What begins with a dollar sign.
    fn dollar(&mut self, command: usize, word: &mut String) {
        let (line, column) = (self.line, self.column);
        if self.peek(1) == Some('(') && self.depth < DEPTH {
            self.skip(2);
            word.push_str("$()");
            self.list(Some(command), Some(')'));
            return;
        }
        if self.starts_with("${{") {
            let closes = |at: &usize| self.peek(*at) == Some('}') && self.peek(at + 1) == Some('}');
            if let Some(end) = (3..BRACED).find(closes) {
                word.extend(&self.chars[self.at..self.at + end + 2]);
                self.skip(end + 2);
                return;
            }
        }
        if self.peek(1) == Some('{')
            && let Some(end) = self.closing_brace()
        {
            let inner: String = self.chars[self.at + 2..self.at + end].iter().collect();
            let length = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
            if is_name(&inner[..length]) {
                let has_default = inner[length..].trim_start_matches(':').starts_with(['-', '+', '=', '?']);
                self.script.reads.push(Read { name: inner[..length].to_owned(), has_default, line, column });
            }
            word.push_str("${");
            word.push_str(&inner);
            word.push('}');
            self.skip(end + 1);
            return;
        }
        word.extend(self.next());
        let begin = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            word.extend(self.next());
        }
        let name: String = self.chars[begin..self.at].iter().collect();
        if is_name(&name) {
            self.script.reads.push(Read { name, has_default: false, line, column });
        }
    }

    /// How far the `}` of a `${` is.
    fn closing_brace(&self) -> Option<usize> {
        let mut open = 0_usize;
        for at in 1..BRACED {
            match self.peek(at)? {
                '{' => open += 1,
                '}' if open == 1 => return Some(at),
                '}' => open -= 1,
                _ => {}
            }
        }
        None
    }
}
