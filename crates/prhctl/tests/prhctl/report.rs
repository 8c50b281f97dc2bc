//! The commands that ask.

use crate::fake::{Fake, Reply, check_condition};
use crate::support::Helper;

#[test]
fn an_untouched_unit_has_nothing_to_show() {
    let helper = Helper::start();
    assert_eq!(helper.run("keys a").good(), "a: generation 0x0, no keys\n");
    assert_eq!(
        helper.run("reservation a").good(),
        "a: generation 0x0, no reservation\n"
    );
    assert_eq!(
        helper.run("status a").good(),
        "a: generation 0x0, no registrations, no reservation\n"
    );
}

#[test]
fn keys_reservation_and_status_are_shown() {
    let helper = Helper::start();
    helper
        .run("register a --key 0x123abc --all-target-ports")
        .good();
    helper.run("register b --key b").good();
    helper.run("reserve b --key b --type 5").good();
    assert_eq!(
        helper.run("keys a").good(),
        "a: generation 0x2, 2 keys\n  0x123abc\n  0xb\n"
    );
    assert_eq!(
        helper.run("reservation a").good(),
        "a: generation 0x2, reserved
  holder  key 0xb
  type    Write Exclusive - Registrants Only (we-ro)
  scope   Logical Unit
"
    );
    assert_eq!(
        helper.run("status a").good(),
        "a: generation 0x2, 2 registrations, reserved: Write Exclusive - Registrants Only (we-ro)
  KEY       HOLDER  TYPE   SCOPE         PORT  TRANSPORTID
  0x123abc  -       -      -             all   sas,5001405000000001
  0xb       yes     we-ro  Logical Unit  2     iqn.2024-01.example:b,i,0x00023d000001
"
    );
}

#[test]
fn capabilities_are_shown() {
    let text = Helper::start().run("capabilities a").good();
    for line in [
        "a: capabilities",
        "  types                                          we ea we-ro ea-ro we-ar ea-ar",
        "  registers other initiator ports (SIP_C)        yes",
        "  knows REPLACE LOST RESERVATION (RLR_C)         no",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_can_only_be_read_can_be_asked_and_not_changed() {
    let helper = Helper::start();
    // Root may open any file for writing, but no directory.
    let said = helper.run("register / --key 1").failed(1);
    assert_eq!(
        said,
        "prhctl: /: cannot open it for reading and writing: Is a directory (os error 21)\n"
    );
    let said = helper.run("keys /").failed(11);
    assert!(
        said.contains("ABORTED COMMAND, I/O PROCESS TERMINATED (b/00/06)"),
        "{said}"
    );
}

/// READ KEYS with `count` keys.
fn keys(count: u32) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 7];
    data.extend((count * 8).to_be_bytes());
    data.extend((1..=u64::from(count)).flat_map(u64::to_be_bytes));
    data
}

#[test]
fn a_list_that_is_cut_off_is_asked_for_again() {
    let fake = Fake::start(|_, _| Reply::Data(keys(200)));
    let text = fake.run("keys disk").good();
    assert!(
        text.starts_with("disk: generation 0x7, 200 keys\n  0x1\n"),
        "{text}"
    );
    assert!(text.ends_with("  0xc8\n"), "{text}");
    assert_eq!(fake.commands(), [(0x5e, 0, 1024), (0x5e, 0, 1608)]);
}

#[test]
fn a_list_longer_than_the_protocol_carries_is_incomplete() {
    let fake = Fake::start(|_, _| Reply::Data(keys(1100)));
    let text = fake.run("keys disk").good();
    assert!(text.contains("1023 keys"), "{text}");
    assert!(
        text.contains("Incomplete: the device has 616 bytes more"),
        "{text}"
    );
    let document = fake.run("--json keys disk").json();
    assert_eq!(document["missing_bytes"], 616);
    assert_eq!(document["keys"].as_array().unwrap().len(), 1023);
    assert_eq!(fake.commands()[1], (0x5e, 0, 8192));
}

#[test]
fn a_list_that_the_device_itself_cuts_off_is_not_asked_for_for_ever() {
    let fake = Fake::start(|_, _| Reply::Data(keys(200)[..24].to_vec()));
    let text = fake.run("keys disk").good();
    assert!(
        text.contains("Incomplete: the device has 1584 bytes more"),
        "{text}"
    );
    assert!(fake.commands().len() <= 3, "{:?}", fake.commands());
}

#[test]
fn asking_goes_on_after_unit_attentions_but_not_for_ever() {
    let fake = Fake::start(|number, _| match number {
        0 => check_condition(6, 0x29, 0x00),
        1 => check_condition(6, 0x2a, 0x05),
        _ => Reply::Data(keys(1)),
    });
    let run = fake.run("keys disk");
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (0, "disk: generation 0x7, 1 key\n  0x1\n")
    );
    assert_eq!(
        run.stderr,
        "prhctl: disk: READ KEYS ended with UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET \
         OCCURRED (6/29/00); sent again\n\
         prhctl: disk: READ KEYS ended with UNIT ATTENTION, REGISTRATIONS PREEMPTED (6/2a/05); sent \
         again\n"
    );
    let fake = Fake::start(|_, _| check_condition(6, 0x29, 0x00));
    assert_eq!(fake.run("keys disk").status, 6);
    assert_eq!(fake.commands().len(), 16);
}
