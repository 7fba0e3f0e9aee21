//! What is changed in one job.

use super::edits::{Edit, Edits};
use super::{Site, Wish, lines};
use crate::audit::facts::caches::{Kind, Tool};
use crate::audit::facts::{JobFacts, StepFacts};
use crate::shell::{Command, Join, base_name};
use crate::yaml::At;
use std::collections::BTreeSet;
use std::ops::Range;

/// A job and where it stands.
pub(super) struct Job<'a> {
    pub(super) facts: &'a JobFacts,
    /// What the file is called.
    pub(super) name: &'a str,
    pub(super) key: At<'a>,
    pub(super) value: At<'a>,
    /// From its name on.
    pub(super) lines: Range<usize>,
    pub(super) is_hosted: bool,
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Change {
    pub(super) edits: Vec<Edit>,
    pub(super) notes: Vec<String>,
    /// Whether it gets its siblings from the setup job.
    pub(super) takes_plan: bool,
}

/// The lines of a job, by its name; `None` where it is not written in lines of its own.
pub(super) fn lines_of(edits: &Edits<'_>, key: At<'_>) -> Option<Range<usize>> {
    let first = key.mark().line as usize - 1;
    let indent = key.mark().column as usize - 1;
    let lines = edits.block(first, indent);
    (edits.indent(first) == Some(indent) && lines.len() > 1).then_some(lines)
}

/// Subcommands of cargo that build the workspace into its target directory.
const BUILDING: &[&str] =
    &["build", "b", "check", "c", "test", "t", "bench", "clippy", "doc", "d", "nextest", "run", "r", "rustc"];
/// Programs of a script that does nothing but copy a cache.
const COPYING: &[&str] = &[
    "rsync", "cp", "tar", "mkdir", "flock", "echo", "test", "[", "[[", "true", ":", "ls", "du", "date", "set", "exit",
];
/// Programs of a script that does nothing but bring siblings to their place.
const MOVING: &[&str] = &["rm", "mv", "ln", "cp", "mkdir", "ls", "echo", "test", "[", "[[", "true", ":", "set", "git"];

/// Whether a command tells later steps something.
fn hands_on(command: &Command) -> bool {
    command.redirects.iter().any(|(_, to)| to.contains("GITHUB_"))
}

impl Job<'_> {
    /// What to do; or why nothing is. `setup` is the job that makes the plan, where there is to be one.
    pub(super) fn change(&self, edits: &Edits<'_>, wish: &Wish, setup: Option<&str>) -> Result<Change, String> {
        let mut change = Change::default();
        if self.value.get("container").is_some() {
            return Err("it runs in a container, where the store would have to be mounted first".into());
        }
        if self.commands().any(|(_, words)| words.first().is_some_and(|word| base_name(word) == "larder")) {
            return Err("it uses larder already".into());
        }
        if self.facts.steps.iter().any(|step| step.caches.iter().any(|cache| cache.tool == Tool::Larder)) {
            return Err("it uses larder's action already".into());
        }
        if self.is_hosted {
            let label = if wish.runner.is_empty() { None } else { self.runner_edit(edits, wish) };
            let Some(label) = label else {
                return Err(match wish.runner.is_empty() {
                    true => {
                        "its runner is thrown away after the job, and a store with it; --runner LABEL moves it to yours"
                            .into()
                    }
                    false => "its runner cannot be changed here: no single name of a Linux machine stands there".into(),
                });
            };
            change.edits.push(label);
            change.notes.push(format!("moves to {}", lines::list(&wish.runner)));
        }
        self.wrap(edits, &mut change)?;
        self.drop_caches(edits, &mut change);
        if let Some(setup) = setup {
            self.drop_siblings(edits, wish, setup, &mut change);
        }
        Ok(change)
    }

    /// Each step's commands, as words.
    fn commands(&self) -> impl Iterator<Item = (&StepFacts, &[String])> {
        self.facts.commands().map(|(step, _, command)| (step, command.words.as_slice()))
    }

    /// The lines of a step of this file; `None` where it is not written in lines of its own within the job.
    fn step_lines(&self, edits: &Edits<'_>, step: &StepFacts) -> Option<Range<usize>> {
        if *step.file != *self.name {
            return None;
        }
        let mark = step.step().at;
        let first = mark.line as usize - 1;
        let indent = edits.indent(first)?;
        let is_item = edits.line(first).trim_start().starts_with("- ") && mark.column as usize > indent + 1;
        let lines = edits.block(first, indent);
        (is_item && self.lines.contains(&first) && lines.end <= self.lines.end).then_some(lines)
    }

    fn runner_edit(&self, edits: &Edits<'_>, wish: &Wish) -> Option<Edit> {
        let value = self.value.get("runs-on")?;
        let label = value.text()?;
        if !label.starts_with("ubuntu-") || !edits.at(value.mark()).starts_with(label) {
            return None;
        }
        let line = value.mark().line as usize - 1;
        let rest = &edits.at(value.mark())[label.len()..];
        let labels = lines::list(&wish.runner);
        self.lines
            .contains(&line)
            .then(|| Edit::Rest(line, value.mark().column as usize - 1, format!("{labels}{rest}")))
    }

    /// Puts larder around the commands that build, or around the steps that have them among others.
    fn wrap(&self, edits: &Edits<'_>, change: &mut Change) -> Result<(), String> {
        let building = |step: &StepFacts| {
            step.cargo.iter().any(|cargo| cargo.compiles && BUILDING.contains(&cargo.subcommand.as_str()))
        };
        let steps: Vec<&StepFacts> = self.facts.steps.iter().filter(|step| building(step)).collect();
        if self.commands().any(|(_, words)| words.first().is_some_and(|word| word == "cross")) {
            return Err("cross builds in containers, at paths of their own".into());
        }
        if steps.is_empty() {
            return Err("no step calls cargo build, test, clippy or the like by itself".into());
        }
        let single: Vec<Option<Edit>> = steps.iter().map(|step| self.wrapped(edits, step)).collect();
        if single.iter().all(Option::is_some) {
            let count = single.len();
            for edit in single.into_iter().flatten() {
                // An alias is the step that it stands for.
                if !change.edits.contains(&edit) {
                    change.edits.push(edit);
                }
            }
            change.notes.push(format!("{count} command{} run by larder", if count == 1 { " is" } else { "s are" }));
            return Ok(());
        }
        let lines: Option<Vec<Range<usize>>> = steps.iter().map(|step| self.step_lines(edits, step)).collect();
        let lines = lines.ok_or("a step that builds stands in another file, or in a line with others")?;
        let mut dirs: Vec<_> = steps.iter().flat_map(|step| &step.cargo).map(|cargo| cargo.directory.clone()).collect();
        dirs.dedup();
        let [dir] = dirs.as_slice() else { return Err("its steps build in several directories".into()) };
        let workspace = match dir.as_deref() {
            // The job's own default applies to larder's steps, too.
            None => String::new(),
            Some(dir) if self.default_directory() == Some(dir) => String::new(),
            Some(dir) if dir.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c)) => {
                format!(" --workspace {dir}")
            }
            Some(dir) => return Err(format!("it builds in {dir}, which only its shell knows")),
        };
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
        let indent = " ".repeat(edits.indent(first.start).unwrap_or_default());
        let above = Self::above(edits, first.start);
        let mut restore = vec![format!("{indent}- run: larder restore{workspace}")];
        let mut save = vec![format!("{indent}- run: larder save{workspace}")];
        // Where empty lines part the steps, these get theirs.
        if above > 0 && edits.indent(above - 1).is_none() {
            restore.push(String::new());
            save.insert(0, String::new());
        }
        change.edits.push(Edit::Before(above, restore));
        change.edits.push(Edit::Before(last.end, save));
        change
            .notes
            .push("scripts build among other things: larder restores before the first and saves after the last".into());
        Ok(())
    }

    fn default_directory(&self) -> Option<&str> {
        self.value.get("defaults")?.get("run")?.get("working-directory")?.text()
    }

    /// The first of the comment lines right above a line, as far in as it is: they are about it.
    fn above(edits: &Edits<'_>, line: usize) -> usize {
        let indent = edits.indent(line);
        let is_about = |at: &usize| edits.is_comment(*at) && edits.indent(*at) == indent;
        (0..line).rev().take_while(is_about).last().unwrap_or(line)
    }

    /// The edit that lets larder run the one command of a step.
    fn wrapped(&self, edits: &Edits<'_>, step: &StepFacts) -> Option<Edit> {
        self.step_lines(edits, step)?;
        let [command] = step.script().commands.as_slice() else { return None };
        let plain = command.words.first()? == "cargo"
            && command.assignments.is_empty()
            && command.redirects.is_empty()
            && command.join == Join::Then;
        let mark = step.place_of(command);
        // A quote or a fold may stand between the text and the file.
        (plain && edits.at(mark).starts_with("cargo "))
            .then(|| Edit::Within(mark.line as usize - 1, mark.column as usize - 1, "larder run -- ".into()))
    }

    /// Takes away what restored and saved cargo's directories until now.
    fn drop_caches(&self, edits: &Edits<'_>, change: &mut Change) {
        let concerns =
            |step: &&StepFacts| step.caches.iter().any(|cache| cache.is_cargos() || matches!(cache.tool, Tool::Other));
        for step in self.facts.steps.iter().filter(concerns) {
            let what = step.step().uses.as_ref().map_or("a script", |uses| uses.text.as_str());
            match self.cache_lines(edits, step) {
                Ok(lines) => {
                    change.edits.push(Edit::Remove(lines));
                    change.notes.push(format!("{what} goes: larder keeps what it kept"));
                }
                Err(why) => change.notes.push(format!("{what} stays: {why}")),
            }
        }
    }

    fn cache_lines(&self, edits: &Edits<'_>, step: &StepFacts) -> Result<Range<usize>, &'static str> {
        let lines = self.step_lines(edits, step).ok_or("it stands in another file, or in a line with others")?;
        if let Some(id) = &step.step().id
            && (0..edits.len()).any(|at| edits.line(at).contains(&format!("steps.{id}.")))
        {
            return Err("other steps read its outputs");
        }
        let known = |kind: Kind| matches!(kind, Kind::Target | Kind::CargoHome);
        if !step.caches.iter().all(|cache| cache.local.iter().all(|local| known(local.kind))) {
            return Err("it keeps other things, too");
        }
        if step.caches.iter().any(|cache| matches!(cache.tool, Tool::Other)) {
            return Err("nobody here knows what it keeps");
        }
        let script = step.script();
        let only = script.commands.iter().all(|command| {
            COPYING.contains(&command.program()) && !command.redirects.iter().any(|(_, to)| to.contains("GITHUB_"))
        });
        let sets = script.commands.iter().any(|command| command.words.is_empty() && !command.assignments.is_empty());
        if step.step().run.is_some()
            && (!only || sets && script.reads.iter().any(|read| read.name.starts_with("GITHUB_")))
        {
            return Err("its script does other things, too");
        }
        Ok(lines)
    }

    /// Takes away the checkouts of siblings, and what moves them to their place.
    fn drop_siblings(&self, edits: &Edits<'_>, wish: &Wish, setup: &str, change: &mut Change) {
        let mut removed = Vec::new();
        let mut paths = BTreeSet::new();
        for step in &self.facts.steps {
            for checkout in step.checkouts.iter().filter(|checkout| wish.is_sibling(&checkout.repository)) {
                paths.extend(checkout.path.clone());
                match self.step_lines(edits, step).filter(|_| step.step().run.is_none()) {
                    Some(lines) => removed.push(lines),
                    None => {
                        return change
                            .notes
                            .push(format!("{} is checked out by a script: that stays", checkout.repository));
                    }
                }
            }
        }
        if removed.is_empty() {
            return;
        }
        let names = |word: &str| {
            let word = word.trim_start_matches("./");
            wish.siblings.iter().any(|name| word.trim_end_matches('/').ends_with(&format!("../{name}")))
                || paths.iter().any(|path| word.trim_end_matches('/') == path.trim_end_matches('/'))
        };
        for step in self.facts.steps.iter().filter(|step| step.step().run.is_some()) {
            let commands = &step.script().commands;
            if !commands
                .iter()
                .any(|command| MOVING.contains(&command.program()) && command.words.iter().any(|word| names(word)))
            {
                continue;
            }
            let only = commands.iter().all(|command| MOVING.contains(&command.program()) && !hands_on(command));
            match self.step_lines(edits, step).filter(|_| only) {
                Some(lines) => removed.push(lines),
                None => {
                    return change
                        .notes
                        .push("siblings stay as they are: a script that moves them does other things, too".into());
                }
            }
        }
        let Some(edits_of_plan) = self.plan_edits(edits, setup) else {
            return change
                .notes
                .push("siblings stay as they are: its needs or env are not written in lines of their own".into());
        };
        change.edits.extend(removed.into_iter().map(Edit::Remove));
        change.edits.extend(edits_of_plan);
        change.takes_plan = true;
        change.notes.push("the siblings come from the plan of the setup job".into());
    }

    /// What makes the job wait for the setup job and take its plan.
    fn plan_edits(&self, edits: &Edits<'_>, setup: &str) -> Option<Vec<Edit>> {
        let pairs = self.value.pairs();
        let entry = |name: &str| pairs.iter().find(|(key, _)| key.text() == Some(name));
        let body = self.body_indent(edits)?;
        let pad = " ".repeat(body);
        let top = self.lines.start + 1;
        let mut new = Vec::new();
        match entry("needs") {
            None => new.push(Edit::Before(top, vec![format!("{pad}needs: {setup}")])),
            Some((_, value)) => {
                let line = value.mark().line as usize - 1;
                let column = value.mark().column as usize - 1;
                let stands = edits.at(value.mark());
                if let Some(text) = value.text().filter(|text| stands.starts_with(text)) {
                    let rest = &stands[text.len()..];
                    new.push(Edit::Rest(line, column, format!("[{text}, {setup}]{rest}")));
                } else if stands.starts_with('[') && value.items().next().is_some() {
                    let close = stands.find(']')?;
                    let chars = stands[..close].chars().count();
                    new.push(Edit::Within(line, column + chars, format!(", {setup}")));
                } else {
                    let last = value.items().last()?.mark().line as usize - 1;
                    let own = edits.indent(last).filter(|_| edits.line(last).trim_start().starts_with("- "))?;
                    new.push(Edit::Before(last + 1, vec![format!("{}- {setup}", " ".repeat(own))]));
                }
            }
        }
        let plan = format!("LARDER_PLAN: ${{{{ needs.{setup}.outputs.plan }}}}");
        match entry("env") {
            None => new.push(Edit::Before(top, vec![format!("{pad}env:"), format!("{pad}  {plan}")])),
            Some((_, value)) if value.is_mapping() => {
                let first = value.pairs().first().map(|(key, _)| key.mark())?;
                let line = first.line as usize - 1;
                let own = edits.indent(line).filter(|own| *own == first.column as usize - 1)?;
                new.push(Edit::Before(line, vec![format!("{}{plan}", " ".repeat(own))]));
            }
            Some(_) => return None,
        }
        Some(new)
    }

    /// How far the job's own keys are indented.
    fn body_indent(&self, edits: &Edits<'_>) -> Option<usize> {
        let first = self.value.pairs().first().map(|(key, _)| key.mark())?;
        let line = first.line as usize - 1;
        edits.indent(line).filter(|own| *own == first.column as usize - 1 && self.lines.contains(&line))
    }

    /// What a setup job before this one would have from it.
    pub(super) fn site(&self, edits: &Edits<'_>, wish: &Wish) -> Option<Site> {
        let value = self.value.get("runs-on")?;
        let as_written = edits.at(value.mark()).split(" #").next()?.trim().to_owned();
        let runs_on = if self.is_hosted && !wish.runner.is_empty() { lines::list(&wish.runner) } else { as_written };
        if runs_on.is_empty() || runs_on.starts_with('-') || runs_on.contains("matrix.") {
            return None;
        }
        let checkout = self.facts.steps.iter().find_map(|step| {
            let uses = step.uses.as_ref().filter(|uses| uses.name == "actions/checkout")?;
            Some(edits.at(uses.at).trim().to_owned()).filter(|_| *step.file == *self.name)
        })?;
        let indents = (self.key.mark().column as usize - 1, self.body_indent(edits)?);
        Some(Site { line: Self::above(edits, self.lines.start), indents, runs_on, checkout })
    }
}
