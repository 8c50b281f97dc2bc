//! What a device answers to a PERSISTENT RESERVE IN command.
//!
//! Source: SPC-4, 6.15.2 to 6.15.5.

mod capabilities;
mod error;
mod full_status;
mod keys;
mod list;
mod reservation;
mod type_mask;

use std::fmt;

pub use capabilities::{AllowCommands, Capabilities};
pub use error::ParameterDataError;
pub use full_status::{FullStatus, FullStatusDescriptor, MalformedTransportId};
pub use keys::Keys;
pub use reservation::{ReservationData, ReservationDescriptor};
pub use type_mask::TypeMask;

/// A list of which the end may be cut off, because it is longer than the allocation length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Truncatable<T> {
    /// What is there as a whole.
    pub value: T,
    /// How many bytes the device had beyond those given; zero means that nothing is cut off.
    pub missing: usize,
}

impl<T> Truncatable<T> {
    /// Whether nothing is cut off.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The value, if nothing is cut off.
    #[must_use]
    pub fn complete(self) -> Option<T> {
        (self.missing == 0).then_some(self.value)
    }
}

impl<T: fmt::Display> fmt::Display for Truncatable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)?;
        match self.missing {
            0 => Ok(()),
            missing => write!(f, ", {missing} bytes cut off"),
        }
    }
}

/// The part of parameter data that a command with this allocation length gets.
///
/// Length fields in the data stay as they are (SPC-4, 4.2.5.6), so the reader learns how much there
/// was.
///
/// ```
/// # use scsi_pr::{Keys, ReservationKey, truncate};
/// let keys = Keys { keys: vec![ReservationKey::new(1), ReservationKey::new(2)], ..Keys::default() };
/// let read = Keys::decode(truncate(&keys.encode(), 20))?;
/// assert_eq!(read.value.keys, [ReservationKey::new(1)]);
/// assert_eq!(read.missing, 4);
/// # Ok::<(), scsi_pr::ParameterDataError>(())
/// ```
#[must_use]
pub fn truncate(data: &[u8], allocation_length: u16) -> &[u8] {
    data.get(..usize::from(allocation_length)).unwrap_or(data)
}
