//! Who goes, in which order, until there is room.
//!
//! First what is a repeat of another one of its lineage, then what is old or too many in its lineage, then, while room is
//! wanted, whatever is worth least: expected seconds spared a day, for each byte of the snapshot's share
//! ([`super::sizes`]). Every step looks anew: what goes changes the shares of the others, and who is the newest of a
//! lineage. In the end whoever turned out not to be needed stays, the most valuable first.
//!
//! Invariants: whoever is held stays. What can free nothing is never evicted for room. A lineage that was used lately
//! keeps a snapshot, unless only such ones are left and room is still wanted: a full disk stops every job, a lost
//! snapshot makes one slower. Within a lineage the greatest name is the newest, whatever a clock said.

use super::chance::{self, Lineage};
use super::sizes::{Freed, Sizes};
use super::{Candidate, Eviction, Held, Limits, Plan, Reason, Short};
use std::collections::HashMap;
use std::time::Duration;

/// Every restore spares the time of finding out that nothing is there: no snapshot is worth nothing.
const SPARED_AT_LEAST: f64 = 1000.0;
const GIGABYTE: f64 = 1e9;

struct Member<'a> {
    candidate: &'a Candidate,
    /// Another one of its lineage was built from the same, and is better.
    repeated: bool,
    lineage: usize,
    used: i64,
    gone: bool,
}

struct Planner<'a> {
    members: Vec<Member<'a>>,
    lineages: Vec<Lineage>,
    /// The members of each lineage that are still there, newest first.
    there: Vec<Vec<usize>>,
    sizes: &'a mut Sizes,
    limits: &'a Limits,
    freed: Freed,
    evictions: Vec<Eviction>,
}

/// Makes a plan. `sizes` knows the candidates by their index; it is left as after the plan.
pub fn plan(candidates: &[Candidate], sizes: &mut Sizes, limits: &Limits) -> Plan {
    for (index, _) in candidates.iter().enumerate().filter(|(_, candidate)| candidate.held.is_some()) {
        sizes.hold(index);
    }
    sizes.settle();
    let (candidates, repeated) = told_apart(candidates);
    let mut planner = Planner::new(&candidates, &repeated, sizes, limits);
    planner.drop_old_and_surplus();
    let needed_from = planner.evictions.len();
    while !planner.is_enough() {
        // The last one of a lineage in use comes last.
        let Some(index) = planner.cheapest(false).or_else(|| planner.cheapest(true)) else { break };
        let reason = if planner.is_over_budget() { Reason::Budget } else { Reason::Room };
        planner.evict(index, reason);
    }
    planner.spare_who_is_not_needed(needed_from);
    planner.finish()
}

/// Which candidates are repeats: all but the newest that did not fail of those built from the same, or the newest where
/// all failed. What was a use of a repeat is one of that one's in the result.
fn told_apart(candidates: &[Candidate]) -> (Vec<Candidate>, Vec<bool>) {
    fn key(candidate: &Candidate) -> Option<(&str, &str)> {
        Some((candidate.lineage.as_str(), candidate.built_from.as_deref()?))
    }
    fn rank(candidate: &Candidate) -> (bool, &str) {
        (!candidate.failed, &candidate.id)
    }
    let mut best: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(key) = key(candidate) else { continue };
        let first = best.entry(key).or_insert(index);
        if rank(&candidates[*first]) < rank(candidate) {
            *first = index;
        }
    }
    let (mut told, mut repeated) = (candidates.to_vec(), vec![false; candidates.len()]);
    for (index, candidate) in candidates.iter().enumerate() {
        if let Some(first) = key(candidate).map(|key| best[&key]).filter(|first| *first != index) {
            repeated[index] = true;
            let uses = std::mem::take(&mut told[index].uses);
            told[first].uses.extend(uses);
        }
    }
    (told, repeated)
}

impl<'a> Planner<'a> {
    fn new(candidates: &'a [Candidate], repeated: &[bool], sizes: &'a mut Sizes, limits: &'a Limits) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut there: Vec<Vec<usize>> = Vec::new();
        let mut members = Vec::with_capacity(candidates.len());
        for (index, candidate) in candidates.iter().enumerate() {
            let lineage = *numbers.entry(&candidate.lineage).or_insert_with(|| {
                there.push(Vec::new());
                there.len() - 1
            });
            there[lineage].push(index);
            let (repeated, used) = (repeated[index], chance::last_used(candidate, limits.now));
            members.push(Member { candidate, repeated, lineage, used, gone: false });
        }
        for lineage in &mut there {
            lineage.sort_unstable_by(|a, b| candidates[*b].id.cmp(&candidates[*a].id));
        }
        let of = |lineage: &Vec<usize>| Lineage::of(lineage.iter().map(|index| &candidates[*index]), limits.now);
        let lineages = there.iter().map(of).collect();
        Self { members, lineages, there, sizes, limits, freed: Freed::default(), evictions: Vec::new() }
    }

    fn drop_old_and_surplus(&mut self) {
        let limit = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let mut due: Vec<(usize, Reason)> = Vec::new();
        for (lineage, there) in self.there.iter().enumerate() {
            let mut next = 0;
            for index in there {
                let member = &self.members[*index];
                let place = next;
                next += usize::from(!member.repeated);
                if member.candidate.held.is_some() {
                    continue;
                }
                if member.repeated {
                    due.push((*index, Reason::Repeated));
                    continue;
                }
                let silence = self.limits.now.as_nanos().saturating_sub(member.used);
                let is_old = self.limits.max_age.is_some_and(|age| silence > limit(age));
                let keep = member.candidate.keep.max(1);
                if place >= keep {
                    due.push((*index, Reason::Surplus(keep)));
                } else if is_old && (place > 0 || !self.is_recent(lineage)) {
                    let nanos = u64::try_from(silence).unwrap_or(0);
                    due.push((*index, Reason::Unused(Duration::from_nanos(nanos))));
                }
            }
        }
        while !(due.is_empty() || self.limits.only_for_space && self.is_enough()) {
            let able = |(index, _): &(usize, Reason)| !self.limits.only_for_space || self.sizes.can_free(*index);
            let ranked = due.iter().enumerate().filter(|(_, due)| able(due));
            let ranked = ranked.map(|(at, (index, reason))| {
                (at, !reason.is_repeated(), self.worth(*index), &self.members[*index].candidate.id)
            });
            let least =
                ranked.min_by(|a, b| a.1.cmp(&b.1).then_with(|| a.2.total_cmp(&b.2)).then_with(|| a.3.cmp(b.3)));
            let Some((at, ..)) = least else { break };
            let (index, reason) = due.swap_remove(at);
            self.evict(index, reason);
        }
    }

    fn is_recent(&self, lineage: usize) -> bool {
        let recent = i64::try_from(self.limits.recent.as_nanos()).unwrap_or(i64::MAX);
        self.limits.now.as_nanos().saturating_sub(self.lineages[lineage].used) <= recent
    }

    fn is_over_budget(&self) -> bool {
        self.freed.bytes < self.limits.over_budget
    }

    fn is_enough(&self) -> bool {
        !self.is_over_budget() && self.freed.covers(self.limits.wanted)
    }

    /// The snapshot that is worth least of those that may go.
    fn cheapest(&self, last_ones_too: bool) -> Option<usize> {
        let may_go = |index: &usize| {
            let member = &self.members[*index];
            let is_last = self.there[member.lineage].len() == 1 && self.is_recent(member.lineage);
            !member.gone
                && member.candidate.held.is_none()
                && self.sizes.can_free(*index)
                && (last_ones_too || !is_last)
        };
        let ranked = (0..self.members.len()).filter(may_go);
        let ranked = ranked.map(|index| (index, self.worth(index), &self.members[index].candidate.id));
        ranked.min_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.2.cmp(b.2))).map(|(index, ..)| index)
    }

    /// Milliseconds of building that the snapshot is expected to spare a day, for each gigabyte of its share.
    fn worth(&self, index: usize) -> f64 {
        let member = &self.members[index];
        let there = &self.there[member.lineage];
        let newer = there.iter().position(|other| *other == index).unwrap_or(0);
        let overtaken = newer.checked_sub(1).map(|next| self.members[there[next]].candidate.created);
        let restores =
            chance::restores(self.lineages[member.lineage], member.candidate, newer, overtaken, self.limits.now);
        let spared = if there.len() == 1 { member.candidate.alone_ms } else { member.candidate.beside_ms };
        let (bytes, inodes) = self.sizes.share(index);
        // A file system that lacks files only is full in another way.
        let lacks = self.freed.short_of(self.limits.wanted);
        let size = if lacks.inodes > 0 && lacks.bytes == 0 && !self.is_over_budget() {
            // Of the size that a file has on average, so that the numbers can be compared.
            inodes * 64.0 * 1024.0
        } else {
            bytes
        };
        restores * (spared as f64 + SPARED_AT_LEAST) / (size.max(1.0) / GIGABYTE)
    }

    fn evict(&mut self, index: usize, reason: Reason) {
        let worth = self.worth(index);
        let freed = self.sizes.remove(index);
        self.freed += freed;
        let member = &mut self.members[index];
        member.gone = true;
        self.there[member.lineage].retain(|other| *other != index);
        let id = member.candidate.id.clone();
        self.evictions.push(Eviction { index, id, reason, freed, worth });
    }

    /// Lets those stay without whom there is room all the same: small ones went before it was known that a large one
    /// would follow.
    fn spare_who_is_not_needed(&mut self, from: usize) {
        if !self.is_enough() {
            return;
        }
        let mut spared = false;
        for at in (from..self.evictions.len()).rev() {
            let index = self.evictions[at].index;
            let had_freed = self.sizes.put_back(index);
            let before = self.freed;
            self.freed -= had_freed;
            if self.is_enough() {
                self.evictions.remove(at);
                spared = true;
            } else {
                self.sizes.remove(index);
                self.freed = before;
            }
        }
        if spared {
            // Who frees what depends on who went before.
            for eviction in self.evictions.iter().rev() {
                self.sizes.put_back(eviction.index);
            }
            self.evictions.iter_mut().for_each(|eviction| eviction.freed = self.sizes.remove(eviction.index));
        }
    }

    fn finish(self) -> Plan {
        let short = (!self.is_enough()).then(|| {
            let held = |held| self.members.iter().filter(|member| member.candidate.held == Some(held)).count();
            let bound = |(index, member): &(usize, &Member<'_>)| {
                !member.gone && member.candidate.held.is_none() && !self.sizes.can_free(*index)
            };
            Short {
                over_budget: self.limits.over_budget.saturating_sub(self.freed.bytes),
                wanted: self.freed.short_of(self.limits.wanted),
                pinned: held(Held::Pinned),
                leased: held(Held::Leased),
                bound: self.members.iter().enumerate().filter(bound).count(),
            }
        });
        Plan { evictions: self.evictions, freed: self.freed, short }
    }
}

#[cfg(test)]
mod tests;
