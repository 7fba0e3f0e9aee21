//! What the store holds and takes: `du`, `status`, and the filters that `ls` shares with them.

use crate::support::project::Project;
use crate::support::tree::plant_target;
use crate::support::{Args, Said, Sandbox, args, said};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Checks out a branch, as far as larder looks.
fn check_out(sandbox: &Sandbox, branch: &str) {
    fs::create_dir_all(sandbox.path(".git/refs/heads")).unwrap();
    fs::write(sandbox.path(".git/HEAD"), format!("ref: refs/heads/{branch}\n")).unwrap();
    fs::write(sandbox.path(".git/refs/heads").join(branch), "0123456789abcdef0123456789abcdef01234567\n").unwrap();
}

/// A store with four snapshots: two of acme/one on two branches, which share a file, and two of other directories.
fn filled() -> Sandbox {
    let sandbox = Sandbox::new();
    for (repository, folder, branch, key) in [
        ("acme/one", "dist", "main", "dist-1"),
        ("acme/one", "dist", "topic", "dist-2"),
        ("acme/one", "docs", "main", "docs-1"),
        ("acme/two", "dist", "main", "dist-1"),
    ] {
        check_out(&sandbox, branch);
        let dir = sandbox.path(repository).join(folder);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("shared"), vec![b's'; 40_000]).unwrap();
        fs::write(dir.join("own"), format!("{repository}{folder}{branch}").repeat(1000)).unwrap();
        let words = args(["save", "--key", key, "--path"]).with(&dir);
        said(sandbox.larder(words).env("GITHUB_REPOSITORY", repository)).ok();
    }
    sandbox
}

fn du(sandbox: &Sandbox, more: &[&str]) -> Value {
    sandbox.json(args(["du"]).and(more))
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} of {value}"))
}

fn names(object: &Value) -> Vec<&str> {
    object["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect()
}

#[test]
fn du_tells_what_is_shared_from_what_is_not() {
    let sandbox = filled();
    let by = du(&sandbox, &["--by", "repository"]);
    assert_eq!(names(&by), ["acme/one", "acme/two"]);
    let (one, two) = (&by["groups"][0], &by["groups"][1]);
    assert_eq!((number(one, "snapshots"), number(two, "snapshots")), (3, 1));
    // 40,000 bytes that all share, and some of its own in each.
    let own = |text: &str| text.len() as u64 * 1000;
    assert_eq!(number(two, "logical_bytes"), 40_000 + own("acme/twodistmain"));
    assert!(number(two, "unique_bytes") < 40_000, "{two}");
    assert!(number(two, "stored_bytes") >= number(two, "logical_bytes"), "{two}");
    assert_eq!(number(one, "reclaimable_bytes"), number(one, "unique_bytes"));
    let (total, store) = (&by["total"], &by["store"]);
    assert_eq!(number(total, "snapshots"), 4);
    assert!(
        number(total, "stored_bytes") < number(one, "stored_bytes") + number(two, "stored_bytes"),
        "the shared file"
    );
    let parts = ["blob_bytes", "snapshot_bytes", "tree_bytes", "orphan_bytes", "quarantine_bytes", "other_bytes"];
    assert_eq!(parts.iter().map(|part| number(store, part)).sum::<u64>(), number(store, "bytes"));
    assert_eq!(number(store, "blobs"), 5);
    // One copy for each lineage is the newest of it: of the two of acme/one's dist only the later.
    assert_eq!(number(&by, "lineages"), 3);
    let older = 40_000 + own("acme/onedistmain");
    assert_eq!(number(total, "naive_bytes"), number(total, "logical_bytes") - older);
}

#[test]
fn du_promises_what_rm_frees() {
    let sandbox = filled();
    let before = du(&sandbox, &["--by", "snapshot", "--repository", "acme/one", "--branch", "topic"]);
    let [group] = before["groups"].as_array().unwrap().as_slice() else { panic!("{before}") };
    assert_eq!((&group["origin"]["branch"], &group["origin"]["kind"]), (&"topic".into(), &"paths".into()));
    assert_eq!(group["origin"]["commit"], "0123456789abcdef0123456789abcdef01234567");
    sandbox.said(["rm", group["name"].as_str().unwrap()]).ok();
    let after = du(&sandbox, &[]);
    let freed = number(&before["store"], "bytes") - number(&after["store"], "bytes");
    assert_eq!(number(group, "reclaimable_bytes"), freed);
}

#[test]
fn what_a_workspace_links_frees_nothing() {
    let sandbox = Sandbox::new();
    let target = sandbox.path("target");
    plant_target(&target);
    let keyed = |verb: &str| args([verb, "--key", "k", "--link-mode", "hardlink", "--path"]).with(&target);
    let saved = sandbox.json(keyed("save"));
    assert!(saved["link_modes"]["hardlink"].as_u64().unwrap() > 0, "{saved}");
    let linked = du(&sandbox, &[])["total"].clone();
    assert!(number(&linked, "reclaimable_bytes") < number(&linked, "unique_bytes"), "{linked}");
    fs::remove_dir_all(&target).unwrap();
    let alone = du(&sandbox, &[])["total"].clone();
    assert_eq!(number(&alone, "reclaimable_bytes"), number(&alone, "unique_bytes"));
    assert_eq!(number(&alone, "unique_bytes"), number(&linked, "unique_bytes"));
    // A prepared tree goes with its snapshot.
    sandbox.json(keyed("restore"));
    sandbox.json(keyed("save").with("--spare"));
    fs::remove_dir_all(&target).unwrap();
    let spare = du(&sandbox, &[]);
    assert_eq!(number(&spare["store"], "trees"), 1);
    assert_eq!(number(&spare["total"], "reclaimable_bytes"), number(&spare["total"], "unique_bytes"));
}

#[test]
fn du_groups_sorts_and_filters() {
    let sandbox = filled();
    let of = |more: &[&str]| names(&du(&sandbox, more)).into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of(&["--by", "branch", "--sort", "name"]), ["main", "topic"]);
    assert_eq!(of(&["--by", "branch", "--sort", "snapshots"]), ["main", "topic"]);
    assert_eq!(of(&["--by", "kind"]), ["paths"]);
    assert_eq!(of(&["--by", "kind", "--kind", "target"]), [""; 0]);
    let lineages = of(&["--sort", "name"]);
    assert_eq!(lineages.len(), 3);
    assert!(lineages[0].starts_with("dist@") && lineages[2].starts_with("docs@"), "{lineages:?}");
    for column in ["stored", "logical", "unique", "reclaimable"] {
        let sorted = du(&sandbox, &["--by", "snapshot", "--sort", column]);
        let groups = sorted["groups"].as_array().unwrap();
        let bytes: Vec<u64> = groups.iter().map(|group| number(group, &format!("{column}_bytes"))).collect();
        assert!(bytes.len() == 4 && bytes.is_sorted_by(|a, b| a >= b), "{column}: {bytes:?}");
    }
    let some = du(&sandbox, &["--key", "dist-", "--repository", "acme/one"]);
    assert_eq!(number(&some["total"], "snapshots"), 2);
    assert_eq!(number(&some["store"], "blobs"), 5, "the store is whole whatever is chosen");
    let said = sandbox.said(["du", "--by", "repository"]).ok();
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(
        lines[0].ends_with("STORED  UNIQUE  RECLAIMABLE  REPOSITORY") || lines[0].ends_with("REPOSITORY"),
        "{said}"
    );
    assert!(
        lines[1].ends_with("  acme/one") && lines[2].ends_with("  acme/two") && lines[3].ends_with("  total"),
        "{said}"
    );
    assert!(
        lines[5].contains("as a copy for each of 4 snapshots") && lines[5].ends_with("each of 3 lineages"),
        "{said}"
    );
    assert!(lines[6].starts_with("the store takes "), "{said}");
    sandbox.said(["du", "--by", "colour"]).ends(2);
    sandbox.said(["du", "--kind", "crate"]).ends(2);
}

#[test]
fn ls_filters_and_sorts() {
    let sandbox = filled();
    let of = |more: &[&str]| -> Vec<String> {
        let object = sandbox.json(args(["ls"]).and(more));
        let all = object["snapshots"].as_array().unwrap().clone();
        all.iter()
            .map(|one| format!("{} {}", one["repository"].as_str().unwrap(), one["key"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(of(&["--branch", "topic"]), ["acme/one dist-2"]);
    assert_eq!(of(&["--repository", "acme/two"]), ["acme/two dist-1"]);
    assert_eq!(of(&["--job", "test"]), [""; 0]);
    assert_eq!(of(&["--sort", "key"]), ["acme/two dist-1", "acme/one dist-1", "acme/one dist-2", "acme/one docs-1"]);
    assert_eq!(of(&["--sort", "bytes"]), ["acme/one dist-2", "acme/two dist-1", "acme/one docs-1", "acme/one dist-1"]);
    assert_eq!(of(&["--sort", "files"]).len(), 4);
    let line = sandbox.said(["ls", "--branch", "topic"]).ok().out;
    assert!(line.contains(" files  topic  dist-2  "), "{line}");
}

/// What is said of the store's rights.
fn status(sandbox: &Sandbox) -> (Said, Value) {
    (sandbox.said(["status"]).ok(), sandbox.json(["status"]))
}

#[test]
fn status_is_one_screen() {
    let sandbox = Sandbox::new();
    let (said, none) = status(&sandbox);
    assert_eq!((&none["exists"], &none["store"]["bytes"]), (&false.into(), &0.into()));
    assert!(said.out.contains("(there is none yet)") && said.out.contains("\ndisk    "), "{said}");
    assert!(!sandbox.store.exists(), "asking makes nothing");
    let sandbox = filled();
    let (said, some) = status(&sandbox);
    let heads: Vec<&str> = said.out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let rows = ["store", "disk", "marks", "holds", "takes", "trees", "pins", "last", "uses", "access"];
    assert_eq!(heads, rows, "{said}");
    assert!(said.out.contains("holds   4 snapshots of 3 lineages in 2 repositories, "), "{said}");
    assert!(said.out.contains("uses    3 directories with a session, 0 live leases"), "{said}");
    assert!(said.out.contains(", only the owner may write"), "{said}");
    assert_eq!(said.warnings(), [""; 0]);
    assert_eq!((number(&some["total"], "snapshots"), number(&some, "lineages")), (4, 3));
    assert_eq!(number(&some["store"], "bytes"), number(&du(&sandbox, &[])["store"], "bytes"));
    let disk = &some["disk"];
    let percent = disk["used_percent"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&percent) && number(disk, "free_bytes") <= number(disk, "total_bytes"), "{disk}");
    assert_eq!((number(disk, "high_percent"), number(disk, "low_percent")), (80, 70));
    let inodes = disk["used_inodes_percent"].as_f64();
    assert_eq!(inodes.is_some(), disk["free_inodes"].is_u64(), "{disk}");
    assert!(inodes.is_none_or(|percent| (0.0..=100.0).contains(&percent)), "{disk}");
    assert_eq!(some["access"]["owners"].as_object().unwrap().len(), 1);
    assert_eq!(some["uses"].as_array().unwrap().len(), 3);
    assert!(some["uses"].as_array().unwrap().iter().all(|one| one["stands"] == true && one["leased"] == false));
}

#[test]
fn status_tells_pins_and_the_last_clean_up() {
    let sandbox = filled();
    let (said, object) = status(&sandbox);
    assert!(said.out.contains("pins    0 snapshots pinned\nlast gc none is recorded\n"), "{said}");
    assert_eq!((object["pinned"].as_array().unwrap().len(), &object["last_gc"]), (0, &Value::Null));
    sandbox.said(["pin", "docs-1"]).ok();
    let done = sandbox.json(["gc", "--budget", "100KB"]);
    let evicted = done["evicted"].as_array().unwrap().len();
    assert!(evicted > 0 && number(&done, "bytes") > 0, "{done}");
    let (said, object) = status(&sandbox);
    assert!(said.out.contains("pins    1 snapshot pinned\n"), "{said}");
    assert_eq!(
        object["pinned"],
        sandbox.json(["pin", "--list"])["pinned"][0]["snapshot"].as_str().map_or(Value::Null, |id| vec![id].into())
    );
    let last = &object["last_gc"];
    assert_eq!((number(last, "evicted"), number(last, "freed_bytes")), (evicted as u64, number(&done, "bytes")));
    // One that finds nothing to do is the last one all the same.
    sandbox.said(["gc"]).ok();
    let (said, object) = status(&sandbox);
    assert_eq!((number(&object["last_gc"], "evicted"), number(&object["last_gc"], "freed_bytes")), (0, 0), "{said}");
    assert!(said.out.contains("Z, 0 snapshots evicted, 0 B freed\n"), "{said}");
}

#[test]
fn status_warns_of_a_store_that_anyone_may_change() {
    let sandbox = filled();
    fs::set_permissions(&sandbox.store, fs::Permissions::from_mode(0o777)).unwrap();
    let (said, object) = status(&sandbox);
    let [warning] = said.warnings()[..] else { panic!("{said}") };
    assert!(warning.contains("everyone on this machine may change what builds get"), "{warning}");
    assert_eq!(object["access"]["writers"], "everyone");
    assert_eq!(object["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn damage_is_warned_of_and_the_rest_is_counted() {
    let sandbox = filled();
    let snapshots: Vec<PathBuf> = fs::read_dir(sandbox.store.join("snapshots"))
        .unwrap()
        .flat_map(|place| fs::read_dir(place.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    fs::write(&snapshots[0], "larder snapshot\n").unwrap();
    let fan = fs::read_dir(sandbox.store.join("blobs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(fan).unwrap();
    for words in [args(["du"]), args(["status"])] {
        let said = sandbox.said(words.clone()).ok();
        assert!(said.err.contains("it is not counted: remove it with `larder rm"), "{said}");
        let object = sandbox.json(words);
        assert_eq!(object["damaged"].as_array().unwrap().len(), 1);
        assert_eq!(number(&object["total"], "snapshots"), 3);
    }
    let (said, object) = status(&sandbox);
    let missing = number(&object["store"], "missing");
    assert_eq!(said.err.contains("that snapshots name are gone or set aside"), missing > 0, "{said}");
}

/// `run` on a branch: its key, and what it was.
fn run(sandbox: &Sandbox, project: &Project) -> (Value, Value) {
    let mut command = project.run(sandbox, &["--job", "test", "--format", "json"], &["cargo", "build", "--quiet"]);
    let said = said(&mut command).ok();
    let object: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    (object["outcome"].clone(), object["key"].clone())
}

#[test]
fn the_branch_is_noted_and_changes_no_key() {
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    check_out(&sandbox, "main");
    let (outcome, key) = run(&sandbox, &project);
    assert_eq!(outcome, "miss");
    // Cargo wrote the lock file, so the key that it was saved under is another one.
    check_out(&sandbox, "topic");
    fs::remove_dir_all(&project.target).unwrap();
    let (outcome, again) = run(&sandbox, &project);
    assert_eq!(outcome, "hit", "{key} {again}");
    let words: Args = args(["ls"]);
    let all = sandbox.json(words)["snapshots"].as_array().unwrap().clone();
    let seen = |name: &str| all.iter().map(|one| one[name].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>();
    assert_eq!(seen("key"), vec![again.as_str().unwrap(); all.len()]);
    assert_eq!(seen("branch"), ["topic", "main"]);
    assert_eq!(seen("kind"), ["target", "target"]);
    assert_eq!(seen("job"), ["test", "test"]);
    let root = sandbox.root.file_name().unwrap().to_str().unwrap();
    assert_eq!(seen("repository"), [root, root], "without a remote the folder's name");
    let lineages = du(&sandbox, &[]);
    let [lineage] = lineages["groups"].as_array().unwrap().as_slice() else { panic!("{lineages}") };
    assert!(lineage["name"].as_str().unwrap().starts_with("test@"), "{lineage}");
    assert_eq!((number(lineage, "snapshots"), &lineage["origin"]["branch"]), (2, &Value::Null));
}
