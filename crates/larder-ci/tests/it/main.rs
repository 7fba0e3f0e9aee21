//! The audit on whole files.

mod documentation;
mod faults;
mod patch;
mod robustness;
mod support;
