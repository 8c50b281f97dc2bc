//! One command: the device that it is for, its executor, and its log.

pub mod command_log;
pub mod device;
pub mod executor;
pub mod request_device;
mod sg_disks;
