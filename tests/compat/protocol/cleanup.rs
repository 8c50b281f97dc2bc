// SPDX-License-Identifier: MIT OR Apache-2.0

//! CLEANUP, which QEMU's helpers do not know: its feature bit, and its operation code.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Result, ensure};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{TestServer, expect_not_scsi, expect_sense, null, with_client};
use crate::case::Case;
use crate::client::{Cdb, Client, pr_in};
use crate::differences::Row;
use crate::helper::Helper;

/// Feature bit of CLEANUP in wire format.
const FEATURE: [u8; 4] = [0, 0, 0, 1];

/// CDB of CLEANUP.
const CLEANUP: Cdb = cdb(0);

/// Returns the CDB with a length at the place where PERSISTENT RESERVE OUT has one.
const fn cdb(length: u8) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0xff;
    cdb[8] = length;
    cdb
}

pub(crate) fn cases() -> Vec<Case> {
    let cases = [
        Case::new("cleanup_feature_is_accepted", feature_is_accepted),
        Case::new("cleanup_is_answered", |helper| {
            with_client(helper, |client| expect_good(helper, client, null()?))
        }),
        Case::new("cleanup_of_a_read_only_descriptor", |helper| {
            rejected(helper, &File::open("/dev/null")?)
        }),
        Case::new("cleanup_of_a_path_descriptor", |helper| {
            rejected(helper, path_descriptor()?)
        }),
        Case::new("cleanup_has_no_parameters", no_parameters),
        Case::new("parameters_after_cleanup_close", parameters_close),
    ];
    let mut cases: Vec<_> = cases.map(|case| case.row(Row::Cleanup)).into();
    cases.push(Case::new("cleanup_without_a_descriptor_closes", |helper| {
        with_client(helper, |client| {
            client.send(&CLEANUP)?;
            client.expect_closed()
        })
    }));
    cases
}

/// Sends CLEANUP, which succeeds if the helper knows it.
fn expect_good(helper: &Helper, client: &mut Client, device: impl AsFd) -> Result<()> {
    if !helper.differs(Row::Cleanup) {
        client.send_with(&CLEANUP, &[device.as_fd()])?;
        return client.expect_closed();
    }
    let response = client.command(&CLEANUP, &[], device)?;
    ensure!(response.status == 0, "{response:?}");
    ensure!(response.sense == [0; 96], "{response:?}");
    ensure!(response.data.is_empty(), "{response:?}");
    // The connection must still work.
    expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
}

fn feature_is_accepted(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.running.connect()?;
    client.receive(4)?;
    client.send(&FEATURE)?;
    match helper.differs(Row::Cleanup) {
        true => expect_good(helper, &mut client, null()?)?,
        false => client.expect_closed()?,
    }
    drop(client);
    server.check_healthy()
}

/// Checks that the helper rejects CLEANUP of this descriptor like PERSISTENT RESERVE OUT.
fn rejected(helper: &Helper, device: impl AsFd) -> Result<()> {
    with_client(helper, |client| {
        if !helper.differs(Row::Cleanup) {
            client.send_with(&CLEANUP, &[device.as_fd()])?;
            return client.expect_closed();
        }
        let response = client.command(&CLEANUP, &[], device)?;
        expect_sense(&response, (5, 0x20, 0))?;
        expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
    })
}

fn path_descriptor() -> Result<OwnedFd> {
    Ok(openat(CWD, "/dev/null", OFlags::PATH, Mode::empty())?)
}

/// The helper reads no parameters, although the CDB seems to have a length.
fn no_parameters(helper: &Helper) -> Result<()> {
    with_client(helper, |client| {
        client.send_with(&cdb(24), &[null()?.as_fd()])?;
        if !helper.differs(Row::Cleanup) {
            return client.expect_closed();
        }
        ensure!(client.receive_response()?.status == 0);
        expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
    })
}

/// The helper takes bytes after the CDB for the next CDB, which has no descriptor.
fn parameters_close(helper: &Helper) -> Result<()> {
    with_client(helper, |client| {
        let bytes = [&cdb(24)[..], &[0; 24]].concat();
        client.send_with(&bytes, &[null()?.as_fd()])?;
        if helper.differs(Row::Cleanup) {
            ensure!(client.receive_response()?.status == 0);
        }
        client.expect_closed()
    })
}
