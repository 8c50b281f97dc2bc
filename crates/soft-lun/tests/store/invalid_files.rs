// SPDX-License-Identifier: MIT OR Apache-2.0

//! Invalid or inaccessible files: the error names the file, and no file changes.

use std::error::Error as _;
use std::fs;

use pr_testkit::cdb::{read_keys, reserve};
use scsi_pr::ReservationType;
use soft_lun::store::StoreError;

use crate::support::{Fixture, KEY_A, register};

fn read_error(fixture: &Fixture) -> StoreError {
    fixture.try_send("a", &read_keys(255)).unwrap_err()
}

/// Returns the error of a command with its sources. `load` must fail with the same error.
fn error_text(fixture: &Fixture) -> String {
    let error = read_error(fixture);
    let load_error = fixture.lun.load().unwrap_err();
    assert_eq!(load_error.to_string(), error.to_string());
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Edits a file. Asserts that the error names the file and contains `expected`, and that the file
/// does not change.
#[track_caller]
fn assert_edit_fails(file: &str, from: &str, to: &str, expected: &str) {
    let fixture = Fixture::new();
    fixture.expect_good("a", &register(KEY_A, true));
    fixture.expect_good("a", &reserve(KEY_A, ReservationType::WriteExclusive));
    let content = fixture.content(file);
    assert!(content.contains(from), "{content}");
    let content = content.replace(from, to);
    fs::write(fixture.file(file), &content).unwrap();
    let error_text = error_text(&fixture);
    assert!(error_text.contains(expected), "{error_text}");
    assert!(
        error_text.contains(&*fixture.file(file).to_string_lossy()),
        "{error_text}"
    );
    assert_eq!(fixture.content(file), content);
}

#[test]
fn malformed_state_file_is_named() {
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
        assert_edit_fails("state.json", from, to, expected);
    }
}

#[test]
fn invalid_state_is_named() {
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
        assert_edit_fails("state.json", from, to, expected);
    }
}

#[test]
fn empty_or_missing_state_file_is_named() {
    let fixture = Fixture::new();
    fs::write(fixture.file("state.json"), "").unwrap();
    assert!(error_text(&fixture).contains("EOF while parsing"));
    fs::remove_file(fixture.file("state.json")).unwrap();
    let missing = error_text(&fixture);
    assert!(
        missing.starts_with("cannot open") && missing.contains("state.json"),
        "{missing}"
    );
    assert!(!fixture.file("state.json").exists());
}

#[test]
fn state_file_of_another_lun_is_rejected() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    fs::copy(other.file("state.json"), fixture.file("state.json")).unwrap();
    let identity = |fixture: &Fixture| fixture.lun.config().unwrap().identity;
    let expected = format!(
        "the state belongs to {}, but this soft LUN is {}",
        identity(&other),
        identity(&fixture)
    );
    let error_text = error_text(&fixture);
    assert!(error_text.contains(&expected), "{error_text}");
}

#[test]
fn invalid_config_file_is_named() {
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
        assert_edit_fails("lun.json", from, to, expected);
    }
}

#[test]
fn directory_without_config_is_not_a_lun() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.file("lun.json")).unwrap();
    assert!(error_text(&fixture).ends_with("is not a soft LUN: it has no lun.json"));
}

#[test]
fn state_file_symlink_or_pipe_is_rejected() {
    let fixture = Fixture::new();
    let elsewhere = fixture.dir.path().join("elsewhere");
    fs::rename(fixture.file("state.json"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, fixture.file("state.json")).unwrap();
    assert!(error_text(&fixture).starts_with("cannot open"));
    fs::remove_file(fixture.file("state.json")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, fixture.file("state.json"), mode).unwrap();
    assert!(error_text(&fixture).contains("EOF while parsing"));
}

#[test]
fn existing_temporary_file_is_not_written_to() {
    let fixture = Fixture::new();
    let precious = fixture.dir.path().join("precious");
    fs::write(&precious, "content").unwrap();
    fs::hard_link(&precious, fixture.file("state.json.new")).unwrap();
    fixture.expect_good("a", &register(KEY_A, true));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "content");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, fixture.file("state.json.new"), mode).unwrap();
    fixture.expect_good("a", &register(KEY_A, true));
}

#[test]
fn missing_lock_fails_execute_but_not_load() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.file("lock")).unwrap();
    let error = read_error(&fixture);
    assert!(error.to_string().ends_with("lun/lock"), "{error}");
    assert!(!fixture.file("lock").exists());
    // Reading takes no lock.
    fixture.lun.load().unwrap();
}

#[test]
fn held_lock_times_out() {
    let fixture = Fixture::new();
    let held = fs::File::open(fixture.file("lock")).unwrap();
    held.lock().unwrap();
    let error = read_error(&fixture);
    assert!(error.is_transient(), "{error}");
    assert!(
        error
            .to_string()
            .contains("lun/lock: it is locked by another process"),
        "{error}"
    );
    drop(held);
    fixture.expect_good("a", &read_keys(255));
}

#[test]
fn replaced_lock_file_is_locked_again() {
    let fixture = Fixture::new();
    let held = fs::File::open(fixture.file("lock")).unwrap();
    held.lock().unwrap();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.send("a", &register(KEY_A, false)));
        std::thread::sleep(std::time::Duration::from_millis(20));
        // The waiting thread must notice that the file that it locks is no longer the lock file.
        let new = fs::File::create_new(fixture.file("new")).unwrap();
        new.lock().unwrap();
        fs::rename(fixture.file("new"), fixture.file("lock")).unwrap();
        drop(held);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(fixture.lun.load().unwrap().registrations(), []);
        drop(new);
        waiting.join().unwrap()
    });
    assert_eq!(waiting.status.0, 0);
}

#[test]
fn state_with_unsupported_feature_is_named() {
    let fixture = Fixture::new();
    fixture.expect_good("a", &register(KEY_A, true));
    let content = fixture
        .content("lun.json")
        .replace("\"aptpl\": true", "\"aptpl\": false");
    fs::write(fixture.file("lun.json"), content).unwrap();
    let error_text = error_text(&fixture);
    assert!(error_text.contains("state.json"), "{error_text}");
    assert!(
        error_text.ends_with("the unit does not support APTPL"),
        "{error_text}"
    );
}

#[test]
fn oversized_state_file_is_rejected() {
    let fixture = Fixture::new();
    fs::write(fixture.file("state.json"), vec![b' '; 3 << 20]).unwrap();
    assert!(error_text(&fixture).ends_with("is too large for a file of a soft LUN"));
}

#[test]
fn failed_write_keeps_old_state() {
    let fixture = Fixture::new();
    fixture.expect_good("a", &register(KEY_A, true));
    let before = fixture.content("state.json");
    // A directory has the name of the temporary file: even root cannot write to it.
    fs::create_dir(fixture.file("state.json.new")).unwrap();
    let error = fixture.try_send("a", &register(1, true)).unwrap_err();
    assert!(error.to_string().starts_with("cannot replace"), "{error}");
    assert_eq!(fixture.content("state.json"), before);
    // A command that changes nothing writes nothing.
    fixture.expect_good("a", &read_keys(255));
}
