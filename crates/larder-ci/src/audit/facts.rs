//! What the jobs of a workflow do to builds, worked out once for all rules.

pub(crate) mod caches;
pub(crate) mod cargo;
pub(crate) mod checkouts;
mod environment;
pub(crate) mod keys;

use super::Repository;
use crate::shell::{self, Script};
use crate::workflow::{self, Action, File, Job, Step, Text, Trigger, Workflow};
use crate::yaml::{self, Mark};
use caches::Cache;
use cargo::Cargo;
use checkouts::Checkout;
use environment::Environment;
use std::collections::HashMap;
use std::rc::Rc;

/// How deep composite actions that use composite actions are followed; GitHub's own limit.
const DEPTH: usize = 10;
/// How many steps all jobs may have when composite actions are put where they are used.
const STEPS: usize = 20_000;

/// Conditions that are longer, in bytes, are not kept for each step.
const LONGEST_CONDITION: usize = 2_000;

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// A machine that is thrown away after the job.
    Hosted,
    /// A machine that people own: its disk outlives the job, and other jobs use it at the same time.
    SelfHosted,
    /// A label that could be either, or a composite action.
    Unknown,
}

/// A workflow, or a composite action as if it were a workflow of one job.
pub(crate) struct Facts<'a> {
    /// What findings call the file.
    pub(crate) name: &'a str,
    pub(crate) triggers: &'a [Trigger],
    pub(crate) is_action: bool,
    pub(crate) jobs: Vec<JobFacts>,
    pub(crate) repository: &'a dyn Repository,
    actions: Actions,
}

pub(crate) struct JobFacts {
    pub(crate) id: String,
    pub(crate) at: Mark,
    pub(crate) needs: Vec<String>,
    pub(crate) outputs: Vec<(String, Text)>,
    pub(crate) condition: Option<String>,
    /// Whether it calls another workflow.
    pub(crate) calls: bool,
    pub(crate) instances: usize,
    pub(crate) runner: Runner,
    pub(crate) environment: Environment,
    pub(crate) steps: Vec<StepFacts>,
}

/// A step and its script, which jobs that use one composite action share.
pub(crate) struct Read {
    pub(crate) step: Step,
    pub(crate) script: Script,
}

pub(crate) struct StepFacts {
    /// The file that it stands in.
    pub(crate) file: Rc<str>,
    /// The step of the workflow that it belongs to.
    pub(crate) in_job: Mark,
    /// Its `if`, and those of the steps that use its composite action.
    pub(crate) conditions: Vec<String>,
    pub(crate) read: Rc<Read>,
    pub(crate) uses: Option<Uses>,
    pub(crate) caches: Vec<Cache>,
    pub(crate) checkouts: Vec<Checkout>,
    pub(crate) cargo: Vec<Cargo>,
}

/// An action that a step runs.
#[derive(Debug, Clone)]
pub(crate) struct Uses {
    /// Without the reference, in lower case.
    pub(crate) name: String,
    pub(crate) reference: Option<String>,
    pub(crate) at: Mark,
}

/// Actions that build nothing and set no variable that a build or a script of somebody would read.
const KNOWN: &[&str] = &[
    "actions/",
    "docker/",
    "github/codeql-action/",
    "dtolnay/rust-toolchain",
    "actions-rs/toolchain",
    "swatinem/rust-cache",
    "taiki-e/install-action",
    "mozilla-actions/sccache-action",
    "codecov/codecov-action",
    "step-security/harden-runner",
    "rui314/setup-mold",
    "crate-ci/typos",
    "embarkstudios/cargo-deny-action",
];

impl Uses {
    fn of(text: &Text) -> Self {
        let (name, reference) = match text.text.trim().split_once('@') {
            Some((name, reference)) => (name, Some(reference.to_owned())),
            None => (text.text.trim(), None),
        };
        Self { name: name.to_lowercase(), reference, at: text.at }
    }

    /// Whether the action stands in a repository, this one or another.
    pub(crate) fn is_local(&self) -> bool {
        self.name.starts_with("./")
    }

    /// Whether nobody here knows what it does.
    pub(crate) fn is_opaque(&self) -> bool {
        !KNOWN.iter().any(|known| self.name.starts_with(known)) && !is_larder(&self.name)
    }
}

/// Whether an action is larder's own.
pub(crate) fn is_larder(name: &str) -> bool {
    name.ends_with("/larder/action") || name == "./action" || name.ends_with("/larder-action")
}

impl StepFacts {
    pub(crate) fn step(&self) -> &Step {
        &self.read.step
    }

    pub(crate) fn script(&self) -> &Script {
        &self.read.script
    }

    /// Where a command of its script stands.
    pub(crate) fn place(&self, line: usize, column: usize) -> Mark {
        self.step().run.as_ref().map_or(self.step().at, |run| run.inside(line, column))
    }

    /// Where a command of its script stands.
    pub(crate) fn place_of(&self, command: &shell::Command) -> Mark {
        self.place(command.line, command.column)
    }
}

impl JobFacts {
    /// Whether cargo compiles something in it.
    pub(crate) fn compiles(&self) -> bool {
        self.steps.iter().any(|step| step.cargo.iter().any(|cargo| cargo.compiles))
    }

    /// Its caches, with the step of each.
    pub(crate) fn caches(&self) -> impl Iterator<Item = (&StepFacts, &Cache)> {
        self.steps.iter().flat_map(|step| step.caches.iter().map(move |cache| (step, cache)))
    }

    /// Commands of its scripts, with the step of each.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&StepFacts, usize, &shell::Command)> {
        self.steps
            .iter()
            .flat_map(|step| step.script().commands.iter().enumerate().map(move |(at, command)| (step, at, command)))
    }

    /// Whether other jobs use its disk, as far as one knows.
    pub(crate) fn shares_disk(&self) -> bool {
        self.runner != Runner::Hosted
    }
}

impl<'a> Facts<'a> {
    pub(crate) fn of_workflow(name: &'a str, workflow: &'a Workflow, repository: &'a dyn Repository) -> Self {
        let mut actions = Actions { known: HashMap::new(), texts: Vec::new(), left: STEPS };
        let mut jobs = Vec::new();
        for job in &workflow.jobs {
            let reads = job.steps.iter().map(|step| read(step, job.shell.as_deref().or(workflow.shell.as_deref())));
            let reads: Vec<_> = reads.map(Rc::new).collect();
            jobs.push(JobFacts {
                id: job.id.text.clone(),
                at: job.id.at,
                needs: job.needs.iter().map(|need| need.text.clone()).collect(),
                outputs: job.outputs.iter().map(|(name, value)| (name.text.clone(), value.clone())).collect(),
                condition: job.condition.clone(),
                calls: job.uses.is_some(),
                instances: job.instances,
                runner: runner(job),
                environment: Environment::of(&[&workflow.env, &job.env]),
                steps: actions.flatten(name, &reads, repository),
            });
            let directory = job.working_directory.as_deref();
            work_out(jobs.last_mut().expect("it was just added"), directory);
        }
        Self { name, triggers: &workflow.triggers, is_action: false, jobs, repository, actions }
    }

    pub(crate) fn of_action(name: &'a str, action: &'a Action, repository: &'a dyn Repository) -> Self {
        let mut actions = Actions { known: HashMap::new(), texts: Vec::new(), left: STEPS };
        let reads: Vec<_> = action.steps.iter().map(|step| Rc::new(read(step, None))).collect();
        let mut job = JobFacts {
            id: "action".to_owned(),
            at: Mark::START,
            needs: Vec::new(),
            outputs: Vec::new(),
            condition: None,
            calls: false,
            instances: 1,
            runner: Runner::Unknown,
            environment: Environment::of(&[]),
            steps: actions.flatten(name, &reads, repository),
        };
        work_out(&mut job, None);
        Self { name, triggers: &[], is_action: true, jobs: vec![job], repository, actions }
    }

    /// The text of a composite action that was read, by what findings call it.
    pub(crate) fn action_text(&self, file: &str) -> Option<&str> {
        self.actions.texts.iter().find(|(name, _)| **name == *file).map(|(_, text)| text.as_str())
    }

    /// Where a finding about a step as a part of its job belongs: in the workflow itself.
    pub(crate) fn place(&self, step: &StepFacts, at: Mark) -> (&str, Mark) {
        if *step.file == *self.name { (self.name, at) } else { (self.name, step.in_job) }
    }

    pub(crate) fn job(&self, id: &str) -> Option<&JobFacts> {
        self.jobs.iter().find(|job| job.id == id)
    }

    pub(crate) fn is_triggered_by(&self, event: &str) -> bool {
        self.triggers.iter().any(|trigger| trigger.event == event)
    }

    /// Whether it runs for commits, and not only for releases, by the clock or by hand.
    pub(crate) fn runs_often(&self) -> bool {
        self.is_action
            || self.triggers.iter().any(|trigger| {
                trigger.branches
                    && matches!(&*trigger.event, "push" | "pull_request" | "pull_request_target" | "merge_group")
            })
    }
}

fn work_out(job: &mut JobFacts, directory: Option<&str>) {
    for step in &job.steps {
        job.environment.learn(&step.read);
    }
    for step in &mut job.steps {
        step.caches = caches::of(&step.read, step.uses.as_ref(), &job.environment);
        step.checkouts = checkouts::of(&step.read, step.uses.as_ref());
        step.cargo = cargo::of(&step.read, directory, &job.environment);
    }
}

fn read(step: &Step, shell: Option<&str>) -> Read {
    let shell = step.shell.as_deref().or(shell).unwrap_or("bash");
    let program = shell::base_name(shell.split_whitespace().next().unwrap_or("bash"));
    let is_shell = matches!(program, "bash" | "sh" | "dash" | "zsh" | "larder");
    let script = match &step.run {
        Some(run) if is_shell => shell::parse(&run.text),
        _ => Script::default(),
    };
    Read { step: step.clone(), script }
}

/// Labels of machines that are rented for one job, by their beginning.
const RENTED: &[&str] = &[
    "ubuntu-",
    "windows-",
    "macos-",
    "buildjet-",
    "blacksmith-",
    "depot-",
    "namespace-",
    "nscloud-",
    "warp-",
    "runs-on",
];

fn runner(job: &Job) -> Runner {
    let mut labels: Vec<&str> = job.runs_on.iter().map(String::as_str).collect();
    // `${{ matrix.os }}` is what the matrix says.
    for label in &job.runs_on {
        let name = label.strip_prefix("${{").and_then(|rest| rest.trim().strip_prefix("matrix."));
        let name = name.map(|rest| rest.trim_end_matches("}}").trim());
        let values = job.matrix.iter().find(|(key, _)| Some(key.as_str()) == name);
        labels.extend(values.iter().flat_map(|(_, values)| values.iter().map(String::as_str)));
    }
    if labels.iter().any(|label| label.eq_ignore_ascii_case("self-hosted")) {
        Runner::SelfHosted
    } else if labels.iter().any(|label| RENTED.iter().any(|begin| label.starts_with(begin))) {
        Runner::Hosted
    } else {
        Runner::Unknown
    }
}

/// A step of a workflow, or of a composite action, that uses a composite action.
struct Caller {
    at: Mark,
    conditions: Vec<String>,
    depth: usize,
}

/// Local composite actions, each read once.
struct Actions {
    known: HashMap<String, Option<Rc<Composite>>>,
    texts: Vec<(Rc<str>, String)>,
    /// How many more steps there may be.
    left: usize,
}

struct Composite {
    file: Rc<str>,
    steps: Vec<Rc<Read>>,
}

impl Actions {
    /// The steps of a job, with those of local composite actions in the place of what uses them.
    fn flatten(&mut self, file: &str, steps: &[Rc<Read>], repository: &dyn Repository) -> Vec<StepFacts> {
        let mut flat = Vec::new();
        let file = Rc::from(file);
        for step in steps {
            self.add(
                &mut flat,
                &file,
                step,
                &Caller { at: step.step.at, conditions: Vec::new(), depth: 0 },
                repository,
            );
        }
        flat
    }

    fn add(
        &mut self,
        flat: &mut Vec<StepFacts>,
        file: &Rc<str>,
        read: &Rc<Read>,
        caller: &Caller,
        repository: &dyn Repository,
    ) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let uses = read.step.uses.as_ref().map(Uses::of);
        let mut conditions = caller.conditions.clone();
        conditions.extend(read.step.condition.iter().filter(|condition| condition.len() < LONGEST_CONDITION).cloned());
        if let Some(text) = read.step.uses.as_ref().filter(|text| text.text.starts_with("./"))
            && caller.depth < DEPTH
            && let Some(composite) = self.composite(&text.text, repository)
        {
            let caller = Caller { at: caller.at, conditions, depth: caller.depth + 1 };
            for step in &composite.steps {
                self.add(flat, &composite.file, step, &caller, repository);
            }
            return;
        }
        flat.push(StepFacts {
            file: Rc::clone(file),
            in_job: caller.at,
            conditions,
            read: Rc::clone(read),
            uses,
            caches: Vec::new(),
            checkouts: Vec::new(),
            cargo: Vec::new(),
        });
    }

    fn composite(&mut self, uses: &str, repository: &dyn Repository) -> Option<Rc<Composite>> {
        if let Some(known) = self.known.get(uses) {
            return known.clone();
        }
        let composite = self.open(uses, repository);
        self.known.insert(uses.to_owned(), composite.clone());
        composite
    }

    fn open(&mut self, uses: &str, repository: &dyn Repository) -> Option<Rc<Composite>> {
        let folder = uses.strip_prefix("./")?.trim_end_matches('/');
        let names = ["action.yml", "action.yaml"];
        let opened = names.iter().find_map(|name| repository.read(&format!("{folder}/{name}")))?;
        let File::Action(action) = workflow::read(&yaml::parse(&opened.text).ok()?).ok()? else { return None };
        // Another kind of action has no steps: nobody knows what it does.
        if action.steps.is_empty() {
            return None;
        }
        let steps = action.steps.iter().map(|step| Rc::new(self::read(step, None))).collect();
        let file: Rc<str> = Rc::from(opened.name.as_str());
        self.texts.push((Rc::clone(&file), opened.text));
        Some(Rc::new(Composite { file, steps }))
    }
}
