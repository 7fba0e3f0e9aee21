//! `larder verify`: read everything and check it.

use super::{is_json, millis, open_store};
use crate::amount::count;
use crate::cli::Global;
use crate::exit;
use crate::report::{self, Damage, SCHEMA_VERSION, Verify};
use crate::talk::Talk;
use anyhow::Result;
use bytesize::ByteSize;
use larder_store::Verified;
use std::time::Instant;

pub(super) fn run(global: &Global) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    let verified = match open_store(global, &talk)? {
        Some(store) => store.verify(&talk)?,
        None => Verified::default(),
    };
    talk.finish();
    let damage = |(path, reason): &(std::path::PathBuf, String)| Damage {
        path: path.to_string_lossy().into_owned(),
        reason: reason.clone(),
    };
    let report = Verify {
        schema_version: SCHEMA_VERSION,
        clean: verified.is_clean(),
        snapshots: verified.snapshots,
        blobs: verified.blobs,
        bytes: verified.bytes,
        digested: verified.digested,
        set_aside: verified.set_aside,
        damaged: verified.damaged.iter().map(damage).collect(),
        duration_ms: millis(start),
    };
    if is_json(global) {
        report::print_json(&report)?;
    } else if !global.quiet || !report.clean {
        for Damage { path, reason } in &report.damaged {
            report::print(&format!("damaged: {path}: {reason}\n"))?;
        }
        let line = format!(
            "{}: {}, {}, {} read in {} ms{}{}\n",
            if report.clean { "intact" } else { "damaged" },
            count(report.snapshots, "snapshot"),
            count(report.blobs, "blob"),
            ByteSize(report.bytes).display().si(),
            report.duration_ms,
            if_any(report.digested, "digested for the first time"),
            if_any(report.set_aside, "set aside earlier: the files they held are made again by the next build"),
        );
        report::print(&line)?;
    }
    Ok(if report.clean { 0 } else { exit::FAILED })
}

fn if_any(count: u64, what: &str) -> String {
    if count > 0 { format!("; {count} {what}") } else { String::new() }
}
