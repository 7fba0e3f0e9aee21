//! How a contestant does its part of a row once: prepare, run the clock, check what came out.

use super::larder::{Larder, Restored};
use super::measure::{Finished, Job, Order, Runner};
use super::plan::{EIGHT, Row, Who};
use super::rivals;
use super::workload::Workload;
use anyhow::Context;
use larder_fs::{mount, scratch};
use larder_store::LinkMode;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The key that the user's directory is saved under.
pub(super) const KEY: &str = "bench";
/// The key for which spares are prepared, so that no other mode finds one.
const SPARE_KEY: &str = "bench-spare";

/// A tree or file that several runs work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shared {
    Archive,
    LarderOver,
    RsyncOver,
    LarderWork,
    RsyncWork,
    RsyncSaved,
    TarWork,
}

/// One run that was timed.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) wall: Duration,
    /// What was prepared for this run, or for this and all later ones.
    pub(super) preparation: Option<Duration>,
    /// The link modes that larder used, and for how many files.
    pub(super) modes: BTreeMap<String, u64>,
}

/// What came of a run.
#[derive(Debug)]
pub(super) enum Run {
    Done(Sample),
    /// The link mode does not work here; larder used these instead.
    NotHere(BTreeMap<String, u64>),
}

impl Run {
    fn plain(wall: Duration) -> Self {
        Self::Done(Sample { wall, preparation: None, modes: BTreeMap::new() })
    }
}

/// Everything a run needs.
#[derive(Debug)]
pub(super) struct Arena<'a> {
    pub(super) larder: &'a Larder,
    pub(super) runner: &'a Runner,
    pub(super) workload: &'a Workload,
    /// The store that holds the user's directory under [`KEY`].
    pub(super) store: PathBuf,
    pub(super) cold: bool,
    pub(super) shared: HashMap<Shared, PathBuf>,
}

impl Arena<'_> {
    /// Runs `who` once in `row`.
    pub(super) fn run(&mut self, row: Row, who: Who, round: u32) -> anyhow::Result<Run> {
        let label = who.label(row);
        let run = match row {
            Row::RestoreEmpty => match who {
                Who::Larder(mode) => self.restore_empty(mode, round, &label),
                _ => self.rival_restore_empty(who, &label),
            },
            Row::RestoreIdentical | Row::RestoreChanged | Row::RestoreBuilt => {
                self.restore_over(row, who, round, &label)
            }
            Row::RestoreEight => self.restore_eight(who, &label),
            Row::SaveNothing | Row::SaveChanged => self.save_again(row, who, round, &label),
            Row::SaveAll => self.save_new(who, round, &label),
        };
        run.with_context(|| format!("{}, {label}", row.title(self.cold)))
    }

    fn restore_empty(&mut self, mode: LinkMode, round: u32, label: &str) -> anyhow::Result<Run> {
        let mut preparation = None;
        let key = if mode == LinkMode::Spare { SPARE_KEY } else { KEY };
        match mode {
            LinkMode::Spare => {
                let save = self.larder.save(&self.store, &self.workload.origin, key, true);
                preparation = Some(self.runner.run(&save)?.wall);
            }
            // The first restore makes the tree that all later ones mount or snapshot.
            LinkMode::Overlay | LinkMode::Subvolume if round == 0 => {
                let to = self.workload.fresh();
                let first = self.runner.run(&self.larder.restore(&self.store, &to, key, mode))?;
                let restored = self.inspect(&first, &to, Who::Larder(mode), label)?;
                if !restored.used(mode) {
                    return Ok(Run::NotHere(restored.modes()));
                }
                preparation = Some(first.wall);
            }
            _ => {}
        }
        self.workload.settle(self.cold)?;
        let to = self.workload.fresh();
        let timed = self.runner.run(&self.larder.restore(&self.store, &to, key, mode))?;
        let restored = self.inspect(&timed, &to, Who::Larder(mode), label)?;
        if !restored.used(mode) {
            return Ok(Run::NotHere(restored.modes()));
        }
        Ok(Run::Done(Sample { wall: timed.wall, preparation, modes: restored.modes() }))
    }

    /// Checks what a larder restore made, and undoes its mounts.
    fn inspect(&self, finished: &Finished, to: &Path, who: Who, label: &str) -> anyhow::Result<Restored> {
        let restored = Restored::read(finished.stdout())?;
        self.workload.check(to, who, label)?;
        while mount::is_mount_point(to)? {
            mount::unmount(to)?;
        }
        Ok(restored)
    }

    fn rival_restore_empty(&mut self, who: Who, label: &str) -> anyhow::Result<Run> {
        let origin = &self.workload.origin;
        let to = self.workload.fresh();
        let job = match who {
            Who::Cp => rivals::cp(origin, &to),
            Who::CpLinks => rivals::cp_links(origin, &to),
            Who::Tar => {
                let archive = self.shared(Shared::Archive, |to| rivals::pack(origin, to.to_path_buf()))?;
                scratch::make_dir(&to)?;
                rivals::unpack(&archive, &to)
            }
            _ => rivals::rsync(origin, &to),
        };
        self.workload.settle(self.cold)?;
        let wall = self.runner.run(&job)?.wall;
        self.workload.check(&to, who, label)?;
        Ok(Run::plain(wall))
    }

    fn restore_over(&mut self, row: Row, who: Who, round: u32, label: &str) -> anyhow::Result<Run> {
        let origin = &self.workload.origin;
        let (store, larder) = (self.store.clone(), self.larder);
        let (tree, job) = if let Who::Larder(_) = who {
            let tree = self.shared(Shared::LarderOver, |to| larder.restore(&store, to, KEY, LinkMode::Auto))?;
            let job = larder.restore_over(&store, &tree, KEY);
            (tree, job)
        } else {
            let tree = self.shared(Shared::RsyncOver, |to| rivals::rsync(origin, to))?;
            let job = rivals::rsync(origin, &tree);
            (tree, job)
        };
        match row {
            Row::RestoreChanged => self.workload.change(&tree, round)?,
            Row::RestoreBuilt => {
                self.workload.build(&tree, round)?;
                // A job ends with a save, so that what it built is linked from the store and replacing it frees nothing.
                // Freeing gigabytes that were just written costs more than a restore; rsync, whose copies are apart, pays it.
                if let Who::Larder(_) = who {
                    self.runner.run(&larder.save(&store, &tree, &format!("bench-built-{round}"), false))?;
                }
            }
            _ => {}
        }
        self.workload.settle(false)?;
        let timed = self.runner.run(&job)?;
        match row {
            Row::RestoreBuilt => self.workload.check_built(&tree, who, label)?,
            _ => self.workload.check(&tree, who, label)?,
        }
        if let Who::Larder(_) = who {
            let modes = Restored::read(timed.stdout())?.modes();
            return Ok(Run::Done(Sample { wall: timed.wall, preparation: None, modes }));
        }
        Ok(Run::plain(timed.wall))
    }

    fn restore_eight(&mut self, who: Who, label: &str) -> anyhow::Result<Run> {
        let places: Vec<PathBuf> = (0..EIGHT).map(|_| self.workload.fresh()).collect();
        let job = |to: &PathBuf| match who {
            Who::Rsync => rivals::rsync(&self.workload.origin, to),
            _ => self.larder.restore(&self.store, to, KEY, LinkMode::Auto),
        };
        let jobs: Vec<Job> = places.iter().map(job).collect();
        let order = if who == Who::LarderInTurn { Order::InTurn } else { Order::AtOnce };
        self.workload.settle(false)?;
        let timed = self.runner.time(&jobs, order)?;
        for (to, output) in places.iter().zip(&timed.outputs) {
            self.workload.check(to, who, label)?;
            if who != Who::Rsync {
                Restored::read(output)?;
            }
        }
        Ok(Run::plain(timed.wall))
    }

    fn save_again(&mut self, row: Row, who: Who, round: u32, label: &str) -> anyhow::Result<Run> {
        let origin = &self.workload.origin;
        let (store, larder) = (self.store.clone(), self.larder);
        let key = format!("bench-{row:?}-{round}");
        let mut saved = None;
        let (work, job) = match who {
            Who::Larder(_) | Who::LarderInTurn => {
                let work = self.shared(Shared::LarderWork, |to| larder.restore(&store, to, KEY, LinkMode::Auto))?;
                let job = larder.save(&store, &work, &key, false);
                (work, job)
            }
            Who::Tar => {
                let work = self.shared(Shared::TarWork, |to| rivals::full_copy(origin, to))?;
                let job = rivals::pack(&work, self.workload.fresh());
                (work, job)
            }
            _ => {
                let work = self.shared(Shared::RsyncWork, |to| rivals::full_copy(origin, to))?;
                let to = self.shared(Shared::RsyncSaved, |to| rivals::rsync(origin, to))?;
                let job = rivals::rsync(&work, &to);
                saved = Some(to);
                (work, job)
            }
        };
        self.workload.settle(false)?;
        // After the disk is quiet: what a build wrote is not on the disk when it is saved.
        if row == Row::SaveChanged {
            self.workload.change(&work, round)?;
        }
        let wall = self.runner.run(&job)?.wall;
        match who {
            Who::Larder(_) if round == 0 => self.prove(&store, &key, &work, label)?,
            _ => {}
        }
        if let Some(saved) = saved {
            self.workload.check_against(&work, &saved, who, label)?;
        }
        Ok(Run::plain(wall))
    }

    fn save_new(&mut self, who: Who, round: u32, label: &str) -> anyhow::Result<Run> {
        let work = self.workload.fresh();
        let to = self.workload.fresh();
        let job = match who {
            Who::Larder(_) | Who::LarderInTurn => self.larder.save(&to, &work, KEY, false),
            Who::Tar => rivals::pack(&work, to.clone()),
            _ => rivals::rsync(&work, &to),
        };
        self.workload.settle(false)?;
        self.runner.run(&rivals::full_copy(&self.workload.origin, &work))?;
        let wall = self.runner.run(&job)?.wall;
        match who {
            Who::Larder(_) if round == 0 => self.prove(&to, KEY, &work, label)?,
            Who::Rsync => self.workload.check_against(&work, &to, who, label)?,
            _ => {}
        }
        Ok(Run::plain(wall))
    }

    /// Restores what larder has just saved, and compares it with what was saved.
    fn prove(&self, store: &Path, key: &str, work: &Path, label: &str) -> anyhow::Result<()> {
        let to = self.workload.fresh();
        let restored = self.runner.run(&self.larder.restore(store, &to, key, LinkMode::Auto))?;
        Restored::read(restored.stdout())?;
        self.workload.check_against(work, &to, Who::Larder(LinkMode::Auto), label)
    }

    /// The place of something shared, made by `job` when it is first asked for.
    fn shared(&mut self, what: Shared, job: impl FnOnce(&Path) -> Job) -> anyhow::Result<PathBuf> {
        if let Some(place) = self.shared.get(&what) {
            return Ok(place.clone());
        }
        let place = self.workload.fresh();
        self.runner.run(&job(&place))?;
        self.shared.insert(what, place.clone());
        Ok(place)
    }
}
