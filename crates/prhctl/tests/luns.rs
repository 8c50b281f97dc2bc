//! `prhctl lun`: made, listed, shown, and what is wrong said.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use soft_lun::store::Lun;
use tempfile::TempDir;

struct Said {
    status: Option<i32>,
    out: String,
    err: String,
}

struct Play(TempDir);

impl Play {
    fn new() -> Self {
        Play(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `prhctl` in the folder.
    fn run(&self, arguments: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_prhctl"))
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap();
        Said {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(
            (said.status, said.err.as_str()),
            (Some(0), ""),
            "{}",
            said.out
        );
        said.out
    }

    #[track_caller]
    fn document(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(arguments)).unwrap()
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], words: &[&str]) {
        let said = self.run(arguments);
        assert_eq!((said.status, said.out.as_str()), (Some(1), ""));
        for words in words {
            assert!(said.err.contains(words), "{words}: {}", said.err);
        }
    }
}

/// Sends REGISTER AND IGNORE EXISTING KEY, or RESERVE.
fn send(lun: &Lun, port: &str, service_action: u8, kind: u8, key: u64, action_key: u64) {
    let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
    list.resize(24, 0);
    let cdb = [0x5f, service_action, kind, 0, 0, 0, 0, 0, 24, 0];
    let answer = lun
        .execute(&port.parse().unwrap(), &cdb, &list)
        .unwrap()
        .response;
    assert_eq!(answer.status.0, 0, "{answer:?}");
}

#[test]
fn a_new_one_has_two_ports_and_nothing_else() {
    let play = Play::new();
    let lun = play.document(&["--json", "lun", "create", "quorum"]);
    assert!(
        lun["identity"].as_str().unwrap().starts_with("naa.3"),
        "{lun}"
    );
    let port = |name: &str, number: u8| {
        json!({
            "name": name,
            "path": format!("quorum/ports/{name}"),
            "initiator": format!("sas,300000000000000{number}"),
            "target_port": 1,
            "key": null,
            "is_holder": false,
            "may_read": true,
            "may_write": true,
            "attentions": []
        })
    };
    assert_eq!(lun["ports"], json!([port("node1", 1), port("node2", 2)]));
    assert_eq!(
        (&lun["reservation"], &lun["generation"]),
        (&Value::Null, &json!(0))
    );
    assert!(play.path("quorum/ports/node1").is_file());
    assert_eq!(play.document(&["--json", "lun", "show", "quorum"]), lun);
}

#[test]
fn ports_and_support_are_as_they_are_given() {
    let play = Play::new();
    let lun = play.document(&[
        "--json",
        "lun",
        "create",
        "x",
        "--port",
        "a=iqn.2024-01.example:a,i,0x00023d000001",
        "--port",
        "b@3",
        "--without",
        "aptpl",
        "--without",
        "all-tg-pt",
        "--types",
        "we-ro,8",
    ]);
    let ports = lun["ports"].as_array().unwrap();
    assert_eq!(
        ports[0]["initiator"],
        "iqn.2024-01.example:a,i,0x00023d000001"
    );
    assert_eq!(
        (&ports[1]["initiator"], &ports[1]["target_port"]),
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
fn what_is_registered_and_reserved_is_shown() {
    let play = Play::new();
    play.good(&[
        "lun", "create", "quorum", "--port", "node1", "--port", "node2", "--port", "other",
    ]);
    let lun = Lun::open(&play.path("quorum")).unwrap();
    send(&lun, "node1", 6, 0, 0, 0x1001);
    send(&lun, "node2", 6, 0, 0, 0x1002);
    send(&lun, "node1", 1, 6, 0x1001, 0);
    // PREEMPT
    send(&lun, "node2", 4, 6, 0x1002, 0x1001);
    let identity = lun.config().unwrap().identity;
    let expected = format!(
        "quorum: soft LUN {identity}
  reservation    Exclusive Access - Registrants Only, held by node2
  generation     0x3
  registrations  do not outlast a loss of power
  supports       APTPL SPEC_I_PT ALL_TG_PT we ea we-ro ea-ro we-ar ea-ar

  PORT   KEY     HOLDER  MAY          TOLD NEXT                TARGET PORT  INITIATOR PORT
  node1  -       -       nothing      registrations-preempted  1            sas,3000000000000001
  node2  0x1002  yes     read, write  -                        1            sas,3000000000000002
  other  -       -       nothing      -                        1            sas,3000000000000003
"
    );
    assert_eq!(play.good(&["lun", "show", "quorum"]), expected);
    let list = play.good(&["lun", "list", "."]);
    let expected = " NAME    REGISTERED    RESERVATION
 quorum  1 of 3 ports  Exclusive Access - Registrants Only, held by node2
";
    assert_eq!(list, expected);
    let coloured = play.good(&["--color", "always", "lun", "show", "quorum"]);
    assert!(coloured.contains('\u{1b}'));
}

#[test]
fn one_that_is_damaged_does_not_hide_the_others() {
    let play = Play::new();
    assert_eq!(play.good(&["lun", "list", "."]), "no soft LUNs\n");
    play.good(&["lun", "create", "a"]);
    play.good(&["lun", "create", "b"]);
    fs::write(play.path("a/state.json"), "{}").unwrap();
    let list = play.good(&["lun", "list", "."]);
    assert!(list.contains("a/state.json is corrupt"), "{list}");
    assert!(list.contains("0 of 2 ports"), "{list}");
    let listed = play.document(&["--json", "lun", "list", "."]);
    assert_eq!(listed["luns"][0]["lun"], Value::Null);
    assert_eq!(listed["luns"][1]["problem"], Value::Null);
    assert_eq!(listed["luns"][1]["lun"]["path"], "./b");
}

#[test]
fn errors_name_the_file_and_say_what_to_do() {
    let play = Play::new();
    play.good(&["lun", "create", "a"]);
    play.fails(
        &["lun", "create", "a"],
        &["a already exists", "'prhctl lun show'"],
    );
    play.fails(
        &["lun", "create", ".b"],
        &[".b is not a valid soft LUN name"],
    );
    play.fails(
        &["lun", "create", "no/b"],
        &["cannot open no: No such file"],
    );
    let twice = play.run(&["lun", "create", "b", "--port", "x", "--port", "x"]);
    assert_eq!(
        (twice.status, twice.err.as_str()),
        (
            Some(1),
            "prhctl: b: invalid soft LUN configuration: two ports are named x\n"
        )
    );
    play.fails(&["lun", "create", "b", "--types", "2"], &["not a type"]);
    play.fails(&["lun", "show", "b"], &["cannot open b", "No such file"]);
    play.fails(
        &["lun", "show", "."],
        &[". is not a soft LUN: it has no lun.json", "lun list"],
    );
    play.fails(&["lun", "list", "b"], &["cannot open b"]);
    let said = play.run(&["lun", "list", "a"]);
    assert_eq!(
        (said.status, said.out.as_str(), said.err.as_str()),
        (
            Some(0),
            "no soft LUNs\n",
            "prhctl: a is itself a soft LUN: 'prhctl lun show' shows it\n"
        )
    );
    fs::write(play.path("a/state.json"), "{\n\"format\": 1}").unwrap();
    play.fails(
        &["lun", "show", "a"],
        &[
            "a/state.json is corrupt",
            "at line 2",
            "remove the soft LUN's folder",
        ],
    );
    let said = play.run(&["--json", "lun", "show", "a"]);
    assert_eq!(said.status, Some(1));
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["error"]["exit_status"], 1);
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("a/state.json is corrupt"), "{message}");
}

#[test]
fn forged_error_text_is_escaped() {
    let play = Play::new();
    fs::create_dir(play.path("luns")).unwrap();
    play.good(&["lun", "create", "luns/lun"]);
    // The error text repeats the name of a field that is unknown.
    let forged = r#"{"x\nlun2  2 of 2 ports \u001b[2J\u009b\r": 1}"#;
    fs::write(play.path("luns/lun/state.json"), forged).unwrap();
    let escaped = r"x\nlun2  2 of 2 ports \u{1b}[2J\u{9b}\r";
    let list = play.good(&["lun", "list", "luns"]);
    let show = play.run(&["lun", "show", "luns/lun"]).err;
    for text in [list, show] {
        assert!(text.contains(escaped), "{text:?}");
        let is_clean = |line: &str| !line.contains(char::is_control);
        assert!(text.lines().all(is_clean), "{text:?}");
        assert!(!text.contains("\nlun2"), "{text:?}");
    }
}
