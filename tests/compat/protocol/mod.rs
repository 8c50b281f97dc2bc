//! The wire: what the helper answers to whom, and when it closes the connection.

mod answers;
mod clients;
mod descriptors;
mod framing;
mod handshake;
mod limits;

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::client::{Answer, Cdb, Client, pr_in};
use crate::helper::Helper;
use crate::process::{Running, wait_until};
use crate::scratch::Scratch;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = handshake::cases();
    cases.extend(framing::cases());
    cases.extend(limits::cases());
    cases.extend(descriptors::cases());
    cases.extend(answers::cases());
    cases.extend(clients::cases());
    cases
}

/// The sense that a descriptor without SCSI commands earns: ABORTED COMMAND, I/O process terminated.
const NO_SCSI: (u8, u8, u8) = (0x0b, 0x00, 0x06);

/// A served helper, and a way to see that nothing was spoilt.
struct Bench {
    _scratch: Scratch,
    running: Running,
    idle: usize,
}

impl Bench {
    fn start(helper: &Helper) -> Result<Self> {
        let scratch = Scratch::new()?;
        let running = helper.serving(&scratch).start()?;
        // One command first: what a helper opens once in its life is open from here on.
        running.client()?.command(&pr_in(0, 8), &[], null()?)?;
        let mut bench = Self {
            _scratch: scratch,
            running,
            idle: 0,
        };
        bench.idle = bench.settled()?;
        Ok(bench)
    }

    fn client(&self) -> Result<Client> {
        self.running.client()
    }

    /// How many descriptors are open while there is no client.
    fn settled(&self) -> Result<usize> {
        let path = self.running.socket().display().to_string();
        // One that listens, and one for each connection.
        let sockets = || -> Result<usize> {
            let all = std::fs::read_to_string("/proc/net/unix")?;
            let its = all.lines().filter(|line| line.ends_with(&path));
            Ok(its.count())
        };
        wait_until("the last connection's end", || Ok(sockets()? == 1))?;
        self.running.descriptors()
    }

    /// Checks that the helper still works and has every descriptor closed that it was sent.
    fn is_well(&self) -> Result<()> {
        let mut client = self.client()?;
        let answer = client.command(&pr_in(0, 8), &[], null()?)?;
        ensure!(answer.sense_code() == NO_SCSI, "{answer:?}");
        drop(client);
        wait_until("the descriptors of closed connections", || {
            Ok(self.running.descriptors()? == self.idle)
        })
    }
}

/// Something that is no SCSI device, open for reading and writing.
fn null() -> Result<File> {
    Ok(File::options().read(true).write(true).open("/dev/null")?)
}

/// Does `talk` with a client after the handshake, and checks that the helper is well afterwards.
fn with_client(helper: &Helper, talk: impl FnOnce(&mut Client) -> Result<()>) -> Result<()> {
    let bench = Bench::start(helper)?;
    let mut client = bench.client()?;
    talk(&mut client)?;
    drop(client);
    bench.is_well()
}

/// Sends `cdb` with one descriptor.
fn send_cdb(client: &Client, cdb: &Cdb) -> Result<()> {
    client.send_with(cdb, &[null()?.as_fd()])
}

/// Checks that an answer is CHECK CONDITION with this sense, in fixed format, and nothing else.
fn is_sense(answer: &Answer, code: (u8, u8, u8)) -> Result<()> {
    let mut sense = vec![0; 96];
    (sense[0], sense[2], sense[7]) = (0x70, code.0, 10);
    (sense[12], sense[13]) = (code.1, code.2);
    ensure!(answer.status == 2, "status {:x}", answer.status);
    ensure!(answer.sense == sense, "sense {:02x?}", answer.sense);
    ensure!(answer.data.is_empty(), "data {:02x?}", answer.data);
    Ok(())
}

/// Checks the answer to a command for a descriptor that takes none.
fn is_no_scsi(answer: &Answer) -> Result<()> {
    is_sense(answer, NO_SCSI)
}
