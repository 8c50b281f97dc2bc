// SPDX-License-Identifier: MIT OR Apache-2.0

//! Each fault is planted into a host without faults, and must be found alone.

use std::os::unix::fs::MetadataExt as _;

use super::fixture::{FakeHost, HELPER, LVM_CONFIG, MULTIPATHD, QEMU, SOCKET};
use super::*;
use crate::known_disks::distinct;
use crate::state_fixture::{check_members, disk, paths, plain_text, registration};
use helper_state::PathRegistration;

/// A fault: its name, and what plants it.
type Planted = (&'static str, fn(&mut FakeHost));

const LOG: &str = "/var/log/libvirt/qemu/web1.log";

const SERVICE_FAULTS: &[Planted] = &[
    ("helper-missing", |host| {
        host.has_helper = false;
        host.remove("/proc/100");
        host.remove("/proc/200");
    }),
    ("unit-failed", |host| {
        let line = "systemctl show -p ActiveState,Result qemu-pr-helper.service";
        host.programs
            .insert(line, Ok("ActiveState=failed\nResult=exit-code\n"));
    }),
    ("private-devices", |host| {
        let line = "systemctl show -p PrivateDevices qemu-pr-helper.service";
        host.programs.insert(line, Ok("PrivateDevices=yes\n"));
    }),
    ("access-denied", |host| {
        host.set_journal("kernel: audit: apparmor=\"DENIED\" profile=\"qemu-pr-helper\"\n");
    }),
    ("socket-unreachable", |host| {
        for pid in [HELPER, QEMU] {
            host.write(&format!("/proc/{pid}/net/unix"), "");
        }
    }),
    ("socket-not-writable", |host| host.chmod(SOCKET, 0o600)),
];

const HELPER_FAULTS: &[Planted] = &[
    ("rawio-missing", |host| {
        let file = format!("/proc/{HELPER}/status");
        host.replace(
            &file,
            "CapEff:\t0000000000020000",
            "CapEff:\t0000000000000000",
        );
    }),
    ("no-multipath-support", |host| {
        host.helper.state_socket = None;
        host.write(
            &format!("/proc/{HELPER}/maps"),
            "7f00 r-xp /lib/libc.so.6\n",
        );
    }),
    ("excess-capabilities", |host| {
        let file = format!("/proc/{HELPER}/status");
        host.replace(
            &file,
            "CapPrm:\t0000000000020000",
            "CapPrm:\t0000000000220000",
        );
    }),
    ("sandbox-off", |host| {
        let file = format!("/proc/{HELPER}/status");
        host.replace(&file, "Seccomp:\t2", "Seccomp:\t0");
    }),
    ("few-descriptors", |host| {
        host.replace(&format!("/proc/{HELPER}/limits"), "65536", "256");
    }),
    ("limit-reached", |host| host.state.limits.accept_pauses = 3),
];

const VM_FAULTS: &[Planted] = &[
    ("emulated-device", |host| {
        host.set_qemu("/dev/mapper/mpatha", "scsi-hd,drive=d");
    }),
    ("part-of-disk", |host| {
        host.add_mapped("dm-1", "mpatha-part1", "part1-mpath-36001405a", &["dm-0"]);
        host.set_qemu("/dev/mapper/mpatha-part1", "scsi-block,drive=d");
    }),
    ("path-of-map", |host| {
        host.set_qemu("/dev/sdb", "scsi-block,drive=d");
    }),
    ("helper-not-configured", |host| {
        host.replace(&format!("/proc/{QEMU}/cmdline"), ",pr-manager=h", "");
    }),
    ("errors-ignored", |host| {
        host.set_qemu("/dev/mapper/mpatha", "scsi-block,drive=d,rerror=ignore");
    }),
    ("errors-stop", |host| {
        host.set_qemu("/dev/mapper/mpatha", "scsi-block,drive=d,werror=stop");
    }),
    ("migrate-pr-off", |host| {
        host.set_qemu("/dev/mapper/mpatha", "scsi-block,drive=d,migrate-pr=off");
    }),
    ("old-machine-type", |host| {
        host.replace(&format!("/proc/{QEMU}/cmdline"), "q35-11.0", "q35-10.0");
        host.write(
            LOG,
            "2026-01-01: starting up, qemu version: 11.0.0Debian, kernel: 7\n",
        );
    }),
];

const DISK_FAULTS: &[Planted] = &[
    ("disk-shared-on-host", |host| {
        let mut shared = disk("253:0", Some("naa.6001405a"), "dm-0");
        shared.registrations = vec![registration("0xa", "web1"), registration("0xb", "web2")];
        host.state.disks = vec![shared];
    }),
    ("path-not-registered", |host| {
        let mut map = disk("253:0", Some("naa.6001405a"), "dm-0");
        map.registrations = vec![registration("0xa", "web1")];
        map.paths = paths(&[
            ("sda", PathRegistration::Registered),
            ("sdb", PathRegistration::NotRegistered),
        ]);
        host.state.disks = vec![map];
    }),
    ("disk-in-use", |host| {
        host.add_mapped("dm-2", "vg-lv", "LVM-x", &["dm-0"]);
    }),
    ("disk-missing", |host| {
        host.set_qemu("/dev/mapper/gone", "scsi-block,drive=d");
    }),
    ("path-unusable", |host| {
        host.write("/sys/devices/sdb/device/state", "offline\n");
    }),
    ("lvm-scans-disk", |host| {
        host.write("/run/udev/data/b253:0", "E:ID_FS_TYPE=LVM2_member\n");
    }),
];

const MULTIPATH_FAULTS: &[Planted] = &[
    ("multipathd-missing", |host| {
        host.remove(&format!("/proc/{MULTIPATHD}"));
    }),
    ("reservation-key-missing", |host| {
        host.remove("/etc/multipath.conf");
    }),
    ("reservation-key-fixed", |host| {
        host.replace("/etc/multipath.conf", "_key file", "_key 0x1234");
    }),
    ("prkeys-read-only", |host| {
        let file = format!("/proc/{MULTIPATHD}/mountinfo");
        host.replace(&file, "/ / rw,relatime", "/ / ro,relatime");
    }),
    ("multipathd-old", |host| {
        let help = "multipath-tools v0.9.4 (05/12, 2022)\n";
        host.programs.insert("multipathd help", Ok(help));
    }),
    ("path-checker-directio", |host| {
        let line = "multipathd show paths format %d %c";
        host.programs.insert(line, Ok("sda tur\nsdb directio\n"));
    }),
    ("queue-without-paths", |host| {
        host.write(
            "/etc/multipath/conf.d/a.conf",
            "overrides {\n no_path_retry queue\n}\n",
        );
    }),
    ("alua-handler-missing", |host| {
        host.write("/sys/devices/sda/device/dh_state", "detached\n");
    }),
];

fn planted() -> impl Iterator<Item = &'static Planted> {
    let groups = [
        SERVICE_FAULTS,
        HELPER_FAULTS,
        VM_FAULTS,
        DISK_FAULTS,
        MULTIPATH_FAULTS,
    ];
    groups.into_iter().flatten()
}

#[test]
fn healthy_host_has_no_findings() {
    let results = FakeHost::healthy().results();
    assert!(results.findings.is_empty(), "{:?}", results.findings);
    assert_eq!(results.not_checked, []);
    assert_eq!(plain_text(&results), "Result: nothing found, 35 checks\n");
}

#[test]
fn each_fault_is_found_alone() {
    for (id, plant) in planted() {
        let mut host = FakeHost::healthy();
        plant(&mut host);
        let results = host.results();
        assert_eq!(host.found(), [*id], "{:?}", results.findings);
        assert_eq!(results.not_checked, [], "{id}");
        check_members(&results);
        for finding in &results.findings {
            let fault = &finding.fault;
            assert!(
                !fault.evidence.is_empty() && !fault.fix.is_empty(),
                "{fault:?}"
            );
        }
    }
}

#[test]
fn each_check_has_a_planted_fault() {
    // Two machines with one key are also two machines that share a disk.
    let planted: Vec<_> = planted()
        .map(|(id, _)| *id)
        .chain(["key-not-unique"])
        .collect();
    let mut checks: Vec<_> = checks::all().map(|check| check.id).collect();
    checks.sort_unstable();
    let mut sorted = planted.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, checks);
    assert_eq!(distinct(planted.iter()).len(), planted.len());
}

#[test]
fn machines_with_one_key_are_found() {
    let mut host = FakeHost::healthy();
    let mut shared = disk("253:0", Some("naa.6001405a"), "dm-0");
    shared.registrations = vec![registration("0xa", "web1"), registration("0xa", "web2")];
    host.state.disks = vec![shared];
    assert_eq!(host.found(), ["disk-shared-on-host", "key-not-unique"]);
}

/// The machines have not registered yet.
#[test]
fn running_machines_with_one_disk_are_found() {
    let host = FakeHost::healthy();
    let first = format!("/proc/{QEMU}");
    for file in ["cmdline", "status"] {
        let text = std::fs::read_to_string(host.path(&format!("{first}/{file}"))).unwrap();
        host.write(&format!("/proc/201/{file}"), text);
    }
    host.link("/usr/bin/qemu-kvm", "/proc/201/exe");
    host.replace("/proc/201/cmdline", "guest=web1", "guest=web2");
    assert_eq!(host.found(), ["disk-shared-on-host"]);
}

#[test]
fn domain_that_does_not_run_is_checked() {
    let host = FakeHost::healthy();
    let domain = |reservations: &str| {
        format!(
            "<domain><name>db</name><devices><disk type='block' device='lun'>\
             <source dev='/dev/sdc'>{reservations}</source><target bus='scsi'/></disk></devices>\
             </domain>"
        )
    };
    let socket = "<reservations managed='no'><source path='/run/other.sock'/></reservations>";
    for (reservations, expected) in [
        ("<reservations managed='yes'/>", &[][..]),
        ("", &["helper-not-configured"]),
        (socket, &["socket-unreachable"]),
    ] {
        host.write("/etc/libvirt/qemu/db.xml", domain(reservations));
        assert_eq!(host.found(), expected, "{reservations}");
    }
}

#[test]
fn mounted_disk_is_in_use() {
    let host = FakeHost::healthy();
    let mounts = "22 1 253:0 / /mnt/a\\040b;reboot rw - ext4 /dev/dm-0 rw\n";
    host.write("/proc/self/mountinfo", mounts);
    let results = host.results();
    assert_eq!(host.found(), ["disk-in-use"]);
    assert_eq!(
        results.findings[0].fault.fix[0].as_str(),
        "umount '/mnt/a b;reboot'"
    );
}

#[test]
fn user_of_a_disk_is_removed_by_its_kind() {
    for (device, uuid, fix) in [
        ("dm-2", "LVM-x", "lvchange -an /dev/mapper/user"),
        ("dm-3", "CRYPT-x", "dmsetup remove user"),
    ] {
        let host = FakeHost::healthy();
        host.add_mapped(device, "user", uuid, &["dm-0"]);
        assert_eq!(host.results().findings[0].fault.fix[0].as_str(), fix);
    }
    for (device, fix) in [
        ("md0", "mdadm --stop /dev/md0"),
        (
            "bcache0",
            "# Stop /dev/bcache0 with the program that has started it.",
        ),
    ] {
        let host = FakeHost::healthy();
        host.add_device(device, "9:0");
        let device_dir = host.path(&format!("/sys/devices/{device}"));
        let holder = format!("/sys/devices/dm-0/holders/{device}");
        host.link(device_dir.to_str().unwrap(), &holder);
        assert_eq!(host.results().findings[0].fault.fix[0].as_str(), fix);
    }
}

/// Programs such as QEMU are denied the helper's socket.
#[test]
fn only_denials_of_the_helper_are_found() {
    for (line, is_found) in [
        (
            "apparmor=\"DENIED\" profile=\"libvirt-1\" name=\"/run/qemu-pr-helper.sock\" \
             comm=\"qemu-system-x86\"\n",
            false,
        ),
        (
            "apparmor=\"DENIED\" profile=\"libvirtd//qemu-pr-helper\" comm=\"worker\"\n",
            true,
        ),
        (
            "avc: denied { read } comm=\"qemu-pr-helper\" scontext=u:r:t:s0\n",
            true,
        ),
        (
            "avc: denied { read } comm=\"a\" scontext=u:r:qemu_pr_helper_t:s0\n",
            true,
        ),
        (
            "avc: denied { write } comm=\"a\" path=\"/run/qemu-pr-helper.sock\" \
             scontext=u:r:svirt_t:s0\n",
            false,
        ),
    ] {
        let mut host = FakeHost::healthy();
        host.set_journal(line);
        assert_eq!(host.found() == ["access-denied"], is_found, "{line}");
    }
}

/// The client that has gone can have moved to another host, with its key.
#[test]
fn client_that_has_gone_does_not_share_the_disk() {
    let mut host = FakeHost::healthy();
    let mut shared = disk("253:0", Some("naa.6001405a"), "dm-0");
    shared.registrations = vec![registration("0xa", "web1"), registration("0xa", "web2")];
    shared.registrations[1].is_connected = false;
    host.state.disks = vec![shared];
    assert_eq!(host.found(), [] as [&str; 0]);
}

/// libvirt gives QEMU the configured group and those of the user.
#[test]
fn groups_of_a_machine_that_does_not_run_are_known() {
    let domain = format!(
        "<domain><name>db</name><devices><disk type='block' device='lun'><source dev='/dev/sdc'>\
         <reservations managed='no'><source path='{SOCKET}'/></reservations></source>\
         <target bus='scsi'/></disk></devices></domain>"
    );
    let gid = std::fs::metadata(FakeHost::healthy().path(SOCKET))
        .unwrap()
        .gid();
    for (groups, configuration, is_found) in [
        (format!("disk:x:{gid}:other\n"), "", true),
        (format!("disk:x:{gid}:other,libvirt-qemu\n"), "", false),
        (
            format!("disk:x:{gid}:\n"),
            "#group = \"x\"\ngroup = \"disk\"\n",
            false,
        ),
        (String::new(), "user = \"+64055\"\n", true),
    ] {
        let host = FakeHost::healthy();
        host.remove(&format!("/proc/{QEMU}"));
        host.write("/etc/libvirt/qemu/db.xml", &domain);
        host.write("/etc/group", &groups);
        host.write("/etc/libvirt/qemu.conf", configuration);
        host.chmod(SOCKET, 0o660);
        let found = host.found();
        assert_eq!(
            found == ["socket-not-writable"],
            is_found,
            "{groups}{configuration}{found:?}"
        );
    }
}

#[test]
fn devices_file_and_filters_of_lvm_are_evaluated() {
    const UDEV: &str = "S:disk/by-id/wwn-0x6\nE:ID_FS_TYPE=LVM2_member\n";
    let entry = |id: &str| Some(format!("IDTYPE=x IDNAME={id} DEVNAME=/dev/sdz PVID=1\n"));
    for (settings, file, expected) in [
        // The filter excludes one name of the disk only.
        (
            "filter=[\"r|^/dev/mapper/mpatha|\",\"a|.*|\"]\n",
            None,
            Some("# /etc/lvm/lvm.conf,"),
        ),
        ("filter=[\"a|^/dev/sdz|\",\"r|.*|\"]\n", None, None),
        (
            "use_devicesfile=0\n",
            entry("naa.6"),
            Some("# /etc/lvm/lvm.conf,"),
        ),
        ("use_devicesfile=1\n", None, Some("vgimportdevices VG")),
        ("use_devicesfile=1\n", entry("naa.6"), None),
        (
            "use_devicesfile=1\n",
            entry("mpath-36001405a"),
            Some("lvmdevices --deldev /dev/mapper/mpatha"),
        ),
    ] {
        let mut host = FakeHost::healthy();
        host.write("/run/udev/data/b253:0", UDEV);
        host.programs.insert(LVM_CONFIG, Ok(settings));
        if let Some(file) = file {
            host.write("/etc/lvm/devices/system.devices", file);
        }
        let results = host.results();
        assert_eq!(results.not_checked, []);
        let first = results
            .findings
            .first()
            .map(|one| one.fault.fix[0].as_str());
        match expected {
            Some(expected) => assert!(
                first.unwrap().starts_with(expected),
                "{settings}: {first:?}"
            ),
            None => assert_eq!(first, None, "{settings}"),
        }
    }
    let mut host = FakeHost::healthy();
    host.write("/run/udev/data/b253:0", UDEV);
    host.programs
        .insert(LVM_CONFIG, Ok("filter=[\"r|/dev/sd[a-z]|\"]\n"));
    let results = host.results();
    assert_eq!(results.not_checked[0].check, Some("lvm-scans-disk"));
    assert!(results.findings.is_empty());
}

/// Another service manager, libvirt or an operator has started it.
#[test]
fn helper_without_the_unit_is_not_restarted_by_systemd() {
    for (_, plant) in HELPER_FAULTS {
        let mut host = FakeHost::healthy();
        plant(&mut host);
        host.write(
            &format!("/proc/{HELPER}/cgroup"),
            "0::/machine.slice/vm.scope\n",
        );
        let results = host.results();
        let mut lines = results.findings.iter().flat_map(|one| &one.fault.fix);
        assert!(
            lines.all(|line| !line.as_str().starts_with("systemctl")),
            "{results:?}"
        );
        assert_ne!(results.findings.len(), 0);
    }
}

#[test]
fn impossible_check_is_listed_with_its_reason() {
    let mut host = FakeHost::healthy();
    host.programs
        .insert("multipathd help", Err("permission denied"));
    host.remove(&format!("/proc/{HELPER}/status"));
    let results = host.results();
    assert!(results.findings.is_empty(), "{:?}", results.findings);
    let text = plain_text(&results);
    for line in [
        "Not checked: permission denied: multipathd-old\n",
        "Not checked: cannot read CapEff in /proc/100/status: rawio-missing\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    check_members(&results);
}

#[test]
fn findings_about_other_machines_are_omitted() {
    let mut host = FakeHost::healthy();
    host.write(
        "/etc/libvirt/qemu/db.xml",
        "<domain><name>db</name><devices><disk type='block' device='lun'>\
         <source dev='/dev/sdc'/><target bus='scsi'/></disk></devices></domain>",
    );
    host.set_qemu("/dev/mapper/mpatha", "scsi-block,drive=d,werror=stop");
    host.programs
        .insert("multipathd help", Ok("multipath-tools v0.9.4\n"));
    let about = |name: &str| {
        let results = examine(&host.host(), Some(name)).unwrap();
        let ids = results.findings.iter().map(|finding| finding.check.id);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(about("db"), ["helper-not-configured"]);
    assert_eq!(about("/dev/sdc"), ["helper-not-configured"]);
    for name in ["web1", "/dev/mapper/mpatha", "/dev/dm-0"] {
        assert_eq!(about(name), ["errors-stop", "multipathd-old"], "{name}");
    }
    assert!(examine(&host.host(), Some("web3")).is_err());
}

/// docs/doctor.md has a row for each check, in their order.
#[test]
fn document_lists_the_checks() {
    let document = include_str!("../../../../../docs/doctor.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let documented: Vec<Vec<_>> = rows
        .map(|row| row.split('|').map(str::trim).collect())
        .collect();
    let documented: Vec<_> = documented
        .iter()
        .map(|row| (row[1], row[2], row[row.len() - 2]))
        .collect();
    let ids: Vec<_> = checks::all()
        .map(|check| format!("`{}`", check.id))
        .collect();
    let expected: Vec<_> = checks::all()
        .zip(&ids)
        .map(|(check, id)| (id.as_str(), check.severity.name(), check.consequence))
        .collect();
    assert_eq!(documented, expected);
}
