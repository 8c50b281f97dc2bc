//! Clients that vanish, at every byte of what they have to say. Those that are killed close their connections too:
//! see `clients`.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use pr_helper_protocol::fd_passing;

use crate::Test;
use crate::client::{Client, PARAMETERS, READ_KEYS, REGISTER, null};
use crate::helper::Helper;
use crate::stuck;

pub(crate) const TESTS: &[Test] = &[
    ("nothing_is_left_of_half_a_request", nothing_is_left_of_half),
    ("nor_of_a_command_at_a_device", nor_of_a_command_at_a_device),
    ("nor_of_answers_nobody_reads", nor_of_answers_nobody_reads),
];

/// When a client vanishes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Before it has read the greeting: the helper finds its connection reset.
    Ungreeted,
    /// After so many bytes of its answer to the greeting; with four the handshake is over.
    Features(usize),
    /// After so many bytes of a command; a descriptor came with the first.
    Cdb(usize),
    /// After so many bytes of its parameters.
    Parameters(usize),
}

impl Moment {
    fn all() -> impl Iterator<Item = Self> {
        let features = (1..=4).map(Self::Features);
        let cdb = (1..REGISTER.len()).map(Self::Cdb);
        let parameters = (0..PARAMETERS).map(Self::Parameters);
        let first = [Self::Ungreeted].into_iter();
        first.chain(features).chain(cdb).chain(parameters)
    }

    fn reach(self, helper: &Helper) -> Client {
        let mut client = Client::connect(&helper.socket());
        match self {
            Self::Ungreeted => {}
            Self::Features(count) => {
                client.hear_greeting().unwrap();
                client.try_send(&[0; 4][..count]).unwrap();
            }
            Self::Cdb(count) => {
                client = client.greeted();
                client.send(&REGISTER[..count], null().as_fd());
            }
            Self::Parameters(count) => {
                client = client.greeted();
                client.send(&REGISTER, null().as_fd());
                client.try_send(&[0; PARAMETERS][..count]).unwrap();
            }
        }
        client
    }
}

/// How a client vanishes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Close,
    /// It says that it is through, and waits until the helper is.
    Shutdown,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Close, Self::Shutdown];

    fn go(self, mut client: Client) {
        match self {
            Self::Close => drop(client),
            Self::Shutdown => {
                client.0.shutdown(Shutdown::Write).unwrap();
                let end = io::copy(&mut client.0.by_ref(), &mut io::sink());
                // Reset, if the helper has not read all there was.
                let is_end = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
                assert!(end.as_ref().err().is_none_or(is_end), "{end:?}");
            }
        }
    }
}

/// Has clients vanish, first a few, then many, beside one that is served. Checks that the many have not left more
/// behind than the few, but for `margin` KiB.
fn leaves_nothing(many: u32, margin: u64, vanish: impl Fn(&Helper)) {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let mut beside = helper.client();
    vanish(&helper);
    beside.is_served();
    beside.leave();
    helper.is_at_rest_as(&before);
    let few = helper.usage();
    let mut beside = helper.client();
    for _ in 0..many {
        vanish(&helper);
        beside.is_served();
    }
    beside.leave();
    helper.is_at_rest_as(&before);
    helper.usage().has_grown_little_since(&few, margin);
}

fn nothing_is_left_of_half() {
    // Eighty-eight clients each time; what four thousand sessions take is several times the margin.
    leaves_nothing(50, 256, |helper| {
        for moment in Moment::all() {
            for way in Way::BOTH {
                way.go(moment.reach(helper));
            }
        }
    });
}

fn nor_of_a_command_at_a_device() {
    leaves_nothing(20, 256, |helper| {
        let (mut far, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let mut client = helper.client();
            far.push(stuck::ask(&mut client));
            clients.push(client);
        }
        let later = clients.split_off(5);
        drop(clients);
        for client in &later {
            client.0.shutdown(Shutdown::Write).unwrap();
        }
        helper.client().is_served();
        // Those that have said that they are through still get their answers.
        drop(far);
        for mut client in later {
            client.answer().unwrap();
            client.is_closed();
        }
    });
}

fn nor_of_answers_nobody_reads() {
    leaves_nothing(10, 256, |helper| {
        for way in Way::BOTH {
            let client = helper.client();
            client.0.set_nonblocking(true).unwrap();
            let device = null();
            let mut is_full = 0;
            // The helper goes on as long as it can get rid of answers.
            while is_full < 3 {
                match fd_passing::send(client.0.as_fd(), &READ_KEYS, device.as_fd()) {
                    Ok(()) => is_full = 0,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        is_full += 1;
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            }
            client.0.set_nonblocking(false).unwrap();
            helper.client().is_served();
            way.go(client);
        }
    });
}
