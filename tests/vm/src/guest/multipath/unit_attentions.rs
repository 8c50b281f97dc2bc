// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rows of the table: the guest gets unit attentions for changes of the other host, and none for
//! its own.
//!
//! The TEST UNIT READY of multipathd's checker on each path would consume unit attentions, so
//! multipathd is stopped while they are pending.

use anyhow::{Result, ensure};

use super::commands::{
    EXCLUSIVE, PrOutCommand, REGISTRANTS, clear, preempt, register, register_and_ignore, release,
    reserve,
};
use super::daemons::Multipathd;
use super::device::{Reply, ReplyCounts};
use super::endpoint::Endpoint;
use super::helper_client::HelperClient;
use super::scenarios::{GUEST, OTHER, UNUSED};
use super::table::{Expected, Table};

const BY_EACH: Expected = Expected::Different(
    "each path is an I_T nexus and gets its own unit attentions, so the guest gets one from each",
);

/// Number of the guest's commands, several for each path.
const READS: usize = 6;

/// Host that makes a change.
#[derive(Clone, Copy)]
enum Host {
    Guest,
    Other,
}

/// A change, and the reservation that the same host has made before.
struct Case {
    name: &'static str,
    host: Host,
    reserved: Option<u8>,
    pr_out: PrOutCommand,
    /// Stops multipathd before the change. Some changes need a running multipathd.
    stopped: bool,
    expected: Expected,
}

fn cases() -> impl Iterator<Item = Case> {
    const HELD: Option<u8> = Some(REGISTRANTS);
    let preempts = preempt(OTHER, GUEST, REGISTRANTS);
    let others = [
        ("other host clears", None, clear(OTHER)),
        ("other host preempts", None, preempts.clone()),
        ("other host preempts, holding", HELD, preempts),
        ("other host releases", HELD, release(OTHER, REGISTRANTS)),
        ("other host unregisters, holding", HELD, register(OTHER, 0)),
    ];
    let others = others.map(|(name, reserved, pr_out)| Case {
        name,
        host: Host::Other,
        reserved,
        pr_out,
        stopped: true,
        expected: BY_EACH,
    });
    let itself = preempt(GUEST, GUEST, REGISTRANTS);
    let other_host = preempt(GUEST, OTHER, EXCLUSIVE);
    let own = [
        ("releases", true, HELD, release(GUEST, REGISTRANTS)),
        ("preempts the other host", true, HELD, other_host),
        ("clears", false, None, clear(GUEST)),
        ("clears, holding", false, HELD, clear(GUEST)),
        ("preempts itself", false, HELD, itself),
        ("unregisters, holding", false, HELD, register(GUEST, 0)),
        ("takes another key", false, HELD, register(GUEST, 0xc3)),
    ];
    let own = own.map(|(name, stopped, reserved, pr_out)| Case {
        name,
        host: Host::Guest,
        reserved,
        pr_out,
        stopped,
        expected: Expected::Same,
    });
    others.into_iter().chain(own)
}

/// Runs all cases.
pub(super) fn run(
    multipathd: &Multipathd,
    single: &mut Endpoint,
    map: &mut Endpoint,
    table: &mut Table,
) -> Result<()> {
    for case in cases() {
        let host = match case.host {
            Host::Guest => "guest ",
            Host::Other => "",
        };
        let one = replies_after(multipathd, single, &case, read)?;
        let two = replies_after(multipathd, map, &case, read)?;
        let name = format!("{host}{}; then the guest reads", case.name);
        table.add(name, &one, &two, case.expected);
        if matches!(case.host, Host::Guest) {
            continue;
        }
        let one = replies_after(multipathd, single, &case, reserve_with_wrong_key)?;
        let two = replies_after(multipathd, map, &case, reserve_with_wrong_key)?;
        let name = format!("{}; then the guest reserves, wrong key", case.name);
        // The command goes to one path first, and that path's reply is returned.
        table.add(name, &one, &two, Expected::Same);
    }
    Ok(())
}

/// The shortest command without PRgeneration, which differs between the endpoints.
fn read(guest: &mut HelperClient) -> Result<Reply> {
    guest.reserve_in(2, 8)
}

/// Uses a key that the guest has not registered, because a successful command would be sent to
/// multipathd, which is stopped.
fn reserve_with_wrong_key(guest: &mut HelperClient) -> Result<Reply> {
    guest.reserve_out(&reserve(UNUSED, EXCLUSIVE))
}

fn replies_after(
    multipathd: &Multipathd,
    endpoint: &mut Endpoint,
    case: &Case,
    then: fn(&mut HelperClient) -> Result<Reply>,
) -> Result<ReplyCounts> {
    endpoint.clean()?;
    send_from(endpoint, Host::Guest, &register(0, GUEST))?;
    send_from(endpoint, Host::Other, &register_and_ignore(OTHER))?;
    if let Some(kind) = case.reserved {
        let key = match case.host {
            Host::Guest => GUEST,
            Host::Other => OTHER,
        };
        send_from(endpoint, case.host, &reserve(key, kind))?;
    }
    endpoint.drain()?;
    if case.stopped {
        multipathd.freeze()?;
    }
    send_from(endpoint, case.host, &case.pr_out)?;
    if !case.stopped {
        multipathd.freeze()?;
    }
    let replies = (0..READS).map(|_| then(&mut endpoint.guest));
    let replies = replies.collect::<Result<ReplyCounts>>();
    multipathd.thaw()?;
    replies
}

fn send_from(endpoint: &mut Endpoint, host: Host, pr_out: &PrOutCommand) -> Result<()> {
    let reply = match host {
        Host::Guest => endpoint.guest.reserve_out(pr_out)?,
        Host::Other => endpoint.other.1.reserve_out(pr_out),
    };
    ensure!(reply.is_good(), "{:02x?}: {reply}", &pr_out.cdb[..3]);
    Ok(())
}
