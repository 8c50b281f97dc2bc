//! What is left of a soft LUN when a process is killed while it registers, a thousand times.
//!
//! A writer registers with `APTPL` through two ports in turn, each time with the next key, and says so on
//! its standard output when a registration was acknowledged. It is killed at a random moment. What is found
//! then must be the state after the last acknowledged registration, or after the one that was in
//! progress: nothing that was acknowledged is lost, and nothing in between is seen.
//!
//! (A kill is no loss of power: what the kernel had been given, it has. That the new state is on the disk
//! before it has the name, and the name before the answer, is in `store/file.rs`.)

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use scsi_pr::{BasicParameterList, Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{LogicalUnit, Nexus, Supported};

const KILLS: u32 = 1000;

/// REGISTER AND IGNORE EXISTING KEY, 24 bytes of parameters.
const REGISTER: [u8; 10] = [0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24, 0];

fn main() {
    // Test runners ask for the list of tests, or for some of them by name; this is one, without.
    match env::args().nth(1).as_deref() {
        Some("--writer") => write(Path::new(&env::args().nth(2).unwrap())),
        Some("--list") => println!("crash: test"),
        _ => kill_and_look(),
    }
}

/// Registers until it is killed.
fn write(path: &Path) {
    let lun = Lun::open(path).unwrap();
    let generation = u64::from(lun.look().unwrap().generation().get());
    for number in generation + 1.. {
        let port = lun.description().unwrap().ports[place(number)].name.clone();
        let answer = lun
            .execute(&port, &REGISTER, &registration(number))
            .unwrap();
        assert_eq!(answer.status, Status::GOOD);
        let mut output = std::io::stdout();
        output.write_all(&number.to_be_bytes()).unwrap();
        output.flush().unwrap();
    }
}

/// The registration that brings PRgeneration to `number`, and through which port it goes.
fn registration(number: u64) -> Vec<u8> {
    let list = BasicParameterList {
        service_action_reservation_key: number.into(),
        aptpl: true,
        ..BasicParameterList::default()
    };
    list.encode()
}

fn place(number: u64) -> usize {
    usize::from(number % 2 == 1)
}

/// The unit after `number` registrations.
fn expected(lun: &Lun, number: u64) -> LogicalUnit {
    let mut unit = lun.description().unwrap().unit().unwrap();
    let nexuses: Vec<_> = unit.nexuses().map(|(id, _)| id).collect();
    for number in 1..=number {
        unit.execute(nexuses[place(number)], &REGISTER, &registration(number));
    }
    unit
}

fn kill_and_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lun");
    let port = |name: &str, sas_address| Port {
        name: name.parse().unwrap(),
        nexus: Nexus {
            initiator: TransportId::Sas { sas_address },
            target_port: 1.into(),
        },
    };
    let began = Instant::now();
    let (mut finished, mut half_written, mut registrations) = (0_u32, 0_u32, 0);
    for kill in 0..KILLS {
        // Now and then a new one: the expected state is made from the beginning.
        if kill % 100 == 0 {
            let _ = fs::remove_dir_all(&path);
            let ports = vec![port("a", 0xa), port("b", 0xb)];
            Lun::create(&path, ports, Supported::default()).unwrap();
        }
        let lun = Lun::open(&path).unwrap();
        let before = u64::from(lun.look().unwrap().generation().get());
        let acknowledged = killed_at_random(&path).unwrap_or(before);
        assert!(acknowledged >= before, "{acknowledged} after {before}");
        half_written += u32::from(path.join("state.json.new").exists());

        let found = lun.look().unwrap();
        let number = u64::from(found.generation().get());
        let in_progress = acknowledged + 1;
        assert!(
            number == acknowledged || number == in_progress,
            "kill {kill}: {acknowledged} acknowledged, {number} found"
        );
        assert_eq!(found, expected(&lun, number), "kill {kill}");
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

/// Starts a writer, kills it, and says what was acknowledged last.
fn killed_at_random(path: &Path) -> Option<u64> {
    let mut writer = Command::new(env::current_exe().unwrap());
    let mut writer = writer
        .arg("--writer")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = writer.stdout.take().unwrap();
    let mut said = [0; 8];
    output.read_exact(&mut said).unwrap();
    let mut random = [0; 2];
    getrandom(&mut random, GetRandomFlags::empty()).unwrap();
    // Some commands' time: a few hundred microseconds in memory, milliseconds on a disk.
    thread::sleep(Duration::from_micros(
        u64::from(u16::from_be_bytes(random)) / 16,
    ));
    writer.kill().unwrap();
    writer.wait().unwrap();
    let mut all = said.to_vec();
    output.read_to_end(&mut all).unwrap();
    let last = all.chunks_exact(8).next_back()?;
    Some(u64::from_be_bytes(last.try_into().unwrap()))
}
