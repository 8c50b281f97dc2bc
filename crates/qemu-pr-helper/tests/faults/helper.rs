//! A helper as a child process.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;

use crate::client::Client;
use crate::usage::Usage;

/// Timeout for an event that must happen. It is long, because a machine under load is slow.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of threads of an idle helper: one waits for signals, the other for clients.
const IDLE_THREADS: usize = 2;

/// Waits until `poll` returns a value.
#[track_caller]
pub(crate) fn wait_until<T>(event: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < end, "timed out waiting for {event}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Prints the reason why a test is skipped. Fails if no test may be skipped.
pub(crate) fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    eprintln!("faults: skipped: {reason}");
}

/// A running helper, in its own directory. It is killed on drop.
pub(crate) struct Helper {
    child: Child,
    dir: TempDir,
}

impl Helper {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_under(&[], arguments)
    }

    /// Starts a helper by another program, which gets the helper's command line after its own
    /// arguments and executes it.
    pub(crate) fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The helper can run as any user, and creates its socket there.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        let program = env!("CARGO_BIN_EXE_qemu-pr-helper");
        let words = [wrapper, &[program], arguments].concat();
        let (first, rest) = words.split_first().unwrap();
        let child = Command::new(first)
            .args(rest)
            .arg("-k")
            .arg(dir.path().join("socket"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .spawn();
        let mut helper = Self {
            child: child.unwrap(),
            dir,
        };
        // The socket exists a moment before the helper listens.
        let first = wait_until("the socket", || {
            let status = helper.child.try_wait().unwrap();
            assert_eq!(status, None, "{}", helper.stderr());
            Client::try_connect(&helper.socket()).ok()
        });
        // What the helper allocates for the first command must not look like a leak.
        let mut first = first.handshake();
        first.assert_served();
        first.disconnect();
        // The connection counts against the limits until a moment after its end was seen.
        thread::sleep(Duration::from_millis(50));
        helper
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Connects a client and answers the greeting.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket()).handshake()
    }

    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::from_pid(self.process())
    }

    /// Stops all threads of the helper while `work` runs.
    pub(crate) fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        kill_process(self.process(), Signal::STOP).unwrap();
        wait_until("the helper to be stopped", || {
            let tasks = format!("/proc/{}/task", self.process().as_raw_nonzero());
            let mut tasks = fs::read_dir(tasks).unwrap();
            let is_stopped = tasks.all(|task| {
                let status = fs::read_to_string(task.unwrap().path().join("status"));
                status.is_ok_and(|status| status.contains("\nState:\tT"))
            });
            is_stopped.then_some(())
        });
        let result = work();
        kill_process(self.process(), Signal::CONT).unwrap();
        result
    }

    /// Returns what the helper has written to standard error.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    /// Waits until the helper has logged `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_until(text, || self.stderr().contains(text).then_some(()));
    }

    /// Changes the soft limit of a resource. The hard limit stays.
    pub(crate) fn limit(&self, resource: Resource, current: u64) {
        let new = Rlimit {
            current: Some(current),
            maximum: getrlimit(resource).maximum,
        };
        prlimit(Some(self.process()), resource, new).unwrap();
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
            is_idle = now.descriptors == before.descriptors && now.threads <= IDLE_THREADS;
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

impl Drop for Helper {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.stderr();
            let start = log.lines().count().saturating_sub(20);
            let last: Vec<_> = log.lines().skip(start).collect();
            eprintln!("the last lines of the helper's log:\n{}", last.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
