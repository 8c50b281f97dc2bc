// SPDX-License-Identifier: MIT OR Apache-2.0

//! Generates the seeds in `corpus`: valid encodings, from which a fuzzer starts.
//!
//! Run `cargo run --package fuzz --example seeds` after a change of an encoding.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use helper_state::PathRegistration;
use pr_helper_protocol::Command;
use pr_helper_protocol::wire::{CLEANUP, Features, pad_cdb};
use qemu_pr_helper::command::executor::CommandResult;
use qemu_pr_helper::multipath::deadline::Deadline;
use qemu_pr_helper::multipath::message::{
    CommandReport, MapAction, MapRequest, PathReport, WorkerRequest,
};
use qemu_pr_helper::multipath::version::MultipathdVersion;
use qemu_pr_helper::names::query::Query;
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
    parameter_lists()?;
    pr_in_data()?;
    streams()?;
    messages()?;
    names()?;
    soft_luns()?;
    sequences()?;
    traces()
}

fn write(target: &str, name: &str, parts: &[&[u8]]) -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), parts.concat()).with_context(|| format!("cannot write {name}"))
}

/// Writes seeds for `prhctl decode` with text and JSON output; the second byte selects the kind.
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
    for (index, id) in ids()?.iter().enumerate() {
        write("transport_id", &format!("bytes-{index}"), &[&id.encode()])?;
        write(
            "transport_id",
            &format!("text-{index}"),
            &[id.to_string().as_bytes()],
        )?;
    }
    let all: Vec<u8> = ids()?.iter().flat_map(TransportId::encode).collect();
    write("transport_id", "list", &[&all])
}

fn senses() -> Result<()> {
    let with_pointer = Sense::new(
        SenseKey::IllegalRequest,
        AdditionalSense::INVALID_FIELD_IN_CDB,
    )
    .with_field_pointer(FieldPointer {
        in_cdb: true,
        byte: 2,
        bit: Some(3),
    });
    let with_information = Sense {
        information: Some(0x1234),
        deferred: true,
        ..Sense::new(SenseKey::NotReady, AdditionalSense::MEDIUM_NOT_PRESENT)
    };
    for (name, sense) in [
        ("field-pointer", with_pointer),
        ("information", with_information),
    ] {
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

/// Returns a CDB for this parameter list.
fn pr_out_cdb(service_action: OutServiceAction, list: &[u8]) -> Result<[u8; 10]> {
    let command = PersistentReserveOut {
        service_action,
        scope_type: ScopeType::from(TYPE),
        parameter_list_length: u32::try_from(list.len())?,
        control: 0,
    };
    Ok(command.encode())
}

fn parameter_lists() -> Result<()> {
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
        write("pr_out", name, &[&pr_out_cdb(action, &list)?, &list])?;
        let whole = [&pr_out_cdb(action, &list)?, list.as_slice()].concat();
        write_explained(1, name, &whole)?;
    }
    write_explained(8, "list-of-move", &moved.encode())
}

fn pr_in_data() -> Result<()> {
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
    let pr_in_data = [
        ("keys", keys.encode()),
        ("reservation", reservation.encode()),
        ("capabilities", capabilities.encode().to_vec()),
        ("full-status", status.encode()),
    ];
    for (kind, (name, bytes)) in (0..).zip(pr_in_data) {
        write("pr_in_data", name, &[&[kind, 0, 20], &bytes])?;
        write_explained(kind + 3, name, &bytes)?;
    }
    Ok(())
}

fn streams() -> Result<()> {
    let read_keys = PersistentReserveIn {
        service_action: InServiceAction::ReadKeys,
        allocation_length: 8192,
        control: 0,
    };
    let read_keys = pad_cdb(&read_keys.encode());
    let list = basic(None);
    let register = pad_cdb(&pr_out_cdb(OutServiceAction::Register, &list)?);
    let stream = [[0; 4].as_slice(), &read_keys, &register, &list].concat();
    // Pieces of 8 and 30 bytes, descriptors with the first bytes of both CDBs; and a truncated
    // descriptor list.
    write(
        "request_decoder",
        "requests",
        &[&[2, 7, 29, 2, 0, 4, 0, 20], &stream],
    )?;
    write(
        "request_decoder",
        "truncated",
        &[&[0, 2, 0xc0, 4, 0, 20], &stream],
    )?;
    write("request_decoder", "many", &[&[0, 1, 0xe0, 4], &stream])?;
    let features = Features::CLEANUP.encode();
    let stream = [features.as_slice(), &pad_cdb(&[CLEANUP])].concat();
    write("request_decoder", "cleanup", &[&[0, 1, 0, 4], &stream])
}

fn messages() -> Result<()> {
    let list = basic(None);
    let request = WorkerRequest {
        deadline: Deadline(1500),
        multipathd: Some(MultipathdVersion([0, 9, 4])),
        is_traced: true,
        command: Command::new(pad_cdb(&pr_out_cdb(OutServiceAction::Register, &list)?))?,
        parameter_list: list,
    };
    write("message", "request", &[&request.encode()])?;
    let request = MapRequest {
        deadline: Deadline(1500),
        is_traced: true,
        map: (253, 3),
        action: MapAction::CheckPaths(vec!["8:0".to_owned(), "65:16".to_owned()]),
    };
    write("message", "check", &[&request.encode()])?;
    let key = SenseKey::NotReady;
    let mut outcome = CommandResult::check_condition(key, AdditionalSense::MEDIUM_NOT_PRESENT);
    outcome.data_len = 2;
    let path_line = "path\tsda\t95\t3\tlost\t2\t145920\t12";
    let multipathd_line = "multipathd\tgetprkey map dm-0\tnone\t7";
    write("message", "path", &[path_line.as_bytes()])?;
    let report = CommandReport {
        multipathd: Some(MultipathdVersion([0, 15, 1])),
        result: outcome,
        data: vec![8, 9],
        paths: vec![PathReport {
            name: "sda".to_owned(),
            number: "8:0".to_owned(),
            registration: PathRegistration::NotRegistered,
        }],
        warnings: vec!["one".to_owned(), "two".to_owned()],
        trace: vec![path_line.to_owned(), multipathd_line.to_owned()],
    };
    write("message", "report", &[&report.encode()])
}

/// Writes seeds for the names of processes and disks.
fn names() -> Result<()> {
    let libvirt = "0::/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/emulator\n";
    let kubevirt = "0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-0a.scope\n";
    let proxmox = "0::/qemu.slice/100.scope\n";
    let uuid = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
    for (name, cgroup, arguments) in [
        (
            "libvirt",
            libvirt,
            format!("-name\0guest=web,x=y\0-uuid\0{uuid}"),
        ),
        ("kubevirt", kubevirt, "-name\0guest=prod_web,x=y".to_owned()),
        (
            "proxmox",
            proxmox,
            format!("-id\0100\0-smbios\0type=1,uuid={uuid}"),
        ),
        (
            "secret",
            "1:name=systemd:/\n",
            "-name\0a,,b\0-object\0id=masterKey0".to_owned(),
        ),
    ] {
        let cmdline = format!("\0kvm\0{arguments}\0");
        write(
            "process_name",
            name,
            &[cgroup.as_bytes(), cmdline.as_bytes()],
        )?;
    }
    for (name, id) in [
        ("naa", "naa.6001405a"),
        ("t10", "t10.ATA     QEMU HARDDISK"),
        ("map-naa", "35000c500a1b2c3d4"),
        ("map-eui", "20025385b71b00123"),
        ("map-t10", "1ATA_QEMU_HARDDISK"),
        ("map-nvme", "eui.0025385b71b00123"),
    ] {
        write("disk_id", name, &[id.as_bytes()])?;
    }
    let process = Query::Process {
        pid: 7,
        inode: Some(8),
    };
    for (name, query) in [
        ("process", process),
        ("block", Query::Block(8, 16)),
        ("character", Query::Character(21, 0)),
    ] {
        write("name_query", name, &[&query.encode()])?;
    }
    Ok(())
}

fn soft_luns() -> Result<()> {
    let dir = tempfile::tempdir()?;
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
    let lun = Lun::create(&dir.path().join("lun"), ports, SupportedFeatures::default())?;
    let (first, second) = ("a".parse()?, "b".parse()?);
    write_lun(&lun, "clean")?;

    let zero = BasicParameterList {
        service_action_reservation_key: ReservationKey::new(1),
        aptpl: true,
        ..BasicParameterList::default()
    };
    let register = pr_out_cdb(OutServiceAction::Register, &zero.encode())?;
    for port in [&first, &second] {
        // The first command returns a unit attention.
        lun.execute(port, &register, &zero.encode())?;
        lun.execute(port, &register, &zero.encode())?;
    }
    let own = BasicParameterList {
        reservation_key: ReservationKey::new(1),
        ..BasicParameterList::default()
    };
    for action in [OutServiceAction::Reserve, OutServiceAction::Clear] {
        lun.execute(&first, &pr_out_cdb(action, &own.encode())?, &own.encode())?;
        let name = if action == OutServiceAction::Clear {
            "unit-attention"
        } else {
            "held"
        };
        write_lun(&lun, name)?;
    }
    duplicate_attention(&String::from_utf8(stored(&lun, "state.json")?)?)
}

/// Writes the files of a soft LUN as seeds.
fn write_lun(lun: &Lun, name: &str) -> Result<()> {
    let state = stored(lun, "state.json")?;
    write("lun_state", name, &[&state])?;
    write("store", name, &[&stored(lun, "lun.json")?, &[0], &state])
}

/// Returns a file of a soft LUN with a fixed identity and boot ID.
fn stored(lun: &Lun, name: &str) -> Result<Vec<u8>> {
    let text = fs::read_to_string(lun.path().join(name))?;
    let identity = lun.config()?.identity.to_string();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let text = text.replace(&identity, "naa.3000000000000001");
    Ok(text.replace(boot.trim(), "boot").into_bytes())
}

/// Writes an invalid state: a unit attention that is pending twice.
fn duplicate_attention(state: &str) -> Result<()> {
    let (head, attention) = state
        .split_once("\"attentions\": [")
        .context("the state has no unit attention")?;
    let (attention, tail) = attention
        .split_once("\n  ]")
        .context("the list of unit attentions has no end")?;
    let twice = format!("{head}\"attentions\": [{attention},{attention}\n  ]{tail}");
    write("lun_state", "duplicate-unit-attention", &[twice.as_bytes()])
}

/// Writes commands to a soft LUN: sender, kind, service action, type, keys, flags.
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
    let spec_i_pt = [0, 4, 0, 0, 0x04, 0x2c, 4, 1, 3, 3, 3, 1, 0, 1, 1, 0, 2];
    write("commands", "spec-i-pt", &[&[0], &spec_i_pt])?;
    write(
        "exhaustive_commands",
        "some",
        &[&[0, 10, 0, 60, 1, 120, 2, 200, 3, 9]],
    )
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
