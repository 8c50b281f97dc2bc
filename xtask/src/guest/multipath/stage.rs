//! What the scenario has in front of it: two paths, the map over them, and what lies on the map.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::daemons::{self, Multipathd, PATIENCE, Udevd};
use super::device::Device;
use crate::guest::lio::Port;
use crate::guest::maps::{Maps, linear, sectors};
use crate::guest::{Modules, read, write};
use crate::process::{command, poll, run, text};

/// One of the map's paths.
pub(super) struct Route {
    /// The block device's name, `sdX`.
    pub(super) name: String,
    /// The number of its port.
    pub(super) port: u32,
    /// The character device: udevd does not look at the disk anew when it is closed.
    pub(super) generic: PathBuf,
    pub(super) device: Device,
    transport: PathBuf,
}

/// What becomes of a path.
#[derive(Clone, Copy)]
pub(super) enum State {
    /// It is used.
    Active,
    /// It is not.
    Failed,
}

/// How a path can fail.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// The SCSI layer has given the disk up, which is what its error handling ends with: commands
    /// are refused before they are sent.
    Disk,
    /// The disk is as it was, but commands do not get to the port.
    Transport,
}

/// The whole of it.
pub(crate) struct Stage {
    udevd: Udevd,
    pub(super) multipathd: Multipathd,
    pub(super) routes: [Route; 2],
    /// What the map is called: a name in `/dev/mapper`.
    pub(super) name: String,
    pub(super) map: Device,
    pub(super) maps: Maps,
    /// A volume on the map.
    pub(super) volume: PathBuf,
}

impl Stage {
    /// Starts the daemons and waits for the map over the two ports of one unit. Disks of `strangers`
    /// are to be in no map.
    pub(crate) fn set(modules: &Modules, ports: &[Port; 2], strangers: &[&Port]) -> Result<Self> {
        // The kernel looks for modules where the host has its own.
        for module in ["dm_mod", "dm_multipath", "dm_service_time"] {
            modules.load(module)?;
        }
        let udevd = Udevd::start()?;
        let strangers = strangers.iter().map(|port| name_of(&port.block));
        let multipathd = Multipathd::start(strangers.collect::<Result<_>>()?)?;
        let routes = [Route::new(&ports[0])?, Route::new(&ports[1])?];
        let name = map_over(&routes.each_ref().map(|route| route.name.as_str()))?;
        let multipath = appeared(&name)?;
        // Made by kpartx, which a rule of udev starts.
        let partition = appeared(&format!("{name}-part1"))?;
        let size = sectors(&ports[0].block)?;
        let whole = create("lintest", &linear(size, &ports[0].block))?;
        let maps = Maps {
            stack: create("lintest-stack", &linear(size, &whole))?,
            parts: vec![create("linpart", &linear(size / 2, &ports[0].block))?],
            linear: whole,
            partition,
            multipath,
            in_daemon: true,
        };
        // Smaller than the map, as volumes are.
        let volume = create("volume", &linear(size / 2, &maps.multipath))?;
        let stage = Self {
            udevd,
            multipathd,
            routes,
            map: Device::open(&maps.multipath)?,
            name,
            maps,
            volume,
        };
        stage.both_active()?;
        daemons::settle()?;
        print!("{}", text(command("multipath").arg("-ll"))?);
        print!("{}", text(command("dmsetup").arg("table"))?);
        Ok(stage)
    }

    /// Has udevd look at no disk any more.
    pub(crate) fn freeze_udev(&self) -> Result<()> {
        self.udevd.freeze()
    }

    /// The map's node.
    pub(crate) fn disk(&self) -> &Path {
        &self.map.path
    }

    /// Waits until both paths are used and well.
    pub(super) fn both_active(&self) -> Result<()> {
        for route in &self.routes {
            self.wait_for_path(route, State::Active)?;
        }
        Ok(())
    }

    /// Waits until device-mapper and multipathd agree that a path is in this state. Either can be
    /// late: multipathd learns from device-mapper what data has met, and tells it what its checker
    /// has.
    pub(super) fn wait_for_path(&self, route: &Route, state: State) -> Result<()> {
        let (in_table, in_daemon) = match state {
            State::Active => ("A", "active ready"),
            State::Failed => ("F", "failed faulty"),
        };
        let number = route.number()?;
        let mut last = (String::new(), String::new());
        let reached = poll(PATIENCE, || {
            let status = text(command("dmsetup").args(["status", &self.name]))?;
            let mut words = status.split_whitespace().skip_while(|word| *word != number);
            let of_kernel = words.nth(1).unwrap_or_default().to_owned();
            last = (of_kernel, self.multipathd.path_state(&route.name)?);
            Ok((last.0 == in_table && last.1 == in_daemon).then_some(()))
        })?;
        let name = &route.name;
        reached.with_context(|| format!("path {name} does not get {in_daemon}, but is {last:?}"))
    }

    /// The number of the path that a command to the map goes to: the one whose port answers.
    pub(super) fn answering(&self) -> Result<usize> {
        let port = self.map.identification()?;
        for (number, route) in self.routes.iter().enumerate() {
            if route.device.identification()? == port {
                return Ok(number);
            }
        }
        bail!("the port that answers for the map is none of its paths'")
    }

    /// Has device-mapper obey a message to the map's target.
    pub(super) fn message(&self, message: &str) -> Result<()> {
        run(command("dmsetup").args(["message", &self.name, "0", message]))
    }

    /// Reads blocks from the map, past the cache, one after another.
    pub(super) fn read_blocks(&self, number: usize) -> Result<()> {
        let input = format!("if={}", self.map.path.display());
        let count = format!("count={number}");
        run(command("dd")
            .args(["of=/dev/null", "bs=4096", "iflag=direct", "status=none"])
            .args([input, count]))
    }
}

impl Route {
    fn new(port: &Port) -> Result<Self> {
        Ok(Self {
            name: name_of(&port.block)?,
            port: port.number,
            generic: port.generic.clone(),
            transport: port.transport.clone(),
            device: Device::open(&port.block)?,
        })
    }

    /// The number that device-mapper knows it by.
    pub(super) fn number(&self) -> Result<String> {
        read(Path::new(&format!("/sys/block/{}/dev", self.name)))
    }

    /// Makes the path fail.
    pub(super) fn cut(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Disk => self.set_state("offline"),
            Fault::Transport => write(&self.transport, "offline"),
        }
    }

    /// Makes it work again. Nobody is told.
    pub(super) fn mend(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Disk => self.set_state("running"),
            Fault::Transport => write(&self.transport, "online"),
        }
    }

    fn set_state(&self, state: &str) -> Result<()> {
        let file = format!("/sys/block/{}/device/state", self.name);
        // The kernel wants the line end.
        write(Path::new(&file), &format!("{state}\n"))
    }
}

/// The name of the multipath map that holds these disks, once there is one.
pub(super) fn map_over(disks: &[&str]) -> Result<String> {
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
    let found = poll(PATIENCE, || {
        let found = disks.iter().map(|disk| maps(disk));
        let found = found.collect::<Result<Vec<_>>>()?;
        let is_one = found.iter().all(|names| *names == found[0]);
        Ok(found[0].first().filter(|_| is_one).cloned())
    })?;
    let name = found.context("multipathd makes no map over the disks")?;
    ensure!(!name.is_empty(), "the map has no name");
    Ok(name)
}

/// The name of a block device, `sdX`.
pub(super) fn name_of(block: &Path) -> Result<String> {
    let name = block.file_name().and_then(|name| name.to_str());
    Ok(name.context("a disk's name is odd")?.to_owned())
}

fn create(name: &str, table: &str) -> Result<PathBuf> {
    run(command("dmsetup").args(["create", name, "--table", table]))?;
    appeared(name)
}

fn appeared(name: &str) -> Result<PathBuf> {
    let path = Path::new("/dev/mapper").join(name);
    let there = poll(PATIENCE, || Ok(path.exists().then_some(())))?;
    there.with_context(|| format!("no {} shows up", path.display()))?;
    Ok(path)
}
