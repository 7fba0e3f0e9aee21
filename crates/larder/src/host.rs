//! The doors to the machine that `larder-cargo` and `larder-ci` are given: environment, files, programs.

use larder_ci::system::{self, Run};
use larder_fs::Dir;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The job that this process is a part of. Neither it nor its event changes while a process runs.
pub(crate) fn job() -> &'static Run {
    static JOB: OnceLock<Run> = OnceLock::new();
    JOB.get_or_init(|| {
        let text = |path: &str| String::from_utf8(read(Path::new(path))?).ok();
        system::detect(&|name| env(name)?.into_string().ok(), &text)
    })
}

/// A variable of the environment.
pub(crate) fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// A whole file, if it can be read.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    larder_fs::read(path).ok()
}

/// The names in a directory that may be directories themselves.
pub(crate) fn folders_in(dir: &Path) -> Vec<OsString> {
    let entries = Dir::open_optional(dir).ok().flatten().and_then(|dir| dir.entries().ok());
    let entries = entries.unwrap_or_default().into_iter().filter(|entry| entry.is_dir != Some(false));
    entries.map(|entry| entry.name).collect()
}

/// The standard output of a program that succeeds, run in `dir`.
pub(crate) fn run_in(dir: &Path, words: &[&OsStr]) -> Option<Vec<u8>> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).stdin(Stdio::null()).stderr(Stdio::null());
    let output = cleaned(&mut command).output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Takes from a command's environment what an outer `cargo run` put there.
pub(crate) fn cleaned(command: &mut Command) -> &mut Command {
    let cleaning = larder_cargo::outer::variables_of_outer_cargo_run(std::env::vars_os());
    for name in &cleaning.remove {
        command.env_remove(name);
    }
    command.envs(cleaning.set)
}
