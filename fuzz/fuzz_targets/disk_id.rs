// SPDX-License-Identifier: MIT OR Apache-2.0

//! Identifiers of disks: normalizing one twice changes nothing, and that of a map is normal.

#![cfg_attr(fuzzing, no_main)]

use qemu_pr_helper::names::disk_name::{normalize_wwid, wwn_of_map};

fuzz::target!(run);

/// Input: an identifier of sysfs, or the UUID of a map without its prefix.
fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let normal = normalize_wwid(text);
    assert!(normal.len() <= text.len());
    assert_eq!(normalize_wwid(&normal), normal);
    if let Some(wwn) = wwn_of_map(&format!("mpath-{text}")) {
        assert_eq!(normalize_wwid(&wwn), wwn);
        assert!(wwn.contains('.'));
    }
}
