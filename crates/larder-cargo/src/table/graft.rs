//! Which units of one workspace may serve another that builds at the same paths.
//!
//! A unit of a registry is the same wherever it is built with the same compiler, CARGO_HOME and target directory: cargo
//! hashes all else into its name. Local units are never given away: built from other contents they gave a wrong result.
//! Nor is a unit whose dependencies do not all come along: `E0463` from rustc, while cargo calls it fresh. (Both
//! measured; CARGO_HOME and target directory must be equal because `OUT_DIR` ends up in a unit's bytes.)

use std::collections::HashSet;

use super::{Lock, UnitTable};

impl UnitTable {
    /// The units that may be grafted into an empty target directory, in the order of [`units`](Self::units): of packages
    /// that both lock files have in the same version from the public registry, with all that they depend on.
    pub fn graftable(&self, then: &Lock, now: &Lock) -> Vec<bool> {
        let mut kept: Vec<bool> = self
            .units
            .iter()
            .map(|unit| {
                !unit.local
                    && unit.inputs.is_empty()
                    && unit.fingerprint != 0
                    && then.is_public(&unit.package)
                    && now.is_public(&unit.package)
                    && !then.lost(&unit.package, now)
            })
            .collect();
        loop {
            let there: HashSet<u64> =
                self.units.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(unit, _)| unit.fingerprint).collect();
            let before = kept.iter().filter(|kept| **kept).count();
            for (kept, unit) in kept.iter_mut().zip(&self.units) {
                *kept &= unit.deps.iter().all(|dep| there.contains(dep));
            }
            if kept.iter().filter(|kept| **kept).count() == before {
                return kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{local, registry, table};
    use super::*;

    fn lock(packages: &[(&str, &str, &str)]) -> Lock {
        let package = |(name, version, source): &(&str, &str, &str)| {
            format!("[[package]]\nname = '{name}'\nversion = '{version}'\nsource = '{source}'\n")
        };
        Lock::parse(packages.iter().map(package).collect::<String>().as_bytes()).unwrap()
    }

    #[test]
    fn only_whole_closures_of_public_packages() {
        const PUBLIC: &str = "registry+https://github.com/rust-lang/crates.io-index";
        let all = [
            ("a", "1.0.0", PUBLIC),
            ("b", "1.0.0", PUBLIC),
            ("c", "1.0.0", PUBLIC),
            ("d", "1.0.0", "registry+https://x"),
        ];
        let then = lock(&all);
        let table = table(vec![
            registry("a", "lib-a", 1, &[]),
            registry("b", "lib-b", 2, &[1]),
            registry("c", "lib-c", 3, &[2, 4]),
            registry("d", "lib-d", 4, &[]),
            local("own", "lib-own", 5, &[1], &["/w/src/lib.rs"]),
            registry("e", "lib-e", 6, &[]),
        ]);
        // d is private, so c lacks a dependency; e is in no lock file.
        assert_eq!(table.graftable(&then, &then), [true, true, false, false, false, false]);
        let bumped = lock(&[("a", "1.0.1", PUBLIC), ("b", "1.0.0", PUBLIC)]);
        assert_eq!(table.graftable(&then, &bumped), [false; 6]);
    }
}
