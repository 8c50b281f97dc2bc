//! A helper as a process.

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

/// How long to wait for what has to happen; a machine under load is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The threads of a helper that has had nothing to do for a while: one waits for signals, the other for clients.
const THREADS_AT_REST: usize = 2;

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Says that something was not tested, so that it is seen; and fails where nothing may be skipped.
pub(crate) fn skipped(why: &str) {
    assert!(env::var_os("PR_COMPAT_STRICT").is_none(), "skipped: {why}");
    eprintln!("faults: skipped: {why}");
}

/// A helper that serves, in a folder of its own. Killed with the value.
pub(crate) struct Helper {
    child: Child,
    folder: TempDir,
}

impl Helper {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_under(&[], arguments)
    }

    /// Started by another program, which gets the helper's command line behind its own arguments and becomes it.
    pub(crate) fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Whoever it is to be makes its socket there.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let program = env!("CARGO_BIN_EXE_qemu-pr-helper");
        let words = [wrapper, &[program], arguments].concat();
        let (first, rest) = words.split_first().unwrap();
        let child = Command::new(first)
            .args(rest)
            .arg("-k")
            .arg(folder.path().join("socket"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn();
        let mut helper = Self {
            child: child.unwrap(),
            folder,
        };
        // There is a moment in which the socket is there and nobody listens.
        let first = wait_for("the socket", || {
            let status = helper.child.try_wait().unwrap();
            assert_eq!(status, None, "{}", helper.said());
            Client::try_connect(&helper.socket()).ok()
        });
        // What is only made for the first command is not to look like something that is left behind.
        let mut first = first.greeted();
        first.is_served();
        first.leave();
        // The connection counts against the limits until a moment after its end was seen.
        thread::sleep(Duration::from_millis(50));
        helper
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The next client, which was greeted.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket()).greeted()
    }

    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.process())
    }

    /// Stops all its threads for as long as `work` takes.
    pub(crate) fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        kill_process(self.process(), Signal::STOP).unwrap();
        wait_for("the helper to be stopped", || {
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

    /// What it has written to standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(crate) fn says(&self, what: &str) {
        wait_for(what, || self.said().contains(what).then_some(()));
    }

    /// Changes the soft limit of a resource. The hard one is inherited, and stays.
    pub(crate) fn limit(&self, resource: Resource, current: u64) {
        let new = Rlimit {
            current: Some(current),
            maximum: getrlimit(resource).maximum,
        };
        prlimit(Some(self.process()), resource, new).unwrap();
    }

    /// Waits until it has as many descriptors as `before`, and no more threads than it needs at rest.
    #[track_caller]
    pub(crate) fn is_at_rest_as(&self, before: &Usage) {
        let (mut now, mut is_at_rest) = (self.usage(), false);
        let end = Instant::now() + PATIENCE;
        while !is_at_rest && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
            now = self.usage();
            is_at_rest = now.descriptors == before.descriptors && now.threads <= THREADS_AT_REST;
        }
        assert!(is_at_rest, "{now:?} at rest, {before:?} before");
    }

    /// Checks that it takes no more of a processor than a helper that has nothing to do, for a few seconds.
    #[track_caller]
    pub(crate) fn does_not_spin(&self) {
        const LOOK: Duration = Duration::from_secs(3);
        let before = self.usage().processor_time;
        thread::sleep(LOOK);
        let used = self.usage().processor_time - before;
        assert!(used < LOOK / 20, "{used:?} of a processor in {LOOK:?}");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.said();
            let from = said.lines().count().saturating_sub(20);
            let last: Vec<_> = said.lines().skip(from).collect();
            eprintln!("the last that the helper has said:\n{}", last.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
