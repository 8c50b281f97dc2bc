//! What a client can do wrong.

use thiserror::Error;

/// What a client did that the protocol does not allow. The only answer is to end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// It asked for features that were not offered.
    #[error("features {0:#010x} requested, none is offered")]
    UnknownFeatures(u32),
    /// A CDB came without a descriptor.
    #[error("no file descriptor in request")]
    MissingFd,
    /// More than one descriptor came with one CDB.
    #[error("more than one file descriptor in request")]
    TooManyFds,
    /// A descriptor came with bytes that are not a CDB's.
    #[error("file descriptor outside of a CDB")]
    UnexpectedFd,
    /// A CDB is of another command than PERSISTENT RESERVE IN and OUT.
    #[error("opcode {0:#04x} is not PERSISTENT RESERVE")]
    UnsupportedOpcode(u8),
    /// A CDB announces more data than the protocol carries.
    #[error("length of {0} bytes is over 8192")]
    TooLong(u16),
    /// The stream ended within a request.
    #[error("stream ended in the middle of a request")]
    Truncated,
}
