//! Version and date of the pages and packages.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result};

use pr_testkit::process;

/// Version of the workspace and all of its programs.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Date of the sources.
pub(crate) struct SourceDate {
    /// Seconds since 1970. It is the time of all generated files, so that the same sources produce
    /// the same files.
    pub(crate) time: u64,
}

impl SourceDate {
    /// Reads `SOURCE_DATE_EPOCH`, or the date of the last commit.
    pub(crate) fn from_environment() -> Result<Self> {
        let time = match env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => process::text(
                Command::new("git")
                    .args(["log", "-1", "--format=%ct"])
                    .current_dir(env!("CARGO_MANIFEST_DIR")),
            )
            .context("not a git checkout: set SOURCE_DATE_EPOCH to the release date")?,
        };
        let time = time.trim().parse();
        let time = time.context("SOURCE_DATE_EPOCH is not a number of seconds")?;
        Ok(Self { time })
    }

    /// Returns the day, as in 2026-11-22.
    pub(crate) fn day(&self) -> String {
        let (year, month, day) = date(self.time / 86_400);
        format!("{year}-{month:02}-{day:02}")
    }

    /// Returns the date in the format of RFC 5322, which Debian's changelogs use.
    pub(crate) fn rfc5322(&self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let name = |names: &[&'static str], number: u64| {
            let index = usize::try_from(number).ok();
            index.and_then(|index| names.get(index).copied())
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

/// Converts days since 1970-01-01 to year, month and day.
fn date(day: u64) -> (u64, u64, u64) {
    // Years start in March here, so that a leap day is the last day of a year. 400 years are
    // 146,097 days.
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
    fn days_match_the_calendar() {
        for (time, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_772_323_199, "2026-02-28"),
            (1_772_323_200, "2026-03-01"),
            (4_102_444_799, "2099-12-31"),
        ] {
            assert_eq!(SourceDate { time }.day(), day);
        }
    }

    #[test]
    fn changelog_date_has_mail_format() {
        let source_date = SourceDate {
            time: 1_772_323_199,
        };
        assert_eq!(source_date.rfc5322(), "Sat, 28 Feb 2026 23:59:59 +0000");
    }
}
