// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages between the multipath broker's workers and the helper: decoding accepts only what
//! encoding produces.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use pr_helper_protocol::Direction;
use qemu_pr_helper::multipath::message::{CommandReport, MAX_REPLY_LEN, MapRequest, WorkerRequest};
use qemu_pr_helper::multipath::worker_trace;

fuzz::target!(run);

/// Input: a request, a reply, or a line of a reply's trace.
fn run(bytes: &[u8]) {
    if let Some(request) = WorkerRequest::decode(bytes) {
        let wanted = match request.command.direction() {
            Direction::In => 0,
            Direction::Out => request.command.transfer_length(),
        };
        assert_eq!(request.parameter_list.len(), wanted);
        let mut expected = bytes.to_vec();
        expected[8] = u8::from(bytes[8] != 0);
        assert_eq!(request.encode(), expected);
    }
    if let Some(request) = MapRequest::decode(bytes) {
        let again = MapRequest::decode(&request.encode());
        assert_eq!(again, Some(request));
    }
    if let Some(report) = CommandReport::decode(bytes) {
        assert_eq!(report.result.data_len, report.data.len());
        let encoded = report.encode();
        assert!(encoded.len() <= MAX_REPLY_LEN);
        assert_eq!(
            encoded[..99 + report.data.len()],
            bytes[..99 + report.data.len()]
        );
        let again = CommandReport::decode(&encoded).unwrap();
        assert_eq!((again.result, again.data), (report.result, report.data));
        // Bytes that are not UTF-8 become longer ones.
        if encoded.len() < MAX_REPLY_LEN {
            assert_eq!(again.paths, report.paths);
        }
    }
    if let Ok(line) = str::from_utf8(bytes) {
        let _ = worker_trace::emit(line, 1, "253:0");
    }
}
