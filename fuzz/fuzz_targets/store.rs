// SPDX-License-Identifier: MIT OR Apache-2.0

//! Both files of a soft LUN in a directory: opening it is an error with a message, or results in a
//! valid unit.

#![cfg_attr(fuzzing, no_main)]
#![expect(clippy::unwrap_used, reason = "a target reports failures by panicking")]

use std::fs;
use std::sync::OnceLock;

use soft_lun::store::Lun;
use tempfile::TempDir;

use fuzz::input::halves;
use fuzz::invariants;

fuzz::target!(run);

/// Returns the directory of the files; in memory if `/dev/shm` exists.
fn dir() -> &'static TempDir {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        TempDir::new_in("/dev/shm")
            .or_else(|_| TempDir::new())
            .unwrap()
    })
}

/// Input: `lun.json`, a zero byte, `state.json`.
fn run(bytes: &[u8]) {
    let (config_json, state) = halves(bytes);
    let path = dir().path();
    fs::write(path.join("lun.json"), config_json).unwrap();
    fs::write(path.join("state.json"), state).unwrap();
    let lun = Lun::open(path).unwrap();
    let config = lun.config();
    match lun.load() {
        Ok(unit) => {
            let config = config.unwrap();
            assert_eq!(unit.nexuses().count(), config.ports.len());
            assert_eq!(unit.supported_features(), config.supported_features);
            invariants::check(&unit);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
