// SPDX-License-Identifier: MIT OR Apache-2.0

//! A real SCSI target: the kernel's LIO, set up through configfs.
//!
//! A logical unit is a file in a tmpfs. Each of its ports is a SCSI host of the loopback fabric,
//! and therefore an `I_T` nexus of its own: two block devices take the place of two machines on a
//! storage network.
//!
//! Source: `Documentation/target/` and `drivers/target/` of the kernel.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::{Modules, mount_new, read, write};
use pr_testkit::process::poll;

const CONFIGFS: &str = "/sys/kernel/config";
pub(super) const TARGET: &str = "/sys/kernel/config/target";

/// Directory of the target's persistent state (APTPL) and the state of port groups.
const STATE_DIR: &str = "/run/target";

/// Size of a logical unit in bytes.
pub(super) const SIZE: u32 = 64 << 20;

/// Maximum time until a device appears.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(20);

/// The target, without or with logical units.
pub(crate) struct Target {
    units: u32,
    ports: u32,
}

/// A path to a logical unit.
pub(crate) struct Port {
    /// Relative target port identifier.
    pub(crate) number: u32,
    /// Block device, `/dev/sdX`.
    pub(crate) block: PathBuf,
    /// SCSI generic device, `/dev/sgX`.
    pub(crate) generic: PathBuf,
    /// The only partition of the block device.
    pub(crate) partition: PathBuf,
    /// Control file of the fabric: `offline` interrupts the path, `online` restores it.
    pub(crate) transport: PathBuf,
    /// Directory in configfs with the state of the unit's reservations.
    reservations: PathBuf,
}

impl Port {
    /// Returns the SAS address, which the loopback fabric uses for both initiator and target.
    pub(crate) fn address(&self) -> String {
        sas_address(self.number)
    }

    /// Returns an attribute of the unit's reservations from the target itself.
    pub(crate) fn reservation_attribute(&self, name: &str) -> Result<String> {
        read(&self.reservations.join(name))
    }
}

impl Target {
    /// Loads the target, without a logical unit.
    pub(crate) fn start(modules: &Modules) -> Result<Self> {
        // LIO reports asymmetric access (ALUA). A device gets its handler when it is discovered, so
        // the handler must be loaded before. Without it, a multipath map cannot be created.
        for module in ["configfs", "sd_mod", "sg", "scsi_dh_alua"] {
            modules.load(module)?;
        }
        mount_new("configfs", CONFIGFS)?;
        modules.load("target_core_mod")?;
        // Both directories must exist and `dbroot` must be set before a fabric is loaded; otherwise
        // LIO answers a REGISTER with APTPL with NOT READY.
        for dir in ["pr", "alua"] {
            let dir = Path::new(STATE_DIR).join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        write(&Path::new(TARGET).join("dbroot"), STATE_DIR)?;
        for module in ["target_core_file", "tcm_loop"] {
            modules.load(module)?;
        }
        Ok(Self { units: 0, ports: 0 })
    }

    /// Creates a logical unit without ports, and returns its directory in configfs.
    pub(super) fn create_unit_without_ports(&mut self) -> Result<PathBuf> {
        let number = self.units;
        self.units += 1;
        create_backstore(number)
    }

    /// Creates a logical unit with `PORTS` ports. The ports' SAS addresses start at
    /// 0x5001405000000001 and their relative identifiers at 1, in the order of their creation.
    pub(crate) fn create_unit<const PORTS: usize>(&mut self) -> Result<[Port; PORTS]> {
        let backstore = self.create_unit_without_ports()?;
        let mut ports = Vec::with_capacity(PORTS);
        for _ in 0..PORTS {
            self.ports += 1;
            ports.push(create_port(self.ports, &backstore)?);
        }
        ports
            .try_into()
            .map_err(|_| anyhow!("wrong number of ports"))
    }
}

/// Creates a logical unit without ports, and returns its directory in configfs.
pub(super) fn create_backstore(number: u32) -> Result<PathBuf> {
    let image = image(number);
    fs::File::create(&image)
        .and_then(|file| {
            file.set_len(SIZE.into())?;
            file.write_all_at(&partition_table(), 0)
        })
        .with_context(|| format!("cannot create {image}"))?;
    let dir = Path::new(TARGET).join(format!("core/fileio_0/unit{number}"));
    create(&dir)?;
    let control = format!("fd_dev_name={image},fd_dev_size={SIZE}");
    write(&dir.join("control"), &control)?;
    write(&dir.join("enable"), "1")?;
    // The serial number is the same in every run and differs between units, because multipath
    // identifies units by it.
    let serial = format!("6001405abcdef{number:03}");
    write(&dir.join("wwn/vpd_unit_serial"), &serial)?;
    Ok(dir)
}

/// Returns the file with the content of a logical unit.
pub(super) fn image(number: u32) -> String {
    format!("/run/unit{number}")
}

fn create_port(number: u32, backstore: &Path) -> Result<Port> {
    let name = format!("naa.{}", sas_address(number));
    let group = Path::new(TARGET).join(format!("loopback/{name}/tpgt_1"));
    create(&group)?;
    // The default identifier of all ports is 0, with which REGISTER AND MOVE finds no port.
    write(&group.join("rtpi"), &number.to_string())?;
    write(&group.join("nexus"), &name)?;
    let unit = group.join("lun/lun_0");
    create(&unit)?;
    symlink(backstore, unit.join("backstore"))
        .with_context(|| format!("cannot attach the unit to {}", unit.display()))?;
    // host:channel:target of the port in the kernel's SCSI layer.
    let address = read(&group.join("address"))?;
    let device = Path::new("/sys/bus/scsi/devices").join(format!("{address}:0"));
    let block = device_node(&device.join("block"))?;
    Ok(Port {
        number,
        partition: wait_for_path(&PathBuf::from(format!("{}1", block.display())))?,
        generic: device_node(&device.join("scsi_generic"))?,
        transport: group.join("transport_status"),
        reservations: backstore.join("pr"),
        block,
    })
}

fn sas_address(number: u32) -> String {
    format!("50014050000000{number:02}")
}

/// Returns the first sector of a disk (MBR) with one partition from the first MiB to the end.
fn partition_table() -> [u8; 512] {
    const START: u32 = 2048;
    const SECTORS: u32 = SIZE / 512 - START;
    let mut sector = [0; 512];
    // The first of the four entries. Its type is Linux; the cylinder fields are obsolete.
    sector[450] = 0x83;
    sector[454..458].copy_from_slice(&START.to_le_bytes());
    sector[458..462].copy_from_slice(&SECTORS.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

pub(super) fn create(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// Returns the device node of the only entry of a directory in sysfs.
fn device_node(class: &Path) -> Result<PathBuf> {
    let entry = || {
        let first = fs::read_dir(class).ok().and_then(|mut all| all.next());
        Ok(first.transpose()?)
    };
    let entry = poll(DEVICE_TIMEOUT, entry)?
        .with_context(|| format!("timed out waiting for a device of {}", class.display()))?;
    wait_for_path(&Path::new("/dev").join(entry.file_name()))
}

/// Waits until a path exists, and returns it.
fn wait_for_path(path: &Path) -> Result<PathBuf> {
    poll(DEVICE_TIMEOUT, || {
        Ok(path.exists().then(|| path.to_owned()))
    })?
    .with_context(|| format!("timed out waiting for {}", path.display()))
}
