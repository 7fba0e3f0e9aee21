//! Which variables come from the cargo that started larder, so that the command does not inherit them.
//!
//! Under `cargo run` (and rustup's proxy) a program gets variables that make an inner cargo build something else, or
//! build it anew: build scripts and proc-macros see the outer package, a pinned toolchain wins over the command's
//! own, library paths name the outer target directory.
//!
//! Measured with cargo 1.95 and rustup: `CARGO`, `CARGO_MANIFEST_*`, `CARGO_PKG_*`, `RUSTUP_TOOLCHAIN`,
//! `RUSTUP_TOOLCHAIN_SOURCE`, `RUST_RECURSION_COUNT`, and four entries in front of `LD_LIBRARY_PATH`: the profile
//! folder, its `deps`, and two of the toolchain. `CARGO_HOME` and `RUSTUP_HOME` are set too, but to what an inner
//! cargo would find anyway, and they may be the user's: they stay.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Set by cargo for what it runs, never by users.
const NAMES: [&str; 11] = [
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_MANIFEST_LINKS",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_RUSTC_CURRENT_DIR",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
    "RUST_RECURSION_COUNT",
];

/// The same, for every package or binary.
const PREFIXES: [&str; 2] = ["CARGO_PKG_", "CARGO_BIN_EXE_"];

/// Lists of folders that cargo puts its own in front of.
const LIBRARY_PATHS: [&str; 2] = ["LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/// What to do to the environment that larder was started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaning {
    /// Variables that the command must not get.
    pub remove: Vec<OsString>,
    /// Variables that the command gets with another value.
    pub set: Vec<(OsString, OsString)>,
}

/// What an outer `cargo run` of larder added to the environment; nothing when there was none.
pub fn variables_of_outer_cargo_run(env: impl IntoIterator<Item = (OsString, OsString)>) -> Cleaning {
    let env: Vec<(OsString, OsString)> = env.into_iter().collect();
    let get = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
    let mut cleaning = Cleaning::default();
    let (Some(manifest), true) = (get("CARGO_MANIFEST_DIR"), get("CARGO_PKG_NAME") == Some(OsStr::new("larder")))
    else {
        return cleaning;
    };
    // rustup says where the choice came from since 1.28; a user's own variable stays the user's.
    let own_toolchain = get("RUSTUP_TOOLCHAIN_SOURCE") == Some(OsStr::new("env"));
    let outer = Outer::new(manifest, &get);
    for (key, value) in &env {
        let Some(name) = key.to_str() else { continue };
        let cargos = NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let rustups = name == "RUSTUP_TOOLCHAIN_SOURCE" || (name == "RUSTUP_TOOLCHAIN" && !own_toolchain);
        if cargos || rustups {
            cleaning.remove.push(key.clone());
        } else if LIBRARY_PATHS.contains(&name) {
            match outer.without_own(value) {
                None => {}
                Some(rest) if rest.is_empty() => cleaning.remove.push(key.clone()),
                Some(rest) => cleaning.set.push((key.clone(), rest)),
            }
        }
    }
    cleaning
}

/// Folders that belong to the outer run.
struct Outer {
    within: Vec<PathBuf>,
}

impl Outer {
    fn new<'a>(manifest: &OsStr, get: &impl Fn(&str) -> Option<&'a OsStr>) -> Self {
        // The workspace root may be any folder above the package.
        let mut within: Vec<PathBuf> = Path::new(manifest).ancestors().map(|dir| dir.join("target")).collect();
        within.extend(
            ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR"]
                .iter()
                .filter_map(|name| get(name))
                .map(PathBuf::from),
        );
        // `SYSROOT/bin/cargo`
        if let Some(sysroot) =
            get("CARGO").and_then(|cargo| Path::new(cargo).parent()?.parent()).filter(|dir| dir.parent().is_some())
        {
            within.push(sysroot.join("lib").join("rustlib"));
            within.extend(is_toolchain(sysroot).then(|| sysroot.join("lib")));
        }
        // A linked toolchain is elsewhere; rustup names it by the link.
        if let (Some(home), Some(name)) = (get("RUSTUP_HOME"), get("RUSTUP_TOOLCHAIN")) {
            within.push(Path::new(home).join("toolchains").join(name).join("lib"));
        }
        within.retain(|dir| dir.is_absolute());
        Self { within }
    }

    /// The list without the outer run's folders; `None` when it has none of them.
    fn without_own(&self, list: &OsStr) -> Option<OsString> {
        let all: Vec<PathBuf> = std::env::split_paths(list).collect();
        let own = |dir: &PathBuf| {
            // A target directory named by configuration is known by the pair that cargo always adds.
            let profile = all.contains(&dir.join("deps"))
                || (dir.ends_with("deps") && dir.parent().is_some_and(|up| all.iter().any(|other| other == up)));
            profile || self.within.iter().any(|outer| dir.starts_with(outer))
        };
        let rest: Vec<&PathBuf> = all.iter().filter(|dir| !own(dir)).collect();
        (rest.len() < all.len()).then(|| std::env::join_paths(rest).unwrap_or_default())
    }
}

/// A toolchain of rustup's has libraries of its own only; a distribution's `/usr/lib` holds everybody's.
fn is_toolchain(sysroot: &Path) -> bool {
    sysroot.parent().is_some_and(|dir| dir.ends_with("toolchains"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(env: &[(&str, &str)]) -> (Vec<String>, Vec<(String, String)>) {
        let text = |value: OsString| value.into_string().unwrap();
        let found = variables_of_outer_cargo_run(env.iter().map(|(key, value)| (key.into(), value.into())));
        (
            found.remove.into_iter().map(text).collect(),
            found.set.into_iter().map(|(key, value)| (text(key), text(value))).collect(),
        )
    }

    const OUTER: [(&str, &str); 4] = [
        ("CARGO", "/h/toolchains/s/bin/cargo"),
        ("CARGO_MANIFEST_DIR", "/w/crates/larder"),
        ("CARGO_PKG_NAME", "larder"),
        ("CARGO_PKG_VERSION_PRE", ""),
    ];

    #[test]
    fn only_under_larders_own_cargo() {
        assert_eq!(
            clean(&[("CARGO", "x"), ("CARGO_PKG_NAME", "other"), ("CARGO_MANIFEST_DIR", "/o"), ("OUT_DIR", "/o")]),
            (vec![], vec![])
        );
        assert_eq!(clean(&[("CARGO_PKG_NAME", "larder")]), (vec![], vec![]));
        assert_eq!(clean(&OUTER).0, ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_PRE"]);
    }

    #[test]
    fn the_users_own_stay() {
        let mut env = OUTER.to_vec();
        env.extend([
            ("CARGO_TARGET_DIR", "/t"),
            ("RUSTFLAGS", "-g"),
            ("CARGO_HOME", "/c"),
            ("RUSTUP_TOOLCHAIN", "s"),
            ("RUSTUP_TOOLCHAIN_SOURCE", "env"),
        ]);
        assert_eq!(clean(&env).0[4..], ["RUSTUP_TOOLCHAIN_SOURCE"]);
        env[8].1 = "default";
        assert_eq!(clean(&env).0[4..], ["RUSTUP_TOOLCHAIN", "RUSTUP_TOOLCHAIN_SOURCE"]);
    }

    #[cfg(unix)]
    #[test]
    fn library_paths_lose_what_cargo_added() {
        let with = |list: &'static str| {
            let mut env = OUTER.to_vec();
            env.push(("LD_LIBRARY_PATH", list));
            clean(&env)
        };
        let own = "/w/target/debug:/w/target/debug/deps:/h/toolchains/s/lib/rustlib/x/lib:/h/toolchains/s/lib";
        assert_eq!(with(own).0[4..], ["LD_LIBRARY_PATH"]);
        assert_eq!(with("/far/debug:/far/debug/deps:/opt/x").1, [("LD_LIBRARY_PATH".to_owned(), "/opt/x".to_owned())]);
        assert_eq!(with("/opt/x:/w/lib"), (clean(&OUTER).0, vec![]));

        let mut linked = OUTER.to_vec();
        linked.extend([
            ("RUSTUP_HOME", "/u"),
            ("RUSTUP_TOOLCHAIN", "mine"),
            ("LD_LIBRARY_PATH", "/u/toolchains/mine/lib"),
        ]);
        assert_eq!(clean(&linked).0[4..], ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"]);
    }
}
