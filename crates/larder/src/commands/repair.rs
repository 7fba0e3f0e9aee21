//! `larder verify --repair`: mend a damaged store, and say what was done.

use super::{is_json, millis, say_no_store, store_path};
use crate::amount::count;
use crate::cargo;
use crate::cli::Global;
use crate::exit;
use crate::report::{self, Lacking, Repair, RepairStep, SCHEMA_VERSION, one_line};
use crate::talk::{self, Talk};
use anyhow::Result;
use bytesize::ByteSize;
use larder_store::{Concerned, Ending, Remedy, Repaired, Snapshot, Step, Store};
use std::collections::HashSet;
use std::time::Instant;

/// So many units or files of a snapshot are named to people; the object has all of them.
const NAMED: usize = 8;

pub(super) fn run(global: &Global, dry_run: bool) -> Result<u8> {
    let start = Instant::now();
    let talk = Talk::new(global);
    talk::chapter("larder: the repair, step by step");
    let path = store_path(global)?;
    let repaired = Store::repair(&path, dry_run, &talk)?.unwrap_or_else(|| {
        say_no_store(&path, &talk);
        Repaired::default()
    });
    talk.finish();
    let report = Repair {
        schema_version: SCHEMA_VERSION,
        clean: repaired.is_clean(),
        snapshots: repaired.snapshots,
        blobs: repaired.blobs,
        bytes: repaired.bytes,
        steps: repaired.steps.iter().map(step).collect(),
        lacking: repaired.concerned.iter().map(lacking).collect(),
        dry_run,
        duration_ms: millis(start),
    };
    if is_json(global) {
        report::print_json(&report)?;
    } else if !global.quiet || !report.clean {
        report::print(&text(&report))?;
    }
    Ok(if report.clean { 0 } else { exit::FAILED })
}

fn step(step: &Step) -> RepairStep {
    let Step { path, fault, remedy, ending, .. } = step;
    let (moved_to, error) = match ending {
        Ending::Done(to) => (to.as_ref().map(|to| to.to_string_lossy().into_owned()), None),
        Ending::Failed(why) => (None, Some(why.clone())),
        Ending::Planned => (None, None),
    };
    let command = if let Remedy::Ask(command) = remedy { Some(command.clone()) } else { None };
    RepairStep {
        path: path.to_string_lossy().into_owned(),
        fault: fault.clone(),
        remedy: remedy.name().to_owned(),
        words: in_words(remedy),
        done: step.is_mended(),
        moved_to,
        error,
        command,
    }
}

fn in_words(remedy: &Remedy) -> String {
    match remedy {
        Remedy::MakeRoom => "made anew, empty".into(),
        Remedy::WriteFormat => "written anew".into(),
        Remedy::Quarantine => "moved to quarantine".into(),
        Remedy::Remove => "removed: it can be made again".into(),
        Remedy::Sweep => "swept".into(),
        Remedy::SetMode(mode) => format!("gets the mode {mode:04o}"),
        Remedy::SetOwner(uid) => format!("given to the user {uid}"),
        Remedy::SetTime(_) => "gets its time back".into(),
        Remedy::RecordDigest(_) => "its digest is written down".into(),
        Remedy::NoteLoss => "noted in quarantine as lost".into(),
        Remedy::Ask(command) => format!("this account may not mend it: run {command}"),
        Remedy::Leave => "left as it is".into(),
    }
}

/// What a snapshot lacks, as its own manifests tell.
fn lacking(concerned: &Concerned) -> Lacking {
    let mut names = Vec::new();
    let roots = Snapshot::load(&concerned.path).map(|snapshot| snapshot.roots).unwrap_or_default();
    for (index, manifest) in roots.iter().enumerate() {
        let of_root = concerned.files.iter().filter(|(root, _)| *root == index);
        let lost: HashSet<&[u8]> = of_root.map(|(_, path)| path.as_slice()).collect();
        if !lost.is_empty() {
            let paths = manifest.link_paths();
            let lost: Vec<bool> = paths.iter().map(|path| lost.contains(path.as_slice())).collect();
            names.extend(cargo::named(&paths, &lost));
        }
    }
    Lacking {
        snapshot: concerned.snapshot.clone(),
        key: concerned.key.clone(),
        files: concerned.files.len() as u64,
        concerned: names,
    }
}

fn text(report: &Repair) -> String {
    let mut text = String::new();
    // Digests may be written down for thousands of blobs.
    let (digested, shown): (Vec<_>, Vec<_>) = report.steps.iter().partition(|step| step.remedy == "record-digest");
    for step in shown {
        let what = match (&step.error, step.done, report.dry_run) {
            (Some(why), ..) => format!("could not be mended: {why}"),
            (None, true, _) => match &step.moved_to {
                Some(to) => format!("moved to {}", one_line(to)),
                None => step.words.clone(),
            },
            (None, false, true) if !matches!(step.remedy.as_str(), "ask" | "leave") => {
                format!("would be {}", step.words)
            }
            (None, false, _) => step.words.clone(),
        };
        text.push_str(&format!("{}: {}; {what}\n", one_line(&step.path), one_line(&step.fault)));
    }
    for lacking in &report.lacking {
        let names: Vec<String> = lacking.concerned.iter().take(NAMED).map(|name| one_line(name)).collect();
        let more = match lacking.concerned.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        text.push_str(&format!(
            "the snapshot {} ({}) lacks {}: {}{more}\n",
            lacking.snapshot,
            one_line(&lacking.key),
            count(lacking.files, "file"),
            names.join(", ")
        ));
    }
    let state = match (report.clean, report.dry_run) {
        (true, _) => "intact",
        (false, true) => "damaged, and nothing was changed",
        (false, false) => "damaged still",
    };
    let digested = match (digested.len(), report.dry_run) {
        (0, _) => String::new(),
        (count, true) => format!("; {count} to be digested for the first time"),
        (count, false) => format!("; {count} digested for the first time"),
    };
    text.push_str(&format!(
        "{state}: {}, {}, {} read in {} ms{digested}\n",
        count(report.snapshots, "snapshot"),
        count(report.blobs, "blob"),
        ByteSize(report.bytes).display().si(),
        report.duration_ms
    ));
    text
}
