//! Settings: parsed from four places, resolved once, each value with its source.
//!
//! The command line comes first, then the environment (`LARDER_*`), then `larder.toml` of the repository,
//! then that of the host (`$XDG_CONFIG_HOME/larder/larder.toml`, else `/etc/larder.toml`), then defaults.

use crate::amount::{Budget, Span};
use crate::care::Care;
use crate::cli::{Mode, SaveWhen};
use clap::ValueEnum;
use larder_ci::address::Address;
use larder_ci::system::{self, Run};
use larder_store::LinkMode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The name of the configuration files.
const FILE: &str = "larder.toml";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    CommandLine,
    Environment(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

/// What one place says; every part may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Layer {
    pub(crate) store: Option<PathBuf>,
    pub(crate) link_mode: Option<Mode>,
    pub(crate) exact: Option<bool>,
    pub(crate) save: Option<SaveWhen>,
    pub(crate) spare: Option<bool>,
    pub(crate) job: Option<String>,
    pub(crate) canonical: Option<bool>,
    pub(crate) disable: Option<bool>,
    pub(crate) ignore: Option<Vec<String>>,
    pub(crate) inputs: Option<Vec<PathBuf>>,
    pub(crate) cargo_home: Option<bool>,
    pub(crate) budget: Option<Budget>,
    pub(crate) max_age: Option<Span>,
    pub(crate) keep: Option<usize>,
    pub(crate) keep_cargo_home: Option<usize>,
    pub(crate) high: Option<u8>,
    pub(crate) low: Option<u8>,
    pub(crate) lease: Option<Span>,
    pub(crate) guard: Option<bool>,
    pub(crate) summary: Option<bool>,
    pub(crate) care: Option<Vec<Care>>,
    pub(crate) siblings: Option<BTreeMap<String, Sibling>>,
    pub(crate) default_branch: Option<String>,
}

/// What is said of one sibling repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Sibling {
    /// Where it comes from; may hold a password, and is shown without.
    pub(crate) url: Option<String>,
    /// The branch to take where it has none of the run's own name.
    pub(crate) branch: Option<String>,
}

/// Everything that can be configured, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) store: Setting<PathBuf>,
    pub(crate) link_mode: Setting<Mode>,
    pub(crate) exact: Setting<bool>,
    pub(crate) save: Setting<SaveWhen>,
    pub(crate) spare: Setting<bool>,
    pub(crate) job: Setting<Option<String>>,
    /// Whether commands run at canonical paths.
    pub(crate) canonical: Setting<bool>,
    pub(crate) disable: Setting<bool>,
    /// Patterns of files that no build reads unless it names them, beside the usual ones.
    pub(crate) ignore: Setting<Vec<String>>,
    /// Files and folders that builds read, whatever else is said of them; relative to the workspace's root.
    pub(crate) inputs: Setting<Vec<PathBuf>>,
    /// Whether what a build needs of CARGO_HOME is kept too.
    pub(crate) cargo_home: Setting<bool>,
    /// What the store may take.
    pub(crate) budget: Setting<Budget>,
    /// What was not used for so long is dropped.
    pub(crate) max_age: Setting<Span>,
    /// So many snapshots of each lineage may stay.
    pub(crate) keep: Setting<usize>,
    /// So many of CARGO_HOME.
    pub(crate) keep_cargo_home: Setting<usize>,
    /// Above so many percent of a disk something is evicted.
    pub(crate) high: Setting<u8>,
    /// Until it is so many.
    pub(crate) low: Setting<u8>,
    /// How long the snapshot of a job stays whose process is gone.
    pub(crate) lease: Setting<Span>,
    /// Whether jobs keep the store's disk between the marks by themselves.
    pub(crate) guard: Setting<bool>,
    /// Whether `run` adds a table to the job's page.
    pub(crate) summary: Setting<bool>,
    /// Folders of others in which `guard` deletes what is old.
    pub(crate) care: Setting<Vec<Care>>,
    /// Sibling repositories, by the names of their folders.
    pub(crate) siblings: Setting<BTreeMap<String, Sibling>>,
    /// The branch of siblings that have none of the run's own name, and for which nothing else is said.
    pub(crate) default_branch: Setting<Option<String>>,
}

/// A setting that cannot be understood.
#[derive(Debug)]
pub(crate) struct BadSetting(String);

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadSetting {}

impl Settings {
    /// Resolves layers, the strongest first.
    pub(crate) fn resolve(layers: &[(Source, Layer)], default_store: PathBuf) -> Self {
        fn pick<T: Clone>(layers: &[(Source, Layer)], get: impl Fn(&Layer) -> Option<T>, default: T) -> Setting<T> {
            let found = layers.iter().find_map(|(source, layer)| get(layer).map(|value| (source.clone(), value)));
            match found {
                // The environment's layer names the variable.
                Some((source, value)) => Setting { value, source },
                None => Setting { value: default, source: Source::Default },
            }
        }
        Self {
            store: pick(layers, |layer| layer.store.clone(), default_store),
            link_mode: pick(layers, |layer| layer.link_mode, Mode::default()),
            exact: pick(layers, |layer| layer.exact, false),
            save: pick(layers, |layer| layer.save, SaveWhen::default()),
            spare: pick(layers, |layer| layer.spare, false),
            job: pick(layers, |layer| layer.job.clone().map(Some), None),
            canonical: pick(layers, |layer| layer.canonical, false),
            disable: pick(layers, |layer| layer.disable, false),
            ignore: pick(layers, |layer| layer.ignore.clone(), Vec::new()),
            inputs: pick(layers, |layer| layer.inputs.clone(), Vec::new()),
            cargo_home: pick(layers, |layer| layer.cargo_home, false),
            budget: pick(layers, |layer| layer.budget, Budget::Off),
            max_age: pick(layers, |layer| layer.max_age, Span::days(7)),
            keep: pick(layers, |layer| layer.keep, 3),
            keep_cargo_home: pick(layers, |layer| layer.keep_cargo_home, 5),
            high: pick(layers, |layer| layer.high, 80),
            low: pick(layers, |layer| layer.low, 70),
            // After that GitHub ends a job that says nothing else.
            lease: pick(layers, |layer| layer.lease, Span::hours(6)),
            guard: pick(layers, |layer| layer.guard, true),
            summary: pick(layers, |layer| layer.summary, true),
            care: pick(layers, |layer| layer.care.clone(), Vec::new()),
            siblings: siblings(layers),
            default_branch: pick(layers, |layer| layer.default_branch.clone().map(Some), None),
        }
    }

    /// What a stranger's job gets shares no inode with the store, whatever is configured: its code could write there.
    pub(crate) fn keep_strangers_apart(&mut self, job: &Run) {
        let shares = |mode: LinkMode| !matches!(mode, LinkMode::Reflink | LinkMode::Copy | LinkMode::Overlay);
        if job.is_fork() && shares(self.link_mode.value.0) {
            self.link_mode = Setting { value: Mode(LinkMode::Reflink), source: Source::Environment(FORK.into()) };
        }
    }

    /// Why nothing is saved although a build succeeded; `None` where it is.
    pub(crate) fn never_saves(&self) -> Option<String> {
        let why = match &self.save.source {
            Source::Environment(name) if name == FORK => format!("this is {FORK}"),
            source => format!("{source} says never"),
        };
        (self.save.value == SaveWhen::Never).then(|| format!("nothing is saved: {why}"))
    }

    /// Name, value and source of each, for people.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String, &Source)> {
        let save = self.save.value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let inputs: Vec<String> = self.inputs.value.iter().map(|path| path.display().to_string()).collect();
        let care: Vec<String> = self.care.value.iter().map(Care::to_string).collect();
        let shown = |(name, Sibling { url, branch }): (&String, &Sibling)| {
            let clean = |url: &String| Address::clean(url).map_or_else(|_| "?".to_owned(), |(url, _)| url.to_string());
            let url = url.as_ref().map(|url| format!(" {}", clean(url)));
            let branch = branch.as_ref().map(|branch| format!(" #{branch}"));
            format!("{name}{}{}", url.unwrap_or_default(), branch.unwrap_or_default())
        };
        let siblings: Vec<String> = self.siblings.value.iter().map(shown).collect();
        vec![
            ("store", self.store.value.display().to_string(), &self.store.source),
            ("link-mode", self.link_mode.value.0.name().to_owned(), &self.link_mode.source),
            ("exact", self.exact.value.to_string(), &self.exact.source),
            ("save", save, &self.save.source),
            ("spare", self.spare.value.to_string(), &self.spare.source),
            ("job", self.job.value.clone().unwrap_or_default(), &self.job.source),
            ("canonical", self.canonical.value.to_string(), &self.canonical.source),
            ("disable", self.disable.value.to_string(), &self.disable.source),
            ("ignore", self.ignore.value.join(" "), &self.ignore.source),
            ("inputs", inputs.join(" "), &self.inputs.source),
            ("cargo-home", self.cargo_home.value.to_string(), &self.cargo_home.source),
            ("budget", self.budget.value.to_string(), &self.budget.source),
            ("max-age", self.max_age.value.to_string(), &self.max_age.source),
            ("keep", self.keep.value.to_string(), &self.keep.source),
            ("keep-cargo-home", self.keep_cargo_home.value.to_string(), &self.keep_cargo_home.source),
            ("high", self.high.value.to_string(), &self.high.source),
            ("low", self.low.value.to_string(), &self.low.source),
            ("lease", self.lease.value.to_string(), &self.lease.source),
            ("guard", self.guard.value.to_string(), &self.guard.source),
            ("summary", self.summary.value.to_string(), &self.summary.source),
            ("care", care.join(", "), &self.care.source),
            ("siblings", siblings.join(", "), &self.siblings.source),
            ("default-branch", self.default_branch.value.clone().unwrap_or_default(), &self.default_branch.source),
        ]
    }
}

/// What all layers say of siblings: of each the strongest word, one for its address and one for its branch.
fn siblings(layers: &[(Source, Layer)]) -> Setting<BTreeMap<String, Sibling>> {
    let mut setting = Setting { value: BTreeMap::<String, Sibling>::new(), source: Source::Default };
    for (source, named) in layers.iter().rev().filter_map(|(source, layer)| Some((source, layer.siblings.as_ref()?))) {
        setting.source = source.clone();
        for (name, Sibling { url, branch }) in named {
            let one = setting.value.entry(name.clone()).or_default();
            one.url = url.clone().or_else(|| one.url.take());
            one.branch = branch.clone().or_else(|| one.branch.take());
        }
    }
    setting
}

/// The layers of the environment: one a variable, so that each value can name its own.
pub(crate) fn environment_layers(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<(Source, Layer)>, BadSetting> {
    let mut layers = Vec::new();
    let mut add = |name: &str, fill: &dyn Fn(&str, &mut Layer) -> Result<(), String>| -> Result<(), BadSetting> {
        let Some(value) = env(name).filter(|value| !value.is_empty()) else { return Ok(()) };
        let mut layer = Layer::default();
        if name == "LARDER_STORE" {
            layer.store = Some(PathBuf::from(&value));
        } else {
            let text = value.to_str().ok_or_else(|| BadSetting(format!("{name} is not UTF-8")))?;
            fill(text, &mut layer).map_err(|why| BadSetting(format!("{name}={text}: {why}")))?;
        }
        layers.push((Source::Environment(name.to_owned()), layer));
        Ok(())
    };
    add("LARDER_STORE", &|_, _| Ok(()))?;
    add("LARDER_LINK_MODE", &|text, layer| choice(text).map(|mode| layer.link_mode = Some(mode)))?;
    add("LARDER_EXACT", &|text, layer| boolean(text).map(|exact| layer.exact = Some(exact)))?;
    add("LARDER_SAVE", &|text, layer| choice(text).map(|save| layer.save = Some(save)))?;
    add("LARDER_SPARE", &|text, layer| boolean(text).map(|spare| layer.spare = Some(spare)))?;
    add("LARDER_JOB", &|text, layer| {
        layer.job = Some(text.to_owned());
        Ok(())
    })?;
    add("LARDER_CANONICAL", &|text, layer| boolean(text).map(|canonical| layer.canonical = Some(canonical)))?;
    add("LARDER_DISABLE", &|text, layer| boolean(text).map(|disable| layer.disable = Some(disable)))?;
    add("LARDER_CARGO_HOME", &|text, layer| boolean(text).map(|keep| layer.cargo_home = Some(keep)))?;
    fn number<T: std::str::FromStr>(text: &str) -> Result<Option<T>, String> {
        text.parse().map(Some).map_err(|_| "expected a number".into())
    }
    add("LARDER_BUDGET", &|text, layer| text.parse().map(|budget| layer.budget = Some(budget)))?;
    add("LARDER_MAX_AGE", &|text, layer| text.parse().map(|age| layer.max_age = Some(age)))?;
    add("LARDER_KEEP", &|text, layer| number(text).map(|keep| layer.keep = keep))?;
    add("LARDER_KEEP_CARGO_HOME", &|text, layer| number(text).map(|keep| layer.keep_cargo_home = keep))?;
    add("LARDER_HIGH", &|text, layer| number(text).map(|high| layer.high = high))?;
    add("LARDER_LOW", &|text, layer| number(text).map(|low| layer.low = low))?;
    add("LARDER_LEASE", &|text, layer| text.parse().map(|lease| layer.lease = Some(lease)))?;
    add("LARDER_GUARD", &|text, layer| boolean(text).map(|guard| layer.guard = Some(guard)))?;
    add("LARDER_SUMMARY", &|text, layer| boolean(text).map(|summary| layer.summary = Some(summary)))?;
    Ok(layers)
}

/// The weakest layer, which only the defaults are below: where `CI` is set nobody misses what a job leaves behind, and
/// machines start empty.
pub(crate) fn ci_layer(env: &dyn Fn(&str) -> Option<OsString>) -> Option<(Source, Layer)> {
    is_ci(env).then(|| (Source::Environment("CI".into()), Layer { cargo_home: Some(true), ..Layer::default() }))
}

/// Whether a CI system runs this.
pub(crate) fn is_ci(env: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let is_set = |value: OsString| value.to_str().and_then(|text| boolean(text).ok()).unwrap_or(true);
    env("CI").filter(|value| !value.is_empty()).is_some_and(is_set)
}

/// What the job itself says: its name where that is not GitHub's, and that strangers save nothing.
pub(crate) fn job_layers(job: &Run) -> Vec<(Source, Layer)> {
    let named = match job.system {
        system::Name::Gitlab => Some("CI_JOB_NAME"),
        system::Name::Buildkite => Some("BUILDKITE_STEP_KEY"),
        // The key's own default.
        system::Name::Github | system::Name::Forgejo | system::Name::None => None,
    };
    let name = named
        .zip(job.job.clone())
        .map(|(variable, name)| (Source::Environment(variable.into()), Layer { job: Some(name), ..Layer::default() }));
    let fork = job.is_fork().then(|| {
        let layer = Layer { save: Some(SaveWhen::Never), ..Layer::default() };
        (Source::Environment(FORK.into()), layer)
    });
    name.into_iter().chain(fork).collect()
}

/// What stands for the source of a setting that a pull request from a fork decides.
const FORK: &str = "a pull request from a fork";

/// Whether the environment switches larder off, whatever else it says.
pub(crate) fn is_disabled(env: &dyn Fn(&str) -> Option<OsString>) -> bool {
    env("LARDER_DISABLE").and_then(|value| boolean(value.to_str()?).ok()).unwrap_or(false)
}

fn choice<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, true).map_err(|_| {
        let names: Vec<_> =
            T::value_variants().iter().filter_map(|v| v.to_possible_value()).map(|v| v.get_name().to_owned()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1 or 0".into()),
    }
}

/// The layers of the files: the repository's, found from `dir` upwards, then the host's.
pub(crate) fn file_layers(
    dir: &Path,
    env: &dyn Fn(&str) -> Option<OsString>,
    read: &dyn Fn(&Path) -> Option<Vec<u8>>,
) -> Result<Vec<(Source, Layer)>, BadSetting> {
    let repository = dir.ancestors().map(|dir| dir.join(FILE)).find_map(|path| read(&path).map(|bytes| (path, bytes)));
    let user = config_home(env).map(|home| home.join("larder").join(FILE));
    let host = [user, Some(Path::new("/etc").join(FILE))]
        .into_iter()
        .flatten()
        .filter_map(|path| read(&path).map(|bytes| (path, bytes)));
    let mut layers = Vec::new();
    if let Some((path, bytes)) = repository {
        let (source, layer) = parse(path, &bytes)?;
        if layer.care.is_some() {
            // Whoever may push to a repository must not say what is deleted on the machine that builds it.
            return Err(BadSetting(format!("{source}: care belongs into the host's {FILE}, not into a repository's")));
        }
        layers.push((source, layer));
    }
    for (path, bytes) in host {
        layers.push(parse(path, &bytes)?);
    }
    Ok(layers)
}

fn parse(path: PathBuf, bytes: &[u8]) -> Result<(Source, Layer), BadSetting> {
    let text = std::str::from_utf8(bytes).map_err(|e| BadSetting(format!("{}: {e}", path.display())))?;
    let mut layer: Layer = toml::from_str(text).map_err(|e| BadSetting(format!("{}: {e}", path.display())))?;
    // A relative store is relative to the file that names it.
    if let (Some(store), Some(dir)) = (&layer.store, path.parent()) {
        layer.store = Some(dir.join(store));
    }
    Ok((Source::File(path), layer))
}

fn config_home(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    absolute(env("XDG_CONFIG_HOME")).or_else(|| absolute(env("HOME")).map(|home| home.join(".config")))
}

/// Where the store is unless somebody says otherwise.
pub(crate) fn default_store(env: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    let cache = absolute(env("XDG_CACHE_HOME")).or_else(|| absolute(env("HOME")).map(|home| home.join(".cache")));
    cache.unwrap_or_else(|| PathBuf::from("/var/cache")).join("larder")
}

fn absolute(path: Option<OsString>) -> Option<PathBuf> {
    path.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_of<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
    }

    #[test]
    fn the_strongest_place_that_says_something_wins() {
        let env = env_of(&[("LARDER_LINK_MODE", "copy"), ("LARDER_EXACT", "1"), ("HOME", "/home/u")]);
        let files = |path: &Path| match path.to_str()? {
            "/repo/larder.toml" => Some(b"store = \"cache\"\nlink-mode = \"hardlink\"\nspare = true".to_vec()),
            "/etc/larder.toml" => Some(b"store = \"/var/larder\"\nsave = \"never\"".to_vec()),
            _ => None,
        };
        let mut layers = vec![(Source::CommandLine, Layer { job: Some("test".into()), ..Layer::default() })];
        layers.extend(environment_layers(&env).unwrap());
        layers.extend(file_layers(Path::new("/repo/sub"), &env, &files).unwrap());
        let settings = Settings::resolve(&layers, default_store(&env));
        assert_eq!(settings.store.value, Path::new("/repo/cache"));
        assert_eq!(settings.link_mode.value, Mode(larder_store::LinkMode::Copy));
        assert_eq!(settings.link_mode.source, Source::Environment("LARDER_LINK_MODE".into()));
        assert_eq!(settings.save.value, SaveWhen::Never);
        assert_eq!(settings.save.source, Source::File("/etc/larder.toml".into()));
        assert!(settings.exact.value && settings.spare.value && !settings.disable.value);
        assert_eq!(settings.job.source, Source::CommandLine);
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let bad = environment_layers(&env_of(&[("LARDER_SAVE", "sometimes")])).unwrap_err();
        assert_eq!(bad.to_string(), "LARDER_SAVE=sometimes: expected one of success, always, never");
        let files = |path: &Path| (path == Path::new("/r/larder.toml")).then(|| b"stroe = \"x\"".to_vec());
        let bad = file_layers(Path::new("/r"), &env_of(&[]), &files).unwrap_err().to_string();
        assert!(bad.contains("/r/larder.toml") && bad.contains("stroe"), "{bad}");
    }

    #[test]
    fn ci_is_the_weakest_reason() {
        let keeps = |pairs: &[(&str, &str)]| {
            let env = env_of(pairs);
            let mut layers = environment_layers(&env).unwrap();
            layers.extend(ci_layer(&env));
            Settings::resolve(&layers, default_store(&env)).cargo_home.value
        };
        assert!(keeps(&[("CI", "true")]) && keeps(&[("CI", "woodpecker")]) && keeps(&[("LARDER_CARGO_HOME", "1")]));
        assert!(!keeps(&[]) && !keeps(&[("CI", "false")]) && !keeps(&[("CI", "1"), ("LARDER_CARGO_HOME", "0")]));
    }

    #[test]
    fn larder_is_off_when_the_environment_says_so() {
        assert!(is_disabled(&env_of(&[("LARDER_DISABLE", "1"), ("LARDER_SAVE", "sometimes")])));
        assert!(!is_disabled(&env_of(&[("LARDER_DISABLE", "0")])) && !is_disabled(&env_of(&[])));
    }

    #[test]
    fn the_default_store_is_in_the_users_cache() {
        assert_eq!(default_store(&env_of(&[("HOME", "/home/u")])), Path::new("/home/u/.cache/larder"));
        assert_eq!(default_store(&env_of(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")])), Path::new("/c/larder"));
    }
}
