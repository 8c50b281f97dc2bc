//! A service manager in small, as systemd is with `Restart=always`: it holds the socket, hands it to the helper, and
//! starts the helper anew whenever that ends.
//!
//! Source: `sd_listen_fds(3)`.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::helper::SOCKET;
use crate::process::poll;

/// The shell makes the socket, its standard input, descriptor 3. It alone knows its number, which stays the helper's.
const HAND_OVER: &str = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$; \
    export LISTEN_FDS LISTEN_PID; exec \"$0\"";

const COMPLAINTS: &str = "/run/supervised.stderr";

/// How long a helper may take to end, and the next one to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// The helper as a service whose socket is always open.
pub(super) struct Supervisor {
    service: Arc<Mutex<Service>>,
    thread: JoinHandle<Result<ExitStatus>>,
}

/// What the thread that waits for the helper shares with who kills it.
struct Service {
    /// The one that runs, if one does.
    helper: Option<Pid>,
    starts: u32,
    is_wanted: bool,
}

impl Supervisor {
    /// Makes the socket and starts the first helper.
    pub(super) fn start(program: &Path) -> Result<Self> {
        let folder = Path::new(SOCKET).parent().context("no folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let socket =
            UnixListener::bind(SOCKET).with_context(|| format!("cannot listen on {SOCKET}"))?;
        let service = Arc::new(Mutex::new(Service {
            helper: None,
            starts: 0,
            is_wanted: true,
        }));
        let shared = Arc::clone(&service);
        let program = program.to_owned();
        let thread = thread::spawn(move || supervise(&shared, &socket.into(), &program));
        Ok(Self { service, thread })
    }

    /// The helper that runs.
    pub(super) fn helper(&self) -> Result<Pid> {
        let running = poll(PATIENCE, || Ok(lock(&self.service).helper))?;
        running.with_context(|| format!("no helper runs: {}", complaints()))
    }

    /// Ends the helper by a signal, and waits until there is another one.
    pub(super) fn replace(&self, signal: Signal) -> Result<()> {
        let before = self.starts();
        kill_process(self.helper()?, signal).context("cannot signal the helper")?;
        self.wait_for_another(before)
    }

    /// How many helpers have been started.
    pub(super) fn starts(&self) -> u32 {
        lock(&self.service).starts
    }

    /// Waits until more helpers have been started than there were.
    pub(super) fn wait_for_another(&self, before: u32) -> Result<()> {
        let replaced = poll(PATIENCE, || Ok((self.starts() > before).then_some(())))?;
        replaced.with_context(|| format!("there is no other helper: {}", complaints()))
    }

    /// Ends the service. The last helper ends with status 0, and leaves the socket to whom it belongs.
    pub(super) fn stop(self) -> Result<()> {
        lock(&self.service).is_wanted = false;
        kill_process(self.helper()?, Signal::TERM).context("cannot stop the helper")?;
        let end = self.thread.join();
        let status = end.map_err(|_| anyhow!("the supervisor panicked"))??;
        ensure!(
            status.success(),
            "the helper ended with {status}: {}",
            complaints()
        );
        fs::remove_file(SOCKET).context("the helper has removed a socket that is not its own")
    }
}

/// What the helpers have said.
pub(super) fn complaints() -> String {
    fs::read_to_string(COMPLAINTS).unwrap_or_else(|error| format!("({COMPLAINTS}: {error})"))
}

fn supervise(service: &Mutex<Service>, socket: &OwnedFd, program: &Path) -> Result<ExitStatus> {
    loop {
        let mut helper = launch(socket, program)?;
        {
            let mut service = lock(service);
            service.helper = Some(Pid::from_child(&helper));
            service.starts += 1;
        }
        let status = helper.wait().context("cannot wait for the helper")?;
        let mut service = lock(service);
        service.helper = None;
        if !service.is_wanted {
            return Ok(status);
        }
    }
}

fn launch(socket: &OwnedFd, program: &Path) -> Result<Child> {
    let complaints = File::options().create(true).append(true).open(COMPLAINTS);
    Command::new("sh")
        .args(["-c", HAND_OVER])
        .arg(program)
        .stdin(Stdio::from(socket.try_clone()?))
        .stderr(complaints.with_context(|| format!("cannot open {COMPLAINTS}"))?)
        .spawn()
        .context("cannot start sh")
}

fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}
