// SPDX-License-Identifier: MIT OR Apache-2.0

//! Name of a process and of its virtual machine, from the contents of `/proc/PID/cgroup`, `cmdline`
//! and `comm`.
//!
//! Only root places a process into a scope of the system's service manager, so the control group
//! has precedence over the arguments, which a process can change. A user can create control groups
//! below a service or a scope that belongs to the user, so a scope counts only if all control
//! groups above it are slices.

use cli_messages::escape::Escaped;
use helper_state::{Process, Vm};

/// Maximum length of a name in bytes, after control characters have been escaped.
const MAX_NAME_LEN: usize = 256;

/// Maximum length of libvirt's name of a machine, which is a host name for systemd.
const MAX_MACHINE_NAME_LEN: usize = 64;

/// Argument that only libvirt passes: the name of the secret for its other secrets.
const LIBVIRT_SECRET: &str = "masterKey0";

/// Returns the names of a process, without its IDs. The name is empty if the process has none.
#[must_use]
pub fn identify(cgroup: &[u8], cmdline: &[u8], comm: &[u8]) -> Process {
    let cgroup = String::from_utf8_lossy(cgroup);
    let group = ControlGroup::parse(&cgroup);
    let arguments: Vec<_> = cmdline.split(|byte| *byte == 0).collect();
    let vm = find_vm(&group, &arguments, comm);
    let program = clean(comm.trim_ascii_end());
    Process {
        name: vm.as_ref().map_or(program, |vm| vm.name.clone()),
        vm,
        unit: group.unit.map(|unit| clean(unit.as_bytes())),
        ..Process::default()
    }
}

/// The control group of a process.
#[derive(Debug, Default, PartialEq, Eq)]
struct ControlGroup<'a> {
    /// Name of the scope or service, or of the control group of the pod.
    unit: Option<&'a str>,
    owner: Owner,
}

/// Manager of a control group.
#[derive(Debug, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    Other,
    /// A machine of libvirt, with its name for systemd, such as `qemu-3-NAME`.
    Libvirt(String),
    /// A machine of Proxmox VE, with its VMID.
    Proxmox(String),
    /// A pod of Kubernetes.
    Pod,
}

impl<'a> ControlGroup<'a> {
    /// Parses the contents of `/proc/PID/cgroup`. The hierarchy of version 2 has precedence, then
    /// systemd's of version 1, then the others.
    fn parse(text: &'a str) -> Self {
        let mut lines: Vec<_> = text.lines().filter_map(hierarchy).collect();
        lines.sort_by_key(|(controllers, _)| match *controllers {
            "" => 0,
            "name=systemd" => 1,
            _ => 2,
        });
        let mut groups = lines.iter().map(|(_, path)| Self::from_path(path));
        groups
            .find(|group| group.unit.is_some())
            .unwrap_or_default()
    }

    fn from_path(path: &'a str) -> Self {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| part.starts_with("kubepods")) {
            return Self {
                unit: parts.iter().copied().find(|part| is_pod(part)),
                owner: Owner::Pod,
            };
        }
        let is_unit = |part: &&str| part.ends_with(".scope") || part.ends_with(".service");
        // A user's service manager is a service of the system's, and has services of its own.
        let unit = parts.iter().copied().rfind(is_unit);
        // `..` stands for a slice above the control group namespace of this process.
        let is_slice = |part: &&&str| part.ends_with(".slice") || **part == "..";
        let slices = parts.iter().take_while(is_slice).count();
        let scope = parts
            .get(slices)
            .and_then(|part| part.strip_suffix(".scope"));
        let slice = slices.checked_sub(1).and_then(|index| parts.get(index));
        Self {
            unit,
            owner: scope.map_or(Owner::Other, |scope| owner(slice.copied(), scope)),
        }
    }
}

/// Returns controllers and path of a line of `/proc/PID/cgroup`.
fn hierarchy(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

/// Returns whether a control group is that of a pod: `kubepods-burstable-podUID.slice` or `podUID`.
fn is_pod(part: &str) -> bool {
    let name = part.rsplit_once('-').map_or(part, |(_, last)| last);
    part.starts_with("pod") || part.contains("-pod") || name.starts_with("pod")
}

/// Returns the owner of a scope in a slice, both without their suffixes.
fn owner(slice: Option<&str>, scope: &str) -> Owner {
    let is_id = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if slice == Some("qemu.slice") && is_id(scope) {
        return Owner::Proxmox(scope.to_owned());
    }
    let machine = scope.strip_prefix("machine-").map(unescape);
    match machine {
        Some(machine) if machine_name(&machine).is_some() => Owner::Libvirt(machine),
        _ => Owner::Other,
    }
}

/// Replaces the escapes of systemd, such as `\x2d`, by their bytes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = rest.strip_prefix(b"\\x").and_then(|code| code.get(..2));
        let code = code.and_then(|code| str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the name in libvirt's name of a machine, `qemu-ID-NAME`.
fn machine_name(machine: &str) -> Option<&str> {
    let (id, name) = machine.strip_prefix("qemu-")?.split_once('-')?;
    (id.parse::<u32>().is_ok() && !name.is_empty()).then_some(name)
}

fn find_vm(group: &ControlGroup<'_>, arguments: &[&[u8]], comm: &[u8]) -> Option<Vm> {
    let option = |name| option(arguments, name);
    let is_qemu = is_qemu(arguments, comm);
    let given = option("name").filter(|_| is_qemu).and_then(guest_name);
    let (name, manager) = match &group.owner {
        Owner::Libvirt(machine) => (libvirt_name(machine, given), "libvirt"),
        Owner::Proxmox(id) => (proxmox_name(id, given), "proxmox"),
        _ if !is_qemu => return None,
        owner => match (given, option("id"), option("uuid")) {
            (given, Some(id), _) => (proxmox_name(&String::from_utf8_lossy(id), given), "proxmox"),
            (Some(name), None, _) => named_vm(&name, *owner == Owner::Pod, arguments),
            (None, None, Some(_)) => (comm.trim_ascii_end().to_owned(), "qemu"),
            (None, None, None) => return None,
        },
    };
    Some(Vm {
        name: clean(&name),
        uuid: uuid(arguments).filter(|_| is_qemu),
        manager: manager.to_owned(),
    })
}

/// Returns the name of a virtual machine that its control group does not tell, and its manager.
fn named_vm(name: &[u8], is_in_pod: bool, arguments: &[&[u8]]) -> (Vec<u8>, &'static str) {
    // Names of namespaces in Kubernetes have no underscores.
    if is_in_pod && let Some(index) = name.iter().position(|byte| *byte == b'_') {
        let mut name = name.to_owned();
        if let Some(byte) = name.get_mut(index) {
            *byte = b'/';
        }
        return (name, "kubevirt");
    }
    let has_secret = |argument: &&[u8]| contains(argument, LIBVIRT_SECRET.as_bytes());
    let manager = match arguments.iter().any(has_secret) {
        true => "libvirt",
        false => "qemu",
    };
    (name.to_owned(), manager)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Returns the name of a machine of libvirt. The control group has only the characters of a host
/// name, so the name in the arguments is better if it leads to the same control group.
fn libvirt_name(machine: &str, given: Option<Vec<u8>>) -> Vec<u8> {
    let name = machine_name(machine).unwrap_or(machine);
    let prefix = machine.strip_suffix(name).unwrap_or_default();
    given
        .filter(|given| libvirt_machine(prefix, given) == machine)
        .unwrap_or_else(|| name.into())
}

/// Returns libvirt's name of the machine with this prefix and name, as
/// `virDomainDriverGenerateMachineName` makes it.
fn libvirt_machine(prefix: &str, name: &[u8]) -> String {
    let mut machine = prefix.to_owned();
    let mut is_separated = true;
    for character in name.iter().copied().map(char::from) {
        if machine.len() >= MAX_MACHINE_NAME_LEN {
            break;
        }
        let is_separator = matches!(character, '.' | '-');
        if character.is_ascii_alphanumeric() || is_separator && !is_separated {
            machine.push(character);
        }
        is_separated = is_separator;
    }
    machine.trim_end_matches(['-', '.']).to_owned()
}

/// Returns the name that the web interface of Proxmox VE shows.
fn proxmox_name(id: &str, given: Option<Vec<u8>>) -> Vec<u8> {
    let name = given.map(|name| [b" (", &*name, b")"].concat());
    [id.as_bytes(), &name.unwrap_or_default()].concat()
}

/// Returns whether the process is QEMU, by its name and that of its program.
fn is_qemu(arguments: &[&[u8]], comm: &[u8]) -> bool {
    let program = arguments.first().copied().unwrap_or_default();
    let program = program.rsplit(|byte| *byte == b'/').next();
    let names = [program.unwrap_or_default(), comm.trim_ascii_end()];
    names
        .iter()
        .any(|name| name.starts_with(b"qemu") || *name == b"kvm")
}

/// Returns the value of an option of QEMU, which begins with one or two dashes.
fn option<'a>(arguments: &[&'a [u8]], name: &str) -> Option<&'a [u8]> {
    options(arguments, name).next()
}

fn options<'a>(arguments: &[&'a [u8]], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let is_named = move |argument: &[u8]| {
        let option = argument.strip_prefix(b"-").unwrap_or_default();
        option.strip_prefix(b"-").unwrap_or(option) == name.as_bytes()
    };
    arguments.windows(2).filter_map(move |pair| match pair {
        [option, value] if is_named(option) => Some(*value),
        _ => None,
    })
}

/// Returns the guest's name in the value of `-name`: `[guest=]NAME,…`.
fn guest_name(value: &[u8]) -> Option<Vec<u8>> {
    let parts = split_value(value);
    let named = parts.iter().find_map(|part| part.strip_prefix(b"guest="));
    let first = parts.first().filter(|part| !part.contains(&b'='));
    let name = named.or_else(|| first.map(Vec::as_slice))?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Splits the value of an option at its commas. Two commas stand for one.
fn split_value(value: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b',' && bytes.next_if_eq(&b',').is_none() {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(byte);
        }
    }
    parts
}

/// Returns the UUID of `-uuid`, or of `-smbios type=1`, where Proxmox VE has it.
fn uuid(arguments: &[&[u8]]) -> Option<String> {
    let in_smbios = |value: &[u8]| {
        let parts = split_value(value);
        let is_system = parts.iter().any(|part| part == b"type=1");
        let uuid = parts.iter().find_map(|part| part.strip_prefix(b"uuid="));
        uuid.filter(|_| is_system).and_then(parse_uuid)
    };
    option(arguments, "uuid")
        .and_then(parse_uuid)
        .or_else(|| options(arguments, "smbios").find_map(in_smbios))
}

fn parse_uuid(text: &[u8]) -> Option<String> {
    let parts = text.split(|byte| *byte == b'-').map(<[u8]>::len);
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let is_uuid = parts.eq([8, 4, 4, 4, 12]) && text.iter().all(is_hex);
    is_uuid.then(|| String::from_utf8_lossy(text).to_ascii_lowercase())
}

/// Returns external text with its control characters escaped, and limited in length.
pub(super) fn clean(text: &[u8]) -> String {
    let text = text.get(..MAX_NAME_LEN).unwrap_or(text);
    let mut text = Escaped(String::from_utf8_lossy(text)).to_string();
    text.truncate(text.floor_char_boundary(MAX_NAME_LEN));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";

    /// Returns the process with this control group and these arguments.
    fn process(cgroup: &str, arguments: &[&str]) -> Process {
        let cmdline = arguments.join("\0") + "\0";
        identify(cgroup.as_bytes(), cmdline.as_bytes(), b"qemu-system-x86\n")
    }

    /// Returns the manager and the name of the virtual machine.
    fn vm(cgroup: &str, arguments: &[&str]) -> (String, String) {
        let process = process(cgroup, arguments);
        let vm = process.vm.unwrap();
        assert_eq!(process.name, vm.name);
        (vm.manager, vm.name)
    }

    fn expected(manager: &str, name: &str) -> (String, String) {
        (manager.to_owned(), name.to_owned())
    }

    #[test]
    fn libvirt_scope_names_the_machine() {
        let cgroup = "0::/machine.slice/machine-qemu\\x2d3\\x2dweb\\x2d1.scope/libvirt/emulator\n";
        let arguments = [
            "/usr/bin/qemu-system-x86_64",
            "-name",
            "guest=web-1,debug-threads=on",
        ];
        let found = process(cgroup, &[&arguments[..], &["-uuid", UUID]].concat());
        assert_eq!(found.name, "web-1");
        let unit = "machine-qemu\\x2d3\\x2dweb\\x2d1.scope";
        assert_eq!(found.unit.as_deref(), Some(unit));
        let vm = found.vm.unwrap();
        assert_eq!((&*vm.manager, vm.uuid.as_deref()), ("libvirt", Some(UUID)));
    }

    #[test]
    fn libvirt_scope_beats_the_arguments() {
        for cgroup in [
            "0::/machine.slice/machine-qemu\\x2d3\\x2dmyvm.scope\n",
            "0::/../../machine.slice/machine-qemu\\x2d3\\x2dmyvm.scope/libvirt/vcpu0\n",
            "4:memory:/machine.slice/machine-qemu\\x2d3\\x2dmyvm.scope\n\
             1:name=systemd:/machine.slice/machine-qemu\\x2d3\\x2dmyvm.scope\n0::/\n",
        ] {
            for (given, name) in [
                ("guest=other,debug-threads=on", "myvm"),
                // libvirt leaves out characters that a host name cannot have.
                ("guest=my_vm,debug-threads=on", "my_vm"),
            ] {
                let found = vm(cgroup, &["qemu-kvm", "-name", given]);
                assert_eq!(found, expected("libvirt", name), "{cgroup}");
            }
            assert_eq!(vm(cgroup, &[""]), expected("libvirt", "myvm"));
        }
    }

    #[test]
    fn long_name_is_that_of_the_arguments() {
        let name = "a.b-".repeat(30);
        let machine = libvirt_machine("qemu-12-", name.as_bytes());
        assert!(machine.len() <= MAX_MACHINE_NAME_LEN, "{machine}");
        let cgroup = format!(
            "0::/machine.slice/machine-{}.scope",
            machine.replace('-', "\\x2d")
        );
        let found = vm(&cgroup, &["qemu-kvm", "-name", &format!("guest={name}")]);
        assert_eq!(found, expected("libvirt", &name));
    }

    #[test]
    fn scope_of_a_user_does_not_name_a_machine() {
        let scope = "machine-qemu\\x2d3\\x2dvictim.scope";
        for path in [
            format!("/user.slice/user-1000.slice/user@1000.service/app.slice/{scope}"),
            format!("/system.slice/docker-1234.scope/machine.slice/{scope}"),
        ] {
            let found = vm(&format!("0::{path}\n"), &["qemu-kvm", "-name", "own"]);
            assert_eq!(found, expected("qemu", "own"), "{path}");
        }
    }

    #[test]
    fn libvirt_without_systemd_is_known_by_its_secret() {
        let secret = "{\"qom-type\":\"secret\",\"id\":\"masterKey0\",\"format\":\"raw\"}";
        let arguments = [
            "qemu-kvm",
            "-name",
            "guest=a,,b,debug-threads=on",
            "-object",
            secret,
        ];
        assert_eq!(vm("0::/\n", &arguments), expected("libvirt", "a,b"));
    }

    #[test]
    fn kubevirt_name_has_a_namespace() {
        let uid = "3c9a3d4e_1111_2222_3333_444455556666";
        let slice = format!("kubepods-burstable-pod{uid}.slice");
        let systemd = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-0a1b.scope\n"
        );
        let arguments = [
            "/usr/libexec/qemu-kvm",
            "-name",
            "guest=prod_web-1,debug-threads=on",
        ];
        let found = process(&systemd, &arguments);
        assert_eq!(found.name, "prod/web-1");
        assert_eq!(found.unit.as_deref(), Some(&*slice));
        let cgroupfs = "11:memory:/kubepods/burstable/pod3c9a3d4e-1111/0a1b2c\n";
        let found = process(cgroupfs, &arguments);
        assert_eq!(found.vm.unwrap().manager, "kubevirt");
        assert_eq!(found.unit.as_deref(), Some("pod3c9a3d4e-1111"));
        // The name cannot be taken apart.
        let found = vm(&systemd, &["qemu-kvm", "-name", "guest=web"]);
        assert_eq!(found, expected("qemu", "web"));
    }

    #[test]
    fn proxmox_name_has_the_vmid() {
        let cgroup = "0::/qemu.slice/100.scope\n";
        let smbios = format!("type=1,uuid={}", UUID.to_uppercase());
        let arguments = [
            "/usr/bin/kvm",
            "-id",
            "100",
            "-name",
            "web1,debug-threads=on",
        ];
        let found = process(cgroup, &[&arguments[..], &["-smbios", &smbios]].concat());
        assert_eq!(found.name, "100 (web1)");
        assert_eq!(found.vm.unwrap().uuid.as_deref(), Some(UUID));
        assert_eq!(vm("0::/\n", &arguments), expected("proxmox", "100 (web1)"));
        let other = ["kvm", "-id", "101"];
        assert_eq!(vm(cgroup, &other), expected("proxmox", "100"));
    }

    #[test]
    fn plain_qemu_has_a_name_or_a_uuid() {
        let scope = "0::/user.slice/user-1000.slice/session-3.scope\n";
        let found = process(scope, &["qemu-system-x86_64", "--name", "test"]);
        assert_eq!(
            (&*found.name, found.unit.as_deref()),
            ("test", Some("session-3.scope"))
        );
        for name in ["test,process=qemu:test", "process=p,guest=test"] {
            let found = vm("", &["qemu-system-x86_64", "-name", name]);
            assert_eq!(found, expected("qemu", "test"));
        }
        let found = vm("", &["qemu-system-x86_64", "-uuid", UUID]);
        assert_eq!(found, expected("qemu", "qemu-system-x86"));
        let found = process("", &["qemu-system-x86_64", "-m", "512", "-name"]);
        assert_eq!((found.vm, &*found.name), (None, "qemu-system-x86"));
    }

    #[test]
    fn other_program_has_its_name() {
        let found = identify(
            b"0::/system.slice/a.service\n",
            b"find\0-name\0x\0",
            b"find\n",
        );
        assert_eq!((found.vm, &*found.name), (None, "find"));
        assert_eq!(found.unit.as_deref(), Some("a.service"));
        assert_eq!(identify(b"", b"", b""), Process::default());
    }

    #[test]
    fn names_are_escaped_and_limited() {
        let found = vm("", &["qemu-kvm", "-name", "a\nb\u{202e}"]);
        assert_eq!(found.1, "a\\nb\\u{202e}");
        let found = vm("", &["qemu-kvm", "-name", &"\u{85}".repeat(1000)]);
        assert!(found.1.len() <= MAX_NAME_LEN);
        let found = process("", &["qemu-kvm", "-name", "a", "-uuid", "a\nb"]);
        assert_eq!(found.vm.unwrap().uuid, None);
    }
}
