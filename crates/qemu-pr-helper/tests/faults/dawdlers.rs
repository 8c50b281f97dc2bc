//! Clients that take their time for half of a request: they are given up, and nobody else is.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use scsi_pr::Status;

use crate::Test;
use crate::client::{Client, READ_KEYS, REGISTER, null};
use crate::helper::{Helper, wait_for};
use crate::stuck;

pub(crate) const TESTS: &[Test] = &[
    ("whoever_dawdles_is_given_up", whoever_dawdles_is_given_up),
    ("who_owes_nothing_stays", who_owes_nothing_stays),
    ("many_hold_up_nobody", many_hold_up_nobody),
];

const TIMEOUT: Duration = Duration::from_secs(1);
/// Longer, and so much so that who was to be given up by then was forgotten.
const LONGER: Duration = Duration::from_secs(3);

/// Between two bytes of who dawdles. Those of the shortest piece, a CDB, take several times as long as they may.
const DRIP: Duration = Duration::from_millis(400);

/// How far a client gets before it dawdles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connected,
    Features,
    Cdb,
    Parameters,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Connected, Self::Features, Self::Cdb, Self::Parameters];

    /// A client that has got so far, with that device if it has got to one.
    fn reach(self, socket: &Path, device: &File) -> Client {
        let mut client = Client::connect(socket);
        client.hear_greeting().unwrap();
        match self {
            Self::Connected => {}
            Self::Features => client.try_send(&[0; 2]).unwrap(),
            Self::Cdb | Self::Parameters => client.try_send(&[0; 4]).unwrap(),
        }
        match self {
            Self::Connected | Self::Features => {}
            Self::Cdb => client.send(&REGISTER[..1], device.as_fd()),
            Self::Parameters => client.send(&REGISTER, device.as_fd()),
        }
        client
    }
}

fn start() -> Helper {
    let arguments = ["--request-timeout", "1", "--max-clients-per-process", "600"];
    Helper::start(&arguments)
}

fn whoever_dawdles_is_given_up() {
    let helper = start();
    let before = helper.usage();
    let path = helper.folder().join("disk");
    let device = File::create(&path).unwrap();
    let is_open = || {
        helper
            .usage()
            .descriptors
            .contains(&path.display().to_string())
    };
    let was_open = AtomicBool::new(false);
    let look = || was_open.fetch_or(is_open(), Ordering::SeqCst);
    thread::scope(|scope| {
        let (helper, device, look) = (&helper, &device, &look);
        for stage in Stage::ALL {
            scope.spawn(move || {
                let begun = Instant::now();
                let mut client = stage.reach(&helper.socket(), device);
                look();
                client.is_closed();
                assert!(begun.elapsed() >= TIMEOUT, "{stage:?}");
            });
        }
        for (stage, left) in [(Stage::Cdb, 15), (Stage::Parameters, 24)] {
            scope.spawn(move || {
                let begun = Instant::now();
                let mut client = stage.reach(&helper.socket(), device);
                let sent = (0..left).take_while(|_| {
                    look();
                    thread::sleep(DRIP);
                    client.try_send(&[0]).is_ok()
                });
                assert!(sent.count() < left, "{stage:?} was waited for");
                assert!(begun.elapsed() >= TIMEOUT, "{stage:?}");
                client.is_closed();
            });
        }
    });
    assert!(was_open.load(Ordering::SeqCst));
    wait_for("the device to be closed", || (!is_open()).then_some(()));
    helper.says("timed out answering the greeting, connection closed");
    helper.says("timed out sending a request, connection closed");
    helper.is_at_rest_as(&before);
}

fn who_owes_nothing_stays() {
    let helper = start();
    let before = helper.usage();
    let mut idle = helper.client();
    idle.is_served();
    let mut waiting = helper.client();
    let stuck = stuck::ask(&mut waiting);
    // It does not read its answer, which it has.
    let mut deaf = helper.client();
    deaf.send(&READ_KEYS, null().as_fd());
    // So that somebody is searched for, again and again.
    let dawdling = Instant::now();
    while dawdling.elapsed() < LONGER {
        Stage::Cdb.reach(&helper.socket(), &null()).is_closed();
    }
    idle.is_served();
    waiting.hears_nothing_for(TIMEOUT);
    drop(stuck);
    assert_eq!(waiting.answer().unwrap(), Status::CHECK_CONDITION);
    waiting.is_served();
    assert_eq!(deaf.answer().unwrap(), Status::CHECK_CONDITION);
    deaf.is_served();
    drop((idle, waiting, deaf));
    helper.is_at_rest_as(&before);
}

fn many_hold_up_nobody() {
    let helper = start();
    let before = helper.usage();
    let mut healthy = helper.client();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::SeqCst) {
                let asked = Instant::now();
                healthy.is_served();
                longest = longest.max(asked.elapsed());
                thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        let device = null();
        let stages = Stage::ALL.into_iter().cycle().take(500);
        let dawdling = stages.map(|stage| stage.reach(&helper.socket(), &device));
        let mut dawdling: Vec<_> = dawdling.collect();
        let deadline = Instant::now() + LONGER;
        while Instant::now() < deadline {
            // Those who are at a request go on, while there is somebody to hear it.
            for client in dawdling.iter_mut().skip(2).step_by(4) {
                let _ = client.try_send(&[0]);
            }
            thread::sleep(DRIP);
        }
        for client in &mut dawdling {
            client.is_closed();
        }
        is_over.store(true, Ordering::SeqCst);
        let longest = asking.join().unwrap();
        assert!(longest < LONGER, "{longest:?} for an answer");
    });
    drop(healthy);
    helper.is_at_rest_as(&before);
}
