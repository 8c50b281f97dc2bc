// SPDX-License-Identifier: MIT OR Apache-2.0

//! Privileges of the serving helper.

use std::fs;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::client::{Client, pr_in};
use crate::differences::Row;
use crate::helper::Helper;
use crate::need::Need;
use crate::scratch::Scratch;

/// `CAP_SYS_RAWIO`, with which a process can send any command to a SCSI device.
const RAWIO: u64 = 1 << 17;

/// Options that select identities, and the expected user and group IDs. A group of `None` has a
/// case of its own.
const IDENTITIES: [(&str, &[&str], u32, Option<u32>); 8] = [
    ("root", &["-u", "root", "-g", "root"], 0, Some(0)),
    ("user_by_name", &["-u", "nobody"], 65534, None),
    ("user_by_id", &["-u", "65534"], 65534, None),
    (
        "unnamed_user_id",
        &["-u", "54321", "-g", "54322"],
        54321,
        Some(54322),
    ),
    (
        "user_and_group",
        &["-u", "nobody", "-g", "12"],
        65534,
        Some(12),
    ),
    ("root_group", &["-g", "root"], 0, Some(0)),
    ("group", &["-g", "12"], 0, Some(12)),
    ("last_user", &["-u", "daemon", "--user=nobody"], 65534, None),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, arguments, user, group) in IDENTITIES {
        cases.push(Case::new(format!("ids_{name}"), move |helper| {
            ids(helper, arguments, user, group)
        }));
        cases.push(Case::new(format!("capabilities_{name}"), move |helper| {
            capabilities(helper, arguments)
        }));
        cases.push(Case::new(
            format!("groups_{name}_are_dropped"),
            move |helper| groups(helper, arguments),
        ));
    }
    cases.extend([
        Case::new("capabilities_of_every_thread", |helper| {
            every_thread(helper, &[], "CapPrm")
        })
        .row(Row::ThreadsKeepPrivileges),
        Case::new("bounding_set_of_every_thread_of_a_user", |helper| {
            every_thread(helper, &["-u", "nobody"], "CapBnd")
        })
        .row(Row::ThreadsKeepPrivileges),
        Case::new("group_of_a_user_alone", group_of_a_user).row(Row::GroupKept),
        Case::new("no_new_privileges", no_new_privileges).row(Row::NoNewPrivs),
        Case::new("ids_without_options", ids_without_options).row(Row::DefaultAccount),
        Case::new("socket_of_a_user_after_exit", socket_of_a_user).row(Row::SocketOfUserLeft),
    ]);
    cases
        .into_iter()
        .map(|case| case.needs(Need::Root))
        .collect()
}

fn ids(helper: &Helper, arguments: &[&str], user: u32, group: Option<u32>) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).args(arguments).start()?;
    let all = |id: u32| format!("{id}\t{id}\t{id}\t{id}");
    let seen = running.status_line("Uid");
    ensure!(seen == all(user), "user ids {seen}");
    if let Some(group) = group {
        let seen = running.status_line("Gid");
        ensure!(seen == all(group), "group ids {seen}");
    }
    Ok(())
}

fn capabilities(helper: &Helper, arguments: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).args(arguments).start()?;
    for (name, expected) in [
        ("CapPrm", RAWIO),
        ("CapEff", RAWIO),
        ("CapBnd", 0),
        ("CapInh", 0),
        ("CapAmb", 0),
    ] {
        let seen = u64::from_str_radix(&running.status_line(name), 16)?;
        ensure!(seen == expected, "{name} is {seen:x}, not {expected:x}");
    }
    Ok(())
}

fn groups(helper: &Helper, arguments: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).args(arguments).start()?;
    let seen = running.status_line("Groups");
    ensure!(seen.is_empty(), "groups {seen}");
    Ok(())
}

/// Runs after a command, for which the helper has started its threads. One thread of the original
/// has the capabilities in this line, and no thread of our helper does.
fn every_thread(helper: &Helper, arguments: &[&str], line_name: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).args(arguments).start()?;
    let mut client: Client = running.client()?;
    client.command(&pr_in(0, 8), &[], fs::File::open("/dev/null")?)?;
    let mut threads_with = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", running.pid()))? {
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else {
            continue; // The thread has exited.
        };
        let line = status.lines().find(|line| line.starts_with(line_name));
        let bits = line
            .and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or("");
        threads_with += usize::from(u64::from_str_radix(bits, 16)? & !RAWIO != 0);
    }
    let expected = usize::from(!helper.differs(Row::ThreadsKeepPrivileges));
    ensure!(
        threads_with == expected,
        "{threads_with} threads have additional capabilities in {line_name}"
    );
    Ok(())
}

fn group_of_a_user(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper
        .serving_command(&scratch)
        .args(["-u", "nobody"])
        .start()?;
    let group = if helper.differs(Row::GroupKept) {
        65534
    } else {
        0
    };
    let seen = running.status_line("Gid");
    ensure!(seen.starts_with(&format!("{group}\t")), "group ids {seen}");
    Ok(())
}

fn no_new_privileges(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    let expected = if helper.differs(Row::NoNewPrivs) {
        "1"
    } else {
        "0"
    };
    let seen = running.status_line("NoNewPrivs");
    ensure!(seen == expected, "NoNewPrivs is {seen}");
    Ok(())
}

/// The machine need not have the account. `tests/identity.rs` runs our helper on a machine with it.
fn ids_without_options(helper: &Helper) -> Result<()> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let account = passwd.lines().find_map(|line| {
        let mut fields = line.strip_prefix("qemu-pr-helper:")?.split(':').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    });
    let root = || ("0".to_owned(), "0".to_owned());
    let (user, group) = match helper.differs(Row::DefaultAccount) {
        true => account.unwrap_or_else(root),
        false => root(),
    };
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    for (name, id) in [("Uid", user), ("Gid", group)] {
        let seen = running.status_line(name);
        ensure!(seen == [&*id; 4].join("\t"), "{name} is {seen}");
    }
    Ok(())
}

fn socket_of_a_user(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = helper.serving_command(&scratch).args(["-u", "nobody"]);
    let mut running = command.start()?;
    ensure!(running.terminate()?.success());
    let exists = running.socket().exists();
    ensure!(
        exists != helper.differs(Row::SocketOfUserLeft),
        "exists: {exists}"
    );
    Ok(())
}
