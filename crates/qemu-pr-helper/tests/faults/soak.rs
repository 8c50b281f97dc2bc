// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many requests from clients that connect and disconnect: the helper's resources do not grow.

use std::env;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Instant;

use pr_helper_protocol::wire::CDB_SIZE;
use pr_testkit::TestClient;
use pr_testkit::cdb::{
    PrCommand, read_full_status, read_keys, register, register_and_ignore, reserve,
};
use pr_testkit::client::null;
use pr_testkit::soft_lun::SoftLunFixture;
use pr_testkit::usage::Usage;
use scsi_pr::{ReservationType, Status};

use crate::Test;
use crate::helper::Helper;

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
            let (command, device, expected) = self.command(index);
            let status = client.execute(&command, device).status;
            assert_eq!(status, expected, "request {index}");
        }
    }

    /// Registers another key, which writes to the disk.
    fn register(&self, client: &mut TestClient, key: u64) {
        let [a, _] = self.ports;
        let status = client.execute(&register_and_ignore(key), a).status;
        assert_eq!(status, Status::GOOD);
    }

    /// Returns a command, its device and the expected status.
    fn command(&self, index: u64) -> (PrCommand, &File, Status) {
        let [a, b] = self.ports;
        match index {
            _ if index % 20 == 3 => (read_keys(8), a, Status::GOOD),
            // Port `b` is not registered.
            _ if index % 20 == 9 => {
                let reserve = reserve(0, ReservationType::ExclusiveAccess);
                (reserve, b, Status::RESERVATION_CONFLICT)
            }
            _ if index % 20 == 15 => (read_full_status(8192), b, Status::GOOD),
            _ if index.is_multiple_of(2) => (read_keys(8), &self.null, Status::CHECK_CONDITION),
            _ => (register(0, 0), &self.null, Status::CHECK_CONDITION),
        }
    }

    /// Sends a partial request and disconnects.
    fn send_partial(&self, index: u64) {
        let mut client = self.helper.client();
        let request = register(0, 0).bytes();
        let count = usize::try_from(index).unwrap() % (request.len() - 1) + 1;
        let (cdb, list) = request[..count].split_at(count.min(CDB_SIZE));
        client.send(cdb, self.null.as_fd());
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
    let lun = SoftLunFixture::create(dir.path());
    let open = |name| File::options().read(true).write(true).open(lun.port(name));
    let ports = ["a", "b"].map(|name| open(name).unwrap());
    let helper = Helper::start(&["--soft-luns", lun.luns.to_str().unwrap()]);
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
