// SPDX-License-Identifier: MIT OR Apache-2.0

//! Removal of a key from multipathd after the last client of the map has disconnected.

use scsi_pr::ReservationKey;

use super::own_key::temporary_key;
use super::{PrKeyStore, PrKeyStoreError, PrOut, PrPath, RegisterParams};

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Removes the key from multipathd if no path of this host is registered with it. Returns the
    /// key if it was removed.
    ///
    /// The key can be registered for another host, to which the guest has migrated. Therefore, each
    /// path must state that it has another key or none. An unreachable path cannot: if the others
    /// are unregistered, a preemption or an unregistration has removed its registration too.
    pub(super) fn forget(&mut self) -> Result<Option<ReservationKey>, PrKeyStoreError> {
        let Some(stored) = self.key_store.key()? else {
            return Ok(None);
        };
        let mut is_unregistered = false;
        for path in 0..self.paths.len() {
            for key in [stored.key, temporary_key(stored.key)] {
                let registration = RegisterParams {
                    key,
                    all_tg_pt: false,
                    aptpl: stored.aptpl,
                };
                match self.has_registration(path, registration) {
                    Some(false) => is_unregistered = true,
                    None if self.is_unreachable(path) => break,
                    // A path that rejects the command for another reason gives no answer.
                    _ => return Ok(None),
                }
            }
        }
        if !is_unregistered {
            return Ok(None);
        }
        self.key_store.disable()?;
        Ok(Some(stored.key))
    }

    fn is_unreachable(&self, path: usize) -> bool {
        self.unreachable.get(path) == Some(&true)
    }
}
