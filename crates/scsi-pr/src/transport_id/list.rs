//! TransportIDs one after another, as a REGISTER command with `SPEC_I_PT` brings them.

use std::iter::FusedIterator;

use thiserror::Error;

use super::{TransportId, TransportIdError};
use crate::sense::AdditionalSense;

/// Reads TransportIDs that follow each other without gaps (SPC-4, 6.16.3).
///
/// After the first error there is nothing more: where the next one begins is then unknown.
///
/// ```
/// # use scsi_pr::{TransportId, TransportIds};
/// let id: TransportId = "sas,5000c50005b32001".parse()?;
/// let mut bytes = id.encode();
/// bytes.push(6); // a second one, of one byte
/// let mut list = TransportIds::new(&bytes);
/// assert_eq!(list.next(), Some(Ok(id)));
/// assert_eq!(list.next().unwrap().unwrap_err().offset, 24);
/// assert_eq!(list.next(), None);
/// # Ok::<(), scsi_pr::TransportIdTextError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TransportIds<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> TransportIds<'a> {
    /// Reads from the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        TransportIds {
            rest: bytes,
            offset: 0,
        }
    }
}

impl Iterator for TransportIds<'_> {
    type Item = Result<TransportId, TransportIdListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match TransportId::decode_first(self.rest) {
            Ok((id, length)) => {
                self.rest = self.rest.get(length..).unwrap_or_default();
                self.offset = self.offset.saturating_add(length);
                Some(Ok(id))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(TransportIdListError {
                    offset: self.offset,
                    error,
                }))
            }
        }
    }
}

impl FusedIterator for TransportIds<'_> {}

/// A TransportID in a list is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("TransportID at offset {offset} of the list is wrong")]
pub struct TransportIdListError {
    /// Where it begins, in bytes from the beginning of the list.
    pub offset: usize,
    /// What is wrong with it.
    #[source]
    pub error: TransportIdError,
}

impl TransportIdListError {
    /// What a device answers, with ILLEGAL REQUEST, to a command with this list.
    #[must_use]
    pub const fn additional_sense(&self) -> AdditionalSense {
        self.error.additional_sense()
    }
}
