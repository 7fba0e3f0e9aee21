//! `larder setup` and `--plan`: real git, and a remote that can go away.

use crate::support::remotes::Remotes;
use crate::support::{Said, said, wait_for, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

/// `setup`, which must succeed; its object.
#[track_caller]
fn setup(remotes: &Remotes, words: &[&str], env: &[(&str, &str)]) -> Value {
    ran(remotes, words, env).ok().json()
}

fn ran(remotes: &Remotes, words: &[&str], env: &[(&str, &str)]) -> Said {
    let words = [&["setup", "--format", "json"], words].concat();
    said(remotes.larder(&words).envs(env.iter().copied()))
}

/// `restore --plan` in CI.
fn restore(remotes: &Remotes, plan: &Value, words: &[&str]) -> Said {
    let words = [&["restore", "--plan", plan.as_str().unwrap()], words].concat();
    said(remotes.larder(&words).env("CI", "true"))
}

/// A member of a sibling in the object of `setup`.
fn of<'a>(object: &'a Value, name: &str, member: &str) -> &'a Value {
    let siblings = object["siblings"].as_array().unwrap();
    &siblings.iter().find(|sibling| sibling["name"] == name).unwrap_or_else(|| panic!("{name}: {object}"))[member]
}

/// Every file below a directory that holds this text.
fn holding(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    found
}

#[test]
fn siblings_are_found_one_through_the_other_and_every_job_gets_the_same_commits() {
    let remotes = Remotes::new();
    let topic = remotes.commit("consensus", "topic", "pub const N: u32 = 1;\n");
    let output = remotes.sandbox.path("output");
    let summary = remotes.sandbox.path("summary");
    fs::write(&output, "before=1\n").unwrap();
    let files = [("GITHUB_OUTPUT", output.to_str().unwrap()), ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap())];
    let env = [&files[..], &[("GITHUB_REF", "refs/heads/topic"), ("GITHUB_REF_NAME", "topic"), ("CI", "1")]].concat();
    let object = setup(&remotes, &["--output", "larder.env"], &env);
    assert_eq!(of(&object, "consensus", "commit"), &topic);
    assert_eq!(
        (of(&object, "consensus", "branch"), of(&object, "consensus", "reason")),
        (&"topic".into(), &"same name".into())
    );
    // The other one has no such branch.
    assert_eq!(of(&object, "protocol", "branch"), "main");
    assert_eq!(of(&object, "protocol", "reason"), "the remote's default");
    for name in ["consensus", "protocol"] {
        assert_eq!(remotes.head(&remotes.sibling(name)), of(&object, name, "commit").as_str().unwrap());
        assert_eq!(of(&object, name, "url"), &remotes.url(name));
        assert_eq!(remotes.git(&remotes.sibling(name), &["config", "remote.origin.url"]), remotes.url(name));
    }
    // Outputs for the other jobs, and for people.
    let lines = fs::read_to_string(&output).unwrap();
    let plan = object["plan"].as_str().unwrap();
    let key = object["cache_key"].as_str().unwrap();
    assert!(lines.starts_with(&format!("before=1\nplan={plan}\ncache-key={key}\nkey-consensus=")), "{lines}");
    assert!(lines.contains(&format!("\ncommit-consensus={topic}\n")), "{lines}");
    assert!(
        fs::read_to_string(&summary)
            .unwrap()
            .contains(&format!("| consensus | topic (same name) | `{}` |", &topic[..12]))
    );
    let dotenv = fs::read_to_string(remotes.app.join("larder.env")).unwrap();
    assert!(dotenv.starts_with(&format!("LARDER_PLAN={plan}\nLARDER_CACHE_KEY={key}\n")), "{dotenv}");
    // Same inputs, same keys; another commit, another key.
    assert_eq!(setup(&remotes, &[], &env)["cache_key"], key);
    let newer = remotes.commit("consensus", "topic", "pub const N: u32 = 2;\n");
    let later = setup(&remotes, &[], &env);
    assert_eq!(of(&later, "consensus", "commit"), &newer);
    assert_ne!(later["cache_key"], key);
    assert_ne!(of(&later, "consensus", "key"), of(&object, "consensus", "key"));
    let coarse = |key: &str| key.rsplit_once('-').unwrap().0.to_owned();
    assert_eq!(coarse(later["cache_key"].as_str().unwrap()), coarse(key));
    // Though the branch moved, the first plan means what it meant, and no remote is asked.
    remotes.contacts();
    for name in ["consensus", "protocol"] {
        fs::rename(remotes.sibling(name), remotes.sandbox.path(&format!("old-{name}"))).unwrap();
    }
    restore(&remotes, &object["plan"], &[]).ok();
    assert_eq!(remotes.head(&remotes.sibling("consensus")), topic);
    assert_eq!(remotes.contacts(), 0);
    // In place, by the variable, around a command.
    let mut command = remotes.larder(&["run", "--", "git", "-C", "../consensus", "rev-parse", "HEAD"]);
    let done = said(command.env("LARDER_PLAN", later["plan"].as_str().unwrap()).env("CI", "1")).ok();
    assert_eq!(done.out.trim(), newer, "{done}");
    assert_eq!(remotes.contacts(), 0);
    // What is there already is not touched at all.
    let done = said(&mut remotes.larder(&["restore", "--plan", later["plan"].as_str().unwrap()])).ok();
    assert!(!done.err.contains("siblings:"), "{done}");
    assert_eq!(said(remotes.larder(&["restore"]).env("LARDER_PLAN", "")).code, Some(0));
}

#[test]
fn pull_requests_take_the_branch_of_their_own_name_then_that_of_their_base() {
    let remotes = Remotes::new();
    let release = remotes.commit("consensus", "release", "// release\n");
    let head = remotes.commit("protocol", "feature/x", "// feature\n");
    remotes.commit("protocol", "release", "// release\n");
    let env = [
        ("GITHUB_REF", "refs/pull/7/merge"),
        ("GITHUB_REF_NAME", "7/merge"),
        ("GITHUB_HEAD_REF", "feature/x"),
        ("GITHUB_BASE_REF", "release"),
        ("CI", "true"),
    ];
    let object = setup(&remotes, &[], &env);
    assert_eq!(of(&object, "protocol", "commit"), &head);
    assert_eq!(
        (of(&object, "consensus", "commit"), of(&object, "consensus", "reason")),
        (&release.into(), &"name of the base".into())
    );
    // A configured branch comes before the default one, and a word on the command line before all.
    let dev = remotes.commit("consensus", "dev", "// dev\n");
    fs::write(remotes.app.join("larder.toml"), "default-branch = 'none'\n[siblings.consensus]\nbranch = 'dev'\n")
        .unwrap();
    let object = setup(&remotes, &[], &[("CI", "1"), ("GITHUB_REF", "refs/tags/v1")]);
    assert_eq!(
        (of(&object, "consensus", "commit"), of(&object, "consensus", "reason")),
        (&dev.into(), &"configured".into())
    );
    assert_eq!(of(&object, "protocol", "branch"), "main");
    remotes.git(&remotes.work("consensus"), &["tag", "-a", "-m", "x", "v1", "release"]);
    remotes.git(&remotes.work("consensus"), &["push", "-q", "origin", "v1"]);
    let release = remotes.git(&remotes.work("consensus"), &["rev-parse", "release"]);
    let object = setup(&remotes, &["--sibling", "consensus=#v1", "--branch", "feature/x"], &[("CI", "1")]);
    assert_eq!(
        (of(&object, "consensus", "commit"), of(&object, "consensus", "reason")),
        (&release.clone().into(), &"asked for".into())
    );
    assert_eq!(of(&object, "protocol", "commit"), &head);
    let old = remotes.git(&remotes.work("consensus"), &["rev-parse", "main"]);
    let object = setup(&remotes, &["--sibling", &format!("consensus=#{old}")], &[("CI", "1")]);
    assert_eq!((of(&object, "consensus", "commit"), of(&object, "consensus", "branch")), (&old.into(), &Value::Null));
    let done = ran(&remotes, &["--sibling", "consensus=#nowhere"], &[("CI", "1")]).ends(1);
    assert!(done.err.contains("there is no branch or tag \"nowhere\""), "{done}");
}

#[test]
fn a_fetch_moves_only_what_is_new() {
    let remotes = Remotes::new();
    for number in 0..50 {
        fs::write(remotes.work("consensus").join(format!("src/m{number}.rs")), format!("// {number}\n")).unwrap();
    }
    remotes.git(&remotes.work("consensus"), &["add", "-A"]);
    remotes.commit("consensus", "main", "// many\n");
    setup(&remotes, &[], &[]);
    let mirror = &remotes.mirrors("consensus")[0];
    let packs = || -> Vec<usize> {
        let files = fs::read_dir(mirror.join("objects/pack")).unwrap().map(|file| file.unwrap().path());
        let packs = files.filter(|path| path.extension().is_some_and(|end| end == "pack"));
        let mut counts: Vec<usize> = packs
            .map(|pack| remotes.git(mirror, &["verify-pack", "-v", pack.to_str().unwrap()]))
            .map(|listed| listed.lines().filter(|line| line.get(40..41) == Some(" ")).count())
            .collect();
        counts.sort_unstable();
        counts
    };
    let first = packs();
    assert_eq!(first.len(), 1);
    // Nothing new: each remote is asked once, and nothing is fetched.
    remotes.contacts();
    let object = setup(&remotes, &[], &[]);
    assert_eq!(
        (of(&object, "consensus", "fetched"), of(&object, "consensus", "source")),
        (&false.into(), &"remote".into())
    );
    assert_eq!((remotes.contacts(), packs()), (2, first.clone()));
    // One commit: itself, two trees, a file; and what one of them is written down as a difference from.
    remotes.commit("consensus", "main", "pub const N: u32 = 5;\n");
    let object = setup(&remotes, &[], &[]);
    assert_eq!(of(&object, "consensus", "fetched"), true);
    let now = packs();
    assert_eq!((remotes.contacts(), now.len(), now[1]), (3, 2, first[0]), "{now:?}");
    assert!(now[0] <= 7 && first[0] > 50, "{now:?}");
    // A branch that was set back and forth is known.
    remotes.git(&remotes.work("consensus"), &["push", "-q", "--force", "origin", "main~1:main"]);
    let object = setup(&remotes, &[], &[]);
    assert_eq!(of(&object, "consensus", "fetched"), false);
}

#[test]
fn a_remote_that_is_gone_is_replaced_by_its_mirror() {
    let remotes = Remotes::new();
    remotes.gone(true);
    let done = ran(&remotes, &[], &[]).ends(1);
    assert!(
        done.err.contains("the sibling protocol cannot be had") && done.err.contains("--sibling protocol=URL"),
        "{done}"
    );
    assert!(!remotes.sibling("protocol").exists());
    remotes.gone(false);
    let object = setup(&remotes, &[], &[]);
    remotes.gone(true);
    let done = ran(&remotes, &[], &[]).ok();
    assert_eq!(done.warnings().len(), 2, "one for each remote: {done}");
    let names = |line: &&str| {
        line.contains(&remotes.url("consensus")) && line.contains("No route to host") && line.contains(" old: main at ")
    };
    assert!(done.warnings().iter().any(names), "{done}");
    assert_eq!(done.json()["cache_key"], object["cache_key"]);
    assert_eq!(of(&done.json(), "consensus", "source"), "mirror");
    // Asked for in so many words it is no reason to warn.
    remotes.contacts();
    let done = ran(&remotes, &["--offline"], &[]).ok();
    assert_eq!((done.warnings().len(), remotes.contacts()), (0, 0), "{done}");
    let done = ran(&remotes, &["--offline", "--sibling", "consensus=#other"], &[]).ends(1);
    assert!(done.err.contains("--offline forbids asking"), "{done}");
    // A branch that the remote no longer has is not found in the mirror either.
    remotes.gone(false);
    remotes.commit("consensus", "topic", "// topic\n");
    assert_eq!(of(&setup(&remotes, &["--branch", "topic"], &[]), "consensus", "branch"), "topic");
    remotes.git(&remotes.work("consensus"), &["push", "-q", "origin", ":topic"]);
    assert_eq!(of(&setup(&remotes, &["--branch", "topic"], &[]), "consensus", "branch"), "main");
    assert_eq!(of(&setup(&remotes, &["--branch", "topic", "--offline"], &[]), "consensus", "branch"), "main");
}

#[test]
fn on_another_host_a_plan_works_too_only_colder() {
    let remotes = Remotes::new();
    let object = setup(&remotes, &[], &[]);
    let planned = of(&object, "consensus", "commit").as_str().unwrap();
    remotes.commit("consensus", "main", "// moved on\n");
    for name in ["consensus", "protocol"] {
        fs::remove_dir_all(remotes.sibling(name)).unwrap();
    }
    let other = remotes.sandbox.path("other-store");
    let store = other.to_str().unwrap();
    remotes.contacts();
    restore(&remotes, &object["plan"], &["--store", store]).ok();
    assert_eq!(remotes.head(&remotes.sibling("consensus")), planned);
    // One fetch each; and one more, since this server gives only what a branch names.
    assert_eq!(remotes.contacts(), 3);
    // A dry run says what it would do.
    fs::remove_dir_all(remotes.sibling("protocol")).unwrap();
    let done = restore(&remotes, &object["plan"], &["--store", store, "--dry-run"]).ok();
    assert!(done.err.contains("would check") && !remotes.sibling("protocol").exists(), "{done}");
    // Nothing at hand and nobody to ask: no build with other commits.
    remotes.gone(true);
    let third = remotes.sandbox.path("third-store");
    let mut command = remotes.larder(&["run", "--store", third.to_str().unwrap(), "--", "touch", "built"]);
    let done = said(command.env("LARDER_PLAN", object["plan"].as_str().unwrap())).ends(1);
    assert!(done.err.contains("cannot be had at the planned commit"), "{done}");
    assert!(!remotes.app.join("built").exists());
    // The workspace itself may have moved on: that is told.
    remotes.gone(false);
    remotes.git(&remotes.app, &["commit", "-q", "--allow-empty", "-m", "local"]);
    let done = restore(&remotes, &object["plan"], &[]).ok();
    assert!(done.warnings().iter().any(|line| line.contains("the plan is for the commit")), "{done}");
    // A store that cannot be used is no reason to build without siblings.
    fs::remove_dir_all(remotes.sibling("protocol")).unwrap();
    fs::write(other.join("FORMAT"), "larder store\nversion 99\n").unwrap();
    let done = restore(&remotes, &object["plan"], &["--store", store]).ok();
    assert!(done.err.contains("siblings are fetched anew"), "{done}");
    assert!(remotes.sibling("protocol").join("Cargo.toml").exists());
}

#[test]
fn hostile_plans_change_nothing() {
    let remotes = Remotes::new();
    let plan = setup(&remotes, &[], &[])["plan"].as_str().unwrap().to_owned();
    fs::remove_dir_all(remotes.sibling("consensus")).unwrap();
    let refused = |word: &str| {
        let done = said(remotes.larder(&["restore"]).env("LARDER_PLAN", word).env("CI", "1")).ends(2);
        assert!(done.err.contains("LARDER_PLAN: "), "{done}");
        assert!(!remotes.sibling("consensus").exists());
    };
    let other = plan.replace("larder1.", "larder2.");
    for word in ["x", "larder1.", "larder1.e30", &plan[..plan.len() - 3], &other, &format!("{plan};x")] {
        refused(word);
    }
    // Forged with care: the text between, decoded and encoded by a tool that larder has no part in.
    let forge = |from: &str, to: &str| {
        let script = "import sys,base64\nw=sys.argv[1][8:]\nt=base64.urlsafe_b64decode(w+'='*(-len(w)%4)).decode()\nassert sys.argv[2] in t\n\
                      print('larder1.'+base64.urlsafe_b64encode(t.replace(sys.argv[2],sys.argv[3]).encode()).decode().rstrip('='))";
        crate::support::tool("python3", &[&"-c", &script, &plan, &from, &to]).trim().to_owned()
    };
    if crate::support::has("python3") {
        let url = remotes.url("consensus");
        refused(&forge("../consensus", "../../consensus"));
        refused(&forge("../consensus", "/etc"));
        refused(&forge("../consensus", "../.ssh"));
        refused(&forge(&url, "ext::sh -c touch${IFS}/tmp/x"));
        refused(&forge(&url, "--upload-pack=touch /tmp/x"));
        refused(&forge(&url, "https://u:secret@host/x"));
        let here =
            said(remotes.larder(&["restore"]).env("CI", "1").env("LARDER_PLAN", forge("../consensus", "../app")))
                .ends(1);
        assert!(here.err.contains("where the workspace itself is"), "{here}");
    } else {
        crate::support::skip("there is no python3 to forge plans with");
    }
    // Through a link nothing is checked out.
    std::os::unix::fs::symlink(remotes.sandbox.path("home"), remotes.sibling("consensus")).unwrap();
    let done = said(remotes.larder(&["restore"]).env("LARDER_PLAN", &plan).env("CI", "1")).ends(1);
    assert!(done.err.contains("is a symbolic link"), "{done}");
    assert_eq!(fs::read_dir(remotes.sandbox.path("home")).unwrap().count(), 0);
}

#[test]
fn on_a_desk_nobody_s_work_is_lost() {
    let remotes = Remotes::new();
    let object = setup(&remotes, &[], &[]);
    let old = object["plan"].clone();
    let sibling = remotes.sibling("consensus");
    let file = sibling.join("src/lib.rs");
    fs::create_dir(sibling.join("target")).unwrap();
    fs::write(sibling.join("target/kept"), "").unwrap();
    remotes.commit("consensus", "main", "// new\n");
    // Larder's own and clean: it moves, and what is ignored stays.
    setup(&remotes, &[], &[]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "// new\n");
    assert!(sibling.join("target/kept").exists());
    // With changes it stays, unless somebody says that they may go.
    fs::write(&file, "// mine\n").unwrap();
    fs::write(sibling.join("added.rs"), "").unwrap();
    let done = ran(&remotes, &[], &[]).ends(1);
    assert!(done.err.contains("has changes that are in no commit") && done.err.contains("--exact"), "{done}");
    let word = old.as_str().unwrap();
    said(&mut remotes.larder(&["restore", "--plan", word])).ends(1);
    assert_eq!(fs::read_to_string(&file).unwrap(), "// mine\n");
    setup(&remotes, &["--exact"], &[]);
    assert!(!sibling.join("added.rs").exists() && sibling.join("target/kept").exists());
    // Where nobody works it is made right without asking.
    fs::write(&file, "// stray\n").unwrap();
    restore(&remotes, &old, &[]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), "pub const N: u32 = 0;\n");
    // Somebody's own checkout: changes stay, --exact or not.
    fs::remove_dir_all(&sibling).unwrap();
    remotes.git(&remotes.sandbox.root, &["clone", "-q", "work/consensus", "ws/consensus"]);
    fs::write(&file, "// mine\n").unwrap();
    let done = ran(&remotes, &["--exact"], &[]).ends(1);
    assert!(done.err.contains("commit or stash them"), "{done}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "// mine\n");
    // A commit that no branch has would be lost from sight.
    remotes.git(&sibling, &["checkout", "-q", "--detach"]);
    remotes.git(&sibling, &["commit", "-q", "-a", "-m", "mine"]);
    assert!(ran(&remotes, &[], &[]).ends(1).err.contains("is on no branch"));
    // No repository at all.
    fs::remove_dir_all(&sibling).unwrap();
    fs::create_dir(&sibling).unwrap();
    fs::write(sibling.join("thesis.txt"), "years").unwrap();
    let done = ran(&remotes, &["--exact"], &[("CI", "1")]).ends(1);
    assert!(done.err.contains("is no git repository; larder leaves it alone"), "{done}");
    assert!(sibling.join("thesis.txt").exists());
}

#[test]
fn no_credential_is_written_or_said() {
    const TOKEN: &str = "s3cr3tt0ken";
    let remotes = Remotes::new();
    // The host of the address is the folder of the remotes.
    let served = format!("file://{}/srv/", remotes.sandbox.root.display());
    let config = format!("[url \"{served}\"]\n\tinsteadOf = https://git.example/acme/\n");
    fs::write(remotes.sandbox.path("home/.gitconfig"), config).unwrap();
    let toml =
        format!("[siblings.consensus]\nurl = 'https://me:{TOKEN}@git.example/acme/consensus.git?token={TOKEN}'\n");
    fs::write(remotes.app.join("larder.toml"), toml).unwrap();
    let origin = format!("https://x-access-token:{TOKEN}@git.example/acme/app.git");
    remotes.git(&remotes.app, &["config", "remote.origin.url", &origin]);
    remotes.git(
        &remotes.app,
        &["config", "http.https://git.example/.extraheader", &format!("AUTHORIZATION: basic {TOKEN}")],
    );
    let trace = remotes.sandbox.path("trace");
    let env = [("GIT_TRACE2", trace.to_str().unwrap()), ("CI", "1")];
    let done = said(remotes.larder(&["setup", "-vv"]).envs(env)).ok();
    let object = setup(&remotes, &[], &env);
    assert_eq!(of(&object, "consensus", "url"), "https://git.example/acme/consensus.git");
    assert_eq!(of(&object, "protocol", "url"), "https://git.example/acme/protocol.git");
    fs::remove_dir_all(remotes.sibling("consensus")).unwrap();
    restore(&remotes, &object["plan"], &["--store", remotes.sandbox.path("cold").to_str().unwrap()]).ok();
    // An address that leads nowhere, so that git complains about it.
    let bad = format!("consensus=https://me:{TOKEN}@127.0.0.1:1/x?token={TOKEN}");
    let failed = ran(&remotes, &["--sibling", &bad, "-vv"], &env).ends(1);
    assert!(failed.err.contains("https://127.0.0.1:1/x"), "{failed}");
    let wrong = ran(&remotes, &["--sibling", &format!("consensus=https://me:{TOKEN}@/x")], &env).ends(2);
    let shown = said(&mut remotes.larder(&["config"])).ok();
    for said in [&done, &failed, &wrong, &shown] {
        assert!(!said.to_string().contains(TOKEN), "{said}");
    }
    for dir in [
        &remotes.sandbox.store,
        &remotes.sandbox.path("cold"),
        &remotes.sibling("consensus"),
        &remotes.sibling("protocol"),
    ] {
        assert_eq!(holding(dir, TOKEN), [""; 0]);
        assert_eq!(holding(dir, "me:s3"), [""; 0]);
    }
    assert!(!object.to_string().contains(TOKEN));
    // Nor was it an argument of any program.
    assert!(!fs::read_to_string(&trace).unwrap().contains(TOKEN));
}

#[test]
fn setups_of_several_repositories_share_a_store() {
    let remotes = Remotes::new();
    let start = |at: usize| {
        let dir = format!("ws{at}/app");
        remotes.git(&remotes.sandbox.root, &["clone", "-q", "srv/app.git", &dir]);
        let dir = remotes.sandbox.path(&dir);
        remotes.git(&dir, &["config", "remote.origin.url", &remotes.url("app")]);
        let mut command = remotes.larder(&["setup", "--format", "json"]);
        // Two of them are of one repository.
        command.env("GITHUB_REPOSITORY", format!("acme/app{}", at / 2)).env("GITHUB_REF", "refs/heads/main");
        command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(start).collect();
    let plans: Vec<Said> = children.into_iter().map(|child| wait_for(child).ok()).collect();
    let commit = of(&plans[0].json(), "consensus", "commit").clone();
    assert!(plans.iter().all(|said| of(&said.json(), "consensus", "commit") == &commit));
    assert_eq!(remotes.mirrors("consensus").len(), 2, "one for each scope");
    // They are counted, they are nothing foreign, and go when nobody uses them.
    let store = said(remotes.larder(&["du", "--format", "json"]).args::<[&str; 0], _>([])).ok().json();
    assert_eq!(store["store"]["mirrors"], 4, "{store}");
    assert!(store["store"]["mirror_bytes"].as_u64().unwrap() > 0);
    assert_eq!(
        said(&mut remotes.larder(&["verify", "--repair", "--format", "json"])).ok().json()["steps"],
        Value::Array(Vec::new())
    );
    assert_eq!(remotes.mirrors("consensus").len(), 2);
    for mirror in remotes.mirrors("consensus") {
        crate::support::tool("touch", &[&"-d", &"10 days ago", &mirror.join("larder-used")]);
    }
    let gc = said(&mut remotes.larder(&["gc", "--format", "json"])).ok().json();
    assert_eq!(gc["mirrors"].as_array().unwrap().len(), 2, "{gc}");
    assert_eq!((remotes.mirrors("consensus").len(), remotes.mirrors("protocol").len()), (0, 2));
}

#[test]
fn what_a_killed_fetch_or_a_bad_disk_leaves_is_mended() {
    let remotes = Remotes::new();
    fs::write(remotes.sandbox.path("silent"), "").unwrap();
    let mut command = remotes.larder(&["setup"]);
    let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("a fetch", || remotes.sandbox.path("waiting").exists());
    crate::support::tool("kill", &[&"-KILL", &"--", &format!("-{}", child.id())]);
    wait_for(child);
    fs::remove_file(remotes.sandbox.path("silent")).unwrap();
    let object = setup(&remotes, &[], &[]);
    assert_eq!(fs::read_dir(remotes.sandbox.store.join("tmp")).unwrap().count(), 0);
    // A mirror whose objects are damaged is set aside, and another one fetched.
    let damage = |remotes: &Remotes| {
        let pack = remotes.mirrors("consensus")[0].join("objects/pack");
        for file in fs::read_dir(pack).unwrap().map(|file| file.unwrap().path()) {
            fs::remove_file(&file).unwrap();
            fs::write(&file, "no pack").unwrap();
        }
    };
    damage(&remotes);
    fs::remove_dir_all(remotes.sibling("consensus")).unwrap();
    restore(&remotes, &object["plan"], &[]).ok();
    assert_eq!(remotes.head(&remotes.sibling("consensus")), of(&object, "consensus", "commit").as_str().unwrap());
    damage(&remotes);
    remotes.commit("consensus", "main", "// new\n");
    let later = setup(&remotes, &[], &[("CI", "1")]);
    assert_ne!(of(&later, "consensus", "commit"), of(&object, "consensus", "commit"));
    let aside = fs::read_dir(remotes.sandbox.store.join("quarantine")).unwrap().count();
    assert!(aside >= 1);
    // So is a checkout that larder made; what lies around it is another repository, and stays as it is.
    let around = remotes.sandbox.path("ws/mine");
    fs::write(&around, "untracked").unwrap();
    remotes.git(&remotes.sandbox.path("ws"), &["init", "-q"]);
    fs::remove_file(remotes.sibling("consensus").join(".git/HEAD")).unwrap();
    ran(&remotes, &[], &[]).ends(1);
    setup(&remotes, &[], &[("CI", "1")]);
    assert_eq!(remotes.head(&remotes.sibling("consensus")), of(&later, "consensus", "commit").as_str().unwrap());
    assert!(around.exists());
    fs::remove_file(around).unwrap();
    fs::remove_dir_all(remotes.sandbox.path("ws/.git")).unwrap();
    assert_eq!(fs::read_dir(remotes.sandbox.path("ws")).unwrap().count(), 3, "nothing is left beside the workspace");
}

#[test]
fn a_repository_without_siblings_gets_a_plan_and_a_key_too() {
    let remotes = Remotes::new();
    fs::write(remotes.app.join("Cargo.toml"), "[package]\nname = 'app'\nversion = '0.1.0'\n").unwrap();
    let object = setup(&remotes, &[], &[]);
    assert_eq!((object["siblings"].as_array().unwrap().len(), remotes.contacts()), (0, 0));
    assert!(object["cache_key"].as_str().unwrap().starts_with("app-"), "{object}");
    restore(&remotes, &object["plan"], &[]).ok();
    // No room, said in so many words, is a reason to stop before anything is fetched.
    let done = ran(&remotes, &["--need", "100000TB"], &[]).ends(1);
    assert!(done.err.contains("there is no room"), "{done}");
    // Otherwise it is told, and the run may go on.
    let full = [("LARDER_GUARD", "1"), ("LARDER_HIGH", "0"), ("LARDER_LOW", "0")];
    let done = ran(&remotes, &[], &full).ok();
    assert!(done.json()["room"] == false && done.err.contains("there is little room"), "{done}");
    let free = [("LARDER_GUARD", "1"), ("LARDER_HIGH", "100"), ("LARDER_LOW", "100")];
    assert_eq!(setup(&remotes, &[], &free)["room"], true);
    let done = said(remotes.larder(&["setup"]).current_dir(remotes.sandbox.path("home"))).ends(2);
    assert!(done.err.contains("is in no cargo project"), "{done}");
}

#[test]
fn private_siblings_are_had_by_the_credentials_that_are_there() {
    let remotes = Remotes::new();
    let exec = remotes.git(&remotes.app, &["--exec-path"]);
    if !Path::new(&exec).join("git-remote-http").exists() {
        return crate::support::skip("this git has no git-remote-http");
    }
    for name in ["consensus", "protocol"] {
        remotes.git(&remotes.sandbox.path(&format!("srv/{name}.git")), &["update-server-info"]);
    }
    // me:s3cr3tt0ken
    let header = "Basic bWU6czNjcjN0dDBrZW4=";
    let server = crate::support::http::serve(remotes.sandbox.path("srv"), header);
    let host = server.trim_start_matches("http://");
    // Nobody is asked for a password: it fails at once.
    remotes.git(&remotes.app, &["config", "remote.origin.url", &format!("{server}/app.git")]);
    let done = ran(&remotes, &[], &[("CI", "1")]).ends(1);
    assert!(done.err.contains("the sibling protocol cannot be had"), "{done}");
    // As actions/checkout leaves them in the workspace's own repository.
    let key = format!("http.{server}/.extraheader");
    remotes.git(&remotes.app, &["config", &key, &format!("AUTHORIZATION: {header}")]);
    let object = setup(&remotes, &[], &[("CI", "1")]);
    assert_eq!(of(&object, "consensus", "url"), &format!("{server}/consensus.git"));
    // In the workspace's address, and in the configuration of one sibling.
    remotes.git(&remotes.app, &["config", "--unset", &key]);
    let cold = remotes.sandbox.path("cold");
    let again = |words: &[&str]| {
        for name in ["consensus", "protocol"] {
            fs::remove_dir_all(remotes.sibling(name)).unwrap();
        }
        if cold.exists() {
            fs::remove_dir_all(&cold).unwrap();
        }
        restore(&remotes, &object["plan"], &[&["--store", cold.to_str().unwrap()], words].concat())
    };
    again(&[]).ends(1);
    fs::create_dir_all(remotes.sibling("consensus")).unwrap();
    fs::create_dir_all(remotes.sibling("protocol")).unwrap();
    remotes.git(&remotes.app, &["config", "remote.origin.url", &format!("http://me:s3cr3tt0ken@{host}/app.git")]);
    again(&[]).ok();
    remotes.git(&remotes.app, &["config", "remote.origin.url", "https://elsewhere.invalid/app.git"]);
    let named = |name: &str| format!("[siblings.{name}]\nurl = 'http://me:s3cr3tt0ken@{host}/{name}.git'\n");
    fs::write(remotes.app.join("larder.toml"), named("consensus") + &named("protocol")).unwrap();
    again(&[]).ok();
    setup(&remotes, &["--store", cold.to_str().unwrap()], &[("CI", "1")]);
    for dir in [&remotes.sandbox.store, &cold, &remotes.sibling("consensus")] {
        assert_eq!((holding(dir, "s3cr3tt0ken"), holding(dir, "bWU6czNj")), (Vec::new(), Vec::new()));
    }
}

#[test]
fn a_mirror_of_many_fetches_is_repacked_and_loses_nothing() {
    let remotes = Remotes::new();
    let first = remotes.commit("consensus", "main", "// one\n");
    let old = setup(&remotes, &[], &[]);
    let mirror = &remotes.mirrors("consensus")[0];
    let packs = || {
        let files = fs::read_dir(mirror.join("objects/pack")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "pack")).count()
    };
    for number in 0..41 {
        let object = remotes.sandbox.path("object");
        fs::write(&object, format!("blob\ndata 2\n{number:02}\n")).unwrap();
        let mut import = remotes.sandbox.command("git");
        import.args(["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"]).current_dir(mirror);
        said(import.stdin(fs::File::open(object).unwrap())).ok();
    }
    assert!(packs() > 41);
    // The branch is rewritten: nothing but the plan knows of the first commit.
    remotes.git(&remotes.work("consensus"), &["reset", "-q", "--hard", "main~1"]);
    remotes.commit("consensus", "main", "// two\n");
    setup(&remotes, &[], &[]);
    assert_eq!(packs(), 1);
    fs::remove_dir_all(remotes.sibling("consensus")).unwrap();
    remotes.gone(true);
    restore(&remotes, &old["plan"], &[]).ok();
    assert_eq!(remotes.head(&remotes.sibling("consensus")), first);
}
