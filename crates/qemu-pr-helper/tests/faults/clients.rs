//! How many clients there can be: of all processes, and of one.

use std::process;
use std::thread;
use std::time::Duration;

use crate::Test;
use crate::client::Client;
use crate::helper::{Helper, wait_for};
use crate::others::{Others, Task};

pub(crate) const TESTS: &[Test] = &[
    ("who_is_too_many_waits", who_is_too_many_waits),
    ("descriptors_limit_them_too", descriptors_limit_them_too),
    ("nobody_slips_in_in_a_rush", nobody_slips_in_in_a_rush),
    ("a_process_has_its_share", a_process_has_its_share),
    (
        "the_dead_give_their_places_back",
        the_dead_give_their_places_back,
    ),
];

/// Longer than the second after which the helper looks at its door again.
const LOOKS: Duration = Duration::from_millis(2500);

/// Checks that a helper with this many clients serves them, and lets in one more when one has left.
fn is_full_with(helper: &Helper, mut clients: Vec<Client>) {
    let [mut next, mut last] = [(); 2].map(|()| Client::connect(&helper.socket()));
    next.hears_nothing_for(LOOKS);
    helper.does_not_spin();
    clients.iter_mut().for_each(Client::is_served);
    helper.says("accepting connections paused");

    clients.pop();
    let mut next = next.greeted();
    next.is_served();
    last.hears_nothing_for(LOOKS);
    // The one that waits at the door may leave as well.
    drop((next, last));
    helper.client().is_served();
}

fn who_is_too_many_waits() {
    let arguments = ["--max-clients", "4", "--max-clients-per-process", "9"];
    let helper = Helper::start(&arguments);
    let before = helper.usage();
    is_full_with(&helper, (0..4).map(|_| helper.client()).collect());
    helper.is_at_rest_as(&before);
}

fn descriptors_limit_them_too() {
    // Four for each client and its command, a few for itself; soft LUNs, or no broker, make it other figures.
    let wrapper = ["prlimit", "--nofile=80:80"];
    let helper = Helper::start_under(&wrapper, &["--max-clients-per-process", "99"]);
    let before = helper.usage();
    let first = helper.client();
    let possible = 4;
    let rest = (1..possible).map(|_| helper.client());
    is_full_with(&helper, [first].into_iter().chain(rest).collect());
    helper.is_at_rest_as(&before);
}

/// Those who come at once meet several threads, which together must not take in more than there may be.
fn nobody_slips_in_in_a_rush() {
    let places = 4;
    let all = ["--max-clients", "4", "--max-clients-per-process", "99"];
    let share = ["--max-clients", "99", "--max-clients-per-process", "4"];
    for arguments in [all, share] {
        for _ in 0..12 {
            let helper = Helper::start(&arguments);
            let clients = (0..20).map(|_| Client::connect(&helper.socket()));
            let mut clients: Vec<_> = clients.collect();
            let mut greeted = 0;
            wait_for("as many as may be", || {
                greeted += clients.iter_mut().filter_map(Client::was_greeted).count();
                (greeted >= places).then_some(())
            });
            // Who is one too many would be there by now, mostly.
            thread::sleep(Duration::from_millis(10));
            greeted += clients.iter_mut().filter_map(Client::was_greeted).count();
            assert_eq!(greeted, places, "{arguments:?}");
        }
    }
}

fn a_process_has_its_share() {
    let helper = Helper::start(&["--max-clients-per-process", "3"]);
    let before = helper.usage();
    let mut clients: Vec<_> = (0..3).map(|_| helper.client()).collect();
    for _ in 0..20 {
        Client::connect(&helper.socket()).is_closed();
    }
    clients.iter_mut().for_each(Client::is_served);
    let own = format!("(pid {}, uid ", process::id());
    let said = helper.said();
    let refused = "its process has too many connections (--max-clients-per-process)";
    let about: Vec<_> = said
        .lines()
        .filter(|line| line.ends_with(refused))
        .collect();
    assert!(
        matches!(about.as_slice(), [line] if line.contains(&own)),
        "{said}"
    );

    let mut others = Others::start(&helper.socket(), Task::Stay(3));
    others.is_done();
    clients.pop();
    // The helper may not have seen yet that one has left.
    wait_for("a place that was given back", || {
        Client::connect(&helper.socket()).try_greet().ok()
    });
    clients.iter_mut().for_each(Client::is_served);
    drop((clients, others));
    helper.is_at_rest_as(&before);
}

fn the_dead_give_their_places_back() {
    let arguments = ["--max-clients", "40", "--max-clients-per-process", "40"];
    let helper = Helper::start(&arguments);
    let before = helper.usage();
    for _ in 0..5 {
        let mut others = Others::start(&helper.socket(), Task::Stay(40));
        others.is_done();
    }
    helper.client().is_served();
    helper.is_at_rest_as(&before);
}
