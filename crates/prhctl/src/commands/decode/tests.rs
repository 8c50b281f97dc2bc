//! Explanations, by bytes of the standard's layouts.

use proptest::prelude::*;

use super::*;

fn bytes(text: &str) -> Vec<u8> {
    hex::parse(text).unwrap()
}

fn explained(text: &str, kind: Option<Kind>) -> Explanation {
    explain(&bytes(text), kind, None).unwrap()
}

/// What the field with this name means, and its value.
fn field<'a>(explanation: &'a Explanation, name: &str) -> (&'a str, &'a str, &'a str) {
    let field = explanation.fields.iter().find(|field| field.name == name);
    let field = field.unwrap_or_else(|| panic!("no {name} in {explanation:#?}"));
    (&field.place, &field.value, &field.meaning)
}

#[test]
fn a_cdb_is_told_by_its_operation_code() {
    let found = explained("5f 05 05 00 00 00 00 00 18 00", None);
    assert_eq!(found.kind, Kind::Cdb);
    assert_eq!(
        found.summary.as_deref().unwrap(),
        "PERSISTENT RESERVE OUT PREEMPT AND ABORT, type Write Exclusive - Registrants Only, \
         parameter list length 24"
    );
    assert_eq!(
        field(&found, "SERVICE ACTION"),
        ("byte 1, bits 4-0", "0x5", "PREEMPT AND ABORT")
    );
    assert_eq!(
        field(&found, "TYPE"),
        (
            "byte 2, bits 3-0",
            "0x5",
            "Write Exclusive - Registrants Only"
        )
    );
    assert_eq!(
        field(&found, "PARAMETER LIST LENGTH"),
        ("bytes 5-8", "0x18", "24 bytes")
    );
}

#[test]
fn a_cdb_and_its_list_are_explained_together() {
    let list = format!(
        "{}{}{}",
        "0".repeat(16),
        "0000000000123abc",
        "0000000001000000"
    );
    for cdb in ["5f000000000000001800", "5f000000000000001800000000000000"] {
        let found = explained(&format!("{cdb}{list}"), None);
        let summary = found.summary.as_deref().unwrap();
        assert!(
            summary.ends_with("; key 0x0, service action key 0x123abc, APTPL"),
            "{summary}"
        );
        assert_eq!(
            field(&found, "SERVICE ACTION RESERVATION KEY"),
            ("list bytes 8-15", "0x123abc", "the new key")
        );
        assert_eq!(
            field(&found, "APTPL"),
            ("list byte 20, bit 0", "0x1", "yes: kept when power is lost")
        );
        assert_eq!(field(&found, "TYPE").2, "ignored here");
    }
}

#[test]
fn a_parameter_list_needs_its_service_action() {
    let text = "0000000000000001 0000000000000002 00 02 0003 00000018 \
                06000000 5000c50005b32001 000000000000000000000000";
    let error = explain(&bytes(text), Some(Kind::Parameters), None).unwrap_err();
    assert!(matches!(error, DecodeError::NoServiceAction));
    assert!(error.advice().concat().contains("register-and-move"));

    let action = OutServiceAction::RegisterAndMove;
    let found = explain(&bytes(text), None, Some(action)).unwrap();
    assert_eq!(found.kind, Kind::Parameters);
    assert_eq!(
        found.summary.as_deref().unwrap(),
        "key 0x1, service action key 0x2, UNREG, to sas,5000c50005b32001 at target port 3"
    );
    assert_eq!(field(&found, "TransportID").2, "sas,5000c50005b32001");
    let error = explain(&bytes(text), Some(Kind::Keys), Some(action)).unwrap_err();
    assert!(matches!(error, DecodeError::ServiceAction(_)));
}

#[test]
fn listed_initiator_ports_are_explained() {
    let id = "06000000 5000c50005b32001 000000000000000000000000";
    let text = format!(
        "{} {} 00000000 08 000000 00000030 {id} {id}",
        "0".repeat(16),
        "0".repeat(16)
    );
    let found = explain(&bytes(&text), None, Some(OutServiceAction::Register)).unwrap();
    let ids = found
        .fields
        .iter()
        .filter(|field| field.name == "TransportID");
    assert_eq!(ids.count(), 2);
    assert!(found.summary.is_ok());
}

#[test]
fn sense_is_told_by_its_response_code() {
    let found = explained(
        "70 00 05 00 00 00 00 0a 00 00 00 00 26 04 00 cf 00 02",
        None,
    );
    assert_eq!(found.kind, Kind::Sense);
    assert_eq!(field(&found, "SENSE KEY").2, "ILLEGAL REQUEST");
    assert_eq!(
        field(&found, "ADDITIONAL SENSE CODE QUALIFIER"),
        (
            "byte 13",
            "0x4",
            "INVALID RELEASE OF PERSISTENT RESERVATION"
        )
    );
    assert_eq!(
        field(&found, "SENSE KEY SPECIFIC").2,
        "wrong: CDB byte 2 bit 7"
    );

    let found = explained(
        "72 06 2a 05 00 00 00 0c 00 0a 80 00 00 00 00 00 00 00 00 07",
        None,
    );
    assert_eq!(field(&found, "(descriptor)").2, "0x7");
    assert_eq!(
        found.summary.unwrap(),
        "UNIT ATTENTION, REGISTRATIONS PREEMPTED (6/2a/05), information 0x7"
    );
}

#[test]
fn parameter_data_are_explained() {
    let keys = explained(
        "00000004 00000010 0000000000123abc 0000000000000456",
        Some(Kind::Keys),
    );
    assert_eq!(
        keys.summary.unwrap(),
        "generation 0x4, 2 keys 0x123abc 0x456"
    );
    assert_eq!(keys.fields.len(), 4);

    let reservation = explained(
        "00000004 00000010 0000000000123abc 00000000 00 05 0000",
        Some(Kind::Reservation),
    );
    assert_eq!(
        field(&reservation, "TYPE").2,
        "Write Exclusive - Registrants Only"
    );

    let capabilities = explained("0008 1d 81 ea01 0000", Some(Kind::Capabilities));
    assert_eq!(
        field(&capabilities, "PTPL_A"),
        ("byte 3, bit 0", "0x1", "yes: keeps them now")
    );
    assert_eq!(
        field(&capabilities, "RLR_C").2,
        "no: knows REPLACE LOST RESERVATION"
    );

    let status = explained(
        "00000004 00000030 0000000000123abc 00000000 01 05 00000000 0001 00000018 \
         06000000 5000c50005b32001 000000000000000000000000",
        Some(Kind::Status),
    );
    assert_eq!(field(&status, "R_HOLDER").2, "yes: holds the reservation");
    assert_eq!(field(&status, "TransportID").0, "bytes 32-55");
}

#[test]
fn wrong_bytes_are_explained_up_to_the_fault() {
    let found = explained("5f 1f 00", Some(Kind::Cdb));
    assert_eq!(found.summary.unwrap_err(), "CDB of 3 bytes, 10 needed");
    assert_eq!(found.fields.len(), 4);
    let found = explained("5f 1f 00 00 00 00 00 00 18 00", None);
    assert!(found.summary.unwrap_err().contains("reserved"));
    let found = explained("5f 00 00 00 00 00 00 00 18 00 01", Some(Kind::Cdb));
    assert!(found.summary.unwrap_err().contains("neither padding"));
}

#[test]
fn what_could_be_anything_is_not_guessed() {
    // A list of keys of the generation 0x5f000000, a parameter list, capabilities.
    for text in [
        "5f00000000000008 5f00000000000001",
        "00 08 0d 81 ea 01 00 00",
    ] {
        let error = explain(&bytes(text), None, None).unwrap_err();
        assert!(matches!(error, DecodeError::Unknown), "{text}");
        assert_eq!(
            error.advice(),
            ["Say it: --as cdb|sense|parameters|keys|reservation|capabilities|status."]
        );
    }
}

#[test]
fn codes_that_are_not_there_are_not_named() {
    for text in [
        // It ends before them, or says that it does.
        "f0 00 06",
        "70 00 06 00 00 00 00 00 00 00 00 00 29 00",
        "70 00 06 00 00 00 00 0a 00 00 00 00 29",
        "72 06 29",
    ] {
        let found = explained(text, Some(Kind::Sense));
        let summary = found.summary.unwrap();
        assert_eq!(
            summary, "UNIT ATTENTION, without an additional sense code",
            "{text}"
        );
        let qualifier = "ADDITIONAL SENSE CODE QUALIFIER";
        assert!(
            found.fields.iter().all(|field| field.name != qualifier),
            "{text}"
        );
    }
    let found = explained("72 06 29 00", None);
    assert!(found.summary.unwrap().contains("POWER ON"));
}

#[test]
fn a_descriptor_that_is_cut_off_is_a_problem() {
    let found = explained("72 06 2a 05 00 00 00 0c 00 0a 80 00", None);
    assert!(found.summary.unwrap_err().contains("cut off"));
    assert!(explained("72 06 2a 05 00 00 00 00", None).summary.is_ok());
}

#[test]
fn progress_is_in_percent() {
    let found = explained(
        "70 00 02 00 00 00 00 0a 00 00 00 00 04 04 00 80 40 00",
        None,
    );
    assert_eq!(field(&found, "SENSE KEY SPECIFIC").2, "25 percent done");
}

#[test]
fn a_registrant_without_a_name_is_a_problem() {
    let found = explained(
        "00000004 00000018 0000000000123abc 00000000 00 00 00000000 0001 00000000",
        Some(Kind::Status),
    );
    let problem = found.summary.unwrap_err();
    assert!(
        problem.starts_with("TransportID of the registration with key 0x123abc"),
        "{problem}"
    );
}

#[test]
fn keys_and_flags_are_explained_by_the_service_action() {
    let list = format!("{:016x}{:016x}000000000d000000", 1, 0);
    let meaning = |action| {
        let found = explain(&bytes(&list), None, Some(action)).unwrap();
        let meaning = |name| field(&found, name).2.to_owned();
        [meaning("SERVICE ACTION RESERVATION KEY"), meaning("APTPL")]
    };
    for (action, key, aptpl) in [
        (
            OutServiceAction::Register,
            "none: unregisters",
            "yes: kept when power is lost",
        ),
        (
            OutServiceAction::Preempt,
            "all other registrants; only with a reservation of all registrants",
            "ignored here",
        ),
        (OutServiceAction::Release, "ignored here", "ignored here"),
    ] {
        assert_eq!(meaning(action), [key, aptpl], "{action}");
    }
}

/// First and last byte of a place, and the highest bit in it.
fn span(place: &str) -> (usize, usize, u8) {
    let place = place.strip_prefix("list ").unwrap_or(place);
    let (bytes, bits) = place.split_once(", ").unwrap_or((place, "bits 7-0"));
    let number = |text: &str| {
        text.split([' ', '-'])
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let last = bytes.rsplit([' ', '-']).next().unwrap().parse().unwrap();
    (number(bytes), last, number(bits).try_into().unwrap())
}

proptest! {
    #[test]
    fn any_bytes_are_explained_as_anything(
        bytes in prop::collection::vec(any::<u8>(), 1..120),
        start in prop::option::of(prop::sample::select(vec![0x5e, 0x5f, 0x70, 0x72])),
        action in prop::sample::select(OutServiceAction::ALL.to_vec()),
    ) {
        let bytes: Vec<u8> = start.into_iter().chain(bytes).collect();
        for kind in Kind::value_variants() {
            let action = (*kind == Kind::Parameters).then_some(action);
            let found = explain(&bytes, Some(*kind), action);
            let found = found.unwrap();
            prop_assert_eq!(found.kind, *kind);
            // Each field is where bytes are, and behind the one before it.
            let (mut lists, mut before) = (0, None);
            for field in &found.fields {
                let (first, last, high) = span(&field.place);
                let is_in_list = field.place.starts_with("list ");
                if is_in_list && lists == 0 {
                    (lists, before) = (1, None);
                }
                prop_assert!(first <= last || field.value.is_empty(), "{}", field.place);
                prop_assert!(last < bytes.len() || field.value.is_empty(), "{}", field.place);
                let here = (first, 7 - high);
                prop_assert!(before.is_none_or(|before| before <= here), "{:?}", found.fields);
                before = Some(here);
            }
        }
        let _ = explain(&bytes, None, None);
    }
}
