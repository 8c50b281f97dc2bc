// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands of `fence_scsi` and `fence_mpath` (fence-agents 4.12). The agents need Python,
//! which the guests do not have.

use anyhow::Result;

use crate::guest::initiator::{CommandOutput, Initiator};

/// Reservation type of both agents: Write Exclusive, Registrants Only.
const TYPE: u8 = 5;

/// A fence agent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    /// Registers with REGISTER AND IGNORE EXISTING KEY, and sends TEST UNIT READY before each
    /// command.
    FenceScsi,
    /// Registers with REGISTER.
    FenceMpath,
}

impl Agent {
    /// Sends a command as the agent does.
    fn send(self, guest: &mut impl Initiator, arguments: &str) -> Result<CommandOutput> {
        if self == Self::FenceScsi {
            let disk = guest.disk();
            // The agent ignores the result, which can be a unit attention.
            guest.run(&format!("sg_turs {disk}"))?;
        }
        guest.persist(arguments)
    }
}

/// The action `on`: registers the guest, and reserves the disk if it is not reserved.
pub(crate) fn unfence(guest: &mut impl Initiator, agent: Agent, key: u64) -> Result<()> {
    if agent == Agent::FenceScsi {
        agent
            .send(guest, "--in --read-reservation")?
            .expect_code(0)?;
    }
    let register = match agent {
        Agent::FenceScsi => "--register-ignore",
        Agent::FenceMpath => "--register",
    };
    agent
        .send(guest, &format!("--out {register} --param-sark={key:#x}"))?
        .expect_code(0)?;
    agent
        .send(guest, "--in --read-keys")?
        .expect_code(0)?
        .expect_contains(&format!("{key:#x}"))?;
    let reservation = agent.send(guest, "--in --read-reservation")?;
    let reservation = reservation.expect_code(0)?;
    if !reservation.contains("Key=") {
        let reserve = format!("--out --reserve --param-rk={key:#x} --prout-type={TYPE}");
        agent.send(guest, &reserve)?.expect_code(0)?;
    }
    Ok(())
}

/// The action `off`: removes the registrations of the other guest.
pub(crate) fn fence(guest: &mut impl Initiator, agent: Agent, own: u64, victim: u64) -> Result<()> {
    agent
        .send(guest, "--in --read-keys")?
        .expect_code(0)?
        .expect_contains(&format!("{victim:#x}"))?;
    let keys = format!("--param-rk={own:#x} --param-sark={victim:#x}");
    agent
        .send(
            guest,
            &format!("--out --preempt-abort {keys} --prout-type={TYPE}"),
        )?
        .expect_code(0)?;
    agent
        .send(guest, "--in --read-keys")?
        .expect_code(0)?
        .expect_contains(&format!("{own:#x}"))?
        .expect_lacks(&format!("{victim:#x}"))?;
    agent
        .send(guest, "--in --read-reservation")?
        .expect_code(0)?
        .expect_contains(&format!("Key={own:#x}"))?;
    Ok(())
}
