//! What others build on: exit codes, wrong usage, bad stores, the way to switch larder off.

use crate::support::tree::{assert_is, list, overwrite, plant, set_mtime};
use crate::support::{Args, Said, Sandbox, args, said, snapshot};
use std::fs;
use std::path::{Path, PathBuf};

fn planted() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new();
    let tree = sandbox.path("tree");
    plant(&tree);
    (sandbox, tree)
}

fn keyed(verb: &str, path: &Path) -> Args {
    args([verb, "--key", "k", "--path"]).with(path)
}

/// `run` of a command that tells that it ran.
fn run(path: &Path) -> Args {
    keyed("run", path).and(["--", "sh", "-c", "echo it ran; exit 5"])
}

#[track_caller]
fn refused(sandbox: &Sandbox, words: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Said {
    let said = sandbox.said(words).ends(2);
    assert_eq!(said.out, "", "nothing is data: {said}");
    said
}

#[test]
fn words_that_mean_nothing_are_wrong_usage() {
    let (sandbox, tree) = planted();
    let bad: [&[&str]; 20] = [
        &[],
        &["frobnicate"],
        &["ls", "--frobnicate"],
        &["run"],
        &["run", "--"],
        &["restore", "--path", "tree"],
        &["save", "--path", "tree"],
        &["run", "--path", "tree", "--", "true"],
        &["restore", "--path", "tree", "--key", ""],
        &["restore", "--key-only", "--key", "k"],
        &["restore", "--path", "tree", "--key", "k", "--link-mode", "telepathy"],
        &["run", "--save", "sometimes", "--", "true"],
        &["run", "--dry-run", "--", "true"],
        &["run", "--exakt", "true"],
        &["ls", "--format", "yaml"],
        &["ls", "--color", "mauve"],
        &["rm"],
        &["restore", "tree"],
        &["bench"],
        &["config", "extra"],
    ];
    for words in bad {
        let said = refused(&sandbox, words);
        assert!(said.err.contains("Usage: larder") || said.err.contains("error: "), "{words:?}: {said}");
    }
    snapshot!(sandbox, refused(&sandbox, ["restore", "--path", "tree"]), @"
    exit code 2
    --- stderr
    error: the following required arguments were not provided:
      --key <KEY>

    Usage: larder restore --key <KEY> --path <DIR>

    For more information, try '--help'.
    ");
    let long = "x".repeat(70_000);
    snapshot!(sandbox, refused(&sandbox, args(["save", "--path"]).with(&tree).and(["--key", &long])), @"
    exit code 2
    --- stderr
    larder: --key: 70000 bytes are more than 65536
    ");
    assert!(!sandbox.store.exists(), "who is refused makes no store");
}

#[test]
fn directories_that_cannot_be_meant_are_wrong_usage() {
    let (sandbox, tree) = planted();
    let file = tree.join("a.txt");
    snapshot!(sandbox, refused(&sandbox, keyed("save", &file)), @"
    exit code 2
    --- stderr
    larder: cannot use [ROOT]/tree/a.txt: it is not a directory
    ");
    snapshot!(sandbox, refused(&sandbox, keyed("restore", &file)), @"
    exit code 2
    --- stderr
    larder: cannot use [ROOT]/tree/a.txt: it is not a directory
    ");
    snapshot!(sandbox, refused(&sandbox, run(&file)), @"
    exit code 2
    --- stderr
    larder: cannot use [ROOT]/tree/a.txt: it is not a directory
    ");
    snapshot!(sandbox, refused(&sandbox, keyed("save", &tree).with("--path").with(tree.join("sub"))), @"
    exit code 2
    --- stderr
    larder: --path: [ROOT]/tree/sub and another one lie in each other
    ");
    refused(&sandbox, keyed("save", &tree.join("sub")).with("--path").with(&tree));
    refused(&sandbox, keyed("save", &tree).with("--path").with(&tree));
    snapshot!(sandbox, refused(&sandbox, keyed("save", &sandbox.path("absent"))), @"
    exit code 2
    --- stderr
    larder: cannot use [ROOT]/absent: it does not exist
    ");
    // The store and what it keeps must lie apart.
    refused(&sandbox, keyed("save", &sandbox.root));
    refused(&sandbox, keyed("restore", &sandbox.store.join("sub")));
    assert_eq!(fs::read_to_string(file).unwrap(), "first");
}

#[test]
fn a_workspace_must_be_one() {
    let (sandbox, tree) = planted();
    snapshot!(sandbox, refused(&sandbox, ["restore", "--workspace", "absent"]), @"
    exit code 2
    --- stderr
    larder: --workspace: cannot resolve absent: No such file or directory (os error 2)
    ");
    snapshot!(sandbox, refused(&sandbox, ["save", "--workspace", "tree/a.txt"]), @"
    exit code 2
    --- stderr
    larder: --workspace: [ROOT]/tree/a.txt is not a directory
    ");
    snapshot!(sandbox, refused(&sandbox, ["run", "--workspace", "tree", "--", "true"]), @"
    exit code 2
    --- stderr
    larder: [ROOT]/tree is in no cargo project: name one with --workspace, or directories with --path and --key
    ");
    refused(&sandbox, ["restore", "--workspace", "tree"]);
    refused(&sandbox, ["config", "--workspace", "absent"]);
    // With directories of one's own no project is needed.
    sandbox.said(keyed("restore", &tree).and(["--workspace", "tree"])).ok();
}

#[test]
fn a_setting_that_cannot_be_understood_is_wrong_usage() {
    let (sandbox, tree) = planted();
    let with = |name: &str, value: &str| said(sandbox.larder(keyed("restore", &tree)).env(name, value)).ends(2);
    snapshot!(sandbox, with("LARDER_LINK_MODE", "telepathy"), @"
    exit code 2
    --- stderr
    larder: LARDER_LINK_MODE=telepathy: expected one of auto, spare, subvolume, reflink, hardlink, overlay, copy
    ");
    snapshot!(sandbox, with("LARDER_EXACT", "perhaps"), @"
    exit code 2
    --- stderr
    larder: LARDER_EXACT=perhaps: expected 1 or 0
    ");
    with("LARDER_SAVE", "sometimes");
    with("LARDER_SPARE", "2");
    with("LARDER_DISABLE", "maybe");
    // An empty one counts as unset.
    said(sandbox.larder(keyed("restore", &tree)).env("LARDER_LINK_MODE", "")).ok();
    for text in ["stroe = \"x\"", "exact = \"perhaps\"", "exact ==", "\u{0}"] {
        fs::write(sandbox.path("larder.toml"), text).unwrap();
        for words in [keyed("restore", &tree), keyed("save", &tree), run(&tree), args(["ls"]), args(["config"])] {
            let said = refused(&sandbox, words);
            assert!(said.err.contains("larder.toml"), "{said}");
        }
    }
    fs::write(sandbox.path("larder.toml"), "link-mode = \"telepathy\"").unwrap();
    snapshot!(sandbox, refused(&sandbox, ["config"]), @r#"
    exit code 2
    --- stderr
    larder: [ROOT]/larder.toml: TOML parse error at line 1, column 13
      |
    1 | link-mode = "telepathy"
      |             ^^^^^^^^^^^
    unknown variant `telepathy`, expected one of `auto`, `spare`, `subvolume`, `reflink`, `hardlink`, `overlay`, `copy`
    "#);
}

#[test]
fn what_is_no_store_is_wrong_usage() {
    let (mut sandbox, tree) = planted();
    for (path, holds) in [("tree/a.txt", "first"), ("tree/a.txt/below", "first"), ("tree", "first")] {
        sandbox.store = sandbox.path(path);
        let typed = || args(["--store"]).with(&sandbox.store);
        for words in
            [keyed("restore", &sandbox.path("x")), keyed("save", &sandbox.path("home")), run(&sandbox.path("x"))]
        {
            refused(&sandbox, typed().and(words));
        }
        for command in ["ls", "du", "status", "verify"] {
            refused(&sandbox, typed().and([command]));
            refused(&sandbox, [command]);
        }
        assert_eq!(fs::read_to_string(tree.join("a.txt")).unwrap(), holds);
    }
    assert_eq!(fs::read_dir(&tree).unwrap().count(), 2);
    // A FORMAT file alone does not make a store.
    sandbox.store = sandbox.path("work");
    fs::create_dir(&sandbox.store).unwrap();
    fs::write(sandbox.store.join("FORMAT"), "of a thesis").unwrap();
    snapshot!(sandbox, sandbox.said(args(["--store"]).with(&sandbox.store).and(run(&sandbox.path("x")))), @"
    exit code 2
    --- stderr
    larder: [ROOT]/work is not a larder store: its FORMAT file was not written by larder
    ");
    fs::rename(sandbox.store.join("FORMAT"), sandbox.store.join("thesis.txt")).unwrap();
    snapshot!(sandbox, sandbox.said(args(["--store"]).with(&sandbox.store).and(run(&sandbox.path("x")))), @r#"
    exit code 2
    --- stderr
    larder: [ROOT]/work is not a larder store: it has no FORMAT file but holds "thesis.txt"
    "#);
    assert_eq!(fs::read_dir(&sandbox.store).unwrap().count(), 1);
}

#[test]
fn a_store_that_lost_its_format_is_a_warning_and_a_miss() {
    let (sandbox, tree) = planted();
    sandbox.json(keyed("save", &tree));
    fs::remove_file(sandbox.store.join("FORMAT")).unwrap();
    fs::write(sandbox.store.join("stray"), "somebody's").unwrap();
    let (before, store) = (list(&tree), list(&sandbox.store));
    snapshot!(sandbox, sandbox.said(run(&tree)), @r#"
    exit code 5
    --- stdout
    it ran
    --- stderr
    larder: warning: the store [ROOT]/store is damaged: it has no FORMAT file but holds "stray"; `larder verify --repair` mends it, or name another store; the command runs without a cache
    larder: miss: no snapshot for k in [N] ms; nothing saved
    "#);
    snapshot!(sandbox, sandbox.said(keyed("restore", &tree)), @r#"
    exit code 0
    --- stdout
    miss: no snapshot for k in [N] ms
    --- stderr
    larder: warning: the store [ROOT]/store is damaged: it has no FORMAT file but holds "stray"; `larder verify --repair` mends it, or name another store; nothing is restored
    "#);
    snapshot!(sandbox, sandbox.said(keyed("save", &tree)), @r#"
    exit code 1
    --- stderr
    larder: the store [ROOT]/store is damaged: it has no FORMAT file but holds "stray"; `larder verify --repair` mends it, or name another store
    "#);
    for words in [args(["ls"]), args(["verify"]), args(["rm", "--key", "k"])] {
        sandbox.said(words).ends(1);
    }
    assert_is(&before, &tree);
    assert_is(&store, &sandbox.store);
    // Done as told, nothing is lost.
    fs::rename(sandbox.store.join("stray"), sandbox.path("stray")).unwrap();
    assert_eq!(sandbox.json(keyed("restore", &tree))["outcome"], "hit");
}

/// Whatever another version or a broken disk leaves in FORMAT.
const FOREIGN: [&str; 5] = ["larder store\nversion 999\n", "larder store\n", "larder-store 2", "", "\0\0\0\0"];

#[test]
fn a_store_of_another_version_is_a_warning_and_a_miss() {
    for format in FOREIGN {
        let (sandbox, tree) = planted();
        sandbox.json(keyed("save", &tree));
        fs::write(sandbox.store.join("FORMAT"), format).unwrap();
        let (before, store) = (list(&tree), list(&sandbox.store));
        let miss = sandbox.said(keyed("restore", &tree).and(["--format", "json"])).ok();
        assert_eq!(miss.json()["outcome"], "miss");
        assert_eq!(miss.warnings().len(), 1, "{miss}");
        assert!(miss.err.contains(sandbox.store.to_str().unwrap()), "{miss}");
        let ran = sandbox.said(run(&tree)).ends(5);
        assert_eq!(ran.out, "it ran\n");
        assert_eq!((ran.warnings().len(), ran.summaries().len()), (1, 1), "{ran}");
        let ran = said(sandbox.larder(["run", "--format", "json"]).args(run(&tree).into_iter().skip(1))).ends(5);
        let object: serde_json::Value = serde_json::from_str(ran.out.strip_prefix("it ran\n").unwrap()).unwrap();
        assert_eq!((&object["outcome"], &object["exit_code"]), (&"miss".into(), &5.into()));
        for words in [keyed("save", &tree), args(["ls"]), args(["verify"]), args(["rm", "--key", "k"])] {
            sandbox.said(words).ends(1);
        }
        assert_is(&before, &tree);
        assert_is(&store, &sandbox.store);
    }
    let (sandbox, tree) = planted();
    sandbox.json(keyed("save", &tree));
    fs::write(sandbox.store.join("FORMAT"), FOREIGN[0]).unwrap();
    snapshot!(sandbox, sandbox.said(keyed("restore", &tree)), @"
    exit code 0
    --- stdout
    miss: no snapshot for k in [N] ms
    --- stderr
    larder: warning: the store [ROOT]/store has format 999, this larder reads format 1: update larder, or name another store; nothing is restored
    ");
    snapshot!(sandbox, sandbox.said(run(&tree)), @"
    exit code 5
    --- stdout
    it ran
    --- stderr
    larder: warning: the store [ROOT]/store has format 999, this larder reads format 1: update larder, or name another store; the command runs without a cache
    larder: miss: no snapshot for k in [N] ms; nothing saved
    ");
    snapshot!(sandbox, sandbox.said(keyed("save", &tree)), @"
    exit code 1
    --- stderr
    larder: the store [ROOT]/store has format 999, this larder reads format 1: update larder, or name another store
    ");
}

#[test]
fn a_damaged_snapshot_is_a_warning_and_a_miss() {
    let (sandbox, tree) = planted();
    sandbox.json(keyed("save", &tree));
    let place = fs::read_dir(sandbox.store.join("snapshots")).unwrap().next().unwrap().unwrap().path();
    let snapshot = fs::read_dir(place).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&snapshot).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut newer = whole.clone();
    newer[16] = 99;
    fs::write(tree.join("a.txt"), "mine").unwrap();
    let before = list(&tree);
    for bytes in [&[][..], &whole[..whole.len() / 2], &whole[..40], flipped.as_slice(), &newer, b"not at all"] {
        fs::write(&snapshot, bytes).unwrap();
        let miss = sandbox.said(keyed("restore", &tree).and(["--format", "json", "--exact"])).ok();
        assert_eq!(miss.json()["outcome"], "miss", "{miss}");
        let warning = miss.warnings().join("\n");
        assert!(warning.contains(snapshot.to_str().unwrap()), "the warning names the file: {warning}");
        assert_is(&before, &tree);
        sandbox.said(run(&tree)).ends(5);
        sandbox.said(["ls"]).ok();
        assert!(sandbox.said(["verify"]).ends(1).out.contains(snapshot.to_str().unwrap()));
    }
    // It can be removed by the name that the warning gives.
    let name = snapshot.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().1;
    sandbox.said(["rm", name]).ok();
    sandbox.said(["verify"]).ok();
}

#[test]
fn a_damaged_blob_is_a_warning_and_a_miss_of_the_whole_directory() {
    let (sandbox, tree) = planted();
    sandbox.json(keyed("save", &tree));
    let blob = only_blob(&sandbox);
    overwrite(&blob, b"short");
    fs::remove_dir_all(&tree).unwrap();
    let miss = sandbox.said(keyed("restore", &tree).and(["--format", "json"])).ok();
    assert_eq!(miss.json()["outcome"], "miss");
    assert!(miss.err.contains("quarantine") && miss.err.contains(blob.to_str().unwrap()), "{miss}");
    assert!(!tree.exists() && !blob.exists());
    // What was set aside is known: no new damage.
    let verified = sandbox.json(["verify"]);
    assert_eq!((&verified["clean"], &verified["set_aside"]), (&true.into(), &1.into()));
}

fn only_blob(sandbox: &Sandbox) -> PathBuf {
    let fans = fs::read_dir(sandbox.store.join("blobs")).unwrap().map(|fan| fan.unwrap().path());
    let blobs: Vec<PathBuf> =
        fans.flat_map(|fan| fs::read_dir(fan).unwrap().map(|blob| blob.unwrap().path())).collect();
    assert_eq!(blobs.len(), 1);
    blobs[0].clone()
}

#[test]
fn verify_exits_1_for_damage_and_0_for_leftovers() {
    let (sandbox, tree) = planted();
    snapshot!(sandbox, sandbox.said(["verify"]), @"
    exit code 0
    --- stdout
    intact: 0 snapshots, 0 blobs, 0 B read in [N] ms
    --- stderr
    larder: there is no store at [ROOT]/store yet
    ");
    assert!(!sandbox.store.exists());
    sandbox.json(keyed("save", &tree));
    // What a crash leaves: staging, blobs without a snapshot, a half-written sidecar.
    fs::create_dir_all(sandbox.store.join("tmp/0123456789abcdef/ingest")).unwrap();
    fs::create_dir_all(sandbox.store.join("ingest/00000000000000aa")).unwrap();
    fs::write(sandbox.store.join("ingest/00000000000000aa/0"), "nobody names me").unwrap();
    fs::write(sandbox.store.join("quarantine/blobs-ab-cd.00000001"), "from long ago").unwrap();
    snapshot!(sandbox, sandbox.said(["verify"]), @"
    exit code 0
    --- stdout
    intact: 1 snapshot, 1 blob, 100.0 kB read in [N] ms
    --- stderr
    larder: digesting (1)
    ");
    // Other bytes of the same length and time: only reading tells.
    let blob = only_blob(&sandbox);
    let time = fs::metadata(&blob).unwrap().modified().unwrap();
    overwrite(&blob, &[8; 100_000]);
    set_mtime(&blob, time);
    let damaged = sandbox.said(["verify"]).ends(1);
    assert!(damaged.out.contains(blob.to_str().unwrap()), "{damaged}");
    snapshot!(sandbox, sandbox.said(["verify"]), @"
    exit code 0
    --- stdout
    intact: 1 snapshot, 0 blobs, 0 B read in [N] ms; 1 set aside earlier: the files they held are made again by the next build
    --- stderr
    larder: digesting (1)
    ");
    // A blob that is simply gone is damage as well.
    fs::remove_dir_all(sandbox.store.join("quarantine")).unwrap();
    fs::create_dir(sandbox.store.join("quarantine")).unwrap();
    sandbox.said(["verify", "--quiet"]).ends(1);
}

#[test]
fn switched_off_larder_only_runs_the_command() {
    let (sandbox, tree) = planted();
    let before = list(&tree);
    let off = |words: Args| said(sandbox.larder(words).env("LARDER_DISABLE", "1"));
    snapshot!(sandbox, off(run(&tree)), @"
    exit code 5
    --- stdout
    it ran
    ");
    snapshot!(sandbox, off(keyed("save", &tree)), @"
    exit code 0
    --- stdout
    nothing saved in [N] ms
    --- stderr
    larder: switched off by LARDER_DISABLE: nothing is saved
    ");
    snapshot!(sandbox, off(keyed("restore", &tree).with("--exact")), @"
    exit code 0
    --- stdout
    miss: no snapshot for k in [N] ms
    --- stderr
    larder: switched off by LARDER_DISABLE: nothing is restored
    ");
    assert_eq!(off(keyed("save", &tree).and(["--format", "json"])).ok().json()["outcome"], "skipped");
    assert_eq!(off(keyed("restore", &tree).and(["--format", "json"])).ok().json()["outcome"], "miss");
    assert!(!sandbox.store.exists());
    assert_is(&before, &tree);
    // No project is needed for doing nothing, and bad usage stays bad.
    off(args(["run", "--", "true"])).ok();
    off(args(["restore"])).ok();
    off(args(["run", "--workspace", "absent", "--", "true"])).ends(2);
    // Nor must the settings of what is not used be right.
    let settings = sandbox.path("larder.toml");
    for text in ["stroe = \"x\"", "exact ==", "disable = \"perhaps\"", "\u{0}"] {
        fs::write(&settings, text).unwrap();
        let ran = off(run(&tree)).ends(5);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("it ran\n", ""));
        for verb in ["save", "restore"] {
            off(keyed(verb, &tree)).ok();
        }
    }
    fs::remove_file(settings).unwrap();
    said(sandbox.larder(keyed("save", &tree)).env("LARDER_DISABLE", "0")).ok();
    assert!(sandbox.store.exists());
}

/// Typed, it is a wrong argument. Named by the environment or a file, it is a fault of the cache: no build fails for it.
#[test]
fn a_store_that_is_a_file_fails_no_build_unless_it_was_typed() {
    let sandbox = Sandbox::new();
    let (tree, file) = (sandbox.path("tree"), sandbox.path("file"));
    plant(&tree);
    fs::write(&file, "no store").unwrap();
    let words = |command: &'static str| args([command, "--key", "k", "--path"]).with(&tree);
    let run = || words("run").and(["--", "sh", "-c", "echo built; exit 7"]);
    for store in [file.clone(), file.join("below")] {
        let from_env = |words: Args| said(sandbox.larder(words).env("LARDER_STORE", &store));
        let ran = from_env(run()).ends(7);
        assert_eq!(ran.out, "built\n", "{ran}");
        let warned = |said: &Said| said.warnings().iter().any(|line| line.contains("LARDER_STORE"));
        assert!(warned(&ran), "{ran}");
        let restored = from_env(words("restore").and(["--format", "json"])).ends(0);
        assert_eq!(restored.json()["outcome"], "miss");
        assert!(warned(&restored), "{restored}");
        from_env(words("save")).ends(1);
        for command in [words("restore"), words("save"), run()] {
            let typed = args(["--store"]).with(&store).and(command);
            said(&mut sandbox.larder(typed)).ends(2);
        }
    }
    fs::write(sandbox.path("larder.toml"), "store = \"file\"\n").unwrap();
    let mut from_file = sandbox.larder(run());
    let ran = said(from_file.env_remove("LARDER_STORE").current_dir(sandbox.path(""))).ends(7);
    assert!(ran.warnings().iter().any(|line| line.contains("larder.toml")), "{ran}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "no store");
}
