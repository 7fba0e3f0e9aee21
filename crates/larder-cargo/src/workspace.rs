//! Where cargo, started in a directory with a command's words, finds its root and puts its results.
//!
//! Source: the cargo book, "Workspaces" and "Configuration" (`build.target-dir`, `build.build-dir`), and cargo's own
//! search for a root: it walks up from the package, passes roots that exclude it, and stops at the first other one,
//! whether that lists it as a member or not (if not, cargo refuses to run).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::{Config, cargo_home, normalise};
use crate::words::{cargo_words, values};
use crate::{Env, Read};

/// A cargo workspace, or a package that is its own, and the directories of one build of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// The folder of the root manifest.
    pub root: PathBuf,
    /// The manifest that cargo would start from: the nearest one, or that of `--manifest-path`.
    pub manifest: PathBuf,
    /// Where final artefacts go.
    pub target_dir: PathBuf,
    /// Where everything else goes: the same unless configured; `None` when it is configured by a hash that only cargo
    /// computes.
    pub build_dir: Option<PathBuf>,
    /// `Cargo.lock` of the root, whether it exists or not.
    pub lock: PathBuf,
}

/// A manifest on the way that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Named by `--manifest-path` or `package.workspace`, and not there.
    #[error("cannot read {path}, named by {named_by}")]
    Missing {
        /// The manifest.
        path: PathBuf,
        /// What names it.
        named_by: String,
    },
    /// Not TOML.
    #[error("cannot understand {path}: {reason}")]
    Invalid {
        /// The manifest.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
}

/// Finds the workspace of `cwd` (an absolute path); `None` outside of any cargo project.
pub fn find(
    cwd: &Path,
    command: &[OsString],
    env: Env<'_>,
    config: &Config,
    read: Read<'_>,
) -> Result<Option<Workspace>, WorkspaceError> {
    let words = cargo_words(command);
    let (manifest, table) = match values(words, "--manifest-path").last() {
        Some(given) => {
            let path = normalise(&cwd.join(given));
            let table = parse(&path, read)?.ok_or_else(|| WorkspaceError::Missing {
                path: path.clone(),
                named_by: "--manifest-path".to_owned(),
            })?;
            (path, table)
        }
        None => match nearest(cwd, read)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let root = root_of(&manifest, &table, cargo_home(cwd, env).as_deref(), read)?;
    let target_dir = target_dir(&root, cwd, words, env, config);
    let build_dir = build_dir(&root, &target_dir, cwd, env, config);
    let lock = root.join("Cargo.lock");
    Ok(Some(Workspace { root, manifest, target_dir, build_dir, lock }))
}

fn parse(path: &Path, read: Read<'_>) -> Result<Option<Table>, WorkspaceError> {
    let Some(bytes) = read(path) else { return Ok(None) };
    let invalid = |reason: String| WorkspaceError::Invalid { path: path.to_owned(), reason };
    let text = std::str::from_utf8(&bytes).map_err(|error| invalid(error.to_string()))?;
    text.parse().map(Some).map_err(|error: toml::de::Error| invalid(error.to_string()))
}

fn nearest(from: &Path, read: Read<'_>) -> Result<Option<(PathBuf, Table)>, WorkspaceError> {
    for dir in from.ancestors() {
        let path = dir.join("Cargo.toml");
        if let Some(table) = parse(&path, read)? {
            return Ok(Some((path, table)));
        }
    }
    Ok(None)
}

/// The folder of the workspace that the package in `dir` belongs to: `dir` itself where that is its own or nothing
/// above it says otherwise.
pub fn root_of_package(dir: &Path, home: Option<&Path>, read: Read<'_>) -> PathBuf {
    let manifest = dir.join("Cargo.toml");
    let found = parse(&manifest, read).ok().flatten().map(|table| root_of(&manifest, &table, home, read));
    found.and_then(Result::ok).unwrap_or_else(|| dir.to_owned())
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

fn root_of(manifest: &Path, table: &Table, home: Option<&Path>, read: Read<'_>) -> Result<PathBuf, WorkspaceError> {
    if table.contains_key("workspace") {
        return Ok(parent(manifest));
    }
    let own = parent(manifest);
    if let Some(pointer) = pointer(&own, table) {
        let path = pointer.join("Cargo.toml");
        let named_by = format!("package.workspace in {}", manifest.display());
        return if read(&path).is_some() { Ok(pointer) } else { Err(WorkspaceError::Missing { path, named_by }) };
    }
    for dir in own.ancestors().skip(1) {
        // Packages unpacked in CARGO_HOME are nobody's members.
        if home.is_some_and(|home| dir == home) {
            break;
        }
        let Some(above) = parse(&dir.join("Cargo.toml"), read)? else { continue };
        if let Some(workspace) = above.get("workspace").and_then(Value::as_table) {
            if !excludes(dir, workspace, &own) {
                return Ok(dir.to_owned());
            }
        } else if let Some(pointer) = pointer(dir, &above) {
            return Ok(pointer);
        }
    }
    Ok(own)
}

fn pointer(dir: &Path, table: &Table) -> Option<PathBuf> {
    Some(normalise(&dir.join(table.get("package")?.get("workspace")?.as_str()?)))
}

/// `exclude` counts unless a member says otherwise; members count here by their spelling, as in cargo, so a pattern
/// like `crates/*` does not.
fn excludes(root: &Path, workspace: &Table, package: &Path) -> bool {
    let names = |key: &str| {
        let list = workspace.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).any(|name| package.starts_with(normalise(&root.join(name))))
    };
    names("exclude") && !names("members")
}

fn variable(name: &str, env: Env<'_>) -> Option<OsString> {
    env(name).filter(|value| !value.is_empty())
}

fn target_dir(root: &Path, cwd: &Path, words: &[OsString], env: Env<'_>, config: &Config) -> PathBuf {
    let given = values(words, "--target-dir").last().map(|value| OsStr::to_owned(value));
    if let Some(dir) =
        given.or_else(|| variable("CARGO_TARGET_DIR", env)).or_else(|| variable("CARGO_BUILD_TARGET_DIR", env))
    {
        return normalise(&cwd.join(dir));
    }
    match config.path(&["build", "target-dir"]) {
        Some((dir, base)) => normalise(&base.join(dir)),
        None => root.join("target"),
    }
}

fn build_dir(root: &Path, target_dir: &Path, cwd: &Path, env: Env<'_>, config: &Config) -> Option<PathBuf> {
    let (template, base) = match variable("CARGO_BUILD_BUILD_DIR", env) {
        Some(value) => (value.into_string().ok()?, cwd.to_owned()),
        None => match config.path(&["build", "build-dir"]) {
            Some(found) => found,
            None => return Some(target_dir.to_owned()),
        },
    };
    let mut path = template.replace("{workspace-root}", root.to_str()?);
    if path.contains("{cargo-cache-home}") {
        path = path.replace("{cargo-cache-home}", cargo_home(cwd, env)?.to_str()?);
    }
    // `{workspace-path-hash}` and what later versions bring.
    (!path.contains(['{', '}'])).then(|| normalise(&base.join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn look(
        cwd: &str,
        command: &str,
        env: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Option<Workspace>, WorkspaceError> {
        let files: BTreeMap<PathBuf, Vec<u8>> =
            files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect();
        let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        let read = |path: &Path| files.get(path).cloned();
        let config = Config::load(Path::new(cwd), &words, &env, &read);
        find(Path::new(cwd), &words, &env, &config, &read)
    }

    const PACKAGE: &str = "[package]\nname = 'p'";

    #[test]
    fn roots() {
        for (root_manifest, package, expected) in [
            ("[workspace]\nmembers = ['a/*']", PACKAGE, "/w"),
            ("[workspace]", PACKAGE, "/w"),
            ("[workspace]\nexclude = ['a']", PACKAGE, "/w/a/p"),
            ("[workspace]\nexclude = ['a']\nmembers = ['a/p']", PACKAGE, "/w"),
            ("[package]\nname = 'w'", PACKAGE, "/w/a/p"),
            ("[workspace]", "[package]\nname = 'p'\n[workspace]", "/w/a/p"),
            ("[workspace]", "[package]\nname = 'p'\nworkspace = '../../../v'", "/v"),
        ] {
            let files =
                [("/w/Cargo.toml", root_manifest), ("/w/a/p/Cargo.toml", package), ("/v/Cargo.toml", "[workspace]")];
            let found = look("/w/a/p/src", "cargo b", &[], &files).unwrap().unwrap();
            assert_eq!(found.root, Path::new(expected), "{root_manifest} {package}");
            assert_eq!(found.manifest, Path::new("/w/a/p/Cargo.toml"));
            assert_eq!(found.lock, found.root.join("Cargo.lock"));
            assert_eq!(found.target_dir, found.root.join("target"));
            assert_eq!(found.build_dir.as_ref(), Some(&found.target_dir));
        }
        assert_eq!(look("/w", "cargo b", &[], &[]).unwrap(), None);
        assert!(matches!(look("/w", "cargo b", &[], &[("/w/Cargo.toml", "[")]), Err(WorkspaceError::Invalid { .. })));
        assert!(matches!(
            look("/w", "cargo b --manifest-path x/Cargo.toml", &[], &[]),
            Err(WorkspaceError::Missing { .. })
        ));
    }

    #[test]
    fn directories() {
        let dirs = |command: &str, env: &[(&str, &str)], config: &str| {
            let found = look("/w/p", command, env, &[("/w/Cargo.toml", PACKAGE), ("/w/.cargo/config.toml", config)])
                .unwrap()
                .unwrap();
            (found.target_dir.display().to_string(), found.build_dir.map(|dir| dir.display().to_string()))
        };
        let both = |dir: &str| (dir.to_owned(), Some(dir.to_owned()));
        let variables = [("CARGO_TARGET_DIR", "e"), ("CARGO_BUILD_TARGET_DIR", "f")];
        assert_eq!(dirs("cargo b --target-dir ../g", &variables, ""), both("/w/g"));
        assert_eq!(dirs("cargo t -- --target-dir g", &variables, ""), both("/w/p/e"));
        assert_eq!(dirs("cargo b", &variables[1..], "build.target-dir = 'c'"), both("/w/p/f"));
        assert_eq!(dirs("cargo b", &[], "build.target-dir = 'c'"), both("/w/c"));
        assert_eq!(dirs("cargo b --config build.target-dir='k'", &[], "build.target-dir = 'c'"), both("/w/p/k"));
        let build =
            |env: &[(&str, &str)], template: &str| dirs("cargo b", env, &format!("build.build-dir = '{template}'")).1;
        assert_eq!(build(&[], "b").as_deref(), Some("/w/b"));
        assert_eq!(build(&[], "{workspace-root}/b").as_deref(), Some("/w/b"));
        assert_eq!(build(&[("CARGO_HOME", "/c")], "{cargo-cache-home}/b").as_deref(), Some("/c/b"));
        assert_eq!(build(&[], "/x/{workspace-path-hash}"), None);
        assert_eq!(build(&[("CARGO_BUILD_BUILD_DIR", "v")], "b").as_deref(), Some("/w/p/v"));
    }
}
