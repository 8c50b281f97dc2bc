//! The features that both sides exchange before the first command.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};

use super::{Bench, is_no_scsi, null};
use crate::case::Case;
use crate::client::pr_in;
use crate::differences::Row;
use crate::helper::Helper;

/// Features that no helper has, as they travel.
const UNKNOWN: [(&str, [u8; 4]); 5] = [
    ("lowest_bit", [0, 0, 0, 1]),
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
            let bench = Bench::start(helper)?;
            let mut client = bench.running.stranger()?;
            client.receive(4)?;
            client.send(&features)?;
            client.closed()?;
            bench.is_well()
        }));
    }
    for length in 0..4 {
        let name = format!("end_after_{length}_bytes_of_features_closes");
        cases.push(Case::new(name, move |helper| {
            let bench = Bench::start(helper)?;
            let mut client = bench.running.stranger()?;
            client.receive(4)?;
            client.send(&vec![0; length])?;
            client.finish()?;
            client.closed()?;
            bench.is_well()
        }));
    }
    cases.extend([
        Case::new("greeting_comes_unasked", greeting),
        Case::new("features_byte_by_byte_are_taken", byte_by_byte),
        Case::new(
            "features_before_the_greeting_are_taken",
            before_the_greeting,
        ),
        Case::new("features_and_cdb_in_one_message", features_and_cdb),
        Case::new("end_after_the_handshake_closes", end_after),
        Case::new("descriptor_with_the_features", with_descriptor).row(Row::StrayDescriptor),
    ]);
    cases
}

fn greeting(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut client = bench.running.stranger()?;
    let features = client.receive(4)?;
    ensure!(features == [0; 4], "{features:02x?}");
    Ok(())
}

fn byte_by_byte(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut client = bench.running.stranger()?;
    client.receive(4)?;
    for _ in 0..4 {
        client.send(&[0])?;
    }
    is_no_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
}

fn before_the_greeting(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut client = bench.running.stranger()?;
    client.send(&[0; 4])?;
    client.receive(4)?;
    is_no_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
}

/// The descriptor travels with the features, which is too early for both: the command has none.
fn features_and_cdb(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut client = bench.running.stranger()?;
    client.receive(4)?;
    let mut bytes = vec![0; 4];
    bytes.extend(pr_in(0, 8));
    client.send_with(&bytes, &[null()?.as_fd()])?;
    client.closed()?;
    bench.is_well()
}

fn end_after(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut client = bench.client()?;
    client.finish()?;
    client.closed()?;
    bench.is_well()
}

fn with_descriptor(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut client = bench.running.stranger()?;
    client.receive(4)?;
    client.send_with(&[0; 4], &[null()?.as_fd()])?;
    if helper.differs(Row::StrayDescriptor) {
        client.closed()?;
    } else {
        is_no_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
    }
    drop(client);
    bench.is_well()
}
