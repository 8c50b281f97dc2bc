// SPDX-License-Identifier: MIT OR Apache-2.0

//! Advice after responses that soft LUNs do not give.

use crate::fake::{FakeHelper, Response, check_condition};
use crate::support::TestHelper;

/// The advice after a change with an unknown outcome.
const UNKNOWN: &str = "The command may have been executed; check with 'prhctl status'.";

/// Returns standard error of a run with a helper that always responds in the same way.
fn stderr(line: &str, response: impl Fn() -> Response + Send + 'static) -> String {
    let helper = FakeHelper::start(move |_, _| response());
    let run = helper.run(line);
    assert_ne!(run.status, 0, "{run:?}");
    run.stderr
}

#[test]
fn aborted_change_may_have_been_executed() {
    let task_aborted = || Response::Status(0x40, Vec::new(), Vec::new());
    assert!(stderr("clear disk --key 1", task_aborted).contains(UNKNOWN));
    assert!(!stderr("keys disk", task_aborted).contains(UNKNOWN));
    for (asc, ascq) in [(0x47, 0x00), (0x2e, 0x02)] {
        let aborted = move || check_condition(0xb, asc, ascq);
        assert!(stderr("clear disk --key 1", aborted).contains(UNKNOWN));
        assert!(!stderr("keys disk", aborted).contains(UNKNOWN));
    }
}

#[test]
fn aborted_change_to_device_may_have_been_executed() {
    let aborted = || check_condition(0xb, 0x00, 0x06);
    assert!(stderr("clear /dev/null --key 1", aborted).contains(UNKNOWN));
    assert!(!stderr("keys /dev/null", aborted).contains(UNKNOWN));
}

#[test]
fn fenced_port_is_not_advised_to_register() {
    let text = |ascq| stderr("clear disk --key 1", move || check_condition(6, 0x2a, ascq));
    for ascq in [0x03, 0x05] {
        assert!(text(ascq).contains("Do not register again"), "{ascq}");
        assert!(!text(ascq).contains("run the command again"), "{ascq}");
    }
    assert!(text(0x04).contains("holder has released the reservation"));
    assert!(text(0x00).contains("may have been changed"));
}

#[test]
fn invalid_field_advice_depends_on_command() {
    let invalid_cdb = || check_condition(5, 0x24, 0x00);
    for line in ["capabilities disk", "status disk"] {
        let stderr = stderr(line, invalid_cdb);
        assert!(!stderr.contains("'prhctl capabilities'"), "{stderr}");
    }
    for line in ["keys disk", "reservation disk"] {
        let stderr = stderr(line, invalid_cdb);
        assert!(stderr.contains("not a SCSI disk"), "{stderr}");
    }
    let reserve = stderr("reserve disk --key 1 --type we", invalid_cdb);
    assert!(reserve.contains("'prhctl capabilities'"), "{reserve}");

    // The queries before REGISTER AND MOVE succeed.
    let helper = FakeHelper::start(|_, cdb| match cdb[0] {
        0x5e => Response::Data(vec![0; 8]),
        _ => check_condition(5, 0x24, 0x00),
    });
    let line = "move disk --key 1 --new-key 2 --to sas,5000c50005b32001 --target-port 1";
    let moved = helper.run(line).failure(5);
    assert!(
        moved.contains("There is no reservation to move."),
        "{moved}"
    );

    let invalid_list = || check_condition(5, 0x26, 0x00);
    let preempt = stderr("preempt disk --key 1 --victim 0 --type we", invalid_list);
    assert!(preempt.contains("all registrants"), "{preempt}");
    let preempt = stderr("preempt disk --key 1 --victim 2 --type we", invalid_list);
    assert!(preempt.contains("'prhctl capabilities'"), "{preempt}");
}

#[test]
fn sense_data_of_storage_systems_are_explained() {
    for ((key, asc, ascq), fragment) in [
        ((2, 0x04, 0x0b), "Use another path, or the multipath map"),
        ((2, 0x04, 0x0c), "Use another path, or the multipath map"),
        ((4, 0x44, 0x01), "'prhctl replace-lost'"),
        ((5, 0x55, 0x02), "no room for another registration"),
        ((5, 0x55, 0x04), "no room for another registration"),
        ((0xb, 0x05, 0x00), "no connection to the target"),
        ((0xb, 0x2e, 0x02), "--io-timeout"),
    ] {
        let stderr = stderr("clear disk --key 1", move || {
            check_condition(key, asc, ascq)
        });
        assert!(stderr.contains(fragment), "{asc:x}/{ascq:x}: {stderr}");
    }
    let unsent = stderr("clear disk --key 1", || check_condition(0xb, 0x05, 0x00));
    assert!(!unsent.contains(UNKNOWN), "{unsent}");
}

#[test]
fn reservation_decides_the_cause() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we-ro").success();
    let wrong_type = helper.run("release a --key a --type ea").failure(5);
    assert!(wrong_type.contains("use --type we-ro"), "{wrong_type}");

    let to = "--new-key 5 --to sas,5001405000000009 --target-port 1";
    for (line, cause) in [
        (
            format!("move b --key b {to}"),
            "only the holder can move it",
        ),
        (
            format!("move a --key 5 {to}"),
            "is registered with key 0xa, and not with 0x5",
        ),
    ] {
        let stderr = soft_lun_conflict(&helper, &line);
        assert!(stderr.contains(cause), "{line}: {stderr}");
        assert!(!stderr.contains("Either"), "{line}: {stderr}");
    }
}

#[test]
fn lio_response_to_unregistered_port_is_explained() {
    let unreachable = || check_condition(2, 0x08, 0x00);
    let change = stderr("clear disk --key 1", unreachable);
    assert!(change.contains("'prhctl status'"), "{change}");
    assert!(change.contains("fenced node must stay away"), "{change}");
    assert!(!stderr("keys disk", unreachable).contains("LIO"));
    let becoming_ready = || check_condition(2, 0x04, 0x01);
    assert!(stderr("clear disk --key 1", becoming_ready).contains("may become ready"));
}

/// Returns the advice after a conflict, if `keys` are registered and one of them, 0x11, is the
/// holder.
fn conflict(line: &str, keys: &'static [u8]) -> String {
    let helper = FakeHelper::start(|_, cdb| match (cdb[0], cdb[1]) {
        (0x5e, 0) => {
            let mut data = vec![0, 0, 0, 1, 0, 0, 0, u8::try_from(keys.len() * 8).unwrap()];
            data.extend(keys.iter().flat_map(|key| u64::from(*key).to_be_bytes()));
            Response::Data(data)
        }
        (0x5e, 1) => {
            let mut data = vec![0, 0, 0, 1, 0, 0, 0, 16];
            data.extend([0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 3, 0, 0]);
            Response::Data(data)
        }
        (0x5e, _) => check_condition(5, 0x24, 0x00),
        _ => Response::Status(0x18, Vec::new(), Vec::new()),
    });
    helper.run(line).failure(24)
}

#[test]
fn conflict_names_keys_and_holder() {
    let stderr = conflict("reserve disk --key 22 --type we", &[0x22, 0x11]);
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines[1], "  registered keys: 0x22 0x11");
    assert_eq!(
        lines[2],
        "  reservation: Exclusive Access, held with key 0x11"
    );
    assert!(
        lines[3].starts_with("  Either another port holds"),
        "{stderr}"
    );
}

#[test]
fn conflict_never_advises_to_register() {
    for line in [
        "clear disk --key 22",
        "release disk --key 22",
        "reserve disk --key 22 --type we",
        "preempt disk --key 22 --victim 11 --type we",
        "unregister disk --key 22",
    ] {
        let stderr = conflict(line, &[0x11]);
        assert!(stderr.contains("preempted"), "{line}: {stderr}");
        assert!(!stderr.contains("prhctl register"), "{line}: {stderr}");
        assert!(!stderr.contains("--old-key"), "{line}: {stderr}");
    }
    let stderr = conflict("register disk --key 22", &[0x11]);
    assert!(stderr.contains("already registered"), "{stderr}");
    let stderr = conflict("register disk --key 22 --old-key 33", &[0x11]);
    assert!(stderr.contains("fenced node must stay away"), "{stderr}");
    let stderr = conflict("reserve disk --key 22 --type we", &[0x11]);
    assert!(stderr.contains("fenced node must stay away"), "{stderr}");
}

/// Returns the advice after a conflict on a soft LUN with the ports a and b.
fn soft_lun_conflict(helper: &TestHelper, line: &str) -> String {
    let stderr = helper.run(line).failure(24);
    stderr.replace("\n  ", " ")
}

#[test]
fn conflict_names_the_cause() {
    let helper = TestHelper::start();
    helper.run("register a --key a").success();
    helper.run("reserve a --key a --type we-ro").success();
    for (line, cause) in [
        (
            "clear b --key a",
            "This initiator port is not registered; the key 0xa is that of sas,",
        ),
        ("clear b --key 5", "no port has the key 0x5"),
        (
            "clear a --key 5",
            "is registered with key 0xa, and not with 0x5.",
        ),
        (
            "register a --key 5",
            "already registered, with key 0xa: to replace it, use --old-key 0xa.",
        ),
        (
            "reserve a --key a --type ea-ro",
            "This initiator port holds the reservation already, with another type",
        ),
        ("preempt a --key a --victim 5 --type we", "victim's key 0x5"),
    ] {
        let stderr = soft_lun_conflict(&helper, line);
        assert!(stderr.contains(cause), "{line}: {stderr}");
        assert!(!stderr.contains("Either"), "{line}: {stderr}");
    }
    helper.run("register b --key b").success();
    let stderr = soft_lun_conflict(&helper, "reserve b --key b --type we-ro");
    assert!(stderr.contains(" holds the reservation. This initiator port is a registrant"));
    // The holder is named.
    assert!(stderr.contains("held with key 0xa by sas,"), "{stderr}");
}

#[test]
fn left_over_reservation_has_a_procedure() {
    let helper = TestHelper::start();
    helper.run("register a --key a").success();
    helper.run("reserve a --key a --type we-ro").success();
    for line in [
        "clear b --key a",
        "release b --key a",
        "unregister b --key a",
        "preempt b --key a --victim a --type we-ro",
    ] {
        let stderr = soft_lun_conflict(&helper, line);
        assert!(stderr.contains("'prhctl clear --help'"), "{line}: {stderr}");
    }
    let help = helper.run("clear --help");
    assert!(help.stdout.contains("LEFT-OVER RESERVATION"), "{help:?}");
}

/// LIO reports LOGICAL UNIT COMMUNICATION FAILURE instead of RESERVATION CONFLICT to a port that is
/// not registered.
#[test]
fn conflict_of_lio_names_keys() {
    let helper = FakeHelper::start(|_, cdb| match (cdb[0], cdb[1]) {
        (0x5e, 0) => {
            Response::Data([&[0, 0, 0, 1, 0, 0, 0, 8][..], &[0, 0, 0, 0, 0, 0, 0, 0x11]].concat())
        }
        (0x5e, _) => Response::Data(vec![0; 8]),
        _ => check_condition(2, 0x08, 0x00),
    });
    let stderr = helper.run("clear disk --key 1").failure(2);
    assert!(stderr.contains("registered keys: 0x11\n"), "{stderr}");
    assert!(!stderr.contains("later"), "{stderr}");
}

#[test]
fn preempt_conflict_names_wrong_key() {
    let line = "preempt disk --key 22 --victim 33 --type we";
    assert!(conflict(line, &[0x22]).contains("victim's key 0x33"));
    assert!(conflict(line, &[0x33]).contains("not registered with the given key"));
    // Another port is registered with the sender's key.
    assert!(conflict(line, &[0x22, 0x33]).contains("not registered with the given key"));
}
