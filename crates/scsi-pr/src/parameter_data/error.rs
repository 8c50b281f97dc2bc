//! What can be wrong with the answer to a PERSISTENT RESERVE IN command.

use thiserror::Error;

/// Why bytes are no parameter data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParameterDataError {
    /// They end before it is clear what they say.
    #[error("parameter data of {given} bytes, {needed} needed")]
    TooShort {
        /// How many are needed at least.
        needed: usize,
        /// How many were given.
        given: usize,
    },
    /// ADDITIONAL LENGTH, or LENGTH, cannot be that of this data.
    #[error("length field with the value {0}")]
    Length(usize),
    /// A full status descriptor goes on beyond ADDITIONAL LENGTH.
    #[error("full status descriptor at offset {offset} goes on beyond the additional length")]
    Descriptor {
        /// Where the descriptor begins, in bytes from the beginning of the data.
        offset: usize,
    },
}
