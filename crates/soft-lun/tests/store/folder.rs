//! Which descriptor is which port.

use std::fs::{self, File};
use std::os::fd::AsFd as _;

use soft_lun::SupportedFeatures;
use soft_lun::store::{Lun, LunDirectory};

use crate::support::{Scratch, name, ports};

fn found(folder: &LunDirectory, file: &File) -> Option<(String, String)> {
    let port = folder.find_port(file.as_fd()).unwrap()?;
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
fn a_port_is_known_by_its_inode_alone() {
    let scratch = Scratch::new();
    let path = scratch.folder.path();
    Lun::create(&path.join("other"), ports(), SupportedFeatures::default()).unwrap();
    let folder = LunDirectory::open(path).unwrap();
    for lun in ["lun", "other"] {
        for port in ["a", "b"] {
            let file = File::open(path.join(lun).join("ports").join(port)).unwrap();
            assert_eq!(found(&folder, &file), Some((lun.into(), port.into())));
        }
    }
    // By another name it is the same.
    fs::hard_link(scratch.file("ports/b"), path.join("link")).unwrap();
    let link = File::open(path.join("link")).unwrap();
    assert_eq!(found(&folder, &link), Some(("lun".into(), "b".into())));
}

#[test]
fn nothing_else_is_a_port() {
    let scratch = Scratch::new();
    let path = scratch.folder.path();
    let folder = LunDirectory::open(path).unwrap();
    fs::write(path.join("file"), "").unwrap();
    let elsewhere = Scratch::new();
    for path in [
        &scratch.file("lun.json"),
        &scratch.file("state.json"),
        &scratch.file("ports"),
        &path.join("file"),
        &elsewhere.file("ports/a"),
        &"/dev/null".into(),
    ] {
        assert_eq!(
            found(&folder, &File::open(path).unwrap()),
            None,
            "{}",
            path.display()
        );
    }
    // A copy of a port is another file.
    fs::copy(scratch.file("ports/a"), path.join("copy")).unwrap();
    assert_eq!(
        found(&folder, &File::open(path.join("copy")).unwrap()),
        None
    );
    // And a port that is gone is none.
    let gone = File::open(scratch.file("ports/a")).unwrap();
    fs::remove_file(scratch.file("ports/a")).unwrap();
    assert_eq!(found(&folder, &gone), None);
}

#[test]
fn only_folders_with_ports_are_listed() {
    let scratch = Scratch::new();
    let path = scratch.folder.path();
    Lun::create(&path.join("another"), ports(), SupportedFeatures::default()).unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    fs::create_dir_all(path.join(".hidden/ports")).unwrap();
    fs::write(path.join("file"), "").unwrap();
    let folder = LunDirectory::open(path).unwrap();
    assert_eq!(folder.names().unwrap(), [name("another"), name("lun")]);
    assert_eq!(
        folder.lun(&name("lun")).unwrap().config().unwrap().ports,
        ports()
    );
    assert!(folder.lun(&name("none")).is_err());
}

#[test]
fn a_folder_that_is_none_cannot_be_opened() {
    let scratch = Scratch::new();
    for path in [scratch.file("lun.json"), scratch.file("nothing")] {
        let error = LunDirectory::open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("cannot open {}", path.display()));
    }
}

#[test]
fn a_descriptor_that_needs_no_permission_is_no_port() {
    let scratch = Scratch::new();
    let folder = LunDirectory::open(scratch.folder.path()).unwrap();
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::empty();
    let path = rustix::fs::open(scratch.file("ports/a"), flags, mode).unwrap();
    assert!(folder.find_port(path.as_fd()).unwrap().is_none());
}

#[test]
fn a_folder_that_is_gone_is_said() {
    let scratch = Scratch::new();
    let port = File::open(scratch.file("ports/a")).unwrap();
    let folder = LunDirectory::open(scratch.folder.path()).unwrap();
    fs::remove_dir_all(scratch.folder.path()).unwrap();
    let error = folder.find_port(port.as_fd()).unwrap_err().to_string();
    assert!(error.contains("was removed"), "{error}");
}

#[test]
fn one_that_cannot_be_looked_into_does_not_hide_the_others() {
    let scratch = Scratch::new();
    let path = scratch.folder.path();
    // Not even root opens it: too many links.
    fs::create_dir(path.join("a")).unwrap();
    std::os::unix::fs::symlink("ports", path.join("a/ports")).unwrap();
    std::os::unix::fs::symlink("b", path.join("b")).unwrap();
    let folder = LunDirectory::open(path).unwrap();
    let port = File::open(scratch.file("ports/a")).unwrap();
    assert_eq!(found(&folder, &port), Some(("lun".into(), "a".into())));
    fs::write(path.join("file"), "").unwrap();
    let file = File::open(path.join("file")).unwrap();
    assert!(folder.find_port(file.as_fd()).is_err());
}
