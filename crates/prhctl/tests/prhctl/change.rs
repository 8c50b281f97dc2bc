//! The commands that change.

use crate::fake::{Fake, Reply, check_condition};
use crate::support::Helper;

#[test]
fn a_key_is_registered_replaced_and_removed() {
    let helper = Helper::start();
    assert_eq!(
        helper.run("register a --key 0x1").good(),
        "a: registered with key 0x1\n"
    );
    // A second time it has to name the key.
    let said = helper.run("register a --key 0x2").failed(24);
    assert!(said.contains("--old-key"), "{said}");
    helper.run("register a --key 0x2 --old-key 0x1").good();
    helper.run("register a --key 0x3 --ignore-existing").good();
    assert_eq!(
        helper.run("keys a").good(),
        "a: generation 0x3, 1 key\n  0x3\n"
    );

    helper.run("unregister a --key 0x2").failed(24);
    assert_eq!(
        helper.run("unregister a --key 0x3").good(),
        "a: not registered any more, key 0x3 is removed\n"
    );
    assert_eq!(helper.run("keys a").good(), "a: generation 0x4, no keys\n");
}

#[test]
fn other_initiator_ports_are_registered_too() {
    let helper = Helper::start();
    let other = "iqn.2024-01.example:b,i,0x00023d000001";
    helper
        .run(&format!("register a --key 7 --initiator {other}"))
        .good();
    let text = helper.run("status a").good();
    assert!(
        text.contains("2 registrations") && text.contains(other),
        "{text}"
    );
}

#[test]
fn a_reservation_is_made_and_given_up() {
    let helper = Helper::start();
    helper.register_both();
    assert_eq!(
        helper.run("reserve a --key a --type ea-ro").good(),
        "a: reserved with key 0xa: Exclusive Access - Registrants Only\n"
    );
    // Again is not wrong.
    helper.run("reserve a --key a --type 6").good();

    // From somebody else the device takes it and does nothing.
    assert!(helper.run("release b --key b").good().starts_with(
        "b: still held with key 0xa, Exclusive Access - Registrants Only: the device took"
    ));
    let said = helper.run("release a --key a --type we").failed(5);
    assert!(said.contains("'prhctl reservation' shows it"), "{said}");
    assert_eq!(
        helper.run("release a --key a").good(),
        "a: released with key 0xa: Exclusive Access - Registrants Only\n"
    );
    // Then nothing is sent, and a wrong key is not noticed.
    for key in ["a", "b"] {
        assert_eq!(
            helper.run(&format!("release a --key {key}")).good(),
            "a: nothing to release: there is no reservation\n"
        );
    }
}

#[test]
fn who_has_been_told_that_reservations_changed_is_not_overridden() {
    let helper = Helper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we-ro").good();
    helper.run("release a --key a").good();
    // b is told with its next command, which is not done.
    let said = helper.run("reserve b --key b --type we").failed(6);
    assert!(
        said.starts_with(
            "prhctl: b: RESERVE ended with UNIT ATTENTION, RESERVATIONS RELEASED (6/2a/04)\n  The \
             command was not done."
        ),
        "{said}"
    );
    assert_eq!(
        helper.run("reservation b").good(),
        "b: generation 0x2, no reservation\n"
    );
    helper.run("reserve b --key b --type we").good();
}

#[test]
fn a_fenced_node_does_not_come_back_by_repetition() {
    let helper = Helper::start();
    helper.register_both();
    helper.run("reserve b --key b --type we").good();
    assert_eq!(
        helper
            .run("preempt a --key a --victim b --type we-ro --abort")
            .good(),
        "a: preempt of key 0xb done\n"
    );
    let said = helper.run("register b --key b --ignore-existing").failed(6);
    assert!(said.contains("REGISTRATIONS PREEMPTED (6/2a/05)"), "{said}");
    assert_eq!(
        helper.run("keys a").good(),
        "a: generation 0x3, 1 key\n  0xa\n"
    );
    let text = helper.run("reservation a").good();
    assert!(text.contains("key 0xa") && text.contains("we-ro"), "{text}");
}

#[test]
fn everything_is_cleared() {
    let helper = Helper::start();
    helper.register_both();
    helper.run("reserve b --key b --type we-ar").good();
    let text = helper.run("reservation a").good();
    assert!(text.contains("holder  all registrants"), "{text}");
    assert_eq!(
        helper.run("clear a --key a").good(),
        "a: cleared: no reservation, and nobody is registered\n"
    );
    assert_eq!(
        helper.run("status a").good(),
        "a: generation 0x3, no registrations, no reservation\n"
    );
}

#[test]
fn a_reservation_is_moved() {
    let helper = Helper::start();
    helper.run("register a --key a").good();
    helper.run("reserve a --key a --type ea").good();
    let other = "iqn.2024-01.example:b,i,0x00023d000001";
    let line = format!("move a --key a --new-key 0xb0 --to {other} --target-port 2 --unregister");
    assert_eq!(
        helper.run(&line).good(),
        format!("a: moved to {other}, registered with key 0xb0\n")
    );
    let text = helper.run("status a").good();
    assert!(
        text.contains("1 registration, reserved: Exclusive Access (ea)"),
        "{text}"
    );
    assert!(text.contains("0xb0") && text.contains(other), "{text}");
    // It no longer holds anything.
    let said = helper.run(&line).failed(24);
    assert!(said.contains("does not hold the reservation"), "{said}");
}

#[test]
fn a_conflict_says_who_holds_the_reservation() {
    let helper = Helper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we").good();
    assert_eq!(
        helper.run("reserve b --key b --type we").failed(24),
        "prhctl: b: RESERVE ended with RESERVATION CONFLICT
  registered keys: 0xa 0xb
  reservation: Write Exclusive, held with key 0xa
  Either somebody else holds the reservation, or it has another type, or this initiator port is not \
         registered with the key given: it never was, or it was preempted.\n"
    );
}

#[test]
fn a_conflict_stays_one_if_the_device_says_no_more() {
    let fake = Fake::start(|number, _| match number {
        0 => Reply::Answer(0x18, Vec::new(), Vec::new()),
        _ => check_condition(5, 0x24, 0x00),
    });
    assert_eq!(
        fake.run("clear disk --key 1").failed(24),
        "prhctl: disk: CLEAR ended with RESERVATION CONFLICT\n"
    );
    assert_eq!(fake.commands(), [(0x5f, 3, 24), (0x5e, 0, 1024)]);
}

#[test]
fn changing_goes_on_after_attentions_that_are_not_about_reservations() {
    let fake = Fake::start(|number, _| match number {
        0 => check_condition(6, 0x29, 0x00),
        1 => check_condition(6, 0x2a, 0x09),
        _ => Reply::Data(Vec::new()),
    });
    let run = fake.run("clear disk --key 1");
    assert_eq!(run.status, 0);
    assert_eq!(run.stderr.lines().count(), 2, "{run:?}");
    assert_eq!(fake.commands(), [(0x5f, 3, 24); 3]);

    // The device may be another one.
    for (asc, ascq) in [(0x28, 0x00), (0x3f, 0x0e)] {
        let fake = Fake::start(move |_, _| check_condition(6, asc, ascq));
        fake.run("clear disk --key 1").failed(6);
        assert_eq!(fake.commands(), [(0x5f, 3, 24)]);
    }
}

#[test]
fn a_release_that_was_done_is_not_undone_by_a_question() {
    let fake = Fake::start(|_, cdb| match cdb[0] {
        0x5f => Reply::Data(Vec::new()),
        _ => Reply::Close,
    });
    assert_eq!(
        fake.run("release disk --key 1 --type we").good(),
        "disk: the device took the command, and did not say what is reserved now\n"
    );
}

/// READ RESERVATION of a reservation of Write Exclusive.
fn held_with(key: u8) -> Reply {
    let mut data = vec![0, 0, 0, 1, 0, 0, 0, 16];
    data.extend([0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, 0, 1, 0, 0]);
    Reply::Data(data)
}

#[test]
fn a_release_is_told_from_one_that_did_nothing_by_what_was_reserved_before() {
    // Somebody else has reserved in between.
    let fake = || {
        Fake::start(|number, cdb| match (cdb[0], number) {
            (0x5f, _) => Reply::Data(Vec::new()),
            (_, 0) => held_with(1),
            _ => held_with(2),
        })
    };
    assert_eq!(
        fake().run("release disk --key 1").good(),
        "disk: released with key 0x1, and is now held with key 0x2, Write Exclusive\n"
    );
    let document = fake().run("--json release disk --key 1").json();
    assert_eq!(document["changed"], true);
    // Without a look beforehand nobody knows what it was.
    let fake = || {
        Fake::start(|_, cdb| match cdb[0] {
            0x5f => Reply::Data(Vec::new()),
            _ => held_with(2),
        })
    };
    let said = fake().run("release disk --key 1 --type we").good();
    assert!(
        said.starts_with("disk: the device took the command, and is held with key 0x2"),
        "{said}"
    );
    let document = fake().run("--json release disk --key 1 --type we").json();
    assert!(document["changed"].is_null());
}

/// What the device says of `PTPL_A`.
#[track_caller]
fn is_kept(helper: &Helper) -> bool {
    let capabilities = helper.run("--json capabilities a").json();
    capabilities["persist_through_power_loss_active"]
        .as_bool()
        .unwrap()
}

#[test]
fn who_leaves_does_not_take_aptpl_from_the_others() {
    let helper = Helper::start();
    helper.run("register a --key a --aptpl").good();
    helper.run("register b --key b --aptpl").good();
    helper.run("unregister b --key b").good();
    assert!(is_kept(&helper));

    let said = |line: &str| {
        let run = helper.run(line);
        assert_eq!(run.status, 0, "{run:?}");
        run.stderr
    };
    let note = "no longer outlast a loss of power";
    assert!(said("register b --key b").contains(note));
    assert!(!is_kept(&helper));
    // There is nothing left to lose.
    assert_eq!(said("register b --key c --old-key b"), "");
    helper.run("unregister b --key c").good();
    assert!(!is_kept(&helper));

    helper
        .run("register a --key a --ignore-existing --aptpl")
        .good();
    helper.run("reserve a --key a --type we").good();
    let line =
        "move a --key a --new-key b --to iqn.2024-01.example:b,i,0x00023d000001 --target-port 2";
    assert!(said(line).contains(note));
}

#[test]
fn a_device_that_does_not_say_whether_it_keeps_registrations_is_left_all_the_same() {
    let fake = Fake::start(|_, cdb| match cdb[0] {
        0x5e => check_condition(5, 0x24, 0x00),
        _ => Reply::Data(Vec::new()),
    });
    let run = fake.run("unregister disk --key 1");
    assert_eq!(run.status, 0);
    assert!(run.stderr.contains("did not say whether"), "{run:?}");
    assert_eq!(fake.commands(), [(0x5e, 2, 1024), (0x5f, 0, 24)]);
}

#[test]
fn sense_that_only_tells_is_a_note() {
    let fake = Fake::start(|_, _| check_condition(1, 0x5d, 0x10));
    let run = fake.run("clear disk --key 1");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (
            0,
            "disk: cleared: no reservation, and nobody is registered\n"
        )
    );
    assert_eq!(
        run.stderr,
        "prhctl: disk: CLEAR ended with RECOVERED ERROR, ASC/ASCQ 5d/10 (1/5d/10); it was done\n"
    );
    // An answer that is not there is none.
    assert_eq!(fake.run("keys disk").status, 21);
}

#[test]
fn a_reservation_of_spc_2_is_named() {
    let fake = Fake::start(|_, _| Reply::Answer(0x18, Vec::new(), Vec::new()));
    for line in ["keys disk", "clear disk --key 1"] {
        let said = fake.run(line).failed(24);
        assert!(said.contains("forbids even to ask"), "{said}");
    }
}

#[test]
fn what_is_asked_in_order_to_change_ends_with_an_attention_too() {
    for (line, question) in [
        ("release disk --key 1", 1),
        (
            "move disk --key 1 --new-key 2 --to sas,5000c50005b32001 --target-port 1",
            1,
        ),
        ("register disk --key 1 --ignore-existing", 2),
        ("unregister disk --key 1", 2),
    ] {
        let fake = Fake::start(|_, _| check_condition(6, 0x2a, 0x05));
        let said = fake.run(line).failed(6);
        assert!(said.contains("Do not register again"), "{said}");
        assert_eq!(fake.commands(), [(0x5e, question, 1024)], "{line}");
    }
}
