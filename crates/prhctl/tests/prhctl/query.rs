// SPDX-License-Identifier: MIT OR Apache-2.0

//! The subcommands that query a device.

use crate::fake::{FakeHelper, Response, check_condition};
use crate::support::TestHelper;

#[test]
fn new_unit_is_empty() {
    let helper = TestHelper::start();
    helper
        .run("keys a")
        .expect_stdout("a: generation 0x0, no keys\n");
    helper
        .run("reservation a")
        .expect_stdout("a: generation 0x0, no reservation\n");
    helper
        .run("status a")
        .expect_stdout("a: generation 0x0, no registrations, no reservation\n");
}

#[test]
fn bytes_are_printed_for_decode() {
    let helper = TestHelper::start();
    let run = helper.run("-v keys a");
    assert_eq!(
        run.stderr,
        "prhctl: a: sent CDB: 5e 00 00 00 00 00 00 04 00 00
prhctl: a: received status: 00
prhctl: a: received data: 00 00 00 00 00 00 00 00\n"
    );
    let run = helper.run("clear a --key 5 -v");
    let list = "sent parameter list: 00 00 00 00 00 00 00 05 00";
    assert!(run.stderr.contains(list), "{run:?}");
    assert!(run.stderr.contains("received status: 18\n"), "{run:?}");
}

#[test]
fn response_has_a_time_limit() {
    let (sender, late) = std::sync::mpsc::channel::<()>();
    let late = std::sync::Mutex::new(late);
    let fake = FakeHelper::start(move |_, _| {
        let _ = late.lock().unwrap().recv();
        Response::Close
    });
    fake.run("--timeout 1 keys disk").expect_failure(
        1,
        &["READ KEYS: the helper sent no complete response: timed out\n"],
    );
    drop(sender);
}

#[test]
fn several_devices_are_queried() {
    let helper = TestHelper::start();
    helper
        .run("keys a b")
        .expect_stdout("a: generation 0x0, no keys\nb: generation 0x0, no keys\n");
    let documents = helper.run("--json keys a b").json();
    assert_eq!(documents[0]["device"], "a");
    assert_eq!(documents[1]["device"], "b");
    // A failure does not end the command.
    let run = helper.run("keys none a");
    assert_eq!(run.status, 1, "{run:?}");
    assert_eq!(run.stdout, "a: generation 0x0, no keys\n");
    let documents = helper.run("--json keys a none").json();
    assert!(documents[0]["error"].is_null(), "{documents}");
    assert!(documents[1]["error"].is_object(), "{documents}");
}

#[test]
fn registrations_and_reservation_are_shown() {
    let helper = TestHelper::start();
    helper
        .run("register a --key 0x123abc --all-target-ports")
        .success();
    helper.run("register b --key b").success();
    helper.run("reserve b --key b --type 5").success();
    helper
        .run("keys a")
        .expect_stdout("a: generation 0x2, 2 keys\n  0x123abc\n  0xb\n");
    helper.run("reservation a").expect_stdout(
        "a: generation 0x2, reserved
  holder  key 0xb
  type    Write Exclusive - Registrants Only (we-ro)
  scope   Logical Unit
",
    );
    helper.run("status a").expect_stdout(
        "a: generation 0x2, 2 registrations, reserved: Write Exclusive - Registrants Only (we-ro)
  KEY       HOLDER  TYPE   SCOPE         PORT  TRANSPORTID
  0x123abc  -       -      -             all   sas,5001405000000001 (this host)
  0xb       yes     we-ro  Logical Unit  2     iqn.2024-01.example:b,i,0x00023d000001
",
    );
}

/// The helper is a thread of this test, so it has no state, and its registrants have no names.
#[test]
fn registrants_are_shown_without_names() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve b --key b --type we-ro").success();
    let run = helper.run("holders a");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (
            0,
            "a: 2 registrants, reserved: Write Exclusive - Registrants Only (we-ro)
  NAME  KEY  HOLDER  HOST   REGISTRATIONS
  -     0xa  -       this   1
  -     0xb  yes     other  1
"
        )
    );
    let document = helper.run("--json holders b").json();
    assert_eq!(document["registrants"][1]["host"], "this", "{document}");
}

#[test]
fn capabilities_are_shown() {
    let text = TestHelper::start().run("capabilities a").success();
    for line in [
        "a: capabilities",
        "  types                                        we ea we-ro ea-ro we-ar ea-ar",
        "  can register other initiator ports (SIP_C)   yes",
        "  supports REPLACE LOST RESERVATION (RLR_C)    no",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// A test machine need not have SCSI disks, and the virtual machine tests list real ones.
#[test]
fn list_needs_no_device() {
    let run = TestHelper::start().run("--json list");
    let document = run.json();
    let list = document["devices"].as_array();
    let is_failure = document["error"].is_object();
    assert!(list.is_some() != is_failure, "{run:?}");
}

#[test]
fn query_needs_only_read_access() {
    let helper = TestHelper::start();
    // Even root cannot open a directory for writing.
    let stderr = helper.run("register / --key 1").failure(1);
    assert_eq!(
        stderr,
        "prhctl: /: cannot open for reading and writing: Is a directory\n  This is a \
         directory. Use a disk, or a port of a soft LUN.\n"
    );
    helper
        .run("keys /")
        .expect_failure(11, &["ABORTED COMMAND, I/O PROCESS TERMINATED (b/00/06)"]);
}

/// Returns READ KEYS data with `count` keys.
fn keys(count: u32) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 7];
    data.extend((count * 8).to_be_bytes());
    data.extend((1..=u64::from(count)).flat_map(u64::to_be_bytes));
    data
}

#[test]
fn truncated_list_is_queried_again() {
    let fake = FakeHelper::start(|_, _| Response::Data(keys(200)));
    let text = fake.run("keys disk").success();
    assert!(
        text.starts_with("disk: generation 0x7, 200 keys\n  0x1\n"),
        "{text}"
    );
    assert!(text.ends_with("  0xc8\n"), "{text}");
    assert_eq!(fake.commands(), [(0x5e, 0, 1024), (0x5e, 0, 1608)]);
}

#[test]
fn list_over_protocol_limit_is_incomplete() {
    let fake = FakeHelper::start(|_, _| Response::Data(keys(1100)));
    let text = fake.run("keys disk").success();
    assert!(text.contains("1023 keys"), "{text}");
    assert!(text.contains("Incomplete: the last 616 bytes"), "{text}");
    let document = fake.run("--json keys disk").json();
    assert_eq!(document["missing_bytes"], 616);
    assert_eq!(document["keys"].as_array().unwrap().len(), 1023);
    assert_eq!(fake.commands()[1], (0x5e, 0, 8192));
}

#[test]
fn list_truncated_by_device_ends_queries() {
    let fake = FakeHelper::start(|_, _| Response::Data(keys(200)[..24].to_vec()));
    let text = fake.run("keys disk").success();
    assert!(text.contains("Incomplete: the last 1584 bytes"), "{text}");
    assert!(fake.commands().len() <= 3, "{:?}", fake.commands());
}

#[test]
fn query_retries_after_unit_attention_up_to_limit() {
    let fake = FakeHelper::start(|number, _| match number {
        0 => check_condition(6, 0x29, 0x00),
        1 => check_condition(6, 0x2a, 0x05),
        _ => Response::Data(keys(1)),
    });
    let run = fake.run("keys disk");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "disk: generation 0x7, 1 key\n  0x1\n")
    );
    assert_eq!(
        run.stderr,
        "prhctl: disk: READ KEYS ended with UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET \
         OCCURRED (6/29/00); retrying\n\
         prhctl: disk: READ KEYS ended with UNIT ATTENTION, REGISTRATIONS PREEMPTED (6/2a/05); \
         retrying\n"
    );
    let fake = FakeHelper::start(|_, _| check_condition(6, 0x29, 0x00));
    assert_eq!(fake.run("keys disk").status, 6);
    assert_eq!(fake.commands().len(), 16);
}

#[test]
fn all_registrants_reservation_has_no_key() {
    let reservation = |scope_type: u8| {
        let helper = FakeHelper::start(move |_, _| {
            let mut data = vec![0, 0, 0, 1, 0, 0, 0, 16];
            data.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, scope_type, 0, 0]);
            Response::Data(data)
        });
        helper.run("reservation disk").success()
    };
    assert_eq!(
        reservation(0x08),
        "disk: generation 0x1, reserved
  holder  all registrants
  type    Exclusive Access - All Registrants (ea-ar)
  scope   Logical Unit
"
    );
    let unknown = reservation(0x34);
    assert!(unknown.contains("4h (obsolete or reserved)"), "{unknown}");
    assert!(unknown.contains("3h (reserved)"), "{unknown}");
}

#[test]
fn truncated_status_does_not_deny_reservation() {
    let helper = FakeHelper::start(|_, _| Response::Data(vec![0, 0, 0, 0, 0, 0, 0, 48]));
    let text = helper.run("status disk").success();
    assert!(!text.contains("no reservation"), "{text}");
    assert!(text.contains("Incomplete: the last 48 bytes"), "{text}");
}
