// SPDX-License-Identifier: MIT OR Apache-2.0

//! Other device nodes: SCSI generic devices, maps, partitions, and another unit.

use std::env;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags, fstat, major, minor};

use super::lun::{self, Lun};
use super::step::{
    A, B, KEY_A, KEY_B, OTHER, Step, clear, preempt, read_keys, read_reservation, register,
    register_and_ignore, release, reserve, reserve_in, run_steps_on, run_steps_with_device,
};
use super::wire::{TYPES, WRITE_EXCLUSIVE, WRITE_REGISTRANTS, basic, keys, reservation};
use crate::case::Case;
use crate::client::{pr_in, pr_out};
use crate::differences::{Change, Row};
use crate::helper::Helper;
use crate::need::Need;
use crate::scratch::Scratch;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = sg_cases();
    for (name, variable) in [("linear_map", lun::LINEAR), ("map_on_a_map", lun::STACK)] {
        let case = Case::new(format!("{name}_is_the_port_below"), move |helper| {
            run_steps_with_device(helper, variable, &port_below_steps())
        });
        cases.push(
            case.needs(Need::Variable(lun::PORTS))
                .needs(Need::Variable(variable)),
        );
    }
    let map = Case::new("multipath_map", multipath).row(Row::Multipath);
    cases.push(
        map.needs(Need::Variable(lun::PORTS))
            .needs(Need::Variable(lun::MPATH)),
    );
    for (name, variable, row) in [
        ("partition", lun::PARTITION, Row::PartOfDisk),
        ("maps_over_a_part", lun::PARTS, Row::PartOfDisk),
        (
            "partition_of_a_multipath_map",
            lun::MPATH_PART,
            Row::OnMultipath,
        ),
    ] {
        let case = Case::new(name, move |helper| part(helper, variable, row)).row(row);
        cases.push(
            case.needs(Need::Variable(lun::PORTS))
                .needs(Need::Variable(variable)),
        );
    }
    for (name, variable) in [("disk", lun::PORTS), ("multipath_map", lun::MPATH)] {
        let name = format!("o_path_descriptor_of_a_{name}_is_rejected");
        let case = Case::new(name, move |helper| o_path(helper, variable));
        cases.push(
            case.change(Change::PathDescriptor)
                .needs(Need::Variable(lun::PORTS))
                .needs(Need::Variable(variable)),
        );
    }
    let second = Case::new("reservation_affects_one_unit_only", |helper| {
        let _second = Lun::lock(lun::SECOND)?;
        run_steps_with_device(helper, lun::SECOND, &other_unit_steps())
    });
    let offline = Case::new("offline_disk_is_an_error", offline_disk);
    cases.push(
        offline
            .change(Change::OfflineDisk)
            .needs(Need::Variable(lun::SECOND)),
    );
    cases.push(
        second
            .needs(Need::Variable(lun::PORTS))
            .needs(Need::Variable(lun::SECOND)),
    );
    cases
}

/// Sends commands for each reservation type to the sg nodes of the ports.
fn sg_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in TYPES {
        let name = format!("sg_nodes_take_{}", kind.name);
        let case = Case::new(name, move |helper| {
            run_steps_on(
                helper,
                lun::SG,
                &[
                    register(A, 0, KEY_A),
                    reserve(A, KEY_A, kind),
                    read_reservation(B).data(reservation(1, Some((KEY_A, kind)))),
                    register(B, 0, KEY_B),
                    reserve(B, KEY_B, kind).allowed(kind.all_hold),
                    preempt(B, KEY_B, KEY_A, kind),
                    read_keys(A).sense(6, 0x2a, 5),
                    read_keys(A).data(keys(3, &[KEY_B])),
                    reserve_in(A, 31, 255).sense(5, 0x24, 0),
                ],
            )
        });
        cases.push(
            case.needs(Need::Variable(lun::PORTS))
                .needs(Need::Variable(lun::SG)),
        );
    }
    cases
}

/// Commands through another node of the first port have effects on both ports.
fn port_below_steps() -> Vec<Step> {
    vec![
        register(OTHER, 0, KEY_A),
        register(B, 0, KEY_B),
        reserve(OTHER, KEY_A, WRITE_REGISTRANTS),
        read_keys(A).data(keys(2, &[KEY_A, KEY_B])),
        read_reservation(OTHER).data(reservation(2, Some((KEY_A, WRITE_REGISTRANTS)))),
        reserve(B, KEY_B, WRITE_EXCLUSIVE).conflict(),
        release(A, KEY_A, WRITE_REGISTRANTS),
        read_reservation(B).sense(6, 0x2a, 4),
        read_reservation(OTHER).data(reservation(2, None)),
        clear(B, KEY_B),
        read_keys(OTHER).sense(6, 0x2a, 3),
        read_keys(OTHER).data(keys(3, &[])),
        reserve_in(OTHER, 4, 255).sense(5, 0x24, 0),
    ]
}

fn other_unit_steps() -> Vec<Step> {
    vec![
        register(A, 0, KEY_A),
        reserve(A, KEY_A, WRITE_EXCLUSIVE),
        register_and_ignore(OTHER, 0, KEY_B),
        reserve(OTHER, KEY_B, WRITE_EXCLUSIVE),
        reserve(OTHER, KEY_A, WRITE_EXCLUSIVE).conflict(),
        read_keys(A).data(keys(1, &[KEY_A])),
        read_reservation(B).data(reservation(1, Some((KEY_A, WRITE_EXCLUSIVE)))),
        clear(OTHER, KEY_B),
        read_reservation(B).data(reservation(1, Some((KEY_A, WRITE_EXCLUSIVE)))),
    ]
}

/// A registration on only one path protects nothing. Our helper registers on both paths, or on none
/// if multipathd would not register a path that returns.
fn multipath(helper: &Helper) -> Result<()> {
    let mut lun = Lun::lock(lun::PORTS)?;
    lun.add(lun::MPATH)?;
    let map = lun.port(OTHER)?;
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    let mut client = running.client()?;
    let register = client.command(&pr_out(6, 0, 24), &basic(0, KEY_A, 0), map)?;
    // Read without the helper and without the map.
    let on_the_paths = lun.keys()?;
    let read = client.command(&pr_in(0, 255), &[], map)?;
    let direct = lun::receive(lun.port(A)?, &pr_in(0, 255), 255)?;
    let is_equal = read.status == 0 && read.data == direct.data;
    ensure!(is_equal, "{read:?} {direct:?}");
    let has_multipathd = env::var_os(lun::MULTIPATHD).is_some();
    match (helper.differs(Row::Multipath), has_multipathd) {
        (false, _) => {
            ensure!(register.status == 0, "{register:?}");
            ensure!(on_the_paths == [KEY_A], "{on_the_paths:x?}");
        }
        (true, true) => {
            ensure!(register.status == 0, "{register:?}");
            ensure!(on_the_paths == [KEY_A; 2], "{on_the_paths:x?}");
        }
        (true, false) => {
            ensure!(register.status == 2, "{register:?}");
            let sense = register.sense_code();
            ensure!(sense == (0x0b, 0x08, 0), "{sense:02x?}");
            ensure!(on_the_paths.is_empty(), "{on_the_paths:x?}");
            running.wait_for_log("multipathd");
        }
    }
    if helper.differs(Row::Multipath) {
        let unregister = client.command(&pr_out(6, 0, 24), &basic(0, 0, 0), map)?;
        ensure!(unregister.status == 0, "{unregister:?}");
        let remaining = lun.keys()?;
        ensure!(remaining.is_empty(), "{remaining:x?}");
    }
    Ok(())
}

/// Sends commands with `O_PATH` descriptors, which prove no access permission. The device must not
/// get a command.
fn o_path(helper: &Helper, variable: &str) -> Result<()> {
    let lun = Lun::lock(lun::PORTS)?;
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    for path in lun::devices(variable)? {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let device = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        for (cdb, list, sense) in [
            (pr_out(6, 0, 24), basic(0, KEY_A, 0), (5, 0x20, 0)),
            (pr_in(0, 8), Vec::new(), (0x0b, 0, 6)),
        ] {
            let mut client = running.client()?;
            if helper.has_changed(Change::PathDescriptor) {
                client.send_with(&cdb, &[device.as_fd()])?;
                client.expect_closed()?;
                continue;
            }
            let response = client.command(&cdb, &list, &device)?;
            let seen = (response.status, response.sense_code());
            ensure!(seen == (2, sense), "{}: {response:?}", path.display());
        }
    }
    let keys = lun.keys()?;
    ensure!(keys.is_empty(), "{keys:x?}");
    if helper.name() == "ours" {
        // The message must be the helper's, not that of a worker, which would have been forked for
        // a map.
        running.wait_for_log("was opened with O_PATH");
    }
    Ok(())
}

/// The sysfs file with the state of a disk, which is online again when the value is dropped.
struct Offline(PathBuf);

impl Offline {
    fn new(disk: &File) -> Result<Self> {
        let number = fstat(disk)?.st_rdev;
        let (major, minor) = (major(number), minor(number));
        let state = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/device/state"));
        fs::write(&state, "offline\n").with_context(|| state.display().to_string())?;
        Ok(Self(state))
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.0, "running\n") {
            eprintln!("compat: {}: {error}", self.0.display());
        }
    }
}

/// Sends commands to a disk that the kernel has taken offline. `SG_IO` fails with ENODEV.
fn offline_disk(helper: &Helper) -> Result<()> {
    let lun = Lun::lock(lun::SECOND)?;
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    let mut client = running.client()?;
    let sense = match helper.has_changed(Change::OfflineDisk) {
        true => (4, 0x44, 0),
        false => (0x0b, 0, 6),
    };
    let disk = lun.port(0)?;
    let offline = Offline::new(disk)?;
    let read = client.command(&pr_in(0, 8), &[], disk)?;
    let register = client.command(&pr_out(6, 0, 24), &basic(0, KEY_A, 0), disk)?;
    drop(offline);
    for response in [read, register] {
        let seen = (response.status, response.sense_code());
        ensure!(seen == (2, sense), "{response:?}");
    }
    let keys = lun.keys()?;
    ensure!(keys.is_empty(), "{keys:x?}");
    Ok(())
}

/// Sends commands to each device of `variable`, a part of the unit. The original applies them to
/// the whole unit; our helper rejects them.
fn part(helper: &Helper, variable: &str, row: Row) -> Result<()> {
    let mut lun = Lun::lock(lun::PORTS)?;
    lun.add(variable)?;
    let scratch = Scratch::new()?;
    let running = helper.serving_command(&scratch).start()?;
    let mut client = running.client()?;
    for (number, path) in (OTHER..).zip(lun::devices(variable)?) {
        let device = lun.port(number)?;
        let register = client.command(&pr_out(6, 0, 24), &basic(0, KEY_A, 0), device)?;
        let read = client.command(&pr_in(0, 8), &[], device)?;
        // Read without the helper and without the part.
        let keys = lun.keys()?;
        let results = format!("{}: {register:?} {read:?} {keys:x?}", path.display());
        if helper.differs(row) {
            for response in [register, read] {
                ensure!(
                    response.status == 2 && response.data.is_empty(),
                    "{results}"
                );
                ensure!(
                    response.sense[..14] == [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0],
                    "{results}"
                );
            }
            ensure!(keys.is_empty(), "{results}");
        } else {
            ensure!(register.status == 0 && read.status == 0, "{results}");
            ensure!(keys == [KEY_A], "{results}");
            let unregister = client.command(&pr_out(6, 0, 24), &basic(0, 0, 0), device)?;
            ensure!(unregister.status == 0, "{}: {unregister:?}", path.display());
        }
    }
    match (helper.differs(row), row) {
        (true, Row::OnMultipath) => running.wait_for_log("multipath"),
        (true, _) => running.wait_for_log("a part of a disk"),
        (false, _) => {}
    }
    Ok(())
}
