//! One client process that does everything at once that could take the helper from the others.

use std::env;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::Test;
use crate::client::{Client, LONGEST_READ_KEYS, READ_KEYS, REGISTER, null};
use crate::helper::Helper;
use crate::others::{Others, Task};
use crate::stuck::{self, Stuck};

pub(crate) const TESTS: &[Test] = &[(
    "other_processes_are_served_meanwhile",
    other_processes_are_served_meanwhile,
)];

/// How many seconds the attack lasts, unless `PR_ATTACK_SECONDS` says otherwise.
const SECONDS: u32 = 5;

/// The most memory that the helper may take beyond what it takes at rest, in KiB
/// (docs/performance.md, "Memory"). It does not depend on how long the attack lasts.
const MAX_GROWTH: u64 = 64 * 1024;

/// The most memory that may be left when all threads have ended, in KiB: the allocator keeps pages
/// that are not free as a whole.
const MAX_LEFT: u64 = 8 * 1024;

/// The number of far ends of devices that hang that the attacker keeps for each of its tricks; about
/// as many as it may have open files.
const MAX_KEPT: usize = 1500;

fn other_processes_are_served_meanwhile() {
    let seconds = env::var("PR_ATTACK_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let helper = Helper::start(&["--request-timeout", "2"]);
    let before = helper.usage();
    let mut present = helper.client();
    let mut attacker = Others::start(&helper.socket(), Task::Attack(seconds));
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let (mut requests, mut connections) = (Waits::default(), Waits::default());
    let mut peak = before.clone();
    while Instant::now() < end {
        for _ in 0..100 {
            requests.measure(|| present.is_served());
            thread::sleep(Duration::from_millis(1));
        }
        connections.measure(|| {
            let mut next = helper.client();
            next.is_served();
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
    peak.has_grown_little_since(&before, MAX_GROWTH);
    attacker.wait();
    drop(present);
    helper.is_at_rest_as(&before);
    helper.usage().has_grown_little_since(&before, MAX_LEFT);
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

/// Far ends of devices that hang, which the attacker keeps.
#[derive(Default)]
struct Kept(Mutex<Vec<Stuck>>);

impl Kept {
    fn push(&self, far: Stuck) {
        let mut kept = self.0.lock().unwrap();
        if kept.len() >= MAX_KEPT {
            kept.drain(..MAX_KEPT / 2);
        }
        kept.push(far);
    }
}

/// What the attacker does, as a process of its own. What fails is tried again: it is over a limit.
pub(crate) fn run(socket: &Path, seconds: u32) {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let tricks: [fn(&Path, &Kept); 7] = [
        disconnect_while_a_close_blocks,
        fill_rejected_connections,
        send_many_descriptors,
        leave_replies_unread,
        ask_for_devices_that_hang,
        ask_without_permission,
        send_half,
    ];
    for trick in tricks {
        let socket = socket.to_owned();
        thread::spawn(move || {
            let kept = Kept::default();
            loop {
                trick(&socket, &kept);
            }
        });
    }
    thread::sleep(end.saturating_duration_since(Instant::now()));
    // Not waited for: some of the threads may wait in a close of their own.
    process::exit(0);
}

/// Sends bytes, and a descriptor of a device that hangs with them. Returns its far end.
fn send_device(client: &mut Client, bytes: &[u8]) -> Stuck {
    let (far, device) = stuck::device();
    let _ = client.try_send_with(bytes, device.as_fd());
    // If the helper has closed its own descriptor already, this one is the last, and its close waits.
    thread::spawn(move || drop(device));
    far
}

/// Connects, as often as that fails.
fn connect(socket: &Path) -> Option<Client> {
    let mut client = Client::try_connect(socket).ok()?;
    client.try_greet().ok().map(|()| client)
}

fn disconnect_while_a_close_blocks(socket: &Path, kept: &Kept) {
    if let Some(mut client) = connect(socket) {
        kept.push(send_device(&mut client, &READ_KEYS[..1]));
    }
}

fn fill_rejected_connections(socket: &Path, kept: &Kept) {
    if let Ok(mut client) = Client::try_connect(socket) {
        kept.push(send_device(&mut client, &READ_KEYS[..1]));
    }
}

fn send_many_descriptors(socket: &Path, kept: &Kept) {
    if let Some(client) = connect(socket) {
        let (far, device) = stuck::device();
        let null = null();
        let mut devices = vec![null.as_fd(); 253];
        devices[0] = device.as_fd();
        let _ = client.try_send_many(&READ_KEYS[..1], &devices);
        thread::spawn(move || drop(device));
        kept.push(far);
    }
}

fn leave_replies_unread(socket: &Path, _: &Kept) {
    let Some(mut client) = connect(socket) else {
        return;
    };
    set_socket_send_buffer_size(&client.0, 1 << 20).unwrap();
    let device = null();
    for _ in 0..100 {
        let _ = client.try_send_with(&LONGEST_READ_KEYS, device.as_fd());
    }
    let own = client.0.try_clone().unwrap();
    let _ = client.try_send_with(&READ_KEYS, own.as_fd());
}

fn ask_for_devices_that_hang(socket: &Path, kept: &Kept) {
    if let Some(mut client) = connect(socket) {
        kept.push(send_device(&mut client, &READ_KEYS));
    }
}

fn ask_without_permission(socket: &Path, _: &Kept) {
    let Some(mut client) = connect(socket) else {
        return;
    };
    let path_only = open("/dev/null", OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..100 {
        if client.try_send_with(&READ_KEYS, path_only.as_fd()).is_err() || client.answer().is_err()
        {
            return;
        }
    }
}

fn send_half(socket: &Path, _: &Kept) {
    let clients: Vec<_> = (0..20).filter_map(|_| connect(socket)).collect();
    for mut client in clients {
        let _ = client.try_send_with(&REGISTER, null().as_fd());
        let _ = client.try_send(&[0; 12]);
    }
}
