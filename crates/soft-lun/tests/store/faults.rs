//! Files that are not what they should be: an error that names them, and nothing is changed.

use std::error::Error as _;
use std::fs;

use scsi_pr::ReservationType;
use soft_lun::store::Lun;

use crate::support::{KEY_A, Scratch, name, read_keys, register, reserve};

/// What one is told: the error and its sources.
fn complaint(lun: &Lun) -> String {
    let error = lun.execute(&name("a"), &read_keys().0, &[]).unwrap_err();
    let looked = lun.load().unwrap_err();
    assert_eq!(looked.to_string(), error.to_string());
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Edits a file, and sees that the complaint names it and holds `expected`, and that it stays as it is.
#[track_caller]
fn edited(file: &str, from: &str, to: &str, expected: &str) {
    let scratch = Scratch::new();
    scratch.good("a", &register(KEY_A, true));
    scratch.good("a", &reserve(KEY_A, ReservationType::WriteExclusive));
    let content = scratch.content(file);
    assert!(content.contains(from), "{content}");
    let content = content.replace(from, to);
    fs::write(scratch.file(file), &content).unwrap();
    let complaint = complaint(&scratch.lun);
    assert!(complaint.contains(expected), "{complaint}");
    assert!(
        complaint.contains(&*scratch.file(file).to_string_lossy()),
        "{complaint}"
    );
    assert_eq!(scratch.content(file), content);
}

#[test]
fn a_state_that_is_none_is_named() {
    for (from, to, expected) in [
        (
            "soft-lun-state 1",
            "soft-lun-state 2",
            "expected `soft-lun-state 1` at line 2",
        ),
        (
            "\"aptpl\": true",
            "\"aptpl\": 1",
            "expected a boolean at line 6",
        ),
        ("\"aptpl\"", "\"aptlp\"", "unknown field `aptlp`"),
        ("0xaaaa", "0xxaaa", "\"0xxaaa\": "),
        (
            "write-exclusive",
            "write-exclusiv",
            "unknown variant `write-exclusiv`",
        ),
        (
            "naa.3",
            "naa.6",
            "an identity is naa.3 and 15 hexadecimal digits",
        ),
        (
            "\"attentions\": []\n}",
            "\"attentions\": []\n",
            "EOF while parsing",
        ),
        (
            "\"attentions\": []\n}",
            "\"attentions\": []\n}}",
            "trailing characters",
        ),
    ] {
        edited("state.json", from, to, expected);
    }
}

#[test]
fn a_state_that_cannot_be_is_named() {
    for (from, to, expected) in [
        (
            "\"holder\": \"a\"",
            "\"holder\": \"b\"",
            "is not registered",
        ),
        (
            "\"holder\": \"a\"",
            "\"holder\": null",
            "the holder does not match reservation type",
        ),
        ("\"port\": \"a\"", "\"port\": \"c\"", "unknown port c"),
        ("0xaaaa", "0x0", "with key zero"),
    ] {
        edited("state.json", from, to, expected);
    }
}

#[test]
fn an_empty_state_is_corrupt_and_a_missing_one_is_missing() {
    let scratch = Scratch::new();
    fs::write(scratch.file("state.json"), "").unwrap();
    assert!(complaint(&scratch.lun).contains("EOF while parsing"));
    fs::remove_file(scratch.file("state.json")).unwrap();
    let missing = complaint(&scratch.lun);
    assert!(
        missing.starts_with("cannot open") && missing.contains("state.json"),
        "{missing}"
    );
    assert!(!scratch.file("state.json").exists());
}

#[test]
fn the_state_of_another_one_is_foreign() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    fs::copy(other.file("state.json"), scratch.file("state.json")).unwrap();
    let identity = |scratch: &Scratch| scratch.lun.config().unwrap().identity;
    let expected = format!(
        "the state belongs to {}, but this soft LUN is {}",
        identity(&other),
        identity(&scratch)
    );
    let complaint = complaint(&scratch.lun);
    assert!(complaint.contains(&expected), "{complaint}");
}

#[test]
fn a_description_that_is_none_is_named() {
    for (from, to, expected) in [
        (
            "soft-lun 1",
            "soft-lun 2",
            "expected `soft-lun 1` at line 2",
        ),
        ("sas,", "xas,", "\"xas,"),
        (
            "\"name\": \"b\"",
            "\"name\": \"../b\"",
            "a name has 1 to 64 letters",
        ),
        (
            "\"name\": \"b\"",
            "\"name\": \"a\"",
            "two ports are named a",
        ),
        (
            "\"target_port\": 2",
            "\"target_port\": 0",
            "relative target port 0 is reserved",
        ),
    ] {
        edited("lun.json", from, to, expected);
    }
}

#[test]
fn a_folder_without_description_is_no_soft_lun() {
    let scratch = Scratch::new();
    fs::remove_file(scratch.file("lun.json")).unwrap();
    assert!(complaint(&scratch.lun).ends_with("is not a soft LUN: it has no lun.json"));
}

#[test]
fn links_and_pipes_are_not_followed() {
    let scratch = Scratch::new();
    let elsewhere = scratch.folder.path().join("elsewhere");
    fs::rename(scratch.file("state.json"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, scratch.file("state.json")).unwrap();
    assert!(complaint(&scratch.lun).starts_with("cannot open"));
    fs::remove_file(scratch.file("state.json")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, scratch.file("state.json"), mode).unwrap();
    assert!(complaint(&scratch.lun).contains("EOF while parsing"));
}

#[test]
fn what_is_under_the_temporary_name_is_not_written_to() {
    let scratch = Scratch::new();
    let precious = scratch.folder.path().join("precious");
    fs::write(&precious, "content").unwrap();
    fs::hard_link(&precious, scratch.file("state.json.new")).unwrap();
    scratch.good("a", &register(KEY_A, true));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "content");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, scratch.file("state.json.new"), mode).unwrap();
    scratch.good("a", &register(KEY_A, true));
}

#[test]
fn without_its_lock_it_is_being_removed() {
    let scratch = Scratch::new();
    fs::remove_file(scratch.file("lock")).unwrap();
    let error = scratch
        .lun
        .execute(&name("a"), &read_keys().0, &[])
        .unwrap_err();
    assert!(error.to_string().ends_with("lun/lock"), "{error}");
    assert!(!scratch.file("lock").exists());
    // One can still look.
    scratch.lun.load().unwrap();
}

#[test]
fn a_lock_that_nobody_lets_go_of_is_said() {
    let scratch = Scratch::new();
    let held = fs::File::open(scratch.file("lock")).unwrap();
    held.lock().unwrap();
    let error = scratch
        .lun
        .execute(&name("a"), &read_keys().0, &[])
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(
        error
            .to_string()
            .contains("lun/lock: it is locked by another process"),
        "{error}"
    );
    drop(held);
    scratch.good("a", &read_keys());
}

#[test]
fn a_lock_that_was_replaced_is_not_taken_for_the_lock() {
    let scratch = Scratch::new();
    let held = fs::File::open(scratch.file("lock")).unwrap();
    held.lock().unwrap();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| scratch.send("a", &register(KEY_A, false)));
        std::thread::sleep(std::time::Duration::from_millis(20));
        // Whoever waits for the old one must see that it is no longer the lock.
        let new = fs::File::create_new(scratch.file("new")).unwrap();
        new.lock().unwrap();
        fs::rename(scratch.file("new"), scratch.file("lock")).unwrap();
        drop(held);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(scratch.lun.load().unwrap().registrations(), []);
        drop(new);
        waiting.join().unwrap()
    });
    assert_eq!(waiting.status.0, 0);
}

#[test]
fn a_state_that_the_soft_lun_does_not_support_is_named() {
    let scratch = Scratch::new();
    scratch.good("a", &register(KEY_A, true));
    let content = scratch
        .content("lun.json")
        .replace("\"aptpl\": true", "\"aptpl\": false");
    fs::write(scratch.file("lun.json"), content).unwrap();
    let complaint = complaint(&scratch.lun);
    assert!(complaint.contains("state.json"), "{complaint}");
    assert!(
        complaint.ends_with("the unit does not support APTPL"),
        "{complaint}"
    );
}

#[test]
fn files_without_end_are_not_read_to_the_end() {
    let scratch = Scratch::new();
    fs::write(scratch.file("state.json"), vec![b' '; 3 << 20]).unwrap();
    assert!(complaint(&scratch.lun).ends_with("is too large for a file of a soft LUN"));
}

#[test]
fn a_new_state_that_cannot_be_written_leaves_the_old_one() {
    let scratch = Scratch::new();
    scratch.good("a", &register(KEY_A, true));
    let before = scratch.content("state.json");
    // A folder under the temporary name: not even root writes to it.
    fs::create_dir(scratch.file("state.json.new")).unwrap();
    let (cdb, list) = register(1, true);
    let error = scratch.lun.execute(&name("a"), &cdb, &list).unwrap_err();
    assert!(error.to_string().starts_with("cannot replace"), "{error}");
    assert_eq!(scratch.content("state.json"), before);
    // Nothing has to be written to be read.
    scratch.good("a", &read_keys());
}
