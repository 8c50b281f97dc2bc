// SPDX-License-Identifier: MIT OR Apache-2.0

//! Virtual machines: running ones, from QEMU's command line, and those that libvirt has defined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Properties of an object of QEMU, with those of nested objects as `file.filename`.
pub(super) type Properties = BTreeMap<String, String>;

/// A virtual machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Vm {
    pub(super) name: String,
    /// Process ID if it runs.
    pub(super) pid: Option<u32>,
    /// The file that describes it, as evidence.
    pub(super) source: String,
    /// Machine type, such as `pc-q35-10.0`.
    pub(super) machine: Option<String>,
    pub(super) disks: Vec<VmDisk>,
}

/// A disk of a virtual machine.
#[derive(Clone, Debug, Default)]
pub(super) struct VmDisk {
    /// QEMU's device, such as `scsi-block`.
    pub(super) driver: String,
    /// Path on the host.
    pub(super) path: PathBuf,
    pub(super) reservations: Reservations,
    /// Properties of QEMU's device.
    pub(super) properties: Properties,
    /// The text that describes it, with its line if the file has lines.
    pub(super) text: String,
}

/// The way in which a disk's reservations reach the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Reservations {
    /// QEMU sends them itself.
    #[default]
    Direct,
    /// Through the helper at this socket.
    Helper(PathBuf),
    /// Through a helper that libvirt starts with the machine.
    Managed,
}

impl VmDisk {
    /// Returns whether the guest's commands reach the device.
    pub(super) fn is_passthrough(&self) -> bool {
        matches!(self.driver.as_str(), "scsi-block" | "scsi-generic")
    }

    /// Returns whether reservations are configured.
    pub(super) fn has_helper(&self) -> bool {
        self.reservations != Reservations::Direct
    }

    /// Returns the socket of the helper if it is known.
    pub(super) fn socket(&self) -> Option<&Path> {
        match &self.reservations {
            Reservations::Helper(path) => Some(path),
            Reservations::Direct | Reservations::Managed => None,
        }
    }

    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }
}

impl Vm {
    /// Returns the name as a part of a path; `None` if it would name another directory, as the name
    /// of a machine of libvirt cannot.
    pub(super) fn file_name(&self) -> Option<&str> {
        let is_unsafe = |character: char| character == '/' || character.is_control();
        (!self.name.contains(is_unsafe)).then_some(&self.name)
    }

    /// Returns the machine with these arguments; `None` if they are not those of QEMU.
    pub(super) fn from_arguments(pid: u32, arguments: &[String]) -> Option<Self> {
        let program = Path::new(arguments.first()?).file_name()?.to_str()?;
        if !(program.starts_with("qemu-system") || program == "qemu-kvm" || program == "kvm") {
            return None;
        }
        let options = Options::parse(arguments);
        let name = options.all("name", "guest").next();
        let name = name.and_then(|mut name| name.remove("guest"));
        let machine = options.all("machine", "type").next();
        let machine = machine.or_else(|| options.all("M", "type").next());
        let mut sockets = Properties::new();
        for object in options.all("object", "qom-type") {
            if let (Some(id), Some(path)) = (object.get("id"), object.get("path"))
                && object
                    .get("qom-type")
                    .is_some_and(|kind| kind == "pr-manager-helper")
            {
                sockets.insert(id.clone(), path.clone());
            }
        }
        let nodes: Vec<_> = options
            .all("blockdev", "driver")
            .chain(options.all("drive", "id"))
            .collect();
        let devices = options.all("device", "driver");
        Some(Vm {
            name: name.unwrap_or_else(|| format!("process {pid}")),
            pid: Some(pid),
            source: format!("/proc/{pid}/cmdline"),
            machine: machine.and_then(|mut machine| machine.remove("type")),
            disks: devices
                .filter_map(|device| disk(device, &nodes, &sockets))
                .collect(),
        })
    }
}

/// Returns the disk of a device, unless its data are not in a file or device of the host.
fn disk(device: Properties, nodes: &[Properties], sockets: &Properties) -> Option<VmDisk> {
    let driver = device.get("driver")?.clone();
    let mut reference = device.get("drive")?.clone();
    let (mut path, mut manager, mut policies) = (None, None, Properties::new());
    // A node can name the node below it. The number of nodes bounds a cycle.
    for _ in 0..=nodes.len() {
        let Some(node) = nodes.iter().find(|node| {
            let names = [node.get("node-name"), node.get("id")];
            names.contains(&Some(&reference))
        }) else {
            break;
        };
        let value = |name: &str| {
            let suffix = format!(".{name}");
            let mut properties = node.iter();
            let found = properties.find(|(key, _)| *key == name || key.ends_with(&suffix));
            found.map(|(_, value)| value.clone())
        };
        path = path.or_else(|| value("filename"));
        manager = manager.or_else(|| value("pr-manager"));
        // With -drive, the policies belong to the drive.
        for name in ["werror", "rerror"] {
            if let Some(policy) = node.get(name) {
                policies.insert(name.to_owned(), policy.clone());
            }
        }
        match node.get("file") {
            Some(file) if file.starts_with('/') => path = path.or_else(|| Some(file.clone())),
            Some(file) => {
                reference.clone_from(file);
                continue;
            }
            None => {}
        }
        break;
    }
    let socket = manager.map(|manager| sockets.get(&manager).cloned().unwrap_or_default());
    policies.extend(device);
    let path = path?;
    Some(VmDisk {
        text: format!("-device {driver}, {path}"),
        driver,
        path: path.into(),
        reservations: socket.map_or(Reservations::Direct, |path| {
            Reservations::Helper(path.into())
        }),
        properties: policies,
    })
}

/// The options of a command line, in order.
struct Options(Vec<(String, String)>);

impl Options {
    fn parse(arguments: &[String]) -> Self {
        let pairs = arguments.iter().zip(arguments.iter().skip(1));
        let options = pairs.filter_map(|(option, value)| {
            let name = option.strip_prefix('-')?;
            Some((name.trim_start_matches('-').to_owned(), value.clone()))
        });
        Self(options.collect())
    }

    /// Returns the values of an option. `implied` is the property of a value without a name.
    fn all(&self, name: &str, implied: &str) -> impl Iterator<Item = Properties> {
        let options = self.0.iter().filter(move |(option, _)| option == name);
        options.map(move |(_, value)| properties(value, implied))
    }
}

/// Parses the value of an option: JSON, or `name=value` separated by commas.
fn properties(value: &str, implied: &str) -> Properties {
    let mut properties = Properties::new();
    if let Ok(json) = serde_json::from_str::<Value>(value)
        && json.is_object()
    {
        flatten("", &json, &mut properties);
        return properties;
    }
    // Two commas stand for one in a value.
    let value = value.replace(",,", "\0");
    for (index, part) in value.split(',').enumerate() {
        let (name, value) = match part.split_once('=') {
            Some(pair) => pair,
            None if index == 0 => (implied, part),
            None => (part, "on"),
        };
        properties.insert(name.to_owned(), value.replace('\0', ","));
    }
    properties
}

fn flatten(prefix: &str, json: &Value, properties: &mut Properties) {
    let Value::Object(members) = json else {
        let text = match json {
            Value::String(text) => text.clone(),
            Value::Bool(true) => "on".to_owned(),
            Value::Bool(false) => "off".to_owned(),
            other => other.to_string(),
        };
        properties.insert(prefix.to_owned(), text);
        return;
    };
    for (name, value) in members {
        let name = match prefix {
            "" => name.clone(),
            _ => format!("{prefix}.{name}"),
        };
        flatten(&name, value, properties);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(line: &str) -> Vm {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Vm::from_arguments(7, &arguments).unwrap()
    }

    #[test]
    fn libvirt_s_arguments_are_parsed() {
        let vm = vm(
            r#"/usr/bin/qemu-system-x86_64 -name guest=web1,debug-threads=on
            -object {"qom-type":"pr-manager-helper","id":"pr-helper0","path":"/run/a.sock"}
            -machine pc-q35-10.0,usb=off
            -blockdev {"filename":"/dev/dm-0","pr-manager":"pr-helper0","node-name":"n"}
            -device {"driver":"scsi-block","drive":"n","werror":"report","migrate-pr":false}
            -device {"driver":"virtio-scsi-pci","id":"scsi0"}"#,
        );
        assert_eq!(vm.name, "web1");
        assert_eq!(vm.machine.as_deref(), Some("pc-q35-10.0"));
        let [disk] = vm.disks.as_slice() else {
            panic!("{:?}", vm.disks)
        };
        assert_eq!(disk.socket(), Some(Path::new("/run/a.sock")));
        assert_eq!(disk.path, Path::new("/dev/dm-0"));
        assert_eq!(disk.property("werror"), Some("report"));
        assert_eq!(disk.property("migrate-pr"), Some("off"));
    }

    #[test]
    fn nodes_and_drives_are_followed() {
        let vm = vm(
            "qemu-kvm -name web2 -object pr-manager-helper,id=h,path=/run/b,,c.sock \
             -blockdev driver=raw,node-name=top,file=bottom \
             -blockdev driver=host_device,node-name=bottom,filename=/dev/sda,pr-manager=h \
             -device scsi-block,drive=top -device scsi-hd,drive=old \
             -drive file=/dev/sdb,if=none,id=old,file.pr-manager=h,werror=ignore \
             -blockdev driver=raw,node-name=loop,file=loop -device scsi-hd,drive=loop",
        );
        let [first, second] = vm.disks.as_slice() else {
            panic!("{:?}", vm.disks)
        };
        assert_eq!(vm.name, "web2");
        assert_eq!(first.socket(), Some(Path::new("/run/b,c.sock")));
        assert_eq!(first.path, Path::new("/dev/sda"));
        assert_eq!(second.path, Path::new("/dev/sdb"));
        assert_eq!(second.property("werror"), Some("ignore"));
        assert!(first.is_passthrough() && !second.is_passthrough());
    }

    #[test]
    fn other_programs_are_no_machines() {
        for program in ["qemu-img", "bash", "", "/"] {
            assert!(Vm::from_arguments(1, &[program.to_owned()]).is_none());
        }
        assert!(Vm::from_arguments(1, &[]).is_none());
    }
}
