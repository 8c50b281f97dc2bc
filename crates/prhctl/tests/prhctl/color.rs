//! Colours: on a terminal, or where they are asked for.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::Helper;

const ESCAPE: char = '\x1b';

#[test]
fn a_pipe_gets_colours_only_if_told() {
    let helper = Helper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we").good();
    for line in ["status a", "status a --color never", "decode 5e00"] {
        let run = helper.run(line);
        assert!(!(run.stdout + &run.stderr).contains(ESCAPE), "{line}");
    }
    let text = helper.run("status a --color always").good();
    let holder = text.lines().find(|line| line.contains("yes")).unwrap();
    assert!(
        holder.starts_with("\x1b[32m") && holder.ends_with("\x1b[0m"),
        "{holder:?}"
    );
    let said = helper.run("--color always keys none").failed(1);
    assert!(
        said.starts_with("\x1b[1m\x1b[31mprhctl:\x1b[0m none: "),
        "{said:?}"
    );
    let run = helper.run("--json --color always status a");
    assert!(!run.stdout.contains(ESCAPE), "{run:?}");
    run.json();
}

/// What a program writes to a terminal.
fn on_terminal(command: &mut Command) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let master: OwnedFd = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(terminal)
        .spawn()
        .unwrap();
    // The command holds the terminal open, too.
    command.stdout(Stdio::null());
    let mut bytes = Vec::new();
    // It ends with an error once nobody has the terminal open any more.
    let _ = File::from(master).read_to_end(&mut bytes);
    assert!(child.wait().unwrap().success());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_terminal_gets_colours_unless_told_otherwise() {
    let helper = Helper::start();
    assert!(on_terminal(&mut helper.program("keys a")).contains(ESCAPE));
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_terminal(helper.program("keys a").env(variable, value));
        assert!(
            text.starts_with("a: generation") && !text.contains(ESCAPE),
            "{variable}: {text:?}"
        );
    }
    let text = on_terminal(&mut helper.program("keys a --color never"));
    assert!(!text.contains(ESCAPE), "{text:?}");
}
