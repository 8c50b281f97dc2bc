// SPDX-License-Identifier: MIT OR Apache-2.0

//! Buffer for records on their way to the writer thread.
//!
//! Recording threads are spread over shards, so that they rarely wait for each other. The writer
//! thread takes the records of all shards in the order of their times.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 8;

/// Maximum size of the records in a shard, in bytes.
pub(super) const SHARD_CAPACITY: usize = 512 * 1024;

/// Size of a shard, in bytes, at which the writer should take the records at once. The other half
/// of the capacity must last until the writer does. A lower value would make the writer contend
/// with the recording threads more often.
const HIGH_WATER: usize = SHARD_CAPACITY / 2;

thread_local! {
    /// Index of the shard of this thread.
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

/// Sequence of records.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Time of each record, and the offset of its end in `bytes`.
    records: Vec<(u64, usize)>,
    /// Number of further records that did not fit.
    pub(super) dropped: u64,
}

impl Batch {
    pub(super) fn push(&mut self, time: u64, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.records.push((time, self.bytes.len()));
    }

    /// Returns the number of records.
    pub(super) const fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.dropped == 0
    }

    /// Returns the total length of the first `records` records.
    pub(super) fn length_of(&self, records: usize) -> usize {
        let last = records.checked_sub(1);
        let last = last.and_then(|last| self.records.get(last));
        last.map_or(0, |(_, end)| *end)
    }

    /// Returns the number of records that are complete in the first `length` bytes.
    pub(super) fn complete_in(&self, length: usize) -> usize {
        self.records.partition_point(|(_, end)| *end <= length)
    }

    /// Returns the bytes between two offsets.
    pub(super) fn bytes(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Returns the time and the bytes of each record.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let records = self.records.iter().enumerate();
        records.map(|(index, (time, end))| (*time, self.bytes(self.length_of(index), *end)))
    }

    /// Removes the records and keeps the memory.
    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.dropped = 0;
    }
}

/// Side of the recording threads.
#[derive(Debug, Default)]
pub(super) struct ShardedBuffer([Mutex<Batch>; SHARDS]);

impl ShardedBuffer {
    /// Adds a record, or counts it as dropped if the shard of this thread is full. `time` comes
    /// from a monotonic clock.
    ///
    /// Returns whether the shard has just reached [`HIGH_WATER`].
    pub(super) fn push(&self, time: u64, record: &[u8]) -> bool {
        let Some(shard) = self.0.get(SHARD.with(|shard| *shard)) else {
            return false;
        };
        let mut batch = lock(shard);
        let before = batch.bytes.len();
        let after = before + record.len();
        if after > SHARD_CAPACITY {
            batch.dropped += 1;
            return false;
        }
        batch.push(time, record);
        before < HIGH_WATER && after >= HIGH_WATER
    }
}

/// Side of the writer thread. It reuses its memory, so that taking records rarely allocates.
#[derive(Debug, Default)]
pub(super) struct BatchReader {
    /// Batches taken from the shards, or empty ones for the next exchange.
    taken: [Batch; SHARDS],
    /// Records that are later than the last call's `until`.
    later: Batch,
    merged: Batch,
}

impl BatchReader {
    /// Takes the records with times up to `until`, in the order of their times.
    ///
    /// `until` must be the time of the call, or the maximum. The method takes one shard after the
    /// other, and a record that is added meanwhile can be a consequence of a record in a shard that
    /// was taken before. Such records have later times and are held back for the next call. The
    /// second result is whether there are any.
    pub(super) fn take(&mut self, buffer: &ShardedBuffer, until: u64) -> (&Batch, bool) {
        for (taken, shard) in self.taken.iter_mut().zip(&buffer.0) {
            taken.clear();
            std::mem::swap(taken, &mut *lock(shard));
        }
        let held = std::mem::take(&mut self.later);
        let batches = [&held].into_iter().chain(&self.taken);
        let mut records: Vec<_> = batches.flat_map(Batch::iter).collect();
        // The sort is stable, and fast because each batch is almost sorted.
        records.sort_by_key(|(time, _)| *time);
        self.merged.clear();
        for (time, record) in records {
            let batch = match time <= until {
                true => &mut self.merged,
                false => &mut self.later,
            };
            batch.push(time, record);
        }
        self.merged.dropped = self.taken.iter().map(|batch| batch.dropped).sum();
        (&self.merged, !self.later.is_empty())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn texts(batch: &Batch) -> Vec<&str> {
        let records = batch.iter();
        records
            .map(|(_, record)| str::from_utf8(record).unwrap())
            .collect()
    }

    #[test]
    fn take_merges_shards_in_time_order() {
        let buffer = ShardedBuffer::default();
        let push = |text: &str| buffer.push(text[1..].parse().unwrap(), text.as_bytes());
        thread::scope(|scope| {
            scope.spawn(|| ["a1", "a3", "a5"].map(push));
            scope.spawn(|| ["b2", "b4", "b6"].map(push));
        });
        let mut reader = BatchReader::default();
        let (taken, has_later) = reader.take(&buffer, 4);
        assert_eq!(texts(taken), ["a1", "b2", "a3", "b4"]);
        assert!(has_later);
        push("c7");
        let (taken, has_later) = reader.take(&buffer, u64::MAX);
        assert_eq!(texts(taken), ["a5", "b6", "c7"]);
        assert!(!has_later);
        assert!(reader.take(&buffer, u64::MAX).0.is_empty());
    }

    #[test]
    fn full_shard_counts_dropped_records() {
        let buffer = ShardedBuffer::default();
        let record = [0; 1024];
        let high_waters = (0..600).filter(|time| buffer.push(*time, &record));
        assert_eq!(high_waters.count(), 1);
        let mut reader = BatchReader::default();
        let (taken, _) = reader.take(&buffer, u64::MAX);
        assert_eq!((taken.len(), taken.dropped), (512, 600 - 512));
        assert!(!buffer.push(600, &record));
        let (taken, _) = reader.take(&buffer, u64::MAX);
        assert_eq!((taken.len(), taken.dropped), (1, 0));
    }
}
