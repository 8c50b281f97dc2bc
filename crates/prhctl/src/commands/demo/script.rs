//! What happens, step by step, and what the standard says to each.

use std::fmt;

use scsi_pr::{
    AdditionalSense, OutServiceAction, ReservationKey, ReservationType, SenseKey, Status,
};

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// The first one, which holds the reservation and fails.
    One,
    /// The second one, which takes over.
    Two,
}

impl Node {
    /// Both, in the order of the ports.
    pub(crate) const BOTH: [Node; 2] = [Node::One, Node::Two];

    /// The name of the node and of its port.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Node::One => "node1",
            Node::Two => "node2",
        }
    }
}

/// The keys that the nodes have chosen. A cluster gives each node its own.
pub(crate) const KEY_ONE: u64 = 0x1001;
pub(crate) const KEY_TWO: u64 = 0x1002;

/// What most clusters use: everybody in the cluster writes, and nobody else does.
pub(crate) const KIND: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;

/// What a node does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// It sends a PERSISTENT RESERVE OUT with RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
    Change(OutServiceAction, u64, u64),
    /// It sends PERSISTENT RESERVE IN, READ KEYS.
    ReadKeys,
    /// It writes.
    Write,
    /// It is gone, and with it its connection to the helper.
    Fail,
}

impl Act {
    /// The type that goes with a change.
    pub(crate) const fn kind(self) -> Option<ReservationType> {
        use OutServiceAction::{Preempt, PreemptAndAbort, Release, Reserve};
        match self {
            Act::Change(Reserve | Release | Preempt | PreemptAndAbort, ..) => Some(KIND),
            _ => None,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Change(action, key, action_key) => {
                f.write_str(&action.to_string())?;
                if let Some(kind) = self.kind() {
                    write!(f, ", {kind}")?;
                }
                write!(f, ", key {}", ReservationKey::new(*key))?;
                let of_action = match action {
                    OutServiceAction::Register => "new key",
                    OutServiceAction::Preempt => "victim's key",
                    _ => return Ok(()),
                };
                write!(f, ", {of_action} {}", ReservationKey::new(*action_key))
            }
            Act::ReadKeys => f.write_str("READ KEYS"),
            Act::Write => f.write_str("WRITE"),
            Act::Fail => f.write_str("says nothing any more"),
        }
    }
}

/// What the answer has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// None, because nothing is asked.
    Nothing,
    /// GOOD.
    Good,
    /// GOOD, with these keys.
    Keys(&'static [u64]),
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, UNIT ATTENTION with this code.
    Attention(AdditionalSense),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Nothing => f.write_str("none"),
            Answer::Good => Status::GOOD.fmt(f),
            Answer::Keys(keys) => {
                write!(f, "{}, keys:", Status::GOOD)?;
                keys.iter()
                    .try_for_each(|key| write!(f, " {}", ReservationKey::new(*key)))
            }
            Answer::Conflict => Status::RESERVATION_CONFLICT.fmt(f),
            Answer::Attention(code) => write!(f, "{}, {code}", SenseKey::UnitAttention),
        }
    }
}

/// What has to be so afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Who is registered, in the order of the registrations.
    pub(crate) registered: &'static [Node],
    /// Who holds the reservation.
    pub(crate) holder: Option<Node>,
    /// Whom the reservation lets write.
    pub(crate) writers: &'static [Node],
}

/// One step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// What happens, in words.
    pub(crate) headline: &'static str,
    /// What is to be learned from it.
    pub(crate) lesson: &'static str,
    /// Who acts.
    pub(crate) node: Node,
    /// What it does.
    pub(crate) act: Act,
    /// What it is answered.
    pub(crate) answer: Answer,
    /// How things are then.
    pub(crate) expected: Expected,
}

const OPEN: Expected = Expected {
    registered: &[],
    holder: None,
    writers: &[Node::One, Node::Two],
};
const BOTH_REGISTERED: Expected = Expected {
    registered: &[Node::One, Node::Two],
    ..OPEN
};
const HELD_BY_ONE: Expected = Expected {
    holder: Some(Node::One),
    ..BOTH_REGISTERED
};
const FENCED: Expected = Expected {
    registered: &[Node::Two],
    holder: Some(Node::Two),
    writers: &[Node::Two],
};

/// The failover.
pub(crate) const SCRIPT: [Step; 13] = [
    Step {
        headline: "node1 registers",
        lesson: "Whoever wants to take part gives the disk a key of its own. That alone forbids\nnothing.",
        node: Node::One,
        act: Act::Change(OutServiceAction::Register, 0, KEY_ONE),
        answer: Answer::Good,
        expected: Expected {
            registered: &[Node::One],
            ..OPEN
        },
    },
    Step {
        headline: "node2 registers",
        lesson: "The disk tells nodes apart by the ports that they come through, not by their keys.",
        node: Node::Two,
        act: Act::Change(OutServiceAction::Register, 0, KEY_TWO),
        answer: Answer::Good,
        expected: BOTH_REGISTERED,
    },
    Step {
        headline: "node1 reserves the disk",
        lesson: "From now on only registered nodes may write. A host outside the cluster cannot.",
        node: Node::One,
        act: Act::Change(OutServiceAction::Reserve, KEY_ONE, 0),
        answer: Answer::Good,
        expected: HELD_BY_ONE,
    },
    Step {
        headline: "node2 tries to reserve it too",
        lesson: "There is one reservation, and node1 holds it.",
        node: Node::Two,
        act: Act::Change(OutServiceAction::Reserve, KEY_TWO, 0),
        answer: Answer::Conflict,
        expected: HELD_BY_ONE,
    },
    Step {
        headline: "node2 tries to give it up",
        lesson: "GOOD, and nothing has changed: only the holder can give up what it holds.",
        node: Node::Two,
        act: Act::Change(OutServiceAction::Release, KEY_TWO, 0),
        answer: Answer::Good,
        expected: HELD_BY_ONE,
    },
    Step {
        headline: "node1 fails",
        lesson: "Its connection to the helper is gone. The disk does not know: a reservation\noutlives its holder.",
        node: Node::One,
        act: Act::Fail,
        answer: Answer::Nothing,
        expected: HELD_BY_ONE,
    },
    Step {
        headline: "node2 preempts node1",
        lesson: "Fencing: the key of the failed node is removed, and whoever removes it takes the\nreservation over, in one step that nobody can see half done.",
        node: Node::Two,
        act: Act::Change(OutServiceAction::Preempt, KEY_TWO, KEY_ONE),
        answer: Answer::Good,
        expected: FENCED,
    },
    Step {
        headline: "node2 writes",
        lesson: "It can go on with the work: nobody else writes.",
        node: Node::Two,
        act: Act::Write,
        answer: Answer::Good,
        expected: FENCED,
    },
    Step {
        headline: "node1 comes back, and asks who is registered",
        lesson: "It had only hung, and knows of nothing. Its first command is not done; instead it\nis told, once, that its registration was removed.",
        node: Node::One,
        act: Act::ReadKeys,
        answer: Answer::Attention(AdditionalSense::REGISTRATIONS_PREEMPTED),
        expected: FENCED,
    },
    Step {
        headline: "node1 asks again",
        lesson: "Its key is not among them.",
        node: Node::One,
        act: Act::ReadKeys,
        answer: Answer::Keys(&[KEY_TWO]),
        expected: FENCED,
    },
    Step {
        headline: "node1 writes what it had wanted to write",
        lesson: "The write that would have destroyed what node2 has written since is refused.\nThat is what all this is for.",
        node: Node::One,
        act: Act::Write,
        answer: Answer::Conflict,
        expected: FENCED,
    },
    Step {
        headline: "node1 tries to take the reservation back",
        lesson: "Without a registration it can do nothing to it.",
        node: Node::One,
        act: Act::Change(OutServiceAction::Preempt, KEY_ONE, KEY_TWO),
        answer: Answer::Conflict,
        expected: FENCED,
    },
    Step {
        headline: "node1 joins the cluster again",
        lesson: "It registers anew; cluster software lets it when it is healthy again. It may\nwrite, and node2 stays the holder.",
        node: Node::One,
        act: Act::Change(OutServiceAction::Register, 0, KEY_ONE),
        answer: Answer::Good,
        expected: Expected {
            registered: &[Node::Two, Node::One],
            holder: Some(Node::Two),
            writers: &[Node::One, Node::Two],
        },
    },
];
