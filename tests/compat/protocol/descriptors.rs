// SPDX-License-Identifier: MIT OR Apache-2.0

//! Position and number of the descriptors of a request.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};

use super::{expect_not_scsi, null, send_cdb, with_client};
use crate::case::Case;
use crate::client::{Client, pr_in, pr_out};
use crate::differences::Row;
use crate::helper::Helper;
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for at in [0, 1, 8, 15] {
        let name = format!("descriptor_with_byte_{at:02}_is_used");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| fd_at_byte(client, at))
        }));
    }
    for count in [2, 3, 16, 17, 32] {
        let name = format!("{count}_descriptors_in_a_message_close");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| several_fds(client, count))
        }));
    }
    cases.extend([
        closing("no_descriptor_closes", |client| client.send(&pr_in(0, 8))),
        closing("no_descriptor_with_parameters_closes", |client| {
            client.send(&pr_out(0, 0, 24))
        }),
        closing("no_descriptor_for_a_second_request_closes", |client| {
            expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
            client.send(&pr_in(0, 8))
        }),
        closing("descriptors_in_two_messages_close", |client| {
            let cdb = pr_in(0, 8);
            client.send_with(&cdb[..8], &[null()?.as_fd()])?;
            client.send_with(&cdb[8..], &[null()?.as_fd()])
        }),
        closing("descriptors_with_the_first_and_last_byte_close", |client| {
            let cdb = pr_in(0, 8);
            client.send_with(&cdb[..1], &[null()?.as_fd()])?;
            client.send(&cdb[1..15])?;
            client.send_with(&cdb[15..], &[null()?.as_fd()])
        }),
        closing(
            "two_descriptors_for_two_requests_in_a_message_close",
            |client| {
                let both = [pr_in(0, 8), pr_in(0, 8)].concat();
                client.send_with(&both, &[null()?.as_fd(), null()?.as_fd()])
            },
        ),
        closing("other_operation_code_without_descriptor_closes", |client| {
            client.send(&[0xff; 16])
        }),
    ]);
    cases.extend(stray_descriptors());
    cases
}

/// Descriptors that belong to no command.
fn stray_descriptors() -> Vec<Case> {
    vec![
        Case::new("descriptor_of_a_disconnected_client_is_closed", |helper| {
            with_client(helper, |client| {
                client.send_with(&pr_out(0, 0, 24)[..3], &[null()?.as_fd()])
            })
        }),
        Case::new("descriptor_of_a_partial_list_is_closed", |helper| {
            with_client(helper, |client| {
                send_cdb(client, &pr_out(0, 0, 24))?;
                client.send(&[0; 7])
            })
        }),
        Case::new("missing_descriptor_is_logged_once", logged_once),
        Case::new("descriptor_with_the_parameters", |helper| {
            with_parameters(helper, 0)
        })
        .row(Row::StrayDescriptor),
        Case::new("descriptor_within_the_parameters", |helper| {
            with_parameters(helper, 10)
        })
        .row(Row::StrayDescriptor),
    ]
}

/// The log has one line with the reason of a closed connection.
fn logged_once(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = helper.serving_command(&scratch).start()?;
    let mut client = running.client()?;
    client.send(&pr_in(0, 8))?;
    client.expect_closed()?;
    running.wait_for_log("file descriptor in request");
    ensure!(running.terminate()?.success());
    let stderr = running.stderr();
    ensure!(stderr.lines().count() == 1, "{stderr}");
    Ok(())
}

/// Returns a case in which the helper closes the connection without a response.
fn closing(name: &str, exchange: fn(&mut Client) -> Result<()>) -> Case {
    Case::new(name, move |helper| {
        with_client(helper, |client| {
            exchange(client)?;
            client.expect_closed()
        })
    })
}

fn fd_at_byte(client: &mut Client, at: usize) -> Result<()> {
    let cdb = pr_in(0, 8);
    client.send(&cdb[..at])?;
    client.send_with(&cdb[at..=at], &[null()?.as_fd()])?;
    client.send(&cdb[at + 1..])?;
    expect_not_scsi(&client.receive_response()?)
}

fn several_fds(client: &mut Client, count: usize) -> Result<()> {
    let file = null()?;
    client.send_with(&pr_in(0, 8), &vec![file.as_fd(); count])?;
    client.expect_closed()
}

fn with_parameters(helper: &Helper, before: usize) -> Result<()> {
    with_client(helper, |client| {
        send_cdb(client, &pr_out(0, 0, 24))?;
        client.send(&vec![0; before])?;
        client.send_with(&vec![0; 24 - before], &[null()?.as_fd()])?;
        if helper.differs(Row::StrayDescriptor) {
            return client.expect_closed();
        }
        expect_not_scsi(&client.receive_response()?)?;
        expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)
    })
}
