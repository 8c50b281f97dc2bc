//! The targets over what is in `corpus`: seeds, and what a fuzzer has found in the past.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A process each: one that says something says it to nobody, and a folder that one goes to is its own.
#[test]
fn what_is_known_is_withstood() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in fuzz::TARGETS {
        let folder = corpus.join(target.name);
        assert!(fs::read_dir(&folder).unwrap().next().is_some());
        let output = Command::new(env!("CARGO_BIN_EXE_fuzz"))
            .arg(target.name)
            .arg(folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", target.name);
    }
}

#[test]
fn each_folder_is_a_targets() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for folder in fs::read_dir(corpus).unwrap() {
        let name = folder.unwrap().file_name();
        assert!(fuzz::find(name.to_str().unwrap()).is_some(), "{name:?}");
    }
}
