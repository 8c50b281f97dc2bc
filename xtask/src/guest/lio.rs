//! A real SCSI target: the kernel's LIO, set up through configfs.
//!
//! A logical unit is a file in memory. Each of its ports is a SCSI host of the loopback fabric, and
//! so an initiator-target nexus of its own: what is two machines on a storage network is here two
//! block devices.
//!
//! Source: `Documentation/target/` and `drivers/target/` of the kernel.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::{Modules, mount_new, read, write};
use crate::process::poll;

const CONFIGFS: &str = "/sys/kernel/config";
const TARGET: &str = "/sys/kernel/config/target";

/// Where the target keeps what has to outlive a power cut (APTPL) and the state of port groups.
const STATE: &str = "/run/target";

/// Bytes of a logical unit.
const SIZE: u32 = 64 << 20;

/// How long a device may take to show up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The target, ready to be given logical units.
pub(crate) struct Target {
    units: u32,
    ports: u32,
}

/// One way to a logical unit.
pub(crate) struct Port {
    /// The relative identifier of the target port.
    pub(crate) number: u32,
    /// The block device, `/dev/sdX`.
    pub(crate) block: PathBuf,
    /// The same as a character device, `/dev/sgX`.
    pub(crate) generic: PathBuf,
    /// The only partition of the block device.
    pub(crate) partition: PathBuf,
    /// What the fabric obeys: `offline` cuts the way to the unit, `online` mends it.
    pub(crate) transport: PathBuf,
}

impl Target {
    /// Loads the target. It has no logical unit yet.
    pub(crate) fn start(modules: &Modules) -> Result<Self> {
        // LIO reports asymmetric access (ALUA). A device gets its handler when it is found, so the
        // handler must be there first; a multipath map is refused without it.
        for module in ["configfs", "sd_mod", "sg", "scsi_dh_alua"] {
            modules.load(module)?;
        }
        mount_new("configfs", CONFIGFS)?;
        modules.load("target_core_mod")?;
        // Both folders must be there, and the place be known before a fabric is loaded: otherwise a
        // REGISTER with APTPL is answered NOT READY.
        for folder in ["pr", "alua"] {
            let folder = Path::new(STATE).join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        write(&Path::new(TARGET).join("dbroot"), STATE)?;
        for module in ["target_core_file", "tcm_loop"] {
            modules.load(module)?;
        }
        Ok(Self { units: 0, ports: 0 })
    }

    /// Makes a logical unit with so many ports. The ports' SAS addresses are 0x5001405000000001 and
    /// so on, and their relative identifiers 1 and so on, in the order in which they are made.
    pub(crate) fn unit<const PORTS: usize>(&mut self) -> Result<[Port; PORTS]> {
        let number = self.units;
        self.units += 1;
        let backstore = backstore(number)?;
        let mut ports = Vec::with_capacity(PORTS);
        for _ in 0..PORTS {
            self.ports += 1;
            ports.push(port(self.ports, &backstore)?);
        }
        ports
            .try_into()
            .map_err(|_| anyhow!("not as many ports as asked for"))
    }
}

fn backstore(number: u32) -> Result<PathBuf> {
    let image = format!("/run/unit{number}");
    fs::File::create(&image)
        .and_then(|file| {
            file.set_len(SIZE.into())?;
            file.write_all_at(&partition_table(), 0)
        })
        .with_context(|| format!("cannot create {image}"))?;
    let folder = Path::new(TARGET).join(format!("core/fileio_0/unit{number}"));
    create(&folder)?;
    let control = format!("fd_dev_name={image},fd_dev_size={SIZE}");
    write(&folder.join("control"), &control)?;
    write(&folder.join("enable"), "1")?;
    // The same in every run, and different for each unit: multipath tells units apart by it.
    let serial = format!("6001405abcdef{number:03}");
    write(&folder.join("wwn/vpd_unit_serial"), &serial)?;
    Ok(folder)
}

fn port(number: u32, backstore: &Path) -> Result<Port> {
    // A SAS address, as the loopback fabric wants it for what it calls initiator and target.
    let name = format!("naa.50014050000000{number:02}");
    let group = Path::new(TARGET).join(format!("loopback/{name}/tpgt_1"));
    create(&group)?;
    // Without one of their own all ports are number 0, and REGISTER AND MOVE finds none.
    write(&group.join("rtpi"), &number.to_string())?;
    write(&group.join("nexus"), &name)?;
    let unit = group.join("lun/lun_0");
    create(&unit)?;
    symlink(backstore, unit.join("backstore"))
        .with_context(|| format!("cannot attach the unit to {}", unit.display()))?;
    // host:channel:target, where the kernel's SCSI layer has put the port.
    let address = read(&group.join("address"))?;
    let device = Path::new("/sys/bus/scsi/devices").join(format!("{address}:0"));
    let block = node(&device.join("block"))?;
    Ok(Port {
        number,
        partition: appeared(&PathBuf::from(format!("{}1", block.display())))?,
        generic: node(&device.join("scsi_generic"))?,
        transport: group.join("transport_status"),
        block,
    })
}

/// The first sector of a disk (MBR) with one partition, from the first MiB to the end.
fn partition_table() -> [u8; 512] {
    const START: u32 = 2048;
    const SECTORS: u32 = SIZE / 512 - START;
    let mut sector = [0; 512];
    // The first of the four entries. Its type is Linux; nobody reads the cylinders any more.
    sector[450] = 0x83;
    sector[454..458].copy_from_slice(&START.to_le_bytes());
    sector[458..462].copy_from_slice(&SECTORS.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// The device node that belongs to the only entry of a folder in sysfs.
fn node(class: &Path) -> Result<PathBuf> {
    let entry = || {
        let first = fs::read_dir(class).ok().and_then(|mut all| all.next());
        Ok(first.transpose()?)
    };
    let entry = poll(PATIENCE, entry)?
        .with_context(|| format!("no device for {} shows up", class.display()))?;
    appeared(&Path::new("/dev").join(entry.file_name()))
}

/// The path, once there is something.
fn appeared(path: &Path) -> Result<PathBuf> {
    poll(PATIENCE, || Ok(path.exists().then(|| path.to_owned())))?
        .with_context(|| format!("no {} shows up", path.display()))
}
