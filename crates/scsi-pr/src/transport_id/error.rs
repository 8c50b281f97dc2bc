//! What can be wrong with the bytes of a TransportID.

use thiserror::Error;

use super::ProtocolIdentifier;
use super::iscsi::{IscsiNameError, IsidError};
use crate::sense::AdditionalSense;

/// Why bytes are no TransportID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TransportIdError {
    /// They end before the TransportID does.
    #[error("TransportID of {needed} bytes, {given} given")]
    TooShort {
        /// How many bytes it has, as far as that is known.
        needed: usize,
        /// How many were given.
        given: usize,
    },
    /// They go on after the TransportID, where there should be one and nothing else.
    #[error("TransportID of {needed} bytes, {given} given")]
    TooLong {
        /// How many bytes it has.
        needed: usize,
        /// How many were given.
        given: usize,
    },
    /// FORMAT CODE is reserved for this protocol.
    #[error("format code {format} of a TransportID is reserved with {protocol}")]
    ReservedFormat {
        /// The protocol.
        protocol: ProtocolIdentifier,
        /// The format, 0 to 3.
        format: u8,
    },
    /// ADDITIONAL LENGTH of an iSCSI TransportID is less than 20 or no multiple of 4.
    #[error("additional length {additional} of an iSCSI TransportID")]
    IscsiLength {
        /// Its value.
        additional: usize,
    },
    /// An iSCSI TransportID should have a session identifier, but no separator is there.
    #[error("iSCSI TransportID without the separator \",i,0x\"")]
    IscsiSeparator,
    /// The iSCSI name is wrong.
    #[error(transparent)]
    IscsiName(#[from] IscsiNameError),
    /// The iSCSI session identifier is wrong.
    #[error(transparent)]
    Isid(#[from] IsidError),
}

impl TransportIdError {
    /// What a device answers, with ILLEGAL REQUEST, to a command with this TransportID.
    ///
    /// Always INVALID FIELD IN PARAMETER LIST, as Linux's target does: SPC-4 (6.16.3) demands
    /// ILLEGAL REQUEST and leaves the additional sense code open.
    #[must_use]
    pub const fn additional_sense(&self) -> AdditionalSense {
        AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST
    }
}
