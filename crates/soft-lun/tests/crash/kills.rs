// SPDX-License-Identifier: MIT OR Apache-2.0

//! A thousand writers that are killed at random times.
//!
//! After each kill, the state must be that after the last acknowledged registration, or that after
//! the next registration, which was in progress. No acknowledged registration is lost, and no
//! incomplete state is visible.

use std::env;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use soft_lun::store::Lun;

use crate::writer;

const KILLS: u32 = 1000;

/// Kills writers and checks the state that each of them leaves.
pub(crate) fn registrations_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lun");
    let start = Instant::now();
    let (mut finished, mut half_written, mut registrations) = (0_u32, 0_u32, 0);
    for kill in 0..KILLS {
        // Start over from time to time, because `expected` repeats all registrations.
        if kill % 100 == 0 {
            let _ = fs::remove_dir_all(&path);
            writer::create(&path);
        }
        let lun = Lun::open(&path).unwrap();
        let before = u64::from(lun.load().unwrap().generation().get());
        let acknowledged = kill_at_random_time(&path).unwrap_or(before);
        half_written += u32::from(path.join("state.json.new").exists());

        let found = lun.load().unwrap();
        let number = u64::from(found.generation().get());
        let in_progress = acknowledged + 1;
        assert!(
            acknowledged >= before && (number == acknowledged || number == in_progress),
            "kill {kill}: {acknowledged} acknowledged, {number} found, {before} before"
        );
        assert_eq!(found, writer::expected(&lun, number), "kill {kill}");
        finished += u32::from(number == in_progress);
        registrations += number - before;
    }
    println!(
        "{KILLS} kills in {:.1} s, {registrations} registrations, none lost; the one in progress \
         was complete {finished} times and left a temporary file {half_written} times",
        start.elapsed().as_secs_f32()
    );
    // If one of these never happened, the kills were not spread over a whole registration.
    assert!(finished > 0 && half_written > 0);
}

/// Starts a writer, kills it, and returns the number of the last acknowledged registration, if any.
fn kill_at_random_time(path: &Path) -> Option<u64> {
    let mut writer = Command::new(env::current_exe().unwrap());
    let mut writer = writer.arg("--writer").arg(path);
    writer = writer.stdout(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    let mut output = writer.stdout.take().unwrap();
    let mut random = [0; 3];
    getrandom(&mut random, GetRandomFlags::empty()).unwrap();
    let [choice, delay @ ..] = random;
    let mut received = Vec::new();
    // Usually wait for the first registration, so that few writers are killed before that.
    if !choice.is_multiple_of(4) {
        received.resize(8, 0);
        output.read_exact(&mut received).unwrap();
    }
    // Up to 4 ms: the duration of several commands on a file system in memory, or of one on a disk.
    thread::sleep(Duration::from_micros(
        u64::from(u16::from_be_bytes(delay)) / 16,
    ));
    writer.kill().unwrap();
    writer.wait().unwrap();
    output.read_to_end(&mut received).unwrap();
    let last = received.chunks_exact(8).next_back()?;
    Some(u64::from_be_bytes(last.try_into().unwrap()))
}
