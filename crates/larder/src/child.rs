//! The command that `run` serves: started in its directory, signals forwarded, its end passed on.

use crate::world::World;
use crate::{host, talk};
use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What shells say when a command is not there, or cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Runs the command in `dir` to its end; its exit code, 128 and the number where a signal ended it.
pub(crate) fn run(words: &[OsString], dir: &Path, world: &World) -> Result<u8> {
    let mut command = world.command(words, dir)?;
    host::cleaned(&mut command);
    // Caught before the child starts, so that none is lost; the child starts with the defaults.
    // One that larder was started to ignore, as by nohup, stays so for both.
    let ignored = ignored(&host::read(Path::new("/proc/self/status")).unwrap_or_default());
    let caught = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
    let caught = caught.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
    let handle = signals.handle();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            handle.close();
            return Ok(not_started(words, &error));
        }
    };
    let running = Arc::new(AtomicU32::new(child.id()));
    let forwarder = {
        let running = Arc::clone(&running);
        std::thread::spawn(move || {
            for origin in signals.forever() {
                let pid = running.load(Ordering::SeqCst);
                // What the terminal sends, it sends to the child as well.
                if pid != 0 && origin.process.is_some() {
                    if let Err(error) = larder_fs::process::send_signal(pid, origin.signal) {
                        tracing::debug!(%error, "a signal was not forwarded");
                    }
                } else if pid == 0 {
                    // The command has ended: the signal is for larder.
                    drop(signal_hook::low_level::emulate_default_handler(origin.signal));
                }
            }
        })
    };
    let status = child.wait();
    running.store(0, Ordering::SeqCst);
    // The thread goes on: signals that come during the save are for larder. It ends with the process.
    drop(forwarder);
    Ok(code(status?))
}

/// Says that the command could not be started; the code that shells have for it.
pub(crate) fn not_started(words: &[OsString], error: &std::io::Error) -> u8 {
    talk::to_stderr(&format!("cannot run {}: {error}", words[0].display()));
    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// The signals that a process ignores, one bit each, from its status file.
fn ignored(status: &[u8]) -> u64 {
    let status = String::from_utf8_lossy(status);
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}
