// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writer thread: it moves records from the buffer to the output.
//!
//! A thread that records an event adds the record to the buffer and continues. If the buffer is
//! full, because the output is slow or blocked, the record is dropped and counted. A drop marker in
//! the trace then states how many records are missing in its place.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::buffer::{Batch, BatchReader, ShardedBuffer, lock};
use super::output::{Output, WriteResult};
use crate::logging::RateLimit;

/// Time after which buffered records are written, unless the buffer reaches its high-water mark
/// first.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// Time for the writer thread, after its deadline, to log how many records are missing.
///
/// On a busy host the thread may not run for a second. With the 5 seconds of [`crate::startup`],
/// the shutdown stays below the 10 seconds after which libvirt kills a helper.
const FINISH_SLACK: Duration = Duration::from_secs(2);

/// Stack size of the writer thread. Its deepest call writes a log line.
const STACK_SIZE: usize = 128 * 1024;

/// Value of [`WriterState::written`] after the last batch.
const FINISHED: u64 = u64::MAX;

thread_local! {
    /// Memory for the record that this thread formats, so that a record needs no allocation.
    static RECORD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Returns the time for a record, in nanoseconds of the monotonic clock, which QEMU uses too.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Calls `format` with an empty buffer for a record.
pub(super) fn with_record<T>(format: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    RECORD.with(|record| match record.try_borrow_mut() {
        Ok(mut record) => {
            record.clear();
            format(&mut record)
        }
        // This call is inside another one, which uses the buffer of the thread.
        Err(_) => format(&mut Vec::new()),
    })
}

#[derive(Debug, Default)]
struct WriterState {
    /// Set to write without waiting for the [`FLUSH_INTERVAL`].
    is_urgent: bool,
    /// Number of batches that the writer has started to take from the buffer.
    taken: u64,
    /// Number of batches that it has written, or [`FINISHED`].
    written: u64,
    /// Time at which the writer gives up a blocked output. If set, no more records are expected.
    deadline: Option<Instant>,
}

/// Buffer for records, and the thread that writes them.
#[derive(Debug)]
pub(super) struct Writer {
    buffer: ShardedBuffer,
    /// Set while the thread is awake or has been woken, so that `push` need not wake it.
    is_pending: AtomicBool,
    state: Mutex<WriterState>,
    changed: Condvar,
    /// Output, until the thread takes it.
    output: Mutex<Option<Output>>,
    /// Formats a drop marker for a number of records.
    drop_marker: fn(u64) -> Vec<u8>,
}

impl Writer {
    pub(super) fn new(output: Output, drop_marker: fn(u64) -> Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            buffer: ShardedBuffer::default(),
            is_pending: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            output: Mutex::new(Some(output)),
            drop_marker,
        })
    }

    /// Starts the thread.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        let writer = Arc::clone(self);
        // The thread takes the output itself. If it does not start, `finish` finds the output.
        let run = move || {
            let output = lock(&writer.output).take();
            if let Some(output) = output {
                writer.write_all(output);
            }
        };
        thread::Builder::new()
            .name("pr-trace".into())
            .stack_size(STACK_SIZE)
            .spawn(run)
            .map(drop)
    }

    /// Adds a record made at `time` (see [`now`]), or drops it if the buffer is full.
    pub(super) fn push(&self, time: u64, record: &[u8]) {
        let is_urgent = self.buffer.push(time, record);
        let was_pending =
            self.is_pending.load(Ordering::Relaxed) || self.is_pending.swap(true, Ordering::AcqRel);
        if !was_pending || is_urgent {
            lock(&self.state).is_urgent |= is_urgent;
            self.changed.notify_all();
        }
    }

    /// Waits until all buffered records are written, for at most `timeout`. The thread must run.
    pub(super) fn flush(&self, timeout: Duration) {
        let mut state = lock(&self.state);
        state.is_urgent = true;
        // The batch that is being written may have been taken before the last record was added.
        let batch = state.taken.saturating_add(1);
        drop(state);
        self.changed.notify_all();
        self.wait_until_written(batch, timeout);
    }

    /// Writes all buffered records, and gives up after `timeout`.
    pub(super) fn finish(&self, timeout: Duration) {
        lock(&self.state).deadline = Instant::now().checked_add(timeout);
        self.changed.notify_all();
        let output = lock(&self.output).take();
        match output {
            // The thread was not started, or has not run yet.
            Some(output) => self.write_all(output),
            None => self.wait_until_written(FINISHED, timeout.saturating_add(FINISH_SLACK)),
        }
    }

    fn wait_until_written(&self, batch: u64, timeout: Duration) {
        let is_unwritten = |state: &mut WriterState| state.written < batch;
        let state = lock(&self.state);
        let waited = self
            .changed
            .wait_timeout_while(state, timeout, is_unwritten);
        drop(waited);
    }

    /// Writes records to `output` until no more are expected. The thread does nothing else.
    fn write_all(&self, output: Output) {
        let mut writer = RecordWriter {
            output,
            drop_marker: self.drop_marker,
            unreported_drops: 0,
            warning: RateLimit::new(),
        };
        let is_past = |deadline| Instant::now() >= deadline;
        let canceled = || lock(&self.state).deadline.is_some_and(is_past);
        let mut reader = BatchReader::default();
        while let Some(batch) = self.next_batch(&mut reader) {
            writer.write(batch, &canceled);
            let mut state = lock(&self.state);
            state.written = state.taken;
            drop(state);
            self.changed.notify_all();
        }
        writer.finish(&canceled);
        lock(&self.state).written = FINISHED;
        self.changed.notify_all();
    }

    /// Waits for records and takes them. Returns `None` after the last ones.
    fn next_batch<'a>(&self, reader: &'a mut BatchReader) -> Option<&'a Batch> {
        let can_wait = |state: &mut WriterState| !state.is_urgent && state.deadline.is_none();
        let is_idle =
            |state: &mut WriterState| can_wait(state) && !self.is_pending.load(Ordering::Acquire);
        let state = self.changed.wait_while(lock(&self.state), is_idle);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(state, FLUSH_INTERVAL, can_wait);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_last = state.deadline.is_some();
        state.is_urgent = false;
        state.taken = state.taken.saturating_add(1);
        drop(state);
        // The flag is cleared before the records are taken, so that a record added after that sets
        // it again.
        self.is_pending.swap(false, Ordering::AcqRel);
        let until = if is_last { u64::MAX } else { now() };
        let (batch, has_later) = reader.take(&self.buffer, until);
        if has_later {
            self.is_pending.store(true, Ordering::Release);
        }
        (!is_last || !batch.is_empty()).then_some(batch)
    }
}

/// Writes batches, and drop markers between them.
#[derive(Debug)]
struct RecordWriter {
    output: Output,
    drop_marker: fn(u64) -> Vec<u8>,
    /// Number of dropped records that no drop marker reports yet.
    unreported_drops: u64,
    warning: RateLimit,
}

impl RecordWriter {
    fn write(&mut self, batch: &Batch, canceled: &dyn Fn() -> bool) {
        // The drop marker must precede the batch: if it cannot be written, neither is the batch.
        let WriteResult { records, error } = match self.write_drop_marker(canceled) {
            Ok(()) => self.output.write(batch, canceled),
            Err(failed) => failed,
        };
        let unwritten = batch.len().saturating_sub(records);
        let unwritten = u64::try_from(unwritten).unwrap_or(u64::MAX);
        let dropped = unwritten.saturating_add(batch.dropped);
        self.unreported_drops = self.unreported_drops.saturating_add(dropped);
        if dropped > 0 && self.warning.should_log() {
            let too_slow = || "output too slow".to_owned();
            let cause = error.map_or_else(too_slow, |error| error.to_string());
            log::warn!("trace dropped {dropped} events: {cause}");
        }
    }

    /// Writes a drop marker, if records are missing. Returns the result of the write if it fails.
    fn write_drop_marker(&mut self, canceled: &dyn Fn() -> bool) -> Result<(), WriteResult> {
        if self.unreported_drops == 0 {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.push(0, &(self.drop_marker)(self.unreported_drops));
        let result = self.output.write(&batch, canceled);
        if result.records == 0 {
            return Err(result);
        }
        self.unreported_drops = 0;
        Ok(())
    }

    fn finish(mut self, canceled: &dyn Fn() -> bool) {
        if self.write_drop_marker(canceled).is_err() {
            let count = self.unreported_drops;
            log::warn!("trace dropped its last {count} events: output not writable at exit");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::buffer::SHARD_CAPACITY;
    use std::fs;
    use std::path::Path;

    fn writer(path: &Path) -> Arc<Writer> {
        let drop_marker = |count| format!("-{count}\n").into_bytes();
        Writer::new(Output::create(path).unwrap(), drop_marker)
    }

    #[test]
    fn records_are_in_order_with_and_without_thread() {
        let dir = tempfile::tempdir().unwrap();
        for has_thread in [false, true] {
            let path = dir.path().join("trace");
            let writer = writer(&path);
            writer.push(now(), b"one\n");
            if has_thread {
                writer.start().unwrap();
            }
            writer.push(now(), b"two\n");
            writer.finish(Duration::from_secs(10));
            assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        }
    }

    #[test]
    fn flush_writes_all_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let writer = writer(&path);
        writer.start().unwrap();
        for line in ["one\n", "one\ntwo\n"] {
            writer.push(now(), &line.as_bytes()[line.len() - 4..]);
            writer.flush(Duration::from_secs(10));
            assert_eq!(fs::read_to_string(&path).unwrap(), line);
        }
    }

    #[test]
    fn full_buffer_is_reported_by_a_drop_marker() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let writer = writer(&path);
        let line = "x".repeat(999) + "\n";
        (0..3000).for_each(|_| writer.push(now(), line.as_bytes()));
        writer.start().unwrap();
        writer.finish(Duration::from_secs(10));
        let stored = SHARD_CAPACITY / line.len();
        let expected = format!("{}-{}\n", line.repeat(stored), 3000 - stored);
        assert!(fs::read_to_string(&path).unwrap() == expected);
    }

    #[test]
    fn full_disk_does_not_stop_the_thread() {
        let writer = writer(Path::new("/dev/full"));
        writer.push(now(), b"lost\n");
        writer.start().unwrap();
        writer.finish(Duration::from_secs(10));
        assert_eq!(lock(&writer.state).written, FINISHED);
    }

    #[test]
    fn pipe_without_reader_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let writer = writer(&path);
        writer.start().unwrap();
        let start = Instant::now();
        (0..2000).for_each(|_| writer.push(now(), &[b'x'; 1000]));
        writer.finish(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
        // The thread has ended, so it has logged what is missing.
        assert_eq!(lock(&writer.state).written, FINISHED);
    }
}
