// SPDX-License-Identifier: MIT OR Apache-2.0

//! System calls that fail because the kernel lacks files or memory. `strace` injects the errors.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use pr_testkit::cdb::read_keys;
use pr_testkit::client::null;
use pr_testkit::{eventually, skip};
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::Status;

use crate::Test;
use crate::helper::Helper;

pub(crate) const TESTS: &[Test] = tests![accept, send, receive, wait];

/// Time in which a system call always fails.
const FAULT_PERIOD: Duration = Duration::from_secs(2);
/// Maximum number of calls in that time: the helper retries with a delay.
const MAX_CALLS: usize = 400;

/// strace, which injects errors into a helper's system calls until [`Self::end`].
struct SyscallErrors {
    strace: Child,
    record: PathBuf,
}

impl SyscallErrors {
    /// Starts injecting `error`, in the syntax of strace(1), into `call`; `None` if strace cannot
    /// be used.
    fn start(helper: &Helper, call: &str, error: &str) -> Option<Self> {
        let record = helper.dir().join("record");
        let stderr = helper.dir().join("stderr");
        let strace = Command::new("strace")
            .args(["-f", "-p", &helper.pid().as_raw_nonzero().to_string()])
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error={error}")])
            .arg("-o")
            .arg(&record)
            .stdin(Stdio::null())
            .stderr(File::create(&stderr).unwrap())
            .spawn();
        let mut strace = match strace {
            Ok(strace) => strace,
            Err(error) => {
                skip(&format!("strace cannot be used: {error}"));
                return None;
            }
        };
        let has_ended = eventually("strace", || {
            let text = fs::read_to_string(&stderr).unwrap();
            let has_ended = strace.try_wait().unwrap().is_some();
            (has_ended || text.contains("attached")).then_some(has_ended)
        });
        if has_ended {
            let text = fs::read_to_string(&stderr).unwrap();
            skip(&format!("strace cannot be used: {}", text.trim_end()));
            return None;
        }
        Some(Self { strace, record })
    }

    /// Returns the number of injected errors.
    fn count(&self) -> usize {
        let record = fs::read_to_string(&self.record).unwrap();
        record.matches("(INJECTED)").count()
    }

    /// Ends the injection. The helper continues.
    ///
    /// The helper is stopped while strace detaches: a thread that is detached in the middle of an
    /// injected call sees the error ENOSYS, which no test injects.
    fn end(&mut self, helper: &Helper) {
        helper.signal(Signal::STOP);
        eventually("every thread of the helper to stop", || {
            let record = fs::read_to_string(&self.record).unwrap();
            let stopped = record.matches("--- stopped by SIGSTOP ---").count();
            (stopped >= helper.usage().threads).then_some(())
        });
        kill_process(Pid::from_child(&self.strace), Signal::INT).unwrap();
        self.strace.wait().unwrap();
        helper.signal(Signal::CONT);
    }
}

impl Drop for SyscallErrors {
    fn drop(&mut self) {
        // strace is still running if the test has failed.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// New clients wait, and connected ones are served.
fn accept() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut present = helper.client();
    for error in ["ENFILE", "ENOMEM"] {
        let Some(mut errors) = SyscallErrors::start(&helper, "accept4", error) else {
            return;
        };
        let mut next = helper.connect();
        next.assert_silent_for(FAULT_PERIOD);
        assert!(
            (1..MAX_CALLS).contains(&errors.count()),
            "{}",
            errors.count()
        );
        present.assert_served();
        helper.assert_low_cpu();
        errors.end(&helper);
        next.handshake().assert_served();
    }
    drop(present);
    helper.assert_idle(&before);
}

/// A reply for which the kernel has no memory is sent later, and the command is not executed again.
fn send() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut clients: Vec<_> = (0..3).map(|_| helper.client()).collect();
    for error in ["ENOBUFS", "ENOMEM"] {
        let Some(mut errors) = SyscallErrors::start(&helper, "sendto", error) else {
            return;
        };
        for client in &mut clients {
            client.send(&read_keys(8).cdb, null().as_fd());
        }
        for client in &mut clients {
            client.assert_silent_for(FAULT_PERIOD / 3);
        }
        let count = errors.count();
        assert!((clients.len()..MAX_CALLS).contains(&count), "{count} calls");
        helper.assert_low_cpu();
        errors.end(&helper);
        for client in &mut clients {
            assert_eq!(client.receive().unwrap().status, Status::CHECK_CONDITION);
            client.assert_served();
        }
    }
    drop(clients);
    helper.assert_idle(&before);
}

/// An affected client loses its connection, and is served when it connects again.
fn receive() {
    clients_reconnect("recvmsg", ["ENOMEM:when=3+7", "ENOBUFS:when=2+5"]);
}

/// A client that cannot be registered with epoll loses its connection. The listener is rearmed
/// later.
fn wait() {
    clients_reconnect("epoll_ctl", ["ENOMEM:when=3+7", "ENOSPC:when=2+5"]);
}

/// Checks that clients are served while some calls fail, that the connections of the affected ones
/// are closed, and that no resource is left.
fn clients_reconnect(call: &str, injected: [&str; 2]) {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    for error in injected {
        let Some(mut errors) = SyscallErrors::start(&helper, call, error) else {
            return;
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| serve_clients(&helper, 30));
            }
        });
        assert!(errors.count() > 0);
        errors.end(&helper);
        helper.client().assert_served();
    }
    helper.assert_low_cpu();
    helper.assert_idle(&before);
}

/// Sends a command from one client after the other, until `count` were served. The helper closes
/// the connections of the others.
fn serve_clients(helper: &Helper, count: u32) {
    let device = null();
    let mut served = 0;
    while served < count {
        let mut client = helper.connect();
        let greeted = client.try_handshake();
        match greeted.and_then(|()| client.try_execute(&read_keys(8), &device)) {
            Ok(response) => {
                assert_eq!(response.status, Status::CHECK_CONDITION);
                served += 1;
            }
            Err(error) => assert!(is_disconnect(&error), "{error}"),
        }
    }
}

/// Returns whether the helper has closed the connection.
fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}
