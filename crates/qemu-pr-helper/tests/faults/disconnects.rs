// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients that disconnect, at every byte of a request. A client that is killed closes its
//! connection as well: see `clients`.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use pr_helper_protocol::fd_passing;
use pr_helper_protocol::wire::CDB_SIZE;
use pr_testkit::TestClient;
use pr_testkit::cdb::{read_keys, register};
use pr_testkit::client::null;

use crate::Test;
use crate::helper::Helper;
use crate::lingering_sockets;

pub(crate) const TESTS: &[Test] = tests![
    partial_request_leaves_nothing,
    command_in_flight_leaves_nothing,
    unread_replies_leave_nothing,
];

/// Phase of a connection in which a client disconnects.
#[derive(Clone, Copy, Debug)]
enum RequestPhase {
    /// Before it has read the greeting: the connection is reset.
    Ungreeted,
    /// After this number of bytes of its answer to the greeting; four complete the handshake.
    Features(usize),
    /// After this number of bytes of a CDB, the first of which has a descriptor.
    Cdb(usize),
    /// After this number of bytes of the parameters.
    Parameters(usize),
}

impl RequestPhase {
    fn all() -> impl Iterator<Item = Self> {
        let features = (1..=4).map(Self::Features);
        let cdb = (1..CDB_SIZE).map(Self::Cdb);
        let parameters = (0..register(0, 0).parameter_list.len()).map(Self::Parameters);
        let first = [Self::Ungreeted].into_iter();
        first.chain(features).chain(cdb).chain(parameters)
    }

    fn reach(self, helper: &Helper) -> TestClient {
        let mut client = helper.connect();
        let register = register(0, 0);
        match self {
            Self::Ungreeted => {}
            Self::Features(count) => {
                client.receive_greeting().unwrap();
                client.try_send(&[0; 4][..count]).unwrap();
            }
            Self::Cdb(count) => {
                client = client.handshake();
                client.send(&register.cdb[..count], null().as_fd());
            }
            Self::Parameters(count) => {
                client = client.handshake();
                client.send(&register.cdb, null().as_fd());
                client.try_send(&register.parameter_list[..count]).unwrap();
            }
        }
        client
    }
}

/// Method by which a client disconnects.
#[derive(Clone, Copy, Debug)]
enum Method {
    Close,
    /// The client shuts down its sending side, and waits until the helper has closed the
    /// connection.
    Shutdown,
}

impl Method {
    const BOTH: [Self; 2] = [Self::Close, Self::Shutdown];

    fn disconnect(self, mut client: TestClient) {
        match self {
            Self::Close => drop(client),
            Self::Shutdown => {
                client.stream.shutdown(Shutdown::Write).unwrap();
                let end = io::copy(&mut client.stream.by_ref(), &mut io::sink());
                // The connection is reset if the helper has not read all bytes.
                let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
                assert!(end.as_ref().err().is_none_or(is_reset), "{end:?}");
            }
        }
    }
}

/// Lets clients disconnect, first once, then `rounds` times, beside a client that is served. Checks
/// that memory has grown by at most `margin` KiB in the rounds.
fn assert_no_leak(rounds: u32, margin: u64, disconnect: impl Fn(&Helper)) {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut other_client = helper.client();
    disconnect(&helper);
    other_client.assert_served();
    other_client.disconnect();
    helper.assert_idle(&before);
    let first = helper.usage();
    let mut other_client = helper.client();
    for _ in 0..rounds {
        disconnect(&helper);
        other_client.assert_served();
    }
    other_client.disconnect();
    helper.assert_idle(&before);
    helper.usage().assert_growth_below(&first, margin);
}

fn partial_request_leaves_nothing() {
    // 88 clients in each round. 4,000 leaked sessions would take several times the margin.
    assert_no_leak(50, 256, |helper| {
        for phase in RequestPhase::all() {
            for method in Method::BOTH {
                method.disconnect(phase.reach(helper));
            }
        }
    });
}

fn command_in_flight_leaves_nothing() {
    assert_no_leak(20, 256, |helper| {
        let (mut far, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let mut client = helper.client();
            far.push(lingering_sockets::send_command(&mut client));
            clients.push(client);
        }
        let later = clients.split_off(5);
        drop(clients);
        for client in &later {
            client.stream.shutdown(Shutdown::Write).unwrap();
        }
        helper.client().assert_served();
        // The clients that have shut down their sending side still get their replies.
        drop(far);
        for mut client in later {
            client.receive().unwrap();
            client.assert_closed();
        }
    });
}

fn unread_replies_leave_nothing() {
    assert_no_leak(10, 256, |helper| {
        for method in Method::BOTH {
            let client = helper.client();
            client.stream.set_nonblocking(true).unwrap();
            let device = null();
            let mut is_full = 0;
            // The helper continues as long as its replies fit in the socket.
            while is_full < 3 {
                match fd_passing::send(client.stream.as_fd(), &read_keys(8).cdb, device.as_fd()) {
                    Ok(()) => is_full = 0,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        is_full += 1;
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            }
            client.stream.set_nonblocking(false).unwrap();
            helper.client().assert_served();
            method.disconnect(client);
        }
    });
}
