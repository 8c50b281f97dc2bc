//! The backend `syslog`: a datagram to `/dev/log` for each event, which is the test's in the helper's view.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::ioctl_fionread;

use crate::account::{ALL_BUT_THREADS, expected};
use crate::contents;
use crate::definitions::Definitions;
use crate::helper::{Launch, Running, load, wait_for};
use crate::namespace;
use crate::reader::Item;
use crate::text::read_all;

/// A folder for `/dev`, with no more in it than the socket `log` and what the helper itself needs.
const DEV: &str = "mkdir dev; mount -t tmpfs none dev; touch dev/null dev/log; \
                   mount --bind /dev/null dev/null; mount --bind log dev/log; \
                   mount --rbind dev /dev";

/// A helper with these events, whose `/dev/log` is the socket `log` of its folder. `None` where that cannot be had.
fn start(folder: &Path, events: &[&str]) -> Option<Running> {
    let wrapper = namespace::wrapper(DEV)?;
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let launch = Launch::under(folder, &wrapper).args(["--trace-backend", "syslog"]);
    Some(launch.args(events.iter().copied()).start())
}

/// Everything that comes until it is enough, and what is there then; as lines without what each has in
/// front.
fn receive(log: &UnixDatagram, helper: u32, is_enough: &AtomicBool) -> String {
    let front = format!("<30>qemu-pr-helper[{helper}]: ");
    let mut text = String::new();
    let mut buffer = [0; 4096];
    log.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    loop {
        // Asked before there is nothing: what came in between is still read.
        let is_last = is_enough.load(Ordering::SeqCst);
        match log.recv(&mut buffer) {
            Ok(length) => {
                let line = str::from_utf8(&buffer[..length]).unwrap();
                assert!(!line.contains('\n'), "{line}");
                text += line.strip_prefix(&front).unwrap();
                text.push('\n');
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                if is_last {
                    return text;
                }
            }
        }
    }
}

#[test]
fn each_event_is_a_line_of_the_system_s_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = UnixDatagram::bind(folder.path().join("log")).unwrap();
    let is_enough = AtomicBool::new(false);
    let (clients, requests) = (4, 50);
    let Some(mut running) = start(folder.path(), &ALL_BUT_THREADS) else {
        return;
    };
    let helper = running.pid();
    thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&log, helper, &is_enough));
        let first = load(&running, clients, requests);
        // So that there is room for the last ones.
        wait_for("an empty queue", || {
            (ioctl_fionread(&log).unwrap() == 0).then_some(())
        });
        assert!(running.terminate().success());
        is_enough.store(true, Ordering::SeqCst);
        let text = receiving.join().unwrap();
        let (records, account) = read_all(&text, &Definitions::of_helper());
        account.settle(&expected(running.connected(), &[(clients, requests)]));
        let mut items: Vec<_> = records.into_iter().map(Item::Event).collect();
        // A queue of ten lines, which is what kernels have, is full now and then.
        if account.dropped > 0 {
            let (process, count) = (0, account.dropped);
            items.push(Item::Dropped { process, count });
        }
        contents::check(&items, 0, first, clients, requests);
    });
}

#[test]
fn one_that_does_not_read_delays_nobody_and_gets_the_number_of_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let log = UnixDatagram::bind(folder.path().join("log")).unwrap();
    let Some(mut running) = start(folder.path(), &ALL_BUT_THREADS) else {
        return;
    };
    let (clients, requests) = (4, 1000);
    load(&running, clients, requests);
    // Room for the last two events, and the number in front of them.
    let is_enough = AtomicBool::new(true);
    let mut text = receive(&log, running.pid(), &is_enough);
    assert!(running.terminate().success());
    let last = receive(&log, running.pid(), &is_enough);
    let lines: Vec<_> = last.lines().collect();
    let [
        dropped,
        "pr_helper_stopping signal=SIGTERM",
        "pr_helper_stopped unanswered=0",
    ] = lines.as_slice()
    else {
        panic!("{last}");
    };
    assert!(dropped.starts_with("dropped "), "{dropped}");
    text += &last;
    let (_, account) = read_all(&text, &Definitions::of_helper());
    account.settle(&expected(running.connected(), &[(clients, requests)]));
    let said = running.said();
    let lines: Vec<_> = said.lines().collect();
    let expected = "qemu-pr-helper: warning: trace dropped events: /dev/log: \
                    Resource temporarily unavailable (os error 11)";
    assert_eq!(lines, [expected]);
}

#[test]
fn what_is_missing_is_said_at_the_end_if_no_event_comes_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = UnixDatagram::bind(folder.path().join("log")).unwrap();
    let Some(mut running) = start(folder.path(), &["-Tpr_helper_sg_end"]) else {
        return;
    };
    let (clients, requests) = (4, 1000);
    load(&running, clients, requests);
    let is_enough = AtomicBool::new(true);
    let mut text = receive(&log, running.pid(), &is_enough);
    assert!(running.terminate().success());
    let last = receive(&log, running.pid(), &is_enough);
    assert_eq!(last.lines().count(), 1, "{last}");
    assert!(last.starts_with("dropped "), "{last}");
    text += &last;
    let (_, account) = read_all(&text, &Definitions::of_helper());
    // Three of four requests get to the kernel.
    let name = "pr_helper_sg_end";
    account.settle(&[(name, clients * requests * 3 / 4)].into());
}

#[test]
fn a_log_that_is_gone_is_only_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let log = UnixDatagram::bind(folder.path().join("log")).unwrap();
    let Some(mut running) = start(folder.path(), &ALL_BUT_THREADS) else {
        return;
    };
    // Nobody is at the other end any more.
    drop(log);
    load(&running, 2, 100);
    assert!(running.terminate().success());
    let said = running.said();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("Connection refused"), "{said}");
}
