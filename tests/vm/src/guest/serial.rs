// SPDX-License-Identifier: MIT OR Apache-2.0

//! Command execution in the nested guest over its serial console: both ends of the protocol.
//!
//! The machine sends a line; the guest's init executes it, prints its output, and then a marker
//! with the exit status.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::heartbeat;

/// The last part of the nested guest's init: the heartbeat, and the commands. The first marker
/// means that it is ready.
pub(crate) const GUEST_SCRIPT: &str = "\
while echo; do sleep 1; done >/dev/ttyS1 &
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
while [ ! -b /dev/sda ]; do sleep 0.1; done
echo '@@exit 0'
while read -r line; do
    sh -c \"$line\"
    echo \"@@exit $?\"
done
";

const MARKER: &str = "@@exit ";

/// The machine's end of the console.
pub(crate) struct Console<W> {
    input: W,
    lines: Receiver<String>,
    /// File with the guest's heartbeats; a machine has none here.
    heartbeat: Option<PathBuf>,
}

impl<W: Write> Console<W> {
    /// Creates a console from both directions of the serial line, for a guest with this file of
    /// heartbeats.
    pub(crate) fn new(
        input: W,
        output: impl Read + Send + 'static,
        heartbeat: Option<PathBuf>,
    ) -> Self {
        let (sender, lines) = channel();
        // A channel has receive timeouts, which a blocking read has not. The thread ends with the
        // guest.
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            input,
            lines,
            heartbeat,
        }
    }

    /// Runs a command line; returns its exit status and output.
    pub(crate) fn run(&mut self, line: &str, limit: Duration) -> Result<(i32, String)> {
        self.send(line)?;
        self.read_result(limit)
    }

    /// Sends a command line that ends the guest, so that no result follows.
    pub(crate) fn send(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}")
            .and_then(|()| self.input.flush())
            .context("cannot write to the guest's console")
    }

    /// Waits for the next marker; returns its exit status and the output before it.
    pub(crate) fn read_result(&self, limit: Duration) -> Result<(i32, String)> {
        let end = Instant::now() + limit;
        let mut output = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                // The last line of the output need not end with a newline.
                Ok(line) => match line.split_once(MARKER) {
                    Some((rest, code)) => {
                        let code = code
                            .parse()
                            .with_context(|| format!("invalid marker: {line}"))?;
                        return Ok((code, output + rest));
                    }
                    None => output += &(line + "\n"),
                },
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(heartbeat) = &self.heartbeat {
                        heartbeat::check_nested(heartbeat)?;
                    }
                    bail!("timed out after {} s; output:\n{output}", limit.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the guest exited; its last output:\n{output}")
                }
            }
        }
    }
}

/// The other end, for a machine that executes requests itself. Sends a first result, which means
/// that it is ready, and returns at the end of the input.
pub(crate) fn serve(
    input: impl Read,
    mut output: impl Write,
    mut execute: impl FnMut(&str) -> Result<String>,
) -> Result<()> {
    writeln!(output, "{MARKER}0").context("cannot send the first result")?;
    for line in BufReader::new(input).lines() {
        let (code, text) = match execute(&line.context("cannot receive a request")?) {
            Ok(text) => (0, text),
            Err(error) => (1, format!("{error:#}")),
        };
        writeln!(output, "{text}\n{MARKER}{code}").context("cannot send a result")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn result_is_the_output_before_the_marker() {
        let output = &b"noise\r\n@@exit 0\none\ntwo\n@@exit 24\nno line end@@exit 1\n"[..];
        let mut sent = Vec::new();
        let mut console = Console::new(&mut sent, output, None);
        assert_eq!(
            console.read_result(LIMIT).unwrap(),
            (0, "noise\n".to_owned())
        );
        assert_eq!(
            console.run("first", LIMIT).unwrap(),
            (24, "one\ntwo\n".to_owned())
        );
        assert_eq!(
            console.run("second", LIMIT).unwrap(),
            (1, "no line end".to_owned())
        );
        let error = console.read_result(LIMIT).unwrap_err().to_string();
        assert!(error.contains("exited"), "{error}");
        assert_eq!(sent, b"first\nsecond\n");
    }
}
