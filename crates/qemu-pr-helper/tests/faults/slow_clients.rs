// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients that leave a request unfinished: they time out, and no other client does.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pr_testkit::cdb::{read_keys, register};
use pr_testkit::client::null;
use pr_testkit::{TestClient, eventually};
use scsi_pr::Status;

use crate::Test;
use crate::helper::Helper;
use crate::lingering_sockets;

pub(crate) const TESTS: &[Test] = tests![
    slow_client_times_out,
    client_that_owes_nothing_stays,
    many_slow_clients_delay_no_other,
];

const TIMEOUT: Duration = Duration::from_secs(1);
/// Period in which several timeouts expire.
const LONGER: Duration = Duration::from_secs(3);

/// Delay between two bytes of a slow client. Even the rest of a CDB takes several times the
/// timeout.
const BYTE_DELAY: Duration = Duration::from_millis(400);

/// Phase of a connection in which a client becomes slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPhase {
    Connected,
    Features,
    Cdb,
    Parameters,
}

impl RequestPhase {
    const ALL: [Self; 4] = [Self::Connected, Self::Features, Self::Cdb, Self::Parameters];

    /// Connects a client and sends what comes before this phase.
    fn reach(self, socket: &Path, device: &File) -> TestClient {
        let mut client = TestClient::connect(socket);
        client.receive_greeting().unwrap();
        match self {
            Self::Connected => {}
            Self::Features => client.try_send(&[0; 2]).unwrap(),
            Self::Cdb | Self::Parameters => client.try_send(&[0; 4]).unwrap(),
        }
        match self {
            Self::Connected | Self::Features => {}
            Self::Cdb => client.send(&register(0, 0).cdb[..1], device.as_fd()),
            Self::Parameters => client.send(&register(0, 0).cdb, device.as_fd()),
        }
        client
    }
}

fn start() -> Helper {
    let arguments = ["--request-timeout", "1", "--max-clients-per-process", "600"];
    Helper::start(&arguments)
}

fn slow_client_times_out() {
    let helper = start();
    let before = helper.usage();
    let path = helper.dir().join("disk");
    let device = File::create(&path).unwrap();
    let is_open = || {
        helper
            .usage()
            .descriptors
            .contains(&path.display().to_string())
    };
    let was_open = AtomicBool::new(false);
    let look = || was_open.fetch_or(is_open(), Ordering::SeqCst);
    thread::scope(|scope| {
        let (helper, device, look) = (&helper, &device, &look);
        for phase in RequestPhase::ALL {
            scope.spawn(move || {
                let start = Instant::now();
                let mut client = phase.reach(helper.socket(), device);
                look();
                client.assert_closed();
                assert!(start.elapsed() >= TIMEOUT, "{phase:?}");
            });
        }
        for (phase, left) in [(RequestPhase::Cdb, 15), (RequestPhase::Parameters, 24)] {
            scope.spawn(move || {
                let start = Instant::now();
                let mut client = phase.reach(helper.socket(), device);
                let sent = (0..left).take_while(|_| {
                    look();
                    thread::sleep(BYTE_DELAY);
                    client.try_send(&[0]).is_ok()
                });
                assert!(sent.count() < left, "{phase:?} did not time out");
                assert!(start.elapsed() >= TIMEOUT, "{phase:?}");
                client.assert_closed();
            });
        }
    });
    assert!(was_open.load(Ordering::SeqCst));
    eventually("the device to be closed", || (!is_open()).then_some(()));
    helper.wait_for_log("timed out answering the greeting, connection closed");
    helper.wait_for_log("timed out sending a request, connection closed");
    helper.assert_idle(&before);
}

fn client_that_owes_nothing_stays() {
    let helper = start();
    let before = helper.usage();
    let mut idle = helper.client();
    idle.assert_served();
    let mut waiting = helper.client();
    let far = lingering_sockets::send_command(&mut waiting);
    // A client that does not read its reply, which fits in the socket.
    let mut unread = helper.client();
    unread.send(&read_keys(8).cdb, null().as_fd());
    // Slow clients, so that the helper scans for timeouts again and again.
    let start = Instant::now();
    while start.elapsed() < LONGER {
        RequestPhase::Cdb
            .reach(helper.socket(), &null())
            .assert_closed();
    }
    idle.assert_served();
    waiting.assert_silent_for(TIMEOUT);
    drop(far);
    assert_eq!(waiting.receive().unwrap().status, Status::CHECK_CONDITION);
    waiting.assert_served();
    assert_eq!(unread.receive().unwrap().status, Status::CHECK_CONDITION);
    unread.assert_served();
    drop((idle, waiting, unread));
    helper.assert_idle(&before);
}

fn many_slow_clients_delay_no_other() {
    let helper = start();
    let before = helper.usage();
    let mut healthy = helper.client();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::SeqCst) {
                let sent = Instant::now();
                healthy.assert_served();
                longest = longest.max(sent.elapsed());
                thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        let device = null();
        let phases = RequestPhase::ALL.into_iter().cycle().take(500);
        let slow = phases.map(|phase| phase.reach(helper.socket(), &device));
        let mut slow: Vec<_> = slow.collect();
        let deadline = Instant::now() + LONGER;
        while Instant::now() < deadline {
            // The clients at a CDB go on until their connection is closed.
            for client in slow.iter_mut().skip(2).step_by(4) {
                let _ = client.try_send(&[0]);
            }
            thread::sleep(BYTE_DELAY);
        }
        for client in &mut slow {
            client.assert_closed();
        }
        is_over.store(true, Ordering::SeqCst);
        let longest = requests.join().unwrap();
        assert!(longest < LONGER, "{longest:?} for a reply");
    });
    drop(healthy);
    helper.assert_idle(&before);
}
