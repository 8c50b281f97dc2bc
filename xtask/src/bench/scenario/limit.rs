//! More clients than there are descriptors for: who is in is served, who is out costs nothing and is let
//! in as soon as somebody leaves.

use std::io;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::bench::contestant::Contestant;
use crate::bench::figure::{Figure, Goal};
use crate::bench::lab::{Lab, gather};
use crate::bench::part::{Crowd, Load, Served, connect};
use crate::bench::results::Measured;
use crate::bench::server::Server;
use crate::bench::worker::Worker;

const DESCRIPTORS: u32 = 256;

/// Ours gives a process a quarter of its connections, which are a quarter of its descriptors.
const OF_A_PROCESS: usize = 10;
/// How long a client takes for a sign that there is no room, in milliseconds.
const PATIENCE: u64 = 300;

/// The client that is in asks so seldom that it is not what the helper's processor time goes to.
const PACE: u64 = 50_000;
const LENGTH: u64 = 2000;

/// How many clients wait at the door: fewer than will leave.
const OUTSIDE: usize = 4;
/// How long they do, at most.
const LONGEST: Duration = Duration::from_secs(8);

const PROCESSOR: &[Goal] = &[Goal::Below(1.0)];
const SERVED: &[Goal] = &[Goal::AtMost(0.0)];
const LET_IN: &[Goal] = &[Goal::Below(10.0)];

pub(super) fn measure(lab: &Lab, contestant: &Contestant) -> Result<Measured> {
    let server = lab.start_limited(contestant, DESCRIPTORS)?;
    let mut inside = lab.start_load(&Load {
        pace: PACE,
        milliseconds: LENGTH,
        ..lab.load(&server, 1)
    })?;
    let mut crowd = fill(lab, &server)?;
    let outside: Vec<_> = (0..OUTSIDE).map(|_| wait_outside(&server)).collect();
    inside.begin()?;
    let served: Served = inside.found()?;
    let left = Instant::now();
    drop(crowd.pop().context("nobody was let in")?);
    let mut longest = Duration::ZERO;
    let mut clients = Vec::new();
    for client in outside {
        let (client, let_in) = client
            .join()
            .map_err(|_| anyhow!("a client has panicked"))?;
        longest = longest.max(let_in.saturating_duration_since(left));
        clients.push(client);
    }

    let is_lost = served.unanswered > 0;
    let mut measured = vec![
        (
            Figure::new("CPU while full", "%", PROCESSOR),
            served.processor_seconds / served.seconds * 1e2,
        ),
        (
            Figure::new("who is in loses its connection", "of 1", SERVED),
            f64::from(u8::from(is_lost)),
        ),
        (
            Figure::new("let in after others leave", "ms", LET_IN),
            longest.as_secs_f64() * 1e3,
        ),
    ];
    if !is_lost {
        let worst = Figure::new("wait worst of who is in", "ms", &[]);
        measured.push((worst, served.worst / 1e3));
    }
    Ok(measured)
}

/// A client that waits at the door; gives when it was let in, or gave up.
fn wait_outside(server: &Server) -> JoinHandle<(io::Result<UnixStream>, Instant)> {
    let socket = server.socket.clone();
    thread::spawn(move || (connect(&socket, LONGEST), Instant::now()))
}

/// Fills the helper with clients, process after process, until it takes no more.
fn fill(lab: &Lab, server: &Server) -> Result<Vec<Worker>> {
    let crowd = Crowd {
        patience: PATIENCE,
        ..lab.crowd(server, OF_A_PROCESS)
    };
    let mut inside = Vec::new();
    for _ in 0..DESCRIPTORS {
        let mut share = lab.start_crowd(&crowd)?;
        let gathered = gather(&mut share)?;
        if gathered.made > 0 {
            inside.append(&mut share);
        }
        if gathered.failed > 0 {
            return Ok(inside);
        }
    }
    bail!("{DESCRIPTORS} descriptors are enough for any number of clients")
}
