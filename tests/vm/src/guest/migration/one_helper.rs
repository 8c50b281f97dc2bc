// SPDX-License-Identifier: MIT OR Apache-2.0

//! A migration within one host, where both QEMUs use the same helper with `--same-lun=refuse`: they
//! are one machine to it, and another client is refused.

use std::fs::File;
use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use pr_testkit::HelperProcess;
use pr_testkit::cdb;
use scsi_pr::{AdditionalSense, Sense};

use super::machine::{INCOMING, LAST_DEVICE, Setup};
use super::{TYPE, expect_holder, register};
use crate::guest::guest_reservations::{GUEST_KEY, reserve};
use crate::guest::initiator::{DirectPort, Initiator as _};
use crate::guest::lio_target::Port;

/// Both processes have it, as with libvirt.
const UUID: [&str; 2] = ["-uuid", "6f1c1a52-7f0e-4b07-9d0a-2c6b5f7f0e11"];

/// Migrates a guest from the first port to the second one. The third port is a witness.
pub(super) fn run(setup: Setup<'_>, [from, to, witness]: &[Port; 3]) -> Result<()> {
    let helper = HelperProcess::builder(setup.helper)
        .args(["-u", "nobody", "--same-lun=refuse"])
        .start()?;
    let options = [&LAST_DEVICE[..], &UUID].concat();
    let (mut guest, mut source) = setup.launch(helper.socket(), from, &options)?;
    guest.wait_for_boot(setup.accelerator)?;
    guest.persist(&register())?.expect_code(0)?;
    guest.persist(&reserve(GUEST_KEY, TYPE))?.expect_code(0)?;

    // Another name, after which the files of this QEMU are called.
    let socket = helper.dir().join("destination");
    symlink(helper.socket(), &socket).context("cannot link to the helper's socket")?;
    let options = [&options[..], &INCOMING].concat();
    let (mut guest, mut destination) = setup.launch(&socket, to, &options)?;
    let uri = format!("unix:{}/incoming", helper.dir().display());
    destination.listen(&uri)?;
    source.migrate(&uri)?;
    source.wait_until_paused()?;
    source.switch_over("completed")?;
    destination.wait_until_resumed()?;
    expect_holder(&mut DirectPort(witness), to, from)?;
    guest.write_block()?.expect_code(0)?;

    let disk = File::options().read(true).write(true).open(&witness.block);
    let disk = disk.with_context(|| format!("cannot open {}", witness.block.display()))?;
    let refused = helper.client().execute(&cdb::register(0, 1), &disk);
    let sense =
        Sense::decode(&refused.sense).context("the helper did not refuse another client")?;
    ensure!(
        sense.code == AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES,
        "another client was refused with {sense}"
    );
    let clear = format!("--out --clear --param-rk={GUEST_KEY}");
    guest.persist(&clear)?.expect_code(0)?;
    println!("guest: the guard lets the migration pass, and refuses another client");
    Ok(())
}
