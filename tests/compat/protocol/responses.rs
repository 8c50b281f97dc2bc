// SPDX-License-Identifier: MIT OR Apache-2.0

//! Exact responses for descriptors that are not SCSI devices.

use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Result, bail};
use linux_util::sg_io::{Data, sg_io};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};

use super::{NOT_SCSI, expect_not_scsi, expect_sense, with_client};
use crate::case::Case;
use crate::client::{pr_in, pr_out};
use crate::differences::Change;
use crate::helper::Helper;

/// ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE: response for a descriptor without write access.
const READ_ONLY: (u8, u8, u8) = (5, 0x20, 0);

/// A file that is sent as a device.
struct TestFile {
    name: &'static str,
    open: fn() -> Result<OwnedFd>,
    /// Sense data of PERSISTENT RESERVE OUT.
    out: (u8, u8, u8),
}

impl TestFile {
    const fn new(name: &'static str, open: fn() -> Result<OwnedFd>, out: (u8, u8, u8)) -> Self {
        Self { name, open, out }
    }
}

const FILES: [TestFile; 14] = [
    TestFile::new("null_device", || null(OFlags::RDWR), NOT_SCSI),
    TestFile::new("null_device_read_only", || null(OFlags::RDONLY), READ_ONLY),
    TestFile::new("null_device_write_only", || null(OFlags::WRONLY), NOT_SCSI),
    TestFile::new(
        "null_device_in_append_mode",
        || null(OFlags::RDWR | OFlags::APPEND),
        NOT_SCSI,
    ),
    TestFile::new(
        "zero_device",
        || Ok(open("/dev/zero", OFlags::RDWR)?),
        NOT_SCSI,
    ),
    TestFile::new(
        "terminal",
        || Ok(open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY)?),
        NOT_SCSI,
    ),
    TestFile::new(
        "regular_file",
        || Ok(tempfile::tempfile()?.into()),
        NOT_SCSI,
    ),
    TestFile::new(
        "regular_file_read_only",
        || Ok(open("/proc/self/exe", OFlags::RDONLY)?),
        READ_ONLY,
    ),
    TestFile::new(
        "memory_file",
        || Ok(memfd_create("test", MemfdFlags::empty())?),
        NOT_SCSI,
    ),
    TestFile::new("directory", || Ok(File::open("/")?.into()), READ_ONLY),
    TestFile::new("pipe_to_read", || Ok(rustix::pipe::pipe()?.0), READ_ONLY),
    TestFile::new("pipe_to_write", || Ok(rustix::pipe::pipe()?.1), NOT_SCSI),
    TestFile::new("unix_socket", || Ok(UnixStream::pair()?.0.into()), NOT_SCSI),
    TestFile::new(
        "listening_socket",
        || Ok(TcpListener::bind("127.0.0.1:0")?.into()),
        NOT_SCSI,
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for TestFile { name, open, out } in FILES {
        cases.push(Case::new(
            format!("in_to_{name}_is_answered"),
            move |helper| {
                with_client(helper, |client| {
                    expect_sense(&client.command(&pr_in(0, 8192), &[], open()?)?, NOT_SCSI)
                })
            },
        ));
        cases.push(Case::new(
            format!("out_to_{name}_is_answered"),
            move |helper| {
                with_client(helper, |client| {
                    expect_sense(&client.command(&pr_out(0, 0, 24), &[0; 24], open()?)?, out)?;
                    // The connection must still work.
                    expect_sense(&client.command(&pr_in(0, 8), &[], open()?)?, NOT_SCSI)
                })
            },
        ));
    }
    for (name, cdb, parameters, sense) in [
        ("in", pr_in(0, 8192), 0, NOT_SCSI),
        ("out", pr_out(0, 0, 24), 24, READ_ONLY),
    ] {
        let case = Case::new(format!("{name}_to_a_path_descriptor"), move |helper| {
            with_client(helper, |client| {
                let device = null(OFlags::PATH)?;
                if helper.has_changed(Change::PathDescriptor) {
                    client.send_with(&cdb, &[device.as_fd()])?;
                    return client.expect_closed();
                }
                let response = client.command(&cdb, &vec![0; parameters], device)?;
                expect_sense(&response, sense)?;
                // The connection must still work.
                expect_not_scsi(&client.command(&pr_in(0, 8), &[], null(OFlags::RDWR)?)?)
            })
        });
        cases.push(case.change(Change::PathDescriptor));
    }
    cases.push(Case::new(
        "sense_follows_the_errno_of_the_device",
        follows_errno,
    ));
    for action in [0, 1, 6, 7, 31] {
        let name = format!("out_action_{action}_to_a_read_only_descriptor_is_rejected");
        cases.push(Case::new(name, move |helper| {
            with_client(helper, |client| {
                let device = null(OFlags::RDONLY)?;
                expect_sense(
                    &client.command(&pr_out(action, 5, 24), &[0; 24], &device)?,
                    READ_ONLY,
                )?;
                expect_sense(
                    &client.command(&pr_out(action, 5, 0), &[], device)?,
                    READ_ONLY,
                )
            })
        }));
    }
    cases
}

fn open(path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn null(flags: OFlags) -> Result<OwnedFd> {
    Ok(open("/dev/null", flags)?)
}

/// The error of an event queue for an unknown ioctl differs between kernels, and so does the sense
/// data.
fn follows_errno(helper: &Helper) -> Result<()> {
    use rustix::event::epoll::{CreateFlags, create};
    let queue = create(CreateFlags::CLOEXEC)?;
    let none = Duration::ZERO;
    let expected = match sg_io(queue.as_fd(), &pr_in(0, 8), Data::None, &mut [], none) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => (5, 0x24, 0),
        Err(_) => NOT_SCSI,
        Ok(done) => bail!("an event queue accepted a command: {done:?}"),
    };
    with_client(helper, |client| {
        expect_sense(&client.command(&pr_in(0, 8), &[], &queue)?, expected)?;
        expect_sense(
            &client.command(&pr_out(0, 0, 24), &[0; 24], &queue)?,
            expected,
        )
    })
}
