//! Scenarios of real CI, each judged by cargo itself: never stale, never a unit too many, never one too few.
//!
//! A scenario is data: repositories, a command, and steps. A step changes what the repositories truly hold, makes a
//! fresh checkout of that at the same path (all files new, all times now, no target directory), and runs
//! `larder run --workspace app -- cargo …`. `judge` says what must come of it, `cargo` how that is known.
//!
//! `cargo test -p larder --test scenarios` runs each scenario with its own command in cargo's default layout of the
//! target directory. With `LARDER_SCENARIOS=full` in the environment each one runs with build, test, clippy and doc, in
//! the default layout and in the next one, and is also held against a cargo that nobody disturbs.
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
mod world;

/// Makes a test of every scenario.
macro_rules! scenarios {
    ($($(#[$about:meta])* $name:ident => $scenario:expr;)*) => {
        $($(#[$about])* #[test] fn $name() {
            crate::judge::judge(stringify!($name), &$scenario);
        })*
    };
}
pub(crate) use scenarios;
