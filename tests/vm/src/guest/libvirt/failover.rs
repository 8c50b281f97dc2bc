// SPDX-License-Identifier: MIT OR Apache-2.0

//! Two domains of a cluster, each with its own sessions with the target: one fences the other, and
//! `prhctl` answers the questions of docs/operations.md. The disk of the first one is a multipath
//! map, and that of the second one has a single path.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::daemon::chown_to_qemu;
use super::doctor;
use super::documented;
use super::domain::{Domain, DomainDefinition, Reservations};
use crate::guest::Modules;
use crate::guest::guest_reservations::reserve;
use crate::guest::helper::{Helper, SOCKET};
use crate::guest::initiator::{CONFLICT, Initiator, UNIT_ATTENTION};
use crate::guest::iscsi_initiator;
use crate::guest::iscsi_target::enable;
use crate::guest::lio_target::Target;
use crate::guest::local_sessions::{DEFAULT_INTERFACE, log_in};
use crate::guest::maps::load_modules;
use crate::guest::multipath::{Multipathd, Udevd, name_of, wait_for_map, wait_for_map_of};
use crate::guest::nested_guest::COMMAND_TIMEOUT;
use crate::guest::prhctl_command::Prhctl;
use crate::guest::two_hosts::{Agent, fence, unfence};
use pr_testkit::process::{command, poll, timed};

/// The initiator. The target keeps the unit attentions of all sessions of an initiator with a
/// portal group together, so each session has its own portal group.
const INTERFACE: (&str, &str) = (DEFAULT_INTERFACE, "iqn.2026-11.test:this-host");
const PORTAL_GROUPS: u8 = 3;

/// More seconds than the target is unreachable.
const REPLACEMENT_TIMEOUT: u32 = 600;

/// Keys of the domains.
const KEYS: [u64; 2] = [0xa1, 0xb2];

/// Runs the domains. The disks of other units, `others`, get no map.
pub(super) fn run(
    target: &mut Target,
    others: &[&Path],
    modules: &Modules,
    helper: &Path,
    prhctl: Prhctl<'_>,
) -> Result<()> {
    // With the loopback fabric, a PREEMPT AND ABORT never ends.
    let backstore = target.create_unit_without_ports()?;
    timed("iSCSI sessions", || {
        let interfaces = [INTERFACE];
        log_in(
            &backstore,
            modules,
            PORTAL_GROUPS,
            &interfaces,
            REPLACEMENT_TIMEOUT,
        )
    })?;
    let disks = timed("udevd, multipathd and its map", || {
        Disks::create(others, modules)
    })?;
    let [path, _] = &disks.paths;
    let path = name_of(path)?;
    timed("prhctl doctor", || {
        doctor::run_doctor(prhctl, helper, &disks.map, &path)
    })
    .context("prhctl doctor")?;
    with_managed_helpers(&disks, prhctl).context("with a helper for each")?;
    with_shared_helper(&disks, helper, prhctl).context("with a shared helper")
}

/// libvirt starts a helper for each domain.
fn with_managed_helpers(disks: &Disks, prhctl: Prhctl<'_>) -> Result<()> {
    let mut web1 = boot("web1", &disks.map, Reservations::Managed)?;
    let mut web2 = boot("web2", &disks.single, Reservations::Managed)?;
    fail_over(&mut web1, &mut web2, disks).context("failover")?;
    let answers = documented::run(prhctl, &["holders", "disks", "history"])?;
    for answer in ["preempted web1", "Warning: web1 and web2 are registered"] {
        ensure!(answers.contains(answer), "no {answer:?} in the output");
    }
    command_hangs(&mut web2, prhctl).context("a command that hangs")?;
    // The new connection to the target has a unit attention.
    web2.run("sg_turs /dev/sda")?;
    let clear = format!("--out --clear --param-rk={:#x}", KEYS[1]);
    web2.persist(&clear)?.expect_code(0)?;
    web1.destroy()?;
    web2.destroy()
}

/// The helper knows both domains, and warns about the second one.
fn with_shared_helper(disks: &Disks, helper: &Path, prhctl: Prhctl<'_>) -> Result<()> {
    let helper = Helper::start(helper)?;
    chown_to_qemu(Path::new(SOCKET))?;
    let mut db1 = boot("db1", &disks.map, Reservations::Unmanaged)?;
    let mut db2 = boot("db2", &disks.single, Reservations::Unmanaged)?;
    fail_over(&mut db1, &mut db2, disks).context("failover")?;
    let holders = format!("holders {}", disks.map.display());
    for (arguments, answers) in [
        (
            holders.as_str(),
            &["  db2   0xb2  yes", "  db1   0xa1  -"][..],
        ),
        (
            "disks",
            &["we-ro 0xb2 db2", "Warning: db1 and db2 are registered"],
        ),
        ("history", &["preempted db1", "db1 has the disk as well"]),
        ("clients", &["  db1   ", "  db2   "]),
    ] {
        let output = prhctl.run_line(arguments)?.expect_status(0)?;
        println!("# prhctl {arguments}\n{}", output.stdout);
        output.expect_stdout(answers)?;
    }
    db1.destroy()?;
    db2.destroy()?;
    helper.stop()
}

fn boot(name: &'static str, disk: &Path, reservations: Reservations) -> Result<Domain> {
    let definition = DomainDefinition::new(name, disk, reservations)?;
    timed("virsh start, and the guest's boot", || definition.start())
}

/// Disks of the domains, which lead to one unit.
struct Disks {
    /// A map over two paths.
    map: PathBuf,
    paths: [PathBuf; 2],
    single: PathBuf,
    multipathd: Multipathd,
}

impl Disks {
    fn create(others: &[&Path], modules: &Modules) -> Result<Self> {
        let disk = |portal_group| iscsi_initiator::disk("tpgt", portal_group);
        let (paths, single) = ([disk("1")?, disk("2")?], disk("3")?);
        load_modules(modules)?;
        let udevd = Udevd::start()?;
        let unmapped = others.iter().map(|disk| name_of(disk));
        let mut unmapped = unmapped.collect::<Result<Vec<_>>>()?;
        unmapped.push(single.clone());
        let multipathd = Multipathd::start(unmapped)?;
        let map = wait_for_map_of(&paths.each_ref().map(String::as_str))?;
        let map = wait_for_map(&map)?;
        udevd.freeze()?;
        Ok(Self {
            map,
            paths: paths.map(|path| Path::new("/dev").join(path)),
            single: Path::new("/dev").join(single),
            multipathd,
        })
    }
}

/// The second node fences the first one, which learns of it from its next command, is refused, and
/// joins the cluster again.
fn fail_over(first: &mut impl Initiator, second: &mut impl Initiator, disks: &Disks) -> Result<()> {
    let [first_key, second_key] = KEYS;
    unfence(first, Agent::FenceScsi, first_key)?;
    unfence(second, Agent::FenceScsi, second_key)?;
    // Its checks of the paths would consume the unit attentions.
    disks.multipathd.freeze()?;
    fence(second, Agent::FenceScsi, second_key, first_key)?;
    first
        .persist("--in --read-keys")?
        .expect_code(UNIT_ATTENTION)?
        .expect_contains("Registrations preempted")?;
    // The other path reports the preemption as well, until a check of multipathd consumes that.
    for path in &disks.paths {
        let turs = command("sg_turs").arg(path).output();
        turs.context("cannot start sg_turs")?;
    }
    disks.multipathd.thaw()?;
    first
        .persist(&reserve(&format!("{first_key:#x}"), 5))?
        .expect_code(CONFLICT)?;
    unfence(first, Agent::FenceScsi, first_key)
}

/// The target is unreachable for a while. A command of the domain waits for it.
fn command_hangs(domain: &mut Domain, prhctl: Prhctl<'_>) -> Result<()> {
    enable(PORTAL_GROUPS, false)?;
    let result = domain.start_command("sg_persist --no-inquiry --in --read-keys /dev/sda")?;
    let waits = poll(COMMAND_TIMEOUT, || {
        let document = prhctl
            .run_line("--json clients")?
            .expect_status(0)?
            .json()?;
        let clients = document["clients"].as_array().context("no clients")?;
        let age = |client: &Value| client["command"]["age_us"].as_u64();
        let is_old = clients.iter().filter_map(age).any(|age| age >= 3_000_000);
        Ok(is_old.then_some(()))
    })?;
    let answers = documented::run(prhctl, &["clients"]);
    enable(PORTAL_GROUPS, true)?;
    waits.context("no command waits for three seconds")?;
    ensure!(
        answers?.contains("READ KEYS on "),
        "the command that hangs is not shown"
    );
    let (status, output) = result()?;
    println!("guest: the command that hung exited with {status}: {output}");
    Ok(())
}
