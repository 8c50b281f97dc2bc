//! The nested guest's serial console as a way to run commands in it: both ends of the protocol.
//!
//! The host's side sends a line; the guest's init runs it and prints what it prints, and then a mark
//! with the exit status.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The rest of the nested guest's init. The first mark says that it is ready.
pub(crate) const GUEST_SCRIPT: &str = "\
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
while [ ! -b /dev/sda ]; do sleep 0.1; done
echo '@@exit 0'
while read -r line; do
    sh -c \"$line\"
    echo \"@@exit $?\"
done
";

const MARK: &str = "@@exit ";

/// The near end of the console.
pub(crate) struct Console<W> {
    input: W,
    lines: Receiver<String>,
}

impl<W: Write> Console<W> {
    /// Takes what leads to the guest and what comes from it.
    pub(crate) fn new(input: W, output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        // A read cannot be given a time limit, a channel can. The thread ends with the guest.
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { input, lines }
    }

    /// Runs a command line: its exit status, and what it printed.
    pub(crate) fn run(&mut self, line: &str, limit: Duration) -> Result<(i32, String)> {
        self.send(line)?;
        self.answer(limit)
    }

    /// Sends a command line that is not answered, because it ends the guest.
    pub(crate) fn send(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}")
            .and_then(|()| self.input.flush())
            .context("the guest's console takes no input")
    }

    /// Waits for the next mark: the exit status in it, and what came before.
    pub(crate) fn answer(&self, limit: Duration) -> Result<(i32, String)> {
        let end = Instant::now() + limit;
        let mut output = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                // What was printed last need not have ended its line.
                Ok(line) => match line.split_once(MARK) {
                    Some((rest, code)) => {
                        let code = code.parse().with_context(|| format!("odd mark: {line}"))?;
                        return Ok((code, output + rest));
                    }
                    None => output += &(line + "\n"),
                },
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no answer in {} s, but:\n{output}", limit.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the guest has gone, its last words:\n{output}")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn an_answer_is_what_comes_before_the_mark() {
        let output = &b"noise\r\n@@exit 0\none\ntwo\n@@exit 24\nno line end@@exit 1\n"[..];
        let mut sent = Vec::new();
        let mut console = Console::new(&mut sent, output);
        assert_eq!(console.answer(LIMIT).unwrap(), (0, "noise\n".to_owned()));
        assert_eq!(
            console.run("first", LIMIT).unwrap(),
            (24, "one\ntwo\n".to_owned())
        );
        assert_eq!(
            console.run("second", LIMIT).unwrap(),
            (1, "no line end".to_owned())
        );
        let gone = console.answer(LIMIT).unwrap_err().to_string();
        assert!(gone.contains("has gone"), "{gone}");
        assert_eq!(sent, b"first\nsecond\n");
    }
}
