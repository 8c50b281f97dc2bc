//! Many clients at once, and clients that are in nobody's way.

use std::io;
use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;

use super::{Bench, is_no_scsi, null, send_cdb};
use crate::case::Case;
use crate::client::{pr_in, pr_out};
use crate::differences::Row;
use crate::helper::Helper;

/// As many as a large host has virtual machines.
const MANY: usize = 200;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("two_hundred_clients_are_served", two_hundred),
        Case::new("two_hundred_clients_come_and_go", come_and_go),
        Case::new("half_sent_handshake_blocks_nobody", |helper| {
            blocks_nobody(helper, &[0; 3])
        }),
        Case::new("half_sent_cdb_blocks_nobody", |helper| {
            blocks_nobody(helper, &[0, 0, 0, 0, 0x5e, 0])
        }),
        Case::new("silent_client_blocks_nobody", |helper| {
            blocks_nobody(helper, &[])
        }),
        Case::new("half_sent_parameters_block_nobody", half_sent_parameters),
        Case::new("client_that_never_reads_blocks_nobody", never_reads),
        Case::new(
            "client_that_leaves_before_its_answer_harms_nobody",
            leaves_early,
        ),
        Case::new("clients_at_once_before_accept", at_once).row(Row::Backlog),
    ]
}

fn two_hundred(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(bench.client()?);
    }
    for client in &clients {
        send_cdb(client, &pr_in(0, 8))?;
    }
    for client in &mut clients {
        is_no_scsi(&client.answer()?)?;
    }
    drop(clients);
    bench.is_well()
}

fn come_and_go(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    for _ in 0..MANY {
        let mut client = bench.client()?;
        is_no_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
    }
    bench.is_well()
}

fn blocks_nobody(helper: &Helper, sent: &[u8]) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut slow = bench.running.stranger()?;
    slow.receive(4)?;
    slow.send(sent)?;
    let mut other = bench.client()?;
    is_no_scsi(&other.command(&pr_in(0, 8), &[], null()?)?)?;
    drop((slow, other));
    bench.is_well()
}

fn half_sent_parameters(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut slow = bench.client()?;
    send_cdb(&slow, &pr_out(0, 0, 24))?;
    slow.send(&[0; 20])?;
    let mut other = bench.client()?;
    is_no_scsi(&other.command(&pr_out(0, 0, 24), &[0; 24], null()?)?)?;
    slow.send(&[0; 4])?;
    is_no_scsi(&slow.answer()?)?;
    drop((slow, other));
    bench.is_well()
}

/// Sends requests until the helper takes no more of them, since it cannot get rid of its answers.
fn never_reads(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let full = bench.client()?;
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
        ensure!(sent < 100_000, "the helper takes requests without end");
    }
    let mut other = bench.client()?;
    is_no_scsi(&other.command(&pr_in(0, 8), &[], null()?)?)?;
    drop((full, other));
    bench.is_well()
}

fn leaves_early(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    for _ in 0..20 {
        let client = bench.client()?;
        send_cdb(&client, &pr_in(0, 8))?;
    }
    bench.is_well()
}

/// Connections that are made while the helper is stopped, by sockets that do not wait.
fn at_once(helper: &Helper) -> Result<()> {
    let bench = Bench::start(helper)?;
    let address = SocketAddrUnix::new(bench.running.socket())?;
    bench.running.signal(Signal::STOP)?;
    crate::process::wait_until("the helper's stop", || {
        Ok(bench.running.status_line("State")?.starts_with('T'))
    })?;
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
    bench.running.signal(Signal::CONT)?;
    if helper.differs(Row::Backlog) {
        ensure!(connected.len() == MANY, "{} were taken", connected.len());
    } else {
        ensure!(connected.len() == 2, "{} were taken", connected.len());
    }
    for socket in connected {
        rustix::io::ioctl_fionbio(&socket, false)?;
        let mut client = crate::client::Client::from(std::os::unix::net::UnixStream::from(socket));
        client.handshake()?;
        is_no_scsi(&client.command(&pr_in(0, 8), &[], null()?)?)?;
    }
    bench.is_well()
}
