//! One command at the helper: sent, sent again where that is harmless, and judged.
//!
//! A unit attention comes instead of what was asked for, and once: the command was not done. To ask
//! again is harmless. To change again is not if the attention says that somebody has changed the
//! reservations: a node that has just been fenced must not come back by a blind repetition. Nor if it says
//! that the device may be another one now. The same goes for what is asked in order to change.
//!
//! BUSY is what helpers make of a host adapter or a driver that has given a command up, which may have
//! reached the device: a command that changes is not sent again after it.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::wire::{MAX_TRANSFER, pad_cdb};
use pr_helper_protocol::{Client, Direction, Response};
use rustix::process::geteuid;
use scsi_pr::{
    AdditionalSense, Cdb, InServiceAction, OutServiceAction, ParameterList, PersistentReserveIn,
    PersistentReserveOut, ScopeType, Sense, SenseKey, Status,
};

use crate::device::Device;
use crate::error::{Error, Refusal, service_action};
use crate::output::Output;
use crate::patience;

/// How many unit attentions a command may meet. Devices keep a few kinds, each once.
const MOST_ATTENTIONS: usize = 16;
/// How often a command is sent again after BUSY and TASK SET FULL, and the pause before each time.
const MOST_BUSY: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Warns if the process that listens at `socket` runs as neither root nor the user of this process.
///
/// Such a process may be no helper, and receives a descriptor of `device` with the access of this one.
fn warn_of_foreign_helper(stream: &UnixStream, socket: &Path, device: &Path, output: &Output) {
    // The kernel has noted who listened before that process gave up any privileges.
    let Ok(peer) = getsockopt(stream, sockopt::PeerCredentials) else {
        return;
    };
    let user = geteuid().as_raw();
    if peer.uid() != 0 && peer.uid() != user {
        output.note(&format!(
            "{}: process {} of user {} listens there, which is neither root nor user {user}: it \
             receives the open device {}",
            socket.display(),
            peer.pid(),
            peer.uid(),
            device.display(),
        ));
    }
}

/// A connection to the helper, and the device that it is about.
#[derive(Debug)]
pub(crate) struct Helper<'a> {
    client: Client,
    device: Device,
    /// Whether something is going to be changed.
    purpose: Direction,
    output: &'a Output,
    attentions: Vec<Sense>,
}

impl<'a> Helper<'a> {
    /// Connects to the helper, in order to ask about `device` or to change it.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`].
    pub(crate) fn connect(
        socket: &Path,
        device: Device,
        purpose: Direction,
        output: &'a Output,
    ) -> Result<Self, Error> {
        let late = || {
            let socket = socket.display();
            output.note(&format!(
                "{socket}: the helper has not answered for 5 seconds; still waiting"
            ));
        };
        let connect = || {
            let stream = UnixStream::connect(socket).map_err(ClientError::Connect)?;
            warn_of_foreign_helper(&stream, socket, device.path(), output);
            Client::negotiate(stream)
        };
        let client = patience::wait(late, connect);
        let client = client.map_err(|source| Error::Connect {
            socket: socket.to_owned(),
            source,
        })?;
        Ok(Helper {
            client,
            device,
            purpose,
            output,
            attentions: Vec::new(),
        })
    }

    /// Says what has to be known besides the answer.
    pub(crate) fn note(&self, text: &str) {
        let device = self.device.path().display();
        self.output.note(&format!("{device}: {text}"));
    }

    /// The device.
    pub(crate) const fn device(&self) -> &Device {
        &self.device
    }

    /// The unit attentions that were delivered so far.
    pub(crate) fn into_attentions(self) -> Vec<Sense> {
        self.attentions
    }

    /// PERSISTENT RESERVE IN: gives the parameter data, at most `allocation_length` bytes.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub(crate) fn ask(
        &mut self,
        service_action: InServiceAction,
        allocation_length: u16,
    ) -> Result<Vec<u8>, Error> {
        let command = PersistentReserveIn {
            service_action,
            allocation_length,
            control: 0,
        };
        Ok(self.execute(command.into(), &[])?.data)
    }

    /// PERSISTENT RESERVE OUT of the whole logical unit.
    ///
    /// # Errors
    ///
    /// Why it was not done.
    pub(crate) fn change(
        &mut self,
        service_action: OutServiceAction,
        scope_type: ScopeType,
        parameters: &ParameterList,
    ) -> Result<(), Error> {
        let list = parameters.encode();
        let length = u32::try_from(list.len()).unwrap_or(u32::MAX);
        if list.len() > MAX_TRANSFER {
            return Err(Error::TooManyInitiators);
        }
        let command = PersistentReserveOut {
            service_action,
            scope_type,
            parameter_list_length: length,
            control: 0,
        };
        let done = self.execute(command.into(), &list);
        // From here on nothing is left but to ask.
        self.purpose = Direction::In;
        match done {
            Ok(_) => Ok(()),
            Err(Error::Refused(refusal)) => Err(Error::Refused(Box::new(Refusal {
                parameters: Some(parameters.clone()),
                ..*refusal
            }))),
            Err(other) => Err(other),
        }
    }

    /// Sends a command until its answer is one to go by.
    ///
    /// # Errors
    ///
    /// [`Error::Exchange`] if there is none, [`Error::Refused`] if the command was not done.
    fn execute(&mut self, command: Cdb, parameters: &[u8]) -> Result<Response, Error> {
        let (mut attentions, mut busy) = (0, 0);
        loop {
            let response = self.exchange(command, parameters)?;
            if response.status == Status::GOOD {
                return Ok(response);
            }
            let refusal = Refusal::new(command, self.device.path(), &response);
            if let Some(attention) = refusal.attention() {
                self.attentions.push(attention);
                attentions += 1;
            }
            if is_done(&refusal, &response) {
                self.output.note(&format!("{refusal}; it was done"));
                return Ok(response);
            }
            match repetition(&refusal, self.purpose) {
                Repetition::Now if attentions < MOST_ATTENTIONS => {
                    self.output.note(&format!("{refusal}; sent again"));
                }
                Repetition::Later if busy < MOST_BUSY => {
                    if busy == 0 {
                        self.output.note(&format!("{refusal}; tried again"));
                    }
                    busy += 1;
                    thread::sleep(PAUSE);
                }
                _ => return Err(Error::Refused(Box::new(refusal))),
            }
        }
    }

    fn exchange(&mut self, command: Cdb, parameters: &[u8]) -> Result<Response, Error> {
        let (output, device) = (self.output, self.device.path());
        let late = || {
            let (action, device) = (service_action(command), device.display());
            let unknown = match command {
                Cdb::In(_) => "",
                Cdb::Out(_) => " (if this is interrupted, whether it was done is unknown)",
            };
            output.note(&format!(
                "{device}: {action}: the helper has not answered for 5 seconds; still waiting{unknown}"
            ));
        };
        let (client, descriptor) = (&mut self.client, self.device.as_fd());
        let exchange = || client.execute(pad_cdb(&command.encode()), descriptor, parameters);
        patience::wait(late, exchange).map_err(|source| Error::Exchange {
            command,
            device: device.to_owned(),
            source,
        })
    }
}

/// Whether the command was done, and the sense only tells of something besides (SPC-4, 4.5.6): as
/// `sg_persist` takes it. Deferred sense comes instead of the command, and an answer that is not there
/// cannot be gone by.
fn is_done(refusal: &Refusal, response: &Response) -> bool {
    let is_harmless = refusal.sense.is_some_and(|sense| {
        matches!(sense.key, SenseKey::NoSense | SenseKey::RecoveredError) && !sense.deferred
    });
    is_harmless && (matches!(refusal.command, Cdb::Out(_)) || !response.data.is_empty())
}

/// Whether and when to send a command again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repetition {
    /// At once.
    Now,
    /// After a pause.
    Later,
    /// Not at all.
    Never,
}

/// What to do about an answer that is not GOOD, to whom it is about to ask or to change.
fn repetition(refusal: &Refusal, purpose: Direction) -> Repetition {
    let is_question = matches!(refusal.command, Cdb::In(_));
    let is_busy = matches!(refusal.status, Status::BUSY | Status::TASK_SET_FULL);
    match (refusal.attention(), purpose) {
        (None, _) if is_busy && is_question => Repetition::Later,
        (None, _) => Repetition::Never,
        (Some(_), Direction::In) => Repetition::Now,
        (Some(attention), Direction::Out) if is_unrelated(attention.code) => Repetition::Now,
        (Some(_), Direction::Out) => Repetition::Never,
    }
}

/// Whether a unit attention is known to have nothing to do with reservations. What is not known to be
/// harmless is not: PREEMPT AND ABORT can show as COMMANDS CLEARED, vendors have codes of their own, and
/// where medium, inquiry data or LUNs have changed (28h, 3Fh) the device may be another one.
const fn is_unrelated(code: AdditionalSense) -> bool {
    match code.asc {
        // Power on, reset, nexus loss.
        0x29 => true,
        // Mode, log parameters, access states, priority, capacity.
        0x2a => matches!(code.ascq, 0x01 | 0x02 | 0x06 | 0x07 | 0x08 | 0x09),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_KEYS: Cdb = Cdb::In(PersistentReserveIn {
        service_action: InServiceAction::ReadKeys,
        allocation_length: 8,
        control: 0,
    });
    const CLEAR: Cdb = Cdb::Out(PersistentReserveOut {
        service_action: OutServiceAction::Clear,
        scope_type: ScopeType(0),
        parameter_list_length: 24,
        control: 0,
    });

    fn refusal(command: Cdb, status: u8, sense: Option<(u8, u8, u8)>) -> Refusal {
        Refusal::for_test(command, Path::new("/dev/sdb"), status, sense)
    }

    #[test]
    fn to_ask_again_is_always_harmless() {
        for (asc, ascq) in [(0x29, 0), (0x2a, 3), (0x2a, 5), (0x2f, 0), (0x80, 1)] {
            let refusal = refusal(READ_KEYS, 2, Some((6, asc, ascq)));
            assert_eq!(repetition(&refusal, Direction::In), Repetition::Now);
        }
    }

    #[test]
    fn to_change_again_is_harmless_if_reservations_have_not_been_touched() {
        for (asc, ascq, expected) in [
            (0x29, 0x00, Repetition::Now),
            (0x29, 0x07, Repetition::Now),
            (0x2a, 0x06, Repetition::Now),
            (0x2a, 0x09, Repetition::Now),
            (0x2a, 0x00, Repetition::Never),
            (0x2a, 0x03, Repetition::Never),
            (0x2a, 0x04, Repetition::Never),
            (0x2a, 0x05, Repetition::Never),
            (0x28, 0x00, Repetition::Never),
            (0x2f, 0x00, Repetition::Never),
            (0x3f, 0x01, Repetition::Never),
            (0x3f, 0x03, Repetition::Never),
            (0x3f, 0x05, Repetition::Never),
            (0x3f, 0x0e, Repetition::Never),
            (0x80, 0x01, Repetition::Never),
        ] {
            // Also what is asked in order to change.
            for command in [READ_KEYS, CLEAR] {
                let refusal = refusal(command, 2, Some((6, asc, ascq)));
                let found = repetition(&refusal, Direction::Out);
                assert_eq!(found, expected, "{asc:02x}/{ascq:02x}");
            }
        }
    }

    #[test]
    fn only_who_asks_waits_for_a_busy_device() {
        for (status, expected) in [
            (0x08, Repetition::Later),
            (0x28, Repetition::Later),
            (0x18, Repetition::Never),
            (0x40, Repetition::Never),
        ] {
            for purpose in [Direction::In, Direction::Out] {
                let asked = repetition(&refusal(READ_KEYS, status, None), purpose);
                assert_eq!(asked, expected, "{status:#x}");
            }
            let changed = repetition(&refusal(CLEAR, status, None), Direction::Out);
            assert_eq!(changed, Repetition::Never, "{status:#x}");
        }
        let aborted = refusal(READ_KEYS, 2, Some((0xb, 0, 6)));
        assert_eq!(repetition(&aborted, Direction::In), Repetition::Never);
    }

    #[test]
    fn sense_that_only_tells_is_no_refusal() {
        let data = |data: &[u8]| Response {
            status: Status::CHECK_CONDITION,
            sense: [0; 96],
            data: data.to_vec(),
        };
        for (command, key, answer, expected) in [
            (CLEAR, 0, &[][..], true),
            (CLEAR, 1, &[], true),
            (READ_KEYS, 1, &[0; 8], true),
            (READ_KEYS, 1, &[], false),
            (CLEAR, 6, &[], false),
        ] {
            let refusal = refusal(command, 2, Some((key, 0, 0)));
            assert_eq!(
                is_done(&refusal, &data(answer)),
                expected,
                "{key} {answer:?}"
            );
        }
        let mut deferred = refusal(CLEAR, 2, Some((1, 0, 0)));
        deferred.sense = deferred.sense.map(|sense| Sense {
            deferred: true,
            ..sense
        });
        assert!(!is_done(&deferred, &data(&[])));
    }
}
