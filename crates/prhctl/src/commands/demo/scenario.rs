// SPDX-License-Identifier: MIT OR Apache-2.0

//! The steps of the demonstration, and what the standard requires of each.

use std::fmt;

use scsi_pr::{
    AdditionalSense, OutServiceAction, ReservationKey, ReservationType, SenseKey, Status,
};

/// A node of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// The node that reserves the disk and fails.
    One,
    /// The node that takes over.
    Two,
}

impl Node {
    /// The nodes, in the order of their ports.
    pub(crate) const ALL: [Node; 2] = [Node::One, Node::Two];

    /// Returns the name of the node and of its port.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Node::One => "node1",
            Node::Two => "node2",
        }
    }

    /// Returns the key that the node registers.
    pub(super) const fn key(self) -> ReservationKey {
        ReservationKey::new(match self {
            Node::One => 0x1001,
            Node::Two => 0x1002,
        })
    }
}

const ZERO: ReservationKey = ReservationKey::ZERO;
const KEY_1: ReservationKey = Node::One.key();
const KEY_2: ReservationKey = Node::Two.key();

/// The type that most clusters use: all registrants can write, and other hosts cannot.
pub(super) const RESERVATION_TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

/// An action of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Sends a PERSISTENT RESERVE OUT with RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
    Change(OutServiceAction, ReservationKey, ReservationKey),
    ReadKeys,
    Write,
    /// Fails, which closes its connection to the helper.
    Fail,
}

impl Action {
    /// Returns the type in the CDB.
    pub(super) const fn reservation_type(self) -> Option<ReservationType> {
        use OutServiceAction::{Preempt, Release, Reserve};
        match self {
            Action::Change(Reserve | Release | Preempt, ..) => Some(RESERVATION_TYPE),
            _ => None,
        }
    }

    /// Returns the name of the command, without its arguments.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Action::Change(action, ..) => action.name(),
            Action::ReadKeys => "READ KEYS",
            Action::Write => "WRITE",
            Action::Fail => "stops responding",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Change(action, key, action_key) => {
                f.write_str(action.name())?;
                if let Some(reservation_type) = self.reservation_type() {
                    write!(f, ", {reservation_type}")?;
                }
                write!(f, ", key {key}")?;
                match action {
                    OutServiceAction::Register => write!(f, ", new key {action_key}"),
                    OutServiceAction::Preempt => write!(f, ", victim's key {action_key}"),
                    _ => Ok(()),
                }
            }
            Action::ReadKeys | Action::Write | Action::Fail => f.write_str(self.name()),
        }
    }
}

/// The response that the standard requires.
#[derive(Clone, Copy, Debug)]
pub(super) enum ExpectedResponse {
    /// None, because the node sends nothing.
    None,
    Good,
    /// GOOD with these keys.
    Keys(&'static [ReservationKey]),
    Conflict,
    UnitAttention(AdditionalSense),
}

impl fmt::Display for ExpectedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpectedResponse::None => f.write_str("none"),
            ExpectedResponse::Good => Status::GOOD.fmt(f),
            ExpectedResponse::Keys(keys) => {
                write!(f, "{}, keys:", Status::GOOD)?;
                keys.iter().try_for_each(|key| write!(f, " {key}"))
            }
            ExpectedResponse::Conflict => Status::RESERVATION_CONFLICT.fmt(f),
            ExpectedResponse::UnitAttention(code) => {
                write!(f, "{}, {code}", SenseKey::UnitAttention)
            }
        }
    }
}

/// The state that the standard requires after a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedState {
    /// The registered nodes, in the order of their registrations.
    pub(super) registered: &'static [Node],
    pub(super) holder: Option<Node>,
    /// The nodes that may write.
    pub(super) writers: &'static [Node],
}

/// A step of the demonstration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DemoStep {
    pub(crate) headline: &'static str,
    /// An explanation, which also explains the terms that the step introduces.
    pub(crate) lesson: &'static str,
    pub(crate) node: Node,
    pub(crate) action: Action,
    pub(super) response: ExpectedResponse,
    pub(super) state: ExpectedState,
}

const OPEN: ExpectedState = ExpectedState {
    registered: &[],
    holder: None,
    writers: &[Node::One, Node::Two],
};
const BOTH_REGISTERED: ExpectedState = ExpectedState {
    registered: &[Node::One, Node::Two],
    ..OPEN
};
const HELD_BY_ONE: ExpectedState = ExpectedState {
    holder: Some(Node::One),
    ..BOTH_REGISTERED
};
const FENCED: ExpectedState = ExpectedState {
    registered: &[Node::Two],
    holder: Some(Node::Two),
    writers: &[Node::Two],
};

/// The failover.
pub(super) const STEPS: [DemoStep; 13] = [
    DemoStep {
        headline: "node1 registers",
        lesson: "Every node that shares the disk registers its own key; 0x0 stands for no key. \
                 REGISTER is the command for this, and GOOD is the status of a command that \
                 succeeded. A registration alone restricts nothing.",
        node: Node::One,
        action: Action::Change(OutServiceAction::Register, ZERO, KEY_1),
        response: ExpectedResponse::Good,
        state: ExpectedState {
            registered: &[Node::One],
            ..OPEN
        },
    },
    DemoStep {
        headline: "node2 registers",
        lesson: "A port is a node's connection to the disk. The disk identifies a node by its \
                 port, not by its key.",
        node: Node::Two,
        action: Action::Change(OutServiceAction::Register, ZERO, KEY_2),
        response: ExpectedResponse::Good,
        state: BOTH_REGISTERED,
    },
    DemoStep {
        headline: "node1 reserves the disk",
        lesson: "RESERVE creates a reservation, and its sender is the holder. The type Write \
                 Exclusive - Registrants Only means that only registered nodes may write. A host \
                 outside the cluster cannot.",
        node: Node::One,
        action: Action::Change(OutServiceAction::Reserve, KEY_1, ZERO),
        response: ExpectedResponse::Good,
        state: HELD_BY_ONE,
    },
    DemoStep {
        headline: "node2 tries to reserve the disk",
        lesson: "RESERVATION CONFLICT is the status of a command that a reservation forbids. \
                 There is only one reservation, and node1 holds it.",
        node: Node::Two,
        action: Action::Change(OutServiceAction::Reserve, KEY_2, ZERO),
        response: ExpectedResponse::Conflict,
        state: HELD_BY_ONE,
    },
    DemoStep {
        headline: "node2 tries to release the reservation",
        lesson: "RELEASE ends a reservation if its holder sends it. node2 is not the holder: the \
                 status is GOOD, but nothing changes.",
        node: Node::Two,
        action: Action::Change(OutServiceAction::Release, KEY_2, ZERO),
        response: ExpectedResponse::Good,
        state: HELD_BY_ONE,
    },
    DemoStep {
        headline: "node1 fails",
        lesson: "Its connection to the helper is closed. The disk does not notice: a reservation \
                 outlives its holder.",
        node: Node::One,
        action: Action::Fail,
        response: ExpectedResponse::None,
        state: HELD_BY_ONE,
    },
    DemoStep {
        headline: "node2 preempts node1",
        lesson: "Fencing means that the other nodes exclude a failed node from the disk. PREEMPT \
                 does this: node2 removes the key of the failed node, the victim, and takes over \
                 its reservation in one step.",
        node: Node::Two,
        action: Action::Change(OutServiceAction::Preempt, KEY_2, KEY_1),
        response: ExpectedResponse::Good,
        state: FENCED,
    },
    DemoStep {
        headline: "node2 writes",
        lesson: "WRITE stores data on the disk, and goes to it directly, not through the helper. \
                 node2 can continue the work, because no other node can write.",
        node: Node::Two,
        action: Action::Write,
        response: ExpectedResponse::Good,
        state: FENCED,
    },
    DemoStep {
        headline: "node1 comes back and reads the keys",
        lesson: "READ KEYS lists the registered keys. node1 was only hung and does not know that \
                 it was fenced. CHECK CONDITION is the status of a command that failed for the \
                 reason that follows, here a UNIT ATTENTION, which is a one-time notice of a \
                 change by others. The numbers are its code.",
        node: Node::One,
        action: Action::ReadKeys,
        response: ExpectedResponse::UnitAttention(AdditionalSense::REGISTRATIONS_PREEMPTED),
        state: FENCED,
    },
    DemoStep {
        headline: "node1 reads the keys again",
        lesson: "Its own key is missing.",
        node: Node::One,
        action: Action::ReadKeys,
        response: ExpectedResponse::Keys(&[KEY_2]),
        state: FENCED,
    },
    DemoStep {
        headline: "node1 sends its delayed write",
        lesson: "The disk rejects the write, which would have destroyed newer data of node2. \
                 This is the purpose of fencing.",
        node: Node::One,
        action: Action::Write,
        response: ExpectedResponse::Conflict,
        state: FENCED,
    },
    DemoStep {
        headline: "node1 tries to take the reservation back",
        lesson: "Without a registration, a node cannot preempt the holder.",
        node: Node::One,
        action: Action::Change(OutServiceAction::Preempt, KEY_1, KEY_2),
        response: ExpectedResponse::Conflict,
        state: FENCED,
    },
    DemoStep {
        headline: "node1 rejoins the cluster",
        lesson: "Cluster software lets a node register again once it is healthy. node1 may \
                 write, and node2 remains the holder.",
        node: Node::One,
        action: Action::Change(OutServiceAction::Register, ZERO, KEY_1),
        response: ExpectedResponse::Good,
        state: ExpectedState {
            registered: &[Node::Two, Node::One],
            holder: Some(Node::Two),
            writers: &[Node::One, Node::Two],
        },
    },
];
