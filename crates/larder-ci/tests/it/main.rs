//! The audit on whole files.

mod documentation;
mod faults;
mod robustness;
mod support;
