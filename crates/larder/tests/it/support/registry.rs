//! Registries in a folder, their index a git repository: cargo treats what comes from there as it does any download.

use super::{Sandbox, said, tool};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A release of a package without dependencies.
pub(crate) struct Release<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    /// Its `src/lib.rs`.
    pub(crate) source: &'a str,
}

pub(crate) fn git(dir: &Path, words: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]);
    said(command.current_dir(dir).args(words).env("GIT_CONFIG_GLOBAL", "/dev/null")).ok();
}

/// Makes the registry `at`, with these releases. Names have four letters at least, or the index has other folders.
pub(crate) fn make_registry(sandbox: &Sandbox, at: &Path, releases: &[Release<'_>]) {
    let files = at.display();
    fs::create_dir_all(at.join("index")).unwrap();
    let config = format!("{{\"dl\": \"file://{files}/{{crate}}-{{version}}.crate\"}}\n");
    fs::write(at.join("index/config.json"), config).unwrap();
    for Release { name, version, source } in releases {
        let package = sandbox.path("packages").join(format!("{name}-{version}"));
        fs::create_dir_all(package.join("src")).unwrap();
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n");
        fs::write(package.join("Cargo.toml"), manifest).unwrap();
        fs::write(package.join("src/lib.rs"), source).unwrap();
        let mut cargo = sandbox.command("cargo");
        said(cargo.current_dir(&package).args(["package", "--no-verify", "--allow-dirty", "--offline"])).ok();
        let file = at.join(format!("{name}-{version}.crate"));
        fs::copy(package.join(format!("target/package/{name}-{version}.crate")), &file).unwrap();
        let sum = tool("sha256sum", &[&file]);
        let sum = sum.split(' ').next().unwrap();
        let line = format!(
            "{{\"name\":\"{name}\",\"vers\":\"{version}\",\"deps\":[],\"cksum\":\"{sum}\",\"features\":{{}},\"yanked\":false}}\n"
        );
        let entry = at.join("index").join(&name[..2]).join(&name[2..4]).join(name);
        fs::create_dir_all(entry.parent().unwrap()).unwrap();
        let before = fs::read_to_string(&entry).unwrap_or_default();
        fs::write(&entry, before + &line).unwrap();
    }
    git(&at.join("index"), &["init", "-q"]);
    git(&at.join("index"), &["add", "."]);
    git(&at.join("index"), &["commit", "-q", "-m", "index"]);
}
