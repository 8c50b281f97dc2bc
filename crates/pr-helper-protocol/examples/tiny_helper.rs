// SPDX-License-Identifier: MIT OR Apache-2.0

//! A minimal helper: it serves one client at a time and answers every command with the same status.
//!
//! ```text
//! cargo run --example tiny_helper -- /tmp/tiny-helper.sock
//! cargo run --example read_keys -- /tmp/tiny-helper.sock /dev/null
//! ```
//!
//! A real helper executes the command on the descriptor of the request, and does not let one client
//! block another.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::server::{Disconnect, PollResult};
use pr_helper_protocol::wire::SENSE_SIZE;
use pr_helper_protocol::{Connection, ReplyBuffer};
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let path = args.next().context("usage: tiny_helper SOCKET")?;
    // Binding fails if the path exists already.
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
    for socket in listener.incoming() {
        // The reason that a connection ended: "closed by the client" in the best case.
        println!("connection ended: {}", serve(socket?));
    }
    Ok(())
}

/// Serves one client until the connection ends, and returns the reason.
fn serve(socket: UnixStream) -> Disconnect {
    let mut connection = Connection::new(socket);
    // One buffer serves all requests of the connection.
    let mut reply = ReplyBuffer::new();
    if let Err(reason) = connection.send_greeting() {
        return reason;
    }
    loop {
        if let Err(reason) = serve_next(&mut connection, &mut reply) {
            return reason;
        }
    }
}

/// Takes one step on the connection: answers a request, if one is complete.
fn serve_next(
    connection: &mut Connection<UnixStream>,
    reply: &mut ReplyBuffer,
) -> Result<(), Disconnect> {
    // The socket is blocking, so the call waits for the first bytes of a request.
    match connection.poll_request(ReceiveMode::Wait)? {
        PollResult::Request(request) => {
            println!("{:02x?}", request.command.cdb());
            let sense = unsupported_command();
            // No data follows a CHECK CONDITION, so the length is 0.
            let response = reply.encode(&request.command, Status::CHECK_CONDITION, &sense, 0);
            connection.send(response)
        }
        PollResult::Negotiated(_) => Ok(()),
        // A helper for more than one client waits with epoll(7) or poll(2) here.
        PollResult::Pending(_) => {
            std::thread::sleep(Duration::from_millis(10));
            Ok(())
        }
    }
}

/// Returns the sense data ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
fn unsupported_command() -> [u8; SENSE_SIZE] {
    let code = AdditionalSense::INVALID_COMMAND_OPERATION_CODE;
    let mut sense = [0; SENSE_SIZE];
    for (byte, value) in sense
        .iter_mut()
        .zip(Sense::new(SenseKey::IllegalRequest, code).to_fixed())
    {
        *byte = value;
    }
    sense
}
