//! `larder bench`: larder against what people use today, side by side, on the user's own directory.
//!
//! What makes the figures honest: whole processes are timed; the contestants take turns within each round, in an order
//! that rotates; the disk is quiet before each run; nothing is deleted before the end, because ext4 punishes creation
//! after deletion; what is saved was written just before; what was restored is compared with the original after every
//! run; a mode that fell back to another is not reported under its own name; and preparations are told beside the
//! times that they make possible. The user's directory is read once and not touched.

mod contests;
mod larder;
mod measure;
mod plan;
mod rivals;
mod table;
mod workload;

use anyhow::{Context, bail};
use contests::{Arena, KEY, Run, Sample, Shared};
use larder::{Larder, Restored};
use larder_fs::Space;
use larder_fs::scratch::{self, Item, Kind, Scratch};
use larder_store::LinkMode;
use measure::{Runner, Stats, turn};
use plan::{Cost, Entry, Row, Sizes, Who};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::{ContestantReport, Measured, Outcome, Preparation, Report, RowReport};
use workload::Workload;

/// Measure larder against rsync, cp and tar | zstd on a directory of yours
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// The directory to measure with, a cargo target directory for instance; it is only read
    dir: PathBuf,
    /// How often everybody runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Where to work: a directory on the file system to measure [default: the one that holds DIR]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// The rows to measure [default: all]
    #[arg(long, value_name = "ROW", value_enum, value_delimiter = ',')]
    only: Vec<Row>,
    /// Drop the page cache before each restore to an empty place (needs root)
    #[arg(long)]
    cold: bool,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
}

/// The schema of the object that `bench` prints.
#[cfg(test)]
pub(crate) fn schema() -> schemars::Schema {
    schemars::schema_for!(table::Report)
}

/// Measures, and returns what to print on stdout. `larder` is the executable that is measured; `talk` is told, in lines,
/// what is going on.
pub(crate) fn run(args: &BenchArgs, larder: PathBuf, json: bool, talk: &mut dyn FnMut(&str)) -> anyhow::Result<String> {
    let dir = scratch::canonical(&args.dir)?;
    let parent = match &args.scratch {
        Some(place) => scratch::canonical(place)?,
        None => {
            dir.parent().context("the root directory has no place beside it: name one with --scratch")?.to_path_buf()
        }
    };
    if parent.starts_with(&dir) {
        bail!("{} is inside {}: work outside of what is measured", parent.display(), dir.display());
    }
    if args.cold {
        scratch::drop_caches().context("--cold needs root")?;
    }
    // Signals first: from here on nothing is left behind.
    let mut runner = Runner::new()?;
    let place = Scratch::create_in(&parent)?;
    let report = measure(args, &dir, &mut runner, &place, &Larder { program: larder }, talk);
    talk("removing what was written");
    place.remove()?;
    let report = report?;
    Ok(match (json, args.markdown) {
        (true, _) => report.json()?,
        (false, true) => report.markdown(),
        (false, false) => report.text(),
    })
}

fn measure(
    args: &BenchArgs,
    dir: &Path,
    runner: &mut Runner,
    place: &Scratch,
    larder: &Larder,
    talk: &mut dyn FnMut(&str),
) -> anyhow::Result<Report> {
    let root = place.path();
    let output = root.join("output");
    scratch::make_dir(&output)?;
    runner.run_in(output);
    let runner = &*runner;
    let items = scratch::list(dir)?;
    let rows: Vec<Row> = Row::ALL.into_iter().filter(|r| args.only.is_empty() || args.only.contains(r)).collect();
    let programs: BTreeMap<_, _> = rivals::programs().into_iter().collect();
    let missing = |who| rivals::needs(who).iter().copied().filter(|p| programs[p].is_none()).collect::<Vec<_>>();
    let present = |who| missing(who).is_empty();
    let mut sizes = workload::sizes(&items);
    if sizes.changed.inodes == 0 {
        bail!("{} has no files to measure with", dir.display());
    }
    // A first look, before gigabytes are copied: what larder will need is not known yet.
    plan::plan(&rows, present, &sizes, args.rounds, sizes.full, scratch::room(root)?)?;
    let probe = root.join("probe");
    scratch::make_dir(&probe)?;
    let creation_us = scratch::creation_cost(&probe)?.as_secs_f64() * 1e6;
    if let Some(warning) = table::slow_creation(creation_us) {
        talk(&format!("warning: {warning}"));
    }
    talk(&format!("copying {}", dir.display()));
    let workload = Workload::copy(dir, items, root.to_path_buf(), runner)?;
    let mut arena =
        Arena { larder, runner, workload: &workload, store: workload.fresh(), cold: args.cold, shared: HashMap::new() };
    talk("saving it");
    rehearse(&mut arena, &mut sizes)?;
    let entries = plan::plan(&rows, present, &sizes, args.rounds, Cost::default(), scratch::room(root)?)?;

    let mut reports = Vec::new();
    for &row in &rows {
        talk(row.title(args.cold));
        let taking_part: Vec<&Entry> = entries.iter().filter(|e| e.row == row).collect();
        let mut results = contest(&mut arena, row, &taking_part, args.rounds, root)?;
        let rsync = stats_of(&results, Who::Rsync);
        let mut contestants = Vec::new();
        for who in row.contestants() {
            let outcome = match results.remove(&who) {
                Some(result) => result.outcome(who, rsync)?,
                None => Outcome::Absent { missing: missing(who) },
            };
            contestants.push(ContestantReport { name: who.label(row), outcome });
        }
        reports.push(RowReport { row, title: row.title(args.cold), contestants });
    }
    let count = |is: fn(&Kind) -> bool| workload.items.iter().filter(|i| is(&i.kind)).count() as u64;
    let (changed_files, changed_bytes) = workload.changed_size();
    Ok(Report {
        schema_version: table::SCHEMA_VERSION,
        directory: dir.display().to_string(),
        file_system: scratch::file_system(root)?.name(),
        cargo_target: scratch::is_file(&dir.join(".rustc_info.json")),
        files: count(|k| matches!(k, Kind::File(_))),
        directories: count(|k| *k == Kind::Directory),
        symlinks: count(|k| matches!(k, Kind::Symlink(_))),
        bytes: workload.items.iter().map(Item::size).sum(),
        changed_files,
        changed_bytes,
        rounds: args.rounds,
        cold: args.cold,
        creation_us: (creation_us * 10.0).round() / 10.0,
        programs,
        rows: reports,
    })
}

/// Saves the user's directory and restores it once: the snapshot that all restores use, the tree that is restored over,
/// and what both cost in disk space.
fn rehearse(arena: &mut Arena<'_>, sizes: &mut Sizes) -> anyhow::Result<()> {
    let taken = |before: Space, after: Space| Cost {
        bytes: before.available.saturating_sub(after.available),
        inodes: before.inodes_available.saturating_sub(after.inodes_available),
    };
    let look = || -> anyhow::Result<Space> {
        arena.workload.settle(false)?;
        Ok(scratch::room(&arena.workload.origin)?)
    };
    let before = look()?;
    arena.runner.run(&arena.larder.save(&arena.store, &arena.workload.origin, KEY, false))?;
    let saved = look()?;
    let to = arena.workload.fresh();
    let restored = arena.runner.run(&arena.larder.restore(&arena.store, &to, KEY, LinkMode::Auto))?;
    Restored::read(restored.stdout())?;
    arena.workload.check(&to, Who::Larder(LinkMode::Auto), "larder")?;
    let restored = look()?;
    // Others write to the disk too, and inodes do not tell of clones: the smaller of two estimates.
    sizes.stored = sizes.full.min(taken(before, saved));
    sizes.materialised = workload::own_cost(&scratch::list(&to)?).min(taken(saved, restored));
    arena.shared.insert(Shared::LarderOver, to);
    Ok(())
}

/// What one contestant has done in a row.
#[derive(Debug)]
enum Performance {
    Done(Vec<Sample>),
    NotHere(BTreeMap<String, u64>),
}

/// Runs one row: in every round everybody once, then the next round.
fn contest(
    arena: &mut Arena<'_>,
    row: Row,
    entries: &[&Entry],
    rounds: u32,
    root: &Path,
) -> anyhow::Result<HashMap<Who, Performance>> {
    let mut results: HashMap<Who, Performance> = HashMap::new();
    for round in 0..rounds {
        for entry in turn(entries.len(), round).map(|i| entries[i]) {
            let samples = results.entry(entry.who).or_insert_with(|| Performance::Done(Vec::new()));
            let Performance::Done(samples) = samples else { continue };
            // A contestant that missed a round stays out, so that everybody's rounds are the first ones.
            if round >= entry.rounds || samples.len() < round as usize {
                continue;
            }
            // The plan was made from estimates, and others may have filled the disk.
            if !entry.cost.fits(scratch::room(root)?) {
                if round == 0 {
                    bail!("the disk is too full for {}, {}", row.title(false), entry.who.label(row));
                }
                continue;
            }
            match arena.run(row, entry.who, round)? {
                Run::Done(sample) => samples.push(sample),
                Run::NotHere(modes) => {
                    results.insert(entry.who, Performance::NotHere(modes));
                }
            }
        }
    }
    Ok(results)
}

fn stats_of(results: &HashMap<Who, Performance>, who: Who) -> Option<Stats> {
    match results.get(&who)? {
        Performance::Done(samples) => Stats::of(&samples.iter().map(|s| s.wall).collect::<Vec<_>>()),
        Performance::NotHere(_) => None,
    }
}

impl Performance {
    fn outcome(self, who: Who, rsync: Option<Stats>) -> anyhow::Result<Outcome> {
        let samples = match self {
            Self::NotHere(link_modes) => return Ok(Outcome::NotAvailable { link_modes }),
            Self::Done(samples) => samples,
        };
        let walls: Vec<Duration> = samples.iter().map(|s| s.wall).collect();
        let prepared: Vec<Duration> = samples.iter().filter_map(|s| s.preparation).collect();
        let stats = Stats::of(&walls).context("a contestant never ran")?;
        let preparation = Stats::of(&prepared).map(|stats| Preparation {
            // A spare is used up by the restore it serves.
            every_run: who == Who::Larder(LinkMode::Spare),
            stats: stats.into(),
        });
        Ok(Outcome::Measured(Measured {
            stats: stats.into(),
            rounds: u32::try_from(samples.len()).unwrap_or(u32::MAX),
            times_rsync: table::times_faster(rsync, stats),
            preparation,
            link_modes: samples.into_iter().next().map(|s| s.modes).unwrap_or_default(),
        }))
    }
}
