//! What the engine's threads share and are made of: the standard library's, or what a model has in its place.

use std::sync::PoisonError;

#[cfg(not(all(test, shuttle)))]
pub(super) use std::{
    sync::{Mutex, MutexGuard, atomic},
    thread,
};

#[cfg(all(test, shuttle))]
pub(super) use super::shuttle_tests::sync::{Mutex, MutexGuard, atomic, thread};

/// Locks, also if a thread has panicked with the lock: release builds end then, and in a test the
/// panic itself is the news.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
