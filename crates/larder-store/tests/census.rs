//! The census of a store as a busy host has it, in a small form; `examples/many_snapshots.rs` makes the large one.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

#[path = "support/many.rs"]
mod many;

use larder_store::{Census, Events, Phase, Snapshot, Store};
use many::{Size, make};
use std::collections::BTreeSet;
use std::sync::Mutex;

#[derive(Default)]
struct Work(Mutex<(u64, u64)>);

impl Events for Work {
    fn phase(&self, phase: Phase, total: u64) {
        assert_eq!(phase, Phase::Count);
        self.0.lock().unwrap().0 += total;
    }

    fn advance(&self, steps: u64) {
        self.0.lock().unwrap().1 += steps;
    }

    fn warn(&self, message: &str) {
        panic!("nothing is wrong: {message}");
    }
}

const SMALL: Size = Size { snapshots: 24, lineages: 6, files: 200 };

fn counted(store: &Store) -> Census {
    let work = Work::default();
    let census = store.census(&work).unwrap();
    assert_eq!(work.0.into_inner().unwrap(), (SMALL.snapshots as u64, SMALL.snapshots as u64), "each is read once");
    census
}

#[test]
fn a_store_of_many_snapshots_adds_up() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let made = make(&path, SMALL);
    let store = Store::open(&path, &()).unwrap();
    let census = counted(&store);
    let totals = census.totals;
    assert_eq!(made.entries, 24 * 200);
    assert_eq!(census.snapshots.iter().map(|one| one.files).sum::<u64>(), made.entries);
    assert_eq!((totals.logical, totals.blobs, totals.missing, totals.orphans), (made.logical, made.blobs, 0, 0));
    let lineages: BTreeSet<_> = census.snapshots.iter().map(|one| one.lineage.clone()).collect();
    assert_eq!(lineages.len(), SMALL.lineages);
    for counted in &census.snapshots {
        let whole = Snapshot::load(&counted.found.path).unwrap();
        assert_eq!(counted.header, whole.header);
        assert_eq!(counted.logical, whole.roots[0].logical_bytes());
    }
    assert!(census.snapshots.is_sorted_by(|a, b| a.found.id > b.found.id), "the newest first");
}

#[test]
fn what_the_census_promises_is_what_a_removal_frees() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    make(&path, SMALL);
    let store = Store::open(&path, &()).unwrap();
    let mut census = counted(&store);
    let before = census.totals;
    // The older half of two lineages.
    let chosen: Vec<usize> = (12..24).filter(|index| index % 6 < 2).collect();
    let together = census.together(&chosen).reclaimable;
    assert_eq!(chosen.iter().map(|index| census.remove(*index)).sum::<u64>(), together);
    let found: Vec<_> = chosen.iter().map(|index| census.snapshots[*index].found.clone()).collect();
    let removed = store.remove(&found, false, &()).unwrap();
    assert!(removed.blobs > 0 && removed.blobs < before.blobs);
    let after = store.census(&()).unwrap();
    assert_eq!(before.stored() - after.totals.stored(), together);
    let left = census.snapshots.iter().enumerate().filter(|(index, _)| !chosen.contains(index));
    for ((_, told), now) in left.zip(&after.snapshots) {
        assert_eq!((told.unique, told.reclaimable), (now.unique, now.reclaimable), "{}", now.found.id);
    }
}
