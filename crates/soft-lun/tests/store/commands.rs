//! A soft LUN answers as the unit in memory does, whoever looks at it in between.

use proptest::prelude::*;
use scsi_pr::{OutServiceAction, ReservationType, SenseKey, Status};
use soft_lun::Access;
use soft_lun::store::{Lun, Name, StoreError};

use crate::support::{
    Command, KEY_A, KEY_B, Scratch, keys, name, out, ports, preempt, read_keys, register, reserve,
};

fn any_command() -> impl Strategy<Value = Command> {
    let keys_of = prop::sample::select(vec![0, KEY_A, KEY_B]);
    let action = prop::sample::select(OutServiceAction::ALL.to_vec());
    let kind = prop::sample::select(ReservationType::ALL.to_vec());
    let command = (action, kind, keys_of.clone(), keys_of, any::<bool>()).prop_map(
        |(action, kind, key, action_key, flag)| {
            let mut list = keys(key, action_key);
            list.aptpl = flag;
            out(action, kind.code(), &list)
        },
    );
    prop_oneof![6 => command, 1 => Just(read_keys())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn files_and_memory_agree(
        commands in prop::collection::vec((any::<bool>(), any_command()), 1..40),
    ) {
        let scratch = Scratch::new();
        let description = scratch.lun.config().unwrap();
        let mut unit = description.unit().unwrap();
        for (first, command) in commands {
            let port = if first { "a" } else { "b" };
            let nexus = description.nexus(&name(port)).unwrap();
            // Another process would open it anew.
            let lun = Lun::open(scratch.lun.path()).unwrap();
            let answer = lun
                .execute(&name(port), &command.0, &command.1)
                .unwrap()
                .response;
            prop_assert_eq!(answer, unit.execute(nexus, &command.0, &command.1));
            prop_assert_eq!(&scratch.lun.load().unwrap(), &unit);
        }
    }
}

#[test]
fn access_follows_the_reservation() {
    let scratch = Scratch::new();
    let kind = ReservationType::WriteExclusive;
    scratch.good("a", &register(KEY_A, false));
    scratch.good("a", &reserve(KEY_A, kind));
    let access = |port, access| scratch.lun.access(&name(port), access).unwrap().status;
    assert_eq!(access("a", Access::Write), Status::GOOD);
    assert_eq!(access("b", Access::Read), Status::GOOD);
    assert_eq!(access("b", Access::Write), Status::RESERVATION_CONFLICT);
}

#[test]
fn an_attention_is_delivered_once_whoever_asks() {
    let scratch = Scratch::new();
    scratch.good("a", &register(KEY_A, false));
    scratch.good("b", &register(KEY_B, false));
    scratch.good("b", &preempt(KEY_B, KEY_A, ReservationType::WriteExclusive));
    let answer = scratch
        .lun
        .access(&name("a"), Access::TestUnitReady)
        .unwrap();
    assert_eq!(answer.sense.unwrap().key, SenseKey::UnitAttention);
    scratch.good("a", &read_keys());
}

#[test]
fn a_port_that_there_is_not_is_an_error() {
    let scratch = Scratch::new();
    let other: Name = name("c");
    let error = scratch
        .lun
        .execute(&other, &read_keys().0, &[])
        .unwrap_err();
    assert!(matches!(error, StoreError::UnknownPort { .. }), "{error}");
    assert_eq!(scratch.lun.config().unwrap().ports, ports());
}
