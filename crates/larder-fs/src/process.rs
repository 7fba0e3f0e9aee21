//! Other processes, and who this one is.

use crate::error::{Error, Result};
use rustix::process::{Pid, Signal};
use std::path::Path;

/// Sends the signal with this number to a process.
pub fn send_signal(pid: u32, signal: i32) -> Result<()> {
    let fail = |e: rustix::io::Errno| Error::new("signal process", Path::new(&pid.to_string()), e);
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| fail(rustix::io::Errno::SRCH))?;
    let signal = Signal::from_named_raw(signal).ok_or_else(|| fail(rustix::io::Errno::INVAL))?;
    rustix::process::kill_process(target, signal).map_err(fail)
}

/// The name of this machine, as its kernel knows it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The effective user id.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A name of this run of the machine, another one after every boot; `None` where the kernel does not tell.
pub fn boot_id() -> Option<String> {
    let bytes = crate::read_optional(Path::new("/proc/sys/kernel/random/boot_id")).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
