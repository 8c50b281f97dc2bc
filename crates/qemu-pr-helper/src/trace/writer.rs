//! The thread that takes records from memory to their target.
//!
//! Whoever reports an event puts its record behind the others and goes on. Where there is no room, because
//! the target is slow or takes nothing, the record is dropped and counted; a mark in the trace says how
//! many are missing there.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::buffer::{Batch, Kept, Put, Spare};
use super::output::{Output, Written};
use crate::logging::RateLimit;

/// How long records are kept, unless there are enough before.
const DELAY: Duration = Duration::from_millis(10);

/// Time that the thread has after its deadline, to log how many records are missing. On a busy host the
/// thread may not run for a second; with the 5 seconds of [`crate::startup`] the end stays below the 10
/// seconds after which libvirt kills a helper.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// The deepest call writes a log line.
const STACK_SIZE: usize = 128 * 1024;

/// Makes the mark for so many missing records.
type Mark = fn(u64) -> Vec<u8>;

thread_local! {
    /// Memory for the record that this thread makes, so that each does not take its own.
    static RECORD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The time of a record, in nanoseconds of the clock that QEMU uses: it does not jump.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// Has a record made in empty memory.
pub(super) fn with_record<T>(make: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    RECORD.with(|record| match record.try_borrow_mut() {
        Ok(mut record) => {
            record.clear();
            make(&mut record)
        }
        // This thread makes one already.
        Err(_) => make(&mut Vec::new()),
    })
}

#[derive(Debug, Default)]
struct State {
    /// There is so much that it should be written now.
    is_enough: bool,
    /// How many times the thread has begun to write what there was, and how many times it was done.
    begun: u64,
    done: u64,
    /// Somebody waits until it is done so many times.
    awaited: u64,
    /// Nothing comes any more; and what is there is given up if it cannot be written by then.
    end: Option<Instant>,
    is_written: bool,
}

#[derive(Debug)]
struct Shared {
    kept: Kept,
    /// There may be something, and the thread knows.
    is_awake: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// Until the thread has it.
    target: Mutex<Option<Output>>,
    mark: Mark,
}

/// Takes records, and has them written.
#[derive(Debug)]
pub struct Writer(Arc<Shared>);

impl Writer {
    pub(super) fn new(target: Output, mark: Mark) -> Self {
        Self(Arc::new(Shared {
            kept: Kept::default(),
            is_awake: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            target: Mutex::new(Some(target)),
            mark,
        }))
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// There is none to be had.
    pub(super) fn start(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        // It takes the target itself: where there is no thread, that stays for `finish`.
        let write = move || {
            let target = lock(&shared.target).take();
            if let Some(target) = target {
                shared.write_to(target);
            }
        };
        thread::Builder::new()
            .name("pr-trace".into())
            .stack_size(STACK_SIZE)
            .spawn(write)?;
        Ok(())
    }

    /// Puts a record that was made at `time` ([`now`]) to the others, or drops it.
    pub(super) fn put(&self, time: u64, record: &[u8]) {
        let put = self.0.kept.put(time, record);
        let was_awake =
            self.0.is_awake.load(Ordering::Relaxed) || self.0.is_awake.swap(true, Ordering::AcqRel);
        if !was_awake || put == Put::Enough {
            lock(&self.0.state).is_enough |= put == Put::Enough;
            self.0.changed.notify_all();
        }
    }

    /// Waits until what is kept now is written, but no longer than `patience`. There has to be a thread.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = lock(&self.0.state);
        // What is being written now may have been taken before.
        let awaited = state.begun.saturating_add(1);
        state.awaited = awaited;
        self.0.changed.notify_all();
        let is_unwritten = |state: &mut State| state.done < awaited;
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, patience, is_unwritten);
        drop(waited);
    }

    /// Writes what is kept, and gives up after `patience`.
    pub(super) fn finish(&self, patience: Duration) {
        lock(&self.0.state).end = Instant::now().checked_add(patience);
        self.0.changed.notify_all();
        let target = lock(&self.0.target).take();
        if let Some(target) = target {
            // The helper has not come so far that there was a thread, or that it had begun.
            return self.0.write_to(target);
        }
        let state = lock(&self.0.state);
        let is_unwritten = |state: &mut State| !state.is_written;
        let waited = self.0.changed.wait_timeout_while(
            state,
            patience.saturating_add(AFTERWARDS),
            is_unwritten,
        );
        drop(waited);
    }
}

impl Shared {
    /// What the thread does: wait for records, and write them, until there are no more to come.
    fn write_to(&self, target: Output) {
        let mut pen = Pen {
            target,
            mark: self.mark,
            owed: 0,
            remark: RateLimit::new(),
        };
        let gives_up = || {
            lock(&self.state)
                .end
                .is_some_and(|end| Instant::now() >= end)
        };
        let mut spare = Spare::default();
        while let Some(batch) = self.next(&mut spare) {
            pen.write(&batch, &gives_up);
            spare.put(batch);
            let mut state = lock(&self.state);
            state.done = state.begun;
            drop(state);
            self.changed.notify_all();
        }
        pen.put_down(&gives_up);
        lock(&self.state).is_written = true;
        self.changed.notify_all();
    }

    /// Waits for records, and takes them. `None` if there are no more to come.
    fn next(&self, spare: &mut Spare) -> Option<Batch> {
        let is_awake = || self.is_awake.load(Ordering::Acquire);
        let is_due = |state: &State| state.end.is_some() || state.awaited > state.done;
        let nothing = |state: &mut State| !is_due(state) && !is_awake();
        let state = self.changed.wait_while(lock(&self.state), nothing);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let few = |state: &mut State| !is_due(state) && !state.is_enough;
        let waited = self.changed.wait_timeout_while(state, DELAY, few);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_over = state.end.is_some();
        state.is_enough = false;
        state.begun = state.begun.saturating_add(1);
        drop(state);
        // Before they are taken: whoever puts one after that wakes the thread again.
        self.is_awake.swap(false, Ordering::AcqRel);
        let until = if is_over { u64::MAX } else { now() };
        let (batch, is_rest) = self.kept.take(until, spare);
        if is_rest {
            self.is_awake.store(true, Ordering::Release);
        }
        (!is_over || !batch.is_empty()).then_some(batch)
    }
}

/// Writes batches, and knows what is missing between them.
#[derive(Debug)]
struct Pen {
    target: Output,
    mark: Mark,
    /// So many records are missing, and no mark says so yet.
    owed: u64,
    remark: RateLimit,
}

impl Pen {
    fn write(&mut self, batch: &Batch, gives_up: &dyn Fn() -> bool) {
        // Where the mark has no room nothing has, or it would stand behind what it should stand before.
        let written = match self.mark_missing(gives_up) {
            Ok(()) => self.target.write(&batch.bytes, &batch.ends, gives_up),
            Err(written) => written,
        };
        let Written { records, error } = written;
        let lost = batch.ends.len().saturating_sub(records);
        let lost = u64::try_from(lost).unwrap_or(u64::MAX);
        let missing = lost.saturating_add(batch.dropped);
        self.owed = self.owed.saturating_add(missing);
        if missing > 0 && self.remark.should_log() {
            let reason = error.map_or_else(
                || "they come faster than they can be written".to_owned(),
                |error| error.to_string(),
            );
            log::warn!("the trace lacks {missing} events: {reason}");
        }
    }

    /// Marks what is missing, if anything is.
    ///
    /// # Errors
    ///
    /// Nothing was written.
    fn mark_missing(&mut self, gives_up: &dyn Fn() -> bool) -> Result<(), Written> {
        if self.owed == 0 {
            return Ok(());
        }
        let mark = (self.mark)(self.owed);
        let written = self.target.write(&mark, &[mark.len()], gives_up);
        if written.records == 0 {
            return Err(written);
        }
        self.owed = 0;
        Ok(())
    }

    fn put_down(mut self, gives_up: &dyn Fn() -> bool) {
        if self.mark_missing(gives_up).is_err() {
            log::warn!("the trace lacks its last {} events", self.owed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::buffer::MOST_KEPT;
    use std::fs;
    use std::path::Path;

    fn mark(count: u64) -> Vec<u8> {
        format!("-{count}\n").into_bytes()
    }

    fn writer(path: &Path) -> Writer {
        Writer::new(Output::create(path).unwrap(), mark)
    }

    /// The numbers in a trace: how many lines, and how many the marks say are missing.
    fn account(text: &str) -> (u64, u64) {
        text.lines().fold((0, 0), |(written, missing), line| {
            match line.strip_prefix('-') {
                Some(count) => (written, missing + count.parse::<u64>().unwrap()),
                None => (written + 1, missing),
            }
        })
    }

    #[test]
    fn everything_is_written_in_order_with_a_thread_and_without() {
        let folder = tempfile::tempdir().unwrap();
        for has_thread in [false, true] {
            let path = folder.path().join("trace");
            let writer = writer(&path);
            writer.put(now(), b"one\n");
            if has_thread {
                writer.start().unwrap();
            }
            writer.put(now(), b"two\n");
            writer.finish(Duration::from_secs(10));
            assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        }
    }

    #[test]
    fn what_is_flushed_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let writer = writer(&path);
        writer.start().unwrap();
        for line in ["one\n", "one\ntwo\n"] {
            writer.put(now(), &line.as_bytes()[line.len() - 4..]);
            writer.flush(Duration::from_secs(10));
            assert_eq!(fs::read_to_string(&path).unwrap(), line);
        }
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let writer = writer(&path);
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let many = 3000;
        (0..many).for_each(|_| writer.put(now(), &line));
        writer.start().unwrap();
        writer.finish(Duration::from_secs(10));
        let text = fs::read_to_string(&path).unwrap();
        let (written, missing) = account(&text);
        assert_eq!(written, u64::try_from(MOST_KEPT).unwrap() / 1000);
        assert_eq!(written + missing, many);
        assert!(text.ends_with(&format!("-{missing}\n")));
    }

    #[test]
    fn a_full_disk_loses_whole_records_and_says_how_many() {
        let writer = writer(Path::new("/dev/full"));
        writer.put(now(), b"lost\n");
        writer.start().unwrap();
        writer.finish(Duration::from_secs(10));
        assert!(lock(&writer.0.state).is_written);
    }

    #[test]
    fn a_pipe_without_reader_delays_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let writer = writer(&path);
        writer.start().unwrap();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let start = Instant::now();
        (0..2000).for_each(|_| writer.put(now(), &line));
        writer.finish(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
        // And the thread has said what is missing.
        assert!(lock(&writer.0.state).is_written);
    }
}
