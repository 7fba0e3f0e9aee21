//! Which steps restore or save what, by an action or by a script.

use super::environment::Environment;
use super::{Read, Uses, is_larder};
use crate::shell::{Command, Script, has_flag};
use crate::workflow::{Step, Text};
use crate::yaml::Mark;

/// What restores or saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `actions/cache`, over the network.
    Actions,
    /// The same for a provider's own cache.
    Provider,
    /// `Swatinem/rust-cache`, over the network.
    RustCache,
    /// larder.
    Larder,
    /// rsync, tar or cp in a script.
    Script,
    /// An action of somebody else whose name says that it caches.
    Other,
}

/// In which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Restore,
    Save,
    /// Restores, and saves at the job's end.
    Both,
}

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Target,
    CargoHome,
    /// The programs that `cargo install` made.
    Bin,
    Other,
}

/// A directory of the job that is restored or saved.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) kind: Kind,
    /// With variables replaced.
    pub(crate) path: String,
}

/// A restore or a save.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) tool: Tool,
    pub(crate) way: Way,
    pub(crate) local: Vec<Local>,
    /// Where a script keeps it, as written.
    pub(crate) store: Option<String>,
    pub(crate) key: Option<Text>,
    pub(crate) has_restore_keys: bool,
    pub(crate) at: Mark,
    /// Which command of the script.
    pub(crate) command: Option<usize>,
}

impl Cache {
    pub(crate) fn holds(&self, kind: Kind) -> bool {
        self.local.iter().any(|local| local.kind == kind)
    }

    pub(crate) fn restores(&self) -> bool {
        self.way != Way::Save
    }

    pub(crate) fn saves(&self) -> bool {
        self.way != Way::Restore
    }

    /// Whether it holds what cargo makes or fetches.
    pub(crate) fn is_cargos(&self) -> bool {
        self.holds(Kind::Target) || self.holds(Kind::CargoHome)
    }
}

/// How many restores and saves one script can have: nobody writes more by hand, and rules look at each of them.
const MOST: usize = 100;

/// Providers' forks of `actions/cache`, with the same inputs.
const PROVIDERS: &[&str] = &[
    "buildjet/cache",
    "warpbuilds/cache",
    "ubicloud/cache",
    "runs-on/cache",
    "useblacksmith/cache",
    "namespacelabs/cache",
    "tespkg/actions-cache",
    "whywaita/actions-cache-s3",
];

pub(super) fn of(read: &Read, uses: Option<&Uses>, environment: &Environment) -> Vec<Cache> {
    match uses {
        Some(uses) => of_action(&read.step, uses, environment).into_iter().collect(),
        None => of_script(&read.step, &read.script, environment),
    }
}

fn of_action(step: &Step, uses: &Uses, environment: &Environment) -> Option<Cache> {
    let name = uses.name.as_str();
    let base = name.trim_end_matches("/restore").trim_end_matches("/save");
    let way = if name.ends_with("/restore") {
        Way::Restore
    } else if name.ends_with("/save") {
        Way::Save
    } else {
        Way::Both
    };
    let cache = |tool, way, local| Cache {
        tool,
        way,
        local,
        store: None,
        key: step.input("key").cloned(),
        has_restore_keys: step.input("restore-keys").is_some_and(|keys| !keys.text.trim().is_empty()),
        at: uses.at,
        command: None,
    };
    let provider = PROVIDERS.contains(&base);
    if base == "actions/cache" || provider {
        let paths = step.input("path").map(|path| path.text.as_str()).unwrap_or_default();
        let tool = if provider { Tool::Provider } else { Tool::Actions };
        return Some(cache(tool, way, paths.lines().filter_map(|line| local(line, environment)).collect()));
    }
    let own = || {
        vec![
            Local { kind: Kind::Target, path: "target".into() },
            Local { kind: Kind::CargoHome, path: "$CARGO_HOME".into() },
        ]
    };
    if name.ends_with("/rust-cache") {
        let provider =
            step.input("cache-provider").is_some_and(|input| input.text != "github") || !name.starts_with("swatinem/");
        let way = match step.input("save-if") {
            Some(save) if save.text == "false" => Way::Restore,
            _ => Way::Both,
        };
        let mut cache = cache(if provider { Tool::Provider } else { Tool::RustCache }, way, own());
        cache.key = step.input("shared-key").cloned();
        cache.has_restore_keys = true;
        return Some(cache);
    }
    if is_larder(name) {
        return Some(cache(Tool::Larder, Way::Both, own()));
    }
    // Programs, images and the like have caches too: only what names cargo or a build is of interest.
    let known = ["mozilla-actions/", "actions/", "docker/", "taiki-e/", "swatinem/"];
    let of_builds = ["cargo", "rust", "target", "runner", "build"].iter().any(|word| name.contains(word));
    if name.contains("cache") && of_builds && !known.iter().any(|known| name.starts_with(known)) {
        let inputs = ["operation", "mode", "action", "command", "op"];
        let asked = inputs.iter().find_map(|name| step.input(name)).map(|input| input.text.to_lowercase());
        let way = match asked.as_deref() {
            Some("save") => Way::Save,
            Some("restore") => Way::Restore,
            Some(_) => return None,
            None => Way::Both,
        };
        return Some(cache(Tool::Other, way, Vec::new()));
    }
    None
}

/// What a path of a job holds; `None` for an empty or negated one.
fn local(path: &str, environment: &Environment) -> Option<Local> {
    let path = path.trim();
    if path.is_empty() || path.starts_with(['!', '#']) {
        return None;
    }
    let path = environment.expand(path);
    Some(Local { kind: kind(&path), path })
}

fn kind(path: &str) -> Kind {
    let path = path.trim_end_matches(['/', '*', '.']);
    let names = |name: &str| path.split('/').any(|part| part == name);
    if path.ends_with("/.cargo/bin") || path.ends_with("CARGO_HOME/bin") || path.contains("/.cargo/bin/") {
        Kind::Bin
    } else if names("target") || path.contains("CARGO_TARGET_DIR") || path.ends_with("-target") {
        Kind::Target
    } else if names(".cargo") || path.contains("CARGO_HOME") || names("registry") {
        Kind::CargoHome
    } else {
        Kind::Other
    }
}

/// Whether a path of a script is where things are kept from one job to the next.
fn is_store(raw: &str, expanded: &str) -> bool {
    let path = expanded.to_lowercase();
    if path.starts_with("$runner_temp") || path.starts_with("$github_workspace") {
        return false;
    }
    // `~/.cargo/registry/cache` is a part of CARGO_HOME.
    let outer = path.split("/.cargo").next().unwrap_or_default().replace("$cargo_home", "");
    let outer = outer.split("/registry/cache").next().unwrap_or_default();
    let absolute = ["/mnt/", "/srv/", "/data/", "/var/", "/opt/", "/nfs/", "/cache", "/tmp/"];
    let by_name = raw.to_lowercase().replace("cargo_home", "");
    outer.contains("cache") && (outer.starts_with(['/', '$']) || outer.contains(':'))
        || by_name.starts_with('$') && by_name.contains("cache")
        || absolute.iter().any(|root| path.starts_with(root))
}

fn of_script(step: &Step, script: &Script, environment: &Environment) -> Vec<Cache> {
    let mut found = Vec::new();
    for (at, command) in script.commands.iter().enumerate() {
        if found.len() == MOST {
            break;
        }
        let moved = match command.program() {
            "rsync" => rsync(command.arguments()),
            "cp" if has_flag(command.arguments(), &['r', 'R', 'a'], "--recursive") => plain(command.arguments()),
            "mv" => plain(command.arguments()),
            "tar" => tar(command, script),
            "larder" => {
                found.extend(larder(step, command, at));
                continue;
            }
            _ => continue,
        };
        let Some((from, to)) = moved else { continue };
        if let Some((way, local, store)) = direction(&from, &to, environment) {
            found.push(Cache {
                tool: Tool::Script,
                way,
                local: vec![local],
                store: Some(store),
                key: None,
                has_restore_keys: false,
                at: step.run.as_ref().map_or(step.at, |run| run.inside(command.line, command.column)),
                command: Some(at),
            });
        }
    }
    found
}

fn larder(step: &Step, command: &Command, at: usize) -> Option<Cache> {
    let way = match command.words.get(1).map(String::as_str) {
        Some("restore") => Way::Restore,
        Some("save") => Way::Save,
        _ => return None,
    };
    Some(Cache {
        tool: Tool::Larder,
        way,
        local: vec![Local { kind: Kind::Target, path: "target".into() }],
        store: None,
        key: None,
        has_restore_keys: true,
        at: step.run.as_ref().map_or(step.at, |run| run.inside(command.line, command.column)),
        command: Some(at),
    })
}

/// Which of the two is the store; `None` if that cannot be told or nothing of a build is moved.
fn direction(from: &[String], to: &str, environment: &Environment) -> Option<(Way, Local, String)> {
    let expanded_to = environment.expand(to);
    let to_store = is_store(to, &expanded_to);
    for one in from {
        let expanded = environment.expand(one);
        let (local, store, way) = match (is_store(one, &expanded), to_store) {
            (false, true) => (expanded, to, Way::Save),
            (true, false) => (expanded_to.clone(), one.as_str(), Way::Restore),
            _ => continue,
        };
        let kind = match kind(&local) {
            // The workspace itself, or something unnamed: what the store calls it decides.
            Kind::Other => match kind(&environment.expand(store)) {
                Kind::Other | Kind::Bin => continue,
                kind => kind,
            },
            kind => kind,
        };
        return Some((way, Local { kind, path: local }, store.to_owned()));
    }
    None
}

fn rsync(words: &[String]) -> Option<(Vec<String>, String)> {
    let valued = [
        "-e",
        "--rsh",
        "--exclude",
        "--include",
        "--filter",
        "-f",
        "--exclude-from",
        "--include-from",
        "--files-from",
        "--bwlimit",
        "--timeout",
        "--log-file",
        "--link-dest",
        "--partial-dir",
        "-T",
        "--temp-dir",
        "--rsync-path",
        "-M",
    ];
    let mut paths = Vec::new();
    let mut skip = false;
    for word in words {
        if std::mem::take(&mut skip) {
            continue;
        }
        if valued.contains(&word.as_str()) {
            skip = true;
        } else if !word.starts_with('-') {
            paths.push(word.clone());
        }
    }
    let to = paths.pop()?;
    (!paths.is_empty()).then_some((paths, to))
}

fn plain(words: &[String]) -> Option<(Vec<String>, String)> {
    if let Some(at) = words.iter().position(|word| word == "-t") {
        let to = words.get(at + 1)?.clone();
        let from = words[..at].iter().chain(words.get(at + 2..).unwrap_or_default());
        return Some((from.filter(|word| !word.starts_with('-')).cloned().collect(), to));
    }
    let mut paths: Vec<String> = words.iter().filter(|word| !word.starts_with('-')).cloned().collect();
    let to = paths.pop()?;
    (!paths.is_empty()).then_some((paths, to))
}

fn tar(command: &Command, script: &Script) -> Option<(Vec<String>, String)> {
    let words = command.arguments();
    let mut archive = None;
    let mut packs = None;
    let mut paths = Vec::new();
    let mut folder = None;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let bundle = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let letters = bundle.or((at == 1 && !word.starts_with('-')).then_some(word.as_str()));
        if let Some(letters) = letters {
            packs = if letters.contains('c') {
                Some(true)
            } else if letters.contains('x') {
                Some(false)
            } else {
                packs
            };
            if letters.contains('f') {
                archive = words.get(at).cloned();
                at += 1;
            }
            if letters == "C" {
                folder = words.get(at).cloned();
                at += 1;
            } else if letters == "I" {
                at += 1;
            }
            continue;
        }
        match word.as_str() {
            "--create" => packs = Some(true),
            "--extract" | "--get" => packs = Some(false),
            "--file" => {
                archive = words.get(at).cloned();
                at += 1;
            }
            "--directory" | "--exclude" => {
                folder = (word == "--directory").then(|| words.get(at).cloned()).flatten().or(folder);
                at += 1;
            }
            _ => match word.split_once('=') {
                Some(("--file", path)) => archive = Some(path.to_owned()),
                Some(("--directory", path)) => folder = Some(path.to_owned()),
                _ if word.starts_with('-') => {}
                _ => paths.push(word.clone()),
            },
        }
    }
    let packs = packs?;
    let archive = archive.filter(|archive| archive != "-").or_else(|| {
        let sign = if packs { '>' } else { '<' };
        let redirects = script.pipeline(command).flat_map(|command| &command.redirects);
        redirects.filter(|(operator, _)| operator.contains(sign)).map(|(_, target)| target.clone()).next()
    })?;
    if paths.iter().all(|path| path == ".") {
        paths = folder.into_iter().collect();
    }
    if packs {
        return (!paths.is_empty()).then_some((paths, archive));
    }
    Some((vec![archive], paths.into_iter().next().unwrap_or_else(|| ".".to_owned())))
}
