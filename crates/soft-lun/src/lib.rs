// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
//!
//! # Behavior that the standard leaves open
//!
//! * Registrations are listed in the order in which they were made.
//! * A pending unit attention precedes everything else, including RESERVATION CONFLICT, for every
//!   command through its nexus. All pending unit attentions are reported, in the order of their
//!   establishment. A unit attention that is pending already is not established again.
//! * A reservation conflict is reported before an invalid field (SAM-5, status precedence). The
//!   order of the checks is: service action, reservation conflict, format of the parameter list,
//!   keys, all other fields.
//! * PREEMPT of the key zero is INVALID FIELD IN PARAMETER LIST unless the reservation has an all
//!   registrants type, even if there is no reservation.
//! * `SPEC_I_PT` with an initiator port that the unit does not know is INVALID FIELD IN PARAMETER
//!   LIST. A known initiator port is registered at the target port of the command, or, if it is not
//!   connected there, at every target port that it is connected to. An initiator port that is
//!   registered already keeps its key.
//! * `ALL_TG_PT` registers each nexus of the initiator port. If the command would fail for one of
//!   them alone, it fails and changes nothing. READ FULL STATUS shows these registrations in one
//!   descriptor as long as their keys are equal and all or none of them hold the reservation.
//! * A REGISTER without effect (key zero through an unregistered nexus) changes neither
//!   PRgeneration nor `APTPL`.
//! * PREEMPT AND ABORT equals PREEMPT, because the unit never has commands that it could abort.
//! * An unsupported flag ([`SupportedFeatures`]) is rejected after a wrong key. An unsupported type
//!   is rejected like a reserved type.

#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod access;
mod commands;
mod nexus;
mod response;
mod snapshot;
mod state;
pub mod store;
mod supported_features;
mod unit;

pub use access::Access;
pub use nexus::{Nexus, NexusError, NexusId};
pub use response::Response;
pub use snapshot::{Snapshot, SnapshotError};
pub use state::{Registration, Reservation, UnitAttention};
pub use supported_features::SupportedFeatures;
pub use unit::LogicalUnit;
