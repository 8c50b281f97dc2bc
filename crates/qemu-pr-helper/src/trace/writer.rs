//! Records in memory, and the thread that takes them to their target.
//!
//! Whoever reports an event puts its record behind the others and goes on. Where there is no room, because
//! the target is slow or takes nothing, the record is dropped and counted; a mark in the trace says how
//! many are missing there.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::target::{Target, Written};
use crate::logging::Seldom;

/// Bytes that are kept at most while others are being written.
const MOST_KEPT: usize = 1024 * 1024;

/// From so many bytes on they are written at once.
const ENOUGH: usize = 64 * 1024;

/// Else they are written after this time, together with what comes meanwhile.
const DELAY: Duration = Duration::from_millis(10);

/// How much longer than its patience the thread may take to see that it is over, and to say what is missing.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// The deepest call writes a log line.
const STACK_SIZE: usize = 128 * 1024;

/// Makes the mark for so many missing records.
type Mark = fn(u64) -> Vec<u8>;

thread_local! {
    /// Memory for the record that this thread makes, so that each does not take its own.
    static RECORD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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

/// Records that wait, oldest first, and how many came after them and were dropped.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Kept {
    batch: Batch,
    /// The thread has taken records, and has not written them all.
    is_writing: bool,
    /// Somebody waits until they are written.
    is_urgent: bool,
    /// Nothing comes any more; and what is there is given up if it cannot be written by then.
    end: Option<Instant>,
    is_written: bool,
}

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    changed: Condvar,
    /// Until the thread has it.
    target: Mutex<Option<Target>>,
    mark: Mark,
}

/// Takes records, and has them written.
#[derive(Debug)]
pub struct Writer(Arc<Shared>);

impl Writer {
    pub(super) fn new(target: Target, mark: Mark) -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::default(),
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

    /// Puts a record behind the others, or drops it.
    pub(super) fn put(&self, record: &[u8]) {
        let mut kept = lock(&self.0.kept);
        let batch = &mut kept.batch;
        let before = batch.bytes.len();
        let after = before.saturating_add(record.len());
        if after > MOST_KEPT {
            batch.dropped = batch.dropped.saturating_add(1);
            return;
        }
        batch.bytes.extend_from_slice(record);
        batch.ends.push(after);
        drop(kept);
        if before == 0 || before < ENOUGH && after >= ENOUGH {
            self.0.changed.notify_all();
        }
    }

    /// Waits until what is kept now is written, but no longer than `patience`. There has to be a thread.
    pub(super) fn flush(&self, patience: Duration) {
        let mut kept = lock(&self.0.kept);
        kept.is_urgent = true;
        self.0.changed.notify_all();
        let is_unwritten = |kept: &mut Kept| kept.is_writing || !kept.batch.ends.is_empty();
        let waited = self
            .0
            .changed
            .wait_timeout_while(kept, patience, is_unwritten);
        let (mut kept, _) = waited.unwrap_or_else(PoisonError::into_inner);
        kept.is_urgent = false;
    }

    /// Writes what is kept, and gives up after `patience`.
    pub(super) fn finish(&self, patience: Duration) {
        lock(&self.0.kept).end = Instant::now().checked_add(patience);
        self.0.changed.notify_all();
        let target = lock(&self.0.target).take();
        if let Some(target) = target {
            // The helper has not come so far that there was a thread, or that it had begun.
            return self.0.write_to(target);
        }
        let kept = lock(&self.0.kept);
        let is_unwritten = |kept: &mut Kept| !kept.is_written;
        let waited = self.0.changed.wait_timeout_while(
            kept,
            patience.saturating_add(AFTERWARDS),
            is_unwritten,
        );
        drop(waited);
    }
}

impl Shared {
    /// What the thread does: wait for records, and write them, until there are no more to come.
    fn write_to(&self, target: Target) {
        let mut pen = Pen {
            target,
            mark: self.mark,
            owed: 0,
            remark: Seldom::new(),
        };
        let gives_up = || {
            lock(&self.kept)
                .end
                .is_some_and(|end| Instant::now() >= end)
        };
        let mut batch = Batch::default();
        while self.next(&mut batch) {
            pen.write(&batch, &gives_up);
            batch.bytes.clear();
            batch.ends.clear();
            batch.dropped = 0;
            lock(&self.kept).is_writing = false;
            self.changed.notify_all();
        }
        pen.put_down(&gives_up);
        lock(&self.kept).is_written = true;
        self.changed.notify_all();
    }

    /// Waits for records, and puts them into `batch`, which is empty. False if there are no more.
    fn next(&self, batch: &mut Batch) -> bool {
        let nothing = |kept: &mut Kept| kept.batch.ends.is_empty() && kept.end.is_none();
        let kept = self.changed.wait_while(lock(&self.kept), nothing);
        let kept = kept.unwrap_or_else(PoisonError::into_inner);
        let few = |kept: &mut Kept| {
            kept.batch.bytes.len() < ENOUGH && kept.end.is_none() && !kept.is_urgent
        };
        let waited = self.changed.wait_timeout_while(kept, DELAY, few);
        let (mut kept, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut kept.batch, batch);
        kept.is_writing = true;
        !batch.ends.is_empty()
    }
}

/// Writes batches, and knows what is missing between them.
#[derive(Debug)]
struct Pen {
    target: Target,
    mark: Mark,
    /// So many records are missing, and no mark says so yet.
    owed: u64,
    remark: Seldom,
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
        if missing > 0 && self.remark.is_due() {
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
    use std::fs;
    use std::path::Path;

    fn mark(count: u64) -> Vec<u8> {
        format!("-{count}\n").into_bytes()
    }

    fn writer(path: &Path) -> Writer {
        Writer::new(Target::create(path).unwrap(), mark)
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
            writer.put(b"one\n");
            if has_thread {
                writer.start().unwrap();
            }
            writer.put(b"two\n");
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
            writer.put(&line.as_bytes()[line.len() - 4..]);
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
        (0..many).for_each(|_| writer.put(&line));
        writer.start().unwrap();
        writer.finish(Duration::from_secs(10));
        let text = fs::read_to_string(&path).unwrap();
        let (written, missing) = account(&text);
        assert_eq!(written, 1_048_576 / 1000);
        assert_eq!(written + missing, many);
        assert!(text.ends_with(&format!("-{missing}\n")));
    }

    #[test]
    fn a_full_disk_loses_whole_records_and_says_how_many() {
        let writer = writer(Path::new("/dev/full"));
        writer.put(b"lost\n");
        writer.start().unwrap();
        writer.finish(Duration::from_secs(10));
        assert!(lock(&writer.0.kept).is_written);
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
        (0..2000).for_each(|_| writer.put(&line));
        writer.finish(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
        // And the thread has said what is missing.
        assert!(lock(&writer.0.kept).is_written);
    }
}
