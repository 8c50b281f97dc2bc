// SPDX-License-Identifier: MIT OR Apache-2.0

//! The host that is checked: its files below a root directory, its helpers, virtual machines and
//! disks, and the programs that it can run.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cli_messages::error::system_error;
use linux_util::procfs::{listening_sockets, status_value};
use rustix::fs::OFlags;

use super::multipath_conf::{self, Setting};
use super::subject::Subject;
use super::vm::{Reservations, Vm, VmDisk};
use super::{domain, programs};
use crate::block_device::BlockDevice;
use crate::running_helpers::HelperProcess;
use crate::state::{DEFAULT_TIMEOUT, HelperState, HelperStates, read_states};

/// Runs a program with arguments, and returns its output or the reason why it cannot be used.
pub(super) type Run = dyn Fn(&str, &[&str]) -> Result<String, String>;

/// Maximum length of a file that is read.
const MAX_LEN: usize = 1 << 20;

/// Bit of `CAP_SYS_RAWIO` in the masks of procfs.
pub(super) const CAP_SYS_RAWIO: u64 = 1 << 17;

/// Socket of the systemd unit.
pub(super) const DEFAULT_SOCKET: &str = "/run/qemu-pr-helper.sock";

/// A host.
pub(super) struct Host {
    root: PathBuf,
    pub(super) helpers: HelperStates,
    pub(super) vms: Vec<Vm>,
    /// Reasons why processes with QEMU's arguments are not among `vms`.
    pub(super) unchecked: Vec<String>,
    run: Box<Run>,
}

/// A disk that a virtual machine was given.
pub(super) struct GuestDisk<'a> {
    pub(super) vm: &'a Vm,
    pub(super) disk: &'a VmDisk,
    /// The device in sysfs; `None` if it does not exist or is no block device.
    pub(super) device: Option<BlockDevice>,
    /// Node of the device, or the path that the machine was given.
    pub(super) node: String,
}

impl GuestDisk<'_> {
    pub(super) fn subject(&self) -> Subject {
        Subject {
            vms: vec![self.vm.name.clone()],
            disks: vec![self.node.clone()],
        }
    }

    pub(super) fn is_map(&self) -> bool {
        let device = self.device.as_ref();
        device.is_some_and(BlockDevice::is_multipath_map)
    }
}

impl Host {
    /// Returns this host.
    pub(super) fn this() -> Self {
        let helpers = HelperStates(read_states(Path::new("/proc"), DEFAULT_TIMEOUT));
        Self::new(PathBuf::from("/"), helpers, Box::new(programs::run))
    }

    /// Returns a host with the files below `root`.
    pub(super) fn new(root: PathBuf, helpers: HelperStates, run: Box<Run>) -> Self {
        let mut host = Host {
            root,
            helpers,
            vms: Vec::new(),
            unchecked: Vec::new(),
            run,
        };
        (host.vms, host.unchecked) = host.running_vms();
        let domains = host.domains();
        host.vms.extend(domains);
        host
    }

    /// Returns the path of a file of this host.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// Reads a text file; `None` if it does not exist.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Result<Option<String>, String> {
        let failed = |reason: &dyn fmt::Display| {
            Err(format!("cannot read {}: {reason}", path.as_ref().display()))
        };
        match read_limited(&self.path(&path)) {
            Ok(Some(text)) if text.len() > MAX_LEN => failed(&"it is larger than 1 MiB"),
            Ok(Some(text)) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Ok(None) => failed(&"it is not a regular file"),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => failed(&system_error(&error)),
        }
    }

    /// Returns the paths of the files in a directory, in order.
    pub(super) fn files(&self, dir: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| Path::new(dir).join(entry.file_name()))
            .collect();
        files.sort();
        files
    }

    /// Runs a program of the host.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        (self.run)(program, arguments)
    }

    /// Returns the process IDs of the host.
    fn pids(&self) -> impl Iterator<Item = u32> {
        let processes = self.files("/proc").into_iter();
        processes.filter_map(|dir| dir.file_name()?.to_str()?.parse().ok())
    }

    /// Returns the processes with this name.
    pub(super) fn processes(&self, name: &str) -> Vec<u32> {
        let is_called = |pid: &u32| {
            let found = self.read(format!("/proc/{pid}/comm")).ok().flatten();
            found.is_some_and(|found| found.trim_end() == name)
        };
        self.pids().filter(is_called).collect()
    }

    /// Returns the machines that run, and the reasons why others are not checked.
    fn running_vms(&self) -> (Vec<Vm>, Vec<String>) {
        let (mut vms, mut unchecked) = (Vec::new(), Vec::new());
        for pid in self.pids() {
            let Ok(Some(line)) = self.read(format!("/proc/{pid}/cmdline")) else {
                continue;
            };
            let arguments: Vec<_> = line.split('\0').map(str::to_owned).collect();
            if let Some(vm) = Vm::from_arguments(pid, &arguments) {
                match self.check_process(pid) {
                    Ok(()) => vms.push(vm),
                    Err(reason) => unchecked.push(reason),
                }
            }
        }
        (vms, unchecked)
    }

    /// Checks that a process with QEMU's arguments is a machine of the host. Any user can start a
    /// program with such arguments.
    fn check_process(&self, pid: u32) -> Result<(), String> {
        let dir = self.path(format!("/proc/{pid}"));
        let users = status_value(&dir, "Uid")
            .ok_or_else(|| format!("cannot read Uid in /proc/{pid}/status"))?;
        let mut users = users.split_whitespace();
        if let Some(user) = users.find(|user| !user.parse().is_ok_and(is_system_user)) {
            return Err(format!(
                "the virtual machine of process {pid} belongs to user {user}, not to the host"
            ));
        }
        let exe = fs::read_link(dir.join("exe"))
            .map_err(|error| format!("cannot read /proc/{pid}/exe: {}", system_error(&error)))?;
        let name = exe.file_name().unwrap_or_default().to_string_lossy();
        // The kernel adds this to the path of a program that was replaced.
        let name = name.trim_end_matches(" (deleted)");
        match name.starts_with("qemu-") || name == "kvm" {
            true => Ok(()),
            false => Err(format!(
                "process {pid} has the arguments of QEMU, but is {}",
                exe.display()
            )),
        }
    }

    /// Returns the machines that libvirt has defined and that do not run.
    fn domains(&self) -> Vec<Vm> {
        let mut domains = Vec::new();
        for file in self.files("/etc/libvirt/qemu") {
            if file.extension().is_some_and(|extension| extension == "xml")
                && let Ok(Some(text)) = self.read(&file)
                && let Some(vm) = domain::parse(&file.to_string_lossy(), &text)
                && self.vms.iter().all(|running| running.name != vm.name)
            {
                domains.push(vm);
            }
        }
        domains
    }

    /// Returns whether libvirt has defined the machine.
    pub(super) fn is_libvirt(&self, vm: &Vm) -> bool {
        vm.file_name().is_some_and(|name| {
            self.exists(format!("/etc/libvirt/qemu/{name}.xml"))
                || self.exists(format!("/run/libvirt/qemu/{name}.xml"))
        })
    }

    /// Returns the block device at a path; `None` if it does not exist.
    pub(super) fn device(&self, path: &Path) -> Option<BlockDevice> {
        let target = fs::canonicalize(self.path(path)).ok();
        let name = target.as_deref().unwrap_or(path).file_name()?.to_owned();
        let class = self.path("/sys/class/block");
        let named = BlockDevice::from_link(&class.join(&name));
        // libvirt and dmsetup create nodes of maps, not links, where udev does not run.
        named.or_else(|| {
            let devices = fs::read_dir(class).ok()?.flatten();
            let mut devices = devices.filter_map(|entry| BlockDevice::from_link(&entry.path()));
            devices.find(|device| Path::new(&device.node()) == path)
        })
    }

    /// Returns the disks of all machines that are, or can be, used with reservations.
    pub(super) fn guest_disks(&self) -> Vec<GuestDisk<'_>> {
        let disks = self
            .vms
            .iter()
            .flat_map(|vm| vm.disks.iter().map(move |disk| (vm, disk)));
        let disks = disks.filter(|(_, disk)| disk.is_passthrough() || disk.has_helper());
        disks
            .map(|(vm, disk)| {
                let device = self.device(&disk.path);
                let node = match &device {
                    Some(device) => device.node(),
                    None => disk.path.to_string_lossy().into_owned(),
                };
                GuestDisk {
                    vm,
                    disk,
                    device,
                    node,
                }
            })
            .collect()
    }

    /// Returns each block device that machines were given, with these machines.
    pub(super) fn guest_devices(&self) -> Vec<(BlockDevice, Subject)> {
        let mut devices: Vec<(BlockDevice, Subject)> = Vec::new();
        for disk in self.guest_disks() {
            let subject = disk.subject();
            let Some(device) = disk.device else {
                continue;
            };
            match devices.iter_mut().find(|(known, _)| *known == device) {
                Some((_, known)) => known.vms.extend(subject.vms),
                None => devices.push((device, subject)),
            }
        }
        devices
    }

    /// Returns the multipath maps of the host.
    pub(super) fn maps(&self) -> Vec<BlockDevice> {
        let devices = BlockDevice::scsi_disks_in(&self.path("/sys/block"));
        let maps = devices.into_iter().filter(BlockDevice::is_multipath_map);
        maps.collect()
    }

    /// Returns the settings of multipath-tools.
    pub(super) fn multipath_settings(&self) -> Result<Vec<Setting>, String> {
        let mut files = vec![PathBuf::from("/etc/multipath.conf")];
        let is_conf = |file: &PathBuf| file.extension().is_some_and(|end| end == "conf");
        let dir = self.files("/etc/multipath/conf.d");
        files.extend(dir.into_iter().filter(is_conf));
        let mut settings = Vec::new();
        for file in files {
            if let Some(text) = self.read(&file)? {
                settings.extend(multipath_conf::parse(&file.to_string_lossy(), &text));
            }
        }
        Ok(settings)
    }

    /// Returns the paths of all sockets that listen, as far as the host and the processes of
    /// helpers and machines see them.
    pub(super) fn listening(&self) -> BTreeSet<PathBuf> {
        let helpers = self.helpers.0.iter().map(|helper| helper.process.pid);
        let vms = self.vms.iter().filter_map(|vm| vm.pid);
        let tables = helpers
            .chain(vms)
            .map(|pid| format!("/proc/{pid}/net/unix"));
        let tables = tables.chain(["/proc/net/unix".to_owned()]);
        let mut paths = BTreeSet::new();
        for table in tables {
            let table = fs::read(self.path(table)).unwrap_or_default();
            paths.extend(listening_sockets(&table).map(|socket| without_var(socket.path)));
        }
        paths
    }

    /// Returns whether a helper listens on the socket.
    pub(super) fn is_helper_socket(&self, socket: &Path) -> bool {
        let mut sockets = self.helpers.0.iter().flat_map(|one| &one.process.sockets);
        sockets.any(|own| without_var(own) == without_var(socket))
    }

    /// Returns the machines that use the helper of this process; none if that is not known.
    pub(super) fn vms_of(&self, helper: &HelperState) -> Vec<String> {
        let state = helper.state.as_ref().ok();
        let told = state.and_then(|state| state.helper.socket.as_deref().map(Path::new));
        let own = helper.process.sockets.iter().map(PathBuf::as_path);
        let own: Vec<_> = own.chain(told).map(without_var).collect();
        let uses = |vm: &&Vm| {
            let mut sockets = vm.disks.iter().filter_map(VmDisk::socket);
            sockets.any(|socket| own.contains(&without_var(socket)))
        };
        let vms = self.vms.iter().filter(uses);
        vms.map(|vm| vm.name.clone()).collect()
    }

    /// Returns the subject of a finding about a helper: the machines that use it.
    pub(super) fn subject_of(&self, helper: &HelperState) -> Subject {
        Subject {
            vms: self.vms_of(helper),
            disks: Vec::new(),
        }
    }

    /// Returns whether systemd has started the helper as its unit.
    pub(super) fn is_of_unit(&self, helper: &HelperState) -> bool {
        let file = format!("/proc/{}/cgroup", helper.process.pid);
        let groups = self.read(file).ok().flatten().unwrap_or_default();
        groups
            .lines()
            .any(|line| line.ends_with("/qemu-pr-helper.service"))
    }

    /// Returns whether libvirt starts a helper for one of the machines.
    pub(super) fn has_managed_vm(&self) -> bool {
        let mut disks = self.vms.iter().flat_map(|vm| &vm.disks);
        disks.any(|disk| disk.reservations == Reservations::Managed)
    }

    /// Returns a mask of capabilities in the status of a process.
    pub(super) fn capabilities(&self, pid: u32, name: &str) -> Option<u64> {
        let value = status_value(&self.path(format!("/proc/{pid}")), name)?;
        u64::from_str_radix(&value, 16).ok()
    }
}

/// Returns a path below `/run` in place of one below `/var/run`, which is a link.
pub(super) fn without_var(path: &Path) -> PathBuf {
    match path.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Returns whether the helper is this project's: QEMU's own has no state socket.
pub(super) fn is_own(helper: &HelperProcess) -> bool {
    helper.state_socket.is_some()
}

/// Returns whether this is a user of the system, neither an ordinary one (`login.defs(5)`,
/// systemd-homed) nor one of a user namespace or a directory service.
fn is_system_user(uid: u32) -> bool {
    matches!(uid, 0..=999 | 60_514..=65_533)
}

/// Reads a regular file up to a byte more than [`MAX_LEN`]; `None` for another file, which opening
/// neither waits for nor changes.
fn read_limited(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Returns whether a file does not exist, or its process has exited.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || linux_util::procfs::is_gone(error)
}
