//! A logical unit in software, as far as persistent reservations go.
//!
//! [`LogicalUnit`] is a value: registrations, reservation, generation, unit attentions. A command
//! changes it or does not, and is answered; there is no clock, no file and no thread in it. [`store`]
//! keeps such a value in a folder that several processes can use at once. Source is SPC-4: 5.12 (what reservations mean), 6.15 (PERSISTENT RESERVE IN) and 6.16 (PERSISTENT RESERVE
//! OUT). Rules are named where they are applied, by the title of their subclause where its number
//! moved between revisions of the standard.
//!
//! ```
//! use scsi_pr::{BasicParameterList, ReservationKey, ReservationType, Status};
//! use soft_lun::{Access, LogicalUnit, Nexus};
//!
//! let nexus = |initiator: &str, target_port: u16| -> Result<Nexus, scsi_pr::TransportIdTextError> {
//!     Ok(Nexus { initiator: initiator.parse()?, target_port: target_port.into() })
//! };
//! let (first, second) = (nexus("sas,5001405000000001", 1)?, nexus("sas,5001405000000002", 2)?);
//! let mut unit = LogicalUnit::new(vec![first.clone(), second.clone()])?;
//! let (first, second) = (unit.find(&first).unwrap(), unit.find(&second).unwrap());
//!
//! // The first node registers its key, and reserves the unit: Write Exclusive.
//! let key = ReservationKey::new(0x123abc);
//! let list = BasicParameterList { service_action_reservation_key: key, ..Default::default() };
//! let answer = unit.execute(first, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list.encode());
//! assert_eq!(answer.status, Status::GOOD);
//! let list = BasicParameterList { reservation_key: key, ..Default::default() };
//! let answer = unit.execute(first, &[0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], &list.encode());
//! assert_eq!(answer.status, Status::GOOD);
//! assert_eq!(unit.reservation().unwrap().kind(), ReservationType::WriteExclusive);
//!
//! // Now the second one may read, and not write.
//! assert_eq!(unit.access(second, Access::Read).status, Status::GOOD);
//! assert_eq!(unit.access(second, Access::Write).status, Status::RESERVATION_CONFLICT);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The same commands are sent to the kernel's own target (`tests/lio`); where that one departs from the
//! standard, `docs/lio-differences.md` says so.
//!
//! # What the standard leaves open
//!
//! * Registrations are listed in the order in which they were made.
//! * A unit attention comes before everything else, also before a RESERVATION CONFLICT, on every
//!   command through its nexus. All that wait are delivered, in the order in which they were
//!   established; one that waits already is not established again.
//! * Of what is wrong with a command, a reservation conflict is reported before a bad field (SAM,
//!   status precedence): first the service action, then what the reservation forbids, then the
//!   parameter list's form, then the keys, then all other fields.
//! * PREEMPT of the key zero is refused with INVALID FIELD IN PARAMETER LIST without a reservation too,
//!   like with all reservations but those of all registrants.
//! * `SPEC_I_PT` of an initiator port that the unit does not know is refused with INVALID FIELD IN
//!   PARAMETER LIST. A known one is registered at the target port of the command; one that is not
//!   connected there, at every target port it is connected to. One that is registered keeps its key.
//! * `ALL_TG_PT` registers each nexus of the initiator port. If one of them would be refused by
//!   itself, the command is, and nothing changes. READ FULL STATUS shows them in one descriptor as long
//!   as they all are alike.
//! * A REGISTER that does nothing (key zero through an unregistered nexus) changes neither
//!   generation nor `APTPL`.
//! * There are never commands that PREEMPT AND ABORT could abort: it is PREEMPT.
//! * A flag that the unit does not support ([`Supported`]) is refused after a wrong key, and a type that it
//!   does not support like a reserved one.

#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod access;
mod answer;
mod attention;
mod clear;
mod nexus;
mod preempt;
mod register;
mod register_and_move;
mod release;
mod report;
mod reserve;
mod snapshot;
mod state;
pub mod store;
mod supported;
mod unit;

pub use access::Access;
pub use answer::Response;
pub use attention::UnitAttention;
pub use nexus::{Nexus, NexusError, NexusId};
pub use snapshot::{ImpossibleState, Snapshot};
pub use state::{Registration, Reservation};
pub use supported::SupportedFeatures;
pub use unit::LogicalUnit;
