// SPDX-License-Identifier: MIT OR Apache-2.0

//! Binary format: a complete trace is compared byte by byte with what `simpletrace.py` expects.

use std::fs;

use rustix::process::geteuid;

use crate::helper::{Devices, Helper, Request, builder, helper_output};

/// Expected bytes; `None` stands for any byte.
#[derive(Default)]
struct Expected(Vec<Option<u8>>);

impl Expected {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes.iter().copied().map(Some));
        self
    }

    /// Appends a time, which can have any value.
    fn time(mut self) -> Self {
        self.0.extend([None; 8]);
        self
    }

    fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_ne_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_ne_bytes())
    }

    /// Appends a record up to its arguments.
    fn record(self, id: u64, length: u32, process: u32) -> Self {
        self.u64(1).u64(id).time().u32(length).u32(process)
    }
}

#[test]
fn simple_trace_has_the_expected_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(builder(dir.path()).args([
        "--trace-backend",
        "simple",
        "-Tpr_helper_client_connected",
        "-Tpr_helper_request_refused",
        "-Tpr_helper_stopp*,file=trace",
    ]));
    let mut client = helper.connect();
    client.execute(&Request::nth(2, 3), &Devices::open());
    client.disconnect();
    assert!(helper.terminate().unwrap().success());

    let names = helper_output("-Thelp");
    let id = |wanted: &str| {
        let index = names.lines().position(|name| name == wanted);
        u64::try_from(index.unwrap()).unwrap()
    };
    let (helper, pid) = (helper.id(), u64::from(std::process::id()));
    let uid = u64::from(geteuid().as_raw());
    let mut expected = Expected::default()
        .u64(0xffff_ffff_ffff_ffff)
        .u64(0xf2b1_77cb_0aa4_29b4)
        .u64(4);
    for (id, name) in (0..).zip(names.lines()) {
        let length = u32::try_from(name.len()).unwrap();
        expected = expected.u64(0).u64(id).u32(length).bytes(name.as_bytes());
    }
    for client in [1, 2] {
        // The length is 24 for the header and 8 for each number.
        expected = expected.record(id("pr_helper_client_connected"), 48, helper);
        expected = expected.u64(client).u64(pid).u64(uid);
    }
    // The length of a text is 4 more than the text itself.
    expected = expected.record(id("pr_helper_request_refused"), 62, helper);
    expected = expected.u64(2).u32(8).bytes(b"char 1:3");
    expected = expected.u32(14).bytes(b"open read-only");
    expected = expected.record(id("pr_helper_stopping"), 35, helper);
    expected = expected.u32(7).bytes(b"SIGTERM");
    expected = expected.record(id("pr_helper_stopped"), 32, helper).u64(0);

    let bytes = fs::read(dir.path().join("trace")).unwrap();
    let Expected(expected) = expected;
    assert_eq!(bytes.len(), expected.len());
    let masked = bytes.iter().zip(&expected);
    let masked: Vec<_> = masked.map(|(byte, mask)| mask.map(|_| *byte)).collect();
    assert_eq!(masked, expected);
}
