// SPDX-License-Identifier: MIT OR Apache-2.0

//! Start of the helper, from the command line to serving, and its shutdown: every step, in order.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::error_chain;
use cli_messages::error::system_error;
use nix::sys::signal::Signal;
use rustix::process::{Resource, Rlimit, Uid, geteuid, getrlimit, setrlimit};
use soft_lun::store::StoreError;
use thiserror::Error;

use crate::backend::Backends;
use crate::backend::soft_lun::SoftLuns;
use crate::cli::{DEFAULT_SOCKET, Options};
use crate::logging;
use crate::monitor::Monitor;
use crate::monitor::journal::{Journal, JournalError};
use crate::monitor::state_socket::StateSocket;
use crate::multipath::Multipath;
use crate::multipath::broker::{Broker, BrokerConfig};
use crate::names::Names;
use crate::process::created_file::{CreatedFile, Removal};
use crate::process::daemonize::{ForkSide, ReadyPipe, daemonize};
use crate::process::pidfile::PidFile;
use crate::process::privileges::{self, Identity};
use crate::process::signals::{Signals, Wake};
use crate::process::systemd::{self, ServiceManager};
use crate::sandbox::{self, AllowedAccess};
use crate::server::Server;
use crate::server::listener::{ListenError, Listener};
use crate::trace::options::{self as trace_options, TraceAction, TraceBackend, TraceSettings};
use crate::trace::{self, trace};

/// Time for commands in flight to complete after a signal. It is shorter than the 10 seconds after
/// which libvirt kills the helper.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of a step that has no error type of its own.
#[derive(Debug, Error)]
enum StepError {
    #[error(
        "cannot run in the background: {}; check the limits of processes, open files and memory, \
         or start without -d",
        system_error(.0)
    )]
    Daemonize(io::Error),
    #[error(
        "cannot block signals: {}; check the limits of open files and memory",
        system_error(.0)
    )]
    BlockSignals(io::Error),
    #[error(
        "cannot duplicate the descriptor of the soft LUNs: {}; check the limit of open files",
        system_error(.0)
    )]
    DuplicateSoftLuns(io::Error),
    #[error(
        "cannot start a thread: {}; check the limits of processes and memory",
        system_error(.0)
    )]
    StartThread(io::Error),
    #[error(
        "cannot wait for signals: {}; restart the helper, unless a service manager does",
        system_error(.0)
    )]
    WaitForSignals(io::Error),
}

/// Error of the directory of soft LUNs.
#[derive(Debug, Error)]
#[error("--soft-luns: {}; create the directory, or name another one", error_chain(.0))]
struct SoftLunsError(StoreError);

/// Runs the helper with `options` until a signal ends it. Removes all created files on failure.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    // First, because a file that is opened before could get the number of a socket that was not
    // passed, and because the variables of the service manager name this process, not a daemon.
    let inherited_socket = systemd::inherited_socket()?;
    if inherited_socket.is_some() && options.socket.is_some() {
        return Err("-k conflicts with socket activation: remove -k, or the socket unit".into());
    }
    if options.trace_events {
        crate::print_stdout(&trace::trace_events_file::definitions());
        return Ok(ExitCode::SUCCESS);
    }
    let tracing = trace_options::apply(
        &options.trace,
        &options.trace_backend,
        options.trace_timestamp,
    )?;
    let tracing = match tracing {
        TraceAction::Start(settings) => settings,
        TraceAction::ListEvents => {
            crate::print_stdout(&trace_options::event_names());
            return Ok(ExitCode::SUCCESS);
        }
    };
    for argument in &options.positional {
        // QEMU's helper ignores it silently, and listens on the default socket.
        log::warn!(
            "argument '{}' ignored: it belongs to no option; -k names the socket",
            argument.display()
        );
    }
    // Before daemonize(), which changes the directory that a relative path starts from.
    let soft_luns = options.soft_luns.as_deref().map(SoftLuns::open);
    let soft_luns = soft_luns.transpose().map_err(SoftLunsError)?;
    // Before daemonize(), because the variables name this process.
    let manager = ServiceManager::from_env();
    let ready_pipe = match options.daemon.then(daemonize).transpose() {
        Ok(None) => None,
        Ok(Some(ForkSide::Daemon(ready_pipe))) => Some(ready_pipe),
        Ok(Some(ForkSide::Parent(status))) => return Ok(status.into()),
        Err(error) => return Err(StepError::Daemonize(error).into()),
    };
    serve(
        options,
        &tracing,
        manager,
        inherited_socket,
        soft_luns,
        ready_pipe,
    )
}

/// Serves clients in this process until a signal or the end of the broker. The parent of a daemon
/// exits when it reads from `ready_pipe`.
fn serve(
    options: &Options,
    tracing: &TraceSettings,
    manager: ServiceManager,
    inherited_socket: Option<OwnedFd>,
    soft_luns: Option<SoftLuns>,
    ready_pipe: Option<ReadyPipe>,
) -> Result<ExitCode, Box<dyn Error>> {
    // First, because threads inherit the blocked signals, which only this thread receives.
    let signals = Signals::block().map_err(StepError::BlockSignals)?;
    trace::open(tracing)?;
    // These are declared before `files`, so that a failed start removes the socket's file before it
    // closes the socket. Otherwise another helper could replace it in between, with the same inode
    // number.
    let server: Arc<Server<Backends>>;
    let listener;
    let mut files = RuntimeFiles::default();
    // Locked before the socket exists: a failed start must not replace a socket, and libvirt takes
    // the socket's file for a successful start. Written after the socket exists, as QEMU's helper
    // does, so that a program that reads the file can connect.
    let pid_file = options.pidfile().map(|path| PidFile::create(&path));
    files.pid_file = pid_file.transpose()?;
    (listener, files.socket) = match inherited_socket {
        Some(socket) => (Listener::inherit(socket)?, None),
        None => bind(options)?,
    };
    // Before the sandbox, which forbids the query.
    let notice = listening_notice(&listener, files.socket.as_ref());
    let observation = Observation::prepare(options, listener.name())?;
    if let Some(pid_file) = &mut files.pid_file {
        pid_file.write()?;
    }
    let watchdog = manager.watchdog_timeout();
    // The broker is forked before this process opens anything that the broker must not inherit.
    let broker = Arc::new(Broker::start(BrokerConfig {
        command_timeout: options.io_timeout(),
        is_daemon: options.daemon,
        sandbox: options.sandbox,
        has_manager: manager.is_connected(),
        files: files.list(),
    })?);
    files.broker = Some(Arc::clone(&broker));
    let closer = broker.closer()?;
    let (backends, access) = create_backends(options, soft_luns, &broker)?;
    raise_limits();
    // Every step that requires privileges is done, and no byte of a client has been read.
    privileges::drop_all(identity(options))?;
    let own_user = geteuid();
    server = Arc::new(Server::new(
        listener,
        backends,
        Some(closer),
        &observation.monitor,
        &options.limits,
    )?);
    sandbox::enter(options.sandbox, &access)?;
    drop(access);
    server.executor().check()?;
    trace::start()?;
    observation
        .start(&server, own_user)
        .map_err(StepError::StartThread)?;
    // Before the server starts, because this closes the socket of the service manager; and before
    // the parent exits, which the service manager can take for the main process.
    manager.ready(options.daemon, server.load());
    server.start()?;
    logging::notice(&notice);
    if let Some(ready_pipe) = ready_pipe {
        // Standard error is closed after this.
        trace::flush();
        ready_pipe.ready().map_err(StepError::Daemonize)?;
    }
    let signal = run_until_signal(&signals, watchdog, &broker, &server)
        .map_err(StepError::WaitForSignals)?;
    Ok(shut_down(signal, &server, &broker, files))
}

/// Creates the backends. Returns them with the access that they need in the sandbox.
fn create_backends(
    options: &Options,
    soft_luns: Option<SoftLuns>,
    broker: &Arc<Broker>,
) -> Result<(Backends, AllowedAccess), StepError> {
    let soft_lun_dir = soft_luns.as_ref().map(SoftLuns::try_clone_fd).transpose();
    let access = AllowedAccess {
        soft_luns: soft_lun_dir.map_err(StepError::DuplicateSoftLuns)?,
        syslog: options.trace_backend.contains(&TraceBackend::Syslog),
    };
    let timeout = options.io_timeout();
    let multipath = Multipath::new(Arc::clone(broker), timeout, options.reject_exclusive_types);
    let backends = Backends::new(timeout, soft_luns, Some(multipath));
    let names = Names::new(Arc::<Broker>::clone(broker));
    Ok((backends.with_names(names), access))
}

/// Returns the line that says where the helper listens.
fn listening_notice(listener: &Listener, file: Option<&CreatedFile>) -> String {
    match file {
        Some(file) => format!("listening on {}", file.path.display()),
        None => format!(
            "listening on {}, the socket of the service manager",
            listener.name()
        ),
    }
}

/// Event journal and state, which the operator reads.
struct Observation {
    monitor: Arc<Monitor>,
    /// `None` if the socket cannot be bound. The helper works without it.
    state_socket: Option<StateSocket>,
    /// Name of the socket that clients connect to.
    socket_name: String,
}

impl Observation {
    /// Opens the journal and the state socket, for which the sandbox leaves no permissions.
    fn prepare(options: &Options, socket_name: String) -> Result<Self, JournalError> {
        let journal = Journal::open(&options.journal)?;
        let users = options.state_user.iter().map(|user| user.id.as_raw());
        let state_socket = StateSocket::bind(users.collect()).inspect_err(|error| {
            log::warn!(
                "state not available to prhctl: cannot bind the state socket: {}",
                system_error(error)
            );
        });
        Ok(Self {
            monitor: Arc::new(Monitor::new(journal, options.same_lun)),
            state_socket: state_socket.ok(),
            socket_name,
        })
    }

    /// Starts the threads that resolve names, and write the journal and the state documents.
    fn start(self, server: &Arc<Server<Backends>>, own_user: Uid) -> io::Result<()> {
        self.monitor.start(server.executor().start_names())?;
        let server = Arc::clone(server);
        let maps = move || server.executor().map_states();
        match self.state_socket {
            Some(socket) => socket.start(own_user, self.monitor, self.socket_name, maps),
            None => Ok(()),
        }
    }
}

/// Creates the socket at the path that the command line names, or at the default path.
fn bind(options: &Options) -> Result<(Listener, Option<CreatedFile>), ListenError> {
    let path = options.socket.as_deref();
    let path = path.unwrap_or_else(|| DEFAULT_SOCKET.as_ref());
    let (listener, file) = Listener::bind(path)?;
    Ok((listener, Some(file)))
}

/// Stops the server, within [`SHUTDOWN_TIMEOUT`], and removes the created files. Returns the exit
/// status, which is 1 without a signal.
fn shut_down(
    signal: Option<Signal>,
    server: &Arc<Server<Backends>>,
    broker: &Broker,
    mut files: RuntimeFiles,
) -> ExitCode {
    let reason = signal.map_or("broker ended", Signal::as_str);
    log::info!("{reason}: shutting down");
    trace!(pr_helper_stopping(reason));
    broker.send_stopping();
    files.remove_socket();
    let unanswered = server.shutdown(SHUTDOWN_TIMEOUT);
    let count = u64::try_from(unanswered).unwrap_or(u64::MAX);
    trace!(pr_helper_stopped(count));
    if unanswered > 0 {
        log::warn!("{unanswered} commands still in flight after 5 s; their clients get no reply");
    }
    ExitCode::from(u8::from(signal.is_none()))
}

/// Waits for a signal. Meanwhile the broker sends watchdog messages, as long as the threads of the
/// server and the broker work.
///
/// Returns `None` if the broker has ended. Without it, the helper has no commands on multipath maps
/// and no watchdog, and it cannot start another broker. The service manager restarts both.
fn run_until_signal(
    signals: &Signals,
    watchdog: Option<Duration>,
    broker: &Broker,
    server: &Server<Backends>,
) -> io::Result<Option<Signal>> {
    // Half the timeout, as sd_watchdog_enabled(3) recommends.
    let period = watchdog.map(|timeout| timeout / 2);
    loop {
        match signals.wait(broker, period)? {
            Wake::Signal(signal) => return Ok(Some(signal)),
            Wake::HungUp => {
                log::error!(
                    "broker ended unexpectedly: the helper exits with status 1; restart it, unless \
                     a service manager does"
                );
                return Ok(None);
            }
            Wake::Timeout if server.heartbeat() => {
                let load = server.load();
                // Without a watchdog, the process was stopped and continues.
                if period.is_some() {
                    broker.send_alive(load.clients, load.commands);
                }
            }
            Wake::Timeout if period.is_some() => {
                log::error!(
                    "no worker thread has responded since the last heartbeat; skipping the \
                     watchdog message"
                );
            }
            Wake::Timeout => {}
        }
    }
}

/// Socket and PID file. Removed on drop: by the broker, or by this process before it runs.
#[derive(Default)]
struct RuntimeFiles {
    socket: Option<CreatedFile>,
    pid_file: Option<PidFile>,
    broker: Option<Arc<Broker>>,
}

impl RuntimeFiles {
    /// Returns the files that this process has created, for the rest of its life.
    fn list(&self) -> &'static [CreatedFile] {
        let pid_file = self.pid_file.as_ref().map(PidFile::created);
        let files = self.socket.iter().chain(pid_file).cloned();
        files.collect::<Vec<_>>().leak()
    }

    fn remove(&self, file: &CreatedFile) -> Removal {
        match &self.broker {
            Some(broker) => broker.remove(file.kind),
            None => file.remove(),
        }
    }

    fn remove_socket(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.remove(&socket);
        }
    }
}

impl Drop for RuntimeFiles {
    fn drop(&mut self) {
        self.remove_socket();
        if let Some(pid_file) = self.pid_file.take() {
            pid_file.remove_with(|file| self.remove(file));
        }
    }
}

/// Returns the identity to serve with: that of the command line, or else the default account.
fn identity(options: &Options) -> Identity {
    let chosen = Identity {
        user: options.user.map(|user| user.id),
        group: options.group.or_else(|| options.user?.primary_group),
        is_required: options.user.is_some() || options.group.is_some(),
    };
    // The directory of soft LUNs belongs to the user that started the helper.
    if chosen.is_required || options.soft_luns.is_some() || !geteuid().is_root() {
        return chosen;
    }
    Identity::default_account().unwrap_or(chosen)
}

/// Raises the limits of this process as far as possible.
///
/// The usual soft limit of 1024 descriptors is for programs that use select(2), and it would limit
/// the number of clients. The limit of processes counts the threads of all processes of a user, so
/// helpers with the same user would take threads from each other.
fn raise_limits() {
    let raise = |resource, limit| {
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        setrlimit(resource, limit)
    };
    let hard_limit = |resource| getrlimit(resource).maximum;
    if let Err(error) = raise(Resource::Nofile, hard_limit(Resource::Nofile)) {
        log::info!("cannot raise the limit of file descriptors: {error}");
    }
    // Only root can raise a hard limit.
    let raised = raise(Resource::Nproc, None);
    if let Err(error) = raised.or_else(|_| raise(Resource::Nproc, hard_limit(Resource::Nproc))) {
        log::info!("cannot raise the limit of processes: {error}");
    }
}
