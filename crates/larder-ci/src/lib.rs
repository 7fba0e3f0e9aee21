//! What larder knows about CI systems: how workflows and composite actions are written, what a step of one does to a
//! build, and which faults cost time or trust.
//!
//! Architecture invariant: this room changes when a CI system changes, and knows nothing of how things are stored. It
//! does no I/O: it is handed text, and a door ([`audit::Repository`]) to the few other files that a workflow names.
//!
//! Everything is read leniently. An unknown key, an odd value, a script that no shell would take: none of them is an
//! error here. What cannot be known is not reported.
//!
//! The exception is a plan ([`plan`]): it says what other jobs build, so all of it must be right.

pub mod address;
pub mod annotations;
pub mod audit;
pub mod hooks;
pub mod init;
pub mod outputs;
pub mod plan;
pub mod reference;
pub mod sarif;
pub mod shell;
pub mod system;
pub mod workflow;
pub mod yaml;
