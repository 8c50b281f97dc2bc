//! One command: the device that it is for, its executor, and its log.

pub mod command_log;
pub mod device;
pub mod executor;
pub mod peer;
pub mod request_device;
pub mod sg;
mod sg_disks;
