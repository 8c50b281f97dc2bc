//! Ten thousand clients in a burst: each is served, and nothing is left of them.

use crate::Test;
use crate::helper::Helper;
use crate::others::{Others, Task};

pub(crate) const TESTS: &[Test] = &[("everybody_is_served", everybody_is_served)];

/// Processes, how many clients each has at once, and how often each of those connects, in each of two bursts.
const PROCESSES: u32 = 20;
const CLIENTS: u32 = 50;
const TIMES: u32 = 5;

fn everybody_is_served() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let burst = || {
        let start = |_| Others::start(&helper.socket(), Task::Storm(CLIENTS, TIMES));
        let mut others: Vec<_> = (0..PROCESSES).map(start).collect();
        others.iter_mut().for_each(Others::is_done);
        helper.is_at_rest_as(&before);
        helper.usage()
    };
    // What the first one has needed is kept for the second.
    let first = burst();
    let second = burst();
    // There are some hundred threads for a moment, in one burst more than in the other, and of each twenty KiB of
    // its stack are kept. What smaller leaks are like is seen in `vanish` and `soak`.
    second.has_grown_little_since(&first, 4096);
    helper.client().is_served();
}
