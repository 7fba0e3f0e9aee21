//! A target directory that goes from build to build does not grow with what its lock file no longer names.

use crate::support::project::compiled;
use crate::support::registry::{Release, make_registry};
use crate::support::{Sandbox, args, said};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const VERSIONS: [&str; 4] = ["1.0.0", "1.0.1", "1.0.2", "1.0.3"];
/// By so much a snapshot may be larger than a fresh one, in percent.
const MOST: u64 = 10;

struct World {
    sandbox: Sandbox,
    app: PathBuf,
    home: PathBuf,
}

/// A library that is large beside the application: what a dead version of it keeps would show.
fn large(version: &str) -> String {
    let mut text = format!("pub fn version() -> &'static str {{\n    {version:?}\n}}\n");
    for n in 0..400 {
        text +=
            &format!("#[derive(Debug, Clone, PartialEq, Default)]\npub struct S{n} {{ pub a: u32, pub b: String }}\n");
    }
    text
}

impl World {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (app, home, registry) = (sandbox.path("app"), sandbox.path("cargo-home"), sandbox.path("registry"));
        let sources = VERSIONS.map(large);
        let mut releases = Vec::new();
        for (version, source) in VERSIONS.iter().zip(&sources) {
            releases.push(Release { name: "first", version, source });
            releases.push(Release { name: "second", version, source });
        }
        make_registry(&sandbox, &registry, &releases);
        fs::create_dir_all(app.join("src")).unwrap();
        fs::create_dir_all(app.join(".cargo")).unwrap();
        let config = format!("[registries.folder]\nindex = \"file://{}/index\"\n", registry.display());
        fs::write(app.join(".cargo/config.toml"), config).unwrap();
        let dependency = |name| format!("{name} = {{ version = \"1\", registry = \"folder\" }}\n");
        let manifest = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n\n[profile.dev]\ndebug = 0\n\n[dependencies]\n";
        let manifest = format!("{manifest}{}{}", dependency("first"), dependency("second"));
        fs::write(app.join("Cargo.toml"), manifest).unwrap();
        let main = "fn main() {\n    println!(\"{} {}\", first::version(), second::version());\n}\n";
        fs::write(app.join("src/main.rs"), main).unwrap();
        Self { sandbox, app, home }
    }

    /// Has the lock file name this version of a package.
    fn bump(&self, package: &str, version: &str) {
        let mut cargo = self.sandbox.command("cargo");
        cargo.current_dir(&self.app).env("CARGO_HOME", &self.home).env("CARGO_NET_OFFLINE", "false");
        said(cargo.args(["update", "--package", package, "--precise", version])).ok();
    }

    /// Builds in a checkout without a target directory; what was compiled, and how large the saved snapshot is.
    fn build(&self, store: &Path) -> (Vec<String>, u64) {
        let target = self.app.join("target");
        if target.exists() {
            let away = (0..).map(|n| self.sandbox.path(&format!("away-{n}"))).find(|path| !path.exists()).unwrap();
            fs::rename(&target, away).unwrap();
        }
        let words = args(["run", "--format", "json", "--workspace", "app", "--store"]).with(store);
        let mut command = self.sandbox.larder(words.and(["--", "cargo", "build"]));
        let ran = said(command.env("CARGO_HOME", &self.home).env("CARGO_NET_OFFLINE", "false")).ok();
        let object: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
        (compiled(&ran), object["save"]["bytes"].as_u64().unwrap())
    }
}

#[test]
fn three_bumps_leave_a_snapshot_as_large_as_a_fresh_one() {
    let world = World::new();
    let (store, fresh) = (world.sandbox.path("grown"), world.sandbox.path("fresh"));
    world.bump("first", VERSIONS[0]);
    world.bump("second", VERSIONS[0]);
    assert_eq!(world.build(&store).0.len(), 3);
    let mut grown = 0;
    for version in &VERSIONS[1..] {
        world.bump("first", version);
        let (mut packages, bytes) = world.build(&store);
        packages.sort();
        assert_eq!(packages, ["app", "first"], "{version}");
        grown = bytes;
        let program = said(&mut world.sandbox.command(world.app.join("target/debug/app"))).ok();
        assert_eq!(program.out, format!("{version} {}\n", VERSIONS[0]));
    }
    let (packages, bytes) = world.build(&fresh);
    assert_eq!(packages.len(), 3);
    assert!(grown <= bytes + bytes * MOST / 100, "{grown} bytes after three bumps, {bytes} in a fresh snapshot");
    // The measure can fail: one dead version weighs more than that.
    let file = |name: &str| {
        let deps = fs::read_dir(world.app.join("target/debug/deps")).unwrap().map(|entry| entry.unwrap());
        let of = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(name);
        deps.filter(of).map(|entry| entry.metadata().unwrap().len()).sum::<u64>()
    };
    assert!(file("libsecond") > bytes * MOST / 100, "{} of {bytes} bytes", file("libsecond"));
}
