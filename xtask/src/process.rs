//! Runs other programs and makes their failures readable.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, Result, ensure};

/// Where a program is: in `PATH`, in the folders for administrators, which an ordinary user's `PATH`
/// lacks on Debian, or at its own place if `program` is an absolute path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command for a program that [`find`] looks up.
pub(crate) fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)))
}

/// Runs a command to its end; what it says goes to our own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Runs a command to its end and takes its standard output; its complaints are part of the error.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} ended with {}{}{}",
        shown(command),
        output.status,
        if complaint.is_empty() { "" } else { ": " },
        complaint.trim()
    );
    Ok(output.stdout)
}

/// [`output`] of a command that prints text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    String::from_utf8(output(command)?)
        .with_context(|| format!("{} printed what is not UTF-8", shown(command)))
}

/// The command as somebody would type it to try it again.
pub(crate) fn shown(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Waits for a process at most so long; `None` if it is still running then.
pub(crate) fn wait_for_end(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    poll(limit, || {
        child.try_wait().context("cannot wait for a process")
    })
}

/// Asks again and again until there is an answer, or the time is over (`None`).
pub(crate) fn poll<T>(
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask()?;
        if answer.is_some() || Instant::now() >= end {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Does a piece of work and prints how long it took.
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    println!("time: {what}: {:.1} s", start.elapsed().as_secs_f32());
    result
}
