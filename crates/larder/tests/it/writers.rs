//! Programs that write where they should not: into files that are linked to the store.
//!
//! Nothing keeps them from it; but what they wrote must never come out of the store again as if it were what
//! was saved.

use crate::support::project::{Project, compiled, find};
use crate::support::tree::{Listing, assert_is, inode, list, set_mtime};
use crate::support::{Sandbox, has, said, skip, tool};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A built target directory, which nobody writes to, and copies of it that are saved and restored.
struct Ground {
    sandbox: Sandbox,
    pristine: PathBuf,
    before: Listing,
    next: u32,
}

impl Ground {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let project = Project::new(&sandbox.path("app"));
        project.build(&sandbox);
        let before = list(&project.target);
        Self { sandbox, pristine: project.target, before, next: 0 }
    }

    /// Saves a copy, by links, in a store of its own, and restores it by links.
    fn restored(&mut self) -> PathBuf {
        self.next += 1;
        let own = self.sandbox.path(&format!("own-{}", self.next));
        fs::create_dir(&own).unwrap();
        self.sandbox.store = own.join("store");
        tool("cp", &[&"-a", &self.pristine, &own.join("saved")]);
        let saved = self.sandbox.transfer("save", &own.join("saved"), "k", &["--link-mode", "hardlink"]);
        assert_eq!(saved["outcome"], "saved");
        let place = own.join("restored");
        let hit = self.sandbox.transfer("restore", &place, "k", &["--link-mode", "hardlink"]);
        assert_eq!(hit["outcome"], "hit", "{hit}");
        place
    }

    /// Removes what was saved and restored last.
    fn done(&self) {
        fs::remove_dir_all(self.sandbox.store.parent().unwrap()).unwrap();
    }

    /// What was written to came out right, or its unit did not come out at all; all else is what it was.
    #[track_caller]
    fn comes_out_right_or_not_at_all(&self, names: &[PathBuf]) {
        let place = self.sandbox.store.with_file_name("elsewhere");
        let object = self.sandbox.transfer("restore", &place, "k", &["--link-mode", "hardlink"]);
        let expected = if names.is_empty() { "hit" } else { "partial" };
        assert_eq!(object["outcome"], expected, "{object}");
        assert_eq!(object["left_out"].as_array().unwrap().is_empty(), names.is_empty(), "{object}");
        let found = list(&place);
        for name in names {
            assert!(!found.contains_key(name), "{}", name.display());
        }
        for (name, entry) in &found {
            assert_eq!(entry.bytes, self.before[name].bytes, "{}", name.display());
        }
    }

    fn verify(&self, code: i32) -> Value {
        said(&mut self.sandbox.larder(["verify", "--format", "json"])).ends(code).json()
    }
}

/// Names of files that are also the store's.
fn linked(store: &Path, target: &Path) -> BTreeSet<PathBuf> {
    let saves = fs::read_dir(store.join("ingest")).unwrap().map(|save| save.unwrap().path());
    let blobs: BTreeSet<u64> =
        saves.flat_map(|save| fs::read_dir(save).unwrap().map(|blob| inode(&blob.unwrap().path()).0)).collect();
    let is_linked = |name: &PathBuf| target.join(name).is_file() && blobs.contains(&inode(&target.join(name)).0);
    list(target).into_keys().filter(is_linked).collect()
}

/// One file of each class that is linked.
fn classes(target: &Path) -> Vec<(&'static str, PathBuf)> {
    let one = |folder: &str, prefix: &str, suffix: &str| find(target, folder, prefix, suffix).remove(0);
    let program = find(target, "debug/deps", "app-", "").into_iter().find(|name| name.extension().is_none()).unwrap();
    let below = |folder: &str, prefix: &str| {
        let names = fs::read_dir(target.join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> =
            names.map(|name| name.into_string().unwrap()).filter(|n| n.starts_with(prefix)).collect();
        names.sort();
        Path::new(folder).join(names.remove(0))
    };
    let script = find(target, "debug/build", "app-", "").into_iter().map(|dir| dir.join("build-script-build"));
    let script = script.into_iter().find(|name| target.join(name).exists()).unwrap();
    let crate_dir = below("debug/incremental", "part-");
    let session = fs::read_dir(target.join(&crate_dir)).unwrap().map(|entry| entry.unwrap());
    let session = session.into_iter().find(|entry| entry.path().is_dir()).unwrap().file_name();
    vec![
        ("library", one("debug/deps", "libpart-", ".rlib")),
        ("incremental data", crate_dir.join(session).join("dep-graph.bin")),
        ("program", program),
        ("proc-macro", one("debug/deps", "libmac-", ".so")),
        ("build script", script),
    ]
}

#[test]
fn what_is_written_into_a_linked_file_never_comes_out_of_the_store() {
    if !has("strip") {
        return skip("there is no strip");
    }
    let mut ground = Ground::new();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    type Words<'a> = &'a dyn Fn(&Path) -> Vec<String>;
    let writers: [(&str, Words<'_>); 5] = [
        ("truncate", &|file| vec!["truncate".into(), "--size=-100".into(), path(file)]),
        ("append", &|file| vec!["sh".into(), "-c".into(), format!("echo more >> {}", path(file))]),
        ("touch", &|file| vec!["touch".into(), path(file)]),
        ("strip", &|file| vec!["strip".into(), path(file)]),
        ("dd", &|file| {
            let of = format!("of={}", path(file));
            let words = ["dd", "if=/dev/urandom", &of, "bs=64", "count=1", "seek=1", "conv=notrunc", "status=none"];
            words.map(String::from).into()
        }),
    ];
    let classes = classes(&ground.pristine);
    for (writer, words) in writers {
        let place = ground.restored();
        let linked = linked(&ground.sandbox.store, &place);
        // Of an incremental crate rustc links it to its session's, and cargo gives both a new time.
        let metadata = find(&place, "debug/deps", "libpart-", ".rmeta").remove(0);
        assert!(!linked.contains(&metadata), "{} is linked", metadata.display());
        let mut reached = Vec::new();
        for (class, name) in &classes {
            if writer == "strip" && *class == "incremental data" {
                continue;
            }
            assert!(linked.contains(name), "{class} {}: not linked", name.display());
            let (file, words) = (place.join(name), words(&place.join(name)));
            let before = inode(&file).0;
            let done = said(Command::new(&words[0]).args(&words[1..]));
            assert_eq!(done.code, Some(0), "{writer} {class}: {done}");
            // A writer that replaces what it works on never reaches the store.
            if inode(&file).0 == before {
                reached.push(name.clone());
            }
        }
        assert!(writer == "strip" || reached.len() == classes.len(), "{writer}: {reached:?}");
        ground.comes_out_right_or_not_at_all(&reached);
        // The restore set them aside; that is known, and no new damage.
        assert_eq!(ground.verify(0)["set_aside"], reached.len(), "{writer}");
        ground.done();
    }
}

#[test]
fn verify_finds_first_what_no_stat_can_tell_and_says_it_once() {
    let mut ground = Ground::new();
    let place = ground.restored();
    let names: Vec<PathBuf> = classes(&ground.pristine).into_iter().map(|(_, name)| name).collect();
    for name in &names {
        let file = place.join(name);
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&file, bytes).unwrap();
        set_mtime(&file, time);
    }
    let damaged = ground.verify(1);
    assert_eq!(damaged["damaged"].as_array().unwrap().len(), names.len(), "{damaged}");
    let again = ground.verify(0);
    assert_eq!((&again["clean"], &again["set_aside"]), (&true.into(), &names.len().into()));
    ground.comes_out_right_or_not_at_all(&names);
    ground.done();
}

/// A project restored by links in its own place, and the names that are linked.
fn restored_project(environment: &[(&str, &str)]) -> (Sandbox, Project, Listing, BTreeSet<PathBuf>) {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    let run = |words: &[&str]| {
        let mut command = project.run(&sandbox, &["--job", "j", "--link-mode", "hardlink"], words);
        said(command.envs(environment.iter().copied())).ok()
    };
    run(&["cargo", "build"]);
    run(&["cargo", "test", "--no-run"]);
    let before = list(&project.target);
    fs::rename(&project.target, sandbox.path("away")).unwrap();
    let restored = run(&["true"]);
    assert!(restored.summaries()[0].starts_with("larder: hit"), "{restored}");
    assert_is(&before, &project.target);
    let linked = linked(&sandbox.store, &project.target);
    (sandbox, project, before, linked)
}

fn is_linkers(name: &Path) -> bool {
    let in_deps = name.starts_with("debug/deps") || name.starts_with("debug/build");
    in_deps && (name.extension().is_none() || name.extension().is_some_and(|extension| extension == "so"))
}

#[test]
fn mold_writes_into_a_linked_test_program_and_the_store_notices() {
    if !has("mold") {
        return skip("there is no mold");
    }
    let (sandbox, project, before, linked) = restored_project(&[]);
    let program =
        linked.iter().find(|name| name.starts_with("debug/deps") && is_whole(name)).expect("the test is linked");
    let file = project.target.join(program);
    let (number, links) = inode(&file);
    assert!(links >= 3, "the store, the place and what was moved away");
    // Larder could not know: the linker is chosen behind its back, on a desk, after the restore.
    project.edit("tests/whole.rs", "fn whole", "fn entire");
    let mut mold = sandbox.command("mold");
    let built = said(mold.current_dir(&project.dir).args(["-run", "cargo", "test", "--no-run"])).ok();
    assert_eq!(compiled(&built), ["app"]);
    assert_eq!(inode(&file).0, number, "mold wrote into the file: without that nothing is tested");
    assert_ne!(fs::read(&file).unwrap(), before[program].bytes);
    // A restore leaves the unit out, and cargo makes it anew from the sources that are there. These are the old ones
    // again: what changed would not be wanted from the store at all.
    project.edit("tests/whole.rs", "fn entire", "fn whole");
    fs::remove_dir_all(&project.target).unwrap();
    let restored = said(&mut project.run(&sandbox, &["--job", "j", "--save", "never"], &["true"])).ok();
    assert!(restored.warnings().iter().any(|line| line.contains("quarantine")), "{restored}");
    let found = list(&project.target);
    assert!(!found.contains_key(program));
    for (name, entry) in &found {
        assert_eq!(entry.bytes, before[name].bytes, "{}", name.display());
    }
    let built = said(&mut project.cargo(&sandbox, &["test"])).ok();
    assert!(built.out.contains("test whole ... ok"), "{built}");
    assert_eq!(said(&mut sandbox.larder(["verify", "--format", "json"])).ends(0).json()["set_aside"], 1);
}

fn is_whole(name: &Path) -> bool {
    name.extension().is_none() && name.file_name().unwrap().to_str().unwrap().starts_with("whole-")
}

#[test]
fn what_mold_links_is_copied_and_no_rebuild_reaches_the_store() {
    if !has("mold") {
        return skip("there is no mold");
    }
    let mold = [("RUSTFLAGS", "-C link-arg=-fuse-ld=mold")];
    let (sandbox, project, before, linked) = restored_project(&mold);
    assert!(linked.len() >= 5, "libraries and incremental data are linked: {linked:?}");
    let wrong: Vec<&PathBuf> = linked.iter().filter(|name| is_linkers(name)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(before.keys().filter(|name| is_linkers(name)).count() >= 5, "there is something to be wrong about");
    let edits =
        [("tests/whole.rs", "fn whole", "fn entire"), ("part/src/lib.rs", "7", "8"), ("mac/src/lib.rs", "42", "43")];
    edits.iter().for_each(|(file, old, new)| project.edit(file, old, new));
    for words in [&["build"][..], &["test", "--no-run"]] {
        said(project.cargo(&sandbox, words).envs(mold)).ok();
    }
    assert_eq!(project.output(&sandbox), "plain 8 43");
    let verified = said(&mut sandbox.larder(["verify", "--format", "json"])).ends(0).json();
    assert_eq!(verified["set_aside"], 0);
    edits.iter().for_each(|(file, old, new)| project.edit(file, new, old));
    fs::remove_dir_all(&project.target).unwrap();
    said(project.run(&sandbox, &["--job", "j", "--save", "never"], &["true"]).envs(mold)).ok();
    assert_is(&before, &project.target);
}
