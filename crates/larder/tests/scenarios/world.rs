//! A place of its own for one scenario: store, home, CARGO_HOME, checkouts, and commands that see nothing else.

use crate::cargo::{Done, Says, Verb};
use crate::content::{Content, ROOT};
use crate::step::{Checkout, Dating, Step, killed};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Where cargo puts what it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// `deps/`, `.fingerprint/`, `build/NAME-HASH/`.
    Hashed,
    /// `build/NAME/HASH/{fingerprint,out,run}`, stable from 1.100: an older cargo has it behind a flag, which a
    /// variable opens for the stable compiler too.
    ByUnit,
}

impl Layout {
    fn env(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Hashed => &[],
            Self::ByUnit => &[("CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT", "true"), ("RUSTC_BOOTSTRAP", "1")],
        }
    }
}

/// How far a clock that runs ahead does.
const AHEAD: Duration = Duration::from_secs(3600);
/// How old an archive's files are.
const AGE: Duration = Duration::from_secs(90 * 24 * 3600);

pub(crate) struct World {
    pub(crate) root: PathBuf,
    layout: Layout,
    /// The folder of the workspace below the place of the checkouts.
    workspace: &'static str,
    larder: PathBuf,
    /// What the repositories at a place hold, as they were last checked out.
    there: RefCell<HashMap<&'static str, Content>>,
    count: Cell<usize>,
    _temp: TempDir,
}

impl World {
    pub(crate) fn new(layout: Layout, workspace: &'static str) -> Self {
        let temp = tempfile::Builder::new().prefix("larder-scenario-").tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        fs::create_dir(root.join("home")).unwrap();
        let larder = assert_cmd::cargo::cargo_bin!("larder").to_path_buf();
        Self { root, layout, workspace, larder, there: RefCell::default(), count: Cell::new(0), _temp: temp }
    }

    /// A name that was not there before.
    pub(crate) fn new_path(&self, name: &str) -> PathBuf {
        self.count.set(self.count.get() + 1);
        self.root.join(format!("{name}-{}", self.count.get()))
    }

    /// A command that inherits nothing but what cargo needs to work.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(dir).stdin(Stdio::null());
        command.envs(["TMPDIR", "LD_LIBRARY_PATH"].iter().filter_map(|n| std::env::var_os(n).map(|value| (*n, value))));
        let home = std::env::home_dir().unwrap_or_default();
        command.env("RUSTUP_HOME", std::env::var_os("RUSTUP_HOME").unwrap_or_else(|| home.join(".rustup").into()));
        command.env("PATH", &*PATH).env("HOME", self.root.join("home")).env("CARGO_HOME", self.root.join("cargo-home"));
        command.envs([("CARGO_NET_OFFLINE", "true"), ("CARGO_TERM_COLOR", "never"), ("LC_ALL", "C")]);
        command.envs([("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_DEBUG", "0")]);
        command.env("LARDER_STORE", self.root.join("store")).env("LARDER_GUARD", "0");
        command.envs(self.layout.env().iter().copied());
        command
    }

    /// The same with what a step adds.
    fn command_of(&self, step: &Step, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = self.command(program, dir);
        let root = self.root.to_str().unwrap();
        command.envs(step.env.iter().map(|(name, value)| (*name, value.replace(ROOT, root))));
        command
    }

    /// Runs a tool that must succeed; what it printed.
    pub(crate) fn tool(&self, dir: &Path, words: &[&str]) -> String {
        let output = self.command(words[0], dir).args(&words[1..]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{words:?}: {} {}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Waits until the clock that stamps files has moved on: whatever is written later is newer than what was before.
    pub(crate) fn tick(&self) {
        let probe = self.root.join("probe");
        let stamped = || {
            fs::write(&probe, "").unwrap();
            fs::metadata(&probe).unwrap().modified().unwrap()
        };
        let before = stamped();
        while stamped() <= before {
            std::thread::yield_now();
        }
    }

    /// Brings a content to the place of a step; the workspace.
    pub(crate) fn check_out(&self, content: &Content, step: &Step) -> PathBuf {
        let place = self.root.join(step.place);
        let before = self.there.borrow_mut().insert(step.place, content.clone());
        let times: Vec<SystemTime> = step.dating.iter().filter_map(|dating| self.time_before(&place, dating)).collect();
        if step.home_lost {
            fs::rename(self.root.join("cargo-home"), self.new_path("lost-home")).unwrap();
        }
        self.tick();
        match (step.checkout, before) {
            (Checkout::Fresh, before) => {
                // Not removed: that makes later files dearer, and another step may want to look.
                if before.is_some() {
                    fs::rename(&place, self.new_path("gone")).unwrap();
                }
                content.check_out(&place, &self.root);
                for repository in content.repositories() {
                    self.track(&place.join(repository));
                }
            }
            (kind, before) => {
                content.switch(&before.expect("something was checked out before"), &place, &self.root);
                if kind == Checkout::KeptWithoutTarget {
                    fs::rename(place.join(self.workspace).join("target"), self.new_path("target")).unwrap();
                }
            }
        }
        let mut times = times.into_iter();
        for dating in &step.dating {
            match dating {
                Dating::AsBefore(path) => redate(&place.join(path), |_| times.next().unwrap()),
                Dating::Touch(path) => redate(&place.join(path), |_| SystemTime::now()),
                Dating::Old(path) => redate(&place.join(path), |time| time - AGE),
            }
        }
        self.tick();
        place.join(self.workspace)
    }

    fn time_before(&self, place: &Path, dating: &Dating) -> Option<SystemTime> {
        match dating {
            Dating::AsBefore(path) => Some(fs::metadata(place.join(path)).unwrap().modified().unwrap()),
            _ => None,
        }
    }

    /// A repository as a CI system leaves it: cargo lists what git tracks.
    fn track(&self, repository: &Path) {
        self.tool(repository, &["git", "init", "-q"]);
        self.tool(repository, &["git", "add", "-A"]);
    }

    /// The step's command as larder's user would type it.
    pub(crate) fn under_larder(&self, step: &Step, verb: Verb, app: &Path) -> Done {
        if step.ahead {
            return self.ahead(step, verb, app);
        }
        let mut command = self.command_of(step, &self.larder, &self.root);
        command
            .args(["run", "--format", "json", "--workspace"])
            .arg(app)
            .args(step.options)
            .args(["--", "cargo"])
            .args(cargo_words(step, verb));
        Done::of(&command.output().unwrap())
    }

    /// The same on a machine with another clock. Nothing but larder and cargo runs there, so it is enough to date what
    /// they have seen and made as that clock would have, between the build and the save.
    fn ahead(&self, step: &Step, verb: Verb, app: &Path) -> Done {
        let larder = |word: &str| {
            let mut command = self.command_of(step, &self.larder, &self.root);
            let job = format!("cargo-{}", verb.words()[0]);
            command.arg(word).args(["--job", &job]).arg("--workspace").arg(app).args(step.options);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{word}: {}", String::from_utf8_lossy(&output.stderr));
        };
        larder("restore");
        let done = Done::of(&self.command_of(step, "cargo", app).args(cargo_words(step, verb)).output().unwrap());
        redate_all(&self.root.join(step.place));
        larder("save");
        done
    }

    /// The step's command under a larder that saves whatever comes; all of cargo's processes are killed as soon as a
    /// build script says that it runs, and larder lives on.
    pub(crate) fn kill_under_larder(&self, step: &Step, verb: Verb, app: &Path) {
        let pipe = self.new_path("pipe");
        self.tool(&self.root, &["mkfifo", pipe.to_str().unwrap()]);
        let mut command = self.command_of(step, &self.larder, &self.root);
        let job = format!("cargo-{}", verb.words()[0]);
        command.arg("run").arg("--workspace").arg(app).args(["--job", &job]).args(step.options);
        command.args(["--", "setsid", "--wait", "cargo"]).args(cargo_words(step, verb)).env(killed::VARIABLE, &pipe);
        let mut larder = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
        };
        while !reader.is_finished() {
            if larder.try_wait().unwrap().is_some() {
                // Nobody else will: the reader must not wait for ever.
                drop(File::options().write(true).open(&pipe));
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let group = reader.join().unwrap();
        if !group.is_empty() {
            self.tool(&self.root, &["kill", "-KILL", "--", &format!("-{group}")]);
        }
        let output = larder.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!group.is_empty() && output.status.code() == Some(137) && err.contains("; saved "), "{group:?} {err}");
    }

    /// The step's command by cargo alone, with its results elsewhere.
    pub(crate) fn plain(&self, step: &Step, verb: Verb, app: &Path, target: &Path) -> Done {
        let mut command = self.command_of(step, "cargo", app);
        command.args(cargo_words(step, verb)).arg("--target-dir").arg(target);
        Done::of(&command.output().unwrap())
    }

    pub(crate) fn says(&self, done: &Done, dir: &Path) -> Says {
        done.says(&self.root, |program, words| self.command(program, dir).args(words).output().unwrap())
    }

    /// Whether larder finds its store sound, or what it says.
    pub(crate) fn verify(&self) -> Result<(), String> {
        let output = self.command(&self.larder, &self.root).arg("verify").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(()),
            false => Err(text(&output.stdout) + &text(&output.stderr)),
        }
    }

    /// The content with the lock file that its manifests need, as its author would have committed it.
    pub(crate) fn lock(&self, content: &Content, step: &Step) -> Content {
        static LOCKS: Mutex<Option<HashMap<Content, Option<String>>>> = Mutex::new(None);
        if !content.names_its_place()
            && let Some(known) = LOCKS.lock().unwrap().get_or_insert_default().get(content)
        {
            return self.with_lock(content, known.as_deref());
        }
        let dir = self.new_path("lock");
        content.check_out(&dir, &self.root);
        let app = dir.join(self.workspace);
        let mut command = self.command_of(step, "cargo", &app);
        // Fails where the manifests are wrong on purpose: then the lock file stays.
        let updated = command.args(["update", "--workspace", "--offline"]).output().unwrap();
        if !updated.status.success() {
            // A version that is locked may be gone.
            drop(self.command_of(step, "cargo", &app).args(["generate-lockfile", "--offline"]).output().unwrap());
        }
        let text = fs::read_to_string(app.join("Cargo.lock")).ok();
        LOCKS.lock().unwrap().get_or_insert_default().insert(content.clone(), text.clone());
        self.with_lock(content, text.as_deref())
    }

    fn with_lock(&self, content: &Content, text: Option<&str>) -> Content {
        match text {
            Some(text) => content.clone().with(&format!("{}/Cargo.lock", self.workspace), text),
            None => content.clone(),
        }
    }
}

fn cargo_words(step: &Step, verb: Verb) -> Vec<&'static str> {
    // Words of the step may end with what is for the compiler or the test: they come last.
    [verb.words(), &["-v", "--message-format=json"], step.words].concat()
}

/// The toolchain's own folder comes first: rustup's proxies would cost more than the tiny compilations.
static PATH: LazyLock<std::ffi::OsString> = LazyLock::new(|| {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap().stdout;
    let own = Path::new(String::from_utf8(sysroot).unwrap().trim()).join("bin");
    let own = own.join("cargo").is_file().then_some(own);
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap()
});

fn redate(path: &Path, mut time: impl FnMut(SystemTime) -> SystemTime) {
    let file = File::open(path).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    file.set_modified(time(before)).unwrap();
}

/// Moves every time below a folder an hour ahead, folders after what is in them.
fn redate_all(dir: &Path) {
    let mut seen = std::collections::HashSet::new();
    redate_below(dir, &mut seen);
}

fn redate_below(path: &Path, seen: &mut std::collections::HashSet<u64>) {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| !path.ends_with(".git")).for_each(|path| redate_below(&path, seen));
    }
    // Once a file, however many names it has.
    if !meta.is_symlink() && seen.insert(meta.ino()) {
        redate(path, |time| time + AHEAD);
    }
}
