// SPDX-License-Identifier: MIT OR Apache-2.0

//! A FIFO as the log file: no reader, and readers that open, close, or do not read.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::fs::OFlags;
use rustix::pipe::fcntl_setpipe_size;

use super::{ACCEPT_COMPLETE, LISTEN, lines_of, traced_command};
use crate::case::Case;
use crate::client::TIMEOUT;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::wait_until;
use crate::scratch::Scratch;
use crate::socket::make_fifo;

/// Number of clients; their events exceed the capacity of a small pipe.
const CLIENTS: usize = 200;

/// Observation time of a helper that must block.
const OBSERVATION_TIME: Duration = Duration::from_millis(500);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("pipe_receives_the_log", read_from_the_start),
        Case::new("reader_that_closes_does_not_stop_the_helper", reader_closes),
        Case::new("pipe_without_a_reader", no_reader).row(Row::TracePipe),
        Case::new("pipe_that_is_full", full).row(Row::TracePipe),
    ]
}

/// The reading end of a FIFO.
struct Reader {
    file: File,
    text: String,
}

impl Reader {
    /// Opens the FIFO without waiting for a writer.
    fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self {
            file,
            text: String::new(),
        })
    }

    /// Waits for a line of an event.
    fn wait_for_event(&mut self, event: &str) -> Result<()> {
        wait_until(&format!("`{event}` in the pipe"), || {
            let mut bytes = [0; 4096];
            match self.file.read(&mut bytes) {
                // Length 0 while there is no writer.
                Ok(length) => self.text += &String::from_utf8_lossy(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            Ok(!lines_of(&self.text, event).is_empty())
        })
    }
}

fn read_from_the_start(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    make_fifo(&scratch.path("pipe"))?;
    let mut reader = Reader::open(&scratch.path("pipe"))?;
    let value = "*socket_*,file=pipe";
    let mut running = traced_command(helper, &scratch, &[value]).start()?;
    reader.wait_for_event(LISTEN)?;
    reader.wait_for_event(ACCEPT_COMPLETE)?;
    ensure!(running.terminate()?.success());
    ensure!(running.stderr().is_empty(), "{}", running.stderr());
    Ok(())
}

fn reader_closes(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    make_fifo(&scratch.path("pipe"))?;
    let reader = Reader::open(&scratch.path("pipe"))?;
    let value = "*socket_*,file=pipe";
    let mut running = traced_command(helper, &scratch, &[value]).start()?;
    drop(reader);
    for _ in 0..3 {
        running.client()?;
    }
    ensure!(running.terminate()?.success());
    Ok(())
}

fn no_reader(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    make_fifo(&scratch.path("pipe"))?;
    // The warning is written before the file is opened.
    let values = ["no_such_event", "*socket_*,file=pipe"];
    let command = traced_command(helper, &scratch, &values);
    let mut running = command.spawn()?;
    running.wait_for_log("'no_such_event'");
    let mut reader;
    if helper.differs(Row::TracePipe) {
        running.wait_until_ready()?;
        reader = Reader::open(&scratch.path("pipe"))?;
    } else {
        thread::sleep(OBSERVATION_TIME);
        ensure!(running.try_wait()?.is_none());
        ensure!(
            !scratch.socket().exists(),
            "the helper started without a reader"
        );
        reader = Reader::open(&scratch.path("pipe"))?;
        running.wait_until_ready()?;
    }
    running.client()?;
    reader.wait_for_event(ACCEPT_COMPLETE)?;
    ensure!(running.terminate()?.success());
    Ok(())
}

/// A reader that does not read.
fn full(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    make_fifo(&scratch.path("pipe"))?;
    let reader = Reader::open(&scratch.path("pipe"))?;
    fcntl_setpipe_size(&reader.file, 4096)?;
    let value = "*socket_*,file=pipe";
    let mut running = traced_command(helper, &scratch, &[value]).start()?;
    let keeps_serving = helper.differs(Row::TracePipe);
    let timeout = if keeps_serving {
        TIMEOUT
    } else {
        OBSERVATION_TIME
    };
    let mut greeted = 0;
    while greeted < CLIENTS && is_greeted(running.socket(), timeout) {
        greeted += 1;
    }
    if keeps_serving {
        ensure!(greeted == CLIENTS, "{greeted} clients were greeted");
        ensure!(running.terminate()?.success());
        return Ok(());
    }
    ensure!(greeted < CLIENTS, "no client had to wait");
    ensure!(running.try_wait()?.is_none());
    Ok(())
}

/// Returns whether a client is greeted before the timeout.
fn is_greeted(socket: &Path, timeout: Duration) -> bool {
    let greeting = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.read_exact(&mut [0; 4])
    };
    greeting().is_ok()
}
