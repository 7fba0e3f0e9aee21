//! Who depends on whom, and so what a change will cost.
//!
//! A unit names its dependencies by their fingerprints. Cargo builds it again when one of them is built again, whatever
//! came of that (`StaleDepFingerprint` and `StaleDependency` in cargo's fingerprints): so dirt spreads to every dependent,
//! from a build script to its run, from there to the library, from there to tests and programs.
//!
//! What is said here is certain as far as it goes: units that are named *will* be built if the same is asked for.
//! Others may be built besides, because of a variable, a profile, a compiler or a new package. A prediction counts the
//! variables too: they are not certain, since the command may set its own.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::{Lock, UnitTable};

/// What building will cost, as far as a table can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prediction {
    /// Units that will be built again.
    pub units: usize,
    /// The sum of what they cost before. On a machine with several cores less time passes.
    pub millis: u64,
    /// Packages of today's lock file that the table knows nothing of: they cost too, nobody knows how much.
    pub unknown: usize,
}

impl UnitTable {
    /// Which units cargo will certainly build again, in the order of [`units`](Self::units).
    ///
    /// `changed` says whether a file has changed or is missing; for a directory, whether anything below it has.
    /// `package_touched` says by name whether any file of a path package has changed, appeared or gone.
    pub fn dirty(&self, changed: &dyn Fn(&Path) -> bool, package_touched: &dyn Fn(&str) -> bool) -> Vec<bool> {
        let first = |unit: &super::Unit| {
            unit.fingerprint == 0
                || (unit.watches_package && package_touched(&unit.package))
                || unit.inputs.iter().any(|path| changed(path))
        };
        self.with_dependents(self.units.iter().map(first).collect())
    }

    /// Which units are of no use with another lock file, in the order of [`units`](Self::units): those of a package
    /// whose version or source is gone, and all that depends on them. Where a name has several versions and one of
    /// them is gone, the units of all are counted, since a unit's name does not say which it is.
    pub fn lock_difference(&self, then: &Lock, now: &Lock) -> Vec<bool> {
        let mut known: HashMap<&str, bool> = HashMap::new();
        let mut lost = |name| *known.entry(name).or_insert_with(|| then.lost(name, now));
        self.with_dependents(self.units.iter().map(|unit| lost(&unit.package)).collect())
    }

    /// What these units cost together when they were built last.
    pub fn cost(&self, dirty: &[bool]) -> Duration {
        Duration::from_millis(self.chosen(dirty).map(|unit| unit.millis).sum())
    }

    /// What building on this directory will cost after changes to sources, to the lock file, `(then, now)`, and to the
    /// environment: `varied` says whether a variable has another value than the one that was seen.
    ///
    /// Units that the last build did not read are not counted, since the next one will hardly want them.
    pub fn predict(
        &self,
        changed: &dyn Fn(&Path) -> bool,
        package_touched: &dyn Fn(&str) -> bool,
        lock: Option<(&Lock, &Lock)>,
        varied: &dyn Fn(&str, Option<&str>) -> bool,
    ) -> Prediction {
        let mut dirty = self.dirty(changed, package_touched);
        let by_env = |unit: &super::Unit| unit.env.iter().any(|(name, value)| varied(name, value.as_deref()));
        let by_env = self.with_dependents(self.units.iter().map(by_env).collect());
        dirty.iter_mut().zip(by_env).for_each(|(dirty, varied)| *dirty |= varied);
        let mut unknown = 0;
        if let Some((then, now)) = lock.filter(|(then, now)| then != now) {
            dirty.iter_mut().zip(self.lock_difference(then, now)).for_each(|(dirty, useless)| *dirty |= useless);
            unknown = then.gained(now);
        }
        dirty.iter_mut().zip(&self.units).for_each(|(dirty, unit)| *dirty &= unit.unread == 0);
        let (mut units, mut millis) = (0, 0);
        for unit in self.chosen(&dirty) {
            units += 1;
            millis += unit.millis;
        }
        Prediction { units, millis, unknown }
    }

    /// Adds to each chosen unit all that depend on it.
    pub(super) fn with_dependents(&self, mut chosen: Vec<bool>) -> Vec<bool> {
        let mut dependents: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, unit) in self.units.iter().enumerate() {
            unit.deps.iter().for_each(|dep| dependents.entry(*dep).or_default().push(index));
        }
        let mut open: Vec<usize> = (0..self.units.len()).filter(|index| chosen[*index]).collect();
        while let Some(index) = open.pop() {
            for &dependent in dependents.get(&self.units[index].fingerprint).into_iter().flatten() {
                if !std::mem::replace(&mut chosen[dependent], true) {
                    open.push(dependent);
                }
            }
        }
        chosen
    }

    fn chosen<'s>(&'s self, chosen: &'s [bool]) -> impl Iterator<Item = &'s super::Unit> {
        self.units.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(unit, _)| unit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{local, registry, table};
    use super::*;

    fn names(table: &UnitTable, chosen: &[bool]) -> Vec<String> {
        table.chosen(chosen).map(|unit| unit.target.clone()).collect()
    }

    /// syn ─ derive ─ serde ┐
    ///                 lib ─┴─ app ─ test; a script and its run beside.
    fn sample() -> UnitTable {
        table(vec![
            registry("syn", "lib-syn", 1, &[]),
            registry("derive", "lib-derive", 2, &[1]),
            registry("serde", "lib-serde", 3, &[2]),
            local("lib", "build-script-build-script-build", 4, &[], &["/w/lib/build.rs"]),
            local("lib", "run-build-script-build-script-build", 5, &[4], &["/w/lib/data"]),
            local("lib", "lib-lib", 6, &[3, 5], &["/w/lib/src/lib.rs"]),
            local("app", "lib-app", 7, &[6], &["/w/app/src/lib.rs"]),
            local("app", "test-lib-app", 8, &[6], &["/w/app/src/lib.rs"]),
            local("app", "test-integration-test-it", 9, &[7, 6], &["/w/app/tests/it.rs"]),
        ])
    }

    #[test]
    fn dirt_spreads_to_dependents() {
        let table = sample();
        let with = |path: &str| names(&table, &table.dirty(&|input| input == Path::new(path), &|_| false));
        assert_eq!(with("/w/app/tests/it.rs"), ["test-integration-test-it"]);
        assert_eq!(with("/w/app/src/lib.rs"), ["lib-app", "test-lib-app", "test-integration-test-it"]);
        assert_eq!(with("/w/lib/data").len(), 5);
        assert_eq!(with("/w/lib/build.rs").len(), 6);
        assert!(with("/w/README.md").is_empty());
        let none = table.dirty(&|_| false, &|_| true);
        assert!(names(&table, &none).is_empty());
        assert_eq!(table.cost(&table.dirty(&|_| true, &|_| false)), Duration::from_millis(4 + 5 + 6 + 7 + 8 + 9));
    }

    #[test]
    fn a_watched_package_and_a_failed_unit() {
        let mut table = sample();
        table.units[4].watches_package = true;
        assert_eq!(names(&table, &table.dirty(&|_| false, &|name| name == "lib")).len(), 5);
        assert!(names(&table, &table.dirty(&|_| false, &|name| name == "app")).is_empty());
        table.units[8].fingerprint = 0;
        assert_eq!(names(&table, &table.dirty(&|_| false, &|_| false)), ["test-integration-test-it"]);
    }

    #[test]
    fn predictions_add_the_lock_file() {
        let mut table = sample();
        let lock = |serde: &str, more: &str| {
            Lock::parse(format!("[[package]]\nname='serde'\nversion='{serde}'\n{more}").as_bytes()).unwrap()
        };
        let (then, now) = (lock("1.0.0", ""), lock("1.0.1", "[[package]]\nname='new'\nversion='1.0.0'"));
        let predict = |table: &UnitTable, now: &Lock| {
            let changed = |path: &Path| path == Path::new("/w/lib/data");
            table.predict(&changed, &|_| false, Some((&then, now)), &|_, _| false)
        };
        assert_eq!(predict(&table, &now), Prediction { units: 6, millis: 3 + 5 + 6 + 7 + 8 + 9, unknown: 2 });
        assert_eq!(predict(&table, &then), Prediction { units: 5, millis: 5 + 6 + 7 + 8 + 9, unknown: 0 });
        table.units[7].unread = 1;
        assert_eq!(predict(&table, &then), Prediction { units: 4, millis: 5 + 6 + 7 + 9, unknown: 0 });
    }

    #[test]
    fn predictions_add_the_environment() {
        let mut table = sample();
        table.units[4].env = vec![("SET".to_owned(), Some("one".to_owned())), ("ABSENT".to_owned(), None)];
        let predict = |set: &'static str, absent: Option<&'static str>| {
            let now = move |name: &str| if name == "SET" { Some(set) } else { absent };
            table.predict(&|_| false, &|_| false, None, &|name, then| now(name) != then)
        };
        assert_eq!(predict("one", None), Prediction::default());
        let from_the_run = Prediction { units: 5, millis: 5 + 6 + 7 + 8 + 9, unknown: 0 };
        assert_eq!((predict("two", None), predict("one", Some(""))), (from_the_run, from_the_run));
    }

    #[test]
    fn circles_end() {
        // No cargo writes one, but a file may hold anything.
        let table = table(vec![registry("a", "lib-a", 1, &[2]), registry("b", "lib-b", 2, &[1, 2])]);
        assert_eq!(table.with_dependents(vec![true, false]), [true, true]);
    }
}
