// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

#[macro_use]
mod wire;

mod cdb;
mod hex;
mod ids;
mod parameter_data;
mod parameter_list;
mod reservation;
mod sense;
mod status;
mod transport_id;

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
