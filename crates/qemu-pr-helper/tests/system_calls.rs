//! The system calls of a request, counted by strace: those that docs/performance.md lists, and no
//! others.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

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

/// Timeout for the start of the helper.
const TIMEOUT: Duration = Duration::from_secs(60);

const REQUESTS: usize = 500;

/// Maximum number of calls that do not count as one in each request. strace slows down everything,
/// so the next request is sometimes late, and the helper waits with epoll. Every other call must be
/// rarer than once in ten requests.
const MAX_RARE: usize = REQUESTS / 10;

/// READ KEYS and REGISTER, which fail on `/dev/null`.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

/// Number of calls of each system call in a request.
type Calls = BTreeMap<String, usize>;

/// strace, which runs the helper. It is killed on drop.
struct Strace(Child);

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the calls in a column of the document's table.
fn documented_calls(column: usize) -> Calls {
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
    assert!(calls.len() > 3, "the table is not found");
    calls
}

/// Counts the calls while a client sends [`REQUESTS`] requests; `None` if there is no strace.
fn count_calls(dir: &Path, cdb: &[u8], parameters: &[u8]) -> Option<Calls> {
    let (socket, log) = (dir.join("socket"), dir.join("log"));
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .arg("-k")
        .arg(&socket)
        .stdin(Stdio::null())
        .spawn();
    let mut strace = match strace {
        Ok(strace) => Strace(strace),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let end = Instant::now() + TIMEOUT;
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
    let mut request = || {
        client
            .execute(pad_cdb(cdb), null.as_fd(), parameters)
            .unwrap()
    };
    for _ in 0..REQUESTS {
        assert_eq!(request().status, Status::CHECK_CONDITION);
    }
    // The helper exits after the signal, and strace with it.
    let children = format!("/proc/{0}/task/{0}/children", strace.0.id());
    let helper = fs::read_to_string(children).unwrap();
    let helper = helper.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(helper).unwrap(), Signal::TERM).unwrap();
    assert!(strace.0.wait().unwrap().success());
    Some(parse_log(&fs::read_to_string(&log).unwrap()))
}

/// Counts the calls in the log of strace. Its lines have a thread ID, a call and the result; an
/// interrupted call has two lines, of which the second is not counted.
fn parse_log(log: &str) -> Calls {
    let mut calls = Calls::new();
    // The lines before are the helper's start.
    let served = log.lines().skip_while(|line| !line.contains(" accept4("));
    // A debug build checks each descriptor before it closes it.
    for line in served.filter(|line| !line.contains(", F_GETFD")) {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        if let Some((name, _)) = call.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls.retain(|_, number| *number > MAX_RARE);
    // Rare calls are in the remainder.
    calls
        .values_mut()
        .for_each(|number| *number = (*number + MAX_RARE) / REQUESTS);
    calls.retain(|_, number| *number > 0);
    calls
}

fn check(cdb: &[u8], parameters: &[u8], column: usize) {
    let dir = tempfile::tempdir().unwrap();
    match count_calls(dir.path(), cdb, parameters) {
        Some(counted) => assert_eq!(counted, documented_calls(column)),
        None => {
            assert!(
                env::var_os("PR_COMPAT_STRICT").is_none(),
                "there is no strace"
            );
            // Not eprintln, because the test harness captures its output.
            let _ = writeln!(io::stderr(), "system_calls: skipped: there is no strace");
        }
    }
}

#[test]
fn pr_in_calls_match_the_document() {
    check(&READ_KEYS, &[], 2);
}

#[test]
fn pr_out_calls_match_the_document() {
    check(&REGISTER, &[0; 24], 3);
}
