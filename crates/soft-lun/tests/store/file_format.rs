// SPDX-License-Identifier: MIT OR Apache-2.0

//! The exact format of the files, which people and later versions must be able to read.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use pr_testkit::cdb::{preempt, reserve};
use pr_testkit::soft_lun::{port, two_ports};
use scsi_pr::{ReservationType, TransportId, TypeMask};
use soft_lun::SupportedFeatures;
use soft_lun::store::{Lun, Port, StoreError};

use crate::support::{Fixture, KEY_A, KEY_B, register};

fn sas_port(name: &str, sas_address: u64, target_port: u16) -> Port {
    port(name, TransportId::Sas { sas_address }, target_port)
}

fn boot_id() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    boot.trim_end().into()
}

#[test]
fn create_makes_files_with_modes() {
    let fixture = Fixture::new();
    let mut names: Vec<_> = fs::read_dir(fixture.lun.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["lock", "lun.json", "ports", "state.json"]);
    for (name, max_mode) in [
        ("lock", 0o600),
        ("lun.json", 0o644),
        ("ports/a", 0o660),
        ("ports/b", 0o660),
    ] {
        let metadata = fs::metadata(fixture.file(name)).unwrap();
        assert_eq!(
            metadata.permissions().mode() & 0o777 & !max_mode,
            0,
            "{name}"
        );
        assert_eq!(metadata.len() == 0, name != "lun.json", "{name}");
    }
    let left: Vec<_> = fs::read_dir(fixture.dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn config_file_has_documented_format() {
    let fixture = Fixture::new();
    let identity = fixture.lun.config().unwrap().identity;
    let expected = format!(
        r#"{{
  "format": "soft-lun 1",
  "identity": "{identity}",
  "ports": [
    {{
      "name": "a",
      "initiator": "sas,300000000000000a",
      "target_port": 1
    }},
    {{
      "name": "b",
      "initiator": "sas,300000000000000b",
      "target_port": 2
    }}
  ],
  "supported": {{
    "aptpl": true,
    "spec_i_pt": true,
    "all_tg_pt": true,
    "types": [
      "write-exclusive",
      "exclusive-access",
      "write-exclusive-registrants-only",
      "exclusive-access-registrants-only",
      "write-exclusive-all-registrants",
      "exclusive-access-all-registrants"
    ]
  }}
}}
"#
    );
    assert_eq!(fixture.content("lun.json"), expected);
    assert_eq!(identity.get() >> 60, 3);
}

#[test]
fn state_file_has_documented_format() {
    let fixture = Fixture::new();
    let identity = fixture.lun.config().unwrap().identity;
    let kind = ReservationType::ExclusiveAccess;
    fixture.expect_good("a", &register(KEY_A, true));
    fixture.expect_good("b", &register(KEY_B, true));
    fixture.expect_good("a", &reserve(KEY_A, kind));
    fixture.expect_good("b", &preempt(KEY_B, KEY_A, kind));
    let expected = format!(
        r#"{{
  "format": "soft-lun-state 1",
  "identity": "{identity}",
  "boot": "{}",
  "generation": 3,
  "aptpl": true,
  "reservation": {{
    "type": "exclusive-access",
    "holder": "b"
  }},
  "registrations": [
    {{
      "port": "b",
      "key": "0xbbbb",
      "all_tg_pt": false
    }}
  ],
  "attentions": [
    {{
      "port": "a",
      "attention": "registrations-preempted"
    }}
  ]
}}
"#,
        boot_id()
    );
    assert_eq!(fixture.content("state.json"), expected);
}

#[test]
fn state_file_is_replaced_not_overwritten() {
    let fixture = Fixture::new();
    let inode = || fs::metadata(fixture.file("state.json")).unwrap().ino();
    let before = (fs::File::open(fixture.file("state.json")).unwrap(), inode());
    fixture.expect_good("a", &register(KEY_A, false));
    // The old file is still open, so the file system cannot reuse its inode number.
    assert_ne!(inode(), before.1);
    assert!(!fixture.file("state.json.new").exists());
}

#[test]
fn replaced_state_file_keeps_mode() {
    let fixture = Fixture::new();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for expected in [0o600, 0o664] {
        let permissions = fs::Permissions::from_mode(expected);
        fs::set_permissions(fixture.file("state.json"), permissions).unwrap();
        fixture.expect_good("a", &register(u64::from(expected), false));
        assert_eq!(mode(fixture.file("state.json")), expected);
    }
}

#[test]
fn concurrent_create_makes_one_complete_lun() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = dir.path().join(format!("lun{round}"));
        let create = || Lun::create(&path, two_ports(), SupportedFeatures::default());
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(create);
            (create(), second.join().unwrap())
        });
        assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1);
        for error in [first.as_ref().err(), second.as_ref().err()]
            .into_iter()
            .flatten()
        {
            assert!(matches!(error, StoreError::Exists(_)), "{error}");
        }
        Lun::open(&path).unwrap().load().unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 50);
}

#[test]
fn max_ports_fit_into_state_file() {
    let dir = tempfile::tempdir().unwrap();
    let ports = |count: u16| -> Vec<_> {
        let port = |number: u16| {
            let name = format!("{number:064}");
            sas_port(&name, number.into(), u16::MAX)
        };
        (1..=count).map(port).collect()
    };
    let create = |name: &str, count| {
        Lun::create(
            &dir.path().join(name),
            ports(count),
            SupportedFeatures::default(),
        )
    };
    let error = create("more", 1025).unwrap_err();
    assert!(matches!(error, StoreError::Config { .. }), "{error}");
    let lun = create("most", 1024).unwrap();
    // All ports are registered, and all unit attentions are pending for each of them.
    let config = lun.config().unwrap();
    let mut unit = config.unit().unwrap();
    let nexuses: Vec<_> = unit.nexuses().map(|(nexus, _)| nexus).collect();
    let snapshot = soft_lun::Snapshot {
        registrations: nexuses
            .iter()
            .map(|nexus| soft_lun::Registration {
                nexus: *nexus,
                key: u64::MAX.into(),
                all_tg_pt: false,
            })
            .collect(),
        unit_attentions: nexuses
            .iter()
            .flat_map(|nexus| soft_lun::UnitAttention::ALL.map(|attention| (*nexus, attention)))
            .collect(),
        ..soft_lun::Snapshot::default()
    };
    unit.restore(&snapshot).unwrap();
    let state_file = soft_lun::store::StateFile::from_unit(&config, "boot", &unit).unwrap();
    let content = String::from_utf8(state_file.to_json().unwrap()).unwrap();
    let content = content.replace(
        "\"boot\": \"boot\"",
        &format!("\"boot\": \"{}\"", boot_id()),
    );
    fs::write(lun.path().join("state.json"), content).unwrap();
    assert_eq!(lun.load().unwrap(), unit);
}

#[test]
fn supported_features_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let supported = SupportedFeatures {
        persist_through_power_loss: false,
        specify_initiator_ports: true,
        all_target_ports: false,
        types: TypeMask::default().with(ReservationType::WriteExclusiveAllRegistrants),
    };
    let lun = Lun::create(&dir.path().join("x"), two_ports(), supported).unwrap();
    assert_eq!(lun.config().unwrap().supported_features, supported);
    assert_eq!(lun.load().unwrap().supported_features(), supported);
}

#[test]
fn failed_create_makes_nothing() {
    let fixture = Fixture::new();
    let state = fixture.content("state.json");
    let create = |name: &str, ports| {
        let path = fixture.dir.path().join(name);
        Lun::create(&path, ports, SupportedFeatures::default()).unwrap_err()
    };
    assert!(matches!(create("lun", two_ports()), StoreError::Exists(_)));
    assert!(matches!(
        create(".lun", two_ports()),
        StoreError::Name { .. }
    ));
    let twice = vec![sas_port("a", 1, 1), sas_port("a", 2, 1)];
    assert!(matches!(create("twice", twice), StoreError::Config { .. }));
    let same = vec![sas_port("a", 1, 1), sas_port("b", 1, 1)];
    assert!(matches!(create("same", same), StoreError::Config { .. }));
    assert!(matches!(
        create("missing/lun", two_ports()),
        StoreError::Io { .. }
    ));
    assert_eq!(fixture.content("state.json"), state);
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 1);
}
