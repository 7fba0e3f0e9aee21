//! The names under which cargo sees a build in the canonical world: the same on every machine and in every checkout.
//!
//! Cargo hashes the absolute paths of packages outside the workspace and of CARGO_HOME, and build scripts and `env!`
//! put any path into their results (measured; see `docs/canonical.md`). So these directories get one name each:
//!
//! | directory | name |
//! |---|---|
//! | the deepest one that holds all repositories of the build | `/larder/world` |
//! | CARGO_HOME | `/larder/cargo` |
//! | target and build directory, where they are in neither | `/larder/target`, `/larder/build` |
//!
//! What is relative stays relative: siblings keep their places to each other. Where only the root of the file system
//! holds all repositories, each stands below `/larder/world` at its own path: then relative paths still work, and only
//! the names are no more portable than the real ones.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Env;
use crate::config::Config;
use crate::words::{cargo_words, values};
use crate::workspace::Workspace;

const WORLD: &str = "/larder/world";
const CARGO: &str = "/larder/cargo";
const TARGET: &str = "/larder/target";
const BUILD: &str = "/larder/build";

/// Files that cargo or rustup look for in every directory above.
pub const SOUGHT_UPWARDS: [&str; 2] = ["rust-toolchain.toml", "rust-toolchain"];

/// Real names and canonical ones. The default has none: every name stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pairs: Vec<(PathBuf, PathBuf)>,
    /// Variables that the command needs, so that cargo uses the canonical names.
    pub variables: Vec<(&'static str, PathBuf)>,
}

/// What the names are made from; all paths absolute, with links resolved.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The directory that the command is run in.
    pub dir: &'a Path,
    /// Repositories of the build, and whatever else must keep its place to them.
    pub anchors: &'a [PathBuf],
    /// CARGO_HOME, if there is one.
    pub cargo_home: Option<&'a Path>,
    /// The workspace; `None` outside of any.
    pub workspace: Option<&'a Workspace>,
}

/// The command names a directory by its real name: cargo would use that, whatever else it has.
#[derive(Debug, thiserror::Error)]
#[error("{option} names {path} by its absolute path, which differs between checkouts: make it relative")]
pub struct Absolute {
    option: &'static str,
    path: PathBuf,
}

impl Names {
    /// Finds the names for a build by `command`.
    pub fn plan(inputs: &Inputs<'_>, command: &[OsString], env: Env<'_>, config: &Config) -> Result<Self, Absolute> {
        for option in ["--manifest-path", "--target-dir"] {
            if let Some(path) = values(cargo_words(command), option).last().map(Path::new).filter(|p| p.is_absolute()) {
                return Err(Absolute { option, path: path.to_owned() });
            }
        }
        let mut anchors = inputs.anchors.to_vec();
        anchors.push(inputs.dir.to_owned());
        // Cargo reads the configuration of all directories above.
        anchors.extend(config.files.iter().map(|file| &file.base).filter(|base| inputs.dir.starts_with(base)).cloned());
        // A relative option must lead to the same place.
        let typed = !values(cargo_words(command), "--target-dir").is_empty();
        anchors.extend(inputs.workspace.filter(|_| typed).map(|workspace| workspace.target_dir.clone()));
        anchors.retain(|anchor| anchor.parent().is_some());
        let mut names = Self::default();
        let common = anchors.iter().skip(1).fold(anchors.first().cloned().unwrap_or_default(), |a, b| common(&a, b));
        match common.parent() {
            Some(_) => names.add(&common, PathBuf::from(WORLD)),
            None => {
                anchors.sort();
                for anchor in &anchors {
                    if !names.covers(anchor) {
                        names.add(anchor, join(WORLD, anchor));
                    }
                }
            }
        }
        if let Some(home) = inputs.cargo_home {
            names.add(home, PathBuf::from(CARGO));
            names.variables.push(("CARGO_HOME", PathBuf::from(CARGO)));
        }
        if let Some(workspace) = inputs.workspace {
            let target = &workspace.target_dir;
            let named = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"].iter().any(|name| set(name, env));
            let configured =
                config.path(&["build", "target-dir"]).is_some_and(|(dir, _)| Path::new(&dir).is_absolute());
            names.place("CARGO_TARGET_DIR", target, TARGET, (named || configured) && !typed);
            if let Some(build) = workspace.build_dir.as_ref().filter(|build| *build != target) {
                let named = set("CARGO_BUILD_BUILD_DIR", env);
                let configured =
                    config.path(&["build", "build-dir"]).is_some_and(|(dir, _)| Path::new(&dir).is_absolute());
                names.place("CARGO_BUILD_BUILD_DIR", build, BUILD, named || configured);
            }
        }
        Ok(names)
    }

    /// Makes sure that a directory has a name, and that cargo is told where it would not find it by itself.
    fn place(&mut self, variable: &'static str, dir: &Path, name: &str, by_path: bool) {
        let covered = self.covers(dir);
        if !covered {
            self.add(dir, PathBuf::from(name));
        }
        if by_path || !covered {
            self.variables.push((variable, self.canonical(dir)));
        }
    }

    fn add(&mut self, real: &Path, canonical: PathBuf) {
        self.pairs.push((real.to_owned(), canonical));
    }

    fn covers(&self, path: &Path) -> bool {
        self.pairs.iter().any(|(real, _)| path.starts_with(real))
    }

    /// Real directories with their canonical names.
    pub fn pairs(&self) -> &[(PathBuf, PathBuf)] {
        &self.pairs
    }

    /// The canonical name of a path; the path itself where it has none.
    pub fn canonical(&self, path: &Path) -> PathBuf {
        translate(path, self.pairs.iter().map(|(real, canonical)| (real, canonical)))
    }

    /// The path that a canonical name stands for.
    pub fn real(&self, path: &Path) -> PathBuf {
        translate(path, self.pairs.iter().map(|(real, canonical)| (canonical, real)))
    }

    /// The workspace as cargo sees it.
    pub fn workspace(&self, workspace: &Workspace) -> Workspace {
        Workspace {
            root: self.canonical(&workspace.root),
            manifest: self.canonical(&workspace.manifest),
            target_dir: self.canonical(&workspace.target_dir),
            build_dir: workspace.build_dir.as_deref().map(|dir| self.canonical(dir)),
            lock: self.canonical(&workspace.lock),
        }
    }
}

fn set(name: &str, env: Env<'_>) -> bool {
    env(name).is_some_and(|value| !value.is_empty())
}

fn join(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

fn common(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// Replaces the longest prefix that is known.
fn translate<'a>(path: &Path, pairs: impl Iterator<Item = (&'a PathBuf, &'a PathBuf)>) -> PathBuf {
    let known = pairs.filter(|(from, _)| path.starts_with(from)).max_by_key(|(from, _)| from.components().count());
    match known.and_then(|(from, to)| Some((path.strip_prefix(from).ok()?, to))) {
        // `join` of nothing would add a slash.
        Some((rest, to)) if rest.as_os_str().is_empty() => to.clone(),
        Some((rest, to)) => to.join(rest),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn plan(
        command: &str,
        anchors: &[&str],
        target: &str,
        env: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Names, Absolute> {
        let files: BTreeMap<PathBuf, Vec<u8>> =
            files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect();
        let read = |path: &Path| files.get(path).cloned();
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        let dir = Path::new("/r/1/app/src");
        let config = Config::load(dir, &words, &env, &read);
        let root = PathBuf::from("/r/1/app");
        let workspace = Workspace {
            manifest: root.join("Cargo.toml"),
            lock: root.join("Cargo.lock"),
            target_dir: target.into(),
            build_dir: Some(target.into()),
            root,
        };
        let anchors: Vec<PathBuf> = anchors.iter().map(PathBuf::from).collect();
        let home = Path::new("/home/u/.cargo");
        let inputs = Inputs { dir, anchors: &anchors, cargo_home: Some(home), workspace: Some(&workspace) };
        Names::plan(&inputs, &words, &env, &config)
    }

    fn canonical(names: &Names, path: &str) -> String {
        let canonical = names.canonical(Path::new(path));
        assert_eq!(names.real(&canonical), Path::new(path));
        canonical.display().to_string()
    }

    #[test]
    fn siblings_keep_their_places() {
        let names = plan("cargo b", &["/r/1/app", "/r/1/libs/lib"], "/r/1/app/target", &[], &[]).unwrap();
        assert_eq!(canonical(&names, "/r/1/app/src/main.rs"), "/larder/world/app/src/main.rs");
        assert_eq!(canonical(&names, "/r/1/libs/lib"), "/larder/world/libs/lib");
        assert_eq!(canonical(&names, "/r/1"), "/larder/world");
        assert_eq!(canonical(&names, "/r/2/app"), "/r/2/app");
        assert_eq!(canonical(&names, "/home/u/.cargo/registry"), "/larder/cargo/registry");
        assert_eq!(names.variables, [("CARGO_HOME", PathBuf::from("/larder/cargo"))]);
        let alone = plan("cargo b", &["/r/1/app"], "/r/1/app/target", &[], &[]).unwrap();
        assert_eq!(canonical(&alone, "/r/1/app/target"), "/larder/world/target");
        let apart = plan("cargo b", &["/r/1/app", "/opt/lib"], "/r/1/app/target", &[], &[]).unwrap();
        assert_eq!(canonical(&apart, "/r/1/app/Cargo.toml"), "/larder/world/r/1/app/Cargo.toml");
        assert_eq!(canonical(&apart, "/opt/lib"), "/larder/world/opt/lib");
        assert_eq!(apart.pairs().len(), 3);
    }

    #[test]
    fn configuration_above_stays_above() {
        let files = [("/r/.cargo/config.toml", ""), ("/.cargo/config.toml", ""), ("/home/u/.cargo/config.toml", "")];
        let env = [("CARGO_HOME", "/home/u/.cargo")];
        let names = plan("cargo b", &["/r/1/app"], "/r/1/app/target", &env, &files).unwrap();
        assert_eq!(canonical(&names, "/r/1/app"), "/larder/world/1/app");
    }

    #[test]
    fn other_target_directories() {
        let env = [("CARGO_TARGET_DIR", "/fast/1/target")];
        let names = plan("cargo b", &["/r/1/app"], "/fast/1/target", &env, &[]).unwrap();
        assert_eq!(canonical(&names, "/fast/1/target/debug"), "/larder/target/debug");
        assert_eq!(names.variables[1], ("CARGO_TARGET_DIR", PathBuf::from("/larder/target")));
        let env = [("CARGO_TARGET_DIR", "/r/1/app/elsewhere")];
        let names = plan("cargo b", &["/r/1/app"], "/r/1/app/elsewhere", &env, &[]).unwrap();
        assert_eq!(names.variables[1].1, Path::new("/larder/world/elsewhere"));
        let typed = plan("cargo b --target-dir ../../t", &["/r/1/app"], "/r/1/t", &env, &[]).unwrap();
        assert_eq!(canonical(&typed, "/r/1/app"), "/larder/world/app");
        assert_eq!(typed.variables.len(), 1);
    }

    #[test]
    fn absolute_options_cannot_be_had() {
        for command in ["cargo b --target-dir /r/1/t", "cargo b --manifest-path=/r/1/app/Cargo.toml"] {
            let error = plan(command, &["/r/1/app"], "/r/1/t", &[], &[]).unwrap_err();
            assert!(error.to_string().contains("by its absolute path"), "{error}");
        }
        assert!(plan("cargo r -- --target-dir /x", &["/r/1/app"], "/r/1/app/target", &[], &[]).is_ok());
    }
}
