// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that is stopped by a signal. After it is continued, as by debuggers and freezers, it
//! still has all its clients. After it is terminated, it starts no command.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::Duration;

use pr_testkit::cdb::{read_keys, register};
use pr_testkit::client::{TestClient, null};
use pr_testkit::{HelperProcess, eventually};
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

/// Terminates a helper between the CDB and the parameter list of REGISTER. Returns the client and
/// the helper after the shutdown has begun.
fn terminate_after_cdb(lingers: bool) -> (TestClient, HelperProcess) {
    let helper = start(&["-T", "pr_helper_*,file=trace"]);
    let mut client = helper.client();
    if lingers {
        // After a reply, a thread lingers with the client.
        client.execute(&read_keys(8), null());
    }
    client.send(&register(0, 0).cdb, null().as_fd());
    helper.signal(Signal::TERM);
    eventually("the shutdown", || {
        trace(&helper).contains("pr_helper_stopping").then_some(())
    });
    (client, helper)
}

fn trace(helper: &HelperProcess) -> String {
    fs::read_to_string(helper.dir().join("trace")).unwrap()
}

/// QEMU sends the CDB and the parameter list separately, and reports to the guest that the command
/// failed if it cannot send the parameter list.
#[test]
fn request_at_shutdown_is_completed() {
    for lingers in [false, true] {
        let (mut client, mut helper) = terminate_after_cdb(lingers);
        client.try_send(&register(0, 0).parameter_list).unwrap();
        assert_eq!(client.receive().unwrap().status, Status::CHECK_CONDITION);
        assert!(helper.wait().unwrap().success());
        let trace = trace(&helper);
        assert!(trace.contains("pr_helper_out_end"), "{trace}");
        assert!(trace.contains("pr_helper_stopped unanswered=0"), "{trace}");
    }
}

#[test]
fn partial_request_at_shutdown_never_starts() {
    for lingers in [false, true] {
        let (mut client, mut helper) = terminate_after_cdb(lingers);
        let [rest @ .., _] = &*register(0, 0).parameter_list else {
            unreachable!("the parameter list has 24 bytes");
        };
        client.try_send(rest).unwrap();
        assert!(helper.wait().unwrap().success());
        let trace = trace(&helper);
        assert!(trace.contains("pr_helper_stopped unanswered=0"), "{trace}");
        assert!(!trace.contains("pr_helper_out_begin"), "{trace}");
    }
}
