//! Runs the targets over the inputs in `corpus`: seeds, and earlier findings of the fuzzer.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Each target runs in a process of its own, so that its output is discarded and a change of its
/// working directory affects only itself.
#[test]
fn corpus_inputs_pass() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in fuzz::TARGETS {
        let dir = corpus.join(target.name);
        assert!(fs::read_dir(&dir).unwrap().next().is_some());
        let output = Command::new(env!("CARGO_BIN_EXE_fuzz"))
            .arg(target.name)
            .arg(dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", target.name);
    }
}

#[test]
fn each_directory_belongs_to_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for dir in fs::read_dir(corpus).unwrap() {
        let name = dir.unwrap().file_name();
        assert!(fuzz::find(name.to_str().unwrap()).is_some(), "{name:?}");
    }
}
