//! A soft LUN in a temporary directory, and commands for it.

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

/// Returns the ports `a` and `b`.
pub(crate) fn ports() -> Vec<Port> {
    vec![
        port("a", 0x3000_0000_0000_000a, 1),
        port("b", 0x3000_0000_0000_000b, 2),
    ]
}

/// The CDB and the parameter list of a command.
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

pub(crate) fn key_list(key: u64, action_key: u64) -> BasicParameterList {
    BasicParameterList {
        reservation_key: key.into(),
        service_action_reservation_key: action_key.into(),
        ..BasicParameterList::default()
    }
}

pub(crate) fn register(key: u64, aptpl: bool) -> Command {
    let list = BasicParameterList {
        aptpl,
        ..key_list(0, key)
    };
    out(OutServiceAction::RegisterAndIgnoreExistingKey, 0, &list)
}

pub(crate) fn reserve(key: u64, kind: ReservationType) -> Command {
    out(OutServiceAction::Reserve, kind.code(), &key_list(key, 0))
}

pub(crate) fn preempt(key: u64, victim: u64, kind: ReservationType) -> Command {
    out(
        OutServiceAction::Preempt,
        kind.code(),
        &key_list(key, victim),
    )
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
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) lun: Lun,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lun");
        let lun = Lun::create(&path, ports(), SupportedFeatures::default()).unwrap();
        Fixture { dir, lun }
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
    pub(crate) fn expect_good(&self, port: &str, command: &Command) {
        let response = self.send(port, command);
        assert_eq!(response.status, Status::GOOD, "{response:?}");
    }
}
