//! Which edition of the sources is made into pages and packages: version and time.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;

/// The version of all programs, which is the workspace's.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An edition.
pub(crate) struct Edition {
    /// When the sources were changed last, in seconds since 1970: the time of all that is made, so that the same
    /// sources make the same files.
    pub(crate) time: u64,
}

impl Edition {
    /// That of `SOURCE_DATE_EPOCH`, or of the last commit.
    pub(crate) fn of_sources() -> Result<Self> {
        let time = match env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => process::text(
                Command::new("git")
                    .args(["log", "-1", "--format=%ct"])
                    .current_dir(env!("CARGO_MANIFEST_DIR")),
            )
            .context(
                "without a repository, SOURCE_DATE_EPOCH has to say when the sources are of",
            )?,
        };
        let time = time.trim().parse();
        let time = time.context("SOURCE_DATE_EPOCH is no number of seconds")?;
        Ok(Self { time })
    }

    /// Its day, as in 2026-11-22.
    pub(crate) fn day(&self) -> String {
        let (year, month, day) = date(self.time / 86_400);
        format!("{year}-{month:02}-{day:02}")
    }

    /// Its time as mail has it, which Debian's changelogs are written with.
    pub(crate) fn mail(&self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let name = |names: &[&'static str], number: u64| {
            let place = usize::try_from(number).ok();
            place.and_then(|place| names.get(place).copied())
        };
        let days = self.time / 86_400;
        let (year, month, day) = date(days);
        let weekday = name(&DAYS, days % 7);
        let month = name(&MONTHS, month - 1);
        let (hour, minute, second) = (self.time / 3600 % 24, self.time / 60 % 60, self.time % 60);
        format!(
            "{}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} +0000",
            weekday.unwrap_or_default(),
            month.unwrap_or_default(),
        )
    }
}

/// Year, month and day of a day, which is counted from the first of 1970.
fn date(day: u64) -> (u64, u64, u64) {
    // In years that begin in March, the day that may be missing is the last. 146,097 days are 400 years.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (time, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_772_323_199, "2026-02-28"),
            (1_772_323_200, "2026-03-01"),
            (4_102_444_799, "2099-12-31"),
        ] {
            assert_eq!(Edition { time }.day(), day);
        }
    }

    #[test]
    fn changelogs_have_the_time_of_mail() {
        let edition = Edition {
            time: 1_772_323_199,
        };
        assert_eq!(edition.mail(), "Sat, 28 Feb 2026 23:59:59 +0000");
    }
}
