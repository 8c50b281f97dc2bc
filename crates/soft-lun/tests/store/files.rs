//! What the files look like, to the letter: people read them, and later versions must.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use scsi_pr::{ReservationType, TypeMask};
use soft_lun::SupportedFeatures;
use soft_lun::store::{Lun, StoreError};

use crate::support::{KEY_A, KEY_B, Scratch, port, ports, preempt, register, reserve};

fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    boot.trim_end().into()
}

#[test]
fn a_new_one_has_these_files() {
    let scratch = Scratch::new();
    let mut names: Vec<_> = fs::read_dir(scratch.lun.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["lock", "lun.json", "ports", "state.json"]);
    for (name, most) in [
        ("lock", 0o600),
        ("lun.json", 0o644),
        ("ports/a", 0o660),
        ("ports/b", 0o660),
    ] {
        let metadata = fs::metadata(scratch.file(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777 & !most, 0, "{name}");
        assert_eq!(metadata.len() == 0, name != "lun.json", "{name}");
    }
    let left: Vec<_> = fs::read_dir(scratch.folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn the_description_is_this_text() {
    let scratch = Scratch::new();
    let identity = scratch.lun.config().unwrap().identity;
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
    assert_eq!(scratch.content("lun.json"), expected);
    assert_eq!(identity.get() >> 60, 3);
}

#[test]
fn the_state_is_this_text() {
    let scratch = Scratch::new();
    let identity = scratch.lun.config().unwrap().identity;
    let kind = ReservationType::ExclusiveAccess;
    scratch.good("a", &register(KEY_A, true));
    scratch.good("b", &register(KEY_B, true));
    scratch.good("a", &reserve(KEY_A, kind));
    scratch.good("b", &preempt(KEY_B, KEY_A, kind));
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
        boot()
    );
    assert_eq!(scratch.content("state.json"), expected);
}

#[test]
fn a_state_is_replaced_and_never_written_over() {
    let scratch = Scratch::new();
    let inode = || fs::metadata(scratch.file("state.json")).unwrap().ino();
    let before = (fs::File::open(scratch.file("state.json")).unwrap(), inode());
    scratch.good("a", &register(KEY_A, false));
    // The old file is still open, so its number is not used again.
    assert_ne!(inode(), before.1);
    assert!(!scratch.file("state.json.new").exists());
}

#[test]
fn a_new_state_has_the_mode_of_the_old_one() {
    let scratch = Scratch::new();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for expected in [0o600, 0o664] {
        let permissions = fs::Permissions::from_mode(expected);
        fs::set_permissions(scratch.file("state.json"), permissions).unwrap();
        scratch.good("a", &register(u64::from(expected), false));
        assert_eq!(mode(scratch.file("state.json")), expected);
    }
}

#[test]
fn of_two_that_are_made_at_once_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = folder.path().join(format!("lun{round}"));
        let create = || Lun::create(&path, ports(), SupportedFeatures::default());
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(create);
            (create(), other.join().unwrap())
        });
        assert_eq!(u8::from(one.is_ok()) + u8::from(other.is_ok()), 1);
        for refused in [one.as_ref().err(), other.as_ref().err()]
            .into_iter()
            .flatten()
        {
            assert!(matches!(refused, StoreError::Exists(_)), "{refused}");
        }
        Lun::open(&path).unwrap().load().unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 50);
}

#[test]
fn there_is_a_most_of_ports_and_all_of_them_fit() {
    let folder = tempfile::tempdir().unwrap();
    let ports = |count: u16| -> Vec<_> {
        let port = |number: u16| {
            let name = format!("{number:064}");
            port(&name, number.into(), u16::MAX)
        };
        (1..=count).map(port).collect()
    };
    let create = |name: &str, count| {
        Lun::create(
            &folder.path().join(name),
            ports(count),
            SupportedFeatures::default(),
        )
    };
    let error = create("more", 1025).unwrap_err();
    assert!(matches!(error, StoreError::Config { .. }), "{error}");
    let lun = create("most", 1024).unwrap();
    // Registered, all of them, and told what there is to be told.
    let description = lun.config().unwrap();
    let mut unit = description.unit().unwrap();
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
    let record = soft_lun::store::StateFile::from_unit(&description, "boot", &unit).unwrap();
    let content = String::from_utf8(record.to_json().unwrap()).unwrap();
    let content = content.replace("\"boot\": \"boot\"", &format!("\"boot\": \"{}\"", boot()));
    fs::write(lun.path().join("state.json"), content).unwrap();
    assert_eq!(lun.load().unwrap(), unit);
}

#[test]
fn what_it_supports_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let supported = SupportedFeatures {
        persist_through_power_loss: false,
        specify_initiator_ports: true,
        all_target_ports: false,
        types: TypeMask::default().with(ReservationType::WriteExclusiveAllRegistrants),
    };
    let lun = Lun::create(&folder.path().join("x"), ports(), supported).unwrap();
    assert_eq!(lun.config().unwrap().supported_features, supported);
    assert_eq!(lun.load().unwrap().supported_features(), supported);
}

#[test]
fn nothing_is_made_where_something_is_or_cannot_be() {
    let scratch = Scratch::new();
    let state = scratch.content("state.json");
    let create = |name: &str, ports| {
        let path = scratch.folder.path().join(name);
        Lun::create(&path, ports, SupportedFeatures::default()).unwrap_err()
    };
    assert!(matches!(create("lun", ports()), StoreError::Exists(_)));
    assert!(matches!(create(".lun", ports()), StoreError::Name { .. }));
    let twice = vec![port("a", 1, 1), port("a", 2, 1)];
    assert!(matches!(create("twice", twice), StoreError::Config { .. }));
    let same = vec![port("a", 1, 1), port("b", 1, 1)];
    assert!(matches!(create("same", same), StoreError::Config { .. }));
    assert!(matches!(
        create("no/folder", ports()),
        StoreError::Io { .. }
    ));
    assert_eq!(scratch.content("state.json"), state);
    assert_eq!(fs::read_dir(scratch.folder.path()).unwrap().count(), 1);
}
