// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs of the host that checks ask, with a time limit.

use std::io::{self, ErrorKind, Read as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cli_messages::error::system_error;

/// Time limit for a program.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a program of this host, and returns what it has printed, or the reason why it cannot be
/// used.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => format!("the program {program} is not installed"),
        _ => format!("cannot run {program}: {}", system_error(&error)),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    let outputs = (child.stdout.take(), child.stderr.take());
    thread::spawn(move || {
        let (mut text, mut errors) = (Vec::new(), Vec::new());
        // Messages of these programs fit into a pipe.
        let read = outputs
            .0
            .map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut text));
        let errors_read = outputs
            .1
            .map_or(Ok(0), |mut stderr| stderr.read_to_end(&mut errors));
        // The receiver has gone after the time limit.
        let _ = sender.send(read.and(errors_read).map(|_| (text, errors)));
    });
    let Ok(read) = receiver.recv_timeout(TIMEOUT) else {
        // An error means that the program has exited.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!(
            "{program} did not end within {} s",
            TIMEOUT.as_secs()
        ));
    };
    let status = child.wait().map_err(failed)?;
    let (text, errors) = read.map_err(failed)?;
    let errors = String::from_utf8_lossy(&errors);
    match errors.trim().lines().next() {
        Some(first) if !status.success() => Err(format!("{program}: {first}")),
        _ => Ok(String::from_utf8_lossy(&text).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_or_reason_is_returned() {
        assert_eq!(run("echo", &["a", "b"]).unwrap(), "a b\n");
        assert_eq!(run("false", &[]).unwrap(), "");
        let missing = run("no-such-program", &[]).unwrap_err();
        assert_eq!(missing, "the program no-such-program is not installed");
        let failed = run("sh", &["-c", "echo reason >&2; exit 1"]).unwrap_err();
        assert_eq!(failed, "sh: reason");
    }
}
