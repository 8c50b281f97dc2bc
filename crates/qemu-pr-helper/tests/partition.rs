//! Partitions: the helper must not send commands to a disk for a client that has only opened a
//! partition of it.
//!
//! The disk is a loop device, which does not support reservations, but gets the commands.
//! tests/compat tests a SCSI disk with device-mapper devices, on hosts that have one.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;
use pr_helper_protocol::wire::pad_cdb;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

const TIMEOUT: Duration = Duration::from_secs(60);

/// READ KEYS, and REGISTER with a parameter list of zeros.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const REGISTER: [u8; 10] = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];

/// Size of the loop device in bytes, and start and length of its partition in sectors.
const SIZE: u64 = 8 << 20;
const PARTITION: [&str; 2] = ["2048", "4096"];

/// Prints why the test is skipped; skipping is a failure if `PR_COMPAT_STRICT` is set.
fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    // Not with eprintln, because the test harness captures that.
    let _ = writeln!(io::stderr(), "partition: skipped: {reason}");
}

/// Loop device with a partition, removed on drop.
struct Loop(String);

impl Loop {
    fn create(dir: &Path) -> Result<Self, String> {
        let image = dir.join("image");
        File::create(&image).unwrap().set_len(SIZE).unwrap();
        let device = output(
            Command::new("losetup")
                .args(["--find", "--show"])
                .arg(image),
        )?;
        let device = Self(device.trim_end().to_owned());
        let mut addpart = Command::new("addpart");
        output(addpart.args([&device.0, "1"]).args(PARTITION))?;
        Ok(device)
    }

    /// Opens the disk, or the partition with this suffix, through a node in `dir`.
    fn open(&self, suffix: &str, dir: &Path) -> Result<File, String> {
        let disk = Path::new(&self.0).file_name().unwrap().to_str().unwrap();
        let number = PathBuf::from(format!("/sys/class/block/{disk}{suffix}/dev"));
        let number = fs::read_to_string(number).unwrap();
        let (major, minor) = number.trim_end().split_once(':').unwrap();
        let device = makedev(major.parse().unwrap(), minor.parse().unwrap());
        let node = dir.join(format!("disk{suffix}"));
        mknodat(CWD, &node, FileType::BlockDevice, Mode::RUSR, device)
            .map_err(|error| format!("cannot create a device node: {error}"))?;
        let mut options = File::options();
        let file = options.read(true).write(true).open(node);
        file.map_err(|error| format!("cannot open a block device: {error}"))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Detaching the image does not remove the partition.
        let _ = Command::new("delpart").args([&self.0, "1"]).output();
        let _ = Command::new("losetup").args(["--detach", &self.0]).output();
    }
}

/// Runs a command and returns its standard output.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        )),
    }
}

/// Helper process, killed on drop.
struct Helper(Child);

impl Helper {
    fn start(dir: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .arg("-k")
            .arg(dir.join("socket"))
            .stdin(Stdio::null())
            .stderr(File::create(dir.join("stderr")).unwrap())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(socket: &Path) -> Client {
    let end = Instant::now() + TIMEOUT;
    loop {
        match Client::connect(socket) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10));
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
        Err(reason) => return skip(&reason),
    };
    let _helper = Helper::start(dir.path());
    let mut client = connect(&dir.path().join("socket"));
    let mut sense = |cdb: &[u8], parameters: &[u8], device: &File| {
        let response = client.execute(pad_cdb(cdb), device.as_fd(), parameters);
        let response = response.unwrap();
        assert_eq!(response.status, Status::CHECK_CONDITION);
        let sense = Sense::decode(&response.sense).unwrap();
        (sense.key, sense.code)
    };
    let rejected = (
        SenseKey::IllegalRequest,
        AdditionalSense::INVALID_COMMAND_OPERATION_CODE,
    );
    for (cdb, parameters) in [(&READ_KEYS, &[][..]), (&REGISTER, &[0; 24])] {
        assert_eq!(sense(cdb, parameters, &partition), rejected);
        // The command reaches the loop driver, which does not support it.
        assert_ne!(sense(cdb, parameters, &disk), rejected);
    }
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert_eq!(
        log.matches("it is a partition or covers only a part of a disk")
            .count(),
        1,
        "{log}"
    );
}
