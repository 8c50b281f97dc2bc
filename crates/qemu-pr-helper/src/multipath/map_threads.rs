// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads of the helper that wait for the replies of maps. A thread that hangs in the kernel
//! cannot be canceled: it ends when the kernel replies, or with the process. All others are used
//! again.

use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

type Task = Box<dyn FnOnce() + Send>;

/// Maximum number of threads that wait for their next task.
const MAX_IDLE: usize = 4;

/// Reason why a task has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskError {
    /// No thread can be started. The task was not executed.
    NotStarted,
    /// The task takes longer than its time limit, and continues.
    Timeout,
}

/// Threads that wait for a task. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct MapThreads(Arc<Mutex<Vec<Sender<Task>>>>);

impl MapThreads {
    /// Executes `task` in a thread of its own, and waits for the result for at most `timeout`.
    pub(super) fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        let (sender, receiver) = channel();
        // If the result comes too late, it is dropped.
        let task = Box::new(move || drop(sender.send(task())));
        let idle = self.idle().pop();
        let thread = idle.or_else(start).ok_or(TaskError::NotStarted)?;
        let sent: Result<(), SendError<Task>> = thread.send(task);
        sent.map_err(|_| TaskError::NotStarted)?;
        let result = receiver.recv_timeout(timeout);
        let result = result.map_err(|_| TaskError::Timeout)?;
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(thread);
        }
        Ok(result)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender<Task>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread, which ends when the returned sender is dropped.
fn start() -> Option<Sender<Task>> {
    let (sender, tasks) = channel::<Task>();
    let run = move || tasks.into_iter().for_each(|task| task());
    let started = thread::Builder::new().spawn(run);
    started.ok().map(|_| sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn thread_is_used_again() {
        let threads = MapThreads::default();
        let run = || threads.run(LONG, || thread::current().id());
        assert_eq!(run().unwrap(), run().unwrap());
    }

    #[test]
    fn thread_that_hangs_is_not_used_again() {
        let threads = MapThreads::default();
        let (end, wait) = channel::<()>();
        let hanging = threads.run(Duration::ZERO, move || wait.recv().is_ok());
        assert_eq!(hanging, Err(TaskError::Timeout));
        assert_eq!(threads.run(LONG, || 5), Ok(5));
        drop(end);
    }
}
