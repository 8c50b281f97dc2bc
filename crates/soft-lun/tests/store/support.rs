// SPDX-License-Identifier: MIT OR Apache-2.0

//! A soft LUN in a temporary directory, and commands for it.

use std::fs;
use std::path::PathBuf;

use pr_testkit::cdb::{PrCommand, key_list, register_and_ignore_with};
use pr_testkit::soft_lun::two_ports;
use scsi_pr::{BasicParameterList, Status};
use soft_lun::store::{Lun, Name, StoreError};
use soft_lun::{Response, SupportedFeatures};
use tempfile::TempDir;

pub(crate) const KEY_A: u64 = 0xaaaa;
pub(crate) const KEY_B: u64 = 0xbbbb;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Creates REGISTER AND IGNORE EXISTING KEY.
pub(crate) fn register(key: u64, aptpl: bool) -> PrCommand {
    register_and_ignore_with(&BasicParameterList {
        aptpl,
        ..key_list(0, key)
    })
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
        let lun = Lun::create(&path, two_ports(), SupportedFeatures::default()).unwrap();
        Fixture { dir, lun }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.lun.path().join(name)
    }

    pub(crate) fn content(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    pub(crate) fn try_send(&self, port: &str, command: &PrCommand) -> Result<Response, StoreError> {
        let executed = self
            .lun
            .execute(&name(port), &command.cdb, &command.parameter_list)?;
        Ok(executed.response)
    }

    pub(crate) fn send(&self, port: &str, command: &PrCommand) -> Response {
        self.try_send(port, command).unwrap()
    }

    #[track_caller]
    pub(crate) fn expect_good(&self, port: &str, command: &PrCommand) {
        let response = self.send(port, command);
        assert_eq!(response.status, Status::GOOD, "{response:?}");
    }
}
