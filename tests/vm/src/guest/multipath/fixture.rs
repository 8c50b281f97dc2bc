// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fixture of the scenario: two paths, the multipath map over them, and devices on the map.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::daemons::{self, Multipathd, TIMEOUT as DAEMON_TIMEOUT, Udevd};
use super::device::Device;
use crate::guest::lio_target::Port;
use crate::guest::maps::{Maps, linear, load_modules, sectors};
use crate::guest::{Modules, read, write};
use pr_testkit::process::{command, poll, run, text};

/// Number of commands and reads that cover all paths of a map that uses them in turn.
pub(super) const TURNS: usize = 8;

/// A path of the map.
pub(super) struct ScsiPath {
    /// Name of the block device, `sdX`.
    pub(super) name: String,
    /// Port number.
    pub(super) port: u32,
    pub(super) device: Device,
    transport: PathBuf,
}

/// State of a path.
#[derive(Clone, Copy)]
pub(super) enum State {
    /// In use.
    Active,
    /// Not in use.
    Failed,
}

/// Fault of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The SCSI layer has set the disk offline, as at the end of its error handling: commands are
    /// rejected before they are sent.
    Disk,
    /// The disk is unchanged, but commands do not reach the port.
    Transport,
}

/// The fixture.
pub(crate) struct MapFixture {
    udevd: Udevd,
    pub(super) multipathd: Multipathd,
    pub(super) paths: [ScsiPath; 2],
    /// Name of the map in `/dev/mapper`.
    pub(super) name: String,
    pub(super) map: Device,
    pub(super) maps: Maps,
    /// A volume on the map.
    pub(super) volume: PathBuf,
}

impl MapFixture {
    /// Starts the daemons and waits for the map over the two ports of one unit. The disks of
    /// `unmapped` get no map.
    pub(crate) fn create(modules: &Modules, ports: &[Port; 2], unmapped: &[&Port]) -> Result<Self> {
        load_modules(modules)?;
        let udevd = Udevd::start()?;
        let unmapped = unmapped.iter().map(|port| name_of(&port.block));
        let multipathd = Multipathd::start(unmapped.collect::<Result<_>>()?)?;
        let paths = [ScsiPath::new(&ports[0])?, ScsiPath::new(&ports[1])?];
        let name = wait_for_map_of(&paths.each_ref().map(|path| path.name.as_str()))?;
        let multipath = wait_for_map(&name)?;
        // A udev rule starts kpartx, which creates it.
        let partition = wait_for_map(&format!("{name}-part1"))?;
        let size = sectors(&ports[0].block)?;
        let whole = create_map("lintest", &linear(size, &ports[0].block))?;
        let maps = Maps {
            stack: create_map("lintest-stack", &linear(size, &whole))?,
            parts: vec![create_map("linpart", &linear(size / 2, &ports[0].block))?],
            linear: whole,
            partition,
            multipath,
            has_multipathd: true,
        };
        // Smaller than the map, as usual for volumes.
        let volume = create_map("volume", &linear(size / 2, &maps.multipath))?;
        let fixture = Self {
            udevd,
            multipathd,
            paths,
            map: Device::open(&maps.multipath)?,
            name,
            maps,
            volume,
        };
        fixture.both_active()?;
        daemons::settle()?;
        print!("{}", text(command("multipath").arg("-ll"))?);
        print!("{}", text(command("dmsetup").arg("table"))?);
        Ok(fixture)
    }

    /// Stops udevd.
    pub(crate) fn freeze_udev(&self) -> Result<()> {
        self.udevd.freeze()
    }

    /// Continues udevd.
    pub(super) fn thaw_udev(&self) -> Result<()> {
        self.udevd.thaw()
    }

    /// Runs a function while multipathd is stopped. Its checks of the paths would consume unit
    /// attentions.
    pub(crate) fn without_path_checks<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        self.multipathd.freeze()?;
        let result = run();
        self.multipathd.thaw()?;
        result
    }

    /// Returns the map's device node.
    pub(crate) fn disk(&self) -> &Path {
        &self.map.path
    }

    /// Waits until both paths are active and ready.
    pub(super) fn both_active(&self) -> Result<()> {
        for path in &self.paths {
            self.wait_for_path(path, State::Active)?;
        }
        Ok(())
    }

    /// Waits until device-mapper and multipathd agree on the state of a path. multipathd learns
    /// about data errors from device-mapper, and device-mapper about checker results from
    /// multipathd; either can lag behind.
    pub(super) fn wait_for_path(&self, path: &ScsiPath, state: State) -> Result<()> {
        let (in_table, in_multipathd) = match state {
            State::Active => ("A", "active ready"),
            State::Failed => ("F", "failed faulty"),
        };
        let number = path.device_number()?;
        let mut last = (String::new(), String::new());
        let reached = poll(DAEMON_TIMEOUT, || {
            let status = text(command("dmsetup").args(["status", &self.name]))?;
            let mut words = status.split_whitespace().skip_while(|word| *word != number);
            let kernel_state = words.nth(1).unwrap_or_default().to_owned();
            last = (kernel_state, self.multipathd.path_state(&path.name)?);
            Ok((last.0 == in_table && last.1 == in_multipathd).then_some(()))
        })?;
        let name = &path.name;
        reached.with_context(|| format!("path {name} is {last:?} instead of {in_multipathd}"))
    }

    /// Returns the index of the path that the map currently uses: its port responds to a command to
    /// the map.
    pub(super) fn active_path(&self) -> Result<usize> {
        let port = self.map.identification()?;
        for (index, path) in self.paths.iter().enumerate() {
            if path.device.identification()? == port {
                return Ok(index);
            }
        }
        bail!("the responding port is not a port of the map's paths")
    }

    /// Sends a message to the map's device-mapper target.
    pub(super) fn message(&self, message: &str) -> Result<()> {
        run(command("dmsetup").args(["message", &self.name, "0", message]))
    }

    /// Reads blocks from the map sequentially with direct I/O.
    pub(super) fn read_blocks(&self, count: usize) -> Result<()> {
        let input = format!("if={}", self.map.path.display());
        let count = format!("count={count}");
        run(command("dd")
            .args(["of=/dev/null", "bs=4096", "iflag=direct", "status=none"])
            .args([input, count]))
    }
}

impl ScsiPath {
    fn new(port: &Port) -> Result<Self> {
        Ok(Self {
            name: name_of(&port.block)?,
            port: port.number,
            transport: port.transport.clone(),
            device: Device::open(&port.block)?,
        })
    }

    /// Returns the device number, `major:minor`.
    pub(super) fn device_number(&self) -> Result<String> {
        read(Path::new(&format!("/sys/block/{}/dev", self.name)))
    }

    /// Makes the path fail.
    pub(super) fn fail(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Disk => self.set_state("offline"),
            Fault::Transport => write(&self.transport, "offline"),
        }
    }

    /// Restores the path. No daemon is notified.
    pub(super) fn restore(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Disk => self.set_state("running"),
            Fault::Transport => write(&self.transport, "online"),
        }
    }

    fn set_state(&self, state: &str) -> Result<()> {
        let file = format!("/sys/block/{}/device/state", self.name);
        // The kernel requires the newline.
        write(Path::new(&file), &format!("{state}\n"))
    }
}

/// Waits for the multipath map that contains these disks, and returns its name.
pub(crate) fn wait_for_map_of(disks: &[&str]) -> Result<String> {
    let maps = |disk: &str| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for holder in fs::read_dir(format!("/sys/block/{disk}/holders"))? {
            let dm = holder?.path().join("dm");
            if read(&dm.join("uuid"))?.starts_with("mpath-") {
                names.push(read(&dm.join("name"))?);
            }
        }
        Ok(names)
    };
    let found = poll(DAEMON_TIMEOUT, || {
        let found = disks.iter().map(|disk| maps(disk));
        let found = found.collect::<Result<Vec<_>>>()?;
        let is_one = found.iter().all(|names| *names == found[0]);
        Ok(found[0].first().filter(|_| is_one).cloned())
    })?;
    let name = found.context("multipathd did not create a map of the disks")?;
    ensure!(!name.is_empty(), "the map has no name");
    Ok(name)
}

/// Returns the name of a block device, `sdX`.
pub(crate) fn name_of(block: &Path) -> Result<String> {
    let name = block.file_name().and_then(|name| name.to_str());
    Ok(name.context("a disk's name is not UTF-8")?.to_owned())
}

fn create_map(name: &str, table: &str) -> Result<PathBuf> {
    run(command("dmsetup").args(["create", name, "--table", table]))?;
    wait_for_map(name)
}

/// Waits for the device node of a map.
pub(crate) fn wait_for_map(name: &str) -> Result<PathBuf> {
    let path = Path::new("/dev/mapper").join(name);
    let there = poll(DAEMON_TIMEOUT, || Ok(path.exists().then_some(())))?;
    there.with_context(|| format!("timed out waiting for {}", path.display()))?;
    Ok(path)
}
