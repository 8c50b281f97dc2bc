// SPDX-License-Identifier: MIT OR Apache-2.0

//! A histogram with the buckets of a state document. The library's histogram counts single
//! durations only.

use std::fmt;
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};

use helper_state::{BUCKET_BOUNDS_US, BUCKETS, Statistics};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Returns a time in seconds.
#[expect(clippy::cast_precision_loss, reason = "it is exact below 285 years")]
pub(super) fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

/// Maximum of a bucket. The library adds the buckets, and a sum that is too large would end the
/// exporter.
const MAX_COUNT: u64 = u64::MAX / BUCKETS as u64;

/// Durations of commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations(Arc<Mutex<Sum>>);

/// The sum of several entries: several devices can lead to one disk.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    total_us: u64,
    /// Not cumulative.
    buckets: [u64; BUCKETS],
}

impl Durations {
    /// Adds the durations of commands.
    pub(super) fn add(&self, commands: &Statistics) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.count = sum.count.saturating_add(commands.count);
        sum.total_us = sum.total_us.saturating_add(commands.total_us);
        for (bucket, count) in sum.buckets.iter_mut().zip(&commands.buckets) {
            *bucket = bucket.saturating_add(*count).min(MAX_COUNT);
        }
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = BUCKET_BOUNDS_US.iter().map(|bound| seconds(*bound));
        let bounds = bounds.chain(iter::once(f64::INFINITY));
        let buckets: Vec<_> = bounds.zip(sum.buckets).collect();
        let total = seconds(sum.total_us);
        encoder.encode_histogram::<NoLabelSet>(total, sum.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::statistics;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    /// Each user can run a process that looks like a helper.
    #[test]
    fn large_numbers_do_not_overflow() {
        let durations = Durations::default();
        let mut commands = statistics("vm1", "8:0", "GOOD", &[]);
        (commands.count, commands.total_us) = (u64::MAX, u64::MAX);
        commands.buckets.fill(u64::MAX);
        durations.add(&commands);
        durations.add(&commands);
        let mut registry = Registry::default();
        registry.register("durations", "Durations", durations);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(&format!("durations_count {}\n", u64::MAX)),
            "{text}"
        );
    }
}
