// SPDX-License-Identifier: MIT OR Apache-2.0

//! The limits on clients: in total, and of one process.

use std::process;
use std::thread;
use std::time::Duration;

use pr_testkit::{TestClient, eventually};

use crate::Test;
use crate::helper::Helper;
use crate::other_processes::{OtherProcess, Task};

pub(crate) const TESTS: &[Test] = tests![
    client_over_the_limit_waits,
    descriptor_limit_limits_clients,
    burst_does_not_exceed_the_limit,
    limit_is_per_process,
    killed_processes_free_their_permits,
];

/// Period that is longer than the second after which the helper accepts again.
const RETRY_PERIOD: Duration = Duration::from_millis(2500);

/// Checks that a helper with this many clients serves them, and accepts another one after a
/// disconnect.
fn assert_full_with(helper: &Helper, mut clients: Vec<TestClient>) {
    let [mut next, mut last] = [(); 2].map(|()| helper.connect());
    next.assert_silent_for(RETRY_PERIOD);
    helper.assert_low_cpu();
    clients.iter_mut().for_each(TestClient::assert_served);
    helper.wait_for_log("accepting connections paused");

    clients.pop();
    let mut next = next.handshake();
    next.assert_served();
    last.assert_silent_for(RETRY_PERIOD);
    // The client that waits to be accepted can disconnect as well.
    drop((next, last));
    helper.client().assert_served();
}

fn client_over_the_limit_waits() {
    let arguments = ["--max-clients", "4", "--max-clients-per-process", "9"];
    let helper = Helper::start(&arguments);
    let before = helper.usage();
    assert_full_with(&helper, (0..4).map(|_| helper.client()).collect());
    helper.assert_idle(&before);
}

fn descriptor_limit_limits_clients() {
    // A client and its command need 4 descriptors, and the helper needs some itself. With soft
    // LUNs, or without a broker, the numbers are different.
    let wrapper = ["prlimit", "--nofile=156:156"];
    let helper = Helper::start_under(&wrapper, &["--max-clients-per-process", "99"]);
    let before = helper.usage();
    let first = helper.client();
    let possible = 4;
    let rest = (1..possible).map(|_| helper.client());
    assert_full_with(&helper, [first].into_iter().chain(rest).collect());
    helper.assert_idle(&before);
}

/// Several threads accept a burst of connections. Together they must not exceed the limit.
fn burst_does_not_exceed_the_limit() {
    let limit = 4;
    let total = ["--max-clients", "4", "--max-clients-per-process", "99"];
    let per_process = ["--max-clients", "99", "--max-clients-per-process", "4"];
    for arguments in [total, per_process] {
        for _ in 0..12 {
            let helper = Helper::start(&arguments);
            let clients = (0..20).map(|_| helper.connect());
            let mut clients: Vec<_> = clients.collect();
            let mut greeted = 0;
            eventually("clients up to the limit", || {
                greeted += clients
                    .iter_mut()
                    .filter_map(TestClient::try_receive_greeting)
                    .count();
                (greeted >= limit).then_some(())
            });
            // A client over the limit would usually be greeted by now.
            thread::sleep(Duration::from_millis(10));
            greeted += clients
                .iter_mut()
                .filter_map(TestClient::try_receive_greeting)
                .count();
            assert_eq!(greeted, limit, "{arguments:?}");
        }
    }
}

fn limit_is_per_process() {
    let helper = Helper::start(&["--max-clients-per-process", "3"]);
    let before = helper.usage();
    let mut clients: Vec<_> = (0..3).map(|_| helper.client()).collect();
    for _ in 0..20 {
        helper.connect().assert_closed();
    }
    clients.iter_mut().for_each(TestClient::assert_served);
    let own = format!("pid {}, uid ", process::id());
    let log = helper.stderr();
    let warning = "its process reached the limit of connections (--max-clients-per-process)";
    let warnings: Vec<_> = log.lines().filter(|line| line.ends_with(warning)).collect();
    assert!(
        matches!(warnings.as_slice(), [line] if line.contains(&own)),
        "{log}"
    );

    let mut others = OtherProcess::start(helper.socket(), Task::Idle(3));
    others.wait_until_done();
    clients.pop();
    // The helper may not have seen the disconnect yet.
    eventually("a permit", || helper.connect().try_handshake().ok());
    clients.iter_mut().for_each(TestClient::assert_served);
    drop((clients, others));
    helper.assert_idle(&before);
}

fn killed_processes_free_their_permits() {
    let arguments = ["--max-clients", "40", "--max-clients-per-process", "40"];
    let helper = Helper::start(&arguments);
    let before = helper.usage();
    for _ in 0..5 {
        let mut others = OtherProcess::start(helper.socket(), Task::Idle(40));
        others.wait_until_done();
    }
    helper.client().assert_served();
    helper.assert_idle(&before);
}
