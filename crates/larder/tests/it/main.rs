//! The binary as its users run it.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod action;
mod audit;
mod bench;
mod bumps;
mod canonical;
mod cargo_builds;
mod cargo_home;
mod cli;
mod contract;
mod debugging;
mod file_systems;
mod freshness;
mod gc;
mod graft;
mod guard;
mod help;
mod holdings;
mod init;
mod install_runner;
mod overlay;
mod repair;
mod report;
mod run;
mod schemas;
mod setup;
mod stress;
mod summary;
mod support;
mod trust;
mod unseen;
mod writers;
