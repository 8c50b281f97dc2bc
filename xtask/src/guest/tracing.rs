//! The kernel's own trace: what the helper says there of a fencing stands between what the kernel says of the
//! same commands.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};

use super::helper::{Helper, SOCKET, complaints};
use super::lio::Port;
use super::write;
use crate::process::shown;

/// Where tracefs belongs (`Documentation/trace/ftrace.rst`).
const TRACEFS: &str = "/sys/kernel/tracing";

/// As an unprivileged user: the trace is opened before the privileges go.
const ARGUMENTS: [&str; 6] = [
    "-u",
    "nobody",
    "--trace-backend",
    "ftrace",
    "-T",
    "pr_helper_*",
];

/// Exit status of `prhctl` on RESERVATION CONFLICT.
const CONFLICT: i32 = 24;

/// Keys of the two ports.
const KEYS: [&str; 2] = ["0x2001", "0x2002"];

/// One port fences the other, and the trace says which.
pub(crate) fn run(prhctl: &Path, helper: &Path, ports: &[Port; 2]) -> Result<()> {
    mount("tracefs", TRACEFS, "tracefs", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {TRACEFS}"))?;
    let file = |name: &str| Path::new(TRACEFS).join(name);
    write(&file("events/scsi/enable"), "1")?;
    let running = Helper::start_with(helper, &ARGUMENTS, &[])?;
    fence(prhctl, ports).with_context(|| format!("the helper said: {}", complaints()))?;
    running.stop()?;
    write(&file("events/scsi/enable"), "0")?;
    let trace = fs::read_to_string(file("trace")).context("cannot read the kernel's trace")?;
    check(&trace, ports).with_context(|| format!("the kernel's trace:\n{trace}"))?;
    println!(
        "guest: the kernel's trace has {} lines of the helper's",
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
        let output = output.with_context(|| format!("cannot start {}", shown(&program)))?;
        ensure!(
            output.status.code() == Some(status),
            "{} ended with {}",
            shown(&program),
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

/// What a line has to have, each in this order.
fn check(trace: &str, ports: &[Port; 2]) -> Result<()> {
    let number = |port: &Port| -> Result<String> {
        let name = port.block.file_name().context("a port without name")?;
        let file = Path::new("/sys/block").join(name).join("dev");
        super::read(&file)
    };
    let devices = [number(&ports[0])?, number(&ports[1])?];
    let end = |port: usize, action: &str, key: &str, of: &str, status: &str| {
        let device = &devices[port];
        vec![
            " pr_helper_out_end client=".to_owned(),
            format!("device='{device}' action='{action}'"),
            format!(" key={key} sa_key={of} status={status} sense=0x000000"),
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
        // What the kernel does comes between what the helper says of it.
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
        let is_it = |line: &str| words.iter().all(|word| line.contains(word));
        ensure!(
            lines.any(is_it),
            "there is no line, or not there, with {words:?}"
        );
    }
    Ok(())
}
