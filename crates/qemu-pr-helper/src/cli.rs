//! The command line: every option of QEMU's helper, in every form that `getopt_long` takes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Parser, ValueHint};
use nix::unistd;

use crate::limits::Limits;
use crate::sandbox::Mode;
use crate::trace::options::TraceBackend;

/// Where the socket is unless `--socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/qemu-pr-helper.sock";
/// Where a daemon's PID file is unless `--pidfile` says otherwise.
pub const DEFAULT_PIDFILE: &str = "/var/run/qemu-pr-helper.pid";

/// How long a device may take for a command: what QEMU gives a guest's other commands.
const DEFAULT_IO_TIMEOUT: u64 = 30;
/// The kernel counts milliseconds in 32 bits.
const LONGEST_IO_TIMEOUT: u64 = u32::MAX as u64 / 1000;

/// Persistent reservation helper for QEMU.
#[derive(Debug, Parser)]
#[command(
    name = "qemu-pr-helper",
    version,
    override_usage = "qemu-pr-helper [OPTIONS]",
    // As getopt_long does: `--sock` for `--socket`, and the last of two `-k` counts.
    infer_long_args = true,
    args_override_self = true,
    after_help = "\
Without -d it stays in the foreground, as libvirt and systemd want it.
Under systemd socket activation the socket is the unit's, and -k is refused.",
    max_term_width = 100
)]
pub struct Options {
    /// Run in the background, and create a PID file
    #[arg(short, long)]
    pub daemon: bool,

    /// Say less: errors only. Wins over -v
    #[arg(short, long, action = ArgAction::Count)]
    pub quiet: u8,

    /// Say more: each connection, refused request and repeated warning; twice, each command
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// PID file, no symbolic link [default with -d: /var/run/qemu-pr-helper.pid]
    #[arg(
        short = 'f', long, value_name = "PATH", value_hint = ValueHint::FilePath,
        allow_hyphen_values = true
    )]
    pub pidfile: Option<PathBuf>,

    /// Unix socket, in a directory that is root's [default: /var/run/qemu-pr-helper.sock]
    #[arg(
        // Short for it before there were soft LUNs, and still.
        short = 'k', long, aliases = ["s", "so"], value_name = "PATH", value_hint = ValueHint::FilePath,
        allow_hyphen_values = true, value_parser = OsStringValueParser::new().try_map(absolute)
    )]
    pub socket: Option<PathBuf>,

    /// Enable trace events; "-T help" lists them. Can be repeated
    #[arg(
        // Short for it before there were other options about traces, and still.
        short = 'T', long, aliases = ["t", "tr", "tra", "trac"],
        value_name = "[[enable=]PATTERN][,events=FILE][,file=FILE]",
        allow_hyphen_values = true, action = ArgAction::Append
    )]
    pub trace: Vec<String>,

    /// Where traces go [default: log]. Can be repeated
    #[arg(long, value_name = "BACKEND", action = ArgAction::Append, ignore_case = true)]
    pub trace_backend: Vec<TraceBackend>,

    /// Begin each line of the log backend with thread and time
    #[arg(long)]
    pub trace_timestamp: bool,

    /// Print the definitions of all events, for readers of binary traces, and exit
    #[arg(long)]
    pub trace_events: bool,

    /// User to drop privileges to, by name or number [default for root: the account qemu-pr-helper,
    /// if there is one, unless -g or --soft-luns is given]. Not QEMU's own user: it could stop the
    /// helper
    #[arg(short, long, allow_hyphen_values = true, value_parser = user)]
    pub user: Option<User>,

    /// Group to drop privileges to, by name or number [default: the user's own]
    #[arg(short, long, allow_hyphen_values = true, value_parser = group)]
    pub group: Option<unistd::Gid>,

    /// What the helper may still do while it serves
    #[arg(
        long,
        value_name = "MODE",
        default_value = "enforce",
        ignore_case = true
    )]
    pub sandbox: Mode,

    /// Seconds that a device may take for a command
    #[arg(
        long, value_name = "SECONDS", default_value_t = DEFAULT_IO_TIMEOUT,
        value_parser = clap::value_parser!(u64).range(1..=LONGEST_IO_TIMEOUT)
    )]
    pub io_timeout: u64,

    /// Folder of soft LUNs, for trials and tests: take files in it for ports
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, allow_hyphen_values = true)]
    pub soft_luns: Option<PathBuf>,

    // The last that help shows, as what follows would be under its heading.
    /// How much of the helper a client can take.
    #[command(flatten)]
    pub limits: Limits,

    /// Other arguments have no meaning, and never had: QEMU's helper takes and ignores them.
    #[arg(hide = true)]
    pub ignored: Vec<OsString>,
}

/// Whom to become with `--user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub id: unistd::Uid,
    /// The user's primary group, if the user has an account.
    pub primary_group: Option<unistd::Gid>,
}

impl Options {
    /// How long a device may take for a command.
    #[must_use]
    pub const fn io_timeout(&self) -> Duration {
        Duration::from_secs(self.io_timeout)
    }

    /// The PID file, if there is to be one.
    #[must_use]
    pub fn pidfile(&self) -> Option<PathBuf> {
        let default = self.daemon.then(|| PathBuf::from(DEFAULT_PIDFILE));
        self.pidfile.clone().or(default)
    }
}

/// One line that says what is wrong with the command line.
#[must_use]
pub fn usage_error(error: &clap::Error) -> String {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    // A value parser's own words are clear without what clap puts around them.
    if let Some(source) = std::error::Error::source(error) {
        let option = argument.split_whitespace().next().unwrap_or_default();
        return format!("{option}: {source}");
    }
    let rendered = error.render().to_string();
    let text = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    text.lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
}

fn absolute(path: OsString) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("socket path must be absolute")
    }
}

fn user(value: &str) -> Result<User, String> {
    // Where accounts cannot be looked up, in an image without /etc/passwd, numbers do.
    if let Ok(Some(account)) = unistd::User::from_name(value) {
        return Ok(User {
            id: account.uid,
            primary_group: Some(account.gid),
        });
    }
    let id = number(value).map(unistd::Uid::from_raw);
    let id = id.ok_or_else(|| format!("invalid user '{value}'"))?;
    let account = unistd::User::from_uid(id).ok().flatten();
    Ok(User {
        id,
        primary_group: account.map(|account| account.gid),
    })
}

fn group(value: &str) -> Result<unistd::Gid, String> {
    if let Ok(Some(group)) = unistd::Group::from_name(value) {
        return Ok(group.gid);
    }
    number(value)
        .map(unistd::Gid::from_raw)
        .ok_or_else(|| format!("invalid group '{value}'"))
}

/// A user or group id, after any blanks, as strtoul(3) has it. The highest number is not one: the
/// kernel takes it as "leave unchanged".
fn number(value: &str) -> Option<u32> {
    value.trim_start().parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let all = std::iter::once("qemu-pr-helper").chain(arguments.iter().copied());
        Options::try_parse_from(all).map_err(|error| usage_error(&error))
    }

    #[test]
    fn definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn combined_and_attached_forms_are_taken() {
        let options = parse(&["-dvqk/run/a.sock", "--sock=/run/b.sock", "-T", "-x*"]).unwrap();
        assert!(options.daemon);
        assert_eq!((options.verbose, options.quiet), (1, 1));
        assert_eq!(options.socket, Some("/run/b.sock".into()));
        assert_eq!(options.trace, ["-x*"]);
    }

    #[test]
    fn every_abbreviation_of_qemu_s_helper_means_the_same() {
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
    fn a_daemon_has_a_pid_file_unless_told_others_have_none() {
        assert_eq!(
            parse(&["-d"]).unwrap().pidfile(),
            Some(DEFAULT_PIDFILE.into())
        );
        assert_eq!(parse(&[]).unwrap().pidfile(), None);
        assert_eq!(parse(&["-f", "/x"]).unwrap().pidfile(), Some("/x".into()));
    }

    #[test]
    fn complaints_are_one_line_that_names_the_fault() {
        for (arguments, expected) in [
            (&["-x"][..], "unexpected argument '-x' found"),
            (&["-k", "rel"], "--socket: socket path must be absolute"),
            (&["-u", "-1"], "--user: invalid user '-1'"),
            (&["-g", "4294967295"], "--group: invalid group '4294967295'"),
            (
                &["--io-timeout", "0"],
                "--io-timeout: 0 is not in 1..=4294967",
            ),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), expected);
        }
    }
}
