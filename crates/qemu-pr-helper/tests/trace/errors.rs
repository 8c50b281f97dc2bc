// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors of the trace options and files, most of which prevent a start.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use pr_testkit::helper::Builder;
use pr_testkit::skip;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::geteuid;

use crate::binary_reader::read_file;
use crate::event_counts::EventCounts;
use crate::helper::{Helper, builder, run_load};

/// An unprivileged user ID that no other process has.
const UNPRIVILEGED: u32 = 54_321;

/// Checks that the helper does not start and logs nothing but `expected`.
fn check_error(command: Builder, dir: &Path, expected: &str) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, format!("qemu-pr-helper: {expected}\n"));
    // The helper leaves no socket behind.
    assert!(!dir.join("socket").exists());
}

/// Calls [`check_error`] for a helper with these arguments. `{}` stands for its directory, which
/// has a subdirectory `dir`.
fn check(arguments: &[&str], expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let expand = |text: &str| text.replace("{}", dir.path().to_str().unwrap());
    let arguments: Vec<_> = arguments.iter().map(|argument| expand(argument)).collect();
    let command = builder(dir.path()).args(arguments);
    check_error(command, dir.path(), &expand(expected));
}

#[test]
fn unreadable_events_file_prevents_start() {
    check(
        &["-Tevents=none"],
        "--trace: cannot read events file 'none': No such file or directory; \
         choose another one with events=",
    );
    check(
        &["-Tevents={}/dir"],
        "--trace: cannot read events file '{}/dir': Is a directory; \
         choose another one with events=",
    );
}

#[test]
fn events_file_without_permission_prevents_start() {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events");
    fs::write(&events, "*\n").unwrap();
    fs::set_permissions(&events, Permissions::from_mode(0o000)).unwrap();
    let user = UNPRIVILEGED.to_string();
    // Root can read every file, so the helper runs as another user.
    let wrapper = match geteuid().is_root() {
        true => &["setpriv", "--reuid", &user, "--clear-groups"][..],
        false => &[],
    };
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let command = builder(dir.path())
        .wrapper(wrapper)
        .args(["-Tevents=events"]);
    check_error(
        command,
        dir.path(),
        "--trace: cannot read events file 'events': Permission denied; \
         choose another one with events=",
    );
}

#[test]
fn unwritable_trace_file_prevents_start() {
    for backend in ["log", "simple"] {
        check(
            &["--trace-backend", backend, "-T*,file=none/trace"],
            "--trace: cannot write trace file '{}/none/trace': \
             No such file or directory; choose another one with file=",
        );
        check(
            &["--trace-backend", backend, "-T*,file=dir"],
            "--trace: cannot write trace file '{}/dir': Is a directory; \
             choose another one with file=",
        );
        check(
            &["--trace-backend", backend, "-T*,file="],
            "--trace: cannot write trace file '': No such file or directory; \
             choose another one with file=",
        );
    }
}

#[test]
fn symbolic_link_as_trace_file_prevents_start() {
    for backend in ["log", "simple"] {
        let dir = tempfile::tempdir().unwrap();
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        fs::write(&file, "content\n").unwrap();
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        for target in [&file, &pipe, &dir.path().join("none")] {
            let link = dir.path().join("link");
            symlink(target, &link).unwrap();
            let option = format!("-T*,file={}", link.display());
            let command = builder(dir.path()).args(["--trace-backend", backend, &option]);
            let expected = format!(
                "--trace: trace file '{}' is a symbolic link; remove it or use the path of its \
                 target",
                link.display()
            );
            check_error(command, dir.path(), &expected);
            fs::remove_file(link).unwrap();
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "content\n");
        assert!(!dir.path().join("none").exists());
    }
}

#[test]
fn unwritable_header_prevents_start() {
    check(
        &["--trace-backend", "simple", "-T*,file=/dev/full"],
        "--trace: cannot write trace file '/dev/full': No space left on device; \
         choose another one with file=",
    );
}

#[test]
fn unwritable_lines_cause_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(builder(dir.path()).arg("-T*,file=/dev/full"));
    run_load(&helper, 2, 100);
    assert!(helper.terminate().unwrap().success());
    let stderr = helper.log();
    let lines: Vec<_> = stderr.lines().collect();
    let [first, last] = lines.as_slice() else {
        panic!("{stderr}");
    };
    assert!(first.starts_with("qemu-pr-helper: warning: trace dropped "));
    assert!(first.ends_with(" events: No space left on device"));
    assert!(last.starts_with("qemu-pr-helper: warning: trace dropped its last "));
}

#[test]
fn failed_thread_start_writes_the_start_events() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let user = UNPRIVILEGED.to_string();
    if !geteuid().is_root() {
        // The number of processes of another user is unknown.
        return skip("not root");
    }
    // The limit allows the helper and its broker, but no thread.
    let wrapper = [
        "setpriv",
        "--reuid",
        &user,
        "--clear-groups",
        "prlimit",
        "--nproc=2",
    ];
    let output = builder(dir.path())
        .wrapper(wrapper)
        .args(["-q", "--trace-backend", "simple", "-T*,file=trace"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "qemu-pr-helper: cannot start the trace writer thread: \
         Resource temporarily unavailable; check the limits of processes and memory\n"
    );
    let items = read_file(&dir.path().join("trace"));
    let names: Vec<_> = EventCounts::new(&items).written.into_iter().collect();
    let expected = [
        "pr_helper_privileges_dropped",
        "qio_channel_socket_listen_complete",
        "socket_listen",
    ];
    assert_eq!(names, expected.map(|name| (name.to_owned(), 1)));
}
