//! Answers that are lost: the helper is killed when it has executed a command and is about to say so.
//!
//! QEMU cannot know what became of the command, and does not send it again. The guest is told that it has failed; it has
//! to look, or to ask again.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::supervisor::Supervisor;
use crate::guest::initiator::Initiator;
use crate::guest::reservations::{CONFLICT, GUEST_KEY, PORT_KEY, UNIT_ATTENTION, release, reserve};
use crate::guest::strace;
use crate::process::wait_for_end;

/// `sg_persist` ends with this on ILLEGAL REQUEST, INVALID FIELD IN CDB, which is what QEMU makes of a lost answer.
pub(super) const LOST: i32 = 5;

/// And with this on NOT READY.
const NOT_READY: i32 = 2;

/// How long `strace` may take to end with the helper.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every call that an answer can be sent by ends the helper before it is made.
const FATAL: &str = "inject=sendto,sendmsg,write,writev:signal=SIGKILL";

/// A command whose answer is lost, and what becomes of it.
struct Loss {
    arguments: String,
    /// What the witness asks, and the exit status and text of the answer: the command was executed.
    witness: (&'static str, i32, &'static str),
    /// The exit status of the same command, sent again.
    again: i32,
}

/// The guest is not registered, before and after.
pub(super) fn run(
    supervisor: &Supervisor,
    guest: &mut impl Initiator,
    witness: &mut impl Initiator,
) -> Result<()> {
    let lose_each = |guest: &mut _, witness: &mut _, losses: &[Loss]| {
        losses.iter().try_for_each(|loss| {
            lose(supervisor, guest, witness, loss).with_context(|| loss.arguments.clone())
        })
    };
    lose_each(guest, witness, &registering_and_reserving())?;
    witness
        .persist(&format!("--out --register --param-sark={PORT_KEY}"))?
        .expect_code(0)?;
    lose_each(guest, witness, &fencing())
}

fn registering_and_reserving() -> [Loss; 4] {
    let keys = ("--in --read-keys", 0, GUEST_KEY);
    let reservation = |text| ("--in --read-reservation", 0, text);
    [
        Loss {
            arguments: format!("--out --register --param-sark={GUEST_KEY}"),
            witness: keys,
            // Who has a key has to name it, to get another.
            again: CONFLICT,
        },
        Loss {
            arguments: format!("--out --register-ignore --param-sark={GUEST_KEY}"),
            witness: keys,
            again: 0,
        },
        Loss {
            arguments: reserve(GUEST_KEY, 5),
            witness: reservation(GUEST_KEY),
            again: 0,
        },
        Loss {
            arguments: release(GUEST_KEY, 5),
            witness: reservation("there is NO reservation held"),
            again: 0,
        },
    ]
}

/// The witness is registered, and preempted.
fn fencing() -> [Loss; 2] {
    [
        Loss {
            arguments: format!(
                "--out --preempt --param-rk={GUEST_KEY} --param-sark={PORT_KEY} --prout-type=5"
            ),
            witness: (
                "--in --read-keys",
                UNIT_ATTENTION,
                "Registrations preempted",
            ),
            again: CONFLICT,
        },
        Loss {
            arguments: format!("--out --clear --param-rk={GUEST_KEY}"),
            witness: ("--in --read-keys", 0, "NO registered reservation keys"),
            // Of this target alone: the standard has a conflict here too.
            again: NOT_READY,
        },
    ]
}

fn lose(
    supervisor: &Supervisor,
    guest: &mut impl Initiator,
    witness: &mut impl Initiator,
    loss: &Loss,
) -> Result<()> {
    // QEMU is connected now, so that an answer is the next thing that the helper has to send.
    guest.persist("--in --read-keys")?.expect_code(0)?;
    let before = supervisor.starts();
    let mut tracer = strace::attach(supervisor.helper()?, FATAL)?;
    guest
        .persist(&loss.arguments)?
        .expect_code(LOST)?
        .expect_contains("bad field in cdb")?;
    let ended = wait_for_end(&mut tracer, PATIENCE)?;
    ended.context("strace did not end with the helper")?;
    supervisor.wait_for_another(before)?;
    let (question, code, text) = loss.witness;
    witness
        .persist(question)?
        .expect_code(code)?
        .expect_contains(text)?;
    guest.persist(&loss.arguments)?.expect_code(loss.again)?;
    Ok(())
}
