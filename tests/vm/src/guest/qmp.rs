// SPDX-License-Identifier: MIT OR Apache-2.0

//! QMP, QEMU's control protocol: lines of JSON on a socket.
//!
//! Source: `docs/interop/qmp-spec.rst` of QEMU.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use pr_testkit::process::poll;

/// Maximum time until QEMU listens.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time until QEMU answers a command.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum time until a query has the result that is waited for. A migration of 256 MiB takes
/// seconds.
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to a QEMU process.
pub(super) struct Qmp<S> {
    socket: BufReader<S>,
}

impl Qmp<UnixStream> {
    /// Connects to a QEMU that was started just before.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let socket = poll(CONNECT_TIMEOUT, || Ok(UnixStream::connect(path).ok()))?
            .with_context(|| format!("QEMU does not listen on {}", path.display()))?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Self::new(socket)
    }
}

impl<S: Read + Write> Qmp<S> {
    /// Starts the protocol on a connection.
    pub(super) fn new(socket: S) -> Result<Self> {
        let mut qmp = Self {
            socket: BufReader::new(socket),
        };
        let greeting = qmp.receive()?;
        ensure!(
            greeting.get("QMP").is_some(),
            "not a greeting of QMP: {greeting}"
        );
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns its result. Drops the events before it.
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
        }
    }

    /// Repeats a query until `is_awaited` accepts its result, and returns the result.
    pub(super) fn query_until(
        &mut self,
        query: &str,
        is_awaited: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut result = Value::Null;
        poll(QUERY_TIMEOUT, || {
            result = self.execute(query, &json!({}))?;
            Ok(is_awaited(&result).then_some(()))
        })?
        .with_context(|| format!("the result of {query} is {result} after {QUERY_TIMEOUT:?}"))?;
        Ok(result)
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
