//! What larder knows about cargo, and nothing else: this room changes when cargo changes.
//!
//! **Architecture invariant:** this crate does no input or output. It never opens a file, reads a variable or starts
//! a process; it is handed the three doors [`Read`], [`Env`] and [`Run`] and says what it thinks of what came through
//! them. It knows nothing of stores, links or users: it says what a file *is* ([`FileClass`]), never what to do with
//! it. Nothing here depends on another room of larder.
//!
//! Every rule names its source: "measured" means by a test of this crate against a real cargo, or by the experiments
//! written down beside the rule.
//!
//! | module | its one idea |
//! |---|---|
//! | [`layout`] | where cargo puts things: both layouts of a target directory behind one parser |
//! | [`class`] | how a file is rewritten, and so whether its inode may be shared |
//! | [`mod@unit`] | what must go together when a file is lost |
//! | [`compiler`] | which program `rustc` is, and what decides which compiler answers |
//! | [`config`] | cargo's configuration files, read but not interpreted |
//! | [`linker`] | whether the linker replaces its output or writes into it |
//! | [`manifest`] | which other directories a manifest names: where the sources of a build are |
//! | [`neighbours`] | which folders outside a repository a build of it needs |
//! | [`freshness`] | what must be touched so that cargo sees what changed |
//! | [`workspace`] | where root, target, build directory and lock file are |
//! | [`home`] | what of CARGO_HOME a build without a network needs |
//! | [`key`] | what a snapshot of a target directory must and should have in common with a build |
//! | [`canonical`] | the names of directories that are the same on every machine |
//! | [`table`] | what each unit was made from, what it needs and what it cost |
//! | [`outer`] | which variables come from the cargo that started larder |
//! | [`words`] | a command's words, as far as cargo's command line can be understood without running it |

pub mod canonical;
pub mod class;
pub mod compiler;
pub mod config;
pub mod freshness;
pub mod home;
pub mod key;
pub mod layout;
pub mod linker;
pub mod manifest;
pub mod neighbours;
pub mod outer;
pub mod table;
mod text;
pub mod unit;
pub mod words;
pub mod workspace;

use std::ffi::{OsStr, OsString};
use std::path::Path;

pub use class::FileClass;
pub use layout::Layout;
pub use linker::Linker;
pub use table::{Unit, UnitTable};
pub use unit::{Location, UnitId, UnitLocator};

/// Reads a whole file; `None` when it does not exist or cannot be read.
pub type Read<'a> = &'a dyn Fn(&Path) -> Option<Vec<u8>>;

/// Looks a variable up in the environment that the command will get.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Runs a program with arguments and gives its standard output; `None` when it cannot be run or fails.
pub type Run<'a> = &'a dyn Fn(&[&OsStr]) -> Option<Vec<u8>>;
