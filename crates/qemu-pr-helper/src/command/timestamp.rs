// SPDX-License-Identifier: MIT OR Apache-2.0

//! Points in time of `CLOCK_MONOTONIC`, which all processes of a host share, and of the calendar.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use super::command_log;

/// Nanoseconds per second.
const NANOS: u64 = 1_000_000_000;

/// Point in time in nanoseconds. [`std::time::Instant`] has no number, and takes more instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    /// Returns the present, without a system call: the C library reads the clock in the vDSO, in
    /// contrast to rustix 1.1.6.
    pub(crate) fn now() -> Self {
        // This clock always exists.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or((0, 0), |now| {
            (now.tv_sec().cast_unsigned(), now.tv_nsec().cast_unsigned())
        });
        Self(now.0.wrapping_mul(NANOS).wrapping_add(now.1))
    }

    /// Returns the milliseconds since the start of the clock.
    pub(crate) const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Returns the time since then in microseconds.
    pub(crate) fn elapsed_us(self) -> u64 {
        Self::now().0.saturating_sub(self.0) / 1000
    }
}

/// Converts a time to microseconds since 1970.
pub(crate) fn unix_microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    command_log::microseconds(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use std::time::Duration;

    #[test]
    fn time_passes() {
        let start = Timestamp::now();
        sleep(Duration::from_millis(2));
        assert!(start.elapsed_us() >= 2000);
        assert!(Timestamp::now().as_millis() > start.as_millis());
    }
}
