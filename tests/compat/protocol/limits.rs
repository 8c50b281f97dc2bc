// SPDX-License-Identifier: MIT OR Apache-2.0

//! Accepted operation codes and lengths, and those for which the helper closes the connection.

use anyhow::{Result, ensure};

use super::{expect_not_scsi, null, send_cdb, with_client};
use crate::case::Case;
use crate::client::{Cdb, pr_in, pr_out};
use crate::helper::Helper;

/// Operation codes of other commands.
const OTHER_OPCODES: [u8; 24] = [
    0x00, 0x03, 0x04, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1d, 0x25, 0x28, 0x2a, 0x4d, 0x56,
    0x57, 0x5d, 0x60, 0x7f, 0x88, 0x9e, 0xa0, 0xfe,
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for code in OTHER_OPCODES {
        let name = format!("operation_code_{code:02x}_closes");
        cases.push(Case::new(name, move |helper| {
            let mut cdb = pr_in(0, 8);
            cdb[0] = code;
            closes(helper, cdb)
        }));
    }
    for allocation in [0, 1, 7, 8, 255, 8191, 8192] {
        let name = format!("allocation_length_{allocation}_is_answered");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| {
                expect_not_scsi(&client.command(&pr_in(0, allocation), &[], null()?)?)
            })
        }));
    }
    for length in [0, 1, 23, 24, 8191, 8192] {
        let name = format!("parameter_length_{length}_is_answered");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| {
                let parameters = vec![0; usize::from(length)];
                expect_not_scsi(&client.command(&pr_out(0, 0, length), &parameters, null()?)?)
            })
        }));
    }
    for length in [8193, 0x2100, 0x8000, 0xffff] {
        cases.push(Case::new(
            format!("allocation_length_{length}_closes"),
            move |helper| closes(helper, pr_in(0, length)),
        ));
        cases.push(Case::new(
            format!("parameter_length_{length}_closes"),
            move |helper| closes(helper, pr_out(0, 0, length)),
        ));
    }
    cases.extend(ignored_bytes());
    cases
}

/// Fields of the CDB that the helper must ignore.
fn ignored_bytes() -> Vec<Case> {
    vec![
        Case::new("bytes_5_and_6_are_not_the_parameter_length", |helper| {
            let mut cdb = pr_out(0, 0, 24);
            (cdb[5], cdb[6]) = (0xff, 0xff);
            with_client(helper, |client| {
                expect_not_scsi(&client.command(&cdb, &[0; 24], null()?)?)?;
                expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
            })
        }),
        Case::new("bytes_5_and_6_are_not_the_allocation_length", |helper| {
            let mut cdb = pr_in(0, 24);
            (cdb[5], cdb[6]) = (0xff, 0xff);
            with_client(helper, |client| {
                expect_not_scsi(&client.command(&cdb, &[], null()?)?)
            })
        }),
        Case::new("bytes_after_the_tenth_are_ignored", |helper| {
            let mut cdb = pr_in(0, 24);
            cdb[10..].fill(0xff);
            with_client(helper, |client| {
                expect_not_scsi(&client.command(&cdb, &[], null()?)?)
            })
        }),
        Case::new("every_service_action_is_forwarded", every_service_action),
    ]
}

fn closes(helper: &Helper, cdb: Cdb) -> Result<()> {
    with_client(helper, |client| {
        send_cdb(client, &cdb)?;
        client.expect_closed()
    })
}

/// Reserved actions are forwarded too, because only the device knows whether it supports them.
fn every_service_action(helper: &Helper) -> Result<()> {
    with_client(helper, |client| {
        for action in 0..32 {
            let response = client.command(&pr_in(action, 8), &[], null()?)?;
            ensure!(response.sense_code() == super::NOT_SCSI, "in {action}");
            let response = client.command(&pr_out(action, 0, 24), &[0; 24], null()?)?;
            ensure!(response.sense_code() == super::NOT_SCSI, "out {action}");
        }
        Ok(())
    })
}
