//! `larder shell`: a step's script, in the canonical world.

use crate::child;
use crate::cli::{Global, ShellArgs};
use crate::host;
use crate::request::{self, Typed};
use crate::settings::Source;
use crate::talk::Talk;
use crate::world::World;
use anyhow::Result;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;

/// What GitHub runs scripts with, and where there is no bash.
const BASH: [&str; 5] = ["bash", "--noprofile", "--norc", "-eo", "pipefail"];
const SH: [&str; 2] = ["sh", "-e"];

pub(super) fn run(global: &Global, args: &ShellArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let dir = request::work_dir(None)?;
    let mut settings = request::settings(global, &dir, &Typed::default())?;
    // Whoever calls it wants it, unless somebody said otherwise.
    settings.canonical.value |= settings.canonical.source == Source::Default;
    settings.canonical.value &= !settings.disable.value;
    let world = World::find(&dir, &[], &settings, &talk);
    talk.finish();
    let shell: &[&str] = if has_bash() { &BASH } else { &SH };
    let mut words: Vec<OsString> = shell.iter().map(OsString::from).collect();
    words.push(args.file.clone().into());
    let mut command = world.command(&words, &dir)?;
    // Becomes the shell: signals, terminal and exit code are its own.
    let error = host::cleaned(&mut command).exec();
    Ok(child::not_started(&words, &error))
}

fn has_bash() -> bool {
    let paths = host::env("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| match larder_fs::metadata(&dir.join(BASH[0])) {
        Ok(meta) => meta.is_some_and(|meta| meta.kind == larder_fs::Kind::File),
        Err(error) => error.kind() != ErrorKind::NotFound,
    })
}
