// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl validate` on disks with planted faults: each one is found by the step that is about it,
//! and the disk is left unchanged.

use std::thread;
use std::time::Duration;

use scsi_pr::{
    AdditionalSense, Cdb, InServiceAction, OutServiceAction, ReservationKey, ReservationType,
    Status,
};
use soft_lun::{LogicalUnit, Reservation, Response, UnitAttention};

use crate::faulty_disk::{Fault, FaultyDisk, illegal, status};
use crate::validate::{FAILED, after, expect_unchanged, steps, validate, with_data};

/// Panics unless the first step that did not pass is `step`.
#[track_caller]
fn expect_first_failure(fault: Fault, step: &str) {
    let run = validate(&FaultyDisk::start(fault));
    assert_eq!(run.status, FAILED, "{}", run.stderr);
    let failed = steps(&run.json(), "failed");
    assert_eq!(failed.first().map(String::as_str), Some(step), "{failed:?}");
}

/// Like [`expect_first_failure`], for a fault that no other step can notice.
#[track_caller]
fn expect_only_failure(fault: Fault, step: &str) {
    let run = validate(&FaultyDisk::start(fault));
    assert_eq!(run.status, FAILED, "{}", run.stderr);
    assert_eq!(steps(&run.json(), "failed"), [step]);
}

#[test]
fn reserve_that_never_conflicts_is_found() {
    let fault = after(OutServiceAction::Reserve, |exchange, response| {
        let key = exchange.unit.key(exchange.sender());
        if key == Some(exchange.list.reservation_key) {
            *response = status(Status::GOOD);
        }
    });
    expect_first_failure(fault, "reserve-conflict-we");
}

#[test]
fn missing_unit_attention_after_preempt_is_found() {
    let fault = after(OutServiceAction::Preempt, |exchange, _| {
        exchange.edit(|state| state.unit_attentions.clear());
    });
    expect_first_failure(fault, "preempt-attention");
}

#[test]
fn repeated_unit_attention_is_found() {
    let mut last = None;
    let fault: Fault = Box::new(move |exchange| {
        let is_preempted = |response: &Response| {
            let code = response.sense.map(|sense| sense.code);
            code == Some(AdditionalSense::REGISTRATIONS_PREEMPTED)
        };
        let response: Response = match last.take() {
            Some((port, response)) if port == exchange.port => return response,
            _ => exchange.execute(),
        };
        last = is_preempted(&response).then(|| (exchange.port, response.clone()));
        response
    });
    expect_only_failure(fault, "preempt-attention-once");
}

#[test]
fn unit_attention_for_the_sender_of_preempt_is_found() {
    let fault = after(OutServiceAction::Preempt, |exchange, response| {
        if response.status == Status::GOOD {
            let sender = exchange.sender();
            let attention = (sender, UnitAttention::RegistrationsPreempted);
            exchange.edit(|state| state.unit_attentions.push(attention));
        }
    });
    expect_only_failure(fault, "preempt-attention-sender");
}

#[test]
fn release_of_a_non_holder_is_found() {
    let fault = after(OutServiceAction::Release, |exchange, response| {
        if response.status == Status::GOOD {
            exchange.edit(|state| state.reservation = None);
        }
    });
    expect_only_failure(fault, "release-non-holder");
}

#[test]
fn release_with_another_type_is_found() {
    let fault = after(OutServiceAction::Release, |exchange, response| {
        if response.status == Status::CHECK_CONDITION {
            exchange.edit(|state| state.reservation = None);
            *response = status(Status::GOOD);
        }
    });
    expect_only_failure(fault, "release-wrong-type");
}

#[test]
fn missing_unit_attention_after_release_is_found() {
    let fault = after(OutServiceAction::Release, |exchange, _| {
        exchange.edit(|state| state.unit_attentions.clear());
    });
    expect_only_failure(fault, "release-attention");
}

/// The victim keeps its registration, but not its reservation.
#[test]
fn preempt_that_leaves_the_key_is_found() {
    let fault: Fault = Box::new(|exchange| {
        let before = exchange.unit.snapshot().registrations;
        let response = exchange.execute();
        if exchange.is_out(OutServiceAction::Preempt) && response.status == Status::GOOD {
            exchange.edit(|state| state.registrations = before);
        }
        response
    });
    expect_first_failure(fault, "preempt-keys");
}

#[test]
fn preempt_that_leaves_the_reservation_is_found() {
    let mut victim = ReservationKey::ZERO;
    let fault: Fault = Box::new(move |exchange| {
        let mut response = exchange.execute();
        match exchange.command {
            Cdb::Out(_) if exchange.is_out(OutServiceAction::Preempt) => {
                victim = exchange.list.service_action_reservation_key;
            }
            Cdb::Out(_) => victim = ReservationKey::ZERO,
            Cdb::In(_) => {
                let is_read = exchange.is_in(InServiceAction::ReadReservation);
                if let (true, Some(key)) =
                    (is_read && !victim.is_zero(), response.data.get_mut(8..16))
                {
                    key.copy_from_slice(&victim.get().to_be_bytes());
                }
            }
        }
        response
    });
    expect_first_failure(fault, "preempt-holder");
}

#[test]
fn preempt_of_an_unregistered_node_is_found() {
    let fault = after(OutServiceAction::Preempt, |exchange, response| {
        if exchange.unit.key(exchange.sender()).is_none() {
            *response = status(Status::GOOD);
        }
    });
    expect_only_failure(fault, "preempt-unregistered");
}

#[test]
fn preempt_and_abort_that_is_not_supported_is_found() {
    let fault = after(OutServiceAction::PreemptAndAbort, |_, response| {
        *response = illegal(AdditionalSense::INVALID_FIELD_IN_CDB);
    });
    // The state of the unit changes, but the first check is the status.
    expect_only_failure(fault, "preempt-and-abort");
}

#[test]
fn clear_that_keeps_keys_is_found() {
    let fault: Fault = Box::new(|exchange| {
        let before = exchange.unit.snapshot().registrations;
        let response = exchange.execute();
        if exchange.is_out(OutServiceAction::Clear) && response.status == Status::GOOD {
            exchange.edit(|state| state.registrations = before);
        }
        response
    });
    expect_first_failure(fault, "clear");
}

#[test]
fn missing_unit_attention_after_clear_is_found() {
    let fault = after(OutServiceAction::Clear, |exchange, _| {
        exchange.edit(|state| state.unit_attentions.clear());
    });
    expect_only_failure(fault, "clear-attention");
}

#[test]
fn aptpl_that_is_reported_and_refused_is_found() {
    let fault: Fault = Box::new(|exchange| match exchange.list.aptpl {
        true => illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST),
        false => exchange.execute(),
    });
    expect_only_failure(fault, "aptpl");
}

#[test]
fn registration_that_a_new_key_removes_is_found() {
    let fault = after(OutServiceAction::Register, |exchange, response| {
        let is_new = !exchange.list.reservation_key.is_zero();
        if is_new && response.status == Status::GOOD {
            let sender = exchange.sender();
            exchange.edit(|state| {
                state.registrations.retain(|one| one.nexus != sender);
            });
        }
    });
    expect_first_failure(fault, "register-new-key");
}

#[test]
fn stale_key_that_is_accepted_is_found() {
    let fault: Fault = Box::new(|exchange| {
        if exchange.is_out(OutServiceAction::Register) {
            let key = exchange.unit.key(exchange.sender());
            let is_stale = !exchange.list.reservation_key.is_zero();
            if let (true, Some(key)) = (is_stale, key) {
                exchange.list.reservation_key = key;
            }
        }
        exchange.execute()
    });
    expect_only_failure(fault, "register-stale-key");
}

#[test]
fn register_and_ignore_that_conflicts_is_found() {
    let fault: Fault = Box::new(|exchange| {
        let is_registered = exchange.unit.key(exchange.sender()).is_some();
        match exchange.is_out(OutServiceAction::RegisterAndIgnoreExistingKey) && is_registered {
            true => status(Status::RESERVATION_CONFLICT),
            false => exchange.execute(),
        }
    });
    expect_first_failure(fault, "register-ignore");
}

#[test]
fn truncated_full_status_is_found() {
    let fault = with_data(InServiceAction::ReadFullStatus, |_, data| {
        data.truncate(data.len().saturating_sub(8));
    });
    expect_first_failure(fault, "full-status");
}

#[test]
fn malformed_transport_id_is_found() {
    let fault = with_data(InServiceAction::ReadFullStatus, |_, data| {
        // The first TransportID follows header and descriptor. iSCSI has a name, which is missing.
        if let Some(protocol) = data.get_mut(8 + 24) {
            *protocol = 0x05;
        }
    });
    expect_only_failure(fault, "full-status");
}

#[test]
fn missing_second_key_is_found() {
    let fault = with_data(InServiceAction::ReadKeys, |_, data| {
        if data.len() > 16 {
            data.truncate(16);
            data[4..8].copy_from_slice(&8_u32.to_be_bytes());
        }
    });
    expect_first_failure(fault, "register-second-node");
}

#[test]
fn generation_that_does_not_move_is_found() {
    let fault: Fault = Box::new(|exchange| {
        let mut response = exchange.execute();
        let is_capabilities = exchange.is_in(InServiceAction::ReportCapabilities);
        if let (false, Some(generation)) = (is_capabilities, response.data.get_mut(..4)) {
            generation.fill(0);
        }
        response
    });
    expect_first_failure(fault, "generation-register");
}

#[test]
fn key_of_one_holder_among_all_registrants_is_found() {
    let fault = with_data(InServiceAction::ReadReservation, |exchange, data| {
        let kind = exchange.unit.reservation().map(|held| held.kind());
        if kind.is_some_and(ReservationType::is_all_registrants) {
            let key = exchange.unit.registrations()[0].key;
            data[8..16].copy_from_slice(&key.get().to_be_bytes());
        }
    });
    expect_first_failure(fault, "reserve-we-ar");
}

#[test]
fn one_holder_among_all_registrants_is_found() {
    let fault = with_data(InServiceAction::ReadFullStatus, |exchange, data| {
        // The flags of the second descriptor. Each one has 24 bytes and a TransportID of 24 bytes.
        let kind = exchange.unit.reservation().map(|held| held.kind());
        let is_all = kind.is_some_and(ReservationType::is_all_registrants);
        if let (true, Some(flags)) = (is_all, data.get_mut(8 + 48 + 12)) {
            *flags = 0;
        }
    });
    expect_only_failure(fault, "all-registrants-holders");
}

#[test]
fn reservation_of_another_type_is_found() {
    let fault = after(OutServiceAction::Reserve, |exchange, response| {
        let sender = exchange.sender();
        let kind = exchange.unit.reservation().map(|held| held.kind());
        if response.status == Status::GOOD
            && kind == Some(ReservationType::WriteExclusiveRegistrantsOnly)
        {
            let other = Reservation::new(ReservationType::ExclusiveAccessRegistrantsOnly, sender);
            exchange.edit(|state| state.reservation = Some(other));
        }
    });
    expect_first_failure(fault, "reserve-we-ro");
}

#[test]
fn type_that_is_reported_and_refused_is_found() {
    let fault: Fault = Box::new(|exchange| match exchange.command {
        Cdb::Out(command) if command.scope_type == ReservationType::ExclusiveAccess.into() => {
            illegal(AdditionalSense::INVALID_FIELD_IN_CDB)
        }
        _ => exchange.execute(),
    });
    expect_only_failure(fault, "reserve-ea");
}

/// A device that does not report a type may refuse it.
#[test]
fn type_that_is_not_reported_is_not_tested() {
    let fault: Fault = Box::new(|exchange| match exchange.command {
        Cdb::Out(command) if command.scope_type == ReservationType::ExclusiveAccess.into() => {
            illegal(AdditionalSense::INVALID_FIELD_IN_CDB)
        }
        _ => {
            let mut response = exchange.execute();
            if exchange.is_in(InServiceAction::ReportCapabilities) {
                // The bit of Exclusive Access in the type mask.
                response.data[4] &= !0x08;
            }
            response
        }
    });
    let run = validate(&FaultyDisk::start(fault));
    assert_eq!(run.status, 0, "{}", run.stderr);
    let not_tested = steps(&run.json(), "not tested");
    for name in ["reserve-ea", "reserve-conflict-ea"] {
        assert!(not_tested.contains(&name.to_owned()), "{not_tested:?}");
    }
}

#[test]
fn ports_that_do_not_share_their_state_are_found() {
    let mut other: Option<LogicalUnit> = None;
    let fault: Fault = Box::new(move |exchange| {
        let other = other.get_or_insert_with(|| exchange.unit.clone());
        match exchange.port {
            0 => exchange.execute(),
            _ => {
                std::mem::swap(exchange.unit, other);
                let response = exchange.execute();
                std::mem::swap(exchange.unit, other);
                response
            }
        }
    });
    expect_first_failure(fault, "shared-registrations");
}

#[test]
fn devices_of_one_nexus_are_found() {
    let fault: Fault = Box::new(|exchange| {
        exchange.port = 0;
        exchange.execute()
    });
    expect_first_failure(fault, "register-second-node");
}

#[test]
fn missing_mask_of_types_is_a_warning() {
    let fault = with_data(InServiceAction::ReportCapabilities, |_, data| {
        data[3] &= 0x7f;
    });
    let run = validate(&FaultyDisk::start(fault));
    assert_eq!(run.status, 0, "{}", run.stderr);
    let warnings = steps(&run.json(), "warning");
    assert!(
        warnings.contains(&"report-capabilities".to_owned()),
        "{warnings:?}"
    );
}

#[test]
fn slow_command_is_a_warning() {
    let mut is_slow = true;
    let fault = after(OutServiceAction::Clear, move |_, _| {
        if std::mem::take(&mut is_slow) {
            thread::sleep(Duration::from_millis(1100));
        }
    });
    let run = validate(&FaultyDisk::start(fault));
    assert_eq!(run.status, 0, "{}", run.stderr);
    let report = run.json();
    let warnings = steps(&report, "warning");
    assert!(
        warnings.contains(&"generation-clear".to_owned()),
        "{warnings:?}"
    );
}

/// Runs the steps of each profile, and returns the first one that failed.
fn first_failures(fault: fn() -> Fault) -> Vec<String> {
    let profiles = ["spc4", "wsfc", "fence_scsi", "fence_mpath", "lvm"].into_iter();
    let failures = profiles.map(|profile| {
        let disk = FaultyDisk::start(fault());
        let run = disk.run(&format!("--json validate a b --profile {profile}"));
        expect_unchanged(&disk);
        let report = run.json();
        assert_eq!(report["profile"], profile);
        let failed = steps(&report, "failed");
        assert_eq!(run.status == FAILED, !failed.is_empty(), "{}", run.stderr);
        failed.first().map_or("-", String::as_str).to_owned()
    });
    failures.collect()
}

#[test]
fn disk_that_follows_the_standard_passes_all_profiles() {
    let healthy = || -> Fault { Box::new(|exchange| exchange.execute()) };
    assert_eq!(first_failures(healthy), ["-"; 5]);
}

#[test]
fn profile_shows_faults_of_its_commands_only() {
    let abort = || {
        after(OutServiceAction::PreemptAndAbort, |_, response| {
            *response = illegal(AdditionalSense::INVALID_FIELD_IN_CDB);
        })
    };
    let expected = [
        "preempt-and-abort",
        "-",
        "fence-holder",
        "fence-holder",
        "lvm-take-over",
    ];
    assert_eq!(first_failures(abort), expected);

    let ignore = || -> Fault {
        Box::new(
            |exchange| match exchange.is_out(OutServiceAction::RegisterAndIgnoreExistingKey) {
                true => illegal(AdditionalSense::INVALID_FIELD_IN_CDB),
                false => exchange.execute(),
            },
        )
    };
    let expected = [
        "register-ignore",
        "wsfc-register",
        "fence_scsi-unfence",
        "-",
        "-",
    ];
    assert_eq!(first_failures(ignore), expected);

    let own_key = || {
        after(OutServiceAction::Preempt, |exchange, _| {
            let keys = &exchange.list;
            if keys.reservation_key == keys.service_action_reservation_key {
                exchange.edit(|state| {
                    state.registrations.clear();
                    state.reservation = None;
                });
            }
        })
    };
    let expected = ["-", "-", "fence_scsi-own-key", "-", "-"];
    assert_eq!(first_failures(own_key), expected);

    let types = || {
        with_data(InServiceAction::ReportCapabilities, |_, data| {
            data[3] &= 0x7f;
        })
    };
    assert_eq!(first_failures(types), ["-", "-", "-", "-", "lvm-types"]);

    let challenger = || {
        after(OutServiceAction::Preempt, |exchange, response| {
            if exchange.unit.key(exchange.sender()).is_none() {
                *response = status(Status::GOOD);
            }
        })
    };
    let expected = ["preempt-unregistered", "wsfc-defend", "-", "-", "-"];
    assert_eq!(first_failures(challenger), expected);
}
