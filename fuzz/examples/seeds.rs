//! Makes the seeds in `corpus`: real encodings, from which a fuzzer begins.
//!
//! `cargo run --package fuzz --example seeds`, after something was encoded in another way.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use pr_helper_protocol::Command;
use pr_helper_protocol::wire::pad_cdb;
use qemu_pr_helper::command::executor::CommandResult;
use qemu_pr_helper::multipath::deadline::Deadline;
use qemu_pr_helper::multipath::message::{CommandReport, WorkerRequest};
use scsi_pr::{
    AdditionalSense, BasicParameterList, Capabilities, FieldPointer, FullStatus,
    FullStatusDescriptor, InServiceAction, Keys, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, RegisterAndMove, ReservationData, ReservationDescriptor, ReservationKey,
    ReservationType, ScopeType, Sense, SenseKey, TransportId, TypeMask,
};
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};

/// A TransportID of each kind, as text.
const NAMES: [&str; 9] = [
    "fcp,10000000c9f3a571",
    "spi,7,1",
    "sbp,0002c90300a1b2c3",
    "srp,fe80000000000000f4521403007be121",
    "iqn.1993-08.org.debian:01:abc",
    "iqn.1993-08.org.debian:01:abc,i,0x00023d000001",
    "sas,5000c50005b32001",
    "sop,0300",
    "raw,070000000000000000000000000000000000000000000000",
];

const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

fn main() -> Result<()> {
    transport_ids()?;
    senses()?;
    lists()?;
    answers()?;
    streams()?;
    messages()?;
    soft_luns()?;
    sequences()?;
    traces()
}

fn write(target: &str, name: &str, parts: &[&[u8]]) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), parts.concat()).with_context(|| format!("cannot write {name}"))
}

/// The same for `prhctl decode`, as text and as JSON, where the second byte says what it is.
fn write_explained(kind: u8, name: &str, bytes: &[u8]) -> Result<()> {
    write("decode", &format!("text-{name}"), &[&[0, kind], bytes])?;
    write("decode", &format!("json-{name}"), &[&[1, kind], bytes])
}

fn ids() -> Result<Vec<TransportId>> {
    Ok(NAMES
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()?)
}

fn transport_ids() -> Result<()> {
    for (place, id) in ids()?.iter().enumerate() {
        write("transport_id", &format!("bytes-{place}"), &[&id.encode()])?;
        write(
            "transport_id",
            &format!("text-{place}"),
            &[id.to_string().as_bytes()],
        )?;
    }
    let all: Vec<u8> = ids()?.iter().flat_map(TransportId::encode).collect();
    write("transport_id", "list", &[&all])
}

fn senses() -> Result<()> {
    let pointed = Sense::new(
        SenseKey::IllegalRequest,
        AdditionalSense::INVALID_FIELD_IN_CDB,
    )
    .with_field_pointer(FieldPointer {
        in_cdb: true,
        byte: 2,
        bit: Some(3),
    });
    let informed = Sense {
        information: Some(0x1234),
        deferred: true,
        ..Sense::new(SenseKey::NotReady, AdditionalSense::MEDIUM_NOT_PRESENT)
    };
    for (name, sense) in [("pointed", pointed), ("informed", informed)] {
        write("sense", &format!("fixed-{name}"), &[&sense.to_fixed()])?;
        write(
            "sense",
            &format!("descriptor-{name}"),
            &[&sense.to_descriptor()],
        )?;
        write_explained(2, &format!("sense-{name}"), &sense.to_descriptor())?;
    }
    Ok(())
}

fn basic(spec_i_pt: Option<Vec<TransportId>>) -> Vec<u8> {
    let list = BasicParameterList {
        reservation_key: ReservationKey::new(1),
        service_action_reservation_key: ReservationKey::new(2),
        spec_i_pt,
        all_tg_pt: true,
        aptpl: true,
    };
    list.encode()
}

/// A command with this parameter list.
fn out(service_action: OutServiceAction, list: &[u8]) -> Result<[u8; 10]> {
    let command = PersistentReserveOut {
        service_action,
        scope_type: ScopeType::from(TYPE),
        parameter_list_length: u32::try_from(list.len())?,
        control: 0,
    };
    Ok(command.encode())
}

fn lists() -> Result<()> {
    let moved = RegisterAndMove {
        reservation_key: ReservationKey::new(1),
        service_action_reservation_key: ReservationKey::new(2),
        unregister: true,
        aptpl: true,
        relative_target_port: 2.into(),
        transport_id: NAMES[5].parse()?,
    };
    for (name, action, list) in [
        ("register", OutServiceAction::Register, basic(None)),
        (
            "register-ids",
            OutServiceAction::Register,
            basic(Some(ids()?)),
        ),
        ("reserve", OutServiceAction::Reserve, basic(None)),
        ("preempt", OutServiceAction::Preempt, basic(None)),
        ("move", OutServiceAction::RegisterAndMove, moved.encode()),
    ] {
        write("out", name, &[&out(action, &list)?, &list])?;
        let whole = [&out(action, &list)?, list.as_slice()].concat();
        write_explained(1, name, &whole)?;
    }
    write_explained(8, "list-of-move", &moved.encode())
}

fn answers() -> Result<()> {
    let descriptor = |id: TransportId| FullStatusDescriptor {
        key: ReservationKey::new(1),
        all_tg_pt: false,
        holder: true,
        scope_type: ScopeType::from(TYPE),
        relative_target_port: 1.into(),
        transport_id: Ok(id),
    };
    let keys = Keys {
        generation: 3.into(),
        keys: vec![ReservationKey::new(1), ReservationKey::new(2)],
    };
    let reservation = ReservationData {
        generation: 3.into(),
        reservation: Some(ReservationDescriptor {
            key: ReservationKey::new(1),
            scope_type: ScopeType::from(TYPE),
        }),
    };
    let capabilities = Capabilities {
        persist_through_power_loss: true,
        type_mask: Some(TypeMask::ALL),
        ..Capabilities::default()
    };
    let status = FullStatus {
        generation: 3.into(),
        descriptors: ids()?.into_iter().map(descriptor).collect(),
    };
    let answers = [
        ("keys", keys.encode()),
        ("reservation", reservation.encode()),
        ("capabilities", capabilities.encode().to_vec()),
        ("full-status", status.encode()),
    ];
    for (kind, (name, bytes)) in (0..).zip(answers) {
        write("data", name, &[&[kind, 0, 20], &bytes])?;
        write_explained(kind + 3, name, &bytes)?;
    }
    Ok(())
}

fn streams() -> Result<()> {
    let ask = PersistentReserveIn {
        service_action: InServiceAction::ReadKeys,
        allocation_length: 8192,
        control: 0,
    };
    let ask = pad_cdb(&ask.encode());
    let list = basic(None);
    let register = pad_cdb(&out(OutServiceAction::Register, &list)?);
    let stream = [[0; 4].as_slice(), &ask, &register, &list].concat();
    // Cuts of 8 and 30 bytes, descriptors with the first bytes of both CDBs; and one that was lost.
    write("inbox", "requests", &[&[2, 7, 29, 2, 0, 4, 0, 20], &stream])?;
    write("inbox", "lost", &[&[0, 2, 0xc0, 4, 0, 20], &stream])?;
    write("inbox", "several", &[&[0, 1, 0xe0, 4], &stream])
}

fn messages() -> Result<()> {
    let list = basic(None);
    let order = WorkerRequest {
        deadline: Deadline(1500),
        is_traced: true,
        command: Command::new(pad_cdb(&out(OutServiceAction::Register, &list)?))?,
        parameter_list: list,
    };
    write("message", "order", &[&order.encode()])?;
    let key = SenseKey::NotReady;
    let mut outcome = CommandResult::check_condition(key, AdditionalSense::MEDIUM_NOT_PRESENT);
    outcome.data_len = 2;
    let by_path = "path\tsda\t95\t3\tlost\t2\t145920\t12";
    let told = "multipathd\tgetprkey map dm-0\tnone\t7";
    write("message", "path", &[by_path.as_bytes()])?;
    let report = CommandReport {
        result: outcome,
        data: vec![8, 9],
        warnings: vec!["one".to_owned(), "two".to_owned()],
        trace: vec![by_path.to_owned(), told.to_owned()],
    };
    write("message", "report", &[&report.encode()])
}

fn soft_luns() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = |name: &str, initiator: &str, port: u16| -> Result<Port> {
        Ok(Port {
            name: name.parse()?,
            nexus: Nexus {
                initiator: initiator.parse()?,
                target_port: port.into(),
            },
        })
    };
    let ports = vec![
        port("a", "sas,0000000000000001", 1)?,
        port("b", NAMES[5], 2)?,
    ];
    let lun = Lun::create(
        &folder.path().join("lun"),
        ports,
        SupportedFeatures::default(),
    )?;
    let (first, second) = ("a".parse()?, "b".parse()?);
    let read = |name: &str| -> Result<Vec<u8>> {
        let text = fs::read_to_string(lun.path().join(name))?;
        let identity = lun.config()?.identity.to_string();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let text = text.replace(&identity, "naa.3000000000000001");
        Ok(text.replace(boot.trim(), "boot").into_bytes())
    };
    write(
        "store",
        "clean",
        &[&read("lun.json")?, &[0], &read("state.json")?],
    )?;
    write("record", "clean", &[&read("state.json")?])?;

    let zero = BasicParameterList {
        service_action_reservation_key: ReservationKey::new(1),
        aptpl: true,
        ..BasicParameterList::default()
    };
    let register = out(OutServiceAction::Register, &zero.encode())?;
    for port in [&first, &second] {
        // Behind the unit attention.
        lun.execute(port, &register, &zero.encode())?;
        lun.execute(port, &register, &zero.encode())?;
    }
    let own = BasicParameterList {
        reservation_key: ReservationKey::new(1),
        ..BasicParameterList::default()
    };
    for action in [OutServiceAction::Reserve, OutServiceAction::Clear] {
        lun.execute(&first, &out(action, &own.encode())?, &own.encode())?;
        let name = if action == OutServiceAction::Clear {
            "told"
        } else {
            "held"
        };
        write("record", name, &[&read("state.json")?])?;
        write(
            "store",
            name,
            &[&read("lun.json")?, &[0], &read("state.json")?],
        )?;
    }
    told_twice(&String::from_utf8(read("state.json")?)?)
}

/// What cannot be, made from a state in which somebody is told something.
fn told_twice(told: &str) -> Result<()> {
    let (head, attention) = told
        .split_once("\"attentions\": [")
        .context("nobody is told anything")?;
    let (attention, tail) = attention.split_once("\n  ]").context("no end")?;
    let twice = format!("{head}\"attentions\": [{attention},{attention}\n  ]{tail}");
    write("record", "told-twice", &[twice.as_bytes()])
}

/// Commands to a soft LUN: sender, kind, service action, type, keys, flags.
fn sequences() -> Result<()> {
    let failover = [
        [0, 4, 0, 0, 0x04, 1],
        [1, 4, 0, 0, 0x08, 0],
        [0, 4, 1, 5, 0x01, 0],
        [1, 4, 4, 5, 0x06, 0],
        [0, 0, 0, 0, 0, 2],
    ];
    write("commands", "failover", &[&[0], failover.as_flattened()])?;
    let moved = [
        0, 4, 0, 0, 0x04, 0, 0, 4, 1, 1, 0x01, 0, 0, 4, 7, 0, 0x09, 6, 2, 1, 2, 3, 0, 1, 0,
    ];
    write("commands", "moved", &[&[0], &moved])?;
    let named = [0, 4, 0, 0, 0x04, 0x2c, 4, 1, 3, 3, 3, 1, 0, 1, 1, 0, 2];
    write("commands", "named", &[&[0], &named])?;
    write("letters", "some", &[&[0, 10, 0, 60, 1, 120, 2, 200, 3, 9]])
}

fn traces() -> Result<()> {
    for (name, text) in [
        ("pattern", "\0pr_helper_*\0"),
        ("parts", "\0enable=pr_helper_?n,,x,file=t\n-pr_*\0"),
        (
            "events",
            "\0pr_helper_sense,events=e,file=t\0# some\npr_helper_out_*\n-*end\n\nhelp\n",
        ),
        ("list", "\x01help\0"),
    ] {
        write("trace", name, &[text.as_bytes()])?;
    }
    Ok(())
}
