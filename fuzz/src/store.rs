//! Both files of a soft LUN, in a folder: an error that can be told, or a unit that can be.

use std::fs;
use std::sync::OnceLock;

use soft_lun::store::Lun;
use tempfile::TempDir;

use crate::consistent;
use crate::input::halves;

/// Where the files are: in memory, if there is such a place.
fn folder() -> &'static TempDir {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| {
        TempDir::new_in("/dev/shm")
            .or_else(|_| TempDir::new())
            .unwrap()
    })
}

/// `lun.json`, a zero byte, `state.json`.
pub fn run(bytes: &[u8]) {
    let (description, state) = halves(bytes);
    let path = folder().path();
    fs::write(path.join("lun.json"), description).unwrap();
    fs::write(path.join("state.json"), state).unwrap();
    let lun = Lun::open(path).unwrap();
    let described = lun.config();
    match lun.load() {
        Ok(unit) => {
            let description = described.unwrap();
            assert_eq!(unit.nexuses().count(), description.ports.len());
            assert_eq!(unit.supported_features(), description.supported_features);
            consistent::check(&unit);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
