//! Everything that can be wrong, and what is said of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use rustix::process::geteuid;
use rustix::thread::Uid;

use crate::fake::{Fake, Reply, check_condition};
use crate::support::{Helper, Run, program};

fn run(arguments: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    Run::of(&mut program(folder.path(), arguments), "")
}

#[test]
fn no_helper() {
    let said = run("-k none keys /dev/null").failed(1);
    assert!(
        said.starts_with("prhctl: none: cannot connect to the helper: No such file or directory"),
        "{said}"
    );
    assert!(said.contains("Is the helper started"), "{said}");
    assert!(said.contains("-k PATH"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(folder.path().join("dead")).unwrap());
    let mut command = program(folder.path(), "-k dead keys /dev/null");
    let said = Run::of(&mut command, "").failed(1);
    assert!(said.contains("Connection refused"), "{said}");
    assert!(said.contains("nobody serves it"), "{said}");

    std::fs::write(folder.path().join("file"), "").unwrap();
    let mut command = program(folder.path(), "-k file keys /dev/null");
    let said = Run::of(&mut command, "").failed(1);
    assert!(said.contains("but no socket"), "{said}");
}

#[test]
fn no_device() {
    let said = run("keys none").failed(1);
    assert_eq!(
        said,
        "prhctl: none: cannot open it for reading: No such file or directory (os error 2)\n  \
         Which disks there are: lsblk -S.\n"
    );
}

#[test]
fn a_file_or_a_device_that_is_no_disk() {
    let helper = Helper::start();
    let said = helper.run("keys luns/lun/lun.json").failed(11);
    assert!(
        said.starts_with(
            "prhctl: luns/lun/lun.json: READ KEYS ended with ABORTED COMMAND, I/O PROCESS \
             TERMINATED (b/00/06)\n  It is a file and no SCSI device"
        ),
        "{said}"
    );
    let said = helper.run("register /dev/null --key 1").failed(11);
    assert!(said.contains("The device takes no SCSI commands"), "{said}");
}

#[test]
fn a_soft_lun_that_is_broken() {
    let helper = Helper::start();
    std::fs::write(helper.path("luns/lun/state.json"), "{").unwrap();
    let said = helper.run("keys a").failed(3);
    assert!(
        said.contains("HARDWARE ERROR, INTERNAL TARGET FAILURE"),
        "{said}"
    );
    assert!(said.contains("files of the soft LUN"), "{said}");
}

#[test]
fn a_device_without_persistent_reservations() {
    let fake = Fake::start(|_, _| check_condition(5, 0x20, 0x00));
    for line in ["keys disk", "clear disk --key 1"] {
        let said = fake.run(line).failed(9);
        assert!(
            said.contains("INVALID COMMAND OPERATION CODE (5/20/00)"),
            "{said}"
        );
        assert!(said.contains("multipath map"), "{said}");
        assert_eq!(
            said.contains("mpathpersist"),
            line.starts_with("clear"),
            "{said}"
        );
    }
}

#[test]
fn statuses_become_exit_statuses() {
    for (reply, status, words) in [
        (check_condition(2, 0x04, 0x01), 2, "NOT READY"),
        (check_condition(7, 0x27, 0x00), 7, "DATA PROTECT"),
        (check_condition(5, 0x24, 0x00), 5, "'prhctl keys'"),
        (check_condition(0xb, 0x10, 0x01), 40, "ABORTED COMMAND"),
        (
            Reply::Answer(0x18, vec![], vec![]),
            24,
            "RESERVATION CONFLICT",
        ),
        (Reply::Answer(0x30, vec![], vec![]), 28, "ACA ACTIVE"),
        (Reply::Answer(0x40, vec![], vec![]), 29, "TASK ABORTED"),
        (Reply::Answer(0x42, vec![], vec![]), 99, "status 0x42"),
        (Reply::Answer(0x02, vec![], vec![]), 98, "says nothing"),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let fake = Fake::start(move |_, _| reply.lock().unwrap().take().unwrap_or(Reply::Close));
        let said = fake.run("status disk").failed(status);
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn busy_is_tried_again_by_who_asks_but_not_for_ever() {
    let busy = || Reply::Answer(0x08, Vec::new(), Vec::new());
    let fake = Fake::start(move |_, _| busy());
    let said = fake.run("keys disk").failed(26);
    assert!(
        said.contains("READ KEYS ended with BUSY; tried again\n"),
        "{said}"
    );
    assert!(said.contains("It was tried for a second"), "{said}");
    assert_eq!(fake.commands().len(), 6);

    // A change may have been done.
    let fake = Fake::start(move |_, _| busy());
    let said = fake.run("clear disk --key 1").failed(26);
    assert!(said.contains("Whether it was done is unknown"), "{said}");
    assert_eq!(fake.commands().len(), 1);

    let full = Fake::start(|number, _| match number {
        0 => Reply::Answer(0x28, Vec::new(), Vec::new()),
        _ => Reply::Data(vec![0; 8]),
    });
    let run = full.run("keys disk");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "disk: generation 0x0, no keys\n")
    );
    assert!(run.stderr.contains("TASK SET FULL; tried again"), "{run:?}");
}

#[test]
fn a_helper_that_hangs_up() {
    let fake = Fake::start(|_, _| Reply::Close);
    let said = fake.run("keys disk").failed(1);
    assert_eq!(
        said,
        "prhctl: disk: READ KEYS: the helper did not answer: it closed the connection\n  The \
         helper's log may say why.\n"
    );
    let said = fake.run("clear disk --key 1").failed(1);
    assert!(said.contains("Whether it was done is unknown"), "{said}");
}

#[test]
fn something_that_is_no_helper() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut command = program(folder.path(), "-k socket keys /dev/null");
    let said = Run::of(&mut command, "").failed(1);
    assert!(said.contains("did not complete the handshake"), "{said}");
    assert!(said.contains("no persistent reservation helper"), "{said}");
}

#[test]
fn who_waits_for_long_is_told_for_what() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let mut command = program(folder.path(), "-k socket keys /dev/null");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let stderr = child.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut said).unwrap();
    assert_eq!(
        said,
        "prhctl: socket: the helper has not answered for 5 seconds; still waiting\n"
    );
    // It does wait: nothing was given up.
    assert!(child.try_wait().unwrap().is_none());
    drop(listener);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn answers_that_break_the_protocol() {
    for (reply, words) in [
        (
            Reply::Answer(0, vec![], vec![0; 2000]),
            "answered with 2000 bytes",
        ),
        (
            Reply::Answer(0x1_0000, vec![], vec![]),
            "result 65536, which is no SCSI status",
        ),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let fake = Fake::start(move |_, _| reply.lock().unwrap().take().unwrap_or(Reply::Close));
        let said = fake.run("keys disk").failed(1);
        assert!(said.contains(words), "{said}");
    }
    let fake = Fake::start(|_, _| Reply::Answer(0, vec![], vec![0; 8]));
    let said = fake.run("clear disk --key 1").failed(1);
    assert!(
        said.contains("unknown: look with 'prhctl status'"),
        "{said}"
    );
}

#[test]
fn answers_that_make_no_sense() {
    for (line, data) in [
        ("keys disk", vec![0, 0, 0, 1, 0, 0, 0, 7]),
        ("keys disk", vec![]),
        ("reservation disk", vec![0, 0, 0, 1, 0, 0, 0, 16]),
        ("capabilities disk", vec![0; 8]),
        ("status disk", vec![0, 0, 0, 1, 0, 0, 0, 8]),
    ] {
        let fake = Fake::start(move |_, _| Reply::Data(data.clone()));
        let said = fake.run(line).failed(97);
        assert!(said.contains("makes no sense: "), "{line}: {said}");
    }
}

#[test]
fn a_list_of_initiator_ports_that_is_too_long() {
    let helper = Helper::start();
    let ports = " --initiator sas,5000c50005b32001".repeat(341);
    let said = helper.run(&format!("register a --key 1{ports}")).failed(1);
    assert!(said.contains("more than the 8192 bytes"), "{said}");
}

#[test]
fn wrong_use_is_status_1() {
    for (line, words) in [
        ("frobnicate", "unrecognized subcommand"),
        ("keys", "<DEVICE>"),
        ("register d --key 0", "'unregister' removes"),
        ("reserve d --key 1 --type 4", "not a type"),
        ("keys d --color sometimes", "sometimes"),
        (
            "move d --key 1 --new-key 2 --to x --target-port 1",
            "TransportID begins with",
        ),
    ] {
        let said = run(line).failed(1);
        assert!(said.contains(words), "{line}: {said}");
    }
}

#[test]
fn help_and_version_are_answers() {
    assert_eq!(
        run("--version").good(),
        format!("prhctl {}\n", env!("CARGO_PKG_VERSION"))
    );
    let text = run("--help").good();
    assert!(text.contains("24  RESERVATION CONFLICT"), "{text}");
    for command in [
        "keys",
        "reservation",
        "capabilities",
        "status",
        "register",
        "unregister",
        "reserve",
        "release",
        "clear",
        "preempt",
        "move",
        "decode",
    ] {
        let text = run(&format!("{command} --help")).good();
        assert!(text.contains("\nEXAMPLES\n"), "{command}: {text}");
        assert!(text.contains("\nExit status 0"), "{command}: {text}");
    }
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let helper = Helper::start();
    let mut command = helper.program("keys a");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &[][..])
    );

    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = helper.program("keys a").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("prhctl: cannot write to standard output: No space"),
        "{said}"
    );

    // Without a place to complain the exit status is what is left.
    let mut command: Command = helper.program("keys none");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

/// A process of another user that listens at the socket receives the open disk.
#[test]
fn foreign_helper_is_warned_of() {
    if !geteuid().is_root() {
        let is_strict = std::env::var_os("PR_COMPAT_STRICT").is_some();
        assert!(!is_strict, "skipped: not root");
        // Not with eprintln, which the test harness keeps to itself.
        let reason = "not root, so no helper can listen as another user";
        let _ = writeln!(std::io::stderr(), "prhctl: skipped: {reason}");
        return;
    }
    let fake = Fake::start_as(Some(Uid::from_raw(65534)), |_, _| {
        Reply::Data([0, 0, 0, 7, 0, 0, 0, 0].to_vec())
    });
    let run = fake.run("keys disk");
    assert_eq!((run.status, run.stdout.lines().count()), (0, 1), "{run:?}");
    let process = std::process::id();
    let expected = format!(
        "prhctl: socket: process {process} of user 65534 listens there, which is neither root nor \
         user 0: it receives the open device disk\n"
    );
    assert_eq!(run.stderr, expected);

    // A change sends a descriptor that is open for writing.
    let refused = Fake::start_as(Some(Uid::from_raw(65534)), |_, _| {
        check_condition(5, 0x20, 0)
    });
    let run = refused.run("clear --key 1 disk");
    assert!(run.stderr.starts_with(&expected), "{run:?}");
}

#[test]
fn helper_of_the_same_user_is_not_warned_of() {
    let fake = Fake::start(|_, _| Reply::Data([0, 0, 0, 7, 0, 0, 0, 0].to_vec()));
    fake.run("keys disk").good();
}
