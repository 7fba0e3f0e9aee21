//! Runs a scenario and judges it.
//!
//! After larder's run of every step come the oracles. *From nothing*: the same command by cargo alone, on the same
//! checkout, with an empty target directory of its own. What it makes is what must have been made: anything else is
//! stale. It is asked once for equal content, command and environment. *Undisturbed* (in the full matrix only): the same
//! steps by cargo alone in a checkout and a target directory that are never taken away. What it compiles is what larder
//! must make cargo compile, unless the step says that, and why, it must be more or less; so the sets of units that
//! stand in the scenarios are themselves judged by cargo.

use crate::cargo::{Done, Says, Units, Verb};
use crate::content::Content;
use crate::step::{Checkout, Compiles, NEAREST, Scenario, Step, Undisturbed};
use crate::world::{Layout, World};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, OnceLock};

/// What is to be run of every scenario.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Its own command, in cargo's default layout.
    Own,
    /// The same, and the oracle that is never disturbed.
    Undisturbed,
    /// Every command in both layouts, and the oracle that is never disturbed.
    Full,
}

const VARIABLE: &str = "LARDER_SCENARIOS";

fn extent() -> Extent {
    let value = std::env::var(VARIABLE).unwrap_or_default();
    let (extent, says) = match value.as_str() {
        "" | "own" => {
            (Extent::Own, "each with its own command in cargo's default layout; LARDER_SCENARIOS=full runs all")
        }
        "undisturbed" => (Extent::Undisturbed, "each with its own command, and held against an undisturbed cargo"),
        "full" => (
            Extent::Full,
            "each with build, test, clippy and doc in both layouts, and held against an undisturbed cargo",
        ),
        other => panic!("{VARIABLE} is {other:?}: say own, undisturbed or full"),
    };
    static ONCE: Once = Once::new();
    ONCE.call_once(|| say(&format!("scenarios: {says}")));
    extent
}

/// Not by the macro, whose output the test harness hides when a test passes.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Judges a scenario; panics with all that is wrong.
pub(crate) fn judge(name: &str, scenario: &Scenario) {
    let extent = extent();
    let mut faults = String::new();
    // One of several commands is a matrix of its own.
    let several = scenario.steps.iter().any(|step| step.verb.is_some());
    for layout in [Layout::Hashed, Layout::ByUnit] {
        for verb in Verb::ALL {
            let own = (layout, verb) == (Layout::Hashed, scenario.verb);
            if !own && (extent != Extent::Full || several && verb != scenario.verb) {
                continue;
            }
            if extent == Extent::Full {
                say(&format!("scenario {name}: {verb:?}, {layout:?}"));
            }
            let trial = Trial {
                scenario,
                verb,
                twin: extent != Extent::Own,
                world: World::new(layout, scenario.project.workspace),
                layout,
            };
            for fault in trial.run() {
                writeln!(faults, "== {name}: {verb:?}, {layout:?}: {fault}").unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

struct Trial<'a> {
    scenario: &'a Scenario,
    verb: Verb,
    layout: Layout,
    twin: bool,
    world: World,
}

impl Trial<'_> {
    fn run(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut content = self.scenario.project.content.clone();
        (self.scenario.project.prepare)(&self.world);
        let mut history: Vec<Content> = Vec::new();
        let mut says = self.scenario.project.says;
        for (number, step) in self.scenario.steps.iter().enumerate() {
            let before = content.clone();
            step.edits.iter().for_each(|edit| content.edit(edit, &history));
            if self.scenario.project.locked && (number == 0 || content.manifests() != before.manifests()) {
                content = self.world.lock(&content, step);
            }
            let again = history.iter().zip(&self.scenario.steps).any(|(earlier, of)| {
                *earlier == content && (of.place, of.words, &of.env) == (step.place, step.words, &step.env)
            });
            history.push(content.clone());
            says = step.says.unwrap_or(says);
            let found = self.step(step, &content, says, again);
            faults.extend(found.into_iter().map(|fault| format!("step {number}, {}:\n{fault}", step.what)));
        }
        faults.extend(self.world.verify().err().map(|damage| format!("the store is not sound: {damage}")));
        faults
    }

    /// `again` says that there was a step from the very same state.
    fn step(&self, step: &Step, content: &Content, says: &str, again: bool) -> Vec<String> {
        let verb = step.verb.unwrap_or(self.verb);
        let app = self.world.check_out(content, step);
        if step.killed {
            self.world.kill_under_larder(step, verb, &app);
            return Vec::new();
        }
        let done = self.world.under_larder(step, verb, &app);
        let said = self.world.says(&done, &app);
        let oracle = self.oracle(step, verb, content, &app);
        let mut faults = Vec::new();
        let own = self.verb == self.scenario.verb || step.verb.is_some();
        // What is wrong for one command may be none of another's business: what happens from nothing is right.
        let fails = if own { step.fails } else { !oracle.done.succeeded };
        let blind = step.blind.filter(|(of, _)| *of == verb).map(|(_, why)| why);
        if done.succeeded == (fails && blind.is_none()) || oracle.done.succeeded == fails {
            let text =
                |done: &Done| if done.succeeded { "succeeded".to_owned() } else { format!("failed:\n{}", done.talk) };
            let blind = blind.map(|why| format!("\nit was to see nothing: {why}")).unwrap_or_default();
            faults.push(format!("under larder it {}\nfrom nothing it {}{blind}", text(&done), text(&oracle.done)));
        }
        if blind.is_none() {
            faults.extend(compare(step, own, &said, &oracle.says));
        }
        if own && !fails && !said.values().any(|text| text.contains(says)) {
            faults.push(format!("nothing says {says:?}: {said:?}"));
        }
        if fails {
            self.undisturbed(step, verb, content);
            return faults;
        }
        let expected = match step.compiles {
            Compiles::All => oracle.done.compiled.clone(),
            Compiles::These(units) => units.iter().map(|unit| (*unit).to_owned()).collect(),
        };
        if own {
            faults.extend(differ("under larder", &done, &expected, "the scenario says"));
        }
        if let Some(cargo) = self.undisturbed(step, verb, content) {
            let compiled = if own { &expected } else { &done.compiled };
            // Going back may cost a command more than that of the scenario, as clippy has one unit for all profiles.
            let how = match step.undisturbed {
                Undisturbed::Same if !own && again => Undisturbed::Fewer(NEAREST),
                how => how,
            };
            if !relates(how, compiled, &cargo.compiled) {
                let who = if own { "the scenario" } else { "under larder" };
                let both = format!("{who}: {compiled:?}\nundisturbed: {:?}", cargo.compiled);
                faults.push(format!("not as undisturbed, {how}:\n{both}\n{}", done.talk));
            }
        }
        faults
    }

    fn oracle(&self, step: &Step, verb: Verb, content: &Content, app: &Path) -> Arc<Oracle> {
        let question = Question {
            content: content.clone(),
            verb,
            layout: self.layout,
            words: step.words,
            env: step.env.clone(),
            // What is at a certain path may say so; then only the same sandbox has the same answer.
            place: app.to_path_buf(),
        };
        let cell = ORACLES.lock().unwrap().get_or_insert_default().entry(question).or_default().clone();
        let ask = || {
            let done = self.world.plain(step, verb, app, &self.world.new_path("oracle"));
            let says = self.world.says(&done, app);
            Arc::new(Oracle { done, says })
        };
        cell.get_or_init(ask).clone()
    }

    /// What cargo does where nobody disturbs it.
    fn undisturbed(&self, step: &Step, verb: Verb, content: &Content) -> Option<Done> {
        if !self.twin {
            return None;
        }
        let there = self.world.root.join("undisturbed").exists();
        let checkout = if there { Checkout::Kept } else { Checkout::Fresh };
        let step = Step { place: "undisturbed", checkout, dating: Vec::new(), ..step.clone() };
        let app = self.world.check_out(content, &step);
        let target = self.world.root.join("undisturbed-target");
        Some(self.world.plain(&step, verb, &app, &target))
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Question {
    content: Content,
    verb: Verb,
    layout: Layout,
    words: &'static [&'static str],
    env: Vec<(&'static str, &'static str)>,
    place: PathBuf,
}

struct Oracle {
    done: Done,
    says: Says,
}

/// Whoever asks the same at the same time waits for the one answer.
type Answer = Arc<OnceLock<Arc<Oracle>>>;

static ORACLES: Mutex<Option<HashMap<Question, Answer>>> = Mutex::new(None);

fn relates(how: Undisturbed, here: &Units, there: &Units) -> bool {
    match how {
        Undisturbed::Same => here == there,
        Undisturbed::More(_) => here.is_superset(there),
        Undisturbed::Fewer(_) => here.is_subset(there),
    }
}

fn differ(who: &str, done: &Done, expected: &Units, says: &str) -> Option<String> {
    if done.compiled == *expected {
        return None;
    }
    let list = |from: &Units, less: &Units| from.difference(less).cloned().collect::<Vec<_>>().join(", ");
    let (many, few) = (list(&done.compiled, expected), list(expected, &done.compiled));
    let wanted = expected.iter().cloned().collect::<Vec<_>>().join(", ");
    Some(format!("{who} too many: [{many}], too few: [{few}]; {says} [{wanted}]\n{}", done.talk))
}

fn compare(step: &Step, own: bool, said: &Says, right: &Says) -> Option<String> {
    // rustdoc leaves pages of what is no more: more pages than from nothing are cargo's own way.
    let more = said.keys().filter(|name| !right.contains_key(*name) && !name.ends_with(".html"));
    let other = right.iter().filter(|(name, text)| said.get(*name) != Some(text)).map(|(name, _)| name);
    let names: Vec<&String> = more.chain(other).collect();
    // Another command may make nothing that shows it.
    if names.is_empty() == step.stale.is_none() || !own && step.stale.is_some() {
        return None;
    }
    if let Some(why) = step.stale {
        return Some(format!("nothing is stale, though it was said to be: {why}"));
    }
    let show =
        |says: &Says, name: &String| says.get(name).map_or("nothing".to_owned(), |t| t.chars().take(300).collect());
    let lines =
        names.iter().map(|name| format!("{name} says {:?}, from nothing {:?}", show(said, name), show(right, name)));
    Some(format!("STALE: {}", lines.collect::<Vec<_>>().join("\n")))
}
