// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of what is known about registrations and reservations.

use super::*;
use helper_state::{Process, Vm};
use pr_helper_protocol::Command;
use pr_testkit::cdb::{self, PrCommand};
use scsi_pr::{BasicParameterList, RegisterAndMove, ReservationType, SenseKey, TransportId};
use std::sync::Arc;

const DISK: DiskKey = DiskKey::Device(DeviceId::Block(8, 0));

fn owner(name: &str, process: i32) -> Owner {
    let peer = Peer::of_process(1, process);
    set_name(&peer, name, None);
    Owner { nexus: DISK, peer }
}

fn set_name(peer: &Peer, name: &str, uuid: Option<&str>) {
    let vm = Vm {
        name: name.to_owned(),
        uuid: uuid.map(str::to_owned),
        ..Vm::default()
    };
    peer.set_process(Arc::new(Process {
        name: name.to_owned(),
        vm: Some(vm),
        ..Process::default()
    }));
}

fn change(command: &PrCommand) -> Change {
    Change::new(&Request {
        command: Command::new(command.cdb).unwrap(),
        fd: RequestFd::Lost,
        parameters: command.parameter_list.clone(),
    })
}

/// The state after commands of owners who are all connected.
fn after(commands: &[(&Owner, PrCommand)]) -> Registrations {
    let mut registrations = Registrations::default();
    for (owner, command) in commands {
        registrations.apply(&DISK, owner, &change(command), |_| true);
    }
    registrations
}

/// Returns the registrations and the holder as text.
fn text(registrations: &Registrations) -> String {
    let (registered, reservation) = registrations.of_disk(&DISK, |_| true);
    let registered: Vec<_> = registered
        .iter()
        .map(|registration| format!("{}={}", registration.client, registration.key))
        .collect();
    let holder = reservation.map(|held| format!(" held by {}={}", held.client, held.key));
    registered.join(" ") + &holder.unwrap_or_default()
}

/// REGISTER AND MOVE to a port of another host.
fn moved(unregister: bool) -> PrCommand {
    cdb::register_and_move(&RegisterAndMove {
        reservation_key: 1.into(),
        service_action_reservation_key: 9.into(),
        unregister,
        aptpl: false,
        relative_target_port: 1.into(),
        transport_id: TransportId::Sas { sas_address: 7 },
    })
}

fn replace_lost(key: u64) -> PrCommand {
    let list = BasicParameterList {
        service_action_reservation_key: key.into(),
        ..BasicParameterList::default()
    };
    let action = OutServiceAction::ReplaceLostReservation;
    cdb::pr_out(action, ReservationType::WriteExclusive.into(), &list)
}

#[test]
fn commands_change_what_is_known() {
    let (a, b) = (owner("a", 1), owner("b", 2));
    let far = Owner {
        nexus: DiskKey::Device(DeviceId::Block(8, 16)),
        ..b.clone()
    };
    let start = [
        (&a, cdb::register(0, 1)),
        (&a, cdb::reserve(1, ReservationType::WriteExclusive)),
    ];
    for (more, expected) in [
        (vec![], "a=0x1 held by a=0x1"),
        (vec![(&a, cdb::register(1, 2))], "a=0x2 held by a=0x2"),
        (vec![(&a, cdb::register(1, 0))], ""),
        (vec![(&a, cdb::clear(1))], ""),
        (vec![(&b, cdb::register(1, 3))], "a=0x1 b=0x3 held by a=0x3"),
        // To the disk, both are one nexus.
        (vec![(&b, cdb::register(1, 0))], ""),
        (vec![(&a, moved(false))], "a=0x1"),
        (vec![(&a, moved(true))], ""),
        (vec![(&a, replace_lost(5))], "a=0x5 held by a=0x5"),
        (
            vec![
                (&far, cdb::register(0, 4)),
                (
                    &far,
                    cdb::preempt(4, 0, ReservationType::WriteExclusiveAllRegistrants),
                ),
            ],
            "b=0x4 held by b=0x4",
        ),
        (
            vec![
                (&far, cdb::register(0, 4)),
                (&far, cdb::preempt(4, 1, ReservationType::WriteExclusive)),
            ],
            "b=0x4 held by b=0x4",
        ),
    ] {
        let registrations = after(&[&start[..], &more].concat());
        assert_eq!(text(&registrations), expected, "{more:?}");
        assert_eq!(registrations.0.is_empty(), expected.is_empty());
    }
}

#[test]
fn second_machine_on_one_nexus_is_found() {
    let (a, b) = (owner("a", 1), owner("b", 2));
    let registrations = after(&[(&a, cdb::register(0, 1))]);
    let other = |owner: &Owner| registrations.other_owner(&DISK, None, owner, |_| true);
    assert_eq!(other(&b), Some(a.peer.clone()));
    assert_eq!(other(&a), None);
    assert_eq!(registrations.other_owner(&DISK, None, &b, |_| false), None);
    // The source and the destination of a live migration.
    let [source, destination] = [1, 2].map(|pid| {
        let peer = Peer::of_process(1, pid);
        set_name(&peer, "a", Some("1"));
        Owner { nexus: DISK, peer }
    });
    let registrations = after(&[(&source, cdb::register(0, 1))]);
    let other = registrations.other_owner(&DISK, None, &destination, |_| true);
    assert_eq!(other, None);
}

#[test]
fn disk_is_the_same_over_each_device() {
    let (a, b) = (owner("a", 1), owner("b", 2));
    let mut registrations = after(&[(&a, cdb::register(0, 1))]);
    registrations.set_wwn(&DISK, Some("naa.1"));
    let map = DiskKey::Device(DeviceId::Block(253, 0));
    let other = |wwn| registrations.other_owner(&map, Some(wwn), &b, |_| true);
    assert_eq!(other("naa.1"), Some(a.peer.clone()));
    assert_eq!(other("naa.2"), None);
    let victim = |wwn, key: u64| registrations.owner_of(&map, Some(wwn), Some(key.into()), &b);
    assert_eq!(victim("naa.1", 1), Some(a.peer));
    assert_eq!((victim("naa.1", 2), victim("naa.2", 1)), (None, None));
}

#[test]
fn preemption_over_another_device_removes_the_registration() {
    let map = DiskKey::Device(DeviceId::Block(253, 0));
    let a = owner("a", 1);
    let b = Owner {
        nexus: map.clone(),
        peer: owner("b", 2).peer,
    };
    for command in [
        cdb::preempt(2, 1, ReservationType::WriteExclusive),
        cdb::clear(2),
    ] {
        let removing = change(&command);
        for (wwn, expected) in [
            (Some("naa.1"), ""),
            (Some("naa.2"), "a=0x1"),
            (None, "a=0x1"),
        ] {
            let mut registrations = after(&[(&a, cdb::register(0, 1))]);
            registrations.set_wwn(&DISK, Some("naa.1"));
            registrations.apply_to_other_devices(&map, wwn, &b, &removing);
            assert_eq!(text(&registrations), expected, "{wwn:?}");
            // The effect over the own device is noted separately.
            registrations.apply_to_other_devices(&DISK, wwn, &b, &removing);
            assert_eq!(text(&registrations), expected);
        }
    }
}

#[test]
fn registration_of_a_client_that_has_gone_is_replaced() {
    let mut registrations = after(&[(&owner("a", 1), cdb::register(0, 1))]);
    let (b, again) = (owner("b", 2), change(&cdb::register(1, 2)));
    registrations.apply(&DISK, &b, &again, |_| false);
    assert_eq!(text(&registrations), "b=0x2");
}

#[test]
fn unit_attention_removes_what_another_host_preempted() {
    let a = owner("a", 1);
    let attention = |code| {
        let mut registrations = after(&[
            (&a, cdb::register(0, 1)),
            (&a, cdb::reserve(1, ReservationType::WriteExclusive)),
        ]);
        let sense = Sense::new(SenseKey::UnitAttention, code);
        registrations.apply_attention(&DISK, &a, Some(sense));
        text(&registrations)
    };
    let released = AdditionalSense::RESERVATIONS_RELEASED;
    assert_eq!(attention(released), "a=0x1 held by a=0x1");
    assert_eq!(attention(AdditionalSense::REGISTRATIONS_PREEMPTED), "");
}
