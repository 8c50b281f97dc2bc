// SPDX-License-Identifier: MIT OR Apache-2.0

//! Date of the pages and packages.

use std::env;

use anyhow::{Context as _, Result};

use pr_testkit::build;
use pr_testkit::process::{command, text};

/// Date of the sources. It is the time of all files in packages, so that the same sources produce
/// the same packages.
pub struct SourceDate {
    /// Seconds since 1970, the value of `SOURCE_DATE_EPOCH`.
    pub epoch: String,
    /// Day, as in 2026-11-22.
    pub day: String,
    /// Date in the format of RFC 5322, which Debian's changelogs use.
    pub rfc5322: String,
}

impl SourceDate {
    /// Reads `SOURCE_DATE_EPOCH`, or the date of the last commit.
    pub fn from_environment() -> Result<Self> {
        let epoch = match env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => text(
                command("git")
                    .args(["log", "-1", "--format=%ct"])
                    .current_dir(build::root()),
            )
            .context("not a git checkout: set SOURCE_DATE_EPOCH to the release date")?,
        };
        Self::from_epoch(epoch.trim())
    }

    /// Formats a number of seconds since 1970.
    pub fn from_epoch(epoch: &str) -> Result<Self> {
        let format = |format| -> Result<String> {
            let mut date = command("date");
            date.env("LC_ALL", "C")
                .args(["--utc", format])
                .arg(format!("--date=@{epoch}"));
            let date = text(&mut date);
            Ok(date.context("SOURCE_DATE_EPOCH")?.trim().to_owned())
        };
        Ok(Self {
            epoch: epoch.to_owned(),
            day: format("+%F")?,
            rfc5322: format("--rfc-email")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_formatted_in_utc() {
        let date = SourceDate::from_epoch("1772323199").unwrap();
        assert_eq!(date.day, "2026-02-28");
        assert_eq!(date.rfc5322, "Sat, 28 Feb 2026 23:59:59 +0000");
        assert!(SourceDate::from_epoch("tomorrow").is_err());
    }
}
