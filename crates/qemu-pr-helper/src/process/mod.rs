//! The process around the server: its start, privileges, files, signals and service manager.

pub mod account;
pub mod activation;
pub(crate) mod capability;
pub mod closer;
pub mod created_file;
pub mod daemonize;
pub(crate) mod dir_lock;
pub(crate) mod exiting;
pub mod notify;
pub mod pidfile;
pub mod privileges;
pub mod signals;
