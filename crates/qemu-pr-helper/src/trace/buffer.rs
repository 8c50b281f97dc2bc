//! Records in memory, until somebody takes them to where they belong.
//!
//! Threads that report at the same time put their records into different shards, so that none waits for another.
//! Whoever takes them gets them in the order of their times.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many shards there are.
const SHARDS: usize = 8;

/// Bytes that a shard keeps at most.
pub(super) const MOST_KEPT: usize = 512 * 1024;

/// From so many bytes in a shard on, they should be taken: early enough for the rest to last until they are, and
/// not so early that threads that report have to make way all the time.
const ENOUGH: usize = MOST_KEPT / 2;

thread_local! {
    /// The shard of this thread.
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Records, oldest first.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where each record ends.
    pub(super) ends: Vec<usize>,
    /// When each was made.
    times: Vec<u64>,
    /// How many more there were, that had no room.
    pub(super) dropped: u64,
}

impl Batch {
    fn put(&mut self, time: u64, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
        self.times.push(time);
    }

    /// The record at this place, and its time.
    fn record(&self, place: usize) -> Option<(u64, &[u8])> {
        let start = place
            .checked_sub(1)
            .map_or(Some(0), |before| self.ends.get(before).copied());
        let bytes = self.bytes.get(start?..*self.ends.get(place)?)?;
        Some((*self.times.get(place)?, bytes))
    }

    /// Takes those that were made until `time`, and what was dropped, and leaves those from the first later
    /// one on, in the memory of an `empty` one.
    fn split(&mut self, time: u64, empty: Self) -> Self {
        let later = self.times.iter().position(|made| *made > time);
        let mut rest = empty;
        for place in later.into_iter().flat_map(|first| first..self.times.len()) {
            if let Some((time, record)) = self.record(place) {
                rest.put(time, record);
            }
        }
        if let Some(first) = later {
            self.times.truncate(first);
            self.ends.truncate(first);
            self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
        }
        std::mem::replace(self, rest)
    }

    /// Empties it, and keeps its memory.
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.times.clear();
        self.dropped = 0;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.dropped == 0
    }
}

/// What has come of a record that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is kept.
    Kept,
    /// It is kept, and there are so many that they should be taken.
    Enough,
    /// There was no room.
    Dropped,
}

/// Memory for records that whoever takes them has and gives back, so that it need not be asked for each time.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Batch>);

impl Spare {
    fn get(&mut self) -> Batch {
        self.0.pop().unwrap_or_default()
    }

    /// Gives back what is not needed any more.
    pub(super) fn put(&mut self, mut batch: Batch) {
        batch.clear();
        self.0.push(batch);
    }
}

/// All shards.
#[derive(Debug, Default)]
pub(super) struct Kept([Mutex<Batch>; SHARDS]);

impl Kept {
    /// Puts a record that was made at `time`, by a clock that does not go back.
    pub(super) fn put(&self, time: u64, record: &[u8]) -> Put {
        let Some(shard) = self.0.get(shard()) else {
            return Put::Dropped;
        };
        let mut batch = lock(shard);
        let before = batch.bytes.len();
        let after = before.saturating_add(record.len());
        if after > MOST_KEPT {
            batch.dropped = batch.dropped.saturating_add(1);
            return Put::Dropped;
        }
        batch.put(time, record);
        match before < ENOUGH && after >= ENOUGH {
            true => Put::Enough,
            false => Put::Kept,
        }
    }

    /// Takes all records that were made until `now`, the time of the call.
    ///
    /// Those that were put while this looks at one shard after another stay: something could be among them that
    /// came of a record in a shard that was looked at before.
    /// Says whether some have stayed.
    pub(super) fn take(&self, now: u64, spare: &mut Spare) -> (Batch, bool) {
        let mut parts = Vec::new();
        let mut is_rest = false;
        for shard in &self.0 {
            let empty = spare.get();
            let mut batch = lock(shard);
            let part = batch.split(now, empty);
            is_rest |= !batch.is_empty();
            drop(batch);
            match part.is_empty() {
                true => spare.put(part),
                false => parts.push(part),
            }
        }
        if parts.len() < 2 {
            return (parts.pop().unwrap_or_else(|| spare.get()), is_rest);
        }
        let mut order: Vec<(u64, &[u8])> = Vec::new();
        for part in &parts {
            order.extend((0..part.ends.len()).filter_map(|place| part.record(place)));
        }
        // Of one time they stay as they are. Each part is in order, or nearly so, which makes this quick.
        order.sort_by_key(|(time, _)| *time);
        let mut all = spare.get();
        for (time, record) in order {
            all.put(time, record);
        }
        all.dropped = parts.iter().map(|part| part.dropped).sum();
        parts.into_iter().for_each(|part| spare.put(part));
        (all, is_rest)
    }
}

/// The shard of the calling thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SHARD.with(|shard| {
        shard.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
            shard.set(Some(next));
            next
        })
    })
}

fn lock(shard: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn texts(batch: &Batch) -> Vec<&str> {
        (0..batch.ends.len())
            .map(|place| std::str::from_utf8(batch.record(place).unwrap().1).unwrap())
            .collect()
    }

    #[test]
    fn records_of_several_threads_come_in_the_order_of_their_times() {
        let kept = Kept::default();
        thread::scope(|scope| {
            scope.spawn(|| ["a1", "a3", "a5"].map(|text| kept.put(number(text), text.as_bytes())));
            scope.spawn(|| ["b2", "b4", "b6"].map(|text| kept.put(number(text), text.as_bytes())));
        });
        // What came later stays.
        let mut spare = Spare::default();
        let mut take = |now| kept.take(now, &mut spare).0;
        assert_eq!(texts(&take(4)), ["a1", "b2", "a3", "b4"]);
        assert_eq!(texts(&take(u64::MAX)), ["a5", "b6"]);
        assert!(take(u64::MAX).is_empty());
    }

    fn number(text: &str) -> u64 {
        text[1..].parse().unwrap()
    }

    #[test]
    fn what_has_no_room_is_counted_and_then_there_is_room() {
        let kept = Kept::default();
        let record = [0; 1024];
        let put: Vec<_> = (0..600).map(|time| kept.put(time, &record)).collect();
        let count = |wanted| put.iter().filter(|put| **put == wanted).count();
        assert_eq!((count(Put::Enough), count(Put::Dropped)), (1, 600 - 512));
        let mut spare = Spare::default();
        let (taken, is_rest) = kept.take(u64::MAX, &mut spare);
        assert!(!is_rest);
        assert_eq!((taken.ends.len(), taken.dropped), (512, 600 - 512));
        spare.put(taken);
        assert_eq!(kept.put(600, &record), Put::Kept);
        let (taken, is_rest) = kept.take(u64::MAX, &mut spare);
        assert!(!is_rest);
        assert_eq!((taken.ends.len(), taken.dropped), (1, 0));
    }
}
