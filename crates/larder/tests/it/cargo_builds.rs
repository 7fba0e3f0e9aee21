//! Real cargo on small crates: what comes back is what cargo left, and cargo believes it.

use crate::support::project::{Project, compiled, find, stale};
use crate::support::tree::{Listing, assert_is, assert_same, inode, list, plant_target};
use crate::support::{Sandbox, args, modes, said, tool, wait_for};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

const BUILD: [&str; 3] = ["cargo", "test", "--no-run"];

fn project() -> (Sandbox, Project) {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    (sandbox, project)
}

/// Runs a build under larder, which must succeed; its object and what cargo compiled.
fn built(sandbox: &Sandbox, project: &Project, options: &[&str], words: &[&str]) -> (Value, Vec<String>) {
    let mut options = options.to_vec();
    options.extend(["--format", "json"]);
    let said = said(&mut project.run(sandbox, &options, words)).ok();
    let object = said.out.lines().last().unwrap();
    (serde_json::from_str(object).unwrap(), compiled(&said))
}

/// Takes the target directory away, so that what is there later was restored.
fn take_away(sandbox: &Sandbox, project: &Project) {
    let away = (0..).map(|n| sandbox.path(&format!("away-{n}"))).find(|path| !path.exists()).unwrap();
    fs::rename(&project.target, away).unwrap();
}

#[test]
fn the_second_build_compiles_nothing() {
    let (sandbox, project) = project();
    let (first, packages) = built(&sandbox, &project, &[], &BUILD);
    assert_eq!(first["outcome"], "miss");
    assert_eq!(packages.len(), 3, "{packages:?}");
    let before = list(&project.target);
    // The first build wrote Cargo.lock, and belongs to it. In place, all is there already.
    let (second, packages) = built(&sandbox, &project, &[], &BUILD);
    assert_eq!((&second["outcome"], packages), (&"hit".into(), Vec::new()));
    let work = &second["work"];
    assert_eq!((&work["linked"], &work["copied"], &work["removed"]), (&0.into(), &0.into(), &0.into()), "{work}");
    // From nothing, all is restored, links between its files included.
    take_away(&sandbox, &project);
    let restored = sandbox.json(["restore", "--workspace", "app"]);
    assert_eq!(restored["outcome"], "partial", "{restored}: the job is another without a command");
    assert_is(&before, &project.target);
    take_away(&sandbox, &project);
    let words = ["cargo", "test", "--no-run", "--message-format=json"];
    let said = said(&mut project.run(&sandbox, &["--job", "cargo-test"], &words)).ok();
    assert_eq!((stale(&said), compiled(&said)), (Vec::new(), Vec::new()), "{said}");
    assert!(said.out.lines().count() > 5);
    assert_eq!(sandbox.json(["verify"])["clean"], true);
}

#[test]
fn a_program_and_its_name_in_deps_stay_one_file() {
    let (sandbox, project) = project();
    built(&sandbox, &project, &[], &["cargo", "build"]);
    let hashed = |target: &Path| {
        let names = find(target, "debug/deps", "app-", "");
        target.join(names.iter().find(|name| name.extension().is_none()).unwrap())
    };
    let program = project.target.join("debug/app");
    assert_eq!(inode(&program).0, inode(&hashed(&project.target)).0, "cargo itself links them");
    for mode in ["hardlink", "copy", "reflink", "auto"] {
        take_away(&sandbox, &project);
        let (object, packages) = built(&sandbox, &project, &["--link-mode", mode], &["cargo", "build"]);
        assert_eq!((&object["outcome"], packages), (&"hit".into(), Vec::new()), "{mode}");
        assert_eq!(inode(&program).0, inode(&hashed(&project.target)).0, "{mode}");
        assert_eq!(project.output(&sandbox), "plain 7 42");
    }
}

#[test]
fn a_rebuild_in_a_restored_tree_leaves_the_store_alone() {
    let (sandbox, project) = project();
    built(&sandbox, &project, &[], &BUILD);
    let before = list(&project.target);
    let saved = sandbox.json(["ls"])["snapshots"][0]["snapshot"].clone();
    take_away(&sandbox, &project);
    let (restored, _) = built(&sandbox, &project, &["--link-mode", "hardlink", "--save", "never"], &["true"]);
    assert!(modes(&restored)["hardlink"] > 5, "{restored}");
    // Everything is compiled anew, in place of files that are linked to the store.
    let edits = [("part/src/lib.rs", "7", "8"), ("mac/src/lib.rs", "42", "43"), ("word.txt", "plain", "changed")];
    edits.iter().for_each(|(file, old, new)| project.edit(file, old, new));
    said(&mut project.cargo(&sandbox, &["build"])).ok();
    assert_eq!(project.output(&sandbox), "changed 8 43");
    assert_eq!(sandbox.json(["verify"])["clean"], true);
    // Saved again under a key of its own; with the old sources the older one is the nearest.
    let (_, _) = built(&sandbox, &project, &["--key", "edited"], &BUILD);
    let edited = list(&project.target);
    take_away(&sandbox, &project);
    edits.iter().for_each(|(file, old, new)| project.edit(file, new, old));
    let hit = sandbox.json(["restore", "--workspace", "app", "--job", "cargo-test"]);
    assert_eq!((&hit["outcome"], &hit["snapshot"]), (&"hit".into(), &saved));
    assert_is(&before, &project.target);
    take_away(&sandbox, &project);
    edits.iter().for_each(|(file, old, new)| project.edit(file, old, new));
    assert_eq!(sandbox.json(["restore", "--workspace", "app", "--key", "edited"])["outcome"], "hit");
    // The sessions of rustc that were replaced are nobody's any more.
    let lasting = |mut listing: Listing| {
        listing.retain(|path, _| !path.starts_with("debug/incremental"));
        listing
    };
    assert_same(&lasting(edited), &lasting(list(&project.target)));
    assert_eq!(sandbox.json(["verify"])["clean"], true);
}

#[test]
fn a_unit_with_a_damaged_blob_is_left_out_and_built_again() {
    let (sandbox, project) = project();
    built(&sandbox, &project, &["--link-mode", "hardlink"], &["cargo", "build"]);
    let library = project.files("debug/deps", "libpart-", ".rlib").remove(0);
    let length = fs::metadata(project.target.join(&library)).unwrap().len();
    let number = inode(&project.target.join(&library)).0;
    take_away(&sandbox, &project);
    let blob = ingested(&sandbox, number);
    fs::OpenOptions::new().write(true).open(&blob).unwrap().set_len(length / 2).unwrap();
    let options = ["--format", "json", "--link-mode", "hardlink"];
    let said = said(&mut project.run(&sandbox, &options, &["cargo", "build"])).ok();
    let object: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(object["outcome"], "partial");
    let left_out = object["left_out"].as_array().unwrap();
    assert!(left_out.len() == 1 && left_out[0].as_str().unwrap().starts_with("part-"), "{left_out:?}");
    let warnings = said.warnings().join("\n");
    assert!(warnings.contains(blob.to_str().unwrap()) && warnings.contains("quarantine"), "{warnings}");
    // cargo makes the unit again, and what was built from it.
    let packages = compiled(&said);
    assert!(packages.contains(&"part".to_owned()) && !packages.contains(&"mac".to_owned()), "{packages:?}");
    assert_eq!(project.output(&sandbox), "plain 7 42");
    // It was saved whole.
    take_away(&sandbox, &project);
    let (object, packages) = built(&sandbox, &project, &[], &["cargo", "build"]);
    assert_eq!((&object["outcome"], packages), (&"hit".into(), Vec::new()));
    assert_eq!(sandbox.json(["verify"])["clean"], true);
}

/// The blob that is one file with the given inode.
fn ingested(sandbox: &Sandbox, number: u64) -> std::path::PathBuf {
    let saves = fs::read_dir(sandbox.store.join("ingest")).unwrap().map(|save| save.unwrap().path());
    let mut blobs = saves.flat_map(|save| fs::read_dir(save).unwrap().map(|blob| blob.unwrap().path()));
    blobs.find(|blob| inode(blob).0 == number).expect("the file was linked into the store")
}

#[test]
fn a_failed_build_is_not_saved() {
    let (sandbox, project) = project();
    project.edit("part/src/lib.rs", "7", "\"seven\"");
    let said_failed = said(&mut project.run(&sandbox, &[], &["cargo", "build"])).ends(101);
    assert!(said_failed.err.lines().last().unwrap().ends_with("; nothing saved"), "{said_failed}");
    assert!(sandbox.json(["ls"])["snapshots"].as_array().unwrap().is_empty());
    // Asked for, it is; and cargo makes right what is wrong in it.
    said(&mut project.run(&sandbox, &["--save", "always"], &["cargo", "build"])).ends(101);
    take_away(&sandbox, &project);
    project.edit("part/src/lib.rs", "\"seven\"", "9");
    let (object, packages) = built(&sandbox, &project, &[], &["cargo", "build"]);
    assert_eq!(object["outcome"], "hit");
    assert!(packages.contains(&"part".to_owned()) && !packages.contains(&"mac".to_owned()), "{packages:?}");
    assert_eq!(project.output(&sandbox), "plain 9 42");
}

#[test]
fn on_a_desk_a_newer_target_stays_unless_exactness_is_asked_for() {
    let (sandbox, project) = project();
    built(&sandbox, &project, &[], &["cargo", "build"]);
    let saved = list(&project.target);
    project.edit("src/lib.rs", "{} {} {}", "newer {} {} {}");
    said(&mut project.cargo(&sandbox, &["build"])).ok();
    let newer = list(&project.target);
    let (object, _) = built(&sandbox, &project, &["--save", "never", "--job", "cargo-build"], &["true"]);
    assert_eq!((&object["outcome"], &object["kept_newer"]), (&"partial".into(), &true.into()));
    assert_is(&newer, &project.target);
    let object = sandbox.json(["restore", "--workspace", "app", "--job", "cargo-build", "--exact"]);
    assert_eq!((&object["outcome"], &object["kept_newer"]), (&"hit".into(), &false.into()));
    assert_is(&saved, &project.target);
    // Cargo sees that the sources are newer than what it got.
    said(&mut project.cargo(&sandbox, &["build"])).ok();
    assert_eq!(project.output(&sandbox), "newer plain 7 42");
}

#[test]
fn jobs_keep_their_own_and_help_each_other_out() {
    let (sandbox, project) = project();
    built(&sandbox, &project, &["--job", "build"], &["cargo", "build"]);
    take_away(&sandbox, &project);
    let (object, packages) = built(&sandbox, &project, &["--job", "test"], &BUILD);
    assert_eq!(object["outcome"], "partial", "another job's is better than nothing");
    assert!(!packages.contains(&"mac".to_owned()) && !packages.contains(&"part".to_owned()), "{packages:?}");
    for job in ["build", "test"] {
        take_away(&sandbox, &project);
        let (object, _) = built(&sandbox, &project, &["--job", job], &["true"]);
        assert_eq!(object["outcome"], "hit", "{job}");
        assert!(object["key"].as_str().unwrap().starts_with(&format!("{job}-")), "{object}");
    }
}

#[test]
fn steps_of_their_own_meet_each_other_and_help_run_out() {
    let (sandbox, project) = project();
    let step = |verb: &str| {
        let object = sandbox.json([verb, "--workspace", "app"]);
        (object["outcome"].as_str().unwrap().to_owned(), object["key"].as_str().unwrap().to_owned())
    };
    // Nobody names a job: there is none by GitHub, and a step has no command.
    assert_eq!(step("restore").0, "miss");
    said(&mut project.cargo(&sandbox, &["build"])).ok();
    let (_, key) = step("save");
    assert!(key.starts_with("job-"), "{key}");
    take_away(&sandbox, &project);
    assert_eq!(step("restore"), ("hit".to_owned(), key.clone()));
    // A run takes its own job from the command, and has theirs as long as there is nothing better.
    take_away(&sandbox, &project);
    let (object, packages) = built(&sandbox, &project, &[], &["cargo", "build"]);
    assert_eq!((&object["outcome"], &object["key"]), (&"partial".into(), &key.as_str().into()));
    assert_eq!(packages, [""; 0]);
    let own = object["save"]["key"].as_str().unwrap().to_owned();
    assert!(own.starts_with("cargo-build-"), "{object}");
    take_away(&sandbox, &project);
    assert_eq!(built(&sandbox, &project, &["--save", "never"], &["cargo", "build"]).0["outcome"], "hit");
    // And the other way round.
    take_away(&sandbox, &project);
    assert_eq!(step("restore"), ("hit".to_owned(), key.clone()));
    sandbox.json(["rm", "--key", &key]);
    take_away(&sandbox, &project);
    assert_eq!(step("restore"), ("partial".to_owned(), own));
    assert_eq!(compiled(&said(&mut project.cargo(&sandbox, &["build"])).ok()), [""; 0]);
}

#[test]
fn every_target_directory_that_cargo_knows_is_kept() {
    let (sandbox, project) = project();
    // By configuration, with a build directory of its own.
    fs::create_dir(project.dir.join(".cargo")).unwrap();
    let config = "[build]\ntarget-dir = \"out\"\nbuild-dir = \"between\"\n";
    fs::write(project.dir.join(".cargo/config.toml"), config).unwrap();
    built(&sandbox, &project, &[], &["cargo", "build"]);
    let (out, between) = (project.dir.join("out"), project.dir.join("between"));
    let before = (list(&out), list(&between));
    for dir in [&out, &between] {
        fs::rename(dir, sandbox.path(dir.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let (object, packages) = built(&sandbox, &project, &["--save", "never"], &["true"]);
    assert_eq!((&object["outcome"], packages), (&"partial".into(), Vec::new()));
    assert_is(&before.0, &out);
    assert_is(&before.1, &between);
    // By the environment.
    let with = |words: &[&str]| {
        let mut command = project.run(&sandbox, &["--format", "json"], words);
        let said = said(command.env("CARGO_TARGET_DIR", "fourth")).ok();
        (said.out.lines().last().unwrap().contains("\"outcome\":\"hit\""), compiled(&said).len())
    };
    assert!(!with(&["cargo", "build"]).0);
    fs::rename(project.dir.join("fourth"), sandbox.path("fourth")).unwrap();
    assert_eq!(with(&["cargo", "build"]), (true, 0));
    // By the command's own words.
    let words = ["cargo", "build", "--target-dir", "third"];
    built(&sandbox, &project, &[], &words);
    fs::rename(project.dir.join("third"), sandbox.path("third")).unwrap();
    let (object, packages) = built(&sandbox, &project, &[], &words);
    assert_eq!((&object["outcome"], packages), (&"hit".into(), Vec::new()));
}

#[test]
fn a_target_directory_may_be_a_link_to_another_disk() {
    let (sandbox, project) = project();
    let (disk, link) = (sandbox.path("disk"), &project.target);
    fs::create_dir(&disk).unwrap();
    std::os::unix::fs::symlink(&disk, link).unwrap();
    built(&sandbox, &project, &[], &["cargo", "build"]);
    let before = list(&disk);
    fs::rename(&disk, sandbox.path("away")).unwrap();
    fs::create_dir(&disk).unwrap();
    let (object, packages) = built(&sandbox, &project, &["--save", "never", "--job", "cargo-build"], &["true"]);
    assert_eq!((&object["outcome"], packages), (&"hit".into(), Vec::new()));
    assert_eq!(fs::read_link(link).unwrap(), disk);
    assert_is(&before, &disk);
    // The project reached by another path is the same project.
    std::os::unix::fs::symlink(&project.dir, sandbox.path("alias")).unwrap();
    let again = sandbox.json(["restore", "--workspace", "alias", "--job", "cargo-build"]);
    assert_eq!((&again["outcome"], &again["work"]["copied"]), (&"hit".into(), &0.into()));
}

#[test]
fn what_is_no_target_directory_is_for_cargo_to_say() {
    let (sandbox, project) = project();
    let run = || said(&mut project.run(&sandbox, &["--save", "always"], &["sh", "-c", "echo it ran; exit 6"])).ends(6);
    let odd = || {
        let ran = run();
        assert_eq!((ran.out.as_str(), ran.summaries().len()), ("it ran\n", 1), "{ran}");
        assert!(ran.warnings().iter().all(|warning| warning.contains(project.target.to_str().unwrap())), "{ran}");
        assert!(!ran.warnings().is_empty() && ran.summaries()[0].ends_with("; nothing saved"), "{ran}");
    };
    // A disk that is not mounted.
    std::os::unix::fs::symlink("../no-such-disk/target", &project.target).unwrap();
    odd();
    fs::remove_file(&project.target).unwrap();
    fs::write(&project.target, "a file").unwrap();
    odd();
    assert_eq!(fs::read_to_string(&project.target).unwrap(), "a file");
}

#[test]
fn the_toolchain_that_the_command_names_belongs_to_the_key() {
    let (sandbox, project) = project();
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    // As rustup's are: the first word may choose another compiler.
    let version = |n: u32| format!("printf 'rustc 1.{n}.0\\nhost: x86_64-unknown-linux-gnu\\nrelease: 1.{n}.0\\n'");
    let rustc = format!("#!/bin/sh\nif [ \"$1\" = +other ]; then {}; else {}; fi\n", version(96), version(95));
    for (name, script) in [("rustc", rustc.as_str()), ("cargo", "#!/bin/sh\n")] {
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let key = |words: &[&str]| {
        let mut command = project.run(&sandbox, &["--format", "json"], words);
        said(command.env("PATH", &path)).ok().json()["key"].as_str().unwrap().to_owned()
    };
    assert_eq!(key(&["cargo", "build"]), key(&["cargo", "build", "--release"]));
    assert_ne!(key(&["cargo", "build"]), key(&["cargo", "+other", "build"]));
}

#[test]
fn larder_waits_for_a_cargo_that_works_there() {
    let (sandbox, project) = project();
    built(&sandbox, &project, &[], &["cargo", "build"]);
    for verb in ["restore", "save"] {
        let lock = fs::File::open(project.target.join("debug/.cargo-lock")).unwrap();
        lock.lock().unwrap();
        let mut command = sandbox.larder([verb, "--workspace", "app"]);
        let mut larder = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(larder.stderr.take().unwrap()).lines();
        let waits = lines.find(|line| line.as_ref().unwrap().contains("waiting for cargo's lock"));
        assert!(waits.unwrap().unwrap().contains("debug/.cargo-lock"));
        assert!(larder.try_wait().unwrap().is_none());
        lock.unlock().unwrap();
        assert!(lines.all(|line| line.is_ok()));
        wait_for(larder).ok();
    }
}

#[test]
fn what_is_wrong_with_a_project_is_for_cargo_to_say() {
    let (sandbox, project) = project();
    // No compiler, as far as larder can see.
    let mut command = project.run(&sandbox, &[], &["echo", "it ran"]);
    let ran = said(command.env("RUSTC", "/nowhere/rustc")).ok();
    assert_eq!((ran.out.as_str(), ran.warnings().len(), ran.summaries().len()), ("it ran\n", 1, 1), "{ran}");
    fs::write(project.dir.join("Cargo.toml"), "[package").unwrap();
    let ran = said(&mut project.run(&sandbox, &[], &["cargo", "build"])).ends(101);
    assert!(ran.err.contains("Cargo.toml"), "{ran}");
    assert!(sandbox.json(["ls"])["snapshots"].as_array().unwrap().is_empty());
}

#[test]
fn the_compiler_is_asked_only_where_no_snapshot_names_it() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("app/target");
    plant_target(&tree);
    let (bin, asked) = (sandbox.path("bin"), sandbox.path("asked"));
    fs::create_dir(&bin).unwrap();
    let script = format!("#!/bin/sh\n: > {}\nPATH=${{PATH#*:}}; exec rustc \"$@\"\n", asked.display());
    fs::write(bin.join("rustc"), script).unwrap();
    fs::set_permissions(bin.join("rustc"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let transfer = |verb: &str, place: &Path, key: &str, more: &[&str]| {
        let words = args([verb, "--format", "json", "--key-only", "--key", key, "--path"]).with(place).and(more);
        let object = said(sandbox.larder(words).env("PATH", &path)).ok().json();
        (object["outcome"].as_str().unwrap().to_owned(), asked.exists() && fs::remove_file(&asked).is_ok())
    };
    // Cargo's note is not readable: the compiler itself must tell which linker is its default.
    assert_eq!(transfer("save", &tree, "no note", &[]), ("saved".to_owned(), true));
    let place = |name: &str| sandbox.path(name).join("target");
    assert_eq!(transfer("restore", &place("a"), "no note", &[]), ("hit".to_owned(), true));
    let version = tool("rustc", &[&"-vV"]);
    let note = serde_json::json!({ "outputs": { "1": { "success": true, "stdout": version } } });
    fs::write(tree.join(".rustc_info.json"), note.to_string()).unwrap();
    let before = list(&tree);
    assert_eq!(transfer("save", &tree, "note", &[]), ("saved".to_owned(), false));
    assert_eq!(transfer("restore", &place("b"), "note", &[]), ("hit".to_owned(), false));
    assert_is(&before, &place("b"));
    // Another snapshot may be another compiler's.
    assert_eq!(transfer("restore", &place("c"), "no", &["--fallback-key", "no"]), ("partial".to_owned(), true));
}

#[test]
fn the_compiler_is_asked_again_only_when_it_may_be_another() {
    let (sandbox, project) = project();
    let known = |toolchain_file: Option<&str>| {
        let file = project.dir.join("rust-toolchain");
        match toolchain_file {
            Some(text) => fs::write(&file, text).unwrap(),
            None => drop(fs::remove_file(&file)),
        }
        let ran = said(&mut project.run(&sandbox, &["-vv"], &["true"])).ok();
        ran.err.contains("the compiler is known from an earlier run")
    };
    assert!(!known(None));
    assert!(known(None));
    // Where rustc is no program of rustup's the file decides nothing.
    let rustup = fs::canonicalize(tool("sh", &[&"-c", &"command -v rustc"]).trim()).unwrap().ends_with("rustup");
    let here = tool("rustc", &[&"-vV"]);
    let here = here.lines().find_map(|line| line.strip_prefix("release: ")).unwrap();
    if rustup && tool("rustup", &[&"toolchain", &"list"]).contains(here) {
        assert!(!known(Some(here)));
        assert!(known(Some(here)));
    }
    known(None);
    // What is noted wrongly is asked again.
    let sessions = fs::read_dir(sandbox.store.join("sessions")).unwrap().map(|entry| entry.unwrap().path());
    for answer in sessions.filter(|path| path.extension().is_some_and(|extension| extension == "answer")) {
        fs::write(answer, "damaged").unwrap();
    }
    assert!(!known(None));
    assert!(known(None));
}

#[test]
fn a_script_that_chooses_the_compiler_is_always_asked() {
    let (sandbox, project) = project();
    let bin = sandbox.path("bin");
    fs::create_dir(&bin).unwrap();
    let text = "rustc 1.$(cat minor).0\\nhost: x86_64-unknown-linux-gnu\\nrelease: 1.$(cat minor).0\\n";
    fs::write(bin.join("rustc"), format!("#!/bin/sh\ncd {}\nprintf \"{text}\"\n", bin.display())).unwrap();
    fs::set_permissions(bin.join("rustc"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let key = |minor: &str| {
        fs::write(bin.join("minor"), minor).unwrap();
        let mut command = project.run(&sandbox, &["--format", "json"], &["true"]);
        said(command.env("PATH", &path)).ok().json()["key"].as_str().unwrap().to_owned()
    };
    let first = key("95");
    assert_ne!(key("96"), first);
    assert_eq!(key("95"), first);
}
