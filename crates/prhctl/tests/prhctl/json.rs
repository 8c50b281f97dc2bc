// SPDX-License-Identifier: MIT OR Apache-2.0

//! JSON documents.

use serde_json::json;

use crate::fake::{FakeHelper, Response, check_condition};
use crate::support::TestHelper;

#[test]
fn query_results_are_documents() {
    let helper = TestHelper::start();
    helper
        .run("register a --key 0x123abc --all-target-ports")
        .success();
    helper.run("register b --key b").success();
    helper.run("reserve b --key b --type we-ro").success();
    let reservation = json!({
        "type": "write-exclusive-registrants-only", "type_code": 5,
        "scope": "logical-unit", "scope_code": 0,
    });
    assert_eq!(
        helper.run("--json keys a").json(),
        json!({
            "device": "a", "generation": 2, "keys": ["0x123abc", "0xb"], "missing_bytes": 0,
            "part_of": null, "unit_attentions": [],
        })
    );
    let mut held = reservation.clone();
    held["key"] = json!("0xb");
    assert_eq!(
        helper.run("reservation a --json").json(),
        json!({
            "device": "a", "generation": 2, "reservation": held, "part_of": null,
            "unit_attentions": [],
        })
    );
    assert_eq!(
        helper.run("--json status a").json(),
        json!({
            "device": "a", "generation": 2, "missing_bytes": 0, "paths": null, "part_of": null,
            "unit_attentions": [],
            "registrations": [
                {
                    "key": "0x123abc", "is_holder": false, "reservation": null,
                    "all_target_ports": true, "relative_target_port": null,
                    "transport_id": "sas,5001405000000001", "owner": "this-path",
                },
                {
                    "key": "0xb", "is_holder": true, "reservation": reservation,
                    "all_target_ports": false, "relative_target_port": 2,
                    "transport_id": "iqn.2024-01.example:b,i,0x00023d000001", "owner": "other-host",
                },
            ],
        })
    );
    let capabilities = helper.run("--json capabilities a").json();
    assert_eq!(
        capabilities["types"],
        json!([
            "write-exclusive",
            "exclusive-access",
            "write-exclusive-registrants-only",
            "exclusive-access-registrants-only",
            "write-exclusive-all-registrants",
            "exclusive-access-all-registrants",
        ])
    );
    assert_eq!(capabilities["all_target_ports"], true);
    assert_eq!(capabilities["persist_through_power_loss_active"], false);
    assert_eq!(capabilities["allow_commands"], 1);
}

#[test]
fn absent_holder_is_null() {
    let helper = TestHelper::start();
    assert_eq!(
        helper.run("--json reservation a").json()["reservation"],
        json!(null)
    );
    helper.run("register a --key a").success();
    helper.run("reserve a --key a --type ea-ar").success();
    let found = helper.run("--json reservation a").json();
    assert_eq!(
        found["reservation"],
        json!({
            "key": null, "type": "exclusive-access-all-registrants", "type_code": 8,
            "scope": "logical-unit", "scope_code": 0,
        })
    );
}

#[test]
fn change_results_are_documents() {
    let helper = TestHelper::start();
    let changed = |line: &str, action: &str, changed: bool| {
        let run = helper.run(&format!("--json {line}"));
        let status = if changed { 0 } else { 36 };
        assert_eq!((run.status, run.stderr.as_str()), (status, ""), "{run:?}");
        assert_eq!(
            run.json(),
            json!({
                "device": "a", "service_action": action, "changed": changed, "part_of": null,
                "unit_attentions": [],
            })
        );
    };
    changed("register a --key 1", "register", true);
    changed(
        "register a --key 2 --ignore-existing",
        "register-and-ignore-existing-key",
        true,
    );
    changed("release a --key 2", "release", false);
    changed("reserve a --key 2 --type we", "reserve", true);
    changed("release a --key 2", "release", true);
    helper.run("register b --key b").success();
    changed("preempt a --key 2 --victim b --type we", "preempt", true);
    changed("unregister a --key 2", "register", true);
    changed("register a --key 2", "register", true);
    changed("clear a --key 2", "clear", true);
}

#[test]
fn unit_attentions_are_listed() {
    let fake = FakeHelper::start(|number, _| match number {
        0 => check_condition(6, 0x2a, 0x03),
        _ => Response::Data(vec![0; 8]),
    });
    let run = fake.run("--json keys disk");
    assert_eq!(run.status, 0);
    assert_eq!(
        run.json()["unit_attentions"],
        json!([{
            "sense_key": 6, "sense_key_name": "UNIT ATTENTION", "asc": 0x2a, "ascq": 3,
            "additional_sense_name": "RESERVATIONS PREEMPTED", "deferred": false,
            "information": null, "field_pointer": null,
        }])
    );
}

#[test]
fn error_lists_unit_attentions() {
    let fake = FakeHelper::start(|number, _| match number {
        0 => check_condition(6, 0x29, 0x00),
        _ => check_condition(6, 0x2a, 0x05),
    });
    let document = fake.run("--json clear disk --key 1").json();
    assert_eq!(document["error"]["exit_status"], 6);
    let attentions = document["unit_attentions"].as_array().unwrap();
    let names: Vec<_> = attentions.iter().map(|one| &one["asc"]).collect();
    assert_eq!(names, [0x29, 0x2a]);
}

#[test]
fn errors_are_documents() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we").success();
    let run = helper.run("--json reserve b --key b --type we");
    assert_eq!(run.status, 24);
    assert!(
        run.stderr.starts_with("prhctl: b: RESERVE ended with"),
        "{run:?}"
    );
    let mut document = run.json();
    let advice = document["error"]["advice"].take();
    assert_eq!(advice[0], "registered keys: 0xa 0xb");
    assert_eq!(
        document,
        json!({ "device": "b", "part_of": null, "unit_attentions": [], "error": {
            "message": "b: RESERVE ended with RESERVATION CONFLICT",
            "advice": null,
            "exit_status": 24,
            "status": { "code": 0x18, "name": "RESERVATION CONFLICT" },
            "sense": null,
            "conflict": {
                "keys": ["0xa", "0xb"],
                "reservation": {
                    "key": "0xa", "type": "write-exclusive", "type_code": 1,
                    "scope": "logical-unit", "scope_code": 0,
                },
            },
        }})
    );

    let run = helper.run("--json keys /dev/null");
    assert_eq!(run.status, 11);
    let error = &run.json()["error"];
    assert_eq!(
        error["status"],
        json!({ "code": 2, "name": "CHECK CONDITION" })
    );
    assert_eq!(error["sense"]["sense_key"], 11);
    assert_eq!(
        error["sense"]["additional_sense_name"],
        "I/O PROCESS TERMINATED"
    );

    let run = helper.run("--json lun show none");
    assert_eq!(run.json()["device"], json!(null));

    let run = helper.run("--json keys none");
    assert_eq!(run.status, 1);
    assert_eq!(run.json()["device"], "none");
    let error = &run.json()["error"];
    assert_eq!(
        (&error["exit_status"], &error["status"]),
        (&json!(1), &json!(null))
    );
}

#[test]
fn field_pointer_is_object() {
    let fake = FakeHelper::start(|_, _| {
        let sense = vec![
            0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 2,
        ];
        Response::Status(2, sense, Vec::new())
    });
    let run = fake.run("--json keys disk");
    assert_eq!(run.status, 5);
    let pointer = &run.json()["error"]["sense"]["field_pointer"];
    assert_eq!(*pointer, json!({ "in_cdb": true, "byte": 2, "bit": 7 }));
}
