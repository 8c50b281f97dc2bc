//! Many requests from clients that connect and disconnect: the helper's resources do not grow.

use std::env;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

use scsi_pr::{Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};

use crate::Test;
use crate::client::{Client, PARAMETERS, READ_KEYS, REGISTER, null};
use crate::helper::Helper;
use crate::usage::Usage;

pub(crate) const TESTS: &[Test] = tests![memory_does_not_grow];

/// Environment variable with the number of requests.
const REQUESTS: &str = "PR_SOAK_REQUESTS";
const DEFAULT_REQUESTS: u64 = 300_000;

/// Number of requests after which the helper's memory is measured first. They come from more
/// concurrent clients than the later ones, so that there are never more threads again: the
/// allocator keeps memory for each thread, and the stacks are kept.
const WARM_UP_REQUESTS: u64 = 100_000;
const WARM_UP_CLIENTS: u64 = 40;

/// Number of concurrent clients after the warm-up.
const CLIENTS: u64 = 8;

/// Maximum growth in KiB after that, which is noise of the allocator. One byte for each request is
/// more.
const MARGIN: u64 = 128;

/// RESERVE, for a port that is not registered.
const RESERVE: [u8; 16] = [0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
/// REGISTER AND IGNORE EXISTING KEY.
const REGISTER_ANY: [u8; 16] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
/// READ FULL STATUS, with a large allocation length.
const READ_STATUS: [u8; 16] = [0x5e, 3, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];

/// Creates a soft LUN in `dir`, and opens its ports: one that is registered now and then, and one
/// that never is.
fn soft_lun(dir: &Path) -> [File; 2] {
    let path = dir.join("lun");
    let port = |name: &str, sas_address| Port {
        name: name.parse().unwrap(),
        nexus: Nexus {
            initiator: TransportId::Sas { sas_address },
            target_port: 1.into(),
        },
    };
    let ports = vec![port("a", 0xa), port("b", 0xb)];
    Lun::create(&path, ports, SupportedFeatures::default()).unwrap();
    let open = |name| {
        let path = path.join("ports").join(name);
        OpenOptions::new().read(true).write(true).open(path)
    };
    ["a", "b"].map(|name| open(name).unwrap())
}

/// Load of one client.
struct Load<'a> {
    helper: &'a Helper,
    ports: &'a [File; 2],
    null: File,
}

impl Load<'_> {
    /// Sends requests, with a new connection now and then, and partial requests from others.
    fn run(&self, requests: u64) {
        let mut client = self.helper.client();
        for index in 0..requests {
            if index.is_multiple_of(64) {
                client = self.helper.client();
            }
            if index.is_multiple_of(250) {
                self.send_partial(index / 250);
            }
            if index.is_multiple_of(2000) {
                self.register(&mut client, index + 1);
            }
            let (cdb, device, expected) = self.request(index);
            let status = client.try_request(cdb, device).unwrap();
            assert_eq!(status, expected, "request {index}");
        }
    }

    /// Registers another key, which writes to the disk.
    fn register(&self, client: &mut Client, key: u64) {
        let [a, _] = self.ports;
        let mut list = [0; PARAMETERS];
        list[8..16].copy_from_slice(&key.to_be_bytes());
        let status = client.try_request_with(REGISTER_ANY, &list, a).unwrap();
        assert_eq!(status, Status::GOOD);
    }

    /// Returns a request and the expected status.
    fn request(&self, index: u64) -> ([u8; 16], &File, Status) {
        let [a, b] = self.ports;
        match index {
            _ if index % 20 == 3 => (READ_KEYS, a, Status::GOOD),
            _ if index % 20 == 9 => (RESERVE, b, Status::RESERVATION_CONFLICT),
            _ if index % 20 == 15 => (READ_STATUS, b, Status::GOOD),
            _ if index.is_multiple_of(2) => (READ_KEYS, &self.null, Status::CHECK_CONDITION),
            _ => (REGISTER, &self.null, Status::CHECK_CONDITION),
        }
    }

    /// Sends a partial request and disconnects.
    fn send_partial(&self, index: u64) {
        let mut client = self.helper.client();
        let count = usize::try_from(index).unwrap() % (REGISTER.len() + PARAMETERS - 1) + 1;
        let cdb = &REGISTER[..count.min(REGISTER.len())];
        client.send(cdb, self.null.as_fd());
        let list = &[0; PARAMETERS][..count - cdb.len()];
        client.try_send(list).unwrap();
    }
}

fn memory_does_not_grow() {
    let requests = env::var(REQUESTS).map_or(DEFAULT_REQUESTS, |text| text.parse().unwrap());
    assert!(
        requests > WARM_UP_REQUESTS,
        "{REQUESTS} is more than {WARM_UP_REQUESTS}"
    );
    let dir = tempfile::tempdir().unwrap();
    let ports = soft_lun(dir.path());
    let helper = Helper::start(&["--soft-luns", dir.path().to_str().unwrap()]);
    let before = helper.usage();
    let run = |requests: u64, clients: u64, all: u64| {
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..clients {
                let load = Load {
                    helper: &helper,
                    ports: &ports,
                    null: null(),
                };
                scope.spawn(move || load.run(requests / clients));
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        helper.assert_idle(&before);
        let usage = helper.usage();
        report(&usage, all, requests, seconds);
        usage
    };
    let warm = run(WARM_UP_REQUESTS, WARM_UP_CLIENTS, WARM_UP_REQUESTS);
    let end = run(requests - WARM_UP_REQUESTS, CLIENTS, requests);
    end.assert_growth_below(&warm, MARGIN);
}

fn report(usage: &Usage, all: u64, requests: u64, seconds: f64) {
    let Usage {
        descriptors,
        threads,
        memory,
        resident,
        proportional,
        ..
    } = usage;
    eprintln!(
        "soak: after {all} requests, the last {requests} in {seconds:.1} s: {resident} KiB \
         resident, {proportional} KiB proportional, {memory} KiB anonymous, {} \
         descriptors, {threads} threads",
        descriptors.len()
    );
}
