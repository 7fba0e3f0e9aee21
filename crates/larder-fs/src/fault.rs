//! Failure on demand, for tests.
//!
//! With the feature `fault-injection`, every operation of this room first asks whether it is the
//! one that a test wants to fail or to die at. Without the feature the question compiles to nothing.

/// Asks whether the operation that is about to run should fail.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn check(_op: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "fault-injection")]
pub(crate) use armed::check;
#[cfg(feature = "fault-injection")]
pub use armed::{Fault, arm, arm_for, disarm};

#[cfg(feature = "fault-injection")]
mod armed {
    use std::io;
    use std::sync::Mutex;

    /// What happens at the chosen operation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// The operation fails with this errno and is not carried out.
        Errno(i32),
        /// Every operation from the chosen one on fails with this errno, as on a full disk.
        ErrnoFromHere(i32),
        /// The process ends at once, as by `kill -9`.
        Kill,
    }

    struct Armed {
        /// The name of the operations that are counted; `None` for all.
        only: Option<&'static str>,
        countdown: u64,
        fault: Fault,
        hit: Option<&'static str>,
    }

    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

    /// Lets the `nth` operation from now (counted from 0, over all threads) meet `fault`.
    pub fn arm(nth: u64, fault: Fault) {
        set(Armed { only: None, countdown: nth, fault, hit: None });
    }

    /// Lets every operation called `op` fail with this errno, as on a file system that does not know it.
    pub fn arm_for(op: &'static str, errno: i32) {
        set(Armed { only: Some(op), countdown: 0, fault: Fault::ErrnoFromHere(errno), hit: None });
    }

    fn set(armed: Armed) {
        *ARMED.lock().expect("no test panics while arming") = Some(armed);
    }

    /// Ends the injection and returns the name of the operation that was hit, if one was.
    pub fn disarm() -> Option<&'static str> {
        ARMED.lock().expect("no test panics while disarming").take().and_then(|armed| armed.hit)
    }

    pub(crate) fn check(op: &'static str) -> io::Result<()> {
        let mut guard = ARMED.lock().expect("the lock is never held over a panic");
        let Some(armed) = guard.as_mut() else { return Ok(()) };
        if armed.only.is_some_and(|only| only != op) {
            return Ok(());
        }
        if armed.hit.is_some() {
            return match armed.fault {
                Fault::ErrnoFromHere(errno) => Err(io::Error::from_raw_os_error(errno)),
                _ => Ok(()),
            };
        }
        if armed.countdown > 0 {
            armed.countdown -= 1;
            return Ok(());
        }
        armed.hit = Some(op);
        match armed.fault {
            Fault::Errno(errno) | Fault::ErrnoFromHere(errno) => Err(io::Error::from_raw_os_error(errno)),
            Fault::Kill => {
                let me = rustix::process::getpid();
                rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("a process may end itself");
                unreachable!("SIGKILL cannot be survived")
            }
        }
    }
}
