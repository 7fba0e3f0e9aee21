//! Which folders outside a repository a build of it needs: before they are there.
//!
//! Cargo reads the manifests of the workspace, of what they name by path, and so on. Here the same is done without
//! failing at what is absent, so that it can be fetched and the question asked again. Of a package outside only what its
//! dependents need counts: not its tests, and not its own workspace's other members.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use crate::Read;
use crate::config::{Config, normalise};
use crate::manifest::{Manifest, configured_paths};
use crate::workspace::root_of_package;

/// Names of the entries of a directory; none where there is no such directory.
pub type List<'a> = &'a dyn Fn(&Path) -> Vec<OsString>;

/// How deep `**` in the pattern of a member is followed.
const DEEPEST: usize = 8;

/// The doors to the machine.
#[derive(Clone, Copy)]
pub struct Doors<'a> {
    /// Files.
    pub read: Read<'a>,
    /// Directories.
    pub list: List<'a>,
}

/// The folders of packages outside `repository` that a build of the workspace in `root` needs, there or not.
pub fn outside(
    root: &Path,
    repository: &Path,
    config: &Config,
    home: Option<&Path>,
    doors: Doors<'_>,
) -> BTreeSet<PathBuf> {
    let mut open = vec![root.to_owned()];
    open.extend(configured_paths(config));
    let mut seen = BTreeSet::new();
    let mut outside = BTreeSet::new();
    let mut manifests: BTreeMap<PathBuf, Option<Manifest>> = BTreeMap::new();
    let mut manifest_of = |dir: &Path| {
        let parse = || {
            let path = dir.join("Cargo.toml");
            Manifest::parse(&path, &(doors.read)(&path)?)
        };
        manifests.entry(dir.to_owned()).or_insert_with(parse).clone()
    };
    while let Some(dir) = open.pop() {
        if !seen.insert(dir.clone()) {
            continue;
        }
        let inside = dir.starts_with(repository);
        if !inside {
            outside.insert(dir.clone());
        }
        let Some(manifest) = manifest_of(&dir) else { continue };
        if dir == root {
            open.extend(manifest.members.iter().flat_map(|pattern| expand(root, pattern, doors.list)));
        }
        if !manifest.inherited.is_empty() {
            let workspace = root_of_package(&dir, home, doors.read);
            if let Some(workspace) = manifest_of(&workspace) {
                open.extend(manifest.inherited.iter().filter_map(|name| workspace.offered.get(name).cloned()));
            }
        }
        open.extend(if inside { manifest.paths } else { manifest.needed });
    }
    outside
}

/// The folders that the pattern of a member means, there or not.
pub fn expand(root: &Path, pattern: &str, list: List<'_>) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for component in Path::new(pattern).components() {
        let Component::Normal(part) = component else {
            found.iter_mut().for_each(|dir| *dir = normalise(&dir.join(component)));
            continue;
        };
        let Some(text) = part.to_str().filter(|text| text.contains(['*', '?', '['])) else {
            found.iter_mut().for_each(|dir| dir.push(part));
            continue;
        };
        found = match text {
            "**" => found.iter().flat_map(|dir| below(dir, list, DEEPEST)).collect(),
            _ => found
                .iter()
                .flat_map(|dir| children(dir, list).filter(|(name, _)| fits(text, name)).map(|(_, dir)| dir))
                .collect(),
        };
    }
    found
}

fn children<'a>(dir: &'a Path, list: List<'_>) -> impl Iterator<Item = (String, PathBuf)> + use<'a> {
    let is_hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".") || name == "target";
    let names = list(dir).into_iter().filter(move |name| !is_hidden(name));
    names.filter_map(move |name| Some((name.to_str()?.to_owned(), dir.join(&name))))
}

fn below(dir: &Path, list: List<'_>, depth: usize) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    if depth > 0 {
        found.extend(children(dir, list).flat_map(|(_, dir)| below(&dir, list, depth - 1)));
    }
    found
}

/// Whether a name fits a pattern of `*`, `?` and plain characters. A set in brackets is taken for any character: a folder
/// too many has no manifest, and does no harm.
fn fits(pattern: &str, name: &str) -> bool {
    let mut pattern = pattern.chars();
    match pattern.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = pattern.as_str();
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| fits(rest, &name[at..]))
        }
        Some(first) => {
            let mut name = name.chars();
            let Some(found) = name.next() else { return false };
            let rest = match first {
                '[' => pattern.as_str().split_once(']').map(|(_, rest)| rest),
                '?' => Some(pattern.as_str()),
                plain => (plain == found).then_some(pattern.as_str()),
            };
            rest.is_some_and(|rest| fits(rest, name.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.as_bytes().to_vec())
        };
        let list = |dir: &Path| {
            let below = files.iter().filter_map(|(name, _)| Path::new(name).strip_prefix(dir).ok()?.iter().next());
            let names: BTreeSet<OsString> = below.map(OsStr::to_owned).collect();
            names.into_iter().collect()
        };
        let config = Config::load(Path::new("/w/app"), &[], &|_| None, &read);
        let doors = Doors { read: &read, list: &list };
        let found = outside(Path::new("/w/app"), Path::new("/w/app"), &config, None, doors);
        found.into_iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn what_members_patches_and_configuration_name_counts_there_or_not() {
        let found = look(&[
            (
                "/w/app/Cargo.toml",
                "[workspace]\nmembers = ['crates/*', 'tool']\n[patch.crates-io]\np = { path = '../patched' }",
            ),
            ("/w/app/crates/a/Cargo.toml", "[dependencies]\nx = { path = '../../../one/x' }"),
            ("/w/app/crates/.b/Cargo.toml", "[dependencies]\nx = { path = '../../../hidden' }"),
            ("/w/app/tool/Cargo.toml", "[dev-dependencies]\nx = { path = '../../dev' }"),
            ("/w/app/fixture/Cargo.toml", "[dependencies]\nx = { path = '../../never' }"),
            ("/w/app/.cargo/config.toml", "paths = ['../over']"),
        ]);
        assert_eq!(found, ["/w/dev", "/w/one/x", "/w/over", "/w/patched"]);
    }

    #[test]
    fn siblings_bring_theirs_but_not_those_of_their_tests() {
        let files = [
            ("/w/app/Cargo.toml", "[dependencies]\nx = { path = '../one/x' }"),
            (
                "/w/one/Cargo.toml",
                "[workspace]\nmembers = ['*']\n[workspace.dependencies]\ny = { path = '../two' }\nz = { path = '../three' }",
            ),
            (
                "/w/one/x/Cargo.toml",
                "[dependencies]\ny.workspace = true\n[dev-dependencies]\nz.workspace = true\nt = { path = '../../tests' }",
            ),
            ("/w/one/other/Cargo.toml", "[dependencies]\nx = { path = '../../other' }"),
        ];
        assert_eq!(look(&files), ["/w/one/x", "/w/two"]);
        // Round in a circle, through the workspace itself.
        let more = [
            files[0],
            files[1],
            files[2],
            ("/w/two/Cargo.toml", "[dependencies]\na = { path = '../app' }\nb = { path = '../four' }"),
        ];
        assert_eq!(look(&more), ["/w/four", "/w/one/x", "/w/two"]);
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "abc", true),
            ("a*c", "abc", true),
            ("a?c", "abc", true),
            ("a[xyz]c", "abc", true),
            ("a*", "ba", false),
            ("*-sys", "x-sys", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        let list = |dir: &Path| match dir.to_str() {
            Some("/w") => vec!["a".into()],
            Some("/w/a") => vec!["b".into(), "target".into()],
            _ => Vec::new(),
        };
        let found = expand(Path::new("/w"), "**/b", &list);
        assert!(found.contains(&PathBuf::from("/w/a/b")), "{found:?}");
        assert_eq!(expand(Path::new("/w"), "../x/y", &list), [PathBuf::from("/x/y")]);
    }
}
