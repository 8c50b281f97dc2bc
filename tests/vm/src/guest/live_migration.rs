// SPDX-License-Identifier: MIT OR Apache-2.0

//! Steps of QEMU's live migration, as the source's monitor controls them.

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::qmp::Qmp;

/// State in which the source waits after the guest is paused.
const PAUSED: &str = "pre-switchover";

/// States of a migration that has ended.
const FINAL_STATES: [&str; 3] = ["completed", "failed", "cancelled"];

/// Capabilities that both sides need.
///
/// `return-path` reports a failure of the destination to the source; libvirt enables it too.
/// `pause-before-switchover` stops the migration after the guest is paused and before its devices
/// are transferred, so that the destination can be made to fail at that moment.
#[derive(Clone, Copy)]
pub(super) struct Capabilities {
    pub(super) pause_before_switchover: bool,
}

impl<S: Read + Write> Qmp<S> {
    /// Sets the capabilities of later migrations, on either side.
    pub(super) fn set_capabilities(&mut self, capabilities: Capabilities) -> Result<()> {
        let states = [
            ("return-path", true),
            (
                "pause-before-switchover",
                capabilities.pause_before_switchover,
            ),
        ];
        let list = states.map(|(name, state)| json!({ "capability": name, "state": state }));
        self.execute("migrate-set-capabilities", &json!({ "capabilities": list }))?;
        Ok(())
    }

    /// Makes a QEMU that was started with `-incoming defer` wait for a guest.
    pub(super) fn listen(&mut self, uri: &str) -> Result<()> {
        self.execute("migrate-incoming", &json!({ "uri": uri }))?;
        Ok(())
    }

    /// Starts a migration.
    pub(super) fn migrate(&mut self, uri: &str) -> Result<()> {
        self.execute("migrate", &json!({ "uri": uri }))?;
        Ok(())
    }

    /// Waits until the guest is paused for the switch-over.
    pub(super) fn wait_until_paused(&mut self) -> Result<()> {
        self.wait_for_migration(PAUSED)?;
        Ok(())
    }

    /// Continues a migration after the guest is paused, and waits until it has ended in this state.
    pub(super) fn switch_over(&mut self, end: &str) -> Result<()> {
        self.execute("migrate-continue", &json!({ "state": PAUSED }))?;
        self.wait_for_migration(end)?;
        Ok(())
    }

    /// Cancels a migration, and waits until the guest runs again.
    pub(super) fn cancel_migration(&mut self) -> Result<()> {
        self.execute("migrate_cancel", &json!({}))?;
        self.wait_for_migration("cancelled")?;
        Ok(())
    }

    /// Waits until the migration is in a state, and returns its description.
    ///
    /// The state is queried, because an event of QEMU 11.1.2 is not enough: its main loop can sleep
    /// instead of ending a failed or canceled migration, until a command wakes it.
    pub(super) fn wait_for_migration(&mut self, state: &str) -> Result<Value> {
        let migration = self.query_until("query-migrate", |migration| {
            let status = &migration["status"];
            status == state || FINAL_STATES.iter().any(|end| status == end)
        })?;
        ensure!(
            migration["status"] == state,
            "the migration is not {state}: {migration}"
        );
        println!("migration: {state}");
        Ok(migration)
    }

    /// Waits until the guest that migrated to this QEMU runs.
    pub(super) fn wait_until_resumed(&mut self) -> Result<()> {
        self.query_until("query-status", |status| status["running"] == true)?;
        Ok(())
    }
}
