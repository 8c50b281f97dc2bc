// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prerequisites of the cases.

use std::env;

use rustix::thread::{CapabilitySet, capabilities};

/// A prerequisite of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Root with all of root's capabilities, to observe dropped privileges and to send commands to
    /// a device.
    Root,
    /// An environment variable that names devices.
    Variable(&'static str),
}

impl Need {
    /// Returns why the prerequisite is not met; `None` if it is.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Root if !rustix::process::geteuid().is_root() => Some("not root".to_owned()),
            Self::Root => (!has_rawio()).then(|| "no CAP_SYS_RAWIO".to_owned()),
            Self::Variable(name) => env::var_os(name)
                .is_none()
                .then(|| format!("{name} is not set")),
        }
    }
}

/// Returns whether this process, and so the helpers that it starts, can have `CAP_SYS_RAWIO`.
pub(crate) fn has_rawio() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RAWIO))
}
