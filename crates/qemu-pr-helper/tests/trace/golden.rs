//! A whole binary trace, byte for byte, as `simpletrace.py` has to find it.

use std::fs;

use rustix::process::geteuid;

use crate::helper::{Devices, Launch, Request, printed};

/// Bytes, of which those of times can be any.
#[derive(Default)]
struct Expected(Vec<Option<u8>>);

impl Expected {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes.iter().copied().map(Some));
        self
    }

    /// A time.
    fn any(mut self) -> Self {
        self.0.extend([None; 8]);
        self
    }

    fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_ne_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_ne_bytes())
    }

    /// What is in front of the arguments.
    fn record(self, id: u64, length: u32, process: u32) -> Self {
        self.u64(1).u64(id).any().u32(length).u32(process)
    }
}

#[test]
fn a_trace_is_these_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Launch::new(folder.path())
        .args([
            "--trace-backend",
            "simple",
            "-Tpr_helper_client_connected",
            "-Tpr_helper_request_refused",
            "-Tpr_helper_stopp*,file=trace",
        ])
        .start();
    let mut client = running.client();
    client.ask(&Request::nth(2, 3), &Devices::open());
    client.leave();
    assert!(running.terminate().success());

    let names = printed("-Thelp");
    let id = |wanted: &str| {
        let place = names.lines().position(|name| name == wanted);
        u64::try_from(place.unwrap()).unwrap()
    };
    let (helper, pid) = (running.pid(), u64::from(std::process::id()));
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
        // 24, and three numbers.
        expected = expected.record(id("pr_helper_client_connected"), 48, helper);
        expected = expected.u64(client).u64(pid).u64(uid);
    }
    // 24, a number, and two texts with their lengths.
    expected = expected.record(id("pr_helper_request_refused"), 62, helper);
    expected = expected.u64(2).u32(8).bytes(b"char 1:3");
    expected = expected.u32(14).bytes(b"open read-only");
    expected = expected.record(id("pr_helper_stopping"), 35, helper);
    expected = expected.u32(7).bytes(b"SIGTERM");
    expected = expected.record(id("pr_helper_stopped"), 32, helper).u64(0);

    let bytes = fs::read(folder.path().join("trace")).unwrap();
    let Expected(expected) = expected;
    assert_eq!(bytes.len(), expected.len());
    let masked = bytes.iter().zip(&expected);
    let masked: Vec<_> = masked.map(|(byte, mask)| mask.map(|_| *byte)).collect();
    assert_eq!(masked, expected);
}
