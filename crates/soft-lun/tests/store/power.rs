//! A restart of the host is a loss of power. (SPC-4, 5.12, preserving persistent reservations.)

use std::fs;

use scsi_pr::{ReservationType, SenseKey};

use crate::support::{KEY_A, Scratch, read_keys, register, reserve};

/// As after a restart: the state was written under another one.
fn restarted(aptpl: bool) -> Scratch {
    let scratch = Scratch::new();
    scratch.good("a", &register(KEY_A, aptpl));
    scratch.good("a", &reserve(KEY_A, ReservationType::WriteExclusive));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = "00000000-0000-4000-8000-000000000000";
    let content = scratch.content("state.json");
    assert!(content.contains(boot.trim_end()));
    let content = content.replace(boot.trim_end(), other);
    fs::write(scratch.file("state.json"), content).unwrap();
    scratch
}

#[test]
fn with_aptpl_all_is_still_there() {
    let scratch = restarted(true);
    let unit = scratch.lun.load().unwrap();
    assert_eq!(unit.registrations().len(), 1);
    assert!(unit.reservation().is_some() && unit.aptpl());
    assert_eq!(unit.generation().get(), 0);
}

#[test]
fn without_all_is_gone() {
    let scratch = restarted(false);
    let unit = scratch.lun.load().unwrap();
    assert_eq!(unit.registrations(), []);
    assert_eq!(unit.reservation(), None);
}

#[test]
fn every_port_is_told_once() {
    let scratch = restarted(true);
    for port in ["a", "b"] {
        let sense = scratch.send(port, &read_keys()).sense.unwrap();
        let code = (sense.key, sense.code.asc, sense.code.ascq);
        assert_eq!(code, (SenseKey::UnitAttention, 0x29, 0x00));
        scratch.good(port, &read_keys());
    }
    assert!(
        !scratch
            .content("state.json")
            .contains("00000000-0000-4000-8000")
    );
}
