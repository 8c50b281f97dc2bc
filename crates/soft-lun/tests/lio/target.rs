//! The kernel's target, by `SG_IO` to its two ports.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use linux_util::sg_io::{Completion, Data, sg_io};
use scsi_pr::{OutServiceAction, PrGeneration, Sense, Status};
use soft_lun::Response;

use crate::command::{ALL_TG_PT, Command, Side, Step, out};
use crate::model::Shown;
use crate::watch::Watch;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A memory page, which the kernel hands to LIO as it is.
const PAGE: usize = 4096;

/// Room for the longest answer.
const ROOM: usize = 0x1_0000;

/// The key that takes the unit for a moment to clean it.
const CLEANER: u64 = 0xc1ea_0000_0000_0001;

/// Unit attentions that may wait at most, when a unit is cleaned.
const ATTENTIONS: usize = 20;

/// Whatever answers commands.
pub(crate) trait Target {
    /// Sends a command. What a READ has read is not part of the answer.
    fn send(&mut self, step: &Step) -> Result<Response>;

    /// Makes the unit one that nobody is registered with and that has nothing to tell, and returns its
    /// generation.
    fn reset(&mut self) -> Result<PrGeneration>;
}

/// Two ports of one unit of LIO.
pub(crate) struct Lio {
    ports: [File; 2],
    memory: Vec<u8>,
    watch: Watch,
}

impl Lio {
    /// Opens the ports, in the order of their SAS addresses.
    pub(crate) fn open(ports: &str) -> Result<Self> {
        let open = |path| {
            let file = File::options().read(true).write(true).open(Path::new(path));
            file.with_context(|| format!("cannot open {path}"))
        };
        let (one, two) = ports.split_once(',').context("not two ports")?;
        Ok(Lio {
            ports: [open(one)?, open(two)?],
            memory: vec![0; ROOM + 2 * PAGE],
            watch: Watch::start(PATIENCE),
        })
    }

    fn good(&mut self, side: Side, command: Command) -> Result<Vec<u8>> {
        let step = Step { side, command };
        let answer = self.send(&step)?;
        ensure!(
            answer.status == Status::GOOD,
            "cleaning: {step}: {}",
            Shown(&answer)
        );
        Ok(answer.data)
    }

    /// Takes the unit attentions of both nexuses.
    fn drain(&mut self) -> Result<()> {
        'sides: for side in Side::BOTH {
            for _ in 0..ATTENTIONS {
                let command = Command::TestUnitReady;
                if self.send(&Step { side, command })?.status == Status::GOOD {
                    continue 'sides;
                }
            }
            bail!("the unit does not get ready");
        }
        Ok(())
    }
}

impl Target for Lio {
    fn send(&mut self, step: &Step) -> Result<Response> {
        // LIO looks beyond the end of parameters that are too short, and writes beyond the end of a
        // READ FULL STATUS that is: here is a page of zeros, and nothing else's memory.
        let start = self.memory.as_ptr().align_offset(PAGE);
        let memory = &mut self.memory[start..];
        memory[..PAGE].fill(0);
        let data = match &step.command {
            Command::TestUnitReady => Data::None,
            Command::Read => Data::FromDevice(&mut memory[..512]),
            Command::Write => Data::ToDevice(&memory[..512]),
            Command::In { length: 0, .. } => Data::None,
            Command::In { length, .. } => {
                let area = &mut memory[..usize::from(*length)];
                area.fill(0);
                Data::FromDevice(area)
            }
            Command::Out(out) if out.length() == 0 => Data::None,
            Command::Out(out) => {
                let list = out.list();
                memory[..list.len()].copy_from_slice(&list);
                Data::ToDevice(&memory[..list.len()])
            }
        };
        let mut sense = [0; 96];
        let port = &self.ports[step.side as usize];
        let cdb = step.command.cdb();
        self.watch.send(step);
        let done = sg_io(port.as_fd(), &cdb, data, &mut sense, PATIENCE);
        self.watch.answered();
        let done = done.with_context(|| format!("SG_IO: {step}"))?;
        ensure!(done.host_status == 0, "{step}: {done:?}");
        let data = match step.command {
            Command::In { length, .. } if done.status == Status::GOOD.0 => {
                let received = usize::from(length).checked_sub(done.residual);
                memory[..received.context("a residual of more than there is")?].to_vec()
            }
            _ => Vec::new(),
        };
        answer(&done, &sense, data).with_context(|| step.to_string())
    }

    fn reset(&mut self) -> Result<PrGeneration> {
        self.drain()?;
        // With ALL_TG_PT, which LIO wants again from a nexus that has used it.
        let mut register = out(OutServiceAction::RegisterAndIgnoreExistingKey, 0, CLEANER);
        register.set_flags(ALL_TG_PT);
        self.good(Side::A, Command::Out(register))?;
        let clear = out(OutServiceAction::Clear, CLEANER, 0);
        self.good(Side::A, Command::Out(clear))?;
        self.drain()?;
        let mut generation = None;
        for (side, action) in [(Side::A, 0), (Side::B, 1)] {
            let data = self.good(
                side,
                Command::In {
                    action,
                    length: 255,
                },
            )?;
            let (first, rest) = data.split_first_chunk().context("no generation")?;
            ensure!(rest == [0; 4], "the unit is not empty: {data:02x?}");
            generation = Some(u32::from_be_bytes(*first));
        }
        self.watch.begin();
        generation.map(Into::into).context("nothing was read")
    }
}

/// Status and sense. All of the sense that LIO writes has to be what [`Sense`] makes of it, so that
/// comparing two of these compares every byte.
fn answer(done: &Completion, bytes: &[u8; 96], data: Vec<u8>) -> Result<Response> {
    let status = Status(done.status);
    let sense = match status {
        Status::CHECK_CONDITION => {
            let sense = Sense::decode(bytes)?;
            let (fixed, rest) = bytes.split_at(18);
            ensure!(
                *fixed == sense.to_fixed() && rest.iter().all(|byte| *byte == 0),
                "sense {bytes:02x?} is more than {sense}"
            );
            Some(sense)
        }
        _ => {
            ensure!(*bytes == [0; 96], "sense without CHECK CONDITION");
            None
        }
    };
    Ok(Response {
        status,
        sense,
        data,
    })
}
