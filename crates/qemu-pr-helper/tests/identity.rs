// SPDX-License-Identifier: MIT OR Apache-2.0

//! User and group of a helper that root starts, with and without `-u` and `-g`.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::fs;

use pr_testkit::namespace::mount_namespace;
use pr_testkit::procfs::{only_child, status};
use pr_testkit::{HelperProcess, skip};
use rustix::process::{Pid, geteuid};

const USER: u32 = 54_321;
const GROUP: u32 = 54_322;

/// Adds the account `qemu-pr-helper`.
const SCRIPT: &str = "mount --bind passwd /etc/passwd";

/// Starts a helper on a host with the account, by a shell script that ends with `prefix`. Prints
/// the reason and returns `None` if this host does not support that.
fn start(prefix: &str, options: &[&str]) -> Option<(HelperProcess, tempfile::TempDir)> {
    if !geteuid().is_root() {
        skip("not root");
        return None;
    }
    let wrapper = mount_namespace(SCRIPT)?.into_iter();
    let wrapper = wrapper.chain(prefix.split_whitespace().map(str::to_owned));
    let dir = tempfile::tempdir().unwrap();
    let account = format!("qemu-pr-helper:x:{USER}:{GROUP}::/:/usr/sbin/nologin\n");
    let passwd = account + &fs::read_to_string("/etc/passwd").unwrap();
    fs::write(dir.path().join("passwd"), passwd).unwrap();
    fs::create_dir(dir.path().join("luns")).unwrap();
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    let helper = helper.wrapper(wrapper).dir(dir.path()).args(options);
    Some((helper.start().unwrap(), dir))
}

/// Returns the effective user and group of a process.
fn ids(process: Pid) -> (u32, u32) {
    let id = |name| {
        let ids = status(process, name);
        ids.split('\t').nth(1).unwrap().parse().unwrap()
    };
    (id("Uid"), id("Gid"))
}

#[test]
fn root_becomes_the_account_and_the_broker_stays_root() {
    let Some((helper, _dir)) = start("", &[]) else {
        return;
    };
    let helper = helper.pid();
    assert_eq!(ids(helper), (USER, GROUP));
    assert_eq!(ids(only_child(helper)), (0, 0));
    for (name, value) in [
        ("CapEff", "0000000000020000"),
        ("CapPrm", "0000000000020000"),
        ("Groups", ""),
    ] {
        assert_eq!(status(helper, name), value, "{name}");
    }
}

#[test]
fn chosen_ids_are_used_instead_of_the_account() {
    for (options, expected) in [
        (&["-u", "root"][..], (0, 0)),
        (&["-g", "root"], (0, 0)),
        (&["-g", "12"], (0, 12)),
        (&["-u", "12345", "-g", "12346"], (12345, 12346)),
    ] {
        let Some((helper, _dir)) = start("", options) else {
            return;
        };
        assert_eq!(ids(helper.pid()), expected, "{options:?}");
    }
}

#[test]
fn soft_luns_are_served_as_root() {
    let Some((helper, _dir)) = start("", &["--soft-luns", "luns"]) else {
        return;
    };
    assert_eq!(ids(helper.pid()), (0, 0));
}

/// A container can lack the capabilities to change IDs.
#[test]
fn root_without_setuid_stays_root_and_logs_it() {
    for capabilities in ["-setuid", "-setgid", "-setuid,-setgid"] {
        let prefix = format!("setpriv --bounding-set={capabilities} --inh-caps={capabilities}");
        let Some((helper, _dir)) = start(&prefix, &["-v"]) else {
            return;
        };
        assert_eq!(ids(helper.pid()), (0, 0), "{capabilities}");
        let log = helper.stderr();
        assert!(log.contains("account qemu-pr-helper not used"), "{log}");
    }
}
