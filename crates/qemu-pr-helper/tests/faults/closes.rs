//! Connections whose close blocks: they count against the limits until they are closed.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_send_buffer_size;
use scsi_pr::Status;

use crate::Test;
use crate::client::{Client, LONGEST_READ_KEYS, READ_KEYS, null};
use crate::helper::{Helper, wait_for};
use crate::others::{Others, Task};
use crate::stuck;

pub(crate) const TESTS: &[Test] = &[
    (
        "ended_connections_count_until_they_are_closed",
        ended_connections_count_until_they_are_closed,
    ),
    (
        "rejected_connections_block_no_thread",
        rejected_connections_block_no_thread,
    ),
    (
        "one_message_leaves_two_descriptors_at_most",
        one_message_leaves_two_descriptors_at_most,
    ),
    (
        "unread_replies_time_out_without_a_client",
        unread_replies_time_out_without_a_client,
    ),
];

/// Threads beside those that are blocked: one waits for signals, others for clients.
const OTHER_THREADS: usize = 10;

/// Threads that may be blocked in closing rejected connections, if the broker is behind.
const MAX_BLOCKED: usize = 16;

fn ended_connections_count_until_they_are_closed() {
    const SHARE: usize = 4;
    let helper = Helper::start(&["--max-clients-per-process", "4"]);
    let before = helper.usage();
    let mut far = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(&helper.socket());
        // Over the limit the connection is closed instead.
        if client.try_greet().is_ok() {
            far.extend(stuck::send_incomplete(&mut client));
        }
    }
    // The last ones have been read by now, if they are.
    let mut others = Others::start(&helper.socket(), Task::Stay(4));
    others.is_done();
    let threads = helper.usage().threads;
    assert!(threads <= SHARE + OTHER_THREADS, "{threads} threads");
    assert!(Client::connect(&helper.socket()).try_greet().is_err());
    helper.says("its process has too many connections");

    drop(far);
    wait_for("a permit", || {
        Client::connect(&helper.socket()).try_greet().ok()
    });
    drop(others);
    helper.is_at_rest_as(&before);
}

fn rejected_connections_block_no_thread() {
    let helper = Helper::start(&["--max-clients-per-process", "1"]);
    let before = helper.usage();
    let mut present = helper.client();
    // They are rejected with descriptors in them that nothing has read.
    let send = |_| {
        let mut client = Client::connect(&helper.socket());
        stuck::send_incomplete(&mut client).unwrap()
    };
    let far: Vec<_> = helper.while_stopped(|| (0..600).map(send).collect());
    let mut others = Others::start(&helper.socket(), Task::Stay(1));
    others.is_done();
    present.is_served();
    let now = helper.usage();
    let limit = OTHER_THREADS + MAX_BLOCKED;
    assert!(now.threads <= limit, "{} threads", now.threads);
    drop((present, others));
    // While the far ends are still there.
    helper.is_at_rest_as(&before);
    drop(far);
}

fn one_message_leaves_two_descriptors_at_most() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let client = helper.client();
    // The helper does not read before its descriptor of the device is the last one.
    let far = helper.while_stopped(|| {
        let (far, device) = stuck::device();
        let null = null();
        let mut descriptors = vec![null.as_fd(); 253];
        descriptors[0] = device.as_fd();
        client.send_many(&READ_KEYS[..1], &descriptors);
        far
    });
    helper.says("more than one file descriptor in request");
    let now = helper.usage().descriptors.len();
    // Of the connection there are its socket, the device that hangs, and one more.
    assert!(now <= before.descriptors.len() + 3, "{now} descriptors");
    drop((client, far));
    helper.is_at_rest_as(&before);
}

fn unread_replies_time_out_without_a_client() {
    let helper = Helper::start(&["--request-timeout", "1"]);
    let before = helper.usage();
    let disk = File::create(helper.folder().join("disk")).unwrap();
    for _ in 0..20 {
        let mut client = helper.client();
        set_socket_send_buffer_size(&client.0, 1 << 20).unwrap();
        // More replies than fit into the connection. The last request is not read before they are.
        for _ in 0..100 {
            // On a slow machine the time limit can be over by now.
            let _ = client.try_send_with(&LONGEST_READ_KEYS, disk.as_fd());
        }
        // With its own end in it, the connection stays when the client has gone.
        let own: UnixStream = client.0.try_clone().unwrap();
        let _ = client.try_send_with(&READ_KEYS, own.as_fd());
    }
    helper.says("timed out reading replies, connection closed");
    helper.is_at_rest_as(&before);
    let mut client = helper.client();
    assert_eq!(
        client.try_ask(READ_KEYS, &null()).unwrap(),
        Status::CHECK_CONDITION
    );
    client.hears_nothing_for(Duration::from_millis(1500));
    client.is_served();
}
