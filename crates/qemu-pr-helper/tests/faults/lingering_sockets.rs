// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lingering sockets: TCP sockets with unread bytes, which behave like devices that hang.
//!
//! The kernel rejects a command for a socket at once. But the helper closes the last descriptor
//! before it replies, and that close waits for the peer (`SO_LINGER`). This needs neither root nor
//! a file system.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_linger, set_socket_recv_buffer_size, set_socket_send_buffer_size,
};

use pr_testkit::TestClient;
use pr_testkit::cdb::read_keys;

/// Time that a close blocks: far longer than a test.
const LINGER: Duration = Duration::from_secs(3600);

/// The far end of a lingering socket. The close blocks until this is dropped.
pub(crate) struct FarEnd(TcpStream);

impl FarEnd {
    /// Returns whether the last descriptor of the near end is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        /// `TCP_FIN_WAIT1` of `include/net/tcp_states.h`, as in `/proc/net/tcp`.
        const FIN_WAIT1: &str = "04";
        let near = format!(":{:04X}", self.0.peer_addr().unwrap().port());
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next(), fields.nth(1));
            local.is_some_and(|local| local.ends_with(&near)) && state == Some(FIN_WAIT1)
        })
    }
}

/// Buffer size of the near end in bytes. It is much larger than that of the far end, so that the
/// near end always keeps some bytes.
const NEAR: usize = 1 << 17;

/// Buffer size of the far end in bytes.
const FAR: usize = 1 << 12;

/// Creates a lingering socket. Returns its far end and its descriptor. The close of the last
/// descriptor blocks.
pub(crate) fn create() -> (FarEnd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_socket_recv_buffer_size(&listener, FAR).unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    set_socket_send_buffer_size(&socket, NEAR).unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; FAR]).is_ok() {}
    set_socket_linger(&socket, Some(LINGER)).unwrap();
    (FarEnd(peer), socket)
}

/// Sends a command for a lingering socket.
pub(crate) fn send_command(client: &mut TestClient) -> FarEnd {
    let read_keys = read_keys(8).cdb;
    let (last, first) = read_keys.split_last().unwrap();
    let (far, socket) = create();
    client.send(first, socket.as_fd());
    // The helper's descriptor has to be the last one, so that its close blocks.
    drop(socket);
    client.try_send(&[*last]).unwrap();
    far
}

/// Sends a part of a command for a lingering socket; `None` if the connection is closed already.
pub(crate) fn send_incomplete(client: &mut TestClient) -> Option<FarEnd> {
    let (far, socket) = create();
    let sent = client.try_send_with(&read_keys(8).cdb[..1], socket.as_fd());
    sent.ok().map(|()| far)
}
