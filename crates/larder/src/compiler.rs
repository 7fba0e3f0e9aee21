//! The compiler that a command will use: asked once, and remembered for as long as nothing that decides it changes.

use crate::host;
use anyhow::{Context, Result};
use larder_cargo::compiler::{self, Machine};
use larder_cargo::config::Config;
use larder_cargo::linker::Rustc;
use larder_fs::{Dir, Kind};
use larder_store::Store;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// What the compiler said of itself.
pub(crate) struct Compiler {
    pub(crate) rustc: Rustc,
    /// What decided it, where that is to be noted.
    evidence: Option<String>,
}

impl Compiler {
    /// Learns of the compiler that `command` will use in `dir`: from the store at `store`, else by asking it.
    pub(crate) fn ask(dir: &Path, command: &[OsString], config: &Config, store: Option<&Path>) -> Result<Self> {
        let (program, toolchain) = compiler::program(command, &host::env, config);
        let machine = Machine {
            env: &host::env,
            read: &host::read,
            resolve: &|path| larder_fs::canonicalize(path).ok(),
            identity: &identity,
            is_binary: &is_binary,
            list: &names_in,
        };
        let evidence = store.and_then(|_| compiler::evidence(dir, &program, toolchain, &machine));
        let noted = store.zip(evidence.as_deref()).and_then(|(store, evidence)| Store::recall(store, evidence));
        if let Some(rustc) = noted.and_then(|text| Rustc::parse(&String::from_utf8(text).ok()?)) {
            tracing::debug!(
                "the compiler is known from an earlier run: {}",
                rustc.text.lines().next().unwrap_or_default()
            );
            return Ok(Self { rustc, evidence: None });
        }
        let ask = |words: &[&OsStr]| host::run_in(dir, words);
        let version = OsStr::new("-vV");
        let text = toolchain
            .and_then(|toolchain| ask(&[&program, toolchain, version]))
            .or_else(|| ask(&[&program, version]))
            .with_context(|| format!("`{} -vV` failed in {}: is Rust installed?", program.display(), dir.display()))?;
        let text = String::from_utf8_lossy(&text);
        let rustc = Rustc::parse(&text).with_context(|| format!("`rustc -vV` said something unexpected: {text}"))?;
        Ok(Self { rustc, evidence })
    }

    /// Notes in the store what was asked. Failing only means asking again.
    pub(crate) fn remember(&self, store: &Store) {
        let Some(evidence) = &self.evidence else { return };
        if let Err(error) = store.note(evidence, self.rustc.text.as_bytes()) {
            tracing::debug!("the compiler's answer is not noted: {error}");
        }
    }
}

/// Of the file that a path leads to; a directory is no program.
fn identity(path: &Path) -> Option<String> {
    let real = larder_fs::canonicalize(path).ok()?;
    let meta = larder_fs::metadata(&real).ok()??;
    let executable = meta.kind == Kind::File && meta.mode & 0o111 != 0;
    executable.then(|| format!("{} {} {} {:?} {:?}", meta.dev, meta.ino, meta.size, meta.mtime, meta.ctime))
}

/// Whether it is an ELF file.
fn is_binary(path: &Path) -> bool {
    let first = || {
        let dir = Dir::open(path.parent()?).ok()?;
        let real = larder_fs::canonicalize(&dir.join(path.file_name()?)).ok()?;
        let file = Dir::open(real.parent()?).ok()?.open_file(real.file_name()?).ok()?;
        larder_fs::read_up_to(&file, 4, path).ok()
    };
    first().is_some_and(|bytes| bytes == b"\x7fELF")
}

fn names_in(dir: &Path) -> Vec<OsString> {
    let entries = Dir::open_optional(dir).ok().flatten().and_then(|dir| dir.entries().ok());
    entries.unwrap_or_default().into_iter().map(|entry| entry.name).collect()
}
