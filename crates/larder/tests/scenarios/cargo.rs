//! What one cargo command did, told by cargo itself.
//!
//! Which units were compiled is read from two things that cargo says in the same run. `--message-format=json` names
//! every unit of the build with its package, target and profile, and whether it was `fresh`: that is exact for build,
//! test, clippy and doc, for either layout of the target directory, and needs no wrapper, which would be a part of
//! every fingerprint. It says of every build script that it was executed, fresh or not; so for these the lines
//! `Running …/build-script-build` count, which `-v` prints when a script is really started. Times in the target
//! directory would tell the same, but not after a clock that ran ahead, and they are what is judged here.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Names of units: `app lib`, `app bin`, `app macro`, `app script` (compiled), `app run` (a script that ran),
/// `app lib-test`, `app bin-test`, `app test whole`, `app doc`. Check, clippy and build are not told apart.
pub(crate) type Units = BTreeSet<String>;

/// What a command made can say: programs what they print, tests how they end, clippy its warnings, pages their text.
pub(crate) type Says = BTreeMap<String, String>;

/// One command of cargo's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Build,
    Test,
    Clippy,
    Doc,
}

impl Verb {
    pub(crate) const ALL: [Self; 4] = [Self::Build, Self::Test, Self::Clippy, Self::Doc];

    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Build => &["build"],
            Self::Test => &["test", "--no-run"],
            Self::Clippy => &["clippy"],
            Self::Doc => &["doc"],
        }
    }
}

/// What a command did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) succeeded: bool,
    /// Units that were compiled, scripts that ran.
    pub(crate) compiled: Units,
    /// Executables by the unit that they came from.
    programs: BTreeMap<String, PathBuf>,
    warnings: BTreeSet<String>,
    pages: BTreeSet<PathBuf>,
    /// Everything that was said, for people.
    pub(crate) talk: String,
}

impl Done {
    pub(crate) fn of(output: &Output) -> Self {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut considered = String::new();
        let mut done = Self { succeeded: output.status.success(), ..Self::default() };
        for message in out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            match message["reason"].as_str() {
                Some("compiler-artifact") => done.artifact(&message),
                Some("compiler-message") => {
                    let text = message["message"]["rendered"].as_str().unwrap_or_default();
                    done.warnings.insert(text.to_owned());
                }
                // larder's own object, after everything of cargo's.
                None if message["schema_version"].is_u64() => considered = choice(&message),
                _ => {}
            }
        }
        done.compiled.extend(err.lines().filter_map(script_that_ran).map(|package| format!("{package} run")));
        let is_worth_reading = |line: &&str| {
            let line = line.trim_start();
            !line.starts_with("Running ") && !line.starts_with("Fresh ")
        };
        done.talk = err.lines().filter(is_worth_reading).collect::<Vec<_>>().join("\n") + &considered;
        if !done.succeeded {
            done.talk.push_str(&format!("\n{}", done.warnings.iter().cloned().collect::<String>()));
        }
        done
    }

    fn artifact(&mut self, message: &Value) {
        let files: Vec<&str> =
            message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let unit = name_of(message, &files);
        if message["fresh"] != true {
            self.compiled.insert(unit.clone());
        }
        if let Some(program) = message["executable"].as_str() {
            self.programs.insert(unit, program.into());
        }
        let pages = files.iter().filter(|file| file.ends_with("/index.html")).map(Path::new);
        self.pages.extend(pages.filter_map(Path::parent).map(Path::to_path_buf));
    }

    /// What all that was made says; nothing of a command that failed. `root` is left out of it.
    pub(crate) fn says(&self, root: &Path, mut run: impl FnMut(&Path, &[&str]) -> Output) -> Says {
        let mut says = Says::new();
        if !self.succeeded {
            return says;
        }
        for (unit, program) in &self.programs {
            let is_test = unit.contains("-test") || unit.contains(" test ");
            let output = run(program, if is_test { &["--test-threads=1"] } else { &[] });
            let text = String::from_utf8_lossy(&output.stdout);
            let text: Vec<&str> =
                text.lines().filter(|line| !is_test || line.starts_with("test ") && line.contains(" ... ")).collect();
            says.insert(unit.clone(), format!("{}{}", text.join("\n"), ending(&output)));
        }
        for folder in &self.pages {
            read_pages(folder, folder.file_name().unwrap().as_ref(), &mut says);
        }
        says.insert("warnings".into(), self.warnings.iter().cloned().collect());
        let root = root.to_str().unwrap();
        says.values_mut().for_each(|text| *text = text.replace(root, crate::content::ROOT));
        says
    }
}

fn ending(output: &Output) -> String {
    if output.status.success() { String::new() } else { format!(" ({})", output.status) }
}

fn read_pages(folder: &Path, name: &Path, says: &mut Says) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        if path.is_dir() {
            read_pages(&path, &name, says);
        } else if path.extension().is_some_and(|extension| extension == "html") {
            says.insert(name.to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap());
        }
    }
}

fn name_of(message: &Value, files: &[&str]) -> String {
    let package = package_of(message["package_id"].as_str().unwrap_or_default());
    let target = &message["target"];
    let name = target["name"].as_str().unwrap_or_default();
    let kind = target["kind"][0].as_str().unwrap_or_default();
    let test = if message["profile"]["test"] == true { "-test" } else { "" };
    if files.iter().any(|file| file.ends_with("/index.html")) {
        return format!("{package} doc");
    }
    match kind {
        "lib" | "rlib" | "dylib" | "cdylib" => format!("{package} lib{test}"),
        "proc-macro" => format!("{package} macro{test}"),
        "custom-build" => format!("{package} script"),
        "bin" if name == package => format!("{package} bin{test}"),
        "bin" => format!("{package} bin{test} {name}"),
        kind => format!("{package} {kind} {name}"),
    }
}

/// Why larder chose the snapshot that it restored.
fn choice(object: &Value) -> String {
    let lines = object["considered"].as_array().into_iter().flatten().map(|one| format!("\nconsidered: {one}"));
    format!("\nrestored: {} {}{}", object["snapshot"], object["sources"], lines.collect::<String>())
}

/// `path+file:///w/app#0.1.0`, `path+file:///w/folder#name@0.1.0`
fn package_of(id: &str) -> &str {
    let (place, tail) = id.rsplit_once('#').unwrap_or(("", id));
    match tail.split_once('@') {
        Some((name, _)) => name,
        None => place.split('?').next().unwrap_or(place).rsplit('/').next().unwrap_or(place),
    }
}

/// The package in "Running `/w/target/debug/build/app-0123456789abcdef/build-script-build`", or in the layout with
/// `build/app/0123456789abcdef/out/build-script-build`.
fn script_that_ran(line: &str) -> Option<&str> {
    let program = line.trim_start().strip_prefix("Running `")?.strip_suffix("/build-script-build`")?;
    let folder = program.rsplit_once("/build/")?.1;
    match folder.split_once('/') {
        Some((package, _)) => Some(package),
        None => folder.rsplit_once('-').map(|(package, _)| package),
    }
}
