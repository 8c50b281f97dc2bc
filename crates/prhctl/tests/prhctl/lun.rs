// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl lun create`, `list` and `show`.

use std::fs;
use std::path::PathBuf;

use pr_testkit::cdb::{PrCommand, preempt, register, reserve};
use scsi_pr::{ReservationType, Status};
use serde_json::{Value, json};
use soft_lun::store::Lun;
use tempfile::TempDir;

use crate::support::{Run, TestHelper, prhctl};

/// A directory in which prhctl runs.
struct Fixture(TempDir);

impl Fixture {
    fn new() -> Self {
        Fixture(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs prhctl in the directory.
    fn run(&self, arguments: &str) -> Run {
        Run::new(&mut prhctl(self.0.path(), arguments), "")
    }

    /// Runs prhctl, which must print a JSON document and succeed.
    #[track_caller]
    fn document(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.run(&format!("--json {arguments}")).success()).unwrap()
    }
}

/// Sends a command, which must succeed.
fn send(lun: &Lun, port: &str, command: &PrCommand) {
    let executed = lun.execute(
        &port.parse().unwrap(),
        &command.cdb,
        &command.parameter_list,
    );
    assert_eq!(executed.unwrap().response.status, Status::GOOD);
}

#[test]
fn new_lun_has_two_unregistered_ports() {
    let fixture = Fixture::new();
    let lun = fixture.document("lun create quorum");
    assert!(
        lun["identity"].as_str().unwrap().starts_with("naa.3"),
        "{lun}"
    );
    let port = |name: &str, number: u8| {
        json!({
            "name": name,
            "path": format!("quorum/ports/{name}"),
            "transport_id": format!("sas,300000000000000{number}"),
            "relative_target_port": 1,
            "key": null,
            "is_holder": false,
            "may_read": true,
            "may_write": true,
            "unit_attentions": []
        })
    };
    assert_eq!(lun["ports"], json!([port("node1", 1), port("node2", 2)]));
    assert_eq!(
        (&lun["reservation"], &lun["generation"]),
        (&Value::Null, &json!(0))
    );
    assert!(fixture.path("quorum/ports/node1").is_file());
    assert_eq!(fixture.document("lun show quorum"), lun);
}

#[test]
fn create_uses_given_ports_and_features() {
    let fixture = Fixture::new();
    let lun = fixture.document(
        "lun create x --port a=iqn.2024-01.example:a,i,0x00023d000001 --port b@3 \
         --without aptpl --without all-tg-pt --types we-ro,8",
    );
    let ports = lun["ports"].as_array().unwrap();
    assert_eq!(
        ports[0]["transport_id"],
        "iqn.2024-01.example:a,i,0x00023d000001"
    );
    assert_eq!(
        (&ports[1]["transport_id"], &ports[1]["relative_target_port"]),
        (&json!("sas,3000000000000002"), &json!(3))
    );
    let types = [
        "write-exclusive-registrants-only",
        "exclusive-access-all-registrants",
    ];
    let expected = json!({"aptpl": false, "spec_i_pt": true, "all_tg_pt": false, "types": types});
    assert_eq!(lun["supported"], expected);
}

#[test]
fn show_prints_registrations_and_reservation() {
    let fixture = Fixture::new();
    fixture
        .run("lun create quorum --port node1 --port node2 --port other")
        .success();
    let lun = Lun::open(&fixture.path("quorum")).unwrap();
    send(&lun, "node1", &register(0, 0x1001));
    send(&lun, "node2", &register(0, 0x1002));
    let kind = ReservationType::ExclusiveAccessRegistrantsOnly;
    send(&lun, "node1", &reserve(0x1001, kind));
    send(&lun, "node2", &preempt(0x1002, 0x1001, kind));
    let identity = lun.config().unwrap().identity;
    let expected = format!(
        "quorum: soft LUN {identity}
  reservation    Exclusive Access - Registrants Only, held by node2
  generation     0x3
  registrations  do not persist through a power loss
  supports       APTPL SPEC_I_PT ALL_TG_PT we ea we-ro ea-ro we-ar ea-ar

  NAME   KEY     HOLDER  ACCESS  PORT  TRANSPORTID           UNIT ATTENTIONS
  node1  -       -       none    1     sas,3000000000000001  registrations-preempted
  node2  0x1002  yes     rw      1     sas,3000000000000002  -
  other  -       -       none    1     sas,3000000000000003  -
"
    );
    assert_eq!(fixture.run("lun show quorum").success(), expected);
    let list = fixture.run("lun list .").success();
    let expected = " NAME    REGISTERED    RESERVATION
 quorum  1 of 3 ports  Exclusive Access - Registrants Only, held by node2
";
    assert_eq!(list, expected);
    let colored = fixture.run("--color always lun show quorum").success();
    assert!(colored.contains('\u{1b}'));
}

#[test]
fn damaged_lun_does_not_hide_others() {
    let fixture = Fixture::new();
    fixture.run("lun list .").expect_stdout("no soft LUNs\n");
    fixture.run("lun create a").success();
    fixture.run("lun create b").success();
    fs::write(fixture.path("a/state.json"), "{}").unwrap();
    let list = fixture.run("lun list .").success();
    assert!(list.contains("a/state.json is corrupt"), "{list}");
    assert!(list.contains("0 of 2 ports"), "{list}");
    let listed = fixture.document("lun list .");
    assert_eq!(listed["luns"][0]["lun"], Value::Null);
    let message = listed["luns"][0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("a/state.json is corrupt"), "{message}");
    assert_eq!(listed["luns"][1]["error"], Value::Null);
    assert_eq!(listed["luns"][1]["lun"]["path"], "./b");
}

#[test]
fn create_without_parent_is_error() {
    let error = Fixture::new().run("lun create no/such/b").failure(1);
    assert_eq!(
        error,
        "prhctl: cannot open no/such: No such file or directory\n  \
         Create the directory first: mkdir -p no/such.\n"
    );
}

#[test]
fn errors_name_file_and_remedy() {
    let fixture = Fixture::new();
    fixture.run("lun create a").success();
    fixture
        .run("lun create a")
        .expect_failure(1, &["a already exists", "'prhctl lun show'"]);
    fixture
        .run("lun create .b")
        .expect_failure(1, &[".b is not a valid soft LUN name"]);
    let twice = fixture.run("lun create b --port x --port x");
    assert_eq!(
        (twice.status, twice.stderr.as_str()),
        (
            1,
            "prhctl: b: invalid soft LUN configuration: two ports are named x\n"
        )
    );
    fixture
        .run("lun create b --types 2")
        .expect_failure(1, &["not a reservation type"]);
    fixture
        .run("lun show b")
        .expect_failure(1, &["cannot open b", "No such file"]);
    fixture
        .run("lun show .")
        .expect_failure(1, &[". is not a soft LUN: it has no lun.json", "lun list"]);
    fixture
        .run("lun show a/ports/node1")
        .expect_failure(1, &["This is a port of the soft LUN a. Use that path."]);
    fixture
        .run("lun list b")
        .expect_failure(1, &["cannot open b"]);
    let run = fixture.run("lun list a");
    assert_eq!(
        (run.status, run.stdout.as_str(), run.stderr.as_str()),
        (
            0,
            "no soft LUNs\n",
            "prhctl: a is itself a soft LUN; use 'prhctl lun show'\n"
        )
    );
    fs::write(fixture.path("a/state.json"), "{\n\"format\": 1}").unwrap();
    fixture.run("lun show a").expect_failure(
        1,
        &[
            "a/state.json is corrupt",
            "at line 2",
            "move the directory away",
        ],
    );
    let run = fixture.run("--json lun show a");
    assert_eq!(run.status, 1);
    let document = run.json();
    assert_eq!(document["error"]["exit_status"], 1);
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("a/state.json is corrupt"), "{message}");
}

#[test]
fn forged_error_text_is_escaped() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("luns")).unwrap();
    fixture.run("lun create luns/lun").success();
    // The error text repeats the name of a field that is unknown.
    let forged = r#"{"x\nlun2  2 of 2 ports \u001b[2J\u009b\r": 1}"#;
    fs::write(fixture.path("luns/lun/state.json"), forged).unwrap();
    let escaped = r"x\nlun2  2 of 2 ports \u{1b}[2J\u{9b}\r";
    let list = fixture.run("lun list luns").success();
    let show = fixture.run("lun show luns/lun").stderr;
    for text in [list, show] {
        assert!(text.contains(escaped), "{text:?}");
        let is_clean = |line: &str| !line.contains(char::is_control);
        assert!(text.lines().all(is_clean), "{text:?}");
        assert!(!text.contains("\nlun2"), "{text:?}");
    }
}

#[test]
fn registered_lun_is_removed_only_by_force() {
    let helper = TestHelper::start();
    helper.register_both();
    helper
        .run("lun remove luns/lun")
        .expect_failure(1, &["2 of its ports are registered", "--force"]);
    helper
        .run("lun remove luns/lun --force")
        .expect_stdout("luns/lun: removed\n");
    assert!(fs::read_dir(helper.path("luns")).unwrap().next().is_none());
    helper
        .run("lun remove luns")
        .expect_failure(1, &["luns is not a soft LUN: it has no lun.json"]);
}
