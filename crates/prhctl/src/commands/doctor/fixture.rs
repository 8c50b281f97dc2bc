// SPDX-License-Identifier: MIT OR Apache-2.0

//! A host in a temporary directory, in which tests plant faults.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use helper_state::StateDocument;
use pr_testkit::fake_proc::{FakeProcess, FakeSocket};
use tempfile::TempDir;

use super::checks;
use super::finding::Results;
use super::host::Host;
use crate::known_disks::distinct;
use crate::running_helpers::HelperProcess;
use crate::state::{HelperState, HelperStates};
use crate::state_fixture::document;

pub(super) const SOCKET: &str = "/run/pr.sock";

/// Command line that prints the settings of LVM.
pub(super) const LVM_CONFIG: &str = "lvmconfig --typeconfig full devices";

pub(super) const HELPER: u32 = 100;
pub(super) const QEMU: u32 = 200;
pub(super) const MULTIPATHD: u32 = 300;

/// A host with a helper, the virtual machine `web1` with a map of two paths, and multipathd.
pub(super) struct FakeHost {
    dir: TempDir,
    pub(super) helper: HelperProcess,
    pub(super) state: StateDocument,
    pub(super) has_helper: bool,
    /// Outputs of programs, by their command lines.
    pub(super) programs: BTreeMap<&'static str, Result<&'static str, &'static str>>,
}

impl FakeHost {
    /// Creates a host without faults.
    pub(super) fn healthy() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let programs = [
            (
                "systemctl show -p ActiveState,Result qemu-pr-helper.service",
                "ActiveState=active\nResult=success\n",
            ),
            (
                "systemctl show -p PrivateDevices qemu-pr-helper.service",
                "PrivateDevices=no\n",
            ),
            (
                "systemctl show -p ActiveState,Result qemu-pr-helper.socket",
                "ActiveState=active\nResult=success\n",
            ),
            (
                "journalctl -q --no-pager --since=-1d --grep=qemu-pr-helper _TRANSPORT=kernel + \
                 _TRANSPORT=audit",
                "",
            ),
            (
                LVM_CONFIG,
                "devices {\n\tfilter=[\"a|.*|\"]\n\tglobal_filter=[\"a|.*|\"]\n}\n",
            ),
            ("multipathd help", "multipath-tools v0.14.3 (02/06, 2026)\n"),
            (
                "multipathd show paths format %d %c",
                "dev checker\nsda tur\nsdb tur\nsdc directio\n",
            ),
        ];
        let mut host = FakeHost {
            helper: HelperProcess {
                pid: HELPER,
                dir: dir.path().join(format!("proc/{HELPER}")),
                sockets: vec![PathBuf::from(SOCKET)],
                state_socket: Some("state".to_owned()),
            },
            dir,
            state: document(),
            has_helper: true,
            programs: programs.map(|(line, output)| (line, Ok(output))).into(),
        };
        host.create_disks();
        host.create_processes();
        host.create_configuration();
        host
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file and creates its directory.
    pub(super) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path(path);
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// Replaces a part of a file, which must be there.
    pub(super) fn replace(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(path)).unwrap();
        assert!(text.contains(from), "{path}: {text}");
        self.write(path, text.replace(from, to));
    }

    pub(super) fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Replaces the lines about the helper in the journal.
    pub(super) fn set_journal(&mut self, text: &'static str) {
        let mut programs = self.programs.iter_mut();
        let (_, output) = programs
            .find(|(line, _)| line.starts_with("journalctl"))
            .unwrap();
        *output = Ok(text);
    }

    pub(super) fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
    }

    /// Adds a block device with its node and its links in sysfs.
    pub(super) fn add_device(&self, name: &str, number: &str) {
        self.write(&format!("/sys/devices/{name}/dev"), format!("{number}\n"));
        for class in ["block", "class/block"] {
            let target = self.path(&format!("/sys/devices/{name}"));
            self.link(target.to_str().unwrap(), &format!("/sys/{class}/{name}"));
        }
        self.write(&format!("/dev/{name}"), "");
    }

    /// Adds a device-mapper device on other devices.
    pub(super) fn add_mapped(&self, device: &str, name: &str, uuid: &str, below: &[&str]) {
        let minor = device.trim_start_matches("dm-");
        self.add_device(device, &format!("253:{minor}"));
        self.write(&format!("/sys/devices/{device}/dm/name"), name);
        self.write(&format!("/sys/devices/{device}/dm/uuid"), uuid);
        for lower in below {
            let up = self.path(&format!("/sys/devices/{device}"));
            let down = self.path(&format!("/sys/devices/{lower}"));
            self.link(
                down.to_str().unwrap(),
                &format!("/sys/devices/{device}/slaves/{lower}"),
            );
            self.link(
                up.to_str().unwrap(),
                &format!("/sys/devices/{lower}/holders/{device}"),
            );
        }
        self.link(&format!("../{device}"), &format!("/dev/mapper/{name}"));
    }

    fn create_disks(&mut self) {
        for (disk, number, wwn) in [
            ("sda", "8:0", "naa.6001405a"),
            ("sdb", "8:16", "naa.6001405a"),
            ("sdc", "8:32", "naa.6001405c"),
        ] {
            self.add_device(disk, number);
            for (name, value) in [
                ("type", "0"),
                ("vendor", "LIO-ORG"),
                ("state", "running"),
                ("wwid", wwn),
                ("dh_state", "alua"),
            ] {
                self.write(&format!("/sys/devices/{disk}/device/{name}"), value);
            }
            let inquiry = [0, 0, 6, 2, 91, 0x30];
            self.write(&format!("/sys/devices/{disk}/device/inquiry"), inquiry);
        }
        self.add_mapped("dm-0", "mpatha", "mpath-36001405a", &["sda", "sdb"]);
    }

    fn create_processes(&self) {
        let proc = self.path("/proc");
        let socket = Path::new(SOCKET);
        for (pid, name, open) in [
            (HELPER, "qemu-pr-helper", 50),
            (QEMU, "qemu-system-x86", 51),
            (MULTIPATHD, "multipathd", 52),
        ] {
            let process = FakeProcess {
                pid,
                name,
                root: self.dir.path(),
                open,
                sockets: &[FakeSocket::Listening(50, socket)],
            };
            process.create(&proc);
        }
        let helper = format!("/proc/{HELPER}");
        self.write(
            &format!("{helper}/status"),
            "CapPrm:\t0000000000020000\nCapEff:\t0000000000020000\nSeccomp:\t2\n",
        );
        self.write(
            &format!("{helper}/limits"),
            "Max open files            65536                65536                files     \n",
        );
        self.write(
            &format!("{helper}/cgroup"),
            "0::/system.slice/qemu-pr-helper.service\n",
        );
        let qemu = format!("/proc/{QEMU}");
        self.write(
            &format!("{qemu}/status"),
            "Uid:\t64055\t64055\t64055\t64055\nGid:\t109\t109\t109\t109\nGroups:\t109\n\
             CapEff:\t0000000000000000\n",
        );
        self.link("/usr/bin/qemu-system-x86_64", &format!("{qemu}/exe"));
        self.set_qemu(
            "/dev/mapper/mpatha",
            "scsi-block,drive=d,werror=report,rerror=report",
        );
        let mounts = "22 1 8:99 / / rw,relatime shared:1 - ext4 /dev/sdz9 rw\n";
        self.write(&format!("/proc/{MULTIPATHD}/mountinfo"), mounts);
        self.write("/proc/self/mountinfo", mounts);
        fs::create_dir_all(self.path("/run")).unwrap();
        // The file of the socket remains.
        drop(UnixListener::bind(self.path(SOCKET)).unwrap());
        self.chmod(SOCKET, 0o666);
    }

    /// Replaces QEMU's command line.
    pub(super) fn set_qemu(&self, disk: &str, device: &str) {
        let line = format!(
            "/usr/bin/qemu-system-x86_64 -name guest=web1 -machine pc-q35-11.0 \
             -object pr-manager-helper,id=h,path={SOCKET} \
             -blockdev driver=host_device,node-name=d,filename={disk},pr-manager=h \
             -device {device}"
        );
        let cmdline = line.replace(' ', "\0");
        self.write(&format!("/proc/{QEMU}/cmdline"), cmdline);
    }

    fn create_configuration(&self) {
        self.write(
            "/etc/multipath.conf",
            "defaults {\n    reservation_key file\n}\n",
        );
        self.write("/etc/lvm/lvm.conf", "");
        self.write(
            "/etc/passwd",
            "root:x:0:0::/:/bin/sh\nlibvirt-qemu:x:64055:109::/:/bin/sh\n",
        );
        for dir in ["/run/systemd/system", "/run/log/journal"] {
            fs::create_dir_all(self.path(dir)).unwrap();
        }
    }

    pub(super) fn host(&self) -> Host {
        let helpers = self.has_helper.then(|| HelperState {
            process: self.helper.clone(),
            state: Ok(self.state.clone()),
        });
        let programs = Rc::new(self.programs.clone());
        let run = move |program: &str, arguments: &[&str]| {
            let line = format!("{program} {}", arguments.join(" "));
            let output = programs.get(line.as_str());
            let output = output.unwrap_or_else(|| panic!("unexpected: {line}"));
            output.map(str::to_owned).map_err(str::to_owned)
        };
        let helpers = HelperStates(helpers.into_iter().collect());
        Host::new(self.dir.path().to_owned(), helpers, Box::new(run))
    }

    pub(super) fn results(&self) -> Results {
        Results::collect(&self.host(), checks::all())
    }

    /// Returns the faults that are found, each once.
    pub(super) fn found(&self) -> Vec<&'static str> {
        let results = self.results();
        let ids = results.findings.iter().map(|finding| finding.check.id);
        distinct(ids)
    }
}
