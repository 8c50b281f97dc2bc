//! The answer to READ KEYS.

use std::fmt;

use super::{ParameterDataError, Truncatable, list};
use crate::ids::{PrGeneration, ReservationKey};

/// Bytes of a key.
const KEY_LENGTH: usize = 8;

/// The registered keys (SPC-4, 6.15.2): one for each registration, so that a key may be there more
/// than once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keys {
    /// The generation of the registrations.
    pub generation: PrGeneration,
    /// The keys in the device's order.
    pub keys: Vec<ReservationKey>,
}

impl Keys {
    /// Reads parameter data; bytes after the list are ignored.
    ///
    /// # Errors
    ///
    /// [`ParameterDataError`]: there is no header, or the length is not that of keys.
    pub fn decode(bytes: &[u8]) -> Result<Truncatable<Self>, ParameterDataError> {
        let list = list::List::decode(bytes)?;
        if !list.length.is_multiple_of(KEY_LENGTH) {
            return Err(ParameterDataError::Length(list.length));
        }
        let (keys, _) = list.body.as_chunks::<KEY_LENGTH>();
        Ok(Truncatable {
            value: Keys {
                generation: list.generation,
                keys: keys
                    .iter()
                    .map(|key| u64::from_be_bytes(*key).into())
                    .collect(),
            },
            missing: list.missing(),
        })
    }

    /// The whole of the parameter data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body: Vec<u8> = self
            .keys
            .iter()
            .flat_map(|key| key.get().to_be_bytes())
            .collect();
        list::encode(self.generation, &body)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "generation {}, {} keys",
            self.generation,
            self.keys.len()
        )?;
        self.keys.iter().try_for_each(|key| write!(f, " {key}"))
    }
}
