//! The command lines of the others: what larder is measured against, as their users run them.

use super::measure::{Job, Stage};
use super::plan::Who;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs the rivals consist of, with the version each one tells; `None` for what is not installed.
pub(super) fn programs() -> Vec<(&'static str, Option<String>)> {
    ["rsync", "cp", "tar", "zstd"].map(|program| (program, version(program))).to_vec()
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or(program);
    // zstd frames its line with stars, rsync spaces it out.
    Some(line.trim_matches('*').split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The programs a contestant needs.
pub(super) fn needs(who: Who) -> &'static [&'static str] {
    match who {
        Who::Larder(_) | Who::LarderInTurn => &[],
        Who::Rsync => &["rsync"],
        Who::Cp | Who::CpLinks => &["cp"],
        Who::Tar => &["tar", "zstd"],
    }
}

/// `rsync -a --delete FROM/ TO/`.
pub(super) fn rsync(from: &Path, to: &Path) -> Job {
    // The slash makes rsync copy what is in the directory.
    Job::of(Stage::new("rsync").args(["-a", "--delete", "--"]).arg(from.join("")).arg(to.join("")))
}

/// `cp -a FROM TO`, where TO does not exist.
pub(super) fn cp(from: &Path, to: &Path) -> Job {
    Job::of(Stage::new("cp").args(["-a", "--"]).arg(from).arg(to))
}

/// `cp -al FROM TO`: hard links, which a build then writes through.
pub(super) fn cp_links(from: &Path, to: &Path) -> Job {
    Job::of(Stage::new("cp").args(["-al", "--"]).arg(from).arg(to))
}

/// A copy that shares no bytes with what it was copied from, for the benchmark's own trees.
pub(super) fn full_copy(from: &Path, to: &Path) -> Job {
    Job::of(Stage::new("cp").args(["-a", "--reflink=never", "--"]).arg(from).arg(to))
}

/// Packs a directory. The POSIX format is the one that keeps nanoseconds, without which cargo rebuilds everything.
pub(super) fn pack(from: &Path, archive: PathBuf) -> Job {
    let tar = Stage::new("tar").args(["--format=posix", "-C"]).arg(from).args(["-cf", "-", "."]);
    Job { stages: vec![tar, Stage::new("zstd").args(["-q", "-T0", "-3"])], output: Some(archive) }
}

/// Unpacks into a directory, which exists.
pub(super) fn unpack(archive: &Path, to: &Path) -> Job {
    let zstd = Stage::new("zstd").args(["-q", "-d", "-c", "--"]).arg(archive);
    Job { stages: vec![zstd, Stage::new("tar").arg("-C").arg(to).args(["-xpf", "-"])], output: None }
}
