// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl decode`, with bytes from arguments and from standard input.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Run, prhctl};

fn run(arguments: &str, input: &str) -> Run {
    Run::new(&mut prhctl(Path::new("/"), arguments), input)
}

/// Returns the document of `prhctl --json decode`.
fn decode(arguments: &str) -> Value {
    run(&format!("--json decode {arguments}"), "").json()
}

/// Returns position, value and meaning of the first field with a name.
#[track_caller]
fn field<'a>(document: &'a Value, name: &str) -> (&'a str, &'a str, &'a str) {
    let fields = document["fields"].as_array().unwrap();
    let field = fields.iter().find(|field| field["name"] == name);
    let field = field.unwrap_or_else(|| panic!("no {name} in {document:#}"));
    let text = |key| field[key].as_str().unwrap();
    (text("position"), text("value"), text("meaning"))
}

#[track_caller]
fn meaning<'a>(document: &'a Value, name: &str) -> &'a str {
    field(document, name).2
}

#[test]
fn cdb_is_table_of_fields() {
    let expected = "\
PERSISTENT RESERVE OUT PREEMPT, type Write Exclusive - Registrants Only, parameter list length 24
 POSITION          FIELD                  VALUE  MEANING
 byte 0            OPERATION CODE         0x5f   PERSISTENT RESERVE OUT
 byte 1, bits 4-0  SERVICE ACTION         0x4    PREEMPT
 byte 2, bits 7-4  SCOPE                  0x0    Logical Unit
 byte 2, bits 3-0  TYPE                   0x5    Write Exclusive - Registrants Only
 bytes 5-8         PARAMETER LIST LENGTH  0x18   24 bytes
 byte 9            CONTROL                0x0
";
    assert_eq!(
        run("decode 5f 04 05 00 00 00 00 00 18 00", "").success(),
        expected
    );
    for line in ["decode", "decode -"] {
        assert_eq!(
            run(line, "5f:04:05:00:00:00:00:00:18:00\n").success(),
            expected
        );
    }
}

#[test]
fn bytes_parse_in_all_notations() {
    let expected = run("decode --as cdb 5e000018", "").stdout;
    for text in [
        "5E 00 00 18",
        "0x5e 0x0 0x00 0x18",
        "0x5e000018",
        "5e:00:00:18",
        " 5e, 0, 0, 18\n",
        "5e00\n0018\n",
    ] {
        assert_eq!(run("decode --as cdb", text).stdout, expected, "{text}");
    }
}

#[test]
fn explanation_is_json_document() {
    let document = decode("5e000000000000001800");
    assert_eq!(document["kind"], "cdb");
    assert_eq!(
        document["summary"],
        "PERSISTENT RESERVE IN READ KEYS, allocation length 24"
    );
    assert_eq!(document["error"], json!(null));
    assert_eq!(
        document["fields"][2],
        json!({
            "position": "bytes 7-8", "name": "ALLOCATION LENGTH", "value": "0x18",
            "meaning": "24 bytes",
        })
    );
}

#[test]
fn malformed_data_is_explained_with_status_1() {
    let found = run("decode --as keys 00000001 00000007 00", "");
    assert_eq!((found.status, found.stderr.as_str()), (1, ""));
    assert!(
        found
            .stdout
            .starts_with("invalid keys: invalid length field 7\n"),
        "{found:?}"
    );
    let document = decode("--as keys 00");
    assert_eq!(document["summary"], json!(null));
    assert_eq!(
        document["error"]["message"],
        "parameter data too short: 1 of 8 bytes"
    );
}

#[test]
fn unusable_input_is_error() {
    for (arguments, input, fragment) in [
        ("decode", "", "no bytes to explain"),
        ("decode", " , ", "no bytes to explain"),
        ("decode 5e 0x", "", "\"0x\" is not a sequence of"),
        ("decode 5e 0g", "", "\"0g\" is not"),
        ("decode 5e 123", "", "\"123\" is not"),
        ("decode", "\u{fffd}\n", "is not a sequence of"),
        ("decode 00 01", "", "--as cdb|sense|parameters|keys|"),
        ("decode --as parameters 00", "", "--service-action NAME"),
        ("decode --as parameters 00", "", "register-and-move"),
        (
            "decode --as keys --service-action reserve 00",
            "",
            "cannot be used with --as keys",
        ),
        ("decode --service-action 9 00", "", "not a service action"),
    ] {
        run(arguments, input).expect_failure(1, &[fragment]);
    }
}

#[test]
fn ambiguous_bytes_are_not_guessed() {
    for line in [
        // A list of keys with generation 0x5f000000, or a parameter list.
        "decode 5f000000000000085f00000000000001",
        // Capabilities.
        "decode 00080d81ea010000",
    ] {
        let stderr = run(line, "").failure(1);
        assert_eq!(
            stderr,
            "prhctl: cannot determine what these bytes are\n  \
             Use --as cdb|sense|parameters|keys|reservation|capabilities|status.\n"
        );
    }
}

#[test]
fn parameter_list_after_cdb_is_explained() {
    let list = "00000000000000000000000000123abc0000000001000000";
    for cdb in ["5f000000000000001800", "5f000000000000001800000000000000"] {
        let document = decode(&format!("{cdb}{list}"));
        let summary = document["summary"].as_str().unwrap();
        assert!(
            summary.ends_with("; key 0x0, service action key 0x123abc, APTPL"),
            "{summary}"
        );
        assert_eq!(
            field(&document, "SERVICE ACTION RESERVATION KEY"),
            ("list bytes 8-15", "0x123abc", "new key")
        );
        assert_eq!(
            field(&document, "APTPL"),
            (
                "list byte 20, bit 0",
                "0x1",
                "persist through a power loss: yes"
            )
        );
        assert_eq!(meaning(&document, "TYPE"), "ignored");
    }
}

#[test]
fn register_and_move_list_is_explained() {
    let document = decode(
        "--service-action 7 00000000000000010000000000000002 00020003 00000018 \
         06000000 5000c50005b32001 000000000000000000000000",
    );
    assert_eq!(document["kind"], "parameters");
    assert_eq!(
        document["summary"],
        "key 0x1, service action key 0x2, UNREG, to sas,5000c50005b32001 at target port 3"
    );
    assert_eq!(meaning(&document, "TransportID"), "sas,5000c50005b32001");
}

#[test]
fn specified_initiator_ports_are_explained() {
    let id = "060000005000c50005b32001000000000000000000000000";
    let keys = "0".repeat(32);
    let document = decode(&format!(
        "--service-action register {keys} 00000000 08 000000 00000030 {id} {id}"
    ));
    let fields = document["fields"].as_array().unwrap();
    let ids = fields.iter().filter(|field| field["name"] == "TransportID");
    assert_eq!(ids.count(), 2);
    assert_eq!(document["error"], json!(null));
}

#[test]
fn keys_and_flags_depend_on_service_action() {
    for (action, key, aptpl) in [
        (
            "register",
            "none: unregister",
            "persist through a power loss: yes",
        ),
        (
            "preempt",
            "all other registrants; valid only with an all registrants reservation",
            "ignored",
        ),
        ("release", "ignored", "ignored"),
    ] {
        let document = decode(&format!(
            "--service-action {action} 00000000000000010000000000000000000000000d000000"
        ));
        assert_eq!(meaning(&document, "SERVICE ACTION RESERVATION KEY"), key);
        assert_eq!(meaning(&document, "APTPL"), aptpl, "{action}");
    }
}

#[test]
fn fixed_sense_is_explained() {
    let document = decode("70 00 05 00 00 00 00 0a 00 00 00 00 26 04 00 cf 00 02");
    assert_eq!(document["kind"], "sense");
    assert_eq!(meaning(&document, "VALID"), "INFORMATION is valid: no");
    assert_eq!(meaning(&document, "SENSE KEY"), "ILLEGAL REQUEST");
    assert_eq!(
        field(&document, "ADDITIONAL SENSE CODE QUALIFIER"),
        (
            "byte 13",
            "0x4",
            "INVALID RELEASE OF PERSISTENT RESERVATION"
        )
    );
    assert_eq!(
        meaning(&document, "SENSE KEY SPECIFIC"),
        "wrong: CDB byte 2 bit 7"
    );

    let document = decode("70 00 02 00 00 00 00 0a 00 00 00 00 04 04 00 80 40 00");
    assert_eq!(meaning(&document, "SENSE KEY SPECIFIC"), "25 percent done");
}

#[test]
fn descriptor_sense_is_explained() {
    let document = decode("72 06 2a 05 00 00 00 0c 00 0a 80 00 00 00 00 00 00 00 00 07");
    assert_eq!(meaning(&document, "(descriptor)"), "0x7");
    assert_eq!(
        document["summary"],
        "UNIT ATTENTION, REGISTRATIONS PREEMPTED (6/2a/05), information 0x7"
    );

    let document = decode("72 06 2a 05 00 00 00 0c 00 0a 80 00");
    let problem = document["error"]["message"].as_str().unwrap();
    assert!(problem.contains("truncated"), "{problem}");
    assert_eq!(decode("72 06 2a 05 00 00 00 00")["error"], json!(null));
}

#[test]
fn missing_sense_code_is_not_named() {
    for bytes in [
        // The data or the additional sense length end before the code.
        "f0 00 06",
        "70 00 06 00 00 00 00 00 00 00 00 00 29 00",
        "70 00 06 00 00 00 00 0a 00 00 00 00 29",
        "72 06 29",
    ] {
        let document = decode(&format!("--as sense {bytes}"));
        assert_eq!(
            document["summary"], "UNIT ATTENTION, without an additional sense code",
            "{bytes}"
        );
        let fields = document["fields"].as_array().unwrap();
        let mut names = fields.iter().map(|field| &field["name"]);
        assert!(
            names.all(|name| name != "ADDITIONAL SENSE CODE QUALIFIER"),
            "{bytes}"
        );
    }
    let summary = &decode("72 06 29 00")["summary"];
    assert!(summary.as_str().unwrap().contains("POWER ON"), "{summary}");
}

#[test]
fn parameter_data_is_explained() {
    let keys = decode("--as keys 00000004 00000010 0000000000123abc 0000000000000456");
    assert_eq!(keys["summary"], "generation 0x4, 2 keys 0x123abc 0x456");
    assert_eq!(keys["fields"].as_array().unwrap().len(), 4);

    let reservation =
        decode("--as reservation 00000004 00000010 0000000000123abc 00000000 00 05 0000");
    assert_eq!(
        meaning(&reservation, "TYPE"),
        "Write Exclusive - Registrants Only"
    );

    let capabilities = decode("--as capabilities 0008 1d 81 ea01 0000");
    assert_eq!(
        field(&capabilities, "PTPL_A"),
        (
            "byte 3, bit 0",
            "0x1",
            "persists through a power loss now: yes"
        )
    );
    assert_eq!(
        meaning(&capabilities, "RLR_C"),
        "supports REPLACE LOST RESERVATION: no"
    );

    let status = decode(
        "--as status 00000004 00000030 0000000000123abc 00000000 01 05 00000000 0001 00000018 \
         06000000 5000c50005b32001 000000000000000000000000",
    );
    assert_eq!(meaning(&status, "R_HOLDER"), "holds the reservation: yes");
    assert_eq!(field(&status, "TransportID").0, "bytes 32-55");
}

#[test]
fn malformed_cdb_is_explained_up_to_fault() {
    let document = decode("--as cdb 5f 1f 00");
    assert_eq!(document["error"]["message"], "CDB too short: 3 of 10 bytes");
    assert_eq!(document["fields"].as_array().unwrap().len(), 4);
    for (bytes, fragment) in [
        ("5f 1f 00 00 00 00 00 00 18 00", "reserved"),
        (
            "--as cdb 5f 00 00 00 00 00 00 00 18 00 01",
            "neither padding",
        ),
    ] {
        let document = decode(bytes);
        let problem = document["error"]["message"].as_str().unwrap();
        assert!(problem.contains(fragment), "{problem}");
    }
}

#[test]
fn malformed_transport_id_is_problem() {
    let document = decode(
        "--as status 00000004 00000018 0000000000123abc 00000000 00 00 00000000 0001 00000000",
    );
    let problem = document["error"]["message"].as_str().unwrap();
    assert!(
        problem.starts_with("TransportID of the registration with key 0x123abc"),
        "{problem}"
    );
}
