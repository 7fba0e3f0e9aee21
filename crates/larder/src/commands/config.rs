//! `larder config`: every setting, its value, and where that comes from.

use super::is_json;
use crate::cli::{ConfigArgs, Global};
use crate::report::{self, Config, ConfigEntry, SCHEMA_VERSION};
use crate::request::{self, Typed};
use anyhow::Result;

pub(super) fn run(global: &Global, args: &ConfigArgs) -> Result<u8> {
    let dir = request::work_dir(args.workspace.as_deref())?;
    let settings = request::settings(global, &dir, &Typed::default())?;
    let entries: Vec<ConfigEntry> = settings
        .rows()
        .into_iter()
        .map(|(name, value, source)| ConfigEntry { name: name.to_owned(), value, source: source.to_string() })
        .collect();
    if is_json(global) {
        report::print_json(&Config { schema_version: SCHEMA_VERSION, settings: entries })?;
    } else {
        for entry in &entries {
            report::print(&format!("{:<15} {:<32} {}\n", entry.name, entry.value, entry.source))?;
        }
    }
    Ok(0)
}
