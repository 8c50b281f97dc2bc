// SPDX-License-Identifier: MIT OR Apache-2.0

//! Partitions: the helper must not send commands to a disk for a client that has only opened a
//! partition of it.
//!
//! The disk is a loop device, which does not support reservations, but gets the commands.
//! tests/compat tests a SCSI disk with device-mapper devices, on hosts that have one.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use pr_testkit::cdb::{PrCommand, read_keys, register};
use pr_testkit::{HelperProcess, process, skip};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

/// Size of the loop device in bytes, and start and length of its partition in sectors.
const SIZE: u64 = 8 << 20;
const PARTITION: [&str; 2] = ["2048", "4096"];

/// Loop device with a partition, removed on drop.
struct Loop(String);

impl Loop {
    fn create(dir: &Path) -> Result<Self> {
        let image = dir.join("image");
        File::create(&image).unwrap().set_len(SIZE).unwrap();
        let mut losetup = Command::new("losetup");
        let device = process::text(losetup.args(["--find", "--show"]).arg(image))?;
        let device = Self(device.trim_end().to_owned());
        let mut addpart = Command::new("addpart");
        process::output(addpart.args([&device.0, "1"]).args(PARTITION))?;
        Ok(device)
    }

    /// Opens the disk, or the partition with this suffix, through a node in `dir`.
    fn open(&self, suffix: &str, dir: &Path) -> Result<File> {
        let disk = Path::new(&self.0).file_name().unwrap().to_str().unwrap();
        let number = PathBuf::from(format!("/sys/class/block/{disk}{suffix}/dev"));
        let number = fs::read_to_string(number).unwrap();
        let (major, minor) = number.trim_end().split_once(':').unwrap();
        let device = makedev(major.parse().unwrap(), minor.parse().unwrap());
        let node = dir.join(format!("disk{suffix}"));
        mknodat(CWD, &node, FileType::BlockDevice, Mode::RUSR, device)
            .context("cannot create a device node")?;
        let mut options = File::options();
        let file = options.read(true).write(true).open(node);
        file.context("cannot open a block device")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Detaching the image does not remove the partition.
        let _ = Command::new("delpart").args([&self.0, "1"]).output();
        let _ = Command::new("losetup").args(["--detach", &self.0]).output();
    }
}

#[test]
fn partition_is_rejected_and_its_disk_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = Loop::create(dir.path()).and_then(|device| {
        let files = [device.open("", dir.path())?, device.open("p1", dir.path())?];
        Ok((device, files))
    });
    let (_device, [disk, partition]) = match files {
        Ok(files) => files,
        Err(reason) => return skip(&format!("{reason:#}")),
    };
    let helper = HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    let helper = helper.start().unwrap();
    let mut client = helper.client();
    let mut sense = |command: &PrCommand, device: &File| {
        let response = client.execute(command, device);
        assert_eq!(response.status, Status::CHECK_CONDITION);
        let sense = Sense::decode(&response.sense).unwrap();
        (sense.key, sense.code)
    };
    let rejected = (
        SenseKey::IllegalRequest,
        AdditionalSense::INVALID_COMMAND_OPERATION_CODE,
    );
    for command in [read_keys(8), register(0, 0)] {
        assert_eq!(sense(&command, &partition), rejected);
        // The command reaches the loop driver, which does not support it.
        assert_ne!(sense(&command, &disk), rejected);
    }
    let log = helper.stderr();
    assert_eq!(
        log.matches("it is a partition or covers only a part of a disk")
            .count(),
        1,
        "{log}"
    );
}
