//! The help of the commands that change.

/// `register`.
pub(crate) const REGISTER: &str = "\
Register a key for this host's initiator port (PERSISTENT RESERVE OUT, REGISTER,
or REGISTER AND IGNORE EXISTING KEY).

Without --old-key, the port must not be registered yet; with it, it must be
registered with just that key, which is replaced. --ignore-existing asks for
nothing, and so also comes back after having been preempted: not for a node that
somebody may have fenced. A reservation keeps nobody from registering, and the
holder stays the holder under a new key.

The last registration decides for the whole device, and for everybody, whether
registrations and reservation outlast a loss of power: with --aptpl they do, without
they do not. If they did until then, that is said on standard error.";
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
the reservation goes with the last registration. Whether the others' registrations
outlast a loss of power (APTPL) stays as it is; a device that does not say how it is
is told that they do not, and that is said on standard error.";
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
GOOD and does nothing. What is reserved is read before and afterwards, and the two
compared, to say which it was. The type has to be that of the reservation: with
--type it is not read before, and then nobody knows who held what. Registrations
stay, and with the types of registrants the others are told by a unit attention.

If nothing is reserved, nothing is sent, so that the key is not looked at either.";
/// Behind the options of `release`.
pub(crate) const RELEASE_EXAMPLES: &str = "\
EXAMPLES
  prhctl release /dev/sdb --key 0x123abc

Exit status 0, also if there is nothing to release, whatever the key; 24 if the
sender is not registered with this key; 5 if --type is not that of the reservation;
otherwise as 'prhctl --help' lists.";

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
attention. With a type of all registrants, the key 0 stands for all others; with
other types there is nobody whom it stands for.

The victim may be oneself: the holder keeps its registration and changes the type of
its reservation by it. Anybody else removes its own registration by it.

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
'prhctl status' shows TransportIDs and target ports in the form to give here.

Without --aptpl registrations and reservation do not outlast a loss of power from
then on, anybody's; if they did until then, that is said on standard error.";
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
