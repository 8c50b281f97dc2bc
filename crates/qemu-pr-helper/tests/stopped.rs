// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that is stopped by a signal. After it is continued, as by debuggers and freezers, it
//! still has all its clients. After it is terminated, it starts no command.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::Duration;

use pr_testkit::HelperProcess;
use pr_testkit::cdb::{read_keys, register};
use pr_testkit::client::null;
use rustix::process::Signal;
use scsi_pr::Status;

fn start(arguments: &[&str]) -> HelperProcess {
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper.args(arguments).start().unwrap()
}

#[test]
fn clients_stay_connected_after_sigstop() {
    let helper = start(&[]);
    let mut client = helper.client();
    for _ in 0..40 {
        // For a short time after a reply, a thread still waits for the next request.
        let response = client.execute(&read_keys(8), null());
        assert_eq!(response.status, Status::CHECK_CONDITION);
        sleep(Duration::from_millis(2));
        helper.while_stopped(|| {});
    }
}

/// The helper is terminated while a thread reads a request byte by byte.
#[test]
fn partial_request_at_shutdown_never_starts() {
    let mut helper = start(&["-T", "pr_helper_*,file=trace"]);
    let mut client = helper.client();
    // After a reply, a thread lingers with the client.
    client.execute(&read_keys(8), null());
    let register = register(0, 0);
    client.send(&register.cdb, null().as_fd());
    for (number, byte) in register.parameter_list.iter().enumerate() {
        if number == 12 {
            helper.signal(Signal::TERM);
        }
        // The helper may have exited.
        let _ = client.try_send(&[*byte]);
        sleep(Duration::from_millis(3));
    }
    assert!(helper.wait().unwrap().success());
    let trace = fs::read_to_string(helper.dir().join("trace")).unwrap();
    assert!(trace.contains("pr_helper_in_end"), "{trace}");
    assert!(trace.contains("pr_helper_stopped unanswered=0"), "{trace}");
    assert!(!trace.contains("pr_helper_out_begin"), "{trace}");
}
