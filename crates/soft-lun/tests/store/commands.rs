// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands through a port get the same responses as commands to a unit in memory.

use pr_testkit::cdb::{PrCommand, key_list, pr_out, preempt, read_keys, reserve};
use pr_testkit::soft_lun::two_ports;
use proptest::prelude::*;
use scsi_pr::{OutServiceAction, ReservationType, SenseKey, Status};
use soft_lun::Access;
use soft_lun::store::{Lun, StoreError};

use crate::support::{Fixture, KEY_A, KEY_B, name, register};

fn any_command() -> impl Strategy<Value = PrCommand> {
    let keys_of = prop::sample::select(vec![0, KEY_A, KEY_B]);
    let action = prop::sample::select(OutServiceAction::ALL.to_vec());
    let kind = prop::sample::select(ReservationType::ALL.to_vec());
    let command = (action, kind, keys_of.clone(), keys_of, any::<bool>()).prop_map(
        |(action, kind, key, action_key, flag)| {
            let mut list = key_list(key, action_key);
            list.aptpl = flag;
            pr_out(action, kind.into(), &list)
        },
    );
    prop_oneof![6 => command, 1 => Just(read_keys(255))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn store_and_unit_in_memory_agree(
        commands in prop::collection::vec((any::<bool>(), any_command()), 1..40),
    ) {
        let fixture = Fixture::new();
        let config = fixture.lun.config().unwrap();
        let mut unit = config.unit().unwrap();
        for (first, command) in commands {
            let port = if first { "a" } else { "b" };
            let nexus = config.nexus(&name(port)).unwrap();
            // Open the soft LUN for each command, like separate processes.
            let lun = Lun::open(fixture.lun.path()).unwrap();
            let (cdb, list) = (&command.cdb, &command.parameter_list);
            let response = lun.execute(&name(port), cdb, list).unwrap().response;
            prop_assert_eq!(response, unit.execute(nexus, cdb, list));
            prop_assert_eq!(&fixture.lun.load().unwrap(), &unit);
        }
    }
}

#[test]
fn access_depends_on_reservation() {
    let fixture = Fixture::new();
    let kind = ReservationType::WriteExclusive;
    fixture.expect_good("a", &register(KEY_A, false));
    fixture.expect_good("a", &reserve(KEY_A, kind));
    let access = |port, access| fixture.lun.access(&name(port), access).unwrap().status;
    assert_eq!(access("a", Access::Write), Status::GOOD);
    assert_eq!(access("b", Access::Read), Status::GOOD);
    assert_eq!(access("b", Access::Write), Status::RESERVATION_CONFLICT);
}

#[test]
fn unit_attention_is_reported_once() {
    let fixture = Fixture::new();
    fixture.expect_good("a", &register(KEY_A, false));
    fixture.expect_good("b", &register(KEY_B, false));
    fixture.expect_good("b", &preempt(KEY_B, KEY_A, ReservationType::WriteExclusive));
    let response = fixture
        .lun
        .access(&name("a"), Access::TestUnitReady)
        .unwrap();
    assert_eq!(response.sense.unwrap().key, SenseKey::UnitAttention);
    fixture.expect_good("a", &read_keys(255));
}

#[test]
fn execute_with_unknown_port_fails() {
    let fixture = Fixture::new();
    let error = fixture.try_send("c", &read_keys(255)).unwrap_err();
    assert!(matches!(error, StoreError::UnknownPort { .. }), "{error}");
    assert_eq!(fixture.lun.config().unwrap().ports, two_ports());
}
