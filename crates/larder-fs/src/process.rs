//! Facts about processes and the running system.

use crate::error::{Error, Result};
use rustix::process::{Pid, Signal};
use std::path::Path;
use std::sync::OnceLock;

/// The name of this boot, new after each start of the machine; empty where the kernel does not say.
pub fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}

/// Whether a process with this id runs.
pub fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Sends the signal with this number to a process.
pub fn send_signal(pid: u32, signal: i32) -> Result<()> {
    let fail = |e: rustix::io::Errno| Error::new("signal process", Path::new(&pid.to_string()), e);
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| fail(rustix::io::Errno::SRCH))?;
    let signal = Signal::from_named_raw(signal).ok_or_else(|| fail(rustix::io::Errno::INVAL))?;
    rustix::process::kill_process(target, signal).map_err(fail)
}

/// The effective user id.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
