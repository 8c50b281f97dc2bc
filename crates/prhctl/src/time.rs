// SPDX-License-Identifier: MIT OR Apache-2.0

//! Points in time and durations as text.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{
    RoundMode, SignedDuration, Span, SpanRound, Timestamp, ToSpan as _, Unit, ZonedDateTime,
};

use crate::labels::ValueError;

/// Returns points in time, in microseconds since 1970, as the cells of a column. If all have the
/// same date and offset, a heading contains these instead of each cell.
pub(crate) fn time_column(
    times: impl IntoIterator<Item = u64>,
    zone: &TimeZone,
) -> (Option<String>, Vec<String>) {
    let times: Vec<_> = times.into_iter().map(|time| local(time, zone)).collect();
    let headings: Vec<_> = times
        .iter()
        .map(|time| time.strftime("%Y-%m-%d, UTC%:z").to_string())
        .collect();
    let common = headings.first();
    let common = common.filter(|first| headings.iter().all(|other| other == *first));
    let format = match common {
        Some(_) => "%H:%M:%S%.3f",
        None => "%Y-%m-%d %H:%M:%S%.3f%:z",
    };
    let cells = times.iter().map(|time| time.strftime(format).to_string());
    (common.cloned(), cells.collect())
}

/// Returns the time of day of a point in time, in microseconds since 1970.
pub(crate) fn clock(microseconds: u64, zone: &TimeZone) -> String {
    local(microseconds, zone).strftime("%H:%M:%S").to_string()
}

/// Returns a time in a time zone. A time out of range is the last possible one.
fn local(microseconds: u64, zone: &TimeZone) -> ZonedDateTime {
    let time = i64::try_from(microseconds).map(Timestamp::from_microsecond);
    let time = time.ok().and_then(Result::ok).unwrap_or(Timestamp::MAX);
    time.to_zoned_datetime(zone.clone())
}

/// Parses a point in time before `now`: a duration, a time of the last 24 hours, or date and time.
pub(crate) fn parse_since(text: &str, now: &ZonedDateTime) -> Result<Timestamp, ValueError> {
    since(text, now).ok_or(ValueError::Time)
}

fn since(text: &str, now: &ZonedDateTime) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let in_zone = |time: DateTime| time.to_zoned_datetime(now.time_zone().clone()).ok();
    if let Ok(time) = text.parse::<DateTime>() {
        return Some(in_zone(time)?.timestamp());
    }
    // A duration can have the form 11:30:15 as well.
    if text.contains(':') {
        let today = in_zone(now.date().to_datetime(text.parse::<Time>().ok()?))?;
        let is_past = today <= *now;
        let time = if is_past {
            Some(today)
        } else {
            today.checked_sub(1.day()).ok()
        };
        return Some(time?.timestamp());
    }
    let span = text
        .parse::<Span>()
        .ok()
        .filter(|span| span.is_positive())?;
    Some(now.checked_sub(span).ok()?.timestamp())
}

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

    /// Returns 12:00 in a zone with the offset +01:00.
    fn noon() -> ZonedDateTime {
        "2026-03-01T12:00:00+01:00[+01:00]".parse().unwrap()
    }

    #[test]
    fn time_is_relative_or_absolute() {
        for (text, expected) in [
            ("10m", "2026-03-01T10:50:00Z"),
            ("2h", "2026-03-01T09:00:00Z"),
            ("1d", "2026-02-28T11:00:00Z"),
            ("1h 30m", "2026-03-01T09:30:00Z"),
            ("11:30", "2026-03-01T10:30:00Z"),
            ("11:30:15", "2026-03-01T10:30:15Z"),
            ("14:30", "2026-02-28T13:30:00Z"),
            ("2026-02-27T14:30", "2026-02-27T13:30:00Z"),
            ("2026-02-27 14:30:00", "2026-02-27T13:30:00Z"),
            ("2026-02-27T14:30:00Z", "2026-02-27T14:30:00Z"),
            ("2026-02-27T14:30:00+05:30", "2026-02-27T09:00:00Z"),
        ] {
            let found = parse_since(text, &noon()).unwrap();
            assert_eq!(found, expected.parse().unwrap(), "{text}");
        }
        for text in ["", "x", "10", "-10m", "25:00", "0s", "99999999999h"] {
            assert!(parse_since(text, &noon()).is_err(), "{text}");
        }
    }

    #[test]
    fn common_date_is_a_heading() {
        let zone = noon().time_zone().clone();
        let column = |times: [u64; 2]| time_column(times.map(|time| time * 1000), &zone);
        let (heading, cells) = column([1_772_366_400_000, 1_772_366_401_500]);
        assert_eq!(heading.unwrap(), "2026-03-01, UTC+01:00");
        assert_eq!(cells, ["13:00:00.000", "13:00:01.500"]);
        let (heading, cells) = column([1_772_366_400_000, 1_772_466_400_000]);
        assert_eq!(heading, None);
        assert_eq!(cells[1], "2026-03-02 16:46:40.000+01:00");
        let (_, cells) = time_column([u64::MAX], &zone);
        assert_eq!(cells.len(), 1);
    }

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
