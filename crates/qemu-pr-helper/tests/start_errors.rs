// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages of a helper that cannot start: each names what failed, on what, and what to do next,
//! and none has a text for programmers.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use pr_testkit::helper::Builder;
use pr_testkit::{HelperProcess, raw_text};

/// Creates a builder of a helper that works in `dir` and does not log to a journal.
fn builder(dir: &Path) -> Builder {
    let program = env!("CARGO_BIN_EXE_qemu-pr-helper");
    HelperProcess::builder(program)
        .dir(dir)
        .env("JOURNAL_STREAM", "")
}

/// Checks that a helper with these arguments exits with status 1 and prints exactly `expected`.
/// `{}` stands for the directory in both.
#[track_caller]
fn check(dir: &Path, arguments: &str, expected: &str) {
    let expand = |text: &str| text.replace("{}", dir.to_str().unwrap());
    let arguments = expand(arguments);
    let builder = builder(dir)
        .socket_option(None)
        .args(arguments.split_whitespace());
    let output = builder.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments}");
    raw_text::assert_none(&stderr);
    let expected = expand(expected);
    assert_eq!(
        stderr,
        format!("qemu-pr-helper: {expected}\n"),
        "{arguments}"
    );
}

#[test]
fn bad_command_line_prevents_start() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (
            "--io-timeout x",
            "invalid value 'x' for '--io-timeout <SECONDS>': valid are 1 to 4294967",
        ),
        (
            "--max-clients -1",
            "invalid value '-1' for '--max-clients <NUMBER>': valid are 1 to 4294967295",
        ),
        (
            "-u no-such-user",
            "invalid value 'no-such-user' for '--user <USER>': no such user, and not a user ID",
        ),
        (
            "-g no-such-group",
            "invalid value 'no-such-group' for '--group <GROUP>': no such group, and not a group \
             ID",
        ),
        (
            "-k socket",
            "invalid value 'socket' for '--socket <PATH>': the path must be absolute",
        ),
        (
            "--sockt {}/socket",
            "unexpected argument '--sockt' found\n\
             qemu-pr-helper: Usage: qemu-pr-helper [OPTIONS]\n\
             qemu-pr-helper: Tip: a similar argument exists: '--socket'.\n\
             qemu-pr-helper: See 'qemu-pr-helper --help'.",
        ),
        (
            "-T foo=1",
            "--trace: Invalid parameter 'foo'; valid parameters are enable=, events= and file=",
        ),
    ] {
        check(dir.path(), arguments, expected);
    }
}

#[test]
fn unusable_socket_prevents_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let running = builder(dir.path()).start().unwrap();
    for (arguments, expected) in [
        (
            "-k {}/none/socket",
            "cannot bind socket '{}/none/socket': No such file or directory; check its directory, \
             or choose another path with -k",
        ),
        (
            "-k {}/file/socket",
            "cannot bind socket '{}/file/socket': Not a directory; check its directory, or choose \
             another path with -k",
        ),
        (
            "-k {}/file",
            "'{}/file' exists and is not a socket: remove it, or choose another path with -k",
        ),
        (
            "-k {}/socket",
            "socket '{}/socket' is in use by another process: stop it, or choose another path with \
             -k",
        ),
    ] {
        check(dir.path(), arguments, expected);
    }
    drop(running);
    let long = format!("/{}", "x".repeat(108));
    let expected = format!(
        "socket path '{long}' is too long (more than 108 bytes): choose another path with -k"
    );
    check(dir.path(), &format!("-k {long}"), &expected);
}

#[test]
fn unusable_file_prevents_start() {
    let dir = tempfile::tempdir().unwrap();
    symlink("none", dir.path().join("link")).unwrap();
    let options = ["-f", dir.path().join("used").to_str().unwrap()].map(str::to_owned);
    let running = builder(dir.path()).args(options).start().unwrap();
    for (arguments, expected) in [
        (
            "-f {}/none/pid",
            "cannot create PID file '{}/none/pid': No such file or directory; check its directory, \
             or choose another path with -f",
        ),
        (
            "-f {}/link",
            "PID file '{}/link' is a symbolic link: remove it, or choose another path with -f",
        ),
        (
            "-f {}/used",
            "cannot lock PID file '{}/used': another instance uses it; choose another path with -f",
        ),
        (
            "--soft-luns {}/none",
            "--soft-luns: cannot open {}/none: No such file or directory; create the directory, or \
             name another one",
        ),
        (
            "-T events={}/none",
            "--trace: cannot read events file '{}/none': No such file or directory; choose another \
             one with events=",
        ),
        (
            "-d -f {}/none/pid",
            "cannot create PID file '{}/none/pid': No such file or directory; check its directory, \
             or choose another path with -f",
        ),
    ] {
        check(dir.path(), &format!("-k {{}}/other {arguments}"), expected);
    }
    drop(running);
}

/// The number of descriptors that the steps before the broker need is not part of the test.
#[test]
fn missing_descriptors_prevent_start_of_broker() {
    let dir = tempfile::tempdir().unwrap();
    let logs = (4..8).map(|limit| {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let helper = builder(dir.path()).wrapper(["sh", "-c", &script]);
        String::from_utf8(helper.output().unwrap().stderr).unwrap()
    });
    let logs: Vec<String> = logs.collect();
    let line = "qemu-pr-helper: cannot start the broker for multipath maps: Too many open files; \
                check the limits of processes, open files and memory\n";
    assert!(logs.iter().any(|log| log == line), "{logs:?}");
}

/// The event is only warned about, so the start fails at the socket.
#[test]
fn unknown_trace_event_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    check(
        dir.path(),
        "-T no_such_event -k {}/none/socket",
        "warning: trace event 'no_such_event' does not exist\n\
         qemu-pr-helper: cannot bind socket '{}/none/socket': No such file or directory; check its \
         directory, or choose another path with -k",
    );
}
