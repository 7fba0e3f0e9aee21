//! `larder summary`, hidden: the table for a job's page, from what its restore and its save said.

use crate::report::print;
use crate::request::UsageError;
use crate::summary::Told;
use anyhow::{Context, Result};
use std::io::Read as _;

/// Objects of larder take kilobytes; their lists of what was considered may be long.
const LONGEST: u64 = 64 << 20;

pub(super) fn run() -> Result<u8> {
    let mut text = String::new();
    std::io::stdin().take(LONGEST).read_to_string(&mut text).context("cannot read stdin")?;
    let told: Told = serde_json::from_str(&text)
        .map_err(|e| UsageError(format!("stdin: expected {{\"job\", \"restore\", \"save\"}}: {e}")))?;
    print(&told.markdown())?;
    Ok(0)
}
