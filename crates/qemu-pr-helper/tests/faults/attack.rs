// SPDX-License-Identifier: MIT OR Apache-2.0

//! A client process that does everything at once that could keep the helper from serving others.

use std::env;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use pr_testkit::TestClient;
use pr_testkit::cdb::{read_keys, register};
use pr_testkit::client::null;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::Test;
use crate::helper::Helper;
use crate::lingering_sockets::{self, FarEnd};
use crate::other_processes::{OtherProcess, Task};

pub(crate) const TESTS: &[Test] = tests![other_processes_are_served_meanwhile];

/// Duration of the attack in seconds, unless `PR_ATTACK_SECONDS` is set.
const SECONDS: u32 = 5;

/// Maximum growth of the helper's memory during the attack, in KiB (docs/performance.md, "Memory").
/// It does not depend on the duration.
const MAX_GROWTH: u64 = 64 * 1024;

/// Maximum growth after all threads have ended, in KiB: the allocator keeps pages that are partly
/// in use.
const MAX_REMAINING_GROWTH: u64 = 8 * 1024;

/// Number of far ends of lingering sockets that the attacker keeps for each of its methods. It is
/// about the limit of open files.
const MAX_FAR_ENDS: usize = 1500;

fn other_processes_are_served_meanwhile() {
    let seconds = env::var("PR_ATTACK_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let helper = Helper::start(&["--request-timeout", "2"]);
    let before = helper.usage();
    let mut present = helper.client();
    let mut attacker = OtherProcess::start(helper.socket(), Task::Attack(seconds));
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let (mut requests, mut connections) = (Waits::default(), Waits::default());
    let mut peak = before.clone();
    while Instant::now() < end {
        for _ in 0..100 {
            requests.measure(|| present.assert_served());
            thread::sleep(Duration::from_millis(1));
        }
        connections.measure(|| {
            let mut next = helper.client();
            next.assert_served();
        });
        let now = helper.usage();
        if now.memory > peak.memory {
            peak = now;
        }
    }
    eprintln!(
        "attack of {seconds} s: worst wait {:?} in {} requests, {:?} in {} connections; \
         {} KiB, {} threads, {} descriptors at the peak of memory",
        requests.worst,
        requests.count,
        connections.worst,
        connections.count,
        peak.memory,
        peak.threads,
        peak.descriptors.len(),
    );
    // Clients are served throughout, not only when the attack is over.
    assert!(connections.count >= 2, "{} connections", connections.count);
    let half = Duration::from_secs(seconds.into()) / 2;
    assert!(requests.worst < half, "{:?} for a request", requests.worst);
    peak.assert_growth_below(&before, MAX_GROWTH);
    attacker.wait();
    drop(present);
    helper.assert_idle(&before);
    helper
        .usage()
        .assert_growth_below(&before, MAX_REMAINING_GROWTH);
}

#[derive(Default)]
struct Waits {
    count: u32,
    worst: Duration,
}

impl Waits {
    fn measure(&mut self, serve: impl FnOnce()) {
        let start = Instant::now();
        serve();
        self.worst = self.worst.max(start.elapsed());
        self.count += 1;
    }
}

/// Far ends of lingering sockets, which the attacker keeps open.
#[derive(Default)]
struct FarEnds(Mutex<Vec<FarEnd>>);

impl FarEnds {
    fn push(&self, far: FarEnd) {
        let mut far_ends = self.0.lock().unwrap();
        if far_ends.len() >= MAX_FAR_ENDS {
            far_ends.drain(..MAX_FAR_ENDS / 2);
        }
        far_ends.push(far);
    }
}

/// Runs the attacker, in its own process. It tries again whatever fails, because that is over a
/// limit.
pub(crate) fn run(socket: &Path, seconds: u32) {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let methods: [fn(&Path, &FarEnds); 7] = [
        disconnect_while_a_close_blocks,
        fill_rejected_connections,
        send_many_descriptors,
        leave_replies_unread,
        send_commands_that_hang,
        send_o_path_descriptors,
        send_partial_requests,
    ];
    for method in methods {
        let socket = socket.to_owned();
        thread::spawn(move || {
            let far_ends = FarEnds::default();
            loop {
                method(&socket, &far_ends);
            }
        });
    }
    thread::sleep(end.saturating_duration_since(Instant::now()));
    // The threads are not joined, because some may be blocked in a close.
    process::exit(0);
}

/// Sends bytes with a lingering socket. Returns the far end of that.
fn send_lingering_socket(client: &mut TestClient, bytes: &[u8]) -> FarEnd {
    let (far, device) = lingering_sockets::create();
    let _ = client.try_send_with(bytes, device.as_fd());
    // If the helper has closed its own descriptor already, this one is the last, and its close
    // blocks.
    thread::spawn(move || drop(device));
    far
}

/// Connects; `None` if the helper closes the connection.
fn connect(socket: &Path) -> Option<TestClient> {
    let mut client = TestClient::try_connect(socket).ok()?;
    client.try_handshake().ok().map(|()| client)
}

fn disconnect_while_a_close_blocks(socket: &Path, far_ends: &FarEnds) {
    if let Some(mut client) = connect(socket) {
        far_ends.push(send_lingering_socket(&mut client, &read_keys(8).cdb[..1]));
    }
}

fn fill_rejected_connections(socket: &Path, far_ends: &FarEnds) {
    if let Ok(mut client) = TestClient::try_connect(socket) {
        far_ends.push(send_lingering_socket(&mut client, &read_keys(8).cdb[..1]));
    }
}

fn send_many_descriptors(socket: &Path, far_ends: &FarEnds) {
    if let Some(client) = connect(socket) {
        let (far, device) = lingering_sockets::create();
        let null = null();
        let mut devices = vec![null.as_fd(); 253];
        devices[0] = device.as_fd();
        let _ = client.try_send_fds(&read_keys(8).cdb[..1], &devices);
        thread::spawn(move || drop(device));
        far_ends.push(far);
    }
}

fn leave_replies_unread(socket: &Path, _: &FarEnds) {
    let Some(mut client) = connect(socket) else {
        return;
    };
    set_socket_send_buffer_size(&client.stream, 1 << 20).unwrap();
    let device = null();
    for _ in 0..100 {
        let _ = client.try_send_with(&read_keys(8192).cdb, device.as_fd());
    }
    let own = client.stream.try_clone().unwrap();
    let _ = client.try_send_with(&read_keys(8).cdb, own.as_fd());
}

fn send_commands_that_hang(socket: &Path, far_ends: &FarEnds) {
    if let Some(mut client) = connect(socket) {
        far_ends.push(send_lingering_socket(&mut client, &read_keys(8).cdb));
    }
}

fn send_o_path_descriptors(socket: &Path, _: &FarEnds) {
    let Some(mut client) = connect(socket) else {
        return;
    };
    let path_only = open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..100 {
        if client
            .try_send_with(&read_keys(8).cdb, path_only.as_fd())
            .is_err()
            || client.receive().is_err()
        {
            return;
        }
    }
}

fn send_partial_requests(socket: &Path, _: &FarEnds) {
    let clients: Vec<_> = (0..20).filter_map(|_| connect(socket)).collect();
    for mut client in clients {
        let _ = client.try_send_with(&register(0, 0).cdb, null().as_fd());
        let _ = client.try_send(&[0; 12]);
    }
}
