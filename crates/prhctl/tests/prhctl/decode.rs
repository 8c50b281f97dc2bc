//! `decode`, from arguments and from standard input.

use std::path::Path;

use serde_json::json;

use crate::support::{Run, program};

fn run(arguments: &str, input: &str) -> Run {
    Run::of(&mut program(Path::new("/"), arguments), input)
}

#[test]
fn a_cdb_is_explained() {
    let expected = "\
PERSISTENT RESERVE OUT PREEMPT, type Write Exclusive - Registrants Only, parameter list length 24
 PLACE             FIELD                  VALUE  MEANING
 byte 0            OPERATION CODE         0x5f   PERSISTENT RESERVE OUT
 byte 1, bits 4-0  SERVICE ACTION         0x4    PREEMPT
 byte 2, bits 7-4  SCOPE                  0x0    Logical Unit
 byte 2, bits 3-0  TYPE                   0x5    Write Exclusive - Registrants Only
 bytes 5-8         PARAMETER LIST LENGTH  0x18   24 bytes
 byte 9            CONTROL                0x0
";
    assert_eq!(
        run("decode 5f 04 05 00 00 00 00 00 18 00", "").good(),
        expected
    );
    for line in ["decode", "decode -"] {
        assert_eq!(
            run(line, "5f:04:05:00:00:00:00:00:18:00\n").good(),
            expected
        );
    }
}

#[test]
fn an_explanation_is_a_document() {
    let document = run("--json decode 5e000000000000001800", "").json();
    assert_eq!(document["kind"], "cdb");
    assert_eq!(
        document["summary"],
        "PERSISTENT RESERVE IN READ KEYS, allocation length 24"
    );
    assert_eq!(document["problem"], json!(null));
    assert_eq!(
        document["fields"][2],
        json!({
            "place": "bytes 7-8", "name": "ALLOCATION LENGTH", "value": "0x18",
            "meaning": "24 bytes",
        })
    );
}

#[test]
fn wrong_bytes_are_explained_and_wrong() {
    let found = run("decode --as keys 00000001 00000007 00", "");
    assert_eq!((found.status, found.stderr.as_str()), (1, ""));
    assert!(
        found
            .stdout
            .starts_with("wrong keys: length field with the value 7\n"),
        "{found:?}"
    );
    let document = run("--json decode --as keys 00", "").json();
    assert_eq!(document["summary"], json!(null));
    assert_eq!(document["problem"], "parameter data of 1 bytes, 8 needed");
}

#[test]
fn what_cannot_be_explained_is_an_error() {
    for (arguments, input, words) in [
        ("decode", "", "no bytes to explain"),
        ("decode 5e 0x", "", "\"0x\" is not bytes"),
        ("decode", "\u{fffd}\n", "is not bytes"),
        ("decode 00 01", "", "--as cdb|sense|parameters|keys|"),
        ("decode --as parameters 00", "", "--service-action NAME"),
        (
            "decode --as keys --service-action reserve 00",
            "",
            "not with --as keys",
        ),
        ("decode --service-action 9 00", "", "not a service action"),
    ] {
        let said = run(arguments, input).failed(1);
        assert!(said.contains(words), "{arguments}: {said}");
    }
}
