//! Histories of any shape, and what holds for every plan.

use super::*;
use larder_fs::Timestamp;
use proptest::prelude::*;

const HOUR: i64 = 3600;
const NOW: Timestamp = Timestamp { secs: 1_800_000_000, nanos: 0 };
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn ago(hours: i64) -> Timestamp {
    Timestamp { secs: NOW.secs - hours * HOUR, nanos: 0 }
}

fn candidate(id: u32, lineage: u32, hours: i64, ms: u64) -> Candidate {
    Candidate {
        id: format!("{:08}", 10_000 - hours * 10 + i64::from(id % 10)),
        lineage: format!("repository {lineage}"),
        created: ago(hours),
        uses: Vec::new(),
        alone_ms: ms,
        beside_ms: ms / 2,
        keep: 3,
        held: None,
        built_from: None,
        failed: false,
    }
}

fn limits() -> Limits {
    Limits { now: NOW, recent: WEEK, ..Limits::default() }
}

fn gigabytes(n: u64) -> Freed {
    Freed { bytes: n * 1_000_000_000, inodes: n * 1000 }
}

/// Each snapshot has a blob of its own of so many gigabytes.
fn unshared(sizes: &[u64]) -> Sizes {
    let mut all = Sizes::new(sizes.len());
    sizes.iter().enumerate().for_each(|(index, size)| all.add_blob([index], gigabytes(*size), false));
    all
}

fn ids(plan: &Plan) -> Vec<usize> {
    plan.evictions.iter().map(|eviction| eviction.index).collect()
}

#[test]
fn the_newest_of_a_lineage_stay_whatever_the_clock_said() {
    // The names rise though the clock was once set to next year, and then put right.
    let mut all: Vec<Candidate> = (0..5).map(|n| candidate(n, 0, 5, 1000)).collect();
    for (n, candidate) in all.iter_mut().enumerate() {
        candidate.id = format!("{n:08}");
    }
    all[1].created = Timestamp { secs: NOW.secs + 365 * 86_400, nanos: 0 };
    let plan = plan(&all, &mut unshared(&[1; 5]), &limits());
    let mut gone = ids(&plan);
    gone.sort_unstable();
    assert_eq!(gone, [0, 1]);
    assert!(plan.evictions.iter().all(|eviction| eviction.reason == Reason::Surplus(3)));
    assert_eq!(plan.short, None);
}

#[test]
fn what_was_not_used_for_a_week_goes_and_a_use_keeps_it() {
    let mut all = vec![candidate(0, 0, 200, 1000), candidate(1, 0, 190, 1000), candidate(2, 1, 300, 1000)];
    all[1].uses.push(ago(3));
    let limits = Limits { max_age: Some(WEEK), ..limits() };
    let plan = plan(&all, &mut unshared(&[1; 3]), &limits);
    let mut gone = ids(&plan);
    gone.sort_unstable();
    assert_eq!(gone, [0, 2]);
    assert!(matches!(plan.evictions[0].reason, Reason::Unused(time) if time > WEEK));
}

#[test]
fn a_lineage_in_use_keeps_its_newest_though_the_age_is_shorter() {
    let all = vec![candidate(0, 0, 60, 1000), candidate(1, 0, 50, 1000)];
    let limits = Limits { max_age: Some(Duration::from_secs(86_400)), ..limits() };
    assert_eq!(ids(&plan(&all, &mut unshared(&[1; 2]), &limits)), [0]);
}

#[test]
fn what_is_cheap_to_build_and_large_goes_first() {
    let all = vec![candidate(0, 0, 5, 600_000), candidate(1, 1, 5, 60_000), candidate(2, 2, 5, 600_000)];
    let limits = Limits { wanted: gigabytes(4), ..limits() };
    assert_eq!(ids(&plan(&all, &mut unshared(&[1, 3, 9]), &limits)), [2]);
    let mut pinned = all.clone();
    pinned[2].held = Some(Held::Pinned);
    assert_eq!(ids(&plan(&pinned, &mut unshared(&[1, 3, 9]), &limits)), [1, 0]);
}

#[test]
fn the_last_one_of_a_lineage_in_use_goes_only_when_nothing_else_makes_room() {
    let all = vec![candidate(0, 0, 5, 10), candidate(1, 1, 4, 1_000_000), candidate(2, 1, 3, 1_000_000)];
    let want = |bytes| Limits { wanted: gigabytes(bytes), ..limits() };
    assert_eq!(ids(&plan(&all, &mut unshared(&[2; 3]), &want(1))), [1]);
    assert_eq!(ids(&plan(&all, &mut unshared(&[2; 3]), &want(3))), [1, 0]);
    let all_of_it = plan(&all, &mut unshared(&[2; 3]), &want(7));
    assert_eq!(ids(&all_of_it), [1, 0, 2]);
    assert_eq!(all_of_it.short.unwrap().wanted.bytes, 1_000_000_000);
}

#[test]
fn twins_go_together() {
    // Neither frees anything alone; both together are the cheapest.
    let all = vec![candidate(0, 0, 50, 10), candidate(1, 0, 40, 10), candidate(2, 1, 5, 1_000_000)];
    let mut sizes = Sizes::new(3);
    sizes.add_blob([0, 1], gigabytes(5), false);
    sizes.add_blob([2], gigabytes(5), false);
    let plan = plan(&all, &mut sizes, &Limits { wanted: gigabytes(5), recent: Duration::ZERO, ..limits() });
    assert_eq!(ids(&plan), [0, 1]);
    assert_eq!(plan.evictions.iter().map(|eviction| eviction.freed.bytes).collect::<Vec<_>>(), [0, 5_000_000_000]);
}

#[test]
fn an_older_snapshot_that_branches_use_is_worth_more_than_a_newer_one() {
    let mut all: Vec<Candidate> = (0..3).map(|n| candidate(n, 0, 60 - 10 * i64::from(n), 100_000)).collect();
    let want = Limits { wanted: gigabytes(1), ..limits() };
    assert_eq!(ids(&plan(&all, &mut unshared(&[1; 3]), &want)), [0]);
    all[0].uses = vec![ago(9), ago(5), ago(2), ago(1)];
    assert_eq!(ids(&plan(&all, &mut unshared(&[1; 3]), &want)), [1]);
}

#[test]
fn a_disk_without_files_is_full_too() {
    let all = vec![candidate(0, 0, 5, 1000), candidate(1, 1, 5, 1000)];
    let mut sizes = Sizes::new(2);
    sizes.add_blob([0], Freed { bytes: 1 << 30, inodes: 1 }, false);
    for _ in 0..100 {
        sizes.add_blob([1], Freed { bytes: 100, inodes: 1 }, false);
    }
    let limits = Limits { wanted: Freed { bytes: 0, inodes: 50 }, recent: Duration::ZERO, ..limits() };
    assert_eq!(ids(&plan(&all, &mut sizes, &limits)), [1]);
}

#[test]
fn a_guard_drops_what_is_old_first_and_then_stops() {
    let mut all = vec![candidate(0, 0, 300, 1_000_000), candidate(1, 1, 301, 1_000_000), candidate(2, 2, 5, 1)];
    all[1].held = Some(Held::Leased);
    let limits = Limits { max_age: Some(WEEK), only_for_space: true, ..limits() };
    assert_eq!(ids(&plan(&all, &mut unshared(&[1; 3]), &limits)), [] as [usize; 0]);
    let some = Limits { wanted: gigabytes(1), ..limits.clone() };
    assert_eq!(ids(&plan(&all, &mut unshared(&[1; 3]), &some)), [0]);
    let more = Limits { wanted: gigabytes(2), ..limits.clone() };
    assert_eq!(ids(&plan(&all, &mut unshared(&[1; 3]), &more)), [0, 2]);
}

#[test]
fn a_repeat_takes_nobodys_place_and_its_uses_are_the_newer_ones() {
    // Two branches: after one build of the other, four of the first from the same sources.
    let mut all: Vec<Candidate> = (0..6).map(|n| candidate(n, 0, 60 - 10 * i64::from(n), 1000)).collect();
    for (n, from) in ["main", "topic", "main", "main", "main", "main"].into_iter().enumerate() {
        all[n].built_from = Some(from.into());
        all[n].keep = 2;
    }
    all[2].held = Some(Held::Leased);
    let made = plan(&all, &mut unshared(&[1; 6]), &limits());
    let mut gone = ids(&made);
    gone.sort_unstable();
    assert_eq!(gone, [0, 3, 4]);
    assert!(made.evictions.iter().all(|eviction| eviction.reason == Reason::Repeated));
    // In another lineage it is none, and nobody knows what others were built from.
    all.iter_mut().for_each(|candidate| candidate.held = None);
    all[0].lineage = "another".into();
    all[3].built_from = None;
    all[4].built_from = None;
    let mut gone = ids(&plan(&all, &mut unshared(&[1; 6]), &limits()));
    gone.sort_unstable();
    assert_eq!(gone, [1, 2, 3]);
    // What was restored yesterday from the older one is needed tomorrow from the newer one.
    let mut all: Vec<Candidate> = (0..4).map(|n| candidate(n, n / 3, 300 - i64::from(n), 1000)).collect();
    all[0].built_from = Some("main".into());
    all[1].built_from = Some("main".into());
    all[0].uses = vec![ago(24)];
    let limits = Limits { max_age: Some(WEEK), ..limits() };
    let mut gone = ids(&plan(&all, &mut unshared(&[1; 4]), &limits));
    gone.sort_unstable();
    assert_eq!(gone, [0, 3]);
}

#[test]
fn a_failed_build_is_a_repeat_of_one_that_went_well_however_new_it_is() {
    let mut all: Vec<Candidate> = (0..4).map(|n| candidate(n, 0, 60 - 10 * i64::from(n), 1000)).collect();
    all.iter_mut().for_each(|candidate| candidate.built_from = Some("main".into()));
    // Went well, went well, failed, failed.
    (all[2].failed, all[3].failed) = (true, true);
    let gone = |all: &[Candidate]| {
        let mut gone = ids(&plan(all, &mut unshared(&[1; 4]), &limits()));
        gone.sort_unstable();
        gone
    };
    assert_eq!(gone(&all), [0, 2, 3]);
    // Where all failed, the newest has most.
    (all[0].failed, all[1].failed) = (true, true);
    assert_eq!(gone(&all), [0, 1, 2]);
}

/// A store: candidates, blobs with their owners and whether a workspace links them.
#[derive(Clone, Debug)]
struct World {
    candidates: Vec<Candidate>,
    blobs: Vec<(Vec<usize>, Freed, bool)>,
}

impl World {
    fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::new(self.candidates.len());
        for (owners, size, linked) in &self.blobs {
            sizes.add_blob(owners.iter().copied(), *size, *linked);
        }
        sizes
    }

    /// What goes free when exactly these go, by another reckoning.
    fn freed(&self, gone: &dyn Fn(usize) -> bool) -> Freed {
        let mut freed = Freed::default();
        for (owners, size, linked) in &self.blobs {
            if !linked && !owners.is_empty() && owners.iter().all(|owner| gone(*owner)) {
                freed += *size;
            }
        }
        freed
    }

    fn may_go(&self, index: usize) -> bool {
        self.candidates[index].held.is_none()
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let uses = prop::collection::vec(-10..400_i64, 0..4);
    let from = prop::option::of(0..3_u8);
    let built = (from, any::<bool>());
    let one = (0..4_u32, 0..400_i64, 0..1_000_000_u64, uses, 1..5_usize, 0..8_u32, built);
    prop::collection::vec(one, 1..12).prop_flat_map(|all| {
        let count = all.len();
        let candidates: Vec<Candidate> = (0..)
            .zip(all)
            .map(|(n, (lineage, hours, ms, uses, keep, held, (from, failed)))| {
                let held = match held {
                    0 => Some(Held::Pinned),
                    1 => Some(Held::Leased),
                    _ => None,
                };
                let uses = uses.into_iter().map(ago).collect();
                let id = format!("{:08}-{n}", 1000 - hours);
                let built_from = from.map(|from| from.to_string());
                Candidate { id, uses, keep, held, built_from, failed, ..candidate(n, lineage, hours, ms) }
            })
            .collect();
        let owners = prop::collection::btree_set(0..count, 1..=count.min(4));
        let blob = (owners, 0..5_000_000_000_u64, 0..3_u64, prop::bool::weighted(0.1));
        let blobs = prop::collection::vec(blob, 0..30);
        blobs.prop_map(move |blobs| World {
            candidates: candidates.clone(),
            blobs: blobs
                .into_iter()
                .map(|(owners, bytes, inodes, linked)| (owners.into_iter().collect(), Freed { bytes, inodes }, linked))
                .collect(),
        })
    })
}

fn goals() -> impl Strategy<Value = Limits> {
    let max_age = prop::option::of(10..300_u64);
    (max_age, 0..20_000_000_000_u64, 0..20_000_000_000_u64, 0..20_u64, any::<bool>()).prop_map(
        |(age, over_budget, bytes, inodes, only_for_space)| Limits {
            max_age: age.map(|hours| Duration::from_secs(hours * 3600)),
            over_budget,
            wanted: Freed { bytes, inodes },
            only_for_space,
            ..limits()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_plan_keeps_its_promises(world in worlds(), goal in goals()) {
        let made = plan(&world.candidates, &mut world.sizes(), &goal);
        let gone = ids(&made);
        let is_gone = |index: usize| gone.contains(&index);
        // Never the leased, the pinned, or anybody twice; and the figures are right.
        prop_assert!(gone.iter().all(|index| world.may_go(*index)));
        prop_assert!((0..gone.len()).all(|at| !gone[..at].contains(&gone[at])));
        prop_assert_eq!(made.freed, world.freed(&is_gone));
        for at in 0..gone.len() {
            let before = world.freed(&|index| gone[..at].contains(&index));
            let after = world.freed(&|index| gone[..=at].contains(&index));
            prop_assert_eq!(before + made.evictions[at].freed, after);
        }
        // Repeats go first, and only where a better one is there; of the others only the newest few count.
        let better = |index: usize| {
            let one = &world.candidates[index];
            let is_better = move |other: &&Candidate| (!other.failed, &other.id) > (!one.failed, &one.id);
            world.candidates.iter().filter(move |other| other.lineage == one.lineage).filter(is_better)
        };
        let is_repeat = |index: usize| {
            let from = &world.candidates[index].built_from;
            from.is_some() && better(index).any(|other| other.built_from == *from)
        };
        let reasons: Vec<Reason> = made.evictions.iter().map(|eviction| eviction.reason).collect();
        prop_assert!(reasons.is_sorted_by_key(|reason| *reason != Reason::Repeated));
        for eviction in &made.evictions {
            match eviction.reason {
                Reason::Repeated => prop_assert!(is_repeat(eviction.index)),
                Reason::Surplus(keep) => {
                    let lineage = &world.candidates[eviction.index].lineage;
                    let id = &world.candidates[eviction.index].id;
                    let counted = (0..world.candidates.len()).filter(|other| {
                        let one = &world.candidates[*other];
                        one.lineage == *lineage && one.id > *id && !is_repeat(*other)
                    });
                    prop_assert!(!is_repeat(eviction.index) && counted.count() >= keep);
                }
                _ => {}
            }
        }
        if !goal.only_for_space {
            prop_assert!((0..world.candidates.len()).all(|index| is_gone(index) || !world.may_go(index) || !is_repeat(index)));
        }
        // The low mark is reached whenever it can be.
        let enough = |freed: Freed| freed.bytes >= goal.over_budget && freed.covers(goal.wanted);
        let everything = world.freed(&|index| world.may_go(index));
        prop_assert_eq!(made.short.is_none(), enough(everything));
        prop_assert_eq!(made.short.is_none(), enough(made.freed));
        // Nobody goes for room without whom there is room too.
        if made.short.is_none() {
            for eviction in made.evictions.iter().filter(|e| matches!(e.reason, Reason::Budget | Reason::Room)) {
                prop_assert!(!enough(world.freed(&|index| index != eviction.index && is_gone(index))));
            }
        }
        // A lineage that was used lately keeps somebody, unless only such ones are left and room is wanted.
        let last_ones = |index: usize| {
            let lineage = &world.candidates[index].lineage;
            let used = world.candidates.iter().filter(|other| other.lineage == *lineage);
            let used = used.map(|other| chance::last_used(other, NOW)).max().unwrap();
            NOW.as_nanos() - used <= i64::try_from(WEEK.as_nanos()).unwrap()
                && (0..world.candidates.len()).all(|other| world.candidates[other].lineage != *lineage || is_gone(other))
        };
        for eviction in made.evictions.iter().filter(|eviction| last_ones(eviction.index)) {
            let for_space = made.evictions.iter().any(|e| {
                world.candidates[e.index].lineage == world.candidates[eviction.index].lineage
                    && matches!(e.reason, Reason::Budget | Reason::Room)
            });
            prop_assert!(for_space || goal.only_for_space && goal.max_age.is_some(), "{:?}", eviction);
        }
    }

    #[test]
    fn whoever_is_worth_more_never_goes_earlier(
        ms in prop::collection::vec((0..4_u32, 0..150_i64, 0..1_000_000_u64, 1..9_u64), 2..10),
        which: prop::sample::Index,
        more in 0..1_000_000_u64,
        goal in 1..30_u64,
    ) {
        let make = |ms: &[(u32, i64, u64, u64)]| -> Vec<Candidate> {
            (0..).zip(ms).map(|(n, (lineage, hours, ms, _))| {
                Candidate { id: format!("{:08}-{n}", 1000 - hours), ..candidate(n, *lineage, *hours, *ms) }
            }).collect()
        };
        let bytes: Vec<u64> = ms.iter().map(|(.., size)| *size).collect();
        let which = which.index(ms.len());
        let limits = Limits { wanted: gigabytes(goal), ..limits() };
        let place = |candidates: &[Candidate]| {
            let gone = ids(&plan(candidates, &mut unshared(&bytes), &limits));
            gone.iter().position(|index| *index == which).unwrap_or(usize::MAX)
        };
        let poor = make(&ms);
        let mut rich = poor.clone();
        rich[which].alone_ms += more;
        rich[which].beside_ms += more;
        // Who was let stay in the end was passed over; that is no place in the order.
        let (poor, rich) = (place(&poor), place(&rich));
        prop_assert!(rich >= poor || poor == usize::MAX, "{rich} before {poor}");
    }
}
