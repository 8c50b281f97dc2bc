// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl exporter` over HTTP and as a file.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pr_testkit::{HelperProcess, eventually, skip, table};
use rustix::process::geteuid;

use crate::demo::real_helper;
use crate::state_host::{StateHost, busy_document};
use crate::support::{Run, prhctl};

const OPEN_METRICS: &str = "application/openmetrics-text";

/// A program that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    /// Address that it listens on.
    pub(crate) address: String,
}

impl Running {
    /// Starts a program that prints its address after `label` in a line of standard error.
    pub(crate) fn start(command: &mut Command, label: &str) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            seen += &(line.clone() + "\n");
            let (_, rest) = line.split_once(label)?;
            rest.split('/').next().map(str::to_owned)
        });
        let address = address.unwrap_or_else(|| panic!("{seen}"));
        // The program may write more, which must not fail.
        std::thread::spawn(move || lines.count());
        Running { child, address }
    }

    pub(crate) fn exporter(host: &StateHost) -> Self {
        let mut command = host.prhctl("exporter --listen 127.0.0.1:0");
        Self::start(&mut command, "serving metrics at http://")
    }

    /// Returns status, headers and body of the response to a request.
    pub(crate) fn request(&self, method: &str, path: &str, accept: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: {accept}\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn metrics_are_served_in_both_formats() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let exporter = Running::exporter(&host);
    let (status, head, body) = exporter.request("GET", "/metrics", OPEN_METRICS);
    assert_eq!(status, 200);
    assert!(
        head.contains("Content-Type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    assert!(
        body.contains("# TYPE pr_helper_commands counter\n"),
        "{body}"
    );
    let (status, head, body) = exporter.request("GET", "/metrics?a=b", "text/plain");
    assert_eq!(status, 200);
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        body.contains("# TYPE pr_helper_commands_total counter\n"),
        "{body}"
    );
    let line = "pr_helper_up{helper=\"/run/qemu-pr-helper.sock\"} 1\n";
    assert!(body.contains(line), "{body}");
    // The helper has been read once before.
    let line = "pr_helper_journal_lost_records_total{helper=\"/run/qemu-pr-helper.sock\"} 1\n";
    assert!(body.contains(line), "{body}");
}

#[test]
fn other_requests_are_rejected() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let exporter = Running::exporter(&host);
    for (method, path, expected) in [
        ("GET", "/", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/metric", 404),
        ("POST", "/metrics", 405),
    ] {
        let (status, _, body) = exporter.request(method, path, "*/*");
        assert_eq!(status, expected, "{method} {path}");
        assert_eq!(body.is_empty(), method == "HEAD", "{body}");
    }
}

/// A client that sends nothing, or does not read the response, must not keep others waiting.
#[test]
fn idle_clients_do_not_block_others() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let exporter = Running::exporter(&host);
    let idle = TcpStream::connect(&exporter.address).unwrap();
    let mut deaf = TcpStream::connect(&exporter.address).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    deaf.write_all(requests.as_bytes()).unwrap();
    let (status, _, _) = exporter.request("GET", "/metrics", "*/*");
    assert_eq!(status, 200);
    drop((idle, deaf));
}

#[test]
fn helper_that_does_not_respond_is_down() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    host.add_silent();
    let exporter = Running::exporter(&host);
    for errors in 1..3 {
        let (_, _, body) = exporter.request("GET", "/metrics", "text/plain");
        let value = |name: &str| {
            let mut lines = body.lines();
            let line = lines.find(|line| line.starts_with(&format!("{name}{{helper=\"process ")));
            line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
        };
        assert_eq!(value("pr_helper_up"), "0");
        assert_eq!(value("pr_helper_read_errors_total"), errors.to_string());
        assert!(body.contains("\npr_helper_processes 2\n"), "{body}");
    }
}

#[test]
fn file_is_replaced() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let file = host.path().join("pr_helper.prom");
    let run = |arguments: &str| Run::new(&mut host.prhctl(arguments), "");
    run("exporter --textfile pr_helper.prom").expect_stdout("");
    let first = (
        fs::metadata(&file).unwrap().ino(),
        fs::read_to_string(&file).unwrap(),
    );
    assert!(
        first.1.contains("pr_helper_worker_failures_total{helper="),
        "{}",
        first.1
    );
    let mut command = host.prhctl("exporter --textfile pr_helper.prom --interval 1");
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let changed = |old: &str| {
        eventually("a new file", || {
            let text = fs::read_to_string(&file).unwrap();
            // A reader never sees a part of the file.
            assert!(text.ends_with('\n') && text.len() >= old.len(), "{text}");
            (text != old).then_some(text)
        })
    };
    changed(&changed(&first.1));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(fs::metadata(&file).unwrap().ino(), first.0);
    run("exporter --textfile none/pr_helper.prom").expect_failure(
        1,
        &[
            "none/pr_helper.prom: cannot write metrics",
            "permitted to write to that directory",
        ],
    );
}

/// The name of a device or of a link to it must not become a file.
#[test]
fn only_a_regular_file_is_replaced() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let link = host.path().join("link");
    symlink("/proc/self/fd/1", &link).unwrap();
    Run::new(&mut host.prhctl("exporter --textfile link"), "")
        .expect_failure(1, &["link: cannot write metrics: not a regular file"]);
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/proc/self/fd/1"));
    assert!(!host.path().join("link.tmp").exists());
}

/// A process of the helper's user without capabilities reads the state of a real helper; other
/// users cannot.
#[test]
fn state_is_readable_for_the_user_of_the_helper() {
    if !geteuid().is_root() {
        skip("a process of another user requires root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    // Other users may lack access to the directory of the build.
    let program = dir.path().join("prhctl");
    fs::copy(env!("CARGO_BIN_EXE_prhctl"), &program).unwrap();
    let helper = HelperProcess::builder(real_helper());
    let helper = helper.args(["-u", "65534", "-g", "65534"]).start().unwrap();
    for (user, up) in [("65534", 1), ("65533", 0)] {
        let mut command = Command::new("setpriv");
        command
            .args(["--clear-groups", "--bounding-set=-all", "--regid=65534"])
            .arg(format!("--reuid={user}"))
            .arg(&program)
            .args(["exporter", "--textfile", user])
            .current_dir(dir.path());
        // Other helpers of this machine may not be readable, which is reported.
        assert_eq!(Run::new(&mut command, "").status, 0);
        let metrics = fs::read_to_string(dir.path().join(user)).unwrap();
        let name = match up {
            1 => helper.socket().display().to_string(),
            _ => format!("process {}", helper.pid()),
        };
        let line = format!("\npr_helper_up{{helper=\"{name}\"}} {up}\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[test]
fn errors_of_the_command_line_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &str| Run::new(&mut prhctl(dir.path(), arguments), "");
    for (arguments, fragment) in [
        (
            "exporter --listen 127.0.0.1",
            "not a numeric address and a port",
        ),
        (
            "exporter --listen localhost:1",
            "not a numeric address and a port",
        ),
        ("exporter --interval 1", "--textfile <PATH>"),
        ("exporter --textfile a --interval 0", "valid are 1 to 86400"),
        (
            "exporter --textfile a --listen 127.0.0.1:0",
            "cannot be used with",
        ),
        (
            "exporter --listen 192.0.2.1:0",
            "192.0.2.1:0: cannot listen",
        ),
        ("-k s exporter", "uses no helper"),
    ] {
        run(arguments).expect_failure(1, &[fragment]);
    }
}

#[test]
fn metrics_are_documented() {
    let Some(host) = StateHost::start(busy_document) else {
        return;
    };
    let document = include_str!("../../../../docs/prhctl.md");
    let (_, section) = document.split_once("\n## Metrics\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `pr_helper_"));
    let documented = rows.map(|row| row.split_once('`').unwrap().0);
    Run::new(&mut host.prhctl("exporter --textfile metrics"), "").success();
    let metrics = fs::read_to_string(host.path().join("metrics")).unwrap();
    let types = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE pr_helper_"));
    let served = types.map(|line| line.split_once(' ').unwrap().0);
    table::assert_same(("docs/prhctl.md", documented), ("the exporter", served));
}
