//! Snapshots of plain directories by key: which is taken, what a miss leaves alone, `ls` and `rm`.

use crate::support::tree::{assert_is, list, plant, plant_target};
use crate::support::{Args, Sandbox, args, modes, said, snapshot};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn planted() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    (sandbox, tree)
}

fn keyed(verb: &str, path: &Path, key: &str) -> Args {
    args([verb, "--key", key, "--path"]).with(path)
}

fn listed(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.json(["ls"])["snapshots"].as_array().unwrap().clone()
}

#[test]
fn saved_and_restored_a_directory_is_what_it_was() {
    let (sandbox, tree) = planted();
    let before = list(&tree);
    snapshot!(sandbox, sandbox.said(keyed("save", &tree, "k")), @"
    exit code 0
    --- stdout
    saved k: 3 files, 100.0 kB (3 by copy) in [N] ms
    --- stderr
    larder: examining
    larder: taking in (3)
    larder: digesting
    larder: syncing
    ");
    fs::remove_dir_all(&tree).unwrap();
    snapshot!(sandbox, sandbox.said(keyed("restore", &tree, "k")), @"
    exit code 0
    --- stdout
    hit k: 3 files, 100.0 kB (3 by copy) in [N] ms
    --- stderr
    larder: examining
    larder: checking blobs (1)
    larder: materialising (3)
    ");
    assert_is(&before, &tree);
    let again = sandbox.json(keyed("restore", &tree, "k"));
    assert_eq!(again["work"]["unchanged"], 3);
    assert_eq!(again["work"]["copied"], 0);
}

#[test]
fn a_miss_leaves_the_directory_alone_and_says_so() {
    let (sandbox, tree) = planted();
    let before = list(&tree);
    let miss = sandbox.json(keyed("restore", &tree, "k").with("--exact"));
    assert_eq!(miss["outcome"], "miss");
    assert_eq!(miss["key"], "k");
    assert_eq!(miss["snapshot"], Value::Null);
    assert_eq!((&miss["files"], &miss["bytes"]), (&0.into(), &0.into()));
    assert_is(&before, &tree);
    let absent = sandbox.path("absent/deep");
    snapshot!(sandbox, sandbox.said(keyed("restore", &absent, "k")), @"
    exit code 0
    --- stdout
    miss: no snapshot for k in [N] ms
    ");
    assert!(!sandbox.path("absent").exists());
}

#[test]
fn any_characters_make_a_key() {
    let (sandbox, tree) = planted();
    let long = "x".repeat(10_000);
    let keys = ["a/b/../c", "two\nlines", "ключ 🔑", " ", "..", "/", "-k", long.as_str()];
    for (count, key) in keys.iter().enumerate() {
        fs::write(tree.join("a.txt"), format!("for {count}")).unwrap();
        let saved = sandbox.json(args(["save", "--path"]).with(&tree).with(format!("--key={key}")));
        assert_eq!(saved["key"], *key);
    }
    for (count, key) in keys.iter().enumerate() {
        let hit = sandbox.json(args(["restore", "--exact", "--path"]).with(&tree).with(format!("--key={key}")));
        assert_eq!((&hit["outcome"], &hit["key"]), (&"hit".into(), &Value::from(*key)));
        assert_eq!(fs::read_to_string(tree.join("a.txt")).unwrap(), format!("for {count}"));
    }
    assert_eq!(listed(&sandbox).len(), keys.len());
    // One line a snapshot, whatever the key.
    assert_eq!(sandbox.said(["ls"]).ok().out.lines().count(), keys.len());
    assert_eq!(sandbox.said(["verify"]).ok().out.lines().count(), 1);
    for key in keys {
        let removed = sandbox.json(args(["rm"]).with(format!("--key={key}")));
        assert_eq!(removed["snapshots"].as_array().unwrap().len(), 1);
    }
    assert!(listed(&sandbox).is_empty());
    // The same for a path.
    let strange = sandbox.path("two\nlines\u{1b}[31m");
    fs::create_dir(&strange).unwrap();
    sandbox.json(keyed("save", &strange, "k"));
    let shown = sandbox.said(["ls"]).ok().out;
    assert!(shown.lines().count() == 1 && shown.ends_with("two\\nlines\\u{1b}[31m\n"), "{shown}");
}

#[test]
fn a_key_saved_again_is_published_anew_and_the_newest_wins() {
    let (sandbox, tree) = planted();
    for text in ["one", "two", "three"] {
        fs::write(tree.join("a.txt"), text).unwrap();
        assert_eq!(sandbox.json(keyed("save", &tree, "k"))["outcome"], "saved");
    }
    let all = listed(&sandbox);
    assert_eq!(all.len(), 3);
    fs::remove_dir_all(&tree).unwrap();
    let hit = sandbox.json(keyed("restore", &tree, "k"));
    assert_eq!(hit["snapshot"], all[0]["snapshot"], "ls names the newest first");
    assert_eq!(fs::read_to_string(tree.join("a.txt")).unwrap(), "three");
    // Without the newest, the one before.
    sandbox.said(args(["rm"]).with(all[0]["snapshot"].as_str().unwrap())).ok();
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(sandbox.json(keyed("restore", &tree, "k"))["snapshot"], all[1]["snapshot"]);
    assert_eq!(fs::read_to_string(tree.join("a.txt")).unwrap(), "two");
}

#[test]
fn prefixes_count_in_their_order_and_then_the_newest() {
    let (sandbox, tree) = planted();
    for key in ["npm-1", "npm-2", "other-1", "npm-x/3", "other-2"] {
        fs::write(tree.join("a.txt"), key).unwrap();
        sandbox.json(keyed("save", &tree, key));
    }
    let restored = |more: &[&str]| {
        let object = sandbox.json(keyed("restore", &tree, "absent").with("--exact").and(more));
        let text = fs::read_to_string(tree.join("a.txt")).unwrap();
        if object["outcome"] == "partial" {
            assert_eq!(object["key"], text.as_str());
        }
        (object["outcome"].as_str().unwrap().to_owned(), text)
    };
    let partial = |key: &str| ("partial".to_owned(), key.to_owned());
    assert_eq!(restored(&["--fallback-key", "npm-", "--fallback-key", "other-"]), partial("npm-x/3"));
    assert_eq!(restored(&["--fallback-key", "nothing", "--fallback-key", "other-"]), partial("other-2"));
    assert_eq!(restored(&["--fallback-key", "npm-1"]), partial("npm-1"));
    assert_eq!(restored(&["--fallback-key", ""]), partial("other-2"));
    assert_eq!(restored(&["--fallback-key", "NPM"]), ("miss".to_owned(), "other-2".to_owned()));
    // The exact key comes before any prefix.
    let hit = sandbox.json(keyed("restore", &tree, "npm-1").and(["--fallback-key", "other-"]));
    assert_eq!((hit["outcome"].as_str(), hit["key"].as_str()), (Some("hit"), Some("npm-1")));
}

#[test]
fn the_path_belongs_to_a_snapshot_unless_only_the_key_counts() {
    let (sandbox, tree) = planted();
    let (before, elsewhere) = (list(&tree), sandbox.path("elsewhere"));
    sandbox.json(keyed("save", &tree, "k"));
    assert_eq!(sandbox.json(keyed("restore", &elsewhere, "k"))["outcome"], "miss");
    assert_eq!(sandbox.json(keyed("restore", &elsewhere, "k").with("--key-only"))["outcome"], "miss");
    sandbox.json(keyed("save", &tree, "k").with("--key-only"));
    assert_eq!(sandbox.json(keyed("restore", &elsewhere, "k"))["outcome"], "miss");
    assert_eq!(sandbox.json(keyed("restore", &elsewhere, "k").with("--key-only"))["outcome"], "hit");
    assert_is(&before, &elsewhere);
    // Another spelling of a path is the same path.
    fs::remove_dir_all(&tree).unwrap();
    std::os::unix::fs::symlink(".", sandbox.path("alias")).unwrap();
    for spelling in [Path::new("tree"), Path::new("./elsewhere/../tree/"), Path::new("alias/alias/tree")] {
        assert_eq!(sandbox.json(keyed("restore", spelling, "k"))["outcome"], "hit", "{}", spelling.display());
    }
    assert_is(&before, &tree);
}

#[test]
fn several_directories_go_together() {
    let (sandbox, one) = planted();
    let (two, three) = (sandbox.path("two"), sandbox.path("three"));
    plant(&two);
    fs::write(two.join("a.txt"), "of two").unwrap();
    let both = |verb: &str, second: &Path| keyed(verb, &one, "k").with("--path").with(second);
    let before = (list(&one), list(&two));
    let saved = sandbox.json(both("save", &two));
    assert_eq!(saved["files"], 6);
    assert_eq!(listed(&sandbox)[0]["paths"].as_array().unwrap().len(), 2);
    fs::remove_dir_all(&one).unwrap();
    fs::remove_dir_all(&two).unwrap();
    assert_eq!(sandbox.json(keyed("restore", &one, "k"))["outcome"], "miss", "one alone is another identity");
    assert_eq!(sandbox.json(both("restore", &three))["outcome"], "miss");
    assert!(!one.exists() && !three.exists());
    assert_eq!(sandbox.json(both("restore", &two))["outcome"], "hit");
    assert_is(&before.0, &one);
    assert_is(&before.1, &two);
}

#[test]
fn files_of_unknown_kind_are_never_hard_linked() {
    let (sandbox, tree) = planted();
    let saved = sandbox.json(keyed("save", &tree, "k").and(["--link-mode", "hardlink"]));
    assert_eq!(saved["work"]["linked"], 0);
    fs::remove_dir_all(&tree).unwrap();
    let restored = sandbox.json(keyed("restore", &tree, "k").and(["--link-mode", "hardlink"]));
    assert_eq!(modes(&restored), [("copy".to_owned(), 3)].into());
}

#[test]
fn a_local_change_goes_and_what_larder_did_not_make_stays() {
    let (sandbox, tree) = planted();
    let before = list(&tree);
    sandbox.json(keyed("save", &tree, "k"));
    fs::write(tree.join("a.txt"), "changed").unwrap();
    fs::write(tree.join("mine"), "my own").unwrap();
    fs::remove_file(tree.join("sub/b.txt")).unwrap();
    let restored = sandbox.json(keyed("restore", &tree, "k"));
    assert_eq!((&restored["work"]["copied"], &restored["work"]["unchanged"]), (&2.into(), &1.into()));
    assert_eq!(fs::read_to_string(tree.join("mine")).unwrap(), "my own");
    let exact = sandbox.json(keyed("restore", &tree, "k").with("--exact"));
    assert_eq!(exact["work"]["removed"], 1);
    assert_is(&before, &tree);
}

#[test]
fn what_an_interrupted_restore_left_is_not_saved() {
    let (sandbox, tree) = planted();
    let before = list(&tree);
    for name in [".larder-tmp-0-0123abcd", "sub/.larder-tmp-17-0123abcd", "sub/empty/.larder-tmp-1-89abcdef"] {
        fs::write(tree.join(name), "half").unwrap();
    }
    assert_eq!(sandbox.json(keyed("save", &tree, "k").with("--key-only"))["files"], 3);
    let elsewhere = sandbox.path("elsewhere");
    sandbox.json(keyed("restore", &elsewhere, "k").with("--key-only"));
    let names = |listing: crate::support::tree::Listing| listing.into_keys().collect::<Vec<_>>();
    assert_eq!(names(list(&elsewhere)), names(before));
}

#[test]
fn ls_shows_and_rm_removes() {
    let (sandbox, tree) = planted();
    for key in ["one", "two", "two"] {
        fs::write(tree.join("sub/large"), vec![key.len() as u8; 50_000]).unwrap();
        sandbox.json(keyed("save", &tree, key));
    }
    snapshot!(sandbox, sandbox.said(["ls"]), @"
    exit code 0
    --- stdout
    [ID]  [TIME]    50.0 kB         3 files  -  two  [ROOT]/tree
    [ID]  [TIME]    50.0 kB         3 files  -  two  [ROOT]/tree
    [ID]  [TIME]    50.0 kB         3 files  -  one  [ROOT]/tree
    ");
    let some = sandbox.json(["ls", "--key", "tw"]);
    assert_eq!(some["snapshots"].as_array().unwrap().len(), 2);
    let all = listed(&sandbox);
    let (newest, oldest) = (all[0]["snapshot"].as_str().unwrap(), all[2]["snapshot"].as_str().unwrap());
    snapshot!(sandbox, sandbox.said(["rm", newest, "no-such"]), @r#"
    exit code 2
    --- stderr
    larder: there is no snapshot "no-such": `larder ls` lists them
    "#);
    assert_eq!(listed(&sandbox).len(), 3, "all or nothing");
    snapshot!(sandbox, sandbox.said(["rm", "--dry-run", newest, "--key", "one"]), @"
    exit code 0
    --- stdout
    would remove 2 snapshots and what nothing else needs
    ");
    assert_eq!(listed(&sandbox).len(), 3);
    let removed = sandbox.json(["rm", newest, oldest, newest]);
    assert_eq!(removed["snapshots"].as_array().unwrap().len(), 2, "named twice, removed once: {removed}");
    assert_eq!(listed(&sandbox).len(), 1);
    let removed = sandbox.json(["rm", "--key", "two"]);
    assert_eq!(removed["snapshots"].as_array().unwrap().len(), 1);
    assert!(removed["bytes"].as_u64().unwrap() >= 50_000);
    assert_eq!(sandbox.json(["rm", "--key", "two"])["snapshots"], Value::Array(Vec::new()));
    assert!(
        !sandbox.store.join("blobs").read_dir().unwrap().any(|fan| fan.unwrap().path().read_dir().unwrap().count() > 0)
    );
    snapshot!(sandbox, sandbox.said(["rm"]), @"
    exit code 2
    --- stderr
    error: the following required arguments were not provided:
      <SNAPSHOT|--key <KEY>>

    Usage: larder rm <SNAPSHOT|--key <KEY>>

    For more information, try '--help'.
    ");
}

#[test]
fn a_dry_run_changes_nothing() {
    let (sandbox, tree) = planted();
    let planned = sandbox.json(keyed("save", &tree, "k").with("--dry-run"));
    assert_eq!((&planned["outcome"], &planned["dry_run"]), (&"skipped".into(), &true.into()));
    assert_eq!(planned["files"], 3);
    assert!(listed(&sandbox).is_empty());
    sandbox.json(keyed("save", &tree, "k"));
    fs::write(tree.join("a.txt"), "changed").unwrap();
    let (before, store) = (list(&tree), list(&sandbox.store));
    snapshot!(sandbox, sandbox.said(keyed("save", &tree, "k").with("--dry-run")), @"
    exit code 0
    --- stdout
    would save k: 3 files, 100.0 kB (2 unchanged) in [N] ms
    --- stderr
    larder: examining
    larder: taking in (3)
    ");
    let planned = sandbox.json(keyed("restore", &tree, "k").and(["--dry-run", "--exact"]));
    assert_eq!((&planned["outcome"], &planned["dry_run"]), (&"hit".into(), &true.into()));
    assert_eq!(planned["work"]["copied"], 1);
    let absent = sandbox.path("absent");
    assert_eq!(sandbox.json(keyed("restore", &absent, "k").with("--dry-run"))["outcome"], "miss");
    assert!(!absent.exists());
    sandbox.json(["rm", "--dry-run", "--key", "k"]);
    assert_is(&before, &tree);
    let after = list(&sandbox.store);
    let names = |listing: &crate::support::tree::Listing| {
        listing.iter().map(|(path, entry)| (path.clone(), entry.bytes.clone())).collect::<Vec<_>>()
    };
    // Locks may come and staging may go; nothing else.
    let kept = |(path, _): &(PathBuf, Vec<u8>)| !path.starts_with("sessions") && !path.starts_with("tmp");
    let (store, after) = (names(&store), names(&after));
    assert_eq!(store.into_iter().filter(kept).collect::<Vec<_>>(), after.into_iter().filter(kept).collect::<Vec<_>>());
}

#[test]
fn a_repository_has_its_own_snapshots() {
    let (sandbox, tree) = planted();
    let outcome = |verb: &str, repository: &str| {
        let mut command = sandbox.larder(keyed(verb, &tree, "k").and(["--format", "json", "--fallback-key", ""]));
        if verb == "save" {
            command = sandbox.larder(keyed(verb, &tree, "k").and(["--format", "json"]));
        }
        said(command.env("GITHUB_REPOSITORY", repository)).ok().json()["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("save", "them/theirs"), "saved");
    assert_eq!(outcome("restore", "us/ours"), "miss");
    assert_eq!(outcome("restore", "them/theirs"), "hit");
    assert_eq!(sandbox.json(keyed("restore", &tree, "k"))["outcome"], "miss");
    assert_eq!(listed(&sandbox)[0]["scope"], "them/theirs");
}

#[test]
fn colour_is_for_terminals_and_for_who_asks() {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("target");
    plant_target(&tree);
    // A first save judges every file, and says so to who wants to hear it.
    let talk = |options: &[&str]| {
        if sandbox.store.exists() {
            fs::remove_dir_all(&sandbox.store).unwrap();
        }
        sandbox.said(keyed("save", &tree, "k").and(options)).ok()
    };
    assert!(talk(&["-vvv"]).err.contains("linker"));
    assert!(!talk(&["-vvv"]).err.contains('\u{1b}'));
    assert!(!talk(&["-vvv", "--color", "never"]).err.contains('\u{1b}'));
    let loud = talk(&["-vvv", "--color", "always"]);
    assert!(loud.err.contains('\u{1b}') && !loud.out.contains('\u{1b}'), "{loud}");
    let quiet = talk(&["--quiet"]);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}
