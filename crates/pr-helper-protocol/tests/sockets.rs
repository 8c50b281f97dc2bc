// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of client and server on real sockets with real file descriptors.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::server::{Disconnect, PollResult, Readiness};
use pr_helper_protocol::wire::{CLEANUP, Features, pad_cdb};
use pr_helper_protocol::{
    Client, Connection, ProtocolError, ReplyBuffer, Request, RequestFd, fd_passing,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::pipe;
use scsi_pr::Status;

const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0];
const REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];

/// Polls `connection` until a request arrives or the connection ends.
fn next_request(connection: &mut Connection) -> Result<Request, Disconnect> {
    loop {
        let flags = match connection.poll_request(ReceiveMode::NoWait)? {
            PollResult::Request(request) => return Ok(request),
            PollResult::Negotiated(features) => {
                assert_eq!(features, Features::NONE);
                continue;
            }
            PollResult::Pending(Readiness::Readable | Readiness::PartialRequest) => PollFlags::IN,
            PollResult::Pending(_) => PollFlags::OUT,
        };
        poll(&mut [PollFd::new(&*connection, flags)], None).unwrap();
    }
}

/// Starts a helper thread that runs `serve`, and returns the client's socket.
fn spawn_helper<T: Send + 'static>(
    serve: impl FnOnce(Connection) -> T + Send + 'static,
) -> (UnixStream, JoinHandle<T>) {
    let (client, server) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        let mut connection = Connection::new(server.into());
        connection.send_greeting().unwrap();
        serve(connection)
    });
    (client, thread)
}

/// Returns the protocol error that `send` causes in the helper.
fn protocol_error(send: impl FnOnce(&UnixStream)) -> ProtocolError {
    let (mut client, thread) =
        spawn_helper(|mut connection| next_request(&mut connection).unwrap_err());
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(&[0; 4]).unwrap();
    send(&client);
    match thread.join().unwrap() {
        Disconnect::Protocol(violation) => violation,
        other => panic!("{other:?}"),
    }
}

/// Waits until every copy of the pipe's write end is closed.
fn wait_until_closed(reader: OwnedFd) {
    let mut rest = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn command_parameters_fd_and_reply_arrive() {
    let (client, thread) = spawn_helper(|mut connection| {
        let request = next_request(&mut connection).unwrap();
        let mut reply = ReplyBuffer::new();
        reply.data_area(&request.command).copy_from_slice(&[7; 16]);
        connection
            .send(reply.encode(&request.command, Status::GOOD, &[0; 96], 9))
            .unwrap();
        let second = next_request(&mut connection).unwrap();
        let response = reply.encode(&second.command, Status::RESERVATION_CONFLICT, &[1; 96], 0);
        connection.send(response).unwrap();
        let parameters = second.parameters.clone();
        assert!(matches!(
            next_request(&mut connection),
            Err(Disconnect::Closed)
        ));
        let RequestFd::Open(device) = request.fd else {
            panic!("no descriptor")
        };
        (device, parameters)
    });
    let (reader, writer) = pipe().unwrap();
    let mut client = Client::negotiate(client).unwrap();
    let first = client.execute(READ_KEYS, writer.as_fd(), &[]).unwrap();
    assert_eq!((first.status, first.data), (Status::GOOD, vec![7; 9]));
    let second = client.execute(REGISTER, writer.as_fd(), &[3; 24]).unwrap();
    assert_eq!(
        (second.status, second.data),
        (Status::RESERVATION_CONFLICT, Vec::new())
    );
    assert_eq!(second.sense, [1; 96]);
    drop(client);
    let (device, parameters) = thread.join().unwrap();
    assert_eq!(parameters, [3; 24]);

    // The received descriptor is the pipe: it passes bytes, and the pipe closes with the last copy.
    rustix::io::write(&device, b"x").unwrap();
    let mut byte = [0];
    rustix::io::read(&reader, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    drop((device, writer));
    wait_until_closed(reader);
}

#[test]
fn cleanup_feature_is_negotiated() {
    let (mut client, thread) =
        spawn_helper(
            |mut connection| match connection.poll_request(ReceiveMode::Wait) {
                Ok(PollResult::Negotiated(features)) => features,
                other => panic!("{other:?}"),
            },
        );
    let mut offer = [0xff; 4];
    client.read_exact(&mut offer).unwrap();
    assert_eq!(Features::decode(offer), Features::CLEANUP);
    client.write_all(&offer).unwrap();
    assert_eq!(thread.join().unwrap(), Features::CLEANUP);
}

#[test]
fn cleanup_is_answered_without_the_feature() {
    let (client, thread) = spawn_helper(|mut connection| {
        let request = next_request(&mut connection).unwrap();
        let mut reply = ReplyBuffer::new();
        let response = reply.encode(&request.command, Status::GOOD, &[0; 96], 8);
        connection.send(response).unwrap();
        (request.command.is_cleanup(), request.parameters)
    });
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut client = Client::negotiate(client).unwrap();
    let cdb = pad_cdb(&[CLEANUP]);
    assert!(matches!(
        client.execute(cdb, null.as_fd(), &[0; 24]),
        Err(ClientError::ParameterLength {
            announced: 0,
            given: 24
        })
    ));
    let response = client.execute(cdb, null.as_fd(), &[]).unwrap();
    assert_eq!((response.status, response.data), (Status::GOOD, Vec::new()));
    assert_eq!(thread.join().unwrap(), (true, Vec::new()));
}

#[test]
fn all_fds_of_a_rejected_request_are_closed() {
    for count in [2, 3, 40] {
        let (reader, writer) = pipe().unwrap();
        let error = protocol_error(|client| {
            send_many(client, &READ_KEYS, &vec![writer.as_fd(); count]);
        });
        assert_eq!(error, ProtocolError::TooManyFds, "{count}");
        drop(writer);
        wait_until_closed(reader);
    }
}

#[test]
fn receive_delivers_two_fds_in_blocking_modes() {
    for (mode, expected) in [
        (ReceiveMode::NoWait, 2),
        (ReceiveMode::Wait, 2),
        (ReceiveMode::NeverBlock, 253),
    ] {
        let (sender, receiver) = UnixStream::pair().unwrap();
        send_many(&sender, &READ_KEYS, &[sender.as_fd(); 253]);
        let received = fd_passing::receive(receiver.as_fd(), &mut [0; 16], mode).unwrap();
        match received {
            (16, fd_passing::ReceivedFds::Many(fds)) => {
                assert_eq!(fds.len(), expected, "{mode:?}");
            }
            other => panic!("{mode:?}: {other:?}"),
        }
    }
}

#[test]
fn fd_of_an_unsupported_command_is_closed() {
    let (reader, writer) = pipe().unwrap();
    let mut cdb = READ_KEYS;
    cdb[0] = 0x28;
    let error = protocol_error(|client| {
        fd_passing::send(client.as_fd(), &cdb, writer.as_fd()).unwrap();
    });
    assert_eq!(error, ProtocolError::UnsupportedOpcode(0x28));
    drop(writer);
    wait_until_closed(reader);
}

#[test]
fn fd_of_a_truncated_request_is_closed() {
    let (reader, writer) = pipe().unwrap();
    let error = protocol_error(|client| {
        fd_passing::send(client.as_fd(), &REGISTER[..9], writer.as_fd()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert_eq!(error, ProtocolError::Truncated);
    drop(writer);
    wait_until_closed(reader);
}

/// Sends `bytes` with all of `descriptors` in one message.
fn send_many(socket: &UnixStream, bytes: &[u8], descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    let bytes = [std::io::IoSlice::new(bytes)];
    sendmsg(socket, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
}

#[test]
fn unread_replies_delay_the_next_request() {
    const REQUESTS: usize = 200;
    const LONG_READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
    let (mut client, thread) = spawn_helper(|mut connection| {
        let mut reply = ReplyBuffer::new();
        let mut waited_for_writable = false;
        for _ in 0..REQUESTS {
            let request = loop {
                let flags = match connection.poll_request(ReceiveMode::NoWait).unwrap() {
                    PollResult::Request(request) => break request,
                    PollResult::Negotiated(_) => continue,
                    PollResult::Pending(Readiness::Readable | Readiness::PartialRequest) => {
                        PollFlags::IN
                    }
                    PollResult::Pending(_) => PollFlags::OUT,
                };
                waited_for_writable |= flags == PollFlags::OUT;
                poll(&mut [PollFd::new(&connection, flags)], None).unwrap();
            };
            reply.data_area(&request.command).fill(0x55);
            let response = reply.encode(&request.command, Status::GOOD, &[0; 96], 8192);
            connection.send(response).unwrap();
        }
        // The last replies can still be waiting for space in the socket.
        assert!(matches!(
            next_request(&mut connection),
            Err(Disconnect::Closed)
        ));
        waited_for_writable
    });
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(&[0; 4]).unwrap();
    let writer = client.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let null = std::fs::File::open("/dev/null").unwrap();
        for _ in 0..REQUESTS {
            fd_passing::send(writer.as_fd(), &LONG_READ_KEYS, null.as_fd()).unwrap();
        }
    });
    sender.join().unwrap();
    for _ in 0..REQUESTS {
        let mut response = vec![0; 104 + 8192];
        client.read_exact(&mut response).unwrap();
        assert_eq!(response[..8], [0, 0, 0, 0, 0, 0, 0x20, 0]);
        assert!(response[104..].iter().all(|byte| *byte == 0x55));
    }
    drop(client);
    assert!(
        thread.join().unwrap(),
        "200 replies of 8 KiB should not fit into a socket"
    );
}

/// Executes READ KEYS with an allocation length of 16, to which the helper replies with `bytes`.
fn execute_with_reply(bytes: Vec<u8>) -> Result<pr_helper_protocol::Response, ClientError> {
    let (client, mut server) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        server.write_all(&[0; 4]).unwrap();
        server.read_exact(&mut [0; 20]).unwrap();
        server.write_all(&bytes).unwrap();
    });
    let null = std::fs::File::open("/dev/null").unwrap();
    let response = Client::negotiate(client)
        .unwrap()
        .execute(READ_KEYS, null.as_fd(), &[]);
    thread.join().unwrap();
    response
}

#[test]
fn client_rejects_invalid_replies() {
    let execute = |result: u32, size: u32, data: usize| {
        let mut bytes = [result.to_be_bytes(), size.to_be_bytes()].concat();
        bytes.resize(104 + data, 0);
        execute_with_reply(bytes)
    };
    assert_eq!(execute(0, 16, 16).unwrap().data.len(), 16);
    assert!(matches!(
        execute(0, 17, 17),
        Err(ClientError::TooMuchData {
            size: 17,
            allowed: 16
        })
    ));
    assert!(matches!(
        execute(256, 0, 0),
        Err(ClientError::BadStatus(256))
    ));
    assert!(matches!(execute(0, 16, 15), Err(ClientError::Receive(_))));
}

#[test]
fn client_rejects_invalid_requests_before_sending() {
    let (client, mut server) = UnixStream::pair().unwrap();
    server.write_all(&[0; 4]).unwrap();
    let mut client = Client::negotiate(client).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut inquiry = READ_KEYS;
    inquiry[0] = 0x12;
    assert!(matches!(
        client.execute(inquiry, null.as_fd(), &[]),
        Err(ClientError::Command(ProtocolError::UnsupportedOpcode(0x12)))
    ));
    assert!(matches!(
        client.execute(REGISTER, null.as_fd(), &[0; 23]),
        Err(ClientError::ParameterLength {
            announced: 24,
            given: 23
        })
    ));
    drop(client);
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).unwrap();
    assert_eq!(sent, [0; 4]);
}
