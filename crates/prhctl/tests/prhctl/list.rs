// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table of `prhctl list`, for disks and maps in a mount namespace and responses of a script.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use pr_testkit::namespace::mount_namespace;
use pr_testkit::pty::Pty;

use crate::completion::MOUNT;
use crate::fake::{FakeHelper, Response};

/// Registered keys of each disk, in the order of the list, and the holder's of a Write Exclusive -
/// Registrants Only reservation.
const STATES: [(&[u64], Option<u64>); 3] = [
    (&[], None),
    (&[0xa, 0xa, 0xb, 0xb], Some(0xa)),
    (
        &[0x1234_5678_9abc_def0, 0x1234_5678_9abc_def1],
        Some(0x1234_5678_9abc_def0),
    ),
];

/// Returns the response to the command with this number: READ KEYS and READ RESERVATION of each
/// disk.
fn response(number: usize) -> Response {
    let (keys, holder) = STATES[number / 2];
    let mut list: Vec<u8> = Vec::new();
    match number % 2 {
        0 => list.extend(keys.iter().flat_map(|key| key.to_be_bytes())),
        _ => list.extend(holder.into_iter().flat_map(|key| {
            let mut descriptor = [0; 16];
            descriptor[..8].copy_from_slice(&key.to_be_bytes());
            descriptor[13] = 5;
            descriptor
        })),
    }
    let length = u32::try_from(list.len()).unwrap();
    let header = [7, length].map(u32::to_be_bytes).concat();
    Response::Data([header, list].concat())
}

/// Creates three disks and a map with two paths. The last disk has no device node.
fn create_devices(dir: &Path) {
    fs::create_dir_all(dir.join("dev/mapper")).unwrap();
    fs::create_dir_all(dir.join("dev/pts")).unwrap();
    for node in ["null", "tty", "sda", "sdb", "mapper/mpath-cluster-quorum"] {
        fs::write(dir.join("dev").join(node), "").unwrap();
    }
    for (disk, wwid) in [
        ("sda", "naa.600140500000000000000000000000aa"),
        ("sdb", "naa.600140500000000000000000000000bb"),
        ("sdc", "naa.600140500000000000000000000000cc"),
        ("sdd", "naa.600140500000000000000000000000cc"),
        (
            "sde",
            "t10.ATA     QEMU HARDDISK                           QM00001",
        ),
    ] {
        let device = dir.join("sys").join(disk).join("device");
        fs::create_dir_all(&device).unwrap();
        for (name, text) in [("type", "0\n"), ("vendor", "LIO-ORG\n"), ("wwid", wwid)] {
            fs::write(device.join(name), text).unwrap();
        }
    }
    let map = dir.join("sys/dm-0");
    for name in ["dm", "slaves"] {
        fs::create_dir_all(map.join(name)).unwrap();
    }
    fs::write(map.join("dm/name"), "mpath-cluster-quorum\n").unwrap();
    fs::write(map.join("dm/uuid"), "mpath-3600140500\n").unwrap();
    for path in ["sdc", "sdd"] {
        let disk = dir.join("sys").join(path);
        symlink(&disk, map.join("slaves").join(path)).unwrap();
        fs::create_dir(disk.join("holders")).unwrap();
        symlink(&map, disk.join("holders/dm-0")).unwrap();
    }
}

/// Returns the list without a terminal, or on one with this number of columns.
fn list(columns: Option<u16>) -> Option<String> {
    let fake = FakeHelper::start(|number, _| response(number));
    create_devices(fake.dir.path());
    let wrapper = mount_namespace(MOUNT)?;
    let (unshare, arguments) = wrapper.split_first().unwrap();
    let mut command = Command::new(unshare);
    command
        .current_dir(fake.dir.path())
        .args(arguments)
        .arg(env!("CARGO_BIN_EXE_prhctl"))
        .args(["--color=never", "-k", "socket", "list"]);
    let Some(columns) = columns else {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        return Some(String::from_utf8(output.stdout).unwrap());
    };
    let (status, output) = Pty::start(&mut command, columns, 24).finish();
    assert_eq!(status, Some(0), "{output}");
    Some(output.replace("\r\n", "\n"))
}

/// The output on a terminal of 80 columns.
const CELLS: &str = "\
/dev/sda
  WWN     naa.600140500000000000000000000000aa
  PATHS   -
  KEYS    -
  TYPE    -
  HOLDER  -
/dev/sdb
  WWN     naa.600140500000000000000000000000bb
  PATHS   -
  KEYS    2x0xa 2x0xb
  TYPE    we-ro
  HOLDER  0xa
/dev/sde
  WWN     t10.ATA     QEMU HARDDISK                           QM00001
  PATHS   -
  /dev/sde: cannot open for reading: No such file or directory
/dev/mapper/mpath-cluster-quorum
  WWN     naa.600140500000000000000000000000cc
  PATHS   sdc sdd
  KEYS    0x123456789abcdef0 0x123456789abcdef1
  TYPE    we-ro
  HOLDER  0x123456789abcdef0
";

#[test]
fn columns_are_aligned() {
    let Some(text) = list(None) else {
        return;
    };
    let lines: Vec<_> = text.lines().collect();
    let [header, rows @ ..] = lines.as_slice() else {
        panic!("{text}");
    };
    assert_eq!(rows.len(), 4, "{text}");
    for (label, cells) in [
        ("WWN", ["naa.", "naa.", "t10.", "naa."]),
        ("PATHS", ["-", "-", "-", "sdc sdd"]),
        (
            "KEYS",
            [
                "-",
                "2x0xa",
                "/dev/sde: cannot open",
                "0x123456789abcdef0 0x",
            ],
        ),
        ("TYPE", ["-", "we-ro", "", "we-ro"]),
        ("HOLDER", ["-", "0xa", "", "0x123456789abcdef0"]),
    ] {
        let column = header.find(label).unwrap();
        for (row, cell) in rows.iter().zip(cells) {
            let rest = row.get(column..).unwrap_or_default();
            assert!(rest.starts_with(cell), "{label}: {rest}: {text}");
        }
    }
    assert_eq!(list(Some(200)).unwrap(), text);
}

#[test]
fn cells_of_a_disk_are_listed_on_narrow_terminal() {
    let Some(text) = list(Some(80)) else {
        return;
    };
    assert_eq!(text, CELLS);
    assert_eq!(list(Some(120)).unwrap(), CELLS);
    let narrow = list(Some(40)).unwrap();
    assert!(narrow.lines().all(|line| line.len() <= 40), "{narrow}");
}
