// SPDX-License-Identifier: MIT OR Apache-2.0

//! A command of a sequence: its fields, its bytes, and its representation as a line of text.
//!
//! The text can represent any bytes. A field that is missing in the text has its default value:
//!
//! ```text
//! A out 0 action_key=aaaa rest=0000000001000000
//! B out 1 scope_type=05 key=bbbb length=20
//! B in 0 length=255
//! A read
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use scsi_pr::{Cdb, OutServiceAction, ParameterList};

/// Length in bytes of a parameter list without TransportIDs.
pub(crate) const HEADER: usize = 24;

/// Flags in byte 20 of the basic parameter list.
pub(crate) const SPEC_I_PT: u8 = 0x08;
pub(crate) const ALL_TG_PT: u8 = 0x04;
pub(crate) const APTPL: u8 = 0x01;
/// A flag in byte 17 of the parameter list of REGISTER AND MOVE.
pub(crate) const UNREG: u8 = 0x02;

/// A node with its nexus. Each of the two nexuses has its own initiator port and target port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    A,
    B,
}

impl Node {
    pub(crate) const BOTH: [Node; 2] = [Node::A, Node::B];

    pub(crate) fn other(self) -> Node {
        match self {
            Node::A => Node::B,
            Node::B => Node::A,
        }
    }

    /// Returns the SAS address of the initiator port.
    pub(crate) fn address(self) -> u64 {
        0x5001_4050_0000_0000 + u64::from(self.port())
    }

    /// Returns the relative identifier of the target port.
    pub(crate) fn port(self) -> u16 {
        match self {
            Node::A => 1,
            Node::B => 2,
        }
    }
}

/// A command and its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) node: Node,
    pub(crate) command: Command,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    TestUnitReady,
    /// READ (10) of one block.
    Read,
    /// WRITE (10) of one block.
    Write,
    /// PERSISTENT RESERVE IN.
    In {
        action: u8,
        length: u16,
    },
    /// PERSISTENT RESERVE OUT.
    Out(Out),
}

/// PERSISTENT RESERVE OUT with arbitrary fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Out {
    /// SERVICE ACTION.
    pub(crate) action: u8,
    /// SCOPE and TYPE.
    pub(crate) scope_type: u8,
    /// RESERVATION KEY.
    pub(crate) key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub(crate) action_key: u64,
    /// Bytes 16 to 23 of the list, which depend on the service action.
    pub(crate) rest: [u8; 8],
    /// The bytes after the first 24.
    pub(crate) tail: Vec<u8>,
    /// PARAMETER LIST LENGTH and length of the sent list, if it is not the length of the fields
    /// above.
    pub(crate) length: Option<u16>,
}

impl Out {
    /// Returns PARAMETER LIST LENGTH.
    pub(crate) fn length(&self) -> usize {
        match self.length {
            Some(length) => length.into(),
            None => HEADER + self.tail.len(),
        }
    }

    /// Returns the parameter list, truncated or padded with zeros to its length.
    pub(crate) fn list(&self) -> Vec<u8> {
        let mut list = self.key.to_be_bytes().to_vec();
        list.extend(self.action_key.to_be_bytes());
        list.extend(self.rest);
        list.extend(&self.tail);
        list.resize(self.length(), 0);
        list
    }

    fn cdb(&self) -> Vec<u8> {
        let mut cdb = vec![0x5f, self.action, self.scope_type, 0, 0];
        cdb.extend(u32::try_from(self.length()).unwrap().to_be_bytes());
        cdb.push(0);
        cdb
    }

    /// Returns the flags of the basic parameter list.
    pub(crate) fn flags(&self) -> u8 {
        self.rest[4]
    }

    pub(crate) fn set_flags(&mut self, flags: u8) {
        self.rest[4] = flags;
    }
}

impl Command {
    pub(crate) fn cdb(&self) -> Vec<u8> {
        match self {
            Command::TestUnitReady => vec![0; 6],
            // The kernel reads the partition table at the start. Block 100 is beyond it.
            Command::Read => vec![0x28, 0, 0, 0, 0, 100, 0, 0, 1, 0],
            Command::Write => vec![0x2a, 0, 0, 0, 0, 100, 0, 0, 1, 0],
            Command::In { action, length } => {
                let [high, low] = length.to_be_bytes();
                vec![0x5e, *action, 0, 0, 0, 0, 0, high, low, 0]
            }
            Command::Out(out) => out.cdb(),
        }
    }

    /// Returns the description of the command, if it is a PERSISTENT RESERVE command.
    fn describe(&self) -> Option<String> {
        let cdb = Cdb::decode(&self.cdb()).ok()?;
        let mut description = cdb.to_string();
        if let (Command::Out(out), Cdb::Out(command)) = (self, cdb) {
            match ParameterList::decode(command.service_action, &out.list()) {
                Ok(list) => write!(description, ": {list}").ok()?,
                Err(error) => write!(description, ": {error}").ok()?,
            }
        }
        Some(description)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.node)?;
        match &self.command {
            Command::TestUnitReady => f.write_str("test")?,
            Command::Read => f.write_str("read")?,
            Command::Write => f.write_str("write")?,
            Command::In { action, length } => write!(f, "in {action} length={length}")?,
            Command::Out(out) => out.fmt(f)?,
        }
        match self.command.describe() {
            Some(description) => write!(f, " # {description}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out {}", self.action)?;
        if self.scope_type != 0 {
            write!(f, " scope_type={:02x}", self.scope_type)?;
        }
        for (name, key) in [("key", self.key), ("action_key", self.action_key)] {
            if key != 0 {
                write!(f, " {name}={key:x}")?;
            }
        }
        if self.rest != [0; 8] {
            write!(f, " rest={}", hex(&self.rest))?;
        }
        if !self.tail.is_empty() {
            write!(f, " tail={}", hex(&self.tail))?;
        }
        match self.length {
            Some(length) => write!(f, " length={length}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words = line.split('#').next().unwrap_or_default();
        let mut words = words.split_whitespace();
        let node = match words.next() {
            Some("A") => Node::A,
            Some("B") => Node::B,
            _ => bail!("no nexus: {line}"),
        };
        let command = match words
            .next()
            .with_context(|| format!("no command: {line}"))?
        {
            "test" => Command::TestUnitReady,
            "read" => Command::Read,
            "write" => Command::Write,
            kind => {
                let action = words.next().context("no service action")?.parse()?;
                let mut fields = fields(words)?;
                let command = match kind {
                    "in" => Command::In {
                        action,
                        length: fields.remove("length").context("no length")?.parse()?,
                    },
                    "out" => Command::Out(Out::parse(action, &mut fields)?),
                    _ => bail!("no command: {line}"),
                };
                ensure!(fields.is_empty(), "unknown {fields:?}: {line}");
                return Ok(Step { node, command });
            }
        };
        ensure!(words.next().is_none(), "too much: {line}");
        Ok(Step { node, command })
    }
}

impl Out {
    fn parse(action: u8, fields: &mut BTreeMap<&str, &str>) -> Result<Self> {
        let mut number = |name| match fields.remove(name) {
            Some(digits) => u64::from_str_radix(digits, 16).context("no number"),
            None => Ok(0),
        };
        let scope_type = number("scope_type")?.try_into()?;
        let (key, action_key) = (number("key")?, number("action_key")?);
        let rest = match fields.remove("rest") {
            Some(rest) => bytes(rest)?.try_into().ok().context("not 8 bytes")?,
            None => [0; 8],
        };
        Ok(Out {
            action,
            scope_type,
            key,
            action_key,
            rest,
            tail: fields.remove("tail").map_or(Ok(Vec::new()), bytes)?,
            length: fields.remove("length").map(str::parse).transpose()?,
        })
    }
}

/// Parses words of the form `name=value`.
fn fields<'a>(words: impl Iterator<Item = &'a str>) -> Result<BTreeMap<&'a str, &'a str>> {
    words
        .map(|word| {
            word.split_once('=')
                .with_context(|| format!("not name=value: {word}"))
        })
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn bytes(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2), "half a byte: {text}");
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?))
        .collect()
}

/// Creates a command with the basic parameter list.
pub(crate) fn basic_out(action: OutServiceAction, key: u64, action_key: u64) -> Out {
    Out {
        action: action.code(),
        key,
        action_key,
        ..Out::default()
    }
}
