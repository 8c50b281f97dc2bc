// SPDX-License-Identifier: MIT OR Apache-2.0

//! Trace of a worker's steps. The worker emits no events itself: it records each step as a line of
//! fields separated by tabs, and the helper emits the event of each line in the report.

use std::cell::RefCell;
use std::rc::Rc;

use pr_helper_protocol::wire::CDB_SIZE;

use crate::command::command_log;
use crate::command::sg::TransportOutcome;
use crate::trace::trace;

/// Lines of the steps in the order in which they ended, if the request asks for them. Clones share
/// the lines.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkerTrace(Option<Rc<RefCell<Vec<String>>>>);

impl WorkerTrace {
    /// Creates a trace, which records steps only if `is_enabled`.
    pub(super) fn new(is_enabled: bool) -> Self {
        Self(is_enabled.then(Rc::default))
    }

    /// Records a command that was sent over `path`.
    pub(super) fn record_path(
        &self,
        path: &str,
        cdb: &[u8; CDB_SIZE],
        outcome: TransportOutcome,
        microseconds: u64,
    ) {
        let [opcode, action, ..] = cdb;
        let name = match outcome {
            TransportOutcome::Completed(_) => "answered",
            TransportOutcome::NotDelivered(_) => "unsent",
            TransportOutcome::Unknown(_) => "lost",
        };
        self.record(|| {
            let result = outcome.into_result();
            let (status, sense) = (result.status.0, command_log::packed_sense(&result));
            format!("path\t{path}\t{opcode}\t{action}\t{name}\t{status}\t{sense}\t{microseconds}")
        });
    }

    /// Records a command that was sent to multipathd, and the reply or the error.
    pub(super) fn record_multipathd(&self, request: &str, reply: &str, microseconds: u64) {
        self.record(|| {
            let (request, reply) = (request.escape_default(), reply.escape_default());
            format!("multipathd\t{request}\t{reply}\t{microseconds}")
        });
    }

    fn record(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines.borrow_mut().push(line());
        }
    }

    /// Removes and returns the recorded lines.
    pub(super) fn take_lines(&self) -> Vec<String> {
        let lines = self.0.as_ref().map(|lines| lines.take());
        lines.unwrap_or_default()
    }
}

/// Emits the event of a recorded line, for a command of the client `client` on `map`; `None` if the
/// line is malformed.
pub fn emit(line: &str, client: u64, map: &str) -> Option<()> {
    let fields: Vec<_> = line.split('\t').collect();
    let (microseconds, fields) = fields.split_last()?;
    let microseconds = microseconds.parse().ok()?;
    match *fields {
        ["path", path, opcode, action, result, status, sense] => {
            let (opcode, action) = (opcode.parse().ok()?, action.parse().ok()?);
            let (status, sense) = (status.parse().ok()?, sense.parse().ok()?);
            trace!(pr_helper_path(
                client,
                map,
                path,
                opcode,
                action,
                result,
                status,
                sense,
                microseconds,
            ));
        }
        ["multipathd", request, reply] => {
            trace!(pr_helper_multipathd(
                client,
                map,
                request,
                reply,
                microseconds
            ));
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::executor::CommandResult;
    use scsi_pr::{AdditionalSense, SenseKey};

    #[test]
    fn recorded_lines_have_events() {
        let trace = WorkerTrace::new(true);
        let result =
            CommandResult::check_condition(SenseKey::NotReady, AdditionalSense::MEDIUM_NOT_PRESENT);
        let cdb = [0x5f, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        trace.record_path("sda", &cdb, TransportOutcome::Unknown(result), 12);
        trace.record_multipathd("getprkey map dm-0", "none", 7);
        // The separator in a field is escaped.
        trace.record_multipathd("a\tb\nc", "", 0);
        let lines = trace.take_lines();
        assert_eq!(
            lines,
            [
                "path\tsda\t95\t3\tlost\t2\t145920\t12",
                "multipathd\tgetprkey map dm-0\tnone\t7",
                "multipathd\ta\\tb\\nc\t\t0",
            ]
        );
        for line in lines {
            assert_eq!(emit(&line, 1, "253:0"), Some(()), "{line:?}");
        }
    }

    #[test]
    fn malformed_lines_have_no_event() {
        for line in [
            "",
            "path",
            "path\tsda",
            "path\tsda\t256\t3\tlost\t2\t145920\t12",
            "multipathd\ta\tb\tc",
            "other\ta\tb\t1",
        ] {
            assert_eq!(emit(line, 1, "253:0"), None, "{line:?}");
        }
    }

    #[test]
    fn disabled_trace_records_nothing() {
        let trace = WorkerTrace::new(false);
        trace.record(|| panic!("the trace is disabled"));
        assert!(trace.take_lines().is_empty());
    }
}
