//! From the command line to serving, and to the end: every step, in order.

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
use crate::process::account::Account;
use crate::process::activation::{self, ActivationError};
use crate::process::created_file::{CreatedFile, Kind, Removal};
use crate::process::daemonize::{Background, DaemonizeError, Starting, daemonize};
use crate::process::notify::{self, ServiceManager};
use crate::process::pidfile::{PidFile, PidFileError};
use crate::process::privileges::{self, Identity, PrivilegeError};
use crate::process::signals::{Signals, Wake};
use crate::sandbox::{self, AllowedAccess, SandboxError};
use crate::server::listener::{ListenError, Listener, SocketFile};
use crate::server::{Server, ServerError};
use crate::trace::options::{
    self as trace_options, TraceAction, TraceBackend, TraceError, TraceSettings,
};
use crate::trace::{self, SinkError, trace};

/// How long commands in progress may take to end after a signal. libvirt waits 10 seconds before it
/// kills; what a device has not answered by then will not be answered in time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the helper does not start. `Display` says what failed, the sources say why.
#[derive(Debug, Error)]
pub enum StartError {
    /// A value of `--trace`.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Where the trace is to go.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// `-k` under socket activation.
    #[error("Unix socket can't be set when using socket activation: remove -k, or the socket unit")]
    SocketTwice,
    /// The socket of a service manager.
    #[error("socket activation failed")]
    Activation(#[from] ActivationError),
    /// The socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The folder of soft LUNs.
    #[error(transparent)]
    SoftLuns(#[from] StoreError),
    /// Going into the background.
    #[error(transparent)]
    Daemonize(#[from] DaemonizeError),
    /// The PID file.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The process for multipath maps.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Giving up privileges.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// A descriptor more.
    #[error("cannot open the folder of soft LUNs once more")]
    Descriptor(#[source] io::Error),
    /// Giving up what is not needed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The threads.
    #[error(transparent)]
    Engine(#[from] ServerError),
    /// The signals that end the helper.
    #[error("cannot block signals")]
    Signals(#[source] io::Error),
    /// Waiting for one of them.
    #[error("cannot wait for signals")]
    Wait(#[source] io::Error),
}

/// Does what the options say, until a signal ends it.
///
/// # Errors
///
/// Why it did not start; whatever was made is removed again.
pub fn run(options: &Options) -> Result<ExitCode, StartError> {
    // Before anything is opened, which could get the number of a socket that was not passed after
    // all, and before there is another process: the manager's variables name this one.
    let passed = activation::take()?;
    if passed.is_some() && options.socket.is_some() {
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
    for argument in &options.ignored {
        log::info!(
            "argument '{}' has no meaning and is ignored",
            argument.display()
        );
    }
    // A relative path is one from here, not from where a daemon is.
    let soft_luns = options.soft_luns.as_deref().map(SoftLuns::open);
    let soft_luns = soft_luns.transpose()?;
    // Before there is another process: its variables name this one.
    let manager = ServiceManager::from_env();
    let serve = |starting| serve(options, &tracing, manager, passed, soft_luns, starting);
    if !options.daemon {
        return serve(None);
    }
    match daemonize()? {
        Background::Here(starting) => serve(Some(starting)),
        Background::There(status) => Ok(ExitCode::from(status)),
    }
}

/// Serves in this process, on the socket that was `passed` if there is one. A caller in the foreground
/// is let go when `starting` is ready.
fn serve(
    options: &Options,
    tracing: &TraceSettings,
    manager: ServiceManager,
    passed: Option<OwnedFd>,
    soft_luns: Option<SoftLuns>,
    starting: Option<Starting>,
) -> Result<ExitCode, StartError> {
    // In every thread to come, so that this one can wait for them.
    let signals = Signals::block().map_err(StartError::Signals)?;
    trace::open(tracing)?;
    let (listener, socket_file) = listen(options, passed)?;
    let pid_file = options
        .pidfile()
        .map(|path| PidFile::create(&path))
        .transpose()?;
    let watchdog = manager.is_connected().then(notify::watchdog).flatten();
    // The broker is forked before anything is opened that it must not inherit.
    let patience = options.io_timeout();
    let broker = Arc::new(Broker::start(BrokerConfig {
        patience,
        is_daemon: options.daemon,
        sandbox: options.sandbox,
        has_manager: manager.is_connected(),
        files: created_files(socket_file.as_ref(), pid_file.as_ref()),
    })?);
    let mut files = RuntimeFiles::hand_over(&broker, socket_file, pid_file);
    let closer = broker.closer()?;
    let multipath = Multipath::new(Arc::clone(&broker), patience);
    let needs = needs(options, soft_luns.as_ref())?;
    let backends = Backends::new(patience, soft_luns, Some(multipath));
    raise_limits();
    // Everything that takes privileges is done, and nothing has read a client's byte yet.
    privileges::drop_all(identity(options))?;
    let engine = Arc::new(Server::new(
        listener,
        backends,
        Some(closer),
        &options.limits,
    )?);
    sandbox::enter(options.sandbox, &needs)?;
    drop(needs);
    engine.executor().check()?;
    trace::start()?;
    // Before a byte of a client is read, as the socket must be closed by then; and before the
    // caller ends, which a manager may have taken for the helper.
    manager.ready(options.daemon, engine.load());
    engine.start()?;
    if let Some(starting) = starting {
        // Then there is no standard error any more.
        trace::flush();
        starting.ready()?;
    }

    let end = wait(&signals, watchdog, &broker, &engine).map_err(StartError::Wait)?;
    log::info!("{end}: ending");
    trace!(pr_helper_stopping(end.as_str()));
    broker.send_stopping();
    files.remove_socket();
    let left = engine.stop(PATIENCE);
    trace!(pr_helper_stopped(u64::try_from(left).unwrap_or(u64::MAX)));
    if left > 0 {
        log::warn!("{left} clients get no answer: their devices have not answered either");
    }
    drop(files);
    Ok(end.exit_code())
}

/// Reason why the helper ends. `Display` is its name in the log.
#[derive(Clone, Copy, Debug)]
enum End {
    Signal(Signal),
    /// Without the broker there are no commands on multipath maps, no watchdog, and no way to start
    /// it again: whatever has started the helper starts both.
    BrokerEnded,
}

impl End {
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

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Waits for a reason to end. Meanwhile the service manager is told that the helper is alive, as
/// long as its threads and the broker are.
fn wait(
    signals: &Signals,
    watchdog: Option<Duration>,
    broker: &Broker,
    engine: &Server<Backends>,
) -> io::Result<End> {
    // As sd_watchdog_enabled(3) recommends.
    let period = watchdog.map(|limit| limit / 2);
    loop {
        match signals.wait(broker, period)? {
            Wake::Signal(signal) => return Ok(End::Signal(signal)),
            Wake::HungUp => {
                log::error!(
                    "broker ended unexpectedly: the helper ends with status 1; restart it, unless \
                     a service manager does"
                );
                return Ok(End::BrokerEnded);
            }
            Wake::Timeout if engine.beat() => {
                let load = engine.load();
                // Without a watchdog this is a process that was stopped and goes on.
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

/// Socket and PID file, which the broker removes when this is dropped.
struct RuntimeFiles {
    broker: Arc<Broker>,
    socket: Option<SocketFile>,
    pid_file: Option<PidFile>,
}

impl RuntimeFiles {
    fn hand_over(
        broker: &Arc<Broker>,
        mut socket: Option<SocketFile>,
        mut pid_file: Option<PidFile>,
    ) -> Self {
        if let Some(socket) = &mut socket {
            socket.hand_over();
        }
        if let Some(pid_file) = &mut pid_file {
            pid_file.hand_over();
        }
        Self {
            broker: Arc::clone(broker),
            socket,
            pid_file,
        }
    }

    fn remove_socket(&mut self) {
        if self.socket.take().is_some() {
            self.broker.remove(Kind::Socket);
        }
    }
}

impl Drop for RuntimeFiles {
    fn drop(&mut self) {
        self.remove_socket();
        if let Some(pid_file) = self.pid_file.take()
            && self.broker.remove(Kind::PidFile) == Removal::Failed
        {
            pid_file.empty();
        }
    }
}

/// Lists the files that this process has created, for as long as it lives.
fn created_files(
    socket: Option<&SocketFile>,
    pid_file: Option<&PidFile>,
) -> &'static [CreatedFile] {
    let socket = socket.map(SocketFile::file);
    let pid_file = pid_file.map(PidFile::created);
    socket
        .into_iter()
        .chain(pid_file)
        .cloned()
        .collect::<Vec<_>>()
        .leak()
}

/// Returns the identity to serve with: that of the command line, or else the default account.
fn identity(options: &Options) -> Identity {
    let chosen = Identity::Chosen {
        user: options.user.map(|user| user.id),
        group: options.group.or_else(|| options.user?.primary_group),
    };
    let is_chosen = options.user.is_some() || options.group.is_some();
    // The directory of soft LUNs belongs to the user that has started the helper.
    if is_chosen || options.soft_luns.is_some() || !geteuid().is_root() {
        return chosen;
    }
    Account::default_account().map_or(chosen, Identity::Default)
}

/// The socket, and its file if that is this process's to remove.
fn listen(
    options: &Options,
    passed: Option<OwnedFd>,
) -> Result<(Listener, Option<SocketFile>), StartError> {
    if let Some(socket) = passed {
        return Ok((Listener::inherit(socket)?, None));
    }
    let path = options
        .socket
        .as_deref()
        .unwrap_or_else(|| Path::new(DEFAULT_SOCKET));
    let (listener, file) = Listener::bind(path)?;
    Ok((listener, Some(file)))
}

/// Returns what stays accessible in the sandbox.
fn needs(options: &Options, soft_luns: Option<&SoftLuns>) -> Result<AllowedAccess, StartError> {
    let soft_luns = soft_luns.map(SoftLuns::folder).transpose();
    Ok(AllowedAccess {
        soft_luns: soft_luns.map_err(StartError::Descriptor)?,
        syslog: options.trace_backend.contains(&TraceBackend::Syslog),
    })
}

/// Raises the limits of this process as far as possible.
///
/// The usual soft limit of 1024 descriptors is for programs that use select(2), and it limits the
/// number of clients. The limit of processes is one for all threads of a user, so with a user for
/// all helpers a helper could take the threads of another one.
fn raise_limits() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let descriptors = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, descriptors) {
        log::info!("cannot raise the limit of file descriptors: {error}");
    }
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let maximum = getrlimit(Resource::Nproc).maximum;
    let processes = Rlimit {
        current: maximum,
        maximum,
    };
    // The hard limit can be raised by root alone.
    let raised = setrlimit(Resource::Nproc, unlimited);
    if let Err(error) = raised.or_else(|_| setrlimit(Resource::Nproc, processes)) {
        log::info!("cannot raise the limit of processes: {error}");
    }
}
