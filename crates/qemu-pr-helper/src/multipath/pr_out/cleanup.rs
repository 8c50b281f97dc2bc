// SPDX-License-Identifier: MIT OR Apache-2.0

//! CLEANUP: this host gives up the key of a guest that has migrated to another host.

use scsi_pr::Status;

use super::send::completed;
use super::{
    ExecutionResult, PrKeyStore, PrOut, PrOutCommand, PrPath, RegisterParams, unreachable_unit,
};

impl<P: PrPath, S: PrKeyStore> PrOut<'_, P, S> {
    /// Makes multipathd forget the key, and then removes the registrations of all paths.
    ///
    /// The other host is registered with the same key and can hold the reservation. Therefore,
    /// nothing is preempted or released for an unreachable path: it keeps its registration, if the
    /// other host has not preempted that already. Pending unit attentions were for the guest, which
    /// is gone.
    pub(super) fn cleanup(&mut self) -> ExecutionResult {
        let stored = self.key_store.key().ok().flatten();
        // Remove the key first, so that multipathd does not register a path again meanwhile.
        let forgotten = self.key_store.disable();
        let unregister = PrOutCommand::register_and_ignore(RegisterParams {
            // The flag applies to all registrations of the unit, also those of the other host.
            aptpl: stored.is_some_and(|stored| stored.aptpl),
            ..RegisterParams::default()
        });
        let mut reached = None;
        let mut rejected = None;
        for path in 0..self.paths.len() {
            match completed(self.send_with_retry(path, &unregister)) {
                None => {}
                Some(result) if result.status == Status::GOOD => reached = Some(result),
                Some(result) => rejected = Some(result),
            }
        }
        if let Err(error) = forgotten {
            self.warnings.push(format!(
                "the key of a migrated guest is not removed: {error}"
            ));
            return Err(unreachable_unit());
        }
        match rejected {
            None => {
                let reached = reached.ok_or_else(unreachable_unit)?;
                self.set_unregistered();
                Ok(reached)
            }
            Some(result) => Err(result),
        }
    }
}
