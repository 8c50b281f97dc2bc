//! Trace of a worker's steps. The worker writes no trace itself: it sends the steps to the helper,
//! each as a line of fields separated by tabs, and the helper emits them.

use std::cell::RefCell;
use std::rc::Rc;

use pr_helper_protocol::wire::CDB_SIZE;

use crate::command::command_log;
use crate::command::sg::TransportOutcome;
use crate::trace::trace;

/// Step of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceStep {
    /// Command that was sent over a path.
    Path {
        /// Name of the path.
        path: String,
        /// Operation code.
        opcode: u8,
        /// Second byte of the CDB, which contains the service action.
        action: u8,
        /// `answered`, `unsent` or `lost`.
        result: String,
        /// Status.
        status: u8,
        /// Sense key, additional sense code and qualifier, as bytes 2 to 0.
        sense: u32,
        /// Duration.
        microseconds: u64,
    },
    /// Command that was sent to multipathd.
    Multipathd {
        /// The command.
        request: String,
        /// The reply, or the error.
        reply: String,
        /// Duration.
        microseconds: u64,
    },
}

impl TraceStep {
    /// Creates the step of a command that was sent over `path`.
    pub(super) fn from_path(
        path: &str,
        cdb: &[u8; CDB_SIZE],
        outcome: &TransportOutcome,
        microseconds: u64,
    ) -> Self {
        let [opcode, action, ..] = *cdb;
        let (name, result) = match outcome {
            TransportOutcome::Completed(result) => ("answered", result),
            TransportOutcome::NotDelivered(result) => ("unsent", result),
            TransportOutcome::Unknown(result) => ("lost", result),
        };
        Self::Path {
            path: path.to_owned(),
            opcode,
            action,
            result: name.to_owned(),
            status: result.status.0,
            sense: command_log::packed_sense(result),
            microseconds,
        }
    }

    /// Encodes the step as a line, without its end.
    pub fn encode(&self) -> String {
        match self {
            Self::Path {
                path,
                opcode,
                action,
                result,
                status,
                sense,
                microseconds,
            } => format!(
                "path\t{path}\t{opcode}\t{action}\t{result}\t{status}\t{sense}\t{microseconds}"
            ),
            Self::Multipathd {
                request,
                reply,
                microseconds,
            } => {
                let (request, reply) = (request.escape_default(), reply.escape_default());
                format!("multipathd\t{request}\t{reply}\t{microseconds}")
            }
        }
    }

    /// Decodes a line; `None` if it is malformed.
    pub fn decode(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split('\t').collect();
        match fields.as_slice() {
            [
                "path",
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
            ["multipathd", request, reply, microseconds] => Some(Self::Multipathd {
                request: (*request).to_owned(),
                reply: (*reply).to_owned(),
                microseconds: microseconds.parse().ok()?,
            }),
            _ => None,
        }
    }

    /// Emits the trace event of a step for a client's command on `map`.
    pub(super) fn emit(&self, client: u64, map: &str) {
        match self {
            Self::Path {
                path,
                opcode,
                action,
                result,
                status,
                sense,
                microseconds,
            } => {
                trace!(pr_helper_path(
                    client,
                    map,
                    path,
                    *opcode,
                    *action,
                    result,
                    *status,
                    *sense,
                    *microseconds
                ));
            }
            Self::Multipathd {
                request,
                reply,
                microseconds,
            } => {
                trace!(pr_helper_multipathd(
                    client,
                    map,
                    request,
                    reply,
                    *microseconds
                ));
            }
        }
    }
}

/// Steps in the order in which they ended, if the request asks for them. Clones share the steps.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerTrace(Option<Rc<RefCell<Vec<TraceStep>>>>);

impl WorkerTrace {
    /// Creates a trace, which records steps only if `is_enabled`.
    pub(super) fn new(is_enabled: bool) -> Self {
        Self(is_enabled.then(Rc::default))
    }

    /// Records a step. `step` is not called if the trace is disabled.
    pub(super) fn record(&self, step: impl FnOnce() -> TraceStep) {
        if let Some(steps) = &self.0 {
            steps.borrow_mut().push(step());
        }
    }

    /// Removes and returns the recorded steps.
    pub(super) fn take_steps(&self) -> Vec<TraceStep> {
        self.0
            .as_ref()
            .map(|steps| steps.take())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::executor::CommandResult;
    use scsi_pr::{AdditionalSense, SenseKey};

    #[test]
    fn steps_round_trip() {
        let result =
            CommandResult::check_condition(SenseKey::NotReady, AdditionalSense::MEDIUM_NOT_PRESENT);
        let cdb = [0x5f, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let path = TraceStep::from_path("sda", &cdb, &TransportOutcome::Unknown(result), 12);
        assert_eq!(path.encode(), "path\tsda\t95\t3\tlost\t2\t145920\t12");
        let multipathd = TraceStep::Multipathd {
            request: "getprkey map dm-0".to_owned(),
            reply: "none".to_owned(),
            microseconds: 7,
        };
        for step in [path, multipathd] {
            assert_eq!(TraceStep::decode(&step.encode()), Some(step));
        }
    }

    #[test]
    fn malformed_steps_are_rejected() {
        for line in [
            "",
            "path",
            "path\tsda",
            "multipathd\ta\tb\tc",
            "other\ta\tb\t1",
        ] {
            assert_eq!(TraceStep::decode(line), None, "{line:?}");
        }
    }

    #[test]
    fn separators_in_a_field_are_escaped() {
        let step = TraceStep::Multipathd {
            request: "a\tb\nc".to_owned(),
            reply: String::new(),
            microseconds: 0,
        };
        assert_eq!(step.encode(), "multipathd\ta\\tb\\nc\t\t0");
    }

    #[test]
    fn disabled_trace_records_nothing() {
        let trace = WorkerTrace::new(false);
        trace.record(|| panic!("the trace is disabled"));
        assert_eq!(trace.take_steps(), []);
    }
}
