// SPDX-License-Identifier: MIT OR Apache-2.0

//! Negotiation of features before the first command.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};

use super::{TestServer, expect_not_scsi, null};
use crate::case::Case;
use crate::client::pr_in;
use crate::differences::Row;
use crate::helper::Helper;

/// Feature bits that no helper has, in wire format.
const UNKNOWN: [(&str, [u8; 4]); 6] = [
    ("second_bit", [0, 0, 0, 2]),
    ("two_lowest_bits", [0, 0, 0, 3]),
    ("lowest_bit_in_the_wrong_order", [1, 0, 0, 0]),
    ("highest_bit", [0x80, 0, 0, 0]),
    ("middle_bit", [0, 1, 0, 0]),
    ("all_bits", [0xff; 4]),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, features) in UNKNOWN {
        let name = format!("unknown_feature_{name}_closes");
        cases.push(Case::new(name, move |helper| {
            let server = TestServer::start(helper)?;
            let mut client = server.running.connect()?;
            client.receive(4)?;
            client.send(&features)?;
            client.expect_closed()?;
            server.check_healthy()
        }));
    }
    for length in 0..4 {
        let name = format!("end_after_{length}_bytes_of_features_closes");
        cases.push(Case::new(name, move |helper| {
            let server = TestServer::start(helper)?;
            let mut client = server.running.connect()?;
            client.receive(4)?;
            client.send(&vec![0; length])?;
            client.finish()?;
            client.expect_closed()?;
            server.check_healthy()
        }));
    }
    cases.extend([
        Case::new("greeting_is_sent_first", greeting).row(Row::Cleanup),
        Case::new("features_byte_by_byte_are_accepted", byte_by_byte),
        Case::new(
            "features_before_the_greeting_are_accepted",
            before_the_greeting,
        ),
        Case::new("features_and_cdb_in_one_message", features_and_cdb),
        Case::new("end_after_the_handshake_closes", end_after),
        Case::new("descriptor_with_the_features", with_descriptor).row(Row::StrayDescriptor),
    ]);
    cases
}

fn greeting(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.running.connect()?;
    let offered = client.receive(4)?;
    let expected = match helper.differs(Row::Cleanup) {
        true => [0, 0, 0, 1],
        false => [0; 4],
    };
    ensure!(offered == expected, "{offered:02x?}");
    Ok(())
}

fn byte_by_byte(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.running.connect()?;
    client.receive(4)?;
    for _ in 0..4 {
        client.send(&[0])?;
    }
    expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
}

fn before_the_greeting(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.running.connect()?;
    client.send(&[0; 4])?;
    client.receive(4)?;
    expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
}

/// The descriptor is sent with the features, before the command, so the command has none.
fn features_and_cdb(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.running.connect()?;
    client.receive(4)?;
    let mut bytes = vec![0; 4];
    bytes.extend(pr_in(0, 8));
    client.send_with(&bytes, &[null()?.as_fd()])?;
    client.expect_closed()?;
    server.check_healthy()
}

fn end_after(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.client()?;
    client.finish()?;
    client.expect_closed()?;
    server.check_healthy()
}

fn with_descriptor(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.running.connect()?;
    client.receive(4)?;
    client.send_with(&[0; 4], &[null()?.as_fd()])?;
    if helper.differs(Row::StrayDescriptor) {
        client.expect_closed()?;
    } else {
        expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
    }
    drop(client);
    server.check_healthy()
}
