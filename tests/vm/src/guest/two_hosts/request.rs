// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests to a host: lines of words.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

/// A request that a host executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Start a QEMU that boots a guest.
    Boot,
    /// Start a QEMU that waits for a guest that migrates to it.
    Await,
    /// Kill QEMU, and return when it has ended.
    Kill,
    /// Interrupt the path to a portal, and return when multipathd considers it failed.
    FailPath(u8),
    /// Restore the path to a portal, and return when multipathd considers it usable.
    RestorePath(u8),
    /// Return when multipathd stores no key for the map.
    AwaitNoKey,
    /// Restart the machine at once, as after a crash. There is no reply.
    Crash,
    /// Return the logs and the helper's trace.
    Logs,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => f.write_str("boot"),
            Self::Await => f.write_str("await"),
            Self::Kill => f.write_str("kill"),
            Self::FailPath(portal) => write!(f, "fail-path {portal}"),
            Self::RestorePath(portal) => write!(f, "restore-path {portal}"),
            Self::AwaitNoKey => f.write_str("await-no-key"),
            Self::Crash => f.write_str("crash"),
            Self::Logs => f.write_str("logs"),
        }
    }
}

impl FromStr for Request {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<_> = line.split(' ').collect();
        Ok(match words[..] {
            ["boot"] => Self::Boot,
            ["await"] => Self::Await,
            ["kill"] => Self::Kill,
            ["fail-path", portal] => Self::FailPath(portal.parse()?),
            ["restore-path", portal] => Self::RestorePath(portal.parse()?),
            ["await-no-key"] => Self::AwaitNoKey,
            ["crash"] => Self::Crash,
            ["logs"] => Self::Logs,
            _ => bail!("unknown request: {line}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_survives_the_round_trip() {
        for request in [
            Request::Boot,
            Request::Await,
            Request::Kill,
            Request::FailPath(1),
            Request::RestorePath(2),
            Request::AwaitNoKey,
            Request::Crash,
            Request::Logs,
        ] {
            assert_eq!(request.to_string().parse::<Request>().unwrap(), request);
        }
        assert!("fail-path".parse::<Request>().is_err());
    }
}
