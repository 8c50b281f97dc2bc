// SPDX-License-Identifier: MIT OR Apache-2.0

//! Registrations without an owner: those that no running virtual machine can have made.
//!
//! | module | content |
//! |---|---|
//! | `disk_users` | the processes of this host that have a disk open |
//! | `reports` | what other hosts say about their own registrations |
//! | `evidence` | what is known about the owners, and the verdicts that follow |
//! | `verdict` | the verdicts |

mod disk_users;
mod evidence;
mod reports;
mod verdict;

pub(crate) use disk_users::DiskUsers;
pub(crate) use evidence::{Evidence, Judged};
pub(crate) use reports::{DiskState, OtherHosts, OtherHostsArgs};
pub(crate) use verdict::Verdict;
