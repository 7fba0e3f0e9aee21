//! Scenarios as data.

use crate::cargo::Verb;
use crate::content::{Content, Edit};
use crate::world::World;
use std::fmt;

/// A name, repositories, a command, and what happens to them one after the other.
pub(crate) struct Scenario {
    pub(crate) project: Project,
    pub(crate) verb: Verb,
    /// The first one builds from nothing.
    pub(crate) steps: Vec<Step>,
}

/// Repositories and what their program prints.
#[derive(Clone)]
pub(crate) struct Project {
    pub(crate) content: Content,
    /// Where the workspace is.
    pub(crate) workspace: &'static str,
    /// The step that builds from nothing.
    pub(crate) first: Step,
    /// Whether its lock file is in the repository.
    pub(crate) locked: bool,
    /// What is done once, before anything is checked out.
    pub(crate) prepare: fn(&World),
    /// What `app` prints, or what a page, a warning or a test's report holds.
    pub(crate) says: &'static str,
}

/// How the next content comes to the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checkout {
    /// Everything is written anew, and there is no target directory.
    Fresh,
    /// Only what differs is written, as git does in a checkout that stays.
    Kept,
    /// The same, and the target directory is taken away.
    KeptWithoutTarget,
}

/// Which units a step must compile: these, no fewer and no others.
#[derive(Clone, Debug)]
pub(crate) enum Compiles {
    /// What a build from nothing compiles.
    All,
    These(&'static [&'static str]),
}

/// How what larder makes cargo compile relates to what cargo would in a checkout and a target directory that nobody
/// disturbed, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Undisturbed {
    /// The same units: where nothing else is said.
    Same,
    /// More units here.
    More(&'static str),
    /// Fewer units here.
    Fewer(&'static str),
}

impl fmt::Display for Undisturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("though it should be the same"),
            Self::More(why) => write!(f, "though it may be more: {why}"),
            Self::Fewer(why) => write!(f, "though it may be fewer: {why}"),
        }
    }
}

/// What is done to files of a checkout after they were written, which no repository records.
#[derive(Clone, Debug)]
pub(crate) enum Dating {
    /// Written again with the same bytes.
    Touch(&'static str),
    /// As old as files that an archive brought.
    Old(&'static str),
    /// With the time that the file had in the checkout before.
    AsBefore(&'static str),
}

/// One state of the repositories, one command, and what must come of it.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) what: &'static str,
    pub(crate) edits: Vec<Edit>,
    pub(crate) dating: Vec<Dating>,
    pub(crate) checkout: Checkout,
    /// The folder that the repositories stand in.
    pub(crate) place: &'static str,
    pub(crate) env: Vec<(&'static str, &'static str)>,
    /// More words for cargo.
    pub(crate) words: &'static [&'static str],
    /// Another command than the scenario's.
    pub(crate) verb: Option<Verb>,
    /// larder's options.
    pub(crate) options: &'static [&'static str],
    /// The clock of the machine that this step runs on is an hour ahead.
    pub(crate) ahead: bool,
    pub(crate) home_lost: bool,
    pub(crate) fails: bool,
    pub(crate) killed: bool,
    pub(crate) compiles: Compiles,
    pub(crate) says: Option<&'static str>,
    pub(crate) undisturbed: Undisturbed,
    /// Why the outputs may be stale: nobody can know of the change.
    pub(crate) stale: Option<&'static str>,
    /// The command that does not see what the step does, and why: it goes on as if nothing had happened.
    pub(crate) blind: Option<(Verb, &'static str)>,
}

/// Why what nobody names makes more dirty than cargo would.
pub(crate) const UNSEEN: &str = "no unit names the file, so whoever may have read it unseen is built anew";

/// Why going back to what was built before compiles less than where only one target directory is.
pub(crate) const NEAREST: &str = "the snapshot that was built from this is still there";

pub(crate) const NOTHING: &[&str] = &[];

/// A step from a fresh checkout that compiles nothing and says what the one before it did, unless told otherwise.
pub(crate) fn step(what: &'static str) -> Step {
    Step {
        what,
        edits: Vec::new(),
        dating: Vec::new(),
        checkout: Checkout::Fresh,
        place: "work",
        env: Vec::new(),
        words: &[],
        verb: None,
        options: &[],
        ahead: false,
        home_lost: false,
        fails: false,
        killed: false,
        compiles: Compiles::These(NOTHING),
        says: None,
        undisturbed: Undisturbed::Same,
        stale: None,
        blind: None,
    }
}

macro_rules! setters {
    ($($(#[$about:meta])* $name:ident($($argument:ident: $kind:ty),*) { $this:ident => $effect:expr })*) => {
        impl Step {
            $($(#[$about])* pub(crate) fn $name(mut self $(, $argument: $kind)*) -> Self {
                let $this = &mut self;
                $effect;
                self
            })*
        }
    };
}

setters! {
    write(path: &'static str, text: &str) { s => s.edits.push(Edit::Write(path, text.to_owned())) }
    replace(path: &'static str, from: &'static str, to: &'static str) { s => s.edits.push(Edit::Replace(path, from, to)) }
    delete(path: &'static str) { s => s.edits.push(Edit::Delete(path)) }
    rename(from: &'static str, to: &'static str) { s => s.edits.push(Edit::Rename(from, to)) }
    executable(path: &'static str) { s => s.edits.push(Edit::Executable(path)) }
    link(path: &'static str, target: &'static str) { s => s.edits.push(Edit::Link(path, target)) }
    empty_dir(path: &'static str) { s => s.edits.push(Edit::EmptyDir(path)) }
    back_to(step: usize) { s => s.edits.push(Edit::BackTo(step)) }
    touched(path: &'static str) { s => s.dating.push(Dating::Touch(path)) }
    dated_as_before(path: &'static str) { s => s.dating.push(Dating::AsBefore(path)) }
    old(path: &'static str) { s => s.dating.push(Dating::Old(path)) }
    kept() { s => s.checkout = Checkout::Kept }
    kept_without_target() { s => s.checkout = Checkout::KeptWithoutTarget }
    at(place: &'static str) { s => s.place = place }
    env(name: &'static str, value: &'static str) { s => s.env.push((name, value)) }
    words(words: &'static [&'static str]) { s => s.words = words }
    verb(verb: Verb) { s => s.verb = Some(verb) }
    options(options: &'static [&'static str]) { s => s.options = options }
    ahead() { s => s.ahead = true }
    /// With a network, as far as cargo is concerned.
    online() { s => s.env.push(("CARGO_NET_OFFLINE", "false")) }
    /// Another machine with nothing in its CARGO_HOME.
    home_lost() { s => s.home_lost = true }
    fails() { s => s.fails = true }
    /// The build is killed when its script says that it runs.
    killed() { s => (s.killed, s.fails) = (true, true) }
    all() { s => s.compiles = Compiles::All }
    compiles(units: &'static [&'static str]) { s => s.compiles = Compiles::These(units) }
    says(text: &'static str) { s => s.says = Some(text) }
    more(why: &'static str) { s => s.undisturbed = Undisturbed::More(why) }
    fewer(why: &'static str) { s => s.undisturbed = Undisturbed::Fewer(why) }
    stale(why: &'static str) { s => s.stale = Some(why) }
    blind(verb: Verb, why: &'static str) { s => s.blind = Some((verb, why)) }
}

impl Project {
    pub(crate) fn new(says: &'static str, files: &[(&str, &str)]) -> Self {
        let content = files.iter().fold(Content::default(), |content, (path, text)| content.with(path, text));
        Self { content, workspace: "app", first: step("from nothing").all(), locked: true, prepare: |_| {}, says }
    }

    pub(crate) fn with(mut self, path: &str, text: &str) -> Self {
        self.content.write(path, text);
        self
    }

    pub(crate) fn linked(mut self, path: &'static str, target: &'static str) -> Self {
        self.content.edit(&Edit::Link(path, target), &[]);
        self
    }

    pub(crate) fn moved(mut self, from: &'static str, to: &'static str) -> Self {
        self.content.edit(&Edit::Rename(from, to), &[]);
        self
    }

    /// The workspace is there instead of in `app`.
    pub(crate) fn working_in(mut self, workspace: &'static str) -> Self {
        self.workspace = workspace;
        self
    }

    pub(crate) fn executable(mut self, path: &'static str) -> Self {
        self.content.edit(&Edit::Executable(path), &[]);
        self
    }

    /// Begins with this step instead of the plain one.
    pub(crate) fn beginning(mut self, first: Step) -> Self {
        self.first = first.all();
        self
    }

    pub(crate) fn unlocked(mut self) -> Self {
        self.locked = false;
        self
    }

    pub(crate) fn prepared(mut self, prepare: fn(&World)) -> Self {
        self.prepare = prepare;
        self
    }

    pub(crate) fn without(mut self, path: &str) -> Self {
        self.content = self.content.without(path);
        self
    }

    pub(crate) fn saying(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    pub(crate) fn build<const N: usize>(self, steps: [Step; N]) -> Scenario {
        self.under(Verb::Build, steps)
    }

    pub(crate) fn test<const N: usize>(self, steps: [Step; N]) -> Scenario {
        self.under(Verb::Test, steps)
    }

    pub(crate) fn clippy<const N: usize>(self, steps: [Step; N]) -> Scenario {
        self.under(Verb::Clippy, steps)
    }

    pub(crate) fn doc<const N: usize>(self, steps: [Step; N]) -> Scenario {
        self.under(Verb::Doc, steps)
    }

    fn under<const N: usize>(self, verb: Verb, steps: [Step; N]) -> Scenario {
        let steps = [self.first.clone()].into_iter().chain(steps).collect();
        Scenario { project: self, verb, steps }
    }
}

/// A build script that tells a pipe that it runs, and to which group of processes it belongs; then it waits to be
/// killed. Without the pipe it leaves its word at once.
pub(crate) mod killed {
    /// Where it finds the pipe.
    pub(crate) const VARIABLE: &str = "SCENARIO_PIPE";

    pub(crate) const SCRIPT: &str = r#"fn main() {
    if let Some(pipe) = std::env::var_os("SCENARIO_PIPE") {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let group = stat.rsplit(')').next().unwrap().split_whitespace().nth(2).unwrap().to_owned();
        std::fs::write(&pipe, group).unwrap();
        loop {
            std::thread::park();
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=WORD={}", early::WORD);
}
"#;
}
