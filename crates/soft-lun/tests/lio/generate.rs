// SPDX-License-Identifier: MIT OR Apache-2.0

//! Random sequences in which most commands are likely to succeed.

use scsi_pr::{InServiceAction, OutServiceAction, ReservationType, TransportId};

use crate::command::{ALL_TG_PT, APTPL, Command, HEADER, Node, Out, SPEC_I_PT, Step, UNREG};
use crate::kernel::Kernel;
use crate::lio_deviations;
use crate::model::Model;
use crate::random::Random;

/// Number of commands in a sequence.
pub(crate) const SEQUENCE_LEN: usize = 30;

/// Keys that the nexuses are registered with. Both nexuses can have the same key.
const KEYS: [u64; 3] = [0xaaaa, 0xbbbb, 0xcccc];
/// A key that is never registered.
pub(crate) const STALE: u64 = 0x0bad;
/// A SAS address that does not belong to an initiator port of the unit.
const STRANGER: u64 = 0x5001_4050_0000_00ff;

/// Returns a sequence for a unit of LIO without registrations.
pub(crate) fn sequence(kernel: Kernel, random: &mut Random) -> Vec<Step> {
    let mut model = Model::empty(kernel, 0.into());
    let mut steps = Vec::with_capacity(SEQUENCE_LEN);
    let mut node = Node::A;
    while steps.len() < SEQUENCE_LEN {
        // The same node often sends several commands, so that unit attentions accumulate for the
        // other node.
        if random.percent(40) {
            node = node.other();
        }
        let command = match random.percent(40) {
            true => likely_command(random, &model, node),
            false => random_command(random, &model, node),
        };
        let step = Step { node, command };
        if lio_deviations::exclusion(&model, &step).is_some() {
            continue;
        }
        model = lio_deviations::predict(&model, &step).outcome.model;
        steps.push(step);
    }
    steps
}

/// Returns a valid command for the current state: it registers, then reserves, then moves,
/// releases, preempts or clears.
fn likely_command(random: &mut Random, model: &Model, node: Node) -> Command {
    use OutServiceAction as Action;
    let own = model.key(node);
    let holds = model.lio_holder() == Some(node);
    let mut out = Out {
        key: own.unwrap_or(0),
        action_key: random.choose(&KEYS),
        scope_type: random.choose(&ReservationType::ALL).code(),
        ..Out::default()
    };
    let action = match (own, model.kind()) {
        (None, _) => Action::Register,
        (Some(_), None) => Action::Reserve,
        (Some(_), Some(kind)) => {
            out.scope_type = kind.code();
            random.weighted(&[
                (if holds { 4 } else { 1 }, Action::RegisterAndMove),
                (2, Action::Release),
                (2, Action::Preempt),
                (1, Action::Clear),
            ])
        }
    };
    out.action = action.code();
    match action {
        Action::RegisterAndMove => {
            out.rest[2..4].copy_from_slice(&node.other().port().to_be_bytes());
            out.tail = sas(node.other().address());
            out.rest[7] = u8::try_from(out.tail.len()).unwrap();
        }
        Action::Preempt => {
            let choices = [own, model.key(node.other())].map(|key| key.unwrap_or(0));
            out.action_key = random.choose(&choices);
        }
        _ => {}
    }
    Command::Out(out)
}

fn random_command(random: &mut Random, model: &Model, node: Node) -> Command {
    match random.weighted(&[(64, 0), (24, 1), (4, 2), (4, 3), (4, 4)]) {
        0 => Command::Out(random_reserve_out(random, model, node)),
        1 => random_reserve_in(random),
        2 => Command::TestUnitReady,
        3 => Command::Read,
        _ => Command::Write,
    }
}

fn random_reserve_in(random: &mut Random) -> Command {
    let action = match random.percent(4) {
        true => random.between(4, 31),
        false => random.choose(&InServiceAction::ALL).code(),
    };
    let length = match random.below(10) {
        0 => random.choose(&[0, 1, 5, 6, 7, 8, 9, 8192, u16::MAX]),
        1 | 2 => random.between(0, 120),
        // Lengths that truncate keys and the reservation.
        3 | 4 => random.between(9, 23),
        _ => 255,
    };
    Command::In { action, length }
}

fn random_reserve_out(random: &mut Random, model: &Model, node: Node) -> Out {
    use OutServiceAction as Action;
    let action = random.weighted(&[
        (20, Some(Action::Register)),
        (9, Some(Action::RegisterAndIgnoreExistingKey)),
        (16, Some(Action::Reserve)),
        (10, Some(Action::Release)),
        (4, Some(Action::Clear)),
        (14, Some(Action::Preempt)),
        (4, Some(Action::PreemptAndAbort)),
        (14, Some(Action::RegisterAndMove)),
        (1, Some(Action::ReplaceLostReservation)),
        (3, None),
    ]);
    let mut out = Out {
        action: action.map_or_else(|| random.between(9, 31), Action::code),
        scope_type: random_scope_type(random, model, action),
        key: random_key(random, model, node, action),
        action_key: random_action_key(random, model, node, action),
        ..Out::default()
    };
    match action {
        Some(Action::RegisterAndMove) => set_destination(random, node, &mut out),
        _ => set_basic_fields(random, node, action, &mut out),
    }
    if random.percent(3) {
        out.length = Some(0);
    } else if random.percent(6) {
        out.length = Some(random.choose(&[4, 8, 16, 20, 23, 24, 25, 28, 32, 48]));
    }
    out
}

/// Returns SCOPE and TYPE. For RELEASE and RESERVE these are often the ones of the reservation.
fn random_scope_type(random: &mut Random, model: &Model, action: Option<OutServiceAction>) -> u8 {
    let matching = matches!(
        action,
        Some(OutServiceAction::Release | OutServiceAction::Reserve)
    );
    let kind = match (model.kind(), random.below(20)) {
        (Some(kind), 0..=11) if matching => kind.code(),
        (_, 0..=17) => random.choose(&ReservationType::ALL).code(),
        _ => random.choose(&[0, 2, 4, 9, 10, 11, 12, 13, 14, 15]),
    };
    let scope: u8 = match random.percent(7) {
        true => random.between(1, 15),
        false => 0,
    };
    scope << 4 | kind
}

/// Returns RESERVATION KEY: usually the sender's key, or zero if the sender is not registered.
fn random_key(
    random: &mut Random,
    model: &Model,
    node: Node,
    action: Option<OutServiceAction>,
) -> u64 {
    let own = model.key(node).unwrap_or(0);
    let ignored = action == Some(OutServiceAction::RegisterAndIgnoreExistingKey);
    match random.below(20) {
        0..=14 if !ignored => own,
        15 => model.key(node.other()).unwrap_or(0),
        16 | 17 => random.choose(&KEYS),
        18 => STALE,
        _ => 0,
    }
}

/// Returns SERVICE ACTION RESERVATION KEY.
fn random_action_key(
    random: &mut Random,
    model: &Model,
    node: Node,
    action: Option<OutServiceAction>,
) -> u64 {
    use OutServiceAction as Action;
    let (own, others) = (model.key(node), model.key(node.other()));
    match action {
        Some(Action::Preempt | Action::PreemptAndAbort) => match random.below(10) {
            0..=5 => others.unwrap_or(0),
            6 => own.unwrap_or(0),
            7 => STALE,
            8 => random.choose(&KEYS),
            _ => 0,
        },
        Some(Action::Register | Action::RegisterAndIgnoreExistingKey) if random.percent(20) => 0,
        Some(Action::RegisterAndMove) if random.percent(8) => 0,
        _ => random.choose(&KEYS),
    }
}

/// Sets the flags of the basic parameter list, and TransportIDs.
fn set_basic_fields(
    random: &mut Random,
    node: Node,
    action: Option<OutServiceAction>,
    out: &mut Out,
) {
    let registers = action == Some(OutServiceAction::Register);
    let percents = [
        (APTPL, 20),
        (ALL_TG_PT, 14),
        (SPEC_I_PT, if registers { 40 } else { 3 }),
        (0xf2, 3),
    ];
    let flags = percents.map(|(flag, percent)| if random.percent(percent) { flag } else { 0 });
    out.set_flags(flags.into_iter().sum());
    if out.flags() & SPEC_I_PT == 0 || random.percent(8) {
        return;
    }
    let count = random.weighted(&[(1, 0), (7, 1), (2, 2)]);
    let ids: Vec<u8> = (0..count)
        .flat_map(|_| random_transport_id(random, node))
        .collect();
    let mut declared = u32::try_from(ids.len()).unwrap();
    if random.percent(8) {
        declared = random.choose(&[0, 4, 23, 24, 25, 100, u32::MAX]);
    }
    out.tail = declared.to_be_bytes().to_vec();
    out.tail.extend(ids);
    if random.percent(15) {
        out.tail.extend([0; 4]);
    }
}

/// Sets the destination of REGISTER AND MOVE.
fn set_destination(random: &mut Random, node: Node, out: &mut Out) {
    let port = match random.below(20) {
        0 => 0,
        1 => 99,
        2 => node.port(),
        _ => node.other().port(),
    };
    let flags: u8 = random.weighted(&[(6, 0), (3, UNREG), (3, APTPL), (1, 0xff)]);
    out.tail = random_transport_id(random, node);
    let mut declared = u32::try_from(out.tail.len()).unwrap();
    match random.below(30) {
        0 => declared = random.choose(&[0, 4, 23, 25, 100, u32::MAX]),
        1..=3 => out.tail.extend([0; 4]),
        4 => out.tail.clear(),
        _ => {}
    }
    out.rest[1] = flags;
    out.rest[2..4].copy_from_slice(&u16::to_be_bytes(port));
    out.rest[4..8].copy_from_slice(&declared.to_be_bytes());
}

fn sas(sas_address: u64) -> Vec<u8> {
    TransportId::Sas { sas_address }.encode()
}

/// Returns a TransportID, usually that of the other initiator port.
fn random_transport_id(random: &mut Random, node: Node) -> Vec<u8> {
    let other = sas(node.other().address());
    match random.below(24) {
        0 => sas(node.address()),
        1 => sas(STRANGER),
        2 => TransportId::FibreChannel {
            n_port_name: node.other().address(),
        }
        .encode(),
        3 => "iqn.2024-01.example:a"
            .parse::<TransportId>()
            .unwrap()
            .encode(),
        // A reserved format code.
        4 => [vec![0x46], other[1..].to_vec()].concat(),
        // Too long or too short for SAS.
        5 => [other, vec![0; HEADER]].concat(),
        6 => other[..12].to_vec(),
        // Reserved bytes other than zero.
        7 => [other[..12].to_vec(), vec![0xff; 12]].concat(),
        _ => other,
    }
}
