// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many clients at the same time, and clients that must not affect others.

use std::io;
use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use pr_testkit::process::stop;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;

use super::{TestServer, expect_not_scsi, null, send_cdb};
use crate::case::Case;
use crate::client::{pr_in, pr_out};
use crate::differences::Row;
use crate::helper::Helper;

/// Number of virtual machines on a large host.
const MANY: usize = 200;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("many_clients_are_served", many_clients),
        Case::new("many_clients_connect_and_disconnect", reconnect),
        Case::new("partial_handshake_other_clients_are_served", |helper| {
            other_clients_are_served(helper, &[0; 3])
        }),
        Case::new("partial_cdb_other_clients_are_served", |helper| {
            other_clients_are_served(helper, &[0, 0, 0, 0, 0x5e, 0])
        }),
        Case::new("silent_client_other_clients_are_served", |helper| {
            other_clients_are_served(helper, &[])
        }),
        Case::new(
            "partial_parameters_other_clients_are_served",
            partial_parameters,
        ),
        Case::new("unread_replies_other_clients_are_served", never_reads),
        Case::new(
            "early_disconnect_other_clients_are_served",
            early_disconnect,
        ),
        Case::new("connect_burst_before_accept", connect_burst).row(Row::Backlog),
    ]
}

fn many_clients(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(server.client()?);
    }
    for client in &clients {
        send_cdb(client, &pr_in(0, 8))?;
    }
    for client in &mut clients {
        expect_not_scsi(&client.receive_response()?)?;
    }
    drop(clients);
    server.check_healthy()
}

fn reconnect(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    for _ in 0..MANY {
        let mut client = server.client()?;
        expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
    }
    server.check_healthy()
}

fn other_clients_are_served(helper: &Helper, sent: &[u8]) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut slow = server.running.connect()?;
    slow.receive(4)?;
    slow.send(sent)?;
    let mut other = server.client()?;
    expect_not_scsi(&other.command(&pr_in(0, 8), &[], null()?)?)?;
    drop((slow, other));
    server.check_healthy()
}

fn partial_parameters(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut slow = server.client()?;
    send_cdb(&slow, &pr_out(0, 0, 24))?;
    slow.send(&[0; 20])?;
    let mut other = server.client()?;
    expect_not_scsi(&other.command(&pr_out(0, 0, 24), &[0; 24], null()?)?)?;
    slow.send(&[0; 4])?;
    expect_not_scsi(&slow.receive_response()?)?;
    drop((slow, other));
    server.check_healthy()
}

/// Sends requests until the helper stops reading them, because it cannot send its responses.
fn never_reads(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let full = server.client()?;
    let device = null()?;
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut sent = 0;
    loop {
        match full.send_some(&pr_in(0, 8), &[device.as_fd()], flags) {
            Ok(length) => ensure!(length == 16, "sent {length} bytes of a request"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
        sent += 1;
        ensure!(sent < 100_000, "the helper reads requests without limit");
    }
    let mut other = server.client()?;
    expect_not_scsi(&other.command(&pr_in(0, 8), &[], null()?)?)?;
    drop((full, other));
    server.check_healthy()
}

fn early_disconnect(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    for _ in 0..20 {
        let client = server.client()?;
        send_cdb(&client, &pr_in(0, 8))?;
    }
    server.check_healthy()
}

/// Connects with non-blocking sockets while the helper is stopped.
fn connect_burst(helper: &Helper) -> Result<()> {
    let server = TestServer::start(helper)?;
    let address = SocketAddrUnix::new(server.running.socket())?;
    stop(server.running.pid())?;
    let mut connected = Vec::new();
    for _ in 0..MANY {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => connected.push(socket),
            Err(error) => ensure!(error == rustix::io::Errno::AGAIN, "{error}"),
        }
    }
    server.running.signal(Signal::CONT);
    if helper.differs(Row::Backlog) {
        ensure!(connected.len() == MANY, "{} were accepted", connected.len());
    } else {
        ensure!(connected.len() == 2, "{} were accepted", connected.len());
    }
    for socket in connected {
        rustix::io::ioctl_fionbio(&socket, false)?;
        let mut client = crate::client::Client::from(std::os::unix::net::UnixStream::from(socket));
        client.handshake()?;
        expect_not_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
    }
    server.check_healthy()
}
