//! Start of the helper, from the command line to serving, and its shutdown: every step, in order.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use soft_lun::store::StoreError;
use thiserror::Error;

use crate::backend::Backends;
use crate::backend::soft_lun::SoftLuns;
use crate::cli::{DEFAULT_SOCKET, Options};
use crate::multipath::Multipath;
use crate::multipath::broker::{Broker, BrokerConfig, BrokerError};
use crate::process::created_file::{CreatedFile, Removal};
use crate::process::daemonize::{DaemonizeError, ForkSide, ReadyPipe, daemonize};
use crate::process::pidfile::{PidFile, PidFileError};
use crate::process::privileges::{self, Identity, PrivilegeError};
use crate::process::signals::{Signals, Wake};
use crate::process::systemd::{self, ActivationError, ServiceManager};
use crate::sandbox::{self, AllowedAccess, SandboxError};
use crate::server::listener::{ListenError, Listener};
use crate::server::{Server, ServerError};
use crate::trace::options::{
    self as trace_options, TraceAction, TraceBackend, TraceError, TraceSettings,
};
use crate::trace::{self, SinkError, trace};

/// Time for commands in flight to complete after a signal. It is shorter than the 10 seconds after
/// which libvirt kills the helper.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Error that keeps the helper from starting or from waiting for signals.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("Unix socket can't be set when using socket activation: remove -k, or the socket unit")]
    SocketTwice,
    #[error("socket activation failed")]
    Activation(#[from] ActivationError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    SoftLuns(#[from] StoreError),
    #[error(transparent)]
    Daemonize(#[from] DaemonizeError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error("cannot duplicate the descriptor of the soft LUN directory")]
    SoftLunDescriptor(#[source] io::Error),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("cannot block signals")]
    Signals(#[source] io::Error),
    #[error("cannot wait for signals")]
    Wait(#[source] io::Error),
}

/// Runs the helper with `options` until a signal ends it. On failure, all created files are removed.
pub(crate) fn run(options: &Options) -> Result<ExitCode, StartError> {
    // First, because a file that is opened before could get the number of a socket that was not
    // passed, and because the variables of the service manager name this process, not a daemon.
    let inherited_socket = systemd::inherited_socket()?;
    if inherited_socket.is_some() && options.socket.is_some() {
        return Err(StartError::SocketTwice);
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
        log::info!(
            "argument '{}' ignored: it has no meaning",
            argument.display()
        );
    }
    // Before daemonize(), which changes the directory that a relative path starts from.
    let soft_luns = options.soft_luns.as_deref().map(SoftLuns::open);
    let soft_luns = soft_luns.transpose()?;
    // Before daemonize(), because the variables name this process.
    let manager = ServiceManager::from_env();
    let serve = |ready_pipe| {
        serve(
            options,
            &tracing,
            manager,
            inherited_socket,
            soft_luns,
            ready_pipe,
        )
    };
    if !options.daemon {
        return serve(None);
    }
    match daemonize()? {
        ForkSide::Daemon(ready_pipe) => serve(Some(ready_pipe)),
        ForkSide::Parent(status) => Ok(ExitCode::from(status)),
    }
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
) -> Result<ExitCode, StartError> {
    // First, because threads inherit the blocked signals, which only this thread receives.
    let signals = Signals::block().map_err(StartError::Signals)?;
    trace::open(tracing)?;
    let mut files = RuntimeFiles::default();
    let listener = match inherited_socket {
        Some(socket) => Listener::inherit(socket)?,
        None => {
            let path = options.socket.as_deref();
            let (listener, file) = Listener::bind(path.unwrap_or(Path::new(DEFAULT_SOCKET)))?;
            files.socket = Some(file);
            listener
        }
    };
    let pid_file = options.pidfile().map(|path| PidFile::create(&path));
    files.pid_file = pid_file.transpose()?;
    let watchdog = manager
        .is_connected()
        .then(systemd::watchdog_timeout)
        .flatten();
    // The broker is forked before this process opens anything that the broker must not inherit.
    let io_timeout = options.io_timeout();
    let broker = Arc::new(Broker::start(BrokerConfig {
        patience: io_timeout,
        is_daemon: options.daemon,
        sandbox: options.sandbox,
        has_manager: manager.is_connected(),
        files: files.list(),
    })?);
    files.broker = Some(Arc::clone(&broker));
    let closer = broker.closer()?;
    let multipath = Multipath::new(Arc::clone(&broker), io_timeout);
    let access = sandbox_access(options, soft_luns.as_ref())?;
    let backends = Backends::new(io_timeout, soft_luns, Some(multipath));
    raise_limits();
    // Every step that requires privileges is done, and no byte of a client has been read.
    privileges::drop_all(identity(options))?;
    let server = Server::new(listener, backends, Some(closer), &options.limits)?;
    let server = Arc::new(server);
    sandbox::enter(options.sandbox, &access)?;
    drop(access);
    server.executor().check()?;
    trace::start()?;
    // Before the server starts, because this closes the socket of the service manager; and before
    // the parent exits, which the service manager can take for the main process.
    manager.ready(options.daemon, server.load());
    server.start()?;
    if let Some(ready_pipe) = ready_pipe {
        // Standard error is closed after this.
        trace::flush();
        ready_pipe.ready()?;
    }
    let reason = run_until_signal(&signals, watchdog, &broker, &server);
    let reason = reason.map_err(StartError::Wait)?;
    shut_down(reason, &server, &broker, files);
    Ok(reason.exit_code())
}

/// Stops the server, within [`SHUTDOWN_TIMEOUT`], and removes the created files.
fn shut_down(
    reason: ExitReason,
    server: &Arc<Server<Backends>>,
    broker: &Broker,
    mut files: RuntimeFiles,
) {
    log::info!("{reason}: shutting down");
    trace!(pr_helper_stopping(reason.as_str()));
    broker.send_stopping();
    files.remove_socket();
    let unanswered = server.stop(SHUTDOWN_TIMEOUT);
    trace!(pr_helper_stopped(
        u64::try_from(unanswered).unwrap_or(u64::MAX)
    ));
    if unanswered > 0 {
        let timeout = SHUTDOWN_TIMEOUT.as_secs();
        log::warn!(
            "{unanswered} clients get no reply: no answer from their devices in {timeout} s"
        );
    }
}

/// Reason why the helper exits. `Display` is its name in the log.
#[derive(Clone, Copy, Debug)]
enum ExitReason {
    Signal(Signal),
    /// Without the broker, the helper has no commands on multipath maps and no watchdog, and it
    /// cannot start another broker. The service manager restarts both.
    BrokerEnded,
}

impl ExitReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Signal(signal) => signal.as_str(),
            Self::BrokerEnded => "broker ended",
        }
    }

    fn exit_code(self) -> ExitCode {
        match self {
            Self::Signal(_) => ExitCode::SUCCESS,
            Self::BrokerEnded => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Waits for a reason to exit. Meanwhile has the broker send watchdog messages, as long as the
/// threads of the server and the broker work.
fn run_until_signal(
    signals: &Signals,
    watchdog: Option<Duration>,
    broker: &Broker,
    server: &Server<Backends>,
) -> io::Result<ExitReason> {
    // Half the timeout, as sd_watchdog_enabled(3) recommends.
    let period = watchdog.map(|timeout| timeout / 2);
    loop {
        match signals.wait(broker, period)? {
            Wake::Signal(signal) => return Ok(ExitReason::Signal(signal)),
            Wake::HungUp => {
                log::error!(
                    "broker ended unexpectedly: the helper exits with status 1; restart it, unless \
                     a service manager does"
                );
                return Ok(ExitReason::BrokerEnded);
            }
            Wake::Timeout if server.beat() => {
                let load = server.load();
                // Without a watchdog, the process was stopped and continues.
                if period.is_some() {
                    broker.send_alive(load.clients, load.commands);
                }
            }
            Wake::Timeout => {
                log::error!("worker threads missed the heartbeat: no watchdog message is sent");
            }
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
            Some(broker) => broker.remove(file.kind()),
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

/// Returns the access that the sandbox leaves because of the options.
fn sandbox_access(
    options: &Options,
    soft_luns: Option<&SoftLuns>,
) -> Result<AllowedAccess, StartError> {
    let soft_luns = soft_luns.map(SoftLuns::folder).transpose();
    Ok(AllowedAccess {
        soft_luns: soft_luns.map_err(StartError::SoftLunDescriptor)?,
        syslog: options.trace_backend.contains(&Backend::Syslog),
    })
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
