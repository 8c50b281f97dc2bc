// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl demo` on terminals of several sizes, and its picture in the documentation.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pr_testkit::picture;
use pr_testkit::pty::Pty;
use pr_testkit::screen::{Cell, Screen, plain, screens};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::demo::{real_helper, wrapper};

const PROMPT: &str = "Press Enter to continue.";
const HOME: &str = "\x1b[H";
/// Number of rows of the picture.
const PICTURE_ROWS: usize = 6;
/// Number of steps.
const STEPS: usize = 13;

fn demo_with(helper: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prhctl"));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(variable);
    }
    command
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .env("TMPDIR", "/tmp")
        .arg("demo")
        .arg("--helper")
        .arg(helper)
        .args(arguments);
    command
}

fn demo(arguments: &[&str]) -> Command {
    demo_with(&real_helper(), arguments)
}

/// Returns the output without a terminal.
fn piped() -> String {
    let output = demo(&[]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the output on a terminal.
fn on_terminal(command: &mut Command, columns: u16, rows: u16) -> String {
    let (status, output) = Pty::start(command, columns, rows).finish();
    assert_eq!(status, Some(0), "{output}");
    output
}

/// Returns the output of a run with `--step` on a terminal. Enter is pressed at each prompt.
fn step_through(command: &mut Command, columns: u16, rows: u16) -> String {
    let mut pty = Pty::start(command, columns, rows);
    for prompt in 1..=STEPS + 1 {
        pty.read_until(PROMPT, prompt);
        pty.write("\n");
    }
    let (status, output) = pty.finish();
    assert_eq!(status, Some(0), "{output}");
    output
}

/// Returns the words of a text. A word that is broken at the end of a line counts as two.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Returns the words from the first step to the summary, which are the same in every run.
fn words_of_steps(text: &str) -> Vec<&str> {
    let (_, steps) = text.split_once(" 1. node1").unwrap();
    // The summary begins with a header, or on a narrow terminal with the first step.
    let end = steps
        .find(" step ")
        .or_else(|| steps.find("\n 1. REGISTER"));
    words(&steps[..end.unwrap()])
}

#[test]
fn listing_fits_terminal() {
    let expected = piped();
    for (columns, rows) in [(80, 24), (120, 40), (60, 24), (40, 10), (39, 24), (24, 24)] {
        let output = on_terminal(&mut demo(&["--fast", "--color=never"]), columns, rows);
        assert_eq!(words_of_steps(&output), words_of_steps(&expected));
        let screens = screens(&output, columns.into(), 200);
        assert_eq!(screens.len(), 1, "{output}");
        let text = plain(&screens[0]);
        let conclusion = words("Every response matched the standard");
        let is_conclusion = |found: &[&str]| found == conclusion;
        let has_conclusion = words(&text).windows(conclusion.len()).any(is_conclusion);
        assert!(has_conclusion, "{text}");
    }
}

#[test]
fn pipe_lines_fit_80_columns() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    // The path of the soft LUN is longer than a line.
    let long = dir.path().join("x".repeat(40));
    fs::create_dir(&long).unwrap();
    for parent in [dir.path(), &long] {
        let output = demo(&[]).env("TMPDIR", parent).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let joined = text.replace('\n', "");
        assert!(
            joined.contains(parent.to_str().unwrap()) && joined.contains("13. node1 rejoins"),
            "{text}"
        );
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

/// Returns the words of a step in the listing, without the state of the disk, which the picture
/// shows.
fn step_words(listing: &str, number: usize) -> Vec<&str> {
    let start = listing.find(&format!("\n{number:2}. node")).unwrap();
    let (_, step) = listing.split_at(start + 1);
    let (step, _) = step.split_once("\n\n").unwrap();
    let state = ["    registered  ", "    reserved  ", "    may write  "];
    let lines = step.lines();
    lines
        .filter(|line| !state.iter().any(|label| line.starts_with(label)))
        .flat_map(str::split_whitespace)
        .collect()
}

/// Panics unless a screen has the picture at the top.
#[track_caller]
fn assert_has_picture(screen: &Screen) {
    let text = plain(screen);
    let picture: Vec<_> = text.lines().take(PICTURE_ROWS).collect();
    assert!(
        picture[0].starts_with("╭─ node1 ") && picture[5].contains('╰'),
        "{text}"
    );
    for line in &picture[..PICTURE_ROWS - 1] {
        assert_eq!(line.chars().count(), 79, "{text}");
    }
}

#[test]
fn screen_keeps_picture_at_top() {
    let listing = piped();
    for (columns, rows) in [(80, 24), (120, 40)] {
        let output = step_through(&mut demo(&["--step", "--color=never"]), columns, rows);
        let screens = screens(&output, columns.into(), rows.into());
        assert_eq!(screens.len(), STEPS + 3);
        // The first screen is the terminal's contents before the demonstration.
        for screen in &screens[1..] {
            assert_has_picture(screen);
        }
        for (number, screen) in (1..=STEPS).zip(&screens[2..]) {
            let text = plain(&screen[PICTURE_ROWS..]);
            let (text, _) = text.split_once(PROMPT).unwrap();
            assert_eq!(words(text), step_words(&listing, number), "{text}");
        }
        let last = plain(&screens[STEPS + 2]);
        assert!(last.contains("13. node1 rejoins the cluster"), "{last}");
        assert!(last.contains("Every response matched"), "{last}");
    }
}

#[test]
fn small_terminal_has_no_picture() {
    for (columns, rows) in [(79, 24), (80, 23), (39, 24)] {
        let output = on_terminal(&mut demo(&["--fast"]), columns, rows);
        assert!(output.is_ascii() && !output.contains(HOME), "{output}");
        let mut pty = Pty::start(&mut demo(&["--step"]), columns, rows);
        pty.read_until(PROMPT, 1);
        kill_process(Pid::from_child(pty.child()), Signal::TERM).unwrap();
        let (_, output) = pty.finish();
        assert!(output.is_ascii() && !output.contains(HOME), "{output}");
    }
}

#[test]
fn picture_is_ascii_without_utf8() {
    for (variable, value) in [("LC_ALL", "C"), ("LC_ALL", "POSIX"), ("LC_CTYPE", "C")] {
        let mut command = demo(&["--step", "--color=never"]);
        command.env_remove("LC_ALL").env("LANG", "en_US.UTF-8");
        let output = step_through(command.env(variable, value), 80, 24);
        assert!(output.is_ascii(), "{output}");
        let screens = screens(&output, 80, 24);
        let text = plain(&screens[PICTURE_STEP + 1][..PICTURE_ROWS]);
        let expected = "\
+- node1 ------------+     +- disk ----------------+     +- node2 ------------+
| failed             |     | reservation           |     | running            |
| key       none   * |     | Write Exclusive -     +<----+ key       0x1002   |
| may write no     * |     | Registrants Only      |     | may write yes      |
+--------------------+     | held by node2       * |     +--------------------+
* changed in this step     +-----------------------+     step 7 of 13
";
        assert_eq!(text, expected);
    }
}

#[test]
fn screen_marks_changes() {
    let output = step_through(demo(&["--step"]).env("NO_COLOR", "1"), 80, 24);
    let screens = screens(&output, 80, 24);
    let marked: Vec<Vec<String>> = screens[2..STEPS + 2]
        .iter()
        .map(|screen| {
            let text = plain(&screen[..PICTURE_ROWS - 1]);
            let parts = text.split(['│', '├', '┤', '\n']);
            let marked = parts.filter_map(|part| part.trim_end().strip_suffix('*'));
            marked.map(|part| words(part).join(" ")).collect()
        })
        .collect();
    let expected: [&[&str]; STEPS] = [
        &["key 0x1001"],
        &["key 0x1002"],
        &["Write Exclusive -", "held by node1"],
        &[],
        &[],
        &["failed"],
        &["key none", "may write no", "held by node2"],
        &[],
        &["running"],
        &[],
        &[],
        &[],
        &["key 0x1001", "may write yes"],
    ];
    assert_eq!(marked, expected);
    assert!(!output.contains("\x1b[0m"), "{output:?}");
}

#[test]
fn mismatch_stays_on_screen() {
    let dir = tempfile::tempdir().unwrap();
    // Remove support for the type that node1 reserves.
    let command = "sed -i '/\"write-exclusive-registrants-only\",/d' \"$4\"/shared/lun.json";
    let wrapper = wrapper(dir.path(), command);
    let mut pty = Pty::start(&mut demo_with(&wrapper, &["--step"]), 80, 24);
    for prompt in 1..=4 {
        pty.read_until(PROMPT, prompt);
        pty.write("\n");
    }
    let (status, output) = pty.finish();
    assert_eq!(status, Some(1), "{output}");
    let text = plain(screens(&output, 80, 24).last().unwrap());
    for line in [
        " 3. node1 reserves the disk",
        "    expected response: GOOD",
        "  3. node1 reserves the disk  RESERVE   ILLEGAL REQUEST",
        "This does not match the standard (SPC-4, SCSI Primary Commands). The helper has",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
}

#[test]
fn small_or_dumb_terminal_gets_listing() {
    for (term, columns, rows) in [("xterm", 79, 24), ("xterm", 80, 23), ("dumb", 80, 24)] {
        let output = step_through(demo(&["--step"]).env("TERM", term), columns, rows);
        assert!(!output.contains(HOME), "{output}");
        assert!(output.contains("registered"), "{output}");
    }
}

#[test]
fn fast_run_does_not_wait() {
    let mut command = demo(&["--fast"]);
    let started = Instant::now();
    on_terminal(&mut command, 80, 24);
    // Without the option, each of the steps takes a second.
    assert!(started.elapsed() < Duration::from_secs(STEPS as u64));
}

#[test]
fn step_takes_a_second_by_default() {
    let mut command = demo(&[]);
    let started = Instant::now();
    let mut pty = Pty::start(&mut command, 80, 24);
    // The introduction, and two steps.
    pty.read_until(HOME, 3);
    assert!(started.elapsed() >= Duration::from_secs(2));
    kill_process(Pid::from_child(pty.child()), Signal::TERM).unwrap();
    assert_eq!(pty.finish().0, Some(143));
}

#[test]
fn step_waits_for_enter() {
    let mut pty = Pty::start(&mut demo(&["--step"]), 80, 24);
    pty.read_until(PROMPT, 1);
    // Longer than a step takes without the option.
    let timeout = Duration::from_millis(1500).try_into().unwrap();
    let mut fds = [PollFd::new(pty.master(), PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&timeout)).unwrap(), 0);
    pty.write("\n");
    pty.read_until(PROMPT, 2);
    kill_process(Pid::from_child(pty.child()), Signal::TERM).unwrap();
    assert_eq!(pty.finish().0, Some(143));
}

#[test]
fn terms_are_explained_at_first_use() {
    let text = piped();
    let blocks: Vec<_> = text
        .split("\n\n")
        .map(|block| words(block).join(" "))
        .collect();
    for (term, explanation) in [
        ("cluster", "A cluster is a group of hosts"),
        ("node", "hosts, its nodes"),
        ("reservation", "it is a rule, kept and enforced by the disk"),
        (" key", "a key, a number that the node chooses"),
        ("soft LUN", "files emulate a logical unit"),
        ("SCSI", "SCSI, the command set of disks"),
        ("helper", "The helper is the program"),
        ("REGISTER,", "REGISTER is the command for this"),
        ("GOOD", "GOOD is the status of a command that succeeded"),
        ("port", "A port is a node's connection to the disk"),
        ("RESERVE,", "RESERVE creates a reservation"),
        ("holder", "its sender is the holder"),
        ("Registrants Only", "only registered nodes may write"),
        (
            "RESERVATION CONFLICT",
            "status of a command that a reservation forbids",
        ),
        ("RELEASE", "RELEASE ends a reservation"),
        ("PREEMPT", "PREEMPT does this"),
        ("victim", "the failed node, the victim"),
        ("encing", "Fencing means that"),
        ("WRITE", "WRITE stores data on the disk"),
        ("READ KEYS", "READ KEYS lists the registered keys"),
        (
            "CHECK CONDITION",
            "CHECK CONDITION is the status of a command that failed",
        ),
        (
            "UNIT ATTENTION",
            "UNIT ATTENTION, which is a one-time notice",
        ),
        ("6/2a/05", "The numbers are its code"),
        ("SPC", "SPC-4, SCSI Primary Commands"),
    ] {
        // The title is the headline of the introduction, which explains its terms.
        let first = blocks.iter().skip(1).find(|block| block.contains(term));
        let first = first.unwrap_or_else(|| panic!("{term}\n{text}"));
        assert!(first.contains(explanation), "{term}: {first}");
    }
}

#[test]
fn listing_has_only_changes_of_state() {
    let text = piped();
    let (_, steps) = text.split_once(" 1. ").unwrap();
    let lines = |label: &str| -> Vec<&str> {
        let lines = steps
            .lines()
            .filter_map(|line| line.trim().strip_prefix(label));
        lines.map(str::trim).collect()
    };
    assert_eq!(
        lines("registered  "),
        [
            "node1 0x1001",
            "node1 0x1001, node2 0x1002",
            "node2 0x1002",
            "node2 0x1002, node1 0x1001"
        ]
    );
    let kind = "Write Exclusive - Registrants Only, held by";
    assert_eq!(
        lines("reserved  "),
        ["no", &format!("{kind} node1"), &format!("{kind} node2")]
    );
    assert_eq!(
        lines("may write  "),
        ["node1, node2", "node2", "node1, node2"]
    );
}

#[test]
fn summary_has_all_steps() {
    let text = piped();
    let (_, summary) = text.split_once("command    result\n").unwrap();
    let lines: Vec<_> = summary.lines().take(STEPS + 1).collect();
    assert_eq!(
        words(lines[3]).join(" "),
        "4. node2 tries to reserve the disk RESERVE RESERVATION CONFLICT"
    );
    assert_eq!(
        words(lines[8]).join(" "),
        "9. node1 comes back and reads the keys READ KEYS UNIT ATTENTION"
    );
    assert_eq!(lines[STEPS], "");
}

/// The step in README's picture: node2 preempts node1.
const PICTURE_STEP: usize = 7;

#[test]
fn picture_of_readme_is_current() {
    let output = step_through(&mut demo(&["--step"]), 80, 24);
    let screen = &screens(&output, 80, 24)[PICTURE_STEP + 1];
    let is_text = |line: &&Vec<Cell>| !plain(&[line.to_vec()]).contains(PROMPT);
    let lines: Screen = screen.iter().take_while(is_text).cloned().collect();
    let title = "prhctl demo, step 7 of 13: node2 preempts node1";
    picture::check("demo.svg", title, 80, &lines);
}
