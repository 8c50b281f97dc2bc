// SPDX-License-Identifier: MIT OR Apache-2.0

//! A minimal service manager, like systemd with `Restart=always`: it holds the listening socket,
//! passes it to the helper, and restarts the helper when it exits.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use pr_testkit::HelperProcess;
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::helper::SOCKET;
use pr_testkit::process::poll;

const STDERR: &str = "/run/supervised.stderr";

/// Maximum time until a helper exits and the next one runs.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The helper as a service with a socket that is always open.
pub(super) struct Supervisor {
    service: Arc<Mutex<Service>>,
    thread: JoinHandle<Result<ExitStatus>>,
}

/// State shared between the waiting thread and the callers.
struct Service {
    /// The running helper.
    helper: Option<Pid>,
    start_count: u32,
    restart: bool,
}

impl Supervisor {
    /// Creates the socket and starts the first helper.
    pub(super) fn start(program: &Path) -> Result<Self> {
        let dir = Path::new(SOCKET).parent().context("no parent directory")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let socket =
            UnixListener::bind(SOCKET).with_context(|| format!("cannot listen on {SOCKET}"))?;
        let service = Arc::new(Mutex::new(Service {
            helper: None,
            start_count: 0,
            restart: true,
        }));
        let shared = Arc::clone(&service);
        let program = program.to_owned();
        let thread = thread::spawn(move || supervise(&shared, &socket, &program));
        Ok(Self { service, thread })
    }

    /// Returns the running helper.
    pub(super) fn helper(&self) -> Result<Pid> {
        let running = poll(TIMEOUT, || Ok(lock(&self.service).helper))?;
        running.with_context(|| format!("no helper is running: {}", helper_stderr()))
    }

    /// Ends the helper with a signal and waits for the next one.
    pub(super) fn replace(&self, signal: Signal) -> Result<()> {
        let before = self.start_count();
        kill_process(self.helper()?, signal).context("cannot signal the helper")?;
        self.wait_for_restart(before)
    }

    /// Returns the number of started helpers.
    pub(super) fn start_count(&self) -> u32 {
        lock(&self.service).start_count
    }

    /// Waits until more than `before` helpers have been started.
    pub(super) fn wait_for_restart(&self, before: u32) -> Result<()> {
        let replaced = poll(TIMEOUT, || Ok((self.start_count() > before).then_some(())))?;
        replaced.with_context(|| format!("the helper was not restarted: {}", helper_stderr()))
    }

    /// Stops the service. The last helper must exit with status 0 and must not remove the inherited
    /// socket.
    pub(super) fn stop(self) -> Result<()> {
        lock(&self.service).restart = false;
        kill_process(self.helper()?, Signal::TERM).context("cannot stop the helper")?;
        let result = self.thread.join();
        let status = result.map_err(|_| anyhow!("the supervisor thread panicked"))??;
        ensure!(
            status.success(),
            "the helper exited with {status}: {}",
            helper_stderr()
        );
        fs::remove_file(SOCKET).context("the helper removed an inherited socket")
    }
}

/// Returns the stderr of all helpers.
pub(super) fn helper_stderr() -> String {
    fs::read_to_string(STDERR).unwrap_or_else(|error| format!("({STDERR}: {error})"))
}

fn supervise(
    service: &Mutex<Service>,
    socket: &UnixListener,
    program: &Path,
) -> Result<ExitStatus> {
    loop {
        let mut helper = HelperProcess::builder(program)
            .listener(socket.try_clone()?)
            .socket(SOCKET)
            .dir("/")
            .log(STDERR)
            .spawn()?;
        {
            let mut service = lock(service);
            service.helper = Some(helper.pid());
            service.start_count += 1;
        }
        let status = helper.wait_without_timeout()?;
        let mut service = lock(service);
        service.helper = None;
        if !service.restart {
            return Ok(status);
        }
    }
}

fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}
