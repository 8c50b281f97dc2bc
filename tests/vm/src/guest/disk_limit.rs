// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of `--max-commands-per-device` on a real disk: an sg node and its disk share a limit, and
//! another path has its own.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use pr_helper_protocol::Client;
use pr_helper_protocol::wire::pad_cdb;

use super::helper::{Helper, SOCKET};
use super::lio_target::Port;
use super::strace;
use pr_testkit::process::wait_timeout;

/// Limits the helper to one command in flight for each device, and makes it serve as an
/// unprivileged user.
const ARGUMENTS: [&str; 4] = ["-u", "nobody", "--max-commands-per-device", "1"];

/// Delays each command by five seconds, so that the second one arrives while the first is in
/// flight.
const DELAY: &str = "inject=ioctl:delay_enter=5000000";

/// Timeout for a response and for the exit of `strace`.
const TIMEOUT: Duration = Duration::from_secs(60);

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];

const GOOD: u8 = 0;
const BUSY: u8 = 8;

/// Sends two commands at the same time to two nodes of one disk, and to nodes of two disks.
pub(super) fn run(program: &Path, ports: &[Port; 2]) -> Result<()> {
    let helper = Helper::start_with(program, &ARGUMENTS, &[])?;
    let mut tracer = strace::attach(helper.id(), DELAY)?;
    let [first, second] = ports;
    for (nodes, expected) in [
        ([&first.block, &first.generic], [GOOD, BUSY]),
        ([&first.generic, &first.generic], [GOOD, BUSY]),
        ([&first.block, &second.generic], [GOOD, GOOD]),
    ] {
        let statuses = send_to_both(nodes)?;
        ensure!(
            statuses == expected,
            "{nodes:?} returned the statuses {statuses:x?}"
        );
    }
    helper.stop()?;
    wait_timeout(&mut tracer, TIMEOUT)?.context("strace did not exit with the helper")?;
    println!("guest: an sg node and its disk share a limit");
    Ok(())
}

/// Sends READ KEYS to both nodes at the same time. Returns the statuses, the lower one first.
fn send_to_both(nodes: [&impl AsRef<Path>; 2]) -> Result<[u8; 2]> {
    let threads = nodes.map(|node| {
        let node = node.as_ref().to_owned();
        thread::spawn(move || send_read_keys(&node))
    });
    let results = threads.map(|thread| {
        thread
            .join()
            .map_err(|_| anyhow!("a client thread panicked"))
    });
    let [one, other] = results;
    let mut statuses = [one??, other??];
    statuses.sort_unstable();
    Ok(statuses)
}

fn send_read_keys(node: &Path) -> Result<u8> {
    let socket = UnixStream::connect(SOCKET).context("cannot connect to the helper")?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut client = Client::negotiate(socket)?;
    let file = File::options().read(true).write(true).open(node);
    let file = file.with_context(|| format!("cannot open {}", node.display()))?;
    let response = client.execute(pad_cdb(&READ_KEYS), file.as_fd(), &[])?;
    Ok(response.status.0)
}
