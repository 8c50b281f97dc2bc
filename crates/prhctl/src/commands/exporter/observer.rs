// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads the states of the helpers repeatedly, and names the helpers.

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;

use super::metrics::{Sample, Snapshot};
use crate::console::Console;
use crate::error::AdvisedError as _;
use crate::state::{DEFAULT_TIMEOUT, HelperState, read_states};

/// Reads the states of the helpers.
#[derive(Debug)]
pub(super) struct Observer {
    console: Console,
    /// Helpers with a state socket that were found the last time, by process ID.
    known: BTreeMap<u32, Known>,
}

/// Properties of a helper that do not depend on whether it sends its state now.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    read_errors: u64,
    is_failing: bool,
}

impl Known {
    fn new(pid: u32) -> Self {
        Known {
            name: format!("process {pid}"),
            read_errors: 0,
            is_failing: false,
        }
    }
}

impl Observer {
    pub(super) const fn new(console: Console) -> Self {
        Observer {
            console,
            known: BTreeMap::new(),
        }
    }

    /// Reads the states of all helpers. An error is printed when a helper begins to fail.
    pub(super) fn read(&mut self) -> Snapshot {
        self.observe(read_states(Path::new("/proc"), DEFAULT_TIMEOUT))
    }

    fn observe(&mut self, states: Vec<HelperState>) -> Snapshot {
        let processes = states.len();
        let mut known = mem::take(&mut self.known);
        let mut documents = Vec::new();
        for HelperState { process, state } in states {
            // QEMU's own helper has no state.
            if process.state_socket.is_none() {
                continue;
            }
            let entry = known.remove(&process.pid);
            let mut entry = entry.unwrap_or_else(|| Known::new(process.pid));
            if let Err(error) = &state {
                if !entry.is_failing {
                    self.console.error(&error.to_string(), &error.advice());
                }
                entry.read_errors += 1;
            }
            entry.is_failing = state.is_err();
            let document = state.ok();
            let socket = document
                .as_ref()
                .and_then(|document| document.helper.socket.as_ref());
            if let Some(socket) = socket {
                entry.name.clone_from(socket);
            }
            self.known.insert(process.pid, entry);
            documents.push((process.pid, document));
        }
        let helpers = documents.into_iter().filter_map(|(pid, document)| {
            let known = self.known.get(&pid)?;
            Some(Sample {
                name: self.unique_name(pid, known),
                document,
                read_errors: known.read_errors,
            })
        });
        Snapshot {
            processes,
            helpers: helpers.collect(),
        }
    }

    /// Returns the name of a helper, with the process ID if another helper has the same one, in
    /// another mount namespace.
    fn unique_name(&self, pid: u32, known: &Known) -> String {
        let same = self.known.values().filter(|other| other.name == known.name);
        match same.count() {
            1 => known.name.clone(),
            _ => format!("{} (process {pid})", known.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Color;
    use crate::running_helpers::HelperProcess;
    use crate::state_fixture::document;
    use pr_testkit::fake_proc::FakeProcess;
    use pr_testkit::fake_proc::FakeSocket::Listening;
    use std::path::PathBuf;

    fn observer() -> Observer {
        Observer::new(Console::new(Color::Never))
    }

    /// Returns a helper that listens on `socket`, if that is known.
    fn responding(pid: u32, socket: Option<&str>) -> HelperState {
        let mut document = document();
        document.helper.socket = socket.map(str::to_owned);
        HelperState {
            process: HelperProcess {
                pid,
                dir: PathBuf::new(),
                sockets: Vec::new(),
                state_socket: Some(helper_state::socket_name(pid)),
            },
            state: Ok(document),
        }
    }

    /// Returns a helper without a listener on its state socket.
    fn failing(pid: u32) -> HelperState {
        let proc = tempfile::tempdir().unwrap();
        let socket = format!("@{}", helper_state::socket_name(pid));
        let process = FakeProcess {
            pid,
            name: "qemu-pr-helper",
            root: Path::new("/"),
            open: 50,
            sockets: &[Listening(51, Path::new(&socket))],
        };
        process.create(proc.path());
        let mut states = read_states(proc.path(), DEFAULT_TIMEOUT);
        assert!(states[0].state.is_err(), "{states:?}");
        states.remove(0)
    }

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        let helpers = snapshot.helpers.iter();
        helpers.map(|helper| helper.name.as_str()).collect()
    }

    #[test]
    fn helpers_are_named_by_their_sockets() {
        let snapshot = observer().observe(vec![
            responding(8, Some("/run/a")),
            responding(9, Some("/run/b")),
            responding(10, Some("/run/a")),
            responding(11, None),
        ]);
        let expected = [
            "/run/a (process 8)",
            "/run/b",
            "/run/a (process 10)",
            "process 11",
        ];
        assert_eq!(names(&snapshot), expected);
    }

    /// No process has an ID above 2^22, so no process listens on the names.
    #[test]
    fn failing_helper_keeps_its_name() {
        let mut observer = observer();
        let pid = 4_200_000_001;
        observer.observe(vec![responding(pid, Some("/run/a"))]);
        for errors in 1..3 {
            let snapshot = observer.observe(vec![failing(pid), failing(pid + 1)]);
            assert_eq!(names(&snapshot), ["/run/a", "process 4200000002"]);
            let helper = &snapshot.helpers[0];
            assert_eq!((helper.read_errors, &helper.document), (errors, &None));
        }
        let snapshot = observer.observe(vec![responding(pid, Some("/run/a"))]);
        assert_eq!(snapshot.helpers[0].read_errors, 2);
        // Another process has the same ID later.
        observer.observe(Vec::new());
        let snapshot = observer.observe(vec![failing(pid)]);
        assert_eq!(names(&snapshot), ["process 4200000001"]);
        assert_eq!(snapshot.helpers[0].read_errors, 1);
    }

    #[test]
    fn helper_without_a_state_socket_is_counted_only() {
        let mut other = responding(9, None);
        other.process.state_socket = None;
        let snapshot = observer().observe(vec![responding(8, None), other]);
        assert_eq!(snapshot.processes, 2);
        assert_eq!(names(&snapshot), ["process 8"]);
    }
}
