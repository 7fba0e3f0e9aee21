//! Scenarios of real CI, each judged by cargo itself: never stale, never a unit too many, never one too few.
//!
//! A scenario is data: repositories, a command, and steps. A step changes what the repositories truly hold, makes a
//! fresh checkout of that at the same path (all files new, all times now, no target directory), and runs
//! `larder run --workspace app -- cargo …`. `judge` says what must come of it, `cargo` how that is known.
//!
//! | `LARDER_SCENARIOS` | runs each scenario |
//! |---|---|
//! | `own`, or not set | with its own command, in cargo's default layout of the target directory |
//! | `undisturbed` | the same, and holds the units that are expected against a cargo that nobody disturbs |
//! | `full` | with build, test, clippy and doc, in the default layout and the next one, held against that cargo too |
//!
//! For example `LARDER_SCENARIOS=full cargo test -p larder --test scenarios -- inputs::`.
//!
//! # What cargo itself does not see
//!
//! larder never tells cargo what is fresh, so it cannot be better than a cargo that judges rightly by all the times it
//! is shown. These exceptions are cargo's own; the scenario that shows each one says so by its data.
//!
//! | exception | what it means | shown by |
//! |---|---|---|
//! | a file that only a macro or a script knows of, outside of every package | its change is seen by nobody, unless `inputs` in larder.toml names it | `inputs::unseen_outside_of_everything` |
//! | `rerun-if-changed` of a file that is not there | the script runs every time | `scripts::missing` |
//! | a file outside of the package that only documentation reads | `cargo doc` goes on with what it made before, even where the file is gone | `inputs::include_str_outside_of_the_package` |
//! | a page of an item that is no more | rustdoc leaves it | `sources::edit_of_documentation`; pages are compared with those from nothing, and there may be more |
//!
//! Where larder must make cargo build more, or can make it build less, than it would in a checkout that stays, the
//! step says so, and why: `more`, `fewer`.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod cargo;
mod checkouts;
mod content;
mod endings;
mod inputs;
mod judge;
mod projects;
mod scripts;
mod settings;
mod siblings;
mod sources;
mod step;
mod unseen;
mod world;

/// Makes a test of every scenario.
macro_rules! scenarios {
    ($($(#[$about:meta])* $name:ident => $scenario:expr;)*) => {
        $($(#[$about])* #[test] fn $name() {
            crate::judge::judge(concat!(module_path!(), "::", stringify!($name)), &$scenario);
        })*
    };
}
pub(crate) use scenarios;
