//! Both halves, on real sockets, with real descriptors.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::server::{Disconnect, PollResult};
use pr_helper_protocol::wire::Features;
use pr_helper_protocol::{
    Client, Connection, ProtocolError, ReplyBuffer, Request, RequestFd, fd_passing,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::pipe;
use scsi_pr::Status;

const READ_KEYS: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0];
const REGISTER: [u8; 16] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];

/// Goes on with `connection` until there is a request, or it is over.
fn next_request(connection: &mut Connection) -> Result<Request, Disconnect> {
    loop {
        let flags = match connection.poll_request(ReceiveMode::NoWait)? {
            PollResult::Request(request) => return Ok(request),
            PollResult::Negotiated(features) => {
                assert_eq!(features, Features::NONE);
                continue;
            }
            PollResult::AwaitReadable => PollFlags::IN,
            PollResult::AwaitWritable | PollResult::AwaitMemory => PollFlags::OUT,
        };
        poll(&mut [PollFd::new(&*connection, flags)], None).unwrap();
    }
}

/// A client whose helper is `serve`, in a thread.
fn helper<T: Send + 'static>(
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

/// A client whose connection ends by what it sends; gives the reason.
fn violation(send: impl FnOnce(&UnixStream)) -> ProtocolError {
    let (mut client, thread) = helper(|mut connection| next_request(&mut connection).unwrap_err());
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(&[0; 4]).unwrap();
    send(&client);
    match thread.join().unwrap() {
        Disconnect::Protocol(violation) => violation,
        other => panic!("{other:?}"),
    }
}

/// Waits until nobody has the other end of a pipe any more.
fn assert_all_closed(reader: OwnedFd) {
    let mut rest = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn command_parameters_descriptor_and_answer_arrive() {
    let (client, thread) = helper(|mut connection| {
        let request = next_request(&mut connection).unwrap();
        let mut reply = ReplyBuffer::new();
        reply.data_area(&request.command).copy_from_slice(&[7; 16]);
        connection
            .send(reply.encode(&request.command, Status::GOOD, &[0; 96], 9))
            .unwrap();
        let second = next_request(&mut connection).unwrap();
        let answer = reply.encode(&second.command, Status::RESERVATION_CONFLICT, &[1; 96], 0);
        connection.send(answer).unwrap();
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

    // What arrived is the pipe: its bytes come out, and it closes with the last descriptor.
    rustix::io::write(&device, b"x").unwrap();
    let mut byte = [0];
    rustix::io::read(&reader, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    drop((device, writer));
    assert_all_closed(reader);
}

#[test]
fn every_descriptor_of_a_violation_is_closed() {
    for count in [2, 3, 40] {
        let (reader, writer) = pipe().unwrap();
        let found = violation(|client| {
            let descriptors = vec![writer.as_fd(); count];
            send_many(client, &READ_KEYS, &descriptors);
        });
        assert_eq!(found, ProtocolError::TooManyFds, "{count}");
        drop(writer);
        assert_all_closed(reader);
    }
}

#[test]
fn receive_takes_two_descriptors_at_most_where_it_may_block() {
    for (mode, expected) in [
        (ReceiveMode::NoWait, 2),
        (ReceiveMode::Wait, 2),
        (ReceiveMode::NeverBlock, 253),
    ] {
        let (sender, receiver) = UnixStream::pair().unwrap();
        send_many(&sender, &READ_KEYS, &[sender.as_fd(); 253]);
        let received = fd_passing::receive(receiver.as_fd(), &mut [0; 16], mode).unwrap();
        match received {
            (16, fd_passing::ReceivedFds::Many(several)) => {
                assert_eq!(several.len(), expected, "{mode:?}");
            }
            other => panic!("{mode:?}: {other:?}"),
        }
    }
}

#[test]
fn the_descriptor_of_a_foreign_command_is_closed() {
    let (reader, writer) = pipe().unwrap();
    let mut cdb = READ_KEYS;
    cdb[0] = 0x28;
    let found = violation(|client| {
        fd_passing::send(client.as_fd(), &cdb, writer.as_fd()).unwrap();
    });
    assert_eq!(found, ProtocolError::UnsupportedOpcode(0x28));
    drop(writer);
    assert_all_closed(reader);
}

#[test]
fn descriptors_of_a_request_that_is_never_completed_are_closed() {
    let (reader, writer) = pipe().unwrap();
    let found = violation(|client| {
        fd_passing::send(client.as_fd(), &REGISTER[..9], writer.as_fd()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert_eq!(found, ProtocolError::Truncated);
    drop(writer);
    assert_all_closed(reader);
}

fn send_many(socket: &UnixStream, bytes: &[u8], descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = vec![std::mem::MaybeUninit::uninit(); 4096];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    let bytes = [std::io::IoSlice::new(bytes)];
    sendmsg(socket, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
}

#[test]
fn answers_that_the_client_does_not_read_hold_back_its_next_request() {
    const REQUESTS: usize = 200;
    const LONGEST: [u8; 16] = [0x5e, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
    let (mut client, thread) = helper(|mut connection| {
        let mut reply = ReplyBuffer::new();
        let mut waited_for_room = false;
        for _ in 0..REQUESTS {
            let request = loop {
                let flags = match connection.poll_request(ReceiveMode::NoWait).unwrap() {
                    PollResult::Request(request) => break request,
                    PollResult::Negotiated(_) => continue,
                    PollResult::AwaitReadable => PollFlags::IN,
                    PollResult::AwaitWritable | PollResult::AwaitMemory => PollFlags::OUT,
                };
                waited_for_room |= flags == PollFlags::OUT;
                poll(&mut [PollFd::new(&connection, flags)], None).unwrap();
            };
            reply.data_area(&request.command).fill(0x55);
            let answer = reply.encode(&request.command, Status::GOOD, &[0; 96], 8192);
            connection.send(answer).unwrap();
        }
        // The last answers may still be waiting for room.
        assert!(matches!(
            next_request(&mut connection),
            Err(Disconnect::Closed)
        ));
        waited_for_room
    });
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(&[0; 4]).unwrap();
    let writer = client.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let null = std::fs::File::open("/dev/null").unwrap();
        for _ in 0..REQUESTS {
            fd_passing::send(writer.as_fd(), &LONGEST, null.as_fd()).unwrap();
        }
    });
    sender.join().unwrap();
    for _ in 0..REQUESTS {
        let mut answer = vec![0; 104 + 8192];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..8], [0, 0, 0, 0, 0, 0, 0x20, 0]);
        assert!(answer[104..].iter().all(|byte| *byte == 0x55));
    }
    drop(client);
    assert!(
        thread.join().unwrap(),
        "200 answers of 8 KiB should not fit into a socket"
    );
}

/// A client whose helper answers a READ KEYS of 16 bytes with these bytes.
fn answer_of(bytes: Vec<u8>) -> Result<pr_helper_protocol::Response, ClientError> {
    let (client, mut server) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        server.write_all(&[0; 4]).unwrap();
        server.read_exact(&mut [0; 20]).unwrap();
        server.write_all(&bytes).unwrap();
    });
    let null = std::fs::File::open("/dev/null").unwrap();
    let answer = Client::negotiate(client)
        .unwrap()
        .execute(READ_KEYS, null.as_fd(), &[]);
    thread.join().unwrap();
    answer
}

#[test]
fn client_takes_no_answer_that_breaks_the_protocol() {
    let answer = |result: u32, size: u32, data: usize| {
        let mut bytes = [result.to_be_bytes(), size.to_be_bytes()].concat();
        bytes.resize(104 + data, 0);
        answer_of(bytes)
    };
    assert_eq!(answer(0, 16, 16).unwrap().data.len(), 16);
    assert!(matches!(
        answer(0, 17, 17),
        Err(ClientError::TooMuchData {
            size: 17,
            allowed: 16
        })
    ));
    assert!(matches!(
        answer(256, 0, 0),
        Err(ClientError::BadStatus(256))
    ));
    assert!(matches!(answer(0, 16, 15), Err(ClientError::Answer(_))));
}

#[test]
fn client_sends_nothing_that_the_protocol_cannot_carry() {
    let (client, mut server) = UnixStream::pair().unwrap();
    server.write_all(&[0; 4]).unwrap();
    let mut client = Client::negotiate(client).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut foreign = READ_KEYS;
    foreign[0] = 0x12;
    assert!(matches!(
        client.execute(foreign, null.as_fd(), &[]),
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
