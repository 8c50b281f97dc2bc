// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of the helper's sockets that virtual machines were given.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use linux_util::procfs::status_value;

use crate::commands::doctor::finding::Severity::Problem;
use crate::commands::doctor::finding::{Check, Fault, Results};
use crate::commands::doctor::fix::Line;
use crate::commands::doctor::host::{DEFAULT_SOCKET, GuestDisk, Host, without_var};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "socket-unreachable",
        severity: Problem,
        consequence: "The virtual machine does not start, or its reservation commands fail after \
                      five seconds.",
        run: socket_unreachable,
    },
    Check {
        id: "socket-not-writable",
        severity: Problem,
        consequence: "QEMU cannot connect to the helper, so the virtual machine does not start.",
        run: socket_not_writable,
    },
];

/// User and groups of a process.
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    name: String,
    uid: u32,
    groups: Vec<u32>,
}

fn socket_unreachable(host: &Host, results: &mut Results) {
    let listening = host.listening();
    for disk in host.guest_disks() {
        let Some(socket) = disk.disk.socket() else {
            continue;
        };
        if listening.contains(&without_var(socket)) {
            continue;
        }
        let what = format!(
            "no process listens on {}, the helper's socket of {}",
            socket.display(),
            disk.vm.name
        );
        // A helper can remove another file in order to bind its socket.
        let is_other_file =
            fs::symlink_metadata(host.path(socket)).is_ok_and(|file| !file.file_type().is_socket());
        let fix = match without_var(socket) == Path::new(DEFAULT_SOCKET) {
            true => Line::command("systemctl enable --now qemu-pr-helper.socket"),
            false if is_other_file => other_socket(),
            false => Line::command("qemu-pr-helper -d -k").value(socket),
        };
        let fault = Fault {
            what,
            evidence: format!("{}; /proc/net/unix", disk.disk.text),
            fix: vec![fix],
        };
        results.add(disk.subject(), fault);
    }
}

fn socket_not_writable(host: &Host, results: &mut Results) {
    for disk in host.guest_disks() {
        let Some(socket) = disk.disk.socket() else {
            continue;
        };
        // A socket that does not exist is another finding.
        let Ok((path, file)) = find_socket(host, &disk, socket) else {
            results.skip(format!(
                "cannot read the permissions of {}",
                socket.display()
            ));
            continue;
        };
        let Some(file) = file else {
            continue;
        };
        let Some(user) = user(host, &disk) else {
            results.skip(format!("the user of {} is not known", disk.vm.name));
            continue;
        };
        let Some(reason) = denial(host, &user, &path, &file) else {
            continue;
        };
        let fault = Fault {
            what: format!(
                "user {} of QEMU cannot connect to {}",
                user.name,
                socket.display()
            ),
            evidence: reason,
            fix: fix(host, socket, &user),
        };
        results.add(disk.subject(), fault);
    }
}

/// Returns the advice for a path that is not the socket of a helper.
fn other_socket() -> Line {
    Line::comment("This is not the socket of a helper. Give the virtual machine that of a helper.")
}

fn fix(host: &Host, socket: &Path, user: &Credentials) -> Vec<Line> {
    let is_default = without_var(socket) == Path::new(DEFAULT_SOCKET);
    if !is_default && !host.is_helper_socket(socket) {
        return vec![other_socket()];
    }
    let change = Line::command("chown").value(&user.name).value(socket);
    if !is_default {
        return vec![change];
    }
    vec![
        change.and("chmod 0600").value(socket),
        Line::command("systemctl edit qemu-pr-helper.socket")
            .note("for the next start of the socket"),
        Line::comment("[Socket]"),
        Line::comment(format!("SocketUser={}", user.name)),
    ]
}

/// Returns the socket as the machine sees it; nothing if it does not exist, or is another file.
fn find_socket(
    host: &Host,
    disk: &GuestDisk<'_>,
    socket: &Path,
) -> Result<(PathBuf, Option<Metadata>), ()> {
    let mut paths = vec![host.path(socket)];
    // A machine can run in another mount namespace.
    if let Some(pid) = disk.vm.pid {
        let relative = socket.strip_prefix("/").unwrap_or(socket);
        paths.insert(0, host.path(format!("/proc/{pid}/root")).join(relative));
    }
    for path in &paths {
        if let Ok(file) = fs::metadata(path)
            && file.file_type().is_socket()
        {
            return Ok((path.clone(), Some(file)));
        }
    }
    match paths.iter().all(|path| path.try_exists().is_ok()) {
        true => Ok((socket.to_owned(), None)),
        false => Err(()),
    }
}

/// Returns why a user cannot connect to a socket.
fn denial(host: &Host, user: &Credentials, path: &Path, file: &Metadata) -> Option<String> {
    let may = |file: &Metadata, bit: u32| {
        let class = match () {
            () if user.uid == 0 => return true,
            () if file.uid() == user.uid => bit << 6,
            () if user.groups.contains(&file.gid()) => bit << 3,
            () => bit,
        };
        file.mode() & class != 0
    };
    let describe = |path: &Path, file: &Metadata| {
        let (mode, uid, gid) = (file.mode() & 0o7777, file.uid(), file.gid());
        let path = path.strip_prefix(host.path("/")).unwrap_or(path).display();
        format!("/{path}: mode {mode:04o}, user {uid}, group {gid}")
    };
    if !may(file, 0o2) {
        return Some(describe(path, file));
    }
    let root = host.path("/");
    let dirs = path.ancestors().skip(1).take_while(|dir| *dir != root);
    dirs.into_iter()
        .filter(|dir| dir.starts_with(&root) && !dir.starts_with(root.join("proc")))
        .find_map(|dir| {
            let file = fs::metadata(dir).ok()?;
            (!may(&file, 0o1)).then(|| describe(dir, &file))
        })
}

/// Returns the user that QEMU runs as, or will run as.
fn user(host: &Host, disk: &GuestDisk<'_>) -> Option<Credentials> {
    let accounts = host.read("/etc/passwd").ok().flatten().unwrap_or_default();
    let account = |position: usize, value: &str| {
        let mut lines = accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        lines.find(|fields| fields.get(position) == Some(&value))
    };
    if let Some(pid) = disk.vm.pid {
        let dir = host.path(format!("/proc/{pid}"));
        let effective = |name: &str| {
            status_value(&dir, name)?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()
        };
        let uid: u32 = effective("Uid")?;
        let groups = status_value(&dir, "Groups")?;
        let groups = groups
            .split_whitespace()
            .filter_map(|group| group.parse().ok());
        let name = account(2, &uid.to_string()).and_then(|fields| fields.first().copied());
        return Some(Credentials {
            name: name.map_or_else(|| uid.to_string(), str::to_owned),
            uid,
            groups: groups.chain(effective("Gid")).collect(),
        });
    }
    let configured = configured(host, "user");
    let configured = configured.as_deref();
    let by_name = configured.into_iter().chain(["libvirt-qemu", "qemu"]);
    let by_name = by_name.filter_map(|name| account(0, name));
    let by_number = configured.and_then(|number| account(2, number));
    let fields = by_number.into_iter().chain(by_name).next()?;
    let number = |index: usize| fields.get(index)?.parse().ok();
    let name = (*fields.first()?).to_owned();
    Some(Credentials {
        uid: number(2)?,
        groups: groups(host, &name, number(3)?),
        name,
    })
}

/// Returns the groups that libvirt gives QEMU: the configured one in place of the user's own, and
/// those with the user as a member.
fn groups(host: &Host, user: &str, own: u32) -> Vec<u32> {
    let text = host.read("/etc/group").ok().flatten().unwrap_or_default();
    let configured = configured(host, "group");
    let mut first = configured.as_deref().and_then(|number| number.parse().ok());
    let mut groups = Vec::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, number, members] = fields.as_slice() else {
            continue;
        };
        let Ok(number) = number.parse() else {
            continue;
        };
        if Some(*name) == configured.as_deref() {
            first = Some(number);
        }
        if members.split(',').any(|member| member == user) {
            groups.push(number);
        }
    }
    groups.push(first.unwrap_or(own));
    groups
}

/// Returns a value in libvirt's configuration of QEMU.
fn configured(host: &Host, name: &str) -> Option<String> {
    let text = host.read("/etc/libvirt/qemu.conf").ok()??;
    let mut values = text.lines().filter_map(|line| line.split_once('='));
    let (_, value) = values.rfind(|(found, _)| found.trim() == name)?;
    let value = value.trim().trim_matches('"');
    // The prefix stands for a number.
    Some(value.trim_start_matches('+').to_owned())
}
