//! Sibling repositories on a remote that a script plays: `app` needs `protocol`, which needs `consensus`.

use super::{Sandbox, said};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Repositories, the remote that serves them, and a checkout of the first one.
pub(crate) struct Remotes {
    pub(crate) sandbox: Sandbox,
    /// The checkout of `app`.
    pub(crate) app: PathBuf,
}

const REPOSITORIES: [(&str, &str); 3] = [("consensus", ""), ("protocol", "consensus"), ("app", "protocol")];

/// What stands for ssh: notes every contact, fails while there is a file `gone`, never answers a fetch while there is a
/// file `silent`.
const SSH: &str = r#"#!/bin/sh
shift
echo "$*" >> ROOT/contacts
if [ -e ROOT/gone ]; then echo "ssh: connect to host host port 22: No route to host" >&2; exit 255; fi
if [ -e ROOT/silent ]; then touch ROOT/waiting; exec tail -f /dev/null; fi
exec sh -c "$*"
"#;

impl Remotes {
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::new();
        let remotes = Self { app: sandbox.path("ws/app"), sandbox };
        fs::create_dir(remotes.sandbox.path("srv")).unwrap();
        let script = SSH.replace("ROOT", remotes.sandbox.root.to_str().unwrap());
        fs::write(remotes.sandbox.path("ssh"), script).unwrap();
        fs::set_permissions(remotes.sandbox.path("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, needs) in REPOSITORIES {
            remotes.publish(name, needs);
        }
        remotes.git(&remotes.sandbox.root, &["clone", "-q", "srv/app.git", "ws/app"]);
        remotes.git(&remotes.app, &["config", "remote.origin.url", &remotes.url("app")]);
        remotes
    }

    /// Makes a repository with one package, and serves it.
    pub(crate) fn publish(&self, name: &str, needs: &str) {
        let work = self.work(name);
        fs::create_dir_all(work.join("src")).unwrap();
        let dependency =
            if needs.is_empty() { String::new() } else { format!("{needs} = {{ path = \"../{needs}\" }}") };
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n{dependency}\n"
        );
        fs::write(work.join("Cargo.toml"), manifest).unwrap();
        fs::write(work.join("src/lib.rs"), "pub const N: u32 = 0;\n").unwrap();
        fs::write(work.join(".gitignore"), "target\nCargo.lock\n").unwrap();
        self.git(&work, &["init", "-q", "-b", "main"]);
        self.git(&work, &["add", "-A"]);
        self.git(&work, &["commit", "-q", "-m", "one"]);
        self.git(&self.sandbox.root, &["clone", "-q", "--bare", &format!("work/{name}"), &format!("srv/{name}.git")]);
        self.git(&work, &["remote", "add", "origin", &format!("../../srv/{name}.git")]);
    }

    /// Where a repository is written.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.sandbox.path(&format!("work/{name}"))
    }

    /// Its address.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("ssh://git@host{}/srv/{name}.git", self.sandbox.root.display())
    }

    /// A sibling beside the checkout.
    pub(crate) fn sibling(&self, name: &str) -> PathBuf {
        self.sandbox.path(&format!("ws/{name}"))
    }

    /// Commits a change of a file to a branch, made where it is new, and serves it; the commit.
    pub(crate) fn commit(&self, name: &str, branch: &str, text: &str) -> String {
        let work = self.work(name);
        self.git(&work, &["checkout", "-q", "-B", branch]);
        fs::write(work.join("src/lib.rs"), text).unwrap();
        self.git(&work, &["commit", "-q", "-a", "--allow-empty", "-m", "more"]);
        self.git(&work, &["push", "-q", "--force", "origin", branch]);
        self.head(&work)
    }

    pub(crate) fn head(&self, dir: &Path) -> String {
        self.git(dir, &["rev-parse", "HEAD"])
    }

    /// git, as the person who writes the repositories; what it printed.
    #[track_caller]
    pub(crate) fn git(&self, dir: &Path, words: &[&str]) -> String {
        let mut command = self.sandbox.command("git");
        let who = ["user.name=a", "user.email=a@b", "commit.gpgSign=false", "init.defaultBranch=main"];
        for setting in who {
            command.args(["-c", setting]);
        }
        said(command.args(words).current_dir(dir)).ok().out.trim().to_owned()
    }

    /// larder, for which the script is ssh.
    pub(crate) fn larder(&self, words: &[&str]) -> Command {
        let mut command = self.sandbox.larder(words);
        command.current_dir(&self.app);
        command.env("GIT_SSH_COMMAND", self.sandbox.path("ssh")).env("GIT_SSH_VARIANT", "simple");
        command
    }

    /// How often the remote was spoken to since the last time that this was asked.
    pub(crate) fn contacts(&self) -> usize {
        let path = self.sandbox.path("contacts");
        let contacts = fs::read_to_string(&path).unwrap_or_default().lines().count();
        fs::write(path, "").unwrap();
        contacts
    }

    /// Lets the remote go away, and come back.
    pub(crate) fn gone(&self, gone: bool) {
        let path = self.sandbox.path("gone");
        if gone { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// The mirrors of a store.
    pub(crate) fn mirrors(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let scopes = fs::read_dir(self.sandbox.store.join("mirrors")).into_iter().flatten();
        for scope in scopes.map(|scope| scope.unwrap().path()) {
            let mirrors = fs::read_dir(scope).unwrap().map(|mirror| mirror.unwrap());
            let is_of = |file: &str| file.starts_with(&format!("{name}-")) && file.ends_with(".git");
            found.extend(mirrors.filter(|m| is_of(m.file_name().to_str().unwrap())).map(|mirror| mirror.path()));
        }
        found
    }
}
