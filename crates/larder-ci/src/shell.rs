//! The commands of a shell script, read leniently.
//!
//! This is no shell: it knows words, quotes, substitutions, pipes and the usual ways to write one command around another, as far
//! as they tell which program gets which arguments. What it does not know it takes for words. It never fails, takes
//! time in proportion to the text, and keeps each command's line and column.

mod reader;

pub use reader::parse;

/// A script's commands and the variables that it reads.
#[derive(Debug, Default)]
pub struct Script {
    /// In the order in which they begin; those within `$(…)` follow the command that holds them.
    pub commands: Vec<Command>,
    /// Every `$NAME` that a shell would replace.
    pub reads: Vec<Read>,
    /// The commands of each pipeline, by its number.
    pipelines: Vec<Vec<usize>>,
}

/// A variable that is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// Its name.
    pub name: String,
    /// Whether something stands for it when it is not set, as in `${NAME:-x}`.
    pub has_default: bool,
    /// From 0.
    pub line: usize,
    /// From 0, in characters.
    pub column: usize,
}

/// How a command follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// After a newline, `;` or `&`, or at the beginning.
    Then,
    /// `&&`.
    And,
    /// `||`.
    Or,
    /// `|`.
    Pipe,
}

/// A command.
#[derive(Debug)]
pub struct Command {
    /// Its name and arguments, quotes removed, variables as written.
    pub words: Vec<String>,
    /// `NAME=value` before it, or alone.
    pub assignments: Vec<(String, String)>,
    /// Where its output goes and its input comes from: operator and target. Those of a group `{ … }` are those of its commands.
    pub redirects: Vec<(String, String)>,
    /// How it follows the command before it in the same list.
    pub join: Join,
    /// Commands of one pipeline have the same number.
    pub pipeline: usize,
    /// The command that holds this one in a `$(…)`.
    pub within: Option<usize>,
    /// From 0.
    pub line: usize,
    /// From 0, in characters.
    pub column: usize,
}

/// Programs that run another one: their options that take a value, and how many words stand before the other's name.
const WRAPPERS: &[(&str, &[&str], usize)] = &[
    ("sudo", &["-u", "-g", "-C", "-p"], 0),
    ("doas", &["-u"], 0),
    ("command", &[], 0),
    ("builtin", &[], 0),
    ("exec", &["-a"], 0),
    ("nohup", &[], 0),
    ("time", &["-f", "-o"], 0),
    ("env", &["-u", "-C"], 0),
    ("nice", &["-n"], 0),
    ("ionice", &["-c", "-n"], 0),
    ("stdbuf", &["-i", "-o", "-e"], 0),
    ("timeout", &["-k", "-s"], 1),
    ("flock", &["-w", "-E"], 1),
    ("xvfb-run", &["-s", "-n"], 0),
    ("retry", &[], 0),
];

impl Command {
    /// Its words without programs around it such as `sudo`, `env`, `timeout`, `flock FILE` or `larder run --`.
    #[must_use]
    pub fn effective(&self) -> &[String] {
        let mut words = &self.words[..];
        // No one wraps deeper, and it ends.
        for _ in 0..8 {
            let Some(first) = words.first() else { return words };
            let name = base_name(first);
            let rest = &words[1..];
            if let Some((_, valued, before)) = WRAPPERS.iter().find(|(wrapper, _, _)| *wrapper == name) {
                words = after_options(rest, valued, *before);
            } else if name == "rustup" && rest.first().is_some_and(|word| word == "run") {
                words = after_options(&rest[1..], &[], 1);
            } else if name == "larder" && rest.first().is_some_and(|word| word == "run") {
                let dashes = rest.iter().position(|word| word == "--");
                words = dashes.map_or(&[], |at| &rest[at + 1..]);
            } else {
                return words;
            }
        }
        words
    }

    /// The name of the program that does the work, without its directory.
    #[must_use]
    pub fn program(&self) -> &str {
        self.effective().first().map_or("", |word| base_name(word))
    }

    /// The arguments of that program.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        self.effective().get(1..).unwrap_or_default()
    }

    /// Whether a word is among the words before `effective`, as `flock` is.
    #[must_use]
    pub fn is_run_by(&self, wrapper: &str) -> bool {
        let outer = self.words.len() - self.effective().len();
        self.words[..outer].iter().any(|word| base_name(word) == wrapper)
    }

    /// Whether it is `rm -r`, with any other options.
    #[must_use]
    pub fn removes_trees(&self) -> bool {
        self.program() == "rm" && has_flag(self.arguments(), &['r', 'R'], "--recursive")
    }
}

impl Script {
    /// The commands of the pipeline that one of them is in, in order.
    pub fn pipeline(&self, of: &Command) -> impl Iterator<Item = &Command> {
        self.pipelines.get(of.pipeline).into_iter().flatten().map(|at| &self.commands[*at])
    }

    /// The command that follows `||` behind the one at an index, behind the rest of its pipeline.
    #[must_use]
    pub fn or_else(&self, at: usize) -> Option<&Command> {
        let this = self.commands.get(at)?;
        let beside = |other: &&Command| other.within == this.within;
        self.commands[at + 1..]
            .iter()
            // What stands in substitutions between the two is short.
            .take(200)
            .filter(beside)
            .find(|other| other.pipeline != this.pipeline)
            .filter(|other| other.join == Join::Or)
    }
}

/// The last part of a path.
#[must_use]
pub fn base_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether options hold one of the letters, as `-rf` does, or the long form.
#[must_use]
pub fn has_flag(words: &[String], letters: &[char], long: &str) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| match word.strip_prefix('-') {
        Some(short) if !short.starts_with('-') => short.contains(letters),
        _ => word == long,
    })
}

fn after_options<'w>(words: &'w [String], valued: &[&str], skip: usize) -> &'w [String] {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if valued.contains(&word.as_str()) {
            at += 2;
        } else if word.starts_with('-') && word.len() > 1 || is_assignment(word) {
            at += 1;
        } else {
            break;
        }
    }
    words.get(at + skip..).unwrap_or_default()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// Whether a shell could have a variable of this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Replaces the variables of a text by what `value` knows of them; others stay, as `$NAME`. `~` and `${{ env.NAME }}` are
/// variables too. The result is bounded, whatever names what.
#[must_use]
pub fn expand(text: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    /// Rounds of replacing: deeper chains are not written by hand.
    const ROUNDS: usize = 6;
    /// The longest result, in bytes: longer ones are no paths and no keys.
    const LENGTH: usize = 4096;
    let mut text = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("$HOME{rest}"),
        _ => text.to_owned(),
    };
    for _ in 0..ROUNDS {
        let next = expand_once(&text, value);
        if next == text || next.len() > LENGTH {
            break;
        }
        text = next;
    }
    text
}

fn expand_once(text: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some((name, length)) = variable(rest) else {
            out.push('$');
            rest = &rest[1..];
            continue;
        };
        match value(&name) {
            Some(known) => out.push_str(&known),
            None => {
                out.push('$');
                out.push_str(&name);
            }
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// The variable at the beginning of a text that begins with `$`, and the length of what names it.
fn variable(text: &str) -> Option<(String, usize)> {
    if let Some(expression) = text.strip_prefix("${{") {
        let end = expression.find("}}")?;
        let body = expression[..end].trim();
        let name = match body {
            "github.workspace" => "GITHUB_WORKSPACE",
            "github.repository" => "GITHUB_REPOSITORY",
            "github.job" => "GITHUB_JOB",
            "github.sha" => "GITHUB_SHA",
            "runner.temp" => "RUNNER_TEMP",
            "runner.os" => "RUNNER_OS",
            _ => body.strip_prefix("env.").filter(|name| is_name(name))?,
        };
        return Some((name.to_owned(), end + 5));
    }
    let body = text.strip_prefix('$')?;
    if let Some(braced) = body.strip_prefix('{') {
        let end = braced.find('}')?;
        let inner = &braced[..end];
        let length = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let plain = length == end || inner[length..].starts_with([':', '-']);
        return (is_name(&inner[..length]) && plain).then(|| (inner[..length].to_owned(), end + 3));
    }
    let length = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    is_name(&body[..length]).then(|| (body[..length].to_owned(), length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(text: &str) -> Vec<String> {
        parse(text).commands.iter().map(|command| command.effective().join(" ")).collect()
    }

    #[test]
    fn commands_are_found_wherever_they_are() {
        assert_eq!(
            programs(
                "if cargo build; then\n  A=$(git rev-parse HEAD) sudo -u me rm -rf \"x y\" # no\nfi && echo `date` | wc"
            ),
            ["cargo build", "rm -rf x y", "git rev-parse HEAD", "fi", "echo $()", "date", "wc"]
        );
        assert_eq!(programs("cat <<'EOF' >x\nrm -rf /\nEOF\ntrue"), ["cat", "true"]);
        assert_eq!(programs("a \\\n b\n(c; d) || e"), ["a b", "c", "d", "e"]);
        assert_eq!(programs("larder run --job x -- cargo +nightly test"), ["cargo +nightly test"]);
        assert_eq!(programs("env A=1 timeout -k 5 60 flock -w 9 /l nice -n 5 rsync a b"), ["rsync a b"]);
        assert_eq!(programs("rustup run nightly cargo doc"), ["cargo doc"]);
        assert_eq!(programs("x ${{ a || b }} \"$(y 'z)')\""), ["x ${{ a || b }} $()", "y z)"]);
    }

    #[test]
    fn joins_pipelines_and_places_are_known() {
        let script = parse("one | two && three\n  four || true\n");
        let joins: Vec<_> = script.commands.iter().map(|c| c.join).collect();
        assert_eq!(joins, [Join::Then, Join::Pipe, Join::And, Join::Then, Join::Or]);
        assert_eq!(script.commands[0].pipeline, script.commands[1].pipeline);
        assert_eq!((script.commands[3].line, script.commands[3].column), (1, 2));
        assert_eq!(script.or_else(3).unwrap().program(), "true");
        assert!(script.or_else(0).is_none());
        assert_eq!(parse("a $(b | c) | d || e").or_else(0).unwrap().program(), "e");
    }

    #[test]
    fn reads_are_what_the_shell_replaces() {
        let script = parse("echo $A '$B' \"${C}\" ${D:-x} \\$E ${{ env.F }} $1 ${G%.*}");
        let names: Vec<_> = script.reads.iter().map(|r| (r.name.as_str(), r.has_default)).collect();
        assert_eq!(names, [("A", false), ("C", false), ("D", true), ("G", false)]);
    }

    #[test]
    fn redirects_of_a_group_are_those_of_its_commands() {
        let script = parse("{ echo A=1; echo B=2; } >> \"$GITHUB_ENV\"\necho C=3 2>&1 >/dev/null");
        assert_eq!(script.commands[1].redirects, [(">>".to_owned(), "$GITHUB_ENV".to_owned())]);
        assert_eq!(script.commands[3].words, ["echo", "C=3"]);
    }

    #[test]
    fn variables_are_replaced_within_bounds() {
        let value = |name: &str| match name {
            "A" => Some("$B/a".to_owned()),
            "B" => Some("/b".to_owned()),
            "LOOP" => Some("$LOOP$LOOP".to_owned()),
            _ => None,
        };
        assert_eq!(expand("${A}/$C/${{ env.B }}", &value), "/b/a/$C//b");
        assert_eq!(expand("~/x", &value), "$HOME/x");
        assert!(expand("$LOOP", &value).len() <= 4096);
    }
}
