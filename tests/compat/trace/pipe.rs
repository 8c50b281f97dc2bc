//! A FIFO as the log's file: readers that are not there, come, and leave.

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

use super::{ACCEPT_COMPLETE, LISTEN, lines_of, tracing};
use crate::case::Case;
use crate::client::DEADLINE;
use crate::differences::Row;
use crate::helper::Helper;
use crate::process::wait_until;
use crate::scratch::Scratch;
use crate::socket::make_fifo;

/// More clients than a small pipe has room for the lines of.
const CLIENTS: usize = 200;

/// How long a helper is looked at that should not go on.
const STILL: Duration = Duration::from_millis(500);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("pipe_has_the_log", read_from_the_start),
        Case::new("pipe_whose_reader_leaves_is_no_end", reader_leaves),
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
    /// Opens it without waiting for a writer.
    fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self {
            file,
            text: String::new(),
        })
    }

    /// Waits for a line of an event.
    fn sees(&mut self, event: &str) -> Result<()> {
        wait_until(&format!("`{event}` in the pipe"), || {
            let mut bytes = [0; 4096];
            match self.file.read(&mut bytes) {
                // None while there is no writer.
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
    let mut running = tracing(helper, &scratch, &[value]).start()?;
    reader.sees(LISTEN)?;
    reader.sees(ACCEPT_COMPLETE)?;
    ensure!(running.terminate()?.success());
    ensure!(running.stderr()?.is_empty(), "{}", running.stderr()?);
    Ok(())
}

fn reader_leaves(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    make_fifo(&scratch.path("pipe"))?;
    let reader = Reader::open(&scratch.path("pipe"))?;
    let value = "*socket_*,file=pipe";
    let mut running = tracing(helper, &scratch, &[value]).start()?;
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
    // The warning comes before the file is opened.
    let values = ["no_such_event", "*socket_*,file=pipe"];
    let launch = tracing(helper, &scratch, &values);
    let mut running = launch.spawn()?;
    running.says("'no_such_event'")?;
    let mut reader;
    if helper.differs(Row::TracePipe) {
        running.wait_until_ready()?;
        reader = Reader::open(&scratch.path("pipe"))?;
    } else {
        thread::sleep(STILL);
        ensure!(!running.has_ended()?);
        ensure!(!scratch.socket().exists(), "it started without a reader");
        reader = Reader::open(&scratch.path("pipe"))?;
        running.wait_until_ready()?;
    }
    running.client()?;
    reader.sees(ACCEPT_COMPLETE)?;
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
    let mut running = tracing(helper, &scratch, &[value]).start()?;
    let goes_on = helper.differs(Row::TracePipe);
    let patience = if goes_on { DEADLINE } else { STILL };
    let mut greeted = 0;
    while greeted < CLIENTS && is_greeted(running.socket(), patience) {
        greeted += 1;
    }
    if goes_on {
        ensure!(greeted == CLIENTS, "{greeted} clients were greeted");
        ensure!(running.terminate()?.success());
        return Ok(());
    }
    ensure!(greeted < CLIENTS, "nobody had to wait");
    ensure!(!running.has_ended()?);
    Ok(())
}

/// Whether a client gets a word from the helper before its patience is at an end.
fn is_greeted(socket: &Path, patience: Duration) -> bool {
    let greeting = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.read_exact(&mut [0; 4])
    };
    greeting().is_ok()
}
