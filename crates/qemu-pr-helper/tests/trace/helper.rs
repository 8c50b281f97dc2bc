// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper process and its clients.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, thread};

use pr_helper_protocol::Response;
use pr_helper_protocol::wire::pad_cdb;
use pr_testkit::cdb::PrCommand;
use pr_testkit::client::null;
use pr_testkit::helper::Builder;
use pr_testkit::{HelperProcess, TestClient};

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_qemu-pr-helper");

/// Creates a builder of a helper that runs in `dir`, with its socket there.
pub(crate) fn builder(dir: &Path) -> Builder {
    HelperProcess::builder(HELPER).dir(dir)
}

/// Returns the standard output of the helper with this argument.
pub(crate) fn helper_output(argument: &str) -> String {
    let output = Command::new(HELPER).arg(argument).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// A running helper, which numbers its clients.
pub(crate) struct Helper {
    process: HelperProcess,
    connected: AtomicU64,
}

impl Deref for Helper {
    type Target = HelperProcess;

    fn deref(&self) -> &HelperProcess {
        &self.process
    }
}

impl DerefMut for Helper {
    fn deref_mut(&mut self) -> &mut HelperProcess {
        &mut self.process
    }
}

impl Helper {
    /// Starts a helper. Client 1 has disconnected.
    pub(crate) fn start(builder: Builder) -> Self {
        Self {
            process: builder.start().unwrap(),
            connected: AtomicU64::new(1),
        }
    }

    /// Returns the process ID as in traces.
    pub(crate) fn id(&self) -> u32 {
        self.pid().as_raw_nonzero().get().try_into().unwrap()
    }

    /// Connects the next client. The helper numbers clients in the order of these calls.
    pub(crate) fn connect(&self) -> Client {
        Client {
            connection: self.client(),
            number: self.connected.fetch_add(1, Ordering::SeqCst) + 1,
        }
    }

    /// Returns the number of clients so far.
    pub(crate) fn connected(&self) -> u64 {
        self.connected.load(Ordering::SeqCst)
    }

    /// Returns the log without the line about the socket and the warning about the missing
    /// capability.
    pub(crate) fn log(&self) -> String {
        let text = self.stderr();
        let lines = text.split_inclusive('\n');
        lines
            .filter(|line| !line.contains("no CAP_SYS_RAWIO"))
            .filter(|line| !line.contains(": listening on "))
            .collect()
    }
}

/// A client that has negotiated.
pub(crate) struct Client {
    connection: TestClient,
    /// Number of the client in the log of the helper.
    pub(crate) number: u64,
}

impl Client {
    pub(crate) fn execute(&mut self, request: &Request, devices: &Devices) -> Response {
        self.try_execute(request, devices).unwrap()
    }

    pub(crate) fn try_execute(
        &mut self,
        request: &Request,
        devices: &Devices,
    ) -> io::Result<Response> {
        let device = match request.is_read_only {
            true => &devices.read_only,
            false => &devices.writable,
        };
        self.connection.try_execute(&request.command(), device)
    }

    /// Disconnects and waits until the helper has closed the connection.
    pub(crate) fn disconnect(self) {
        self.connection.disconnect();
    }
}

/// File descriptors of `/dev/null`, a device without reservations.
pub(crate) struct Devices {
    read_only: File,
    writable: File,
}

impl Devices {
    pub(crate) fn open() -> Self {
        Self {
            read_only: File::open("/dev/null").unwrap(),
            writable: null(),
        }
    }
}

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) opcode: u8,
    pub(crate) action: u8,
    pub(crate) scope_type: u8,
    pub(crate) length: u16,
    /// The two keys in the parameter list of PERSISTENT RESERVE OUT.
    pub(crate) keys: [u64; 2],
    pub(crate) is_read_only: bool,
}

pub(crate) const IN: u8 = 0x5e;
pub(crate) const OUT: u8 = 0x5f;

impl Request {
    /// Returns the request number `index` of a client. The four kinds of requests take turns, and
    /// keys and lengths tell apart requests that are close to each other.
    pub(crate) fn nth(client: u64, index: u64) -> Self {
        let request = Self {
            opcode: OUT,
            action: 0,
            scope_type: 0,
            length: 24,
            keys: [client << 32 | index, !index],
            is_read_only: false,
        };
        let request_in = Self {
            opcode: IN,
            length: 8 + u16::try_from(index % 8000).unwrap(),
            keys: [0; 2],
            ..request
        };
        match index % 4 {
            0 => request_in,
            1 => request,
            2 => Self {
                action: 2,
                ..request_in
            },
            // RESERVE, write exclusive, through a read-only descriptor.
            _ => Self {
                action: 1,
                scope_type: 1,
                is_read_only: true,
                ..request
            },
        }
    }

    fn command(&self) -> PrCommand {
        let [high, low] = self.length.to_be_bytes();
        let (action, scope_type) = (self.action, self.scope_type);
        let [key, action_key] = self.keys;
        let mut parameter_list = Vec::new();
        if self.opcode == OUT {
            parameter_list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
            parameter_list.resize(usize::from(self.length), 0);
        }
        PrCommand {
            cdb: pad_cdb(&[self.opcode, action, scope_type, 0, 0, 0, 0, high, low, 0]),
            parameter_list,
        }
    }
}

/// Runs a number of concurrent clients, each with a number of requests. Returns the number of the
/// first client.
pub(crate) fn run_load(helper: &Helper, clients: u64, requests: u64) -> u64 {
    let clients: Vec<_> = (0..clients).map(|_| helper.connect()).collect();
    let first = clients.first().unwrap().number;
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                let devices = Devices::open();
                for index in 0..requests {
                    let request = Request::nth(client.number, index);
                    let answer = client.execute(&request, &devices);
                    assert_eq!(answer.status.0, 2, "CHECK CONDITION");
                }
                client.disconnect();
            });
        }
    });
    first
}
