//! Devices that hang: TCP sockets with bytes that nobody reads.
//!
//! The kernel refuses a command for one at once; but the helper has the last descriptor of it, and its close, which is
//! before the answer, waits for the peer (`SO_LINGER`). That takes neither root nor a file system of one's own.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_linger, set_socket_recv_buffer_size, set_socket_send_buffer_size,
};

use crate::client::{Client, READ_KEYS};

/// How long a close waits: far longer than a test.
const LINGER: Duration = Duration::from_secs(3600);

/// The far end of a device that hangs until this is dropped.
pub(crate) struct Stuck(#[expect(dead_code, reason = "held, not used")] TcpStream);

/// Bytes that the near end takes, and the far end: so many fewer that the near end keeps some, whenever they are sent.
const NEAR: usize = 1 << 17;
const FAR: usize = 1 << 12;

/// Creates a device that hangs: its far end, and a descriptor. Closing the last descriptor waits.
pub(crate) fn device() -> (Stuck, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_socket_recv_buffer_size(&listener, FAR).unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    set_socket_send_buffer_size(&socket, NEAR).unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; FAR]).is_ok() {}
    set_socket_linger(&socket, Some(LINGER)).unwrap();
    (Stuck(peer), socket)
}

/// Has a client send a command for a device that hangs.
pub(crate) fn ask(client: &mut Client) -> Stuck {
    let (last, first) = READ_KEYS.split_last().unwrap();
    let (far, socket) = device();
    client.send(first, socket.as_fd());
    // The helper's descriptor is to be the last one: the thread that closes it waits.
    drop(socket);
    client.try_send(&[*last]).unwrap();
    far
}

/// Sends a part of a command for a device that hangs; `None` if the connection is closed already.
pub(crate) fn send_incomplete(client: &mut Client) -> Option<Stuck> {
    let (far, socket) = device();
    let sent = client.try_send_with(&READ_KEYS[..1], socket.as_fd());
    sent.ok().map(|()| far)
}
