//! The variables of a job, as far as the workflow writes them down.

use super::Read;
use crate::shell::{Command, Script, expand, is_name};
use crate::workflow::Pair;
use std::collections::{BTreeMap, BTreeSet};

/// Variables by name: what they are set to first. What a program computes is `$()`.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    values: BTreeMap<String, String>,
    /// Set for the steps that follow: by `env`, or through the file that `GITHUB_ENV` names.
    exported: BTreeSet<String>,
    /// Set in any way, in any script.
    set: BTreeSet<String>,
}

impl Environment {
    /// What `env` says, the inner after the outer.
    pub(super) fn of(envs: &[&Vec<Pair>]) -> Self {
        let mut environment = Self::default();
        for (name, value) in envs.iter().rev().flat_map(|env| env.iter()) {
            environment.export(&name.text, &value.text);
        }
        environment
    }

    fn export(&mut self, name: &str, value: &str) {
        self.exported.insert(name.to_owned());
        self.set(name, value);
    }

    fn set(&mut self, name: &str, value: &str) {
        self.set.insert(name.to_owned());
        self.values.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Adds what a step sets.
    pub(super) fn learn(&mut self, read: &Read) {
        for (name, value) in &read.step.env {
            self.set(&name.text, &value.text);
        }
        for (name, value) in exports(&read.script, "GITHUB_ENV") {
            self.export(&name, &value);
        }
        for command in &read.script.commands {
            for (name, value) in &command.assignments {
                self.set(name, value);
            }
            for name in declared(command) {
                match name.split_once('=') {
                    Some((name, value)) => self.set(name, value),
                    None => drop(self.set.insert(name.to_owned())),
                }
            }
        }
    }

    /// Replaces what is known in a text.
    pub(crate) fn expand(&self, text: &str) -> String {
        expand(text, &|name| {
            let value = self.values.get(name)?;
            // A program's output is not known; its variable's name says more than nothing.
            (!value.contains("$()") && value != &format!("${name}")).then(|| value.clone())
        })
    }

    /// What a variable is set to first, as written.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether anything in the job sets it.
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.set.contains(name)
    }

    /// All that later steps have.
    pub(crate) fn exported(&self) -> impl Iterator<Item = &str> {
        self.exported.iter().map(String::as_str)
    }
}

/// `NAME=value` that a script adds to the file that a variable names.
pub(crate) fn exports(script: &Script, file: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for command in &script.commands {
        if !matches!(command.program(), "echo" | "printf") {
            continue;
        }
        let goes = |command: &Command| {
            command.redirects.iter().any(|(operator, target)| operator.contains('>') && target.contains(file))
                || command.program() == "tee" && command.arguments().iter().any(|word| word.contains(file))
        };
        if !script.pipeline(command).any(goes) {
            continue;
        }
        for (at, word) in command.arguments().iter().enumerate() {
            if let Some((name, value)) = word.split_once('=').filter(|(name, _)| is_name(&name.replace('-', "_"))) {
                // `echo A=$x y` is one value; printf's further words are others.
                let rest = &command.arguments()[at + 1..];
                let value = match command.program() {
                    "echo" if !rest.is_empty() => format!("{value} {}", rest.join(" ")),
                    _ => value.trim_end_matches("\\n").to_owned(),
                };
                found.push((name.to_owned(), value));
                if command.program() == "echo" {
                    break;
                }
            }
        }
    }
    found
}

/// Names that a command declares or reads into.
pub(crate) fn declared(command: &Command) -> impl Iterator<Item = &String> {
    let arguments: &[String] = match command.program() {
        "export" | "declare" | "local" | "readonly" | "typeset" | "read" | "mapfile" | "readarray" => {
            command.arguments()
        }
        "for" | "select" => command.arguments().get(..1).unwrap_or_default(),
        "printf" if command.arguments().first().is_some_and(|word| word == "-v") => {
            command.arguments().get(1..2).unwrap_or_default()
        }
        "getopts" => command.arguments().get(1..2).unwrap_or_default(),
        _ => &[],
    };
    arguments.iter().filter(|word| is_name(word.split_once('=').map_or(word, |(name, _)| name)))
}
