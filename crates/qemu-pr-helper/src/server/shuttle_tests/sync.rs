//! Locks and threads that a scheduler of the model's own runs, one at a time.

use std::any::type_name;
use std::sync::{LockResult, TryLockError};

pub(in crate::server) use shuttle::sync::{MutexGuard, atomic};

use crate::server::session::Session;

/// A lock. That of a session is never waited for.
#[derive(Debug)]
pub(in crate::server) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(in crate::server) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(in crate::server) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        // By name: a type of which nothing is known has no other identity.
        if type_name::<T>() != type_name::<Session>() {
            return self.0.lock();
        }
        match self.0.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(error)) => Err(error),
            Err(TryLockError::WouldBlock) => panic!("two threads have one session"),
        }
    }
}

/// Threads, which can be refused.
pub(in crate::server) mod thread {
    use std::cell::Cell;
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::time::Duration;

    use shuttle::rand::{Rng as _, thread_rng};

    thread_local! {
        /// All threads of a model are one thread of the system.
        static REFUSED: Cell<Refused> = const { Cell::new(Refused::Never) };
        static PRESENT: Cell<usize> = const { Cell::new(0) };
    }

    /// When no thread can be started.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::server) enum Refused {
        Never,
        Sometimes,
        Always,
    }

    /// What a thread unwinds with that ends because the model does.
    struct Over;

    /// From now on.
    pub(in crate::server) fn refuse(refused: Refused) {
        REFUSED.set(refused);
    }

    /// How many threads there are.
    pub(in crate::server) fn present() -> usize {
        PRESENT.get()
    }

    /// Ends the calling thread, from wherever it is.
    pub(in crate::server) fn end() -> ! {
        resume_unwind(Box::new(Over))
    }

    /// What the engine uses of [`std::thread::Builder`].
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

        pub(in crate::server) fn spawn(
            self,
            work: impl FnOnce() + Send + 'static,
        ) -> io::Result<()> {
            let is_refused = match REFUSED.get() {
                Refused::Never => false,
                Refused::Sometimes => thread_rng().r#gen(),
                Refused::Always => true,
            };
            if is_refused {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            PRESENT.set(PRESENT.get() + 1);
            self.0.spawn(|| {
                let result = catch_unwind(AssertUnwindSafe(work));
                PRESENT.set(PRESENT.get() - 1);
                if let Err(reason) = result
                    && !reason.is::<Over>()
                {
                    resume_unwind(reason);
                }
            })?;
            Ok(())
        }
    }

    /// Lets others run. Time is not modelled.
    pub(in crate::server) fn sleep(_: Duration) {
        shuttle::thread::yield_now();
    }
}
