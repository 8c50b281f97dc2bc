// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl top` on a terminal, and its errors without one.

use std::path::Path;
use std::process::{Command, Stdio};

use pr_testkit::pty::Pty;
use pr_testkit::{HelperProcess, eventually};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use crate::demo::real_helper;
use crate::support::{Run, prhctl};

/// Switches to the screen of `top`, and back to the former contents.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

fn helper(dir: &Path) -> HelperProcess {
    let builder = HelperProcess::builder(real_helper()).socket(dir.join("socket"));
    builder.start().unwrap()
}

/// Returns `prhctl top` for the helper in `dir`.
fn top(dir: &Path) -> Command {
    let prhctl = prhctl(dir, "-k socket top");
    // The test can have inherited ignored signals, for example from nohup.
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(prhctl.get_program());
    command.args(prhctl.get_args()).current_dir(dir);
    command.env("TERM", "xterm");
    command
}

/// Starts `prhctl top`, and waits until the screen shows the only client.
fn start(dir: &Path) -> Pty {
    let mut pty = Pty::start(&mut top(dir), 80, 24);
    pty.read_until("1 client", 1);
    assert!(!has_line_editing(&pty));
    pty
}

fn has_line_editing(pty: &Pty) -> bool {
    let mode = tcgetattr(pty.master()).unwrap().local_modes;
    mode.contains(LocalModes::ICANON | LocalModes::ECHO)
}

/// Waits until the terminal has its former contents and modes.
fn wait_until_restored(pty: &mut Pty) {
    pty.read_until(LEAVE, 1);
    eventually("the terminal edits lines", || {
        has_line_editing(pty).then_some(())
    });
}

#[test]
fn key_ends_the_screen() {
    let dir = tempfile::tempdir().unwrap();
    let helper = helper(dir.path());
    let _client = helper.client();
    for end in ["q", "\x03", "\x1b"] {
        let mut pty = start(dir.path());
        pty.write("x");
        pty.write(end);
        wait_until_restored(&mut pty);
        let (status, output) = pty.finish();
        assert_eq!(status, Some(0), "{output}");
        assert!(output.starts_with(ENTER), "{output:?}");
    }
}

#[test]
fn signal_ends_the_screen() {
    let dir = tempfile::tempdir().unwrap();
    let helper = helper(dir.path());
    let _client = helper.client();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut pty = start(dir.path());
        kill_process(Pid::from_child(pty.child()), signal).unwrap();
        wait_until_restored(&mut pty);
        // Without a status, a signal has ended the process.
        let (status, output) = pty.finish();
        assert_eq!(status, None, "{output}");
    }
}

#[test]
fn screen_has_the_size_of_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let helper = helper(dir.path());
    let _client = helper.client();
    let mut pty = start(dir.path());
    pty.write("s");
    let size = Winsize {
        ws_row: 30,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(pty.master(), size).unwrap();
    // The kernel sends it only if the terminal is the controlling terminal.
    kill_process(Pid::from_child(pty.child()), Signal::WINCH).unwrap();
    pty.read_until("\x1b[30;1H", 1);
    pty.read_until("commands)", 1);
    pty.write("q");
    assert_eq!(pty.finish().0, Some(0));
}

#[test]
fn screen_continues_without_a_helper() {
    let dir = tempfile::tempdir().unwrap();
    let server = helper(dir.path());
    let client = server.client();
    let mut pty = start(dir.path());
    drop((client, server));
    // The title has no numbers then.
    pty.read_until("prhctl top", 1);
    let server = helper(dir.path());
    let _client = server.client();
    pty.read_until("waiting,", 2);
    pty.write("q");
    assert_eq!(pty.finish().0, Some(0));
}

#[test]
fn terminal_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let text = Run::new(&mut top(dir.path()), "").failure(1);
    let advice = "Print the same data with 'prhctl top --once'.";
    assert!(
        text.contains("are not a terminal") && text.contains(advice),
        "{text}"
    );
    let mut dumb = top(dir.path());
    dumb.env("TERM", "dumb").stderr(Stdio::null());
    let (status, output) = Pty::start(&mut dumb, 80, 24).finish();
    assert_eq!((status, output.as_str()), (Some(1), ""));
    for option in ["--json", "-v"] {
        let mut command = prhctl(dir.path(), &format!("{option} top"));
        command.stderr(Stdio::null());
        let (status, output) = Pty::start(&mut command, 80, 24).finish();
        assert_eq!(status, Some(1), "{output}");
        assert!(!output.contains(ENTER), "{output}");
    }
}

#[test]
fn commands_since_the_start_are_printed_once() {
    let dir = tempfile::tempdir().unwrap();
    let helper = helper(dir.path());
    let _client = helper.client();
    let document = Run::new(&mut prhctl(dir.path(), "-k socket --json top --once"), "").json();
    assert_eq!(document["clients"][0]["pids"], json!([std::process::id()]));
    let text = Run::new(&mut prhctl(dir.path(), "-k socket top --once"), "").success();
    assert!(
        text.contains("1 helper, 1 client, no disks, 0 waiting"),
        "{text}"
    );
}
