//! What is played on both sides: commands of the guest and of the other host, in order.

mod registering;
mod reserving;

use super::commands::{
    ALL, ALL_TG_PT, APTPL, EXCLUSIVE, Order, REGISTRANTS, UNREG, register, register_and_ignore,
    reserve,
};
use super::side::Side;
use registering::{flag, keys, lists, moves, spec_i_pt, unregistered};
use reserving::{
    aborts, clears, holds, leaves, other_holds, preempts_itself, scopes, types, victims,
};

/// Keys of the guest, of the other host, a new one, and one that nobody has.
pub(super) const GUEST: u64 = 0xa1;
pub(super) const OTHER: u64 = 0xb2;
const NEW: u64 = 0xc3;
pub(super) const NOBODY: u64 = 0xd4;

/// A SAS address that no port of the target has.
const STRANGER: u64 = 0x5001_4050_dead_beef;

/// Makes a command, of which some name the side's ports.
type Make = Box<dyn Fn(&Side) -> Order>;

/// What happens next.
pub(super) enum Step {
    /// The guest sends a command through the helper.
    Guest(String, Make),
    /// The other host sends one, past the helper.
    Other(String, Order),
    /// The guest asks all that there is to ask.
    State,
}

/// Steps that begin with a clean unit and end with [`Step::State`].
pub(super) struct Scene {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

fn guest(name: impl Into<String>, order: Order) -> Step {
    guest_with(name, move |_| order.clone())
}

fn guest_with(name: impl Into<String>, make: impl Fn(&Side) -> Order + 'static) -> Step {
    Step::Guest(name.into(), Box::new(make))
}

fn other(name: impl Into<String>, order: Order) -> Step {
    Step::Other(name.into(), order)
}

fn registers() -> Step {
    guest("REGISTER", register(0, GUEST))
}

fn other_registers() -> Step {
    other("REGISTER", register_and_ignore(OTHER))
}

fn reserves(kind: u8) -> Step {
    guest(format!("RESERVE {kind}"), reserve(GUEST, kind))
}

/// All of them.
pub(super) fn all() -> Vec<Scene> {
    let scene = |name: &str, steps| Scene {
        name: name.to_owned(),
        steps,
    };
    let mut scenes = vec![
        scene("unregistered", unregistered()),
        scene("keys", keys()),
        scene("types", types()),
        scene("scopes", scopes()),
        scene("lists", lists()),
        scene("APTPL", flag(APTPL)),
        scene("ALL_TG_PT", flag(ALL_TG_PT)),
        scene("SPEC_I_PT", spec_i_pt()),
        scene("other holds", other_holds()),
        scene("clear", clears()),
        scene("victims", victims()),
        scene("abort", aborts()),
        scene("move", moves(0)),
        scene("move and leave", moves(UNREG)),
    ];
    for kind in [EXCLUSIVE, REGISTRANTS, ALL] {
        scenes.push(scene(&format!("holds {kind}"), holds(kind)));
        scenes.push(scene(&format!("leaves {kind}"), leaves(kind)));
        scenes.push(scene(
            &format!("preempts itself {kind}"),
            preempts_itself(kind),
        ));
    }
    for scene in &mut scenes {
        scene.steps.push(Step::State);
    }
    scenes
}
