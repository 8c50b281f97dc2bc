//! The commands that change.

use crate::fake::{Fake, Reply, check_condition};
use crate::support::Helper;

#[test]
fn a_key_is_registered_replaced_and_removed() {
    let helper = Helper::start();
    assert_eq!(
        helper.run("register a --key 0x1 --aptpl").good(),
        "a: registered with key 0x1\n"
    );
    let text = helper.run("capabilities a").good();
    let active = text.lines().find(|line| line.contains("PTPL_A")).unwrap();
    assert!(active.ends_with("yes"), "{active}");

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
    assert!(
        helper
            .run("release b --key b")
            .good()
            .starts_with("b: still reserved, with key 0xa: the device took the command")
    );
    let said = helper.run("release a --key a --type we").failed(5);
    assert!(said.contains("'prhctl reservation' shows it"), "{said}");
    assert_eq!(
        helper.run("release a --key a").good(),
        "a: released with key 0xa: Exclusive Access - Registrants Only\n"
    );
    assert_eq!(
        helper.run("release a --key a").good(),
        "a: nothing to release: there is no reservation\n"
    );
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
        "a: preempted key 0xb: nobody is registered with it any more\n"
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
         registered with the key given.\n"
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
        1 => check_condition(6, 0x3f, 0x0e),
        _ => Reply::Data(Vec::new()),
    });
    let run = fake.run("register disk --key 1");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "disk: registered with key 0x1\n")
    );
    assert_eq!(run.stderr.lines().count(), 2, "{run:?}");
    assert_eq!(fake.commands(), [(0x5f, 0, 24); 3]);
}

#[test]
fn a_release_that_was_done_is_not_undone_by_a_question() {
    let fake = Fake::start(|_, cdb| match cdb[0] {
        0x5f => Reply::Data(Vec::new()),
        _ => Reply::Close,
    });
    assert_eq!(
        fake.run("release disk --key 1 --type we").good(),
        "disk: released with key 0x1: Write Exclusive\n"
    );
}

#[test]
fn what_is_asked_in_order_to_change_ends_with_an_attention_too() {
    for line in [
        "release disk --key 1",
        "move disk --key 1 --new-key 2 --to sas,5000c50005b32001 --target-port 1",
    ] {
        let fake = Fake::start(|_, _| check_condition(6, 0x2a, 0x05));
        let said = fake.run(line).failed(6);
        assert!(said.contains("The command was not done"), "{said}");
        assert_eq!(fake.commands(), [(0x5e, 1, 1024)], "{line}");
    }
}
