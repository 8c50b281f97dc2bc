// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that must have no resource left after a fault.

use std::ops::Deref;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pr_testkit::usage::Usage;
use pr_testkit::{HelperProcess, TEST_TIMEOUT};
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

/// Returns the number of threads of an idle helper: they wait for signals, for clients, for readers
/// of the state, for clients without a name, and for records of the event journal if there is a
/// system journal.
fn idle_threads() -> usize {
    let has_journal = Path::new("/run/systemd/journal/socket").exists();
    4 + usize::from(has_journal)
}

/// A running helper.
pub(crate) struct Helper(HelperProcess);

impl Deref for Helper {
    type Target = HelperProcess;

    fn deref(&self) -> &HelperProcess {
        &self.0
    }
}

impl Helper {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_under(&[], arguments)
    }

    /// Starts a helper by another program, which gets the helper's command line after its own
    /// arguments and executes it.
    pub(crate) fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
        let helper = helper.wrapper(wrapper).args(arguments).start().unwrap();
        // What the helper allocates for the first command must not look like a leak.
        let mut first = helper.client();
        first.assert_served();
        first.disconnect();
        helper.wait_until_disconnected().unwrap();
        // The connection counts against the limits until a moment after its socket is closed, and
        // some tests connect without [`HelperProcess::client`].
        thread::sleep(Duration::from_millis(50));
        Self(helper)
    }

    /// Changes the soft limit of a resource. The hard limit stays.
    pub(crate) fn limit(&self, resource: Resource, current: u64) {
        let new = Rlimit {
            current: Some(current),
            maximum: getrlimit(resource).maximum,
        };
        prlimit(Some(self.pid()), resource, new).unwrap();
    }

    /// Waits until the helper has the same descriptors as `before`, and only the threads of an idle
    /// helper.
    #[track_caller]
    pub(crate) fn assert_idle(&self, before: &Usage) {
        let (mut now, mut is_idle) = (self.usage(), false);
        let end = Instant::now() + TEST_TIMEOUT;
        while !is_idle && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
            now = self.usage();
            is_idle = now.descriptors == before.descriptors && now.threads <= idle_threads();
        }
        assert!(is_idle, "{now:?} when idle, {before:?} before");
    }

    /// Checks that the helper uses almost no processor time, for a few seconds.
    #[track_caller]
    pub(crate) fn assert_low_cpu(&self) {
        const PERIOD: Duration = Duration::from_secs(3);
        let before = self.usage().processor_time;
        thread::sleep(PERIOD);
        let used = self.usage().processor_time - before;
        assert!(
            used < PERIOD / 20,
            "{used:?} of processor time in {PERIOD:?}"
        );
    }
}
