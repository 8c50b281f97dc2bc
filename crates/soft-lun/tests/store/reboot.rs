// SPDX-License-Identifier: MIT OR Apache-2.0

//! A reboot of the host, which is a power loss (SPC-4, 5.12, preserving persistent reservations).

use std::fs;

use pr_testkit::cdb::{read_keys, reserve};
use scsi_pr::{ReservationType, SenseKey};

use crate::support::{Fixture, KEY_A, register};

/// Creates a soft LUN with the state file of an earlier boot, which had another boot ID.
fn rebooted(aptpl: bool) -> Fixture {
    let fixture = Fixture::new();
    fixture.expect_good("a", &register(KEY_A, aptpl));
    fixture.expect_good("a", &reserve(KEY_A, ReservationType::WriteExclusive));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other_boot_id = "00000000-0000-4000-8000-000000000000";
    let content = fixture.content("state.json");
    assert!(content.contains(boot.trim_end()));
    let content = content.replace(boot.trim_end(), other_boot_id);
    fs::write(fixture.file("state.json"), content).unwrap();
    fixture
}

#[test]
fn reboot_with_aptpl_keeps_state() {
    let fixture = rebooted(true);
    let unit = fixture.lun.load().unwrap();
    assert_eq!(unit.registrations().len(), 1);
    assert!(unit.reservation().is_some() && unit.aptpl());
    assert_eq!(unit.generation().get(), 0);
}

#[test]
fn reboot_without_aptpl_clears_state() {
    let fixture = rebooted(false);
    let unit = fixture.lun.load().unwrap();
    assert_eq!(unit.registrations(), []);
    assert_eq!(unit.reservation(), None);
}

#[test]
fn reboot_reports_power_on_once_per_port() {
    let fixture = rebooted(true);
    for port in ["a", "b"] {
        let sense = fixture.send(port, &read_keys(255)).sense.unwrap();
        let code = (sense.key, sense.code.asc, sense.code.ascq);
        assert_eq!(code, (SenseKey::UnitAttention, 0x29, 0x00));
        fixture.expect_good(port, &read_keys(255));
    }
    assert!(
        !fixture
            .content("state.json")
            .contains("00000000-0000-4000-8000")
    );
}
