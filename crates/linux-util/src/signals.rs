// SPDX-License-Identifier: MIT OR Apache-2.0

//! Signal masks of child programs, and default actions of signals.
//!
//! A process that blocks signals in order to wait for them passes the mask on to its children,
//! because the standard library does not reset it. Those signals cannot end such a child.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

/// A signal mask.
#[derive(Clone, Copy)]
pub struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// Returns the mask of the calling thread.
    ///
    /// # Errors
    ///
    /// Returns the error of `pthread_sigmask(3)`.
    pub fn current() -> io::Result<Self> {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: without a new mask the call changes nothing. It writes the current mask to
        // `mask`, which has the size of one and outlives the call.
        pthread_result(unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), mask.as_mut_ptr())
        })?;
        // SAFETY: the call succeeded, so it has written the mask.
        Ok(SignalMask(unsafe { mask.assume_init() }))
    }

    /// Makes the program of `command` start with this mask.
    pub fn apply_to(self, command: &mut Command) -> &mut Command {
        let set = move || {
            let mask = &raw const self.0;
            // SAFETY: `current` has initialized the whole mask, and it outlives the call.
            pthread_result(unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut())
            })
        };
        // SAFETY: between fork and exec only async-signal-safe operations are allowed. The closure
        // makes one system call, allocates nothing and takes no lock. An error is a plain number.
        unsafe { command.pre_exec(set) }
    }
}

/// Converts the error number that a pthread function returned, or 0.
fn pthread_result(errno: libc::c_int) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Unblocks SIGALRM and gives it its default action, which ends this process. The process may have
/// inherited another mask or action.
///
/// # Errors
///
/// Returns the error of `pthread_sigmask(3)` or signal(2).
pub fn reset_sigalrm() -> io::Result<()> {
    let mut alarm = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initializes the set before the other calls use it. Neither it nor
    // sigaddset(3) can fail for a valid signal. The set outlives the calls.
    pthread_result(unsafe {
        libc::sigemptyset(alarm.as_mut_ptr());
        libc::sigaddset(alarm.as_mut_ptr(), libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, alarm.as_ptr(), ptr::null_mut())
    })?;
    set_default_action(libc::SIGALRM)
}

/// Gives SIGCHLD its default action, so that this process can wait for its children.
///
/// # Errors
///
/// Returns the error of signal(2).
pub fn reset_sigchld() -> io::Result<()> {
    set_default_action(libc::SIGCHLD)
}

/// Gives `signal` its default action.
fn set_default_action(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: SIG_DFL installs no handler, so no code of this process can run at a bad moment. The
    // default action is the kernel's.
    match unsafe { libc::signal(signal, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_starts_with_the_given_mask() {
        let mask = SignalMask::current().unwrap();
        let blocked = |command: &mut Command| {
            let output = command.arg("/proc/self/status").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let line = text.lines().find(|line| line.starts_with("SigBlk"));
            line.unwrap().to_owned()
        };
        let mut with_sigterm = SignalMask(mask.0);
        // SAFETY: the mask is initialized, and SIGTERM is a signal.
        unsafe { libc::sigaddset(&raw mut with_sigterm.0, libc::SIGTERM) };
        let without = blocked(mask.apply_to(&mut Command::new("/bin/cat")));
        let with = blocked(with_sigterm.apply_to(&mut Command::new("/bin/cat")));
        assert_ne!(without, with);
        assert!(with.ends_with("4000"), "{with}");
    }
}
