//! A disk that is full, and then is not: whole records before, the number of those that are missing, and
//! all that come later.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::account::{Account, expected, to_binary_file};
use crate::definitions::Definitions;
use crate::helper::{Launch, Running, load, wait_for};
use crate::namespace;
use crate::reader::{Item, read};

const CLIENTS: u64 = 4;
const REQUESTS: u64 = 500;
const ROOM: u64 = 64 * 1024;

/// Fills the disk, makes room, and looks at what is there then.
fn fill(mut running: Running, path: &Path, make_room: impl FnOnce(&Running)) {
    let definitions = Definitions::of_helper();
    load(&running, CLIENTS, REQUESTS);
    wait_for("the remark", || {
        running.said().contains("trace dropped").then_some(())
    });
    // Until the helper has tried the last of them, there can be half a record for a moment.
    let bytes = wait_for("a file that stays as it is", || {
        let bytes = fs::read(path).unwrap();
        thread::sleep(Duration::from_millis(200));
        (bytes == fs::read(path).unwrap()).then_some(bytes)
    });
    let length = u64::try_from(bytes.len()).unwrap();
    assert!(length <= ROOM && length > ROOM - 1024, "{length}");
    let before = read(&bytes, &definitions).unwrap();

    make_room(&running);
    load(&running, CLIENTS, REQUESTS);
    // On a mount of the helper's own: it goes with it.
    let file = fs::File::open(path).unwrap();
    assert!(running.terminate().success());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &file, &mut bytes).unwrap();
    let items = read(&bytes, &definitions).unwrap();
    let account = Account::of(&items);
    let loads = [(CLIENTS, REQUESTS), (CLIENTS, REQUESTS)];
    account.settle(&expected(running.connected(), &loads));
    assert!(account.dropped > 0);
    // What was there stays. The first gap is where it ends, or before that if there was room for its mark and
    // little more.
    assert!(items.starts_with(&before));
    let is_gap = |item: &Item| matches!(item, Item::Dropped { .. });
    let first_gap = items.iter().position(is_gap).unwrap();
    assert!(first_gap <= before.len(), "{first_gap}, {}", before.len());
    let Some(Item::Event(last)) = items.last() else {
        panic!("{:?}", items.last());
    };
    assert_eq!(last.name, "pr_helper_stopped");
}

fn launch(folder: &Path, wrapper: &[String], file: &str) -> Running {
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let arguments = to_binary_file(file);
    let launch = Launch::under(folder, &wrapper).args(arguments.iter().map(String::as_str));
    launch.start()
}

#[test]
fn a_file_that_may_not_get_longer() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = ["prlimit".to_owned(), format!("--fsize={ROOM}:unlimited")];
    let running = launch(folder.path(), &wrapper, "trace");
    fill(running, &folder.path().join("trace"), |running| {
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        prlimit(Some(running.process()), Resource::Fsize, unlimited).unwrap();
    });
}

#[test]
fn a_full_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let Some(wrapper) = namespace::wrapper(
        "mkdir disk; mount -t tmpfs -o size=4M none disk; head -c 4128768 /dev/zero > disk/filler",
    ) else {
        return;
    };
    let running = launch(folder.path(), &wrapper, "disk/trace");
    let inside = |name: &str| {
        let root = PathBuf::from(format!("/proc/{}/root", running.pid()));
        let folder = folder.path().strip_prefix("/").unwrap();
        root.join(folder).join("disk").join(name)
    };
    let (trace, filler) = (inside("trace"), inside("filler"));
    fill(running, &trace, |_| fs::remove_file(filler).unwrap());
}

#[test]
fn a_file_that_is_emptied_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).args(["-Tpr_helper_client_connected,file=trace"]);
    let mut running = launch.start();
    let path = folder.path().join("trace");
    let written = || fs::read_to_string(&path).unwrap();
    let line = |client: u64| format!("pr_helper_client_connected client={client} ");
    wait_for("the first line", || {
        written().starts_with(&line(1)).then_some(())
    });
    // As logrotate does with copytruncate.
    fs::write(&path, "").unwrap();
    running.client().leave();
    assert!(running.terminate().success());
    let text = written();
    assert!(text.starts_with(&line(2)), "{text:?}");
    assert_eq!(text.lines().count(), 1, "{text:?}");
}
