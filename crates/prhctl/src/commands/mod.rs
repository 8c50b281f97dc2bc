// SPDX-License-Identifier: MIT OR Apache-2.0

//! The subcommands: arguments, help, what each one does, and its result.

/// Appends the side effect of a query to its help.
macro_rules! query_help {
    ($text:literal) => {
        concat!(
            $text,
            "

Queries have a side effect: a pending unit attention on this path goes to
whichever command arrives first, and only once. If a guest on this host uses
the disk through the same path, the guest misses it. Query through another path
or from another host. 'prhctl lun show' inspects a soft LUN without sending a
command to it."
        )
    };
}

/// The names of the reservation types, for help.
macro_rules! type_names {
    () => {
        "we, ea, we-ro, ea-ro, we-ar, ea-ar"
    };
}

mod capabilities;
pub(crate) mod change;
mod clear;
mod clients;
mod completion;
mod decode;
pub(crate) mod demo;
mod disks;
mod doctor;
mod exporter;
mod history;
mod holders;
mod keys;
mod list;
mod lun;
mod move_reservation;
mod orphans;
mod preempt;
pub(crate) mod reap;
mod register;
mod release;
mod replace_lost;
mod reservation;
mod reserve;
mod status;
mod top;
mod unregister;
mod validate;

use clap::{Args, ValueHint};
use scsi_pr::ReservationKey;

use crate::context::{Context, DeviceArgs};
use crate::exit::Exit;
use crate::labels;

/// A subcommand with its arguments. The type defines the help as well.
pub(crate) trait Subcommand {
    /// Does what the subcommand is for, and prints the result.
    fn run(&self, context: &Context) -> Exit;

    /// Returns whether the subcommand connects to a helper.
    fn uses_helper(&self) -> bool {
        true
    }
}

/// Defines the enumeration of the subcommands.
macro_rules! subcommands {
    ($($name:ident: $arguments:ty,)*) => {
        /// The subcommand of a command line.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum CliCommand {
            $($name($arguments),)*
        }

        impl CliCommand {
            pub(crate) fn as_subcommand(&self) -> &dyn Subcommand {
                match self {
                    $(Self::$name(arguments) => arguments,)*
                }
            }
        }
    };
}

// In the order of the help. The name of a variant is that of the subcommand.
subcommands! {
    List: list::ListArgs,
    Clients: clients::ClientsArgs,
    Disks: disks::DisksArgs,
    Holders: holders::HoldersArgs,
    History: history::HistoryArgs,
    Top: top::TopArgs,
    Doctor: doctor::DoctorArgs,
    Keys: keys::KeysArgs,
    Reservation: reservation::ReservationArgs,
    Capabilities: capabilities::CapabilitiesArgs,
    Status: status::StatusArgs,
    Register: register::RegisterArgs,
    Unregister: unregister::UnregisterArgs,
    Reserve: reserve::ReserveArgs,
    Release: release::ReleaseArgs,
    Clear: clear::ClearArgs,
    Preempt: preempt::PreemptArgs,
    Move: move_reservation::MoveArgs,
    ReplaceLost: replace_lost::ReplaceLostArgs,
    Orphans: orphans::OrphansArgs,
    Reap: reap::ReapArgs,
    Validate: validate::ValidateArgs,
    Decode: decode::DecodeArgs,
    Lun: lun::LunArgs,
    Exporter: exporter::ExporterArgs,
    Demo: demo::DemoArgs,
    Completion: completion::CompletionArgs,
}

/// The device, and the sender's key.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Key that this initiator port is registered with
    #[arg(
        long, value_name = "KEY", value_hint = ValueHint::Other,
        value_parser = labels::parse_nonzero_key,
        allow_negative_numbers = true
    )]
    pub(crate) key: ReservationKey,
}
