//! What a process has to say of signals about, and to, its children.
//!
//! Whoever blocks signals to wait for them hands the mask on to each child, which may then be one that
//! cannot be ended. The standard library leaves it as it is.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

/// A signal mask.
#[derive(Clone, Copy)]
pub struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// That of the calling thread.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn current() -> io::Result<Self> {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: without a new mask nothing is changed, and the old one is written to `mask`, which is
        // as large as one and lives until then.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), mask.as_mut_ptr()) };
        match error {
            // SAFETY: it has succeeded, and so has written the mask.
            0 => Ok(SignalMask(unsafe { mask.assume_init() })),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Has the program of `command` begin with this mask.
    pub fn apply_to(self, command: &mut Command) -> &mut Command {
        let set = move || {
            // SAFETY: the mask is whole, as `current` has made it, and lives until the call returns.
            let error = unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut())
            };
            match error {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        };
        // SAFETY: between fork and exec only what is safe in a signal handler may be done: that is one
        // system call. It allocates nothing and takes no lock; an error of the kernel is a plain number.
        unsafe { command.pre_exec(set) }
    }
}

/// Has SIGALRM end this process, as it does unless somebody has changed that, or whoever started it has.
///
/// # Errors
///
/// The kernel's.
pub fn reset_sigalrm() -> io::Result<()> {
    let mut alarm = MaybeUninit::uninit();
    // SAFETY: the set is empty before it is added to and used, and no handler is installed: the default
    // action is the kernel's.
    let results = unsafe {
        [
            libc::sigemptyset(alarm.as_mut_ptr()),
            libc::sigaddset(alarm.as_mut_ptr(), libc::SIGALRM),
            libc::pthread_sigmask(libc::SIG_UNBLOCK, alarm.as_ptr(), ptr::null_mut()),
            match libc::signal(libc::SIGALRM, libc::SIG_DFL) {
                libc::SIG_ERR => -1,
                _ => 0,
            },
        ]
    };
    match results {
        [0, 0, 0, 0] => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives SIGCHLD its default action, so that children can be waited for.
///
/// # Errors
///
/// The kernel refuses the action.
pub fn reset_sigchld() -> io::Result<()> {
    // SAFETY: no handler is installed, so none can run at a bad moment: the default action of
    // SIGCHLD is to do nothing.
    match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_begins_with_the_mask_it_is_given() {
        let mask = SignalMask::current().unwrap();
        let blocked = |command: &mut Command| {
            let output = command.arg("/proc/self/status").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let line = text.lines().find(|line| line.starts_with("SigBlk"));
            line.unwrap().to_owned()
        };
        let mut others = SignalMask(mask.0);
        // SAFETY: the mask is whole, and SIGTERM is a signal.
        unsafe { libc::sigaddset(&raw mut others.0, libc::SIGTERM) };
        let without = blocked(mask.apply_to(&mut Command::new("/bin/cat")));
        let with = blocked(others.apply_to(&mut Command::new("/bin/cat")));
        assert_ne!(without, with);
        assert!(with.ends_with("4000"), "{with}");
    }
}
