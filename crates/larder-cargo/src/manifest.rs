//! What a `Cargo.toml` says about other directories: where the sources of a build are.
//!
//! Source: the cargo book, "Specifying dependencies" (`path`), "Overriding dependencies" (`[patch]`, `[replace]`,
//! `paths` of the configuration) and "Workspaces" (`workspace.dependencies`). Which of them a build uses is cargo's
//! affair; whoever keeps the times of sources keeps those of all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::{Config, normalise};

/// What one manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The package's name; `None` for a manifest that is only a workspace's.
    pub package: Option<String>,
    /// The folders of path dependencies, wherever a manifest may name them, in the order of their spelling.
    pub paths: Vec<PathBuf>,
    /// The folders among them that are needed by whoever depends on this package: not those of its tests, and not what
    /// only a workspace's own builds put in the place of others.
    pub needed: Vec<PathBuf>,
    /// Dependencies that such a build takes from its workspace, by name.
    pub inherited: Vec<String>,
    /// What a workspace offers its members by path.
    pub offered: BTreeMap<String, PathBuf>,
    /// The patterns of a workspace's members.
    pub members: Vec<String>,
}

impl Manifest {
    /// Reads the manifest at `path`; `None` where it is no manifest that cargo would take.
    pub fn parse(path: &Path, bytes: &[u8]) -> Option<Self> {
        let table: Table = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        let dir = path.parent()?;
        let name = |package: &Table| Some(package.get("name")?.as_str()?.to_owned());
        let mut manifest = Self {
            package: table.get("package").or_else(|| table.get("project")).and_then(Value::as_table).and_then(name),
            ..Self::default()
        };
        manifest.collect(dir, &table);
        if let Some(workspace) = table.get("workspace").and_then(Value::as_table) {
            manifest.workspace(dir, workspace);
        }
        for target in tables(table.get("target")) {
            manifest.collect(dir, target);
        }
        for source in tables(table.get("patch")) {
            manifest.dependencies(dir, source);
        }
        if let Some(replaced) = table.get("replace").and_then(Value::as_table) {
            manifest.dependencies(dir, replaced);
        }
        manifest.paths.sort_unstable();
        manifest.paths.dedup();
        manifest.needed.sort_unstable();
        manifest.needed.dedup();
        Some(manifest)
    }

    fn workspace(&mut self, dir: &Path, workspace: &Table) {
        let members = ["members", "default-members"].into_iter().filter_map(|key| workspace.get(key)?.as_array());
        self.members = members.flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let offered = workspace.get("dependencies").and_then(Value::as_table).into_iter().flatten();
        for (name, dependency) in offered {
            self.offered.extend(path_of(dir, dependency).map(|path| (name.clone(), path)));
        }
        self.paths.extend(self.offered.values().cloned());
    }

    fn collect(&mut self, dir: &Path, table: &Table) {
        // Both spellings are taken by cargo.
        for key in ["dependencies", "dev-dependencies", "dev_dependencies", "build-dependencies", "build_dependencies"]
        {
            let Some(dependencies) = table.get(key).and_then(Value::as_table) else { continue };
            let known = self.paths.len();
            self.dependencies(dir, dependencies);
            if !key.starts_with("dev") {
                self.needed.extend_from_slice(&self.paths[known..]);
                let inherits = |dependency: &Value| dependency.get("workspace").and_then(Value::as_bool) == Some(true);
                let inherited = dependencies.iter().filter(|(_, dependency)| inherits(dependency));
                self.inherited.extend(inherited.map(|(name, _)| name.clone()));
            }
        }
    }

    fn dependencies(&mut self, dir: &Path, dependencies: &Table) {
        self.paths.extend(dependencies.values().filter_map(|dependency| path_of(dir, dependency)));
    }
}

fn path_of(dir: &Path, dependency: &Value) -> Option<PathBuf> {
    Some(normalise(&dir.join(dependency.get("path")?.as_str()?)))
}

fn tables(value: Option<&Value>) -> impl Iterator<Item = &Table> {
    value.and_then(Value::as_table).into_iter().flat_map(Table::values).filter_map(Value::as_table)
}

/// The folders of packages that cargo's configuration puts in the place of others: `paths` and `[patch]`.
pub fn configured_paths(config: &Config) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in &config.files {
        let listed = file.table.get("paths").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        found.extend(listed.map(|path| normalise(&file.base.join(path))));
        let mut patched = Manifest::default();
        for source in tables(file.table.get("patch")) {
            patched.dependencies(&file.base, source);
        }
        found.extend(patched.paths);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_wherever_cargo_takes_them() {
        let text = "
            [package]
            name = 'app'
            [dependencies]
            a = { path = '../a' }
            registry = '1'
            [dev-dependencies.b]
            path = 'b'
            [build-dependencies]
            c = { path = '../c/../d', version = '1' }
            [target.'cfg(unix)'.dependencies]
            e = { path = '/abs/e' }
            [workspace.dependencies]
            f = { path = 'f' }
            [patch.crates-io]
            g = { path = '../g' }
            [patch.'https://example.org/h']
            h = { path = '../h' }
            [replace]
            'i:1.0.0' = { path = '../i' }
        ";
        let manifest = Manifest::parse(Path::new("/w/app/Cargo.toml"), text.as_bytes()).unwrap();
        assert_eq!(manifest.package.as_deref(), Some("app"));
        let expected = ["/abs/e", "/w/a", "/w/app/b", "/w/app/f", "/w/d", "/w/g", "/w/h", "/w/i"];
        assert_eq!(manifest.paths, expected.map(PathBuf::from));
        assert_eq!(manifest.needed, ["/abs/e", "/w/a", "/w/d"].map(PathBuf::from));
        assert_eq!(manifest.offered.values().collect::<Vec<_>>(), [Path::new("/w/app/f")]);
    }

    #[test]
    fn what_is_no_package() {
        assert_eq!(Manifest::parse(Path::new("/Cargo.toml"), b"[workspace]").unwrap().package, None);
        assert_eq!(Manifest::parse(Path::new("/Cargo.toml"), b"["), None);
        assert_eq!(Manifest::parse(Path::new("/Cargo.toml"), b"\xff"), None);
    }

    #[test]
    fn the_configuration_names_packages_too() {
        let text = b"paths = ['over']\n[patch.crates-io]\nx = { path = 'patched' }";
        let read = |path: &Path| (path == Path::new("/w/.cargo/config.toml")).then(|| text.to_vec());
        let config = Config::load(Path::new("/w/p"), &[], &|_| None, &read);
        assert_eq!(configured_paths(&config), [PathBuf::from("/w/over"), PathBuf::from("/w/patched")]);
    }
}
