//! What a worker has done, step by step, for the helper's trace: the worker itself writes none.

use std::cell::RefCell;
use std::rc::Rc;

use pr_helper_protocol::wire::CDB_SIZE;

use crate::command::command_log;
use crate::command::sg::TransportOutcome;
use crate::trace::trace;

/// Between the fields of a step. No field has one in it.
const SEPARATOR: char = '\t';

/// What begins a step that was taken by a path.
const PATH: &str = "path";
/// What begins a step that was taken by multipathd.
const DAEMON: &str = "multipathd";

/// Something that took time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A command that was sent by a path.
    Path {
        /// Its name.
        path: String,
        /// The command's operation code.
        opcode: u8,
        /// Its service action, if it is one that has them.
        action: u8,
        /// Whether it was `answered`, `unsent` or `lost`.
        result: String,
        /// The status that it ended with.
        status: u8,
        /// The sense: key, code, qualifier.
        sense: u32,
        /// How long it took.
        microseconds: u64,
    },
    /// Something that multipathd was told.
    Daemon {
        /// What.
        request: String,
        /// What it said.
        reply: String,
        /// How long it took.
        microseconds: u64,
    },
}

impl Step {
    /// A command that `path` was sent, and what came of it.
    #[must_use]
    pub fn path(
        path: &str,
        cdb: &[u8; CDB_SIZE],
        delivery: &TransportOutcome,
        microseconds: u64,
    ) -> Self {
        let [opcode, action, ..] = *cdb;
        let (result, outcome) = match delivery {
            TransportOutcome::Completed(outcome) => ("answered", outcome),
            TransportOutcome::NotDelivered(outcome) => ("unsent", outcome),
            TransportOutcome::Unknown(outcome) => ("lost", outcome),
        };
        Self::Path {
            path: path.to_owned(),
            opcode,
            action,
            result: result.to_owned(),
            status: outcome.status.0,
            sense: command_log::packed_sense(outcome),
            microseconds,
        }
    }

    /// One line, without its end.
    #[must_use]
    pub fn encode(&self) -> String {
        let fields = match self {
            Self::Path {
                path,
                opcode,
                action,
                result,
                status,
                sense,
                microseconds,
            } => vec![
                PATH.to_owned(),
                path.clone(),
                opcode.to_string(),
                action.to_string(),
                result.clone(),
                status.to_string(),
                sense.to_string(),
                microseconds.to_string(),
            ],
            Self::Daemon {
                request,
                reply,
                microseconds,
            } => vec![
                DAEMON.to_owned(),
                request.escape_default().to_string(),
                reply.escape_default().to_string(),
                microseconds.to_string(),
            ],
        };
        fields.join(&SEPARATOR.to_string())
    }

    /// Reads one; `None` if the line is none.
    #[must_use]
    pub fn decode(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split(SEPARATOR).collect();
        match fields.as_slice() {
            [
                PATH,
                path,
                opcode,
                action,
                result,
                status,
                sense,
                microseconds,
            ] => Some(Self::Path {
                path: (*path).to_owned(),
                opcode: opcode.parse().ok()?,
                action: action.parse().ok()?,
                result: (*result).to_owned(),
                status: status.parse().ok()?,
                sense: sense.parse().ok()?,
                microseconds: microseconds.parse().ok()?,
            }),
            [DAEMON, request, reply, microseconds] => Some(Self::Daemon {
                request: (*request).to_owned(),
                reply: (*reply).to_owned(),
                microseconds: microseconds.parse().ok()?,
            }),
            _ => None,
        }
    }

    /// Reports it as an event, of a command of this client on this map.
    pub fn tell(&self, client: u64, map: &str) {
        match self {
            Self::Path {
                path,
                opcode,
                action,
                result,
                status,
                sense,
                microseconds,
            } => trace!(pr_helper_path(
                client,
                map,
                path,
                *opcode,
                *action,
                result,
                *status,
                *sense,
                *microseconds,
            )),
            Self::Daemon {
                request,
                reply,
                microseconds,
            } => trace!(pr_helper_multipathd(
                client,
                map,
                request,
                reply,
                *microseconds
            )),
        }
    }
}

/// Steps, in the order in which they ended; or nothing, if nobody wants to know. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Trail(Option<Rc<RefCell<Vec<Step>>>>);

impl Trail {
    /// One that keeps steps if that is `wanted`.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        Self(wanted.then(Rc::default))
    }

    /// Keeps a step, which is made if somebody wants it.
    pub fn add(&self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &self.0 {
            steps.borrow_mut().push(step());
        }
    }

    /// The steps so far.
    #[must_use]
    pub fn take(&self) -> Vec<Step> {
        self.0
            .as_ref()
            .map(|steps| std::mem::take(&mut *steps.borrow_mut()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::executor::CommandResult;
    use scsi_pr::{AdditionalSense, SenseKey};

    #[test]
    fn steps_are_read_as_they_were_written() {
        let outcome =
            CommandResult::check_condition(SenseKey::NotReady, AdditionalSense::MEDIUM_NOT_PRESENT);
        let cdb = [0x5f, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let by_path = Step::path("sda", &cdb, &TransportOutcome::Unknown(outcome), 12);
        assert_eq!(by_path.encode(), "path\tsda\t95\t3\tlost\t2\t145920\t12");
        let told = Step::Daemon {
            request: "getprkey map dm-0".to_owned(),
            reply: "none".to_owned(),
            microseconds: 7,
        };
        for step in [by_path, told] {
            assert_eq!(Step::decode(&step.encode()), Some(step));
        }
    }

    #[test]
    fn what_is_no_step_is_none() {
        for line in [
            "",
            "path",
            "path\tsda",
            "multipathd\ta\tb\tc",
            "other\ta\tb\t1",
        ] {
            assert_eq!(Step::decode(line), None, "{line:?}");
        }
        let torn = Step::Daemon {
            request: "a\tb\nc".to_owned(),
            reply: String::new(),
            microseconds: 0,
        };
        assert_eq!(torn.encode(), "multipathd\ta\\tb\\nc\t\t0");
    }

    #[test]
    fn nobody_keeps_what_nobody_wants() {
        let trail = Trail::new(false);
        trail.add(|| panic!("it is not wanted"));
        assert_eq!(trail.take(), []);
    }
}
