// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ten thousand clients in a burst: each is served, and no resource is left afterwards.

use crate::Test;
use crate::helper::Helper;
use crate::other_processes::{OtherProcess, Task};

pub(crate) const TESTS: &[Test] = tests![every_client_is_served];

/// Number of processes in a burst.
const PROCESSES: u32 = 20;

/// Number of concurrent clients of each process.
const CLIENTS: u32 = 50;

/// Number of connections that each client makes.
const CONNECTIONS: u32 = 5;

fn every_client_is_served() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let burst = || {
        let start = |_| OtherProcess::start(helper.socket(), Task::Burst(CLIENTS, CONNECTIONS));
        let mut processes: Vec<_> = (0..PROCESSES).map(start).collect();
        processes.iter_mut().for_each(OtherProcess::wait_until_done);
        helper.assert_idle(&before);
        helper.usage()
    };
    // The helper keeps memory of the first burst for the second one.
    let first = burst();
    let second = burst();
    // There are some hundred threads for a moment, more in one burst than in the other, and 20 KiB
    // of each stack are kept. `disconnects` and `soak` detect smaller leaks.
    second.assert_growth_below(&first, 4096);
    helper.client().assert_served();
}
