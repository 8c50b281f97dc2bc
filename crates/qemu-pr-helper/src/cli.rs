// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line: every option of QEMU's helper, in every form that `getopt_long` accepts, and
//! the options of this helper.

#![expect(
    clippy::doc_markdown,
    reason = "--help prints the comments, without markup"
)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, ValueHint};
use cli_messages::usage::{UsageText, parse_number};
use nix::unistd;

use crate::monitor::SameLun;
use crate::monitor::journal::JournalDestination;
use crate::sandbox::Mode;
use crate::trace::options::TraceBackend;

/// Path of the socket without `--socket`.
pub(crate) const DEFAULT_SOCKET: &str = "/var/run/qemu-pr-helper.sock";

/// Path of a daemon's PID file without `--pidfile`.
const DEFAULT_PIDFILE: &str = "/var/run/qemu-pr-helper.pid";

/// Default of `--io-timeout` in seconds: the timeout that QEMU sets for other commands of a guest.
const IO_TIMEOUT: u64 = 30;

/// Maximum of `--io-timeout` in seconds: the kernel has 32 bits for milliseconds.
const MAX_IO_TIMEOUT: u64 = u32::MAX as u64 / 1000;

/// Highest default of `--max-clients-per-process`. QEMU opens one connection for each
/// `pr-manager-helper` object. A virtual machine needs one object. libvirt creates one for each
/// disk if the operator starts the helpers.
const CLIENTS_PER_PROCESS: usize = 512;

/// Number of processes that can connect even if each uses the default maximum of connections.
const MIN_PROCESSES: usize = 4;

/// Default of `--max-commands-per-device`. QEMU sends one command at a time, so a device reaches it
/// only if more virtual machines share it than a cluster has nodes. Sixteen hung devices with this
/// many commands each use up the threads of the helper.
const COMMANDS_PER_DEVICE: u32 = 256;

/// Default of `--request-timeout` in seconds. QEMU writes a request in one or two parts. A longer
/// delay between them means that QEMU was stopped, and it reconnects when it continues.
const REQUEST_TIMEOUT: u64 = 30;

/// Persistent reservation helper for QEMU.
#[derive(Debug, Parser)]
#[command(
    name = "qemu-pr-helper",
    version,
    override_usage = "qemu-pr-helper [OPTIONS]",
    // As in getopt_long: `--sock` is `--socket`, and the last of two `-k` counts.
    infer_long_args = true,
    args_override_self = true,
    after_help = "\
Without -d, the helper runs in the foreground, as libvirt and systemd expect.
Under systemd socket activation, the unit sets the socket, and -k is rejected."
)]
pub struct Options {
    /// Run in the background, and create a PID file
    ///
    /// The command returns once the helper serves clients. If the helper
    /// cannot start, the command prints the reason and exits with status 1.
    /// A helper in the background logs nothing, because standard error is
    /// closed.
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) daemon: bool,

    /// Log errors only, and not where the helper listens. Wins over -v
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) quiet: u8,

    /// Also log connections and rejected requests; -vv: each command too
    ///
    /// Without -v, each warning about a client process is logged at most
    /// once a minute. With it, repeated warnings are logged too.
    #[arg(short, long, action = ArgAction::Count, verbatim_doc_comment)]
    pub(crate) verbose: u8,

    /// PID file [default with -d: /var/run/qemu-pr-helper.pid]
    ///
    /// A symbolic link is refused. The helper locks the file while it runs,
    /// and removes it when it exits. Without -d, there is no PID file by
    /// default. With -d, a relative PATH starts at the root directory, as
    /// with QEMU's helper.
    #[arg(
        short = 'f', long, verbatim_doc_comment, value_name = "PATH",
        value_hint = ValueHint::FilePath, allow_hyphen_values = true
    )]
    pub(crate) pidfile: Option<PathBuf>,

    /// Socket to listen on [default: /var/run/qemu-pr-helper.sock]
    ///
    /// The path must be absolute. The directory should be owned by root and
    /// writable only by root: another user could keep the helper from
    /// starting, or replace the socket and receive the descriptors of all
    /// disks. The helper replaces a socket on which no process listens, and
    /// does not start if a process listens on it.
    #[arg(
        // The aliases were unambiguous abbreviations before --soft-luns and --sandbox existed.
        short = 'k', long, aliases = ["s", "so"], verbatim_doc_comment, value_name = "PATH",
        value_hint = ValueHint::FilePath, allow_hyphen_values = true,
        value_parser = OsStringValueParser::new().try_map(parse_socket)
    )]
    pub(crate) socket: Option<PathBuf>,

    /// Enable trace events (repeatable); "-T help" lists all
    ///
    /// Enables the events that match PATTERN, in which * matches any text
    /// and ? any character. Without a *, PATTERN is the name of one event. A
    /// leading - disables the matching events. events=FILE reads patterns
    /// from FILE, one per line. file=FILE writes the trace of the backends
    /// log and simple to FILE.
    #[arg(
        // The aliases were unambiguous abbreviations before the other trace options existed.
        short = 'T', long, aliases = ["t", "tr", "tra", "trac"], verbatim_doc_comment,
        value_name = "[[enable=]PATTERN][,events=FILE][,file=FILE]",
        allow_hyphen_values = true, action = ArgAction::Append
    )]
    pub(crate) trace: Vec<String>,

    /// Trace output
    ///
    /// The default is log. The option can be repeated.
    #[arg(long, value_name = "BACKEND", action = ArgAction::Append, ignore_case = true)]
    pub(crate) trace_backend: Vec<TraceBackend>,

    /// Start each line of the log backend with thread ID and time
    #[arg(long)]
    pub(crate) trace_timestamp: bool,

    /// Print the event definitions for readers of binary traces
    #[arg(long)]
    pub(crate) trace_events: bool,

    /// User to run as [default for root: qemu-pr-helper]
    ///
    /// A name or an ID. Do not use QEMU's own user: QEMU could then stop or
    /// kill the helper. The helper keeps only CAP_SYS_RAWIO, whatever its
    /// user is. The default applies if /etc/passwd has the account and
    /// neither -g nor --soft-luns is given; "-u root" keeps root.
    #[arg(short, long, verbatim_doc_comment, allow_hyphen_values = true, value_parser = parse_user)]
    pub(crate) user: Option<User>,

    /// Group to run as [default: primary group of the user of -u]
    #[arg(short, long, allow_hyphen_values = true, value_parser = parse_group)]
    pub(crate) group: Option<unistd::Gid>,

    /// Sandbox mode
    ///
    /// The sandbox restricts the process that serves clients.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value_t,
        ignore_case = true
    )]
    pub(crate) sandbox: Mode,

    /// Time limit in seconds for a command at a device
    ///
    /// After this time, the kernel aborts the command. Increase the limit if
    /// a failover of the storage array takes longer.
    #[arg(
        long, verbatim_doc_comment, value_name = "SECONDS", default_value_t = IO_TIMEOUT,
        allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=MAX_IO_TIMEOUT)
    )]
    io_timeout: u64,

    /// Reject reservations of type 1 or 3 on multipath maps
    ///
    /// With these types (Write Exclusive, Exclusive Access), only the path
    /// that holds the reservation can write, so that writes of the guest
    /// through the other paths fail. With this option, RESERVE and PREEMPT
    /// with these types fail with ILLEGAL REQUEST, INVALID FIELD IN CDB.
    /// Without it, the log contains a warning.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) reject_exclusive_types: bool,

    /// If two machines of this host share a disk
    ///
    /// The disk sees one initiator, so the reservation of one machine does
    /// not protect it from the other. warn logs a warning when the second
    /// machine registers; refuse rejects its registration with ILLEGAL
    /// REQUEST, INSUFFICIENT REGISTRATION RESOURCES. The processes of a live
    /// migration are one machine, if both have the same -uuid.
    #[arg(
        long,
        verbatim_doc_comment,
        value_enum,
        value_name = "ACTION",
        default_value_t,
        ignore_case = true,
        hide_possible_values = true
    )]
    pub(crate) same_lun: SameLun,

    /// Destination of the event journal [default: auto]
    ///
    /// One record for each command that changes a reservation, ends with
    /// RESERVATION CONFLICT, or reports a change by another host. auto: the
    /// systemd journal if it is running; systemd: fail without it; stderr or
    /// an absolute path: lines of JSON. "prhctl history" shows the last
    /// hundred in any case.
    #[arg(
        long, verbatim_doc_comment, value_name = "auto|systemd|stderr|PATH",
        default_value = "auto", hide_default_value = true,
        value_parser = JournalDestination::parse
    )]
    pub(crate) journal: JournalDestination,

    /// User that may read the state (repeatable), besides root
    ///
    /// "prhctl clients" and other commands read the state of the helper:
    /// clients, disks and commands. Root and the helper's own user may.
    #[arg(
        long, verbatim_doc_comment, value_name = "USER", action = ArgAction::Append,
        allow_hyphen_values = true, value_parser = parse_user
    )]
    pub(crate) state_user: Vec<User>,

    /// Directory of soft LUNs: emulated logical units, for tests
    ///
    /// The files in DIR/NAME/ports are then ports of the soft LUN NAME
    /// instead of ordinary files. "prhctl lun create DIR/NAME" creates it.
    #[arg(
        long, verbatim_doc_comment, value_name = "DIR", value_hint = ValueHint::DirPath,
        allow_hyphen_values = true
    )]
    pub(crate) soft_luns: Option<PathBuf>,

    // Last, because help prints options that follow under the heading of these.
    /// Limits on clients.
    #[command(flatten)]
    pub limits: Limits,

    /// Positional arguments, which QEMU's helper also accepts and ignores.
    #[arg(hide = true)]
    pub(crate) positional: Vec<OsString>,
}

/// Limits on clients.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Maximum number of connected clients
    ///
    /// The default is about a quarter of the file descriptor limit. Further
    /// clients wait until one disconnects. Each client can then have one
    /// command in flight. With --soft-luns, the default is about a fifth of
    /// the hard limit of file descriptors. Higher values are capped at the
    /// default. If the log contains "accepting connections paused", raise
    /// the limit of file descriptors (LimitNOFILE= in a systemd unit).
    #[arg(
        long, verbatim_doc_comment, value_name = "NUMBER",
        allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=u32::MAX)
    )]
    max_clients: Option<u32>,

    /// Maximum number of connections from one process
    ///
    /// The default is 512, or a quarter of --max-clients if that is less.
    /// Further connections are closed. Processes in other PID namespaces are
    /// counted too; before Linux 6.9, those of one user are counted
    /// together. Increase the limit if one QEMU process has more
    /// pr-manager-helper objects than this, such as one for each of many
    /// disks.
    #[arg(
        long, verbatim_doc_comment, value_name = "NUMBER",
        allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=u32::MAX)
    )]
    max_clients_per_process: Option<u32>,

    /// Maximum number of commands in flight at one device
    ///
    /// Further commands get the status BUSY, and guests retry them. Increase
    /// the limit if more virtual machines than this share a disk on one
    /// host.
    #[arg(
        long, verbatim_doc_comment, value_name = "NUMBER", default_value_t = COMMANDS_PER_DEVICE,
        allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=u32::MAX)
    )]
    max_commands_per_device: u32,

    /// Time limit in seconds for a client
    ///
    /// It applies to sending a request, answering the greeting, and reading
    /// a reply. After this time, the helper closes the connection. Idle
    /// connections do not time out.
    #[arg(
        long, verbatim_doc_comment, value_name = "SECONDS", default_value_t = REQUEST_TIMEOUT,
        allow_negative_numbers = true,
        value_parser = |text: &str| parse_number(text, 1..=86_400_u64)
    )]
    request_timeout: u64,
}

impl Limits {
    /// Returns the value of `--max-clients`.
    pub(crate) fn max_clients(&self) -> Option<usize> {
        self.max_clients.map(to_usize)
    }

    /// Returns the maximum number of connections from one process, if there are at most `clients`.
    pub(crate) fn max_clients_per_process(&self, clients: usize) -> usize {
        let default = (clients / MIN_PROCESSES).clamp(1, CLIENTS_PER_PROCESS);
        self.max_clients_per_process.map_or(default, to_usize)
    }

    pub(crate) fn max_commands_per_device(&self) -> usize {
        to_usize(self.max_commands_per_device)
    }

    /// Returns the timeout of a request, of the answer to the greeting, and of unread replies.
    pub(crate) const fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout)
    }
}

impl Default for Limits {
    /// Returns the limits of a command line without options.
    fn default() -> Self {
        Options::parse_from(["qemu-pr-helper"]).limits
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Value of `--user`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) id: unistd::Uid,
    /// The user's primary group; `None` for an ID without an account.
    pub(crate) primary_group: Option<unistd::Gid>,
}

impl Options {
    pub(crate) const fn io_timeout(&self) -> Duration {
        Duration::from_secs(self.io_timeout)
    }

    /// Returns the path of the PID file, `None` if none is created.
    pub(crate) fn pidfile(&self) -> Option<PathBuf> {
        let default = self.daemon.then(|| PathBuf::from(DEFAULT_PIDFILE));
        self.pidfile.clone().or(default)
    }
}

/// Returns the text of an error in the command line.
pub(crate) fn usage_text(error: &clap::Error) -> UsageText {
    UsageText::new(&error.render().to_string())
}

fn parse_socket(path: OsString) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(path);
    match path.is_absolute() {
        true => Ok(path),
        false => Err("the path must be absolute"),
    }
}

fn parse_user(value: &str) -> Result<User, &'static str> {
    // In an image without /etc/passwd the lookup of a name fails, and only IDs work.
    let account = unistd::User::from_name(value).ok().flatten();
    let id = account.as_ref().map(|account| account.uid);
    let id = id.or_else(|| parse_id(value).map(unistd::Uid::from_raw));
    let id = id.ok_or("no such user, and not a user ID")?;
    let account = account.or_else(|| unistd::User::from_uid(id).ok().flatten());
    let primary_group = account.map(|account| account.gid);
    Ok(User { id, primary_group })
}

fn parse_group(value: &str) -> Result<unistd::Gid, &'static str> {
    if let Ok(Some(group)) = unistd::Group::from_name(value) {
        return Ok(group.gid);
    }
    parse_id(value)
        .map(unistd::Gid::from_raw)
        .ok_or("no such group, and not a group ID")
}

/// Parses a user or group ID after any blanks, as strtoul(3) does. Rejects `u32::MAX`, which means
/// "unchanged" to the kernel.
fn parse_id(value: &str) -> Option<u32> {
    value.trim_start().parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, CommandFactory};
    use pr_testkit::raw_text;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let all = std::iter::once("qemu-pr-helper").chain(arguments.iter().copied());
        Options::try_parse_from(all).map_err(|error| usage_text(&error).message)
    }

    #[test]
    fn definition_is_consistent() {
        Options::command().debug_assert();
    }

    /// A terminal has 80 columns, and some break a line that fills all of them.
    #[test]
    fn help_fits_terminal() {
        let mut command = Options::command();
        let pages = [command.render_help(), command.render_long_help()];
        for line in pages.map(|page| page.to_string()).concat().lines() {
            assert!(line.chars().count() <= 79, "{line}");
        }
    }

    #[test]
    fn combined_and_attached_forms_are_accepted() {
        let options = parse(&["-dvqk/run/a.sock", "--sock=/run/b.sock", "-T", "-x*"]).unwrap();
        assert!(options.daemon);
        assert_eq!((options.verbose, options.quiet), (1, 1));
        assert_eq!(options.socket, Some("/run/b.sock".into()));
        assert_eq!(options.trace, ["-x*"]);
    }

    #[test]
    fn abbreviations_of_qemu_are_accepted() {
        for option in ["--s", "--so", "--soc", "--sock", "--socke", "--socket"] {
            let options = parse(&[option, "/run/a.sock"]).unwrap();
            assert_eq!(options.socket, Some("/run/a.sock".into()), "{option}");
        }
        for (option, quiet, verbose) in [("--q", 1, 0), ("--verb", 0, 1)] {
            let options = parse(&[option]).unwrap();
            assert_eq!((options.quiet, options.verbose), (quiet, verbose));
        }
        let options = parse(&["--sof", "luns"]).unwrap();
        assert_eq!(options.soft_luns, Some("luns".into()));
    }

    #[test]
    fn pidfile_has_a_default_with_daemon() {
        assert_eq!(
            parse(&["-d"]).unwrap().pidfile(),
            Some(DEFAULT_PIDFILE.into())
        );
        assert_eq!(parse(&[]).unwrap().pidfile(), None);
        assert_eq!(parse(&["-f", "/x"]).unwrap().pidfile(), Some("/x".into()));
    }

    #[test]
    fn bad_command_line_has_a_message_without_raw_text() {
        const SECONDS: &str = "for '--io-timeout <SECONDS>': valid are 1 to 4294967";
        for (arguments, expected) in [
            (&["-x"][..], "unexpected argument '-x' found"),
            (&["--sockt", "/x"], "unexpected argument '--sockt' found"),
            (
                &["--quiet=1"],
                "unexpected value '1' for '--quiet...' found; no more were expected",
            ),
            (
                &["-k"],
                "a value is required for '--socket <PATH>' but none was supplied",
            ),
            (
                &["-k", "rel"],
                "invalid value 'rel' for '--socket <PATH>': the path must be absolute",
            ),
            (
                &["-u", "-1"],
                "invalid value '-1' for '--user <USER>': no such user, and not a user ID",
            ),
            (
                &["-g", "4294967295"],
                "invalid value '4294967295' for '--group <GROUP>': no such group, and not a group \
                 ID",
            ),
            (
                &["--io-timeout", "0"],
                &format!("invalid value '0' {SECONDS}"),
            ),
            (
                &["--io-timeout", "x"],
                &format!("invalid value 'x' {SECONDS}"),
            ),
            (
                &["--io-timeout", "-1"],
                &format!("invalid value '-1' {SECONDS}"),
            ),
            (
                &["--io-timeout", "1s"],
                &format!("invalid value '1s' {SECONDS}"),
            ),
            (
                &["--io-timeout", "99999999999999999999"],
                &format!("invalid value '99999999999999999999' {SECONDS}"),
            ),
            (&["--io-timeout="], &format!("invalid value '' {SECONDS}")),
            (
                &["--max-clients", "4294967296"],
                "invalid value '4294967296' for '--max-clients <NUMBER>': valid are 1 to \
                 4294967295",
            ),
            (
                &["--sandbox", "x"],
                "invalid value 'x' for '--sandbox <MODE>' [possible values: enforce, log, off]",
            ),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), expected);
        }
    }

    #[test]
    fn bad_value_of_any_option_has_no_raw_text() {
        let mut rejected = 0;
        for option in Options::command().get_arguments().filter_map(Arg::get_long) {
            for argument in raw_text::bad_values(option) {
                if let Err(text) = parse(&[&argument]) {
                    raw_text::assert_none(&text);
                    rejected += 1;
                }
            }
        }
        assert!(rejected > 40, "{rejected}");
    }

    #[test]
    fn unknown_option_has_a_suggestion() {
        let error = Options::try_parse_from(["qemu-pr-helper", "--sockt", "/x"]).unwrap_err();
        let advice = [
            "Usage: qemu-pr-helper [OPTIONS]",
            "Tip: a similar argument exists: '--socket'.",
            "See 'qemu-pr-helper --help'.",
        ];
        assert_eq!(usage_text(&error).advice, advice);
    }

    fn limits(arguments: &[&str]) -> Result<Limits, String> {
        parse(arguments).map(|options| options.limits)
    }

    #[test]
    fn max_clients_per_process_has_a_default_share() {
        for (clients, expected) in [(1, 1), (8, 2), (2047, 511), (1_000_000, 512)] {
            let share = Limits::default().max_clients_per_process(clients);
            assert_eq!(share, expected);
        }
        let limits = limits(&["--max-clients-per-process", "9"]).unwrap();
        assert_eq!(limits.max_clients_per_process(8), 9);
    }

    #[test]
    fn zero_limit_is_rejected() {
        for option in [
            "--max-clients",
            "--max-clients-per-process",
            "--max-commands-per-device",
            "--request-timeout",
        ] {
            assert!(limits(&[option, "0"]).is_err(), "{option}");
            assert!(limits(&[option, "1"]).is_ok(), "{option}");
        }
    }
}
