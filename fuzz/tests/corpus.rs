// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs the targets over the inputs in `corpus`: seeds, and earlier findings of the fuzzer.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the file names in a directory of the package, without extensions.
fn names(dir: &str) -> io::Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(package().join(dir))?;
    let stem = |path: PathBuf| path.file_stem().unwrap_or_default().to_owned();
    entries.map(|entry| Ok(stem(entry?.path()))).collect()
}

/// Each target runs in a process of its own, so that its output is discarded and a change of its
/// working directory affects only itself.
#[test]
fn corpus_inputs_pass() {
    let programs = Path::new(env!("CARGO_BIN_EXE_sense")).parent().unwrap();
    for target in names("fuzz_targets").unwrap() {
        let output = Command::new(programs.join(&target))
            .arg(package().join("corpus").join(&target))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", target.display());
    }
}

#[test]
fn each_directory_belongs_to_a_target() {
    let targets = names("fuzz_targets").unwrap();
    assert_eq!(names("corpus").unwrap(), targets);
    assert!(names("dictionaries").unwrap().is_subset(&targets));
}
