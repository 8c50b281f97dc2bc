// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers and durations of commands: since a helper was started, and during the last minute.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use helper_state::{BUCKET_BOUNDS_US, BUCKETS, StateDocument, Statistics};

use crate::state::HelperStates;
use crate::time::duration;

/// Length of the period that recent commands belong to.
const WINDOW: Duration = Duration::from_secs(60);

/// Commands of one client to one disk, or a sum of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) commands: u64,
    /// Commands that ended with RESERVATION CONFLICT.
    pub(super) conflicts: u64,
    /// Numbers of commands by duration, as in [`Statistics::buckets`].
    buckets: [u64; BUCKETS],
    /// The longest duration in microseconds, if it is known.
    max_us: Option<u64>,
}

impl Counts {
    fn of(statistics: &Statistics) -> Self {
        let mut buckets = [0; BUCKETS];
        for (sum, count) in buckets.iter_mut().zip(&statistics.buckets) {
            *sum = *count;
        }
        Counts {
            commands: statistics.count,
            conflicts: match statistics.is_conflict() {
                true => statistics.count,
                false => 0,
            },
            buckets,
            max_us: Some(statistics.max_us),
        }
    }

    pub(super) fn add(&mut self, other: &Counts) {
        // The longest duration of the sum is known if that of both parts is.
        self.max_us = match self.commands {
            0 => other.max_us,
            _ => self.max_us.zip(other.max_us).map(|(one, two)| one.max(two)),
        };
        self.commands = self.commands.saturating_add(other.commands);
        self.conflicts = self.conflicts.saturating_add(other.conflicts);
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Returns the commands that are not part of `earlier`.
    fn since(&self, earlier: &Counts) -> Counts {
        let mut buckets = self.buckets;
        for (count, earlier) in buckets.iter_mut().zip(earlier.buckets) {
            *count = count.saturating_sub(earlier);
        }
        Counts {
            commands: self.commands.saturating_sub(earlier.commands),
            conflicts: self.conflicts.saturating_sub(earlier.conflicts),
            buckets,
            max_us: None,
        }
    }

    /// Returns an upper bound of the 99th percentile of the durations, in microseconds.
    pub(super) fn p99(&self) -> Percentile {
        let total: u64 = self
            .buckets
            .iter()
            .fold(0, |sum, one| sum.saturating_add(*one));
        if total == 0 {
            return Percentile::None;
        }
        let rank = total - total / 100;
        let mut sum = 0_u64;
        let bounds = BUCKET_BOUNDS_US.into_iter().map(Some).chain([None]);
        let bound = self.buckets.iter().zip(bounds).find_map(|(count, bound)| {
            sum = sum.saturating_add(*count);
            (sum >= rank).then_some(bound)
        });
        match (bound.flatten(), self.max_us) {
            (Some(bound), max) => Percentile::AtMost(max.map_or(bound, |max| max.min(bound))),
            (None, Some(max)) => Percentile::AtMost(max),
            (None, None) => Percentile::Above(BUCKET_BOUNDS_US.last().copied().unwrap_or(0)),
        }
    }
}

/// A percentile of durations in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Percentile {
    /// There are no commands.
    None,
    AtMost(u64),
    Above(u64),
}

impl Percentile {
    pub(super) fn to_text(self) -> String {
        match self {
            Percentile::None => "-".to_owned(),
            Percentile::AtMost(bound) if bound < 1000 => format!("{bound}us"),
            Percentile::AtMost(bound) => duration(bound),
            Percentile::Above(bound) => format!(">{}", duration(bound)),
        }
    }
}

/// A client of a helper, and a disk that it used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    /// Process ID of the helper.
    pub(super) helper: u32,
    pub(super) client: String,
    pub(super) device: String,
}

/// The commands of each client to each disk.
pub(super) type PairCounts = HashMap<Pair, Counts>;

/// Returns all commands of one helper since it was started.
fn total_of(helper: u32, state: &StateDocument) -> PairCounts {
    let mut total = PairCounts::new();
    for one in &state.statistics {
        let pair = Pair {
            helper,
            client: one.client.clone(),
            device: one.device.clone(),
        };
        total.entry(pair).or_default().add(&Counts::of(one));
    }
    total
}

/// Returns all commands since the helpers were started.
pub(super) fn total(states: &HelperStates) -> PairCounts {
    let documents = states.documents();
    documents
        .flat_map(|(process, state)| total_of(process.pid, state))
        .collect()
}

/// The states of the last minute.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The commands until each point in time, by process ID and start of the helper.
    helpers: HashMap<(u32, u64), VecDeque<(Instant, PairCounts)>>,
}

impl Recent {
    /// Adds the states at `now`. Returns the commands of the last minute, and the length of this
    /// period: it is shorter at first, and longer if the states are read less often.
    pub(super) fn update(&mut self, states: &HelperStates, now: Instant) -> (PairCounts, Duration) {
        let (mut recent, mut period) = (PairCounts::new(), Duration::ZERO);
        for (process, state) in states.documents() {
            let samples = self.helpers.entry((process.pid, state.helper.started_us));
            let samples = samples.or_default();
            samples.push_back((now, total_of(process.pid, state)));
            // The state a minute ago is that before the oldest one of the last minute.
            let is_older =
                |sample: &(Instant, _)| now.saturating_duration_since(sample.0) >= WINDOW;
            while samples.get(1).is_some_and(is_older) {
                samples.pop_front();
            }
            let (Some((start, first)), Some((_, last))) = (samples.front(), samples.back()) else {
                continue;
            };
            period = period.max(now.saturating_duration_since(*start));
            recent.extend(last.iter().map(|(pair, counts)| {
                let earlier = first.get(pair).cloned().unwrap_or_default();
                (pair.clone(), counts.since(&earlier))
            }));
        }
        let is_current = |samples: &VecDeque<(Instant, _)>| {
            let last = samples.back();
            last.is_some_and(|sample| now.saturating_duration_since(sample.0) < WINDOW)
        };
        self.helpers.retain(|_, samples| is_current(samples));
        (recent, period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{document, states, statistics};

    fn counts(durations: &[u64]) -> Counts {
        Counts::of(&statistics("web1", "8:0", "GOOD", durations))
    }

    #[test]
    fn percentile_is_the_bound_of_a_bucket() {
        let mut durations = vec![40; 98];
        assert_eq!(counts(&[]).p99(), Percentile::None);
        // The longest duration is a better bound than that of the bucket.
        assert_eq!(counts(&durations).p99(), Percentile::AtMost(40));
        durations.push(700);
        assert_eq!(counts(&durations).p99(), Percentile::AtMost(700));
        durations.push(40_000_000);
        assert_eq!(counts(&durations).p99(), Percentile::AtMost(1000));
        durations.push(40_000_000);
        assert_eq!(counts(&durations).p99(), Percentile::AtMost(40_000_000));
        let recent = counts(&durations).since(&counts(&durations[..99]));
        assert_eq!(recent.p99(), Percentile::Above(30_000_000));
        let texts = [
            Percentile::None,
            Percentile::AtMost(250),
            Percentile::AtMost(2_500_000),
            Percentile::Above(30_000_000),
        ];
        assert_eq!(texts.map(Percentile::to_text), ["-", "250us", "2s", ">30s"]);
    }

    #[test]
    fn longest_duration_of_a_sum_is_known_if_all_are() {
        let mut sum = Counts::default();
        sum.add(&counts(&[40]));
        sum.add(&counts(&[700]));
        assert_eq!(sum.p99(), Percentile::AtMost(700));
        sum.add(&counts(&[40]).since(&Counts::default()));
        assert_eq!(sum.p99(), Percentile::AtMost(1000));
    }

    #[test]
    fn recent_commands_are_those_of_the_last_minute() {
        let mut recent = Recent::default();
        let start = Instant::now();
        let mut update = |second: u64, commands: usize| {
            let mut state = document();
            state.statistics = vec![statistics("web1", "8:0", "GOOD", &vec![10; commands])];
            let now = start + Duration::from_secs(second);
            let (counts, period) = recent.update(&states([state]), now);
            let commands: u64 = counts.values().map(|one| one.commands).sum();
            (commands, period.as_secs())
        };
        assert_eq!(update(0, 100), (0, 0));
        assert_eq!(update(1, 107), (7, 1));
        assert_eq!(update(59, 110), (10, 59));
        assert_eq!(update(61, 111), (4, 60));
        // The helper could not be read for a while.
        assert_eq!(update(200, 500), (389, 139));
        assert_eq!(update(201, 501), (390, 140));
        assert_eq!(update(260, 502), (2, 60));
    }

    #[test]
    fn restarted_helper_begins_again() {
        let mut recent = Recent::default();
        let now = Instant::now();
        let mut state = document();
        state.statistics = vec![statistics("web1", "8:0", "GOOD", &[10])];
        recent.update(&states([state.clone()]), now);
        state.helper.started_us += 1;
        let (counts, period) = recent.update(&states([state]), now + Duration::from_secs(2));
        assert!(counts.values().all(|one| one.commands == 0), "{counts:?}");
        assert_eq!(period, Duration::ZERO);
    }
}
