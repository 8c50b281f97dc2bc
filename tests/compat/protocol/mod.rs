// SPDX-License-Identifier: MIT OR Apache-2.0

//! The wire protocol: responses, and reasons for closing a connection.

mod cleanup;
mod clients;
mod descriptors;
mod framing;
mod handshake;
mod limits;
mod responses;

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use pr_testkit::procfs;

use crate::case::Case;
use crate::client::{Cdb, Client, Response, pr_in};
use crate::helper::Helper;
use crate::process::{Running, wait_until};
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = handshake::cases();
    cases.extend(framing::cases());
    cases.extend(limits::cases());
    cases.extend(descriptors::cases());
    cases.extend(responses::cases());
    cases.extend(clients::cases());
    cases.extend(cleanup::cases());
    cases
}

/// Sense data for a file without SCSI commands: ABORTED COMMAND, I/O PROCESS TERMINATED.
const NOT_SCSI: (u8, u8, u8) = (0x0b, 0x00, 0x06);

/// A running helper, and a check that it is still healthy.
struct TestServer {
    _scratch: Scratch,
    running: Running,
    /// Files that the helper has open without clients.
    idle_files: Vec<String>,
}

impl TestServer {
    fn start(helper: &Helper) -> Result<Self> {
        let scratch = Scratch::new()?;
        let running = helper.serving_command(&scratch).start()?;
        // Send a command first, because the helper opens some files once for its lifetime.
        running.client()?.command(&pr_in(0, 8), &[], null()?)?;
        running.wait_until_disconnected()?;
        Ok(Self {
            idle_files: procfs::client_files(running.pid()),
            _scratch: scratch,
            running,
        })
    }

    fn client(&self) -> Result<Client> {
        self.running.client()
    }

    /// Checks that the helper still works and has closed all received descriptors.
    fn check_healthy(&self) -> Result<()> {
        let mut client = self.client()?;
        let response = client.command(&pr_in(0, 8), &[], null()?)?;
        ensure!(response.sense_code() == NOT_SCSI, "{response:?}");
        drop(client);
        wait_until("the descriptors of closed connections", || {
            Ok(procfs::client_files(self.running.pid()) == self.idle_files)
        })
    }
}

/// Opens a file that is not a SCSI device for reading and writing.
fn null() -> Result<File> {
    Ok(File::options().read(true).write(true).open("/dev/null")?)
}

/// Calls `exchange` with a client after the handshake, and checks the helper afterwards.
fn with_client(helper: &Helper, exchange: impl FnOnce(&mut Client) -> Result<()>) -> Result<()> {
    let server = TestServer::start(helper)?;
    let mut client = server.client()?;
    exchange(&mut client)?;
    drop(client);
    server.check_healthy()
}

/// Sends `cdb` with one descriptor.
fn send_cdb(client: &Client, cdb: &Cdb) -> Result<()> {
    client.send_with(cdb, &[null()?.as_fd()])
}

/// Checks that a response is CHECK CONDITION with this sense data in fixed format, without data.
fn expect_sense(response: &Response, code: (u8, u8, u8)) -> Result<()> {
    let mut sense = vec![0; 96];
    (sense[0], sense[2], sense[7]) = (0x70, code.0, 10);
    (sense[12], sense[13]) = (code.1, code.2);
    ensure!(response.status == 2, "status {:x}", response.status);
    ensure!(response.sense == sense, "sense {:02x?}", response.sense);
    ensure!(response.data.is_empty(), "data {:02x?}", response.data);
    Ok(())
}

/// Checks the response to a command for a file that is not a SCSI device.
fn expect_not_scsi(response: &Response) -> Result<()> {
    expect_sense(response, NOT_SCSI)
}
