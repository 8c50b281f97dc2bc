// SPDX-License-Identifier: MIT OR Apache-2.0

//! Instruction counts of decoding a request and encoding a reply; see `counted`.

#[path = "../../scsi-pr/benches/counted/mod.rs"]
mod counted;

use std::fs::File;
use std::hint::black_box;
use std::os::fd::OwnedFd;

use anyhow::Result;
use pr_helper_protocol::decoder::Progress;
use pr_helper_protocol::fd_passing::ReceivedFds;
use pr_helper_protocol::wire::{CDB_SIZE, SENSE_SIZE, pad_cdb};
use pr_helper_protocol::{Command, ReplyBuffer, RequestDecoder, RequestFd};
use scsi_pr::Status;

/// READ KEYS. The allocation length is below the size for which the C library selects a copy
/// routine by processor model.
const IN: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0];
/// REGISTER, with a parameter list of 24 bytes.
const OUT: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
const LIST: [u8; 24] = [0xaa; 24];

fn main() -> Result<()> {
    counted::run(&[
        ("request IN", |count| receive(count, &[&pad_cdb(&IN)])),
        ("request OUT", |count| {
            receive(count, &[&pad_cdb(&OUT), &LIST]);
        }),
        ("reply to IN", |count| reply(count, pad_cdb(&IN), 64)),
        ("reply to OUT", |count| reply(count, pad_cdb(&OUT), 0)),
    ])
}

/// Decodes `count` requests that arrive in these `pieces`. One descriptor serves all of them.
#[expect(clippy::unwrap_used, reason = "the requests are valid")]
fn receive(count: usize, pieces: &[&[u8]]) {
    let mut decoder = RequestDecoder::new();
    decoder.buffer().fill(0);
    decoder.advance(4, ReceivedFds::None).unwrap();
    let mut device = Some(OwnedFd::from(File::open("/dev/null").unwrap()));
    for _ in 0..count {
        for piece in black_box(pieces) {
            decoder.buffer().copy_from_slice(piece);
            let fds = device.take().map_or(ReceivedFds::None, ReceivedFds::One);
            if let Progress::Request(request) = decoder.advance(piece.len(), fds).unwrap() {
                let request = black_box(request);
                if let RequestFd::Open(fd) = request.fd {
                    device = Some(fd);
                }
            }
        }
        assert!(device.is_some());
    }
}

/// Encodes `count` replies with `length` bytes of data.
#[expect(clippy::unwrap_used, reason = "the commands are valid")]
fn reply(count: usize, cdb: [u8; CDB_SIZE], length: usize) {
    let command = Command::new(cdb).unwrap();
    let sense = [0; SENSE_SIZE];
    let mut reply = ReplyBuffer::new();
    for _ in 0..count {
        let command = black_box(&command);
        black_box(reply.data_area(command));
        black_box(reply.encode(command, Status::GOOD, black_box(&sense), length));
    }
}
