//! A thousand writers, killed at random moments.
//!
//! What is found then must be the state after the last acknowledged registration, or after the one that
//! was in progress: nothing that was acknowledged is lost, and nothing in between is seen.

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

/// The test.
pub(crate) fn kill_and_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lun");
    let began = Instant::now();
    let (mut finished, mut half_written, mut registrations) = (0_u32, 0_u32, 0);
    for kill in 0..KILLS {
        // Now and then a new one: the expected state is made from the beginning.
        if kill % 100 == 0 {
            let _ = fs::remove_dir_all(&path);
            writer::create(&path);
        }
        let lun = Lun::open(&path).unwrap();
        let before = u64::from(lun.load().unwrap().generation().get());
        let acknowledged = killed_at_random(&path).unwrap_or(before);
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
        "{KILLS} kills in {:.1} s, {registrations} registrations, none lost; the one in progress was \
         done {finished} times, and its new state not in its place yet {half_written} times",
        began.elapsed().as_secs_f32()
    );
    // Otherwise the moments were not random, and this has shown nothing.
    assert!(finished > 0 && half_written > 0);
}

/// Starts a writer, kills it, and says what was acknowledged last, if anything was.
fn killed_at_random(path: &Path) -> Option<u64> {
    let mut writer = Command::new(env::current_exe().unwrap());
    let mut writer = writer.arg("--writer").arg(path);
    writer = writer.stdout(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    let mut output = writer.stdout.take().unwrap();
    let mut random = [0; 3];
    getrandom(&mut random, GetRandomFlags::empty()).unwrap();
    let [choice, moment @ ..] = random;
    let mut all = Vec::new();
    // Mostly from when it has begun, so that few are killed before they do anything.
    if !choice.is_multiple_of(4) {
        all.resize(8, 0);
        output.read_exact(&mut all).unwrap();
    }
    // Up to some commands' time: a few hundred microseconds in memory, milliseconds on a disk.
    thread::sleep(Duration::from_micros(
        u64::from(u16::from_be_bytes(moment)) / 16,
    ));
    writer.kill().unwrap();
    writer.wait().unwrap();
    output.read_to_end(&mut all).unwrap();
    let last = all.chunks_exact(8).next_back()?;
    Some(u64::from_be_bytes(last.try_into().unwrap()))
}
