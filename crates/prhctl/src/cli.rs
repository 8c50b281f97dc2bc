// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line: global options, subcommands and the help of the program.

use clap::{Args, Parser};

use crate::commands::CliCommand;
use crate::console::Color;
use crate::context::{HelperArgs, OPTIONS};

const HELP: &str = "\
Query and change SCSI persistent reservations through QEMU's helper.

prhctl does with a disk what a virtual machine does: it opens the disk, passes
the open file to the helper (qemu-pr-helper, this project's or QEMU's) over the
helper's socket, and the helper executes one PERSISTENT RESERVE command. prhctl
therefore needs no privileges except to open the disk and to connect to the
socket, and it sees what a guest would see.

A registration makes an initiator port (a port of this host) known to the
device, through one target port, under a key. A reservation determines which
ports may write, or read and write: its holder, or all registrants.
'prhctl register' registers this host. All other changes require a registration
and name its key; a wrong key causes a RESERVATION CONFLICT.";

const DETAILS: &str = "\
KEYS are hexadecimal, 1 to 16 digits, with or without 0x: 0x123abc.

TYPES
  we     write-exclusive                    1  holder writes, all read
  ea     exclusive-access                   3  holder writes and reads
  we-ro  write-exclusive-registrants-only   5  registrants write, all read
  ea-ro  exclusive-access-registrants-only  6  registrants write and read
  we-ar  write-exclusive-all-registrants    7  like 5, all registrants hold it
  ea-ar  exclusive-access-all-registrants   8  like 6, all registrants hold it

TRANSPORTIDS have the syntax of sg_persist:
  fcp,10000000c9f3a571    srp,fe80000000000000f4521403007be121
  sas,5000c50005b32001    iqn.1993-08.org.debian:01:abc,i,0x00023d000001

PATHS, PARTITIONS AND VOLUMES: reservations apply to a whole disk, and a
registration covers one path of it only. If DEVICE is a path of a multipath
map, a partition or a volume, prhctl prints a note that names the map or disk
to use, and sends the command nevertheless.

UNIT ATTENTIONS are printed to standard error. The device delivers each one
only once on this path, so a guest that uses the disk through the same path
misses it. Queries are retried after a unit attention. Changes are retried only
if the unit attention does not concern reservations and the device is
unchanged; otherwise prhctl exits with status 6. After BUSY and TASK SET FULL,
queries are retried 5 times, for a second in all. Changes are not retried,
because they may have been executed.

EXIT STATUS, the same as for sg_persist (sg3_utils(8)):
   0  executed                            22  LBA out of range
   1  usage error, no helper, no device   24  RESERVATION CONFLICT
   2  NOT READY                           25  CONDITION MET
   3  MEDIUM/HARDWARE ERROR, BLANK CHECK  26  BUSY
   5  ILLEGAL REQUEST                     27  TASK SET FULL
   6  UNIT ATTENTION                      28  ACA ACTIVE
   7  DATA PROTECT                        29  TASK ABORTED
   9  INVALID COMMAND OPERATION CODE      36  nothing released, faults found
  10  COPY ABORTED                        40  ABORTED COMMAND, protection error
  11  ABORTED COMMAND                     97  malformed response
  14  MISCOMPARE                          98  other sense data
  20  NO SENSE, no data                   99  other status
  21  RECOVERED ERROR, no data

EXAMPLES
  prhctl status /dev/sdb
  prhctl register /dev/sdb --key 0x123abc
  prhctl reserve /dev/sdb --key 0x123abc --type we-ro
  prhctl -k /run/pr.sock --json keys /dev/sdb";

/// Query and change SCSI persistent reservations through QEMU's helper
#[derive(Debug, Parser)]
#[command(
    name = "prhctl",
    version,
    long_about = HELP,
    after_long_help = DETAILS,
    after_help = "See 'prhctl --help' for details and 'prhctl COMMAND --help' for a command.",
    subcommand_value_name = "COMMAND",
    // A missing subcommand is a usage error with status 1, and does not print the help.
    arg_required_else_help = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) helper: HelperArgs,
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

/// The options of all subcommands.
#[derive(Debug, Args)]
#[command(next_help_heading = OPTIONS)]
pub(crate) struct GlobalArgs {
    /// Print one JSON document, also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[arg(
        long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto,
        hide_possible_values = true, help = "Colors: auto, always or never",
        long_help = "Colors: always, never, or auto: on a terminal unless TERM is dumb,\n\
                     always if CLICOLOR_FORCE is set, never if NO_COLOR is set"
    )]
    pub(crate) color: Color,
}
