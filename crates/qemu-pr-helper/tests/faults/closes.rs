// SPDX-License-Identifier: MIT OR Apache-2.0

//! Connections with a close that blocks: they count against the limits until they are closed.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pr_testkit::cdb::read_keys;
use pr_testkit::client::null;
use pr_testkit::eventually;
use rustix::net::sockopt::set_socket_send_buffer_size;
use scsi_pr::Status;

use crate::Test;
use crate::helper::Helper;
use crate::lingering_sockets;
use crate::other_processes::{OtherProcess, Task};

pub(crate) const TESTS: &[Test] = tests![
    ended_connections_count_until_they_are_closed,
    rejected_connections_block_no_thread,
    one_message_leaves_two_descriptors_at_most,
    unread_replies_time_out_without_a_client,
];

/// Maximum number of threads that are not blocked: one waits for signals, others for clients.
const OTHER_THREADS: usize = 13;

/// Maximum number of threads that close rejected connections, if the broker is behind.
const MAX_BLOCKED: usize = 16;

fn ended_connections_count_until_they_are_closed() {
    const SHARE: usize = 4;
    let helper = Helper::start(&["--max-clients-per-process", "4"]);
    let before = helper.usage();
    let mut far = Vec::new();
    for _ in 0..40 {
        let mut client = helper.connect();
        // Over the limit the connection is closed instead.
        if client.try_handshake().is_ok() {
            far.extend(lingering_sockets::send_incomplete(&mut client));
        }
    }
    // The helper has read from the last connections by now, if it does.
    let mut others = OtherProcess::start(helper.socket(), Task::Idle(4));
    others.wait_until_done();
    let threads = helper.usage().threads;
    assert!(threads <= SHARE + OTHER_THREADS, "{threads} threads");
    assert!(helper.connect().try_handshake().is_err());
    helper.wait_for_log("its process reached the limit of connections");

    drop(far);
    eventually("a permit", || helper.connect().try_handshake().ok());
    drop(others);
    helper.assert_idle(&before);
}

fn rejected_connections_block_no_thread() {
    let helper = Helper::start(&["--max-clients-per-process", "1"]);
    let before = helper.usage();
    let mut present = helper.client();
    // The rejected connections have descriptors in them that were not read.
    let send = |_| {
        let mut client = helper.connect();
        lingering_sockets::send_incomplete(&mut client).unwrap()
    };
    let far: Vec<_> = helper.while_stopped(|| (0..600).map(send).collect());
    let mut others = OtherProcess::start(helper.socket(), Task::Idle(1));
    others.wait_until_done();
    present.assert_served();
    let now = helper.usage();
    let limit = OTHER_THREADS + MAX_BLOCKED;
    assert!(now.threads <= limit, "{} threads", now.threads);
    drop((present, others));
    // The far ends are still open.
    helper.assert_idle(&before);
    drop(far);
}

fn one_message_leaves_two_descriptors_at_most() {
    let helper = Helper::start(&[]);
    let before = helper.usage();
    let client = helper.client();
    // The helper is stopped until its descriptor of the socket is the last one.
    let far = helper.while_stopped(|| {
        let (far, device) = lingering_sockets::create();
        let null = null();
        let mut descriptors = vec![null.as_fd(); 253];
        descriptors[0] = device.as_fd();
        client.send_fds(&read_keys(8).cdb[..1], &descriptors);
        far
    });
    helper.wait_for_log("more than one file descriptor in request");
    let now = helper.usage().descriptors.len();
    // The connection has its socket, the lingering socket, and one more descriptor.
    assert!(now <= before.descriptors.len() + 3, "{now} descriptors");
    drop((client, far));
    helper.assert_idle(&before);
}

fn unread_replies_time_out_without_a_client() {
    let helper = Helper::start(&["--request-timeout", "1"]);
    let before = helper.usage();
    let disk = File::create(helper.dir().join("disk")).unwrap();
    for _ in 0..20 {
        let mut client = helper.client();
        set_socket_send_buffer_size(&client.stream, 1 << 20).unwrap();
        // More replies than fit in the connection. The last request is not read before the replies
        // are.
        for _ in 0..100 {
            // On a slow machine the timeout may have expired by now.
            let _ = client.try_send_with(&read_keys(8192).cdb, disk.as_fd());
        }
        // The connection contains its own end, so it stays open after the client has dropped it.
        let own: UnixStream = client.stream.try_clone().unwrap();
        let _ = client.try_send_with(&read_keys(8).cdb, own.as_fd());
    }
    helper.wait_for_log("timed out reading replies, connection closed");
    helper.assert_idle(&before);
    let mut client = helper.client();
    assert_eq!(
        client.execute(&read_keys(8), null()).status,
        Status::CHECK_CONDITION
    );
    client.assert_silent_for(Duration::from_millis(1500));
    client.assert_served();
}
