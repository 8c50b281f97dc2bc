// SPDX-License-Identifier: MIT OR Apache-2.0

//! Socket activation.

use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::client::{Client, TIMEOUT};
use crate::differences::Row;
use crate::helper::Helper;
use crate::pidfile::expect_pid;
use crate::process::{HelperCommand, wait_until};
use crate::scratch::Scratch;

/// Environments with which the socket is used.
const VALID: [(&str, &str); 6] = [
    ("one_descriptor", "LISTEN_PID=$$ LISTEN_FDS=1"),
    (
        "named_descriptor",
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=pr.socket",
    ),
    ("pid_with_zeros", "LISTEN_PID=00$$ LISTEN_FDS=1"),
    ("pid_with_plus", "LISTEN_PID=+$$ LISTEN_FDS=1"),
    ("number_with_plus", "LISTEN_PID=$$ LISTEN_FDS=+1"),
    ("number_with_blank", "LISTEN_PID=$$ LISTEN_FDS=' 1'"),
];

/// Environments that are not an activation.
const IGNORED: [(&str, &str); 14] = [
    ("other_pid", "LISTEN_PID=1 LISTEN_FDS=1"),
    ("no_pid", "LISTEN_FDS=1"),
    ("empty_pid", "LISTEN_PID= LISTEN_FDS=1"),
    ("negative_pid", "LISTEN_PID=-1 LISTEN_FDS=1"),
    ("word_as_pid", "LISTEN_PID=word LISTEN_FDS=1"),
    ("pid_with_a_letter", "LISTEN_PID=$$x LISTEN_FDS=1"),
    ("pid_with_a_blank", "LISTEN_PID=\"$$ \" LISTEN_FDS=1"),
    ("hexadecimal_pid", "LISTEN_PID=0x$$ LISTEN_FDS=1"),
    ("no_number", "LISTEN_PID=$$"),
    ("number_zero", "LISTEN_PID=$$ LISTEN_FDS=0"),
    ("empty_number", "LISTEN_PID=$$ LISTEN_FDS="),
    ("word_as_number", "LISTEN_PID=$$ LISTEN_FDS=word"),
    ("number_with_a_letter", "LISTEN_PID=$$ LISTEN_FDS=1x"),
    ("other_pid_and_bad_number", "LISTEN_PID=1 LISTEN_FDS=-5"),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, environment) in VALID {
        cases.push(Case::new(format!("{name}_is_served"), move |helper| {
            let scratch = Scratch::new()?;
            let mut running = activated_command(helper, &scratch, environment)?.start()?;
            running.client()?;
            ensure!(running.terminate()?.success());
            Ok(())
        }));
    }
    for (name, environment) in IGNORED {
        cases.push(Case::new(
            format!("{name}_is_no_activation"),
            move |helper| is_ignored(helper, environment),
        ));
    }
    cases.extend([
        Case::new("socket_stays_at_the_end", socket_stays),
        Case::new("waiting_client_is_served", waiting_client),
        Case::new("socket_option_is_rejected", socket_option),
        Case::new("relative_socket_option_is_rejected", relative_socket_option),
        Case::new("version_needs_no_socket", version),
        Case::new("pidfile_is_written", pidfile),
        Case::new("two_descriptors_are_rejected", two_descriptors),
        Case::new("closed_second_descriptor_is_rejected", closed_second),
        Case::new("closed_descriptor_is_rejected", closed_descriptor),
        Case::new("regular_file_is_rejected", regular_file),
        Case::new("network_socket", network_socket).row(Row::ActivationSocket),
        Case::new("invalid_numbers_are_not_served", invalid_numbers),
        Case::new("other_descriptors_stay_open", other_descriptors),
    ]);
    cases
}

/// Prepares a helper that has a listening socket at descriptor 3, with `environment`.
pub(crate) fn activated_command<'a>(
    helper: &'a Helper,
    scratch: &'a Scratch,
    environment: &str,
) -> Result<HelperCommand> {
    let listener = UnixListener::bind(scratch.path("given"))?;
    let command = with_descriptor(helper, scratch, listener, environment);
    Ok(command.connect_to(scratch.path("given")))
}

fn with_descriptor<'a>(
    helper: &'a Helper,
    scratch: &'a Scratch,
    descriptor: impl Into<OwnedFd>,
    environment: &str,
) -> HelperCommand {
    let pre_exec_shell = format!("exec 3<&0 0</dev/null; export {environment};");
    helper
        .command(scratch)
        .stdin(descriptor)
        .pre_exec_shell(&pre_exec_shell)
}

/// An environment with which the helper uses the socket.
pub(crate) const ACTIVATED: &str = VALID[0].1;

fn is_ignored(helper: &Helper, environment: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = activated_command(helper, &scratch, environment)?;
    let command = command.arg("-k").arg(scratch.socket());
    let mut running = command.connect_to(scratch.socket()).start()?;
    ensure!(running.terminate()?.success());
    ensure!(scratch.names()? == ["given"], "{:?}", scratch.names()?);
    Ok(())
}

fn socket_stays(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut running = activated_command(helper, &scratch, ACTIVATED)?.start()?;
    ensure!(running.terminate()?.success());
    ensure!(scratch.names()? == ["given"], "{:?}", scratch.names()?);
    Ok(())
}

/// A client can connect before the helper starts, as with socket activation.
fn waiting_client(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = activated_command(helper, &scratch, ACTIVATED)?;
    let mut client = Client::connect(&scratch.path("given"))?;
    client.send(&[0; 4])?;
    let _running = command.spawn()?;
    client.receive(4)?;
    Ok(())
}

fn socket_option(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = activated_command(helper, &scratch, ACTIVATED)?;
    let finished = command.arg("-k").arg(scratch.socket()).finish()?;
    finished.expect_failure("socket activation")?;
    ensure!(scratch.names()? == ["given"], "{:?}", scratch.names()?);
    Ok(())
}

fn relative_socket_option(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = activated_command(helper, &scratch, ACTIVATED)?;
    command
        .args(["-k", "relative"])
        .finish()?
        .expect_failure("absolute")
}

fn version(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    activated_command(helper, &scratch, ACTIVATED)?
        .arg("-V")
        .finish()?
        .expect_success()
}

fn pidfile(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let command = activated_command(helper, &scratch, ACTIVATED)?.args(["-f", "pid"]);
    let running = command.start()?;
    expect_pid(&scratch.path("pid"), &running)
}

fn two_descriptors(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let environment = "LISTEN_PID=$$ LISTEN_FDS=2; exec 4<&3";
    let finished = activated_command(helper, &scratch, environment)?.finish()?;
    finished.expect_failure("activation")
}

fn closed_second(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let environment = "LISTEN_PID=$$ LISTEN_FDS=2; exec 4<&-";
    activated_command(helper, &scratch, environment)?
        .finish()?
        .expect_failure("activation")
}

fn closed_descriptor(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let environment = "LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&-";
    activated_command(helper, &scratch, environment)?
        .finish()?
        .expect_failure("activation")
}

fn regular_file(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let file = File::create(scratch.path("file"))?;
    let command = with_descriptor(helper, &scratch, file, ACTIVATED);
    command.finish()?.expect_failure("activation")
}

/// Invalid numbers. The exact failure is not specified.
fn invalid_numbers(helper: &Helper) -> Result<()> {
    for number in ["-1", "99999999999"] {
        let scratch = Scratch::new()?;
        let environment = format!("LISTEN_PID=$$ LISTEN_FDS={number}");
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let command = with_descriptor(helper, &scratch, listener, &environment);
        let finished = command.arg("-k").arg(scratch.socket()).finish()?;
        ensure!(!finished.status.success(), "{number}: {finished:?}");
        ensure!(!finished.stderr.is_empty(), "{number}: {finished:?}");
    }
    Ok(())
}

fn other_descriptors(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let environment = format!("{ACTIVATED}; exec 7>kept");
    let running = activated_command(helper, &scratch, &environment)?.start()?;
    let link = format!("/proc/{}/fd/7", running.pid());
    wait_until("the descriptor", || {
        Ok(fs::read_link(&link)? == scratch.path("kept"))
    })
}

/// A unit with a port number instead of a path would expose the helper to the network.
fn network_socket(helper: &Helper) -> Result<()> {
    let scratch = Scratch::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let command = with_descriptor(helper, &scratch, listener, ACTIVATED);
    if helper.differs(Row::ActivationSocket) {
        return command.finish()?.expect_failure("Unix");
    }
    let _running = command.spawn()?;
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut greeting = [0xff; 4];
    client.read_exact(&mut greeting)?;
    ensure!(greeting == [0; 4]);
    Ok(())
}
