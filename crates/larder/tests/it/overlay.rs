//! `run` on an overlay: for root, and for an ordinary user in a namespace of their own.

use crate::support::project::{Project, compiled};
use crate::support::tree::{assert_is, assert_same, list, plant_target};
use crate::support::volume::mount_points;
use crate::support::{Args, Said, Sandbox, args, is_root, said, skip, tool, wait_for, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const NOBODY: u32 = 65534;

struct User {
    sandbox: Sandbox,
    /// The user to become; `None` stays who runs the test.
    id: Option<u32>,
    tree: PathBuf,
}

impl User {
    fn new(id: Option<u32>) -> Self {
        let mut sandbox = Sandbox::new();
        sandbox.own_program();
        let tree = sandbox.path("app/target");
        plant_target(&tree);
        if id.is_some() {
            fs::set_permissions(&sandbox.root, PermissionsExt::from_mode(0o755)).unwrap();
            tool("chown", &[&"-R", &format!("{NOBODY}:{NOBODY}"), &sandbox.root]);
        }
        Self { sandbox, id, tree }
    }

    fn larder(&self, words: Args) -> Said {
        let mut command = self.sandbox.larder(words);
        if let Some(id) = self.id {
            let mut other = self.sandbox.command("setpriv");
            let id = id.to_string();
            other.args(["--reuid", id.as_str(), "--regid", id.as_str(), "--clear-groups"]);
            other.arg(command.get_program()).args(command.get_args());
            other.env("LARDER_STORE", &self.sandbox.store);
            command = other;
        }
        said(&mut command)
    }

    fn transfer(&self, verb: &str, path: &Path, key: &str) -> Value {
        let words = args([verb, "--format", "json", "--key-only", "--key", key, "--path"]).with(path);
        self.larder(words).ok().json()
    }

    /// `run` of a script on an overlay at `place`; what it printed, and the object.
    fn run(&self, place: &Path, options: &[&str], script: &str) -> (String, Value) {
        let words = args(["run", "--format", "json", "--link-mode", "overlay", "--key-only", "--key", "k", "--path"]);
        let said = self.larder(words.with(place).and(options).and(["--", "sh", "-ec", script])).ok();
        let (out, object) = said.out.trim_end().rsplit_once('\n').unwrap_or(("", &said.out));
        assert!(said.warnings().is_empty(), "{said}");
        (out.trim_end().to_owned(), serde_json::from_str(object).unwrap())
    }
}

fn works(id: Option<u32>) {
    let user = User::new(id);
    let before = list(&user.tree);
    user.transfer("save", &user.tree, "k");
    let mounts = mount_points();
    let place = user.sandbox.path("place/target");
    let shown = place.display();
    let lower = || {
        let trees = list(&user.sandbox.store.join("trees"));
        trees.into_iter().filter(|(path, _)| path.starts_with("") && path.components().count() > 2).collect()
    };
    let uid = id.map_or_else(|| tool("id", &[&"-u"]).trim().to_owned(), |id| id.to_string());

    // The command sees the tree, as the user who it was.
    let script = format!(
        "id -u; cat {shown}/CACHEDIR.TAG | wc -c; readlink {shown}/debug/dangling; test {shown}/debug/app -ef {shown}/debug/deps/app-0123456789abcdef && echo one file"
    );
    let (out, object) = user.run(&place, &["--save", "never"], &script);
    assert_eq!(out, format!("{uid}\n177\n../nowhere\none file"));
    assert_eq!((&object["outcome"], &object["link_modes"]["overlay"]), (&"hit".into(), &15.into()));
    assert_eq!(mount_points(), mounts, "nothing stays mounted");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "what was seen is gone with the mount");
    let prepared: crate::support::tree::Listing = lower();

    // It changes, adds, replaces and removes; all of that is saved, and nothing of it reaches the store.
    let script = format!(
        "cd {shown}; echo more >> debug/notes.txt; echo new > debug/new; rm -r debug/examples debug/.fingerprint; \
         rm debug/dangling; ln -s elsewhere debug/dangling; mv debug/app.d debug/moved.d; chmod 600 CACHEDIR.TAG; \
         mkdir -p debug/fresh/deep; rm -r debug/build; mkdir debug/build; echo opaque > debug/build/only"
    );
    let (_, object) = user.run(&place, &[], &script);
    assert_eq!(object["save"]["outcome"], "saved", "{object}");
    assert!(object["save"]["work"]["unchanged"].as_u64().unwrap() >= 5, "what was not touched is not read: {object}");
    assert_eq!(mount_points(), mounts);
    assert_same(&prepared, &lower());
    let verified = user.larder(args(["verify"]));
    assert_eq!(verified.code, Some(0), "{verified}");

    // A plain restore elsewhere has the changes.
    let elsewhere = user.sandbox.path("elsewhere");
    assert_eq!(user.transfer("restore", &elsewhere, "k")["outcome"], "hit");
    let after = list(&elsewhere);
    let changed = |name: &str| {
        let (old, new) = (before.get(Path::new(name)), after.get(Path::new(name)));
        (old.map(|entry| entry.bytes.len()), new.map(|entry| entry.bytes.len()))
    };
    assert_eq!(changed("debug/notes.txt"), (Some(100_000), Some(100_005)));
    assert_eq!(changed("debug/new"), (None, Some(4)));
    assert_eq!(changed("debug/examples"), (Some(0), None));
    assert_eq!(changed("debug/.fingerprint"), (Some(0), None));
    assert_eq!(changed("debug/dangling"), (Some(10), Some(9)));
    assert_eq!(changed("debug/app.d"), (Some(200), None));
    assert_eq!(changed("debug/moved.d"), (None, Some(200)));
    assert_eq!(changed("debug/fresh/deep"), (None, Some(0)));
    assert_eq!(changed("debug/build/only"), (None, Some(7)));
    let old = |path: &Path| path.starts_with("debug/build") && path.components().count() == 3;
    assert!(after.keys().filter(|path| old(path)).count() == 1, "no whiteout and nothing hidden comes along");
    let untouched = |path: &&PathBuf| path.starts_with("debug/deps") || path.starts_with("debug/incremental");
    for path in before.keys().filter(untouched) {
        assert_eq!(before[path], after[path], "{}", path.display());
    }

    // What the command sees the next time is that, and the older one is still there to be restored.
    let (out, _) = user.run(&place, &["--save", "never"], &format!("cat {shown}/debug/new; ls {shown}/debug/build"));
    assert_eq!(out, "new\nonly");
    user.transfer("save", &user.tree, "old");
    let oldest = user.sandbox.path("oldest");
    user.transfer("restore", &oldest, "old");
    assert_is(&before, &oldest);
    // The place can be used without an overlay afterwards.
    assert_eq!(user.transfer("restore", &place, "k")["outcome"], "hit");
    assert_is(&after, &place);
    assert_eq!(user.larder(args(["rm", "--key", "k"])).code, Some(0));
    assert_eq!(user.larder(args(["verify"])).code, Some(0));
}

#[test]
fn for_root() {
    if !is_root() {
        return skip("this is for root");
    }
    works(None);
}

#[test]
fn for_an_ordinary_user() {
    if !is_root() {
        return match namespaces_work(None) {
            true => works(None),
            false => skip("user namespaces are not allowed here"),
        };
    }
    if !namespaces_work(Some(NOBODY)) {
        return skip("user namespaces are not allowed here");
    }
    works(Some(NOBODY));
}

fn namespaces_work(id: Option<u32>) -> bool {
    let mut words = vec!["unshare".to_owned(), "--user".to_owned(), "--mount".to_owned(), "true".to_owned()];
    if let Some(id) = id {
        let id = id.to_string();
        let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        words.splice(0..0, user.map(ToOwned::to_owned));
    }
    let mut command = std::process::Command::new(&words[0]);
    said(command.args(&words[1..])).code == Some(0)
}

#[test]
fn an_ordinary_user_without_a_namespace_gets_another_mode_and_a_word() {
    if !is_root() {
        return skip("becoming another user needs root");
    }
    let user = User::new(Some(NOBODY));
    let before = list(&user.tree);
    user.transfer("save", &user.tree, "k");
    let place = user.sandbox.path("place");
    // `restore` has no namespace of its own: what it mounted would have to outlive it.
    let words = args(["restore", "--format", "json", "--link-mode", "overlay", "--key-only", "--key", "k", "--path"]);
    let said = user.larder(words.with(&place)).ok();
    let object = said.json();
    assert_eq!(object["outcome"], "hit");
    assert!(object["why_not"]["overlay"].as_str().unwrap().contains("mount overlay"), "{object}");
    assert_eq!(said.warnings().len(), 1, "what was asked for by name and fails deserves a word: {said}");
    assert_is(&before, &place);
}

#[test]
fn cargo_builds_on_an_overlay() {
    if !is_root() && !namespaces_work(None) {
        return skip("user namespaces are not allowed here");
    }
    let sandbox = Sandbox::new();
    let project = Project::new(&sandbox.path("app"));
    said(&mut project.run(&sandbox, &[], &["cargo", "build"])).ok();
    let (before, store) = (list(&project.target), sandbox.store.join("trees"));
    fs::rename(&project.target, sandbox.path("away")).unwrap();
    let build = |options: &[&str]| {
        let mut all = vec!["--link-mode", "overlay"];
        all.extend(options);
        said(&mut project.run(&sandbox, &all, &["cargo", "build"])).ok()
    };
    let first = build(&["--save", "never"]);
    assert!(first.summaries()[0].contains("by overlay"), "{first}");
    assert_eq!(compiled(&first), [""; 0]);
    let lower = list(&store);
    project.edit("src/lib.rs", "{} {} {}", "edited {} {} {}");
    let second = build(&[]);
    assert_eq!(compiled(&second), ["app"]);
    assert_same(&lower, &list(&store));
    assert_eq!(sandbox.json(["verify"])["clean"], true);
    // What was saved from the overlay is whole, and the rest of it is what it was.
    sandbox.json(["restore", "--workspace", "app", "--job", "cargo-build"]);
    assert_eq!(project.output(&sandbox), "edited plain 7 42");
    let part = project.files("debug/deps", "libpart-", ".rlib").remove(0);
    assert_eq!(before[&part], list(&project.target)[&part]);
    assert_eq!(compiled(&said(&mut project.cargo(&sandbox, &["build"])).ok()), [""; 0]);
}

#[test]
fn a_second_larder_lets_a_living_overlay_be() {
    if !is_root() && !namespaces_work(None) {
        return skip("user namespaces are not allowed here");
    }
    let user = User::new(None);
    user.transfer("save", &user.tree, "k");
    let (place, ready, go) = (user.sandbox.path("place/target"), user.sandbox.path("ready"), user.sandbox.path("go"));
    let script = format!(
        "echo mine > {0}/mine; : > {1}; until test -e {2}; do sleep 0.02; done; cat {0}/mine {0}/CACHEDIR.TAG | wc -c",
        place.display(),
        ready.display(),
        go.display()
    );
    let words = args(["run", "--link-mode", "overlay", "--key-only", "--key", "k", "--path"]);
    let mut first = user.sandbox.larder(words.with(&place).and(["--", "sh", "-ec", &script]));
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the first command starts", || ready.exists());
    // It sees an empty directory where the first one has a mount of its own.
    for mode in ["auto", "overlay", "copy"] {
        let words =
            args(["run", "--exact", "--save", "never", "--link-mode", mode, "--key-only", "--key", "k", "--path"]);
        let second = user.larder(words.with(&place).and(["--", "sh", "-c", "echo it ran; exit 4"])).ends(4);
        let warnings = second.warnings().join("\n");
        assert!(warnings.contains("busy") && warnings.contains(place.to_str().unwrap()), "{second}");
        assert_eq!(second.out, "it ran\n");
        assert!(second.summaries()[0].starts_with("larder: miss"), "{second}");
    }
    let restored = user.larder(args(["restore", "--key-only", "--key", "k", "--path"]).with(&place)).ok();
    assert!(restored.warnings().join("\n").contains("busy"), "{restored}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    fs::write(go, "").unwrap();
    let first = wait_for(first).ok();
    assert_eq!(first.out.trim(), "182", "{first}");
    assert!(first.summaries()[0].contains("; saved k"), "{first}");
    let elsewhere = user.sandbox.path("elsewhere");
    user.transfer("restore", &elsewhere, "k");
    assert_eq!(fs::read_to_string(elsewhere.join("mine")).unwrap(), "mine\n");
    assert_eq!(user.larder(args(["verify"])).code, Some(0));
}

#[test]
fn what_is_there_already_is_not_hidden_by_a_mount() {
    if !is_root() {
        return skip("this is for root");
    }
    let user = User::new(None);
    user.transfer("save", &user.tree, "k");
    fs::write(user.tree.join("mine"), "my own\n").unwrap();
    chown(user.tree.join("mine"), Some(0), Some(0)).unwrap();
    let (out, object) = user.run(&user.tree, &["--save", "never"], &format!("cat {}/mine", user.tree.display()));
    assert_eq!(out, "my own");
    assert!(object["why_not"]["overlay"].as_str().unwrap().contains("not empty"), "{object}");
}

#[test]
fn root_who_may_not_mount_gets_another_mode_and_a_word() {
    if !is_root() {
        return skip("this is for root");
    }
    let user = User::new(None);
    let before = list(&user.tree);
    user.transfer("save", &user.tree, "k");
    let place = user.sandbox.path("place");
    // As in a container, where user namespaces do not help either.
    let words = args(["run", "--link-mode", "overlay", "--save", "never", "--key-only", "--key", "k", "--path"]);
    let larder = user.sandbox.larder(words.with(&place).and(["--", "sh", "-c", "exit 7"]));
    let mut command = user.sandbox.command("unshare");
    command.args(["--user", "--map-root-user", "sh", "-ec"]);
    command.args(["echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"", "sh"]);
    command.args(["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
    command.arg(larder.get_program()).args(larder.get_args()).env("LARDER_STORE", &user.sandbox.store);
    let said = said(&mut command).ends(7);
    assert!(said.summaries()[0].starts_with("larder: hit k"), "{said}");
    assert!(!said.warnings().is_empty(), "{said}");
    assert_is(&before, &place);
}
