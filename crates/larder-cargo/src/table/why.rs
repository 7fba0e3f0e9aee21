//! Why a unit was built, from what cargo noted before and after.
//!
//! Cargo itself says only the first reason that it finds, and for most changes none at all: flags, features, profiles
//! and versions are part of a unit's name, so a changed one is "never built" to cargo. Here the unit is compared with its
//! *twin*: the unit of the old table that was most likely meant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Unit, UnitTable};
use crate::UnitId;

/// Why cargo built a unit, or would.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing like it was there: a new target or package, or the first time in this profile or mode.
    NeverBuilt,
    /// The last build of it failed or was killed.
    Unfinished,
    /// A file is not what it was.
    ChangedFile(#[serde(with = "crate::text::path")] PathBuf),
    /// A file is gone.
    MissingFile(#[serde(with = "crate::text::path")] PathBuf),
    /// Every file of the package counts, and the newest is another or newer: cargo's own words, time and file.
    NewestFileChanged {
        /// What it was.
        old: String,
        /// What it is.
        new: String,
    },
    /// A build script asks for other files or variables, or stopped asking.
    WatchedChanged,
    /// A variable has another value.
    EnvChanged {
        /// Its name.
        name: String,
        /// What was seen, if it was set.
        old: Option<String>,
        /// What is seen.
        new: Option<String>,
    },
    /// `rustc -vV` says something else.
    CompilerChanged,
    /// Other features are on.
    FeaturesChanged {
        /// Sorted.
        old: Vec<String>,
        /// Sorted.
        new: Vec<String>,
    },
    /// The package has other features, though the same are on.
    DeclaredFeaturesChanged,
    /// The target's name, source, edition or flags in the manifest.
    TargetChanged,
    /// The source is elsewhere: another version from a registry, or a moved package.
    SourceChanged,
    /// Profile, mode (build, check, test), extra arguments, lto or lints.
    ProfileChanged,
    /// RUSTFLAGS or RUSTDOCFLAGS.
    RustflagsChanged {
        /// What they were.
        old: Vec<String>,
        /// What they are.
        new: Vec<String>,
    },
    /// The linker, or another setting.
    SettingsChanged,
    /// Another platform, or another specification of it.
    PlatformChanged,
    /// A dependency that was not there.
    DependencyAdded(String),
    /// A dependency that was there.
    DependencyRemoved(String),
    /// A dependency is another one: version, features, flags, or one of its own dependencies.
    DependencyChanged(String),
    /// A dependency is the same, but was built again.
    DependencyRebuilt(String),
    /// The build script of its package ran again.
    BuildScriptRerun,
    /// All of the above are equal, yet cargo gave it another name: the version of its package, or something below it.
    IdentityChanged,
    /// All of the above are equal: a file was touched and is the same again, or an output was missing.
    Unknown,
}

impl Reason {
    /// Whether it follows from why another unit was built.
    pub fn is_consequence(&self) -> bool {
        matches!(self, Self::DependencyChanged(_) | Self::DependencyRebuilt(_) | Self::BuildScriptRerun)
    }
}

/// What became of a file since the old table was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Its content is the same.
    Same,
    /// Its content is another. For a directory: something below it.
    Changed,
    /// It is not there.
    Missing,
}

/// One unit that was built, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Why<'a> {
    /// In the new table.
    pub unit: &'a Unit,
    /// What it was compared with, in the old one.
    pub twin: Option<&'a Unit>,
    /// Sorted, never empty.
    pub reasons: Vec<Reason>,
}

/// What differs between two units, as far as the units themselves tell; nothing when they are the same.
pub fn explain(before: &Unit, after: &Unit) -> Vec<Reason> {
    let (old, new) = (&before.recipe, &after.recipe);
    let mut reasons = BTreeSet::new();
    let mut unless = |same: bool, reason: Reason| {
        if !same {
            reasons.insert(reason);
        }
    };
    unless(before.fingerprint != 0, Reason::Unfinished);
    unless(old.rustc == new.rustc, Reason::CompilerChanged);
    let (had, has) = (features(&old.features), features(&new.features));
    let same_features = had == has;
    unless(same_features, Reason::FeaturesChanged { old: had, new: has });
    unless(!same_features || old.declared_features == new.declared_features, Reason::DeclaredFeaturesChanged);
    unless(old.target == new.target, Reason::TargetChanged);
    unless(old.path == new.path, Reason::SourceChanged);
    unless(old.profile == new.profile, Reason::ProfileChanged);
    let flags = Reason::RustflagsChanged { old: old.rustflags.clone(), new: new.rustflags.clone() };
    unless(old.rustflags == new.rustflags, flags);
    unless(old.config == new.config, Reason::SettingsChanged);
    unless(old.compile_kind == new.compile_kind, Reason::PlatformChanged);
    let is_run = after.target.starts_with("run-");
    let newest = Reason::NewestFileChanged { old: before.newest.clone(), new: after.newest.clone() };
    match (before.newest.is_empty(), after.newest.is_empty()) {
        (false, false) => unless(before.newest == after.newest, newest),
        (true, true) => unless(!is_run || before.inputs == after.inputs, Reason::WatchedChanged),
        _ => unless(false, Reason::WatchedChanged),
    }
    let values = |unit: &Unit| unit.env.iter().cloned().collect::<BTreeMap<_, _>>();
    let (had, has) = (values(before), values(after));
    for (name, old) in had {
        // A variable that the sources no longer name is no reason of its own: the sources are.
        if let Some(new) = has.get(&name).filter(|new| **new != old) {
            unless(false, Reason::EnvChanged { name, old, new: new.clone() });
        }
    }
    reasons.extend(dependencies(before, after, is_run));
    reasons.into_iter().collect()
}

fn dependencies(before: &Unit, after: &Unit, is_run: bool) -> Vec<Reason> {
    let by_name = |unit: &Unit| {
        let mut by_name: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for (name, dep) in unit.dep_names.iter().zip(&unit.deps) {
            by_name.entry(name.clone()).or_default().insert(*dep);
        }
        by_name
    };
    let (had, mut has) = (by_name(before), by_name(after));
    let mut reasons = Vec::new();
    for (name, old) in had {
        match has.remove(&name) {
            None => reasons.push(Reason::DependencyRemoved(name)),
            Some(new) if new == old => {}
            Some(_) if is_script(&name) && !is_run => reasons.push(Reason::BuildScriptRerun),
            Some(_) => reasons.push(Reason::DependencyChanged(name)),
        }
    }
    reasons.extend(has.into_keys().map(Reason::DependencyAdded));
    reasons
}

/// Cargo names the crates of build scripts so, and dependents call its run like the crate.
fn is_script(name: &str) -> bool {
    name.starts_with("build_script_")
}

/// `["default", "std"]`, as Rust prints a list of texts.
fn features(text: &str) -> Vec<String> {
    // Features are made of letters, digits and a few signs, none of them quotes or commas.
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    let mut found: Vec<String> =
        inner.split(", ").map(|name| name.trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect();
    found.sort_unstable();
    found
}

impl UnitTable {
    /// The units of this table that were built since another was read from the same directory, each with its reasons.
    pub fn why<'a>(&'a self, before: &'a Self, seen: &dyn Fn(&Path) -> Seen) -> Vec<Why<'a>> {
        let old: HashMap<(&UnitId, &str), &Unit> =
            before.units.iter().map(|unit| ((&unit.id, unit.target.as_str()), unit)).collect();
        let old_of = |unit: &'a Unit| old.get(&(&unit.id, unit.target.as_str())).copied();
        let built = |unit: &'a Unit| {
            old_of(unit).is_none_or(|old| (old.fingerprint, old.started) != (unit.fingerprint, unit.started))
        };
        let rebuilt: HashMap<u64, bool> = self.units.iter().map(|unit| (unit.fingerprint, built(unit))).collect();
        let now: HashMap<(&UnitId, &str), &Unit> =
            self.units.iter().map(|unit| ((&unit.id, unit.target.as_str()), unit)).collect();
        let mut found = Vec::new();
        for unit in self.units.iter().filter(|unit| built(unit)) {
            let own = old_of(unit);
            let twin = own.or_else(|| nearest(unit, before, &now));
            let mut reasons: BTreeSet<Reason> = BTreeSet::new();
            if let Some(twin) = twin {
                reasons.extend(explain(twin, unit));
                reasons.extend(twin.inputs.iter().filter_map(|path| match seen(path) {
                    Seen::Same => None,
                    Seen::Changed => Some(Reason::ChangedFile(path.clone())),
                    Seen::Missing => Some(Reason::MissingFile(path.clone())),
                }));
                let same = |dep: &u64| twin.deps.contains(dep) && rebuilt.get(dep) == Some(&true);
                let is_run = unit.target.starts_with("run-");
                reasons.extend(unit.deps.iter().zip(&unit.dep_names).filter(|(dep, _)| same(dep)).map(|(_, name)| {
                    match is_script(name) && !is_run {
                        true => Reason::BuildScriptRerun,
                        false => Reason::DependencyRebuilt(name.clone()),
                    }
                }));
            }
            if reasons.is_empty() {
                reasons.insert(match (twin, own) {
                    (None, _) => Reason::NeverBuilt,
                    (_, None) => Reason::IdentityChanged,
                    (_, Some(_)) => Reason::Unknown,
                });
            }
            found.push(Why { unit, twin, reasons: reasons.into_iter().collect() });
        }
        found
    }
}

/// The old unit that was most likely meant: of the same target in the same profile folder, with most in common. One of
/// another profile or mode that is still wanted beside the new one is no twin: a check does not replace a build.
fn nearest<'a>(unit: &Unit, before: &'a UnitTable, now: &HashMap<(&UnitId, &str), &Unit>) -> Option<&'a Unit> {
    let same_place =
        |old: &&Unit| old.id.root == unit.id.root && old.package == unit.package && old.target == unit.target;
    let is_wanted = |old: &Unit| now.get(&(&old.id, old.target.as_str())).is_some_and(|now| now.unread == 0);
    let in_common = |old: &&Unit| {
        let (one, other) = (&old.recipe, &unit.recipe);
        // From what changes least by accident to what changes daily.
        let equal = [
            one.profile == other.profile,
            one.features == other.features,
            one.target == other.target,
            one.compile_kind == other.compile_kind,
            one.path == other.path,
            one.rustc == other.rustc,
            one.rustflags == other.rustflags,
            one.config == other.config,
            !is_wanted(old),
        ];
        let common = old.deps.iter().filter(|dep| unit.deps.contains(dep)).count();
        (equal.iter().filter(|equal| **equal).count(), equal, common)
    };
    let twin = before.units.iter().filter(same_place).max_by_key(in_common)?;
    (twin.recipe.profile == unit.recipe.profile || !is_wanted(twin)).then_some(twin)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{local, registry, table};
    use super::*;

    fn with(unit: &Unit, change: impl FnOnce(&mut Unit)) -> Unit {
        let mut unit = unit.clone();
        change(&mut unit);
        unit
    }

    #[test]
    fn two_units() {
        let unit = with(&local("app", "lib-app", 1, &[7, 8], &["/w/a"]), |unit| {
            unit.dep_names = vec!["serde".to_owned(), "build_script_build".to_owned()];
            unit.env = vec![("V".to_owned(), None)];
            unit.recipe.features = "[\"b\", \"a\"]".to_owned();
        });
        let reasons = |change: fn(&mut Unit)| explain(&unit, &with(&unit, change));
        assert_eq!(reasons(|unit| unit.millis = 5), []);
        assert_eq!(reasons(|unit| unit.recipe.rustc = 5), [Reason::CompilerChanged]);
        assert_eq!(
            reasons(|unit| unit.recipe.features = "[]".to_owned()),
            [Reason::FeaturesChanged { old: vec!["a".to_owned(), "b".to_owned()], new: vec![] }]
        );
        assert_eq!(
            reasons(|unit| unit.env[0].1 = Some("x".to_owned())),
            [Reason::EnvChanged { name: "V".to_owned(), old: None, new: Some("x".to_owned()) }]
        );
        assert_eq!(reasons(|unit| unit.deps[0] = 9), [Reason::DependencyChanged("serde".to_owned())]);
        assert_eq!(reasons(|unit| unit.deps[1] = 9), [Reason::BuildScriptRerun]);
        assert_eq!(
            reasons(|unit| unit.dep_names[0] = "toml".to_owned()),
            [Reason::DependencyAdded("toml".to_owned()), Reason::DependencyRemoved("serde".to_owned())]
        );
        // Sources that came or went are a consequence of changed sources.
        assert_eq!(reasons(|unit| unit.inputs.clear()), []);
        let run = with(&unit, |unit| unit.target = "run-build-script-build-script-build".to_owned());
        assert_eq!(explain(&run, &with(&run, |unit| unit.inputs.clear())), [Reason::WatchedChanged]);
        assert_eq!(explain(&with(&unit, |unit| unit.fingerprint = 0), &unit), [Reason::Unfinished]);
        assert!(Reason::BuildScriptRerun.is_consequence() && !Reason::CompilerChanged.is_consequence());
    }

    #[test]
    fn twins() {
        let unit = |hash: u64, change: fn(&mut Unit)| with(&registry("dep", "lib-dep", hash, &[]), change);
        let why = |before: Vec<Unit>, after: Vec<Unit>| {
            let (before, after) = (table(before), table(after));
            let found = after.why(&before, &|_| Seen::Same);
            found.into_iter().map(|why| (why.unit.fingerprint, why.reasons)).collect::<Vec<_>>()
        };
        let flags: fn(&mut Unit) = |unit| unit.recipe.rustflags = vec!["-Cx".to_owned()];
        let changed = Reason::RustflagsChanged { old: vec![], new: vec!["-Cx".to_owned()] };
        let check: fn(&mut Unit) = |unit| unit.recipe.profile = 9;
        assert_eq!(why(vec![unit(1, |_| {})], vec![unit(1, |_| {}), unit(2, flags)]), [(2, vec![changed.clone()])]);
        // Of a check and a build, the build was meant.
        assert_eq!(why(vec![unit(1, |_| {}), unit(3, check)], vec![unit(2, flags)]), [(2, vec![changed])]);
        assert_eq!(why(vec![unit(1, |_| {})], vec![unit(1, |_| {}), unit(2, check)]), [(2, vec![Reason::NeverBuilt])]);
        assert_eq!(why(vec![unit(1, |_| {})], vec![unit(2, check)]), [(2, vec![Reason::ProfileChanged])]);
        assert_eq!(why(vec![], vec![unit(1, |_| {})]), [(1, vec![Reason::NeverBuilt])]);
        assert_eq!(why(vec![unit(1, |_| {})], vec![unit(2, |_| {})]), [(2, vec![Reason::IdentityChanged])]);
        assert_eq!(why(vec![unit(1, |_| {})], vec![unit(1, |unit| unit.started = 9)]), [(1, vec![Reason::Unknown])]);
    }

    #[test]
    fn reasons_are_plain_data() {
        let reasons = vec![
            Reason::ChangedFile("/w/a".into()),
            Reason::EnvChanged { name: "V".to_owned(), old: None, new: None },
            Reason::BuildScriptRerun,
        ];
        let json = serde_json::to_string(&reasons).unwrap();
        assert_eq!(
            json,
            r#"[{"changed_file":"/w/a"},{"env_changed":{"name":"V","old":null,"new":null}},"build_script_rerun"]"#
        );
        assert_eq!(serde_json::from_str::<Vec<Reason>>(&json).unwrap(), reasons);
    }
}
