//! Cargo's configuration files, read but not interpreted: which tables apply to a directory, nearest first.
//!
//! Source: the cargo book, "Configuration", "Hierarchical structure" and "Including extra configuration files".
//! `.cargo/config` wins over `.cargo/config.toml` in one folder; a file wins over what it includes; `--config` wins
//! over all.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

use crate::words::{cargo_words, values};
use crate::{Env, Read};

/// How deep files may include each other before it is taken for a circle.
const MAX_INCLUDES: usize = 16;

/// One file, or one `--config` of the command line.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Where it was read from; empty for a value given on the command line.
    pub path: PathBuf,
    /// What relative paths in it are relative to: the folder that holds `.cargo`, or the working directory.
    pub base: PathBuf,
    /// Its content.
    pub table: Table,
}

/// All configuration that applies to a working directory.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Nearest, and so strongest, first.
    pub files: Vec<ConfigFile>,
    /// Files that exist but cannot be understood, with the reason. Cargo would refuse to run.
    pub problems: Vec<String>,
}

impl Config {
    /// Loads what cargo would load when it is started in `cwd` with these words.
    pub fn load(cwd: &Path, command: &[OsString], env: Env<'_>, read: Read<'_>) -> Self {
        let mut config = Self::default();
        // Later ones win on the command line.
        for value in values(cargo_words(command), "--config").into_iter().rev() {
            match value.to_str() {
                Some(text) if text.contains('=') => config.add(text.as_bytes(), PathBuf::new(), cwd, read, 0),
                _ => {
                    let path = normalise(&cwd.join(value));
                    match read(&path) {
                        Some(bytes) => config.add(&bytes, path, cwd, read, 0),
                        None => config.problems.push(format!("cannot read {}, named by --config", path.display())),
                    }
                }
            }
        }
        let home = cargo_home(cwd, env);
        for dir in cwd.ancestors() {
            if home.as_deref() != Some(&dir.join(".cargo")) {
                config.add_folder(&dir.join(".cargo"), read);
            }
        }
        if let Some(home) = home {
            config.add_folder(&home, read);
        }
        config
    }

    /// The strongest value of a key that is not an array to be joined.
    pub fn get(&self, keys: &[&str]) -> Option<(&Value, &ConfigFile)> {
        let (last, tables) = keys.split_last()?;
        self.files.iter().find_map(|file| Some((lookup(file, tables, last)?, file)))
    }

    /// A path value: `build.target-dir` and its like.
    pub(crate) fn path(&self, keys: &[&str]) -> Option<(String, PathBuf)> {
        let (value, file) = self.get(keys)?;
        Some((value.as_str()?.to_owned(), file.base.clone()))
    }

    fn add_folder(&mut self, dir: &Path, read: Read<'_>) {
        for name in ["config", "config.toml"] {
            let path = dir.join(name);
            if let Some(bytes) = read(&path) {
                let base = dir.parent().unwrap_or(dir).to_owned();
                self.add(&bytes, path, &base, read, 0);
                return;
            }
        }
    }

    fn add(&mut self, bytes: &[u8], path: PathBuf, base: &Path, read: Read<'_>, depth: usize) {
        let parsed = std::str::from_utf8(bytes)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<Table>().map_err(|error| error.to_string()));
        let table = match parsed {
            Ok(table) => table,
            Err(error) => return self.problems.push(format!("cannot understand {}: {error}", path.display())),
        };
        let includes = includes(&table);
        let dir = path.parent().unwrap_or(base).to_owned();
        self.files.push(ConfigFile { path: path.clone(), base: base.to_owned(), table });
        for (name, optional) in includes.into_iter().rev() {
            let other = normalise(&dir.join(name));
            match read(&other) {
                Some(_) if depth >= MAX_INCLUDES => {
                    self.problems.push(format!("{} is included too deeply", other.display()))
                }
                // Paths are relative to the folder above the one that holds the included file, as for any other.
                Some(bytes) => {
                    let base = other.parent().and_then(Path::parent).unwrap_or(base).to_owned();
                    self.add(&bytes, other, &base, read, depth + 1);
                }
                None if optional => {}
                None => self.problems.push(format!("cannot read {}, included by {}", other.display(), path.display())),
            }
        }
    }
}

fn lookup<'a>(file: &'a ConfigFile, tables: &[&str], last: &str) -> Option<&'a Value> {
    tables.iter().try_fold(&file.table, |table, key| table.get(*key)?.as_table())?.get(last)
}

fn includes(table: &Table) -> Vec<(String, bool)> {
    let one = |value: &Value| match value {
        Value::String(path) => Some((path.clone(), false)),
        Value::Table(table) => Some((
            table.get("path")?.as_str()?.to_owned(),
            table.get("optional").and_then(Value::as_bool).unwrap_or(false),
        )),
        _ => None,
    };
    match table.get("include") {
        Some(Value::Array(many)) => many.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// CARGO_HOME as cargo resolves it.
pub fn cargo_home(cwd: &Path, env: Env<'_>) -> Option<PathBuf> {
    match env("CARGO_HOME").filter(|value| !value.is_empty()) {
        Some(home) => Some(normalise(&cwd.join(home))),
        None => env("HOME")
            .or_else(|| env("USERPROFILE"))
            .filter(|value| !value.is_empty())
            .map(|home| Path::new(&home).join(".cargo")),
    }
}

/// Removes `.` and resolves `..` by spelling alone, as cargo does for the paths it prints and hashes.
pub(crate) fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn load(cwd: &str, command: &str, files: &[(&str, &str)]) -> Config {
        let files: BTreeMap<PathBuf, Vec<u8>> =
            files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect();
        let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        Config::load(Path::new(cwd), &words, &|name| (name == "HOME").then(|| "/home/me".into()), &|path| {
            files.get(path).cloned()
        })
    }

    #[test]
    fn nearest_first_and_home_once() {
        let config = load(
            "/home/me/w/p",
            "cargo build --config=a=0 --config x.toml",
            &[
                ("/home/me/w/p/x.toml", "a = 1"),
                ("/home/me/w/p/.cargo/config", "a = 2"),
                ("/home/me/w/p/.cargo/config.toml", "a = 9"),
                (
                    "/home/me/w/.cargo/config.toml",
                    "include = ['one.toml', { path = 'no.toml', optional = true }]\na = 3",
                ),
                ("/home/me/w/.cargo/one.toml", "a = 4"),
                ("/home/me/.cargo/config.toml", "a = 5"),
            ],
        );
        assert_eq!(config.problems, Vec::<String>::new());
        let values: Vec<i64> = config.files.iter().filter_map(|file| file.table.get("a")?.as_integer()).collect();
        assert_eq!(values, [1, 0, 2, 3, 4, 5]);
        assert_eq!(config.get(&["a"]).unwrap().0.as_integer(), Some(1));
        assert_eq!(config.files[3].base, Path::new("/home/me/w"));
    }

    #[test]
    fn problems_are_kept() {
        let config = load(
            "/w",
            "cargo b",
            &[
                ("/w/.cargo/config.toml", "include = 'self.toml'"),
                ("/w/.cargo/self.toml", "include = 'self.toml'"),
                ("/.cargo/config", "["),
            ],
        );
        assert_eq!(config.problems.len(), 2, "{:?}", config.problems);
    }
}
