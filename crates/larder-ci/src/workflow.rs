//! Workflows and composite actions as data: what GitHub, Gitea and Forgejo read in `.github/workflows` and `action.yml`.
//!
//! Nothing here fails. What is missing or has another shape than expected is left out, so that a file of tomorrow is read as
//! far as it is understood today. Only the size is bounded: aliases make large things of short texts.

use crate::yaml::{At, Document, Mark};
use std::cell::Cell;
use thiserror::Error;

/// How many jobs a workflow may have.
const JOBS: usize = 500;
/// How many steps a file may have.
const STEPS: usize = 5_000;
/// How many bytes of text all parts of a file may have, aliases expanded.
const BYTES: usize = 8 << 20;

/// Aliases make more of a file than is reasonable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("has more than {JOBS} jobs, {STEPS} steps or {BYTES} bytes when its aliases are followed")]
pub struct TooLarge;

/// A text and where it stands.
#[derive(Debug, Clone)]
pub struct Text {
    /// As YAML reads it.
    pub text: String,
    /// Where it begins.
    pub at: Mark,
    /// Where each of its lines begins.
    lines: Vec<Mark>,
}

impl Text {
    /// Where the character at a line and column, both from 0, stands in the file.
    #[must_use]
    pub fn inside(&self, line: usize, column: usize) -> Mark {
        match self.lines.get(line) {
            Some(mark) => Mark { column: mark.column.saturating_add(u32::try_from(column).unwrap_or(0)), ..*mark },
            None => self.at,
        }
    }
}

/// A name and its value.
pub type Pair = (Text, Text);

/// What a file is.
#[derive(Debug)]
pub enum File {
    /// Has triggers and jobs.
    Workflow(Workflow),
    /// `action.yml`.
    Action(Action),
    /// Any other YAML.
    Other,
}

/// A workflow.
#[derive(Debug)]
pub struct Workflow {
    /// The events that start it.
    pub triggers: Vec<Trigger>,
    /// Variables of all jobs.
    pub env: Vec<Pair>,
    /// The shell of scripts that name none.
    pub shell: Option<String>,
    /// In the order of the file.
    pub jobs: Vec<Job>,
}

/// An event that starts a workflow.
#[derive(Debug)]
pub struct Trigger {
    /// As `push`.
    pub event: String,
    /// Whether it is for branches, and not for tags alone.
    pub branches: bool,
}

/// A job.
#[derive(Debug)]
pub struct Job {
    /// Its key under `jobs`.
    pub id: Text,
    /// The jobs that it waits for.
    pub needs: Vec<Text>,
    /// Its `if`.
    pub condition: Option<String>,
    /// The labels of its runner.
    pub runs_on: Vec<String>,
    /// Its variables.
    pub env: Vec<Pair>,
    /// Its outputs.
    pub outputs: Vec<Pair>,
    /// The shell of scripts that name none.
    pub shell: Option<String>,
    /// Where its scripts run that name no place.
    pub working_directory: Option<String>,
    /// How many of it run: the product of its matrix' lists, 1 where the matrix is computed.
    pub instances: usize,
    /// Names of the matrix, each with its values where they are written down.
    pub matrix: Vec<(String, Vec<String>)>,
    /// A workflow that is called in its place.
    pub uses: Option<Text>,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it begins.
    pub at: Mark,
    /// Its `id`.
    pub id: Option<String>,
    /// Its `if`.
    pub condition: Option<String>,
    /// The action that it runs.
    pub uses: Option<Text>,
    /// The inputs of that action.
    pub with: Vec<Pair>,
    /// The script that it runs.
    pub run: Option<Text>,
    /// The script's shell.
    pub shell: Option<String>,
    /// Its variables.
    pub env: Vec<Pair>,
    /// Where the script runs.
    pub working_directory: Option<String>,
    /// `continue-on-error`, where it is not false.
    pub continue_on_error: Option<Text>,
}

impl Step {
    /// An input of its action.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Text> {
        self.with.iter().find(|(key, _)| key.text.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A composite action; another action has no steps.
#[derive(Debug)]
pub struct Action {
    /// Its steps.
    pub steps: Vec<Step>,
}

/// Reads what a document says.
///
/// # Errors
///
/// [`TooLarge`] when its aliases make too much of it.
pub fn read(document: &Document<'_>) -> Result<File, TooLarge> {
    let reader = Reader { bytes: Cell::new(0), steps: Cell::new(0), over: Cell::new(false) };
    let root = document.root();
    let file = if let (Some(on), Some(jobs)) = (root.get("on"), root.get("jobs").filter(At::is_mapping)) {
        File::Workflow(reader.workflow(root, on, jobs))
    } else if let Some(runs) = root.get("runs").filter(|runs| runs.get("using").is_some()) {
        File::Action(Action { steps: reader.steps(runs.get("steps")) })
    } else {
        File::Other
    };
    if reader.over.get() { Err(TooLarge) } else { Ok(file) }
}

struct Reader {
    bytes: Cell<usize>,
    steps: Cell<usize>,
    over: Cell<bool>,
}

impl Reader {
    fn workflow(&self, root: At<'_>, on: At<'_>, jobs: At<'_>) -> Workflow {
        let pairs = jobs.pairs();
        if pairs.len() > JOBS {
            self.over.set(true);
        }
        Workflow {
            triggers: self.triggers(on),
            env: self.pairs(root.get("env")),
            shell: self.default(root, "shell"),
            jobs: pairs.iter().take(JOBS).filter_map(|(id, job)| self.job(*id, *job)).collect(),
        }
    }

    fn triggers(&self, on: At<'_>) -> Vec<Trigger> {
        let named = |at: At<'_>| self.string(at).map(|event| Trigger { event, branches: true });
        let mut triggers: Vec<Trigger> = named(on).into_iter().chain(on.items().filter_map(named)).collect();
        for (event, filter) in on.pairs() {
            let tags = filter.get("tags").is_some() || filter.get("tags-ignore").is_some();
            let branches = !tags || filter.get("branches").is_some() || filter.get("branches-ignore").is_some();
            triggers.extend(self.string(event).map(|event| Trigger { event, branches }));
        }
        triggers
    }

    fn job(&self, id: At<'_>, job: At<'_>) -> Option<Job> {
        let matrix = job.get("strategy").and_then(|strategy| strategy.get("matrix"));
        let matrix = matrix.map(|matrix| self.matrix(matrix)).unwrap_or_default();
        let lists = matrix.iter().filter(|(name, _)| name != "include" && name != "exclude");
        let product = lists.map(|(_, values)| values.len().max(1)).fold(1_usize, usize::saturating_mul);
        Some(Job {
            id: self.text(id)?,
            needs: job.get("needs").map(|needs| self.texts(needs)).unwrap_or_default(),
            condition: job.get("if").and_then(|at| self.string(at)),
            runs_on: self.labels(job.get("runs-on")),
            env: self.pairs(job.get("env")),
            outputs: self.pairs(job.get("outputs")),
            shell: self.default(job, "shell"),
            working_directory: self.default(job, "working-directory"),
            // GitHub runs no more than this many of one job.
            instances: product.min(256),
            matrix,
            uses: job.get("uses").and_then(|at| self.text(at)),
            steps: self.steps(job.get("steps")),
        })
    }

    fn matrix(&self, matrix: At<'_>) -> Vec<(String, Vec<String>)> {
        let values = |at: At<'_>| at.items().take(256).map(|item| self.string(item).unwrap_or_default()).collect();
        matrix.pairs().into_iter().filter_map(|(name, list)| Some((self.string(name)?, values(list)))).collect()
    }

    fn labels(&self, runs_on: Option<At<'_>>) -> Vec<String> {
        let Some(at) = runs_on else { return Vec::new() };
        let strings = |at: At<'_>| self.texts(at).into_iter().map(|text| text.text).collect::<Vec<_>>();
        let mut labels = strings(at);
        labels.extend(at.get("labels").map(strings).unwrap_or_default());
        // A group's runners are machines that people own, or larger ones that they rent; its name may tell.
        labels.extend(at.get("group").map(strings).unwrap_or_default());
        labels
    }

    fn steps(&self, steps: Option<At<'_>>) -> Vec<Step> {
        let Some(steps) = steps else { return Vec::new() };
        let mut read = Vec::new();
        for step in steps.items() {
            if self.steps.replace(self.steps.get() + 1) >= STEPS || self.over.get() {
                self.over.set(true);
                break;
            }
            read.push(self.step(step));
        }
        read
    }

    fn step(&self, step: At<'_>) -> Step {
        let string = |name: &str| step.get(name).and_then(|at| self.string(at));
        let goes_on = step.get("continue-on-error").and_then(|at| self.text(at));
        Step {
            at: step.mark(),
            id: string("id"),
            condition: string("if"),
            uses: step.get("uses").and_then(|at| self.text(at)),
            with: self.pairs(step.get("with")),
            run: step.get("run").and_then(|at| self.text(at)),
            shell: string("shell"),
            env: self.pairs(step.get("env")),
            working_directory: string("working-directory"),
            continue_on_error: goes_on.filter(|text| text.text != "false"),
        }
    }

    fn default(&self, of: At<'_>, name: &str) -> Option<String> {
        of.get("defaults")?.get("run")?.get(name).and_then(|at| self.string(at))
    }

    fn pairs(&self, mapping: Option<At<'_>>) -> Vec<Pair> {
        let Some(mapping) = mapping else { return Vec::new() };
        let mut read = Vec::new();
        for (name, value) in mapping.pairs() {
            if self.over.get() {
                break;
            }
            if let (Some(name), Some(value)) = (self.text(name), self.text(value)) {
                read.push((name, value));
            }
        }
        read
    }

    /// A text, or each text of a list.
    fn texts(&self, at: At<'_>) -> Vec<Text> {
        self.text(at).into_iter().chain(at.items().take(JOBS).filter_map(|item| self.text(item))).collect()
    }

    fn string(&self, at: At<'_>) -> Option<String> {
        let text = at.text()?;
        self.count(text).then(|| text.to_owned())
    }

    fn text(&self, at: At<'_>) -> Option<Text> {
        let text = at.text()?;
        if !self.count(text) {
            return None;
        }
        let lines = at.line_marks();
        Some(Text { text: text.to_owned(), at: at.mark(), lines })
    }

    /// Whether there is room for one more text.
    fn count(&self, text: &str) -> bool {
        let bytes = self.bytes.get().saturating_add(text.len() + 16);
        self.bytes.set(bytes);
        if bytes > BYTES {
            self.over.set(true);
        }
        bytes <= BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn workflow(text: &str) -> Workflow {
        match read(&yaml::parse(text).unwrap()).unwrap() {
            File::Workflow(workflow) => workflow,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_workflow_is_read_with_all_its_shapes() {
        let read = workflow(
            "on: [push, {x: y}]\nenv: {A: 1, B: [no]}\nunknown: {}\njobs:\n  a:\n    needs: b\n    runs-on: {group: g, labels: [self-hosted]}\n    \
             strategy: {matrix: {os: [x, y], v: [1, 2, 3], include: [{os: z}]}}\n    steps:\n      - run: |\n          one\n          two\n        \
             continue-on-error: true\n      - 7\n      - uses: a/b@v1\n        with: {K: v}\n  b: nonsense\n",
        );
        assert_eq!(read.triggers.len(), 1);
        assert_eq!(read.env.len(), 1);
        let job = &read.jobs[0];
        assert_eq!((job.needs[0].text.as_str(), job.instances), ("b", 6));
        assert_eq!(job.runs_on, ["self-hosted", "g"]);
        assert_eq!(job.steps.len(), 3);
        assert_eq!(job.steps[0].run.as_ref().unwrap().inside(1, 1), Mark { line: 12, column: 12 });
        assert_eq!(job.steps[2].input("k").unwrap().text, "v");
        assert!(read.jobs[1].steps.is_empty());
    }

    #[test]
    fn triggers_know_tags_from_branches() {
        let read = workflow("on:\n  push: {tags: ['v*']}\n  pull_request:\njobs: {}\n");
        let seen: Vec<_> = read.triggers.iter().map(|t| (t.event.as_str(), t.branches)).collect();
        assert_eq!(seen, [("push", false), ("pull_request", true)]);
    }

    #[test]
    fn other_files_are_other() {
        for text in ["", "a: 1", "[1]", "jobs: {}", "on: push\njobs: [1]", "services: {web: {image: x}}"] {
            assert!(matches!(read(&yaml::parse(text).unwrap()), Ok(File::Other)), "{text}");
        }
    }

    #[test]
    fn aliases_do_not_make_mountains() {
        let step = "s: &s {run: \"x\"}\nl: &l [".to_owned() + &"*s,".repeat(1000) + "]\non: push\njobs:\n";
        let jobs: String = (0..100).map(|n| format!("  j{n}: {{steps: *l}}\n")).collect();
        assert_eq!(read(&yaml::parse(&(step + &jobs)).unwrap()).unwrap_err(), TooLarge);
        let long = format!(
            "s: &s {{run: \"{}\"}}\non: push\njobs: {{a: {{steps: [{}]}}}}",
            "x".repeat(9000),
            "*s,".repeat(2000)
        );
        assert_eq!(read(&yaml::parse(&long).unwrap()).unwrap_err(), TooLarge);
    }
}
