// SPDX-License-Identifier: MIT OR Apache-2.0

//! Colors on terminals and on request.

use std::process::Command;

use pr_testkit::pty::Pty;

use crate::support::TestHelper;

const ESCAPE: char = '\x1b';

#[test]
fn pipe_has_colors_only_on_request() {
    let helper = TestHelper::start();
    helper.register_both();
    helper.run("reserve a --key a --type we").success();
    for line in ["status a", "status a --color never", "decode 5e00"] {
        let run = helper.run(line);
        assert!(!(run.stdout + &run.stderr).contains(ESCAPE), "{line}");
    }
    let text = helper.run("status a --color always").success();
    let holder = text.lines().find(|line| line.contains("yes")).unwrap();
    assert!(
        holder.starts_with("\x1b[32m") && holder.ends_with("\x1b[0m"),
        "{holder:?}"
    );
    let stderr = helper.run("--color always keys none").failure(1);
    assert!(
        stderr.starts_with("\x1b[1m\x1b[31mprhctl:\x1b[0m none: "),
        "{stderr:?}"
    );
    let run = helper.run("--json --color always status a");
    assert!(!run.stdout.contains(ESCAPE), "{run:?}");
    run.json();
}

/// Returns what a command writes to a terminal.
fn on_terminal(command: &mut Command) -> String {
    let (status, output) = Pty::start(command, 80, 24).finish();
    assert_eq!(status, Some(0), "{output}");
    output
}

#[test]
fn terminal_has_colors_by_default() {
    let helper = TestHelper::start();
    assert!(on_terminal(&mut helper.prhctl("keys a")).contains(ESCAPE));
    for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_terminal(helper.prhctl("keys a").env(variable, value));
        assert!(
            text.starts_with("a: generation") && !text.contains(ESCAPE),
            "{variable}: {text:?}"
        );
    }
    let text = on_terminal(&mut helper.prhctl("keys a --color never"));
    assert!(!text.contains(ESCAPE), "{text:?}");
}
