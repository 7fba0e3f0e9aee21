//! Which units are still wanted.
//!
//! Cargo reads the hash file of every unit of the build that it was asked for, fresh or not, and of no others. So what a
//! build wanted is known afterwards. What it did not want may be wanted by the next command of the same job, or by
//! nobody any more; these are told apart carefully, because a unit dropped too early costs its time again:
//!
//! - **Superseded**: a unit of another package version is gone for good when its like, equal in everything but where its
//!   source is, appeared in this very build. Whatever depends on it goes along. Only a new unit supersedes: two versions
//!   in one lock file, or two commands that take turns, would otherwise drop each other's units in every job.
//! - **Forgotten**: what no build read before [`FORGOTTEN`] saves in a row.
//!
//! A unit that a wanted one depends on is never dropped, and when nothing at all is known to be read, nothing is.

use std::collections::{BTreeSet, HashMap};

use super::{Unit, UnitTable};
use crate::UnitId;

/// In how many saves one after the other a unit may be unread before it is dropped.
pub const FORGOTTEN: u8 = 3;

impl UnitTable {
    /// The units whose hash files were read, given by their paths in the target directory. Whoever goes by access times
    /// looks at them before [reading a table](Self::read), which reads hash files too.
    pub fn live(&self, was_read: &dyn Fn(&[u8]) -> bool) -> BTreeSet<UnitId> {
        let read = |unit: &&Unit| unit.hash_files().iter().any(|path| was_read(path));
        self.units.iter().filter(read).map(|unit| unit.id.clone()).collect()
    }

    /// Takes over what is known from earlier saves, and counts this one: `read` are the units that were read since.
    /// If that is empty nothing is known, and nothing is counted.
    pub fn carry_over(&mut self, before: &Self, read: &BTreeSet<UnitId>) {
        let known: HashMap<(&UnitId, &str), &Unit> =
            before.units.iter().map(|unit| ((&unit.id, unit.target.as_str()), unit)).collect();
        for unit in &mut self.units {
            let Some(old) = known.get(&(&unit.id, unit.target.as_str())) else { continue };
            unit.saves = old.saves.saturating_add(1);
            if unit.fingerprint == 0 {
                // It failed before its time was known.
                unit.millis = old.millis;
            }
            unit.unread = match read.contains(&unit.id) {
                _ if read.is_empty() => old.unread,
                true => 0,
                false => old.unread.saturating_add(1),
            };
        }
    }

    /// The units that nobody wants any more, after [`carry_over`](Self::carry_over).
    pub fn dead(&self, read: &BTreeSet<UnitId>) -> Vec<UnitId> {
        if read.is_empty() {
            return Vec::new();
        }
        let wanted = self.with_dependencies(self.units.iter().map(|unit| read.contains(&unit.id)).collect());
        let new: HashMap<_, Vec<&Unit>> = self
            .units
            .iter()
            .filter(|unit| unit.saves == 0 && read.contains(&unit.id))
            .fold(HashMap::new(), |mut new, unit| {
                new.entry(role(unit)).or_default().push(unit);
                new
            });
        let first = self.units.iter().zip(&wanted).map(|(unit, wanted)| {
            // A path package stays where it is whatever its version, so its place says nothing; and the run of a build
            // script has no recipe, it goes with its script.
            let versioned = !unit.local && unit.recipe.path != 0;
            let superseded = || {
                let like = new.get(&role(unit)).into_iter().flatten();
                like.into_iter().any(|new| new.recipe.path != unit.recipe.path)
            };
            !wanted && (unit.unread >= FORGOTTEN || (versioned && unit.saves > 0 && superseded()))
        });
        let gone = self.with_dependents(first.collect());
        let kept: BTreeSet<&UnitId> = self
            .units
            .iter()
            .zip(gone.iter().zip(&wanted))
            .filter(|(_, (gone, wanted))| !**gone || **wanted)
            .map(|(unit, _)| &unit.id)
            .collect();
        let all: BTreeSet<&UnitId> = self.units.iter().map(|unit| &unit.id).collect();
        all.difference(&kept).map(|id| (*id).clone()).collect()
    }

    /// Adds to each chosen unit all that it depends on.
    fn with_dependencies(&self, mut chosen: Vec<bool>) -> Vec<bool> {
        let mut by_fingerprint: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, unit) in self.units.iter().enumerate() {
            by_fingerprint.entry(unit.fingerprint).or_default().push(index);
        }
        let mut open: Vec<usize> = (0..self.units.len()).filter(|index| chosen[*index]).collect();
        while let Some(index) = open.pop() {
            let found = self.units[index].deps.iter().filter_map(|dep| by_fingerprint.get(dep)).flatten();
            for &dependency in found {
                if !std::mem::replace(&mut chosen[dependency], true) {
                    open.push(dependency);
                }
            }
        }
        chosen
    }
}

/// What a unit does in a build; two units of one role differ in their dependencies or in their package's version.
fn role(unit: &Unit) -> impl std::hash::Hash + Eq + '_ {
    let recipe = &unit.recipe;
    (
        (&unit.id.root, &unit.package, &unit.target),
        (recipe.rustc, &recipe.features, recipe.profile, &recipe.rustflags, recipe.config, recipe.compile_kind),
    )
}

impl Unit {
    /// Where its hash file is, in either layout.
    pub fn hash_files(&self) -> [Vec<u8>; 2] {
        let Self { id: UnitId { root, hash }, package, target, .. } = self;
        let old = format!("/.fingerprint/{package}-{hash}/{target}");
        let new = format!("/build/{package}/{hash}/fingerprint/{target}");
        [[root, old.as_bytes()].concat(), [root, new.as_bytes()].concat()]
    }

    /// The name of the crate that rustc compiled, unless none was.
    pub(super) fn crate_name(&self) -> Option<String> {
        let target = self.target.strip_prefix("test-").unwrap_or(&self.target);
        let kinds = ["lib-", "bin-", "integration-test-", "example-", "bench-", "build-script-"];
        let name = kinds.iter().find_map(|kind| target.strip_prefix(kind))?;
        Some(name.replace('-', "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::super::tests::{local, registry, table};
    use super::*;

    fn at(mut unit: Unit, path: u64) -> Unit {
        unit.recipe.path = path;
        unit.recipe.profile = 1;
        unit
    }

    fn ids(table: &UnitTable, targets: &[u64]) -> BTreeSet<UnitId> {
        table.units.iter().filter(|unit| targets.contains(&unit.fingerprint)).map(|unit| unit.id.clone()).collect()
    }

    fn dead(table: &UnitTable, read: &[u64]) -> Vec<u64> {
        let dead = table.dead(&ids(table, read));
        table.units.iter().filter(|unit| dead.contains(&unit.id)).map(|unit| unit.fingerprint).collect()
    }

    /// Version 1 of a package with a build script, and a program.
    fn first() -> Vec<Unit> {
        vec![
            at(registry("dep", "build-script-build-script-build", 10, &[]), 100),
            registry("dep", "run-build-script-build-script-build", 11, &[10]),
            at(registry("dep", "lib-dep", 12, &[11]), 101),
            at(local("app", "bin-app", 13, &[12], &["/w/main.rs"]), 102),
        ]
    }

    fn second() -> Vec<Unit> {
        let mut units = first();
        units.extend([
            at(registry("dep", "build-script-build-script-build", 20, &[]), 200),
            registry("dep", "run-build-script-build-script-build", 21, &[20]),
            at(registry("dep", "lib-dep", 22, &[21]), 201),
            at(local("app", "bin-app", 23, &[22], &["/w/main.rs"]), 102),
        ]);
        units
    }

    #[test]
    fn another_version_takes_its_dependents_along() {
        let before = table(first());
        let mut now = table(second());
        let read = [20, 21, 22, 23];
        now.carry_over(&before, &ids(&now, &read));
        assert_eq!(dead(&now, &read), [10, 11, 12, 13]);
        assert_eq!(dead(&now, &[]), [0; 0]);
        // Somebody still wants the old one.
        assert_eq!(dead(&now, &[20, 21, 22, 23, 12]), [0; 0]);
    }

    #[test]
    fn what_came_together_stays_together() {
        let before = table(second());
        let mut now = table(second());
        let read = [20, 21, 22, 23];
        for save in 1..FORGOTTEN {
            let last = now.clone();
            now.carry_over(&last, &ids(&now, &read));
            assert_eq!(dead(&now, &read), [0; 0], "{save}");
        }
        // A save that knows nothing counts for nothing.
        let last = now.clone();
        now.carry_over(&last, &BTreeSet::new());
        assert_eq!(now.units[0].unread, FORGOTTEN - 1);
        let last = now.clone();
        now.carry_over(&last, &ids(&now, &read));
        assert_eq!(dead(&now, &read), [10, 11, 12, 13]);
        // Read once, it is as good as new.
        let last = now.clone();
        now.carry_over(&last, &ids(&now, &[13]));
        assert_eq!(now.units[3].unread, 0);
        assert_eq!(before.units.len(), now.units.len());
    }

    #[test]
    fn another_job_supersedes_nothing() {
        // Other flags, or the same package with other features: both may be wanted in turn.
        for change in [
            (|recipe: &mut Recipe| recipe.rustflags.push("-Cx".to_owned())) as fn(&mut Recipe),
            |recipe| recipe.features = "[\"x\"]".to_owned(),
            |recipe| recipe.rustc = 9,
            |recipe| recipe.profile = 9,
        ] {
            let mut units = second();
            units[4..]
                .iter_mut()
                .filter(|unit| !unit.target.starts_with("run-"))
                .for_each(|unit| change(&mut unit.recipe));
            let mut now = table(units);
            let read = [20, 21, 22, 23];
            now.carry_over(&table(first()), &ids(&now, &read));
            assert_eq!(dead(&now, &read), [0; 0]);
        }
    }

    #[test]
    fn a_failed_unit_costs_what_it_did() {
        let before = table(first());
        let mut now = table(first());
        (now.units[3].fingerprint, now.units[3].millis) = (0, 1);
        now.carry_over(&before, &BTreeSet::new());
        assert_eq!(now.units[3].millis, 13);
    }

    #[test]
    fn what_is_wanted_is_read() {
        let table = table(first());
        let read = |path: &[u8]| path == b"debug/.fingerprint/dep-000000000000000c/lib-dep";
        assert_eq!(table.live(&read), ids(&table, &[12]));
        let read = |path: &[u8]| path == b"debug/build/app/000000000000000d/fingerprint/bin-app";
        assert_eq!(table.live(&read), ids(&table, &[13]));
    }

    #[test]
    fn crates() {
        for (target, expected) in [
            ("lib-my_lib", Some("my_lib")),
            ("bin-my-app", Some("my_app")),
            ("test-bin-my-app", Some("my_app")),
            ("test-integration-test-it", Some("it")),
            ("test-bench-b", Some("b")),
            ("example-an-ex", Some("an_ex")),
            ("build-script-build-script-build", Some("build_script_build")),
            ("run-build-script-build-script-build", None),
            ("doc-lib-my_lib", None),
        ] {
            assert_eq!(registry("p", target, 1, &[]).crate_name().as_deref(), expected, "{target}");
        }
    }
}
