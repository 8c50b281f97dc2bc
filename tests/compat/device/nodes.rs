//! Other kinds of node: character devices, maps, partitions, and another unit.

use std::env;
use std::fs::File;

use anyhow::{Result, ensure};
use rustix::fs::{Mode, OFlags};

use super::lun::{self, Lun};
use super::step::{
    A, B, KEY_A, KEY_B, OTHER, Step, ask, clear, play_beside, play_on, preempt, read_keys,
    read_reservation, register, register_and_ignore, release, reserve,
};
use super::wire::{TYPES, WRITE_EXCLUSIVE, WRITE_REGISTRANTS, basic, keys, reservation};
use crate::case::{Case, Need};
use crate::client::{pr_in, pr_out};
use crate::differences::Row;
use crate::helper::Helper;
use crate::scratch::Scratch;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = sg_cases();
    for (name, variable) in [("linear_map", lun::LINEAR), ("map_on_a_map", lun::STACK)] {
        let case = Case::new(format!("{name}_is_the_port_below"), move |helper| {
            play_beside(helper, variable, &on_the_port_below())
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
        let name = format!("o_path_descriptor_of_a_{name}_is_refused");
        let case = Case::new(name, move |helper| path_only(helper, variable));
        cases.push(
            case.needs(Need::Variable(lun::PORTS))
                .needs(Need::Variable(variable)),
        );
    }
    let second = Case::new("reservation_of_one_unit_is_not_another_s", |helper| {
        let _second = Lun::take(lun::SECOND)?;
        play_beside(helper, lun::SECOND, &on_another_unit())
    });
    cases.push(
        second
            .needs(Need::Variable(lun::PORTS))
            .needs(Need::Variable(lun::SECOND)),
    );
    cases
}

/// Commands of each type of reservation to the sg nodes of the ports.
fn sg_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in TYPES {
        let name = format!("sg_nodes_take_{}", kind.name);
        let case = Case::new(name, move |helper| {
            play_on(
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
                    ask(A, 31, 255).sense(5, 0x24, 0),
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

/// What is done through another node of the first port shows on both ports.
fn on_the_port_below() -> Vec<Step> {
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
        ask(OTHER, 4, 255).sense(5, 0x24, 0),
    ]
}

fn on_another_unit() -> Vec<Step> {
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

/// A registration that only one path knows does not protect anything: ours makes it on both, or on none if
/// multipathd would not make it again on a path that comes back.
fn multipath(helper: &Helper) -> Result<()> {
    let mut lun = Lun::take(lun::PORTS)?;
    lun.add(lun::MPATH)?;
    let map = lun.port(OTHER)?;
    let scratch = Scratch::new()?;
    let running = helper.serving(&scratch).start()?;
    let mut client = running.client()?;
    let register = client.command(&pr_out(6, 0, 24), &basic(0, KEY_A, 0), map)?;
    // Past the helper, and past the map.
    let on_the_paths = lun.keys()?;
    let ask = client.command(&pr_in(0, 255), &[], map)?;
    let beside = lun::receive(lun.port(A)?, &pr_in(0, 255), 255)?;
    let seen = ask.status == 0 && ask.data == beside.data;
    ensure!(seen, "{ask:?} {beside:?}");
    let is_kept = env::var_os(lun::MULTIPATHD).is_some();
    match (helper.differs(Row::Multipath), is_kept) {
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
            running.says("multipathd")?;
        }
    }
    if helper.differs(Row::Multipath) {
        let unregister = client.command(&pr_out(6, 0, 24), &basic(0, 0, 0), map)?;
        ensure!(unregister.status == 0, "{unregister:?}");
        let left = lun.keys()?;
        ensure!(left.is_empty(), "{left:x?}");
    }
    Ok(())
}

/// Sends commands with descriptors that take no permission on the device, which is not touched.
fn path_only(helper: &Helper, variable: &str) -> Result<()> {
    let lun = Lun::take(lun::PORTS)?;
    let scratch = Scratch::new()?;
    let running = helper.serving(&scratch).start()?;
    let mut client = running.client()?;
    for path in lun::devices(variable)? {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let device = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        let register = client.command(&pr_out(6, 0, 24), &basic(0, KEY_A, 0), &device)?;
        let ask = client.command(&pr_in(0, 8), &[], &device)?;
        for (answer, expected) in [(register, (5, 0x20, 0)), (ask, (0x0b, 0, 6))] {
            let seen = (answer.status, answer.sense_code());
            ensure!(seen == (2, expected), "{}: {answer:?}", path.display());
        }
    }
    let keys = lun.keys()?;
    ensure!(keys.is_empty(), "{keys:x?}");
    if helper.name() == "ours" {
        // The helper says so, and not a worker, which would have been forked for a map.
        running.says("was opened with O_PATH")?;
    }
    Ok(())
}

/// Sends commands to each device of `variable`, a part of the unit. The original lets them act on
/// the whole unit; ours refuses them.
fn part(helper: &Helper, variable: &str, row: Row) -> Result<()> {
    let mut lun = Lun::take(lun::PORTS)?;
    lun.add(variable)?;
    let scratch = Scratch::new()?;
    let running = helper.serving(&scratch).start()?;
    let mut client = running.client()?;
    for (number, path) in (OTHER..).zip(lun::devices(variable)?) {
        let device = lun.port(number)?;
        let register = client.command(&pr_out(6, 0, 24), &basic(0, KEY_A, 0), device)?;
        let ask = client.command(&pr_in(0, 8), &[], device)?;
        // Past the helper, and past the part.
        let keys = lun.keys()?;
        let seen = format!("{}: {register:?} {ask:?} {keys:x?}", path.display());
        if helper.differs(row) {
            for answer in [register, ask] {
                ensure!(answer.status == 2 && answer.data.is_empty(), "{seen}");
                ensure!(
                    answer.sense[..14] == [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0],
                    "{seen}"
                );
            }
            ensure!(keys.is_empty(), "{seen}");
        } else {
            ensure!(register.status == 0 && ask.status == 0, "{seen}");
            ensure!(keys == [KEY_A], "{seen}");
            let unregister = client.command(&pr_out(6, 0, 24), &basic(0, 0, 0), device)?;
            ensure!(unregister.status == 0, "{}: {unregister:?}", path.display());
        }
    }
    match (helper.differs(row), row) {
        (true, Row::OnMultipath) => running.says("multipath"),
        (true, _) => running.says("a part of a disk"),
        (false, _) => Ok(()),
    }
}
