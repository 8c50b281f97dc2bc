//! The vocabulary of SCSI persistent reservations.
//!
//! Everything that the two commands PERSISTENT RESERVE IN and OUT carry, as values that can be
//! compared, shown and written: bytes in, value or typed error out, and back. No I/O, and no
//! opinion about which reservation may be made when. Source is SPC-4; names that came later are
//! those of SPC-5.
//!
//! * [`Cdb`]: the commands, with their service actions, [`Scope`] and [`ReservationType`]
//! * [`ParameterList`]: what goes with a PERSISTENT RESERVE OUT
//! * [`Keys`], [`ReservationData`], [`Capabilities`], [`FullStatus`]: what a PERSISTENT RESERVE IN
//!   answers
//! * [`TransportId`]: the names of initiator ports, for every transport protocol
//! * [`Status`] and [`Sense`]: how a command ended, and why
//!
//! Decoding is total and bounded: any bytes give a value or an error, and memory is used for bytes
//! that are there, never for a length that somebody claims. Reserved fields are ignored when read
//! and zero when written. Each value shows itself in one line, as an operator would write it.
//!
//! ```
//! use scsi_pr::{BasicParameterList, Cdb, OutServiceAction, ReservationKey, TransportId};
//!
//! // A command as it comes from a virtual machine…
//! let cdb = Cdb::decode(&[0x5f, 0x00, 0, 0, 0, 0, 0, 0, 24, 0])?;
//! let Cdb::Out(command) = cdb else { panic!("not PERSISTENT RESERVE OUT") };
//! assert_eq!(command.service_action, OutServiceAction::Register);
//!
//! // …and the parameters of one that registers a second initiator port with the same key.
//! let port: TransportId = "sas,5000c50005b32001".parse()?;
//! let list = BasicParameterList {
//!     service_action_reservation_key: ReservationKey::new(0x123abc),
//!     spec_i_pt: Some(vec![port]),
//!     ..BasicParameterList::default()
//! };
//! let bytes = list.encode();
//! assert_eq!(bytes.len(), 28 + 24);
//! assert_eq!(BasicParameterList::decode(command.service_action, &bytes)?, list);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod cdb;
mod hex;
mod ids;
mod parameter_data;
mod parameter_list;
mod reservation;
mod sense;
mod status;
mod transport_id;
mod wire;

pub use cdb::{
    Cdb, CdbError, InServiceAction, OutServiceAction, PERSISTENT_RESERVE_IN,
    PERSISTENT_RESERVE_OUT, PersistentReserveIn, PersistentReserveOut,
};
pub use hex::HexError;
pub use ids::{PrGeneration, RelativeTargetPort, ReservationKey, ReservationKeyError};
pub use parameter_data::{
    AllowCommands, Capabilities, FullStatus, FullStatusDescriptor, Keys, MalformedTransportId,
    ParameterDataError, ReservationData, ReservationDescriptor, Truncatable, TypeMask, truncate,
};
pub use parameter_list::{BasicParameterList, ParameterList, ParameterListError, RegisterAndMove};
pub use reservation::{ReservationType, Scope, ScopeType};
pub use sense::{AdditionalSense, FieldPointer, Sense, SenseError, SenseKey};
pub use status::Status;
pub use transport_id::{
    IscsiName, IscsiNameError, IscsiTextError, IscsiTransportId, Isid, IsidError,
    OpaqueTransportId, ProtocolIdentifier, TransportId, TransportIdError, TransportIdListError,
    TransportIdTextError, TransportIds,
};
