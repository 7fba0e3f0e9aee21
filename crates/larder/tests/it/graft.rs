//! A workspace that was never built here takes what another one built of public packages, at the same paths.

use crate::cargo_home::World;
use crate::support::project::compiled;
use crate::support::{Said, args, said};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A second workspace that uses the public crate of the first, with its lock file's version.
fn neighbour(world: &World) -> std::path::PathBuf {
    let dir = world.sandbox.path("neighbour");
    let lock = fs::read_to_string(world.app.join("Cargo.lock")).unwrap();
    let itoa = lock.split("[[package]]").find(|package| package.contains("name = \"itoa\"")).unwrap().trim().to_owned();
    let version = itoa.lines().find_map(|line| line.strip_prefix("version = ")).unwrap();
    fs::create_dir_all(dir.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"neighbour\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nitoa = {version}\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    let own = "[[package]]\nname = \"neighbour\"\nversion = \"0.1.0\"\ndependencies = [\n \"itoa\",\n]\n";
    fs::write(dir.join("Cargo.lock"), format!("version = 4\n\n[[package]]\n{itoa}\n\n{own}")).unwrap();
    fs::write(dir.join("src/main.rs"), "fn main() {\n    println!(\"{}\", itoa::Buffer::new().format(5));\n}\n")
        .unwrap();
    dir
}

fn build(world: &World, workspace: &Path, target: &Path) -> (Value, Said) {
    build_as(world, workspace, target, &[])
}

fn build_as(world: &World, workspace: &Path, target: &Path, variables: &[(&str, &str)]) -> (Value, Said) {
    let words = args(["run", "--format", "json", "--workspace"]).with(workspace);
    let mut command = world.sandbox.larder(words.and(["--", "cargo", "build", "--offline"]));
    let said =
        said(command.env("CARGO_HOME", &world.home).env("CARGO_TARGET_DIR", target).envs(variables.iter().copied()))
            .ok();
    (serde_json::from_str(said.out.lines().last().unwrap()).unwrap(), said)
}

#[test]
fn public_units_are_grafted_and_nothing_else_is() {
    let Some(world) = World::new() else { return };
    let target = world.sandbox.path("shared");
    let (first, _) = build(&world, &world.app, &target);
    assert_eq!((&first["outcome"], &first["grafted"]), (&"miss".into(), &false.into()));
    let other = neighbour(&world);
    // Over a directory that holds anything nothing is grafted.
    let (kept, _) = build(&world, &other, &target);
    assert_eq!(kept["outcome"], "miss", "{kept}");
    fs::rename(&target, world.sandbox.path("away")).unwrap();
    said(&mut world.sandbox.larder(args(["rm"]).with(kept["save"]["snapshot"].as_str().unwrap()))).ok();
    let (grafted, told) = build(&world, &other, &target);
    assert_eq!((&grafted["outcome"], &grafted["grafted"]), (&"partial".into(), &true.into()), "{grafted}");
    assert_eq!(compiled(&told), ["neighbour"], "{told}");
    let program = said(&mut world.sandbox.command(target.join("debug/neighbour"))).ok();
    assert_eq!(program.out.trim(), "5");
    let names: Vec<_> = fs::read_dir(target.join("debug/deps")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let private = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("libprivate");
    assert!(!names.iter().any(private), "{names:?}");
    // At another path nothing fits.
    let (elsewhere, told) = build(&world, &other, &world.sandbox.path("elsewhere"));
    assert_eq!(elsewhere["outcome"], "miss", "{elsewhere}");
    assert_eq!(compiled(&told).len(), 2, "{told}");
    assert_eq!(world.sandbox.json(["verify"])["clean"], true);
}

#[test]
fn what_a_pull_request_built_is_grafted_by_nobody_else() {
    let Some(world) = World::new() else { return };
    let target = world.sandbox.path("shared");
    let event = world.sandbox.path("event.json");
    let repo = r#"{"repo": {"full_name": "acme/one"}}"#;
    fs::write(&event, format!(r#"{{"pull_request": {{"head": {repo}, "base": {repo}}}}}"#)).unwrap();
    let pull = [
        ("GITHUB_REPOSITORY", "acme/one"),
        ("GITHUB_REF", "refs/pull/7/merge"),
        ("GITHUB_EVENT_PATH", event.to_str().unwrap()),
    ];
    let (first, _) = build_as(&world, &world.app, &target, &pull);
    assert_eq!(first["save"]["outcome"], "saved", "{first}");
    fs::rename(&target, world.sandbox.path("away")).unwrap();
    let other = neighbour(&world);
    let branch = [("GITHUB_REPOSITORY", "acme/two"), ("GITHUB_REF", "refs/heads/main")];
    let (kept, _) = build_as(&world, &other, &target, &branch);
    assert_eq!((&kept["outcome"], &kept["grafted"]), (&"miss".into(), &false.into()), "{kept}");
}

/// It has no units, and is newer than the target directory's snapshot, which has.
#[test]
fn a_snapshot_of_cargo_home_does_not_end_the_search() {
    let Some(world) = World::new() else { return };
    let target = world.sandbox.path("shared");
    let keeping = [("LARDER_CARGO_HOME", "1")];
    let (first, _) = build_as(&world, &world.app, &target, &keeping);
    assert!(first["cargo_home"]["save"]["snapshot"].is_string(), "{first}");
    let newest = first["cargo_home"]["save"]["snapshot"].as_str() > first["save"]["snapshot"].as_str();
    assert!(newest, "the search must meet it first: {first}");
    let other = neighbour(&world);
    fs::rename(&target, world.sandbox.path("away")).unwrap();
    let (grafted, told) = build_as(&world, &other, &target, &keeping);
    assert_eq!((&grafted["outcome"], &grafted["grafted"]), (&"partial".into(), &true.into()), "{grafted}");
    assert_eq!(compiled(&told), ["neighbour"], "{told}");
}
