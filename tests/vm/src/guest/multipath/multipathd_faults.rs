// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fault cases: multipathd is not running, stopped, without a `reservation_key`, or has another
//! socket.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::commands::register;
use super::daemons::{Keys, WithoutPath};
use super::fault_fixture::{FaultFixture, KEY, NEW, UNREACHABLE};
use super::fixture::{Fault, State};

/// multipathd's socket in the abstract namespace.
const ABSTRACT_SOCKET: &str = "/org/kernel/linux/storage/multipathd";

/// Environment variable that selects another socket.
const VARIABLE: &str = "MULTIPATH_SOCKET_NAME";

const RELAY_SOCKET: &str = "/run/x.sock";

/// Runs all cases. The returned fixture has another helper.
pub(super) fn run(faults: FaultFixture<'_>) -> Result<FaultFixture<'_>> {
    let faults = not_running(faults).context("multipathd absent")?;
    let faults = stopped(faults).context("multipathd stopped")?;
    let faults = unconfigured(faults).context("multipath.conf without reservation_key")?;
    other_socket(faults).context("MULTIPATH_SOCKET_NAME")
}

fn not_running(faults: FaultFixture<'_>) -> Result<FaultFixture<'_>> {
    let mut faults = faults.restart(&[])?;
    faults.expect_good("REGISTER", &register(0, KEY))?;
    faults.fixture.multipathd.kill()?;
    faults.expect_failure(
        "multipathd absent: REGISTER",
        &register(KEY, NEW),
        UNREACHABLE,
    )?;
    faults.expect_log_line(&["registration rejected: multipathd does not answer"])?;
    faults.expect_guest_keys("multipathd absent: READ KEYS", &[KEY; 2])?;
    faults.expect_good("multipathd absent: unregister", &register(KEY, 0))?;
    faults.expect_keys(&[])?;
    faults.expect_failure(
        "multipathd absent: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    faults.expect_keys(&[])?;
    faults.fixture.multipathd.restart()?;
    faults.fixture.both_active()?;
    // multipathd still has the key, but no path is registered with it, so multipathd registers
    // none.
    let [_, failed] = &faults.fixture.paths;
    failed.fail(Fault::Disk)?;
    faults.fixture.wait_for_path(failed, State::Failed)?;
    faults.restore(failed, Fault::Disk)?;
    faults.expect_keys(&[])?;
    faults.expect_good("multipathd back: REGISTER", &register(0, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()?;
    Ok(faults)
}

fn stopped(faults: FaultFixture<'_>) -> Result<FaultFixture<'_>> {
    let mut faults = faults.restart(&[])?;
    faults.fixture.multipathd.freeze()?;
    faults.expect_failure(
        "multipathd stopped: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    faults.expect_log_line(&["registration rejected: multipathd does not answer"])?;
    faults.fixture.multipathd.thaw()?;
    faults.expect_keys(&[])?;
    faults.expect_good("multipathd continued: REGISTER", &register(0, KEY))?;
    faults.fixture.multipathd.freeze()?;
    faults.expect_good("multipathd stopped: unregister", &register(KEY, 0))?;
    faults.fixture.multipathd.thaw()?;
    faults.expect_keys(&[])?;
    faults.clean()?;
    Ok(faults)
}

fn unconfigured(faults: FaultFixture<'_>) -> Result<FaultFixture<'_>> {
    let mut faults = faults.restart(&[])?;
    faults
        .fixture
        .multipathd
        .configure(Keys::None, WithoutPath::Fail)?;
    faults.expect_failure(
        "no reservation_key in multipath.conf: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    faults.expect_log_line(&[
        "registration rejected",
        "'reservation_key file'",
        "multipath.conf",
    ])?;
    faults.expect_keys(&[])?;
    faults
        .fixture
        .multipathd
        .configure(Keys::InFile, WithoutPath::Fail)?;
    faults.expect_good("reservation_key file: REGISTER", &register(0, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()?;
    Ok(faults)
}

fn other_socket(faults: FaultFixture<'_>) -> Result<FaultFixture<'_>> {
    let count = relay().context("cannot create the relay to multipathd")?;
    let mut faults = faults.restart(&[(VARIABLE, RELAY_SOCKET)])?;
    faults.expect_good("socket named by its path: REGISTER", &register(0, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()?;
    let count = count.load(Ordering::Relaxed);
    ensure!(count > 0, "{RELAY_SOCKET} had no connection");
    println!("guest: {count} commands to multipathd used {RELAY_SOCKET}");

    let abstract_name = format!("@{ABSTRACT_SOCKET}");
    let mut faults = faults.restart(&[(VARIABLE, &abstract_name)])?;
    faults.expect_good("abstract socket named: REGISTER", &register(0, KEY))?;
    faults.expect_keys(&[KEY; 2])?;
    faults.clean()?;

    let mut faults = faults.restart(&[(VARIABLE, "@/no/such/multipathd")])?;
    faults.expect_failure(
        "wrong socket named: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    faults.expect_log_line(&["multipathd", "@/no/such/multipathd"])?;
    faults.expect_keys(&[])?;
    faults.restart(&[])
}

/// Creates a socket with a path and relays its connections to multipathd. Returns the connection
/// counter.
fn relay() -> Result<Arc<AtomicUsize>> {
    let listener = UnixListener::bind(RELAY_SOCKET)?;
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    // The thread runs until the machine ends.
    thread::spawn(move || -> io::Result<()> {
        loop {
            let (client, _) = listener.accept()?;
            counter.fetch_add(1, Ordering::Relaxed);
            let address = SocketAddr::from_abstract_name(ABSTRACT_SOCKET)?;
            let daemon = UnixStream::connect_addr(&address)?;
            let there = (client.try_clone()?, daemon.try_clone()?);
            thread::spawn(move || copy(there.0, there.1));
            thread::spawn(move || copy(daemon, client));
        }
    });
    Ok(count)
}

/// Copies bytes until the end of the stream, and shuts down the other side.
fn copy(mut from: UnixStream, mut to: UnixStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(std::net::Shutdown::Write)
}
