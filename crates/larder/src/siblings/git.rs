//! The `git` program: started without questions, hooks and surprises, and with the credentials that it has already.
//!
//! No credential is ever an argument, where others could read it, nor in what is shown. Those of an address, and those that
//! the workspace's own repository has, go to git by its environment (`GIT_CONFIG_COUNT`), into no file.

use anyhow::Result;
use larder_ci::address::Credentials;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a remote may take to list its branches.
pub(super) const ASKING: Duration = Duration::from_secs(60);
/// How long a fetch may take. One that does not move is ended by git much earlier.
pub(super) const FETCHING: Duration = Duration::from_secs(3600);
/// What is done on this machine ends by itself.
const LOCAL: Duration = Duration::from_secs(1800);

/// Which configuration of the workspace's own repository holds for its siblings too.
const SHARED: &str = r"^(http\..*|credential\..*|url\..*|core\.sshcommand|ssh\..*)$";
/// Variables that tie git to another repository, such as that of a hook which started larder.
const TIES: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
];
/// Said to every git: no hooks and monitors of the repositories, no work behind our back, whole packs only (so that what a
/// kill leaves is a temporary file), no programs as transports, an end to what does not move.
const MANNERS: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.unpackLimit=1",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "advice.detachedHead=false",
    "protocol.ext.allow=never",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
];

/// Which repository git is to work on. It never looks for one further up: where one is damaged, what lies around it is
/// somebody else's.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    /// None.
    Nowhere,
    /// A checkout, by its top.
    Tree(&'a Path),
    /// A bare one.
    Bare(&'a Path),
}

/// Why a git did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct GitError {
    /// What was asked, without its arguments.
    pub(crate) verb: String,
    /// The last lines that it said, without anything secret.
    pub(crate) said: String,
    /// Whether it was ended because it took too long.
    pub(crate) timed_out: bool,
}

impl fmt::Display for GitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "git {}: {}", self.verb, self.said)
    }
}

impl std::error::Error for GitError {}

/// How git is started.
#[derive(Clone, Default)]
pub(crate) struct Git {
    /// Configuration by environment; may be secret.
    config: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Git {
    /// With the credentials that the repository at `dir` is configured with, if it is one. Those of the machine and of the
    /// account apply anyway.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut git = Self::default();
        let words = ["config", "--includes", "--null", "--show-scope", "--get-regexp", SHARED];
        let Ok(listed) = git.run(At::Tree(dir), &words) else { return git };
        let mut fields = listed.split(|byte| *byte == 0).map(|field| String::from_utf8_lossy(field).into_owned());
        while let (Some(scope), Some(entry)) = (fields.next(), fields.next()) {
            if matches!(&*scope, "local" | "worktree")
                && let Some((key, value)) = entry.split_once('\n')
            {
                git.configure(key, value);
            }
        }
        git
    }

    /// Also with the name and password of an address.
    pub(crate) fn with(&self, credentials: &Credentials) -> Self {
        let mut git = self.clone();
        let Credentials { origin, user, password } = credentials;
        if origin.starts_with("http") {
            let token = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
            git.configure(&format!("http.{origin}/.extraHeader"), &format!("Authorization: Basic {token}"));
        }
        git.secrets.extend([user, password].into_iter().filter(|secret| secret.len() > 3).cloned());
        git
    }

    fn configure(&mut self, key: &str, value: &str) {
        self.config.push((key.to_owned(), value.to_owned()));
        // Of a header the last word is the secret.
        self.secrets.extend(value.rsplit(' ').next().filter(|secret| secret.len() > 7).map(str::to_owned));
    }

    fn command(&self, at: At<'_>) -> Command {
        let mut command = Command::new("git");
        for manner in MANNERS {
            command.args(["-c", manner]);
        }
        for name in TIES {
            command.env_remove(name);
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("GCM_INTERACTIVE", "never").env("SSH_ASKPASS_REQUIRE", "never");
        command.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
        let known = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
        if !self.config.is_empty() {
            command.env("GIT_CONFIG_COUNT", (known + self.config.len()).to_string());
            for (at, (key, value)) in (known..).zip(&self.config) {
                command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
            }
        }
        match at {
            // Where nobody keeps a repository.
            At::Nowhere => {
                command.current_dir("/");
            }
            At::Tree(top) => {
                command.arg("-C").arg(top).env("GIT_CEILING_DIRECTORIES", top.parent().unwrap_or(top));
            }
            At::Bare(dir) => {
                let mut word = OsString::from("--git-dir=");
                word.push(dir);
                command.arg(word);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs git on this machine's own files; what it printed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, at: At<'_>, words: &[A]) -> Result<Vec<u8>, GitError> {
        self.run_for(LOCAL, at, words)
    }

    /// Runs git, which may speak to a remote, for so long at most.
    pub(crate) fn run_for<A: AsRef<OsStr>>(
        &self,
        limit: Duration,
        at: At<'_>,
        words: &[A],
    ) -> Result<Vec<u8>, GitError> {
        let words: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
        let verb = words
            .iter()
            .find(|word| !word.as_encoded_bytes().starts_with(b"-"))
            .map_or_else(|| "(nothing)".to_owned(), |verb| verb.to_string_lossy().into_owned());
        let fail = |said: String| GitError { verb: verb.clone(), said, timed_out: false };
        let start = Instant::now();
        let mut command = self.command(at);
        let mut child = command.args(&words).spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => fail("the program is not there: install git".into()),
            _ => fail(error.to_string()),
        })?;
        let ended = wait(&mut child, limit);
        let shown = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        tracing::debug!("git {}: {} ms", self.scrubbed(&shown), start.elapsed().as_millis());
        match ended {
            Some((status, out, _)) if status.as_ref().is_ok_and(|status| status.success()) => Ok(out),
            Some((_, _, said)) => Err(fail(self.last_lines(&said))),
            None => {
                let error = fail(format!("it did not end within {} s", limit.as_secs()));
                Err(GitError { timed_out: true, ..error })
            }
        }
    }

    /// As a line of text.
    pub(crate) fn line<A: AsRef<OsStr>>(&self, at: At<'_>, words: &[A]) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.run(at, words)?).trim().to_owned())
    }

    fn last_lines(&self, said: &[u8]) -> String {
        let said = self.scrubbed(&String::from_utf8_lossy(said));
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.len() {
            0 => "it failed and did not say why".to_owned(),
            count => lines[count.saturating_sub(4)..].join("; "),
        }
    }

    /// Text with whatever may be secret taken out.
    pub(crate) fn scrubbed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "***");
        }
        without_logins(&text)
    }
}

/// Text in which addresses have no name, password and query.
fn without_logins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '<' | '>');
        let (address, behind) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        let authority = address.find(['/', '?', '#']).unwrap_or(address.len());
        // A password may hold a slash where somebody forgot to write it otherwise.
        let login = address.rfind('@').filter(|at| *at < authority || address[..*at].contains(':'));
        let address = login.map_or(address, |at| &address[at + 1..]);
        match address.split_once('?') {
            Some((plain, _)) => out.extend([plain, "?***"]),
            None => out.push_str(address),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

type Ended = (std::io::Result<ExitStatus>, Vec<u8>, Vec<u8>);

/// Waits for the end of a program and of all that it prints; `None`, and it is killed, where that takes too long.
fn wait(child: &mut Child, limit: Duration) -> Option<Ended> {
    let (sender, receiver) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for (number, pipe) in pipes.into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe
                && let Err(error) = pipe.read_to_end(&mut bytes)
            {
                tracing::debug!(%error, "what git said was not read to its end");
            }
            // Nobody listens any more to one that took too long.
            drop(sender.send((number, bytes)));
        });
    }
    let deadline = Instant::now() + limit;
    let mut printed = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((number, bytes)) => printed[number] = bytes,
            Err(_) => {
                if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                    tracing::debug!(%error, "git was not ended");
                }
                return None;
            }
        }
    }
    let [out, said] = printed;
    Some((child.wait(), out, said))
}

/// Words of different kinds.
pub(super) fn words<const N: usize>(words: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    words.into_iter().map(|word| word.as_ref().to_os_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(
            without_logins("fatal: unable to access 'https://u:p@host/x?token=1': x"),
            "fatal: unable to access 'https://host/x?***': x"
        );
        assert_eq!(without_logins("https://host/a@b ssh://git@h/x"), "https://host/a@b ssh://h/x");
        assert_eq!(without_logins("https://u:p/w@host/x"), "https://host/x");
        let mut git = Git::default();
        git.configure("http.https://host/.extraheader", "AUTHORIZATION: basic c2VjcmV0LXRva2Vu");
        assert_eq!(git.scrubbed("header: c2VjcmV0LXRva2Vu!"), "header: ***!");
        let credentials =
            Credentials { origin: "https://host".into(), user: "me".into(), password: "pass:word".into() };
        let git = git.with(&credentials);
        assert_eq!(git.scrubbed("pass:word"), "***");
        let header = &git.config.last().unwrap().1;
        assert!(!git.scrubbed(header).contains("bWU6"), "{header}");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert!(wait(&mut child, Duration::from_millis(20)).is_none());
        assert!(child.try_wait().unwrap().is_some());
    }
}
