//! TransportIDs whose layout no standard defines: kept byte for byte.

use std::fmt;

use super::{FIXED_LENGTH, ProtocolIdentifier};
use crate::hex::Pairs;

/// The 24 bytes of a TransportID of a protocol for which SPC-4 has no layout, as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpaqueTransportId([u8; FIXED_LENGTH]);

impl OpaqueTransportId {
    /// The TransportID of these bytes, or `None` if their protocol has a layout.
    #[must_use]
    pub const fn new(bytes: [u8; FIXED_LENGTH]) -> Option<Self> {
        let opaque = OpaqueTransportId(bytes);
        if opaque.protocol().has_layout() {
            None
        } else {
            Some(opaque)
        }
    }

    /// All bytes, from FORMAT CODE and PROTOCOL IDENTIFIER on.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; FIXED_LENGTH] {
        &self.0
    }

    /// The protocol, one for which SPC-4 has no layout.
    #[must_use]
    pub const fn protocol(&self) -> ProtocolIdentifier {
        let [first, ..] = self.0;
        ProtocolIdentifier::from_low_bits(first)
    }
}

impl fmt::Display for OpaqueTransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Pairs(&self.0).fmt(f)
    }
}
