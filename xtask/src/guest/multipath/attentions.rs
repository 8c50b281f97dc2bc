//! Rows of the table: what the guest is told that others have done, and that it is not told what it has done
//! itself.
//!
//! multipathd's checker sends TEST UNIT READY to each path, which takes unit attentions too. So it is
//! stopped while they wait to be seen.

use anyhow::{Result, ensure};

use super::commands::{
    EXCLUSIVE, Order, REGISTRANTS, clear, preempt, register, register_and_ignore, release, reserve,
};
use super::daemons::Multipathd;
use super::device::{Reply, Tally};
use super::scenes::{GUEST, NOBODY, OTHER};
use super::side::Side;
use super::table::{Expected, Table};
use super::through::Guest;

const BY_EACH: Expected = Expected::Different(
    "each path is an I_T nexus, and is told what others have done: so the guest is told by each",
);

/// How often the guest asks: some commands for each path.
const QUESTIONS: usize = 6;

/// Who does something that others are told.
#[derive(Clone, Copy)]
enum Who {
    Guest,
    Other,
}

/// What happens before, and then; the first is by the one who does the second.
struct Case {
    name: &'static str,
    who: Who,
    reserved: Option<u8>,
    order: Order,
    /// Whether multipathd can be stopped before it. Some commands need it.
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
    let others = others.map(|(name, reserved, order)| Case {
        name,
        who: Who::Other,
        reserved,
        order,
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
    let own = own.map(|(name, stopped, reserved, order)| Case {
        name,
        who: Who::Guest,
        reserved,
        order,
        stopped,
        expected: Expected::Same,
    });
    others.into_iter().chain(own)
}

/// All of them.
pub(super) fn run(
    multipathd: &Multipathd,
    single: &mut Side,
    map: &mut Side,
    table: &mut Table,
) -> Result<()> {
    for case in cases() {
        let who = match case.who {
            Who::Guest => "guest ",
            Who::Other => "",
        };
        let one = seen(multipathd, single, &case, asks)?;
        let two = seen(multipathd, map, &case, asks)?;
        let name = format!("{who}{}; then the guest asks", case.name);
        table.add(name, &one, &two, case.expected);
        if matches!(case.who, Who::Guest) {
            continue;
        }
        let one = seen(multipathd, single, &case, reserves)?;
        let two = seen(multipathd, map, &case, reserves)?;
        let name = format!("{}; then the guest reserves, wrong key", case.name);
        // It goes to one path first, whose answer is the answer.
        table.add(name, &one, &two, Expected::Same);
    }
    Ok(())
}

/// The shortest that has no PRgeneration, of which each side has its own.
fn asks(guest: &mut Guest) -> Result<Reply> {
    guest.ask(2, 8)
}

/// With a key that the guest does not have: what is done is told to multipathd, which does not answer.
fn reserves(guest: &mut Guest) -> Result<Reply> {
    guest.tell(&reserve(NOBODY, EXCLUSIVE))
}

fn seen(
    multipathd: &Multipathd,
    side: &mut Side,
    case: &Case,
    then: fn(&mut Guest) -> Result<Reply>,
) -> Result<Tally> {
    side.clean()?;
    tell(side, Who::Guest, &register(0, GUEST))?;
    tell(side, Who::Other, &register_and_ignore(OTHER))?;
    if let Some(kind) = case.reserved {
        let key = match case.who {
            Who::Guest => GUEST,
            Who::Other => OTHER,
        };
        tell(side, case.who, &reserve(key, kind))?;
    }
    side.drain()?;
    if case.stopped {
        multipathd.freeze()?;
    }
    tell(side, case.who, &case.order)?;
    if !case.stopped {
        multipathd.freeze()?;
    }
    let replies = (0..QUESTIONS).map(|_| then(&mut side.guest));
    let replies = replies.collect::<Result<Tally>>();
    multipathd.thaw()?;
    replies
}

fn tell(side: &mut Side, who: Who, order: &Order) -> Result<()> {
    let reply = match who {
        Who::Guest => side.guest.tell(order)?,
        Who::Other => side.other.1.reserve_out(order),
    };
    ensure!(reply.is_good(), "{:02x?}: {reply}", &order.cdb[..3]);
    Ok(())
}
