//! What the helper says when it cannot trace as it is told, and does not start.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::geteuid;

use crate::account::Account;
use crate::definitions::Definitions;
use crate::helper::{Launch, load};
use crate::reader::read;

/// A user without rights, which nothing else runs as.
const NOBODY: u32 = 54_321;

/// Checks that it does not start, and that this is all that it says.
fn refuses(launch: Launch, folder: &Path, expected: &str) {
    let output = launch.finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("qemu-pr-helper: {expected}\n"));
    // Nor does it leave anything.
    assert!(!folder.join("socket").exists());
}

/// Checks it of a helper with these arguments, in which `{}` stands for its folder.
fn check(arguments: &[&str], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let filled = |text: &str| text.replace("{}", folder.path().to_str().unwrap());
    let arguments: Vec<_> = arguments.iter().map(|argument| filled(argument)).collect();
    let launch = Launch::new(folder.path()).args(arguments.iter().map(String::as_str));
    refuses(launch, folder.path(), &filled(expected));
}

#[test]
fn an_events_file_that_cannot_be_read() {
    check(
        &["-Tevents=none"],
        "--trace: cannot read events file 'none': No such file or directory (os error 2)",
    );
    check(
        &["-Tevents={}/folder"],
        "--trace: cannot read events file '{}/folder': Is a directory (os error 21)",
    );
}

#[test]
fn an_events_file_that_is_another_s() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events");
    fs::write(&events, "*\n").unwrap();
    fs::set_permissions(&events, Permissions::from_mode(0o000)).unwrap();
    let user = NOBODY.to_string();
    // The folder of a user without rights is not this user's.
    let wrapper = match geteuid().is_root() {
        true => &["setpriv", "--reuid", &user, "--clear-groups"][..],
        false => &[],
    };
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let launch = Launch::under(folder.path(), wrapper).args(["-Tevents=events"]);
    refuses(
        launch,
        folder.path(),
        "--trace: cannot read events file 'events': Permission denied (os error 13)",
    );
}

#[test]
fn a_trace_file_that_cannot_be_written() {
    for backend in ["log", "simple"] {
        check(
            &["--trace-backend", backend, "-T*,file=none/trace"],
            "--trace: cannot write trace file '{}/none/trace': \
             No such file or directory (os error 2)",
        );
        check(
            &["--trace-backend", backend, "-T*,file=folder"],
            "--trace: cannot write trace file '{}/folder': Is a directory (os error 21)",
        );
        check(
            &["--trace-backend", backend, "-T*,file="],
            "--trace: cannot write trace file '': No such file or directory (os error 2)",
        );
    }
}

#[test]
fn trace_file_that_is_a_link_is_refused() {
    for backend in ["log", "simple"] {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        fs::write(&file, "content\n").unwrap();
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        for target in [&file, &pipe, &folder.path().join("none")] {
            let link = folder.path().join("link");
            symlink(target, &link).unwrap();
            let option = format!("-T*,file={}", link.display());
            let launch = Launch::new(folder.path()).args(["--trace-backend", backend, &option]);
            let expected = format!(
                "--trace: trace file '{}' is a symbolic link; remove it or use the path of its \
                 target",
                link.display()
            );
            refuses(launch, folder.path(), &expected);
            fs::remove_file(link).unwrap();
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "content\n");
        assert!(!folder.path().join("none").exists());
    }
}

#[test]
fn a_binary_trace_that_cannot_begin() {
    check(
        &["--trace-backend", "simple", "-T*,file=/dev/full"],
        "--trace: cannot write trace file '/dev/full': No space left on device (os error 28)",
    );
}

#[test]
fn lines_that_cannot_be_written_are_only_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Launch::new(folder.path())
        .args(["-T*,file=/dev/full"])
        .start();
    load(&running, 2, 100);
    assert!(running.terminate().success());
    let said = running.said();
    let lines: Vec<_> = said.lines().collect();
    let [first, last] = lines.as_slice() else {
        panic!("{said}");
    };
    assert!(first.starts_with("qemu-pr-helper: warning: trace dropped "));
    assert!(first.ends_with(" events: No space left on device (os error 28)"));
    assert!(last.starts_with("qemu-pr-helper: warning: trace dropped its last "));
}

#[test]
fn without_a_thread_there_is_a_trace_of_the_start_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let user = NOBODY.to_string();
    if !geteuid().is_root() {
        // How many processes this user has is not known.
        return crate::namespace::skipped("not root");
    }
    // Room for the helper and its broker, and no thread.
    let wrapper = [
        "setpriv",
        "--reuid",
        &user,
        "--clear-groups",
        "prlimit",
        "--nproc=2",
    ];
    let output = Launch::under(folder.path(), &wrapper)
        .args(["-q", "--trace-backend", "simple", "-T*,file=trace"])
        .finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "qemu-pr-helper: cannot start the trace writer thread: \
         Resource temporarily unavailable (os error 11)\n"
    );
    let bytes = fs::read(folder.path().join("trace")).unwrap();
    let items = read(&bytes, &Definitions::of_helper()).unwrap();
    let names: Vec<_> = Account::of(&items).written.into_iter().collect();
    let expected = [
        "pr_helper_privileges_dropped",
        "qio_channel_socket_listen_complete",
        "socket_listen",
    ];
    assert_eq!(names, expected.map(|name| (name.to_owned(), 1)));
}
