//! A month of jobs, made by a recipe, and what an order of eviction makes of it. `docs/eviction.md` explains both.

use larder_fs::Timestamp;
use larder_store::evict::{Candidate, Freed, Limits, Sizes, plan};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// A Monday.
const START: i64 = 1_788_739_200;

/// A small generator of its own, so that a seed means the same for ever (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// From `low` to `high`, small ones more often, as sizes and times of crates are.
    fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let unit = self.below(1 << 20) as f64 / f64::from(1 << 20);
        (low as f64 * (high as f64 / low as f64).powf(unit * unit)) as u64
    }
}

/// One unit as some job built it: the same name only for the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    name: u64,
    ms: u64,
    bytes: u64,
}

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    at: i64,
    lineage: String,
    /// What it needs, and has in the end.
    units: Vec<Unit>,
    /// Whether it published what it had: it succeeded.
    saves: bool,
}

/// A repository on its way through the month.
struct Repository {
    name: &'static str,
    jobs: &'static [&'static str],
    /// Pushes a week.
    pushes: u64,
    /// The days from which and to which anybody works on it.
    active: (i64, i64),
    registry: Vec<u64>,
    local: u64,
    /// The versions of local units by branch; the main one is 0.
    branches: BTreeMap<u64, Branch>,
    next_branch: u64,
}

#[derive(Clone)]
struct Branch {
    ends: i64,
    local: Vec<u64>,
    registry: Vec<u64>,
}

/// The first jobs of a month by this seed.
pub(crate) fn month(seed: u64, count: usize) -> Vec<Job> {
    let mut dice = Dice(seed);
    // Pushes a week, days, packages of the registry, local ones.
    let mut new = |name, jobs, pushes, active, registry: usize, local: usize| {
        let main = Branch { ends: i64::MAX, local: vec![0; local], registry: vec![0; registry] };
        let branches = BTreeMap::from([(0, main)]);
        let registry = (0..registry).map(|_| dice.next()).collect();
        Repository { name, jobs, pushes, active, registry, local: local as u64, branches, next_branch: 1 }
    };
    let mut repositories = [
        new("node", &["test", "clippy"], 12, (0, 28), 260, 24),
        new("consensus", &["test", "clippy"], 8, (0, 28), 120, 9),
        new("protocol", &["build"], 5, (0, 28), 60, 6),
        new("wallet", &["test", "build"], 8, (0, 13), 300, 18),
        new("explorer", &["test"], 9, (15, 28), 200, 12),
    ];
    let mut pushes: Vec<(i64, usize)> = Vec::new();
    for (index, repository) in repositories.iter().enumerate() {
        for day in repository.active.0..repository.active.1 {
            // On a weekend a tenth of the work; the first two days are Monday and Tuesday.
            let weight = if day % 7 >= 5 { 2 } else { 20 };
            for _ in 0..repository.pushes * 2 {
                if dice.below(200) < weight {
                    pushes.push((START + day * DAY + 8 * HOUR + dice.below(10 * HOUR as u64) as i64, index));
                }
            }
        }
    }
    pushes.sort_unstable();
    let mut version = 0;
    let mut jobs = Vec::new();
    for (at, index) in pushes {
        // One new compiler in the month: everything is built again.
        let toolchain = u64::from(at > START + 17 * DAY);
        let repository = &mut repositories[index];
        repository.branches.retain(|_, branch| branch.ends > at);
        let branch = repository.choose_branch(at, &mut dice);
        version += 1;
        repository.edit(branch, version, &mut dice);
        for job in repository.jobs {
            let units = repository.units(branch, job, toolchain);
            jobs.push(Job {
                at: at + dice.below(900) as i64,
                lineage: format!("{} {job}", repository.name),
                units,
                saves: dice.percent(88),
            });
        }
    }
    jobs.sort_by_key(|job| job.at);
    jobs.truncate(count);
    jobs
}

impl Repository {
    /// Half of the pushes go to the main branch, the others to one of some that live for days.
    fn choose_branch(&mut self, at: i64, dice: &mut Dice) -> u64 {
        if dice.percent(50) {
            return 0;
        }
        let others: Vec<u64> = self.branches.keys().copied().filter(|branch| *branch > 0).collect();
        if others.is_empty() || dice.percent(30) {
            let ends = at + dice.skewed(1, 9) as i64 * DAY;
            let branch = Branch { ends, ..self.branches[&0].clone() };
            self.next_branch += 1;
            self.branches.insert(self.next_branch, branch);
            return self.next_branch;
        }
        others[dice.below(others.len() as u64) as usize]
    }

    /// An edit of one to three crates makes them and those above them anew; sometimes dependencies are updated.
    fn edit(&mut self, branch: u64, version: u64, dice: &mut Dice) {
        let branch = self.branches.get_mut(&branch).expect("it was chosen just now");
        for _ in 0..=dice.below(3) {
            let edited = dice.below(self.local) as usize;
            for above in edited..branch.local.len() {
                if above == edited || dice.percent(60) {
                    branch.local[above] = version;
                }
            }
        }
        if dice.percent(7) {
            for _ in 0..1 + dice.below(8) {
                let updated = dice.below(branch.registry.len() as u64) as usize;
                branch.registry[updated] = version;
            }
            branch.local.fill(version);
        }
    }

    fn units(&self, branch: u64, job: &str, toolchain: u64) -> Vec<Unit> {
        let branch = &self.branches[&branch];
        let mut units = Vec::new();
        let mut add = |what: u64, version: u64, ms: (u64, u64), bytes: (u64, u64)| {
            // What a crate costs is its own, whatever its version.
            let mut of_crate = Dice(what ^ 0x5eed);
            let (ms, bytes) = (of_crate.skewed(ms.0, ms.1), of_crate.skewed(bytes.0, bytes.1));
            let check = if job == "clippy" { 4 } else { 1 };
            let name = Dice(what ^ Dice(version * 2 + toolchain).next() ^ Dice(check).next()).next();
            units.push(Unit { name, ms: ms / check, bytes: bytes / (check * check) });
        };
        for (what, version) in self.registry.iter().zip(&branch.registry) {
            add(*what, *version, (150, 12_000), (100_000, 25_000_000));
        }
        for (number, version) in (0..).zip(&branch.local) {
            let what = self.registry[0] ^ (number + 1);
            add(what, *version, (1_000, 20_000), (2_000_000, 40_000_000));
            if job == "test" {
                // A test executable embeds everything.
                add(what ^ (1 << 40), *version, (1_500, 15_000), (60_000_000, 140_000_000));
            }
        }
        units
    }
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nobody goes, whatever the budget.
    Nobody,
    /// Whoever was not used for longest.
    LeastRecentlyUsed,
    /// By larder's plan, without ceilings and ages.
    Worth,
    /// By larder's plan as it is set up: the newest three, seven days.
    Defaults,
}

/// What an order made of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Milliseconds of building that restores spared.
    pub(crate) spared_ms: u64,
    /// Milliseconds that jobs built all the same.
    pub(crate) built_ms: u64,
    /// Snapshots evicted.
    pub(crate) evicted: u64,
    /// The most that the store held after an eviction, in bytes.
    pub(crate) held: u64,
}

struct Kept {
    candidate: Candidate,
    used: i64,
    units: Vec<Unit>,
}

/// Runs all jobs in order: each restores the nearest snapshot of its lineage, builds the rest, and publishes what it has.
pub(crate) fn replay(jobs: &[Job], budget: u64, order: Order) -> Outcome {
    let mut outcome = Outcome::default();
    let mut store: Vec<Kept> = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let total: u64 = job.units.iter().map(|unit| unit.ms).sum();
        let missing = |kept: &Kept| -> u64 {
            let has: std::collections::HashSet<u64> = kept.units.iter().map(|unit| unit.name).collect();
            job.units.iter().filter(|unit| !has.contains(&unit.name)).map(|unit| unit.ms).sum()
        };
        let compatible = store.iter_mut().filter(|kept| kept.candidate.lineage == job.lineage);
        // The newest of equals.
        let nearest = compatible.map(|kept| (missing(kept), kept)).min_by_key(|(ms, kept)| (*ms, -kept.used));
        let built = match nearest {
            Some((ms, kept)) if ms < total => {
                kept.used = job.at;
                kept.candidate.uses.push(at(job.at));
                ms
            }
            _ => total,
        };
        outcome.spared_ms += total - built;
        outcome.built_ms += built;
        if !job.saves {
            continue;
        }
        let candidate = Candidate {
            id: format!("{number:08}"),
            lineage: job.lineage.clone(),
            created: at(job.at),
            uses: Vec::new(),
            alone_ms: total,
            beside_ms: built.min(total / 2),
            keep: if order == Order::Defaults { 3 } else { usize::MAX },
            held: None,
            built_from: None,
            failed: false,
        };
        store.push(Kept { candidate, used: job.at, units: job.units.clone() });
        outcome.evicted += evict(&mut store, job.at, budget, order);
        outcome.held = outcome.held.max(bytes(&store));
    }
    outcome
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

/// What the snapshots have together, each unit once.
fn bytes(store: &[Kept]) -> u64 {
    let units: HashMap<u64, u64> =
        store.iter().flat_map(|kept| &kept.units).map(|unit| (unit.name, unit.bytes)).collect();
    units.values().sum()
}

fn evict(store: &mut Vec<Kept>, now: i64, budget: u64, order: Order) -> u64 {
    let before = store.len();
    match order {
        Order::Nobody => {}
        Order::LeastRecentlyUsed => {
            while bytes(store) > budget {
                let oldest = (0..store.len()).min_by_key(|index| store[*index].used).expect("an empty store fits");
                store.remove(oldest);
            }
        }
        Order::Worth | Order::Defaults => {
            let mut owners: HashMap<u64, (Vec<usize>, u64)> = HashMap::new();
            for (index, kept) in store.iter().enumerate() {
                for unit in &kept.units {
                    owners.entry(unit.name).or_insert_with(|| (Vec::new(), unit.bytes)).0.push(index);
                }
            }
            let mut sizes = Sizes::new(store.len());
            let mut held: Vec<_> = owners.into_iter().collect();
            held.sort_unstable();
            for (_, (owners, bytes)) in held {
                sizes.add_blob(owners, Freed { bytes, inodes: 1 }, false);
            }
            let week = Duration::from_secs(7 * 86_400);
            let limits = Limits {
                now: at(now),
                max_age: (order == Order::Defaults).then_some(week),
                recent: week,
                over_budget: bytes(store).saturating_sub(budget),
                ..Limits::default()
            };
            let candidates: Vec<Candidate> = store.iter().map(|kept| kept.candidate.clone()).collect();
            let mut gone: Vec<usize> =
                plan(&candidates, &mut sizes, &limits).evictions.iter().map(|eviction| eviction.index).collect();
            gone.sort_unstable();
            gone.into_iter().rev().for_each(|index| drop(store.remove(index)));
        }
    }
    (before - store.len()) as u64
}
