// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests in pieces, consecutive requests, and incomplete requests.

use std::os::fd::AsFd;

use anyhow::Result;

use super::{expect_not_scsi, null, send_cdb, with_client};
use crate::case::Case;
use crate::client::{Client, pr_in, pr_out};
use crate::helper::Helper;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for cut in 1..16 {
        let name = format!("cdb_cut_after_byte_{cut:02}_is_answered");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| cut_cdb(client, cut))
        }));
    }
    for length in 0..16 {
        let name = format!("end_after_{length:02}_bytes_of_cdb_closes");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| {
                client.send_with(&pr_in(0, 8)[..length], &[null()?.as_fd()])?;
                client.finish()?;
                client.expect_closed()
            })
        }));
    }
    for length in [0, 1, 23, 8000] {
        let name = format!("end_after_{length}_bytes_of_parameters_closes");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| {
                send_cdb(client, &pr_out(0, 0, 8192))?;
                client.send(&vec![0; length])?;
                client.finish()?;
                client.expect_closed()
            })
        }));
    }
    for size in [1, 7, 23, 4096] {
        let name = format!("parameters_in_pieces_of_{size}_are_answered");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| pieces(client, size))
        }));
    }
    cases.extend([
        Case::new("cdb_byte_by_byte_is_answered", |helper| {
            with_client(helper, byte_by_byte)
        }),
        Case::new("cdb_and_parameters_in_one_message_are_answered", |helper| {
            with_client(helper, one_message)
        }),
        Case::new("pipelined_requests_are_answered_in_order", pipelined),
        Case::new(
            "pipelined_before_the_first_answer_and_end",
            pipelined_and_end,
        ),
        Case::new("many_requests_on_a_connection", many_requests),
        Case::new("second_cdb_in_a_message_has_no_descriptor", second_cdb),
        Case::new("disconnect_after_reply_closes", disconnect_after_reply),
    ]);
    cases
}

/// The descriptor is sent with the first piece.
fn cut_cdb(client: &mut Client, cut: usize) -> Result<()> {
    let cdb = pr_in(0, 8);
    client.send_with(&cdb[..cut], &[null()?.as_fd()])?;
    client.send(&cdb[cut..])?;
    expect_not_scsi(&client.receive_response()?)
}

fn byte_by_byte(client: &mut Client) -> Result<()> {
    let cdb = pr_in(0, 8);
    client.send_with(&cdb[..1], &[null()?.as_fd()])?;
    for byte in &cdb[1..] {
        client.send(&[*byte])?;
    }
    expect_not_scsi(&client.receive_response()?)
}

fn pieces(client: &mut Client, size: usize) -> Result<()> {
    let length = if size < 100 { 24 } else { 8192 };
    send_cdb(client, &pr_out(0, 0, length))?;
    for piece in vec![0; usize::from(length)].chunks(size) {
        client.send(piece)?;
    }
    expect_not_scsi(&client.receive_response()?)
}

fn one_message(client: &mut Client) -> Result<()> {
    let mut bytes = pr_out(0, 0, 24).to_vec();
    bytes.extend([0; 24]);
    client.send_with(&bytes, &[null()?.as_fd()])?;
    expect_not_scsi(&client.receive_response()?)
}

/// The sense data for a read-only descriptor in the middle shows that the order is kept.
fn pipelined(helper: &Helper) -> Result<()> {
    let read_only = std::fs::File::open("/dev/null")?;
    with_client(helper, |client| {
        send_cdb(client, &pr_in(0, 8))?;
        client.send_with(&pr_out(0, 0, 24), &[read_only.as_fd()])?;
        client.send(&[0; 24])?;
        send_cdb(client, &pr_in(0, 8))?;
        expect_not_scsi(&client.receive_response()?)?;
        super::expect_sense(&client.receive_response()?, (5, 0x20, 0))?;
        expect_not_scsi(&client.receive_response()?)
    })
}

fn pipelined_and_end(helper: &Helper) -> Result<()> {
    with_client(helper, |client| {
        for _ in 0..5 {
            send_cdb(client, &pr_in(0, 8))?;
        }
        client.finish()?;
        for _ in 0..5 {
            expect_not_scsi(&client.receive_response()?)?;
        }
        client.expect_closed()
    })
}

fn many_requests(helper: &Helper) -> Result<()> {
    with_client(helper, |client| {
        for turn in 0..300 {
            let response = if turn % 2 == 0 {
                client.command(&pr_in(0, 8), &[], null()?)?
            } else {
                client.command(&pr_out(0, 0, 24), &[0; 24], null()?)?
            };
            expect_not_scsi(&response)?;
        }
        Ok(())
    })
}

fn second_cdb(helper: &Helper) -> Result<()> {
    with_client(helper, |client| {
        let bytes = [pr_in(0, 8), pr_in(0, 8)].concat();
        client.send_with(&bytes, &[null()?.as_fd()])?;
        expect_not_scsi(&client.receive_response()?)?;
        client.expect_closed()
    })
}

fn disconnect_after_reply(helper: &Helper) -> Result<()> {
    with_client(helper, |client| {
        expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
        client.finish()?;
        client.expect_closed()
    })
}
