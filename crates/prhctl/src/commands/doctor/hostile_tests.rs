// SPDX-License-Identifier: MIT OR Apache-2.0

//! Arguments of processes that are to make root run a command or read a file.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::fixture::{FakeHost, QEMU, SOCKET};
use crate::state_fixture::plain_text;

const LOG: &str = "/var/log/libvirt/qemu/web1.log";

/// Returns the lines of all fixes.
fn fixes(host: &FakeHost) -> Vec<String> {
    let results = host.results();
    let lines = results.findings.iter().flat_map(|one| &one.fault.fix);
    lines.map(|line| line.as_str().to_owned()).collect()
}

/// Returns a host that runs a machine with this name and an old machine type.
fn host_with_name(name: &str) -> FakeHost {
    let host = FakeHost::healthy();
    let arguments = format!("/proc/{QEMU}/cmdline");
    host.replace(&arguments, "guest=web1", &format!("guest={name}"));
    host.replace(&arguments, "q35-11.0", "q35-10.0");
    host
}

#[test]
fn process_of_an_ordinary_user_is_not_checked() {
    for user in ["1000", "60001", "65534", "100000"] {
        let host = FakeHost::healthy();
        host.set_qemu("/dev/gone", "scsi-hd,drive=d,werror=ignore");
        host.replace(
            &format!("/proc/{QEMU}/status"),
            "64055\t64055\n",
            &format!("64055\t{user}\n"),
        );
        let results = host.results();
        assert_eq!(host.found(), [] as [&str; 0], "{user}");
        let reason = format!(
            "Not checked: the virtual machine of process {QEMU} belongs to user {user}, not to the \
             host\n"
        );
        let text = plain_text(&results);
        assert!(text.contains(&reason), "{text}");
    }
}

#[test]
fn process_of_another_program_is_not_checked() {
    let exe = format!("/proc/{QEMU}/exe");
    for (program, reason) in [
        (
            Some("/usr/bin/bash"),
            "has the arguments of QEMU, but is /usr/bin/bash",
        ),
        (Some("/tmp/kvm/a"), "but is /tmp/kvm/a"),
        (None, "cannot read /proc/200/exe: "),
    ] {
        let host = FakeHost::healthy();
        host.set_qemu("/dev/gone", "scsi-hd,drive=d");
        host.remove(&exe);
        if let Some(program) = program {
            host.link(program, &exe);
        }
        let results = host.results();
        assert_eq!(host.found(), [] as [&str; 0]);
        let text = plain_text(&results);
        assert!(text.contains(reason), "{text}");
    }
    for program in ["/usr/libexec/qemu-kvm", "/usr/bin/kvm (deleted)"] {
        let host = FakeHost::healthy();
        host.set_qemu("/dev/gone", "scsi-block,drive=d");
        host.remove(&exe);
        host.link(program, &exe);
        assert_eq!(host.found(), ["disk-missing"], "{program}");
    }
}

#[test]
fn values_in_commands_are_quoted() {
    let host = FakeHost::healthy();
    let arguments = format!("/proc/{QEMU}/cmdline");
    host.replace(&arguments, SOCKET, "/run/x;reboot");
    assert_eq!(fixes(&host), ["qemu-pr-helper -d -k '/run/x;reboot'"]);

    let host = FakeHost::healthy();
    host.replace("/etc/passwd", "libvirt-qemu", "a$(reboot)");
    host.chmod(SOCKET, 0o600);
    assert_eq!(fixes(&host), [format!("chown 'a$(reboot)' {SOCKET}")]);

    let name = "-x;reboot";
    let host = host_with_name(name);
    host.set_qemu("/dev/mapper/mpatha", "scsi-block,drive=d,werror=stop");
    host.replace(&arguments, "guest=web1", &format!("guest={name}"));
    host.write(&format!("/etc/libvirt/qemu/{name}.xml"), "");
    assert_eq!(fixes(&host)[0], "virsh edit -- '-x;reboot'");

    let host = FakeHost::healthy();
    host.add_mapped("dm-2", "x;reboot", "CRYPT-x", &["dm-0"]);
    assert_eq!(fixes(&host), ["dmsetup remove 'x;reboot'"]);
}

#[test]
fn comments_are_one_line() {
    let host = FakeHost::healthy();
    host.add_mapped("dm-1", "a\nreboot", "part1-mpath-36001405a", &["dm-0"]);
    host.replace("/sys/devices/dm-0/dm/name", "mpatha", "m\nreboot");
    host.set_qemu("/dev/dm-1", "scsi-block,drive=d");
    let fixes = fixes(&host);
    assert!(
        fixes.iter().any(|line| line.contains("m\\nreboot")),
        "{fixes:?}"
    );
    assert!(!fixes.concat().contains('\n'), "{fixes:?}");
}

#[test]
fn only_sockets_of_helpers_are_changed() {
    const ADVICE: &str =
        "# This is not the socket of a helper. Give the virtual machine that of a helper.";
    let host = FakeHost::healthy();
    host.write("/etc/shadow", "");
    host.chmod("/etc/shadow", 0o600);
    host.replace(&format!("/proc/{QEMU}/cmdline"), SOCKET, "/etc/shadow");
    assert_eq!(host.found(), ["socket-unreachable"]);
    assert_eq!(fixes(&host), [ADVICE]);

    // Another service listens on the socket.
    let mut host = FakeHost::healthy();
    host.helper.sockets.clear();
    host.chmod(SOCKET, 0o600);
    assert_eq!(host.found(), ["socket-not-writable"]);
    assert_eq!(fixes(&host), [ADVICE]);
}

#[test]
fn name_of_a_machine_is_no_path() {
    let host = host_with_name("../../../../tmp/x;reboot");
    host.write("/var/log/libvirt/qemu/a", "");
    host.write("/etc/libvirt/qemu/a", "");
    host.write("/tmp/x;reboot.log", "qemu version: 11.0.0\n");
    host.write("/tmp/x;reboot.xml", "");
    host.write("/etc/tmp/x;reboot.xml", "");
    let results = host.results();
    assert_eq!(host.found(), [] as [&str; 0]);
    assert_eq!(results.not_checked.len(), 1, "{:?}", results.not_checked);
    assert_eq!(results.not_checked[0].check, Some("old-machine-type"));
}

#[test]
fn only_short_regular_files_are_read() {
    let host = host_with_name("web1");
    host.write(LOG, "qemu version: 11.0.0\n".repeat(100_000));
    let text = plain_text(&host.results());
    let reason = format!("cannot read {LOG}: it is larger than 1 MiB");
    assert!(text.contains(&reason), "{text}");

    // Opening it for reading would wait for a writer.
    host.remove(LOG);
    mknodat(CWD, host.path(LOG), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let text = plain_text(&host.results());
    let reason = format!("cannot read {LOG}: it is not a regular file");
    assert!(text.contains(&reason), "{text}");
}
