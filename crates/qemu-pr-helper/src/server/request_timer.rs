//! Since when a client has been at something that it has not finished: a request, or its answer to the greeting.

use super::sync::atomic::{AtomicU64, Ordering};

const NOTHING: u64 = 0;
const GIVEN_UP: u64 = u64::MAX;

/// Since when a client has been at something, in milliseconds from 1. Nobody has to take the session to find out.
#[derive(Debug)]
pub(super) struct Begun(AtomicU64);

impl Begun {
    /// The client has begun nothing.
    pub(super) fn nothing() -> Self {
        Self(AtomicU64::new(NOTHING))
    }

    /// The client waits with half of something: since `now`, unless it has begun earlier.
    pub(super) fn note(&self, now: u64) {
        self.change(NOTHING, now);
    }

    /// The client has finished what it had begun. False if that came too late.
    pub(super) fn finish(&self) -> bool {
        match self.0.load(Ordering::SeqCst) {
            NOTHING => true,
            GIVEN_UP => false,
            since => self.change(since, NOTHING),
        }
    }

    /// Since when it has been at something, if it has and was not given up.
    pub(super) fn since(&self) -> Option<u64> {
        let since = self.0.load(Ordering::SeqCst);
        (since != NOTHING && since != GIVEN_UP).then_some(since)
    }

    /// Gives up the client that has been at something `since` then. False if it has just finished.
    pub(super) fn give_up(&self, since: u64) -> bool {
        self.change(since, GIVEN_UP)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.0.load(Ordering::SeqCst) == GIVEN_UP
    }

    fn change(&self, from: u64, to: u64) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_finished_in_time_is_not_given_up() {
        let begun = Begun::nothing();
        assert!(begun.finish());
        begun.note(5);
        begun.note(9);
        assert_eq!(begun.since(), Some(5));
        assert!(begun.finish());
        assert!(!begun.give_up(5));
        assert_eq!(begun.since(), None);
    }

    #[test]
    fn what_is_given_up_stays_so() {
        let begun = Begun::nothing();
        begun.note(5);
        assert!(begun.give_up(5));
        begun.note(9);
        assert!(!begun.finish());
        assert!(begun.is_given_up());
        assert_eq!(begun.since(), None);
    }
}
