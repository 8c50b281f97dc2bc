// SPDX-License-Identifier: MIT OR Apache-2.0

//! Locks and threads of shuttle, with additional checks and failures.

use std::any::type_name;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{LockResult, TryLockError};
use std::time::Duration;

use shuttle::rand::{Rng as _, thread_rng};

pub(in crate::server) use shuttle::sync::{MutexGuard, atomic};

use crate::server::session::Session;

/// A mutex. It asserts that the mutex of a session is never contended.
#[derive(Debug)]
pub(in crate::server) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(in crate::server) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(in crate::server) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        // By name, because a generic type has no other identity.
        if type_name::<T>() != type_name::<Session>() {
            return self.0.lock();
        }
        match self.0.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(error)) => Err(error),
            Err(TryLockError::WouldBlock) => panic!("two threads use one session"),
        }
    }
}

thread_local! {
    // shuttle runs all threads of a test in one thread of the system.
    static FAILURE: Cell<SpawnFailure> = const { Cell::new(SpawnFailure::Never) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// When the start of a thread fails.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) enum SpawnFailure {
    Never,
    Sometimes,
    Always,
}

/// Panic payload of a thread that ends with the test.
struct TestEnd;

/// Sets when the start of a thread fails from now on.
pub(in crate::server) fn fail_spawn(failure: SpawnFailure) {
    FAILURE.set(failure);
}

/// Returns the number of threads.
pub(in crate::server) fn thread_count() -> usize {
    COUNT.get()
}

/// Ends the calling thread.
pub(in crate::server) fn end_thread() -> ! {
    resume_unwind(Box::new(TestEnd))
}

/// Replacement of [`std::thread::Builder`].
#[derive(Debug)]
pub(in crate::server) struct Builder(shuttle::thread::Builder);

impl Builder {
    pub(in crate::server) fn new() -> Self {
        Self(shuttle::thread::Builder::new())
    }

    pub(in crate::server) fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    pub(in crate::server) fn stack_size(self, size: usize) -> Self {
        Self(self.0.stack_size(size))
    }

    pub(in crate::server) fn spawn(self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let fails = match FAILURE.get() {
            SpawnFailure::Never => false,
            SpawnFailure::Sometimes => thread_rng().r#gen(),
            SpawnFailure::Always => true,
        };
        if fails {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        COUNT.set(COUNT.get() + 1);
        self.0.spawn(|| {
            let result = catch_unwind(AssertUnwindSafe(work));
            COUNT.set(COUNT.get() - 1);
            if let Err(reason) = result
                && !reason.is::<TestEnd>()
            {
                resume_unwind(reason);
            }
        })?;
        Ok(())
    }
}

/// Lets other threads run, because time is not modeled.
pub(in crate::server) fn sleep(_: Duration) {
    shuttle::thread::yield_now();
}
