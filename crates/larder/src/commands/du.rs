//! `larder du`: what the store's space goes to.

use super::{is_json, open_store};
use crate::cli::{By, DuArgs, DuSort, Filter, Global};
use crate::holdings::{Amounts, Du, DuGroup};
use crate::origin::Origin;
use crate::report::{self, SCHEMA_VERSION};
use crate::talk::Talk;
use anyhow::Result;
use clap::ValueEnum;
use larder_store::{Census, Counted};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn run(global: &Global, args: &DuArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let census = match open_store(global, &talk)? {
        Some(store) => store.census(&talk)?,
        None => Census::default(),
    };
    let du = measure(&census, args);
    talk.finish();
    match is_json(global) {
        true => report::print_json(&du)?,
        false => report::print(&du.text())?,
    }
    Ok(0)
}

fn measure(census: &Census, args: &DuArgs) -> Du {
    let origins: Vec<Origin> = census.snapshots.iter().map(|one| Origin::of(&one.header)).collect();
    // Groups by name; what was not chosen is in the first, which has none.
    let mut members: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::from([(None, Vec::new())]);
    for (index, (counted, origin)) in census.snapshots.iter().zip(&origins).enumerate() {
        let is_chosen = args.filter.matches(&counted.header.key, origin);
        members.entry(is_chosen.then(|| name(args.by, counted, origin))).or_default().push(index);
    }
    let mut of = vec![0; census.snapshots.len()];
    for (group, indices) in members.values().enumerate() {
        indices.iter().for_each(|index| of[*index] = group);
    }
    let chosen: Vec<usize> = (0..of.len()).filter(|index| of[*index] > 0).collect();
    let sums = census.groups(&of);
    let group = |(group, (name, indices)): (usize, (Option<String>, Vec<usize>))| {
        let sum = sums.get(group).copied().unwrap_or_default();
        Some(DuGroup {
            name: name?,
            amounts: Amounts::new(census, sum, &indices),
            origin: common(indices.iter().map(|index| &origins[*index])),
            newest: indices
                .first()
                .map(|index| report::time(census.snapshots[*index].header.created))
                .unwrap_or_default(),
        })
    };
    let mut groups: Vec<DuGroup> = members.into_iter().enumerate().filter_map(group).collect();
    groups.sort_by_key(|group| Reverse(rank(args.sort, &group.amounts)));
    let lineages: BTreeSet<_> = chosen.iter().map(|index| &census.snapshots[*index].lineage).collect();
    Du {
        schema_version: SCHEMA_VERSION,
        by: args.by.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default(),
        total: Amounts::new(census, census.together(&chosen), &chosen),
        lineages: lineages.len() as u64,
        groups,
        store: census.totals.into(),
        damaged: census.damaged.iter().map(|(found, _)| found.id.clone()).collect(),
    }
}

fn name(by: By, counted: &Counted, origin: &Origin) -> String {
    match by {
        By::Repository => origin.repository.clone().unwrap_or_default(),
        By::Lineage => counted.lineage.to_string(),
        By::Snapshot => counted.found.id.clone(),
        By::Branch => origin.branch.clone().unwrap_or_default(),
        By::Kind => origin.kind.clone(),
    }
}

/// Groups with equal numbers stay in the order of their names.
fn rank(sort: DuSort, amounts: &Amounts) -> u64 {
    match sort {
        DuSort::Stored => amounts.stored_bytes,
        DuSort::Logical => amounts.logical_bytes,
        DuSort::Unique => amounts.unique_bytes,
        DuSort::Reclaimable => amounts.reclaimable_bytes,
        DuSort::Snapshots => amounts.snapshots,
        DuSort::Name => 0,
    }
}

/// What all have in common; nothing where not even the kind.
fn common<'a>(mut origins: impl Iterator<Item = &'a Origin>) -> Option<Origin> {
    let first = origins.next()?.clone();
    let same = |a: Option<String>, b: &Option<String>| a.filter(|a| b.as_ref() == Some(a));
    origins.try_fold(first, |all, one| {
        (all.kind == one.kind).then(|| Origin {
            repository: same(all.repository, &one.repository),
            job: same(all.job, &one.job),
            branch: same(all.branch, &one.branch),
            commit: same(all.commit, &one.commit),
            kind: all.kind,
        })
    })
}

impl Filter {
    /// Whether a snapshot is wanted.
    pub(super) fn matches(&self, key: &str, origin: &Origin) -> bool {
        let Self { key: prefix, repository, job, branch, kind } = self;
        let fits =
            |wanted: &Option<String>, has: Option<&String>| wanted.as_ref().is_none_or(|wanted| has == Some(wanted));
        key.starts_with(prefix)
            && fits(repository, origin.repository.as_ref())
            && fits(job, origin.job.as_ref())
            && fits(branch, origin.branch.as_ref())
            && fits(kind, Some(&origin.kind))
    }
}
