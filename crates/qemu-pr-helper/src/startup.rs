//! From the command line to serving, and to the end: every step, in order.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use soft_lun::store::StoreError;
use thiserror::Error;

use crate::activation::{self, ActivationError};
use crate::backend::Backends;
use crate::backend::multipath::Multipath;
use crate::backend::multipath::broker::{Broker, BrokerError, Settings};
use crate::backend::soft_lun::SoftLuns;
use crate::daemonize::{Background, DaemonizeError, Starting, daemonize};
use crate::engine::{Engine, EngineError};
use crate::listener::{ListenError, Listener, SocketFile};
use crate::notify::Manager;
use crate::options::{DEFAULT_SOCKET, Options};
use crate::pidfile::{PidFile, PidFileError};
use crate::privileges::{self, PrivilegeError};
use crate::sandbox::{self, Needs, SandboxError};
use crate::signals::Signals;
use crate::trace::options::{self as trace_options, Next, Settings as TraceSettings, TraceError};
use crate::trace::{self, Backend, SinkError, trace};

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
    Engine(#[from] EngineError),
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
        crate::print(&trace::definitions::text());
        return Ok(ExitCode::SUCCESS);
    }
    let tracing = trace_options::apply(
        &options.trace,
        &options.trace_backend,
        options.trace_timestamp,
    )?;
    let tracing = match tracing {
        Next::Start(settings) => settings,
        Next::ListEvents => {
            crate::print(&trace_options::listing());
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
    // Its variables name this process too.
    let manager = Manager::of_environment();
    let serve = |starting| serve(options, &tracing, &manager, passed, soft_luns, starting);
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
    manager: &Manager,
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
    // Of what comes after this, the broker has nothing.
    let patience = options.io_timeout();
    let broker = Broker::start(Settings {
        patience,
        is_daemon: options.daemon,
        sandbox: options.sandbox,
    })?;
    let multipath = Multipath::new(broker, patience);
    let needs = needs(options, soft_luns.as_ref(), socket_file.as_ref())?;
    let backends = Backends::new(patience, soft_luns, Some(multipath));
    raise_descriptor_limit();
    // Everything that takes privileges is done, and nothing has read a client's byte yet.
    let user = options.user.map(|user| user.id);
    let group = options.group.or_else(|| options.user?.primary_group);
    privileges::drop_all(user, group)?;
    let engine = Arc::new(Engine::new(listener, backends, None, &options.limits)?);
    sandbox::enter(options.sandbox, &needs)?;
    drop(needs);
    engine.executor().check()?;
    trace::start()?;
    engine.start()?;
    // Before the caller ends, which a manager may have taken for the helper.
    manager.ready(options.daemon, engine.status());
    if let Some(starting) = starting {
        // Then there is no standard error any more.
        trace::flush();
        starting.ready()?;
    }

    let signal = wait(&signals, manager, &engine).map_err(StartError::Wait)?;
    log::info!("{signal}: ending");
    trace!(pr_helper_stopping(signal.as_str()));
    manager.stopping("waiting for commands in progress");
    drop(socket_file);
    let left = engine.stop(PATIENCE);
    trace!(pr_helper_stopped(u64::try_from(left).unwrap_or(u64::MAX)));
    if left > 0 {
        log::warn!("{left} clients get no answer: their devices have not answered either");
    }
    drop(pid_file);
    Ok(ExitCode::SUCCESS)
}

/// Waits for the signal that ends the helper. Meanwhile the service manager hears that the helper is alive, as
/// long as its threads are.
fn wait(signals: &Signals, manager: &Manager, engine: &Engine<Backends>) -> io::Result<Signal> {
    // As sd_watchdog_enabled(3) recommends.
    let period = manager.watchdog().map(|limit| limit / 2);
    loop {
        if let Some(signal) = signals.wait(period)? {
            return Ok(signal);
        }
        if engine.beat() {
            manager.alive(engine.status());
        } else {
            log::error!("no thread takes notice of anything any more");
        }
    }
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

/// What the sandbox is to leave.
fn needs(
    options: &Options,
    soft_luns: Option<&SoftLuns>,
    socket: Option<&SocketFile>,
) -> Result<Needs, StartError> {
    let socket = socket.map(|file| file.path().to_owned());
    let soft_luns = soft_luns.map(SoftLuns::folder).transpose();
    Ok(Needs {
        soft_luns: soft_luns.map_err(StartError::Descriptor)?,
        removed: socket.into_iter().chain(options.pidfile()).collect(),
        syslog: options.trace_backend.contains(&Backend::Syslog),
    })
}

/// Lets this process have as many descriptors as it may. The usual soft limit of 1024 is for programs
/// that use select(2), and it limits how many clients there can be.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::info!("cannot raise the limit of file descriptors: {error}");
    }
}
