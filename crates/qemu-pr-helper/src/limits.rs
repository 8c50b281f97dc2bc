//! How much of the helper a client can take: the options for that, and their defaults.

use std::time::Duration;

use clap::{Args, value_parser};

/// The most connections that one process is given, if there is room for so many. QEMU has one per
/// `pr-manager-helper` object, of which a machine needs one, and libvirt with helpers of the operator's own
/// makes one per disk.
const CLIENTS_OF_A_PROCESS: usize = 512;

/// However few clients there can be, so many processes can have their share.
const PROCESSES: usize = 4;

/// The most commands in progress at one device. QEMU sends one at a time, so it takes more machines with this disk
/// than a cluster has nodes to come near it, and sixteen disks that hang to use up the helper's threads.
const COMMANDS_AT_A_DEVICE: u32 = 256;

/// Seconds that a request may take to arrive. QEMU writes it in one go or in two; what keeps it longer than this
/// from the second is a QEMU that was stopped, which connects again.
const REQUEST_TIMEOUT: u64 = 30;

/// A day. More has no use.
const LONGEST_REQUEST_TIMEOUT: u64 = 86_400;

/// How much of the helper a client can take.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Clients that can be connected at once; others wait until one leaves [default: as many as the limit of
    /// file descriptors lets have a command in progress each]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u32).range(1..))]
    max_clients: Option<u32>,

    /// Connections that one process can have [default: 512, or a quarter of all if that is less]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u32).range(1..))]
    max_clients_per_process: Option<u32>,

    /// Commands that can be in progress at one device; others are answered with BUSY
    #[arg(
        long, value_name = "NUMBER", default_value_t = COMMANDS_AT_A_DEVICE,
        value_parser = value_parser!(u32).range(1..)
    )]
    max_commands_per_device: u32,

    /// Seconds that a client can take to send the whole of a request, to answer the greeting, or to
    /// read replies
    #[arg(
        long, value_name = "SECONDS", default_value_t = REQUEST_TIMEOUT,
        value_parser = value_parser!(u64).range(1..=LONGEST_REQUEST_TIMEOUT)
    )]
    request_timeout: u64,
}

impl Limits {
    /// How many clients can be connected, if that was said.
    #[must_use]
    pub fn max_clients(&self) -> Option<usize> {
        self.max_clients.map(count)
    }

    /// How many connections one process can have, where `clients` can be connected in all.
    #[must_use]
    pub fn max_clients_per_process(&self, clients: usize) -> usize {
        let share = (clients / PROCESSES).clamp(1, CLIENTS_OF_A_PROCESS);
        self.max_clients_per_process.map_or(share, count)
    }

    /// How many commands can be in progress at one device.
    #[must_use]
    pub fn max_commands_per_device(&self) -> usize {
        count(self.max_commands_per_device)
    }

    /// Returns the timeout of a request, of the answer to the greeting, and of unread replies.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout)
    }
}

/// What holds where nobody has said anything.
impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients: None,
            max_clients_per_process: None,
            max_commands_per_device: COMMANDS_AT_A_DEVICE,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: Limits,
    }

    fn parse(words: &[&str]) -> Result<Limits, clap::Error> {
        let line = Line::try_parse_from([&["test"], words].concat());
        line.map(|line| line.limits)
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        assert_eq!(parse(&[]).unwrap(), Limits::default());
    }

    #[test]
    fn a_process_has_a_share_of_all_unless_told_otherwise() {
        let limits = Limits::default();
        for (clients, expected) in [(1, 1), (8, 2), (2047, 511), (1_000_000, 512)] {
            assert_eq!(limits.max_clients_per_process(clients), expected);
        }
        let limits = parse(&["--max-clients-per-process", "9"]).unwrap();
        assert_eq!(limits.max_clients_per_process(8), 9);
    }

    #[test]
    fn nothing_can_be_limited_to_nothing() {
        for option in [
            "--max-clients",
            "--max-clients-per-process",
            "--max-commands-per-device",
            "--request-timeout",
        ] {
            assert!(parse(&[option, "0"]).is_err(), "{option}");
            assert!(parse(&[option, "1"]).is_ok(), "{option}");
        }
    }
}
