//! What a step hands on: outputs of GitHub (and Forgejo, Gitea), and the variables of a dotenv file.
//!
//! Source: docs.github.com, "Workflow commands", "Setting an output parameter" and "Multiline strings"; docs.gitlab.com,
//! `artifacts:reports:dotenv` (names of letters, digits and `_`; no value over several lines; 5 KB in all).

use std::fmt::Write;

/// Names and values, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs(Vec<(String, String)>);

/// Makes a part of an output's name of any name: whatever is no letter, digit, `_` or `-` becomes `-`.
pub fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' }).collect()
}

impl Outputs {
    /// Adds one.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The lines for the file that `GITHUB_OUTPUT` names. `random` makes the end mark of a value of several lines, which
    /// no value may guess.
    pub fn github(&self, random: &mut dyn FnMut() -> u64) -> String {
        let mut text = String::new();
        for (name, value) in self.iter() {
            let name = word(name);
            if !value.contains(['\n', '\r']) {
                // A single line ends where it ends, whatever stands in it.
                let _infallible = writeln!(text, "{name}={value}");
                continue;
            }
            let mark = loop {
                let mark = format!("larder_{:016x}{:016x}", random(), random());
                if !value.contains(&mark) {
                    break mark;
                }
            };
            let _infallible = writeln!(text, "{name}<<{mark}\n{value}\n{mark}");
        }
        text
    }

    /// The lines of a dotenv file. Names are those of variables, with `LARDER_` in front: so the plan is the one that
    /// later jobs look for. Values over several lines have no form there and are left out.
    pub fn dotenv(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.iter().filter(|(_, value)| !value.contains(['\n', '\r'])) {
            let name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
            let _infallible = writeln!(text, "LARDER_{}={value}", name.collect::<String>());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(pairs: &[(&str, &str)]) -> Outputs {
        Outputs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn lines() {
        let outputs = of(&[("plan", "larder1.abc"), ("key-my.lib", "k"), ("more", "a\nb")]);
        let mut next = 0;
        let github = outputs.github(&mut || {
            next += 1;
            next
        });
        let mark = "larder_00000000000000010000000000000002";
        assert_eq!(github, format!("plan=larder1.abc\nkey-my-lib=k\nmore<<{mark}\na\nb\n{mark}\n"));
        assert_eq!(outputs.dotenv(), "LARDER_PLAN=larder1.abc\nLARDER_KEY_MY_LIB=k\n");
    }

    /// As the runner reads the file.
    fn read(text: &str) -> Vec<(String, String)> {
        let mut lines = text.lines();
        let mut read = Vec::new();
        while let Some(line) = lines.next() {
            match (line.find('='), line.find("<<")) {
                (equals, Some(at)) if equals.is_none_or(|equals| at < equals) => {
                    let value: Vec<&str> = lines.by_ref().take_while(|next| *next != &line[at + 2..]).collect();
                    read.push((line[..at].to_owned(), value.join("\n")));
                }
                (Some(at), _) => read.push((line[..at].to_owned(), line[at + 1..].to_owned())),
                (None, _) => panic!("{line}"),
            }
        }
        read
    }

    proptest! {
        #[test]
        fn no_value_ends_early_or_adds_an_output(values in prop::collection::vec("[a-z=<\n]{0,20}", 0..4), seed in 0u64..3) {
            let mut outputs = Outputs::default();
            for (number, value) in values.iter().enumerate() {
                outputs.add(format!("o{number}"), value.clone());
            }
            // The first marks that are tried stand in a value.
            let guess = format!("larder_{seed:016x}{seed:016x}");
            outputs.add("last", format!("{guess}\n{guess}\nevil=1"));
            let mut next = 0;
            let text = outputs.github(&mut || { next += 1; if next < 3 { seed } else { next + 10 } });
            let expected: Vec<(String, String)> = outputs.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(read(&text), expected);
        }
    }
}
