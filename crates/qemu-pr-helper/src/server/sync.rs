// SPDX-License-Identifier: MIT OR Apache-2.0

//! Synchronization primitives of the server: the standard library's, or shuttle's in its tests.

use std::sync::PoisonError;

#[cfg(not(all(test, shuttle)))]
pub(super) use std::{
    sync::{Mutex, MutexGuard, atomic},
    thread::{Builder, sleep},
};

#[cfg(all(test, shuttle))]
pub(super) use super::shuttle_tests::sync::{Builder, Mutex, MutexGuard, atomic, sleep};

/// Locks a mutex and ignores poisoning: release builds abort on panic, and a panic fails a test
/// anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
