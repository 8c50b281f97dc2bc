// SPDX-License-Identifier: MIT OR Apache-2.0

//! The subcommands that change a device.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pr_testkit::pty::Pty;

use crate::fake::{FakeHelper, Response, check_condition};
use crate::support::TestHelper;

/// Exit status of a RELEASE without effect.
const RELEASED_NOTHING: i32 = 36;

#[test]
fn key_is_registered_replaced_and_removed() {
    let helper = TestHelper::start();
    helper
        .run("register a --key 0x1")
        .expect_stdout("a: registered with key 0x1\n");
    // A registered port must name its key.
    helper
        .run("register a --key 0x2")
        .expect_failure(24, &["--old-key"]);
    helper.run("register a --key 0x2 --old-key 0x1").success();
    helper
        .run("register a --key 0x3 --ignore-existing")
        .success();
    helper
        .run("keys a")
        .expect_stdout("a: generation 0x3, 1 key\n  0x3\n");

    helper.run("unregister a --key 0x2").failure(24);
    helper
        .run("unregister a --key 0x3")
        .expect_stdout("a: unregistered, key 0x3 was removed\n");
    helper
        .run("keys a")
        .expect_stdout("a: generation 0x4, no keys\n");
}

#[test]
fn register_accepts_other_initiator_ports() {
    let helper = TestHelper::start();
    let other = "iqn.2024-01.example:b,i,0x00023d000001";
    helper
        .run(&format!("register a --key 7 --initiator {other}"))
        .success();
    let text = helper.run("status a").success();
    assert!(
        text.contains("2 registrations") && text.contains(other),
        "{text}"
    );
}

#[test]
fn reservation_is_made_and_released() {
    let helper = TestHelper::start();
    helper.register_both();
    helper
        .run("reserve a --key a --type ea-ro")
        .expect_stdout("a: reserved with key 0xa: Exclusive Access - Registrants Only\n");
    // A second RESERVE of the holder succeeds.
    helper.run("reserve a --key a --type 6").success();

    // The device accepts RELEASE from another registrant and ignores it.
    let ignored = helper.run("release b --key b");
    let text = "b: not released: still held with key 0xa, Exclusive Access - Registrants Only (the";
    assert!(ignored.stdout.starts_with(text), "{ignored:?}");
    assert_eq!(ignored.status, RELEASED_NOTHING);
    helper
        .run("release a --key a --type we")
        .expect_failure(5, &["use --type ea-ro"]);
    helper
        .run("release a --key a")
        .expect_stdout("a: released with key 0xa: Exclusive Access - Registrants Only\n");
    // Without a reservation nothing is sent, so a wrong key is not detected.
    for key in ["a", "b"] {
        let run = helper.run(&format!("release a --key {key}"));
        assert_eq!(run.status, RELEASED_NOTHING);
        assert_eq!(
            run.stdout,
            "a: nothing to release: there is no reservation\n"
        );
    }
}

#[test]
fn change_stops_after_reservations_released() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we-ro").success();
    helper.run("release a --key a").success();
    // The unit attention replaces the next command of b.
    let stderr = helper.run("reserve b --key b --type we").failure(6);
    assert!(
        stderr.starts_with(
            "prhctl: b: RESERVE ended with UNIT ATTENTION, RESERVATIONS RELEASED (6/2a/04)\n  The \
             command was not executed."
        ),
        "{stderr}"
    );
    helper
        .run("reservation b")
        .expect_stdout("b: generation 0x2, no reservation\n");
    helper.run("reserve b --key b --type we").success();
}

#[test]
fn register_stops_after_preemption() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve b --key b --type we").success();
    helper
        .run("preempt a --key a --victim b --type we-ro --abort")
        .expect_stdout("a: registrations with key 0xb removed\n");
    helper
        .run("register b --key b --ignore-existing")
        .expect_failure(6, &["REGISTRATIONS PREEMPTED (6/2a/05)"]);
    helper
        .run("keys a")
        .expect_stdout("a: generation 0x3, 1 key\n  0xa\n");
    let text = helper.run("reservation a").success();
    assert!(text.contains("key 0xa") && text.contains("we-ro"), "{text}");
}

#[test]
fn clear_removes_all_registrations() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve b --key b --type we-ar").success();
    let text = helper.run("reservation a").success();
    assert!(text.contains("holder  all registrants"), "{text}");
    helper
        .run("clear a --key a")
        .expect_stdout("a: cleared: no reservation and no registrations\n");
    helper
        .run("status a")
        .expect_stdout("a: generation 0x3, no registrations, no reservation\n");
}

#[test]
fn move_transfers_reservation() {
    let helper = TestHelper::start();
    helper.run("register a --key a").success();
    helper.run("reserve a --key a --type ea").success();
    let other = "iqn.2024-01.example:b,i,0x00023d000001";
    let line = format!("move a --key a --new-key 0xb0 --to {other} --target-port 2 --unregister");
    helper
        .run(&line)
        .expect_stdout(&format!("a: moved to {other}, registered with key 0xb0\n"));
    let text = helper.run("status a").success();
    assert!(
        text.contains("1 registration, reserved: Exclusive Access (ea)"),
        "{text}"
    );
    assert!(text.contains("0xb0") && text.contains(other), "{text}");
    // The sender is no longer registered.
    helper
        .run(&line)
        .expect_failure(24, &["This initiator port is not registered"]);
}

/// Runs a command on a terminal, answers its question, and returns its exit status.
pub(crate) fn answer(mut command: Command, answer: &[u8]) -> Option<i32> {
    let pty = Pty::start(command.stderr(Stdio::null()), 80, 24);
    pty.master().write_all(answer).unwrap();
    pty.finish().0
}

#[test]
fn change_of_others_is_confirmed_on_a_terminal() {
    let helper = TestHelper::start();
    helper.register_both();
    let line = "clear a --key a";
    for text in [&b"\n"[..], b"no\n", b"x\n"] {
        assert_eq!(answer(helper.prhctl(line), text), Some(1));
        assert!(helper.run("keys a").stdout.contains("2 keys"));
    }
    assert_eq!(answer(helper.prhctl(line), b"Y\n"), Some(0));
    assert!(helper.run("keys a").stdout.contains("no keys"));
    let helper = TestHelper::start();
    helper.register_both();
    let line = "preempt a --key a --victim b --type we-ro --yes";
    assert_eq!(answer(helper.prhctl(line), b""), Some(0));
}

#[test]
fn lost_reservation_is_replaced() {
    let fake = FakeHelper::start(|_, _| Response::Status(0, Vec::new(), Vec::new()));
    let run = fake.run("replace-lost disk --key 5 --type we-ro");
    run.expect_stdout(
        "disk: lost reservation replaced, reserved with key 0x5: Write Exclusive - Registrants \
         Only\n",
    );
    let [(opcode, action, _)] = fake.commands().try_into().unwrap();
    assert_eq!((opcode, action), (0x5f, 8));
}

#[test]
fn several_devices_are_changed() {
    let helper = TestHelper::start();
    helper.run("register a b --key 5").success();
    let run = helper.run("unregister a b --key 5");
    assert_eq!(run.stdout.lines().count(), 2, "{run:?}");
    assert_eq!(run.status, 0, "{run:?}");
}

#[test]
fn conflict_names_keys_and_holder() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we").success();
    assert_eq!(
        helper.run("reserve b --key b --type we").failure(24),
        "prhctl: b: RESERVE ended with RESERVATION CONFLICT
  registered keys: 0xa 0xb
  reservation: Write Exclusive, held with key 0xa by sas,5001405000000001
  sas,5001405000000001 holds the reservation.\n"
    );
}

#[test]
fn conflict_survives_failed_query() {
    let fake = FakeHelper::start(|number, _| match number {
        0 => Response::Status(0x18, Vec::new(), Vec::new()),
        _ => check_condition(5, 0x24, 0x00),
    });
    assert_eq!(
        fake.run("clear disk --key 1").failure(24),
        "prhctl: disk: CLEAR ended with RESERVATION CONFLICT\n"
    );
    assert_eq!(fake.commands(), [(0x5f, 3, 24), (0x5e, 0, 1024)]);
}

#[test]
fn change_retries_after_unrelated_unit_attention() {
    let fake = FakeHelper::start(|number, _| match number {
        0 => check_condition(6, 0x29, 0x00),
        1 => check_condition(6, 0x2a, 0x09),
        _ => Response::Data(Vec::new()),
    });
    let run = fake.run("clear disk --key 1");
    assert_eq!(run.status, 0);
    assert_eq!(run.stderr.lines().count(), 2, "{run:?}");
    assert_eq!(fake.commands(), [(0x5f, 3, 24); 3]);

    // The device may have been replaced.
    for (asc, ascq) in [(0x28, 0x00), (0x3f, 0x0e)] {
        let fake = FakeHelper::start(move |_, _| check_condition(6, asc, ascq));
        fake.run("clear disk --key 1").failure(6);
        assert_eq!(fake.commands(), [(0x5f, 3, 24)]);
    }
}

#[test]
fn release_survives_failed_query() {
    let fake = FakeHelper::start(|_, cdb| match cdb[0] {
        0x5f => Response::Data(Vec::new()),
        _ => Response::Close,
    });
    fake.run("release disk --key 1 --type we").expect_stdout(
        "disk: RELEASE ended with GOOD, but the reservation could not be read afterwards (the \
         device accepts RELEASE from a non-holder and ignores it)\n",
    );
}

/// Returns READ RESERVATION data of a Write Exclusive reservation.
fn held_with(key: u8) -> Response {
    let mut data = vec![0, 0, 0, 1, 0, 0, 0, 16];
    data.extend([0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, 0, 1, 0, 0]);
    Response::Data(data)
}

#[test]
fn release_compares_reservation_before_and_after() {
    // Another port reserves in between.
    let fake = || {
        FakeHelper::start(|number, cdb| match (cdb[0], number) {
            (0x5f, _) => Response::Data(Vec::new()),
            (_, 0) => held_with(1),
            _ => held_with(2),
        })
    };
    fake()
        .run("release disk --key 1")
        .expect_stdout("disk: released with key 0x1; now held with key 0x2, Write Exclusive\n");
    let document = fake().run("--json release disk --key 1").json();
    assert_eq!(document["changed"], true);
    // Without the first read, the result is unknown.
    let fake = || {
        FakeHelper::start(|_, cdb| match cdb[0] {
            0x5f => Response::Data(Vec::new()),
            _ => held_with(2),
        })
    };
    let stderr = fake().run("release disk --key 1 --type we").success();
    assert!(
        stderr.starts_with("disk: RELEASE ended with GOOD, and the device is held with key 0x2"),
        "{stderr}"
    );
    let document = fake().run("--json release disk --key 1 --type we").json();
    assert!(document["changed"].is_null());
}

/// Returns `PTPL_A`.
#[track_caller]
fn is_persistent(helper: &TestHelper) -> bool {
    let capabilities = helper.run("--json capabilities a").json();
    capabilities["persist_through_power_loss_active"]
        .as_bool()
        .unwrap()
}

#[test]
fn unregister_keeps_aptpl() {
    let helper = TestHelper::start();
    helper.run("register a --key a --aptpl").success();
    helper.run("register b --key b --aptpl").success();
    helper.run("unregister b --key b").success();
    assert!(is_persistent(&helper));

    let stderr = |line: &str| {
        let run = helper.run(line);
        assert_eq!(run.status, 0, "{run:?}");
        run.stderr
    };
    let note = "no longer persist through a power loss";
    assert!(stderr("register b --key b").contains(note));
    assert!(!is_persistent(&helper));
    // Persistence is already off.
    assert_eq!(stderr("register b --key c --old-key b"), "");
    helper.run("unregister b --key c").success();
    assert!(!is_persistent(&helper));

    helper
        .run("register a --key a --ignore-existing --aptpl")
        .success();
    helper.run("reserve a --key a --type we").success();
    let line =
        "move a --key a --new-key b --to iqn.2024-01.example:b,i,0x00023d000001 --target-port 2";
    assert!(stderr(line).contains(note));
}

#[test]
fn unregister_works_without_capabilities() {
    let fake = FakeHelper::start(|_, cdb| match cdb[0] {
        0x5e => check_condition(5, 0x24, 0x00),
        _ => Response::Data(Vec::new()),
    });
    let run = fake.run("unregister disk --key 1");
    assert_eq!(run.status, 0);
    assert!(run.stderr.contains("did not report whether"), "{run:?}");
    assert_eq!(fake.commands(), [(0x5e, 2, 1024), (0x5f, 0, 24)]);
}

#[test]
fn recovered_error_is_note() {
    let fake = FakeHelper::start(|_, _| check_condition(1, 0xff, 0xff));
    let run = fake.run("clear disk --key 1");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "disk: cleared: no reservation and no registrations\n")
    );
    assert_eq!(
        run.stderr,
        "prhctl: disk: CLEAR ended with RECOVERED ERROR, ASC/ASCQ ff/ff (1/ff/ff); the command \
         was executed\n"
    );
    // A query without data has failed.
    assert_eq!(fake.run("keys disk").status, 21);
}

#[test]
fn spc2_reservation_is_named() {
    let fake = FakeHelper::start(|_, _| Response::Status(0x18, Vec::new(), Vec::new()));
    for line in ["keys disk", "clear disk --key 1"] {
        fake.run(line).expect_failure(24, &["blocks even queries"]);
    }
}

#[test]
fn query_before_change_stops_after_unit_attention() {
    for (line, service_action) in [
        ("release disk --key 1", 1),
        (
            "move disk --key 1 --new-key 2 --to sas,5000c50005b32001 --target-port 1",
            1,
        ),
        ("register disk --key 1 --ignore-existing", 2),
        ("unregister disk --key 1", 2),
    ] {
        let fake = FakeHelper::start(|_, _| check_condition(6, 0x2a, 0x05));
        fake.run(line).expect_failure(6, &["Do not register again"]);
        assert_eq!(fake.commands(), [(0x5e, service_action, 1024)], "{line}");
    }
}
