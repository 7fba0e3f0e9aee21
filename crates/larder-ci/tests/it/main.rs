//! The audit on whole files.

mod corpus;
mod documentation;
mod faults;
mod patch;
mod robustness;
mod support;
