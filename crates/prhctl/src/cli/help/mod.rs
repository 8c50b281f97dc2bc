//! The texts of `--help` that are longer than a line: here those of the program.

mod tools;

pub(crate) use crate::commands::keys::*;
pub(crate) use crate::commands::preempt::*;
pub(crate) use tools::*;

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

UNIT ATTENTIONS are shown on standard error, and are not delivered to anybody else on
this path again: a guest with the same disk is then not told. A command that asks is
sent again after one; a command that changes only if the attention has nothing to do
with reservations and the device is still the same, otherwise it ends with status 6.
After BUSY and TASK SET FULL a command that asks is sent again 5 times, for a second
in all; one that changes is not, as it may have been done.

EXIT STATUS, as of sg_persist (sg3_utils(8)):
   0  done                                 20  NO SENSE, no data
   1  wrong use, no helper, no device      21  RECOVERED ERROR, no data
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
