//! A soft LUN in a temporary folder, and commands for it.

use std::fs;
use std::path::PathBuf;

use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, OutServiceAction, PersistentReserveIn,
    PersistentReserveOut, ReservationType, ScopeType, Status,
};
use soft_lun::store::{Lun, Name, Port};
use soft_lun::{Nexus, Response, SupportedFeatures};
use tempfile::TempDir;

pub(crate) const KEY_A: u64 = 0xaaaa;
pub(crate) const KEY_B: u64 = 0xbbbb;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn port(text: &str, sas_address: u64, target_port: u16) -> Port {
    Port {
        name: name(text),
        nexus: Nexus {
            initiator: scsi_pr::TransportId::Sas { sas_address },
            target_port: target_port.into(),
        },
    }
}

/// The ports `a` and `b`.
pub(crate) fn ports() -> Vec<Port> {
    vec![
        port("a", 0x3000_0000_0000_000a, 1),
        port("b", 0x3000_0000_0000_000b, 2),
    ]
}

/// Parameter list and CDB of a PERSISTENT RESERVE OUT.
pub(crate) type Command = (Vec<u8>, Vec<u8>);

pub(crate) fn out(action: OutServiceAction, kind: u8, list: &BasicParameterList) -> Command {
    let list = list.encode();
    let cdb = Cdb::Out(PersistentReserveOut {
        service_action: action,
        scope_type: ScopeType(kind),
        parameter_list_length: list.len().try_into().unwrap(),
        control: 0,
    });
    (cdb.encode().to_vec(), list)
}

pub(crate) fn keys(key: u64, action_key: u64) -> BasicParameterList {
    BasicParameterList {
        reservation_key: key.into(),
        service_action_reservation_key: action_key.into(),
        ..BasicParameterList::default()
    }
}

pub(crate) fn register(key: u64, aptpl: bool) -> Command {
    let list = BasicParameterList {
        aptpl,
        ..keys(0, key)
    };
    out(OutServiceAction::RegisterAndIgnoreExistingKey, 0, &list)
}

pub(crate) fn reserve(key: u64, kind: ReservationType) -> Command {
    out(OutServiceAction::Reserve, kind.code(), &keys(key, 0))
}

pub(crate) fn preempt(key: u64, victim: u64, kind: ReservationType) -> Command {
    out(OutServiceAction::Preempt, kind.code(), &keys(key, victim))
}

pub(crate) fn read_keys() -> Command {
    let cdb = Cdb::In(PersistentReserveIn {
        service_action: InServiceAction::ReadKeys,
        allocation_length: 255,
        control: 0,
    });
    (cdb.encode().to_vec(), Vec::new())
}

/// A soft LUN `lun` with the ports `a` and `b`.
pub(crate) struct Scratch {
    pub(crate) folder: TempDir,
    pub(crate) lun: Lun,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lun");
        let lun = Lun::create(&path, ports(), SupportedFeatures::default()).unwrap();
        Scratch { folder, lun }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.lun.path().join(name)
    }

    pub(crate) fn content(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    pub(crate) fn send(&self, port: &str, (cdb, list): &Command) -> Response {
        self.lun.execute(&name(port), cdb, list).unwrap().response
    }

    #[track_caller]
    pub(crate) fn good(&self, port: &str, command: &Command) {
        let answer = self.send(port, command);
        assert_eq!(answer.status, Status::GOOD, "{answer:?}");
    }
}
