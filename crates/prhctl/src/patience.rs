//! Waiting for the helper: whoever waits for long is told so.
//!
//! Nothing is given up. A helper waits for a device as long as its own limit says, and a command that has
//! been sent cannot be taken back.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, Builder};
use std::time::Duration;

/// How long nothing is said.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does `action`, and has `say` say so, once, if that takes long.
pub(crate) fn wait<T>(say: impl FnOnce() + Send, action: impl FnOnce() -> T) -> T {
    wait_for(PATIENCE, say, action)
}

fn wait_for<T>(patience: Duration, say: impl FnOnce() + Send, action: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (done, watched) = mpsc::channel::<()>();
        let watch = move || {
            if watched.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                say();
            }
        };
        // Without a thread to be had nothing is said, and the command is done all the same.
        let _ = Builder::new().spawn_scoped(scope, watch);
        let result = action();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn who_waits_for_long_is_told_once() {
        for (patience, pause, expected) in [(10_000, 0, 0), (1, 300, 1)] {
            let said = AtomicUsize::new(0);
            let say = || {
                said.fetch_add(1, Ordering::Relaxed);
            };
            let action = || thread::sleep(Duration::from_millis(pause));
            wait_for(Duration::from_millis(patience), say, action);
            assert_eq!(said.load(Ordering::Relaxed), expected);
        }
    }
}
