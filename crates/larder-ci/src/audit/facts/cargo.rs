//! What scripts ask of cargo.

use super::Read;
use super::environment::Environment;
use crate::shell::Command;
use crate::yaml::Mark;

/// A call of cargo.
#[derive(Debug)]
pub(crate) struct Cargo {
    /// As `build`.
    pub(crate) subcommand: String,
    /// What follows it.
    pub(crate) arguments: Vec<String>,
    /// Whether a compiler runs.
    pub(crate) compiles: bool,
    /// The directory of the package, where it is not the checkout.
    pub(crate) directory: Option<String>,
    pub(crate) at: Mark,
    /// Which command of the script.
    pub(crate) command: usize,
}

/// Subcommands that start no compiler for the workspace.
const LIGHT: &[&str] = &[
    "fmt",
    "audit",
    "deny",
    "metadata",
    "fetch",
    "tree",
    "update",
    "generate-lockfile",
    "login",
    "search",
    "machete",
    "sort",
    "vet",
    "outdated",
    "about",
    "help",
    "version",
    "clean",
    "locate-project",
    "vendor",
    "sweep",
    "cache",
    "binstall",
    "new",
    "init",
    "add",
    "remove",
    "owner",
    "yank",
    "info",
    "pkgid",
    "shear",
    "cyclonedx",
    "sbom",
    "set-version",
    "config",
];

pub(super) fn of(read: &Read, job: Option<&str>, environment: &Environment) -> Vec<Cargo> {
    let mut found = Vec::new();
    let start = read.step.working_directory.as_deref().or(job).map(str::to_owned);
    let mut directory = start.clone();
    for (at, command) in read.script.commands.iter().enumerate() {
        match command.program() {
            "cd" | "pushd" => directory = command.arguments().first().map(|path| environment.expand(path)),
            "popd" => directory.clone_from(&start),
            "cargo" | "cross" => {
                if let Some(mut cargo) = cargo(command, at, environment) {
                    cargo.directory = cargo.directory.or_else(|| directory.clone());
                    cargo.at =
                        read.step.run.as_ref().map_or(read.step.at, |run| run.inside(command.line, command.column));
                    found.push(cargo);
                }
            }
            _ => {}
        }
    }
    found
}

fn cargo(command: &Command, at: usize, environment: &Environment) -> Option<Cargo> {
    let words = command.arguments();
    // `+nightly`, and options of cargo itself, some with a value.
    let valued = ["--color", "--config", "-Z", "-C", "--manifest-path"];
    let mut verb = 0;
    while let Some(word) = words.get(verb) {
        if valued.contains(&word.as_str()) {
            verb += 2;
        } else if word.starts_with(['+', '-']) {
            verb += 1;
        } else {
            break;
        }
    }
    let subcommand = words.get(verb)?.clone();
    let arguments = words[verb + 1..].to_vec();
    let manifest = words.iter().enumerate().find_map(|(n, word)| match word.strip_prefix("--manifest-path=") {
        Some(path) => Some(path),
        None if word == "--manifest-path" => words.get(n + 1).map(String::as_str),
        None => None,
    });
    let folder = manifest.map(|path| environment.expand(path.trim_end_matches("Cargo.toml").trim_end_matches('/')));
    let asks = arguments.iter().any(|word| word == "--version" || word == "--help" || word == "-V");
    let listed = subcommand == "package" && arguments.iter().any(|word| word == "--list");
    let compiles = !LIGHT.contains(&subcommand.as_str()) && !asks && !listed;
    Some(Cargo {
        compiles,
        subcommand,
        arguments,
        directory: folder.filter(|folder| !folder.is_empty()),
        at: Mark::START,
        command: at,
    })
}
