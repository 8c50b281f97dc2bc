//! What a request asks of the kernel, counted by strace: what docs/performance.md says, and nothing else.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;
use pr_helper_protocol::wire::pad_cdb;
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::Status;

const DOCUMENT: &str = include_str!("../../../docs/performance.md");

const PATIENCE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 500;
/// Strace makes everything slow, so that now and then a client is not back in time and is waited for
/// with the others. Nothing else may be as often as in every tenth request.
const SELDOM: usize = REQUESTS / 10;

/// READ KEYS and REGISTER; neither gets far with `/dev/null`.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

/// How often a request makes each system call.
type Calls = BTreeMap<String, usize>;

/// Strace with the helper under it, which ends when the test does.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the table of the document says of requests in one of its columns.
fn documented(column: usize) -> Calls {
    let rows = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with("| system call |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let calls = rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (
            cells[1].trim_matches('`').to_owned(),
            cells[column].parse().unwrap(),
        )
    });
    let calls = calls.filter(|(_, number)| *number > 0).collect::<Calls>();
    assert!(calls.len() > 3, "the table is not where it was");
    calls
}

/// What the kernel is asked for while one client makes its requests.
fn counted(folder: &Path, cdb: &[u8], parameters: &[u8]) -> Option<Calls> {
    let (socket, log) = (folder.join("socket"), folder.join("log"));
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .arg("-k")
        .arg(&socket)
        .stdin(Stdio::null())
        .spawn();
    let mut strace = match strace {
        Ok(strace) => Traced(strace),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let end = Instant::now() + PATIENCE;
    let mut client = loop {
        match Client::connect(&socket) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10));
    };
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let mut ask = || {
        client
            .execute(pad_cdb(cdb), null.as_fd(), parameters)
            .unwrap()
    };
    for _ in 0..REQUESTS {
        assert_eq!(ask().status, Status::CHECK_CONDITION);
    }
    // The helper ends at a signal, and strace with it.
    let children = format!("/proc/{0}/task/{0}/children", strace.0.id());
    let helper = fs::read_to_string(children).unwrap();
    let helper = helper.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(helper).unwrap(), Signal::TERM).unwrap();
    assert!(strace.0.wait().unwrap().success());
    Some(calls(&fs::read_to_string(&log).unwrap()))
}

/// How often a request makes each call, by the log of strace: lines of a thread's number, a call, and what became
/// of it. A call that was broken off there is told twice.
fn calls(log: &str) -> Calls {
    let mut calls = Calls::new();
    // All that comes before is the helper's start.
    let served = log.lines().skip_while(|line| !line.contains(" accept4("));
    // A build for tests looks at each descriptor before it closes it.
    for line in served.filter(|line| !line.contains(", F_GETFD")) {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        if let Some((name, _)) = call.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls.retain(|_, number| *number > SELDOM);
    // What is seldom is in the remainder.
    calls
        .values_mut()
        .for_each(|number| *number = (*number + SELDOM) / REQUESTS);
    calls.retain(|_, number| *number > 0);
    calls
}

fn check(cdb: &[u8], parameters: &[u8], column: usize) {
    let folder = tempfile::tempdir().unwrap();
    match counted(folder.path(), cdb, parameters) {
        Some(counted) => assert_eq!(counted, documented(column)),
        None => {
            assert!(
                env::var_os("PR_COMPAT_STRICT").is_none(),
                "there is no strace"
            );
            // Not with eprintln, which the test harness keeps to itself.
            let _ = writeln!(io::stderr(), "system_calls: skipped: there is no strace");
        }
    }
}

#[test]
fn in_is_what_the_document_says() {
    check(&READ_KEYS, &[], 2);
}

#[test]
fn out_is_what_the_document_says() {
    check(&REGISTER, &[0; 24], 3);
}
