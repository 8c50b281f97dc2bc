// SPDX-License-Identifier: MIT OR Apache-2.0

//! Directories of soft LUNs, and the port that a file descriptor refers to.

use std::fs::{self, File};
use std::os::fd::AsFd as _;

use pr_testkit::soft_lun::two_ports;
use soft_lun::SupportedFeatures;
use soft_lun::store::{Lun, LunDirectory, Name, NameError};

use crate::support::{Fixture, name};

/// Returns the names of the soft LUN and of the port that a file is.
fn find(dir: &LunDirectory, file: &File) -> Option<(String, String)> {
    let port = dir.find_port(file.as_fd()).unwrap()?;
    let lun = port
        .lun
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    Some((lun, port.port.to_string()))
}

#[test]
fn find_port_matches_device_and_inode() {
    let fixture = Fixture::new();
    let path = fixture.dir.path();
    Lun::create(
        &path.join("other"),
        two_ports(),
        SupportedFeatures::default(),
    )
    .unwrap();
    let dir = LunDirectory::open(path).unwrap();
    for lun in ["lun", "other"] {
        for port in ["a", "b"] {
            let file = File::open(path.join(lun).join("ports").join(port)).unwrap();
            assert_eq!(find(&dir, &file), Some((lun.into(), port.into())));
        }
    }
    // A hard link with another name refers to the same port.
    fs::hard_link(fixture.file("ports/b"), path.join("link")).unwrap();
    let link = File::open(path.join("link")).unwrap();
    assert_eq!(find(&dir, &link), Some(("lun".into(), "b".into())));
}

#[test]
fn find_port_ignores_other_files() {
    let fixture = Fixture::new();
    let path = fixture.dir.path();
    let dir = LunDirectory::open(path).unwrap();
    fs::write(path.join("file"), "").unwrap();
    let elsewhere = Fixture::new();
    for path in [
        &fixture.file("lun.json"),
        &fixture.file("state.json"),
        &fixture.file("ports"),
        &path.join("file"),
        &elsewhere.file("ports/a"),
        &"/dev/null".into(),
    ] {
        assert_eq!(
            find(&dir, &File::open(path).unwrap()),
            None,
            "{}",
            path.display()
        );
    }
    // A copy of a port is a different file.
    fs::copy(fixture.file("ports/a"), path.join("copy")).unwrap();
    assert_eq!(find(&dir, &File::open(path.join("copy")).unwrap()), None);
    // An open file that was a port is not a port after its removal.
    let removed = File::open(fixture.file("ports/a")).unwrap();
    fs::remove_file(fixture.file("ports/a")).unwrap();
    assert_eq!(find(&dir, &removed), None);
}

#[test]
fn names_lists_directories_with_ports() {
    let fixture = Fixture::new();
    let path = fixture.dir.path();
    Lun::create(
        &path.join("another"),
        two_ports(),
        SupportedFeatures::default(),
    )
    .unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    fs::create_dir_all(path.join(".hidden/ports")).unwrap();
    fs::write(path.join("file"), "").unwrap();
    let dir = LunDirectory::open(path).unwrap();
    assert_eq!(dir.names().unwrap(), [name("another"), name("lun")]);
    assert_eq!(
        dir.lun(&name("lun")).unwrap().config().unwrap().ports,
        two_ports()
    );
    assert!(dir.lun(&name("none")).is_err());
}

#[test]
fn open_of_non_directory_fails() {
    let fixture = Fixture::new();
    for path in [fixture.file("lun.json"), fixture.file("nothing")] {
        let error = LunDirectory::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("cannot open {}", path.display()));
    }
}

#[test]
fn find_port_ignores_o_path_descriptor() {
    let fixture = Fixture::new();
    let dir = LunDirectory::open(fixture.dir.path()).unwrap();
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::empty();
    let path = rustix::fs::open(fixture.file("ports/a"), flags, mode).unwrap();
    assert!(dir.find_port(path.as_fd()).unwrap().is_none());
}

#[test]
fn find_port_in_removed_directory_fails() {
    let fixture = Fixture::new();
    let port = File::open(fixture.file("ports/a")).unwrap();
    let dir = LunDirectory::open(fixture.dir.path()).unwrap();
    fs::remove_dir_all(fixture.dir.path()).unwrap();
    let error = dir.find_port(port.as_fd()).unwrap_err().to_string();
    assert!(error.contains("was removed"), "{error}");
}

#[test]
fn find_port_skips_unreadable_lun() {
    let fixture = Fixture::new();
    let path = fixture.dir.path();
    // Even root cannot open these symbolic links, because they refer to themselves.
    fs::create_dir(path.join("a")).unwrap();
    std::os::unix::fs::symlink("ports", path.join("a/ports")).unwrap();
    std::os::unix::fs::symlink("b", path.join("b")).unwrap();
    let dir = LunDirectory::open(path).unwrap();
    let port = File::open(fixture.file("ports/a")).unwrap();
    assert_eq!(find(&dir, &port), Some(("lun".into(), "a".into())));
    fs::write(path.join("file"), "").unwrap();
    let file = File::open(path.join("file")).unwrap();
    assert!(dir.find_port(file.as_fd()).is_err());
}

#[test]
fn name_that_leads_elsewhere_is_rejected() {
    let long = "a".repeat(64);
    for text in ["a", "node-1", "shared_0.old", &long] {
        assert_eq!(name(text).to_string(), text);
    }
    let longer = "a".repeat(65);
    for text in [
        "", ".", "..", ".a", "a/b", "/", "a b", "a\0", "ä", "a\n", &longer,
    ] {
        assert_eq!(text.parse::<Name>(), Err(NameError), "{text:?}");
    }
}
