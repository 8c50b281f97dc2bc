//! The help of the commands that need no helper: bytes, soft LUNs, the demonstration.

/// `decode`.
pub(crate) const DECODE: &str = "\
Explain bytes field by field: a CDB, a parameter list, parameter data, sense.

Nothing is sent. The bytes are two hexadecimal digits each, with any blanks, commas
or colons between them, and 0x before them or not; from the command line, or from
standard input (also -). CDBs of PERSISTENT RESERVE and sense are known by their first byte;
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

/// Behind the commands of `lun`.
pub(crate) const LUN_EXAMPLES: &str = "\
EXAMPLES
  prhctl lun create luns/shared0
  prhctl lun list luns
  prhctl lun show luns/shared0

Exit status 0, or 1 if files cannot be made or read.";

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
what, the answer, and the registrations and the reservation after it. In the end, also if
a signal ends it, everything is removed.

It takes the helper beside this program, or, started by 'cargo run', builds it. With
--helper it has to be this project's: others know no soft LUNs.

The folder is made where TMPDIR says; if that is too long for the path of a socket,
in /tmp.";
/// Behind the options of `demo`.
pub(crate) const DEMO_EXAMPLES: &str = "\
EXAMPLES
  prhctl demo
  cargo run --release --bin prhctl -- demo
  prhctl demo --helper target/release/qemu-pr-helper

Exit status 0 if every step was answered as the standard says, 1 if not; 128 and the
signal's number after a signal.";
