//! CARGO_HOME: what a build needs of it comes back where it is missing, and whatever stands there stays.

use crate::support::project::compiled;
use crate::support::registry::{Release, git, make_registry};
use crate::support::tree::list;
use crate::support::{Said, Sandbox, said, skip, tool};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small crate of the public registry that this repository's own lock file names.
const PUBLIC: &str = "itoa";

/// A package with a dependency from the public registry, one from a registry in a folder, and one from git; and a
/// CARGO_HOME that has them, with an installed tool and with what must never leave it.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) app: PathBuf,
    pub(crate) home: PathBuf,
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Copies what the machine's CARGO_HOME has of the public crate; its version, if there is any.
fn copy_public(from: &Path, to: &Path) -> Option<String> {
    let mut version = None;
    for registry in fs::read_dir(from.join("registry/cache")).ok()? {
        let registry = registry.ok()?.file_name();
        let (cache, index) = (Path::new("registry/cache").join(&registry), Path::new("registry/index").join(&registry));
        let names =
            fs::read_dir(from.join(&cache)).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let of = |name: &String| Some(name.strip_prefix(PUBLIC)?.strip_prefix('-')?.strip_suffix(".crate")?.to_owned());
        let Some(found) = names.filter_map(|name| of(&name)).max() else { continue };
        let files = [
            cache.join(format!("{PUBLIC}-{found}.crate")),
            index.join("config.json"),
            index.join(".cache/it/oa").join(PUBLIC),
        ];
        for file in files {
            fs::create_dir_all(to.join(&file).parent()?).ok()?;
            fs::copy(from.join(&file), to.join(&file)).ok()?;
        }
        version = Some(found);
    }
    version
}

impl World {
    /// `None` where the machine has not fetched what this repository's own build needs.
    pub(crate) fn new() -> Option<Self> {
        let sandbox = Sandbox::new();
        let (app, home) = (sandbox.path("app"), sandbox.path("cargo-home"));
        let machine = sandbox.command("cargo");
        let machine = machine.get_envs().find(|(name, _)| *name == "CARGO_HOME").unwrap().1.unwrap().to_owned();
        let Some(version) = copy_public(Path::new(&machine), &home) else {
            skip(&format!("{PUBLIC} is not in CARGO_HOME: `cargo fetch` brings it"));
            return None;
        };
        let world = Self { sandbox, app, home };
        let text = format!(
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n\n[dependencies]\n{PUBLIC} = \"={version}\"\n"
        );
        write(&world.app.join("Cargo.toml"), &text);
        write(
            &world.app.join("src/main.rs"),
            "fn main() {\n    println!(\"{}\", itoa::Buffer::new().format(private::three() + dep::four()));\n}\n",
        );
        said(&mut world.cargo(&["generate-lockfile", "--offline"])).ok();
        let registry = world.sandbox.path("registry");
        let source = "pub fn three() -> u32 {\n    3\n}\n";
        make_registry(&world.sandbox, &registry, &[Release { name: "private", version: "1.0.0", source }]);
        let dep = world.sandbox.path("Dep");
        write(&dep.join("Cargo.toml"), "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        write(&dep.join("src/lib.rs"), "pub fn four() -> u32 {\n    4\n}\n");
        git(&dep, &["init", "-q"]);
        git(&dep, &["add", "."]);
        git(&dep, &["commit", "-q", "-m", "dep"]);
        let config = format!("[registries.folder]\nindex = \"file://{}/index\"\n", registry.display());
        write(&world.app.join(".cargo/config.toml"), &config);
        let more = format!(
            "private = {{ version = \"1\", registry = \"folder\" }}\ndep = {{ git = \"file://{}\" }}\n",
            dep.display()
        );
        write(&world.app.join("Cargo.toml"), &(text + &more));
        // Nothing of this needs a network, but cargo calls it that.
        said(world.cargo(&["fetch"]).env("CARGO_NET_OFFLINE", "false")).ok();
        for (name, text) in [
            ("credentials.toml", "[registry]\ntoken = \"secret\"\n"),
            ("config.toml", "# mine\n"),
            (".crates.toml", "[v1]\n\"tool 1.0.0 (path+file:///tool)\" = [\"tool\"]\n"),
            (".crates2.json", "{\"installs\":{}}"),
            ("bin/tool", "#!/bin/sh\necho tool\n"),
            ("bin/rustup", "#!/bin/sh\n"),
            ("registry/cache/other-0123456789abcdef/unneeded-1.0.0.crate", "x"),
        ] {
            write(&world.home.join(name), text);
        }
        for name in ["bin/tool", "bin/rustup"] {
            fs::set_permissions(world.home.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Some(world)
    }

    fn cargo(&self, words: &[&str]) -> Command {
        let mut command = self.sandbox.command("cargo");
        command.current_dir(&self.app).env("CARGO_HOME", &self.home).args(words);
        command
    }

    /// `larder run` of an offline build with this CARGO_HOME.
    fn run(&self, home: &Path) -> (Value, Said) {
        let words = ["run", "--format", "json", "--workspace", "app", "--", "cargo", "build", "--offline"];
        let mut command = self.sandbox.larder(words);
        command.env("CARGO_HOME", home).env("LARDER_CARGO_HOME", "1");
        let said = said(&mut command).ok();
        assert_eq!(said.warnings(), Vec::<&str>::new(), "{said}");
        let object: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
        (object["cargo_home"].clone(), said)
    }
}

/// What is in a directory: names, and of files also what tells whether they were touched.
fn untouched(root: &Path) -> Vec<(PathBuf, u64, i64, i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.push((path, meta.ino(), meta.mtime(), meta.mtime_nsec(), bytes));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_empty_cargo_home_builds_offline_after_a_restore() {
    let Some(world) = World::new() else { return };
    let (first, _) = world.run(&world.home);
    assert_eq!((&first["restore"]["outcome"], &first["save"]["outcome"]), (&"miss".into(), &"saved".into()), "{first}");
    // All of it is there, and all of it is kept: nothing to do, before or after.
    let (again, _) = world.run(&world.home);
    let work = &again["restore"]["work"];
    assert_eq!(
        (&again["restore"]["outcome"], &work["copied"], &again["save"]),
        (&"hit".into(), &0.into(), &Value::Null)
    );
    let empty = world.sandbox.path("elsewhere/empty");
    let (restored, said) = world.run(&empty);
    assert_eq!((&restored["restore"]["outcome"], &restored["save"]), (&"hit".into(), &Value::Null), "{restored}");
    let mut packages = compiled(&said);
    packages.sort();
    assert_eq!(packages, ["app", "dep", PUBLIC, "private"], "{said}");
    let program = world.app.join("target/debug/app");
    assert_eq!(tool(program.to_str().unwrap(), &[]).trim(), "7");
    assert_eq!(tool(empty.join("bin/tool").to_str().unwrap(), &[]).trim(), "tool", "it is executable");
    for name in [".crates.toml", ".crates2.json"] {
        assert_eq!(fs::read(empty.join(name)).unwrap(), fs::read(world.home.join(name)).unwrap());
    }
    for name in
        ["credentials.toml", "config.toml", "bin/rustup", "registry/cache/other-0123456789abcdef/unneeded-1.0.0.crate"]
    {
        assert!(world.home.join(name).exists() && !empty.join(name).exists(), "{name}");
    }
    let secret = tool("sh", &[&"-c", &"grep -rl secret \"$0\" | wc -l", &world.sandbox.store]);
    assert_eq!(secret.trim(), "0");
    assert!(list(&empty).iter().all(|entry| !format!("{entry:?}").contains("larder-tmp")));
    assert_eq!(world.sandbox.json(["verify"])["clean"], true);
}

#[test]
fn what_stands_in_cargo_home_stays_as_it_is() {
    let Some(world) = World::new() else { return };
    world.run(&world.home);
    // A home with another tool, another index, and one half of everything.
    let home = world.sandbox.path("mine");
    let database = fs::read_dir(world.home.join("git/db")).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name();
        name.to_str().unwrap().starts_with("Dep-").then_some(name)
    });
    let database = database.expect("cargo names a database after its repository");
    let registry = fs::read_dir(world.home.join("registry/index")).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.contains("crates.io").then_some(name)
    });
    let registry = registry.unwrap();
    for (name, text) in [
        ("credentials.toml".to_owned(), "mine"),
        (format!("registry/index/{registry}/config.json"), "mine"),
        ("registry/cache/other-0123456789abcdef/unneeded-1.0.0.crate".to_owned(), "mine"),
        (".crates.toml".to_owned(), "[v1]\n"),
        ("bin/mine".to_owned(), "mine"),
    ] {
        write(&home.join(name), text);
    }
    write(&home.join("git/db").join(&database).join("HEAD"), "mine");
    let before = untouched(&home);
    let restore = || {
        let mut command = world.sandbox.larder(["restore", "--workspace", "app"]);
        said(command.env("CARGO_HOME", &home).env("CI", "true")).ok()
    };
    let told = restore();
    assert!(told.err.contains("CARGO_HOME: hit"), "{told}");
    let after = untouched(&home);
    assert!(before.iter().all(|file| after.contains(file)), "something of the user's was touched");
    let index = format!("registry/index/{registry}/.cache/it/oa/{PUBLIC}");
    assert!(home.join(index).exists(), "what was missing is there now");
    for name in ["bin/tool", ".crates2.json"] {
        assert!(!home.join(name).exists(), "{name} belongs to tools that cargo does not know of here");
    }
    assert_eq!(fs::read_dir(home.join("git/db").join(&database)).unwrap().count(), 1, "half of two databases");
    let told = restore();
    assert!(!told.err.contains("CARGO_HOME"), "{told}");
    assert_eq!(untouched(&home).len(), after.len());
}

#[test]
fn cargo_home_is_kept_in_ci_alone_unless_somebody_says_otherwise() {
    let Some(world) = World::new() else { return };
    let kept = |pairs: &[(&str, &str)]| {
        let mut command = world.sandbox.larder(["save", "--workspace", "app"]);
        let told = said(command.env("CARGO_HOME", &world.home).envs(pairs.iter().copied())).ok();
        told.err.contains("CARGO_HOME: saved")
    };
    said(&mut world.cargo(&["build", "--offline"])).ok();
    assert!(!kept(&[]) && !kept(&[("CI", "true"), ("LARDER_CARGO_HOME", "0")]));
    assert!(kept(&[("CI", "true")]));
    assert!(!kept(&[("LARDER_CARGO_HOME", "1")]), "the store has it");
}
