//! The texts of `--help` that are longer than a line.

/// Of the program.
pub(crate) const ABOUT: &str = "\
Ask and change SCSI persistent reservations through QEMU's helper.

prhctl does with a disk what a virtual machine does: it opens the disk, hands it
to the helper (qemu-pr-helper, ours or QEMU's own) over the helper's socket, and
has it execute one PERSISTENT RESERVE command. So it needs no privileges but to
open the disk and to connect to the socket, and it sees what a guest would see.

A registration says: this initiator port (a port of this host) is known to the
device, through this target port, by this key. A reservation says who may write,
or read and write: its holder, or all registrants. A command is for whoever is
registered, and names its own key; a wrong one is a RESERVATION CONFLICT.";

/// Behind the program's options.
pub(crate) const AFTER: &str = "\
KEYS are hexadecimal, 1 to 16 digits, with or without 0x: 0x123abc.

TYPES
  we     write-exclusive                      1  the holder writes, all read
  ea     exclusive-access                     3  the holder writes and reads
  we-ro  write-exclusive-registrants-only     5  registrants write, all read
  ea-ro  exclusive-access-registrants-only    6  registrants write and read
  we-ar  write-exclusive-all-registrants      7  as 5, each registrant is a holder
  ea-ar  exclusive-access-all-registrants     8  as 6, each registrant is a holder

TRANSPORTIDS are written as sg_persist takes them:
  fcp,10000000c9f3a571    sas,5000c50005b32001    srp,fe80000000000000f4521403007be121
  iqn.1993-08.org.debian:01:abc,i,0x00023d000001

UNIT ATTENTIONS are shown on standard error. A command that asks is then sent
again; a command that changes only if the attention has nothing to do with
reservations, otherwise it ends with status 6. BUSY and TASK SET FULL are tried
again 5 times, for a second in all.

EXIT STATUS, as of sg_persist (sg3_utils(8)):
   0  done                                 20  NO SENSE
   1  wrong use, no helper, no device      21  RECOVERED ERROR
   2  NOT READY                            22  LBA out of range
   3  MEDIUM ERROR, HARDWARE ERROR         24  RESERVATION CONFLICT
   5  ILLEGAL REQUEST                      25  CONDITION MET
   6  UNIT ATTENTION                       26  BUSY
   7  DATA PROTECT                         27  TASK SET FULL
   9  INVALID COMMAND OPERATION CODE       28  ACA ACTIVE
  10  COPY ABORTED                         29  TASK ABORTED
  11  ABORTED COMMAND                      40  ABORTED COMMAND, protection information
  14  MISCOMPARE                           97  the answer makes no sense
                                           98  another sense, 99  another status

EXAMPLES
  prhctl status /dev/sdb
  prhctl register /dev/sdb --key 0x123abc
  prhctl reserve /dev/sdb --key 0x123abc --type we-ro
  prhctl -k /run/pr.sock --json keys /dev/sdb";

/// `keys`.
pub(crate) const KEYS: &str = "\
Show the registered keys (PERSISTENT RESERVE IN, READ KEYS).

One key for each registration, in the device's order: a key that several ports
have registered, or one port at several target ports, is there several times.
Anybody may ask, registered or not, whatever is reserved. The generation tells
how often registrations were changed: if it is the same twice, none came or went.";
/// Behind the options of `keys`.
pub(crate) const KEYS_EXAMPLES: &str = "\
EXAMPLES
  prhctl keys /dev/sdb
  prhctl --json keys /dev/sdb | jq -r '.keys[]' | sort | uniq -c

Exit status 0, or as 'prhctl --help' lists.";

/// `reservation`.
pub(crate) const RESERVATION: &str = "\
Show the reservation (PERSISTENT RESERVE IN, READ RESERVATION).

Its type, scope and the holder's key; with a type of all registrants there is no
one holder, and the device gives no key. Anybody may ask, registered or not.";
/// Behind the options of `reservation`.
pub(crate) const RESERVATION_EXAMPLES: &str = "\
EXAMPLES
  prhctl reservation /dev/sdb
  prhctl --json reservation /dev/sdb | jq -e '.reservation != null'

Exit status 0 whether or not there is one, or as 'prhctl --help' lists.";

/// `capabilities`.
pub(crate) const CAPABILITIES: &str = "\
Show what the device can do (PERSISTENT RESERVE IN, REPORT CAPABILITIES).

Which types of reservation it knows, whether it can register other initiator
ports or all target ports at once, and whether it keeps registrations when it
loses power (APTPL). What is stated is what the device says of itself.";
/// Behind the options of `capabilities`.
pub(crate) const CAPABILITIES_EXAMPLES: &str = "\
EXAMPLES
  prhctl capabilities /dev/sdb

Exit status 0, or as 'prhctl --help' lists.";

/// `status`.
pub(crate) const STATUS: &str = "\
Show every registration, and who holds the reservation (PERSISTENT RESERVE IN,
READ FULL STATUS).

A line for each registration: the key, the initiator port's TransportID, the
relative target port (or all), and, for a holder, type and scope of the
reservation. Not every device knows this; 'keys' and 'reservation' tell less, and
are known to all that know reservations.";
/// Behind the options of `status`.
pub(crate) const STATUS_EXAMPLES: &str = "\
EXAMPLES
  prhctl status /dev/sdb
  prhctl --json status /dev/sdb | jq '.registrations[] | select(.holder)'

Exit status 0, or as 'prhctl --help' lists.";

/// `register`.
pub(crate) const REGISTER: &str = "\
Register a key for this host's initiator port (PERSISTENT RESERVE OUT, REGISTER,
or REGISTER AND IGNORE EXISTING KEY).

Without --old-key, the port must not be registered yet; with it, it must be
registered with just that key, which is replaced. --ignore-existing asks for
nothing, and so also comes back after having been preempted: not for a node that
somebody may have fenced. A reservation keeps nobody from registering, and the
holder stays the holder under a new key.

The last registration decides for the whole device whether registrations and
reservation outlast a loss of power: with --aptpl they do, without they do not.";
/// Behind the options of `register`.
pub(crate) const REGISTER_EXAMPLES: &str = "\
EXAMPLES
  prhctl register /dev/sdb --key 0x123abc --aptpl
  prhctl register /dev/sdb --key 0x456 --old-key 0x123abc
  prhctl register /dev/sdb --key 0x123abc --initiator sas,5000c50005b32001

Exit status 0; 24 if the old key is not the registered one, or without one the
port is registered already; otherwise as 'prhctl --help' lists.";

/// `unregister`.
pub(crate) const UNREGISTER: &str = "\
Remove this initiator port's registration (PERSISTENT RESERVE OUT, REGISTER with
the key zero).

If the port holds a reservation, that goes too; those who are registered under a
type of registrants are told by a unit attention. With a type of all registrants
the reservation goes with the last registration.";
/// Behind the options of `unregister`.
pub(crate) const UNREGISTER_EXAMPLES: &str = "\
EXAMPLES
  prhctl unregister /dev/sdb --key 0x123abc

Exit status 0; 24 if the port is not registered with this key; otherwise as
'prhctl --help' lists.";

/// `reserve`.
pub(crate) const RESERVE: &str = "\
Reserve the device (PERSISTENT RESERVE OUT, RESERVE).

The sender has to be registered, with the key given. From then on everybody else
is bound as the type says. A reservation has one type: to change it, release, or
preempt oneself.";
/// Behind the options of `reserve`.
pub(crate) const RESERVE_EXAMPLES: &str = "\
EXAMPLES
  prhctl reserve /dev/sdb --key 0x123abc --type we-ro
  prhctl reserve /dev/sdb --key 0x123abc --type 5        the same, as sg_persist counts

Exit status 0, also if the sender holds this very reservation; 24 if somebody else
holds one, the type is another one, or the key is wrong; otherwise as
'prhctl --help' lists.";

/// `release`.
pub(crate) const RELEASE: &str = "\
Give up the reservation (PERSISTENT RESERVE OUT, RELEASE).

Only the holder can; from other registrants the device takes the command with
GOOD and does nothing, which is then said. The type has to be that of the
reservation, so it is read first, unless --type gives it. Registrations stay, and
with the types of registrants the others are told by a unit attention.";
/// Behind the options of `release`.
pub(crate) const RELEASE_EXAMPLES: &str = "\
EXAMPLES
  prhctl release /dev/sdb --key 0x123abc

Exit status 0, also if there is nothing to release; 24 if the sender is not
registered with this key; 5 if --type is not that of the reservation; otherwise
as 'prhctl --help' lists.";

/// `clear`.
pub(crate) const CLEAR: &str = "\
Remove the reservation and all registrations, everybody's (PERSISTENT RESERVE OUT,
CLEAR).

Any registrant may. The others are told by a unit attention. For putting things in
order: a cluster that is running loses its fencing by it.";
/// Behind the options of `clear`.
pub(crate) const CLEAR_EXAMPLES: &str = "\
EXAMPLES
  prhctl clear /dev/sdb --key 0x123abc

Exit status 0; 24 if the sender is not registered with this key; otherwise as
'prhctl --help' lists.";

/// `preempt`.
pub(crate) const PREEMPT: &str = "\
Remove somebody else's registrations, and take over the reservation if it was
theirs (PERSISTENT RESERVE OUT, PREEMPT, or with --abort PREEMPT AND ABORT).

This is how a cluster fences a node. Any registrant may. All registrations with
the victim's key go. If they held the reservation, the sender holds it then, with
the type given; if not, the type is ignored. The victims are told by a unit
attention. With a type of all registrants, the key 0 stands for all others.

Without --abort, writes that the victim has already sent are still done.";
/// Behind the options of `preempt`.
pub(crate) const PREEMPT_EXAMPLES: &str = "\
EXAMPLES
  prhctl preempt /dev/sdb --key 0x123abc --victim 0x456 --type we-ro --abort

Exit status 0; 24 if the sender is not registered with this key, or nobody with
the victim's; otherwise as 'prhctl --help' lists.";

/// `move`.
pub(crate) const MOVE: &str = "\
Give the reservation to another initiator port (PERSISTENT RESERVE OUT, REGISTER
AND MOVE).

The port is registered with the new key, and holds the reservation from then on.
The sender has to hold it, under a type other than those of all registrants.
'prhctl status' shows TransportIDs and target ports in the form to give here.";
/// The usage of `move`, which is longer than a line.
pub(crate) const MOVE_USAGE: &str = "\
prhctl move [OPTIONS] --key <KEY> --new-key <KEY> --to <TRANSPORTID>
                   --target-port <NUMBER> <DEVICE>";
/// Behind the options of `move`.
pub(crate) const MOVE_EXAMPLES: &str = "\
EXAMPLES
  prhctl move /dev/sdb --key 0x123abc --new-key 0x456 \\
      --to sas,5000c50005b32001 --target-port 2 --unregister

Exit status 0; 24 if the sender does not hold the reservation with this key;
otherwise as 'prhctl --help' lists.";

/// `decode`.
pub(crate) const DECODE: &str = "\
Explain bytes field by field: a CDB, a parameter list, parameter data, sense.

Nothing is sent. The bytes are two hexadecimal digits each, with any blanks, commas
or colons between them, and 0x before them or not; from the command line, or from
standard input. CDBs of PERSISTENT RESERVE and sense are known by their first byte;
for all else --as says what it is. Offsets of xxd and hexdump are not understood:
use xxd -p.

A parameter list means different things with different commands: give it behind
its CDB, or with --service-action.";
/// Behind the options of `decode`.
pub(crate) const DECODE_EXAMPLES: &str = "\
EXAMPLES
  prhctl decode 5f 04 05 00 00 00 00 00 18 00
  prhctl decode 70:00:05:00:00:00:00:0a:00:00:00:00:26:04
  prhctl decode --as keys < answer.hex
  prhctl decode --service-action register 0000000000000000 0000000000123abc 0000000001000000

Exit status 0, or 1 if the bytes are not what they should be.";

/// Of `lun`.
pub(crate) const LUN: &str = "\
Make and look at soft LUNs.

A soft LUN is a logical unit in software that knows persistent reservations and has
no data: for trying, learning and testing without a SAN. It is a folder. The files
in its folder 'ports' stand for ports, as /dev/sda and /dev/sdb may stand for two
ports to one disk, and every other command takes them as devices. The helper has
to be started with the folder that the soft LUN is in: qemu-pr-helper --soft-luns.

These commands read and write the files, and ask no helper.";

/// Of `lun create`.
pub(crate) const LUN_CREATE: &str = "\
Make a soft LUN, with nobody registered.

Each port is an I_T nexus: an initiator port (its TransportID, behind '=') that
reaches the unit through a target port (its relative number, behind '@'). Unless it
is said which, the first port's initiator port is
sas,3000000000000001, the second's sas,3000000000000002, and so on, and all
go through target port 1: hosts with one adapter each. TransportIDs are written as
sg_persist writes them.

Arrays differ in what they support; --without and --types make a soft LUN that is
like one of them. It refuses the rest, and says in its capabilities what it has.";
/// Behind the options of `lun create`.
pub(crate) const LUN_CREATE_EXAMPLES: &str = "\
EXAMPLES
  prhctl lun create /srv/luns/quorum
  prhctl lun create luns/a --port node1 --port node2 --port node3
  prhctl lun create luns/b --port a=iqn.2024-01.example:a,i,0x00023d000001 --port b@2
  prhctl lun create luns/c --without aptpl --types we-ro,ea-ro

Exit status 0, or 1 if it was not made.";

/// Of `lun list`.
pub(crate) const LUN_LIST: &str = "\
List the soft LUNs in a folder.

It is the folder that the helper is started with (--soft-luns). One whose files are
damaged is listed with what is wrong.";
/// Behind the options of `lun list`.
pub(crate) const LUN_LIST_EXAMPLES: &str = "\
EXAMPLES
  prhctl lun list /srv/luns
  prhctl --json lun list /srv/luns

Exit status 0, or 1 if the folder cannot be read.";

/// Of `lun show`.
pub(crate) const LUN_SHOW: &str = "\
Show a soft LUN: its ports, and what is registered and reserved.

Unlike 'prhctl status', which asks as a guest does, this looks from outside: nothing
is delivered to anybody, and it shows for each port what the reservation lets it do
and which unit attentions it will be told next.";
/// Behind the options of `lun show`.
pub(crate) const LUN_SHOW_EXAMPLES: &str = "\
EXAMPLES
  prhctl lun show /srv/luns/quorum

Exit status 0, or 1 if its files cannot be read.";

/// Of `demo`.
pub(crate) const DEMO: &str = "\
Play a failover of two nodes through the helper, without hardware and without root.

Makes a soft LUN with two ports in a temporary folder, starts the real helper on a
socket there, and has two nodes do what cluster software does: both register, one
reserves, the other is refused, the holder fails, the survivor preempts it, and the
fenced node finds its key gone and its writes refused. Each step shows who asked
what, the answer, and the registrations and the reservation after it. In the end
everything is removed.

It takes the helper beside this program, or, started by 'cargo run', builds it.";
/// Behind the options of `demo`.
pub(crate) const DEMO_EXAMPLES: &str = "\
EXAMPLES
  prhctl demo
  cargo run --release --bin prhctl -- demo
  prhctl demo --helper /usr/libexec/qemu-pr-helper

Exit status 0 if every step was answered as the standard says, 1 if not.";
