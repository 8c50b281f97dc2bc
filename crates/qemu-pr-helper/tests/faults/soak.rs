//! Many requests in a row, by clients that come and go: a helper needs no more for the last than for the first.

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

pub(crate) const TESTS: &[Test] = &[("memory_stays_what_it_was", memory_stays_what_it_was)];

/// How many requests there are.
const REQUESTS: &str = "PR_SOAK_REQUESTS";
const BY_DEFAULT: u64 = 300_000;

/// So many make the helper what it stays. They come from more clients at once than the others, so that there are never
/// more threads again: the allocator has memory for each that there was, and their stacks are kept.
const WARM: u64 = 100_000;
const WARM_CLIENTS: u64 = 40;
const CLIENTS: u64 = 8;

/// KiB that memory may grow after that, by how the allocator happens to use it. A byte for every request is more.
const MARGIN: u64 = 128;

/// RESERVE, by a port that is not registered.
const RESERVE: [u8; 16] = [0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
/// REGISTER AND IGNORE EXISTING KEY.
const REGISTER_ANY: [u8; 16] = [0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0];
/// READ FULL STATUS, with room for whatever there is.
const READ_STATUS: [u8; 16] = [0x5e, 3, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];

/// A soft LUN in `folder`. The files that stand for its ports: one that is registered now and then, and another.
fn soft_lun(folder: &Path) -> [File; 2] {
    let path = folder.join("lun");
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

/// What one client asks for.
struct Load<'a> {
    helper: &'a Helper,
    ports: &'a [File; 2],
    null: File,
}

impl Load<'_> {
    /// So many requests, some of them by a connection of their own, and some broken off.
    fn run(&self, requests: u64) {
        let mut client = self.helper.client();
        for index in 0..requests {
            if index.is_multiple_of(64) {
                client = self.helper.client();
            }
            if index.is_multiple_of(250) {
                self.break_off(index / 250);
            }
            if index.is_multiple_of(2000) {
                self.register(&mut client, index + 1);
            }
            let (cdb, device, expected) = self.request(index);
            let status = client.try_ask(cdb, device).unwrap();
            assert_eq!(status, expected, "request {index}");
        }
    }

    /// Registers another key, which is written to the disk.
    fn register(&self, client: &mut Client, key: u64) {
        let [a, _] = self.ports;
        let mut list = [0; PARAMETERS];
        list[8..16].copy_from_slice(&key.to_be_bytes());
        let status = client.try_ask_with(REGISTER_ANY, &list, a).unwrap();
        assert_eq!(status, Status::GOOD);
    }

    /// A request, and what is answered to it.
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

    /// Half of a request by somebody who vanishes.
    fn break_off(&self, index: u64) {
        let mut client = self.helper.client();
        let count = usize::try_from(index).unwrap() % (REGISTER.len() + PARAMETERS - 1) + 1;
        let cdb = &REGISTER[..count.min(REGISTER.len())];
        client.send(cdb, self.null.as_fd());
        let list = &[0; PARAMETERS][..count - cdb.len()];
        client.try_send(list).unwrap();
    }
}

fn memory_stays_what_it_was() {
    let requests = env::var(REQUESTS).map_or(BY_DEFAULT, |text| text.parse().unwrap());
    assert!(requests > WARM, "{REQUESTS} is at least {WARM}");
    let folder = tempfile::tempdir().unwrap();
    let ports = soft_lun(folder.path());
    let helper = Helper::start(&["--soft-luns", folder.path().to_str().unwrap()]);
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
        helper.is_at_rest_as(&before);
        let usage = helper.usage();
        report(&usage, all, requests, seconds);
        usage
    };
    let warm = run(WARM, WARM_CLIENTS, WARM);
    let end = run(requests - WARM, CLIENTS, requests);
    end.has_grown_little_since(&warm, MARGIN);
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
        "soak: after {all} requests, the last {requests} in {seconds:.1} s: {resident} KiB resident, {proportional} \
         KiB of them by shares, {memory} KiB its own data, {} descriptors, {threads} threads",
        descriptors.len()
    );
}
