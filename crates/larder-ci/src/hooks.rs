//! What an operator's hooks are made of, as text: lines of a GitHub runner's `.env`, the scripts that they name, and the
//! systemd units of a timer.
//!
//! **`.env`.** The runner reads it when it starts: `NAME=VALUE` a line, as it stands, without quotes; the last line of a
//! name wins; what has no `=` is passed over. So larder appends a block between two marks and touches nothing else. To take
//! the block out again is to have what was there before, byte for byte, whatever was added around it meanwhile.
//!
//! **Hooks.** The runner runs one script before a job and one after it, and fails the job when one of them fails. A hook that was
//! there before is called by ours, which ends as that one does; larder's own part never fails.

use std::fmt::Write as _;

/// The variable that names the script before each job.
pub const STARTED: &str = "ACTIONS_RUNNER_HOOK_JOB_STARTED";
/// The variable that names the script after each job.
pub const COMPLETED: &str = "ACTIONS_RUNNER_HOOK_JOB_COMPLETED";
/// The variable that names the store.
pub const STORE: &str = "LARDER_STORE";

const BEGIN: &str = "# larder begin: `larder install-runner --undo` takes these lines out";
/// The same, where the line before it had no end.
const BEGIN_INLINE: &str =
    "# larder begin, after a line without end: `larder install-runner --undo` takes these lines out";
const END: &str = "# larder end";

/// What larder adds to `.env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The script before each job, an absolute path.
    pub started: String,
    /// The script after each job, an absolute path.
    pub completed: String,
    /// The store, where one was named.
    pub store: Option<String>,
}

/// `env` without larder's block: what it was before, with whatever was changed around the block since.
#[must_use]
pub fn without(env: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(env.len());
    let mut inside = false;
    let mut joined = false;
    for line in env.split_inclusive(|byte| *byte == b'\n') {
        let text = trimmed(line);
        if text == BEGIN.as_bytes() || text == BEGIN_INLINE.as_bytes() {
            joined = text == BEGIN_INLINE.as_bytes();
            inside = true;
        } else if inside && text == END.as_bytes() {
            inside = false;
        } else if !(inside && is_ours(text)) {
            // Somebody's own line within the block stays; one after it has to keep its distance.
            joined = false;
            kept.extend_from_slice(line);
        }
    }
    if joined && kept.last() == Some(&b'\n') {
        kept.pop();
    }
    kept
}

/// `env` with larder's block at its end, where it wins over all lines before.
#[must_use]
pub fn with(env: &[u8], lines: &Lines) -> Vec<u8> {
    let mut whole = without(env);
    let end = match whole.iter().position(|byte| *byte == b'\n') {
        Some(at) if at > 0 && whole[at - 1] == b'\r' => "\r\n",
        _ => "\n",
    };
    let inline = whole.last().is_some_and(|byte| *byte != b'\n');
    if inline {
        whole.push(b'\n');
    }
    let mut block = vec![if inline { BEGIN_INLINE.to_owned() } else { BEGIN.to_owned() }];
    block.push(format!("{STARTED}={}", lines.started));
    block.push(format!("{COMPLETED}={}", lines.completed));
    block.extend(lines.store.iter().map(|store| format!("{STORE}={store}")));
    block.push(END.to_owned());
    for line in block {
        whole.extend_from_slice(line.as_bytes());
        whole.extend_from_slice(end.as_bytes());
    }
    whole
}

/// What the runner takes for the value of `name`; `None` where it is empty or not there.
#[must_use]
pub fn value(env: &[u8], name: &str) -> Option<Vec<u8>> {
    let of_line = |line: &'_ [u8]| trimmed(line).strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
    env.split(|byte| *byte == b'\n').filter_map(of_line).next_back().filter(|value| !value.is_empty())
}

fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_ours(line: &[u8]) -> bool {
    [STARTED, COMPLETED, STORE]
        .iter()
        .any(|name| line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')))
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before a job.
    Started,
    /// After it.
    Completed,
}

impl When {
    /// The word for it on larder's command line, and the name of its script.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "job-started",
            Self::Completed => "job-completed",
        }
    }

    /// The variable that names its script.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Started => STARTED,
            Self::Completed => COMPLETED,
        }
    }
}

/// The line by which larder's own files are known.
pub const MARK: &str = "# Written by `larder install-runner`; `larder install-runner --undo` removes it.";

/// The script of a hook. Runners call it as `bash -e`, the same way as it calls the hook that was there before.
#[must_use]
pub fn script(when: When, larder: &str, stamp: &str, previous: Option<&str>) -> String {
    let word = when.word();
    let mut text = format!("#!/usr/bin/env bash\n{MARK}\n");
    text += match when {
        When::Started => "# Before each job: room on the disks, and leases of jobs that were killed.\n",
        When::Completed => "# After each job: its leases end, and what is worth least goes.\n",
    };
    text += "# larder's part ends in time and fails nothing; the job fails where the hook that was there before does.\nset +e\n";
    let _ = writeln!(text, "larder={}", quoted(larder));
    let stamp = match when {
        When::Started => String::new(),
        When::Completed => format!(" --stamp {}", quoted(stamp)),
    };
    let ours = format!(
        "if [[ -x $larder ]]; then\n    \"$larder\" hook {word}{stamp} </dev/null\nelse\n    echo \"larder is not at $larder any more: run \\`larder install-runner\\` again\"\nfi\n"
    );
    let theirs = previous.map(|path| format!("{}\n", call(path)));
    match (when, theirs) {
        (_, None) => text += &format!("{ours}exit 0\n"),
        (When::Started, Some(theirs)) => text += &format!("{ours}{theirs}exit $?\n"),
        (When::Completed, Some(theirs)) => text += &format!("{theirs}code=$?\n{ours}exit $code\n"),
    }
    text
}

/// A hook as the runner would call it.
fn call(path: &str) -> String {
    match path.ends_with(".ps1") {
        true => format!("pwsh -command {}", quoted(&format!(". '{}'", path.replace('\'', "''")))),
        false => format!("bash --noprofile --norc -e -o pipefail {}", quoted(path)),
    }
}

/// One word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What the timer's service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// larder, an absolute path.
    pub larder: String,
    /// The store, where one was named.
    pub store: Option<String>,
    /// The account, where it is not the one that systemd would take.
    pub user: Option<u32>,
}

/// The name of the service.
pub const SERVICE: &str = "larder-gc.service";
/// The name of the timer.
pub const TIMER: &str = "larder-gc.timer";
const RUNNER: &str = "# runner: ";

/// The runners for which a unit was written, as it says itself.
#[must_use]
pub fn runners(unit: &str) -> Vec<String> {
    unit.lines().filter_map(|line| line.strip_prefix(RUNNER)).map(str::to_owned).collect()
}

/// Service and timer for these runners.
#[must_use]
pub fn units(timer: &Timer, runners: &[String]) -> [(&'static str, String); 2] {
    let mut head = format!("{MARK}\n");
    for runner in runners {
        head += &format!("{RUNNER}{runner}\n");
    }
    let mut service = format!(
        "{head}[Unit]\nDescription=larder: evict what is worth least, delete what nothing needs\n\n[Service]\nType=oneshot\n\
         Nice=10\nIOSchedulingClass=idle\n"
    );
    if let Some(user) = timer.user {
        service += &format!("User={user}\n");
    }
    if let Some(store) = &timer.store {
        service += &format!("Environment={}\n", word(&format!("{STORE}={store}")));
    }
    service += &format!("ExecStart={} gc\n", word(&timer.larder).replace('$', "$$"));
    let timer = format!(
        "{head}[Unit]\nDescription=larder: collect every hour\n\n[Timer]\nOnCalendar=hourly\nRandomizedDelaySec=10min\n\
         Persistent=true\n\n[Install]\nWantedBy=timers.target\n"
    );
    [(SERVICE, service), (TIMER, timer)]
}

/// One word of a unit's line.
fn word(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines() -> Lines {
        Lines { started: "/r/a.sh".into(), completed: "/r/b.sh".into(), store: Some("/store".into()) }
    }

    #[test]
    fn the_block_is_at_the_end_and_in_the_files_own_way() {
        let block = |end: &str| {
            [
                BEGIN,
                "ACTIONS_RUNNER_HOOK_JOB_STARTED=/r/a.sh",
                "ACTIONS_RUNNER_HOOK_JOB_COMPLETED=/r/b.sh",
                "LARDER_STORE=/store",
                END,
            ]
            .map(|line| format!("{line}{end}"))
            .concat()
        };
        assert_eq!(with(b"", &lines()), block("\n").as_bytes());
        assert_eq!(with(b"LANG=C\r\n", &lines()), format!("LANG=C\r\n{}", block("\r\n")).as_bytes());
        let inline = with(b"LANG=C", &lines());
        assert!(inline.starts_with(b"LANG=C\n# larder begin, after"), "{}", String::from_utf8_lossy(&inline));
    }

    #[test]
    fn what_others_wrote_meanwhile_stays() {
        let text = String::from_utf8(with(b"A=1", &lines())).unwrap();
        let edited = text.replace("A=1", "A=2").replace(END, "MINE=3\n# larder end") + "B=4";
        assert_eq!(without(edited.as_bytes()), b"A=2\nMINE=3\nB=4");
        let cut = text.replace(END, "");
        assert_eq!(without(cut.as_bytes()), b"A=1\n\n");
    }

    #[test]
    fn the_last_line_of_a_name_is_its_value() {
        let env = b"X=1\r\nXY=2\n# X=3\nX=4=5\r\nY=";
        assert_eq!(value(env, "X").unwrap(), b"4=5");
        assert_eq!((value(env, "Y"), value(env, "Z")), (None, None));
    }

    #[test]
    fn odd_paths_are_single_words() {
        let text = script(When::Completed, "/it's/larder", "/s t/x", Some("/a $b/c.sh"));
        assert!(text.contains("larder='/it'\\''s/larder'\n"), "{text}");
        assert!(text.contains("--stamp '/s t/x'") && text.contains("pipefail '/a $b/c.sh'"), "{text}");
        assert!(
            script(When::Started, "/l", "", Some("/a'b.ps1")).contains("pwsh -command '. '\\''/a'\\'''\\''b.ps1'\\'''")
        );
        let timer = Timer { larder: "/a %b/\"$c\"".into(), store: Some("/s 100%".into()), user: Some(7) };
        let [(_, service), _] = units(&timer, &["/r 1".into(), "/r2".into()]);
        assert!(service.contains("ExecStart=\"/a %%b/\\\"$$c\\\"\" gc\n"), "{service}");
        assert!(service.contains("Environment=\"LARDER_STORE=/s 100%%\"\nExecStart"), "{service}");
        assert_eq!(runners(&service), ["/r 1", "/r2"]);
    }

    proptest! {
        #[test]
        fn taking_the_block_out_gives_back_every_byte(env in "([A-C]=[a-z]{0,3}|#[a-z ]{0,4}|LARDER_STORE=/x|\r\n|\n|\r){0,12}") {
            let added = with(env.as_bytes(), &lines());
            prop_assert_eq!(without(&added), env.as_bytes());
            prop_assert_eq!(&with(&added, &lines()), &added);
            prop_assert_eq!(value(&added, STARTED).unwrap(), b"/r/a.sh");
            prop_assert_eq!(value(&added, STORE).unwrap(), b"/store");
        }
    }
}
