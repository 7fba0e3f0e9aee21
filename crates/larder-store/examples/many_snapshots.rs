//! Makes a store of many snapshots, for measuring what counts them:
//!
//! ```sh
//! cargo run --release -p larder-store --example many_snapshots -- STORE [SNAPSHOTS [LINEAGES [FILES]]]
//! /usr/bin/time -v larder --store STORE du
//! ```
//!
//! Without numbers it has 500 snapshots of 10 lineages with 2,000 files each: a million manifest entries. The tests of
//! the census (`tests/census.rs`) use the same maker in a small form.
#![expect(clippy::disallowed_methods, reason = "it arranges its own files")]

#[path = "../tests/support/many.rs"]
mod many;

use many::{Size, make};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(path) = words.next().map(PathBuf::from) else {
        eprintln!("usage: many_snapshots STORE [SNAPSHOTS [LINEAGES [FILES]]]");
        return ExitCode::from(2);
    };
    let mut number = |default: usize| {
        words.next().and_then(|word| word.to_str()?.parse().ok()).filter(|number| *number > 0).unwrap_or(default)
    };
    let size = Size { snapshots: number(500), lineages: number(10), files: number(2000) };
    if path.exists() {
        eprintln!("{} is there already", path.display());
        return ExitCode::FAILURE;
    }
    println!("{:?}", make(&path, size));
    ExitCode::SUCCESS
}
