//! Random sequences, of which most commands are likely to do something.

use scsi_pr::{InServiceAction, OutServiceAction, ReservationType, TransportId};

use crate::command::{ALL_TG_PT, APTPL, Command, HEADER, Out, SPEC_I_PT, Side, Step, UNREG};
use crate::departures;
use crate::model::Model;
use crate::random::Random;

/// Commands of a sequence.
pub(crate) const LENGTH: usize = 30;

/// Keys that a nexus may be registered with. Both can have the last one.
const KEYS: [u64; 3] = [0xaaaa, 0xbbbb, 0xcccc];
/// A key that nobody is ever registered with.
pub(crate) const STALE: u64 = 0x0bad;
/// The SAS address of no initiator port.
const STRANGER: u64 = 0x5001_4050_0000_00ff;

/// A sequence for a unit that nobody has registered with.
pub(crate) fn sequence(random: &mut Random) -> Vec<Step> {
    let mut model = Model::empty(0.into());
    let mut steps = Vec::with_capacity(LENGTH);
    let mut side = Side::A;
    while steps.len() < LENGTH {
        // Often the same one goes on, so that unit attentions of the other one meet.
        if random.percent(40) {
            side = side.other();
        }
        let command = match random.percent(40) {
            true => progress(random, &model, side),
            false => command(random, &model, side),
        };
        let step = Step { side, command };
        if departures::avoided(&model, &step).is_some() {
            continue;
        }
        model = departures::predict(&model, &step).outcome.model;
        steps.push(step);
    }
    steps
}

/// A command without oddities that leads on: to a registration, then to a reservation, then elsewhere.
fn progress(random: &mut Random, model: &Model, side: Side) -> Command {
    use OutServiceAction as Action;
    let own = model.key(side);
    let holds = model.lio_holder() == Some(side);
    let mut out = Out {
        key: own.unwrap_or(0),
        action_key: random.of(&KEYS),
        scope_type: random.of(&ReservationType::ALL).code(),
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
            out.rest[2..4].copy_from_slice(&side.other().port().to_be_bytes());
            out.tail = sas(side.other().address());
            out.rest[7] = u8::try_from(out.tail.len()).unwrap();
        }
        Action::Preempt => {
            let choices = [own, model.key(side.other())].map(|key| key.unwrap_or(0));
            out.action_key = random.of(&choices);
        }
        _ => {}
    }
    Command::Out(out)
}

fn command(random: &mut Random, model: &Model, side: Side) -> Command {
    match random.weighted(&[(64, 0), (24, 1), (4, 2), (4, 3), (4, 4)]) {
        0 => Command::Out(change(random, model, side)),
        1 => question(random),
        2 => Command::TestUnitReady,
        3 => Command::Read,
        _ => Command::Write,
    }
}

fn question(random: &mut Random) -> Command {
    let action = match random.percent(4) {
        true => random.between(4, 31),
        false => random.of(&InServiceAction::ALL).code(),
    };
    let length = match random.below(10) {
        0 => random.of(&[0, 1, 5, 6, 7, 8, 9, 8192, u16::MAX]),
        1 | 2 => random.between(0, 120),
        // Where keys and the reservation are cut.
        3 | 4 => random.between(9, 23),
        _ => 255,
    };
    Command::In { action, length }
}

fn change(random: &mut Random, model: &Model, side: Side) -> Out {
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
        scope_type: scope_type(random, model, action),
        key: key(random, model, side, action),
        action_key: action_key(random, model, side, action),
        ..Out::default()
    };
    match action {
        Some(Action::RegisterAndMove) => destination(random, side, &mut out),
        _ => basic(random, side, action, &mut out),
    }
    if random.percent(3) {
        out.length = Some(0);
    } else if random.percent(6) {
        out.length = Some(random.of(&[4, 8, 16, 20, 23, 24, 25, 28, 32, 48]));
    }
    out
}

/// SCOPE and TYPE: those of the reservation where a release or a second reserve wants them.
fn scope_type(random: &mut Random, model: &Model, action: Option<OutServiceAction>) -> u8 {
    let matching = matches!(
        action,
        Some(OutServiceAction::Release | OutServiceAction::Reserve)
    );
    let kind = match (model.kind(), random.below(20)) {
        (Some(kind), 0..=11) if matching => kind.code(),
        (_, 0..=17) => random.of(&ReservationType::ALL).code(),
        _ => random.of(&[0, 2, 4, 9, 10, 11, 12, 13, 14, 15]),
    };
    let scope: u8 = match random.percent(7) {
        true => random.between(1, 15),
        false => 0,
    };
    scope << 4 | kind
}

/// RESERVATION KEY: mostly the sender's, which is zero where it has none.
fn key(random: &mut Random, model: &Model, side: Side, action: Option<OutServiceAction>) -> u64 {
    let own = model.key(side).unwrap_or(0);
    let ignored = action == Some(OutServiceAction::RegisterAndIgnoreExistingKey);
    match random.below(20) {
        0..=14 if !ignored => own,
        15 => model.key(side.other()).unwrap_or(0),
        16 | 17 => random.of(&KEYS),
        18 => STALE,
        _ => 0,
    }
}

/// SERVICE ACTION RESERVATION KEY.
fn action_key(
    random: &mut Random,
    model: &Model,
    side: Side,
    action: Option<OutServiceAction>,
) -> u64 {
    use OutServiceAction as Action;
    let (own, others) = (model.key(side), model.key(side.other()));
    match action {
        Some(Action::Preempt | Action::PreemptAndAbort) => match random.below(10) {
            0..=5 => others.unwrap_or(0),
            6 => own.unwrap_or(0),
            7 => STALE,
            8 => random.of(&KEYS),
            _ => 0,
        },
        Some(Action::Register | Action::RegisterAndIgnoreExistingKey) if random.percent(20) => 0,
        Some(Action::RegisterAndMove) if random.percent(8) => 0,
        _ => random.of(&KEYS),
    }
}

/// The flags of the basic parameter list, and TransportIDs.
fn basic(random: &mut Random, side: Side, action: Option<OutServiceAction>, out: &mut Out) {
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
        .flat_map(|_| transport_id(random, side))
        .collect();
    let mut declared = u32::try_from(ids.len()).unwrap();
    if random.percent(8) {
        declared = random.of(&[0, 4, 23, 24, 25, 100, u32::MAX]);
    }
    out.tail = declared.to_be_bytes().to_vec();
    out.tail.extend(ids);
    if random.percent(15) {
        out.tail.extend([0; 4]);
    }
}

/// The destination of REGISTER AND MOVE.
fn destination(random: &mut Random, side: Side, out: &mut Out) {
    let port = match random.below(20) {
        0 => 0,
        1 => 99,
        2 => side.port(),
        _ => side.other().port(),
    };
    let flags: u8 = random.weighted(&[(6, 0), (3, UNREG), (3, APTPL), (1, 0xff)]);
    out.tail = transport_id(random, side);
    let mut declared = u32::try_from(out.tail.len()).unwrap();
    match random.below(30) {
        0 => declared = random.of(&[0, 4, 23, 25, 100, u32::MAX]),
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

/// A TransportID: mostly that of the other initiator port.
fn transport_id(random: &mut Random, side: Side) -> Vec<u8> {
    let other = sas(side.other().address());
    match random.below(24) {
        0 => sas(side.address()),
        1 => sas(STRANGER),
        2 => TransportId::FibreChannel {
            n_port_name: side.other().address(),
        }
        .encode(),
        3 => "iqn.2024-01.example:a"
            .parse::<TransportId>()
            .unwrap()
            .encode(),
        // A reserved format code.
        4 => [vec![0x46], other[1..].to_vec()].concat(),
        // Too long and too short for SAS.
        5 => [other, vec![0; HEADER]].concat(),
        6 => other[..12].to_vec(),
        // Reserved bytes that are not zero.
        7 => [other[..12].to_vec(), vec![0xff; 12]].concat(),
        _ => other,
    }
}
