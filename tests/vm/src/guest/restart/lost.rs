// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lost responses: the helper is killed after it has executed a command and before it sends the
//! response.
//!
//! QEMU cannot know whether the command was executed and does not send it again. The guest gets an
//! error, and must read the state or repeat the command.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::supervisor::Supervisor;
use crate::guest::guest_reservations::{GUEST_KEY, PORT_KEY, release, reserve};
use crate::guest::initiator::{CONFLICT, Initiator, UNIT_ATTENTION};
use crate::guest::strace;
use pr_testkit::process::wait_timeout;

/// Exit status of `sg_persist` for ILLEGAL REQUEST, INVALID FIELD IN CDB, which QEMU returns for a
/// lost response.
pub(super) const LOST: i32 = 5;

/// Exit status of `sg_persist` for NOT READY.
const NOT_READY: i32 = 2;

/// Maximum time until `strace` exits after the helper.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Kills the helper before any system call that can send a response.
const KILL_ON_SEND: &str = "inject=sendto,sendmsg,write,writev:signal=SIGKILL";

/// A command with a lost response, and its effects.
struct LostResponse {
    arguments: String,
    /// The witness's query, and its exit status and output, which show that the command was
    /// executed.
    witness: (&'static str, i32, &'static str),
    /// Exit status of the same command when it is sent again.
    repeated: i32,
}

/// Runs all cases. The guest is not registered before and afterwards.
pub(super) fn run(
    supervisor: &Supervisor,
    guest: &mut impl Initiator,
    witness: &mut impl Initiator,
) -> Result<()> {
    let run_each = |guest: &mut _, witness: &mut _, cases: &[LostResponse]| {
        cases.iter().try_for_each(|case| {
            run_case(supervisor, guest, witness, case).with_context(|| case.arguments.clone())
        })
    };
    run_each(guest, witness, &registering_and_reserving())?;
    witness
        .persist(&format!("--out --register --param-sark={PORT_KEY}"))?
        .expect_code(0)?;
    run_each(guest, witness, &fencing())
}

fn registering_and_reserving() -> [LostResponse; 4] {
    let keys = ("--in --read-keys", 0, GUEST_KEY);
    let reservation = |text| ("--in --read-reservation", 0, text);
    [
        LostResponse {
            arguments: format!("--out --register --param-sark={GUEST_KEY}"),
            witness: keys,
            // A registered port must name its key in REGISTER.
            repeated: CONFLICT,
        },
        LostResponse {
            arguments: format!("--out --register-ignore --param-sark={GUEST_KEY}"),
            witness: keys,
            repeated: 0,
        },
        LostResponse {
            arguments: reserve(GUEST_KEY, 5),
            witness: reservation(GUEST_KEY),
            repeated: 0,
        },
        LostResponse {
            arguments: release(GUEST_KEY, 5),
            witness: reservation("there is NO reservation held"),
            repeated: 0,
        },
    ]
}

/// Returns the cases in which the witness is registered and preempted.
fn fencing() -> [LostResponse; 2] {
    [
        LostResponse {
            arguments: format!(
                "--out --preempt --param-rk={GUEST_KEY} --param-sark={PORT_KEY} --prout-type=5"
            ),
            witness: (
                "--in --read-keys",
                UNIT_ATTENTION,
                "Registrations preempted",
            ),
            repeated: CONFLICT,
        },
        LostResponse {
            arguments: format!("--out --clear --param-rk={GUEST_KEY}"),
            witness: ("--in --read-keys", 0, "NO registered reservation keys"),
            // Specific to LIO: the standard requires a conflict here too.
            repeated: NOT_READY,
        },
    ]
}

fn run_case(
    supervisor: &Supervisor,
    guest: &mut impl Initiator,
    witness: &mut impl Initiator,
    case: &LostResponse,
) -> Result<()> {
    // Connects QEMU to the helper, so that the next data that the helper sends is a response.
    guest.persist("--in --read-keys")?.expect_code(0)?;
    let before = supervisor.start_count();
    let mut tracer = strace::attach(supervisor.helper()?, KILL_ON_SEND)?;
    guest
        .persist(&case.arguments)?
        .expect_code(LOST)?
        .expect_contains("bad field in cdb")?;
    let exited = wait_timeout(&mut tracer, EXIT_TIMEOUT)?;
    exited.context("strace did not exit with the helper")?;
    supervisor.wait_for_restart(before)?;
    let (query, code, text) = case.witness;
    witness
        .persist(query)?
        .expect_code(code)?
        .expect_contains(text)?;
    guest.persist(&case.arguments)?.expect_code(case.repeated)?;
    Ok(())
}
