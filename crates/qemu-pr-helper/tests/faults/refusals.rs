//! System calls that the kernel refuses, because it lacks files or memory. `strace` refuses them in its place.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::Status;

use crate::Test;
use crate::client::{Client, READ_KEYS, null};
use crate::helper::{Helper, skipped, wait_for};

pub(crate) const TESTS: &[Test] = &[
    ("accept", accept),
    ("send", send),
    ("receive", receive),
    ("wait", wait),
];

/// How long one looks at a helper that is refused everything.
const LOOK: Duration = Duration::from_secs(2);
/// How many calls it may make meanwhile: it may try again, but not incessantly.
const FEW: usize = 400;

/// What refuses a helper's system calls, until it is told to end.
struct Refusals {
    strace: Child,
    record: PathBuf,
}

impl Refusals {
    /// Refuses `what`, as strace(1) has it. `None` if there is no strace, or it may not.
    fn begin(helper: &Helper, call: &str, what: &str) -> Option<Self> {
        let record = helper.folder().join("record");
        let complaints = helper.folder().join("complaints");
        let strace = Command::new("strace")
            .args(["-f", "-p", &helper.process().as_raw_nonzero().to_string()])
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error={what}")])
            .arg("-o")
            .arg(&record)
            .stdin(Stdio::null())
            .stderr(File::create(&complaints).unwrap())
            .spawn();
        let mut strace = match strace {
            Ok(strace) => strace,
            Err(error) => {
                skipped(&format!("strace cannot be used: {error}"));
                return None;
            }
        };
        let has_ended = wait_for("strace", || {
            let said = fs::read_to_string(&complaints).unwrap();
            let has_ended = strace.try_wait().unwrap().is_some();
            (has_ended || said.contains("attached")).then_some(has_ended)
        });
        if has_ended {
            let said = fs::read_to_string(&complaints).unwrap();
            skipped(&format!("strace cannot be used: {}", said.trim_end()));
            return None;
        }
        Some(Self { strace, record })
    }

    /// How many calls were refused so far.
    fn count(&self) -> usize {
        let record = fs::read_to_string(&self.record).unwrap();
        record.matches("(INJECTED)").count()
    }

    fn end(&mut self) {
        // It lets go of the helper, which goes on.
        kill_process(Pid::from_child(&self.strace), Signal::INT).unwrap();
        self.strace.wait().unwrap();
    }
}

impl Drop for Refusals {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// New clients wait, and the others are served.
fn accept() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut present = helper.client();
    for error in ["ENFILE", "ENOMEM"] {
        let Some(mut refusals) = Refusals::begin(&helper, "accept4", error) else {
            return;
        };
        let mut next = Client::connect(&helper.socket());
        next.hears_nothing_for(LOOK);
        assert!((1..FEW).contains(&refusals.count()), "{}", refusals.count());
        present.is_served();
        helper.does_not_spin();
        refusals.end();
        next.greeted().is_served();
    }
    drop(present);
    helper.is_at_rest_as(&before);
}

/// An answer that the kernel does not take is sent later, and the command is not done again.
fn send() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut clients: Vec<_> = (0..3).map(|_| helper.client()).collect();
    for error in ["ENOBUFS", "ENOMEM"] {
        let Some(mut refusals) = Refusals::begin(&helper, "sendto", error) else {
            return;
        };
        for client in &mut clients {
            client.send(&READ_KEYS, null().as_fd());
        }
        for client in &mut clients {
            client.hears_nothing_for(LOOK / 3);
        }
        let count = refusals.count();
        assert!((clients.len()..FEW).contains(&count), "{count} calls");
        helper.does_not_spin();
        refusals.end();
        for client in &mut clients {
            assert_eq!(client.answer().unwrap(), Status::CHECK_CONDITION);
            client.is_served();
        }
    }
    drop(clients);
    helper.is_at_rest_as(&before);
}

/// Whoever is hit loses the connection, and is served when it connects again.
fn receive() {
    some_are_hit("recvmsg", ["ENOMEM:when=3+7", "ENOBUFS:when=2+5"]);
}

/// So does whoever cannot be waited for, and that the door is waited for is not forgotten.
fn wait() {
    some_are_hit("epoll_ctl", ["ENOMEM:when=3+7", "ENOSPC:when=2+5"]);
}

/// Checks that many clients are served while some calls are refused, that of those that are not the connection is
/// closed, and that nothing is left of it.
fn some_are_hit(call: &str, refused: [&str; 2]) {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    for what in refused {
        let Some(mut refusals) = Refusals::begin(&helper, call, what) else {
            return;
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| are_served_in_the_end(&helper, 30));
            }
        });
        assert!(refusals.count() > 0);
        refusals.end();
        helper.client().is_served();
    }
    helper.does_not_spin();
    helper.is_at_rest_as(&before);
}

/// Has one client after the other ask, until so many were served. The others' connections were closed.
fn are_served_in_the_end(helper: &Helper, count: u32) {
    let device = null();
    let mut served = 0;
    while served < count {
        let mut client = Client::connect(&helper.socket());
        let greeted = client.try_greet();
        match greeted.and_then(|()| client.try_ask(READ_KEYS, &device)) {
            Ok(status) => {
                assert_eq!(status, Status::CHECK_CONDITION);
                served += 1;
            }
            Err(error) => assert!(is_end(&error), "{error}"),
        }
    }
}

/// Whether it is that the helper has closed the connection.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}
