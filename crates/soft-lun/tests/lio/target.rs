// SPDX-License-Identifier: MIT OR Apache-2.0

//! LIO, accessed with `SG_IO` through two ports.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use linux_util::sg_io::{Completion, Data, sg_io};
use scsi_pr::{OutServiceAction, PrGeneration, Sense, Status};
use soft_lun::Response;

use crate::command::{ALL_TG_PT, Command, Node, Step, basic_out};
use crate::kernel::Kernel;
use crate::model::DisplayResponse;
use crate::observer::HangObserver;

/// Timeout of a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// Size of a memory page, in bytes. The kernel maps the pages of the buffer for LIO.
const PAGE: usize = 4096;

/// Maximum length of parameter data, in bytes.
const MAX_DATA_LEN: usize = 0x1_0000;

/// The key that is registered to reset the unit.
const CLEANUP_KEY: u64 = 0xc1ea_0000_0000_0001;

/// Maximum number of unit attentions that can be pending before a reset.
const MAX_UNIT_ATTENTIONS: usize = 20;

/// A device under test.
pub(crate) trait Target {
    /// Returns the release of Linux that LIO belongs to.
    fn kernel(&self) -> Kernel;

    /// Sends a command. The response does not contain the data of a READ.
    fn send(&mut self, step: &Step) -> Result<Response>;

    /// Removes all registrations, the reservation and the unit attentions, and returns
    /// PRgeneration.
    fn reset(&mut self) -> Result<PrGeneration>;
}

/// Two ports of one unit of LIO.
pub(crate) struct Lio {
    kernel: Kernel,
    ports: [File; 2],
    memory: Vec<u8>,
    observer: HangObserver,
}

impl Lio {
    /// Opens the ports, which must be in the order of their SAS addresses.
    pub(crate) fn open(ports: &str) -> Result<Self> {
        let open = |path| {
            let file = File::options().read(true).write(true).open(Path::new(path));
            file.with_context(|| format!("cannot open {path}"))
        };
        let (one, two) = ports.split_once(',').context("not two ports")?;
        let kernel = Kernel::running()?;
        Ok(Lio {
            kernel,
            ports: [open(one)?, open(two)?],
            memory: vec![0; MAX_DATA_LEN + 2 * PAGE],
            observer: HangObserver::start(kernel, COMMAND_TIMEOUT),
        })
    }

    fn expect_good(&mut self, node: Node, command: Command) -> Result<Vec<u8>> {
        let step = Step { node, command };
        let response = self.send(&step)?;
        ensure!(
            response.status == Status::GOOD,
            "cleaning: {step}: {}",
            DisplayResponse(&response)
        );
        Ok(response.data)
    }

    /// Makes the unit report all unit attentions of both nexuses.
    fn drain_unit_attentions(&mut self) -> Result<()> {
        'nodes: for node in Node::BOTH {
            for _ in 0..MAX_UNIT_ATTENTIONS {
                let command = Command::TestUnitReady;
                if self.send(&Step { node, command })?.status == Status::GOOD {
                    continue 'nodes;
                }
            }
            bail!("the unit does not get ready");
        }
        Ok(())
    }
}

impl Target for Lio {
    fn kernel(&self) -> Kernel {
        self.kernel
    }

    fn send(&mut self, step: &Step) -> Result<Response> {
        // LIO reads beyond the end of a parameter list that is too short, and writes beyond the end
        // of the data of READ FULL STATUS. A page of zeros follows the data, so that neither
        // affects other memory.
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
        let port = &self.ports[step.node as usize];
        let cdb = step.command.cdb();
        self.observer.send(step);
        let completion = sg_io(port.as_fd(), &cdb, data, &mut sense, COMMAND_TIMEOUT);
        self.observer.complete();
        let completion = completion.with_context(|| format!("SG_IO: {step}"))?;
        ensure!(completion.host_status == 0, "{step}: {completion:?}");
        let data = match step.command {
            Command::In { length, .. } if completion.status == Status::GOOD.0 => {
                let received = usize::from(length).checked_sub(completion.residual);
                memory[..received.context("a residual of more than there is")?].to_vec()
            }
            _ => Vec::new(),
        };
        decode_response(&completion, &sense, data).with_context(|| step.to_string())
    }

    fn reset(&mut self) -> Result<PrGeneration> {
        self.drain_unit_attentions()?;
        // With ALL_TG_PT, because LIO requires it from a nexus that has used it.
        let mut register = basic_out(
            OutServiceAction::RegisterAndIgnoreExistingKey,
            0,
            CLEANUP_KEY,
        );
        register.set_flags(ALL_TG_PT);
        self.expect_good(Node::A, Command::Out(register))?;
        let clear = basic_out(OutServiceAction::Clear, CLEANUP_KEY, 0);
        self.expect_good(Node::A, Command::Out(clear))?;
        self.drain_unit_attentions()?;
        let mut generation = None;
        for (node, action) in [(Node::A, 0), (Node::B, 1)] {
            let data = self.expect_good(
                node,
                Command::In {
                    action,
                    length: 255,
                },
            )?;
            let (first, rest) = data.split_first_chunk().context("no generation")?;
            ensure!(rest == [0; 4], "the unit is not empty: {data:02x?}");
            generation = Some(u32::from_be_bytes(*first));
        }
        self.observer.reset();
        generation.map(Into::into).context("nothing was read")
    }
}

/// Returns status, sense and data. Checks that encoding the decoded [`Sense`] gives the bytes that
/// LIO returned, so that comparing two [`Sense`] values compares every byte.
fn decode_response(completion: &Completion, bytes: &[u8; 96], data: Vec<u8>) -> Result<Response> {
    let status = Status(completion.status);
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
