//! One command at the helper: sent, sent again where that is harmless, and judged.
//!
//! A unit attention comes instead of what was asked for, and once: the command was not done. To ask
//! again is harmless. To change again is not if the attention says that somebody has changed the
//! reservations: a node that has just been fenced must not come back by a blind repetition. The same
//! goes for what is asked in order to change.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use pr_socket::wire::{CDB_SIZE, MAX_TRANSFER};
use pr_socket::{Client, Direction, Response};
use scsi_pr::{
    AdditionalSense, Cdb, InServiceAction, OutServiceAction, ParameterList, PersistentReserveIn,
    PersistentReserveOut, ScopeType, Sense, SenseKey, Status,
};

use crate::device::Device;
use crate::error::{Error, Refusal};
use crate::render::Output;

/// How many unit attentions a command may meet. Devices keep a few kinds, each once.
const MOST_ATTENTIONS: usize = 16;
/// How often a command is sent again after BUSY and TASK SET FULL, and the pause before each time.
const MOST_BUSY: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);

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
        let client = Client::connect(socket).map_err(|source| Error::Connect {
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
        done.map(|_| ())
    }

    /// Sends a command until its answer is one to go by.
    ///
    /// # Errors
    ///
    /// [`Error::Exchange`] if there is none, [`Error::Refused`] if it is anything but GOOD.
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
        let mut cdb = [0; CDB_SIZE];
        for (byte, value) in cdb.iter_mut().zip(command.encode()) {
            *byte = value;
        }
        self.client
            .execute(cdb, self.device.as_fd(), parameters)
            .map_err(|source| Error::Exchange {
                command,
                device: self.device.path().to_owned(),
                source,
            })
    }
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
    let is_busy = matches!(refusal.status, Status::BUSY | Status::TASK_SET_FULL);
    match (refusal.attention(), purpose) {
        (None, _) if is_busy => Repetition::Later,
        (None, _) => Repetition::Never,
        (Some(_), Direction::In) => Repetition::Now,
        (Some(attention), Direction::Out) if is_unrelated(attention.code) => Repetition::Now,
        (Some(_), Direction::Out) => Repetition::Never,
    }
}

/// Whether a unit attention is known to have nothing to do with reservations. What is not known to be
/// harmless is not: PREEMPT AND ABORT can show as COMMANDS CLEARED, and vendors have codes of their own.
const fn is_unrelated(code: AdditionalSense) -> bool {
    match code.asc {
        // Medium may have changed; power on, reset, nexus loss; microcode, inquiry data, LUNs changed.
        0x28 | 0x29 | 0x3f => true,
        // Mode, log parameters, access states, priority, capacity.
        0x2a => matches!(code.ascq, 0x01 | 0x02 | 0x06 | 0x07 | 0x08 | 0x09),
        _ => false,
    }
}

/// Whether sense tells of a unit attention of the current command.
pub(crate) fn is_attention(sense: &Sense) -> bool {
    sense.key == SenseKey::UnitAttention && !sense.deferred
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u8, sense: Option<(u8, u8, u8)>) -> Refusal {
        let command = PersistentReserveIn {
            service_action: InServiceAction::ReadKeys,
            allocation_length: 8,
            control: 0,
        };
        let mut response = Response {
            status: Status(status),
            sense: [0; 96],
            data: Vec::new(),
        };
        if let Some((key, asc, ascq)) = sense {
            let code = AdditionalSense { asc, ascq };
            let sense = Sense::new(SenseKey::from_low_bits(key), code).to_fixed();
            response.sense[..18].copy_from_slice(&sense);
        }
        Refusal::new(command.into(), Path::new("/dev/sdb"), &response)
    }

    #[test]
    fn to_ask_again_is_always_harmless() {
        for (asc, ascq) in [(0x29, 0), (0x2a, 3), (0x2a, 5), (0x2f, 0), (0x80, 1)] {
            let refusal = refusal(2, Some((6, asc, ascq)));
            assert_eq!(repetition(&refusal, Direction::In), Repetition::Now);
        }
    }

    #[test]
    fn to_change_again_is_harmless_if_reservations_have_not_been_touched() {
        for (asc, ascq, expected) in [
            (0x29, 0x00, Repetition::Now),
            (0x29, 0x07, Repetition::Now),
            (0x3f, 0x0e, Repetition::Now),
            (0x2a, 0x06, Repetition::Now),
            (0x2a, 0x09, Repetition::Now),
            (0x2a, 0x00, Repetition::Never),
            (0x2a, 0x03, Repetition::Never),
            (0x2a, 0x04, Repetition::Never),
            (0x2a, 0x05, Repetition::Never),
            (0x2f, 0x00, Repetition::Never),
            (0x80, 0x01, Repetition::Never),
        ] {
            let refusal = refusal(2, Some((6, asc, ascq)));
            let found = repetition(&refusal, Direction::Out);
            assert_eq!(found, expected, "{asc:02x}/{ascq:02x}");
        }
    }

    #[test]
    fn only_busy_devices_are_waited_for() {
        for direction in [Direction::In, Direction::Out] {
            for (status, expected) in [
                (0x08, Repetition::Later),
                (0x28, Repetition::Later),
                (0x18, Repetition::Never),
                (0x40, Repetition::Never),
            ] {
                assert_eq!(repetition(&refusal(status, None), direction), expected);
            }
            let aborted = refusal(2, Some((0xb, 0, 6)));
            assert_eq!(repetition(&aborted, direction), Repetition::Never);
        }
    }
}
