//! Fault cases: multipathd is absent, stopped, not configured for it, or somewhere else.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::commands::register;
use super::daemons::{Keys, WithoutPath};
use super::lab::{KEY, Lab, NEW, UNREACHABLE};
use super::stage::{Fault, State};

/// Where multipathd listens, in the abstract namespace.
const ABSTRACT: &str = "/org/kernel/linux/storage/multipathd";

/// What names another socket.
const VARIABLE: &str = "MULTIPATH_SOCKET_NAME";

const RELAY: &str = "/run/x.sock";

/// All of them. The helper that comes back is another one.
pub(super) fn run(lab: Lab<'_>) -> Result<Lab<'_>> {
    let lab = absent(lab).context("multipathd absent")?;
    let lab = stopped(lab).context("multipathd stopped")?;
    let lab = unconfigured(lab).context("multipath.conf without reservation_key")?;
    elsewhere(lab).context("MULTIPATH_SOCKET_NAME")
}

fn absent(lab: Lab<'_>) -> Result<Lab<'_>> {
    let mut lab = lab.restart(&[])?;
    lab.done("REGISTER", &register(0, KEY))?;
    lab.stage.multipathd.kill()?;
    lab.refused(
        "multipathd absent: REGISTER",
        &register(KEY, NEW),
        UNREACHABLE,
    )?;
    lab.said_once(&["registration rejected: multipathd does not answer"])?;
    lab.sees("multipathd absent: READ KEYS", &[KEY; 2])?;
    lab.done("multipathd absent: unregister", &register(KEY, 0))?;
    lab.keys(&[])?;
    lab.refused(
        "multipathd absent: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    lab.keys(&[])?;
    lab.stage.multipathd.start_again()?;
    lab.stage.both_active()?;
    // It remembers the key. Nobody is registered with it, and so it registers nobody.
    let [_, leaves] = &lab.stage.routes;
    leaves.cut(Fault::Disk)?;
    lab.stage.wait_for_path(leaves, State::Failed)?;
    lab.mend(leaves, Fault::Disk)?;
    lab.keys(&[])?;
    lab.done("multipathd back: REGISTER", &register(0, KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()?;
    Ok(lab)
}

fn stopped(lab: Lab<'_>) -> Result<Lab<'_>> {
    let mut lab = lab.restart(&[])?;
    lab.stage.multipathd.freeze()?;
    lab.refused(
        "multipathd stopped: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    lab.said_once(&["registration rejected: multipathd does not answer"])?;
    lab.stage.multipathd.thaw()?;
    lab.keys(&[])?;
    lab.done("multipathd goes on: REGISTER", &register(0, KEY))?;
    lab.stage.multipathd.freeze()?;
    lab.done("multipathd stopped: unregister", &register(KEY, 0))?;
    lab.stage.multipathd.thaw()?;
    lab.keys(&[])?;
    lab.clean()?;
    Ok(lab)
}

fn unconfigured(lab: Lab<'_>) -> Result<Lab<'_>> {
    let mut lab = lab.restart(&[])?;
    lab.stage
        .multipathd
        .configure(Keys::Nowhere, WithoutPath::Fail)?;
    lab.refused(
        "no reservation_key in multipath.conf: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    lab.said_once(&[
        "registration rejected",
        "'reservation_key file'",
        "multipath.conf",
    ])?;
    lab.keys(&[])?;
    lab.stage
        .multipathd
        .configure(Keys::InFile, WithoutPath::Fail)?;
    lab.done("reservation_key file: REGISTER", &register(0, KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()?;
    Ok(lab)
}

fn elsewhere(lab: Lab<'_>) -> Result<Lab<'_>> {
    let passed = relay().context("cannot make a socket that leads to multipathd")?;
    let mut lab = lab.restart(&[(VARIABLE, RELAY)])?;
    lab.done("socket named by its path: REGISTER", &register(0, KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()?;
    let passed = passed.load(Ordering::Relaxed);
    ensure!(passed > 0, "nobody came by {RELAY}");
    println!("guest: {passed} commands to multipathd came by {RELAY}");

    let right = format!("@{ABSTRACT}");
    let mut lab = lab.restart(&[(VARIABLE, &right)])?;
    lab.done("abstract socket named: REGISTER", &register(0, KEY))?;
    lab.keys(&[KEY; 2])?;
    lab.clean()?;

    let mut lab = lab.restart(&[(VARIABLE, "@/no/such/multipathd")])?;
    lab.refused(
        "wrong socket named: REGISTER",
        &register(0, KEY),
        UNREACHABLE,
    )?;
    lab.said_once(&["multipathd", "@/no/such/multipathd"])?;
    lab.keys(&[])?;
    lab.restart(&[])
}

/// Makes a socket with a path, and passes everything on to multipathd and back. Gives the number of
/// connections so far.
fn relay() -> Result<Arc<AtomicUsize>> {
    let listener = UnixListener::bind(RELAY)?;
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    // It ends with the machine.
    thread::spawn(move || -> io::Result<()> {
        loop {
            let (client, _) = listener.accept()?;
            counter.fetch_add(1, Ordering::Relaxed);
            let address = SocketAddr::from_abstract_name(ABSTRACT)?;
            let daemon = UnixStream::connect_addr(&address)?;
            let there = (client.try_clone()?, daemon.try_clone()?);
            thread::spawn(move || pass(there.0, there.1));
            thread::spawn(move || pass(daemon, client));
        }
    });
    Ok(count)
}

/// Passes bytes on until there are no more, and says so.
fn pass(mut from: UnixStream, mut to: UnixStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(std::net::Shutdown::Write)
}
