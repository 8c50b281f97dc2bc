// SPDX-License-Identifier: MIT OR Apache-2.0

//! `prhctl validate`: a disk that follows the standard passes, the reports, the conditions for a
//! run, and the disk afterwards, which is unchanged.

use std::fs::File;
use std::thread;

use rustix::process::{Signal, kill_process};
use scsi_pr::{InServiceAction, OutServiceAction, Status};
use serde_json::Value;
use soft_lun::{Registration, Response};

use crate::change::answer;
use crate::faulty_disk::{CLOSE, Exchange, Fault, FaultyDisk, status};
use crate::support::{Run, TestHelper};

/// Exit status if a step failed.
pub(crate) const FAILED: i32 = 36;

/// Names of the steps with this verdict.
pub(crate) fn steps(report: &Value, verdict: &str) -> Vec<String> {
    let rows = report["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["verdict"] == verdict)
        .map(|row| row["step"].as_str().unwrap().to_owned())
        .collect()
}

/// Runs all steps. Panics unless the disk is in the state before.
pub(crate) fn validate(disk: &FaultyDisk) -> Run {
    let run = disk.run("--json validate a b");
    expect_unchanged(disk);
    run
}

#[track_caller]
pub(crate) fn expect_unchanged(disk: &FaultyDisk) {
    let state = disk.state();
    assert_eq!(state.registrations, [], "{state:?}");
    assert_eq!(state.reservation, None);
    assert_eq!(state.unit_attentions, []);
    assert!(!state.aptpl);
}

#[test]
fn disk_that_follows_the_standard_passes() {
    let disk = FaultyDisk::healthy();
    let run = validate(&disk);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["success"], true);
    assert_eq!(steps(&report, "failed"), [""; 0]);
    let not_tested = steps(&report, "not tested");
    let expected = |name: &String| name.starts_with("access-") || name == "path-registration";
    assert!(not_tested.iter().all(expected), "{not_tested:?}");
    assert_eq!(not_tested.len(), 7);
}

#[test]
fn real_helper_with_soft_lun_passes() {
    let helper = TestHelper::start();
    let run = helper.run("validate a b");
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(!run.stdout.contains("Failed"), "{run:?}");
    let keys = helper.run("keys a").success();
    assert!(keys.contains("no keys"), "{keys}");
}

#[test]
fn one_node_leaves_out_steps_that_need_two() {
    let disk = FaultyDisk::healthy();
    let run = disk.run("--json validate a");
    assert_eq!(run.status, 0, "{}", run.stderr);
    let not_tested = steps(&run.json(), "not tested");
    assert!(not_tested.contains(&"preempt-keys".to_owned()));
    assert!(!not_tested.contains(&"reserve-we-ro".to_owned()));
    expect_unchanged(&disk);
}

/// Changes the response of commands with this service action.
pub(crate) fn after(
    action: OutServiceAction,
    mut change: impl FnMut(&mut Exchange<'_>, &mut Response) + Send + 'static,
) -> Fault {
    Box::new(move |exchange| {
        let mut response = exchange.execute();
        if exchange.is_out(action) {
            change(exchange, &mut response);
        }
        response
    })
}

/// Changes the parameter data of a query.
pub(crate) fn with_data(
    action: InServiceAction,
    change: impl Fn(&mut Exchange<'_>, &mut Vec<u8>) + Send + 'static,
) -> Fault {
    Box::new(move |exchange| {
        let mut response = exchange.execute();
        if exchange.is_in(action) && response.status == Status::GOOD {
            change(exchange, &mut response.data);
        }
        response
    })
}

const DOCUMENT: &str = include_str!("../../../../docs/validate.md");

/// Returns the lines of a report without values that differ from run to run.
fn lines(report: &str) -> Vec<String> {
    let mask = |line: &str| {
        let words = line.split_whitespace().map(|word| match word {
            _ if word.starts_with("0x70726876") => "KEY",
            _ if word.parse::<f64>().is_ok() && word.contains('.') => "TIME",
            _ => word,
        });
        words.collect::<Vec<_>>().join(" ")
    };
    report.lines().map(mask).collect()
}

#[test]
fn document_shows_a_report() {
    let (_, block) = DOCUMENT.split_once("```console\n$ prhctl ").unwrap();
    let (command, block) = block.split_once('\n').unwrap();
    let (shown, _) = block.split_once("$ echo $?\n36\n").unwrap();
    let short = |text: &str| text.replace("/dev/sdb", "a").replace("/dev/sdc", "b");
    let fault = after(OutServiceAction::Release, |exchange, _| {
        exchange.edit(|state| state.unit_attentions.clear());
    });
    let run = FaultyDisk::start(fault).run(&short(command));
    assert_eq!(run.status, FAILED, "{}", run.stderr);
    let report = lines(&run.stdout);
    let mut rest = report.as_slice();
    for part in short(shown).split("…\n") {
        let part = lines(part);
        let mut starts = rest.windows(part.len());
        let start = starts.position(|window| window == part);
        let start = start.unwrap_or_else(|| panic!("{part:#?}: {report:#?}"));
        rest = &rest[start + part.len()..];
    }
    assert_eq!(rest, [""; 0]);
}

#[test]
fn html_page_has_all_steps_and_no_external_resources() {
    let fault = after(OutServiceAction::Release, |exchange, _| {
        exchange.edit(|state| state.unit_attentions.clear());
    });
    let disk = FaultyDisk::start(fault);
    let link = disk.path().join("<b>a");
    std::os::unix::fs::symlink("a", &link).unwrap();
    let run = disk.run("validate <b>a b --html report.html");
    assert_eq!(run.status, FAILED, "{}", run.stderr);
    let page = std::fs::read_to_string(disk.path().join("report.html")).unwrap();
    assert!(page.contains("&lt;b&gt;a, b") && !page.contains("<b>a"));
    assert!(!page.contains("{{") && !page.contains("src=") && !page.contains("http"));
    let report = run.stdout.lines().filter(|line| line.starts_with("  "));
    let names = report.filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names.filter(|name| name.contains('-')).collect();
    assert!(names.len() > 50);
    for name in names {
        assert!(page.contains(&format!("<td>{name}<details")), "{name}");
    }
    assert!(page.contains("<tr class=\"failed\"><td>release-attention<details open>"));

    let run = disk.run("validate a b --html no/report.html");
    assert!(
        run.stderr
            .contains("no/report.html: cannot write the report"),
        "{}",
        run.stderr
    );
    assert_eq!(run.status, 1);
}

/// The helper closes the connection while the disk is reserved.
#[test]
fn lost_connection_aborts_the_run_and_leaves_the_disk_unchanged() {
    let mut is_closed = false;
    let disk = FaultyDisk::start(after(OutServiceAction::Reserve, move |_, response| {
        if !std::mem::replace(&mut is_closed, true) {
            *response = status(CLOSE);
        }
    }));
    let run = validate(&disk);
    assert_eq!(run.status, 1, "{}", run.stderr);
    let fragment = "a: RESERVE: the helper sent no complete response";
    assert!(run.stderr.contains(fragment), "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["success"], false);
    let message = report["error"]["message"].as_str().unwrap();
    assert!(message.contains(fragment), "{message}");
    let last = &report["rows"].as_array().unwrap().last().unwrap()["step"];
    assert_eq!(last, "full-status-holder");
}

/// Registers `keys` with the ports, before prhctl uses the disk.
fn registered(keys: &'static [u64]) -> FaultyDisk {
    FaultyDisk::start(Box::new(move |exchange| {
        if exchange.number == 0 {
            let nexuses = [0, 1].map(|port| exchange.nexus(port));
            let registrations = nexuses.into_iter().zip(keys);
            let registrations = registrations.map(|(nexus, key)| Registration {
                nexus,
                key: (*key).into(),
                all_tg_pt: false,
            });
            exchange.edit(|state| state.registrations = registrations.collect());
        }
        exchange.execute()
    }))
}

/// A virtual machine has its disk open, and need not be registered.
#[test]
fn disk_that_a_process_has_open_is_refused() {
    let helper = TestHelper::start();
    let file = File::open(helper.path("b")).unwrap();
    let text = format!("(process {}) has the disk open", std::process::id());
    helper.run("validate a b").expect_failure(1, &[&text]);
    drop(file);
    assert_eq!(helper.run("keys a").status, 0);
}

#[test]
fn disk_with_registrations_is_refused() {
    for (keys, options) in [
        (&[0xa, 0xb][..], ""),
        (&[0xa, 0xb], " --force-key a"),
        (&[0xa], " --force-key b"),
        (&[0xa, 0x7072_6876_0000_0101], ""),
    ] {
        let disk = registered(keys);
        let run = disk.run(&format!("validate a b{options}"));
        run.expect_failure(1, &["the disk has registrations: 0xa"]);
        assert_eq!(disk.state().registrations.len(), keys.len());
    }
}

#[test]
fn only_key_is_removed_with_force_key() {
    let disk = registered(&[0xa]);
    let run = disk.run("validate a b --force-key a");
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(
        run.stderr
            .contains("removed all registrations with CLEAR: 0xa\n"),
        "{run:?}"
    );
    expect_unchanged(&disk);
}

#[test]
fn registrations_of_a_killed_run_are_removed() {
    let disk = registered(&[0x7072_6876_1234_0101, 0x7072_6876_1234_0102]);
    let run = disk.run("validate a b");
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("which a run of validate has left"),
        "{run:?}"
    );
    expect_unchanged(&disk);
}

#[test]
fn registrations_of_a_running_validation_are_kept() {
    let keys = [0x7072_6876_1234_0101];
    let disk = FaultyDisk::start(Box::new(move |exchange| {
        let (nexus, generation) = (exchange.nexus(1), exchange.unit.generation().next());
        exchange.edit(|state| {
            state.generation = generation;
            state.registrations = vec![Registration {
                nexus,
                key: keys[0].into(),
                all_tg_pt: false,
            }];
        });
        exchange.execute()
    }));
    disk.run("validate a")
        .expect_failure(1, &["another run of validate"]);
    assert_eq!(disk.state().registrations.len(), 1);
}

#[test]
fn devices_must_be_one_or_two_different_ones() {
    let disk = FaultyDisk::healthy();
    disk.run("validate a a")
        .expect_failure(1, &["a and a are the same device"]);
    disk.run("validate a b a")
        .expect_failure(1, &["one or two devices, not 3"]);
    assert_eq!(disk.commands(), 0);
}

#[test]
fn run_is_confirmed_on_a_terminal() {
    let disk = FaultyDisk::healthy();
    assert_eq!(answer(disk.command("validate a b"), b"n\n"), Some(1));
    assert_eq!(disk.commands(), 0);
    assert_eq!(answer(disk.command("validate a b"), b"y\n"), Some(0));
    expect_unchanged(&disk);
}

/// Runs all steps, and sends a signal to prhctl before the response to a command.
fn interrupted(number: usize, signal: Signal) -> (i32, FaultyDisk) {
    let disk = FaultyDisk::start(Box::new(move |exchange| {
        if exchange.number == number {
            kill_process(exchange.client, signal).unwrap();
        }
        exchange.execute()
    }));
    let status = disk.run("validate a b").status;
    (status, disk)
}

/// Number of commands between two signals: a step has at least this many, with its preparation.
const STRIDE: usize = 6;

/// prhctl ends with status 0 if the thread that waits for signals does not run before the last
/// step has ended.
#[test]
fn signal_at_any_step_leaves_the_disk_unchanged() {
    let healthy = FaultyDisk::healthy();
    validate(&healthy);
    let last = healthy.commands();
    let signals = [(Signal::INT, 130), (Signal::TERM, 143)];
    thread::scope(|scope| {
        for (offset, (signal, expected)) in signals.into_iter().enumerate() {
            scope.spawn(move || {
                let numbers = (offset * STRIDE..last).step_by(2 * STRIDE);
                let (runs, mut interrupted_runs) = (numbers.len(), 0);
                for number in numbers {
                    let (status, disk) = interrupted(number, signal);
                    assert!([expected, 0].contains(&status), "{number}: {status}");
                    interrupted_runs += usize::from(status == expected);
                    expect_unchanged(&disk);
                }
                assert!(interrupted_runs > runs / 2, "{interrupted_runs} of {runs}");
            });
        }
    });
}

/// After SIGKILL, registrations remain. The next run removes them.
#[test]
fn next_run_removes_what_a_killed_one_has_left() {
    let mut is_killed = false;
    let disk = FaultyDisk::start(Box::new(move |exchange| {
        let response = exchange.execute();
        if exchange.is_out(OutServiceAction::Reserve) && !std::mem::replace(&mut is_killed, true) {
            kill_process(exchange.client, Signal::KILL).unwrap();
        }
        response
    }));
    let mut command = disk.command("validate a b");
    let status = command.status().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    assert!(!disk.state().registrations.is_empty());
    let run = disk.run("validate a b");
    assert_eq!(run.status, 0, "{}", run.stderr);
    expect_unchanged(&disk);
}
