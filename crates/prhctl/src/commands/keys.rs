//! The help of the commands that ask.

/// What each of them does besides.
macro_rules! asking {
    ($text:literal) => {
        concat!(
            $text,
            "

To ask is not without effect: a unit attention that waits for this path is delivered
to whoever sends the next command, and only once. On a host whose guest uses the disk
through the same path, the guest is then not told. Ask through another path or from
another host; 'prhctl lun show' looks at a soft LUN without asking it."
        )
    };
}

/// `keys`.
pub(crate) const KEYS: &str = asking!(
    "\
Show the registered keys (PERSISTENT RESERVE IN, READ KEYS).

One key for each registration, in the device's order: a key that several ports
have registered, or one port at several target ports, is there several times.
Anybody may ask, registered or not, whatever is reserved. The generation tells
how often registrations were changed: if it is the same twice, none came or went."
);
/// Behind the options of `keys`.
pub(crate) const KEYS_EXAMPLES: &str = "\
EXAMPLES
  prhctl keys /dev/sdb
  prhctl --json keys /dev/sdb | jq -r '.keys[]' | sort | uniq -c

Exit status 0, or as 'prhctl --help' lists.";

/// `reservation`.
pub(crate) const RESERVATION: &str = asking!(
    "\
Show the reservation (PERSISTENT RESERVE IN, READ RESERVATION).

Its type, scope and the holder's key; with a type of all registrants there is no
one holder, and the device gives no key. Anybody may ask, registered or not."
);
/// Behind the options of `reservation`.
pub(crate) const RESERVATION_EXAMPLES: &str = "\
EXAMPLES
  prhctl reservation /dev/sdb
  prhctl --json reservation /dev/sdb | jq -e '.reservation != null'

Exit status 0 whether or not there is one, or as 'prhctl --help' lists.";

/// `capabilities`.
pub(crate) const CAPABILITIES: &str = asking!(
    "\
Show what the device can do (PERSISTENT RESERVE IN, REPORT CAPABILITIES).

Which types of reservation it knows, whether it can register other initiator
ports or all target ports at once, and whether it keeps registrations when it
loses power (APTPL). What is stated is what the device says of itself."
);
/// Behind the options of `capabilities`.
pub(crate) const CAPABILITIES_EXAMPLES: &str = "\
EXAMPLES
  prhctl capabilities /dev/sdb

Exit status 0, or as 'prhctl --help' lists.";

/// `status`.
pub(crate) const STATUS: &str = asking!(
    "\
Show every registration, and who holds the reservation (PERSISTENT RESERVE IN,
READ FULL STATUS).

A line for each registration: the key, the initiator port's TransportID, the
relative target port (or all), and, for a holder, type and scope of the
reservation. Not every device knows this; 'keys' and 'reservation' tell less, and
are known to all that know reservations."
);
/// Behind the options of `status`.
pub(crate) const STATUS_EXAMPLES: &str = "\
EXAMPLES
  prhctl status /dev/sdb
  prhctl --json status /dev/sdb | jq '.registrations[] | select(.is_holder)'

Exit status 0, or as 'prhctl --help' lists.";
