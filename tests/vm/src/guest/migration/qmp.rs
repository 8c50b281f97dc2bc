// SPDX-License-Identifier: MIT OR Apache-2.0

//! QMP, QEMU's control protocol: lines of JSON on a Unix socket.
//!
//! Source: `docs/interop/qmp-spec.rst` of QEMU.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use pr_testkit::process::poll;

/// Maximum time until QEMU listens.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time until the next message that is waited for. A migration of 256 MiB takes seconds.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to a QEMU process.
pub(super) struct Qmp {
    socket: BufReader<UnixStream>,
    /// Events that arrived before the response of a command, in their order.
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects to a QEMU that was started just before.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let socket = poll(CONNECT_TIMEOUT, || Ok(UnixStream::connect(path).ok()))?
            .with_context(|| format!("QEMU does not listen on {}", path.display()))?;
        socket.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
        let mut qmp = Self {
            socket: BufReader::new(socket),
            events: VecDeque::new(),
        };
        let greeting = qmp.receive()?;
        ensure!(
            greeting.get("QMP").is_some(),
            "not a greeting of QMP: {greeting}"
        );
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns its result.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.socket.get_mut(), "{request}")
            .with_context(|| format!("cannot send {command} to QEMU"))?;
        loop {
            let mut message = self.receive().with_context(|| format!("after {command}"))?;
            if let Some(error) = message.get("error") {
                bail!("QEMU refused {request}: {error}");
            }
            if let Some(result) = message.get_mut("return") {
                return Ok(result.take());
            }
            self.events.push_back(message);
        }
    }

    /// Waits for an event and returns its data. Drops the events before it.
    pub(super) fn wait_event(&mut self, name: &str) -> Result<Value> {
        loop {
            let mut message = match self.events.pop_front() {
                Some(event) => event,
                None => self
                    .receive()
                    .with_context(|| format!("waiting for {name}"))?,
            };
            if message["event"] == name {
                return Ok(message["data"].take());
            }
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.socket
            .read_line(&mut line)
            .context("no message of QEMU")?;
        ensure!(!line.is_empty(), "QEMU closed the connection");
        serde_json::from_str(&line).with_context(|| format!("not a message of QMP: {line}"))
    }
}
