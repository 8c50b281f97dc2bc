// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of client processes in the log, and the process that resolves them.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};

use pr_testkit::procfs::{children, only_child, status};
use pr_testkit::{HelperProcess, TEST_TIMEOUT, TestClient, eventually};
use rustix::process::{Pid, Signal, kill_process};

/// Time that the thread of the helper waits for a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Variable with the socket of the helper for [`client_process`].
const CLIENT_OF: &str = "PR_NAMES_CLIENT_OF";

/// Variable that makes [`client_process`] connect until it is killed.
const REPEAT: &str = "PR_NAMES_REPEAT";

fn start() -> HelperProcess {
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper.arg("-v").start().unwrap()
}

/// Returns a command that runs [`client_process`] as a program with this name.
fn client(socket: &Path, program: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .arg0(program)
        .args(["--exact", "client_process"])
        .env(CLIENT_OF, socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Client of another test, in a process of its own.
#[test]
fn client_process() {
    let Some(socket) = env::var_os(CLIENT_OF) else {
        return;
    };
    loop {
        let mut client = TestClient::connect(Path::new(&socket)).handshake();
        client.assert_served();
        client.disconnect();
        if env::var_os(REPEAT).is_none() {
            return;
        }
    }
}

/// Connects until the log of the helper contains `text`.
fn connect_until_logged(helper: &HelperProcess, text: &str) {
    eventually(&format!("{text:?} in the log"), || {
        let mut client = helper.client();
        client.assert_served();
        client.disconnect();
        helper.stderr().contains(text).then_some(())
    });
}

/// Makes the processes that resolve names hang before they answer, until the result is dropped.
fn hang_resolvers(broker: Pid) -> KillOnDrop {
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(["-e", "inject=alarm:delay_enter=60000000"])
        .arg(format!("--attach={broker}"))
        .stdin(Stdio::null())
        .spawn();
    let strace = KillOnDrop(strace.unwrap());
    eventually("strace", || {
        (status(broker, "TracerPid") != "0").then_some(())
    });
    strace
}

/// Returns the process that resolves names, which hangs.
fn resolver(broker: Pid) -> Pid {
    eventually("a resolver", || {
        let mut children = children(broker).into_iter();
        // A process has the broker's name until it sets its own.
        children.find(|child| status(*child, "Name") == "pr-names")
    })
}

#[test]
fn client_has_the_name_of_its_program() {
    let helper = start();
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    let text = format!("({}, pid {}, uid ", name.trim(), process::id());
    connect_until_logged(&helper, &text);
}

#[test]
fn virtual_machine_has_its_name() {
    let helper = start();
    let mut qemu = client(helper.socket(), "qemu-system-x86_64");
    let qemu = qemu.args(["--", "-name", "guest=web-1\n,debug-threads=on"]);
    let qemu = KillOnDrop(qemu.env(REPEAT, "1").spawn().unwrap());
    // The name is not that of a line.
    helper.wait_for_log(&format!("(web-1\\n, pid {}, uid ", qemu.0.id()));
}

#[test]
fn resolver_has_no_capabilities() {
    let helper = start();
    // The name of this process is resolved already.
    let broker = only_child(helper.pid());
    let _strace = hang_resolvers(broker);
    let _client = client(helper.socket(), "client").output().unwrap();
    let resolver = resolver(broker);
    eventually("a resolver without capabilities", || {
        let sets = ["CapInh", "CapPrm", "CapEff", "CapAmb"];
        let is_empty = |set| status(resolver, set) == "0".repeat(16);
        sets.into_iter().all(is_empty).then_some(())
    });
    assert_eq!(status(resolver, "NoNewPrivs"), "1");
    assert_eq!(status(resolver, "Seccomp"), "2");
}

/// Each client process is new to the helper, which asks for its name.
#[test]
fn hung_resolver_delays_no_client() {
    let helper = start();
    let broker = only_child(helper.pid());
    let _strace = hang_resolvers(broker);
    let _client = client(helper.socket(), "client").output().unwrap();
    resolver(broker);
    kill_process(broker, Signal::STOP).unwrap();
    let mut fastest = TEST_TIMEOUT;
    for _ in 0..5 {
        let start = Instant::now();
        let client = client(helper.socket(), "client").output().unwrap();
        assert!(client.status.success(), "{client:?}");
        fastest = fastest.min(start.elapsed());
    }
    kill_process(broker, Signal::CONT).unwrap();
    // Waiting for a name would take this long for each process.
    assert!(fastest < RESOLVE_TIMEOUT, "{fastest:?}");
    assert!(!helper.stderr().contains("(client, "));
}

/// A child process that is killed when the test ends.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
