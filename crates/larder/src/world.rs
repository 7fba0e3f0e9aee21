//! The canonical world: a command sees its checkout, the siblings, CARGO_HOME and the target directory at paths that
//! are the same on every machine.
//!
//! Only the command is in it. larder stays outside, where the store and the directories may be linked to each other
//! (no link or rename crosses from one mount to another), and translates: keys, places and stamps have canonical
//! names, every file is opened by its real one. The command is started by larder itself ([`enter`]), which becomes it
//! by `exec`, so that signals, terminal and exit code need nobody in between. Where larder is started from inside a
//! world, it first goes out again ([`leave`]).

use crate::cargo::{Site, cargo_home};
use crate::cli::EnterArgs;
use crate::settings::Settings;
use crate::sources::{Sources, repository_of};
use crate::talk::Talk;
use crate::{child, exit, host, talk};
use anyhow::{Context, Result, bail};
use larder_cargo::canonical::{Inputs, Names, SOUGHT_UPWARDS};
use larder_cargo::config::Config;
use larder_fs::world::Bind;
use larder_store::Events;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command sees; the default is the machine as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) names: Names,
}

impl World {
    /// The world for `command` in `dir`: canonical where that is wanted and permitted. Where it is not, says why.
    pub(crate) fn find(dir: &Path, command: &[OsString], settings: &Settings, talk: &Talk) -> Self {
        // Where this process is in a world that it could not leave, names are canonical already.
        if !settings.canonical.value || larder_fs::world::current().is_some() {
            return Self::default();
        }
        match plan(dir, command, settings).and_then(|names| check().map(|()| names)) {
            Ok(names) => Self { names },
            Err(error) => {
                talk.warn(&format!("no canonical world, real paths are used: {error:#}"));
                Self::default()
            }
        }
    }

    /// The command, to be started in `dir`.
    pub(crate) fn command(&self, words: &[OsString], dir: &Path) -> Result<Command> {
        let (program, arguments) = words.split_first().context("there is no command")?;
        if self.names.pairs().is_empty() {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(dir);
            return Ok(command);
        }
        let mut command = Command::new(own_program()?);
        let inside = self.names.canonical(dir);
        command.arg("enter").arg("--dir").arg(&inside).current_dir(dir);
        for (real, canonical) in self.names.pairs() {
            // What cargo would make on its first run must be there to be bound.
            larder_fs::create_parents(real)?;
            command.arg("--bind").args([real, canonical]);
        }
        command.arg("--").args(words).envs(self.names.variables.iter().map(|(name, value)| (*name, value)));
        if host::env("PWD").is_some() {
            // Shells believe it where it names the directory that they are in, and the real name still does.
            command.env("PWD", inside);
        }
        Ok(command)
    }
}

/// The names for a build in `dir`.
fn plan(dir: &Path, command: &[OsString], settings: &Settings) -> Result<Names> {
    let config = Config::load(dir, command, &host::env, &host::read);
    let mut workspace = larder_cargo::workspace::find(dir, command, &host::env, &config, &host::read)?;
    let cargo_home = cargo_home(dir);
    let mut anchors: Vec<PathBuf> = repository_of(dir).map(Path::to_path_buf).into_iter().collect();
    if let Some(workspace) = &mut workspace {
        let site = Site { workspace, config: &config, cargo_home: cargo_home.as_deref() };
        anchors.extend_from_slice(Sources::find(&site, settings)?.domain());
        workspace.target_dir = larder_fs::resolve(&workspace.target_dir)?;
        workspace.build_dir = workspace.build_dir.as_deref().map(larder_fs::resolve).transpose()?;
    }
    // All steps of a job see one world, whichever of its folders they start in.
    let whole = host::env("GITHUB_WORKSPACE").and_then(|path| larder_fs::canonicalize(Path::new(&path)).ok());
    anchors.extend(whole.filter(|whole| dir.starts_with(whole)));
    let sought = |dir: &&Path| SOUGHT_UPWARDS.iter().any(|name| larder_fs::exists(&dir.join(name)));
    anchors.extend(dir.ancestors().find(sought).map(Path::to_path_buf));
    let inputs = Inputs { dir, anchors: &anchors, cargo_home: cargo_home.as_deref(), workspace: workspace.as_ref() };
    Ok(Names::plan(&inputs, command, &host::env, &config)?)
}

/// Tries it, in a process of its own, since a failure leaves one half way.
fn check() -> Result<()> {
    let mut command = Command::new(own_program()?);
    let output =
        command.args(["enter", "--check"]).stdin(Stdio::null()).output().context("cannot start larder again")?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}", said.trim().trim_start_matches("larder: "))
        }
    }
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find larder's own executable")
}

/// Enters a world and becomes the command; returns only with what went wrong.
pub(crate) fn enter(args: &EnterArgs) -> u8 {
    let binds = args.bind.chunks_exact(2);
    let binds: Vec<Bind> = binds.map(|pair| Bind { real: pair[0].clone(), canonical: pair[1].clone() }).collect();
    let entered = larder_fs::world::enter(&binds);
    match (entered, args.command.split_first()) {
        (Ok(()), Some((program, arguments))) => {
            let error = Command::new(program).args(arguments).current_dir(&args.dir).exec();
            child::not_started(&args.command, &error)
        }
        (Ok(()), None) => 0,
        (Err(error), _) if args.check => {
            let advice = advice(&|path| host::read(Path::new(path)));
            talk::to_stderr(&format!("{:#}; {advice}", anyhow::Error::from(error)));
            exit::FAILED
        }
        (Err(error), _) => {
            talk::to_stderr(&format!("{:#}, though it could be done a moment ago", anyhow::Error::from(error)));
            exit::FAILED
        }
    }
}

/// What keeps processes from making namespaces, most certain first, and what to do about it.
fn advice(read: &dyn Fn(&str) -> Option<Vec<u8>>) -> String {
    let is = |path: &str, value: &str| read(path).is_some_and(|text| text.trim_ascii() == value.as_bytes());
    let status = read("/proc/self/status").unwrap_or_default();
    let filtered = String::from_utf8_lossy(&status).lines().any(|line| line == "Seccomp:\t2");
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "allow it by `sysctl kernel.unprivileged_userns_clone=1`, or run as root".into()
    } else if is("/proc/sys/user/max_user_namespaces", "0") || is("/proc/sys/user/max_mnt_namespaces", "0") {
        "allow it by `sysctl user.max_user_namespaces=10000 user.max_mnt_namespaces=10000`, or run as root".into()
    } else if filtered {
        "in a container, start that with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`".into()
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "allow it by `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile for larder \
         (docs/canonical.md), or run as root"
            .into()
    } else {
        "docs/canonical.md says what it needs".into()
    }
}

/// Where this process is in a world, becomes the same larder outside of it: there links and renames between the store
/// and the directories work, and names are real. What it runs will be in a world again.
pub(crate) fn leave() {
    let Some(binds) = larder_fs::world::current() else { return };
    let real = |path: &Path| {
        let bind = binds.iter().find(|bind| path.starts_with(&bind.canonical))?;
        let rest = path.strip_prefix(&bind.canonical).ok()?;
        Some(if rest.as_os_str().is_empty() { bind.real.clone() } else { bind.real.join(rest) })
    };
    let (Ok(program), Ok(dir)) = (std::env::current_exe(), std::env::current_dir()) else { return };
    let mut command = Command::new(real(&program).unwrap_or(program));
    let mut own = true;
    for word in std::env::args_os().skip(1) {
        // What follows belongs to the command, which will see the same names as this process.
        own &= word != "--";
        command.arg(real(Path::new(&word)).filter(|_| own).map_or(word, PathBuf::into_os_string));
    }
    for (name, value) in std::env::vars_os() {
        if let Some(path) = real(Path::new(&value)) {
            command.env(name, path);
        }
    }
    command.env("LARDER_CANONICAL", OsStr::new("1")).current_dir(real(&dir).unwrap_or(dir));
    let error = match larder_fs::world::leave() {
        Ok(()) => anyhow::Error::from(command.exec()),
        Err(error) => error.into(),
    };
    talk::to_stderr(&format!("cannot leave the canonical world: {error:#}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_the_obstacle() {
        let with = |name: &'static str, text: &'static str| {
            advice(&|path: &str| path.ends_with(name).then(|| text.as_bytes().to_vec()))
        };
        assert!(with("unprivileged_userns_clone", "0\n").contains("unprivileged_userns_clone=1"));
        assert!(with("max_user_namespaces", "0\n").contains("max_user_namespaces=10000"));
        assert!(with("apparmor_restrict_unprivileged_userns", "1\n").contains("AppArmor profile"));
        assert!(with("status", "Name:\tx\nSeccomp:\t2\n").contains("--security-opt"));
        assert!(with("none", "").contains("docs/canonical.md"));
    }
}
