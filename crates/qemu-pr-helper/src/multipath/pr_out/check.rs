// SPDX-License-Identifier: MIT OR Apache-2.0

//! Check of paths that may not be registered, for the operator.

use helper_state::PathRegistration;

use super::{PrKeyStore, PrKeyStoreError, PrOut, PrPath, RegisterParams};

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Returns for each path whether it is registered with the key in the key store, which is
    /// unknown without a key; `None` if no registration has the key, because the guest has
    /// unregistered or another host has preempted it.
    ///
    /// The reply to a REGISTER from the key to the same key is about the path that it is sent over,
    /// and the command does not register the path (docs/decisions/0010-path-checks.md).
    pub(super) fn check(&mut self) -> Result<Option<Vec<PathRegistration>>, PrKeyStoreError> {
        let Some(stored) = self.key_store.key()? else {
            return Ok(Some(vec![PathRegistration::Unknown; self.paths.len()]));
        };
        let registration = RegisterParams {
            key: stored.key,
            all_tg_pt: false,
            // The setting of the logical unit must not change. Without a reply, it is this one.
            aptpl: self.current_aptpl().unwrap_or(stored.aptpl),
        };
        let states =
            (0..self.paths.len()).map(|path| match self.has_registration(path, registration) {
                Some(true) => PathRegistration::Registered,
                Some(false) => PathRegistration::NotRegistered,
                None => PathRegistration::Unknown,
            });
        let states: Vec<_> = states.collect();
        let is_gone = states.contains(&PathRegistration::NotRegistered)
            && self.registration_count(stored.key) == Some(0);
        Ok((!is_gone).then_some(states))
    }
}
