// SPDX-License-Identifier: MIT OR Apache-2.0

//! Points in time and durations as text.

use jiff::{RoundMode, SignedDuration, Span, SpanRound, Unit};

/// Returns a duration in its two largest units, such as `2h 13m`.
pub(crate) fn duration(microseconds: u64) -> String {
    const SECOND: u64 = 1_000_000;
    let smallest = match microseconds / SECOND {
        0 => Unit::Millisecond,
        1..3600 => Unit::Second,
        3600..86_400 => Unit::Minute,
        _ => Unit::Hour,
    };
    let rounding = SpanRound::new()
        .largest(Unit::Day)
        .smallest(smallest)
        .mode(RoundMode::Trunc)
        .days_are_24_hours();
    let duration = SignedDuration::from_micros(i64::try_from(microseconds).unwrap_or(i64::MAX));
    match Span::try_from(duration).and_then(|span| span.round(rounding)) {
        Ok(span) => format!("{span:#}"),
        // The duration is longer than the range of a time.
        Err(_) => format!("{}s", microseconds / SECOND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_its_two_largest_units() {
        for (microseconds, expected) in [
            (0, "0s"),
            (999, "0s"),
            (20_500, "20ms"),
            (7_900_000, "7s"),
            (187_000_000, "3m 7s"),
            (7_980_000_000, "2h 13m"),
            (3_456_000_000_000, "40d"),
            (3_466_800_000_000, "40d 3h"),
            (u64::MAX, "18446744073709s"),
        ] {
            assert_eq!(duration(microseconds), expected);
        }
    }
}
