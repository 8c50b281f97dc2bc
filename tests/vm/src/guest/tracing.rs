// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test of the ftrace backend: the helper's events of a preemption are in the right order among the
//! kernel's events of the same commands.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};

use super::helper::{Helper, SOCKET, helper_stderr};
use super::lio_target::Port;
use super::write;
use pr_testkit::process::command_line;

/// Mount point of tracefs (`Documentation/trace/ftrace.rst`).
const TRACEFS: &str = "/sys/kernel/tracing";

/// The helper serves as an unprivileged user; it opens the trace before it drops its privileges.
const ARGUMENTS: [&str; 6] = [
    "-u",
    "nobody",
    "--trace-backend",
    "ftrace",
    "-T",
    "pr_helper_*",
];

/// Exit status of `prhctl` for RESERVATION CONFLICT.
const CONFLICT: i32 = 24;

/// Keys of the two ports.
const KEYS: [&str; 2] = ["0x2001", "0x2002"];

/// Has one port preempt the other, and checks the trace.
pub(crate) fn run(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {TRACEFS}"))?;
    let file = |name: &str| Path::new(TRACEFS).join(name);
    write(&file("events/scsi/enable"), "1")?;
    let running = Helper::start_with(helper, &ARGUMENTS, &[])?;
    fence(prhctl, ports).with_context(|| format!("the helper's stderr: {}", helper_stderr()))?;
    running.stop()?;
    write(&file("events/scsi/enable"), "0")?;
    let trace = fs::read_to_string(file("trace")).context("cannot read the kernel's trace")?;
    check(&trace, ports).with_context(|| format!("the kernel's trace:\n{trace}"))?;
    println!(
        "guest: the kernel's trace has {} events of the helper",
        trace.matches(" pr_helper_").count()
    );
    Ok(())
}

fn fence(prhctl: &Path, ports: &[Port; 2]) -> Result<()> {
    let run = |command: &str, port: usize, options: &[&str], status: i32| -> Result<()> {
        let mut program = Command::new(prhctl);
        program
            .args(["-k", SOCKET, command])
            .arg(&ports[port].block);
        program.args(options).stdin(Stdio::null());
        let output = program.output();
        let output = output.with_context(|| format!("cannot start {}", command_line(&program)))?;
        ensure!(
            output.status.code() == Some(status),
            "{} exited with {}",
            command_line(&program),
            output.status
        );
        Ok(())
    };
    let [first, second] = KEYS;
    run("register", 0, &["--key", first], 0)?;
    run("register", 1, &["--key", second], 0)?;
    run("reserve", 0, &["--key", first, "--type", "we-ro"], 0)?;
    run("reserve", 1, &["--key", second, "--type", "ea"], CONFLICT)?;
    let victim = ["--key", second, "--victim", first, "--type", "we-ro"];
    run("preempt", 1, &victim, 0)?;
    run("release", 1, &["--key", second], 0)?;
    run("unregister", 1, &["--key", second], 0)
}

/// Checks that the trace has the expected lines in this order.
fn check(trace: &str, ports: &[Port; 2]) -> Result<()> {
    let device_number = |port: &Port| -> Result<String> {
        let name = port.block.file_name().context("a port without a name")?;
        let file = Path::new("/sys/block").join(name).join("dev");
        super::read(&file)
    };
    let devices = [device_number(&ports[0])?, device_number(&ports[1])?];
    let end = |port: usize, action: &str, key: &str, sa_key: &str, status: &str| {
        let device = &devices[port];
        vec![
            " pr_helper_out_end client=".to_owned(),
            format!("device='{device}' action='{action}'"),
            format!(" key={key} sa_key={sa_key} status={status} sense=0x000000"),
        ]
    };
    let [first, second] = KEYS;
    let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
    let expected = [
        words([
            " pr_helper_privileges_dropped ",
            "uid=65534 gid=65534 capabilities=0x20000",
        ]),
        end(0, "REGISTER", "0x0", first, "0x00"),
        end(1, "REGISTER", "0x0", second, "0x00"),
        // The kernel's events are between the helper's begin and end.
        words([" pr_helper_sg_begin ", "opcode=0x5f action=0x01"]),
        words(["scsi_dispatch_cmd_start: ", "PERSISTENT_RESERVE_OUT"]),
        words(["scsi_dispatch_cmd_done: ", "PERSISTENT_RESERVE_OUT"]),
        words([" pr_helper_sg_end ", "errno=0 status=0x00"]),
        end(0, "RESERVE", first, "0x0", "0x00"),
        end(1, "RESERVE", second, "0x0", "0x18"),
        end(1, "PREEMPT", second, first, "0x00"),
        words([" pr_helper_stopped ", "unanswered=0"]),
    ];
    let mut lines = trace.lines();
    for words in expected {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        ensure!(
            lines.any(has_all),
            "the trace lacks a line with {words:?}, or it is out of order"
        );
    }
    Ok(())
}
