//! The command line: what can be asked for, and in which words.

pub(crate) mod help;
pub(crate) mod lun;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use scsi_pr::{OutServiceAction, RelativeTargetPort, ReservationKey, ReservationType, TransportId};

/// Where the helper's socket is unless `--socket` says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/qemu-pr-helper.sock";

/// Ask and change SCSI persistent reservations through QEMU's helper
#[derive(Debug, Parser)]
#[command(
    name = "prhctl",
    version,
    long_about = help::ABOUT,
    after_long_help = help::AFTER,
    after_help = "'prhctl --help' says more, and 'prhctl COMMAND --help' all of a command.",
    subcommand_value_name = "COMMAND",
    // A missing command is a mistake like others: status 1, and not the whole help.
    arg_required_else_help = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// Unix socket of the helper, which receives the open device
    #[arg(
        short = 'k', long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath,
        default_value = DEFAULT_SOCKET
    )]
    pub(crate) socket: PathBuf,

    /// One JSON document on standard output, an error too
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Colours.
    #[arg(
        long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto,
        hide_possible_values = true,
        help = "Colours: auto (on a terminal, unless NO_COLOR is set), always, never"
    )]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Wherever the output goes
    Always,
    /// Nowhere
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the registered keys
    #[command(long_about = help::KEYS, after_long_help = help::KEYS_EXAMPLES)]
    Keys(Device),
    /// Show the reservation
    #[command(long_about = help::RESERVATION, after_long_help = help::RESERVATION_EXAMPLES)]
    Reservation(Device),
    /// Show what the device can do
    #[command(long_about = help::CAPABILITIES, after_long_help = help::CAPABILITIES_EXAMPLES)]
    Capabilities(Device),
    /// Show every registration, and who holds the reservation
    #[command(long_about = help::STATUS, after_long_help = help::STATUS_EXAMPLES)]
    Status(Device),
    /// Register a key
    #[command(long_about = help::REGISTER, after_long_help = help::REGISTER_EXAMPLES)]
    Register(Register),
    /// Remove one's own registration
    #[command(long_about = help::UNREGISTER, after_long_help = help::UNREGISTER_EXAMPLES)]
    Unregister(WithKey),
    /// Reserve the device
    #[command(long_about = help::RESERVE, after_long_help = help::RESERVE_EXAMPLES)]
    Reserve(Reserve),
    /// Give up the reservation
    #[command(long_about = help::RELEASE, after_long_help = help::RELEASE_EXAMPLES)]
    Release(Release),
    /// Remove the reservation and all registrations
    #[command(long_about = help::CLEAR, after_long_help = help::CLEAR_EXAMPLES)]
    Clear(WithKey),
    /// Remove somebody else's registration, and take over the reservation: fencing
    #[command(long_about = help::PREEMPT, after_long_help = help::PREEMPT_EXAMPLES)]
    Preempt(Preempt),
    /// Give the reservation to another initiator port
    #[command(long_about = help::MOVE, after_long_help = help::MOVE_EXAMPLES, override_usage = help::MOVE_USAGE)]
    Move(Move),
    /// Explain bytes: a CDB, a parameter list, parameter data, sense
    #[command(long_about = help::DECODE, after_long_help = help::DECODE_EXAMPLES)]
    Decode(Decode),
    /// Make and look at soft LUNs, logical units in software
    #[command(
        subcommand, long_about = help::LUN, after_long_help = help::LUN_EXAMPLES,
        arg_required_else_help = false
    )]
    Lun(lun::Lun),
    /// Play a failover of two nodes, without hardware and without root
    #[command(long_about = help::DEMO, after_long_help = help::DEMO_EXAMPLES)]
    Demo(lun::Demo),
}

/// The device that a command is about.
#[derive(Debug, Args)]
pub(crate) struct Device {
    /// The disk, as a path
    #[arg(value_name = "DEVICE", value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
}

/// A device, and the sender's key.
#[derive(Debug, Args)]
pub(crate) struct WithKey {
    #[command(flatten)]
    pub(crate) device: Device,
    /// The key that this initiator port is registered with
    #[arg(long, value_name = "KEY", value_parser = values::own_key)]
    pub(crate) key: ReservationKey,
}

/// `register`.
#[derive(Debug, Args)]
pub(crate) struct Register {
    #[command(flatten)]
    pub(crate) device: Device,
    /// The key to register
    #[arg(long, value_name = "KEY", value_parser = values::own_key)]
    pub(crate) key: ReservationKey,
    /// The key that is registered now, and is replaced
    #[arg(long, value_name = "KEY", value_parser = values::key, conflicts_with = "ignore_existing")]
    pub(crate) old_key: Option<ReservationKey>,
    /// Replace whatever key is registered now
    #[arg(long)]
    pub(crate) ignore_existing: bool,
    /// Have the device keep registrations and reservation when it loses power
    #[arg(long)]
    pub(crate) aptpl: bool,
    /// Register at all target ports of the device, not only at this path's
    #[arg(long)]
    pub(crate) all_target_ports: bool,
    /// Register this initiator port too. Can be repeated
    #[arg(long, value_name = "TRANSPORTID", conflicts_with = "ignore_existing")]
    pub(crate) initiator: Vec<TransportId>,
}

/// `reserve`.
#[derive(Debug, Args)]
pub(crate) struct Reserve {
    #[command(flatten)]
    pub(crate) sender: WithKey,
    /// The type: we, ea, we-ro, ea-ro, we-ar, ea-ar; their long names; 1, 3, 5, 6, 7, 8
    #[arg(long = "type", value_name = "TYPE", value_parser = values::reservation_type)]
    pub(crate) reservation_type: ReservationType,
}

/// `release`.
#[derive(Debug, Args)]
pub(crate) struct Release {
    #[command(flatten)]
    pub(crate) sender: WithKey,
    /// The type of the reservation; without it, the device is asked for it
    #[arg(long = "type", value_name = "TYPE", value_parser = values::reservation_type)]
    pub(crate) reservation_type: Option<ReservationType>,
}

/// `preempt`.
#[derive(Debug, Args)]
pub(crate) struct Preempt {
    #[command(flatten)]
    pub(crate) sender: WithKey,
    /// The key whose registrations are removed
    #[arg(long, value_name = "KEY", value_parser = values::key)]
    pub(crate) victim: ReservationKey,
    /// The type of the reservation afterwards, if the victim held it
    #[arg(long = "type", value_name = "TYPE", value_parser = values::reservation_type)]
    pub(crate) reservation_type: ReservationType,
    /// Abort the victim's commands too
    #[arg(long)]
    pub(crate) abort: bool,
}

/// `move`.
#[derive(Debug, Args)]
pub(crate) struct Move {
    #[command(flatten)]
    pub(crate) sender: WithKey,
    /// The key to register for the new holder
    #[arg(long, value_name = "KEY", value_parser = values::own_key)]
    pub(crate) new_key: ReservationKey,
    /// The initiator port of the new holder
    #[arg(long, value_name = "TRANSPORTID")]
    pub(crate) to: TransportId,
    /// The relative number of the target port through which the new holder speaks
    #[arg(long, value_name = "NUMBER", value_parser = values::target_port)]
    pub(crate) target_port: RelativeTargetPort,
    /// Remove the sender's own registration
    #[arg(long)]
    pub(crate) unregister: bool,
    /// Have the device keep registrations and reservation when it loses power
    #[arg(long)]
    pub(crate) aptpl: bool,
}

/// `decode`.
#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// The bytes, in hexadecimal; without any, those on standard input
    #[arg(value_name = "HEX", allow_hyphen_values = false)]
    pub(crate) hex: Vec<String>,
    /// What the bytes are
    #[arg(long = "as", value_name = "WHAT", value_enum)]
    pub(crate) kind: Option<Kind>,
    /// The service action that a parameter list goes with, by its name or number
    #[arg(long, value_name = "ACTION", value_parser = values::service_action)]
    pub(crate) service_action: Option<OutServiceAction>,
}

/// What bytes can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A command descriptor block, also with its parameter list
    Cdb,
    /// Sense data
    Sense,
    /// A parameter list of PERSISTENT RESERVE OUT
    Parameters,
    /// What READ KEYS answers
    Keys,
    /// What READ RESERVATION answers
    Reservation,
    /// What REPORT CAPABILITIES answers
    Capabilities,
    /// What READ FULL STATUS answers
    Status,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, String> {
        Cli::try_parse_from(line.split(' '))
            .map(|cli| cli.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut cli = Cli::command();
        cli.build();
        let mut commands = vec![cli];
        while let Some(mut command) = commands.pop() {
            for line in command.render_long_help().to_string().lines() {
                assert!(line.chars().count() <= 96, "{}: {line}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn each_command_has_examples_and_exit_statuses() {
        let mut commands: Vec<_> = Cli::command().get_subcommands().cloned().collect();
        let mut seen = 0;
        while let Some(command) = commands.pop() {
            let text = command.get_after_long_help().map(ToString::to_string);
            let text = text.unwrap_or_default();
            let name = command.get_name();
            assert!(text.starts_with("EXAMPLES\n"), "{name}: {text}");
            assert!(text.contains("\nExit status"), "{name}: {text}");
            commands.extend(command.get_subcommands().cloned());
            seen += 1;
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for line in ["prhctl -k /s --json keys /d", "prhctl keys --json /d -k /s"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.socket, PathBuf::from("/s"));
            assert!(cli.global.json);
        }
    }

    #[test]
    fn what_cannot_go_together_is_refused() {
        for (line, words) in [
            ("prhctl register /d", "--key <KEY>"),
            ("prhctl register /d --key 0", "'unregister' removes"),
            (
                "prhctl register /d --key 1 --old-key 2 --ignore-existing",
                "cannot be used with",
            ),
            (
                "prhctl register /d --key 1 --ignore-existing --initiator sas,5000c50005b32001",
                "cannot be used with",
            ),
            ("prhctl reserve /d --key 1 --type 2", "not a type"),
            ("prhctl preempt /d --key 1 --type we", "--victim <KEY>"),
            (
                "prhctl reserve /d --key xyz --type we",
                "not a reservation key",
            ),
            ("prhctl", "requires a subcommand"),
            ("prhctl lun", "requires a subcommand"),
            ("prhctl register /d --key 1:aptpl", "--aptpl"),
            (
                "prhctl preempt /d --key 1 --victim 2:aptpl --type we",
                "--aptpl",
            ),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn a_whole_command_line_is_taken() {
        let line = "prhctl move /d --key 0x1 --new-key 2 --to fcp,10000000c9f3a571 --target-port 3";
        let Command::Move(given) = parse(line).unwrap() else {
            panic!("another command")
        };
        assert_eq!(given.sender.key, ReservationKey::new(1));
        assert_eq!(given.new_key, ReservationKey::new(2));
        assert_eq!(given.to.to_string(), "fcp,10000000c9f3a571");
        assert_eq!(given.target_port, RelativeTargetPort::new(3));
        assert!(!given.unregister && !given.aptpl);
    }
}
