//! Cargo's fingerprint of a unit: the hash that it compares, and the JSON beside it that says what was hashed.
//!
//! The JSON is cargo's explanation of why a unit is dirty, and so names everything that makes it so. What this version
//! of larder does not know in it is passed over: cargo 1.100 writes how files are compared where 1.95 wrote whether by
//! checksum.
//!
//! Source: `src/cargo/core/compiler/fingerprint/mod.rs`, `Fingerprint` and `write_fingerprint`.

use std::path::PathBuf;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// What cargo hashed for one unit, besides its dependencies and inputs. The numbers are hashes: they say that something
/// changed, not what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// The output of `rustc -vV`.
    pub rustc: u64,
    /// Features that are on, as cargo prints them: `["default", "std"]`.
    pub features: String,
    /// Features that the package has.
    pub declared_features: String,
    /// The target's name, source path within the package, edition and the like; 0 for the run of a build script.
    pub target: u64,
    /// Profile, mode (build, check, test, doc), extra arguments, lto and lints; 0 for the run of a build script.
    pub profile: u64,
    /// Where the main source is: within the workspace for its members, absolute for all others, so that a registry
    /// package of another version differs. 0 for the run of a build script.
    pub path: u64,
    /// RUSTFLAGS or RUSTDOCFLAGS.
    pub rustflags: Vec<String>,
    /// The linker, and some settings.
    pub config: u64,
    /// A target specification's content, or the name of the target.
    pub compile_kind: u64,
}

/// The JSON beside a fingerprint.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Json")]
pub(super) struct Fingerprint {
    pub(super) recipe: Recipe,
    pub(super) deps: Vec<Dependency>,
    pub(super) local: Vec<Local>,
}

/// As it is written: flat. (`serde(flatten)` would keep every value twice on the way.)
#[derive(Default, Deserialize)]
#[serde(default)]
struct Json {
    rustc: u64,
    features: String,
    declared_features: String,
    target: u64,
    profile: u64,
    path: u64,
    deps: Vec<Dependency>,
    local: Vec<Local>,
    rustflags: Vec<String>,
    config: u64,
    compile_kind: u64,
}

impl From<Json> for Fingerprint {
    fn from(json: Json) -> Self {
        let Json { rustc, features, declared_features, target, profile, path, rustflags, config, compile_kind, .. } =
            json;
        let recipe =
            Recipe { rustc, features, declared_features, target, profile, path, rustflags, config, compile_kind };
        Self { recipe, deps: json.deps, local: json.local }
    }
}

/// Package id, name of the crate for the dependent, whether it is public, fingerprint.
#[derive(Debug, Deserialize)]
pub(super) struct Dependency(IgnoredAny, pub(super) String, IgnoredAny, pub(super) u64);

/// How cargo sees that a unit's own inputs changed.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) enum Local {
    /// A text that is hashed: see [`watches_files`].
    Precalculated(String),
    /// A `dep-*` file. Its path is in it too, but is always beside the hash.
    CheckDepInfo {},
    /// What a build script asked for, relative to the package.
    RerunIfChanged {
        paths: Vec<PathBuf>,
    },
    RerunIfEnvChanged {
        var: String,
        val: Option<String>,
    },
    #[serde(untagged)]
    Unknown(IgnoredAny),
}

impl Fingerprint {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Sixteen digits, the lowest byte first, as cargo's `util::to_hex` prints them; in the JSON of dependents the same
/// number stands in decimal.
pub(super) fn parse_hash(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() == 16)?;
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok().map(u64::swap_bytes))?
}

/// Whether a precalculated text is `1795380442.677753679s (src/lib.rs)`: the newest file of a path package. Registry
/// packages have their version there, git packages their commit, overridden build scripts the hash of what replaces
/// their output.
///
/// Source: `fingerprint` of the sources in `src/cargo/sources/`.
pub(super) fn watches_files(text: &str) -> bool {
    let Some((time, file)) = text.split_once(' ') else { return false };
    let Some((seconds, nanos)) = time.strip_suffix('s').and_then(|time| time.split_once('.')) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits(seconds.strip_prefix('-').unwrap_or(seconds))
        && digits(nanos)
        && file.starts_with('(')
        && file.ends_with(')')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_begin_with_their_lowest_byte() {
        // From a real directory: `my_lib` and a dependent of it.
        assert_eq!(parse_hash(b"6413bc1b893efc71"), Some(8213508579013694308));
        for bad in [&b""[..], b"6413bc1b893efc7", b"+413bc1b893efc71", b"6413bc1b893efc711", b"\xff413bc1b893efc7"] {
            assert_eq!(parse_hash(bad), None);
        }
    }

    #[test]
    fn a_real_one() {
        let text = br#"{"rustc":7458672600737419911,"features":"[\"a\"]","declared_features":"[\"a\", \"b\"]","target":7,"profile":8,
            "path":18446744073709551615,"deps":[[9512793030020867233,"build_script_build",false,11001639871409114827]],
            "local":[{"CheckDepInfo":{"dep_info":"debug/dep-lib-a","checksum":false}}],"rustflags":["-Cx"],"config":9,"compile_kind":0}"#;
        let found = Fingerprint::parse(text).unwrap();
        assert_eq!((found.recipe.path, &*found.recipe.features, found.recipe.config), (u64::MAX, "[\"a\"]", 9));
        assert_eq!((found.deps[0].1.as_str(), found.deps[0].3), ("build_script_build", 11001639871409114827));
        assert_eq!(found.local, [Local::CheckDepInfo {}]);
    }

    #[test]
    fn later_versions_may_add() {
        let text = br#"{"new":1,"local":[{"CheckDepInfo":{"dep_info":"d","fingerprint":"mtime"}},{"Later":{"x":[]}},
            {"RerunIfChanged":{"output":"o","paths":["a"]}},{"RerunIfEnvChanged":{"var":"V","val":null}}]}"#;
        let found = Fingerprint::parse(text).unwrap();
        assert_eq!(found.local.len(), 4);
        assert!(matches!(found.local[1], Local::Unknown(_)));
        assert_eq!(found.local[2], Local::RerunIfChanged { paths: vec!["a".into()] });
    }

    #[test]
    fn newest_files() {
        for text in ["1795380442.677753679s (src/lib.rs)", "-1.0s (a (b))"] {
            assert!(watches_files(text), "{text}");
        }
        for text in ["1.0.0", "1.0.228+b", "0ab1f2", "overridden build state with hash: 123", "", "1.2s x", ".s ()"] {
            assert!(!watches_files(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,40}") {
            parse_hash(&noise);
            Fingerprint::parse(&noise);
            watches_files(&text);
        }
    }
}
