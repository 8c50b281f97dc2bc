//! Plays steps, and compares what comes of them with what should.

use std::os::fd::AsFd as _;

use pr_helper_protocol::Client;
use pr_helper_protocol::wire::pad_cdb;
use scsi_pr::{
    BasicParameterList, Cdb, InServiceAction, Keys, PersistentReserveIn, PersistentReserveOut,
    ReservationKey, ReservationType, ScopeType, Sense, SenseKey, Status,
};
use soft_lun::store::Lun;
use soft_lun::{Access, LogicalUnit};

use super::script::{Act, Answer, KEY_ONE, KEY_TWO, KIND, Node, Step};
use super::stage::{Stage, StageError};

/// What came of a step.
#[derive(Debug)]
pub(crate) struct Played {
    /// The step.
    pub(crate) step: Step,
    /// The answer, unless nothing was asked.
    pub(crate) reply: Option<Reply>,
    /// How things are then.
    pub(crate) scene: Scene,
    /// What should have been otherwise. None, if all is well.
    pub(crate) faults: Vec<String>,
}

/// What a node was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: Status,
    /// Why, with CHECK CONDITION.
    pub(crate) sense: Option<Sense>,
    /// What READ KEYS answered.
    pub(crate) keys: Option<Vec<ReservationKey>>,
}

impl Reply {
    /// Whether it was done.
    pub(crate) fn is_good(&self) -> bool {
        self.status == Status::GOOD
    }
}

/// Registrations and reservation, and what the latter means.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Who is registered with which key, in the order of the registrations.
    pub(crate) registered: Vec<(Node, ReservationKey)>,
    /// The reservation's type, and its holder unless all registrants are.
    pub(crate) reservation: Option<(ReservationType, Option<Node>)>,
    /// Who may write.
    pub(crate) writers: Vec<Node>,
}

/// Plays `script` up to the first step with a fault, and hands each step on as soon as it is played.
///
/// # Errors
///
/// That a node cannot reach the helper, or that the disk cannot be looked at.
pub(super) fn play(
    stage: &mut Stage<'_>,
    script: &[Step],
    mut played: impl FnMut(Played),
) -> Result<(), StageError> {
    for step in script {
        let reply = act(stage, step)?;
        let scene = Scene::of(&stage.lun().load()?);
        let faults = faults(step, reply.as_ref(), &scene);
        let is_last = !faults.is_empty();
        played(Played {
            step: *step,
            reply,
            scene,
            faults,
        });
        if is_last {
            break;
        }
    }
    Ok(())
}

fn act(stage: &mut Stage<'_>, step: &Step) -> Result<Option<Reply>, StageError> {
    let node = step.node;
    Ok(match step.act {
        Act::Change(service_action, key, action_key) => {
            let list = BasicParameterList {
                reservation_key: key.into(),
                service_action_reservation_key: action_key.into(),
                ..BasicParameterList::default()
            };
            let list = list.encode();
            let command = PersistentReserveOut {
                service_action,
                scope_type: step.act.kind().map(ScopeType::from).unwrap_or_default(),
                parameter_list_length: u32::try_from(list.len()).unwrap_or(u32::MAX),
                control: 0,
            };
            Some(send(stage, node, command.into(), &list)?)
        }
        Act::ReadKeys => {
            let command = PersistentReserveIn {
                service_action: InServiceAction::ReadKeys,
                allocation_length: 1024,
                control: 0,
            };
            Some(send(stage, node, command.into(), &[])?)
        }
        Act::Write => Some(write(stage.lun(), node)?),
        Act::Fail => {
            stage.disconnect(node);
            None
        }
    })
}

/// A command goes through the helper.
fn send(stage: &mut Stage<'_>, node: Node, command: Cdb, list: &[u8]) -> Result<Reply, StageError> {
    let (client, port): &mut (Client, _) = stage.connection(node)?;
    let response = client
        .execute(pad_cdb(&command.encode()), port.as_fd(), list)
        .map_err(StageError::Ask)?;
    let is_good = response.status == Status::GOOD;
    let keys = Keys::decode(&response.data)
        .ok()
        .filter(|_| is_good && matches!(command, Cdb::In(_)));
    Ok(Reply {
        status: response.status,
        sense: Sense::decode(&response.sense).ok().filter(|_| !is_good),
        keys: keys.map(|keys| keys.value.keys),
    })
}

/// A write does not go through the helper: the disk judges it.
fn write(lun: &Lun, node: Node) -> Result<Reply, StageError> {
    let answer = lun.access(&super::stage::port(node), Access::Write)?;
    Ok(Reply {
        status: answer.status,
        sense: answer.sense,
        keys: None,
    })
}

impl Scene {
    fn of(unit: &LogicalUnit) -> Self {
        // The stage has made one port for each node, in this order.
        let nodes: Vec<_> = unit
            .nexuses()
            .map(|(nexus, _)| nexus)
            .zip(Node::BOTH)
            .collect();
        let node_of = |wanted| {
            let mut nodes = nodes.iter();
            nodes.find_map(|(nexus, node)| (*nexus == wanted).then_some(*node))
        };
        let registrations = unit.registrations().iter();
        Scene {
            registered: registrations
                .filter_map(|one| Some((node_of(one.nexus)?, one.key)))
                .collect(),
            reservation: unit
                .reservation()
                .map(|held| (held.kind(), held.holder().and_then(node_of))),
            writers: nodes
                .iter()
                .filter(|(nexus, _)| unit.can_write(*nexus))
                .map(|(_, node)| *node)
                .collect(),
        }
    }
}

/// What differs from what the standard says.
fn faults(step: &Step, reply: Option<&Reply>, scene: &Scene) -> Vec<String> {
    let mut faults = Vec::new();
    if !is_expected(step.answer, reply) {
        faults.push(format!("the answer should be {}", step.answer));
    }
    let expected = step.expected;
    let registered = expected.registered.iter().map(|node| match node {
        Node::One => (Node::One, ReservationKey::new(KEY_ONE)),
        Node::Two => (Node::Two, ReservationKey::new(KEY_TWO)),
    });
    if !registered.eq(scene.registered.iter().copied()) {
        let nodes = names(expected.registered);
        faults.push(format!("registered should be {nodes}, each with its key"));
    }
    let reservation = expected.holder.map(|holder| (KIND, Some(holder)));
    if scene.reservation != reservation {
        faults.push(match expected.holder {
            Some(holder) => format!("{} should hold a reservation of {KIND}", holder.name()),
            None => "there should be no reservation".to_owned(),
        });
    }
    if scene.writers != expected.writers {
        faults.push(format!(
            "{} should be able to write",
            names(expected.writers)
        ));
    }
    faults
}

/// Nodes in words.
pub(crate) fn names(nodes: &[Node]) -> String {
    let names: Vec<_> = nodes.iter().map(|node| node.name()).collect();
    match names.is_empty() {
        true => "nobody".to_owned(),
        false => names.join(", "),
    }
}

fn is_expected(expected: Answer, reply: Option<&Reply>) -> bool {
    let status = reply.map(|reply| reply.status);
    let keys = reply.and_then(|reply| reply.keys.as_deref());
    match expected {
        Answer::Nothing => status.is_none(),
        Answer::Good => status == Some(Status::GOOD),
        Answer::Keys(expected) => {
            let expected = expected.iter().map(|key| ReservationKey::new(*key));
            keys.is_some_and(|keys| expected.eq(keys.iter().copied()))
        }
        Answer::Conflict => status == Some(Status::RESERVATION_CONFLICT),
        Answer::Attention(code) => reply
            .and_then(|reply| reply.sense)
            .is_some_and(|sense| (sense.key, sense.code) == (SenseKey::UnitAttention, code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::script::SCRIPT;

    /// The third step, after which `node` holds a reservation of `kind`.
    fn found(kind: ReservationType, node: Node) -> Vec<String> {
        let scene = Scene {
            registered: vec![(Node::One, KEY_ONE.into()), (Node::Two, KEY_TWO.into())],
            reservation: Some((kind, Some(node))),
            writers: Node::BOTH.to_vec(),
        };
        let reply = Reply {
            status: Status::GOOD,
            sense: None,
            keys: None,
        };
        faults(&SCRIPT[2], Some(&reply), &scene)
    }

    #[test]
    fn holder_and_type_have_to_be_right() {
        assert_eq!(found(KIND, Node::One), [""; 0]);
        let fault = "node1 should hold a reservation of Write Exclusive - Registrants Only";
        assert_eq!(found(ReservationType::WriteExclusive, Node::One), [fault]);
        assert_eq!(found(KIND, Node::Two), [fault]);
    }

    #[test]
    fn faults_are_words() {
        let scene = Scene {
            registered: Vec::new(),
            reservation: None,
            writers: Vec::new(),
        };
        let said: Vec<String> = SCRIPT
            .iter()
            .flat_map(|step| faults(step, None, &scene))
            .collect();
        for words in [
            "the answer should be GOOD",
            "the answer should be UNIT ATTENTION, REGISTRATIONS PREEMPTED",
            "the answer should be GOOD, keys: 0x1002",
            "registered should be node1, node2, each with its key",
            "node2 should be able to write",
        ] {
            assert!(said.iter().any(|one| one == words), "{words}: {said:#?}");
        }
    }
}
