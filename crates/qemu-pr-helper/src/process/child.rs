// SPDX-License-Identifier: MIT OR Apache-2.0

//! Start of a child process of the broker.

use std::ffi::CStr;
use std::io;

use linux_util::signals;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, set_name};

use super::privileges;

/// Names this process, which `broker` has forked, and drops capabilities. The process ends with the
/// broker, and SIGALRM ends it.
pub(crate) fn begin(name: &CStr, broker: Pid, dropped: CapabilitySet) -> io::Result<()> {
    set_name(name)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(broker) {
        return Err(io::Error::other("the broker has exited"));
    }
    privileges::drop_capabilities(dropped)?;
    signals::reset_sigalrm()
}
