// SPDX-License-Identifier: MIT OR Apache-2.0

//! Privileges and sandbox of a serving helper, as the kernel reports them.

use pr_testkit::procfs::status;
use pr_testkit::{HelperProcess, skip};
use rustix::process::geteuid;

/// Starts a helper with these options.
fn start(options: &[&str]) -> HelperProcess {
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper.args(options).start().unwrap()
}

#[test]
fn helper_has_one_capability_and_a_filter() {
    let helper = start(&[]);
    let status = |name| status(helper.pid(), name);
    assert_eq!(status("NoNewPrivs"), "1");
    assert_eq!(status("Seccomp"), "2");
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(set), "0000000000000000", "{set}");
    }
    if !geteuid().is_root() {
        return skip("not root: there are no capabilities to drop");
    }
    assert_eq!(status("CapBnd"), "0000000000000000");
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(status(set), "0000000000020000", "{set}");
    }
}

#[test]
fn sandbox_can_be_off() {
    for (option, seccomp) in [("--sandbox=off", "0"), ("--sandbox=log", "2")] {
        assert_eq!(
            status(start(&[option]).pid(), "Seccomp"),
            seccomp,
            "{option}"
        );
    }
}
